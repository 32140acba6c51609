//! `meta.properties`: whose data directory it is (`MetaProperties`, version 1), with keys of our own that tell it
//! from one of Apache Kafka, and what it promises.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use oncelog_wire::Uuid;

use crate::DataDirOptions;
use crate::disk::{Disk, read_file, replace_file_durably};
use crate::error::{IoContext, LogError};

const FILE_NAME: &str = "meta.properties";

/// The version of Kafka's file, and of what we keep in the directory.
const KAFKA_VERSION: &str = "1";
const ONCELOG_VERSION: &str = "1";

/// The key, last in the file, of the CRC-32C of all that is before it.
const CHECKSUM: &str = "oncelog.checksum";

/// What acknowledged data survives, as the file says it.
const OS: &str = "os";
const FSYNC: &str = "fsync";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaProperties {
    pub(crate) cluster_id: String,
    pub(crate) directory_id: Uuid,
    pub(crate) node_id: i32,
    /// Whether what is above the recovery points is in the journal.
    pub(crate) is_journaled: bool,
    /// The era of the journal; 0 before the first.
    pub(crate) journal_era: u64,
}

impl MetaProperties {
    /// Reads the file and compares it with the options, or writes it into a directory that is empty; says whether it is new.
    pub(crate) fn read_or_create(
        disk: &dyn Disk,
        root: &Path,
        options: &DataDirOptions,
    ) -> Result<(MetaProperties, bool), LogError> {
        let path = root.join(FILE_NAME);
        match read_file(disk, &path, 1 << 20) {
            Ok(content) => MetaProperties::parse(&path, &String::from_utf8_lossy(&content), options)
                .map(|read| (read, false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check_empty(disk, root)?;
                let properties = MetaProperties {
                    cluster_id: options
                        .expected_cluster_id
                        .clone()
                        .unwrap_or_else(|| options.new_cluster_id.to_string()),
                    directory_id: options.new_directory_id,
                    node_id: options.node_id,
                    is_journaled: false,
                    journal_era: 0,
                };
                properties.write(disk, root)?;
                Ok((properties, true))
            }
            Err(error) => Err(error).on("read", &path),
        }
    }

    /// Puts the file in place of what is there.
    pub(crate) fn write(&self, disk: &dyn Disk, root: &Path) -> Result<(), LogError> {
        let path = root.join(FILE_NAME);
        replace_file_durably(disk, &path, self.to_text().as_bytes())
    }

    fn parse(path: &Path, text: &str, options: &DataDirOptions) -> Result<MetaProperties, LogError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: BTreeMap<&str, &str> = lines
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let invalid = |reason: String| LogError::invalid(path, reason);
        let get = |key: &str| keys.get(key).copied().ok_or_else(|| invalid(format!("{key} is missing")));
        match keys.get("oncelog.version") {
            None => return Err(invalid("the directory belongs to Apache Kafka, not to oncelog".into())),
            Some(&ONCELOG_VERSION) => {}
            Some(other) => {
                return Err(invalid(format!("written by another oncelog: oncelog.version={other}")));
            }
        }
        if get("version")? != KAFKA_VERSION {
            return Err(invalid(format!("version {} is not supported", get("version")?)));
        }
        let is_journaled = match get("oncelog.durability")? {
            OS => false,
            FSYNC => true,
            other => return Err(invalid(format!("durability {other} is not supported"))),
        };
        let journal_era = match keys.get("oncelog.journal.era") {
            None => 0,
            Some(era) => {
                era.parse().map_err(|_| invalid(format!("oncelog.journal.era={era} is no number")))?
            }
        };
        let cluster_id = get("cluster.id")?;
        if let Some(expected) = &options.expected_cluster_id
            && expected != cluster_id
        {
            return Err(invalid(format!("belongs to cluster {cluster_id}, not to {expected}")));
        }
        let node_id = get("node.id")?;
        if node_id.parse() != Ok(options.node_id) {
            return Err(invalid(format!("belongs to node {node_id}, not to {}", options.node_id)));
        }
        let directory_id = get("directory.id")?;
        let directory_id = Uuid::parse(directory_id)
            .ok_or_else(|| invalid(format!("directory.id={directory_id} is no id")))?;
        let sum = checksum(text.rsplit_once(CHECKSUM).map_or("", |(covered, _)| covered));
        if get(CHECKSUM)? != sum {
            return Err(invalid(format!("{CHECKSUM} is not {sum}: the file is damaged")));
        }
        let (cluster_id, node_id) = (cluster_id.to_owned(), options.node_id);
        Ok(MetaProperties { cluster_id, directory_id, node_id, is_journaled, journal_era })
    }

    fn to_text(&self) -> String {
        let MetaProperties { cluster_id, directory_id, node_id, is_journaled, journal_era } = self;
        let durability = if *is_journaled { FSYNC } else { OS };
        let text = format!(
            "# Written by oncelog.\ncluster.id={cluster_id}\ndirectory.id={directory_id}\nnode.id={node_id}\n\
             version={KAFKA_VERSION}\noncelog.version={ONCELOG_VERSION}\noncelog.durability={durability}\n\
             oncelog.journal.era={journal_era}\n"
        );
        format!("{text}{CHECKSUM}={}\n", checksum(&text))
    }
}

fn checksum(text: &str) -> String {
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

/// Refuses to settle where something else lives.
fn check_empty(disk: &dyn Disk, root: &Path) -> Result<(), LogError> {
    let is_ours = |name: &str| [".lock", "meta.properties.tmp", "lost+found"].contains(&name);
    match disk.list(root).on("list", root)?.iter().find(|entry| !is_ours(&entry.name)) {
        None => Ok(()),
        Some(entry) => {
            let reason = format!("has no {FILE_NAME} but is not empty: it holds {}", entry.name);
            Err(LogError::invalid(root, reason))
        }
    }
}

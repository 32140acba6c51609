//! `meta.properties`: whose data directory it is (`MetaProperties`, version 1), with two keys of our own that tell it
//! from one of Apache Kafka.

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

/// What acknowledged data has survived: a crash of the process.
const DURABILITY: &str = "os";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaProperties {
    pub(crate) cluster_id: String,
    pub(crate) directory_id: Uuid,
    pub(crate) node_id: i32,
}

impl MetaProperties {
    /// Reads the file and compares it with the options, or writes it into a directory that is empty.
    pub(crate) fn read_or_create(
        disk: &dyn Disk,
        root: &Path,
        options: &DataDirOptions,
    ) -> Result<MetaProperties, LogError> {
        let path = root.join(FILE_NAME);
        match read_file(disk, &path, 1 << 20) {
            Ok(content) => MetaProperties::parse(&path, &String::from_utf8_lossy(&content), options),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check_empty(disk, root)?;
                let properties = MetaProperties {
                    cluster_id: options
                        .expected_cluster_id
                        .clone()
                        .unwrap_or_else(|| options.new_cluster_id.to_string()),
                    directory_id: options.new_directory_id,
                    node_id: options.node_id,
                };
                let text = properties.to_text();
                replace_file_durably(disk, &path, text.as_bytes()).on("write", &path)?;
                Ok(properties)
            }
            Err(error) => Err(error).on("read", &path),
        }
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
        if get("oncelog.durability")? != DURABILITY {
            return Err(invalid(format!("durability {} is not supported", get("oncelog.durability")?)));
        }
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
        Ok(MetaProperties { cluster_id: cluster_id.to_owned(), directory_id, node_id: options.node_id })
    }

    fn to_text(&self) -> String {
        let MetaProperties { cluster_id, directory_id, node_id } = self;
        format!(
            "# Written by oncelog.\ncluster.id={cluster_id}\ndirectory.id={directory_id}\nnode.id={node_id}\n\
             version={KAFKA_VERSION}\noncelog.version={ONCELOG_VERSION}\noncelog.durability={DURABILITY}\n"
        )
    }
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

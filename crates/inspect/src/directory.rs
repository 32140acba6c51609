//! The data directory as a whole: whose it is, how it was left, its logs and its checkpoints.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use oncelog_log::{DirectoryEntry, Disk, DiskLock, EntryKind, OpenMode};
use oncelog_wire::{Offset, Str, TopicPartition};

use crate::error::{InspectError, IoContext};

pub(crate) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
pub(crate) const LOG_STARTS: &str = "log-start-offset-checkpoint";

/// What stands in place of a topic in the last line of these.
const CHECKSUM: &str = "oncelog.checksum";

const META_PROPERTIES: &str = "meta.properties";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
const LOCK: &str = ".lock";

/// More than a text file of the directory has.
const MAX_TEXT_BYTES: u64 = 512 << 20;

/// A data directory, read only.
pub(crate) struct Directory<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) root: PathBuf,
    /// Whether the last broker here closed everything.
    pub(crate) was_clean: bool,
    pub(crate) properties: HashMap<String, String>,
    pub(crate) logs: Vec<TopicPartition>,
    /// Directories of logs that were being deleted.
    pub(crate) retired: Vec<PathBuf>,
    has_lock_file: bool,
}

impl<'a> Directory<'a> {
    /// Looks at the directory; refuses what is not one of ours.
    pub(crate) fn open(disk: &'a dyn Disk, root: &Path) -> Result<Directory<'a>, InspectError> {
        let entries = disk.list(root).on("list", root)?;
        let path = root.join(META_PROPERTIES);
        let Some(content) = read_file(disk, &path, MAX_TEXT_BYTES).on("read", &path)? else {
            let reason = format!("not a data directory: there is no {META_PROPERTIES}");
            return Err(InspectError::NotOurs { path: root.to_owned(), reason });
        };
        let properties = parse_properties(&String::from_utf8_lossy(&content));
        if !properties.contains_key("oncelog.version") {
            let reason = "the directory belongs to Apache Kafka, not to oncelog".to_owned();
            return Err(InspectError::NotOurs { path, reason });
        }
        let mut directory = Directory {
            disk,
            root: root.to_owned(),
            was_clean: false,
            properties,
            logs: Vec::new(),
            retired: Vec::new(),
            has_lock_file: false,
        };
        entries.iter().for_each(|entry| directory.sort_out(entry));
        directory.logs.sort_unstable();
        Ok(directory)
    }

    fn sort_out(&mut self, entry: &DirectoryEntry) {
        let name = entry.name.as_str();
        match entry.kind {
            EntryKind::File { .. } => {
                self.was_clean |= name == CLEAN_SHUTDOWN;
                self.has_lock_file |= name == LOCK;
            }
            EntryKind::Directory if name.ends_with("-delete") => self.retired.push(self.root.join(name)),
            EntryKind::Directory => self.logs.extend(log_name(name)),
        }
    }

    /// Keeps brokers out for as long as the value lives; `None` where none could be in.
    ///
    /// # Errors
    /// Where a broker is in.
    pub(crate) fn lock(&self) -> Result<Option<DiskLock>, InspectError> {
        // A lock file is never made here.
        if !self.has_lock_file {
            return Ok(None);
        }
        let path = self.root.join(LOCK);
        match self.disk.lock(&path) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(InspectError::InUse { path }),
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(None),
            Err(source) => Err(InspectError::Io { action: "lock", path, source }),
        }
    }

    pub(crate) fn path_of(&self, log: &TopicPartition) -> PathBuf {
        self.root.join(log.to_string())
    }

    /// Whether what lies above the recovery points is still to be replaced from the journal.
    pub(crate) fn is_provisional(&self) -> bool {
        let is_journaled = self.properties.get("oncelog.durability").is_some_and(|mode| mode == "fsync");
        is_journaled && !self.was_clean
    }
}

/// Reads a checkpoint of `topic partition offset` lines; none where there is no file. An error says what is wrong.
pub(crate) fn read_offsets(disk: &dyn Disk, path: &Path) -> Result<BTreeMap<TopicPartition, Offset>, String> {
    let parse = |line: &str| -> Option<(TopicPartition, Offset)> {
        let mut fields = line.split_whitespace();
        let (topic, partition) = (fields.next()?, fields.next()?.parse().ok()?);
        let offset = fields.next()?.parse().ok().filter(|offset| *offset >= 0)?;
        fields.next().is_none().then(|| (TopicPartition::new(topic, partition), Offset(offset)))
    };
    let mut lines = read_checkpoint(disk, path)?.unwrap_or_default();
    if let Some(sum) = lines.pop_if(|last| last.starts_with(CHECKSUM))
        && sum != format!("{CHECKSUM} 0 {}", crc32c::crc32c(lines.join("\n").as_bytes()))
    {
        return Err(format!("'{sum}' is not the checksum of what is before it"));
    }
    lines
        .iter()
        .map(|line| parse(line).ok_or_else(|| format!("'{line}' is not a topic, a partition and an offset")))
        .collect()
}

/// The lines of a checkpoint file, or that there is none. An error says what is wrong.
pub(crate) fn read_checkpoint(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<String>>, String> {
    let content =
        read_file(disk, path, MAX_TEXT_BYTES).map_err(|error| format!("cannot be read: {error}"))?;
    let Some(content) = content else { return Ok(None) };
    let text = String::from_utf8(content).map_err(|_| "not a text file".to_owned())?;
    let mut lines = text.lines();
    if text.is_empty() {
        return Ok(Some(Vec::new()));
    }
    if lines.next() != Some("0") {
        return Err("not a checkpoint of version 0".into());
    }
    let count = lines.next().and_then(|line| line.parse::<usize>().ok());
    let entries: Vec<String> = lines.map(str::to_owned).collect();
    if count != Some(entries.len()) {
        return Err(format!("holds {} entries and promises others", entries.len()));
    }
    Ok(Some(entries))
}

/// Reads a whole file, at most `limit` bytes; `None` where there is none.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::ReadOnly) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let length = file.length()?;
    if length > limit {
        let reason = format!("{length} bytes; at most {limit} expected");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let mut content = vec![0; length as usize];
    let read = file.read_at(&mut content, 0)?;
    content.truncate(read);
    Ok(Some(content))
}

fn parse_properties(text: &str) -> HashMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

/// Takes a directory's name apart; `None` where it is not one of a log.
pub(crate) fn log_name(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let partition: i32 = partition.parse().ok()?;
    (!topic.is_empty() && partition >= 0).then(|| TopicPartition::new(Str::from(topic), partition))
}

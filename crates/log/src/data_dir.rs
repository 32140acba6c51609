//! The data directory: whose it is, whether it was left in order, and which logs it holds.
//!
//! One process at a time uses it. What Kafka or another cluster has written is refused, not touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oncelog_wire::{Now, Offset, Str, TopicPartition, Uuid};
use parking_lot::Mutex;

use crate::disk::{Disk, DiskLock, EntryKind, FilePool, remove_tree, replace_file_durably};
use crate::error::{IoContext, LogError};
use crate::journal::{self, Journal, JournalReplay};
use crate::log::{Log, LogPoints};
use crate::meta_properties::MetaProperties;
use crate::recovery::Opening;
use crate::{LogConfig, checkpoint, partition_metadata};

const LOCK: &str = ".lock";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const LOG_STARTS: &str = "log-start-offset-checkpoint";
const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";

/// What stands in place of a topic in the last line of the two.
const CHECKSUM: &str = "oncelog.checksum";

/// How the directory of a deleted log ends until it is removed.
const DELETE_SUFFIX: &str = "-delete";

/// How the directory of a log ends that was taken out of the way.
const STRAY_SUFFIX: &str = "-stray";

/// The longest name most file systems take.
const MAX_NAME: usize = 255;

/// What acknowledged data survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process.
    Os,
    /// A power cut.
    Fsync {
        /// The bytes of each of the journal's two files.
        journal_file_bytes: u64,
    },
}

impl Durability {
    /// What survives a power cut, with a journal as large as it should be.
    pub fn fsync() -> Durability {
        Durability::Fsync { journal_file_bytes: JOURNAL_FILE_BYTES }
    }
}

/// Large enough that checkpoints, which empty a file, are rare; small enough to be read quickly after a crash.
const JOURNAL_FILE_BYTES: u64 = 64 << 20;

/// How to open a data directory.
#[derive(Clone, Debug)]
pub struct DataDirOptions {
    /// The id of this node; the directory must not belong to another.
    pub node_id: i32,
    /// The cluster the directory has to belong to; if not given, the one it does belong to.
    pub expected_cluster_id: Option<String>,
    /// The id of the cluster, where the directory is new and none is expected.
    pub new_cluster_id: Uuid,
    /// The id of the directory, where it is new.
    pub new_directory_id: Uuid,
    /// The most files that are kept open; ranges handed out to readers come on top.
    pub max_open_files: usize,
    /// What acknowledged data is to survive from now on.
    pub durability: Durability,
}

/// A log that the directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLog {
    /// Its partition, by the name of its directory.
    pub topic_partition: TopicPartition,
    /// The topic it belongs to, if it says so.
    pub topic_id: Option<Uuid>,
    /// Whether checkpoints speak of records in it.
    pub is_checkpointed: bool,
}

/// An open data directory. It is locked until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    pool: Arc<FilePool>,
    properties: MetaProperties,
    was_clean: bool,
    /// The logs that have been opened: what is on disk then is no longer what the last stop left.
    opened: Mutex<BTreeSet<TopicPartition>>,
    points: Mutex<KnownPoints>,
    /// Up to where logs have been cleaned, as the file has it.
    cleaned: Mutex<BTreeMap<TopicPartition, Offset>>,
    /// The logs that have been deleted since checkpoints were last begun.
    deleted: Mutex<BTreeSet<TopicPartition>>,
    /// What the journal has above the recovery points, until all logs have been recovered.
    replay: Mutex<Option<JournalReplay>>,
    journal: Option<Arc<Journal>>,
    _lock: DiskLock,
}

/// What the checkpoint files say or, where they could not be written, should say.
#[derive(Debug)]
struct KnownPoints {
    logs: BTreeMap<TopicPartition, Points>,
    is_written: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Points {
    recovery_point: Offset,
    log_start_offset: Offset,
}

impl DataDir {
    /// Opens a directory, or makes it. From now on it counts as not stopped cleanly.
    pub fn open(disk: Arc<dyn Disk>, root: &Path, options: DataDirOptions) -> Result<DataDir, LogError> {
        disk.create_directory(root).on("create", root)?;
        let lock_path = root.join(LOCK);
        let lock = match disk.lock(&lock_path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(LogError::Locked { path: lock_path });
            }
            lock => lock.on("lock", &lock_path)?,
        };
        let (properties, is_new) = MetaProperties::read_or_create(&*disk, root, &options)?;
        let clean_path = root.join(CLEAN_SHUTDOWN);
        let was_clean = match disk.remove_file(&clean_path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error).on("remove", &clean_path),
        };
        // Where it is not found it may be that its removal was never synced; but not in a directory that is new.
        if !is_new {
            disk.sync_directory(root).on("sync", root)?;
        }
        let pool = Arc::new(FilePool::new(disk.clone(), root, options.max_open_files));
        let points = KnownPoints { logs: read_points(&*disk, root)?, is_written: true };
        let cleaned = read_offsets(&*disk, &root.join(CLEANER_OFFSETS)).or_else(|error| match error {
            LogError::Invalid { .. } => {
                tracing::warn!("{error}; all logs count as not cleaned");
                Ok(Vec::new())
            }
            error => Err(error),
        })?;
        let cleaned = cleaned.into_iter().collect();
        let must_replay = properties.is_journaled && !was_clean;
        let replay =
            must_replay.then(|| JournalReplay::read(&*disk, root, properties.journal_era)).transpose()?;
        let journal = match options.durability {
            Durability::Os => None,
            Durability::Fsync { journal_file_bytes } => {
                Some(Arc::new(Journal::open(&*disk, root, journal_file_bytes)?))
            }
        };
        Ok(DataDir {
            root: root.to_owned(),
            pool,
            properties,
            was_clean,
            opened: Mutex::default(),
            points: Mutex::new(points),
            cleaned: Mutex::new(cleaned),
            deleted: Mutex::default(),
            replay: Mutex::new(replay),
            journal,
            _lock: lock,
        })
    }

    /// The directory's path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The cluster the directory belongs to.
    pub fn cluster_id(&self) -> &str {
        &self.properties.cluster_id
    }

    /// The directory's own id.
    pub fn directory_id(&self) -> Uuid {
        self.properties.directory_id
    }

    /// Whether the last to use it has closed it.
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// The journal, where acknowledged data has to survive a power cut.
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref()
    }

    /// Whether records may be lost that were not acknowledged but for being part of a transaction.
    pub fn may_have_lost_records(&self) -> bool {
        self.properties.is_journaled && !self.was_clean
    }

    /// Whether [`DataDir::settle`] has something to do.
    pub fn must_be_settled(&self) -> bool {
        self.properties.is_journaled || self.journal.is_some()
    }

    /// Does what must be done even on a full disk: where there is no room for it, what is held back for that is given up, and
    /// it is tried again.
    pub fn insist<T>(&self, attempt: impl FnMut() -> Result<T, LogError>) -> Result<T, LogError> {
        self.pool.reserve().insist(attempt)
    }

    /// Ends the recovery: has to be given all logs, which have been opened and checkpointed. From here on the directory
    /// promises what it was opened with, and the journal, if there is one, starts anew.
    pub fn settle(&self, points: impl Iterator<Item = LogPoints>) -> Result<(), LogError> {
        self.write_checkpoints(points)?;
        let journal_era = self.properties.journal_era + 1;
        let is_journaled = self.journal.is_some();
        let properties = MetaProperties { is_journaled, journal_era, ..self.properties.clone() };
        properties.write(self.pool.disk(), &self.root)?;
        *self.replay.lock() = None;
        match &self.journal {
            Some(journal) => journal.begin(journal_era),
            None => journal::remove(self.pool.disk(), &self.root)?,
        }
        Ok(())
    }

    /// The logs that are there. Leftovers of deleted ones are removed.
    pub fn logs(&self) -> Result<Vec<FoundLog>, LogError> {
        let disk = self.pool.disk();
        let mut found = Vec::new();
        for entry in disk.list(&self.root).on("list", &self.root)? {
            let path = self.root.join(&entry.name);
            if entry.kind != EntryKind::Directory {
                continue;
            }
            if entry.name.ends_with(DELETE_SUFFIX) {
                remove_tree(disk, &path).on("remove", &path)?;
            } else if let Some(topic_partition) = parse_name(&entry.name) {
                let topic_id = partition_metadata::read(disk, &path)?;
                let points = self.points.lock().logs.get(&topic_partition).copied().unwrap_or_default();
                let is_checkpointed = points.recovery_point > Offset(0);
                found.push(FoundLog { topic_partition, topic_id, is_checkpointed });
            }
        }
        Ok(found)
    }

    /// Opens the log of a partition, recovering it where the last stop was not clean, or where it has been open before.
    /// One without files is empty, and has none until the first append.
    pub fn open_log(
        &self,
        topic_partition: &TopicPartition,
        topic_id: Uuid,
        config: Arc<LogConfig>,
        now: Now,
    ) -> Result<Log, LogError> {
        let points = self.points.lock().logs.get(topic_partition).copied().unwrap_or_default();
        let is_first = self.opened.lock().insert(topic_partition.clone());
        let opening = Opening {
            pool: self.pool.clone(),
            directory: self.root.join(topic_partition.to_string()),
            topic_partition: topic_partition.clone(),
            topic_id,
            config,
            is_clean: self.was_clean && is_first,
            recovery_point: points.recovery_point,
            log_start_offset: points.log_start_offset,
            entries: self
                .replay
                .lock()
                .as_ref()
                .map(|replay| replay.take((topic_id, topic_partition.partition))),
            journal: self.journal.clone(),
        };
        let log = opening.open(now)?;
        if log.recovery_point < points.recovery_point {
            // What comes in place of the lost end must not be taken for what had reached the device.
            if let Some(known) = self.points.lock().logs.get_mut(topic_partition) {
                known.recovery_point = log.recovery_point;
            }
            self.write_points()?;
        }
        Ok(log)
    }

    /// Deletes the files of a log, whose [`Log`] must not be used any more. No error where there are none.
    pub fn delete_log(&self, topic_partition: &TopicPartition) -> Result<(), LogError> {
        match self.retire_log(topic_partition, DELETE_SUFFIX)? {
            Some(retired) => remove_tree(self.pool.disk(), &retired).on("remove", &retired),
            None => Ok(()),
        }
    }

    /// Takes the files of a log that belongs to no topic out of the way, and keeps them; gives their directory.
    pub fn set_log_aside(&self, topic_partition: &TopicPartition) -> Result<Option<PathBuf>, LogError> {
        self.retire_log(topic_partition, STRAY_SUFFIX)
    }

    /// Renames the directory of a log, of which nothing is known from here on.
    fn retire_log(
        &self,
        topic_partition: &TopicPartition,
        suffix: &str,
    ) -> Result<Option<PathBuf>, LogError> {
        // A log of the same name that is made later must not inherit these.
        self.deleted.lock().insert(topic_partition.clone());
        let is_settled = {
            let mut points = self.points.lock();
            points.logs.remove(topic_partition).is_none() && points.is_written
        };
        if !is_settled {
            self.write_points()?;
        }
        self.forget_cleaned(topic_partition)?;
        let disk = self.pool.disk();
        let name = topic_partition.to_string();
        let path = self.root.join(&name);
        let unique = partition_metadata::read(disk, &path)?.unwrap_or_default();
        let suffix = format!(".{:032x}{suffix}", u128::from_be_bytes(unique.0));
        let retired = self.root.join(format!("{}{suffix}", &name[..name.len().min(MAX_NAME - suffix.len())]));
        remove_tree(disk, &retired).on("remove", &retired)?;
        match disk.rename(&path, &retired) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.on("rename", &path).map(|()| Some(retired)),
        }
    }

    /// Says that from now on it is gathered where the logs stand.
    pub fn begin_checkpoints(&self) {
        self.deleted.lock().clear();
    }

    /// Notes where the logs stand, for a start after a crash. Has to be given all of them. What is said of one that has
    /// been deleted since [`DataDir::begin_checkpoints`] is not for another that may have its name by now.
    pub fn write_checkpoints(&self, points: impl Iterator<Item = LogPoints>) -> Result<(), LogError> {
        let points = points.map(|points| {
            let LogPoints { topic_partition, recovery_point, log_start_offset } = points;
            (topic_partition, Points { recovery_point, log_start_offset })
        });
        let deleted = self.deleted.lock();
        self.points.lock().logs = points.filter(|(name, _)| !deleted.contains(name)).collect();
        drop(deleted);
        self.write_points()
    }

    /// Writes the checkpoint files if that has failed before. Until they are written, a start needs what the journal has above
    /// the older points, and the logs need the producer snapshots for those.
    pub fn write_owed_checkpoints(&self) -> Result<(), LogError> {
        let is_written = self.points.lock().is_written;
        if is_written { Ok(()) } else { self.write_points() }
    }

    /// The recovery point of a log that a start after a crash would find at least.
    pub fn written_recovery_point(&self, topic_partition: &TopicPartition) -> Offset {
        let points = self.points.lock();
        let written = points.logs.get(topic_partition).filter(|_| points.is_written);
        written.map_or(Offset::ZERO, |points| points.recovery_point)
    }

    /// Up to where a log has been cleaned.
    pub fn cleaned_offset(&self, topic_partition: &TopicPartition) -> Offset {
        self.cleaned.lock().get(topic_partition).copied().unwrap_or_default()
    }

    /// Notes up to where a log has been cleaned.
    pub fn note_cleaned(&self, topic_partition: &TopicPartition, offset: Offset) -> Result<(), LogError> {
        let mut cleaned = self.cleaned.lock();
        cleaned.insert(topic_partition.clone(), offset);
        self.write_cleaned(&cleaned)
    }

    /// Forgets up to where a log was cleaned that is there no more; another may get its name.
    pub fn forget_cleaned(&self, topic_partition: &TopicPartition) -> Result<(), LogError> {
        let mut cleaned = self.cleaned.lock();
        match cleaned.remove(topic_partition) {
            Some(_) => self.write_cleaned(&cleaned),
            None => Ok(()),
        }
    }

    fn write_cleaned(&self, cleaned: &BTreeMap<TopicPartition, Offset>) -> Result<(), LogError> {
        let path = self.root.join(CLEANER_OFFSETS);
        let lines = cleaned.iter().map(|(partition, offset)| line_of(partition, *offset));
        replace_file_durably(self.pool.disk(), &path, &checkpoint::content(lines))
    }

    /// Marks the directory as closed cleanly. Has to be given all logs, which have been closed.
    pub fn close(&self, points: impl Iterator<Item = LogPoints>) -> Result<(), LogError> {
        self.write_checkpoints(points)?;
        let path = self.root.join(CLEAN_SHUTDOWN);
        replace_file_durably(self.pool.disk(), &path, br#"{"version":0,"brokerEpoch":-1}"#)
    }

    fn write_points(&self) -> Result<(), LogError> {
        let mut points = self.points.lock();
        points.is_written = false;
        let write = |name: &str, value: fn(&Points) -> Offset| {
            let lines = points.logs.iter().map(|(partition, points)| line_of(partition, value(points)));
            let mut lines: Vec<String> = lines.collect();
            lines.push(checksum_line(&lines));
            let path = self.root.join(name);
            let content = checkpoint::content(lines.into_iter());
            self.insist(|| replace_file_durably(self.pool.disk(), &path, &content))
        };
        write(LOG_STARTS, |points| points.log_start_offset)?;
        write(RECOVERY_POINTS, |points| points.recovery_point)?;
        points.is_written = true;
        Ok(())
    }
}

fn line_of(partition: &TopicPartition, offset: Offset) -> String {
    format!("{} {} {}", partition.topic, partition.partition, offset)
}

fn read_points(disk: &dyn Disk, root: &Path) -> Result<BTreeMap<TopicPartition, Points>, LogError> {
    let mut points: BTreeMap<TopicPartition, Points> = BTreeMap::new();
    for (partition, offset) in read_offsets(disk, &root.join(LOG_STARTS))? {
        points.entry(partition).or_default().log_start_offset = offset;
    }
    for (partition, offset) in read_offsets(disk, &root.join(RECOVERY_POINTS))? {
        points.entry(partition).or_default().recovery_point = offset;
    }
    Ok(points)
}

fn read_offsets(disk: &dyn Disk, path: &Path) -> Result<Vec<(TopicPartition, Offset)>, LogError> {
    let mut lines = checkpoint::read(disk, path)?;
    if let Some(sum) = lines.pop_if(|last| last.starts_with(CHECKSUM))
        && sum != checksum_line(&lines)
    {
        return Err(LogError::invalid(path, format!("'{sum}' is not the checksum of what is before it")));
    }
    let parse = |line: String| {
        let mut fields = line.split_whitespace();
        let topic = fields.next();
        let partition = fields.next().and_then(|field| field.parse().ok());
        let offset = fields.next().and_then(|field| field.parse().ok());
        match (topic, partition, offset, fields.next()) {
            (Some(topic), Some(partition), Some(offset), None) => {
                Ok((TopicPartition::new(topic, partition), Offset(offset)))
            }
            _ => Err(LogError::invalid(path, format!("'{line}' is not a topic, a partition and an offset"))),
        }
    };
    lines.into_iter().map(parse).collect()
}

/// The CRC-32C of all other lines, as if it were the offset of a partition.
fn checksum_line(lines: &[String]) -> String {
    format!("{CHECKSUM} 0 {}", crc32c::crc32c(lines.join("\n").as_bytes()))
}

/// Takes a directory's name apart; `None` where it is not one of a log.
fn parse_name(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let partition: i32 = partition.parse().ok()?;
    (!topic.is_empty() && partition >= 0).then(|| TopicPartition::new(Str::from(topic), partition))
}

//! Checkpoints: what has been written is brought to the device, so that a start after a crash need not look at it.
//!
//! The log's lock is needed only to begin and to finish; the syncs happen between the two.

use std::path::PathBuf;
use std::sync::Arc;

use oncelog_wire::Offset;

use crate::append::write_snapshot;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{IoContext, LogError};
use crate::leader_epochs;
use crate::log::{Log, LogPoints};
use crate::segment::file_name;
use crate::{partition_metadata, producer_snapshot};

/// What has to reach the device for a recovery point to move.
#[must_use = "a checkpoint counts once it is synced and finished"]
#[derive(Debug)]
pub struct Checkpoint {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    files: Vec<Arc<dyn DiskFile>>,
    /// None where it is there already.
    snapshot: Option<Vec<u8>>,
    /// What the snapshot has seen; beyond the recovery point where the journal has not been synced so far.
    snapshot_offset: Offset,
    recovery_point: Offset,
    /// What the log has counted of these; they are taken off once the checkpoint is finished.
    bytes: u64,
    directory_changes: u32,
    must_sync_directory: bool,
}

impl Checkpoint {
    /// Writes the producer snapshot, syncs everything, and lets go of the files. Needs no lock.
    pub fn sync(&mut self) -> Result<(), LogError> {
        let snapshot = snapshot_path(self.snapshot_offset, &self.directory);
        if let Some(content) = self.snapshot.take() {
            write_snapshot(&*self.disk, &snapshot, &content)?;
        }
        let snapshot = self.disk.open(&snapshot, OpenMode::Existing).on("open", &snapshot)?;
        for file in self.files.drain(..).chain([snapshot]) {
            file.sync().on("sync a file in", &self.directory)?;
        }
        if self.must_sync_directory {
            self.disk.sync_directory(&self.directory).on("sync", &self.directory)?;
        }
        Ok(())
    }
}

impl Log {
    /// Bytes appended since the last checkpoint that was finished.
    pub fn bytes_since_checkpoint(&self) -> u64 {
        self.bytes_since_checkpoint
    }

    /// Where recovery would have to begin.
    pub fn recovery_point(&self) -> Offset {
        self.recovery_point
    }

    /// Begins a checkpoint at the high watermark; `None` where that has not moved since the last. What is above it may
    /// get lost and be followed by something else, so it must not count.
    pub fn begin_checkpoint(&mut self) -> Result<Option<Checkpoint>, LogError> {
        let is_news = self.recovery_point < self.high_watermark || self.directory_changes > 0;
        if self.segments.is_empty() || !is_news {
            return Ok(None);
        }
        let mut files = Vec::new();
        // Of the segment that ends there a torn end may have been cut off since.
        for at in self.segment_of(self.recovery_point.plus(-1))..self.segments.len() {
            files.extend(self.segments[at].flushed_files()?);
        }
        let disk = self.pool.shared_disk();
        if self.directory_changes > 0 {
            for name in [partition_metadata::FILE_NAME, leader_epochs::FILE_NAME] {
                let path = self.directory.join(name);
                files.push(disk.open(&path, OpenMode::Existing).on("open", &path)?);
            }
        }
        if self.journal.is_some() {
            // Those written when segments were rolled: the segments before them may be deleted.
            let unsynced = self.snapshots.partition_point(|offset| *offset < self.recovery_point);
            for offset in &self.snapshots[unsynced..] {
                let path = snapshot_path(*offset, &self.directory);
                files.push(disk.open(&path, OpenMode::Existing).on("open", &path)?);
            }
        }
        Ok(Some(Checkpoint {
            disk,
            directory: self.directory.clone(),
            files,
            snapshot: match self.has_synced_snapshot_at_end() {
                true => None,
                false => Some(producer_snapshot::encode(&self.producers)),
            },
            snapshot_offset: self.log_end_offset,
            recovery_point: self.high_watermark,
            bytes: self.bytes_since_checkpoint,
            directory_changes: self.directory_changes,
            must_sync_directory: self.directory_changes > 0 || self.journal.is_some(),
        }))
    }

    /// Moves the recovery point, once the checkpoint has been synced.
    pub fn finish_checkpoint(&mut self, checkpoint: Checkpoint) {
        let recovery_point = checkpoint.recovery_point;
        if recovery_point < self.recovery_point || recovery_point > self.high_watermark {
            return;
        }
        self.bytes_since_checkpoint = self.bytes_since_checkpoint.saturating_sub(checkpoint.bytes);
        self.directory_changes = self.directory_changes.saturating_sub(checkpoint.directory_changes);
        self.settled_point = std::mem::replace(&mut self.recovery_point, recovery_point);
        if let Err(at) = self.snapshots.binary_search(&checkpoint.snapshot_offset) {
            self.snapshots.insert(at, checkpoint.snapshot_offset);
        }
        self.remove_snapshots_before(self.settled_point);
    }

    /// Brings everything to the device and closes the log; it must not be used after that.
    pub fn close(&mut self) -> Result<Option<LogPoints>, LogError> {
        self.mend()?;
        if let Some(active) = self.segments.last_mut() {
            active.seal()?;
            // The time index may have grown.
            self.directory_changes += 1;
        }
        if let Some(mut checkpoint) = self.begin_checkpoint()? {
            checkpoint.sync()?;
            self.finish_checkpoint(checkpoint);
        }
        match self.recovery_point < self.log_end_offset {
            true => Err(LogError::invalid(&self.directory, "the last records could not be synced")),
            false => Ok(self.points()),
        }
    }

    /// Whether there is a snapshot at the log's end that must not be written over: a start after a power cut may need it.
    pub(crate) fn has_synced_snapshot_at_end(&self) -> bool {
        self.journal.is_some() && self.snapshots.last() == Some(&self.log_end_offset)
    }

    /// Removes the snapshots before the last that is not beyond a recovery point, but for those at the starts of segments.
    fn remove_snapshots_before(&mut self, recovery_point: Offset) {
        let needed = self.snapshots.iter().rev().find(|offset| **offset <= recovery_point).copied();
        let needed = needed.unwrap_or(recovery_point);
        let segments = &self.segments;
        let (disk, directory) = (self.pool.disk(), &self.directory);
        self.snapshots.retain(|offset| {
            let is_kept = *offset >= needed
                || segments.binary_search_by_key(offset, |segment| segment.base_offset).is_ok();
            if !is_kept {
                let path = snapshot_path(*offset, directory);
                if let Err(error) = disk.remove_file(&path) {
                    tracing::warn!("cannot remove {}: {error}", path.display());
                }
            }
            is_kept
        });
    }
}

pub(crate) fn snapshot_path(offset: Offset, directory: &std::path::Path) -> PathBuf {
    directory.join(file_name(offset, producer_snapshot::EXTENSION))
}

//! What is let go: old segments by time and size, records on request, producers that are silent.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use oncelog_wire::{Now, Offset, Timestamp};

use crate::disk::{Disk, FilePool, PooledFile};
use crate::error::{IoContext, LogError, ReadError};
use crate::log::Log;
use crate::producer_snapshot;
use crate::segment::{Segment, file_name};

/// What the files of a segment that is gone are called until they are removed.
pub(crate) const DELETED: &str = ".deleted";

/// Files that no log refers to any more. Removing them may take a while and needs no lock.
#[must_use = "the files stay until they are removed"]
#[derive(Debug)]
pub struct Garbage {
    disk: Arc<dyn Disk>,
    paths: Vec<PathBuf>,
}

impl Garbage {
    pub(crate) fn new(disk: Arc<dyn Disk>, paths: Vec<PathBuf>) -> Garbage {
        Garbage { disk, paths }
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Removes the files. What cannot be removed now goes at the next start.
    pub fn remove(self) -> Result<(), LogError> {
        for path in self.paths {
            match self.disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).on("remove", &path);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Log {
    /// Looks after what only time brings: retention, and producers that have been silent for too long.
    pub fn maintain(&mut self, now: Now) -> Result<Garbage, LogError> {
        self.producers.expire(now.wall, self.config.producer_id_expiration_ms);
        if self.config.is_deleting {
            // What is not synced yet is not old either.
            let synced = self.segments.partition_point(|segment| segment.base_offset < self.high_watermark);
            let is_all_synced = self.high_watermark == self.log_end_offset;
            let count = self.segments_out_of_retention(now.wall);
            let count = count.min(if is_all_synced { synced } else { synced.saturating_sub(1) });
            if count > 0 && count == self.segments.len() {
                self.roll(now.wall)?;
            }
            if count > 0 {
                self.advance_log_start(self.segments[count].base_offset)?;
            }
        }
        self.drop_segments_before_start()
    }

    /// Moves the start of the log, to the high watermark where no offset is given. Returns the new start.
    pub fn delete_records(&mut self, before: Option<Offset>) -> Result<(Offset, Garbage), ReadError> {
        let before = before.unwrap_or(self.high_watermark);
        if before < Offset::ZERO || before > self.high_watermark {
            return Err(ReadError::OffsetOutOfRange {
                offset: before,
                log_start_offset: self.log_start_offset,
                log_end_offset: self.high_watermark,
            });
        }
        self.advance_log_start(before)?;
        let garbage = self.drop_segments_before_start()?;
        Ok((self.log_start_offset, garbage))
    }

    /// How many of the oldest segments are too old, or too much.
    fn segments_out_of_retention(&self, now: Timestamp) -> usize {
        let is_full = |segment: &Segment| segment.size > 0;
        let too_old = match self.config.retention_ms {
            None => 0,
            Some(retention_ms) => self
                .segments
                .iter()
                .take_while(|segment| is_full(segment) && now.ms_since(newest(segment)) > retention_ms)
                .count(),
        };
        let mut excess = match self.config.retention_bytes {
            None => 0,
            Some(retention_bytes) => self.size().saturating_sub(retention_bytes),
        };
        let too_much = self
            .segments
            .iter()
            .take_while(|segment| {
                let fits = is_full(segment) && u64::from(segment.size) <= excess;
                excess = excess.saturating_sub(u64::from(segment.size));
                fits
            })
            .count();
        too_old.max(too_much)
    }

    fn advance_log_start(&mut self, offset: Offset) -> Result<(), LogError> {
        if offset <= self.log_start_offset {
            return Ok(());
        }
        self.log_start_offset = offset;
        if self.epochs.truncate_start(offset) && !self.segments.is_empty() {
            self.write_epochs()?;
        }
        self.publish(self.log_end_offset);
        Ok(())
    }

    /// Takes the segments out of the log that end before its start; never the active one.
    fn drop_segments_before_start(&mut self) -> Result<Garbage, LogError> {
        // After a power cut the state of the producers comes from a snapshot at the recovery point or before, and what follows.
        let deletable = match self.journal {
            Some(_) => self.log_start_offset.min(self.settled_point),
            None => self.log_start_offset,
        };
        let count = match self.segments.len() {
            0 => 0,
            len => self.segments[1..len].partition_point(|next| next.base_offset <= deletable),
        };
        let mut paths = Vec::new();
        for _ in 0..count {
            // One at a time, so that the log says what is there even where a rename fails.
            retire(&self.pool, self.segments[0].files(), &mut paths)?;
            self.segments.remove(0);
            self.directory_changes += 1;
        }
        if count > 0 {
            let first = self.segments[0].base_offset;
            let kept = self.snapshots.split_off(self.snapshots.partition_point(|at| *at < first));
            for offset in std::mem::replace(&mut self.snapshots, kept) {
                paths.push(self.directory.join(file_name(offset, producer_snapshot::EXTENSION)));
            }
        }
        Ok(Garbage::new(self.pool.shared_disk(), paths))
    }
}

/// The time by which retention goes: the newest record's, or the segment's own where records have none.
fn newest(segment: &Segment) -> Timestamp {
    match segment.largest.timestamp {
        timestamp if timestamp >= Timestamp(0) => timestamp,
        _ => segment.created,
    }
}

/// Renames the files of a segment, the log first: without it the others count for nothing.
pub(crate) fn retire(
    pool: &FilePool,
    files: [&PooledFile; 4],
    retired: &mut Vec<PathBuf>,
) -> Result<(), LogError> {
    for file in files {
        let mut name = file.path().as_os_str().to_owned();
        name.push(DELETED);
        let name = PathBuf::from(name);
        match pool.disk().rename(file.path(), &name) {
            Ok(()) => retired.push(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).on("rename", file.path()),
        }
    }
    Ok(())
}

//! What lies in the directory of a log, sorted out by name; and leftovers, which go.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use oncelog_wire::{Offset, Timestamp};

use crate::batch_file::BatchFile;
use crate::disk::{DirectoryEntry, Disk, EntryKind, FilePool, PooledFile};
use crate::error::{IoContext, LogError};
use crate::offset_index::{self, OffsetIndex};
use crate::producer_snapshot;
use crate::retention::DELETED;
use crate::segment::{CheckedRange, LOG, OFFSET_INDEX, Segment, TIME_INDEX, TRANSACTION_INDEX, file_name};
use crate::swap::{CLEANED, SWAP};
use crate::time_index::{self, TimeIndex};
use crate::transaction_index::{self, TransactionIndex};

/// The files of a log.
#[derive(Debug, Default)]
pub(crate) struct LogFiles {
    /// By base offset.
    pub(crate) segments: Vec<SegmentFiles>,
    /// The offsets of the producer snapshots.
    pub(crate) snapshots: Vec<Offset>,
}

/// The files of a segment, by their lengths.
#[derive(Debug)]
pub(crate) struct SegmentFiles {
    pub(crate) base_offset: Offset,
    pub(crate) log: u64,
    pub(crate) offset_index: Option<u64>,
    pub(crate) time_index: Option<u64>,
    pub(crate) transaction_index: Option<u64>,
}

impl LogFiles {
    /// Sorts the entries of a directory, and removes what a crash may have left half done.
    pub(crate) fn sort_out(
        disk: &dyn Disk,
        directory: &Path,
        entries: Vec<DirectoryEntry>,
    ) -> Result<LogFiles, LogError> {
        let mut by_offset: BTreeMap<Offset, BTreeMap<String, u64>> = BTreeMap::new();
        for entry in entries {
            let EntryKind::File { length } = entry.kind else { continue };
            let Some((stem, extension)) = entry.name.split_once('.') else { continue };
            let is_leftover = [DELETED, ".tmp", CLEANED, SWAP].iter().any(|end| entry.name.ends_with(end));
            if is_leftover {
                let path = directory.join(&entry.name);
                disk.remove_file(&path).on("remove", &path)?;
            } else if stem.len() == 20
                && let Ok(offset) = stem.parse()
            {
                by_offset.entry(Offset(offset)).or_default().insert(extension.to_owned(), length);
            }
        }
        let mut files = LogFiles::default();
        for (base_offset, lengths) in by_offset {
            if lengths.contains_key(producer_snapshot::EXTENSION) {
                files.snapshots.push(base_offset);
            }
            let length = |extension| lengths.get(extension).copied();
            let indexes = [OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX];
            let Some(log) = length(LOG) else {
                for extension in indexes.into_iter().filter(|extension| lengths.contains_key(*extension)) {
                    let path = directory.join(file_name(base_offset, extension));
                    disk.remove_file(&path).on("remove", &path)?;
                }
                continue;
            };
            let [offset_index, time_index, transaction_index] = indexes.map(length);
            files.segments.push(SegmentFiles {
                base_offset,
                log,
                offset_index,
                time_index,
                transaction_index,
            });
        }
        Ok(files)
    }

    /// Removes all files of the segments from this one on.
    pub(crate) fn remove_segments_from(
        &self,
        disk: &dyn Disk,
        directory: &Path,
        at: usize,
    ) -> Result<(), LogError> {
        for segment in &self.segments[at..] {
            let indexes = [
                (segment.offset_index, OFFSET_INDEX),
                (segment.time_index, TIME_INDEX),
                (segment.transaction_index, TRANSACTION_INDEX),
            ];
            let existing = indexes.into_iter().filter_map(|(length, extension)| length.map(|_| extension));
            for extension in [LOG].into_iter().chain(existing) {
                let path = directory.join(file_name(segment.base_offset, extension));
                disk.remove_file(&path).on("remove", &path)?;
            }
        }
        Ok(())
    }
}

impl SegmentFiles {
    /// Those of a segment of which everything has been written.
    pub(crate) fn of(segment: &Segment) -> SegmentFiles {
        let length = |entries: u32, entry_bytes: u32| Some(u64::from(entries) * u64::from(entry_bytes));
        SegmentFiles {
            base_offset: segment.base_offset,
            log: u64::from(segment.size),
            offset_index: length(segment.offset_index.entries().len(), offset_index::ENTRY_BYTES),
            time_index: length(segment.time_index.entries().len(), time_index::ENTRY_BYTES),
            transaction_index: length(
                segment.transaction_index.entries().len(),
                transaction_index::ENTRY_BYTES,
            ),
        }
    }

    /// Opens the segment, which ends before `next` if another follows. Says whether its indexes can be what they should
    /// be; if not, they are empty now.
    pub(crate) fn open(
        &self,
        pool: &Arc<FilePool>,
        directory: &Path,
        next: Option<Offset>,
        now: Timestamp,
    ) -> Result<(Segment, bool), LogError> {
        let base_offset = self.base_offset;
        let file = |extension| PooledFile::new(pool, directory.join(file_name(base_offset, extension)));
        let log = file(LOG);
        let size = u32::try_from(self.log)
            .map_err(|_| LogError::invalid(log.path(), "larger than a segment can be"))?;
        let mut segment = Segment {
            base_offset,
            batches: Arc::new(BatchFile::new(log, base_offset)),
            offset_index: OffsetIndex::open(file(OFFSET_INDEX), self.offset_index.unwrap_or(0), base_offset),
            time_index: TimeIndex::open(file(TIME_INDEX), self.time_index.unwrap_or(0), base_offset)?,
            transaction_index: TransactionIndex::open(
                file(TRANSACTION_INDEX),
                self.transaction_index.unwrap_or(0),
            ),
            size,
            largest: time_index::TimeEntry { timestamp: Timestamp::NONE, offset: base_offset },
            first_timestamp: None,
            bytes_since_index_entry: 0,
            created: now,
            noted_from: size,
            checked: CheckedRange::default(),
        };
        segment.largest = segment.time_index.last();
        let is_sound = self.are_lengths_sound() && self.are_indexes_plausible(&segment, next)?;
        if !is_sound {
            tracing::warn!("{}: making the indexes anew", segment.batches.file().path().display());
            // First of all, and it comes back last: a start that is cut short must not leave indexes that look sound.
            segment.transaction_index = TransactionIndex::held(file(TRANSACTION_INDEX))?;
            segment.offset_index = OffsetIndex::create(file(OFFSET_INDEX), base_offset)?;
            segment.time_index = TimeIndex::create(file(TIME_INDEX), base_offset)?;
        }
        Ok((segment, is_sound))
    }

    fn are_lengths_sound(&self) -> bool {
        let fits =
            |length: Option<u64>, entry: u32| length.is_some_and(|length| length % u64::from(entry) == 0);
        fits(self.offset_index, offset_index::ENTRY_BYTES)
            && fits(self.time_index, time_index::ENTRY_BYTES)
            && fits(self.transaction_index, transaction_index::ENTRY_BYTES)
    }

    fn are_indexes_plausible(&self, segment: &Segment, next: Option<Offset>) -> Result<bool, LogError> {
        let until = next.unwrap_or(Offset(i64::MAX));
        let is_offset_index_plausible = segment.offset_index.last()?.is_none_or(|entry| {
            entry.last_offset >= self.base_offset
                && entry.last_offset < until
                && entry.position < segment.size
        });
        // A segment that is no longer written to has noted its newest record.
        let newest = segment.time_index.last();
        let is_time_index_plausible = newest.offset >= self.base_offset
            && newest.offset < until
            && (next.is_none() || segment.size == 0 || segment.time_index.entries().len() > 0);
        Ok(is_offset_index_plausible
            && is_time_index_plausible
            && segment.transaction_index.is_plausible(self.base_offset, until)?)
    }
}

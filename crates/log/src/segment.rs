//! One segment of a log: the file of batches, and the three indexes beside it.
//!
//! A segment knows nothing of producers or watermarks. Its caller hands in batches that have their final headers, and
//! bounds that lie between batches.

use std::io::IoSlice;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use oncelog_records::BatchHeader;
use oncelog_wire::{Offset, Records, Timestamp};
use parking_lot::Mutex;

use crate::LogConfig;
use crate::batch_file::{BatchFile, Found, HeaderCursor};
use crate::disk::{DiskFile, FilePool, PooledFile};
use crate::error::{IoContext, LogError, ReadError};
use crate::offset_index::{self, OffsetEntry, OffsetIndex};
use crate::time_index::{self, TimeEntry, TimeIndex};
use crate::transaction_index::TransactionIndex;

/// The files of a segment and what is known of them.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: Offset,
    pub(crate) batches: Arc<BatchFile>,
    pub(crate) offset_index: OffsetIndex,
    pub(crate) time_index: TimeIndex,
    pub(crate) transaction_index: TransactionIndex,
    /// Bytes of the log file that hold batches.
    pub(crate) size: u32,
    /// The largest timestamp, and the last offset of the batch that brought it.
    pub(crate) largest: TimeEntry,
    /// The largest timestamp of the first batch, from which the age is counted.
    pub(crate) first_timestamp: Option<Timestamp>,
    pub(crate) bytes_since_index_entry: u32,
    /// When the segment was made, or opened.
    pub(crate) created: Timestamp,
    /// Where the headers begin that have been looked at since the log was opened, up to the end.
    pub(crate) noted_from: u32,
    /// What was looked at before it was handed out.
    pub(crate) checked: CheckedRange,
}

/// The positions, from and to, between which all headers have been looked at.
#[derive(Debug, Default)]
pub(crate) struct CheckedRange(Mutex<Range<u32>>);

impl CheckedRange {
    fn covers(&self, start: u32, stop: u32) -> bool {
        let range = self.0.lock();
        range.start <= start && stop <= range.end
    }

    fn add(&self, start: u32, stop: u32) {
        let mut range = self.0.lock();
        *range = match start <= range.end && range.start <= stop {
            true => range.start.min(start)..range.end.max(stop),
            false => start..stop,
        };
    }
}

/// What an append of a batch to a segment came to.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// Nothing is left of it.
    Undone(LogError),
    /// Some of it may be there, and cannot be removed.
    Unknown(LogError),
}

/// Whole batches of one segment.
#[derive(Debug)]
pub(crate) struct SegmentRead {
    pub(crate) records: Records,
    pub(crate) size: u32,
    /// The offset after the last batch, or a larger one where nothing lies between.
    pub(crate) end_offset: Offset,
}

/// The file names of a segment: the base offset in 20 digits, and what kind of file it is.
pub(crate) fn file_name(base_offset: Offset, extension: &str) -> String {
    format!("{:020}.{extension}", base_offset.0)
}

pub(crate) const LOG: &str = "log";
pub(crate) const OFFSET_INDEX: &str = "index";
pub(crate) const TIME_INDEX: &str = "timeindex";
pub(crate) const TRANSACTION_INDEX: &str = "txnindex";

impl Segment {
    /// An empty segment with all its files, whose names end with `suffix` for as long as they do not count.
    pub(crate) fn create(
        pool: &Arc<FilePool>,
        directory: &Path,
        base_offset: Offset,
        suffix: &str,
        now: Timestamp,
    ) -> Result<Segment, LogError> {
        let file = |extension: &str| {
            PooledFile::new(pool, directory.join(file_name(base_offset, extension) + suffix))
        };
        let offset_index = OffsetIndex::create(file(OFFSET_INDEX), base_offset)?;
        let time_index = TimeIndex::create(file(TIME_INDEX), base_offset)?;
        let transaction_index = TransactionIndex::create(file(TRANSACTION_INDEX))?;
        // Last, for without it the other files count for nothing. If the segment cannot be made, the one before goes on.
        let log = file(LOG);
        let made = log.get_or_create().and_then(|file| match file.length()? {
            0 => Ok(()),
            _ => file.truncate(0),
        });
        made.on("create", log.path())?;
        Ok(Segment {
            base_offset,
            batches: Arc::new(BatchFile::new(log, base_offset)),
            offset_index,
            time_index,
            transaction_index,
            size: 0,
            largest: TimeEntry { timestamp: Timestamp::NONE, offset: base_offset },
            first_timestamp: None,
            bytes_since_index_entry: 0,
            created: now,
            noted_from: 0,
            checked: CheckedRange::default(),
        })
    }

    /// Whether a batch has to go into a new segment instead (`LogSegment.shouldRoll`).
    pub(crate) fn must_roll_before(&self, batch: &BatchHeader, config: &LogConfig, now: Timestamp) -> bool {
        let batch_size = batch.size_in_bytes() as u64;
        self.size > 0 && u64::from(self.size) + batch_size > u64::from(config.segment_bytes)
            || self.is_older_than(
                config.max_segment_ms() - config.segment_jitter_ms,
                batch.max_timestamp(),
                now,
            )
            || self.is_index_full(config)
            || batch.last_offset().0 - self.base_offset.0 > i64::from(i32::MAX)
    }

    /// Whether the segment has batches and spans more than `age_ms`, by its records' clock if it has one.
    fn is_older_than(&self, age_ms: i64, timestamp: Timestamp, now: Timestamp) -> bool {
        let age = match self.first_timestamp {
            Some(first) if first >= Timestamp(0) => timestamp.ms_since(first),
            _ => now.ms_since(self.created),
        };
        self.size > 0 && age > age_ms
    }

    fn is_index_full(&self, config: &LogConfig) -> bool {
        // One entry of the time index is kept free for the one that is written when the segment is closed.
        self.offset_index.entries().len() >= config.segment_index_bytes / offset_index::ENTRY_BYTES
            || self.time_index.entries().len() + 1 >= config.segment_index_bytes / time_index::ENTRY_BYTES
    }

    /// Writes a batch at the end.
    pub(crate) fn append(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
        index_interval_bytes: u32,
    ) -> Result<(), WriteFailure> {
        let file = self.batches.open().map_err(WriteFailure::Undone)?;
        let mut parts = [IoSlice::new(header.as_bytes()), IoSlice::new(payload)];
        if let Err(error) = file.write_vectored_at(&mut parts, u64::from(self.size)) {
            let is_undone = self.cut().is_ok();
            let path = self.batches.file().path().to_owned();
            let error = LogError::Io { action: "write", path, source: error };
            return Err(if is_undone { WriteFailure::Undone(error) } else { WriteFailure::Unknown(error) });
        }
        self.note(header, index_interval_bytes);
        Ok(())
    }

    /// Cuts off what is no batch, behind the last.
    pub(crate) fn cut(&self) -> Result<(), LogError> {
        self.batches.open()?.truncate(u64::from(self.size)).on("truncate", self.batches.file().path())
    }

    /// Takes a batch that lies at the end of what is known into account: size, timestamps, index entries.
    pub(crate) fn note(&mut self, header: &BatchHeader, index_interval_bytes: u32) {
        let (position, last_offset) = (self.size, header.last_offset());
        if position == 0 {
            self.first_timestamp = Some(header.max_timestamp());
        }
        if header.max_timestamp() > self.largest.timestamp {
            self.largest = TimeEntry { timestamp: header.max_timestamp(), offset: last_offset };
        }
        if self.bytes_since_index_entry > index_interval_bytes {
            self.offset_index.push(OffsetEntry { last_offset, position });
            self.time_index.push(self.largest);
            self.bytes_since_index_entry = 0;
        }
        self.bytes_since_index_entry += header.size_in_bytes() as u32;
        self.size += header.size_in_bytes() as u32;
    }

    /// Forgets the batches from the one that the last index entry points to, so that they can be noted again.
    pub(crate) fn rewind(&mut self) -> Result<(), LogError> {
        let last = self.offset_index.last()?;
        if last.is_some() {
            let first = self.batches.headers(0, self.size)?.next_batch();
            self.first_timestamp = first.ok().flatten().map(|first| first.header.max_timestamp());
        }
        self.size = last.map_or(0, |entry| entry.position);
        self.noted_from = self.size;
        self.bytes_since_index_entry = 0;
        // The time index may have been ahead: it gets an extra entry when a segment is closed.
        self.time_index.truncate_to(last.map_or(self.base_offset, |entry| entry.last_offset.next()))?;
        self.largest = self.time_index.last();
        Ok(())
    }

    /// Drops the index entries that reach `offset`.
    pub(crate) fn truncate_indexes(&mut self, offset: Offset) -> Result<(), LogError> {
        self.offset_index.truncate_to(offset)?;
        self.time_index.truncate_to(offset)?;
        self.transaction_index.truncate_to(offset)
    }

    /// Notes the largest timestamp, by which retention goes, and writes what the indexes hold in memory.
    pub(crate) fn seal(&mut self) -> Result<(), LogError> {
        self.time_index.push(self.largest);
        self.flush_indexes()
    }

    /// Writes what the indexes hold in memory.
    pub(crate) fn flush_indexes(&mut self) -> Result<(), LogError> {
        self.offset_index.entries_mut().flush()?;
        self.time_index.entries_mut().flush()?;
        self.transaction_index.entries_mut().flush()
    }

    /// All files of the segment, to be synced; the indexes are written first.
    pub(crate) fn flushed_files(&mut self) -> Result<[Arc<dyn DiskFile>; 4], LogError> {
        Ok([
            self.batches.open()?,
            self.offset_index.entries_mut().flushed_file()?,
            self.time_index.entries_mut().flushed_file()?,
            self.transaction_index.entries_mut().flushed_file()?,
        ])
    }

    /// All files of the segment, the log first.
    pub(crate) fn files(&self) -> [&PooledFile; 4] {
        [
            self.batches.file(),
            self.offset_index.entries().file(),
            self.time_index.entries().file(),
            self.transaction_index.entries().file(),
        ]
    }

    /// Walks over the headers from `position`, which has to be the start of a batch.
    pub(crate) fn headers_from(&self, position: u32) -> Result<HeaderCursor, LogError> {
        self.batches.headers(position, self.size)
    }

    /// The first batch that reaches `offset`; `None` if all end before it.
    pub(crate) fn find(&self, offset: Offset) -> Result<Option<Found>, ReadError> {
        self.seek(&mut self.headers_from(0)?, offset)
    }

    /// Moves the cursor past the first batch that reaches `offset`.
    fn seek(&self, cursor: &mut HeaderCursor, offset: Offset) -> Result<Option<Found>, ReadError> {
        let hint = self.offset_index.position_before(offset)?;
        if hint > 0 && hint < cursor.end {
            cursor.position = hint;
            match cursor.skip_to(offset) {
                // An index entry that points to no batch, or too far, is garbage: do without.
                Ok(Some(found)) if found.position == hint && found.header.base_offset() > offset => {}
                Err(ReadError::Corrupt { position, .. }) if position == u64::from(hint) => {}
                found => return found,
            }
        }
        cursor.position = 0;
        cursor.skip_to(offset)
    }

    /// Whole batches, starting with the one that reaches `offset` and none beyond `end` (which is at `end_offset`).
    /// `None` if all end before `offset`.
    pub(crate) fn read(
        &self,
        offset: Offset,
        end: u32,
        end_offset: Offset,
        max_bytes: u32,
        at_least_one_batch: bool,
    ) -> Result<Option<SegmentRead>, ReadError> {
        let mut cursor = self.batches.headers(0, end)?;
        let Some(first) = self.seek(&mut cursor, offset)? else { return Ok(None) };
        let start = first.position;
        let limit = start.saturating_add(max_bytes);
        let (stop, end_offset) = if end <= limit {
            (end, end_offset)
        } else if cursor.position > limit {
            match at_least_one_batch {
                true => (cursor.position, first.header.next_offset()),
                false => (start, first.header.base_offset()),
            }
        } else {
            cursor.position = cursor.position.max(self.offset_index.start_before(limit)?);
            cursor.skip_to_position(limit)?
        };
        let (stop, end_offset) = self.sound_until(offset, &first, stop, end_offset)?;
        let records = cursor.take(start, stop)?;
        Ok(Some(SegmentRead { records, size: stop - start, end_offset }))
    }

    /// How far the batches from the first on can be handed out: up to `stop`, or to one that is broken. What was written
    /// before the log was opened may have been damaged since; the first who reads it finds out.
    fn sound_until(
        &self,
        offset: Offset,
        first: &Found,
        stop: u32,
        end_offset: Offset,
    ) -> Result<(u32, Offset), ReadError> {
        let start = first.position;
        if start >= self.noted_from || start == stop || self.checked.covers(start, stop) {
            return Ok((stop, end_offset));
        }
        let mut cursor = self.headers_from(start)?;
        // The batch before, and whether it lies behind a gap: compaction leaves some, and so does a wrong offset.
        let (mut before, mut next_offset, mut is_behind_gap) = ((start, offset), offset, false);
        let mut broken = None;
        while cursor.position < stop && broken.is_none() {
            let position = cursor.position;
            match cursor.next_batch() {
                Ok(Some(found)) if cursor.position <= stop => {
                    let header = &found.header;
                    let is_first = position == start;
                    broken = match header.base_offset() {
                        base_offset if !is_first && base_offset < next_offset => {
                            Some(if is_behind_gap { before } else { (position, next_offset) })
                        }
                        _ if header.next_offset() > end_offset => Some((position, next_offset)),
                        base_offset => {
                            is_behind_gap = base_offset > next_offset;
                            before = (position, next_offset);
                            None
                        }
                    };
                    next_offset = header.next_offset();
                }
                Ok(_) | Err(ReadError::Corrupt { .. }) => broken = Some((position, next_offset)),
                Err(error) => return Err(error),
            }
        }
        match broken {
            None => {
                self.checked.add(start, stop);
                Ok((stop, end_offset))
            }
            Some((position, _)) if position == start => {
                Err(self.batches.corrupt(position, "what should be a batch here is none, or lies elsewhere"))
            }
            Some(sound) => Ok(sound),
        }
    }
}

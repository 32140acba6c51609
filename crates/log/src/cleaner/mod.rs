//! Log compaction: of each key the newest record stays, and of transactions what was committed (`Cleaner`).
//!
//! [`Log::dirtiness`] says whether it is worth it, [`Log::begin_cleaning`] takes down what there is. Then [`Cleaning::run`]
//! reads and copies without the log's lock, and the log takes each segment that comes of it with [`Log::swap_in`]. Only
//! whole segments are cleaned, of which every batch is decided, synced, and below the recovery point that a start after a
//! crash would find: above it batches have to follow one another without a gap.

mod copy;
mod offset_map;
mod transactions;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use oncelog_records::{BatchError, BatchView};
use oncelog_wire::{Offset, Timestamp};

use crate::LogConfig;
use crate::batch_file::BatchFile;
use crate::disk::FilePool;
use crate::error::{LogError, ReadError};
use crate::log::Log;
use crate::offset_index;
use crate::recovery::into_log_error;
use crate::segment::Segment;
use crate::swap::{self, CleanedSegment};
use crate::time_index;
use crate::transaction_index::AbortedEntry;
use copy::{Copier, LastOfProducer, Rules};
use offset_map::OffsetMap;
use transactions::CleanedTransactions;

/// How much of a log there is to clean (`LogToClean`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dirtiness {
    /// Below, no key is there twice.
    pub first_dirty_offset: Offset,
    /// From here on nothing may be cleaned yet; the start of a segment.
    pub end_offset: Offset,
    /// The part of the bytes below `end_offset` that are dirty.
    pub ratio: f64,
    /// Whether it is time: for `min.cleanable.dirty.ratio`, or for `max.compaction.lag.ms`.
    pub is_due: bool,
}

/// The memory that a cleaning may take for the offsets of keys.
#[derive(Clone, Copy, Debug)]
pub struct OffsetMapSize {
    /// `log.cleaner.dedupe.buffer.size`
    pub bytes: u64,
    /// `log.cleaner.io.buffer.load.factor`: how full it may become.
    pub load_factor: f64,
}

/// What a cleaning has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleaningStats {
    /// Up to here the log is clean now.
    pub end_offset: Offset,
    /// Different keys in the part that was dirty.
    pub keys: usize,
    /// Records before.
    pub records_read: u64,
    /// Records after.
    pub records_kept: u64,
    /// Bytes of batches before.
    pub bytes_read: u64,
    /// Bytes of batches after.
    pub bytes_kept: u64,
}

/// A cleaning of one log, begun.
#[must_use = "nothing is cleaned before it runs"]
#[derive(Debug)]
pub struct Cleaning {
    pool: Arc<FilePool>,
    directory: PathBuf,
    config: Arc<LogConfig>,
    sources: Vec<Source>,
    aborted: Vec<AbortedEntry>,
    first_dirty_offset: Offset,
    rules: Rules,
}

/// A segment as it was when the cleaning began. No more is appended to it.
#[derive(Debug)]
struct Source {
    batches: Arc<BatchFile>,
    base_offset: Offset,
    /// Where the next segment starts.
    end_offset: Offset,
    size: u32,
    offset_index_bytes: u32,
    time_index_bytes: u32,
    created: Timestamp,
}

/// Why a cleaning did not come to its end.
enum Stop {
    Cancelled,
    Failed(ReadError),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Stop {
        Stop::Failed(error)
    }
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Stop {
        Stop::Failed(error.into())
    }
}

impl Log {
    /// Whether a segment could be cleaned, but for the recovery point, which may move up to the high watermark.
    pub fn has_unsynced_segment_to_clean(&self) -> bool {
        let closed = self.segments.len().saturating_sub(1);
        let unsynced = self.segment_of(self.recovery_point);
        self.config.is_compacting
            && unsynced < closed
            && self.segments[unsynced + 1].base_offset <= self.high_watermark
    }

    /// How much there is to clean, where the log is one to be compacted. It is clean below `cleaned`, and the recovery
    /// point on disk is `synced`.
    pub fn dirtiness(
        &self,
        cleaned: Offset,
        synced: Offset,
        now: Timestamp,
    ) -> Result<Option<Dirtiness>, LogError> {
        let Some(active) = self.segments.last().filter(|_| self.config.is_compacting && !self.is_offline)
        else {
            return Ok(None);
        };
        let is_valid = (self.log_start_offset..=self.log_end_offset).contains(&cleaned);
        let first_dirty_offset = if is_valid { cleaned } else { self.log_start_offset };
        let first_dirty = self.segment_of(first_dirty_offset);
        let closed = self.segments.len() - 1;
        let dirty = &self.segments[first_dirty.min(closed)..closed];

        let too_young = |segment: &&Segment| {
            let min_lag_ms = self.config.min_compaction_lag_ms;
            min_lag_ms > 0 && now.ms_since(segment.largest.timestamp) < min_lag_ms
        };
        let first_young = dirty.iter().find(too_young).map_or(active.base_offset, |young| young.base_offset);
        let limits = [self.last_stable.offset, self.recovery_point.min(synced), first_young];
        let limit = limits.into_iter().fold(active.base_offset, Offset::min);
        let end = self.segment_of(limit);
        let bytes =
            |segments: &[Segment]| segments.iter().map(|segment| u64::from(segment.size)).sum::<u64>();
        let dirty_bytes = if end > first_dirty { bytes(&self.segments[first_dirty..end]) } else { 0 };
        // A segment that is clean in part counts as clean, and as dirty, as in Kafka.
        let clean = self.segments.partition_point(|segment| segment.base_offset < first_dirty_offset);
        let total_bytes = bytes(&self.segments[..clean]) + dirty_bytes;
        if dirty_bytes == 0 {
            return Ok(None);
        }
        let ratio = dirty_bytes as f64 / total_bytes as f64;
        Ok(Some(Dirtiness {
            first_dirty_offset,
            end_offset: self.segments[end].base_offset,
            ratio,
            is_due: ratio > self.config.min_cleanable_dirty_ratio || self.is_overdue(dirty, now)?,
        }))
    }

    /// Whether one of these segments begins with a batch older than `max.compaction.lag.ms`.
    fn is_overdue(&self, dirty: &[Segment], now: Timestamp) -> Result<bool, LogError> {
        if self.config.max_compaction_lag_ms == i64::MAX {
            return Ok(false);
        }
        for segment in dirty {
            let first = segment.headers_from(0)?.next_batch().map_err(into_log_error)?;
            let first = first.map_or(Timestamp::NONE, |first| first.header.max_timestamp());
            if first > Timestamp(0) && now.ms_since(first) > self.config.max_compaction_lag_ms {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes down what a cleaning has to know.
    pub fn begin_cleaning(
        &self,
        dirtiness: &Dirtiness,
        map: OffsetMapSize,
        now: Timestamp,
    ) -> Result<Cleaning, LogError> {
        let end = self.segment_of(dirtiness.end_offset);
        let source = |at: usize| {
            let segment = &self.segments[at];
            Source {
                batches: segment.batches.clone(),
                base_offset: segment.base_offset,
                end_offset: self.next_base_offset(at),
                size: segment.size,
                offset_index_bytes: segment.offset_index.entries().len() * offset_index::ENTRY_BYTES,
                time_index_bytes: segment.time_index.entries().len() * time_index::ENTRY_BYTES,
                created: segment.created,
            }
        };
        let sources: Vec<Source> = (0..end).map(source).collect();
        let first_offset = sources.first().map_or(dirtiness.end_offset, |first| first.base_offset);
        let last_of_producers = self.producers.iter().map(|(producer_id, state)| {
            let last = match state.batches.last() {
                Some(batch) => LastOfProducer::Batch(batch.last_offset),
                None => LastOfProducer::Marker(state.epoch),
            };
            (producer_id, last)
        });
        let dirty_offsets = (dirtiness.end_offset.0 - dirtiness.first_dirty_offset.0).max(0) as u64;
        Ok(Cleaning {
            pool: self.pool.clone(),
            directory: self.directory.clone(),
            config: self.config.clone(),
            sources,
            aborted: self.aborted_entries(0, first_offset, dirtiness.end_offset)?,
            first_dirty_offset: dirtiness.first_dirty_offset,
            rules: Rules {
                map: OffsetMap::new(map.bytes, map.load_factor, dirty_offsets),
                end_offset: dirtiness.end_offset,
                last_of_producers: last_of_producers.collect(),
                now,
                delete_retention_ms: self.config.delete_retention_ms,
            },
        })
    }
}

impl Cleaning {
    /// Cleans segment by segment. `swap_in` is given each that comes of it, for [`Log::swap_in`], and says whether the log
    /// has taken it. `None` where it did not, or the cleaning was cancelled: the log is whole, and as dirty as before.
    ///
    /// # Errors
    /// Where a segment is damaged, or the storage fails. What was swapped in before stays.
    pub fn run(
        mut self,
        is_cancelled: &dyn Fn() -> bool,
        swap_in: &mut dyn FnMut(CleanedSegment) -> Result<bool, LogError>,
    ) -> Result<Option<CleaningStats>, LogError> {
        match self.try_run(is_cancelled, swap_in) {
            Ok(stats) => Ok(Some(stats)),
            Err(Stop::Cancelled) => Ok(None),
            Err(Stop::Failed(error)) => Err(into_log_error(error)),
        }
    }

    fn try_run(
        &mut self,
        is_cancelled: &dyn Fn() -> bool,
        swap_in: &mut dyn FnMut(CleanedSegment) -> Result<bool, LogError>,
    ) -> Result<CleaningStats, Stop> {
        self.map_keys(is_cancelled)?;
        let mut stats = CleaningStats {
            end_offset: self.rules.end_offset,
            keys: self.rules.map.len(),
            ..CleaningStats::default()
        };
        let first_offset = self.sources.first().map_or(Offset::ZERO, |first| first.base_offset);
        let mut transactions = CleanedTransactions::new(&self.aborted, first_offset);
        for group in self.groups() {
            let group = &self.sources[group];
            let cleaned = self.copy(group, &mut transactions, &mut stats, is_cancelled);
            if cleaned.is_err() {
                swap::discard(self.pool.disk(), &self.directory, group[0].base_offset);
            }
            if !swap_in(cleaned?)? {
                return Err(Stop::Cancelled);
            }
        }
        Ok(stats)
    }

    /// Notes the newest offset of each key in the dirty part, as far as the map has room.
    fn map_keys(&mut self, is_cancelled: &dyn Fn() -> bool) -> Result<(), Stop> {
        let Cleaning { sources, aborted, first_dirty_offset, rules, .. } = self;
        let first_dirty_offset = *first_dirty_offset;
        let dirty = sources.partition_point(|source| source.end_offset <= first_dirty_offset);
        let Some(first) = sources.get(dirty) else { return Ok(()) };
        let mut transactions = CleanedTransactions::new(aborted, first.base_offset);
        let mut next_offset = first.base_offset;
        // The end of the last batch that is in the map whole, once that is full.
        let mut full_at: Option<Offset> = None;
        for source in &sources[dirty..] {
            source.for_each_batch(is_cancelled, &mut |position, batch| {
                source.check(position, batch, next_offset)?;
                if full_at.is_none()
                    && !put_batch(&mut rules.map, &mut transactions, batch, first_dirty_offset)
                        .map_err(|error| source.batches.corrupt(position, error.to_string()))?
                {
                    full_at = Some(next_offset);
                }
                next_offset = batch.next_offset();
                Ok(())
            })?;
            if full_at.is_some() {
                break;
            }
        }
        if let Some(full_at) = full_at {
            if full_at <= first_dirty_offset {
                let reason = "the keys of one batch do not fit into log.cleaner.dedupe.buffer.size";
                return Err(LogError::invalid(&self.directory, reason).into());
            }
            rules.end_offset = full_at;
        }
        Ok(())
    }

    /// The segments that go into one, group by group (`Cleaner.groupSegmentsBySize`).
    fn groups(&self) -> Vec<Range<usize>> {
        let count = self.sources.partition_point(|source| source.base_offset < self.rules.end_offset);
        let mut groups = Vec::new();
        let mut start = 0;
        while start < count {
            let mut end = start + 1;
            while end < count && self.fits_into_one(&self.sources[start..=end]) {
                end += 1;
            }
            groups.push(start..end);
            start = end;
        }
        groups
    }

    fn fits_into_one(&self, sources: &[Source]) -> bool {
        let sum =
            |bytes: fn(&Source) -> u32| sources.iter().map(|source| u64::from(bytes(source))).sum::<u64>();
        let (index_bytes, last) = (u64::from(self.config.segment_index_bytes), &sources[sources.len() - 1]);
        sum(|source| source.size) <= u64::from(self.config.segment_bytes)
            && sum(|source| source.offset_index_bytes) <= index_bytes
            && sum(|source| source.time_index_bytes) <= index_bytes
            && last.end_offset.0 - 1 - sources[0].base_offset.0 <= i64::from(i32::MAX)
    }

    /// Copies a group, and brings the copy to the device.
    fn copy(
        &self,
        group: &[Source],
        transactions: &mut CleanedTransactions,
        stats: &mut CleaningStats,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<CleanedSegment, Stop> {
        let (base_offset, rules) = (group[0].base_offset, &self.rules);
        let (pool, directory) = (&self.pool, &self.directory);
        let mut copier = Copier::new(pool, directory, &self.config, base_offset, rules, transactions, stats)?;
        for source in group {
            source
                .for_each_batch(is_cancelled, &mut |position, batch| copier.take(source, position, batch))?;
        }
        let segment = copier.finish()?;
        let sources = group.iter().map(|source| source.batches.clone()).collect();
        Ok(CleanedSegment::new(&segment, sources, group[group.len() - 1].created))
    }
}

impl Source {
    fn for_each_batch(
        &self,
        is_cancelled: &dyn Fn() -> bool,
        visit: &mut dyn FnMut(u32, &BatchView<'_>) -> Result<(), ReadError>,
    ) -> Result<(), Stop> {
        let (mut position, mut buffer) = (0, Vec::new());
        while position < self.size {
            if is_cancelled() {
                return Err(Stop::Cancelled);
            }
            position = self.batches.read_batches(position, self.size, &mut buffer, visit)?;
        }
        Ok(())
    }

    /// What is damaged must not get a right CRC, nor win over what is not.
    fn check(&self, position: u32, batch: &BatchView<'_>, next_offset: Offset) -> Result<(), ReadError> {
        if !batch.is_crc_valid() {
            return Err(self.batches.corrupt(position, "the CRC of the batch does not match"));
        }
        if batch.base_offset() < next_offset || batch.next_offset() > self.end_offset {
            let reason = format!("offset {} does not follow", batch.base_offset());
            return Err(self.batches.corrupt(position, reason));
        }
        Ok(())
    }
}

/// Notes the keys of the records from `from` on; says whether there was room for all of them.
fn put_batch(
    map: &mut OffsetMap,
    transactions: &mut CleanedTransactions,
    batch: &BatchView<'_>,
    from: Offset,
) -> Result<bool, BatchError> {
    if batch.is_control() {
        transactions.take_marker(batch);
        return Ok(true);
    }
    if transactions.take_data(batch) {
        return Ok(true);
    }
    let mut records = batch.records()?;
    while let Some(record) = records.next_record()? {
        if let Some(key) = record.key
            && record.offset >= from
            && !map.put(key, record.offset)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

//! Copying a group of segments into one, without what compaction drops (`Cleaner.cleanSegments`).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use oncelog_records::{BatchHeader, BatchView, DeleteHorizon, Filtered, HEADER_LEN, Record, emptied, filter};
use oncelog_wire::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::offset_map::OffsetMap;
use super::transactions::{CleanedTransactions, MarkerFate};
use super::{CleaningStats, Source};
use crate::LogConfig;
use crate::disk::{DiskFile, FilePool};
use crate::error::{IoContext, LogError, ReadError};
use crate::segment::Segment;
use crate::swap::CLEANED;

/// How much is gathered before it is written.
const WRITE_BYTES: usize = 1 << 20;

/// Positions in a segment are written down as signed numbers.
const MAX_SEGMENT_BYTES: u64 = i32::MAX as u64;

/// What the state of an active producer rests on, and therefore stays.
#[derive(Clone, Copy, Debug)]
pub(super) enum LastOfProducer {
    /// The batch that ends with this offset, for its sequence numbers.
    Batch(Offset),
    /// The markers of this epoch.
    Marker(ProducerEpoch),
}

/// What decides which records stay.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) map: OffsetMap,
    /// What the map knows of ends here: all records from here on stay.
    pub(super) end_offset: Offset,
    pub(super) last_of_producers: HashMap<ProducerId, LastOfProducer>,
    pub(super) now: Timestamp,
    pub(super) delete_retention_ms: i64,
}

/// Takes batches, and writes what is left of them to a new segment.
pub(super) struct Copier<'a> {
    rules: &'a Rules,
    transactions: &'a mut CleanedTransactions,
    stats: &'a mut CleaningStats,
    segment: Segment,
    index_interval_bytes: u32,
    file: Arc<dyn DiskFile>,
    /// What is not written yet.
    pending: Vec<u8>,
    /// The batch before, if nothing is left of it.
    dropped: Option<BatchHeader>,
    next_offset: Offset,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        pool: &Arc<FilePool>,
        directory: &Path,
        config: &LogConfig,
        base_offset: Offset,
        rules: &'a Rules,
        transactions: &'a mut CleanedTransactions,
        stats: &'a mut CleaningStats,
    ) -> Result<Copier<'a>, LogError> {
        let segment = Segment::create(pool, directory, base_offset, CLEANED, rules.now)?;
        Ok(Copier {
            rules,
            transactions,
            stats,
            file: segment.batches.open()?,
            segment,
            index_interval_bytes: config.index_interval_bytes,
            pending: Vec::new(),
            dropped: None,
            next_offset: base_offset,
        })
    }

    /// Takes the batch at `position` of a source.
    pub(super) fn take(
        &mut self,
        source: &Source,
        position: u32,
        batch: &BatchView<'_>,
    ) -> Result<(), ReadError> {
        source.check(position, batch, self.next_offset)?;
        self.next_offset = batch.next_offset();
        self.stats.records_read += batch.record_count() as u64;
        self.stats.bytes_read += batch.size_in_bytes() as u64;
        let filtered =
            self.filter(batch).map_err(|error| source.batches.corrupt(position, error.to_string()))?;
        self.dropped = None;
        match filtered {
            Filtered::Whole => self.push(batch.bytes())?,
            Filtered::Rewritten(bytes) => self.push(&bytes)?,
            Filtered::Nothing if self.is_last_of_producer(batch) => self.push(emptied(batch).as_bytes())?,
            Filtered::Nothing => self.dropped = Some(batch.header()),
        }
        Ok(())
    }

    /// Writes all that is left to the device. The last offset is kept, with an empty batch where nothing else has it: it
    /// says which segments have gone into this one.
    pub(super) fn finish(mut self) -> Result<Segment, LogError> {
        if let Some(dropped) = self.dropped.take() {
            self.push(emptied(&dropped).as_bytes())?;
        }
        self.write()?;
        self.segment.seal()?;
        for file in self.segment.flushed_files()? {
            file.sync().on("sync", self.segment.batches.file().path())?;
        }
        Ok(self.segment)
    }

    fn filter(&mut self, batch: &BatchView<'_>) -> Result<Filtered, oncelog_records::BatchError> {
        let Rules { now, delete_retention_ms, .. } = *self.rules;
        let horizon =
            |is_due| DeleteHorizon { at: Timestamp(now.0.saturating_add(delete_retention_ms)), is_due };
        if !batch.is_control() {
            return match self.transactions.take_data(batch) {
                true => Ok(Filtered::Nothing),
                false => filter(batch, horizon(false), |record| self.is_kept(batch, record)),
            };
        }
        match self.transactions.take_marker(batch) {
            MarkerFate::Needed(aborted) => {
                aborted.into_iter().for_each(|entry| self.segment.transaction_index.push(entry));
                filter(batch, horizon(false), |_| true)
            }
            MarkerFate::Spare if batch.delete_horizon().is_some_and(|horizon| horizon <= now) => {
                Ok(Filtered::Nothing)
            }
            MarkerFate::Spare => filter(batch, horizon(true), |_| true),
        }
    }

    /// Whether a record is the newest of its key, and no tombstone whose time has come.
    fn is_kept(&self, batch: &BatchHeader, record: &Record<'_>) -> bool {
        if record.offset >= self.rules.end_offset {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_newest = self.rules.map.get(key).is_none_or(|newest| record.offset >= newest);
        let is_over = || batch.delete_horizon().is_some_and(|horizon| self.rules.now >= horizon);
        is_newest && (record.value.is_some() || !is_over())
    }

    fn is_last_of_producer(&self, batch: &BatchHeader) -> bool {
        match self.rules.last_of_producers.get(&batch.producer_id()) {
            Some(LastOfProducer::Batch(last_offset)) => batch.last_offset() == *last_offset,
            Some(LastOfProducer::Marker(epoch)) => batch.is_control() && batch.producer_epoch() == *epoch,
            None => false,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let head = bytes.first_chunk::<HEADER_LEN>().expect("a whole batch");
        let header = BatchHeader::parse(head).expect("the header of a batch that was read or made");
        let path = self.segment.batches.file().path();
        if u64::from(self.segment.size) + bytes.len() as u64 > MAX_SEGMENT_BYTES {
            return Err(LogError::invalid(path, "the segment would become too large"));
        }
        self.stats.records_kept += header.record_count() as u64;
        self.stats.bytes_kept += bytes.len() as u64;
        self.segment.note(&header, self.index_interval_bytes);
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), LogError> {
        let position = u64::from(self.segment.size) - self.pending.len() as u64;
        let path = self.segment.batches.file().path();
        self.file.write_at(&self.pending, position).on("write", path)?;
        self.pending.clear();
        Ok(())
    }
}

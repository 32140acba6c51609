//! Finding offsets: by timestamp for ListOffsets, by leader epoch for OffsetForLeaderEpoch.

use oncelog_records::BatchView;
use oncelog_wire::{LeaderEpoch, Offset, Timestamp};

use crate::batch_file::{BatchFile, Found};
use crate::error::ReadError;
use crate::leader_epochs::EpochEnd;
use crate::log::{Isolation, Log};

/// Which offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The end of what the reader may see.
    Latest,
    /// The start of the log.
    Earliest,
    /// The first of the records with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record with this timestamp or a later one.
    At(Timestamp),
}

/// An offset that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset.
    pub offset: Offset,
    /// The record's timestamp; none where not a record was looked for.
    pub timestamp: Timestamp,
    /// The epoch in which the record was written, or none.
    pub leader_epoch: LeaderEpoch,
}

impl Log {
    /// Answers a ListOffsets question; `None` where no record fits that the reader may see.
    pub fn list_offset(
        &self,
        query: OffsetQuery,
        isolation: Isolation,
    ) -> Result<Option<ListedOffset>, ReadError> {
        let bound = self.bound(isolation).offset;
        let found = match query {
            OffsetQuery::Latest => {
                let leader_epoch = self.leader_epoch;
                return Ok(Some(ListedOffset { offset: bound, timestamp: Timestamp::NONE, leader_epoch }));
            }
            OffsetQuery::Earliest => {
                let offset = self.log_start_offset;
                let leader_epoch = self.leader_epoch_at(offset);
                return Ok(Some(ListedOffset { offset, timestamp: Timestamp::NONE, leader_epoch }));
            }
            OffsetQuery::MaxTimestamp => self.record_with_max_timestamp()?,
            OffsetQuery::At(timestamp) => self.first_record_at_or_after(timestamp)?,
        };
        Ok(found.filter(|(offset, _)| *offset < bound).map(|(offset, timestamp)| ListedOffset {
            offset,
            timestamp,
            leader_epoch: self.leader_epoch_at(offset),
        }))
    }

    /// Answers OffsetForLeaderEpoch.
    pub fn offset_for_leader_epoch(&self, requested: LeaderEpoch) -> EpochEnd {
        self.epochs.end_of(requested, self.log_end_offset)
    }

    /// The epoch in which the record at an offset was, or would be, written.
    pub fn leader_epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.epochs.epoch_at(offset)
    }

    fn first_record_at_or_after(
        &self,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        for segment in &self.segments[self.segment_of(self.log_start_offset)..] {
            if segment.largest.timestamp < timestamp {
                continue;
            }
            let from = segment.time_index.offset_before(timestamp)?.max(self.log_start_offset);
            let Some(first) = segment.find(from)? else { continue };
            let mut cursor = segment.headers_from(first.position)?;
            while let Some(found) = cursor.next_batch()? {
                if found.header.max_timestamp() < timestamp {
                    continue;
                }
                let record = self.record_in(&segment.batches, &found, |_, at| at >= timestamp)?;
                if record.is_some() {
                    return Ok(record);
                }
            }
        }
        Ok(None)
    }

    fn record_with_max_timestamp(&self) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let visible = &self.segments[self.segment_of(self.log_start_offset)..];
        let Some(largest) = visible.iter().map(|segment| segment.largest.timestamp).max() else {
            return Ok(None);
        };
        if largest < Timestamp(0) {
            return Ok(None);
        }
        let with_largest = visible.iter().find(|segment| segment.largest.timestamp == largest);
        let Some(segment) = with_largest else { return Ok(None) };
        let Some(found) = segment.find(segment.largest.offset)? else { return Ok(None) };
        match self.record_in(&segment.batches, &found, |_, at| at == largest)? {
            Some(record) => Ok(Some(record)),
            None => self.largest_above_the_start(),
        }
    }

    /// The record with the largest timestamp, batch by batch: the largest one written is below the log's start.
    fn largest_above_the_start(&self) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let mut largest: Option<(Offset, Timestamp)> = None;
        for segment in &self.segments[self.segment_of(self.log_start_offset)..] {
            let Some(first) = segment.find(self.log_start_offset)? else { continue };
            let mut cursor = segment.headers_from(first.position)?;
            while let Some(found) = cursor.next_batch()? {
                // A batch may hold several records that are each larger than those before.
                while largest.is_none_or(|(_, at)| found.header.max_timestamp() > at) {
                    let is_larger = |_, at| largest.is_none_or(|(_, largest)| at > largest);
                    match self.record_in(&segment.batches, &found, is_larger)? {
                        Some(record) => largest = Some(record),
                        None => break,
                    }
                }
            }
        }
        Ok(largest)
    }

    /// The first record of a batch, at or above the log's start, that `is_wanted`.
    fn record_in(
        &self,
        batches: &BatchFile,
        found: &Found,
        is_wanted: impl Fn(Offset, Timestamp) -> bool,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let bytes = batches.read_batch(found)?;
        let corrupt = |error: oncelog_records::BatchError| batches.corrupt(found.position, error.to_string());
        let batch = BatchView::parse(&bytes).map_err(corrupt)?;
        let mut records = batch.records().map_err(corrupt)?;
        while let Some(record) = records.next_record().map_err(corrupt)? {
            if record.offset >= self.log_start_offset && is_wanted(record.offset, record.timestamp) {
                return Ok(Some((record.offset, record.timestamp)));
            }
        }
        Ok(None)
    }
}

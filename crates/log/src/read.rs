//! Reading: whole batches of one segment, up to what the reader may see; and reading everything for a replay.

use oncelog_records::BatchView;
use oncelog_wire::{Offset, ProducerId, Records};

use crate::error::{LogError, ReadError};
use crate::log::{Bound, Isolation, Log};
use crate::segment::Segment;
use crate::transaction_index::AbortedEntry;

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadSpec {
    /// The first offset wanted; the batch that contains it comes whole.
    pub offset: Offset,
    /// The most bytes wanted.
    pub max_bytes: u32,
    /// Whether the first batch comes even if it is larger.
    pub at_least_one_batch: bool,
    /// How far the reader may see.
    pub isolation: Isolation,
}

/// What was read, and the watermarks at that moment.
#[derive(Clone, Debug)]
pub struct Read {
    /// Whole batches.
    pub records: Records,
    /// Their bytes.
    pub size: u32,
    /// The aborted transactions that may have records among them; nothing for a reader who sees them all.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// See [`Log::high_watermark`].
    pub high_watermark: Offset,
    /// See [`Log::last_stable_offset`].
    pub last_stable_offset: Offset,
    /// See [`Log::log_start_offset`].
    pub log_start_offset: Offset,
}

/// A transaction whose records a read_committed reader has to skip, from `first_offset` to its ABORT marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose records.
    pub producer_id: ProducerId,
    /// The first of them in this log.
    pub first_offset: Offset,
}

impl Log {
    /// Reads whole batches from an offset on. At an offset that is not to be seen yet there are none.
    pub fn read(&self, spec: &ReadSpec) -> Result<Read, ReadError> {
        self.check_range(spec.offset)?;
        let mut read = Read {
            records: Records::EMPTY,
            size: 0,
            aborted: (spec.isolation == Isolation::ReadCommitted).then(Vec::new),
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable.offset,
            log_start_offset: self.log_start_offset,
        };
        let bound = self.bound(spec.isolation);
        if spec.offset >= bound.offset {
            return Ok(read);
        }
        for at in self.segment_of(spec.offset)..self.segments.len() {
            let (end, end_offset) = self.end_within(at, bound)?;
            let segment = &self.segments[at];
            let part = segment.read(spec.offset, end, end_offset, spec.max_bytes, spec.at_least_one_batch)?;
            let Some(part) = part else { continue };
            read.records = part.records;
            read.size = part.size;
            if let Some(aborted) = &mut read.aborted
                && part.size > 0
            {
                let entries = self.aborted_entries(at, spec.offset, part.end_offset)?;
                aborted.extend(entries.iter().map(|entry| AbortedTransaction {
                    producer_id: entry.producer_id,
                    first_offset: entry.first_offset,
                }));
            }
            break;
        }
        Ok(read)
    }

    /// How many bytes a read from `offset` could return, counted up to `up_to`; that many where a newer segment has
    /// been started since, as a waiting reader should then be answered at once.
    pub fn bytes_available(
        &self,
        offset: Offset,
        isolation: Isolation,
        up_to: u64,
    ) -> Result<u64, ReadError> {
        self.check_range(offset)?;
        let bound = self.bound(isolation);
        if offset >= bound.offset {
            return Ok(0);
        }
        let at = self.segment_of(offset);
        if self.segment_of(bound.offset) != at {
            return Ok(up_to);
        }
        let (end, _) = self.end_within(at, bound)?;
        let start = self.segments[at].find(offset)?.map_or(end, |found| found.position);
        Ok(u64::from(end - start).min(up_to))
    }

    /// Reads all batches from the one that contains `from` up to the high watermark and gives each to `visit`. Bytes
    /// that are not a sound batch are an error: nothing is skipped.
    pub fn replay<E: From<ReadError>>(
        &self,
        from: Offset,
        mut visit: impl FnMut(&BatchView<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = Vec::new();
        let from = from.max(self.log_start_offset);
        let mut failure = None;
        let mut next_offset = Offset::ZERO;
        for segment in self.segments.iter().skip(self.segment_of(from)) {
            let Some(first) = segment.find(from)? else { continue };
            let (mut position, batches) = (first.position, &segment.batches);
            while position < segment.size {
                let result = batches.read_batches(position, segment.size, &mut buffer, &mut |at, batch| {
                    if !batch.is_crc_valid() {
                        return Err(batches.corrupt(at, "the CRC of the batch does not match"));
                    }
                    // Which the CRC does not cover.
                    let (offset, after) = (batch.base_offset(), batch.header().next_offset());
                    if offset < next_offset || after > self.log_end_offset {
                        return Err(batches.corrupt(at, format!("offset {offset} cannot be here")));
                    }
                    next_offset = after;
                    visit(batch).map_err(|error| {
                        failure = Some(error);
                        batches.corrupt(at, "the visitor has had enough")
                    })
                });
                if let Some(error) = failure {
                    return Err(error);
                }
                position = result?;
            }
        }
        Ok(())
    }

    pub(crate) fn check_range(&self, offset: Offset) -> Result<(), ReadError> {
        match offset < self.log_start_offset || offset > self.log_end_offset {
            false => Ok(()),
            true => Err(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset: self.log_start_offset,
                log_end_offset: self.log_end_offset,
            }),
        }
    }

    /// Where reading in a segment has to end, and the offset there.
    fn end_within(&self, at: usize, bound: Bound) -> Result<(u32, Offset), ReadError> {
        let segment = &self.segments[at];
        let next_offset = self.next_base_offset(at);
        if bound.offset >= next_offset {
            return Ok((segment.size, next_offset));
        }
        match bound.place {
            Some(place) if place.segment == segment.base_offset => Ok((place.position, bound.offset)),
            _ => {
                let end = segment.find(bound.offset)?.map_or(segment.size, |found| found.position);
                Ok((end, bound.offset))
            }
        }
    }

    /// Where the segment after this one starts, or the log ends.
    pub(crate) fn next_base_offset(&self, at: usize) -> Offset {
        self.segments.get(at + 1).map_or(self.log_end_offset, |next: &Segment| next.base_offset)
    }

    /// The aborted transactions with records in `from..until`, which starts in that segment. Their markers may be in any
    /// later one.
    pub(crate) fn aborted_entries(
        &self,
        at: usize,
        from: Offset,
        until: Offset,
    ) -> Result<Vec<AbortedEntry>, LogError> {
        let mut found = Vec::new();
        for segment in &self.segments[at..] {
            if !segment.transaction_index.collect(from, until, &mut found)? {
                break;
            }
        }
        Ok(found)
    }
}

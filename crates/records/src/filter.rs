//! Taking records out of a batch, as log compaction does: what stays keeps its offset, timestamp, headers and bytes, and
//! the batch keeps its offsets and its producer's sequence numbers (`MemoryRecords.filterTo`).

use std::io::{self, Read};

use oncelog_wire::Timestamp;

use crate::builder::encode_record;
use crate::{
    BatchError, BatchHeader, BatchView, Compression, HEADER_LEN, Record, Records, TimestampType, compression,
    varint,
};

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filtered {
    /// All of it, unchanged.
    Whole,
    /// A batch of the same offsets with fewer records, or with a delete horizon that it did not have.
    Rewritten(Vec<u8>),
    /// No record.
    Nothing,
}

/// The moment from which tombstones and markers may go (KIP-534). A batch gets one once, when it is first cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteHorizon {
    /// For a batch that has none yet.
    pub at: Timestamp,
    /// Whether the batch gets one even if no tombstone is left in it: it is a marker whose transaction has no records.
    pub is_due: bool,
}

/// Leaves the records of a batch that are to be kept. They are compressed as they were. `is_kept` is asked twice, and no
/// more than a record and a window of the batch is held beside the result.
///
/// # Errors
/// Where the records cannot be read.
pub fn filter(
    batch: &BatchView<'_>,
    horizon: DeleteHorizon,
    is_kept: impl Fn(&Record<'_>) -> bool,
) -> Result<Filtered, BatchError> {
    let (mut kept, mut has_tombstone, mut max_timestamp) = (0, false, Timestamp::NONE);
    let mut records = batch.records()?;
    while let Some(record) = records.next_record()? {
        if is_kept(&record) {
            kept += 1;
            has_tombstone |= record.value.is_none();
            max_timestamp = max_timestamp.max(record.timestamp);
        }
    }
    if kept == 0 {
        return Ok(Filtered::Nothing);
    }
    let gets_horizon = !batch.has_delete_horizon() && (has_tombstone || horizon.is_due);
    if !gets_horizon && kept == batch.record_count() {
        return Ok(Filtered::Whole);
    }
    let mut header = batch.header();
    if gets_horizon {
        header.set_delete_horizon(horizon.at);
    }
    if header.timestamp_type() == TimestampType::CreateTime {
        header.set_max_timestamp(max_timestamp);
    }
    header.set_record_count(kept);
    let compression = batch.compression()?;
    let mut encoder =
        Encoder { records: batch.records()?, header: &header, is_kept, encoded: Vec::new(), position: 0 };
    let mut bytes = vec![0; HEADER_LEN];
    compression::compress(compression, &mut encoder, &mut bytes)
        .map_err(|error| varint::io_error(error).while_reading(compression))?;
    let (head, payload) = bytes.split_first_chunk_mut::<HEADER_LEN>().expect("room was made for the header");
    header.seal(payload);
    *head = *header.as_bytes();
    Ok(Filtered::Rewritten(bytes))
}

/// The header of a batch, as a batch without records: offsets and sequence numbers are all that is left.
pub fn emptied(batch: &BatchHeader) -> BatchHeader {
    let mut header = *batch;
    header.set_compression(Compression::None);
    header.clear_delete_horizon();
    header.set_base_timestamp(Timestamp::NONE);
    header.set_record_count(0);
    header.seal(&[]);
    header
}

/// Reads as the kept records, not compressed, relative to what the header says.
struct Encoder<'a, F> {
    records: Records<'a>,
    header: &'a BatchHeader,
    is_kept: F,
    /// One record, of which the bytes from `position` on have not been read.
    encoded: Vec<u8>,
    position: usize,
}

impl<F: Fn(&Record<'_>) -> bool> Read for Encoder<'_, F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.position == self.encoded.len() {
            let Some(record) = self.records.next_record().map_err(io::Error::other)? else { return Ok(0) };
            self.encoded.clear();
            self.position = 0;
            if (self.is_kept)(&record) {
                let timestamp_delta = record.timestamp.ms_since(self.header.base_timestamp());
                let offset_delta = (record.offset.0 - self.header.base_offset().0) as i32;
                let (key, value, headers) = (record.key, record.value, record.headers());
                encode_record(&mut self.encoded, timestamp_delta, offset_delta, key, value, headers);
            }
        }
        let count = (&self.encoded[self.position..]).read(out)?;
        self.position += count;
        Ok(count)
    }
}

//! Building a batch: records are encoded as they come, into the bytes that become the batch.

use bytes::Bytes;
use oncelog_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::{BatchHeader, Compression, HEADER_LEN, compression, varint};

/// Names and values of a record's headers.
pub type Headers<'a> = [(&'a [u8], Option<&'a [u8]>)];

/// Room for a batch with a record or two of an internal topic, so that these take one allocation.
const INITIAL_CAPACITY: usize = 512;

/// Builds one batch. Uncompressed, from no producer, at offset 0, unless told otherwise.
///
/// ```
/// use oncelog_records::{BatchBuilder, BatchView};
/// use oncelog_wire::Timestamp;
///
/// let mut builder = BatchBuilder::new();
/// builder.push(Timestamp(1_000), Some(b"key"), Some(b"value"));
/// let bytes = builder.build();
/// assert!(BatchView::parse(&bytes).unwrap().is_crc_valid());
/// ```
#[derive(Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    compression: Compression,
    /// Room for the header, then the records.
    bytes: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> BatchBuilder {
        let mut bytes = Vec::with_capacity(INITIAL_CAPACITY);
        bytes.resize(HEADER_LEN, 0);
        BatchBuilder { header: BatchHeader::empty(), compression: Compression::None, bytes }
    }

    /// Compresses the records with `compression`.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sends them as this producer, the first record having `base_sequence`.
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.header.set_producer_id(id);
        self.header.set_producer_epoch(epoch);
        self.header.set_base_sequence(base_sequence);
        self
    }

    /// Makes the records part of the producer's transaction.
    pub fn transactional(mut self) -> Self {
        self.header.set_transactional(true);
        self
    }

    /// Makes them control records.
    pub fn control(mut self) -> Self {
        self.header.set_control(true);
        self
    }

    /// Gives the batch its place in a log.
    pub fn at(mut self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        self.header.set_base_offset(base_offset);
        self.header.set_partition_leader_epoch(leader_epoch);
        self
    }

    /// Adds a record without headers.
    pub fn push(&mut self, timestamp: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(timestamp, key, value, &[]);
    }

    /// Adds a record.
    pub fn push_with_headers(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers<'_>,
    ) {
        let offset_delta = self.header.record_count();
        if offset_delta == 0 {
            self.header.set_base_timestamp(timestamp);
        }
        self.header.set_record_count(offset_delta + 1);
        self.header.set_last_offset_delta(offset_delta);
        self.header.set_max_timestamp(timestamp.max(self.header.max_timestamp()));

        let timestamp_delta = timestamp.ms_since(self.header.base_timestamp());
        encode_record(&mut self.bytes, timestamp_delta, offset_delta, key, value, headers.iter().copied());
    }

    /// How many records there are.
    pub fn record_count(&self) -> i32 {
        self.header.record_count()
    }

    /// Bytes of the batch so far, before compression.
    pub fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch.
    pub fn build(mut self) -> Bytes {
        let mut bytes = self.bytes;
        if self.compression != Compression::None {
            let mut compressed = Vec::with_capacity(bytes.len() / 2 + HEADER_LEN);
            compressed.resize(HEADER_LEN, 0);
            compression::compress(self.compression, &mut &bytes[HEADER_LEN..], &mut compressed)
                .expect("memory takes whatever is written");
            bytes = compressed;
        }
        let (head, payload) =
            bytes.split_first_chunk_mut::<HEADER_LEN>().expect("room was made for the header");
        self.header.set_compression(self.compression);
        self.header.seal(payload);
        *head = *self.header.as_bytes();
        Bytes::from(bytes)
    }
}

/// Writes one record as it stands in a batch.
pub(crate) fn encode_record<'a>(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
) {
    let mut len = 1
        + varint::size_of(timestamp_delta)
        + varint::size_of(i64::from(offset_delta))
        + size_of_bytes(key)
        + size_of_bytes(value)
        + varint::size_of(headers.len() as i64);
    for (name, value) in headers.clone() {
        len += size_of_bytes(Some(name)) + size_of_bytes(value);
    }
    out.reserve(varint::size_of(len as i64) + len);
    varint::write(out, len as i64);
    out.push(0);
    varint::write(out, timestamp_delta);
    varint::write(out, i64::from(offset_delta));
    write_bytes(out, key);
    write_bytes(out, value);
    varint::write(out, headers.len() as i64);
    for (name, value) in headers {
        write_bytes(out, Some(name));
        write_bytes(out, value);
    }
}

fn size_of_bytes(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint::size_of(bytes.len() as i64) + bytes.len(),
        None => 1,
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::write(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => varint::write(out, -1),
    }
}

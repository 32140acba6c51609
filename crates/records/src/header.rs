//! The 61 bytes at the head of a batch: read field by field, and patched where a broker may.

use oncelog_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::{BatchError, Compression};

/// Bytes of the header, the count of records being its last field.
pub const HEADER_LEN: usize = 61;

/// Bytes of the base offset and the length, which the length does not count.
const OVERHEAD: usize = 12;

const BASE_OFFSET: usize = 0;
const LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
pub(crate) const MAGIC: usize = 16;
const CRC: usize = 17;
/// The CRC covers everything from here on.
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORD_COUNT: usize = 57;

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// Who set the timestamps of a batch (KIP-32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer, record by record.
    #[default]
    CreateTime,
    /// The broker: all records carry the moment of the append.
    LogAppendTime,
}

/// The sequence number `by` records after `sequence`; after `i32::MAX` comes 0.
pub fn increment_sequence(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) & i64::from(i32::MAX)) as i32
}

/// A header of its own, apart from the records, so that it can be patched without touching them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader([u8; HEADER_LEN]);

macro_rules! field {
    ($(#[$doc:meta])* $get:ident, $set:ident, $at:ident, $type:ty, $wrap:expr, $unwrap:expr) => {
        $(#[$doc])*
        pub fn $get(&self) -> $type {
            $wrap(self.field($at))
        }

        pub(crate) fn $set(&mut self, value: $type) {
            self.put($at, &$unwrap(value).to_be_bytes());
        }
    };
}

impl BatchHeader {
    /// A header of a batch without records, producer or place.
    pub(crate) fn empty() -> BatchHeader {
        let mut header = BatchHeader([0; HEADER_LEN]);
        header.0[MAGIC] = 2;
        header.set_payload_len(0);
        header.set_partition_leader_epoch(LeaderEpoch::NONE);
        header.set_last_offset_delta(-1);
        header.set_base_timestamp(Timestamp::NONE);
        header.set_max_timestamp(Timestamp::NONE);
        header.set_producer_id(ProducerId::NONE);
        header.set_producer_epoch(ProducerEpoch::NONE);
        header.set_base_sequence(-1);
        header
    }

    /// Takes the first bytes of a batch; checks the magic and that the length has room for a header, and no more.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<BatchHeader, BatchError> {
        let header = BatchHeader(*bytes);
        if header.magic() != 2 {
            return Err(BatchError::UnsupportedMagic(header.magic()));
        }
        let length = i32::from_be_bytes(header.field(LENGTH));
        if length < (HEADER_LEN - OVERHEAD) as i32 {
            return Err(BatchError::LengthTooSmall(length));
        }
        Ok(header)
    }

    /// The header as it stands in a log.
    pub fn as_bytes(&self) -> &[u8; HEADER_LEN] {
        &self.0
    }

    /// The bytes of the whole batch, header included, as the length field has it.
    pub fn size_in_bytes(&self) -> usize {
        // Every constructor has checked that the length is positive.
        i32::from_be_bytes(self.field(LENGTH)) as usize + OVERHEAD
    }

    fn magic(&self) -> i8 {
        self.0[MAGIC] as i8
    }

    field!(
        /// The offset of the first record the batch had when it was written.
        base_offset, put_base_offset, BASE_OFFSET, Offset,
        |b| Offset(i64::from_be_bytes(b)), |v: Offset| v.0
    );
    field!(
        /// The leader epoch the batch was appended in.
        partition_leader_epoch, put_partition_leader_epoch, LEADER_EPOCH, LeaderEpoch,
        |b| LeaderEpoch(i32::from_be_bytes(b)), |v: LeaderEpoch| v.0
    );
    field!(
        /// CRC-32C of everything from the attributes to the last record.
        crc, set_crc, CRC, u32, u32::from_be_bytes, |v: u32| v
    );
    field!(
        /// Codec, timestamp type and flags, as they stand.
        attributes, set_attributes, ATTRIBUTES, i16, i16::from_be_bytes, |v: i16| v
    );
    field!(
        /// What the last record's offset is above the base offset; compaction keeps it.
        last_offset_delta, set_last_offset_delta, LAST_OFFSET_DELTA, i32, i32::from_be_bytes, |v: i32| v
    );
    field!(
        /// What the timestamps of the records are relative to (and the delete horizon, where the batch has one).
        base_timestamp, set_base_timestamp, BASE_TIMESTAMP, Timestamp,
        |b| Timestamp(i64::from_be_bytes(b)), |v: Timestamp| v.0
    );
    field!(
        /// The largest timestamp of the records, or the time of the append.
        max_timestamp, set_max_timestamp, MAX_TIMESTAMP, Timestamp,
        |b| Timestamp(i64::from_be_bytes(b)), |v: Timestamp| v.0
    );
    field!(
        /// The idempotent producer, or none.
        producer_id, set_producer_id, PRODUCER_ID, ProducerId,
        |b| ProducerId(i64::from_be_bytes(b)), |v: ProducerId| v.0
    );
    field!(
        /// The producer's epoch, or none.
        producer_epoch, set_producer_epoch, PRODUCER_EPOCH, ProducerEpoch,
        |b| ProducerEpoch(i16::from_be_bytes(b)), |v: ProducerEpoch| v.0
    );
    field!(
        /// The sequence number of the first record, or -1.
        base_sequence, set_base_sequence, BASE_SEQUENCE, i32, i32::from_be_bytes, |v: i32| v
    );
    field!(
        /// How many records there are; compaction may leave none.
        record_count, set_record_count, RECORD_COUNT, i32, i32::from_be_bytes, |v: i32| v
    );

    /// The offset of the last record the batch had when it was written.
    pub fn last_offset(&self) -> Offset {
        self.base_offset().plus(i64::from(self.last_offset_delta()))
    }

    /// The offset after the last.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// The sequence number of the last record, or -1 where the batch has none; wraps from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            sequence if sequence < 0 => -1,
            sequence => increment_sequence(sequence, self.last_offset_delta()),
        }
    }

    /// How the records are compressed; an error where the codec is one nobody has assigned.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let codec = (self.attributes() & CODEC_MASK) as u8;
        Compression::from_id(codec).ok_or(BatchError::UnknownCodec(codec))
    }

    /// Who set the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.has(LOG_APPEND_TIME) { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
    }

    /// Whether the records belong to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.has(TRANSACTIONAL)
    }

    /// Whether the batch holds a control record, such as a transaction marker.
    pub fn is_control(&self) -> bool {
        self.has(CONTROL)
    }

    /// Whether the base timestamp is the moment from which tombstones and markers may go (KIP-534).
    pub fn has_delete_horizon(&self) -> bool {
        self.has(DELETE_HORIZON)
    }

    /// The moment from which tombstones and markers may go, if the batch has one.
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        self.has_delete_horizon().then(|| self.base_timestamp())
    }

    /// Gives the batch its place in a log. The CRC does not cover it.
    pub fn set_base_offset(&mut self, offset: Offset) {
        self.put_base_offset(offset);
    }

    /// Notes the leader epoch of the append. The CRC does not cover it.
    pub fn set_partition_leader_epoch(&mut self, epoch: LeaderEpoch) {
        self.put_partition_leader_epoch(epoch);
    }

    /// Sets the largest timestamp and who set it; the CRC is computed anew over `payload`, the bytes after the header.
    pub fn stamp(&mut self, timestamp_type: TimestampType, max_timestamp: Timestamp, payload: &[u8]) {
        self.set_flag(LOG_APPEND_TIME, timestamp_type == TimestampType::LogAppendTime);
        self.set_max_timestamp(max_timestamp);
        self.seal(payload);
    }

    /// Computes length and CRC for `payload`, the bytes that follow.
    pub(crate) fn seal(&mut self, payload: &[u8]) {
        self.set_payload_len(payload.len());
        let crc = self.compute_crc(payload);
        self.set_crc(crc);
    }

    /// The CRC the batch should carry if `payload` follows the header.
    pub(crate) fn compute_crc(&self, payload: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.0[ATTRIBUTES..]), payload)
    }

    pub(crate) fn set_compression(&mut self, compression: Compression) {
        self.set_attributes(self.attributes() & !CODEC_MASK | i16::from(compression.id()));
    }

    pub(crate) fn set_transactional(&mut self, on: bool) {
        self.set_flag(TRANSACTIONAL, on);
    }

    pub(crate) fn set_control(&mut self, on: bool) {
        self.set_flag(CONTROL, on);
    }

    /// From `horizon` on tombstones and markers may go; the base timestamp says so from now on.
    pub(crate) fn set_delete_horizon(&mut self, horizon: Timestamp) {
        self.set_flag(DELETE_HORIZON, true);
        self.set_base_timestamp(horizon);
    }

    pub(crate) fn clear_delete_horizon(&mut self) {
        self.set_flag(DELETE_HORIZON, false);
    }

    fn set_payload_len(&mut self, payload_len: usize) {
        let length = i32::try_from(HEADER_LEN - OVERHEAD + payload_len).expect("a batch stays under 2 GiB");
        self.put(LENGTH, &length.to_be_bytes());
    }

    fn has(&self, flag: i16) -> bool {
        self.attributes() & flag != 0
    }

    fn set_flag(&mut self, flag: i16, on: bool) {
        let others = self.attributes() & !flag;
        self.set_attributes(if on { others | flag } else { others });
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("N bytes")
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl std::fmt::Debug for BatchHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchHeader")
            .field("base_offset", &self.base_offset())
            .field("last_offset", &self.last_offset())
            .field("size_in_bytes", &self.size_in_bytes())
            .field("attributes", &self.attributes())
            .field("producer_id", &self.producer_id())
            .field("producer_epoch", &self.producer_epoch())
            .field("base_sequence", &self.base_sequence())
            .field("record_count", &self.record_count())
            .finish_non_exhaustive()
    }
}

//! What a broker demands of a batch before it appends it, as far as the bytes and the topic's rules tell.
//!
//! The order and the codes are those of Kafka's `ProduceRequest.validateRecords`, `UnifiedLog.append` and
//! `LogValidator`. What depends on the state of the partition (epochs, sequences, transactions) is not known here.

use oncelog_wire::{ErrorCode, LeaderEpoch, Offset, Timestamp};

use crate::record::{self, Skimmed};
use crate::{BatchError, BatchHeader, BatchView, Compression, TimestampType};

/// A batch may be all wrong; the client is told of this many records at most.
const MAX_RECORD_ERRORS: usize = 1_000;

/// What the topic, and the version of the request, ask of a batch.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `max.message.bytes`: the most a batch may measure.
    pub max_message_bytes: usize,
    /// `segment.bytes`: a batch has to fit into a segment.
    pub segment_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a record's timestamp may lie in the past.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far it may lie in the future.
    pub after_max_ms: i64,
    /// Whether the topic is compacted, so that every record needs a key.
    pub is_compacted: bool,
    /// Whether the client may send zstd: from version 7 of Produce on (KIP-110).
    pub is_zstd_allowed: bool,
}

/// A batch that may be appended.
#[derive(Clone, Copy, Debug)]
pub struct Validated<'a> {
    /// The batch as it was sent.
    pub batch: BatchView<'a>,
    /// Who sets the timestamps in this topic.
    pub timestamp_type: TimestampType,
    /// The largest timestamp, or that of the append.
    pub max_timestamp: Timestamp,
    /// Which record has it first, counted from 0.
    pub max_timestamp_offset_delta: i32,
}

impl Validated<'_> {
    /// The header to write in front of the batch's payload: placed in the log, and with the timestamp it should have.
    pub fn header(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> BatchHeader {
        let mut header = self.batch.header();
        header.set_base_offset(base_offset);
        header.set_partition_leader_epoch(leader_epoch);
        if header.timestamp_type() != self.timestamp_type || header.max_timestamp() != self.max_timestamp {
            header.stamp(self.timestamp_type, self.max_timestamp, self.batch.payload());
        }
        header
    }
}

/// A batch that is not appended: what the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error of the partition.
    pub code: ErrorCode,
    /// Why, in words.
    pub message: String,
    /// Which records are to blame, where single records are.
    pub record_errors: Vec<RecordError>,
}

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's place in the batch, from 0.
    pub index: i32,
    /// Why it is refused.
    pub message: &'static str,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), record_errors: Vec::new() }
    }

    fn invalid(message: &'static str) -> Refusal {
        Refusal::new(ErrorCode::InvalidRecord, message)
    }
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Refusal {
        let code = match error {
            BatchError::Truncated { .. } | BatchError::LengthTooSmall(_) => ErrorCode::CorruptMessage,
            BatchError::UnknownCodec(_) => ErrorCode::UnsupportedCompressionType,
            BatchError::UnsupportedMagic(_) | BatchError::Malformed(_) | BatchError::Undecodable { .. } => {
                ErrorCode::InvalidRecord
            }
        };
        Refusal::new(code, error.to_string())
    }
}

/// Checks what a client sent for one partition: exactly one batch, sound to the last byte, and within the rules.
pub fn validate<'a>(entry: &'a [u8], rules: &Rules, now: Timestamp) -> Result<Validated<'a>, Refusal> {
    if entry.is_empty() {
        return Err(Refusal::invalid("there is no batch"));
    }
    let batch = BatchView::parse(entry)?;
    if batch.size_in_bytes() != entry.len() {
        return Err(Refusal::invalid("there is more than one batch for a partition"));
    }
    check_header(&batch, rules)?;
    check_records(&batch, rules, now)
}

fn check_header(batch: &BatchView<'_>, rules: &Rules) -> Result<(), Refusal> {
    let compression = batch.compression()?;
    if compression == Compression::Zstd && !rules.is_zstd_allowed {
        let message = "zstd needs a newer version of the request";
        return Err(Refusal::new(ErrorCode::UnsupportedCompressionType, message));
    }
    if batch.base_offset() != Offset::ZERO {
        return Err(Refusal::invalid("the base offset is not 0"));
    }
    let size = batch.size_in_bytes();
    if size > rules.max_message_bytes {
        let message =
            format!("the batch of {size} bytes exceeds max.message.bytes = {}", rules.max_message_bytes);
        return Err(Refusal::new(ErrorCode::MessageTooLarge, message));
    }
    if size > rules.segment_bytes {
        let message = format!("the batch of {size} bytes exceeds segment.bytes = {}", rules.segment_bytes);
        return Err(Refusal::new(ErrorCode::RecordListTooLarge, message));
    }
    if !batch.is_crc_valid() {
        return Err(Refusal::new(ErrorCode::CorruptMessage, "the CRC does not match"));
    }
    if batch.is_control() {
        return Err(Refusal::invalid("clients may not write control batches"));
    }
    if batch.has_delete_horizon() {
        return Err(Refusal::invalid("clients may not set a delete horizon"));
    }
    if batch.record_count() <= 0 {
        return Err(Refusal::invalid("the batch has no records"));
    }
    if i64::from(batch.last_offset_delta()) + 1 != i64::from(batch.record_count()) {
        return Err(Refusal::invalid("the count of records and the last offset delta disagree"));
    }
    let has_producer = batch.producer_id().0 >= 0;
    if has_producer && (batch.base_sequence() < 0 || batch.producer_epoch().0 < 0) {
        return Err(Refusal::invalid("a batch with a producer id needs an epoch and a sequence number"));
    }
    if batch.is_transactional() && !has_producer {
        return Err(Refusal::invalid("a transactional batch needs a producer id"));
    }
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        let message = "clients may not set the timestamp type to LogAppendTime";
        return Err(Refusal::new(ErrorCode::InvalidTimestamp, message));
    }
    Ok(())
}

fn check_records<'a>(batch: &BatchView<'a>, rules: &Rules, now: Timestamp) -> Result<Validated<'a>, Refusal> {
    let mut max = (Timestamp(i64::MIN), 0);
    let mut errors: Vec<(ErrorCode, RecordError)> = Vec::new();
    record::skim(batch, |index, skimmed| {
        match check_record(batch, rules, now, index, &skimmed) {
            Ok(timestamp) if timestamp > max.0 => max = (timestamp, index),
            Ok(_) => {}
            Err((code, message)) => errors.push((code, RecordError { index, message })),
        }
        errors.len() < MAX_RECORD_ERRORS
    })?;
    if !errors.is_empty() {
        return Err(refuse_records(errors));
    }
    if rules.timestamp_type == TimestampType::LogAppendTime {
        max = (now, 0);
    }
    Ok(Validated {
        batch: *batch,
        timestamp_type: rules.timestamp_type,
        max_timestamp: max.0,
        max_timestamp_offset_delta: max.1,
    })
}

fn check_record(
    batch: &BatchView<'_>,
    rules: &Rules,
    now: Timestamp,
    index: i32,
    skimmed: &Skimmed,
) -> Result<Timestamp, (ErrorCode, &'static str)> {
    if skimmed.offset_delta != index {
        return Err((ErrorCode::InvalidRecord, "the offset deltas do not count up from 0"));
    }
    if rules.is_compacted && !skimmed.has_key {
        return Err((ErrorCode::InvalidRecord, "a compacted topic accepts no record without a key"));
    }
    let Some(timestamp) = batch.base_timestamp().0.checked_add(skimmed.timestamp_delta).map(Timestamp) else {
        return Err((ErrorCode::InvalidTimestamp, "the timestamp is out of range"));
    };
    let is_exempt = timestamp == Timestamp::NONE || rules.timestamp_type == TimestampType::LogAppendTime;
    if !is_exempt {
        let age = now.ms_since(timestamp);
        if timestamp.0 < 0 || age > rules.before_max_ms || age < rules.after_max_ms.saturating_neg() {
            return Err((ErrorCode::InvalidTimestamp, "the timestamp is out of range"));
        }
    }
    Ok(timestamp)
}

fn refuse_records(errors: Vec<(ErrorCode, RecordError)>) -> Refusal {
    let is_about_time = errors.iter().any(|(code, _)| *code == ErrorCode::InvalidTimestamp);
    Refusal {
        code: if is_about_time { ErrorCode::InvalidTimestamp } else { ErrorCode::InvalidRecord },
        message: format!("{} records are refused, the first because {}", errors.len(), errors[0].1.message),
        record_errors: errors.into_iter().map(|(_, error)| error).collect(),
    }
}

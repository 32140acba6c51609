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
            BatchError::LengthTooSmall(_) => ErrorCode::CorruptMessage,
            // The old formats are known and refused; anything else is noise.
            BatchError::UnsupportedMagic(0 | 1) => ErrorCode::InvalidRecord,
            BatchError::UnsupportedMagic(_) => ErrorCode::CorruptMessage,
            // What Kafka answers, which knows no better word for it.
            BatchError::UnknownCodec(_) => ErrorCode::UnknownServerError,
            BatchError::Truncated { .. } | BatchError::Malformed(_) | BatchError::Undecodable { .. } => {
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
    Ok(())
}

fn check_records<'a>(batch: &BatchView<'a>, rules: &Rules, now: Timestamp) -> Result<Validated<'a>, Refusal> {
    let mut max = (Timestamp::NONE, 0);
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
    if timestamp == Timestamp::NONE || rules.timestamp_type == TimestampType::LogAppendTime {
        if batch.timestamp_type() == TimestampType::LogAppendTime {
            return Err((
                ErrorCode::InvalidTimestamp,
                "the timestamp type LogAppendTime is not the client's to set",
            ));
        }
    } else {
        let age = now.ms_since(timestamp);
        if age > rules.before_max_ms || age < rules.after_max_ms.saturating_neg() {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{BatchBuilder, EndTransactionMarker, MarkerKind};
    use oncelog_wire::{ProducerEpoch, ProducerId};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn rules() -> Rules {
        Rules {
            max_message_bytes: 1_000,
            segment_bytes: 2_000,
            timestamp_type: TimestampType::CreateTime,
            before_max_ms: 10_000,
            after_max_ms: 1_000,
            is_compacted: false,
            is_zstd_allowed: true,
        }
    }

    fn batch_at(timestamps: &[i64]) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for &ms in timestamps {
            builder.push(NOW.plus_ms(ms), None, Some(b"value"));
        }
        builder.build().to_vec()
    }

    /// A sound batch of three with a few bytes changed, and the CRC made right again.
    fn patched(patches: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = batch_at(&[0, 0, 0]);
        for (at, patch) in patches {
            bytes[*at..at + patch.len()].copy_from_slice(patch);
        }
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn code_of(bytes: &[u8], rules: &Rules) -> ErrorCode {
        validate(bytes, rules, NOW).map_or_else(|refusal| refusal.code, |_| ErrorCode::None)
    }

    #[test]
    fn each_fault_has_the_code_kafka_gives_it() {
        let sound = batch_at(&[0, 0, 0]);
        let two = [&sound[..], &sound[..]].concat();
        let cut = &sound[..sound.len() - 1];
        let mut bad_crc = sound.clone();
        bad_crc[20] ^= 1;
        let marker = EndTransactionMarker { kind: MarkerKind::Commit, coordinator_epoch: 0 };
        let marker = marker.build(ProducerId(1), ProducerEpoch(0), NOW);
        let sequence_less = BatchBuilder::new().producer(ProducerId(1), ProducerEpoch(0), -1);
        let producer_less = BatchBuilder::new().transactional();
        let [sequence_less, producer_less] = [sequence_less, producer_less].map(|mut builder| {
            builder.push(NOW, None, None);
            builder.build()
        });
        for (what, bytes, code) in [
            ("sound", &sound[..], ErrorCode::None),
            ("nothing", &[][..], ErrorCode::InvalidRecord),
            ("cut", cut, ErrorCode::InvalidRecord),
            ("two batches", &two, ErrorCode::InvalidRecord),
            ("CRC", &bad_crc, ErrorCode::CorruptMessage),
            ("control", &marker, ErrorCode::InvalidRecord),
            ("no sequence", &sequence_less, ErrorCode::InvalidRecord),
            ("no producer", &producer_less, ErrorCode::InvalidRecord),
            ("base offset", &patched(&[(7, &[1])]), ErrorCode::InvalidRecord),
            ("length", &patched(&[(8, &[0, 0, 0, 48])]), ErrorCode::CorruptMessage),
            ("magic 1", &patched(&[(16, &[1])]), ErrorCode::InvalidRecord),
            ("magic 3", &patched(&[(16, &[3])]), ErrorCode::CorruptMessage),
            ("codec 7", &patched(&[(22, &[7])]), ErrorCode::UnknownServerError),
            ("not gzip", &patched(&[(22, &[1])]), ErrorCode::InvalidRecord),
            ("last delta", &patched(&[(26, &[3])]), ErrorCode::InvalidRecord),
            ("one too many", &patched(&[(26, &[3]), (60, &[4])]), ErrorCode::InvalidRecord),
            ("one too few", &patched(&[(26, &[1]), (60, &[2])]), ErrorCode::InvalidRecord),
            ("none", &patched(&[(23, &[0xff; 4]), (57, &[0; 4])]), ErrorCode::InvalidRecord),
            ("fewer than none", &patched(&[(57, &[0xff; 4])]), ErrorCode::InvalidRecord),
            ("base timestamp", &patched(&[(27, &[0x7f; 8])]), ErrorCode::InvalidTimestamp),
            ("offset delta", &patched(&[(64, &[2])]), ErrorCode::InvalidRecord),
            ("key length", &patched(&[(65, &[3])]), ErrorCode::InvalidRecord),
        ] {
            assert_eq!(code_of(bytes, &rules()), code, "{what}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_whole_batch() {
        let bytes = batch_at(&[0]);
        let exact = Rules { max_message_bytes: bytes.len(), segment_bytes: bytes.len(), ..rules() };
        assert_eq!(code_of(&bytes, &exact), ErrorCode::None);
        let small_message = Rules { max_message_bytes: bytes.len() - 1, ..exact.clone() };
        assert_eq!(code_of(&bytes, &small_message), ErrorCode::MessageTooLarge);
        let small_segment = Rules { segment_bytes: bytes.len() - 1, ..exact };
        assert_eq!(code_of(&bytes, &small_segment), ErrorCode::RecordListTooLarge);
    }

    #[test]
    fn zstd_needs_version_7_of_produce() {
        let mut builder = BatchBuilder::new().compression(Compression::Zstd);
        builder.push(NOW, None, None);
        let bytes = builder.build();
        assert_eq!(code_of(&bytes, &rules()), ErrorCode::None);
        let old = Rules { is_zstd_allowed: false, ..rules() };
        assert_eq!(code_of(&bytes, &old), ErrorCode::UnsupportedCompressionType);
    }

    #[test]
    fn timestamps_outside_the_window_are_named_record_by_record() {
        let refusal = validate(&batch_at(&[-10_001, -10_000, 0, 1_000, 1_001]), &rules(), NOW).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidTimestamp);
        assert_eq!(refusal.record_errors.iter().map(|error| error.index).collect::<Vec<_>>(), [0, 4]);
        assert_eq!(code_of(&batch_at(&[-1 - NOW.0]), &rules()), ErrorCode::None, "no timestamp at all");
    }

    #[test]
    fn keyless_records_are_refused_on_a_compacted_topic() {
        let compacted = Rules { is_compacted: true, ..rules() };
        let mut builder = BatchBuilder::new();
        builder.push(NOW, Some(b""), None);
        builder.push(NOW, None, None);
        let bytes = builder.build();
        let refusal = validate(&bytes, &compacted, NOW).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidRecord);
        assert_eq!(refusal.record_errors.len(), 1);
        assert_eq!(refusal.record_errors[0].index, 1);
        assert_eq!(code_of(&bytes, &rules()), ErrorCode::None);
    }

    #[test]
    fn record_errors_are_bounded() {
        let generous = Rules { max_message_bytes: usize::MAX, segment_bytes: usize::MAX, ..rules() };
        let refusal = validate(&batch_at(&[5_000; 5_000]), &generous, NOW).unwrap_err();
        assert_eq!(refusal.record_errors.len(), MAX_RECORD_ERRORS);
    }

    #[test]
    fn log_append_time_is_stamped_with_a_fresh_crc() {
        let bytes = batch_at(&[-50_000, 7]);
        let append_time = Rules { timestamp_type: TimestampType::LogAppendTime, ..rules() };
        let validated = validate(&bytes, &append_time, NOW).unwrap();
        let header = validated.header(Offset(30), LeaderEpoch(2));
        let stamped = [header.as_bytes(), validated.batch.payload()].concat();
        let stamped = BatchView::parse(&stamped).unwrap();
        assert!(stamped.is_crc_valid());
        assert_eq!(stamped.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!((stamped.base_offset(), stamped.partition_leader_epoch()), (Offset(30), LeaderEpoch(2)));
        let mut records = stamped.records().unwrap();
        assert_eq!(records.next_record().unwrap().unwrap().timestamp, NOW);

        assert_eq!(code_of(&patched(&[(22, &[8])]), &append_time), ErrorCode::InvalidTimestamp);
    }

    #[test]
    fn a_wrong_maximum_timestamp_is_put_right() {
        let bytes = patched(&[(35, &[0x7f; 8])]);
        let validated = validate(&bytes, &rules(), NOW).unwrap();
        let header = validated.header(Offset(0), LeaderEpoch(0));
        assert_eq!(header.max_timestamp(), NOW);
        assert!(
            BatchView::parse(&[header.as_bytes(), validated.batch.payload()].concat())
                .unwrap()
                .is_crc_valid()
        );

        let sound = batch_at(&[0, 5]);
        let validated = validate(&sound, &rules(), NOW).unwrap();
        let header = validated.header(Offset(9), LeaderEpoch(1));
        assert_eq!(header.as_bytes()[16..], sound[16..61], "and a right one is left alone");
    }
}

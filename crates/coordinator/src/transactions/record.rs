//! The records of `__transaction_state`, byte for byte those of Kafka with `transaction.version` 2.

use bytes::Bytes;
use oncelog_wire::internal::transaction_log::{Key, PartitionsSchema, Value};
use oncelog_wire::{DecodeError, Message, Reader, Reason, Record as _, Str, TopicPartition};

use super::metadata::{Producer, TransactionMetadata, TransactionState, TransactionVersion};

/// The version of a value: the first with tagged fields.
const VALUE_VERSION: i16 = 1;

/// What the log says of one transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The id.
    pub transactional_id: Str,
    /// All that is known of it from now on; none where it has expired.
    pub metadata: Option<TransactionMetadata>,
}

impl Record {
    /// Whether it is part of a transaction's end: decides it, or says that it is done.
    pub fn ends_transaction(&self) -> bool {
        use TransactionState::{CompleteAbort, CompleteCommit, PrepareAbort, PrepareCommit};
        let ends = [PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort];
        self.metadata.as_ref().is_some_and(|metadata| ends.contains(&metadata.state))
    }

    /// The key, as it is in the log.
    pub fn encode_key(&self) -> Bytes {
        Key { transactional_id: self.transactional_id.clone() }.to_bytes(Key::TYPE, 0)
    }

    /// The value, as it is in the log; none is a tombstone.
    pub fn encode_value(&self) -> Option<Bytes> {
        let metadata = self.metadata.as_ref()?;
        let value = Value {
            producer_id: metadata.producer.id,
            previous_producer_id: metadata.previous_producer_id,
            next_producer_id: metadata.next_producer_id,
            producer_epoch: metadata.producer.epoch,
            transaction_timeout_ms: metadata.timeout_ms,
            transaction_status: metadata.state.id(),
            transaction_partitions: (metadata.state != TransactionState::Empty)
                .then(|| by_topic(&metadata.partitions)),
            transaction_last_update_timestamp_ms: metadata.last_update,
            transaction_start_timestamp_ms: metadata.start,
            client_transaction_version: metadata.client_transaction_version.level(),
            ..Value::default()
        };
        Some(value.to_bytes(VALUE_VERSION, VALUE_VERSION))
    }

    /// Reads a record from the log; `None` if it is of a kind that is of no concern here.
    ///
    /// # Errors
    /// Where the bytes are no such record.
    pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Record>, DecodeError> {
        let mut reader = Reader::new(key.clone());
        let kind = reader.int16();
        reader.check()?;
        if kind != Key::TYPE {
            return Ok(None);
        }
        let transactional_id = Key::decode(&mut reader, 0)?.transactional_id.detached();
        let metadata = value.map(decode_value).transpose()?;
        Ok(Some(Record { transactional_id, metadata }))
    }
}

fn decode_value(bytes: &Bytes) -> Result<TransactionMetadata, DecodeError> {
    let value = Value::from_versioned_bytes(bytes.clone())?;
    let state = TransactionState::from_id(value.transaction_status).ok_or_else(|| DecodeError {
        reason: Reason::Mismatch {
            expected: TransactionState::CompleteAbort.id().into(),
            found: value.transaction_status.into(),
        },
        position: 0,
        within: "the transaction status",
    })?;
    let mut partitions = Vec::new();
    for PartitionsSchema { topic, partition_ids } in value.transaction_partitions.unwrap_or_default() {
        let topic = topic.detached();
        partitions
            .extend(partition_ids.into_iter().map(|partition| TopicPartition::new(topic.clone(), partition)));
    }
    partitions.sort_unstable();
    partitions.dedup();
    Ok(TransactionMetadata {
        producer: Producer { id: value.producer_id, epoch: value.producer_epoch },
        previous_producer_id: value.previous_producer_id,
        next_producer_id: value.next_producer_id,
        timeout_ms: value.transaction_timeout_ms,
        state,
        partitions,
        last_update: value.transaction_last_update_timestamp_ms,
        start: value.transaction_start_timestamp_ms,
        client_transaction_version: TransactionVersion::from_level(value.client_transaction_version),
    })
}

/// Sorted partitions as the log groups them.
fn by_topic(partitions: &[TopicPartition]) -> Vec<PartitionsSchema> {
    let topics = partitions.chunk_by(|a, b| a.topic == b.topic);
    topics
        .map(|of_topic| PartitionsSchema {
            topic: of_topic[0].topic.clone(),
            partition_ids: of_topic.iter().map(|partition| partition.partition).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use oncelog_wire::{ProducerEpoch, ProducerId, Timestamp};

    use super::*;

    fn metadata() -> TransactionMetadata {
        TransactionMetadata {
            producer: Producer { id: ProducerId(7), epoch: ProducerEpoch(3) },
            previous_producer_id: ProducerId(7),
            next_producer_id: ProducerId::NONE,
            timeout_ms: 60_000,
            state: TransactionState::Ongoing,
            partitions: vec![
                TopicPartition::new("a", 0),
                TopicPartition::new("a", 2),
                TopicPartition::new("b", 1),
            ],
            last_update: Timestamp(2_000),
            start: Timestamp(1_000),
            client_transaction_version: TransactionVersion::Two,
        }
    }

    fn record(metadata: Option<TransactionMetadata>) -> Record {
        Record { transactional_id: Str::from("pay"), metadata }
    }

    #[test]
    fn records_have_the_bytes_that_kafka_writes() {
        let record = record(Some(metadata()));
        assert_eq!(&record.encode_key()[..], b"\0\0\0\x03pay");
        let expected = [
            &[0, 1][..],                                    // version
            &[0, 0, 0, 0, 0, 0, 0, 7],                      // producer id
            &[0, 3],                                        // epoch
            &[0, 0, 0xea, 0x60],                            // timeout
            &[1],                                           // Ongoing
            &[3, 2, b'a', 3, 0, 0, 0, 0, 0, 0, 0, 2, 0],    // a-0, a-2
            &[2, b'b', 2, 0, 0, 0, 1, 0],                   // b-1
            &[0, 0, 0, 0, 0, 0, 0x07, 0xd0],                // last update
            &[0, 0, 0, 0, 0, 0, 0x03, 0xe8],                // start
            &[2, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7, 2, 2, 0, 2], // tags: previous producer id, client version
        ]
        .concat();
        assert_eq!(record.encode_value().unwrap(), expected);
    }

    #[test]
    fn records_read_back() {
        let empty =
            TransactionMetadata { state: TransactionState::Empty, partitions: Vec::new(), ..metadata() };
        let moving = TransactionMetadata {
            state: TransactionState::PrepareCommit,
            next_producer_id: ProducerId(8),
            ..metadata()
        };
        for record in [record(Some(metadata())), record(Some(empty)), record(Some(moving)), record(None)] {
            let (key, value) = (record.encode_key(), record.encode_value());
            assert_eq!(Record::decode(&key, value.as_ref()).unwrap(), Some(record));
        }
    }

    #[test]
    fn values_of_version_0_are_read() {
        let bytes = [
            &[0, 0][..],
            &[0, 0, 0, 0, 0, 0, 0, 7],
            &[0, 3],
            &[0, 0, 0xea, 0x60],
            &[4],
            &[0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0x07, 0xd0],
            &[0, 0, 0, 0, 0, 0, 0x03, 0xe8],
        ]
        .concat();
        let key = record(None).encode_key();
        let read = Record::decode(&key, Some(&Bytes::from(bytes))).unwrap().unwrap().metadata.unwrap();
        assert_eq!(read.state, TransactionState::CompleteCommit);
        assert_eq!(read.previous_producer_id, ProducerId::NONE);
        assert_eq!(read.client_transaction_version, TransactionVersion::Zero);
    }

    #[test]
    fn what_is_no_record_is_told_from_what_is_of_another_kind() {
        assert_eq!(Record::decode(&Bytes::from_static(b"\0\x05xyz"), None).unwrap(), None);
        assert!(Record::decode(&Bytes::from_static(b"\0"), None).is_err());
        assert!(Record::decode(&Bytes::from_static(b"\0\0\0\x05pay"), None).is_err());
        let key = record(None).encode_key();
        let value = record(Some(metadata())).encode_value().unwrap();
        for end in 0..value.len() {
            assert!(Record::decode(&key, Some(&value.slice(..end))).is_err(), "cut at {end}");
        }
        let mut unknown = value.to_vec();
        unknown[16] = 6;
        assert!(Record::decode(&key, Some(&unknown.into())).is_err(), "Dead is never in the log");
    }
}

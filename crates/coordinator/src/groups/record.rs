//! The records of `__consumer_offsets` that this machine reads and writes, in Kafka's format.

use bytes::Bytes;
use oncelog_wire::internal::{group_metadata, offset_commit};
use oncelog_wire::{DecodeError, Message, Reader, Record as _, Str, Timestamp};

/// The version of a group's value.
const GROUP_METADATA_VERSION: i16 = 3;
/// The version of a committed offset's value ...
const OFFSET_COMMIT_VERSION: i16 = 4;
/// ... and that of one with an expiry of its own, which only old clients ask for.
const OFFSET_COMMIT_WITH_EXPIRY_VERSION: i16 = 1;

/// One record. A value of `None` is a tombstone.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// What a group has committed for a partition.
    OffsetCommit(offset_commit::Key, Option<offset_commit::Value>),
    /// A classic group: its generation, and its members with their assignments.
    GroupMetadata(group_metadata::Key, Option<group_metadata::Value>),
}

impl Record {
    /// The key, as it is in the log.
    pub fn encode_key(&self) -> Bytes {
        match self {
            Record::OffsetCommit(key, _) => key.to_bytes(offset_commit::Key::TYPE, 0),
            Record::GroupMetadata(key, _) => key.to_bytes(group_metadata::Key::TYPE, 0),
        }
    }

    /// The value, as it is in the log.
    pub fn encode_value(&self) -> Option<Bytes> {
        match self {
            Record::OffsetCommit(_, value) => value.as_ref().map(|value| {
                let version = match value.expire_timestamp {
                    Timestamp::NONE => OFFSET_COMMIT_VERSION,
                    _ => OFFSET_COMMIT_WITH_EXPIRY_VERSION,
                };
                value.to_bytes(version, version)
            }),
            Record::GroupMetadata(_, value) => {
                value.as_ref().map(|value| value.to_bytes(GROUP_METADATA_VERSION, GROUP_METADATA_VERSION))
            }
        }
    }

    /// Reads a record from the log; `None` if it is of a kind that is of no concern here.
    pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Record>, DecodeError> {
        let mut reader = Reader::new(key.clone());
        let kind = reader.int16();
        reader.check()?;
        let record = match kind {
            offset_commit::Key::TYPE => Record::OffsetCommit(
                offset_commit::Key::decode(&mut reader, 0)?,
                value.map(|value| offset_commit::Value::from_versioned_bytes(value.clone())).transpose()?,
            ),
            group_metadata::Key::TYPE => Record::GroupMetadata(
                group_metadata::Key::decode(&mut reader, 0)?,
                value.map(|value| group_metadata::Value::from_versioned_bytes(value.clone())).transpose()?,
            ),
            _ => return Ok(None),
        };
        Ok(Some(record))
    }
}

/// A committed offset, or the tombstone for one.
pub(super) fn offset_commit(
    group_id: &Str,
    topic: &Str,
    partition: i32,
    value: Option<offset_commit::Value>,
) -> Record {
    let key = offset_commit::Key { group: group_id.clone(), topic: topic.clone(), partition };
    Record::OffsetCommit(key, value)
}

/// A generation of a group, or the tombstone for it.
pub(super) fn group_metadata(group_id: &Str, value: Option<group_metadata::Value>) -> Record {
    Record::GroupMetadata(group_metadata::Key { group: group_id.clone() }, value)
}

/// A group that has not had a generation yet.
pub(super) fn new_group(group_id: &Str, now: Timestamp) -> Record {
    let value = group_metadata::Value {
        protocol: None,
        leader: None,
        current_state_timestamp: now,
        ..Default::default()
    };
    group_metadata(group_id, Some(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use oncelog_wire::{LeaderEpoch, Offset, Uuid};

    use super::*;

    fn round_trip(record: &Record) -> Record {
        Record::decode(&record.encode_key(), record.encode_value().as_ref()).unwrap().unwrap()
    }

    #[test]
    fn records_read_back_from_their_bytes() {
        let offset = offset_commit::Value {
            offset: Offset(42),
            leader_epoch: LeaderEpoch(3),
            metadata: "m".into(),
            commit_timestamp: Timestamp(1000),
            topic_id: Uuid([7; 16]),
            ..Default::default()
        };
        let expiring = offset_commit::Value {
            offset: Offset(42),
            commit_timestamp: Timestamp(1000),
            expire_timestamp: Timestamp(2000),
            ..Default::default()
        };
        for record in [
            offset_commit(&"g".into(), &"t".into(), 1, Some(offset)),
            offset_commit(&"g".into(), &"t".into(), 1, Some(expiring)),
            offset_commit(&"g".into(), &"t".into(), 1, None),
            new_group(&"g".into(), Timestamp(5)),
            group_metadata(&"g".into(), None),
        ] {
            assert_eq!(round_trip(&record), record);
        }
    }

    #[test]
    fn bytes_are_those_kafka_writes() {
        let value =
            offset_commit::Value { offset: Offset(1), commit_timestamp: Timestamp(2), ..Default::default() };
        let record = offset_commit(&"g".into(), &"t".into(), 3, Some(value));
        assert_eq!(record.encode_key()[..], *b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
        let value = record.encode_value().unwrap();
        assert_eq!(value[..], *b"\0\x04\0\0\0\0\0\0\0\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0\x02\0");
        let record = new_group(&"g".into(), Timestamp(2));
        assert_eq!(record.encode_key()[..], *b"\0\x02\0\x01g");
        let value = record.encode_value().unwrap();
        assert_eq!(value[..], *b"\0\x03\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\x02\0\0\0\0");
    }

    #[test]
    fn records_of_other_kinds_are_passed_over_and_garbage_is_an_error() {
        assert_eq!(Record::decode(&Bytes::from_static(b"\0\x63\0\x01g"), None).unwrap(), None);
        assert!(Record::decode(&Bytes::from_static(b"\0"), None).is_err());
        assert!(Record::decode(&Bytes::from_static(b"\0\x02\0\x09g"), None).is_err());
        let value = Bytes::from_static(b"\0\x7f");
        assert!(Record::decode(&Bytes::from_static(b"\0\x02\0\x01g"), Some(&value)).is_err());
    }
}

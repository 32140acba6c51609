//! The records of `__cluster_metadata`: Kafka's KRaft records, with no key and a framed value.

use bytes::Bytes;
use oncelog_wire::internal::metadata::{
    ConfigRecord, FeatureLevelRecord, PartitionRecord, ProducerIdsRecord, RemoveTopicRecord, TopicRecord,
};
use oncelog_wire::{DecodeError, Message, Reader, Writer};

/// The version of the frame around each record (`MetadataRecordSerde`).
const FRAME_VERSION: u32 = 1;

macro_rules! records {
    ($($(#[$doc:meta])* $variant:ident($body:ident, $version:literal),)*) => {
        /// One change of the cluster's metadata.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            $($(#[$doc])* $variant($body),)*
        }

        impl Record {
            /// The value of the record; its key is null.
            pub fn encode(&self) -> Bytes {
                let mut w = Writer::new();
                w.unsigned_varint(FRAME_VERSION);
                match self {
                    $(Record::$variant(body) => {
                        w.unsigned_varint($body::TYPE as u32);
                        w.unsigned_varint($version);
                        body.encode(&mut w, $version);
                    })*
                }
                w.finish_bytes()
            }

            /// Reads a value; `None` for a kind of record that says nothing to oncelog.
            ///
            /// # Errors
            /// Bytes that are no record.
            pub fn decode(value: Bytes) -> Result<Option<Record>, DecodeError> {
                let mut r = Reader::new(value);
                let (frame, kind, version) = (r.unsigned_varint(), r.unsigned_varint(), r.unsigned_varint());
                r.check()?;
                if frame != FRAME_VERSION {
                    return Ok(None);
                }
                let version = version.try_into().unwrap_or(i16::MAX);
                $(if kind == $body::TYPE as u32 {
                    return $body::decode(&mut r, version).map(|body| Some(Record::$variant(body)));
                })*
                Ok(None)
            }
        }

        $(impl From<$body> for Record {
            fn from(body: $body) -> Record {
                Record::$variant(body)
            }
        })*
    };
}

records! {
    /// A topic has been created; its partitions follow.
    Topic(TopicRecord, 0),
    /// A topic has another partition.
    Partition(PartitionRecord, 1),
    /// A topic is gone, with its partitions and configs.
    RemoveTopic(RemoveTopicRecord, 0),
    /// A config of a resource is set, or no longer set.
    Config(ConfigRecord, 0),
    /// A block of producer ids has been handed out.
    ProducerIds(ProducerIdsRecord, 0),
    /// A feature is finalized at a level.
    FeatureLevel(FeatureLevelRecord, 0),
}

//! The settings of a topic, typed.

use std::time::Duration;

use oncelog_records::TimestampType;

use super::typed::{millis, millis_or_never, number, number_or_unlimited, settings};
use super::{Layers, Overrides};

/// What becomes of old data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Segments are dropped by age and size.
    pub delete: bool,
    /// The last record of each key is kept.
    pub compact: bool,
}

/// The codec of batches on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CompressionType {
    /// What the producer chose.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

settings! {
    /// The settings of a topic that have an effect, each named after its key.
    pub struct TopicConfig {
        pub cleanup_policy: CleanupPolicy = "cleanup.policy", cleanup_policy;
        pub compression_type: CompressionType = "compression.type", compression_type;
        pub delete_retention: Duration = "delete.retention.ms", millis;
        pub index_interval_bytes: i32 = "index.interval.bytes", number;
        pub max_compaction_lag: Duration = "max.compaction.lag.ms", millis;
        pub max_message_bytes: i32 = "max.message.bytes", number;
        pub message_timestamp_after_max_ms: i64 = "message.timestamp.after.max.ms", number;
        pub message_timestamp_before_max_ms: i64 = "message.timestamp.before.max.ms", number;
        pub message_timestamp_type: TimestampType = "message.timestamp.type", timestamp_type;
        pub min_cleanable_dirty_ratio: f64 = "min.cleanable.dirty.ratio", number;
        pub min_compaction_lag: Duration = "min.compaction.lag.ms", millis;
        pub retention_bytes: Option<u64> = "retention.bytes", number_or_unlimited;
        pub retention: Option<Duration> = "retention.ms", millis_or_never;
        pub segment_bytes: i32 = "segment.bytes", number;
        pub segment_index_bytes: i32 = "segment.index.bytes", number;
        pub segment_jitter: Duration = "segment.jitter.ms", millis;
        pub segment_age: Duration = "segment.ms", millis;
    }
}

impl TopicConfig {
    /// The effective settings of a topic with these overrides.
    pub fn new(layers: &Layers<'_>, overrides: &Overrides) -> TopicConfig {
        // The hidden key lets tests have segments smaller than the smallest that `segment.bytes` allows.
        let small = overrides.get("internal.segment.bytes");
        TopicConfig::read(|key| match (key, small) {
            ("segment.bytes", Some(small)) => Some(small.clone()),
            _ => layers.topic(key, overrides),
        })
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        let none = Overrides::new();
        TopicConfig::new(&Layers { fixed: &Default::default(), cluster: &none, broker: &none }, &none)
    }
}

fn cleanup_policy(text: Option<&str>) -> CleanupPolicy {
    let has = |word| text.unwrap_or_default().split(',').any(|policy| policy == word);
    CleanupPolicy { delete: has("delete"), compact: has("compact") }
}

fn compression_type(text: Option<&str>) -> CompressionType {
    match text {
        Some("uncompressed") => CompressionType::Uncompressed,
        Some("gzip") => CompressionType::Gzip,
        Some("snappy") => CompressionType::Snappy,
        Some("lz4") => CompressionType::Lz4,
        Some("zstd") => CompressionType::Zstd,
        _ => CompressionType::Producer,
    }
}

fn timestamp_type(text: Option<&str>) -> TimestampType {
    match text {
        Some("LogAppendTime") => TimestampType::LogAppendTime,
        _ => TimestampType::CreateTime,
    }
}

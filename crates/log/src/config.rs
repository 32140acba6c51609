//! The settings of a topic that concern its logs.

/// The settings of one log. They may change while it is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: the most a segment may hold.
    pub segment_bytes: u32,
    /// `segment.ms`: the longest time a segment may span.
    pub segment_ms: i64,
    /// How much earlier than `segment_ms` this log starts new segments: drawn up to `segment.jitter.ms` by the caller.
    pub segment_jitter_ms: i64,
    /// `index.interval.bytes`: the bytes between two entries of the indexes.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: the most an index of a segment may hold.
    pub segment_index_bytes: u32,
    /// Whether `cleanup.policy` contains `delete`: old segments go, by time and by size.
    pub is_deleting: bool,
    /// `retention.bytes`, unless without a bound.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`, unless for ever.
    pub retention_ms: Option<i64>,
    /// `producer.id.expiration.ms`: silent producers are forgotten after this time.
    pub producer_id_expiration_ms: i64,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            is_deleting: true,
            retention_bytes: None,
            retention_ms: Some(7 * DAY_MS),
            producer_id_expiration_ms: DAY_MS,
        }
    }
}

//! The settings of a topic that concern its logs.

/// The settings of one log. They may change while it is open.
#[derive(Clone, Debug, PartialEq)]
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
    /// Whether `cleanup.policy` contains `compact`: of each key the newest record stays.
    pub is_compacting: bool,
    /// `min.cleanable.dirty.ratio`: the log is cleaned once this part of it is dirty.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: what is younger is not cleaned.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: what is older is cleaned, however little it is.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`: how long tombstones, and markers without records, stay from when they are first cleaned.
    pub delete_retention_ms: i64,
    /// Whether this is one of the broker's own logs, of which nothing may be missing.
    pub is_internal: bool,
    /// `producer.id.expiration.ms`: silent producers are forgotten after this time.
    pub producer_id_expiration_ms: i64,
}

impl LogConfig {
    /// The longest time a segment may span, so that it can be cleaned in time (`LogConfig.maxSegmentMs`).
    pub(crate) fn max_segment_ms(&self) -> i64 {
        match self.is_compacting && self.max_compaction_lag_ms > 0 {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        }
    }
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
            is_compacting: false,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: DAY_MS,
            is_internal: false,
            producer_id_expiration_ms: DAY_MS,
        }
    }
}

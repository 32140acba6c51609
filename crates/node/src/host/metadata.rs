//! The host of the metadata machine: its log, and the table of topics kept in step with it.
//!
//! A change is decided, appended, applied and carried out under one lock, so that whoever is answered finds the
//! change everywhere. Logs of new partitions are opened before the change is appended: what cannot be opened is
//! refused, and nothing is left half-done.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncelog_coordinator::metadata::config::{BrokerConfig, StaticConfig, TopicConfig};
use oncelog_coordinator::metadata::{Cluster, Effect, Identity, Output, Record};
use oncelog_log::{DataDir, LogConfig, LogError, Origin};
use oncelog_records::{BatchBuilder, BatchView};
use oncelog_wire::{ErrorCode, Now, Str, TopicPartition, Uuid};
use parking_lot::{RwLock, RwLockReadGuard};

use super::OpenError;
use super::internal_log::{self, Unreadable};
use crate::partition::Partition;
use crate::random::Random;
use crate::topics::{CLUSTER_METADATA, CLUSTER_METADATA_ID, Topic, Topics, is_internal};
use crate::{Node, Progress};

/// The metadata machine and its log.
pub(crate) struct Metadata {
    cluster: RwLock<Cluster>,
    partition: Partition,
}

impl Metadata {
    /// Replays the log, makes what a new cluster lacks, and opens the partitions of all topics.
    ///
    /// # Errors
    /// Where a log cannot be opened or the metadata log cannot be read.
    pub(crate) fn open(
        data: &DataDir,
        topics: &Topics,
        properties: StaticConfig,
        config: &BrokerConfig,
        random: &Random,
        progress: &dyn Fn(Progress),
        now: Now,
    ) -> Result<Metadata, OpenError> {
        let name = TopicPartition::new(CLUSTER_METADATA, 0);
        let log = data.open_log(&name, CLUSTER_METADATA_ID, Arc::new(metadata_log_config(config)), now)?;
        let partition = Partition::new(CLUSTER_METADATA, 0, log);
        let identity = Identity { node_id: config.node_id, directory_id: data.directory_id() };
        let mut cluster = Cluster::new(identity, properties);
        let mut removed = HashSet::new();
        internal_log::replay(&partition, |batch| {
            let mut records = batch.records()?;
            while let Some(record) = records.next_record()? {
                let Some(value) = record.value else { continue };
                let decoded = Record::decode(Bytes::copy_from_slice(value));
                let decoded =
                    decoded.map_err(|error| Unreadable(format!("offset {}: {error}", record.offset)))?;
                if let Some(Record::RemoveTopic(record)) = &decoded {
                    removed.insert(record.topic_id);
                }
                decoded.iter().for_each(|record| cluster.apply(record));
            }
            Ok(())
        })?;
        let output = cluster.bootstrap(|| topic_id(random));
        if !output.records.is_empty() {
            append(&partition, &output.records, now).map_err(|code| OpenError::Replay {
                log: CLUSTER_METADATA.to_string(),
                what: format!("the records of a new cluster cannot be appended: {code}"),
            })?;
            output.records.iter().for_each(|record| cluster.apply(record));
        }
        remove_leftovers(data, &cluster, &removed)?;
        let logs = cluster.topics().map(|topic| topic.partition_count as usize).sum();
        let open = Cell::new(0);
        let opened = || {
            open.set(open.get() + 1);
            progress(Progress { open: open.get(), logs });
        };
        let producer_id_expiration = cluster.broker_config().producer_id_expiration;
        let opener = Opener { data, random, producer_id_expiration, opened: &opened, now };
        for topic in cluster.topics() {
            let config = cluster.topic_config(&topic.name);
            topics.insert(Arc::new(opener.topic(&topic.name, topic.id, topic.partition_count, config)?));
        }
        Ok(Metadata { cluster: RwLock::new(cluster), partition })
    }

    /// The partition of the metadata log.
    pub(crate) fn partition(&self) -> &Partition {
        &self.partition
    }

    /// The cluster as it is now. Nothing changes while this is held, so it is not for long.
    pub(crate) fn cluster(&self) -> RwLockReadGuard<'_, Cluster> {
        self.cluster.read()
    }

    /// Makes the change that `decide` decides on, everywhere, and gives its answer.
    ///
    /// # Errors
    /// Where the change could not be stored: nothing has changed.
    pub(crate) fn change<A>(
        &self,
        node: &Node,
        now: Now,
        decide: impl FnOnce(&Cluster) -> Output<A>,
    ) -> Result<A, ErrorCode> {
        let mut cluster = self.cluster.write();
        let Output { records, answer, effects } = decide(&cluster);
        if records.is_empty() {
            return Ok(answer);
        }
        let opened = open_added(node, &cluster, &effects, now).map_err(|error| {
            tracing::error!("a partition cannot be opened: {error}");
            error.code()
        })?;
        append(&self.partition, &records, now)?;
        records.iter().for_each(|record| cluster.apply(record));
        opened.into_iter().for_each(|opened| opened.insert(&node.topics));
        let deleted = carry_out(node, &cluster, effects);
        drop(cluster);
        for topic in deleted {
            node.transactions.topic_deleted(node, &topic, now);
            node.groups.topic_deleted(node, &topic, now);
        }
        Ok(answer)
    }

    /// A random id for a new topic.
    pub(crate) fn topic_id(node: &Node) -> Uuid {
        topic_id(&node.random)
    }

    /// Producer ids that nobody else has.
    ///
    /// # Errors
    /// Where the allocation could not be stored.
    pub(crate) fn allocate_producer_ids(&self, node: &Node, now: Now) -> Result<Range<i64>, ErrorCode> {
        self.change(node, now, Cluster::allocate_producer_ids)
    }
}

/// What opens the logs of a topic.
struct Opener<'a> {
    data: &'a DataDir,
    random: &'a Random,
    producer_id_expiration: Duration,
    /// Called after each log.
    opened: &'a dyn Fn(),
    now: Now,
}

/// Logs that were opened for a change, and wait for it to be stored.
enum Opened {
    Topic(Arc<Topic>),
    Partitions(Arc<Topic>, Vec<Arc<Partition>>),
}

impl Opener<'_> {
    fn topic(&self, name: &Str, id: Uuid, count: i32, config: TopicConfig) -> Result<Topic, LogError> {
        let partitions = self.partitions(name, id, 0..count, &config)?;
        Ok(Topic::new(name.clone(), id, Arc::new(config), partitions))
    }

    fn partitions(
        &self,
        name: &Str,
        id: Uuid,
        indexes: Range<i32>,
        config: &TopicConfig,
    ) -> Result<Vec<Arc<Partition>>, LogError> {
        let shared = Arc::new(log_config(name, config, self.producer_id_expiration, 0));
        let open = |index| {
            let config = match jitter(config, self.random) {
                0 => shared.clone(),
                jitter_ms => {
                    Arc::new(LogConfig { segment_jitter_ms: jitter_ms, ..LogConfig::clone(&shared) })
                }
            };
            let log = self.data.open_log(&TopicPartition::new(name.clone(), index), id, config, self.now)?;
            (self.opened)();
            Ok(Arc::new(Partition::new(name.clone(), index, log)))
        };
        indexes.map(open).collect()
    }
}

impl Opened {
    fn insert(self, topics: &Topics) {
        match self {
            Opened::Topic(topic) => topics.insert(topic),
            Opened::Partitions(topic, partitions) => topic.add_partitions(partitions),
        }
    }
}

/// Opens the logs that a change will add.
fn open_added(node: &Node, cluster: &Cluster, effects: &[Effect], now: Now) -> Result<Vec<Opened>, LogError> {
    let producer_id_expiration = cluster.broker_config().producer_id_expiration;
    let opener =
        Opener { data: &node.data, random: &node.random, producer_id_expiration, opened: &|| {}, now };
    let mut opened = Vec::new();
    for effect in effects {
        match effect {
            Effect::TopicCreated { name, id, partition_count, config } => {
                let topic = opener.topic(name, *id, *partition_count, TopicConfig::clone(config))?;
                opened.push(Opened::Topic(Arc::new(topic)));
            }
            Effect::PartitionsAdded { name, partition_count } => {
                let topic = node.topics.by_name(name).expect("the table of topics is kept in step");
                let indexes = topic.partitions().len() as i32..*partition_count;
                let partitions = opener.partitions(name, topic.id, indexes, &topic.config())?;
                opened.push(Opened::Partitions(topic, partitions));
            }
            _ => {}
        }
    }
    Ok(opened)
}

/// Does what is left once a change is stored; gives the topics that are gone.
fn carry_out(node: &Node, cluster: &Cluster, effects: Vec<Effect>) -> Vec<Str> {
    let mut deleted = Vec::new();
    for effect in effects {
        match effect {
            Effect::TopicDeleted { name, .. } => {
                delete(node, &name);
                deleted.push(name);
            }
            Effect::TopicConfigChanged { name } => {
                node.topics.by_name(&name).iter().for_each(|topic| set_config(node, cluster, topic));
            }
            Effect::BrokerConfigChanged => {
                node.topics.all().iter().for_each(|topic| set_config(node, cluster, topic));
            }
            Effect::TopicCreated { .. }
            | Effect::PartitionsAdded { .. }
            | Effect::GroupConfigChanged { .. } => {}
        }
    }
    deleted
}

fn delete(node: &Node, name: &Str) {
    // The files are needed for as long as the deletion itself may get lost, and so is a place among the checkpoints. Where it
    // cannot be synced, not even by making room, the topic is neither there nor gone: the next start finds out which.
    if node.sync().is_err() {
        return node.fail();
    }
    let Some(topic) = node.topics.remove(name) else { return };
    for partition in topic.partitions().iter() {
        partition.mark_deleted();
        // Files that stay behind are found and removed by the next start.
        if let Err(error) = node.data.delete_log(&TopicPartition::new(name.clone(), partition.index)) {
            tracing::error!("the files of {name}-{} stay: {error}", partition.index);
        }
    }
}

fn set_config(node: &Node, cluster: &Cluster, topic: &Topic) {
    let config = cluster.topic_config(&topic.name);
    let producer_id_expiration = cluster.broker_config().producer_id_expiration;
    for partition in topic.partitions().iter() {
        let jitter = jitter(&config, &node.random);
        let log_config = log_config(&topic.name, &config, producer_id_expiration, jitter);
        partition.lock().log.set_config(Arc::new(log_config));
    }
    topic.set_config(Arc::new(config));
}

/// Removes the files of topics whose deletion a crash interrupted, and sets those aside whose creation was lost in a power
/// cut. What else no record speaks of is left alone.
fn remove_leftovers(data: &DataDir, cluster: &Cluster, removed: &HashSet<Uuid>) -> Result<(), LogError> {
    for found in data.logs()? {
        let (name, id) = (&found.topic_partition, found.topic_id);
        let is_known = name.topic == CLUSTER_METADATA
            || cluster.topic(&name.topic).is_some_and(|topic| id.is_none_or(|id| id == topic.id));
        // The creation comes before all records in the journal, so not one of these was ever acknowledged.
        let is_unborn = data.may_have_lost_records() && !found.is_checkpointed;
        if id.is_some_and(|id| removed.contains(&id)) {
            data.delete_log(name)?;
        } else if !is_known && is_unborn {
            let aside = data.set_log_aside(name)?.unwrap_or_default();
            tracing::warn!(
                "the power failed before the topic of {name} was made for good; what was written to it is in {}",
                aside.display()
            );
        } else if !is_known {
            tracing::warn!(
                "{name} in {} belongs to no topic of this cluster, it is left alone",
                data.root().display()
            );
        }
    }
    Ok(())
}

fn append(partition: &Partition, records: &[Record], now: Now) -> Result<(), ErrorCode> {
    let mut builder = BatchBuilder::new();
    for record in records {
        builder.push(now.wall, None, Some(&record.encode()));
    }
    let bytes = builder.build();
    let batch = BatchView::parse(&bytes).expect("it was built just now");
    partition.append_internal(&batch, Origin::Coordinator, now).map_err(|error| {
        tracing::error!("{CLUSTER_METADATA}-0: {error}");
        error.code()
    })?;
    Ok(())
}

/// A random id for a topic: one that does not look like an option on a command line, as Kafka chooses them.
fn topic_id(random: &Random) -> Uuid {
    loop {
        let id = Uuid::from_random(random.bytes());
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

/// How much earlier a log of such a topic starts a new segment, in milliseconds.
fn jitter(config: &TopicConfig, random: &Random) -> i64 {
    match millis(config.segment_jitter) {
        0 => 0,
        most => (i64::from_be_bytes(random.bytes()) & i64::MAX) % most,
    }
}

/// Tombstones, and markers whose transactions have been cleaned, stay that long in the logs of the coordinators, who need
/// neither: they read a log at once. It is for tools that follow such a log. With Kafka's day the markers of a day's
/// transactions would be there at each start.
const INTERNAL_DELETE_RETENTION: Duration = Duration::from_secs(60);

/// The settings of a topic that concern its logs.
fn log_config(
    name: &str,
    topic: &TopicConfig,
    producer_id_expiration: Duration,
    segment_jitter_ms: i64,
) -> LogConfig {
    let most = if is_internal(name) { INTERNAL_DELETE_RETENTION } else { Duration::MAX };
    LogConfig {
        segment_bytes: topic.segment_bytes as u32,
        segment_ms: millis(topic.segment_age),
        segment_jitter_ms,
        index_interval_bytes: topic.index_interval_bytes as u32,
        segment_index_bytes: topic.segment_index_bytes as u32,
        is_deleting: topic.cleanup_policy.delete,
        retention_bytes: topic.retention_bytes,
        retention_ms: topic.retention.map(millis),
        is_compacting: topic.cleanup_policy.compact,
        min_cleanable_dirty_ratio: topic.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: millis(topic.min_compaction_lag),
        max_compaction_lag_ms: millis(topic.max_compaction_lag),
        delete_retention_ms: millis(topic.delete_retention.min(most)),
        is_internal: is_internal(name),
        producer_id_expiration_ms: millis(producer_id_expiration),
    }
}

/// The metadata log keeps everything: it is the only copy.
fn metadata_log_config(config: &BrokerConfig) -> LogConfig {
    LogConfig {
        segment_bytes: config.metadata_log_segment_bytes as u32,
        is_deleting: false,
        retention_bytes: None,
        retention_ms: None,
        is_internal: true,
        ..LogConfig::default()
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

//! The durable state of the cluster: what the records of `__cluster_metadata` add up to, and questions about it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use oncelog_wire::internal::metadata::{FeatureLevelRecord, ProducerIdsRecord};
use oncelog_wire::{ProducerId, Str, Uuid};

use super::config::{BROKER_KEYS, CLIENT_METRICS_KEYS, GROUP_KEYS, TOPIC_KEYS};
use super::config::{BrokerConfig, KeyTable, Layers, Overrides, StaticConfig, TopicConfig};
use super::{Output, Record};

/// Producer ids are handed out in blocks of this many (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
pub const PRODUCER_ID_BLOCK_SIZE: i64 = 1000;

/// The features finalized when a cluster is made, with their levels: `metadata.version` as of Kafka 4.3, and
/// transactions as of KIP-890.
const FINALIZED_FEATURES: [(&str, i16); 2] = [("metadata.version", 30), ("transaction.version", 2)];

/// Whose configs are meant; the numbers are those of `ConfigResource.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
#[allow(missing_docs)]
pub enum ResourceType {
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    ClientMetrics = 16,
    Group = 32,
}

impl ResourceType {
    /// All of them.
    pub const ALL: [ResourceType; 5] = [
        ResourceType::Topic,
        ResourceType::Broker,
        ResourceType::BrokerLogger,
        ResourceType::ClientMetrics,
        ResourceType::Group,
    ];

    /// The type of that number.
    pub fn from_id(id: i8) -> Option<ResourceType> {
        ResourceType::ALL.into_iter().find(|&resource_type| resource_type as i8 == id)
    }

    /// The keys such a resource has; loggers have none.
    pub(super) fn keys(self) -> Option<&'static KeyTable> {
        Some(match self {
            ResourceType::Topic => &TOPIC_KEYS,
            ResourceType::Broker => &BROKER_KEYS,
            ResourceType::ClientMetrics => &CLIENT_METRICS_KEYS,
            ResourceType::Group => &GROUP_KEYS,
            ResourceType::BrokerLogger => return None,
        })
    }
}

/// A topic as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Str,
    /// Its id, which a later topic of the same name does not have.
    pub id: Uuid,
    /// How many partitions it has, numbered from 0.
    pub partition_count: i32,
}

/// This node, as it appears in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `node.id`.
    pub node_id: i32,
    /// The id of its data directory.
    pub directory_id: Uuid,
}

/// The cluster's metadata. Only [`Cluster::apply`] changes it; deciding methods give records to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    pub(super) identity: Identity,
    pub(super) fixed: StaticConfig,
    pub(super) topics: BTreeMap<Str, Topic>,
    names: HashMap<Uuid, Str>,
    /// How many topics there are under each name with `.` written as `_`, which some metrics cannot tell apart.
    folded_names: HashMap<String, u32>,
    pub(super) configs: BTreeMap<(ResourceType, Str), Overrides>,
    pub(super) partition_total: i64,
    next_producer_id: ProducerId,
    features: BTreeMap<Str, i16>,
}

impl Cluster {
    /// A cluster without topics, on the settings the operator wrote.
    pub fn new(identity: Identity, fixed: StaticConfig) -> Cluster {
        Cluster {
            identity,
            fixed,
            topics: BTreeMap::new(),
            names: HashMap::new(),
            folded_names: HashMap::new(),
            configs: BTreeMap::new(),
            partition_total: 0,
            next_producer_id: ProducerId(0),
            features: BTreeMap::new(),
        }
    }

    /// Takes one record into the state: live, after it was appended, and in replay alike.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Topic(record) => {
                let topic = Topic { name: record.name.detached(), id: record.topic_id, partition_count: 0 };
                self.names.insert(topic.id, topic.name.clone());
                *self.folded_names.entry(fold(&topic.name)).or_default() += 1;
                self.topics.insert(topic.name.clone(), topic);
            }
            Record::Partition(record) => {
                if let Some(topic) =
                    self.names.get(&record.topic_id).and_then(|name| self.topics.get_mut(name))
                {
                    let count = topic.partition_count.max(record.partition_id.saturating_add(1));
                    self.partition_total += i64::from(count - topic.partition_count);
                    topic.partition_count = count;
                }
            }
            Record::RemoveTopic(record) => {
                if let Some(topic) =
                    self.names.remove(&record.topic_id).and_then(|name| self.topics.remove(&name))
                {
                    self.partition_total -= i64::from(topic.partition_count);
                    let folded = fold(&topic.name);
                    let others = self.folded_names.remove(&folded).unwrap_or_default().saturating_sub(1);
                    if others > 0 {
                        self.folded_names.insert(folded, others);
                    }
                    self.configs.remove(&(ResourceType::Topic, topic.name));
                }
            }
            Record::Config(record) => {
                let Some(resource_type) = ResourceType::from_id(record.resource_type) else { return };
                let resource = (resource_type, record.resource_name.detached());
                let overrides = self.configs.entry(resource.clone()).or_default();
                match &record.value {
                    Some(value) => overrides.insert(record.name.to_string(), value.to_string()),
                    None => overrides.remove(record.name.as_str()),
                };
                if overrides.is_empty() {
                    self.configs.remove(&resource);
                }
            }
            Record::ProducerIds(record) => {
                self.next_producer_id = self.next_producer_id.max(record.next_producer_id);
            }
            Record::FeatureLevel(record) => {
                self.features.insert(record.name.detached(), record.feature_level);
            }
        }
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// The topic of that id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Topic> {
        self.topics.get(self.names.get(&id)?)
    }

    /// All topics, in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// The features that are finalized, with their levels.
    pub fn features(&self) -> impl Iterator<Item = (&Str, i16)> {
        self.features.iter().map(|(name, &level)| (name, level))
    }

    /// The broker's settings as of now, with what clients have changed.
    pub fn broker_config(&self) -> BrokerConfig {
        BrokerConfig::checked(&self.layers()).expect("changes are checked before they become records")
    }

    /// The effective settings of a topic, whether it exists or not.
    pub fn topic_config(&self, name: &str) -> TopicConfig {
        TopicConfig::new(&self.layers(), self.overrides(ResourceType::Topic, name))
    }

    /// Hands out the next block of producer ids; no id is handed out twice.
    pub fn allocate_producer_ids(&self) -> Output<Range<i64>> {
        let next = self.next_producer_id.0;
        let block = next..next + PRODUCER_ID_BLOCK_SIZE;
        let record = ProducerIdsRecord {
            broker_id: self.identity.node_id,
            next_producer_id: ProducerId(block.end),
            ..ProducerIdsRecord::default()
        };
        Output { records: vec![record.into()], answer: block, effects: Vec::new() }
    }

    /// What a new cluster starts from: the finalized features. What is there already gives no record.
    pub(super) fn missing_features(&self) -> impl Iterator<Item = Record> {
        let missing = FINALIZED_FEATURES.into_iter().filter(|(name, _)| !self.features.contains_key(*name));
        missing.map(|(name, feature_level)| {
            FeatureLevelRecord { name: Str::from_static(name), feature_level }.into()
        })
    }

    /// Whether another topic has this name but for `.` in the place of `_` or the other way round.
    pub(super) fn collides(&self, name: &str) -> bool {
        name.contains(['.', '_']) && self.folded_names.contains_key(&fold(name))
    }

    /// What clients have set on a resource.
    pub(super) fn overrides(&self, resource_type: ResourceType, name: &str) -> &Overrides {
        static NONE: Overrides = Overrides::new();
        self.configs.get(&(resource_type, Str::from(name))).unwrap_or(&NONE)
    }

    pub(super) fn layers(&self) -> Layers<'_> {
        Layers {
            fixed: &self.fixed,
            cluster: self.overrides(ResourceType::Broker, ""),
            broker: self.overrides(ResourceType::Broker, &self.identity.node_id.to_string()),
        }
    }
}

fn fold(name: &str) -> String {
    name.replace('.', "_")
}

//! The topics as the data path sees them: by name and by id, each with its partitions.
//!
//! The metadata machine decides which topics there are; its host keeps this table in step.

use std::collections::HashMap;
use std::sync::Arc;

use oncelog_coordinator::metadata::config::TopicConfig;
pub use oncelog_coordinator::metadata::is_internal;
use oncelog_wire::{Str, Uuid};
use parking_lot::RwLock;

use crate::partition::Partition;

/// The coordinator's log of transactions.
pub const TRANSACTION_STATE: Str = Str::from_static("__transaction_state");
/// The coordinator's log of groups and their offsets.
pub const CONSUMER_OFFSETS: Str = Str::from_static("__consumer_offsets");
/// The log of topics, configs and producer-id blocks; clients do not see it.
pub const CLUSTER_METADATA: Str = Str::from_static("__cluster_metadata");
/// The id Kafka gives the topic of the metadata log.
pub const CLUSTER_METADATA_ID: Uuid = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// A topic and its partitions.
pub struct Topic {
    /// Its name.
    pub name: Str,
    /// Its id; a topic made again under an old name has a new one.
    pub id: Uuid,
    config: RwLock<Arc<TopicConfig>>,
    partitions: RwLock<Arc<[Arc<Partition>]>>,
}

impl Topic {
    /// A topic with these partitions, in the order of their indexes.
    pub fn new(name: Str, id: Uuid, config: Arc<TopicConfig>, partitions: Vec<Arc<Partition>>) -> Topic {
        Topic { name, id, config: RwLock::new(config), partitions: RwLock::new(partitions.into()) }
    }

    /// The effective settings.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.read().clone()
    }

    /// Puts new settings into force.
    pub fn set_config(&self, config: Arc<TopicConfig>) {
        *self.config.write() = config;
    }

    /// All partitions, in the order of their indexes.
    pub fn partitions(&self) -> Arc<[Arc<Partition>]> {
        self.partitions.read().clone()
    }

    /// The partition of that index.
    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        self.partitions.read().get(usize::try_from(index).ok()?).cloned()
    }

    /// Whether there is a partition of that index.
    pub fn has_partition(&self, index: i32) -> bool {
        usize::try_from(index).is_ok_and(|index| index < self.partitions.read().len())
    }

    /// Adds partitions behind the last.
    pub fn add_partitions(&self, more: impl IntoIterator<Item = Arc<Partition>>) {
        let mut partitions = self.partitions.write();
        *partitions = partitions.iter().cloned().chain(more).collect();
    }
}

/// All topics of the node.
#[derive(Default)]
pub struct Topics {
    tables: RwLock<Tables>,
}

#[derive(Default)]
struct Tables {
    by_name: HashMap<Str, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

impl Topics {
    /// The topic of that name.
    pub fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.tables.read().by_name.get(name).cloned()
    }

    /// The topic of that id.
    pub fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.tables.read().by_id.get(&id).cloned()
    }

    /// The partition, by the name of its topic.
    pub fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.by_name(topic)?.partition(index)
    }

    /// All topics, by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = self.tables.read().by_name.values().cloned().collect();
        topics.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        topics
    }

    /// Adds a topic, or puts another in the place of the one of its name.
    pub fn insert(&self, topic: Arc<Topic>) {
        let mut tables = self.tables.write();
        tables.by_id.insert(topic.id, topic.clone());
        if let Some(old) = tables.by_name.insert(topic.name.clone(), topic.clone())
            && old.id != topic.id
        {
            tables.by_id.remove(&old.id);
        }
    }

    /// Takes a topic out.
    pub fn remove(&self, name: &str) -> Option<Arc<Topic>> {
        let mut tables = self.tables.write();
        let topic = tables.by_name.remove(name)?;
        tables.by_id.remove(&topic.id);
        Some(topic)
    }
}

//! The cluster's metadata: topics, configuration, producer-id blocks, features.
//!
//! [`Cluster`] is a machine without session state: its deciding methods read it and give records, an answer and
//! effects; the host appends the records as one batch to `__cluster_metadata`, applies them, and carries the effects
//! out. Nothing here does I/O, reads a clock or rolls dice.

mod alter;
mod cluster;
pub mod config;
mod describe;
mod record;
#[cfg(test)]
mod tests;
mod topics;

pub use cluster::{Cluster, Identity, PRODUCER_ID_BLOCK_SIZE, ResourceType, Topic};
pub use record::Record;
pub use topics::{CONSUMER_OFFSETS, TRANSACTION_STATE, is_internal, is_legal_name};

use oncelog_wire::{ErrorCode, Str, Uuid};

use config::TopicConfig;

/// What was decided: the records to append and apply, in this order and as one batch, and what then follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<A> {
    /// Changes of the durable state.
    pub records: Vec<Record>,
    /// What the client is told, once the records are applied.
    pub answer: A,
    /// What the host does once the records are applied.
    pub effects: Vec<Effect>,
}

/// Something for the host to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Open the partitions of a new topic.
    TopicCreated {
        /// The topic's name.
        name: Str,
        /// Its id.
        id: Uuid,
        /// How many partitions it has.
        partition_count: i32,
        /// Its settings.
        config: Box<TopicConfig>,
    },
    /// Delete the partitions of a topic and forget whatever names it.
    TopicDeleted {
        /// The topic's name.
        name: Str,
        /// Its id.
        id: Uuid,
    },
    /// Open further partitions of a topic.
    PartitionsAdded {
        /// The topic's name.
        name: Str,
        /// How many partitions it has now.
        partition_count: i32,
    },
    /// The settings of this topic may have changed.
    TopicConfigChanged {
        /// The topic's name.
        name: Str,
    },
    /// The settings of the broker, and with them those of all topics, may have changed.
    BrokerConfigChanged,
    /// The settings of this group may have changed.
    GroupConfigChanged {
        /// The group's id.
        name: Str,
    },
}

/// Why something was refused: what the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: ErrorCode,
    message: String,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}

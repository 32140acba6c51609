//! Configuration: which keys there are, who set them to what, and the typed settings that follow.
//!
//! A value is checked against the key tables where it enters (a file, the command line, a request); everything behind
//! that point relies on it.

mod broker;
mod keys;
mod layers;
mod listener;
mod properties;
mod topic;
mod typed;

pub use broker::{BrokerConfig, ConfigError, StaticConfig, Warning};
pub use keys::{
    BROKER_KEYS, CLIENT_METRICS_KEYS, Change, DefaultValue, GROUP_KEYS, Key, KeyTable, Kind, TOPIC_KEYS,
};
pub use layers::{ConfigSource, Layers, Overrides};
pub use listener::{Listener, SecurityProtocol};
pub use topic::{CleanupPolicy, CompressionType, TopicConfig};

//! What a broker is started with.

use std::path::PathBuf;

use oncelog_log::Durability;
use oncelog_node::config::{ConfigError, StaticConfig, Warning};

/// Where the broker keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory: gone when the broker stops.
    Ephemeral,
    /// In this directory; made if it is not there.
    Directory(PathBuf),
}

/// Where the broker listens, and what it tells its clients about that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// The listener's name, such as `PLAINTEXT`.
    pub name: String,
    /// The host name or address to bind; empty for all addresses.
    pub host: String,
    /// The port to bind; 0 for any free one.
    pub port: u16,
    /// The host and port clients are told; `None` for the address that each of them connected to.
    pub advertised: Option<(String, u16)>,
}

impl ListenerConfig {
    /// A listener called `PLAINTEXT`.
    pub fn plaintext(host: impl Into<String>, port: u16) -> ListenerConfig {
        ListenerConfig { name: "PLAINTEXT".into(), host: host.into(), port, advertised: None }
    }
}

/// What a broker is started with: where it listens, where it keeps its data, and Kafka's configuration keys.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; where this is empty, the key `listeners` says it.
    pub listeners: Vec<ListenerConfig>,
    /// Where to keep data; `None` leaves it to the keys `log.dirs` and `log.dir`.
    pub storage: Option<Storage>,
    /// What acknowledged data survives.
    pub durability: Durability,
    properties: StaticConfig,
}

impl Config {
    /// A broker that takes everything from Kafka's configuration keys.
    pub fn new() -> Config {
        Config {
            listeners: Vec::new(),
            storage: None,
            durability: Durability::Os,
            properties: StaticConfig::default(),
        }
    }

    /// A broker for tests: data in memory, any free port of the loopback address, groups that form without delay.
    pub fn ephemeral() -> Config {
        Config { listeners: vec![ListenerConfig::plaintext("127.0.0.1", 0)], ..Config::new() }.in_memory()
    }

    /// A broker that keeps its data in `directory` and listens on any free port of the loopback address.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Config {
        Config {
            listeners: vec![ListenerConfig::plaintext("127.0.0.1", 0)],
            storage: Some(Storage::Directory(directory.into())),
            ..Config::new()
        }
    }

    /// Keeps the data in memory, and has groups form without waiting for more members.
    pub fn in_memory(mut self) -> Config {
        self.storage = Some(Storage::Ephemeral);
        self.properties
            .set("group.initial.rebalance.delay.ms", "0")
            .expect("the table has this key and allows 0");
        self
    }

    /// Sets one of Kafka's broker configuration keys.
    ///
    /// # Errors
    /// Where the value does not fit the key. A key that is not known is taken, with a warning.
    pub fn set(&mut self, key: &str, value: &str) -> Result<Option<Warning>, ConfigError> {
        self.properties.set(key, value)
    }

    /// Like [`Config::set`], for building a configuration in one expression.
    ///
    /// # Errors
    /// Where the value does not fit the key.
    pub fn with(mut self, key: &str, value: &str) -> Result<Config, ConfigError> {
        self.set(key, value)?;
        Ok(self)
    }

    /// Reads the text of a `server.properties` file.
    ///
    /// # Errors
    /// At the first value that does not fit its key.
    pub fn read_properties(&mut self, text: &str) -> Result<Vec<Warning>, ConfigError> {
        self.properties.read_properties(text)
    }

    /// Whether Kafka's key `listeners` was set.
    pub fn has_listeners(&self) -> bool {
        self.properties.get("listeners").is_some()
    }

    pub(crate) fn properties(&self) -> &StaticConfig {
        &self.properties
    }
}

impl Default for Config {
    fn default() -> Self {
        Config::new()
    }
}

//! The settings the broker acts on, typed, and what the operator wrote to get them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::listener::{Listener, ListenerNames, SecurityProtocol};
use super::typed::{
    flag, millis, millis_or_never, minutes, number, number_or_unlimited, optional_text, settings, text, words,
};
use super::{BROKER_KEYS, Layers, properties};

/// A setting that cannot be used; printed as one line that names key, value and reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}={value}: {why}")]
pub struct ConfigError {
    /// The key, as it was written.
    pub key: String,
    /// The value, as it was written; hidden where it is a password.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
}

impl ConfigError {
    pub(super) fn new(key: &str, value: &str, why: impl Into<String>) -> ConfigError {
        ConfigError { key: key.to_owned(), value: value.to_owned(), why: why.into() }
    }
}

/// Something in the configuration that has no effect and may be a mistake; printed as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The unknown key.
    pub key: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: unknown config key, ignored", self.key)
    }
}

/// What the operator wrote in `server.properties` and on the command line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StaticConfig {
    values: BTreeMap<&'static str, String>,
}

/// Keys of other parts of Kafka that a configuration file may carry, and that mean nothing here.
const SILENTLY_ACCEPTED: [&str; 5] =
    ["zookeeper.", "listener.name.", "rlmm.config.", "rsm.config.", "config.providers."];

impl StaticConfig {
    /// Takes in the text of a properties file; what was set before loses.
    ///
    /// # Errors
    /// The first value that its key does not accept.
    pub fn read_properties(&mut self, text: &str) -> Result<Vec<Warning>, ConfigError> {
        let mut warnings = Vec::new();
        for (key, value) in properties::parse(text) {
            warnings.extend(self.set(&key, &value)?);
        }
        Ok(warnings)
    }

    /// Sets one key; what was set before loses. An unknown key is a warning.
    ///
    /// # Errors
    /// A value that the key does not accept.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Option<Warning>, ConfigError> {
        let Some(key) = BROKER_KEYS.get(name) else {
            let is_silent = SILENTLY_ACCEPTED.iter().any(|prefix| name.starts_with(prefix));
            return Ok((!is_silent).then(|| Warning { key: name.to_owned() }));
        };
        let shown = if key.is_sensitive() { "[hidden]" } else { value };
        let value = key.read(value).map_err(|why| ConfigError::new(name, shown, why))?;
        // The two names of the node's id are one setting.
        let aliases =
            if matches!(name, "node.id" | "broker.id") { &["node.id", "broker.id"][..] } else { &[] };
        for name in aliases.iter().copied().chain([key.name]) {
            self.values.insert(name, value.clone());
        }
        Ok(None)
    }

    /// The value the operator gave.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Checks what concerns several keys, and gives the typed view.
    ///
    /// # Errors
    /// Several data directories, listeners that cannot be bound or told to anyone, and the like.
    pub fn broker(&self) -> Result<BrokerConfig, ConfigError> {
        let none = BTreeMap::new();
        BrokerConfig::checked(&Layers { fixed: self, cluster: &none, broker: &none })
    }
}

settings! {
    /// The broker settings that have an effect, each named after its key.
    pub struct BrokerConfig {
        pub node_id: i32 = "node.id", number;
        pub rack: Option<String> = "broker.rack", optional_text;
        pub process_roles: Vec<String> = "process.roles", words;
        log_dirs: Vec<String> = "log.dirs", words;
        log_dir: Vec<String> = "log.dir", words;
        listeners: String = "listeners", text;
        advertised_listeners: String = "advertised.listeners", text;
        listener_security_protocol_map: String = "listener.security.protocol.map", text;
        controller_listener_names: Vec<String> = "controller.listener.names", words;
        pub socket_request_max_bytes: i32 = "socket.request.max.bytes", number;
        pub socket_send_buffer_bytes: i32 = "socket.send.buffer.bytes", number;
        pub socket_receive_buffer_bytes: i32 = "socket.receive.buffer.bytes", number;
        pub socket_listen_backlog_size: i32 = "socket.listen.backlog.size", number;
        pub max_connections: i32 = "max.connections", number;
        pub max_connections_per_ip: i32 = "max.connections.per.ip", number;
        pub max_connections_per_ip_overrides: Vec<String> = "max.connections.per.ip.overrides", words;
        pub connections_max_idle: Option<Duration> = "connections.max.idle.ms", millis_or_never;
        pub queued_max_request_bytes: Option<u64> = "queued.max.request.bytes", number_or_unlimited;

        pub auto_create_topics_enable: bool = "auto.create.topics.enable", flag;
        pub delete_topic_enable: bool = "delete.topic.enable", flag;
        pub num_partitions: i32 = "num.partitions", number;
        pub default_replication_factor: i32 = "default.replication.factor", number;
        pub max_request_partition_size_limit: i32 = "max.request.partition.size.limit", number;

        pub fetch_max_bytes: i32 = "fetch.max.bytes", number;
        pub max_incremental_fetch_session_cache_slots: i32 = "max.incremental.fetch.session.cache.slots", number;

        pub transaction_max_timeout: Duration = "transaction.max.timeout.ms", millis;
        pub transactional_id_expiration: Duration = "transactional.id.expiration.ms", millis;
        pub transaction_partition_verification_enable: bool = "transaction.partition.verification.enable", flag;
        pub transaction_two_phase_commit_enable: bool = "transaction.two.phase.commit.enable", flag;
        pub transaction_state_log_num_partitions: i32 = "transaction.state.log.num.partitions", number;
        pub transaction_state_log_segment_bytes: i32 = "transaction.state.log.segment.bytes", number;
        pub transaction_state_log_min_isr: i32 = "transaction.state.log.min.isr", number;
        pub producer_id_expiration: Duration = "producer.id.expiration.ms", millis;
        pub producer_id_expiration_check_interval: Duration = "producer.id.expiration.check.interval.ms", millis;

        pub group_initial_rebalance_delay: Duration = "group.initial.rebalance.delay.ms", millis;
        pub group_min_session_timeout: Duration = "group.min.session.timeout.ms", millis;
        pub group_max_session_timeout: Duration = "group.max.session.timeout.ms", millis;
        pub group_max_size: i32 = "group.max.size", number;
        pub offset_metadata_max_bytes: i32 = "offset.metadata.max.bytes", number;
        pub offsets_retention: Duration = "offsets.retention.minutes", minutes;
        pub offsets_retention_check_interval: Duration = "offsets.retention.check.interval.ms", millis;
        pub offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions", number;
        pub offsets_topic_segment_bytes: i32 = "offsets.topic.segment.bytes", number;

        pub log_initial_task_delay: Duration = "log.initial.task.delay.ms", millis;
        pub log_retention_check_interval: Duration = "log.retention.check.interval.ms", millis;
        pub log_cleaner_enable: bool = "log.cleaner.enable", flag;
        pub log_cleaner_backoff: Duration = "log.cleaner.backoff.ms", millis;
        pub log_cleaner_dedupe_buffer_size: i64 = "log.cleaner.dedupe.buffer.size", number;
        pub log_cleaner_io_buffer_load_factor: f64 = "log.cleaner.io.buffer.load.factor", number;
        pub log_flush_offset_checkpoint_interval: Duration = "log.flush.offset.checkpoint.interval.ms", millis;
        pub metadata_log_segment_bytes: i32 = "metadata.log.segment.bytes", number;
        pub unstable_api_versions_enable: bool = "unstable.api.versions.enable", flag;
    }
}

impl BrokerConfig {
    /// The data directory.
    pub fn data_dir(&self) -> &str {
        self.log_dirs.first().or(self.log_dir.first()).expect("checked: a directory is named")
    }

    /// The addresses to bind.
    pub fn listeners(&self) -> Vec<Listener> {
        self.names().parse("listeners", &self.listeners).expect("checked when the settings were read")
    }

    /// The addresses to tell clients; empty where clients are told the address they connected to.
    pub fn advertised_listeners(&self) -> Vec<Listener> {
        let parsed = self.names().parse("advertised.listeners", &self.advertised_listeners);
        parsed.expect("checked when the settings were read")
    }

    fn names(&self) -> ListenerNames<'_> {
        ListenerNames {
            protocols: &self.listener_security_protocol_map,
            controllers: &self.controller_listener_names,
        }
    }

    /// Reads all settings from `layers` and checks what concerns several of them.
    pub(in crate::metadata) fn checked(layers: &Layers<'_>) -> Result<BrokerConfig, ConfigError> {
        let config = BrokerConfig::read(|key| layers.broker(key).map(str::to_owned));
        for (key, dirs) in [("log.dirs", &config.log_dirs), ("log.dir", &config.log_dir)] {
            if dirs.len() > 1 {
                let why = "several data directories are not supported, name exactly one";
                return Err(ConfigError::new(key, &dirs.join(","), why));
            }
        }
        if !config.process_roles.iter().any(|role| role == "broker") {
            let why = "the node must be a broker (and is its own controller)";
            return Err(ConfigError::new("process.roles", &config.process_roles.join(","), why));
        }
        config.check_listeners()?;
        Ok(config)
    }

    fn check_listeners(&self) -> Result<(), ConfigError> {
        let bound = self.names().parse("listeners", &self.listeners)?;
        let refuse = |why: String| Err(ConfigError::new("listeners", &self.listeners, why));
        if let Some(listener) = bound.iter().find(|listener| listener.protocol != SecurityProtocol::Plaintext)
        {
            return refuse(format!(
                "{} asks for TLS or SASL, which oncelog does not have yet",
                listener.name
            ));
        }
        if bound.iter().all(|listener| listener.is_controller) {
            return refuse("no listener is left for clients".to_owned());
        }
        for listener in self.names().parse("advertised.listeners", &self.advertised_listeners)? {
            let refuse =
                |why: String| Err(ConfigError::new("advertised.listeners", &self.advertised_listeners, why));
            if listener.is_wildcard() {
                return refuse(format!("{} has a host that no client can connect to", listener.name));
            }
            if !bound.iter().any(|bound| bound.name == listener.name) {
                return refuse(format!("listeners has no {}", listener.name));
            }
        }
        Ok(())
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        StaticConfig::default().broker().expect("the defaults fit together; a test reads them")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<BrokerConfig, String> {
        let mut fixed = StaticConfig::default();
        let warnings = fixed.read_properties(text).map_err(|error| error.to_string())?;
        assert_eq!(warnings, []);
        fixed.broker().map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_a_single_node_that_needs_no_configuration() {
        let config = BrokerConfig::default();
        assert_eq!((config.node_id, config.data_dir()), (1, "./oncelog-data"));
        let listeners = config.listeners();
        assert_eq!(
            (listeners[0].name.as_str(), listeners[0].host.as_str(), listeners[0].port),
            ("PLAINTEXT", "", 9092)
        );
        assert_eq!(config.advertised_listeners(), []);
        assert_eq!(config.transaction_max_timeout, Duration::from_secs(900));
        assert_eq!(config.queued_max_request_bytes, None);
        assert_eq!(config.connections_max_idle, Some(Duration::from_secs(600)));
        assert_eq!(config.offsets_retention, Duration::from_secs(7 * 24 * 3600));
    }

    #[test]
    fn unknown_keys_are_warnings_and_bad_values_one_clear_line() {
        let mut fixed = StaticConfig::default();
        let warnings =
            fixed.read_properties("zookeeper.connect=x\nnum.partition=3\nnum.partitions=3").unwrap();
        let warnings: Vec<String> = warnings.iter().map(|warning| warning.to_string()).collect();
        assert_eq!(warnings, ["num.partition: unknown config key, ignored"]);
        assert_eq!(fixed.get("num.partitions"), Some("3"));
        let error = fixed.set("num.partitions", "many").unwrap_err();
        assert_eq!(error.to_string(), "num.partitions=many: expected a 32-bit whole number");
        let error = fixed.set("num.partitions", "0").unwrap_err();
        assert_eq!(error.to_string(), "num.partitions=0: must be at least 1");
    }

    #[test]
    fn several_data_directories_are_refused() {
        let error = read("log.dirs=/a,/b").unwrap_err();
        assert_eq!(error, "log.dirs=/a,/b: several data directories are not supported, name exactly one");
        assert_eq!(read("log.dir=/a\nlog.dirs=/b").unwrap().data_dir(), "/b");
    }

    #[test]
    fn listeners_of_a_test_container_are_understood() {
        let config = read(
            "listeners=PLAINTEXT://:9092,BROKER://:9093,CONTROLLER://:9094,TC-0://[::]:0\n\
             advertised.listeners=PLAINTEXT://localhost:32768,BROKER://172.17.0.2:9093\n\
             listener.security.protocol.map=BROKER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TC-0:PLAINTEXT\n\
             inter.broker.listener.name=BROKER\ncontroller.listener.names=CONTROLLER\nbroker.id=7",
        )
        .unwrap();
        assert_eq!(config.node_id, 7);
        let bound = config.listeners();
        assert_eq!(
            bound.iter().map(|listener| listener.is_controller).collect::<Vec<_>>(),
            [false, false, true, false]
        );
        assert_eq!((bound[3].name.as_str(), bound[3].host.as_str()), ("TC-0", "::"));
        assert_eq!(config.advertised_listeners()[0].port, 32768);
    }

    #[test]
    fn listeners_that_cannot_work_are_refused() {
        for (text, why) in [
            ("listeners=localhost:9092", "localhost:9092 is not of the form NAME://host:port"),
            ("listeners=PLAINTEXT://:9092,PLAINTEXT://:9093", "has the listener name PLAINTEXT twice"),
            ("listeners=MINE://:9092", "listener.security.protocol.map says nothing of MINE"),
            ("listeners=SSL://:9092", "SSL asks for TLS or SASL, which oncelog does not have yet"),
            ("listeners=", "must not be empty"),
            (
                "advertised.listeners=PLAINTEXT://0.0.0.0:9092",
                "PLAINTEXT has a host that no client can connect to",
            ),
            ("advertised.listeners=SSL://me:9092", "listeners has no SSL"),
            (
                "listeners=CONTROLLER://:9093\ncontroller.listener.names=CONTROLLER",
                "no listener is left for clients",
            ),
            ("process.roles=controller", "the node must be a broker (and is its own controller)"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.ends_with(why), "{text}: {error}");
        }
    }
}

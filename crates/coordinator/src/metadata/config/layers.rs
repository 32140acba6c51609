//! Who has a say in a value: defaults, what the operator wrote, what clients changed, strongest last.

use std::collections::BTreeMap;

use super::{BROKER_KEYS, DefaultValue, Key, StaticConfig, TOPIC_KEYS};

/// Values that clients have set on one resource, by key, in canonical spelling.
pub type Overrides = BTreeMap<String, String>;

/// Where a value comes from, as DescribeConfigs numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
#[allow(missing_docs)]
pub enum ConfigSource {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    ClientMetrics = 7,
    Group = 8,
}

/// All that decides the broker's settings.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    /// What the operator wrote.
    pub fixed: &'a StaticConfig,
    /// What clients have set for all brokers.
    pub cluster: &'a Overrides,
    /// What clients have set for this broker.
    pub broker: &'a Overrides,
}

impl<'a> Layers<'a> {
    /// The value of a broker key, `None` for null.
    pub fn broker(&self, name: &str) -> Option<&'a str> {
        self.say(&[name]).next().map(|(_, value, _)| value)
    }

    /// The value of a topic key for a topic with these overrides, `None` for null.
    pub fn topic(&self, name: &str, overrides: &Overrides) -> Option<String> {
        self.value(TOPIC_KEYS.get(name)?, overrides)
    }

    /// The value of a topic or group key on a resource with these overrides, `None` for null.
    pub fn value(&self, key: &Key, overrides: &Overrides) -> Option<String> {
        if let Some(value) = overrides.get(key.name) {
            return Some(value.clone());
        }
        match &key.default {
            DefaultValue::Unset => None,
            DefaultValue::Text(text) => Some((*text).to_owned()),
            DefaultValue::FromBroker(sources) => {
                let (value, factor) =
                    sources.iter().find_map(|&(name, factor)| Some((self.broker(name)?, factor)))?;
                match value.parse::<i64>() {
                    Ok(number) if factor != 1 => Some(times(number, factor).to_string()),
                    _ => Some(value.to_owned()),
                }
            }
        }
    }

    /// Everyone who says something of the broker keys `names`, strongest first: whom a value is from is whom it names first.
    pub fn say<'n>(
        &self,
        names: &'n [&'n str],
    ) -> impl Iterator<Item = (&'n str, &'a str, ConfigSource)> + use<'a, 'n> {
        let Layers { fixed, cluster, broker } = *self;
        let default = |name: &str| match BROKER_KEYS.get(name)?.default {
            DefaultValue::Text(text) => Some(text),
            _ => None,
        };
        let dynamic = names
            .iter()
            .filter_map(|&name| Some((name, broker.get(name)?.as_str(), ConfigSource::DynamicBroker)));
        let cluster = names.iter().filter_map(|&name| {
            Some((name, cluster.get(name)?.as_str(), ConfigSource::DynamicDefaultBroker))
        });
        let fixed =
            names.iter().filter_map(|&name| Some((name, fixed.get(name)?, ConfigSource::StaticBroker)));
        let default =
            names.iter().filter_map(move |&name| Some((name, default(name)?, ConfigSource::Default)));
        dynamic.chain(cluster).chain(fixed).chain(default)
    }
}

/// Hours or minutes as milliseconds; a negative number, which means "no limit", stays what it is.
fn times(number: i64, factor: i64) -> i64 {
    if number < 0 { number } else { number.saturating_mul(factor) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::metadata::config::TopicConfig;
    use std::time::Duration;

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn topics_take_what_they_do_not_override_from_the_broker() {
        let mut fixed = StaticConfig::default();
        fixed
            .read_properties("log.retention.hours=1\nlog.segment.bytes=2097152\nmessage.max.bytes=1000")
            .unwrap();
        let (cluster, broker) =
            (overrides(&[("message.max.bytes", "2000")]), overrides(&[("log.cleanup.policy", "compact")]));
        let layers = Layers { fixed: &fixed, cluster: &cluster, broker: &broker };
        let topic = TopicConfig::new(&layers, &overrides(&[("segment.bytes", "4194304")]));
        assert_eq!(topic.retention, Some(Duration::from_secs(3600)));
        assert_eq!((topic.segment_bytes, topic.max_message_bytes), (4194304, 2000));
        assert!(topic.cleanup_policy.compact && !topic.cleanup_policy.delete);
        let topic = TopicConfig::new(
            &layers,
            &overrides(&[("retention.ms", "-1"), ("internal.segment.bytes", "1000")]),
        );
        assert_eq!((topic.retention, topic.segment_bytes), (None, 1000));
    }

    #[test]
    fn milliseconds_win_over_minutes_and_those_over_hours() {
        let none = Overrides::new();
        let retention = |text: &str| {
            let mut fixed = StaticConfig::default();
            fixed.read_properties(text).unwrap();
            TopicConfig::new(&Layers { fixed: &fixed, cluster: &none, broker: &none }, &none).retention
        };
        assert_eq!(
            retention("log.retention.hours=1\nlog.retention.minutes=2"),
            Some(Duration::from_secs(120))
        );
        assert_eq!(retention("log.retention.minutes=2\nlog.retention.ms=3"), Some(Duration::from_millis(3)));
        assert_eq!(retention("log.retention.hours=-1"), None);
        assert_eq!(retention(""), Some(Duration::from_secs(604_800)));
    }

    #[test]
    fn kafkas_defaults_are_the_defaults_of_a_topic() {
        let topic = TopicConfig::default();
        assert_eq!(topic.max_message_bytes, 1_048_588);
        assert_eq!((topic.segment_bytes, topic.segment_index_bytes), (1 << 30, 10 << 20));
        assert_eq!((topic.retention_bytes, topic.message_timestamp_before_max_ms), (None, i64::MAX));
    }
}

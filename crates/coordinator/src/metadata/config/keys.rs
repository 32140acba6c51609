//! The tables of config keys: each key of Kafka 4.3 is declared once, in one of the `.keys` files.
//!
//! Parsing of `server.properties`, checks of what clients set, DescribeConfigs and the typed views all read these
//! tables. What a value means lives elsewhere; here it is only checked and brought into its canonical spelling.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The type of a config value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
#[allow(missing_docs)]
pub enum Kind {
    Bool = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

impl Kind {
    /// The number DescribeConfigs uses for the type (`DescribeConfigsResponse.ConfigType`).
    pub fn id(self) -> i8 {
        self as i8
    }

    fn parse(word: &str) -> Option<Kind> {
        Some(match word {
            "bool" => Kind::Bool,
            "string" => Kind::String,
            "int" => Kind::Int,
            "short" => Kind::Short,
            "long" => Kind::Long,
            "double" => Kind::Double,
            "list" => Kind::List,
            "class" => Kind::Class,
            "password" => Kind::Password,
            _ => return None,
        })
    }
}

/// How the value of a key may change while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Never.
    ReadOnly,
    /// At one named broker.
    PerBroker,
    /// At one named broker, or at all of them.
    ClusterWide,
    /// At any time: topic and group keys.
    Dynamic,
}

/// What a key is worth where nobody has set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// Nothing: the value is null.
    Unset,
    /// This text.
    Text(&'static str),
    /// The value of the first of these broker keys that has one, times a factor.
    FromBroker(Vec<(&'static str, i64)>),
}

/// One config key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name, such as `retention.ms`.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Its value where nobody has set it.
    pub default: DefaultValue,
    /// How it may change.
    pub change: Change,
    /// Whether DescribeConfigs leaves it out until somebody sets it.
    pub is_hidden: bool,
    /// What it does here, in a sentence; empty where it is accepted and does nothing.
    pub doc: &'static str,
    accepts: &'static str,
}

impl Key {
    /// Whether the value must never be shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Checks `text` and gives its canonical spelling, or says why it will not do.
    pub fn read(&self, text: &str) -> Result<String, String> {
        let text = text.trim();
        match self.kind {
            Kind::Bool => match text.to_ascii_lowercase().as_str() {
                word @ ("true" | "false") => Ok(word.to_owned()),
                _ => Err("expected true or false".to_owned()),
            },
            Kind::Int => self.whole_number(text, i32::MIN.into(), i32::MAX.into(), "32"),
            Kind::Short => self.whole_number(text, i16::MIN.into(), i16::MAX.into(), "16"),
            Kind::Long => self.whole_number(text, i64::MIN, i64::MAX, "64"),
            Kind::Double => {
                let number: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
                self.check_element(text, Some(number))?;
                let is_plain = number == 0.0 || (1e-3..1e7).contains(&number.abs());
                Ok(if is_plain { format!("{number:?}") } else { text.to_owned() })
            }
            Kind::List => self.list(text),
            Kind::String | Kind::Class | Kind::Password => {
                if self.accepts == "nonempty" && text.is_empty() {
                    return Err("must not be empty".to_owned());
                }
                self.check_element(text, None).map(|()| text.to_owned())
            }
        }
    }

    fn whole_number(&self, text: &str, least: i64, most: i64, bits: &str) -> Result<String, String> {
        let number = text.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
        let number = number.ok_or_else(|| format!("expected a {bits}-bit whole number"))?;
        self.check_element(text, Some(number as f64))?;
        Ok(number.to_string())
    }

    fn list(&self, text: &str) -> Result<String, String> {
        let elements: Vec<&str> =
            if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() };
        if self.accepts == "replicas" {
            return throttled_replicas(&elements).map(|()| elements.join(","));
        }
        if self.accepts.starts_with("nonempty") && elements.is_empty() {
            return Err("must not be empty".to_owned());
        }
        for (at, element) in elements.iter().enumerate() {
            if element.is_empty() {
                return Err("has an empty element".to_owned());
            }
            if elements[..at].contains(element) {
                return Err(format!("has {element} twice"));
            }
            self.check_element(element, None)?;
        }
        Ok(elements.join(","))
    }

    /// Holds one element against the `accepts` column.
    fn check_element(&self, text: &str, number: Option<f64>) -> Result<(), String> {
        let accepts = self.accepts.strip_prefix("nonempty").unwrap_or(self.accepts).trim_start_matches(',');
        let (accepts, ignores_case) = match accepts.strip_prefix('~') {
            Some(rest) => (rest, true),
            None => (accepts, false),
        };
        if accepts.is_empty() || accepts == "-" {
            return Ok(());
        }
        let fits = accepts.split('|').any(|alternative| match (alternative.split_once(".."), number) {
            (Some((least, most)), Some(number)) => {
                number >= bound(least, f64::NEG_INFINITY) && number <= bound(most, f64::INFINITY)
            }
            (None, Some(number)) => number == bound(alternative, f64::NAN),
            _ => match alternative.strip_suffix('*') {
                Some(start) => text.starts_with(start),
                None if ignores_case => text.eq_ignore_ascii_case(alternative),
                None => text == alternative,
            },
        });
        match (fits, number) {
            (true, _) => Ok(()),
            (false, Some(_)) => Err(format!("must be {}", in_words(accepts))),
            (false, None) => Err(format!("must be one of {}", accepts.replace('|', ", "))),
        }
    }
}

fn bound(text: &str, otherwise: f64) -> f64 {
    if text.is_empty() {
        otherwise
    } else {
        text.parse().expect("bounds in the tables are numbers; a test reads them all")
    }
}

fn in_words(accepts: &str) -> String {
    let alternatives = accepts.split('|').map(|alternative| match alternative.split_once("..") {
        Some((least, "")) => format!("at least {least}"),
        Some((least, most)) => format!("between {least} and {most}"),
        None => alternative.to_owned(),
    });
    alternatives.collect::<Vec<_>>().join(" or ")
}

/// `*`, or partition:broker pairs.
fn throttled_replicas(elements: &[&str]) -> Result<(), String> {
    let is_pair = |element: &&str| {
        element.split_once(':').is_some_and(|(partition, broker)| {
            partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok()
        })
    };
    if elements == ["*"] || elements.iter().all(is_pair) {
        Ok(())
    } else {
        Err("must be * or a list of partition:broker pairs".to_owned())
    }
}

/// The keys of one kind of resource, by name.
#[derive(Debug)]
pub struct KeyTable {
    /// What the keys configure: `topic`, `broker` or `group`.
    pub resource: &'static str,
    keys: BTreeMap<&'static str, Key>,
}

impl KeyTable {
    /// The key of that name.
    pub fn get(&self, name: &str) -> Option<&Key> {
        self.keys.get(name)
    }

    /// All keys, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }

    fn parse(resource: &'static str, text: &'static str) -> KeyTable {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let keys = lines.map(|line| {
            let key =
                parse_line(line).unwrap_or_else(|| panic!("{resource}.keys has a malformed line: {line}"));
            (key.name, key)
        });
        KeyTable { resource, keys: keys.collect() }
    }
}

fn parse_line(line: &'static str) -> Option<Key> {
    let (columns, doc) = line.split_once(" # ").unwrap_or((line, ""));
    let [name, kind, default, change, accepts] =
        <[&'static str; 5]>::try_from(columns.split_whitespace().collect::<Vec<_>>()).ok()?;
    let (change, is_hidden) = match change.strip_suffix(",hidden") {
        Some(change) => (change, true),
        None => (change, false),
    };
    let change = match change {
        "read-only" => Change::ReadOnly,
        "per-broker" => Change::PerBroker,
        "cluster-wide" => Change::ClusterWide,
        "dynamic" => Change::Dynamic,
        _ => return None,
    };
    let default = match (default, default.strip_prefix('=')) {
        ("null", _) => DefaultValue::Unset,
        ("\"\"", _) => DefaultValue::Text(""),
        (text, None) => DefaultValue::Text(text),
        (_, Some(list)) => DefaultValue::FromBroker(list.split(',').map(broker_key).collect::<Option<_>>()?),
    };
    Some(Key { name, kind: Kind::parse(kind)?, default, change, is_hidden, doc: doc.trim(), accepts })
}

fn broker_key(text: &'static str) -> Option<(&'static str, i64)> {
    match text.split_once('*') {
        Some((name, factor)) => Some((name, factor.parse().ok()?)),
        None => Some((text, 1)),
    }
}

/// The 33 topic keys, and the hidden one.
pub static TOPIC_KEYS: LazyLock<KeyTable> =
    LazyLock::new(|| KeyTable::parse("topic", include_str!("topic.keys")));
/// The 340 broker keys, and the hidden ones.
pub static BROKER_KEYS: LazyLock<KeyTable> =
    LazyLock::new(|| KeyTable::parse("broker", include_str!("broker.keys")));
/// The 3 keys of client-metrics subscriptions (KIP-714).
pub static CLIENT_METRICS_KEYS: LazyLock<KeyTable> =
    LazyLock::new(|| KeyTable::parse("client metrics", include_str!("client_metrics.keys")));
/// The 17 group keys.
pub static GROUP_KEYS: LazyLock<KeyTable> =
    LazyLock::new(|| KeyTable::parse("group", include_str!("group.keys")));

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tables_list_as_many_keys_as_kafka_describes() {
        let shown = |table: &KeyTable| table.iter().filter(|key| !key.is_hidden).count();
        assert_eq!([shown(&TOPIC_KEYS), shown(&BROKER_KEYS), shown(&GROUP_KEYS)], [33, 340, 17]);
        let names = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(
            names(include_str!("broker.keys")),
            BROKER_KEYS.iter().count(),
            "no key is declared twice"
        );
    }

    #[test]
    fn every_default_is_a_value_its_key_accepts_in_canonical_spelling() {
        for key in [&TOPIC_KEYS, &BROKER_KEYS, &GROUP_KEYS, &CLIENT_METRICS_KEYS]
            .into_iter()
            .flat_map(|table| table.iter())
        {
            match &key.default {
                DefaultValue::Text(text) if key.name != "controller.quorum.voters" => {
                    assert_eq!(key.read(text).as_deref(), Ok(*text), "{}", key.name);
                }
                DefaultValue::FromBroker(sources) => {
                    for (source, _) in sources {
                        assert!(
                            BROKER_KEYS.get(source).is_some(),
                            "{} takes its default from {source}",
                            key.name
                        );
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn values_are_checked_as_kafka_checks_them() {
        let topic = |name: &str, text: &str| TOPIC_KEYS.get(name).unwrap().read(text);
        for (name, text, canonical) in [
            ("segment.bytes", " +2000000 ", "2000000"),
            ("preallocate", "TRUE", "true"),
            ("cleanup.policy", "compact , delete", "compact,delete"),
            ("cleanup.policy", "", ""),
            ("min.cleanable.dirty.ratio", "0.50", "0.5"),
            ("compression.gzip.level", "-1", "-1"),
            ("compression.gzip.level", "9", "9"),
            ("leader.replication.throttled.replicas", "*", "*"),
            ("leader.replication.throttled.replicas", "0:1,1:2", "0:1,1:2"),
        ] {
            assert_eq!(topic(name, text).as_deref(), Ok(canonical), "{name}={text}");
        }
        for (name, text) in [
            ("segment.bytes", "abc"),
            ("segment.bytes", "10"),
            ("segment.bytes", ""),
            ("segment.bytes", "1.5"),
            ("segment.bytes", "0x10"),
            ("segment.bytes", "2147483648"),
            ("preallocate", "yes"),
            ("cleanup.policy", "x"),
            ("cleanup.policy", "delete,delete"),
            ("min.cleanable.dirty.ratio", "2"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("compression.gzip.level", "0"),
            ("compression.type", "GZIP"),
            ("leader.replication.throttled.replicas", "1"),
            ("leader.replication.throttled.replicas", "*,1:2"),
            ("retention.ms", "99999999999999999999"),
        ] {
            assert!(topic(name, text).is_err(), "{name}={text}");
        }
        let group = |text: &str| GROUP_KEYS.get("share.auto.offset.reset").unwrap().read(text).is_ok();
        assert!(group("by_duration:PT1H") && group("latest") && !group("by"));
        assert_eq!(topic("segment.bytes", "10").unwrap_err(), "must be at least 1048576");
        assert_eq!(topic("compression.gzip.level", "0").unwrap_err(), "must be between 1 and 9 or -1");
    }
}

//! Two answers, field by field. What is up to each broker (ids, times, names made up by it) need not be equal, but must
//! play the same part: an id that stands for another one on the other side has to stand for it throughout a scenario.

use std::collections::HashMap;

use crate::pair::Side;
use crate::value::Value;

/// A place where two answers differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Difference {
    /// Where, such as `topics[1].partitions[0].error_code`.
    pub path: String,
    /// What the reference says.
    pub reference: String,
    /// What the broker says.
    pub broker: String,
}

/// The fields that name an entry of a list among its neighbours: those of the first row it has any of.
const IDENTITY: &[&[&str]] = &[
    &["name", "topic", "topic_name", "partition_index", "partition", "partition_id", "index", "batch_index"],
    &[
        "topic_id",
        "group_id",
        "member_id",
        "transactional_id",
        "resource_type",
        "resource_name",
        "key",
        "api_key",
    ],
    &["producer_id", "node_id", "broker_id"],
];

/// Fields whose numbers say where a broker is or when something happened, not what it does.
const OF_THE_HOST: &[&str] =
    &["host", "client_host", "port", "cluster_id", "throttle_time_ms", "finalized_features_epoch"];

/// Fields for people to read: whether they are there is compared, not what they say.
const WORDS: &[&str] = &["error_message", "batch_index_error_message", "documentation"];

/// Where the time begins from which on a timestamp is one the broker has made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The timestamps of the scenarios' records lie after this one, by less than an hour.
    pub records_from: i64,
}

const HOUR_MS: i64 = 3_600_000;

/// What stands for what, in one scenario.
#[derive(Debug, Default)]
pub struct Names {
    broker_of: HashMap<String, String>,
    reference_of: HashMap<String, String>,
}

impl Names {
    fn stand_for_each_other(&mut self, reference: &str, broker: &str) -> bool {
        match (self.broker_of.get(reference), self.reference_of.get(broker)) {
            (None, None) => {
                self.broker_of.insert(reference.to_owned(), broker.to_owned());
                self.reference_of.insert(broker.to_owned(), reference.to_owned());
                true
            }
            (known, _) => known.is_some_and(|known| known == broker),
        }
    }
}

/// What differs between two answers.
pub fn compare(reference: &Value, broker: &Value, names: &mut Names, clock: Clock) -> Vec<Difference> {
    let mut comparison = Comparison { names, clock, found: Vec::new() };
    comparison.values("", reference, broker);
    comparison.found
}

struct Comparison<'a> {
    names: &'a mut Names,
    clock: Clock,
    found: Vec<Difference>,
}

impl Comparison<'_> {
    fn differs(&mut self, path: &str, reference: impl ToString, broker: impl ToString) {
        let path = path.trim_start_matches('.').to_owned();
        self.found.push(Difference { path, reference: reference.to_string(), broker: broker.to_string() });
    }

    fn values(&mut self, path: &str, reference: &Value, broker: &Value) {
        match (reference, broker) {
            (Value::Struct(..), Value::Struct(..)) if is_host(reference) && is_host(broker) => {}
            (Value::Struct(_, fields), Value::Struct(_, others)) => {
                for ((name, value), (_, other)) in fields.iter().zip(others) {
                    if WORDS.contains(&name.as_str()) && is_text(value) && is_text(other) {
                        continue;
                    }
                    if name == "session_id" && is_session(value) && is_session(other) {
                        let (value, other) = (format!("session {value}"), format!("session {other}"));
                        if !self.names.stand_for_each_other(&value, &other) {
                            self.differs(&format!("{path}.{name}"), value, other);
                        }
                        continue;
                    }
                    if !OF_THE_HOST.contains(&name.as_str()) {
                        self.values(&format!("{path}.{name}"), value, other);
                    }
                }
            }
            (Value::List(values), Value::List(others)) => self.lists(path, values, others),
            _ if !self.are_alike(reference, broker) => {
                self.differs(path, self.shown(reference), self.shown(broker));
            }
            _ => {}
        }
    }

    /// Lists are compared by the names of their entries, where these have some; that the order is another is a
    /// difference of its own.
    fn lists(&mut self, path: &str, reference: &[Value], broker: &[Value]) {
        let keys: Vec<_> = reference.iter().map(|value| self.identity(value, Side::Reference)).collect();
        let others: Vec<_> = broker.iter().map(|value| self.identity(value, Side::Broker)).collect();
        let (mut sorted, mut others_sorted) = (keys.clone(), others.clone());
        sorted.sort();
        others_sorted.sort();
        if keys == others || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            for (at, (value, other)) in reference.iter().zip(broker).enumerate() {
                self.values(&format!("{path}[{at}]"), value, other);
            }
            for value in reference.iter().skip(broker.len()) {
                self.differs(&format!("{path}[]"), self.shown(value), "nothing");
            }
            for value in broker.iter().skip(reference.len()) {
                self.differs(&format!("{path}[]"), "nothing", self.shown(value));
            }
            return;
        }
        if sorted == others_sorted {
            self.differs(&format!("{path} order"), keys.join(" "), others.join(" "));
        }
        for (key, value) in keys.iter().zip(reference) {
            match others.iter().position(|other| other == key) {
                Some(at) => self.values(&format!("{path}[{key}]"), value, &broker[at]),
                None => self.differs(&format!("{path}[{key}]"), self.shown(value), "nothing"),
            }
        }
        for (key, value) in others.iter().zip(broker) {
            if !keys.contains(key) {
                self.differs(&format!("{path}[{key}]"), "nothing", self.shown(value));
            }
        }
    }

    /// What an entry of a list is called; of names made up by the brokers those that stand for each other are the same.
    fn identity(&self, value: &Value, side: Side) -> String {
        let parts = IDENTITY.iter().map(|names| {
            let parts = names.iter().filter_map(|name| value.field(name));
            parts
                .filter(|part| !part.mentions(&["None"]))
                .map(|part| self.called(part, side))
                .collect::<Vec<_>>()
        });
        match parts.into_iter().find(|parts| !parts.concat().trim_matches('"').is_empty()) {
            Some(parts) => parts.join("/"),
            None => self.shown(value),
        }
    }

    fn called(&self, value: &Value, side: Side) -> String {
        let Some(made_up) = self.made_up(value) else { return self.shown(value) };
        let known = match side {
            Side::Reference => self.names.broker_of.contains_key(&made_up.name).then_some(&made_up.name),
            Side::Broker => self.names.reference_of.get(&made_up.name),
        };
        format!("{}{}", made_up.kind, known.map(|name| format!(" {name}")).unwrap_or_default())
    }

    fn are_alike(&mut self, reference: &Value, broker: &Value) -> bool {
        match (self.made_up(reference), self.made_up(broker)) {
            (Some(a), Some(b)) => a.kind == b.kind && self.names.stand_for_each_other(&a.name, &b.name),
            (None, None) => self.shown(reference) == self.shown(broker),
            _ => false,
        }
    }

    /// A value without what no two brokers share.
    fn shown(&self, value: &Value) -> String {
        if let Some(made_up) = self.made_up(value) {
            return made_up.kind;
        }
        match value {
            Value::Struct(_, fields) => {
                let fields = fields.iter().filter(|(name, _)| !OF_THE_HOST.contains(&name.as_str()));
                let fields: Vec<_> =
                    fields.map(|(name, value)| format!("{name}: {}", self.shown(value))).collect();
                format!("{{{}}}", fields.join(", "))
            }
            Value::Tuple(_, values) if values.len() == 1 => self.shown(&values[0]),
            Value::Tuple(_, values) | Value::List(values) => {
                let values: Vec<_> = values.iter().map(|value| self.shown(value)).collect();
                format!("[{}]", values.join(", "))
            }
            Value::Atom(atom) => self.time(atom).unwrap_or_else(|| atom.clone()),
            Value::Text(_) => value.to_string(),
        }
    }

    /// Timestamps of records are shown by their distance from the first, those of the broker are all the same.
    fn time(&self, atom: &str) -> Option<String> {
        let since = atom.parse::<i64>().ok()?.checked_sub(self.clock.records_from)?;
        match since {
            0..HOUR_MS => Some(format!("start+{since}")),
            HOUR_MS.. if since < 1000 * HOUR_MS => Some("now".into()),
            _ => None,
        }
    }

    fn made_up(&self, value: &Value) -> Option<MadeUp> {
        match value {
            Value::Tuple(name, values) if name == "Uuid" => {
                let Value::List(bytes) = &values[0] else { return None };
                let bytes: Vec<u8> = bytes.iter().filter_map(|byte| byte.to_string().parse().ok()).collect();
                let is_small = bytes.iter().rev().skip(1).all(|&byte| byte == 0);
                (!is_small).then(|| MadeUp { kind: "an_id".into(), name: format!("{bytes:?}") })
            }
            Value::Tuple(name, values) if name == "ProducerId" => {
                let id: i64 = values[0].to_string().parse().ok()?;
                (0..FOREIGN_PRODUCERS)
                    .contains(&id)
                    .then(|| MadeUp { kind: "a_producer_id".into(), name: format!("producer {id}") })
            }
            Value::Text(text) => {
                let at = (0..text.len()).find(|&at| text.get(at..at + 36).is_some_and(is_uuid))?;
                let kind = format!("\"{}(uuid){}\"", &text[..at], &text[at + 36..]);
                Some(MadeUp { kind, name: text.clone() })
            }
            _ => None,
        }
    }
}

/// Producer ids from here on are the scenarios' own.
pub const FOREIGN_PRODUCERS: i64 = 1_000_000_000;

struct MadeUp {
    kind: String,
    name: String,
}

fn is_text(value: &Value) -> bool {
    matches!(value, Value::Text(_))
}

fn is_session(value: &Value) -> bool {
    matches!(value, Value::Atom(id) if id != "0")
}

fn is_host(value: &Value) -> bool {
    matches!(value, Value::Struct(name, _) if name == "NodeEndpoint")
}

fn is_uuid(text: &str) -> bool {
    text.char_indices()
        .all(|(at, c)| if [8, 13, 18, 23].contains(&at) { c == '-' } else { c.is_ascii_hexdigit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(reference: &Value, broker: &Value) -> Vec<Difference> {
        compare(reference, broker, &mut Names::default(), Clock { records_from: 1_000_000_000_000 })
    }

    #[test]
    fn made_up_names_must_play_the_same_part() {
        let ids =
            |ids: &[i64]| Value::of(&ids.iter().map(|&id| oncelog_wire::ProducerId(id)).collect::<Vec<_>>());
        assert_eq!(differences(&ids(&[7, 8, 7]), &ids(&[1, 3, 1])), []);
        let found = differences(&ids(&[7, 8, 7]), &ids(&[1, 3, 3]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "[2]");
    }

    #[test]
    fn another_order_is_one_difference() {
        let words = |words: &[&str]| Value::of(&words.to_vec());
        let found = differences(&words(&["a", "b", "c"]), &words(&["c", "b", "a"]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, " order");
    }
}

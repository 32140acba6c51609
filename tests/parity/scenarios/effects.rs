//! What settings do to requests, and what the two generations of transactions do to each other.

use oncelog_records::BatchBuilder;
use oncelog_wire::{
    ProducerEpoch, ProducerId, Str, describe_configs, describe_transactions, incremental_alter_configs,
    init_producer_id, produce, write_txn_markers,
};

use super::transaction_ends::through;
use super::transactions::{add_request, end, end_request, produce_in, producers_of};
use super::{batch, fetch_from, filled, init_producer, list_offsets_of, produce_to, topic};
use crate::pair::{Both, Pair, Side};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Sets a key, or takes it back, and waits until the reference has put it into effect.
fn set(pair: &mut Pair, resource_type: i8, name: &str, key: &str, value: Option<&str>) {
    pair.ask("set", 1, |_| incremental_alter_configs::Request {
        resources: vec![incremental_alter_configs::AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: vec![incremental_alter_configs::AlterableConfig {
                name: key.into(),
                config_operation: if value.is_some() { 0 } else { 1 },
                value: value.map(Str::from),
            }],
        }],
        validate_only: false,
    });
    std::thread::sleep(std::time::Duration::from_millis(150));
}

/// What Produce makes of a topic's settings while they change.
pub fn topic_settings(pair: &mut Pair) {
    let topic = topic(pair, "settings", 1, &[]);
    let sound = batch(pair, &["a", "b"]);
    let start = pair.time();
    let keyless = {
        let mut builder = BatchBuilder::new();
        builder.push(start, None, Some(b"v"));
        builder.build()
    };
    let ask = |pair: &mut Pair, what: &str, acks: i16, records: bytes::Bytes| {
        pair.ask(what, 11, |side| produce::Request { acks, ..produce_to(&topic, side, 0, records.clone()) });
    };
    for (key, value) in [
        ("max.message.bytes", "80"),
        ("max.message.bytes", "76"),
        ("max.message.bytes", "0"),
        ("min.insync.replicas", "2"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.before.max.ms", "1000"),
        ("message.timestamp.after.max.ms", "1000"),
        ("compression.type", "gzip"),
    ] {
        set(pair, TOPIC, &topic.name, key, Some(value));
        for acks in [-1, 1] {
            ask(pair, &format!("{key}={value}, acks {acks}"), acks, sound.clone());
            ask(pair, &format!("{key}={value}, no key, acks {acks}"), acks, keyless.clone());
        }
        set(pair, TOPIC, &topic.name, key, None);
    }
    ask(pair, "as it was", -1, sound.clone());
    pair.ask("what is there", 12, |side| fetch_from(&topic, side, 0, 0));
}

/// Defaults of the cluster and of the broker, and how topics name them as synonyms.
pub fn defaults(pair: &mut Pair) {
    let plain = topic(pair, "defaults", 1, &[]);
    let look = |pair: &mut Pair, what: &str| {
        let resource =
            |resource_type: i8, resource_name: &str, key: &str| describe_configs::DescribeConfigsResource {
                resource_type,
                resource_name: resource_name.into(),
                configuration_keys: Some(vec![key.into()]),
            };
        for include_synonyms in [true, false] {
            pair.ask(&format!("{what}, synonyms {include_synonyms}"), 4, |_| describe_configs::Request {
                resources: vec![
                    resource(TOPIC, &plain.name, "flush.messages"),
                    resource(BROKER, "1", "log.flush.interval.messages"),
                    resource(BROKER, "", "log.flush.interval.messages"),
                ],
                include_synonyms,
                include_documentation: false,
            });
        }
    };
    look(pair, "untouched");
    set(pair, BROKER, "", "log.flush.interval.messages", Some("1000"));
    look(pair, "default of the cluster");
    set(pair, BROKER, "1", "log.flush.interval.messages", Some("2000"));
    look(pair, "default of the broker");
    set(pair, TOPIC, &plain.name, "flush.messages", Some("3000"));
    look(pair, "of the topic");
    set(pair, BROKER, "", "log.flush.interval.messages", None);
    look(pair, "without that of the cluster");
    topic(pair, "defaults-new", 1, &[]);
    set(pair, BROKER, "1", "log.flush.interval.messages", None);
    set(pair, TOPIC, &plain.name, "flush.messages", None);
    look(pair, "untouched again");
}

/// Partitions added the old way and the new in one transaction, and ends of the other kind.
pub fn mixed_generations(pair: &mut Pair) {
    let topic = topic(pair, "mixed", 3, &[]);
    for (at, (adds, version, end_version)) in
        [(true, 12, 5), (true, 12, 4), (false, 12, 4), (true, 11, 5), (true, 13, 3)].into_iter().enumerate()
    {
        let id = pair.name(&format!("mixed-{at}"));
        let what = |what: &str| format!("{what} (adds {adds}, produce {version}, end {end_version})");
        let mut producer = init_producer(pair, "a producer", Some(&id));
        let mut sequence = 0;
        for committed in [true, false, true] {
            if adds {
                pair.settle(&what("adds"), 3, |side| add_request(&id, producer[side], &[(&topic.name, 0)]));
            }
            produce_in(pair, &what("writes"), version, Some(&id), &producer, (&topic, 0), sequence);
            produce_in(pair, &what("writes elsewhere"), version, Some(&id), &producer, (&topic, 1), 0);
            let next = end(pair, &what("ends"), &id, &producer, committed, end_version);
            through(pair, &id);
            sequence = if next.reference.1 == producer.reference.1 { sequence + 1 } else { 0 };
            producer = next;
        }
        pair.ask(&what("producers"), 0, |_| producers_of(&topic.name, &[0, 1]));
        pair.ask(&what("described"), 0, |_| describe_transactions::Request {
            transactional_ids: vec![id.as_str().into()],
        });
    }
    for isolation_level in [0, 1] {
        pair.ask("what is there", 12, |side| oncelog_wire::fetch::Request {
            isolation_level,
            ..fetch_from(&topic, side, 0, 0)
        });
    }
    pair.ask("stable ends", 7, |_| list_offsets_of(&topic.name, &[0, 1, 2], -1, 1));
}

/// A marker of an administrator in the midst of a transaction, and what comes of the transaction.
pub fn markers_amid(pair: &mut Pair) {
    for (version, transaction_result) in [(11, false), (12, false), (12, true)] {
        let topic = topic(pair, &format!("amid-{version}-{transaction_result}"), 1, &[]);
        let id = pair.name(&format!("amid-{version}-{transaction_result}"));
        let producer = init_producer(pair, "a producer", Some(&id));
        if version < 12 {
            pair.settle("adds", 3, |side| add_request(&id, producer[side], &[(&topic.name, 0)]));
        }
        produce_in(pair, "writes", version, Some(&id), &producer, (&topic, 0), 0);
        pair.ask("an administrator ends it", 1, |side| write_txn_markers::Request {
            markers: vec![write_txn_markers::WritableTxnMarker {
                producer_id: producer[side].0,
                producer_epoch: producer[side].1,
                transaction_result,
                topics: vec![write_txn_markers::WritableTxnMarkerTopic {
                    name: topic.name.clone(),
                    partition_indexes: vec![0],
                }],
                coordinator_epoch: 0,
                transaction_version: 0,
            }],
        });
        produce_in(pair, "writes on", version, Some(&id), &producer, (&topic, 0), 1);
        pair.ask("producers", 0, |_| producers_of(&topic.name, &[0]));
        let end_version = if version < 12 { 4 } else { 5 };
        end(pair, "ends", &id, &producer, true, end_version);
        through(pair, &id);
        pair.ask("producers after", 0, |_| producers_of(&topic.name, &[0]));
        pair.ask("what is there", 12, |side| oncelog_wire::fetch::Request {
            isolation_level: 1,
            ..fetch_from(&topic, side, 0, 0)
        });
    }
}

/// A second instance with the same id, by every version, while the first is in the midst of things.
pub fn second_instances(pair: &mut Pair) {
    let topic = topic(pair, "instances", 1, &[]);
    for version in 0..=5 {
        for end_version in [4, 5] {
            let id = pair.name(&format!("instances-{version}-{end_version}"));
            let init = |timeout: i32| init_producer_id::Request {
                transactional_id: Some(id.as_str().into()),
                transaction_timeout_ms: timeout,
                ..Default::default()
            };
            let first = pair
                .settle("first", version, |_| init(60_000))
                .map(|answer| (answer.producer_id, answer.producer_epoch));
            let produce_version = if end_version == 4 { 11 } else { 13 };
            if end_version == 4 {
                pair.settle("first adds", 3, |side| add_request(&id, first[side], &[(&topic.name, 0)]));
            }
            produce_in(pair, "first writes", produce_version, Some(&id), &first, (&topic, 0), 0);
            let second = pair
                .settle("second", version, |_| init(30_000))
                .map(|answer| (answer.producer_id, answer.producer_epoch));
            pair.ask("described", 0, |_| describe_transactions::Request {
                transactional_ids: vec![id.as_str().into()],
            });
            produce_in(pair, "first is fenced", produce_version, Some(&id), &first, (&topic, 0), 1);
            for committed in [true, false] {
                pair.settle("first cannot end", end_version, |side| end_request(&id, first[side], committed));
            }
            pair.settle("first cannot add", 3, |side| add_request(&id, first[side], &[(&topic.name, 0)]));
            pair.settle("first cannot come back", 4, |side| init_producer_id::Request {
                producer_id: first[side].0,
                producer_epoch: first[side].1,
                ..init(60_000)
            });
            if end_version == 4 {
                pair.settle("second adds", 3, |side| add_request(&id, second[side], &[(&topic.name, 0)]));
            }
            produce_in(pair, "second writes", produce_version, Some(&id), &second, (&topic, 0), 0);
            end(pair, "second commits", &id, &second, true, end_version);
            through(pair, &id);
        }
    }
    pair.ask("what is there", 12, |side| oncelog_wire::fetch::Request {
        isolation_level: 1,
        ..fetch_from(&topic, side, 0, 0)
    });
    idempotent_fencing(pair);
}

/// Plain idempotent producers have no coordinator; only partitions know their epochs.
fn idempotent_fencing(pair: &mut Pair) {
    let topic = topic(pair, "idempotent", 1, &[]);
    let producer = init_producer(pair, "an id", None);
    let from = pair.time();
    let ask = |pair: &mut Pair, what: &str, producer: Both<(ProducerId, ProducerEpoch)>, sequence: i32| {
        pair.ask(what, 12, |side: Side| {
            let (id, epoch) = producer[side];
            produce_to(
                &topic,
                side,
                0,
                filled(BatchBuilder::new().producer(id, epoch, sequence), from, &["v"]),
            )
        });
    };
    ask(pair, "first", producer, 0);
    let raised = pair
        .ask("raised by itself", 4, |side| init_producer_id::Request {
            transaction_timeout_ms: i32::MAX,
            producer_id: producer[side].0,
            producer_epoch: producer[side].1,
            ..Default::default()
        })
        .map(|answer| (answer.producer_id, answer.producer_epoch));
    ask(pair, "with the new id", raised, 0);
    ask(pair, "with the old id", producer, 1);
}

//! Configurations: described, altered, listed.

use oncelog_wire::{
    Str, alter_configs as replace_api, describe_configs as describe_api,
    incremental_alter_configs as alter_api, list_config_resources as list_api,
};

use super::topic;
use crate::pair::Pair;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

fn describe(
    resource_type: i8,
    name: &str,
    keys: Option<&[&str]>,
    synonyms: bool,
    documentation: bool,
) -> describe_api::Request {
    describe_api::Request {
        resources: vec![describe_api::DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: keys.map(|keys| keys.iter().map(|&key| key.into()).collect()),
        }],
        include_synonyms: synonyms,
        include_documentation: documentation,
    }
}

/// Topics, with and without what may be asked for.
pub fn describe_topics(pair: &mut Pair) {
    let plain = topic(pair, "config-plain", 1, &[]);
    let own = topic(
        pair,
        "config-own",
        1,
        &[
            ("retention.ms", "1000"),
            ("cleanup.policy", "compact,delete"),
            ("min.cleanable.dirty.ratio", "0.30"),
        ],
    );
    for (name, topic) in [("plain", &plain), ("own", &own)] {
        for (synonyms, documentation) in [(false, false), (true, false), (true, true)] {
            pair.ask_all(&format!("{name}, synonyms {synonyms}, documentation {documentation}"), |_| {
                describe(TOPIC, &topic.name, None, synonyms, documentation)
            });
        }
        pair.ask_all(&format!("{name}, some"), |_| {
            describe(TOPIC, &topic.name, Some(&["retention.ms", "nonsense", "segment.bytes"]), false, false)
        });
        pair.ask_all(&format!("{name}, none"), |_| describe(TOPIC, &topic.name, Some(&[]), false, false));
    }
    for name in ["nowhere", "", "a/b", "__consumer_offsets", "__transaction_state"] {
        pair.ask_all(&format!("topic {name:?}"), |_| describe(TOPIC, name, None, true, false));
    }
    pair.ask_all("several", |_| {
        let mut request = describe(TOPIC, &own.name, Some(&["retention.ms"]), false, false);
        request.resources.extend(describe(TOPIC, "nowhere", None, false, false).resources);
        request
            .resources
            .extend(describe(TOPIC, &plain.name, Some(&["retention.ms"]), false, false).resources);
        request
    });
    pair.ask_all("twice", |_| {
        let mut request = describe(TOPIC, &own.name, Some(&["retention.ms"]), false, false);
        request
            .resources
            .extend(describe(TOPIC, &own.name, Some(&["cleanup.policy"]), false, false).resources);
        request
    });
    pair.ask_all("nothing", |_| describe_api::Request::default());
}

/// Brokers, groups, metrics, loggers, and types that are none.
pub fn describe_others(pair: &mut Pair) {
    for (synonyms, documentation) in [(false, false), (true, true)] {
        pair.ask_all(&format!("broker, synonyms {synonyms}"), |_| {
            describe(BROKER, "1", None, synonyms, documentation)
        });
        pair.ask_all(&format!("group, synonyms {synonyms}"), |_| {
            describe(GROUP, "g", None, synonyms, documentation)
        });
    }
    for name in ["", "2", "-1", "x"] {
        pair.ask_all(&format!("broker {name:?}"), |_| describe(BROKER, name, None, false, false));
        pair.ask_all(&format!("broker logger {name:?}"), |_| {
            describe(BROKER_LOGGER, name, Some(&[]), false, false)
        });
    }
    pair.ask_all("some of a broker", |_| {
        describe(BROKER, "1", Some(&["log.retention.hours", "num.partitions", "nonsense"]), true, false)
    });
    pair.ask_all("empty group", |_| describe(GROUP, "", None, false, false));
    pair.ask_all("client metrics", |_| describe(CLIENT_METRICS, "m", None, false, false));
    pair.ask_all("empty client metrics", |_| describe(CLIENT_METRICS, "", None, false, false));
    for kind in [0, 1, 3, 5, 64, -1] {
        pair.ask_all(&format!("type {kind}"), |_| describe(kind, "x", None, false, false));
    }
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn change(
    resource_type: i8,
    name: &str,
    configs: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> alter_api::Request {
    let configs = configs.iter().map(|(name, config_operation, value)| alter_api::AlterableConfig {
        name: (*name).into(),
        config_operation: *config_operation,
        value: value.map(Str::from),
    });
    alter_api::Request {
        resources: vec![alter_api::AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: configs.collect(),
        }],
        validate_only,
    }
}

fn replace(
    resource_type: i8,
    name: &str,
    configs: &[(&str, Option<&str>)],
    validate_only: bool,
) -> replace_api::Request {
    let configs = configs.iter().map(|(name, value)| replace_api::AlterableConfig {
        name: (*name).into(),
        value: value.map(Str::from),
    });
    replace_api::Request {
        resources: vec![replace_api::AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: configs.collect(),
        }],
        validate_only,
    }
}

/// What a request is called, and the entries it has.
type Named<'a, T> = (&'a str, &'a [T]);

/// IncrementalAlterConfigs and AlterConfigs.
pub fn alter(pair: &mut Pair) {
    let known = topic(pair, "altered", 1, &[]);
    let look = |pair: &mut Pair, what: &str| {
        pair.ask_all(&format!("after {what}"), |_| {
            describe(
                TOPIC,
                &known.name,
                Some(&[
                    "retention.ms",
                    "cleanup.policy",
                    "max.message.bytes",
                    "follower.replication.throttled.replicas",
                ]),
                true,
                false,
            )
        });
    };
    let changes: &[Named<(&str, i8, Option<&str>)>] = &[
        ("set", &[("retention.ms", SET, Some("5000"))]),
        ("append", &[("cleanup.policy", APPEND, Some("compact"))]),
        ("append again", &[("cleanup.policy", APPEND, Some("compact"))]),
        ("subtract", &[("cleanup.policy", SUBTRACT, Some("delete"))]),
        ("subtract what is not there", &[("cleanup.policy", SUBTRACT, Some("delete"))]),
        ("subtract the last", &[("cleanup.policy", SUBTRACT, Some("compact"))]),
        ("append to no list", &[("retention.ms", APPEND, Some("1"))]),
        ("subtract from no list", &[("retention.ms", SUBTRACT, Some("1"))]),
        ("append nothing", &[("cleanup.policy", APPEND, Some(""))]),
        ("append null", &[("cleanup.policy", APPEND, None)]),
        ("set null", &[("retention.ms", SET, None)]),
        ("set empty", &[("retention.ms", SET, Some(""))]),
        ("set nonsense", &[("retention.ms", SET, Some("x"))]),
        ("set too little", &[("segment.bytes", SET, Some("1"))]),
        ("unknown key", &[("nonsense", SET, Some("1"))]),
        ("delete unknown key", &[("nonsense", DELETE, None)]),
        ("delete", &[("retention.ms", DELETE, None)]),
        ("delete with a value", &[("retention.ms", DELETE, Some("1"))]),
        ("operation 4", &[("retention.ms", 4, Some("1"))]),
        ("operation -1", &[("retention.ms", -1, Some("1"))]),
        ("one good, one bad", &[("retention.ms", SET, Some("7000")), ("segment.bytes", SET, Some("x"))]),
        ("a key twice", &[("retention.ms", SET, Some("7000")), ("retention.ms", SET, Some("8000"))]),
        ("a key set and deleted", &[("retention.ms", SET, Some("7000")), ("retention.ms", DELETE, None)]),
        ("throttled replicas", &[("follower.replication.throttled.replicas", SET, Some("0:1"))]),
        (
            "throttled replicas and more",
            &[("follower.replication.throttled.replicas", APPEND, Some("1:1,2:1"))],
        ),
        ("throttled nonsense", &[("follower.replication.throttled.replicas", SET, Some("x"))]),
        ("min.insync.replicas of 0", &[("min.insync.replicas", SET, Some("0"))]),
        ("no changes", &[]),
    ];
    for (what, configs) in changes {
        pair.ask_all(&format!("{what}, validated"), |_| change(TOPIC, &known.name, configs, true));
        pair.ask_all(what, |_| change(TOPIC, &known.name, configs, false));
        look(pair, what);
    }
    let elsewhere: &[(&str, i8, &str, &str, &str)] = &[
        ("unknown topic", TOPIC, "nowhere", "retention.ms", "1"),
        ("empty topic", TOPIC, "", "retention.ms", "1"),
        ("invalid topic", TOPIC, "a/b", "retention.ms", "1"),
        ("broker", BROKER, "1", "log.retention.ms", "700000000"),
        ("all brokers", BROKER, "", "log.retention.ms", "700000000"),
        ("broker that is not there", BROKER, "7", "log.retention.ms", "700000000"),
        ("broker that is no number", BROKER, "x", "log.retention.ms", "700000000"),
        ("read-only key of a broker", BROKER, "1", "log.dirs", "/x"),
        ("read-only key of all", BROKER, "", "node.id", "3"),
        ("unknown key of a broker", BROKER, "1", "nonsense", "1"),
        ("bad value of a broker", BROKER, "1", "log.retention.ms", "x"),
        ("group", GROUP, "g", "consumer.session.timeout.ms", "50000"),
        ("group, out of bounds", GROUP, "g", "consumer.session.timeout.ms", "1"),
        ("group, unknown key", GROUP, "g", "nonsense", "1"),
        ("empty group", GROUP, "", "consumer.session.timeout.ms", "50000"),
        ("client metrics", CLIENT_METRICS, "m", "interval.ms", "1000"),
        ("client metrics, bad", CLIENT_METRICS, "m", "interval.ms", "1"),
        ("empty client metrics", CLIENT_METRICS, "", "interval.ms", "1000"),
        ("type 0", 0, "x", "a", "1"),
        ("type 1", 1, "x", "a", "1"),
        ("type 3", 3, "x", "a", "1"),
        ("type 99", 99, "x", "a", "1"),
    ];
    for (what, kind, name, key, value) in elsewhere {
        for validate_only in [true, false] {
            pair.ask_all(&format!("{what}, validate {validate_only}"), |_| {
                change(*kind, name, &[(key, SET, Some(value))], validate_only)
            });
            pair.ask_all(&format!("{what}, replaced, validate {validate_only}"), |_| {
                replace(*kind, name, &[(key, Some(value))], validate_only)
            });
        }
        pair.ask_all(&format!("{what}, undone"), |_| change(*kind, name, &[(key, DELETE, None)], false));
    }
    pair.ask_all("a resource twice", |_| {
        let mut request = change(TOPIC, &known.name, &[("retention.ms", SET, Some("1"))], false);
        request.resources.extend(request.resources.clone());
        request
    });
    pair.ask_all("no resources", |_| alter_api::Request::default());
    let replacements: &[Named<(&str, Option<&str>)>] = &[
        ("replaced", &[("retention.ms", Some("9000")), ("cleanup.policy", Some("compact"))]),
        ("replaced by less", &[("max.message.bytes", Some("9000"))]),
        ("replaced by null", &[("retention.ms", None)]),
        ("replaced by nonsense", &[("retention.ms", Some("x"))]),
        ("replaced by an unknown key", &[("nonsense", Some("x"))]),
        ("replaced twice", &[("retention.ms", Some("1")), ("retention.ms", Some("2"))]),
        ("replaced by nothing", &[]),
    ];
    for (what, configs) in replacements {
        pair.ask_all(&format!("{what}, validated"), |_| replace(TOPIC, &known.name, configs, true));
        pair.ask_all(what, |_| replace(TOPIC, &known.name, configs, false));
        look(pair, what);
    }
    pair.ask_all("a resource replaced twice", |_| {
        let mut request = replace(TOPIC, &known.name, &[("retention.ms", Some("1"))], false);
        request.resources.extend(request.resources.clone());
        request
    });
}

/// ListConfigResources. What topics and groups there are is up to earlier runs.
pub fn list_resources(pair: &mut Pair) {
    pair.ask("client metrics", 0, |_| list_api::Request::default());
    for kind in [BROKER, BROKER_LOGGER, CLIENT_METRICS, 0, 1, 3, 64, -1] {
        pair.ask(&format!("type {kind}"), 1, |_| list_api::Request { resource_types: vec![kind] });
    }
    pair.ask("two types", 1, |_| list_api::Request { resource_types: vec![BROKER, CLIENT_METRICS, BROKER] });
}

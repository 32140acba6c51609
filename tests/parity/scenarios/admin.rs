//! Topics: made, deleted, grown.

use oncelog_wire::{
    Str, Uuid, create_partitions as grow_api, create_topics as create_api, delete_topics as delete_api,
};

use super::{describe_topic, topic};
use crate::pair::Pair;

fn creatable(name: &str, partitions: i32, replicas: i16) -> create_api::CreatableTopic {
    create_api::CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        ..Default::default()
    }
}

fn create(topics: Vec<create_api::CreatableTopic>, validate_only: bool) -> create_api::Request {
    create_api::Request { topics, timeout_ms: 5000, validate_only }
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> create_api::CreatableTopic {
    let assignments =
        assignments.iter().map(|(partition_index, brokers)| create_api::CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: (*brokers).into(),
        });
    create_api::CreatableTopic { assignments: assignments.collect(), ..creatable(name, -1, -1) }
}

fn configured(name: &str, configs: &[(&str, Option<&str>)]) -> create_api::CreatableTopic {
    let configs = configs.iter().map(|(name, value)| create_api::CreatableTopicConfig {
        name: (*name).into(),
        value: value.map(Str::from),
    });
    create_api::CreatableTopic { configs: configs.collect(), ..creatable(name, 1, 1) }
}

/// Names, counts, assignments, configurations.
pub fn create_topics(pair: &mut Pair) {
    for version in 2..=7 {
        let name = |what: &str| pair.name(&format!("create-{what}-{version}"));
        let (only, real, defaults, by_hand) = (name("only"), name("real"), name("defaults"), name("by-hand"));
        pair.ask("validated only", version, |_| create(vec![creatable(&only, 3, 1)], true));
        pair.ask("not there", version, |_| create(vec![creatable(&only, 3, 1)], true));
        pair.ask("made", version, |_| create(vec![creatable(&real, 3, 1)], false));
        pair.ask("made again", version, |_| create(vec![creatable(&real, 3, 1)], false));
        pair.ask("validated again", version, |_| create(vec![creatable(&real, 3, 1)], true));
        pair.ask("defaults", version, |_| create(vec![creatable(&defaults, -1, -1)], false));
        pair.ask("by hand", version, |_| create(vec![assigned(&by_hand, &[(0, &[1]), (1, &[1])])], false));
        pair.ask_unless(&["LeaderNotAvailable", "UnknownTopicOrPartition"], "by hand, described", 9, |_| {
            describe_topic(&by_hand.as_str().into())
        });
    }
    let taken = topic(pair, "taken", 1, &[]);
    let fresh = pair.name("fresh");
    let long = "x".repeat(250);
    let just = "x".repeat(249);
    for version in [2, 4, 5, 7] {
        let mut ask = |what: &str, topics: Vec<create_api::CreatableTopic>| {
            pair.ask(what, version, |_| create(topics.clone(), true))
        };
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "ä",
            "a\0b",
            &long,
            "__consumer_offsets",
            "__cluster_metadata",
            "__share_group_state",
            &just,
        ] {
            ask(&format!("name {name:.20}"), vec![creatable(name, 1, 1)]);
        }
        ask("a colliding name", vec![creatable(&taken.name.replace('.', "_"), 1, 1)]);
        for partitions in [0, -1, -2, i32::MIN, 10_001] {
            ask(&format!("{partitions} partitions"), vec![creatable(&fresh, partitions, 1)]);
        }
        for replicas in [0, -1, -2, 2, i16::MAX] {
            ask(&format!("{replicas} replicas"), vec![creatable(&fresh, 1, replicas)]);
        }
        ask("no partitions and no replicas", vec![creatable(&fresh, 0, 0)]);
        ask("the same twice", vec![creatable(&fresh, 1, 1), creatable(&fresh, 1, 1)]);
        ask(
            "the same twice and one good",
            vec![creatable(&fresh, 1, 1), creatable("good", 1, 1), creatable(&fresh, 2, 1)],
        );
        ask("none", vec![]);
        ask("two that collide", vec![creatable("x.y", 1, 1), creatable("x_y", 1, 1)]);
        let with_counts = |partitions, replicas| create_api::CreatableTopic {
            num_partitions: partitions,
            replication_factor: replicas,
            ..assigned(&fresh, &[(0, &[1])])
        };
        ask("assigned, with partitions", vec![with_counts(1, -1)]);
        ask("assigned, with replicas", vec![with_counts(-1, 1)]);
        ask("assigned, with both", vec![with_counts(1, 1)]);
        for (what, assignments) in [
            ("to a broker that is not there", &[(0, &[9][..])][..]),
            ("to a broker twice", &[(0, &[1, 1])]),
            ("to nobody", &[(0, &[])]),
            ("from partition 1", &[(1, &[1])]),
            ("with a gap", &[(0, &[1]), (2, &[1])]),
            ("with a repetition", &[(0, &[1]), (0, &[1])]),
            ("negative", &[(-1, &[1])]),
            ("unevenly", &[(0, &[1]), (1, &[])]),
            ("to a negative broker", &[(0, &[-1])]),
        ] {
            ask(&format!("assigned {what}"), vec![assigned(&fresh, assignments)]);
        }
        for configs in CONFIGS {
            ask(&format!("config {configs:?}"), vec![configured(&fresh, configs)]);
        }
    }
}

type Configs = &'static [(&'static str, Option<&'static str>)];

const CONFIGS: &[Configs] = &[
    &[("cleanup.policy", Some("compact"))],
    &[("cleanup.policy", Some("compact,delete"))],
    &[("cleanup.policy", Some("delete, compact"))],
    &[("cleanup.policy", Some(""))],
    &[("cleanup.policy", Some("x"))],
    &[("cleanup.policy", Some("delete,delete"))],
    &[("cleanup.policy", None)],
    &[("no.such.key", Some("1"))],
    &[("", Some("1"))],
    &[("retention.ms", Some("-1"))],
    &[("retention.ms", Some("-2"))],
    &[("retention.ms", Some("x"))],
    &[("retention.ms", Some(" 5 "))],
    &[("retention.ms", Some("99999999999999999999"))],
    &[("retention.bytes", Some("-5"))],
    &[("segment.bytes", Some("13"))],
    &[("segment.bytes", Some("14"))],
    &[("segment.bytes", Some("1048575"))],
    &[("segment.bytes", Some("1048576"))],
    &[("segment.ms", Some("0"))],
    &[("max.message.bytes", Some("-1"))],
    &[("max.message.bytes", Some("0"))],
    &[("min.insync.replicas", Some("0"))],
    &[("min.insync.replicas", Some("5"))],
    &[("min.cleanable.dirty.ratio", Some("1.5"))],
    &[("min.cleanable.dirty.ratio", Some("0.1"))],
    &[("min.compaction.lag.ms", Some("10")), ("max.compaction.lag.ms", Some("5"))],
    &[("compression.type", Some("brotli"))],
    &[("compression.type", Some("GZIP"))],
    &[("compression.gzip.level", Some("0"))],
    &[("compression.gzip.level", Some("-1"))],
    &[("compression.zstd.level", Some("23"))],
    &[("compression.lz4.level", Some("18"))],
    &[("message.timestamp.type", Some("x"))],
    &[("message.timestamp.type", Some("LogAppendTime"))],
    &[("message.timestamp.after.max.ms", Some("-1"))],
    &[("message.format.version", Some("2.0"))],
    &[("message.downconversion.enable", Some("true"))],
    &[("preallocate", Some("yes"))],
    &[("preallocate", Some("TRUE"))],
    &[("unclean.leader.election.enable", Some("true"))],
    &[("remote.storage.enable", Some("true"))],
    &[("remote.storage.enable", Some("false"))],
    &[("local.retention.ms", Some("100"))],
    &[("leader.replication.throttled.replicas", Some("*"))],
    &[("leader.replication.throttled.replicas", Some("0:1,1:1"))],
    &[("leader.replication.throttled.replicas", Some("x"))],
    &[("flush.messages", Some("0"))],
    &[("index.interval.bytes", Some("-1"))],
    &[("segment.index.bytes", Some("3"))],
    &[("segment.jitter.ms", Some("-1"))],
    &[("file.delete.delay.ms", Some("0"))],
    &[("delete.retention.ms", Some("0"))],
    &[("retention.ms", Some("1")), ("retention.ms", Some("2"))],
];

/// By name and by id, twice, never there.
pub fn delete_topics(pair: &mut Pair) {
    for version in 1..=6 {
        let by_name = topic(pair, &format!("delete-name-{version}"), 1, &[]);
        let state = |name: Option<&str>, topic_id: Uuid| delete_api::DeleteTopicState {
            name: name.map(Str::from),
            topic_id,
        };
        let request = |names: &[&str]| delete_api::Request {
            topics: names.iter().map(|name| state(Some(name), Uuid::ZERO)).collect(),
            topic_names: names.iter().map(|&name| name.into()).collect(),
            timeout_ms: 5000,
        };
        pair.ask("unknown", version, |_| request(&["nowhere"]));
        pair.ask("invalid", version, |_| request(&["a/b", ""]));
        pair.ask("none", version, |_| request(&[]));
        pair.ask("internal", version, |_| request(&["__cluster_metadata"]));
        pair.ask("twice in a request", version, |_| request(&[&by_name.name, &by_name.name]));
        pair.ask("deleted", version, |_| request(&[&by_name.name, "nowhere"]));
        pair.ask("deleted again", version, |_| request(&[&by_name.name]));
        if version < 6 {
            continue;
        }
        let known = topic(pair, "delete-id", 1, &[]);
        let by = |topics: Vec<delete_api::DeleteTopicState>| delete_api::Request {
            topics,
            timeout_ms: 5000,
            ..Default::default()
        };
        pair.ask("by name and id", 6, |side| by(vec![state(Some(&known.name), known.id[side])]));
        pair.ask("by neither", 6, |_| by(vec![state(None, Uuid::ZERO)]));
        pair.ask("by unknown id", 6, |_| by(vec![state(None, Uuid([4; 16]))]));
        pair.ask("by id, twice", 6, |side| {
            by(vec![state(None, known.id[side]), state(None, known.id[side])])
        });
        pair.ask("by name, then id", 6, |side| {
            by(vec![state(Some(&known.name), Uuid::ZERO), state(None, known.id[side])])
        });
        pair.ask("still there", 12, |_| describe_topic(&known.name));
        pair.ask("by id", 6, |side| by(vec![state(None, known.id[side])]));
        pair.ask("by id, again", 6, |side| by(vec![state(None, known.id[side])]));
        let again = topic(pair, "delete-id", 2, &[]);
        pair.ask("made anew", 12, |_| describe_topic(&again.name));
    }
}

/// CreatePartitions.
pub fn create_partitions(pair: &mut Pair) {
    let known = topic(pair, "grows", 2, &[]);
    let grow = |name: &str, count: i32, assignments: Option<&[&[i32]]>| grow_api::CreatePartitionsTopic {
        name: name.into(),
        count,
        assignments: assignments.map(|all| {
            all.iter()
                .map(|brokers| grow_api::CreatePartitionsAssignment { broker_ids: (*brokers).into() })
                .collect()
        }),
    };
    let request = |topics: Vec<grow_api::CreatePartitionsTopic>, validate_only| grow_api::Request {
        topics,
        timeout_ms: 5000,
        validate_only,
    };
    for validate_only in [true, false] {
        let what = |what: &str| format!("{what}, validate {validate_only}");
        for count in [-1, 0, 1, 2, i32::MIN] {
            pair.ask_all(&what(&format!("to {count}")), |_| {
                request(vec![grow(&known.name, count, None)], validate_only)
            });
        }
        pair.ask_all(&what("unknown"), |_| request(vec![grow("nowhere", 3, None)], validate_only));
        pair.ask_all(&what("invalid name"), |_| request(vec![grow("a/b", 3, None)], validate_only));
        pair.ask_all(&what("empty name"), |_| request(vec![grow("", 3, None)], validate_only));
        pair.ask_all(&what("twice"), |_| {
            request(vec![grow(&known.name, 3, None), grow(&known.name, 4, None)], validate_only)
        });
        pair.ask_all(&what("none"), |_| request(vec![], validate_only));
        for (name, count, assignments) in [
            ("too few", 4, &[&[1][..]][..]),
            ("too many", 3, &[&[1], &[1]]),
            ("unknown broker", 3, &[&[8]]),
            ("the same broker twice", 3, &[&[1, 1]]),
            ("nobody", 3, &[&[]]),
            ("no assignments", 3, &[]),
        ] {
            pair.ask_all(&what(&format!("assigned, {name}")), |_| {
                request(vec![grow(&known.name, count, Some(assignments))], validate_only)
            });
        }
    }
    pair.ask_all("too many by far", |_| request(vec![grow(&known.name, 10_100, None)], true));
    pair.ask("validated", 3, |_| request(vec![grow(&known.name, 3, None)], true));
    pair.ask("unchanged", 12, |_| describe_topic(&known.name));
    pair.ask("grown", 3, |_| request(vec![grow(&known.name, 3, None), grow("nowhere", 1, None)], false));
    pair.ask("grown by hand", 0, |_| request(vec![grow(&known.name, 5, Some(&[&[1], &[1]]))], false));
    pair.ask_unless(&["LeaderNotAvailable"], "larger", 12, |_| describe_topic(&known.name));
}

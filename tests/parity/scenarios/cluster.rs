//! What a client asks first: which versions there are, and who leads what.

use oncelog_wire::{
    ApiKey, Str, Uuid, api_versions as versions_api, describe_cluster as cluster_api,
    describe_topic_partitions, find_coordinator as coordinator_api, metadata,
};

use super::{Topic, describe_topic, topic};
use crate::pair::Pair;

/// All versions, names that are none, and a version nobody has.
pub fn api_versions(pair: &mut Pair) {
    let named = |name: &str, version: &str| versions_api::Request {
        client_software_name: name.into(),
        client_software_version: version.into(),
    };
    pair.ask_all("all APIs", |_| named("parity", "1.0"));
    for (name, version) in [
        ("", "1"),
        ("a", ""),
        ("-a", "1"),
        ("a-", "1"),
        ("a b", "1"),
        ("a.b-c", "1.0-SNAPSHOT"),
        ("a", "1_0"),
    ] {
        for number in [3, 4] {
            pair.ask(&format!("client {name:?} {version:?}"), number, |_| named(name, version));
        }
    }
    // Size, key 18, version 99, correlation id 7, client id "x", no tagged fields, and no body to speak of.
    let frame = [0, 0, 0, 14, 0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'x', 0, 0, 0];
    pair.ask_raw("version 99", ApiKey::ApiVersions, 99, &frame);
    for (what, key, version) in [
        ("an unknown API", 999_u16, 0_u8),
        ("a version too old", 0, 2),
        ("a version too new", 3, 99),
        ("a controller's API", 52, 0),
    ] {
        let [high, low] = key.to_be_bytes();
        let frame = [0, 0, 0, 14, high, low, 0, version, 0, 0, 0, 7, 0, 1, b'x', 0, 0, 0];
        pair.ask_raw(what, ApiKey::ApiVersions, -1, &frame);
    }
}

fn of(names: &[&str]) -> metadata::Request {
    let topics = names
        .iter()
        .map(|name| metadata::MetadataRequestTopic { name: Some((*name).into()), ..Default::default() });
    metadata::Request { topics: Some(topics.collect()), ..Default::default() }
}

/// No topics, unknown, invalid and internal ones, and topics by id.
pub fn metadata_of_topics(pair: &mut Pair) {
    let known = topic(pair, "known", 3, &[]);
    let quiet =
        |request: metadata::Request| metadata::Request { allow_auto_topic_creation: false, ..request };
    for version in 1..=13 {
        pair.ask("no topics", version, |_| quiet(of(&[])));
    }
    let unknown = pair.name("unknown");
    let long = "x".repeat(250);
    // Before version 4 there is no flag, and what is unknown is created.
    for version in 4..=13 {
        pair.ask("unknown topic", version, |_| quiet(of(&[&unknown])));
        pair.ask("known twice", version, |_| quiet(of(&[&known.name, &known.name])));
        pair.ask("known and unknown", version, |_| quiet(of(&[&unknown, &known.name])));
        pair.ask("an internal topic", version, |_| quiet(of(&["__consumer_offsets", "__transaction_state"])));
    }
    for name in ["", ".", "..", "a/b", "a b", "ä", &long] {
        for version in [0, 1, 4, 9, 13] {
            pair.ask(&format!("invalid name {name:.6}"), version, |_| of(&[name]));
            pair.ask(&format!("invalid name {name:.6}, quietly"), version, |_| quiet(of(&[name])));
        }
    }
    for version in 8..=13 {
        pair.ask("authorized operations", version, |_| metadata::Request {
            include_cluster_authorized_operations: true,
            include_topic_authorized_operations: true,
            ..quiet(of(&[&known.name]))
        });
    }
    by_id(pair, &known);
}

fn by_id(pair: &mut Pair, known: &Topic) {
    let by = |name: Option<Str>, topic_id: Uuid| metadata::Request {
        topics: Some(vec![metadata::MetadataRequestTopic { name, topic_id }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let foreign = Uuid([7; 16]);
    for version in 10..=13 {
        pair.ask("by id", version, |side| by(None, known.id[side]));
        pair.ask("by unknown id", version, |_| by(None, foreign));
        pair.ask("by zero id", version, |_| by(None, Uuid::ZERO));
        pair.ask("by name and id", version, |side| by(Some(known.name.clone()), known.id[side]));
        pair.ask("by name and foreign id", version, |_| by(Some(known.name.clone()), foreign));
        pair.ask("by ids and a name", version, |side| metadata::Request {
            topics: Some(vec![
                metadata::MetadataRequestTopic { name: None, topic_id: known.id[side] },
                metadata::MetadataRequestTopic { name: Some(known.name.clone()), topic_id: Uuid::ZERO },
            ]),
            ..by(None, foreign)
        });
    }
}

/// Topics that come to be by being asked for.
pub fn metadata_that_creates(pair: &mut Pair) {
    for version in [0, 1, 3, 4, 8, 12, 13] {
        let name = Str::from(pair.name(&format!("made-by-{version}")));
        pair.ask("first answer", version, |_| of(&[&name]));
        pair.ask_unless(&["LeaderNotAvailable", "UnknownTopicOrPartition"], "at last", version, |_| {
            describe_topic(&name)
        });
    }
    let name = pair.name("collides_1");
    let other = pair.name("collides.1");
    pair.ask("a name, first answer", 9, |_| of(&[&name]));
    pair.ask_unless(&["LeaderNotAvailable", "UnknownTopicOrPartition"], "at last", 9, |_| of(&[&name]));
    pair.ask("a name that collides", 9, |_| of(&[&other]));
}

/// Groups, transactions and what is neither; one key, many, none.
pub fn find_coordinator(pair: &mut Pair) {
    for key_type in [-1, 0, 1, 2, 3] {
        for key in ["find", "", "g:AAAAAAAAAAAAAAAAAAAAAA:0", "g:1eWFx5PQSSKzmJ6pcgxWUQ:0", "a:b"] {
            pair.ask_all(&format!("type {key_type} key {key:?}"), |_| coordinator_api::Request {
                key: key.into(),
                key_type,
                coordinator_keys: vec![key.into()],
            });
        }
        for version in 4..=6 {
            pair.ask(&format!("type {key_type}, several"), version, |_| coordinator_api::Request {
                key_type,
                coordinator_keys: vec!["a".into(), "b".into(), "".into(), "a".into()],
                ..Default::default()
            });
            pair.ask(&format!("type {key_type}, none"), version, |_| coordinator_api::Request {
                key_type,
                ..Default::default()
            });
        }
    }
}

/// Every version, every endpoint type, with and without operations.
pub fn describe_cluster(pair: &mut Pair) {
    for endpoint_type in [0, 1, 2, 3] {
        for asks in [false, true] {
            pair.ask_all(&format!("endpoint type {endpoint_type}, flags {asks}"), |_| cluster_api::Request {
                include_cluster_authorized_operations: asks,
                endpoint_type,
                include_fenced_brokers: asks,
            });
        }
    }
}

/// The paged form of Metadata.
pub fn topic_partitions(pair: &mut Pair) {
    let a = topic(pair, "paged-a", 3, &[]);
    let b = topic(pair, "paged-b", 4, &[]);
    let unknown = Str::from(pair.name("paged-aa"));
    let of = |names: &[&Str], response_partition_limit, cursor: Option<(&Str, i32)>| {
        describe_topic_partitions::Request {
            topics: names
                .iter()
                .map(|&name| describe_topic_partitions::TopicRequest { name: name.clone() })
                .collect(),
            response_partition_limit,
            cursor: cursor.map(|(name, partition_index)| describe_topic_partitions::Cursor {
                topic_name: name.clone(),
                partition_index,
            }),
        }
    };
    let all = [&b.name, &unknown, &a.name];
    for limit in [-1, 0, 1, 2, 3, 4, 5, 6, 7, 2000, i32::MAX] {
        pair.ask(&format!("limit {limit}"), 0, |_| of(&all, limit, None));
        for cursor in [(&a.name, 1), (&a.name, 3), (&b.name, 0), (&b.name, 2), (&unknown, 0)] {
            let what = format!("limit {limit}, from {}-{}", cursor.0, cursor.1);
            pair.ask(&what, 0, |_| of(&all, limit, Some(cursor)));
        }
    }
    pair.ask("cursor with negative partition", 0, |_| of(&all, 2000, Some((&a.name, -1))));
    pair.ask("cursor alone", 0, |_| of(&[], 2000, Some((&b.name, 2))));
    pair.ask("twice", 0, |_| of(&[&a.name, &a.name], 2000, None));
    for name in ["", ".", "a/b", "__consumer_offsets"] {
        let name = Str::from(name);
        pair.ask(&format!("name {name:?}"), 0, |_| of(&[&name], 3, None));
    }
}

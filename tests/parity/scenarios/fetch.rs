//! Fetch: versions, errors, limits, and sessions.

use oncelog_wire::{LeaderEpoch, Offset, Str, Uuid, fetch as fetch_api};

use super::{Topic, batch, fetch_from, list_offsets_of, produce_to, topic};
use crate::pair::{Both, Pair, Side};

/// What is there, from each place, by each version.
pub fn versions(pair: &mut Pair) {
    let topic = topic(pair, "fetched", 1, &[]);
    for values in [&["a", "b", "c"][..], &["d"], &["e", "f"]] {
        let records = batch(pair, values);
        pair.ask("records", 9, |side| produce_to(&topic, side, 0, records.clone()));
    }
    for offset in 0..=6 {
        for isolation_level in [0, 1] {
            pair.ask_all(&format!("from {offset}, isolation {isolation_level}"), |side| fetch_api::Request {
                isolation_level,
                ..fetch_from(&topic, side, 0, offset)
            });
        }
    }
    pair.ask("isolation 2", 12, |side| fetch_api::Request {
        isolation_level: 2,
        ..fetch_from(&topic, side, 0, 0)
    });
}

/// What cannot be fetched.
pub fn errors(pair: &mut Pair) {
    let known = topic(pair, "errors", 1, &[]);
    let records = batch(pair, &["a", "b", "c"]);
    pair.ask("records", 9, |side| produce_to(&known, side, 0, records.clone()));
    for offset in [-2, -1, 4, 100, i64::MAX] {
        pair.ask_all(&format!("offset {offset}"), |side| fetch_from(&known, side, 0, offset));
    }
    for partition in [-1, 1] {
        pair.ask_all(&format!("partition {partition}"), |side| fetch_from(&known, side, partition, 0));
    }
    for name in ["nowhere", "", "a/b"] {
        let nowhere = Topic { name: name.into(), id: Both::of(|_| Uuid([5; 16])) };
        pair.ask_all(&format!("topic {name:?}"), |side| fetch_from(&nowhere, side, 0, 0));
    }
    let zero = Topic { name: known.name.clone(), id: Both::of(|_| Uuid::ZERO) };
    for version in 13..=18 {
        pair.ask("zero id", version, |side| fetch_from(&zero, side, 0, 0));
    }
    for epoch in [-1, 0, 1, 7] {
        pair.ask_all(&format!("current epoch {epoch}"), |side| {
            let mut request = fetch_from(&known, side, 0, 1);
            request.topics[0].partitions[0].current_leader_epoch = LeaderEpoch(epoch);
            request
        });
        for offset in [0, 3, 50] {
            pair.ask_all(&format!("last fetched epoch {epoch} offset {offset}"), |side| {
                let mut request = fetch_from(&known, side, 0, offset);
                request.topics[0].partitions[0].last_fetched_epoch = LeaderEpoch(epoch);
                request
            });
        }
    }
    pair.ask_all("cluster id of another", |side| fetch_api::Request {
        cluster_id: Some("other".into()),
        ..fetch_from(&known, side, 0, 0)
    });
    pair.ask_all("twice the same", |side| {
        let mut request = fetch_from(&known, side, 0, 0);
        let again = request.topics[0].partitions[0].clone();
        request.topics[0].partitions.push(again);
        request
    });
    pair.ask_all("one good, one bad", |side| {
        let mut request = fetch_from(&known, side, 0, 0);
        let mut bad = request.topics[0].partitions[0].clone();
        bad.partition = 3;
        request.topics[0].partitions.insert(0, bad);
        request
    });
    pair.ask_all("nothing", |_| fetch_api::Request::default());
    pair.ask_all("internal topic", |side| {
        let offsets = Topic { name: "__consumer_offsets".into(), id: Both::of(|_| Uuid([5; 16])) };
        fetch_from(&offsets, side, 0, 1000)
    });
}

/// Limits of the request and of its partitions.
pub fn sizes(pair: &mut Pair) {
    let topic = topic(pair, "sizes", 3, &[]);
    for partition in 0..2 {
        for _ in 0..4 {
            let records = batch(pair, &[&"x".repeat(100)]);
            pair.ask("records", 9, |side| produce_to(&topic, side, partition, records.clone()));
        }
    }
    let request = |side: Side, max_bytes: i32, partition_max_bytes: i32| {
        let partition =
            |partition| fetch_api::FetchPartition { partition, partition_max_bytes, ..Default::default() };
        let mut request = fetch_from(&topic, side, 0, 0);
        request.max_bytes = max_bytes;
        request.topics[0].partitions = [2, 0, 1].map(partition).into();
        request
    };
    for max_bytes in [-1, 0, 1, 172, 173, 350, 700, 1200, i32::MAX] {
        for partition_max_bytes in [-1, 0, 1, 172, 173, 400, i32::MAX] {
            for version in [4, 12, 17] {
                pair.ask(&format!("max {max_bytes}, by partition {partition_max_bytes}"), version, |side| {
                    request(side, max_bytes, partition_max_bytes)
                });
            }
        }
    }
    for (min_bytes, max_wait_ms) in [(0, 1000), (1, 0), (1, 100), (i32::MAX, 100), (-1, 100), (1, -1)] {
        pair.ask(&format!("min {min_bytes}, wait {max_wait_ms}"), 12, |side| fetch_api::Request {
            min_bytes,
            max_wait_ms,
            ..request(side, 1 << 20, 1 << 20)
        });
        pair.ask(&format!("at the end, min {min_bytes}, wait {max_wait_ms}"), 12, |side| {
            fetch_api::Request { min_bytes, max_wait_ms, ..fetch_from(&topic, side, 2, 0) }
        });
    }
}

/// Sessions: made, used, left, and never there.
pub fn sessions(pair: &mut Pair) {
    let a = topic(pair, "session-a", 2, &[]);
    let b = topic(pair, "session-b", 1, &[]);
    let records = batch(pair, &["r"]);
    for version in [7, 12, 13, 18] {
        let what = |what: &str| format!("session: {what}");
        let full = |side: Side| {
            let mut request = fetch_from(&a, side, 0, 0);
            let mut second = request.topics[0].partitions[0].clone();
            second.partition = 1;
            request.topics[0].partitions.push(second);
            fetch_api::Request { session_epoch: 0, ..request }
        };
        let session = pair.ask(&what("new"), version, full).map(|answer| answer.session_id);
        let next = |side: Side, session_epoch: i32| fetch_api::Request {
            session_id: session[side],
            session_epoch,
            max_bytes: 1 << 20,
            ..Default::default()
        };
        pair.ask(&what("nothing new"), version, |side| next(side, 1));
        pair.ask("a record", 9, |side| produce_to(&a, side, 1, records.clone()));
        pair.ask(&what("one has news"), version, |side| next(side, 2));
        pair.ask(&what("the same epoch"), version, |side| next(side, 2));
        pair.ask(&what("moves on"), version, |side| {
            let mut request = fetch_from(&a, side, 1, 1);
            (request.session_id, request.session_epoch) = (session[side], 3);
            request
        });
        pair.ask(&what("adds a topic"), version, |side| {
            let mut request = fetch_from(&b, side, 0, 0);
            (request.session_id, request.session_epoch) = (session[side], 4);
            request
        });
        pair.ask(&what("an offset out of range"), version, |side| {
            let mut request = fetch_from(&b, side, 0, 99);
            (request.session_id, request.session_epoch) = (session[side], 5);
            request
        });
        pair.ask(&what("still out of range"), version, |side| next(side, 6));
        pair.ask(&what("an unknown topic"), version, |side| {
            let nowhere = Topic { name: "nowhere".into(), id: Both::of(|_| Uuid([5; 16])) };
            let mut request = fetch_from(&nowhere, side, 0, 0);
            (request.session_id, request.session_epoch) = (session[side], 7);
            request
        });
        pair.ask(&what("forgets"), version, |side| fetch_api::Request {
            forgotten_topics_data: vec![
                fetch_api::ForgottenTopic {
                    topic: b.name.clone(),
                    topic_id: b.id[side],
                    partitions: vec![0],
                },
                fetch_api::ForgottenTopic {
                    topic: "nowhere".into(),
                    topic_id: Uuid([5; 16]),
                    partitions: vec![0],
                },
            ],
            ..next(side, 8)
        });
        pair.ask(&what("after that"), version, |side| next(side, 9));
        pair.ask(&what("a later epoch"), version, |side| next(side, 50));
        pair.ask(&what("names and ids mixed"), if version < 13 { 13 } else { 12 }, |side| next(side, 10));
        pair.ask(&what("still there"), version, |side| next(side, 10));
        pair.ask(&what("closes"), version, |side| fetch_api::Request {
            session_id: session[side],
            session_epoch: -1,
            ..fetch_from(&a, side, 0, 0)
        });
        pair.ask(&what("gone"), version, |side| next(side, 11));
        pair.ask(&what("an unknown id"), version, |_| fetch_api::Request {
            session_id: 1,
            session_epoch: 1,
            ..Default::default()
        });
        pair.ask(&what("epoch without id"), version, |_| fetch_api::Request {
            session_id: 0,
            session_epoch: 5,
            ..Default::default()
        });
        pair.ask(&what("an empty one"), version, |_| fetch_api::Request {
            session_epoch: 0,
            ..Default::default()
        });
        pair.ask(&what("all unknown"), version, |side| fetch_api::Request {
            session_epoch: 0,
            ..fetch_from(&Topic { name: Str::from("nowhere"), id: Both::of(|_| Uuid([5; 16])) }, side, 0, 0)
        });
    }
    pair.ask("ends", 7, |_| list_offsets_of(&a.name, &[0, 1], -1, 0));
    pair.ask("log start moves", 2, |_| super::offsets::delete_to(&a.name, 1, 1));
    pair.ask("below the log start", 12, |side| fetch_from(&a, side, 1, 0));
    pair.ask("beyond", 12, |side| {
        let mut request = fetch_from(&a, side, 1, 2);
        request.topics[0].partitions[0].log_start_offset = Offset(1);
        request
    });
}

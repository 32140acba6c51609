//! What outlives what: topics that are made anew, transactions whose topics go, fetches that wait, producers that
//! run out of epochs.

use std::time::{Duration, Instant};

use oncelog_records::BatchBuilder;
use oncelog_wire::{
    ErrorCode, Offset, ProducerEpoch, ProducerId, Str, delete_topics, describe_transactions, end_txn, fetch,
    init_producer_id, list_offsets, offset_commit, produce,
};

use super::transactions::{add_request, end, end_request, produce_in, producers_of};
use super::{
    Producer, Topic, batch, batch_of, fetch_from, filled, init_producer, list_offsets_of, produce_to, topic,
};
use crate::compare::FOREIGN_PRODUCERS;
use crate::pair::{Both, Pair, Side};

fn delete(pair: &mut Pair, topic: &Topic) {
    pair.ask("the topic is deleted", 5, |_| delete_topics::Request {
        topic_names: vec![topic.name.clone()],
        timeout_ms: 5_000,
        ..Default::default()
    });
    pair.ask_unless(&["\0"], "gone", 12, |_| super::describe_topic(&topic.name));
}

/// A topic of the same name is another one.
pub fn topics_made_anew(pair: &mut Pair) {
    let old = topic(pair, "anew", 2, &[]);
    let group = Str::from(pair.name("anew"));
    let producer = (ProducerId(FOREIGN_PRODUCERS + 7), ProducerEpoch(0));
    let records = batch_of(pair, producer, 5, &["a", "b"]);
    pair.ask("records", 11, |side| produce_to(&old, side, 0, records.clone()));
    pair.ask("a commit", 8, |_| offset_commit::Request {
        group_id: group.clone(),
        topics: vec![offset_commit::OffsetCommitRequestTopic {
            name: old.name.clone(),
            partitions: vec![offset_commit::OffsetCommitRequestPartition {
                committed_offset: Offset(2),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    });
    let session = pair
        .ask("a session by name", 12, |side| fetch::Request {
            session_epoch: 0,
            ..fetch_from(&old, side, 0, 0)
        })
        .map(|answer| answer.session_id);
    let by_id = pair
        .ask("a session by id", 13, |side| fetch::Request {
            session_epoch: 0,
            ..fetch_from(&old, side, 0, 2)
        })
        .map(|answer| answer.session_id);
    delete(pair, &old);
    pair.ask("fetch of what is gone", 12, |side| fetch_from(&old, side, 0, 0));
    pair.ask("fetch by id of what is gone", 13, |side| fetch_from(&old, side, 0, 0));
    pair.ask("produce to what is gone", 12, |side| produce_to(&old, side, 0, records.clone()));
    pair.ask("produce by id to what is gone", 13, |side| produce_to(&old, side, 0, records.clone()));
    let continued = |session: Both<i32>, side: Side, session_epoch| fetch::Request {
        session_id: session[side],
        session_epoch,
        max_bytes: 1 << 20,
        ..Default::default()
    };
    pair.ask("the session goes on", 12, |side| continued(session, side, 1));
    pair.ask("the session by id goes on", 13, |side| continued(by_id, side, 1));
    let new = topic(pair, "anew", 1, &[]);
    pair.ask("the session meets the new topic", 12, |side| continued(session, side, 2));
    pair.ask("the session by id does not", 13, |side| continued(by_id, side, 2));
    pair.ask("by the old id", 13, |side| fetch_from(&old, side, 0, 0));
    pair.ask("produce by the old id", 13, |side| produce_to(&old, side, 0, records.clone()));
    pair.ask("no producers", 0, |_| producers_of(&new.name, &[0, 1]));
    pair.ask("an empty log", 7, |_| list_offsets_of(&new.name, &[0, 1], -1, 0));
    let next = batch_of(pair, producer, 7, &["c"]);
    pair.ask("the producer goes on", 11, |side| produce_to(&new, side, 0, next.clone()));
    pair.ask("no commit", 7, |_| super::group_offsets::fetch_request(&group, Some((&new, &[0])), true));
}

/// A transaction in a topic that is deleted.
pub fn transactions_without_topics(pair: &mut Pair) {
    let (stays, goes) = (topic(pair, "stays", 1, &[]), topic(pair, "goes", 1, &[]));
    for (version, committed) in [(4, true), (5, true), (5, false)] {
        let goes =
            if version == 4 { goes.clone() } else { topic(pair, &format!("goes-{committed}"), 1, &[]) };
        let id = pair.name(&format!("orphan-{version}-{committed}"));
        let producer = init_producer(pair, "a producer", Some(&id));
        if version == 4 {
            pair.settle("adds", 3, |side| {
                add_request(&id, producer[side], &[(&stays.name, 0), (&goes.name, 0)])
            });
        }
        let produce_version = if version == 4 { 11 } else { 12 };
        produce_in(pair, "writes", produce_version, Some(&id), &producer, (&stays, 0), 0);
        produce_in(pair, "writes", produce_version, Some(&id), &producer, (&goes, 0), 0);
        delete(pair, &goes);
        produce_in(pair, "writes to what is gone", produce_version, Some(&id), &producer, (&goes, 0), 1);
        produce_in(pair, "writes to what stays", produce_version, Some(&id), &producer, (&stays, 0), 1);
        end(pair, "end", &id, &producer, committed, version);
        super::transaction_ends::through(pair, &id);
        pair.ask("state", 0, |_| describe_transactions::Request {
            transactional_ids: vec![id.as_str().into()],
        });
        pair.ask("stable again", 7, |_| list_offsets_of(&stays.name, &[0], -1, 1));
    }
}

/// Fetches that wait until there is something, and until it is stable.
pub fn waiting_fetches(pair: &mut Pair) {
    let topic = topic(pair, "waits", 1, &[]);
    let records = batch(pair, &["a"]);
    let mut reader = pair.another();
    let waits = |side: Side, offset: i64, min_bytes: i32, max_wait_ms: i32, isolation_level: i8| {
        fetch::Request { min_bytes, max_wait_ms, isolation_level, ..fetch_from(&topic, side, 0, offset) }
    };
    for version in [4, 11, 17] {
        let end = pair.ask("end", 7, |_| list_offsets_of(&topic.name, &[0], -1, 0));
        let end = end.reference.topics[0].partitions[0].offset.0;
        let waiting = reader.send("woken by a record", version, |side| waits(side, end, 1, 5_000, 0));
        std::thread::sleep(Duration::from_millis(100));
        pair.ask("a record", 9, |side| produce_to(&topic, side, 0, records.clone()));
        let since = Instant::now();
        reader.receive(waiting);
        assert!(since.elapsed() < Duration::from_secs(4), "a fetch was not woken by a record");
        let waiting = reader.send("woken by enough records", version, |side| waits(side, end, 150, 5_000, 0));
        std::thread::sleep(Duration::from_millis(100));
        pair.ask("a record", 9, |side| produce_to(&topic, side, 0, records.clone()));
        reader.receive(waiting);
        reader.ask("not enough", version, |side| waits(side, end, 10_000, 200, 0));
        reader.ask("beyond the end of what is stable", version, |side| waits(side, end + 2, 1, 200, 1));
    }
    let id = pair.name("waits");
    let producer = init_producer(pair, "a producer", Some(&id));
    produce_in(pair, "an open transaction", 12, Some(&id), &producer, (&topic, 0), 0);
    let end_offset = pair.ask("stable end", 7, |_| list_offsets_of(&topic.name, &[0], -1, 1));
    let from = end_offset.reference.topics[0].partitions[0].offset.0;
    reader.ask("nothing is stable", 12, |side| waits(side, from, 1, 200, 1));
    let waiting = reader.send("woken by the commit", 12, |side| waits(side, from, 1, 6_000, 1));
    std::thread::sleep(Duration::from_millis(100));
    end(pair, "commit", &id, &producer, true, 5);
    reader.receive(waiting);
    let waiting = reader.send("the topic goes while it waits", 12, |side| waits(side, from + 2, 1, 1_500, 0));
    std::thread::sleep(Duration::from_millis(100));
    delete(pair, &topic);
    reader.receive(waiting);
}

/// Two transactional producers in one request, and one that writes to many partitions.
pub fn crowded_requests(pair: &mut Pair) {
    let topic = topic(pair, "crowded", 4, &[]);
    let (one, two) = (pair.name("crowded-1"), pair.name("crowded-2"));
    let (a, b) = (init_producer(pair, "a", Some(&one)), init_producer(pair, "b", Some(&two)));
    let from = pair.time();
    for version in [11, 12, 13] {
        let request = |side: Side, producers: &[(i32, Producer, bool)]| {
            let data = producers.iter().map(|(index, producer, is_transactional)| {
                let (id, epoch) = producer[side];
                let builder = BatchBuilder::new().producer(id, epoch, 0);
                let builder = if *is_transactional { builder.transactional() } else { builder };
                produce::PartitionProduceData {
                    index: *index,
                    records: Some(filled(builder, from, &["v"]).into()),
                }
            });
            let mut request = produce_to(&topic, side, 0, Default::default());
            request.transactional_id = Some(one.as_str().into());
            request.topic_data[0].partition_data = data.collect();
            request
        };
        pair.settle("two producers", version, |side| request(side, &[(0, a, true), (1, b, true)]));
        pair.settle("one in a transaction, one not", version, |side| {
            request(side, &[(0, a, true), (1, b, false)])
        });
        pair.settle("many partitions, one unknown", version, |side| {
            request(side, &[(2, a, true), (9, a, true), (3, a, true)])
        });
        pair.ask("described", 0, |_| describe_transactions::Request {
            transactional_ids: vec![one.as_str().into()],
        });
    }
    end(pair, "end", &one, &a, false, 5);
}

/// Timestamps of compressed batches, of logs with a start, and of the time of the append.
pub fn searched_times(pair: &mut Pair) {
    let start = pair.time();
    for compression in [oncelog_records::Compression::None, oncelog_records::Compression::Lz4] {
        let topic = topic(pair, &format!("searched-{}", compression.name()), 1, &[]);
        for offsets in [&[0_i64, 40, 20][..], &[10, 5], &[60, 60, 60], &[30]] {
            let mut builder = BatchBuilder::new().compression(compression);
            offsets.iter().for_each(|&at| builder.push(start.plus_ms(at), None, Some(b"v")));
            let records = builder.build();
            pair.ask("records", 9, |side| produce_to(&topic, side, 0, records.clone()));
        }
        let search = |pair: &mut Pair, what: &str| {
            for at in [0, 1, 5, 10, 11, 20, 21, 39, 40, 41, 59, 60, 61] {
                pair.ask(&format!("{what} start+{at}"), 7, |_| {
                    list_offsets_of(&topic.name, &[0], start.0 + at, 0)
                });
            }
            for special in [-1, -2, -3, -4] {
                pair.ask(&format!("{what} {special}"), 8, |_| list_offsets_of(&topic.name, &[0], special, 0));
            }
        };
        search(pair, "all");
        for offset in [1, 3, 6, 8, 9] {
            pair.ask("deletes", 2, |_| super::offsets::delete_to(&topic.name, 0, offset));
            search(pair, &format!("from {offset}"));
            pair.ask(&format!("fetch from {offset}"), 12, |side| fetch_from(&topic, side, 0, offset));
        }
    }
    let stamped = topic(pair, "searched-stamped", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let records = batch(pair, &["a", "b"]);
    pair.ask("records", 9, |side| produce_to(&stamped, side, 0, records.clone()));
    for special in [-1, -2, -3, 0, start.0] {
        let what = if special > 0 { "start".into() } else { special.to_string() };
        pair.ask::<list_offsets::Request>(&format!("stamped {what}"), 7, |_| {
            list_offsets_of(&stamped.name, &[0], special, 0)
        });
    }
}

/// A producer whose epochs run out: it gets a new id, by either way of raising the epoch.
pub fn exhausted_epochs(pair: &mut Pair) {
    let topic = topic(pair, "exhausted", 1, &[]);
    let id = pair.name("exhausted");
    let init = || init_producer_id::Request {
        transactional_id: Some(id.as_str().into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let raise = |pair: &mut Pair, until: i16| {
        pair.settle("first", 4, |_| init());
        for side in [Side::Reference, Side::Broker] {
            pair.repeat_until(side, 4, &init(), |answer: &init_producer_id::Response| {
                assert_eq!(answer.error_code, ErrorCode::None, "the epoch is raised");
                answer.producer_epoch.0 == until
            });
        }
    };
    let ask = |pair: &mut Pair, what: &str| {
        pair.settle(what, 4, |_| init()).map(|answer| (answer.producer_id, answer.producer_epoch))
    };
    // With InitProducerId alone.
    raise(pair, 32_764);
    for at in 0..4 {
        ask(pair, &format!("raise {at}"));
    }
    // By the end of a transaction of the new kind.
    raise(pair, 32_765);
    let old = ask(pair, "the last epoch but one");
    produce_in(pair, "writes", 12, Some(&id), &old, (&topic, 0), 0);
    let new = end(pair, "commits into a new id", &id, &old, true, 5);
    super::transaction_ends::through(pair, &id);
    let ask_end = |pair: &mut Pair, what: &str, producer: Both<(ProducerId, ProducerEpoch)>, committed| {
        pair.settle::<end_txn::Request>(what, 5, |side| end_request(&id, producer[side], committed));
    };
    ask_end(pair, "the old one commits again", old, true);
    ask_end(pair, "the old one aborts", old, false);
    produce_in(pair, "the old one writes", 12, Some(&id), &old, (&topic, 0), 0);
    pair.settle("the old pair", 4, |side| init_producer_id::Request {
        producer_id: old[side].0,
        producer_epoch: old[side].1,
        ..init()
    });
    produce_in(pair, "the new one writes", 12, Some(&id), &new, (&topic, 0), 0);
    ask_end(pair, "the new one aborts", new, false);
    pair.ask("producers", 0, |_| producers_of(&topic.name, &[0]));
    pair.ask("what is there", 12, |side| fetch::Request {
        isolation_level: 1,
        ..fetch_from(&topic, side, 0, 0)
    });
}

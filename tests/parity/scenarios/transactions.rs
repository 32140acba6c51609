//! Transactions up to their end: ids, epochs, what belongs to one, and what is told of them.

use oncelog_records::BatchBuilder;
use oncelog_wire::{
    Offset, ProducerEpoch, ProducerId, Str, add_offsets_to_txn, add_partitions_to_txn, describe_producers,
    describe_transactions, end_txn, init_producer_id as init_api, list_transactions, produce,
    txn_offset_commit, write_txn_markers,
};

use super::{Producer, Topic, fetch_from, filled, init_producer, list_offsets_of, produce_to, topic};
use crate::compare::FOREIGN_PRODUCERS;
use crate::pair::{Both, Pair, Side};

/// DescribeProducers.
pub fn producers_of(name: &Str, partitions: &[i32]) -> describe_producers::Request {
    describe_producers::Request {
        topics: vec![describe_producers::TopicRequest {
            name: name.clone(),
            partition_indexes: partitions.into(),
        }],
    }
}

/// EndTxn; the identity of the next transaction is returned.
pub fn end(
    pair: &mut Pair,
    what: &str,
    id: &str,
    producer: &Producer,
    committed: bool,
    version: i16,
) -> Producer {
    let answer = pair.settle(what, version, |side| end_request(id, producer[side], committed));
    Both::of(|side| match answer[side].producer_id {
        ProducerId::NONE => producer[side],
        id => (id, answer[side].producer_epoch),
    })
}

/// EndTxn.
pub fn end_request(id: &str, producer: (ProducerId, ProducerEpoch), committed: bool) -> end_txn::Request {
    end_txn::Request {
        transactional_id: id.into(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        committed,
    }
}

/// AddPartitionsToTxn, as clients send it.
pub fn add_request(
    id: &str,
    producer: (ProducerId, ProducerEpoch),
    partitions: &[(&Str, i32)],
) -> add_partitions_to_txn::Request {
    let mut topics: Vec<add_partitions_to_txn::AddPartitionsToTxnTopic> = Vec::new();
    for (name, partition) in partitions {
        match topics.iter_mut().find(|topic| topic.name == **name) {
            Some(topic) => topic.partitions.push(*partition),
            None => topics.push(add_partitions_to_txn::AddPartitionsToTxnTopic {
                name: (*name).clone(),
                partitions: vec![*partition],
            }),
        }
    }
    add_partitions_to_txn::Request {
        v3_and_below_transactional_id: id.into(),
        v3_and_below_producer_id: producer.0,
        v3_and_below_producer_epoch: producer.1,
        v3_and_below_topics: topics,
        ..Default::default()
    }
}

/// Produce of one record in a transaction.
pub fn produce_in(
    pair: &mut Pair,
    what: &str,
    version: i16,
    id: Option<&str>,
    producer: &Producer,
    (topic, partition): (&Topic, i32),
    sequence: i32,
) {
    let from = pair.time();
    pair.ask_unless(&["ConcurrentTransactions"], what, version, |side: Side| {
        let (producer_id, epoch) = producer[side];
        let records =
            filled(BatchBuilder::new().producer(producer_id, epoch, sequence).transactional(), from, &["t"]);
        produce::Request {
            transactional_id: id.map(Str::from),
            ..produce_to(topic, side, partition, records)
        }
    });
}

fn shifted(producer: &Producer, id: i64, epoch: i16) -> Producer {
    producer.map(|(producer_id, producer_epoch)| {
        (ProducerId(producer_id.0 + id), ProducerEpoch(producer_epoch.0 + epoch))
    })
}

fn init_request(
    id: Option<&str>,
    timeout_ms: i32,
    expected: (ProducerId, ProducerEpoch),
) -> init_api::Request {
    init_api::Request {
        transactional_id: id.map(Str::from),
        transaction_timeout_ms: timeout_ms,
        producer_id: expected.0,
        producer_epoch: expected.1,
        ..Default::default()
    }
}

const NONE: (ProducerId, ProducerEpoch) = (ProducerId::NONE, ProducerEpoch::NONE);

/// InitProducerId: ids, timeouts, half a pair.
pub fn init_producer_id(pair: &mut Pair) {
    let id = pair.name("init");
    pair.ask_all("no id", |_| init_request(None, 60_000, NONE));
    pair.ask_all("no id, pair of another", |_| {
        init_request(None, 60_000, (ProducerId(FOREIGN_PRODUCERS), ProducerEpoch(3)))
    });
    pair.ask_all("empty id", |_| init_request(Some(""), 60_000, NONE));
    for timeout in [-1, 0, 1, 900_000, 900_001, i32::MAX, i32::MIN] {
        pair.ask_all(&format!("timeout {timeout}"), |_| {
            init_request(Some(&format!("{id}-{timeout}")), timeout, NONE)
        });
        pair.ask_all(&format!("no id, timeout {timeout}"), |_| init_request(None, timeout, NONE));
    }
    for (producer, epoch) in
        [(-1, 0), (0, -1), (FOREIGN_PRODUCERS, -1), (-1, 5), (-2, -2), (FOREIGN_PRODUCERS, -7), (-2, 0)]
    {
        let expected = (ProducerId(producer), ProducerEpoch(epoch));
        pair.ask_all(&format!("pair {producer}/{epoch}"), |_| init_request(Some(&id), 60_000, expected));
        pair.ask_all(&format!("no id, pair {producer}/{epoch}"), |_| init_request(None, 60_000, expected));
    }
    pair.ask_all("again and again", |_| init_request(Some(&id), 60_000, NONE));
}

/// InitProducerId with what the producer has (KIP-360).
pub fn expected_pairs(pair: &mut Pair) {
    let id = pair.name("pairs");
    pair.ask("a pair for an id nobody knows", 4, |_| {
        init_request(Some(&id), 60_000, (ProducerId(FOREIGN_PRODUCERS), ProducerEpoch(3)))
    });
    let producer = init_producer(pair, "first", Some(&id));
    for (what, shift) in [
        ("another id", (1, 0)),
        ("a higher epoch", (0, 1)),
        ("the pair", (0, 0)),
        ("the pair again", (0, 0)),
        ("the next", (0, 1)),
        ("long gone", (0, -1)),
    ] {
        for version in [3, 4, 5] {
            pair.ask(what, version, |side| {
                init_request(Some(&id), 60_000, shifted(&producer, shift.0, shift.1)[side])
            });
        }
    }
    let topic = topic(pair, "pairs", 1, &[]);
    let producer = init_producer(pair, "anew", Some(&id));
    pair.ask("in a transaction", 3, |side| add_request(&id, producer[side], &[(&topic.name, 0)]));
    pair.settle("the pair, in a transaction", 4, |side| init_request(Some(&id), 60_000, producer[side]));
    let producer = init_producer(pair, "once more", Some(&id));
    pair.ask("in a transaction", 3, |side| add_request(&id, producer[side], &[(&topic.name, 0)]));
    pair.settle("an old pair, in a transaction", 4, |side| {
        init_request(Some(&id), 60_000, shifted(&producer, 0, -1)[side])
    });
    pair.settle("end of the fenced one", 4, |side| end_request(&id, producer[side], true));
}

/// AddPartitionsToTxn in the form for clients and in that for brokers.
pub fn add_partitions(pair: &mut Pair) {
    let topic = topic(pair, "added", 3, &[]);
    let unknown = Str::from("nowhere");
    for version in 0..=3 {
        let id = pair.name(&format!("add-{version}"));
        pair.ask("an unknown id", version, |_| {
            add_request(&id, (ProducerId(FOREIGN_PRODUCERS), ProducerEpoch(0)), &[(&topic.name, 0)])
        });
        pair.ask("an empty id", version, |_| {
            add_request("", (ProducerId(FOREIGN_PRODUCERS), ProducerEpoch(0)), &[(&topic.name, 0)])
        });
        let producer = init_producer(pair, "a producer", Some(&id));
        for (what, shift) in [("another id", (1, 0)), ("a higher epoch", (0, 1)), ("a lower epoch", (0, -1))]
        {
            pair.ask(what, version, |side| {
                add_request(&id, shifted(&producer, shift.0, shift.1)[side], &[(&topic.name, 0)])
            });
        }
        pair.ask("one", version, |side| add_request(&id, producer[side], &[(&topic.name, 0)]));
        pair.ask("the same", version, |side| add_request(&id, producer[side], &[(&topic.name, 0)]));
        pair.ask("two", version, |side| {
            add_request(&id, producer[side], &[(&topic.name, 0), (&topic.name, 1)])
        });
        pair.ask("one unknown", version, |side| {
            add_request(&id, producer[side], &[(&topic.name, 2), (&unknown, 0)])
        });
        pair.ask("partition 9", version, |side| {
            add_request(&id, producer[side], &[(&topic.name, 2), (&topic.name, 9)])
        });
        pair.ask("internal", version, |side| {
            add_request(&id, producer[side], &[(&"__consumer_offsets".into(), 0), (&topic.name, 0)])
        });
        pair.ask("none", version, |side| add_request(&id, producer[side], &[]));
        pair.ask("described", 0, |_| describe_transactions::Request {
            transactional_ids: vec![id.as_str().into()],
        });
        end(pair, "end", &id, &producer, true, 3);
        super::transaction_ends::through(pair, &id);
        pair.ask("described after", 0, |_| describe_transactions::Request {
            transactional_ids: vec![id.as_str().into()],
        });
    }
    let id = pair.name("add-many");
    let producer = init_producer(pair, "a producer", Some(&id));
    for version in [4, 5] {
        for verify_only in [true, false, true] {
            let ask = |pair: &mut Pair, what: &str, id: &str, producer: Producer, partition: i32| {
                pair.settle(&format!("{what}, verify {verify_only}"), version, |side| {
                    add_partitions_to_txn::Request {
                        transactions: vec![add_partitions_to_txn::AddPartitionsToTxnTransaction {
                            transactional_id: id.into(),
                            producer_id: producer[side].0,
                            producer_epoch: producer[side].1,
                            verify_only,
                            topics: vec![add_partitions_to_txn::AddPartitionsToTxnTopic {
                                name: topic.name.clone(),
                                partitions: vec![partition],
                            }],
                        }],
                        ..Default::default()
                    }
                });
            };
            ask(pair, "by a broker", &id, producer, 0);
            ask(pair, "unknown partition by a broker", &id, producer, 9);
            ask(pair, "another id by a broker", &id, shifted(&producer, 1, 0), 0);
            ask(pair, "another epoch by a broker", &id, shifted(&producer, 0, 1), 0);
            ask(pair, "unknown transaction by a broker", "nobody", producer, 0);
        }
        pair.ask("no transactions", version, |_| add_partitions_to_txn::Request::default());
    }
}

/// AddOffsetsToTxn.
pub fn add_offsets(pair: &mut Pair) {
    let group = Str::from(pair.name("group"));
    for version in 0..=4 {
        let id = pair.name(&format!("offsets-{version}"));
        let request =
            |id: &str, producer: (ProducerId, ProducerEpoch), group: &Str| add_offsets_to_txn::Request {
                transactional_id: id.into(),
                producer_id: producer.0,
                producer_epoch: producer.1,
                group_id: group.clone(),
            };
        pair.ask("unknown", version, |_| {
            request(&id, (ProducerId(FOREIGN_PRODUCERS), ProducerEpoch(0)), &group)
        });
        pair.ask("empty", version, |_| {
            request("", (ProducerId(FOREIGN_PRODUCERS), ProducerEpoch(0)), &group)
        });
        let producer = init_producer(pair, "a producer", Some(&id));
        for (what, shift) in [
            ("another id", (1, 0)),
            ("a higher epoch", (0, 1)),
            ("a lower epoch", (0, -1)),
            ("it", (0, 0)),
            ("it again", (0, 0)),
        ] {
            pair.ask(what, version, |side| request(&id, shifted(&producer, shift.0, shift.1)[side], &group));
        }
        pair.ask("empty group", version, |side| request(&id, producer[side], &Str::EMPTY));
        pair.ask("described", 0, |_| describe_transactions::Request {
            transactional_ids: vec![id.as_str().into()],
        });
        end(pair, "end", &id, &producer, false, 3);
    }
}

/// Produce with a transaction that is open, is not, is another's.
pub fn transactional_produce(pair: &mut Pair) {
    let topic = topic(pair, "in-transactions", 4, &[]);
    for version in [3, 9, 10, 11, 12, 13] {
        let id = pair.name(&format!("produce-{version}"));
        let (other, nobody) = (pair.name(&format!("other-{version}")), pair.name("nobody"));
        let mut producer = init_producer(pair, "a producer", Some(&id));
        init_producer(pair, "another", Some(&other));
        produce_in(pair, "not added", version, Some(&id), &producer, (&topic, 0), 0);
        produce_in(pair, "without transactional id", version, None, &producer, (&topic, 0), 0);
        produce_in(pair, "by another id", version, Some(&other), &producer, (&topic, 1), 0);
        produce_in(pair, "by an unknown id", version, Some(&nobody), &producer, (&topic, 1), 0);
        produce_in(pair, "by an empty id", version, Some(""), &producer, (&topic, 1), 0);
        produce_in(pair, "a higher epoch", version, Some(&id), &shifted(&producer, 0, 1), (&topic, 1), 0);
        if version < 12 {
            pair.settle("added", 3, |side| {
                add_request(&id, producer[side], &[(&topic.name, 0), (&topic.name, 2)])
            });
        }
        produce_in(pair, "added", version, Some(&id), &producer, (&topic, 0), 0);
        produce_in(pair, "the next", version, Some(&id), &producer, (&topic, 0), 1);
        produce_in(pair, "the same", version, Some(&id), &producer, (&topic, 0), 1);
        produce_in(pair, "a gap", version, Some(&id), &producer, (&topic, 0), 9);
        produce_in(pair, "not at 0", version, Some(&id), &producer, (&topic, 2), 5);
        let from = pair.time();
        pair.ask("outside of the transaction", version, |side| {
            let (id, epoch) = producer[side];
            produce_to(&topic, side, 0, filled(BatchBuilder::new().producer(id, epoch, 2), from, &["v"]))
        });
        let end_version = if version < 12 { 4 } else { 5 };
        let before = producer;
        producer = end(pair, "commit", &id, &producer, true, end_version);
        super::transaction_ends::through(pair, &id);
        produce_in(pair, "after the end, of before", version, Some(&id), &before, (&topic, 0), 2);
        let sequence = if version < 12 { 2 } else { 0 };
        produce_in(pair, "after the end", version, Some(&id), &producer, (&topic, 0), sequence);
        producer = end(pair, "abort", &id, &producer, false, end_version);
        init_producer(pair, "fences", Some(&id));
        produce_in(pair, "fenced", version, Some(&id), &producer, (&topic, 0), sequence);
        pair.ask("ends", 7, |_| list_offsets_of(&topic.name, &[0, 1, 2, 3], -1, 0));
        pair.ask("producers", 0, |_| producers_of(&topic.name, &[0, 1, 2, 3]));
    }
}

/// What read_committed sees while transactions are open, committed, aborted.
pub fn read_committed(pair: &mut Pair) {
    let topic = topic(pair, "committed", 1, &[]);
    let (first, second) = (pair.name("first"), pair.name("second"));
    let look = |pair: &mut Pair, what: &str| {
        for isolation_level in [0, 1] {
            for offset in 0..9 {
                pair.ask(&format!("{what}, isolation {isolation_level} from {offset}"), 16, |side| {
                    oncelog_wire::fetch::Request { isolation_level, ..fetch_from(&topic, side, 0, offset) }
                });
            }
            for timestamp in [-1, -3, 0] {
                pair.ask(&format!("{what}, isolation {isolation_level} offset at {timestamp}"), 9, |_| {
                    list_offsets_of(&topic.name, &[0], timestamp, isolation_level)
                });
            }
        }
    };
    for end_version in [4, 5] {
        let produce_version = if end_version == 4 { 11 } else { 12 };
        let a = init_producer(pair, "a", Some(&first));
        let b = init_producer(pair, "b", Some(&second));
        if end_version == 4 {
            pair.settle("a adds", 3, |side| add_request(&first, a[side], &[(&topic.name, 0)]));
            pair.settle("b adds", 3, |side| add_request(&second, b[side], &[(&topic.name, 0)]));
        }
        produce_in(pair, "a writes", produce_version, Some(&first), &a, (&topic, 0), 0);
        look(pair, "a open");
        produce_in(pair, "b writes", produce_version, Some(&second), &b, (&topic, 0), 0);
        produce_in(pair, "a writes again", produce_version, Some(&first), &a, (&topic, 0), 1);
        end(pair, "b aborts", &second, &b, false, end_version);
        pair.settle("b is through", 4, |_| init_request(Some(&second), 60_000, NONE));
        look(pair, "b aborted");
        end(pair, "a aborts", &first, &a, false, end_version);
        pair.settle("a is through", 4, |_| init_request(Some(&first), 60_000, NONE));
        look(pair, "a aborted");
        let b = init_producer(pair, "b", Some(&second));
        if end_version == 4 {
            pair.settle("b adds", 3, |side| add_request(&second, b[side], &[(&topic.name, 0)]));
        }
        produce_in(pair, "b writes", produce_version, Some(&second), &b, (&topic, 0), 0);
        end(pair, "b commits", &second, &b, true, end_version);
        pair.settle("b is through", 4, |_| init_request(Some(&second), 60_000, NONE));
        look(pair, "b committed");
    }
}

/// TxnOffsetCommit.
pub fn offset_commits(pair: &mut Pair) {
    let topic = topic(pair, "txn-offsets", 2, &[]);
    for version in 0..=5 {
        let id = pair.name(&format!("txn-offsets-{version}"));
        let group = Str::from(pair.name(&format!("txn-group-{version}")));
        let producer = init_producer(pair, "a producer", Some(&id));
        let request = |id: &str,
                       group: &Str,
                       producer: (ProducerId, ProducerEpoch),
                       name: &Str,
                       partition_index: i32| txn_offset_commit::Request {
            transactional_id: id.into(),
            group_id: group.clone(),
            producer_id: producer.0,
            producer_epoch: producer.1,
            generation_id: -1,
            topics: vec![txn_offset_commit::TxnOffsetCommitRequestTopic {
                name: name.clone(),
                partitions: vec![txn_offset_commit::TxnOffsetCommitRequestPartition {
                    partition_index,
                    committed_offset: Offset(7),
                    committed_metadata: Some("m".into()),
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let ask = |pair: &mut Pair, what: &str, make: &dyn Fn(Side) -> txn_offset_commit::Request| {
            pair.ask_unless(&["ConcurrentTransactions"], what, version, make);
        };
        ask(pair, "group not added", &|side| request(&id, &group, producer[side], &topic.name, 0));
        ask(pair, "empty id", &|side| request("", &group, producer[side], &topic.name, 0));
        ask(pair, "unknown id", &|side| request("nobody", &group, producer[side], &topic.name, 0));
        ask(pair, "empty group", &|side| request(&id, &Str::EMPTY, producer[side], &topic.name, 0));
        ask(pair, "another producer", &|side| {
            request(&id, &group, shifted(&producer, 1, 0)[side], &topic.name, 0)
        });
        ask(pair, "another epoch", &|side| {
            request(&id, &group, shifted(&producer, 0, 1)[side], &topic.name, 0)
        });
        if version < 5 {
            pair.settle("added", 3, |side| add_offsets_to_txn::Request {
                transactional_id: id.as_str().into(),
                producer_id: producer[side].0,
                producer_epoch: producer[side].1,
                group_id: group.clone(),
            });
        }
        ask(pair, "added", &|side| request(&id, &group, producer[side], &topic.name, 0));
        ask(pair, "no such partition", &|side| request(&id, &group, producer[side], &topic.name, 5));
        ask(pair, "no such topic", &|side| request(&id, &group, producer[side], &"nowhere".into(), 0));
        ask(pair, "too much metadata", &|side| {
            let mut request = request(&id, &group, producer[side], &topic.name, 0);
            request.topics[0].partitions[0].committed_metadata = Some("m".repeat(5000).as_str().into());
            request
        });
        ask(pair, "null metadata", &|side| {
            let mut request = request(&id, &group, producer[side], &topic.name, 1);
            request.topics[0].partitions[0].committed_metadata = None;
            request
        });
        for (what, generation_id, member_id) in
            [("generation 3", 3, ""), ("a member", -1, "m"), ("member and generation", 0, "m")]
        {
            ask(pair, what, &|side| txn_offset_commit::Request {
                generation_id,
                member_id: member_id.into(),
                ..request(&id, &group, producer[side], &topic.name, 0)
            });
        }
        ask(pair, "no topics", &|side| txn_offset_commit::Request {
            topics: vec![],
            ..request(&id, &group, producer[side], &topic.name, 0)
        });
        for require_stable in [false, true] {
            pair.ask("pending", 8, |_| {
                super::group_offsets::fetch_request(&group, Some((&topic, &[0, 1])), require_stable)
            });
            pair.ask("all pending", 8, |_| super::group_offsets::fetch_request(&group, None, require_stable));
        }
        pair.ask("its group", 5, |_| oncelog_wire::describe_groups::Request {
            groups: vec![group.clone()],
            ..Default::default()
        });
        end(pair, "end", &id, &producer, version % 2 == 0, if version < 5 { 3 } else { 5 });
        pair.settle("through", 4, |_| init_request(Some(&id), 60_000, NONE));
        pair.settle("after the end", 8, |_| {
            super::group_offsets::fetch_request(&group, Some((&topic, &[0, 1])), true)
        });
    }
}

/// WriteTxnMarkers, as an administrator sends it.
pub fn markers(pair: &mut Pair) {
    let topic = topic(pair, "markers", 3, &[]);
    let id = pair.name("markers");
    let producer = init_producer(pair, "a producer", Some(&id));
    pair.settle("added", 3, |side| add_request(&id, producer[side], &[(&topic.name, 0)]));
    produce_in(pair, "open", 11, Some(&id), &producer, (&topic, 0), 0);
    let marker = |producer: (ProducerId, ProducerEpoch),
                  partition: i32,
                  coordinator_epoch: i32,
                  transaction_version: i8| write_txn_markers::Request {
        markers: vec![write_txn_markers::WritableTxnMarker {
            producer_id: producer.0,
            producer_epoch: producer.1,
            transaction_result: false,
            topics: vec![write_txn_markers::WritableTxnMarkerTopic {
                name: topic.name.clone(),
                partition_indexes: vec![partition],
            }],
            coordinator_epoch,
            transaction_version,
        }],
    };
    for version in [1, 2] {
        for transaction_version in if version == 1 { vec![0] } else { vec![0, 2] } {
            let ask = |pair: &mut Pair, what: &str, epoch: i16, partition: i32, coordinator_epoch: i32| {
                pair.ask(&format!("{what}, transaction version {transaction_version}"), version, |side| {
                    marker(
                        shifted(&producer, 0, epoch)[side],
                        partition,
                        coordinator_epoch,
                        transaction_version,
                    )
                });
            };
            ask(pair, "older epoch", -1, 0, 0);
            ask(pair, "older coordinator", 0, 0, -2);
            ask(pair, "no such partition", 0, 8, 0);
            ask(pair, "it", 0, 0, 3);
            ask(pair, "it again", 0, 0, 3);
            ask(pair, "older coordinator now", 0, 0, 2);
            ask(pair, "next epoch", 1, 0, 3);
            ask(pair, "nothing open", 0, 1, 0);
        }
    }
    pair.ask("none", 1, |_| write_txn_markers::Request::default());
    pair.ask("to nowhere", 1, |side| {
        let mut request = marker(producer[side], 0, 0, 0);
        request.markers[0].topics[0].name = "nowhere".into();
        request
    });
    pair.ask("producers", 0, |_| producers_of(&topic.name, &[0, 1, 2, 7]));
    pair.ask("what is there", 12, |side| fetch_from(&topic, side, 0, 0));
}

/// DescribeTransactions, ListTransactions, DescribeProducers.
pub fn listings(pair: &mut Pair) {
    let topic = topic(pair, "listing", 2, &[]);
    let (open, done, empty) = (pair.name("list-open"), pair.name("list-done"), pair.name("list-empty"));
    init_producer(pair, "empty", Some(&empty));
    let a = init_producer(pair, "open", Some(&open));
    let b = init_producer(pair, "done", Some(&done));
    for (id, producer) in [(&open, &a), (&done, &b)] {
        pair.settle("added", 3, |side| {
            add_request(id, producer[side], &[(&topic.name, 1), (&topic.name, 0)])
        });
        produce_in(pair, "writes", 11, Some(id), producer, (&topic, 0), 0);
    }
    end(pair, "done", &done, &b, true, 3);
    pair.ask_unless(&["PrepareCommit"], "described", 0, |_| describe_transactions::Request {
        transactional_ids: vec![
            empty.as_str().into(),
            open.as_str().into(),
            done.as_str().into(),
            "".into(),
            "nobody".into(),
        ],
    });
    pair.ask("none described", 0, |_| describe_transactions::Request::default());
    pair.ask("twice", 0, |_| describe_transactions::Request {
        transactional_ids: vec![open.as_str().into(), open.as_str().into()],
    });
    pair.ask("producers", 0, |_| producers_of(&topic.name, &[0, 1, 2]));
    pair.ask("producers of nowhere", 0, |_| producers_of(&"nowhere".into(), &[0]));
    pair.ask("producers of an invalid topic", 0, |_| producers_of(&"a/b".into(), &[0]));
    let of = format!("list-.*\\.{}", pair.name("").trim_start_matches('.'));
    let ask = |pair: &mut Pair,
               what: &str,
               states: &[&str],
               ids: Option<&Producer>,
               duration: i64,
               pattern: &str| {
        pair.ask(what, 2, |side| list_transactions::Request {
            state_filters: states.iter().map(|&state| state.into()).collect(),
            producer_id_filters: ids.map(|ids| ids[side].0).into_iter().collect(),
            duration_filter: duration,
            transactional_id_pattern: Some(pattern.into()),
        });
    };
    ask(pair, "all", &[], None, -1, &of);
    for state in
        ["Ongoing", "Empty", "CompleteCommit", "PrepareEpochFence", "Dead", "ongoing", "Nonsense", ""]
    {
        ask(pair, &format!("state {state:?}"), &[state], None, -1, &of);
    }
    ask(pair, "two states", &["Ongoing", "Empty"], None, -1, &of);
    ask(pair, "state and nonsense", &["Ongoing", "X", "Y"], None, -1, &of);
    ask(pair, "by producer", &[], Some(&a), -1, &of);
    ask(pair, "by producer and state", &["Empty"], Some(&a), -1, &of);
    for duration in [0, 1, 1_000_000, -2] {
        ask(pair, &format!("duration {duration}"), &[], None, duration, &of);
    }
    for pattern in ["list-open", "list-open.*x", "(", "[a", "a**", "", "(?i)LIST-OPEN.*", "a{1000}"] {
        ask(pair, &format!("pattern {pattern:?}"), &["Ongoing"], Some(&a), -1, pattern);
    }
    for version in [0, 1] {
        pair.ask("by producer", version, |side| list_transactions::Request {
            producer_id_filters: vec![a[side].0],
            duration_filter: -1,
            ..Default::default()
        });
    }
    end(pair, "over", &open, &a, false, 3);
}

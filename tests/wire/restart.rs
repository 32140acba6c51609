//! What a broker knows after it was stopped, or killed, and started again on its data directory.

use std::fs;

use oncelog_broker::{Broker, Durability};
use oncelog_client::{Client, Isolation, TransactionVersion};
use oncelog_tests::eventually;
use oncelog_tests::requests::{self, Identity, Transactor, Write, watermarks};
use oncelog_wire::{
    ErrorCode, Offset, ProducerEpoch, ProducerId, delete_records, describe_configs, offset_delete,
};

use crate::directories::{config, connect, copy, start, temporary};

/// Runs `then` on what `first` left, once after a clean stop and once as if the broker had been killed.
fn twice<T>(first: impl Fn(&Broker) -> T, then: impl Fn(&Broker, &T)) {
    for is_killed in [false, true] {
        let directory = temporary();
        let broker = start(directory.path());
        let left = first(&broker);
        let directory = if is_killed {
            let copied = copy(directory.path());
            drop(broker);
            copied
        } else {
            broker.stop();
            assert!(directory.path().join(".kafka_cleanshutdown").exists());
            directory
        };
        then(&start(directory.path()), &left);
    }
}

fn identity(client: &mut Client) -> Identity {
    let answer = requests::init_producer_id(client, None, i32::MAX, None).unwrap();
    assert_eq!(answer.error_code, ErrorCode::None);
    (answer.producer_id, answer.producer_epoch)
}

fn send(client: &mut Client, identity: Identity, sequence: i32, count: i32) -> (ErrorCode, i64) {
    let write = Write { topic: "orders", partition: 0, identity, sequence, count, transactional_id: None };
    let (code, offset) = write.outcome(client);
    (code, offset.0)
}

#[test]
fn producer_ids_are_not_given_again() {
    let first = |broker: &Broker| {
        let mut client = connect(broker);
        (0..10).map(|_| identity(&mut client).0).collect::<Vec<_>>()
    };
    twice(first, |broker, given| {
        let mut client = connect(broker);
        for _ in 0..10 {
            let id = identity(&mut client).0;
            assert!(!given.contains(&id), "{id} was given before");
        }
        let mut transactor = Transactor::at(connect(broker), TransactionVersion::V2, "pay", 1000);
        assert!(!given.contains(&transactor.identity.0));
        client.create_topic("t", 1).unwrap();
        assert_eq!(transactor.write("t", 0, 0, 1), ErrorCode::None);
    });
}

#[test]
fn a_batch_sent_before_and_after_is_written_once() {
    let first = |broker: &Broker| {
        let mut client = connect(broker);
        client.create_topic("orders", 1).unwrap();
        let me = identity(&mut client);
        for sequence in 0..3 {
            assert_eq!(send(&mut client, me, sequence * 2, 2), (ErrorCode::None, i64::from(sequence) * 2));
        }
        me
    };
    twice(first, |broker, &me| {
        let mut client = connect(broker);
        assert_eq!(send(&mut client, me, 4, 2), (ErrorCode::None, 4), "the last batch is known");
        assert_eq!(send(&mut client, me, 7, 1), (ErrorCode::OutOfOrderSequenceNumber, -1));
        assert_eq!(send(&mut client, (me.0, me.1.next()), 6, 1).0, ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(send(&mut client, me, 6, 1), (ErrorCode::None, 6));
        assert_eq!(watermarks(&mut client, "orders", 0), (7, 7));
    });
}

#[test]
fn topics_keep_their_ids_configs_partitions_and_records() {
    let first = |broker: &Broker| {
        let mut client = connect(broker);
        let id = client.create_topic_with("orders", 2, &[("retention.ms", "123456789")]).unwrap();
        client.create_topic("doomed", 1).unwrap();
        client.produce_values("doomed", 0, ["x"]).unwrap();
        client.produce_values("orders", 0, ["a", "b", "c"]).unwrap();
        client.produce_values("orders", 1, ["d"]).unwrap();
        client.delete_topic("doomed").unwrap();
        let request = oncelog_wire::create_partitions::Request {
            topics: vec![oncelog_wire::create_partitions::CreatePartitionsTopic {
                name: "orders".into(),
                count: 3,
                assignments: None,
            }],
            timeout_ms: 1000,
            ..Default::default()
        };
        assert_eq!(client.call(&request).unwrap().results[0].error_code, ErrorCode::None);
        client.produce_values("orders", 2, ["e"]).unwrap();
        let request = delete_records::Request {
            topics: vec![delete_records::DeleteRecordsTopic {
                name: "orders".into(),
                partitions: vec![delete_records::DeleteRecordsPartition {
                    partition_index: 0,
                    offset: Offset(1),
                }],
            }],
            timeout_ms: 1000,
        };
        assert_eq!(client.call(&request).unwrap().topics[0].partitions[0].error_code, ErrorCode::None);
        id
    };
    twice(first, |broker, &id| {
        let mut client = connect(broker);
        let described = client.describe_topic("orders").unwrap();
        assert_eq!((described.topic_id, described.partitions.len()), (id, 3));
        let configs = client
            .call(&describe_configs::Request {
                resources: vec![describe_configs::DescribeConfigsResource {
                    resource_type: 2,
                    resource_name: "orders".into(),
                    configuration_keys: Some(vec!["retention.ms".into()]),
                }],
                ..Default::default()
            })
            .unwrap();
        assert_eq!(configs.results[0].configs[0].value.as_deref(), Some("123456789"));
        for (partition, expected) in [(0, vec!["b", "c"]), (1, vec!["d"]), (2, vec!["e"])] {
            // As in Kafka, the start of a log is written down now and then: a crash may bring back what was deleted.
            let values = client.values("orders", partition, Isolation::ReadCommitted).unwrap();
            assert!(values == expected || values == ["a", "b", "c"], "{values:?}");
        }
        let gone = client.describe_topic("doomed").unwrap_err();
        assert_eq!(gone.code(), Some(ErrorCode::UnknownTopicOrPartition));
        client.create_topic("doomed", 1).unwrap();
        assert_eq!(watermarks(&mut client, "doomed", 0), (0, 0));
    });
}

#[test]
fn transactions_go_on_where_they_were() {
    for version in [TransactionVersion::V1, TransactionVersion::V2] {
        let first = |broker: &Broker| {
            let mut client = connect(broker);
            client.create_topic("orders", 1).unwrap();
            let mut aborts = Transactor::at(connect(broker), version, "aborts", 60_000);
            assert_eq!(aborts.write("orders", 0, 0, 2), ErrorCode::None);
            assert_eq!(aborts.end(false), ErrorCode::None);
            let mut open = Transactor::at(connect(broker), version, "open", 60_000);
            assert_eq!(open.write("orders", 0, 0, 1), ErrorCode::None);
            let mut zombie = Transactor::at(connect(broker), version, "zombie", 60_000);
            assert_eq!(zombie.write("orders", 0, 0, 1), ErrorCode::None);
            let heir = Transactor::at(connect(broker), version, "zombie", 60_000);
            (aborts.identity, open.identity, zombie.identity, heir.identity)
        };
        twice(first, |broker, &(aborts, open, zombie, heir)| {
            let mut client = connect(broker);
            let as_before = |id: &str, identity| {
                // The identity it had, over a new connection.
                let client = connect(broker);
                Transactor { client, id: id.into(), identity, version }
            };
            // 0-1 aborted, 2 its marker, 3 open, 4 the zombie's, 5 its marker.
            assert_eq!(watermarks(&mut client, "orders", 0), (6, 3));
            assert_eq!(client.values("orders", 0, Isolation::ReadCommitted).unwrap().len(), 0);
            let mut open = as_before("open", open);
            assert_eq!(open.write("orders", 0, 1, 1), ErrorCode::None);
            assert_eq!(open.end(true), ErrorCode::None);
            let mut zombie = as_before("zombie", zombie);
            assert_eq!(zombie.produce("orders", 0, 1, 1), ErrorCode::InvalidProducerEpoch);
            assert_eq!(zombie.end(true), ErrorCode::ProducerFenced);
            let mut heir = as_before("zombie", heir);
            assert_eq!(heir.write("orders", 0, 0, 1), ErrorCode::None);
            assert_eq!(heir.end(true), ErrorCode::None);
            let mut aborts = as_before("aborts", aborts);
            let sequence = if version == TransactionVersion::V1 { 2 } else { 0 };
            assert_eq!(aborts.write("orders", 0, sequence, 1), ErrorCode::None);
            assert_eq!(aborts.end(true), ErrorCode::None);
            let seen = client.fetch_all("orders", 0, Isolation::ReadCommitted).unwrap();
            let offsets: Vec<_> = seen.iter().map(|record| record.offset.0).collect();
            assert_eq!(offsets, [3, 6, 8, 10]);
        });
    }
}

#[test]
fn committed_and_pending_offsets_are_kept() {
    let first = |broker: &Broker| {
        let mut client = connect(broker);
        client.create_topic("orders", 1).unwrap();
        for (group, offset) in [("plain", 5), ("deleted", 6), ("pending", 7)] {
            client.commit_offset(group, "orders", 0, Offset(offset)).unwrap();
        }
        let request = offset_delete::Request {
            group_id: "deleted".into(),
            topics: vec![offset_delete::OffsetDeleteRequestTopic {
                name: "orders".into(),
                partitions: vec![offset_delete::OffsetDeleteRequestPartition { partition_index: 0 }],
            }],
        };
        assert_eq!(client.call(&request).unwrap().error_code, ErrorCode::None);
        let mut producer = Transactor::at(connect(broker), TransactionVersion::V2, "pay", 60_000);
        assert_eq!(producer.commit_offset("done", "orders", 8), ErrorCode::None);
        assert_eq!(producer.end(true), ErrorCode::None);
        assert_eq!(producer.commit_offset("pending", "orders", 9), ErrorCode::None);
        producer.identity
    };
    twice(first, |broker, &identity| {
        let mut client = connect(broker);
        let mut offset = |group, require_stable| {
            requests::fetch_offset(&mut client, group, "orders", require_stable).unwrap()
        };
        assert_eq!(offset("plain", true), (ErrorCode::None, 5));
        assert_eq!(offset("deleted", true), (ErrorCode::None, -1));
        assert_eq!(offset("done", true), (ErrorCode::None, 8));
        assert_eq!(offset("pending", true), (ErrorCode::UnstableOffsetCommit, -1));
        assert_eq!(offset("pending", false), (ErrorCode::None, 7));
        let answer = requests::end_txn(&mut connect(broker), "pay", identity, true, 5).unwrap();
        assert_eq!(answer.error_code, ErrorCode::None);
        assert_eq!(offset("pending", true), (ErrorCode::None, 9));
    });
}

#[test]
fn a_restart_in_between_leaves_every_commit_and_no_abort() {
    let mut directory = temporary();
    let mut broker = start(directory.path());
    connect(&broker).create_topic_with("orders", 1, &[("internal.segment.bytes", "300")]).unwrap();
    let mut expected = Vec::new();
    for round in 0..8 {
        let mut producer = Transactor::at(connect(&broker), TransactionVersion::V2, "pay", 60_000);
        for committed in [true, false, true] {
            assert_eq!(producer.write("orders", 0, 0, 2), ErrorCode::None);
            let epoch = producer.identity.1;
            assert_eq!(producer.end(committed), ErrorCode::None);
            expected.extend((0..2).filter(|_| committed).map(|sequence| format!("{epoch}/{sequence}")));
        }
        assert_eq!(producer.write("orders", 0, 0, 1), ErrorCode::None);
        if round % 2 == 0 {
            let copied = copy(directory.path());
            drop(broker);
            directory = copied;
        } else {
            broker.stop();
        }
        broker = start(directory.path());
        let mut client = connect(&broker);
        assert_eq!(client.values("orders", 0, Isolation::ReadCommitted).unwrap(), expected, "round {round}");
    }
}

#[test]
fn a_second_broker_on_a_directory_is_refused() {
    let directory = temporary();
    let first = start(directory.path());
    let error = Broker::start(config(directory.path())).err().unwrap().to_string();
    assert!(error.contains("locked") && error.contains(directory.path().to_str().unwrap()), "{error}");
    connect(&first).create_topic("still-served", 1).unwrap();
    drop(first);
    start(directory.path());
}

#[test]
fn a_directory_that_is_not_ours_is_refused_and_left_as_it_is() {
    let kafka =
        "cluster.id=5L6g3nShT-eMCtK--X86sw\ndirectory.id=AAAAAAAAAAAAAAAAAAAABA\nnode.id=1\nversion=1\n";
    for (name, content) in [
        ("meta.properties", kafka),
        ("meta.properties", "nonsense"),
        ("meta.properties", ""),
        ("thesis.txt", "not a log"),
    ] {
        let directory = temporary();
        fs::write(directory.path().join(name), content).unwrap();
        let error = Broker::start(config(directory.path())).err().unwrap().to_string();
        assert!(error.contains(directory.path().to_str().unwrap()) && error.contains(name), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert_eq!(fs::read_to_string(directory.path().join(name)).unwrap(), content);
        let others = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let others: Vec<_> = others.filter(|other| other != name && other != ".lock").collect();
        assert_eq!(others.len(), 0, "{others:?}");
    }
    let directory = temporary();
    drop(start(directory.path()));
    let error =
        Broker::start(config(directory.path()).with("node.id", "7").unwrap()).err().unwrap().to_string();
    assert!(error.contains("node"), "{error}");
    start(directory.path());
}

#[test]
fn a_partition_whose_files_are_gone_does_not_keep_the_others_from_being_served() {
    let directory = temporary();
    let broker = start(directory.path());
    let mut client = connect(&broker);
    client.create_topic("orders", 2).unwrap();
    client.produce_values("orders", 0, ["a"]).unwrap();
    client.produce_values("orders", 1, ["b"]).unwrap();
    broker.stop();
    for index in ["index", "timeindex"] {
        let path = directory.path().join("orders-0").join(format!("00000000000000000000.{index}"));
        if path.exists() {
            fs::write(path, b"garbage that is no index").unwrap();
        }
    }
    fs::remove_dir_all(directory.path().join("orders-1")).unwrap();
    let broker = start(directory.path());
    let mut client = connect(&broker);
    eventually("the topic is there", || client.describe_topic("orders").is_ok());
    assert_eq!(client.values("orders", 0, Isolation::ReadCommitted).unwrap(), ["a"]);
    client.produce_values("orders", 1, ["c"]).unwrap();
    assert_eq!(client.values("orders", 1, Isolation::ReadCommitted).unwrap(), ["c"]);
    let unknown = (ProducerId(1), ProducerEpoch(0));
    assert_eq!(send(&mut client, unknown, 0, 1).0, ErrorCode::None);
}

#[test]
fn a_broker_that_is_stopped_answers_what_it_has_written() {
    const CLIENTS: i32 = 16;
    for _ in 0..3 {
        let directory = temporary();
        let mut durable = config(directory.path());
        durable.durability = Durability::fsync();
        let broker = Broker::start(durable).unwrap();
        connect(&broker).create_topic("orders", CLIENTS).unwrap();
        let write_until_the_end = |partition: i32| {
            let mut client = connect(&broker);
            std::thread::spawn(move || {
                let identity = (ProducerId::NONE, ProducerEpoch::NONE);
                let (topic, sequence, count, transactional_id) = ("orders", -1, 1, None);
                let write = Write { topic, partition, identity, sequence, count, transactional_id };
                (0..).take_while(|_| write.send(&mut client, i16::MAX).is_ok()).count() as i64
            })
        };
        let writers: Vec<_> = (0..CLIENTS).map(write_until_the_end).collect();
        let mut client = connect(&broker);
        eventually("all write", || (0..CLIENTS).all(|at| watermarks(&mut client, "orders", at).1 > 20));
        broker.stop();
        let answered: Vec<i64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        let broker = start(directory.path());
        let mut client = connect(&broker);
        let written: Vec<i64> = (0..CLIENTS).map(|at| watermarks(&mut client, "orders", at).1).collect();
        assert_eq!(written, answered);
    }
}

//! Transactions as the wire shows them, by both versions of the protocol: who may end what, and when it counts.

use oncelog_client::{Client, Isolation, TransactionVersion};
use oncelog_tests::requests::{self, Identity, Transactor, Write, watermarks};
use oncelog_tests::{client, eventually, is_ours, topic, unique};
use oncelog_wire::{ErrorCode, ProducerEpoch, ProducerId};

use TransactionVersion::{V1, V2};

const BOTH: [TransactionVersion; 2] = [V1, V2];

pub fn values(client: &mut Client, topic: &str, isolation: Isolation) -> Vec<String> {
    client.values(topic, 0, isolation).unwrap()
}

/// Waits until nothing is open in a partition. Our broker has to have that the moment an end is answered.
pub fn is_stable(client: &mut Client, topic: &str, partition: i32) {
    if is_ours() {
        let (high_watermark, last_stable_offset) = watermarks(client, topic, partition);
        assert_eq!(high_watermark, last_stable_offset, "the answer came before the end");
    } else {
        eventually("the transaction ends", || {
            let (high_watermark, last_stable_offset) = watermarks(client, topic, partition);
            high_watermark == last_stable_offset
        });
    }
}

pub fn previous((id, epoch): Identity) -> Identity {
    (id, ProducerEpoch(epoch.0 - 1))
}

#[test]
fn what_is_committed_is_there_in_every_partition_when_commit_returns() {
    for version in BOTH {
        let topic = topic(3);
        let mut producer = Transactor::new(version);
        for round in 0..3 {
            let sequence = if version == V1 { 2 * round } else { 0 };
            for partition in 0..3 {
                assert_eq!(producer.write(&topic, partition, sequence, 2), ErrorCode::None);
            }
            assert_eq!(producer.end(true), ErrorCode::None);
            for partition in 0..3 {
                is_stable(&mut producer.client, &topic, partition);
                // Two records and a marker a round.
                assert_eq!(watermarks(&mut producer.client, &topic, partition).0, 3 * (i64::from(round) + 1));
                let seen = producer.client.values(&topic, partition, Isolation::ReadCommitted).unwrap();
                assert_eq!(seen.len(), 2 * (round as usize + 1));
            }
        }
    }
}

#[test]
fn what_is_aborted_is_hidden_from_read_committed_and_from_nobody_else() {
    for version in BOTH {
        let topic = topic(1);
        let mut producer = Transactor::new(version);
        producer.client.produce_values(&topic, 0, ["before"]).unwrap();
        assert_eq!(producer.write(&topic, 0, 0, 2), ErrorCode::None);
        producer.client.produce_values(&topic, 0, ["between"]).unwrap();
        assert_eq!(producer.end(false), ErrorCode::None);
        is_stable(&mut producer.client, &topic, 0);
        let client = &mut producer.client;
        client.produce_values(&topic, 0, ["after"]).unwrap();
        assert_eq!(values(client, &topic, Isolation::ReadCommitted), ["before", "between", "after"]);
        let all = values(client, &topic, Isolation::ReadUncommitted);
        assert_eq!(all, ["before", "0/0", "0/1", "between", "after"]);
    }
}

#[test]
fn with_version_1_the_epoch_stays_and_sequences_go_on() {
    let topic = topic(1);
    let mut producer = Transactor::new(V1);
    let identity = producer.identity;
    for (round, committed) in [true, false, true].into_iter().enumerate() {
        assert_eq!(producer.write(&topic, 0, round as i32 * 2, 2), ErrorCode::None);
        assert_eq!(producer.end(committed), ErrorCode::None);
        assert_eq!(producer.identity, identity);
    }
    assert_eq!(producer.write(&topic, 0, 9, 1), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(producer.end(false), ErrorCode::None);
}

#[test]
fn with_version_2_every_end_brings_an_epoch_and_sequences_begin_anew() {
    let topic = topic(1);
    let mut producer = Transactor::new(V2);
    let (id, _) = producer.identity;
    for (round, committed) in [true, false, true].into_iter().enumerate() {
        assert_eq!(producer.identity, (id, ProducerEpoch(round as i16)));
        assert_eq!(producer.write(&topic, 0, 0, 2), ErrorCode::None);
        assert_eq!(producer.end(committed), ErrorCode::None);
    }
    assert_eq!(producer.write(&topic, 0, 6, 1), ErrorCode::OutOfOrderSequenceNumber);
    let markers = requests::producers(&mut producer.client, &topic, 0);
    assert_eq!(
        (markers[0].producer_epoch, markers[0].last_sequence),
        (3, -1),
        "the marker has the new epoch"
    );
}

#[test]
fn a_batch_of_a_transaction_sent_again_is_written_once() {
    for version in BOTH {
        let topic = topic(1);
        let mut producer = Transactor::new(version);
        for sequence in 0..6 {
            assert_eq!(producer.write(&topic, 0, sequence, 1), ErrorCode::None);
        }
        for sequence in 1..6 {
            assert_eq!(producer.write(&topic, 0, sequence, 1), ErrorCode::None);
        }
        assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(producer.write(&topic, 0, 7, 1), ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(producer.end(true), ErrorCode::None);
        is_stable(&mut producer.client, &topic, 0);
        let seen = values(&mut producer.client, &topic, Isolation::ReadCommitted);
        assert_eq!(seen, ["0/0", "0/1", "0/2", "0/3", "0/4", "0/5"]);
    }
}

#[test]
fn a_batch_that_comes_after_its_transaction_ended_does_not_open_another() {
    let topic = topic(1);
    let mut producer = Transactor::new(V2);
    let then = producer.identity;
    assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
    assert_eq!(producer.end(true), ErrorCode::None);
    is_stable(&mut producer.client, &topic, 0);
    let now = std::mem::replace(&mut producer.identity, then);
    for sequence in [0, 1] {
        assert_eq!(producer.write(&topic, 0, sequence, 1), ErrorCode::InvalidProducerEpoch);
    }
    producer.identity = now;
    assert_eq!(producer.state(), "CompleteCommit");
    assert_eq!(values(&mut producer.client, &topic, Isolation::ReadUncommitted), ["0/0"]);
}

#[test]
fn a_transactional_batch_needs_the_partition_in_the_transaction() {
    let topic = topic(2);
    let mut producer = Transactor::new(V1);
    let (identity, id) = (producer.identity, producer.id.clone());
    let write = |partition, transactional_id| Write {
        topic: &topic,
        partition,
        identity,
        sequence: 0,
        count: 1,
        transactional_id,
    };
    assert_eq!(producer.add(&[(&topic, 0)]), ErrorCode::None);
    for (version, code) in [(11, ErrorCode::TransactionAbortable), (10, ErrorCode::InvalidTxnState)] {
        let answer = write(1, Some(id.as_str())).send(&mut producer.client, version).unwrap();
        assert_eq!(answer.error_code, code, "version {version}");
    }
    let answer = write(0, Some(id.as_str())).send(&mut producer.client, 10).unwrap();
    assert_eq!(answer.error_code, ErrorCode::None);
    // Once the transaction is open there, nothing else may be written by its producer.
    let plain = Write { sequence: 1, ..write(0, None) };
    assert_eq!(plain.send(&mut producer.client, 10).unwrap().error_code, ErrorCode::InvalidTxnState);
    assert_eq!(producer.end(true), ErrorCode::None);
    assert_eq!(watermarks(&mut producer.client, &topic, 1), (0, 0));
}

#[test]
fn a_zombie_is_fenced_at_each_call() {
    for version in BOTH {
        let topic = topic(2);
        let group = unique("group");
        let mut zombie = Transactor::new(version);
        // Lets the coordinator of the group come up.
        assert_eq!(zombie.commit_offset(&group, &topic, 1), ErrorCode::None);
        assert_eq!(zombie.write(&topic, 0, 0, 1), ErrorCode::None);
        let mut heir = Transactor::named(version, &zombie.id.clone(), 60_000);
        assert_eq!(heir.identity.0, zombie.identity.0);
        assert!(heir.identity.1 > zombie.identity.1);

        let (client, id, old) = (&mut zombie.client, &zombie.id, zombie.identity);
        assert_eq!(
            requests::add_partitions(client, id, old, &[(&topic, 0)]).unwrap(),
            [ErrorCode::ProducerFenced]
        );
        assert_eq!(requests::add_offsets(client, id, old, &group).unwrap(), ErrorCode::ProducerFenced);
        assert_eq!(zombie.produce(&topic, 0, 1, 1), ErrorCode::InvalidProducerEpoch);
        assert_eq!(zombie.produce(&topic, 0, 0, 1), ErrorCode::InvalidProducerEpoch);
        // Nor does a partition take it that has never heard of it.
        assert_eq!(zombie.produce(&topic, 1, 0, 1), ErrorCode::InvalidProducerEpoch);
        assert_eq!(watermarks(&mut zombie.client, &topic, 1), (0, 0));
        let newest = requests::newest_versions(version).1;
        let offset = (group.as_str(), topic.as_str(), 9);
        let code = requests::txn_offset_commit(&mut zombie.client, &zombie.id, old, offset, newest).unwrap();
        assert_eq!(code, ErrorCode::InvalidProducerEpoch, "{version:?}");
        for committed in [true, false] {
            assert_eq!(zombie.end_as(old, committed).0, ErrorCode::ProducerFenced);
        }
        let answer =
            requests::init_producer_id(&mut zombie.client, Some(&zombie.id), 60_000, Some(old)).unwrap();
        assert_eq!(answer.error_code, ErrorCode::ProducerFenced);

        assert_eq!(heir.write(&topic, 0, 0, 1), ErrorCode::None);
        assert_eq!(heir.end(true), ErrorCode::None);
        is_stable(&mut heir.client, &topic, 0);
        let seen = values(&mut heir.client, &topic, Isolation::ReadCommitted);
        assert_eq!(seen, [format!("{}/0", heir.identity.1.0 - i16::from(version == V2))]);
        assert_eq!(requests::fetch_offset(&mut heir.client, &group, &topic, true).unwrap().1, -1);
    }
}

#[test]
fn a_new_instance_aborts_what_the_old_one_left_open() {
    for version in BOTH {
        let topic = topic(2);
        let mut old = Transactor::new(version);
        for partition in 0..2 {
            assert_eq!(old.write(&topic, partition, 0, 3), ErrorCode::None);
        }
        if is_ours() {
            // At once, in the same request.
            let answer = requests::init_producer_id(&mut client(), Some(&old.id), 60_000, None).unwrap();
            assert_eq!(answer.error_code, ErrorCode::None);
            for partition in 0..2 {
                is_stable(&mut old.client, &topic, partition);
            }
        }
        let mut new = Transactor::named(version, &old.id.clone(), 60_000);
        assert_eq!(new.write(&topic, 0, 0, 1), ErrorCode::None);
        assert_eq!(new.end(true), ErrorCode::None);
        is_stable(&mut new.client, &topic, 0);
        assert_eq!(values(&mut new.client, &topic, Isolation::ReadCommitted).len(), 1);
        assert_eq!(new.client.values(&topic, 1, Isolation::ReadCommitted).unwrap().len(), 0);
    }
}

#[test]
fn an_end_sent_again_has_the_same_outcome_and_not_the_other() {
    for committed in [true, false] {
        let topic = topic(1);
        let mut producer = Transactor::new(V1);
        assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
        for _ in 0..3 {
            assert_eq!(producer.end(committed), ErrorCode::None);
        }
        assert_eq!(producer.end(!committed), ErrorCode::InvalidTxnState);
        is_stable(&mut producer.client, &topic, 0);
        assert_eq!(watermarks(&mut producer.client, &topic, 0).0, 2, "there is one marker");

        let topic = oncelog_tests::topic(1);
        let mut producer = Transactor::new(V2);
        let before = producer.identity;
        assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
        assert_eq!(producer.end(committed), ErrorCode::None);
        assert_eq!(previous(producer.identity), before);
        for _ in 0..3 {
            assert_eq!(producer.end_as(before, committed), (ErrorCode::None, producer.identity));
        }
        is_stable(&mut producer.client, &topic, 0);
        assert_eq!(watermarks(&mut producer.client, &topic, 0).0, 2, "there is one marker");
        let other = producer.end_as(before, !committed).0;
        // Kafka says INVALID_TXN_STATE in both cases; a commit that lost against an abort is better off fenced
        // (KAFKA-20785).
        let code =
            if is_ours() && !committed { ErrorCode::ProducerFenced } else { ErrorCode::InvalidTxnState };
        assert_eq!(other, code);
    }
}

#[test]
fn a_late_end_never_touches_a_later_transaction() {
    for (committed, late) in [(true, true), (true, false), (false, true), (false, false)] {
        let topic = topic(1);
        let mut producer = Transactor::new(V2);
        let first = producer.identity;
        assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
        assert_eq!(producer.end(committed), ErrorCode::None);
        assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
        assert_eq!(producer.end_as(first, late).0, ErrorCode::ProducerFenced);
        assert_eq!(producer.state(), "Ongoing");
        let (high_watermark, last_stable_offset) = watermarks(&mut producer.client, &topic, 0);
        assert_eq!((high_watermark, last_stable_offset), (3, 2));
        assert_eq!(producer.end(true), ErrorCode::None);
        assert_eq!(producer.end_as(first, late).0, ErrorCode::ProducerFenced);
    }
}

#[test]
fn only_the_owner_ends_a_transaction() {
    for version in BOTH {
        let topic = topic(1);
        let mut producer = Transactor::new(version);
        assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
        let (id, epoch) = producer.identity;
        for committed in [true, false] {
            let stranger = (ProducerId(id.0 + 1), epoch);
            assert_eq!(producer.end_as(stranger, committed).0, ErrorCode::InvalidProducerIdMapping);
            assert_eq!(producer.end_as((id, epoch.next()), committed).0, ErrorCode::ProducerFenced);
            let (client, newest) = (&mut producer.client, requests::newest_versions(version).1);
            let answer =
                requests::end_txn(client, &unique("nobody"), (id, epoch), committed, newest).unwrap();
            assert!(
                matches!(answer.error_code, ErrorCode::InvalidProducerIdMapping)
                    || !is_ours() && answer.error_code.is_retriable()
            );
        }
        assert_eq!(producer.state(), "Ongoing");
        assert_eq!(producer.end(true), ErrorCode::None);
    }
}

#[test]
fn a_transaction_without_a_write_ends_as_the_version_has_it() {
    let mut producer = Transactor::new(V1);
    for committed in [true, false] {
        assert_eq!(producer.end(committed), ErrorCode::InvalidTxnState);
    }
    let mut producer = Transactor::new(V2);
    assert_eq!(producer.end(true), ErrorCode::InvalidTxnState);
    let before = producer.identity;
    assert_eq!(producer.end(false), ErrorCode::None);
    assert_eq!(previous(producer.identity), before, "an abort of nothing brings a new epoch");
}

#[test]
fn a_commit_after_the_coordinator_aborted_is_fenced() {
    let topic = topic(1);
    for version in BOTH {
        let mut producer = Transactor::named(version, &unique("tx"), 500);
        assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
        eventually("the transaction times out", || producer.state() == "CompleteAbort");
        is_stable(&mut producer.client, &topic, 0);
        let commit = producer.end_as(producer.identity, true).0;
        let code =
            if version == V2 && !is_ours() { ErrorCode::InvalidTxnState } else { ErrorCode::ProducerFenced };
        assert_eq!(commit, code, "{version:?}");
        assert!(producer.write(&topic, 0, 1, 1).is_error());
        assert_eq!(values(&mut producer.client, &topic, Isolation::ReadCommitted).len(), 0);
    }
}

#[test]
fn a_transaction_that_nobody_ends_is_aborted_at_its_timeout() {
    for version in BOTH {
        let topic = topic(2);
        let mut lost = Transactor::named(version, &unique("tx"), 1_500);
        assert_eq!(lost.write(&topic, 0, 0, 1), ErrorCode::None);
        assert_eq!(lost.write(&topic, 1, 0, 1), ErrorCode::None);
        let mut other = client();
        other.produce_values(&topic, 0, ["behind"]).unwrap();
        assert_eq!(watermarks(&mut other, &topic, 0), (2, 0));
        for partition in 0..2 {
            eventually("the readers go on", || {
                let (high_watermark, last_stable_offset) = watermarks(&mut other, &topic, partition);
                high_watermark == last_stable_offset
            });
        }
        assert_eq!(values(&mut other, &topic, Isolation::ReadCommitted), ["behind"]);
        // Its producer finds out at the next call, and a new instance begins in peace.
        assert!(lost.produce(&topic, 0, 1, 1).is_error());
        let mut heir = Transactor::named(version, &lost.id.clone(), 60_000);
        assert_eq!(heir.write(&topic, 0, 0, 1), ErrorCode::None);
        assert_eq!(heir.end(true), ErrorCode::None);
    }
}

#[test]
fn an_open_transaction_holds_back_later_ones_until_it_ends() {
    for version in BOTH {
        for committed in [true, false] {
            let topic = topic(1);
            let mut first = Transactor::new(version);
            let mut second = Transactor::new(version);
            assert_eq!(first.write(&topic, 0, 0, 1), ErrorCode::None);
            assert_eq!(second.write(&topic, 0, 0, 2), ErrorCode::None);
            assert_eq!(second.end(true), ErrorCode::None);
            let mut reader = client();
            eventually("the second has its marker", || watermarks(&mut reader, &topic, 0).0 == 4);
            assert_eq!(watermarks(&mut reader, &topic, 0), (4, 0));
            assert_eq!(values(&mut reader, &topic, Isolation::ReadCommitted).len(), 0);
            assert_eq!(values(&mut reader, &topic, Isolation::ReadUncommitted).len(), 3);
            assert_eq!(first.end(committed), ErrorCode::None);
            is_stable(&mut reader, &topic, 0);
            let offsets: Vec<_> = reader.fetch_all(&topic, 0, Isolation::ReadCommitted).unwrap();
            let offsets: Vec<_> = offsets.iter().map(|record| record.offset.0).collect();
            assert_eq!(offsets, if committed { vec![0, 1, 2] } else { vec![1, 2] });
        }
    }
}

#[test]
fn the_stable_offset_follows_the_oldest_open_transaction() {
    let topic = topic(1);
    let mut producers: Vec<_> = (0..4).map(|_| Transactor::new(V2)).collect();
    for producer in &mut producers {
        assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
    }
    let mut reader = client();
    // Which one ends, and where the stable offset is then.
    for (which, last_stable_offset) in [(1, 0), (3, 0), (0, 2), (2, 8)] {
        assert_eq!(producers[which].end(which % 2 == 0), ErrorCode::None);
        eventually("the stable offset moves", || watermarks(&mut reader, &topic, 0).1 == last_stable_offset);
    }
    let seen = reader.fetch_all(&topic, 0, Isolation::ReadCommitted).unwrap();
    assert_eq!(seen.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_topic_that_is_deleted_drops_out_of_its_transactions() {
    for version in BOTH {
        for committed in [true, false] {
            let (doomed, kept) = (topic(1), topic(1));
            let mut producer = Transactor::new(version);
            assert_eq!(producer.write(&doomed, 0, 0, 1), ErrorCode::None);
            assert_eq!(producer.write(&kept, 0, 0, 1), ErrorCode::None);
            client().delete_topic(&doomed).unwrap();
            assert_eq!(producer.end(committed), ErrorCode::None);
            is_stable(&mut producer.client, &kept, 0);
            let seen = values(&mut client(), &kept, Isolation::ReadCommitted);
            assert_eq!(seen.len(), usize::from(committed));
            // A topic made again under the name knows nothing of the transaction, nor of the producer.
            let mut client = client();
            eventually("the topic can be made again", || client.create_topic(&doomed, 1).is_ok());
            oncelog_tests::await_topic(&mut client, &doomed, 1);
            assert_eq!(watermarks(&mut client, &doomed, 0), (0, 0));
            assert_eq!(requests::producers(&mut client, &doomed, 0).len(), 0);
            let mut next = Transactor::named(version, &producer.id.clone(), 60_000);
            assert_eq!(next.write(&doomed, 0, 0, 1), ErrorCode::None);
            assert_eq!(next.end(true), ErrorCode::None);
            is_stable(&mut next.client, &doomed, 0);
        }
    }
}

#[test]
fn a_topic_made_again_under_an_old_name_gets_no_marker_of_an_old_transaction() {
    if !is_ours() {
        return;
    }
    for version in BOTH {
        let (doomed, kept) = (topic(1), topic(1));
        let mut producer = Transactor::new(version);
        assert_eq!(producer.write(&doomed, 0, 0, 1), ErrorCode::None);
        assert_eq!(producer.write(&kept, 0, 0, 1), ErrorCode::None);
        let mut client = client();
        client.delete_topic(&doomed).unwrap();
        client.create_topic(&doomed, 1).unwrap();
        let described = requests::describe_transaction(&mut client, &producer.id);
        let names: Vec<_> = described.topics.iter().map(|topic| topic.topic.to_string()).collect();
        assert_eq!(names, [kept.as_str()]);
        assert_eq!(producer.end(true), ErrorCode::None);
        assert_eq!(watermarks(&mut client, &doomed, 0), (0, 0));
        assert_eq!(watermarks(&mut client, &kept, 0), (2, 2));
    }
}

#[test]
fn a_transaction_all_of_whose_topics_are_gone_still_ends() {
    for version in BOTH {
        let doomed = topic(1);
        let mut producer = Transactor::new(version);
        assert_eq!(producer.write(&doomed, 0, 0, 1), ErrorCode::None);
        client().delete_topic(&doomed).unwrap();
        assert_eq!(producer.end(true), ErrorCode::None);
        let next = topic(1);
        assert_eq!(producer.write(&next, 0, 0, 1), ErrorCode::None);
        assert_eq!(producer.end(true), ErrorCode::None);
        is_stable(&mut producer.client, &next, 0);
    }
}

#[test]
fn two_producers_of_different_versions_share_a_partition() {
    let topic = topic(1);
    let (mut old, mut new) = (Transactor::new(V1), Transactor::new(V2));
    let mut expected = Vec::new();
    for round in 0..10 {
        assert_eq!(old.write(&topic, 0, round, 1), ErrorCode::None);
        let epoch = new.identity.1;
        assert_eq!(new.write(&topic, 0, 0, 1), ErrorCode::None);
        let (old_commits, new_commits) = (round % 2 == 0, round % 3 == 0);
        assert_eq!(old.end(old_commits), ErrorCode::None);
        assert_eq!(new.end(new_commits), ErrorCode::None);
        expected.extend(old_commits.then(|| format!("0/{round}")));
        expected.extend(new_commits.then(|| format!("{epoch}/0")));
    }
    is_stable(&mut old.client, &topic, 0);
    assert_eq!(values(&mut old.client, &topic, Isolation::ReadCommitted), expected);
}

#[test]
fn one_transactional_id_may_change_from_one_version_to_the_other() {
    let topic = topic(1);
    let mut producer = Transactor::new(V1);
    let mut sequence = 0;
    for version in [V1, V2, V2, V1, V1, V2] {
        if version != producer.version {
            producer = Transactor::named(version, &producer.id.clone(), 60_000);
            sequence = 0;
        }
        assert_eq!(producer.write(&topic, 0, sequence, 1), ErrorCode::None);
        assert_eq!(producer.end(true), ErrorCode::None);
        sequence = if version == V1 { sequence + 1 } else { 0 };
    }
    is_stable(&mut producer.client, &topic, 0);
    assert_eq!(values(&mut producer.client, &topic, Isolation::ReadCommitted).len(), 6);
}

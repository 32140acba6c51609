use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use oncelog_client::Isolation;
use oncelog_tests::process::BrokerProcess;
use oncelog_tests::{address, eventually, unique};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use crate::clients::{
    PATIENCE, Producer, code_of, commit, committed, ends, enqueue, joined, member, numbered, offset_of,
    producer, read, reports, send, topic, transactional,
};

fn in_one_transaction(writer: &Producer, topic: &str, values: &[&str]) {
    writer.begin_transaction().unwrap();
    send(writer, topic, 0, values);
    commit(writer).unwrap();
}

#[test]
fn readers_have_all_of_a_commit_and_nothing_of_an_abort_when_it_returns() {
    let topics = [topic(address(), 3), topic(address(), 3)];
    let writer = transactional(address(), &unique("atomic"), &[]);
    let all_partitions = |names: &[&str]| {
        let values: Vec<String> = names.iter().flat_map(|name| numbered(name, 2)).collect();
        vec![values; 3]
    };
    for (name, is_commit) in [("first", true), ("second", false), ("third", true)] {
        writer.begin_transaction().unwrap();
        for topic in &topics {
            for partition in 0..3 {
                let values = numbered(name, 2);
                send(&writer, topic, partition, &[&values[0], &values[1]]);
            }
        }
        if is_commit {
            commit(&writer).unwrap()
        } else {
            writer.abort_transaction(PATIENCE).unwrap()
        }
        let expected =
            if name == "third" { all_partitions(&["first", "third"]) } else { all_partitions(&["first"]) };
        for topic in &topics {
            assert_eq!(read(address(), topic, 3, Isolation::ReadCommitted), expected, "after the {name}");
        }
    }
    for topic in &topics {
        assert_eq!(
            read(address(), topic, 3, Isolation::ReadUncommitted),
            all_partitions(&["first", "second", "third"])
        );
        assert_eq!(ends(address(), topic, 2), (9, 9));
    }
}

#[test]
fn an_open_transaction_holds_back_a_later_committed_one() {
    let topic = topic(address(), 1);
    let (slow, quick) =
        (transactional(address(), &unique("slow"), &[]), transactional(address(), &unique("quick"), &[]));
    send(&producer(address(), &[]), &topic, 0, &["plain"]);
    slow.begin_transaction().unwrap();
    send(&slow, &topic, 0, &["slow 1"]);
    in_one_transaction(&quick, &topic, &["quick"]);
    send(&slow, &topic, 0, &["slow 2"]);
    assert_eq!(committed(address(), &topic), ["plain"]);
    assert_eq!(ends(address(), &topic, 0), (1, 5));
    commit(&slow).unwrap();
    assert_eq!(committed(address(), &topic), ["plain", "slow 1", "quick", "slow 2"]);
    assert_eq!(ends(address(), &topic, 0), (6, 6));
}

/// A producer that is gone before it has ended its transaction.
fn leave_open(address: SocketAddr, topic: &str, id: &str, timeout_ms: &str) {
    let dying = transactional(address, id, &[("transaction.timeout.ms", timeout_ms)]);
    dying.begin_transaction().unwrap();
    send(&dying, topic, 0, &["left behind"]);
}

#[test]
fn a_producer_that_dies_is_aborted_by_timeout_and_readers_go_on() {
    let topic = topic(address(), 1);
    leave_open(address(), &topic, &unique("dies"), "1000");
    in_one_transaction(&transactional(address(), &unique("lives"), &[]), &topic, &["kept"]);
    assert_eq!(ends(address(), &topic, 0).0, 0);
    eventually("the transaction is aborted", || ends(address(), &topic, 0) == (4, 4));
    assert_eq!(committed(address(), &topic), ["kept"]);
}

#[test]
fn init_after_a_crash_aborts_what_was_left() {
    let (topic, id) = (topic(address(), 1), unique("crashed"));
    leave_open(address(), &topic, &id, "60000");
    assert_eq!(ends(address(), &topic, 0), (0, 1));
    let heir = transactional(address(), &id, &[]);
    assert_eq!(ends(address(), &topic, 0), (2, 2));
    in_one_transaction(&heir, &topic, &["new life"]);
    assert_eq!(committed(address(), &topic), ["new life"]);
}

/// A producer within a transaction, and the one that took its transactional id over.
fn zombie_and_heir(topic: &str) -> (Producer, Producer) {
    let id = unique("zombie");
    let zombie = transactional(address(), &id, &[]);
    zombie.begin_transaction().unwrap();
    send(&zombie, topic, 0, &["zombie"]);
    (zombie, transactional(address(), &id, &[]))
}

#[test]
fn a_zombie_is_fenced_when_it_produces() {
    let topic = topic(address(), 1);
    let (zombie, heir) = zombie_and_heir(&topic);
    enqueue(&zombie, &topic, 0, "too late");
    zombie.flush(PATIENCE).unwrap();
    assert!(reports(&zombie).remove(0).is_err());
    assert_eq!(code_of(zombie.commit_transaction(PATIENCE)), RDKafkaErrorCode::Fenced);
    in_one_transaction(&heir, &topic, &["heir"]);
    assert_eq!(committed(address(), &topic), ["heir"]);
}

#[test]
fn a_zombie_is_fenced_when_it_adds_a_partition() {
    let topic = topic(address(), 2);
    let (zombie, _heir) = zombie_and_heir(&topic);
    enqueue(&zombie, &topic, 1, "too late");
    zombie.flush(PATIENCE).unwrap();
    assert!(reports(&zombie).remove(0).is_err());
    assert_eq!(ends(address(), &topic, 1), (0, 0));
}

#[test]
fn a_zombie_is_fenced_when_it_sends_offsets() {
    let (topic, source) = (topic(address(), 1), topic(address(), 1));
    let member = member(address(), &unique("group"), &source, &[]);
    joined(&member);
    let (zombie, _heir) = zombie_and_heir(&topic);
    let group = member.group_metadata().unwrap();
    let result = zombie.send_offsets_to_transaction(&offset_of(&source, 0, 7), &group, PATIENCE);
    assert_eq!(code_of(result), RDKafkaErrorCode::Fenced);
}

#[test]
fn a_zombie_is_fenced_when_it_commits_or_aborts() {
    let topic = topic(address(), 1);
    let (zombie, _heir) = zombie_and_heir(&topic);
    assert_eq!(code_of(zombie.commit_transaction(PATIENCE)), RDKafkaErrorCode::Fenced);
    let (zombie, _heir) = zombie_and_heir(&topic);
    assert_eq!(code_of(zombie.abort_transaction(PATIENCE)), RDKafkaErrorCode::Fenced);
    assert!(committed(address(), &topic).is_empty());
}

#[test]
fn a_transaction_timeout_above_the_maximum_is_refused() {
    let id = unique("patient");
    let patient = producer(address(), &[("transactional.id", &id), ("transaction.timeout.ms", "900001")]);
    assert_eq!(code_of(patient.init_transactions(PATIENCE)), RDKafkaErrorCode::InvalidTransactionTimeout);
}

#[test]
fn transactions_survive_kill_9() {
    let mut broker = BrokerProcess::start(&[]);
    let address = broker.address();
    let topic = topic(address, 2);
    let (writer, abandoned) = (transactional(address, &unique("goes-on"), &[]), unique("abandoned"));
    in_one_transaction(&writer, &topic, &["before"]);
    leave_open(address, &topic, &abandoned, "60000");
    writer.begin_transaction().unwrap();
    send(&writer, &topic, 1, &["one half"]);
    broker.kill();
    broker.start_again();
    assert_eq!(read(address, &topic, 2, Isolation::ReadCommitted), [vec!["before"], vec![]]);
    send(&writer, &topic, 1, &["other half"]);
    commit(&writer).unwrap();
    transactional(address, &abandoned, &[]);
    assert_eq!(
        read(address, &topic, 2, Isolation::ReadCommitted),
        [vec!["before"], vec!["one half", "other half"]]
    );
    assert_eq!(ends(address, &topic, 0), (4, 4));
}

#[test]
fn a_commit_outlives_a_broker_killed_in_the_middle_of_it() {
    let mut broker = BrokerProcess::start(&[]);
    let address = broker.address();
    let topic = topic(address, 3);
    let writer = transactional(address, &unique("commits"), &[]);
    let rounds = 8;
    for round in 0..rounds {
        writer.begin_transaction().unwrap();
        for partition in 0..3 {
            send(&writer, &topic, partition, &[&round.to_string()]);
        }
        std::thread::scope(|scope| {
            let committing = scope.spawn(|| commit(&writer));
            sleep(Duration::from_micros(150 * round));
            broker.kill();
            broker.start_again();
            committing.join().unwrap().unwrap();
        });
        let expected: Vec<String> = (0..=round).map(|round| round.to_string()).collect();
        assert_eq!(read(address, &topic, 3, Isolation::ReadCommitted), vec![expected; 3]);
    }
    // A marker that was written just before the kill is written once more by the recovery: that does no harm.
    let (stable, end) = ends(address, &topic, 0);
    assert_eq!(stable, end);
    assert!(
        (2 * rounds as i64..=3 * rounds as i64).contains(&end),
        "a record and a marker for each round: {end}"
    );
}

//! The program with `--durability fsync`, killed: what was open is aborted and its producer fenced, what was acknowledged
//! is kept.

use oncelog_client::{Client, Isolation, TransactionVersion};
use oncelog_tests::process::BrokerProcess;
use oncelog_tests::requests::{self, Transactor, watermarks};
use oncelog_wire::ErrorCode;

const FSYNC: [&str; 2] = ["--durability", "fsync"];
const OS: [&str; 2] = ["--durability", "os"];
const GROUP: &str = "group";

fn connect(broker: &BrokerProcess) -> Client {
    Client::connect(broker.address(), "tests").unwrap()
}

fn journal_files(broker: &BrokerProcess) -> usize {
    let entries = std::fs::read_dir(broker.data_dir()).unwrap().map(Result::unwrap);
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("journal-")).count()
}

/// A producer that has committed one transaction, and is in the middle of the next.
fn in_the_middle(broker: &BrokerProcess, version: TransactionVersion) -> Transactor {
    connect(broker).create_topic("orders", 2).unwrap();
    let mut producer = Transactor::at(connect(broker), version, "pay", 60_000);
    for partition in 0..2 {
        assert_eq!(producer.write("orders", partition, 0, 1), ErrorCode::None);
    }
    assert_eq!(producer.commit_offset(GROUP, "orders", 1), ErrorCode::None);
    assert_eq!(producer.end(true), ErrorCode::None);
    let next = if version == TransactionVersion::V1 { 1 } else { 0 };
    assert_eq!(producer.write("orders", 0, next, 2), ErrorCode::None);
    assert_eq!(producer.commit_offset(GROUP, "orders", 2), ErrorCode::None);
    producer
}

/// Of the transaction nothing is left but its marker, and its producer has to come back as another.
fn is_aborted(broker: &BrokerProcess, producer: &Transactor) {
    let mut client = connect(broker);
    assert_eq!(watermarks(&mut client, "orders", 0), (5, 5), "at once, without a successor");
    for partition in 0..2 {
        let seen = client.values("orders", partition, Isolation::ReadCommitted).unwrap();
        assert_eq!(seen.len(), 1, "what was committed is kept");
    }
    assert_eq!(requests::fetch_offset(&mut client, GROUP, "orders", true).unwrap(), (ErrorCode::None, 1));
    let newest = requests::newest_versions(producer.version).1;
    let mut zombie =
        Transactor { client, ..Transactor::at(connect(broker), producer.version, "other", 60_000) };
    (zombie.id, zombie.identity) = (producer.id.clone(), producer.identity);
    let refused = [ErrorCode::ProducerFenced, ErrorCode::InvalidProducerEpoch];
    assert!(refused.contains(&zombie.write("orders", 1, 9, 1)));
    let ended = requests::end_txn(&mut zombie.client, "pay", producer.identity, true, newest).unwrap();
    assert!(refused.contains(&ended.error_code), "{}", ended.error_code);
    let mut heir = Transactor::at(connect(broker), producer.version, "pay", 60_000);
    assert_eq!(heir.write("orders", 0, 0, 1), ErrorCode::None);
    assert_eq!(heir.end(true), ErrorCode::None);
    assert_eq!(zombie.client.values("orders", 0, Isolation::ReadCommitted).unwrap().len(), 2);
}

/// The transaction is as it was, and its producer commits it.
fn goes_on(broker: &BrokerProcess, producer: &Transactor) {
    let mut client = connect(broker);
    assert_eq!(watermarks(&mut client, "orders", 0), (4, 2));
    let newest = requests::newest_versions(producer.version).1;
    let ended = requests::end_txn(&mut client, "pay", producer.identity, true, newest).unwrap();
    assert_eq!(ended.error_code, ErrorCode::None);
    assert_eq!(client.values("orders", 0, Isolation::ReadCommitted).unwrap().len(), 3);
    assert_eq!(requests::fetch_offset(&mut client, GROUP, "orders", true).unwrap(), (ErrorCode::None, 2));
}

fn with_both_versions(check: impl Fn(TransactionVersion)) {
    [TransactionVersion::V1, TransactionVersion::V2].into_iter().for_each(check);
}

#[test]
fn what_is_open_when_a_broker_that_syncs_is_killed_is_aborted_whatever_the_next_mode_is() {
    with_both_versions(|version| {
        for next_mode in [FSYNC, OS] {
            let mut broker = BrokerProcess::start(&FSYNC);
            assert_eq!(journal_files(&broker), 2);
            let producer = in_the_middle(&broker, version);
            broker.kill();
            broker.set_arguments(&next_mode);
            broker.start_again();
            assert_eq!(journal_files(&broker), if next_mode == FSYNC { 2 } else { 0 });
            is_aborted(&broker, &producer);
        }
    });
}

#[test]
fn what_is_open_when_a_broker_that_does_not_sync_is_killed_goes_on_whatever_the_next_mode_is() {
    with_both_versions(|version| {
        for next_mode in [FSYNC, OS] {
            let mut broker = BrokerProcess::start(&OS);
            assert_eq!(journal_files(&broker), 0);
            let producer = in_the_middle(&broker, version);
            broker.kill();
            broker.set_arguments(&next_mode);
            broker.start_again();
            goes_on(&broker, &producer);
        }
    });
}

#[test]
fn what_is_open_goes_on_after_a_clean_stop_in_either_mode() {
    with_both_versions(|version| {
        for (mode, next_mode) in [(FSYNC, FSYNC), (FSYNC, OS), (OS, FSYNC)] {
            let mut broker = BrokerProcess::start(&mode);
            let producer = in_the_middle(&broker, version);
            broker.signal(rustix::process::Signal::TERM);
            assert!(broker.wait().success());
            broker.set_arguments(&next_mode);
            broker.start_again();
            goes_on(&broker, &producer);
        }
    });
}

#[test]
fn a_broker_that_syncs_knows_a_repeated_batch_after_it_was_killed() {
    let mut broker = BrokerProcess::start(&FSYNC);
    let mut client = connect(&broker);
    client.create_topic("orders", 1).unwrap();
    let answer = requests::init_producer_id(&mut client, None, i32::MAX, None).unwrap();
    let identity = (answer.producer_id, answer.producer_epoch);
    let write = |sequence| requests::Write {
        topic: "orders",
        partition: 0,
        identity,
        sequence,
        count: 2,
        transactional_id: None,
    };
    for (sequence, offset) in [(0, 0), (2, 2)] {
        assert_eq!(write(sequence).outcome(&mut client), (ErrorCode::None, oncelog_wire::Offset(offset)));
    }
    for _ in 0..2 {
        broker.kill();
        broker.start_again();
        let mut client = connect(&broker);
        assert_eq!(write(2).outcome(&mut client), (ErrorCode::None, oncelog_wire::Offset(2)));
        assert_eq!(write(6).outcome(&mut client).0, ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(watermarks(&mut client, "orders", 0), (4, 4));
    }
}

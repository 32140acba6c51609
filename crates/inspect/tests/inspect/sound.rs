//! Directories without a fault, and directories that cannot be looked at.

use std::fs;
use std::time::{Duration, Instant};

use oncelog_broker::{Broker, Config, Durability};
use oncelog_client::{Producer, ProducerOptions, TransactionVersion};
use oncelog_inspect::{InspectError, Severity, check};
use oncelog_log::{Disk, FileDisk, MemoryDisk, OpenMode};
use oncelog_records::Compression;
use oncelog_wire::{ErrorCode, Offset, delete_records};

use crate::world::{Data, connect, first_segment, start, transactional};

#[test]
fn a_directory_that_was_closed_is_without_findings() {
    let data = Data::sound();
    let before = data.content();
    let checked = data.check();
    assert_eq!(checked.text(), "");
    let summary = &checked.summary;
    assert_eq!((summary.faults, summary.notes), (0, 0));
    assert_eq!((summary.topics, summary.transactional_ids, summary.open), (5, 2, 0));
    assert!(summary.segments > summary.logs, "orders-0 has more than one segment");
    // Eight transactions in three logs each, and one in one; eight offsets within them, and one without.
    assert_eq!((summary.committed, summary.aborted, summary.offset_commits), (13, 12, 9), "{summary}");
    assert!(summary.index_entries > 0 && summary.snapshots > 0 && summary.producers > 0);
    assert_eq!(data.content(), before, "a check writes nothing");
}

#[test]
fn a_killed_broker_leaves_an_open_transaction_and_no_fault() {
    let data = Data::killed(|broker| {
        let mut client = connect(broker);
        client.create_topic("orders", 1).unwrap();
        for version in [TransactionVersion::V1, TransactionVersion::V2] {
            let mut producer: Producer = transactional(broker, &format!("{version:?}"), version);
            for _ in 0..3 {
                producer.begin();
                producer.send("orders", 0, "k", "v").unwrap();
                producer.send_offset("copiers", "orders", 0, Offset(1)).unwrap();
                producer.commit().unwrap();
            }
            producer.begin();
            producer.send("orders", 0, "k", "open").unwrap();
            producer.send_offset("copiers", "orders", 0, Offset(2)).unwrap();
        }
    });
    let checked = data.check();
    checked.faults(0);
    assert_eq!(checked.summary.open, 4);
    assert_eq!(checked.summary.notes, 1, "{}", checked.text());
    assert!(checked.text().contains("not closed by its last broker"));
}

#[test]
fn a_directory_that_was_recovered_after_a_kill_is_without_faults() {
    let data = Data::killed(|broker| {
        let mut client = connect(broker);
        client.create_topic_with("orders", 1, &[("index.interval.bytes", "10")]).unwrap();
        let mut producer = transactional(broker, "t", TransactionVersion::V2);
        for round in 0..20 {
            producer.begin();
            producer.send("orders", 0, "k", "v").unwrap();
            if round % 3 == 0 { producer.abort() } else { producer.commit() }.unwrap();
        }
        producer.begin();
        producer.send("orders", 0, "k", "open").unwrap();
    });
    data.edit(&first_segment("orders-0"), |content| content.extend([0; 17]));
    let broker = start(data.path());
    transactional(&broker, "t", TransactionVersion::V2);
    connect(&broker).produce_values("orders", 0, ["more"]).unwrap();
    broker.stop();
    let checked = data.check();
    assert_eq!(checked.text(), "");
}

/// Before KIP-890 all transactions of an instance have one epoch: a decision that is still there says nothing of those whose
/// decisions are gone.
#[test]
fn a_directory_whose_internal_logs_were_cleaned_is_without_faults() {
    let data = Data::new();
    let keys = [
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.num.partitions", "1"),
        ("offsets.topic.segment.bytes", "8192"),
        ("transaction.state.log.segment.bytes", "8192"),
        ("log.cleaner.backoff.ms", "10"),
    ];
    let config = Config::in_directory(data.path());
    let config = keys.iter().try_fold(config, |config, (key, value)| config.with(key, value)).unwrap();
    let broker = Broker::start(config).unwrap();
    connect(&broker).create_topic("orders", 1).unwrap();
    let mut producers = [("old", TransactionVersion::V1), ("new", TransactionVersion::V2)]
        .map(|(id, version)| transactional(&broker, id, version));
    for round in 0..200 {
        for producer in &mut producers {
            producer.begin();
            producer.send("orders", 0, "k", "v").unwrap();
            producer.send_offset("copiers", "orders", 0, Offset(round)).unwrap();
            producer.send_offset("copiers", "orders", 0, Offset(round + 1)).unwrap();
            if round < 20 { producer.abort() } else { producer.commit() }.unwrap();
        }
    }
    let checkpoint = data.path().join("cleaner-offset-checkpoint");
    // Far enough that no decision to abort is left.
    let is_cleaned = || {
        let cleaned = fs::read_to_string(&checkpoint).unwrap_or_default();
        let reaches = |line: &str| {
            line.rsplit(' ').next().is_some_and(|offset| offset.parse().is_ok_and(|offset: i64| offset > 500))
        };
        ["__consumer_offsets", "__transaction_state"]
            .iter()
            .all(|topic| cleaned.lines().any(|line| line.starts_with(topic) && reaches(line)))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_cleaned() {
        assert!(Instant::now() < deadline, "nothing was cleaned");
        std::thread::sleep(Duration::from_millis(5));
    }
    broker.stop();
    assert_eq!(data.check().text(), "");
}

#[test]
fn what_a_kill_tears_is_a_note_and_after_a_close_it_is_a_fault() {
    for is_closed in [true, false] {
        let data = Data::sound();
        let segment = first_segment("refunds-0");
        let torn = data.batches(&segment)[0].bytes[..40].to_vec();
        let end = data.batches(&segment).pop().unwrap().header.next_offset();
        data.edit(&segment, |content| content.extend(torn));
        if is_closed {
            data.check().faults(1).has(Severity::Fault, &segment, Some(end.0), "nothing behind it");
        } else {
            data.unclose();
            let what = "the last 40 bytes were being written";
            data.check().faults(0).has(Severity::Note, &segment, Some(end.0), what);
        }
    }
}

#[test]
fn the_directory_of_a_running_broker_is_refused() {
    let data = Data::sound();
    let broker = start(data.path());
    let result = check(&FileDisk::new(), data.path(), &mut |_| {});
    assert!(matches!(result, Err(InspectError::InUse { path }) if path == data.file(".lock")));
    broker.stop();
    data.check().faults(0);
}

#[test]
fn what_is_no_data_directory_of_ours_is_refused() {
    let data = Data::sound();
    let failure = || check(&FileDisk::new(), data.path(), &mut |_| {}).unwrap_err().to_string();
    data.write("meta.properties", "version=1\ncluster.id=abc\nnode.id=1\n");
    assert!(failure().contains("belongs to Apache Kafka"), "{}", failure());
    data.remove("meta.properties");
    assert!(failure().contains("there is no meta.properties"), "{}", failure());
    fs::remove_dir_all(data.path()).unwrap();
    assert!(failure().starts_with("cannot list"), "{}", failure());
}

#[test]
fn deleted_records_and_topics_leave_no_faults() {
    let data = Data::killed(|broker| {
        let mut client = connect(broker);
        client.create_topic_with("orders", 1, &[("segment.bytes", "1048576")]).unwrap();
        client.create_topic("again", 1).unwrap();
        let compressed = ProducerOptions { compression: Compression::Gzip, ..ProducerOptions::default() };
        let mut producer = Producer::transactional(connect(broker), "t", compressed).unwrap();
        let mut random = 1_u64;
        for round in 0..12 {
            producer.begin();
            let noise = (0..300_000).map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 50) as u8
            });
            producer.send("orders", 0, "k", noise.collect::<Vec<u8>>()).unwrap();
            producer.send("again", 0, "k", "v").unwrap();
            if round % 3 == 0 { producer.abort() } else { producer.commit() }.unwrap();
        }
        let partitions =
            vec![delete_records::DeleteRecordsPartition { partition_index: 0, offset: Offset(13) }];
        let topics = vec![delete_records::DeleteRecordsTopic { name: "orders".into(), partitions }];
        let answer = client.call(&delete_records::Request { topics, timeout_ms: 1000 }).unwrap();
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::None);
        client.delete_topic("again").unwrap();
        client.create_topic("again", 1).unwrap();
        client.produce_values("again", 0, ["new"]).unwrap();
    });
    let checked = data.check();
    checked.faults(0);
    let broker = start(data.path());
    connect(&broker).produce_values("orders", 0, ["more"]).unwrap();
    broker.stop();
    let checked = data.check();
    assert_eq!(checked.text(), "");
    assert!(!data.file(&first_segment("orders-0")).exists(), "whole segments were deleted");
}

#[test]
fn a_directory_with_a_journal_is_without_faults() {
    let data = Data::killed_with(Durability::fsync(), |broker| {
        connect(broker).create_topic("orders", 1).unwrap();
        let mut producer = transactional(broker, "t", TransactionVersion::V2);
        for round in 0..5 {
            producer.begin();
            producer.send("orders", 0, "k", "v").unwrap();
            if round % 2 == 0 { producer.abort() } else { producer.commit() }.unwrap();
        }
        producer.begin();
        producer.send("orders", 0, "k", "open").unwrap();
    });
    let checked = data.check();
    checked.faults(0);
    assert_eq!((checked.summary.open, checked.summary.notes), (1, 1), "{}", checked.text());
}

#[test]
fn a_directory_on_any_disk_can_be_checked() {
    let data = Data::sound();
    let memory = MemoryDisk::new();
    for (path, content) in data.content() {
        memory.create_directory(path.parent().unwrap()).unwrap();
        memory.open(&path, OpenMode::Create).unwrap().write_at(&content, 0).unwrap();
    }
    let summary = check(&memory, data.path(), &mut |_| {}).unwrap();
    assert_eq!(summary, data.check().summary);
}

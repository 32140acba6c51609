//! Compaction in a node: the coordinators' logs stay small, and what cannot be cleaned keeps nothing else from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use oncelog_records::{BatchBuilder, batches};
use oncelog_wire::*;

use crate::lossy::{Dice, LossyDisk};
use crate::transactions::ORDERS;
use crate::world::{START, World};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// In place of 100 MiB. So many transactions are to a log with such segments what 51 million are to one with those.
const SEGMENT_BYTES: usize = 16 << 10;
const TRANSACTIONS: u32 = 8_000;

/// Bytes, and records in the batches, of the logs of a topic.
fn extent(world: &World, topic: &str) -> (usize, usize) {
    let files = world.files(topic, ".log");
    let records =
        |content: &[u8]| batches(content).map(|batch| batch.unwrap().record_count() as usize).sum::<usize>();
    (
        files.iter().map(|(_, content)| content.len()).sum(),
        files.iter().map(|(_, content)| records(content)).sum(),
    )
}

#[test]
fn the_logs_of_the_coordinators_stay_small_under_a_day_of_transactions_at_full_speed() {
    let mut world = World::new(&format!(
        "transaction.state.log.num.partitions=2\noffsets.topic.num.partitions=2\n\
         transaction.state.log.segment.bytes={SEGMENT_BYTES}\noffsets.topic.segment.bytes={SEGMENT_BYTES}"
    ));
    world.create_topics();
    world.create_compacted(&["keyed"]);
    let mut producers: Vec<_> = (0..4).map(|number| world.init(&format!("pay-{number}"))).collect();
    // It stays known for a day, and of its marker no more than the header is left.
    let silent = world.init("silent");
    assert_eq!(world.store(5, &silent, 0), ErrorCode::None);
    world.end(5, &silent, true).unwrap();
    let internal = ["__transaction_state-", "__consumer_offsets-"];
    let mut most = [0; 2];
    let mut last_stored = -1;
    for number in 0..TRANSACTIONS {
        let producer = producers[number as usize % 4].clone();
        let is_commit = number % 10 != 3;
        assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
        assert_eq!(world.write(12, &producer, ("keyed", 0), 0), ErrorCode::None);
        assert_eq!(world.store(5, &producer, i64::from(number)), ErrorCode::None);
        producers[number as usize % 4] = world.end(5, &producer, is_commit).unwrap();
        if is_commit {
            last_stored = i64::from(number);
        }
        world.wait(DAY / TRANSACTIONS);
        while world.node.maintain(world.now) {}
        if number % 50 == 0 {
            for (topic, most) in internal.into_iter().zip(&mut most) {
                *most = extent(&world, topic).0.max(*most);
            }
        }
        if number % 500 == 0 {
            assert_eq!(world.faults(), []);
            assert_eq!(world.after_a_kill().stored(), Ok(last_stored));
        }
    }
    for (topic, most) in internal.into_iter().zip(most) {
        let (bytes, records) = extent(&world, topic);
        // In each of two partitions an active segment, one that is to be cleaned, and what has been.
        assert!(most <= 2 * 3 * SEGMENT_BYTES, "{topic} had {most} bytes");
        assert!(records < 500, "the next start reads {records} records of {topic} in {bytes} bytes");
        assert!(bytes > 0);
    }
    world.node.close(world.now).unwrap();
    assert_eq!(world.faults(), []);
    let mut world = world.after_a_kill();
    assert_eq!(world.stored(), Ok(last_stored));
    for producer in producers {
        let state = world.describe(&producer.transactional_id).transaction_state;
        assert!(state.starts_with("Complete"), "{state}");
        assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
        assert!(world.end(5, &producer, true).is_ok());
    }
}

impl World {
    fn create_compacted(&mut self, names: &[&str]) {
        let config = |name: &str, value: &str| create_topics::CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        };
        let topic = |name: &&str| create_topics::CreatableTopic {
            name: (*name).into(),
            num_partitions: 1,
            replication_factor: 1,
            configs: vec![
                config("cleanup.policy", "compact"),
                config("internal.segment.bytes", "1000"),
                config("delete.retention.ms", "60000"),
            ],
            ..Default::default()
        };
        let topics = names.iter().map(topic).collect();
        let response = self.ask(7, create_topics::Request { topics, ..Default::default() });
        assert!(response.topics.iter().all(|topic| topic.error_code == ErrorCode::None), "{response:?}");
    }

    fn put(&mut self, topic: &str, key: &str) -> Offset {
        let mut builder = BatchBuilder::new();
        builder.push(self.now.wall, Some(key.as_bytes()), Some(b"value"));
        let data = produce::PartitionProduceData { index: 0, records: Some(builder.build().into()) };
        let topic_data = vec![produce::TopicProduceData {
            name: topic.into(),
            partition_data: vec![data],
            ..Default::default()
        }];
        let response = self.ask(12, produce::Request { acks: -1, topic_data, ..Default::default() });
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(answer.error_code, ErrorCode::None);
        answer.base_offset
    }

    /// The offset of the newest record of each key, and how many records there are.
    fn newest(&mut self, topic: &str) -> (BTreeMap<Vec<u8>, Offset>, usize) {
        let (mut offset, mut newest, mut count) = (Offset(0), BTreeMap::new(), 0);
        loop {
            let data = self.fetch_from((topic, 0), offset, 1);
            let Some(Records::Bytes(bytes)) = data.records.filter(|records| !records.is_empty()) else {
                return (newest, count);
            };
            for batch in batches(&bytes) {
                let batch = batch.unwrap();
                let mut records = batch.records().unwrap();
                while let Some(record) = records.next_record().unwrap() {
                    newest.insert(record.key.unwrap().to_vec(), record.offset);
                    count += 1;
                }
                offset = batch.next_offset();
            }
        }
    }
}

#[test]
fn a_power_cut_around_cleanings_loses_nothing_that_was_acknowledged() {
    let mut cleaned = 0;
    for seed in 0..24 {
        let disk = LossyDisk::default();
        let mut world = World::with_journal(Arc::new(disk.clone()), 64 << 10, START);
        world.create_compacted(&["keyed"]);
        let mut expected = BTreeMap::new();
        for number in 0..100 + seed * 10 {
            let key = format!("{}", number * number % 7);
            expected.insert(key.clone().into_bytes(), world.put("keyed", &key));
            if number % 20 == seed % 20 {
                world.wait(Duration::from_secs(30));
                while world.node.maintain(world.now) {}
            }
        }
        cleaned += usize::from(world.newest("keyed").1 < 80);
        let now = world.now;
        drop(world);
        let disk = disk.after_power_cut(&mut Dice::new(seed));
        let mut world = World::with_journal(Arc::new(disk), 64 << 10, now);
        assert_eq!(world.newest("keyed").0, expected, "seed {seed}");
        // And it goes on from there.
        world.wait(Duration::from_secs(60));
        while world.node.maintain(world.now) {}
        assert_eq!(world.newest("keyed").0, expected, "seed {seed}");
    }
    assert!(cleaned > 12, "{cleaned}");
}

#[test]
fn a_log_that_cannot_be_cleaned_is_left_alone_and_the_others_are_cleaned() {
    let mut world = World::new("");
    world.create_compacted(&["damaged", "sound"]);
    for number in 0..200 {
        world.put("damaged", &format!("{}", number % 5));
        world.put("sound", &format!("{}", number % 5));
    }
    world.damage("damaged-0/00000000000000000000.log", 100);
    let before = extent(&world, "damaged-");
    world.wait(Duration::from_secs(60));
    while world.node.maintain(world.now) {}
    assert_eq!(extent(&world, "damaged-"), before);
    assert!(extent(&world, "sound-").1 < 30);
    assert!(world.files("damaged-", "leaned").is_empty());
    // It is not tried again and again.
    world.wait(Duration::from_secs(60));
    assert!(!world.node.maintain(world.now));
    world.put("damaged", "a");
}

#[test]
fn a_topic_that_is_made_anew_is_not_clean_up_to_where_the_old_one_was() {
    let mut world = World::new("");
    world.create_compacted(&["again"]);
    for _ in 0..2 {
        for number in 0..200 {
            world.put("again", &format!("{}", number % 5));
        }
        world.wait(Duration::from_secs(60));
        while world.node.maintain(world.now) {}
        assert!(extent(&world, "again-").1 < 30);
        assert_eq!(world.faults(), []);
        let names = delete_topics::DeleteTopicState { name: Some("again".into()), ..Default::default() };
        world.ask(6, delete_topics::Request { topics: vec![names], ..Default::default() });
        world.create_compacted(&["again"]);
    }
}

#[test]
fn the_cleaner_can_be_turned_off() {
    let mut world = World::new("log.cleaner.enable=false");
    world.create_compacted(&["kept"]);
    for number in 0..200 {
        world.put("kept", &format!("{}", number % 5));
    }
    world.wait(Duration::from_secs(60));
    assert!(!world.node.maintain(world.now));
    assert_eq!(extent(&world, "kept-").1, 200);
}

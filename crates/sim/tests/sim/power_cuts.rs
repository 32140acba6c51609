//! A broker on the lossy disk. With `os` durability what was written survives the death of the process, and a power cut
//! takes what was not synced but leaves nothing wrong behind; with `fsync` what was acknowledged survives that as well.

use std::sync::Arc;
use std::time::Duration;

use oncelog_client::{Isolation, visible_records};
use oncelog_log::Durability;
use oncelog_node::Node;
use oncelog_records::BatchBuilder;
use oncelog_sim::broker::{self, FSYNC};
use oncelog_sim::disk::LossyDisk;
use oncelog_sim::random::Random;
use oncelog_wire::{ErrorCode, Now, Offset, Timestamp, create_topics, fetch, produce};

use crate::seeds;

/// A broker with a topic, whose records count up.
struct Counting {
    disk: LossyDisk,
    durability: Durability,
    random: Random,
    node: Option<Node>,
    now: Now,
    written: u64,
}

impl Counting {
    fn new(seed: u64, durability: Durability) -> Counting {
        let mut random = Random::new(seed);
        let disk = LossyDisk::new(random.fork());
        let now = Now { monotonic: Duration::from_secs(1), wall: Timestamp(1_700_000_000_000) };
        let mut counting = Counting { disk, durability, random, node: None, now, written: 0 };
        counting.start();
        counting.create_topic();
        counting
    }

    fn start(&mut self) {
        let node = broker::start(Arc::new(self.disk.clone()), self.durability, self.random.fork(), self.now);
        self.node = Some(node.unwrap());
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    fn create_topic(&self) {
        let small = create_topics::CreatableTopicConfig {
            name: "internal.segment.bytes".into(),
            value: Some("3000".into()),
        };
        let topic = create_topics::CreatableTopic {
            name: "numbers".into(),
            num_partitions: 1,
            replication_factor: 1,
            configs: vec![small],
            ..Default::default()
        };
        let request = create_topics::Request { topics: vec![topic], ..Default::default() };
        broker::ask(self.node(), 7, &request, self.now).unwrap();
    }

    fn write(&mut self, batches: u64) {
        for _ in 0..batches {
            let mut builder = BatchBuilder::new();
            for _ in 0..self.random.within(1..4) {
                let weight = self.random.below(600) as usize;
                let value = format!("{}.{}", self.written, "x".repeat(weight));
                builder.push(self.now.wall, None, Some(value.as_bytes()));
                self.written += 1;
            }
            let records = Some(builder.build().into());
            let data = produce::PartitionProduceData { index: 0, records };
            let topic = produce::TopicProduceData {
                name: "numbers".into(),
                partition_data: vec![data],
                ..Default::default()
            };
            let request = produce::Request {
                transactional_id: None,
                acks: -1,
                topic_data: vec![topic],
                ..Default::default()
            };
            let answer = broker::ask(self.node(), 9, &request, self.now).unwrap();
            assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::None);
        }
    }

    /// Has everything synced that is due every few seconds.
    fn checkpoint(&mut self) {
        self.now.monotonic += Duration::from_secs(60);
        self.now.wall = self.now.wall.plus_ms(60_000);
        self.node().maintain(self.now);
    }

    /// The numbers that are there; `None` where the topic is gone.
    fn numbers(&self) -> Option<Vec<u64>> {
        let mut numbers = Vec::new();
        let mut position = Offset(0);
        loop {
            let partition = fetch::FetchPartition {
                fetch_offset: position,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            };
            let topic = fetch::FetchTopic {
                topic: "numbers".into(),
                partitions: vec![partition],
                ..Default::default()
            };
            let request = fetch::Request {
                max_bytes: 1 << 20,
                session_epoch: -1,
                topics: vec![topic],
                ..Default::default()
            };
            let mut answer = broker::ask(self.node(), 12, &request, self.now).unwrap();
            let data = answer.responses.remove(0).partitions.remove(0);
            if data.error_code == ErrorCode::UnknownTopicOrPartition {
                return None;
            }
            assert_eq!(data.error_code, ErrorCode::None);
            let mut records = Vec::new();
            let next = visible_records(&data, Isolation::ReadUncommitted, position, &mut records).unwrap();
            let number = |value: &str| value.split('.').next().unwrap().parse::<u64>().unwrap();
            numbers.extend(records.iter().map(|record| number(&record.value_text())));
            if next == position {
                return Some(numbers);
            }
            position = next;
        }
    }
}

#[test]
fn a_process_that_dies_loses_nothing_that_was_acknowledged() {
    for seed in 0..seeds(40) {
        let mut counting = Counting::new(seed, Durability::Os);
        for _ in 0..4 {
            let batches = counting.random.within(0..12);
            counting.write(batches);
            if counting.random.one_in(3) {
                counting.checkpoint();
            }
            counting.node = None;
            counting.disk.end_process();
            counting.start();
            assert_eq!(counting.numbers(), Some((0..counting.written).collect()), "seed {seed}");
        }
    }
}

#[test]
fn a_power_cut_leaves_what_was_synced_and_nothing_wrong() {
    let mut losses = 0;
    let seeds = seeds(120);
    for seed in 0..seeds {
        let mut counting = Counting::new(seed, Durability::Os);
        let batches = counting.random.within(0..12);
        counting.write(batches);
        let is_synced = counting.random.one_in(2);
        if is_synced {
            counting.checkpoint();
        }
        let least = if is_synced { counting.written } else { 0 };
        let batches = counting.random.within(0..25);
        counting.write(batches);
        counting.node = None;
        counting.disk.cut_power();
        counting.start();
        let Some(numbers) = counting.numbers() else {
            assert!(!is_synced, "seed {seed}: the topic is gone");
            losses += 1;
            continue;
        };
        let count = numbers.len() as u64;
        assert!(
            (least..=counting.written).contains(&count),
            "seed {seed}: {count} of {least} synced records"
        );
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "seed {seed}");
        losses += u64::from(count < counting.written);
        // Life goes on from here.
        counting.written = count;
        counting.write(3);
        assert_eq!(counting.numbers(), Some((0..counting.written).collect()), "seed {seed}");
    }
    assert!(losses > seeds / 6, "just {losses} power cuts lost anything");
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged_as_synced() {
    for seed in 0..seeds(60) {
        let mut counting = Counting::new(seed, FSYNC);
        for _ in 0..4 {
            let batches = counting.random.within(0..25);
            counting.write(batches);
            if counting.random.one_in(3) {
                counting.checkpoint();
            }
            counting.node = None;
            counting.disk.cut_power();
            counting.start();
            assert_eq!(counting.numbers(), Some((0..counting.written).collect()), "seed {seed}");
        }
    }
}

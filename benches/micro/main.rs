//! The hot paths, one by one: `cargo bench --package oncelog-benches`.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oncelog_benches::{World, request_frame};
use oncelog_records::{BatchBuilder, Rules, TimestampType, validate};
use oncelog_wire::{Message, Reader, Records, RequestHeader, Str, Timestamp, produce};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn batch(records: usize) -> bytes::Bytes {
    let mut batch = BatchBuilder::new();
    for _ in 0..records {
        batch.push(NOW, None, Some(&[b'x'; 100]));
    }
    batch.build()
}

fn decode(criterion: &mut Criterion) {
    let data = produce::PartitionProduceData { index: 0, records: Some(Records::Bytes(batch(10))) };
    let topic = produce::TopicProduceData {
        name: Str::from_static("orders"),
        partition_data: vec![data],
        ..Default::default()
    };
    let frame =
        request_frame(12, &produce::Request { acks: -1, topic_data: vec![topic], ..Default::default() });
    criterion.bench_function("decode a produce request", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::new(frame.clone());
            let header = RequestHeader::decode(&mut reader).expect("a sound header");
            produce::Request::decode(&mut reader, header.api_version).expect("a sound request")
        });
    });
}

fn validate_batches(criterion: &mut Criterion) {
    let rules = Rules {
        max_message_bytes: 1 << 20,
        segment_bytes: 1 << 30,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        is_compacted: false,
        is_zstd_allowed: true,
    };
    let mut group = criterion.benchmark_group("validate a batch");
    for records in [1, 600] {
        let batch = batch(records);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(format!("{records} records of 100 bytes"), |bencher| {
            bencher.iter(|| validate(black_box(&batch), &rules, NOW).is_ok());
        });
    }
}

fn transactions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a transaction from frame to frame, in memory");
    for partitions in [1, 10] {
        let world = World::in_memory(partitions);
        let mut producer = world.init_producer();
        group.bench_function(format!("a record in each of {partitions} partitions"), |bencher| {
            bencher.iter(|| world.commit_one(&mut producer, partitions));
        });
    }
}

fn fetches(criterion: &mut Criterion) {
    let world = World::in_memory(1);
    let mut producer = world.init_producer();
    for _ in 0..200 {
        world.commit_one(&mut producer, 1);
    }
    let frame = world.fetch_frame();
    criterion.bench_function("a read_committed fetch of 10 KB, in memory", |bencher| {
        bencher.iter(|| world.fetch(&frame));
    });
}

criterion_group!(benches, decode, validate_batches, transactions, fetches);
criterion_main!(benches);

//! Produce: what is taken, what is refused, and the sequences of idempotent producers.

use bytes::Bytes;
use oncelog_records::{BatchBuilder, Compression};
use oncelog_tests::forge::{Forged, RawRecord, at};
use oncelog_wire::{ProducerEpoch, ProducerId, Str, Timestamp, Uuid, produce as produce_api};

use super::{Topic, batch, batch_of, fetch_from, filled, init_producer, produce_to, topic};
use crate::compare::FOREIGN_PRODUCERS;
use crate::pair::{Pair, Side};

/// The versions that tell errors apart: the oldest, those that brought codes or fields, the newest.
const TELLING: [i16; 6] = [3, 6, 7, 9, 12, 13];

/// A sound batch in every version, and what is read back.
pub fn versions(pair: &mut Pair) {
    let plain = topic(pair, "plain", 2, &[]);
    let stamped = topic(pair, "stamped", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let records = batch(pair, &["a", "b"]);
    for topic in [&plain, &stamped] {
        for acks in [-1, 1] {
            pair.ask_all(&format!("acks {acks}"), |side| produce_api::Request {
                acks,
                ..produce_to(topic, side, 0, records.clone())
            });
        }
        pair.ask("what was written", 12, |side| fetch_from(topic, side, 0, 0));
    }
    let codecs = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for compression in codecs {
        let records = filled(BatchBuilder::new().compression(compression), pair.time(), &["x", "y", "z"]);
        for version in [3, 6, 7, 13] {
            pair.ask(compression.name(), version, |side| produce_to(&plain, side, 1, records.clone()));
        }
    }
    pair.ask("compressed batches", 12, |side| fetch_from(&plain, side, 1, 0));
    for codec in ["gzip", "snappy", "lz4", "zstd", "uncompressed"] {
        let topic = topic(pair, &format!("for-{codec}"), 1, &[("compression.type", codec)]);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let records = filled(BatchBuilder::new().compression(compression), pair.time(), &["x", "y"]);
            pair.ask(&format!("{} to {codec}", compression.name()), 13, |side| {
                produce_to(&topic, side, 0, records.clone())
            });
        }
        pair.ask(&format!("recompressed to {codec}"), 12, |side| fetch_from(&topic, side, 0, 0));
    }
    nobody_waits(pair, &plain);
}

fn nobody_waits(pair: &mut Pair, topic: &Topic) {
    let mut silent = pair.another();
    let records = batch(pair, &["silent"]);
    // Nothing comes back, so the answer that is waited for is that to the request behind it.
    for (what, partition) in [("acks 0", 0), ("acks 0 to no partition", 77)] {
        let _ = silent.send(what, 9, |side| produce_api::Request {
            acks: 0,
            ..produce_to(topic, side, partition, records.clone())
        });
        silent.ask(&format!("after {what}"), 9, |_| super::list_offsets_of(&topic.name, &[0], -1, 0));
    }
}

/// Rows of what a broker must not take.
pub fn refused_batches(pair: &mut Pair) {
    let plain = topic(pair, "refuses", 80, &[]);
    let compact = topic(pair, "compacts", 1, &[("cleanup.policy", "compact")]);
    let small = topic(pair, "small", 1, &[("max.message.bytes", "200")]);
    let segmented =
        topic(pair, "segmented", 1, &[("segment.bytes", "1048576"), ("max.message.bytes", "4000000")]);
    let strict = topic(
        pair,
        "strict",
        1,
        &[("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "1000")],
    );
    let sound = batch(pair, &["sound"]);
    // To a partition of its own each, so that what one side takes does not move the offsets of all that follow.
    let mut partitions = 2..80;
    let mut ask = |what: &str, topic: &Topic, records: Bytes| {
        let own = partitions.next().expect("there are enough partitions");
        let partition = if topic.name == plain.name { own } else { 0 };
        for version in TELLING {
            pair.ask(what, version, |side| produce_to(topic, side, partition, records.clone()));
        }
    };
    for (what, records) in damaged(&sound) {
        ask(what, &plain, records);
    }
    let mut builder = BatchBuilder::new();
    for (at, key) in [Some(&b"k"[..]), None, None].into_iter().enumerate() {
        builder.push(Timestamp(1_700_000_000_000 + at as i64), key, Some(b"v"));
    }
    ask("records without keys to a compacted topic", &compact, builder.build());
    let long = "v".repeat(300);
    ask("too large a batch", &small, filled(BatchBuilder::new(), Timestamp(1_700_000_000_000), &[&long]));
    ask(
        "larger than a segment",
        &segmented,
        filled(BatchBuilder::new(), Timestamp(1_700_000_000_000), &[&"v".repeat(1_100_000)]),
    );
    ask("from the past", &strict, sound.clone());
    ask("from the future", &plain, filled(BatchBuilder::new(), Timestamp(4_000_000_000_000), &["v"]));
    ask("without a timestamp", &plain, filled(BatchBuilder::new(), Timestamp(-1), &["v"]));
    ask("of a negative time", &plain, filled(BatchBuilder::new(), Timestamp(-5), &["v"]));
    let compressed = |compression| {
        filled(BatchBuilder::new().compression(compression), Timestamp(1_700_000_000_000), &["v", "w"])
    };
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut broken = compressed(compression).to_vec();
        let end = broken.len();
        broken[end - 8..].fill(0xee);
        let broken = Forged::of(&["x"]).records(&broken[at::RECORDS..]).codec(compression.id());
        ask(&format!("broken {}", compression.name()), &plain, broken.seal());
    }
    requests_at_fault(pair, &plain, sound);
}

fn damaged(sound: &Bytes) -> Vec<(&'static str, Bytes)> {
    let forged = || Forged::of(&["x", "y"]);
    let record = |change: fn(&mut RawRecord)| {
        let mut record = RawRecord::new(0);
        change(&mut record);
        Forged::around(&record.encode(), 1).seal()
    };
    let two = |first: i64, second: i64| {
        Forged::around(&[RawRecord::new(first).encode(), RawRecord::new(second).encode()].concat(), 2).seal()
    };
    vec![
        ("no bytes", Bytes::new()),
        ("a few bytes", Bytes::from_static(&[0; 11])),
        ("half a header", sound.slice(..40)),
        ("a cut batch", sound.slice(..sound.len() - 1)),
        ("bytes after the batch", [sound, &[0; 5][..]].concat().into()),
        ("two batches", [&sound[..], &sound[..]].concat().into()),
        ("magic 0", forged().set(at::MAGIC, &[0]).seal()),
        ("magic 1", forged().set(at::MAGIC, &[1]).seal()),
        ("magic 3", forged().set(at::MAGIC, &[3]).seal()),
        ("a wrong CRC", forged().set(at::CRC, &[1, 2, 3, 4]).raw()),
        ("a base offset", forged().set(at::BASE_OFFSET, &5_i64.to_be_bytes()).seal()),
        ("a negative base offset", forged().set(at::BASE_OFFSET, &(-1_i64).to_be_bytes()).seal()),
        ("a length of 0", forged().set(at::LENGTH, &0_i32.to_be_bytes()).raw()),
        ("a negative length", forged().set(at::LENGTH, &(-1_i32).to_be_bytes()).raw()),
        ("a length of 48", forged().set(at::LENGTH, &48_i32.to_be_bytes()).raw()),
        ("a huge length", forged().set(at::LENGTH, &i32::MAX.to_be_bytes()).raw()),
        ("a control batch", forged().set(at::ATTRIBUTES, &[0, 0x20]).seal()),
        ("a transactional batch without a producer", forged().set(at::ATTRIBUTES, &[0, 0x10]).seal()),
        ("marked as of append time", forged().set(at::ATTRIBUTES, &[0, 0x08]).seal()),
        ("with a delete horizon", forged().set(at::ATTRIBUTES, &[0, 0x40]).seal()),
        ("an unknown attribute", forged().set(at::ATTRIBUTES, &[0, 0x80]).seal()),
        ("codec 5", forged().codec(5).seal()),
        ("codec 7", forged().codec(7).seal()),
        ("no records", Forged::around(&[], 0).seal()),
        ("a count of 0", forged().set(at::RECORD_COUNT, &0_i32.to_be_bytes()).seal()),
        ("a negative count", forged().set(at::RECORD_COUNT, &(-1_i32).to_be_bytes()).seal()),
        ("a count too large", forged().set(at::RECORD_COUNT, &3_i32.to_be_bytes()).seal()),
        (
            "a count and delta too large",
            forged()
                .set(at::RECORD_COUNT, &3_i32.to_be_bytes())
                .set(at::LAST_OFFSET_DELTA, &2_i32.to_be_bytes())
                .seal(),
        ),
        (
            "a count and delta too small",
            forged()
                .set(at::RECORD_COUNT, &1_i32.to_be_bytes())
                .set(at::LAST_OFFSET_DELTA, &0_i32.to_be_bytes())
                .seal(),
        ),
        ("a last delta too large", forged().set(at::LAST_OFFSET_DELTA, &7_i32.to_be_bytes()).seal()),
        ("a last delta too small", forged().set(at::LAST_OFFSET_DELTA, &0_i32.to_be_bytes()).seal()),
        ("a negative last delta", forged().set(at::LAST_OFFSET_DELTA, &(-1_i32).to_be_bytes()).seal()),
        (
            "a producer without a sequence",
            forged()
                .set(at::PRODUCER_ID, &FOREIGN_PRODUCERS.to_be_bytes())
                .set(at::PRODUCER_EPOCH, &[0, 0])
                .seal(),
        ),
        (
            "a producer without an epoch",
            forged()
                .set(at::PRODUCER_ID, &FOREIGN_PRODUCERS.to_be_bytes())
                .set(at::BASE_SEQUENCE, &[0; 4])
                .seal(),
        ),
        ("a sequence without a producer", forged().set(at::BASE_SEQUENCE, &[0; 4]).seal()),
        ("a wrong max timestamp", forged().set(at::MAX_TIMESTAMP, &5_i64.to_be_bytes()).seal()),
        ("offset deltas from 1", two(1, 2)),
        ("offset deltas twice 0", two(0, 0)),
        ("offset deltas backwards", two(1, 0)),
        ("offset deltas with a gap", two(0, 2)),
        ("a record that says too much", record(|record| record.length_error = 1)),
        ("a record that says too little", record(|record| record.length_error = -1)),
        ("a value too long", record(|record| record.value_length = 50)),
        ("a value length of -2", record(|record| record.value_length = -2)),
        ("a key too long", record(|record| record.key_length = 1 << 30)),
        ("a negative header count", record(|record| record.header_count = -1)),
        ("headers that are not there", record(|record| record.header_count = 3)),
        ("a header without a name", record(|record| (record.header_count, record.rest) = (1, vec![1, 1]))),
        ("a header", record(|record| (record.header_count, record.rest) = (1, vec![2, b'h', 1]))),
        ("bytes behind the headers", record(|record| record.rest = vec![0, 0])),
    ]
}

fn requests_at_fault(pair: &mut Pair, topic: &Topic, sound: Bytes) {
    for version in TELLING {
        for acks in [-2, 2] {
            pair.ask(&format!("acks {acks}"), version, |side| produce_api::Request {
                acks,
                ..produce_to(topic, side, 0, sound.clone())
            });
        }
        for partition in [-1, 1] {
            pair.ask(&format!("partition {partition}"), version, |side| {
                produce_to(topic, side, partition, sound.clone())
            });
        }
        for name in ["no-such-topic", "", "a/b", "__consumer_offsets", "__transaction_state"] {
            let nowhere = Topic { name: Str::from(name), id: topic.id.map(|_| Uuid([9; 16])) };
            pair.ask(&format!("topic {name:?}"), version, |side| {
                produce_to(&nowhere, side, 0, sound.clone())
            });
        }
        pair.ask("null records", version, |side| {
            let mut request = produce_to(topic, side, 0, sound.clone());
            request.topic_data[0].partition_data[0].records = None;
            request
        });
        pair.ask("no topics", version, |_| produce_api::Request {
            acks: -1,
            timeout_ms: 100,
            ..Default::default()
        });
        pair.ask("no partitions", version, |side| {
            let mut request = produce_to(topic, side, 0, sound.clone());
            request.topic_data[0].partition_data.clear();
            request
        });
        pair.ask("the same partition twice", version, |side| {
            let mut request = produce_to(topic, side, 0, sound.clone());
            let again = request.topic_data[0].partition_data[0].clone();
            request.topic_data[0].partition_data.push(again);
            request
        });
        pair.ask("one good, one bad", version, |side| {
            let mut request = produce_to(topic, side, 1, sound.clone());
            let mut bad = request.topic_data[0].partition_data[0].clone();
            bad.index = 400;
            request.topic_data[0].partition_data.insert(0, bad);
            request
        });
    }
    pair.ask("zero id", 13, |side| {
        let mut request = produce_to(topic, side, 0, sound.clone());
        request.topic_data[0].topic_id = Uuid::ZERO;
        request
    });
}

/// Duplicates, gaps, wraps and epochs of an idempotent producer.
pub fn sequences(pair: &mut Pair) {
    let topic = topic(pair, "sequences", 6, &[]);
    let ask =
        |pair: &mut Pair, what: &str, partition: i32, id: i64, epoch: i16, sequence: i32, count: usize| {
            let values = vec!["v"; count];
            let records = batch_of(pair, (ProducerId(id), ProducerEpoch(epoch)), sequence, &values);
            pair.ask(what, 11, |side| produce_to(&topic, side, partition, records.clone()))
        };
    let a = FOREIGN_PRODUCERS + 1;
    for at in 0..7 {
        ask(pair, "in order", 0, a, 0, at * 2, 2);
    }
    for at in 0..7 {
        ask(pair, &format!("again {at}"), 0, a, 0, at * 2, 2);
    }
    ask(pair, "overlaps", 0, a, 0, 12, 1);
    ask(pair, "overlaps the end", 0, a, 0, 13, 2);
    ask(pair, "gap", 0, a, 0, 20, 1);
    ask(pair, "next", 0, a, 0, 14, 1);
    ask(pair, "new epoch, not at 0", 0, a, 1, 15, 1);
    ask(pair, "new epoch", 0, a, 1, 0, 1);
    ask(pair, "old epoch", 0, a, 0, 15, 1);
    ask(pair, "old epoch, duplicate", 0, a, 0, 14, 1);
    ask(pair, "epoch skips", 0, a, 9, 0, 1);
    ask(pair, "from the middle", 1, a, 3, 500, 3);
    ask(pair, "goes on", 1, a, 3, 503, 1);
    ask(pair, "starts again", 1, a, 3, 0, 1);
    ask(pair, "up to the wrap", 2, a, 0, i32::MAX - 1, 2);
    ask(pair, "after the wrap", 2, a, 0, 0, 1);
    ask(pair, "across the wrap", 3, a, 0, i32::MAX, 3);
    ask(pair, "across again", 3, a, 0, i32::MAX, 3);
    ask(pair, "behind it", 3, a, 0, 2, 1);
    ask(pair, "another producer", 3, a + 1, 0, 7, 1);
    pair.ask("producers", 0, |_| super::transactions::producers_of(&topic.name, &[0, 1, 2, 3]));
    pair.ask("what is there", 12, |side| fetch_from(&topic, side, 0, 0));
    let from = pair.time();
    pair.ask("two producers in two partitions", 11, |side| {
        let records =
            |id| filled(BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(0), 0), from, &["v"]);
        let mut request = produce_to(&topic, side, 4, records(a));
        request.topic_data[0]
            .partition_data
            .push(produce_api::PartitionProduceData { index: 5, records: Some(records(a + 1).into()) });
        request
    });
}

/// An id of the broker's, after its partition has forgotten it.
pub fn idempotence_after_reset(pair: &mut Pair) {
    let topic = topic(pair, "forgets", 1, &[]);
    let producer = init_producer(pair, "an id", None);
    let from = pair.time();
    let ask = |pair: &mut Pair, what: &str, sequence: i32| {
        pair.ask(what, 11, |side: Side| {
            let (id, epoch) = producer[side];
            produce_to(
                &topic,
                side,
                0,
                filled(BatchBuilder::new().producer(id, epoch, sequence), from, &["v"]),
            )
        });
    };
    ask(pair, "first", 0);
    ask(pair, "second", 1);
    pair.ask("all records deleted", 2, |_| super::offsets::delete_to(&topic.name, 0, -1));
    ask(pair, "again", 1);
    ask(pair, "third", 2);
    ask(pair, "gap", 9);
    pair.ask("its state", 0, |_| super::transactions::producers_of(&topic.name, &[0]));
}

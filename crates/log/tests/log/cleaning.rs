//! Compaction: random histories with cleanings at random moments against a model that keeps everything, and what goes when.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use oncelog_log::{FileDisk, Isolation, LogConfig, ReadSpec, Verification};
use oncelog_records::{
    BatchBuilder, BatchView, Compression, EndTransactionMarker, MarkerKind, Record, batches,
};
use oncelog_wire::{Offset, ProducerEpoch, ProducerId, Timestamp};
use proptest::prelude::*;

use crate::world::{World, bytes_of};

use Isolation::{ReadCommitted, ReadUncommitted};

const RETENTION_MS: i64 = 1_000;

/// Room for all keys there are.
const LARGE_MAP: u64 = 1 << 16;

pub fn compacting(segment_bytes: u32) -> LogConfig {
    LogConfig {
        segment_bytes,
        index_interval_bytes: 100,
        is_deleting: false,
        is_compacting: true,
        delete_retention_ms: RETENTION_MS,
        producer_id_expiration_ms: i64::MAX,
        ..LogConfig::default()
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Kept {
    key: u8,
    value: Option<Vec<u8>>,
    timestamp: i64,
    /// Whose it is, if it is part of a transaction.
    transaction: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Producer {
    epoch: i16,
    next_sequence: i32,
    /// Offset, first sequence number and records of the last batch in this epoch.
    last: Option<(i64, i32, usize)>,
    /// Number and first offset of the open transaction.
    open: Option<(usize, i64)>,
}

/// Everything that was ever written, and how transactions ended.
#[derive(Debug, Default)]
struct Model {
    records: BTreeMap<i64, Kept>,
    ended: BTreeMap<usize, MarkerKind>,
    transactions: usize,
    producers: BTreeMap<i64, Producer>,
    start: i64,
    end: i64,
}

impl Model {
    fn last_stable_offset(&self) -> i64 {
        let open = self.producers.values().filter_map(|producer| producer.open);
        open.map(|(_, first)| first.max(self.start)).min().unwrap_or(self.end)
    }

    fn is_aborted(&self, record: &Kept) -> bool {
        record.transaction.is_some_and(|number| self.ended.get(&number) == Some(&MarkerKind::Abort))
    }

    /// The newest record of each key that a read_committed reader may know of.
    fn newest(&self) -> BTreeMap<u8, (i64, Option<Vec<u8>>)> {
        let visible = self.records.range(self.start..self.last_stable_offset());
        let committed = visible.filter(|(_, record)| !self.is_aborted(record));
        committed.map(|(offset, record)| (record.key, (*offset, record.value.clone()))).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write { producer: Option<i64>, in_txn: bool, keys: Vec<(u8, bool)>, codec: Compression },
    SendAgain { producer: i64 },
    End { producer: i64, kind: MarkerKind, bumps: bool },
    DeleteRecords { permille: i64 },
    Clean { map_bytes: u64 },
    MoveClock { ms: i64 },
    Checkpoint,
    Restart,
    Crash,
    LoseFile { which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let producer = 0..4i64;
    let kind = prop_oneof![Just(MarkerKind::Abort), Just(MarkerKind::Commit)];
    let keys = prop::collection::vec((0..12u8, prop::bool::weighted(0.2)), 1..5);
    let codec = prop::sample::select(&[Compression::None, Compression::None, Compression::Lz4][..]);
    prop_oneof![
        20 => (prop::option::weighted(0.7, producer.clone()), any::<bool>(), keys, codec)
            .prop_map(|(producer, in_txn, keys, codec)| Step::Write { producer, in_txn, keys, codec }),
        2 => producer.clone().prop_map(|producer| Step::SendAgain { producer }),
        8 => (producer, kind, any::<bool>()).prop_map(|(producer, kind, bumps)| Step::End { producer, kind, bumps }),
        1 => (0..=1000i64).prop_map(|permille| Step::DeleteRecords { permille }),
        5 => prop_oneof![3 => Just(LARGE_MAP), 1 => 150..400u64].prop_map(|map_bytes| Step::Clean { map_bytes }),
        3 => (0..RETENTION_MS).prop_map(|ms| Step::MoveClock { ms }),
        4 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => (0..100usize).prop_map(|which| Step::LoseFile { which }),
    ]
}

struct Run {
    world: World,
    model: Model,
}

impl Run {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Write { producer, in_txn, keys, codec } => self.write(*producer, *in_txn, keys, *codec),
            Step::SendAgain { producer } => self.send_again(*producer),
            Step::End { producer, kind, bumps } => self.end(*producer, *kind, *bumps),
            Step::DeleteRecords { permille } => {
                let before = self.world.log().high_watermark().0 * permille / 1000;
                let (start, garbage) = self.world.log().delete_records(Some(Offset(before))).unwrap();
                garbage.remove().unwrap();
                self.model.start = start.0;
                self.world.note_start();
            }
            Step::Clean { map_bytes } => self.clean(*map_bytes),
            Step::MoveClock { ms } => self.world.now += ms,
            Step::Checkpoint => self.world.checkpoint(),
            Step::Restart => self.world.restart(),
            Step::Crash => self.world.crash(),
            Step::LoseFile { which } => self.world.lose_index(*which),
        }
    }

    fn write(&mut self, producer: Option<i64>, in_txn: bool, keys: &[(u8, bool)], codec: Compression) {
        let now = self.world.now;
        let known = producer.map(|id| self.model.producers.entry(id).or_default());
        let in_txn = in_txn && producer.is_some() || known.as_ref().is_some_and(|known| known.open.is_some());
        let mut builder = BatchBuilder::new().compression(codec);
        if let (Some(id), Some(known)) = (producer, &known) {
            builder = builder.producer(ProducerId(id), ProducerEpoch(known.epoch), known.next_sequence);
        }
        if in_txn {
            builder = builder.transactional();
        }
        let base = self.model.end;
        let value = |at: usize, is_tombstone: bool| {
            (!is_tombstone).then(|| format!("value {}", base + at as i64).into_bytes())
        };
        for (at, (key, is_tombstone)) in keys.iter().enumerate() {
            builder.push(Timestamp(now), Some(&[*key]), value(at, *is_tombstone).as_deref());
        }
        let appended = self.world.append_batch(&builder.build(), Verification::Verified).unwrap();
        assert_eq!(appended.base_offset.0, base);
        let transaction = known.filter(|_| in_txn || producer.is_some()).and_then(|known| {
            known.last = Some((base, known.next_sequence, keys.len()));
            known.next_sequence += keys.len() as i32;
            if in_txn && known.open.is_none() {
                known.open = Some((self.model.transactions, base));
                self.model.transactions += 1;
            }
            known.open.map(|(number, _)| number)
        });
        for (at, (key, is_tombstone)) in keys.iter().enumerate() {
            let value = value(at, *is_tombstone);
            let record = Kept { key: *key, value, timestamp: now, transaction };
            self.model.records.insert(base + at as i64, record);
        }
        self.model.end += keys.len() as i64;
    }

    fn send_again(&mut self, producer: i64) {
        let Some(known) = self.model.producers.get(&producer).copied() else { return };
        let Some((base, sequence, count)) = known.last else { return };
        let builder =
            BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(known.epoch), sequence);
        let mut builder = builder.transactional();
        (0..count).for_each(|_| builder.push(Timestamp(0), Some(b"x"), None));
        let appended = self.world.append_batch(&builder.build(), Verification::None).unwrap();
        assert!(appended.is_duplicate, "producer {producer}");
        assert_eq!(appended.base_offset.0, base);
    }

    fn end(&mut self, producer: i64, kind: MarkerKind, bumps: bool) {
        let known = self.model.producers.entry(producer).or_default();
        if bumps {
            *known = Producer { epoch: known.epoch + 1, open: known.open, ..Producer::default() };
        }
        let epoch = known.epoch;
        if let Some((number, _)) = known.open.take() {
            self.model.ended.insert(number, kind);
        }
        self.world.end(producer, epoch, kind);
        self.model.end += 1;
    }

    fn clean(&mut self, map_bytes: u64) {
        let before = self.world.log().size();
        let Some(stats) = self.world.clean(map_bytes) else { return };
        assert!(stats.records_kept <= stats.records_read);
        // A horizon in place of a timestamp makes the deltas of a batch's records longer.
        assert!(self.world.log().size() <= before + 8 * stats.records_read, "it grew: {stats:?}");
        let mut seen = HashSet::new();
        for (offset, record) in self.all(ReadUncommitted, 1 << 20) {
            if offset < stats.end_offset.0 && offset >= self.model.start {
                assert!(seen.insert(record.key), "key {} is there twice below {stats:?}", record.key);
                assert!(!self.model.is_aborted(&self.model.records[&offset]));
            }
        }
    }

    /// The data records that a reader is given, as a client makes sense of them.
    fn all(&mut self, isolation: Isolation, max_bytes: u32) -> Vec<(i64, Kept)> {
        let mut offset = Offset(self.model.start);
        let mut all = Vec::new();
        loop {
            let spec = ReadSpec { offset, max_bytes, at_least_one_batch: true, isolation };
            let read = self.world.log().read(&spec).unwrap();
            if read.size == 0 {
                return all;
            }
            let mut aborted = read.aborted.unwrap_or_default();
            aborted.sort_by_key(|entry| std::cmp::Reverse(entry.first_offset));
            let (bytes, mut skipped, start) = (bytes_of(&read.records), HashSet::new(), offset);
            for batch in batches(&bytes) {
                let batch = batch.unwrap();
                assert!(batch.is_crc_valid() && batch.last_offset() >= start);
                assert!(batch.base_offset() >= offset || offset == start);
                while let Some(entry) = aborted.pop_if(|entry| entry.first_offset <= batch.last_offset()) {
                    skipped.insert(entry.producer_id);
                }
                offset = batch.next_offset();
                if batch.is_control() {
                    let marker = EndTransactionMarker::parse(&batch);
                    if marker.is_ok_and(|marker| marker.kind == MarkerKind::Abort) {
                        skipped.remove(&batch.producer_id());
                    }
                } else if !batch.is_transactional() || !skipped.contains(&batch.producer_id()) {
                    self.collect(&batch, start, &mut all);
                }
            }
        }
    }

    fn collect(&self, batch: &BatchView<'_>, from: Offset, all: &mut Vec<(i64, Kept)>) {
        let mut records = batch.records().unwrap();
        while let Some(Record { offset, timestamp, key, value, .. }) = records.next_record().unwrap() {
            if offset < from {
                continue;
            }
            let known = &self.model.records[&offset.0];
            let (key, value) = (key.unwrap()[0], value.map(<[u8]>::to_vec));
            let found = Kept { key, value, timestamp: timestamp.0, transaction: known.transaction };
            assert_eq!(&found, known, "offset {offset}");
            assert!(all.last().is_none_or(|(last, _)| *last < offset.0));
            all.push((offset.0, found));
        }
    }

    fn check(&mut self, max_bytes: u32) {
        assert_eq!(self.world.log().log_end_offset().0, self.model.end);
        assert_eq!(self.world.log().last_stable_offset().0, self.model.last_stable_offset());
        let mut found = BTreeMap::new();
        for (offset, record) in self.all(ReadCommitted, max_bytes) {
            assert!(!self.model.is_aborted(&record), "offset {offset} was aborted");
            found.insert(record.key, (offset, record.value));
        }
        let mut expected = self.model.newest();
        // A tombstone may have gone, with all before it.
        expected.retain(|key, (_, value)| value.is_some() || found.contains_key(key));
        assert_eq!(found, expected);
    }
}

fn run(world: World, steps: &[(Step, u32)]) {
    let mut run = Run { world, model: Model::default() };
    for (step, max_bytes) in steps {
        run.take(step);
        run.check(*max_bytes);
    }
    run.world.crash();
    run.check(1 << 20);
    for producer in 0..4 {
        run.send_again(producer);
    }
}

fn steps(count: usize) -> impl Strategy<Value = Vec<(Step, u32)>> {
    prop::collection::vec((step(), prop_oneof![0..400u32, Just(1 << 20)]), 1..count)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn readers_of_a_compacted_log_know_the_newest_of_each_key(bytes in 250..1500u32, steps in steps(150)) {
        run(World::in_memory(compacting(bytes)), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn readers_of_a_compacted_log_in_files_know_the_newest_of_each_key(bytes in 250..1500u32, steps in steps(100)) {
        let directory = tempfile::tempdir().unwrap();
        run(World::on(Arc::new(FileDisk::new()), directory.path().join("data"), compacting(bytes)), &steps);
    }
}

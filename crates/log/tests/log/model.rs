//! Random histories, with clean stops, crashes and torn tails at random points, against a naive model: a list of
//! batches from which everything is worked out anew each time.

use std::collections::BTreeMap;
use std::sync::Arc;

use oncelog_log::{FileDisk, Isolation, LogConfig, OffsetQuery, OpenMode, ReadSpec, Verification};
use oncelog_records::{MarkerKind, batches};
use oncelog_wire::{Offset, ProducerEpoch, ProducerId, Timestamp};
use proptest::prelude::*;

use crate::world::{World, bytes_of, partition, plain, sequenced};

use Isolation::{ReadCommitted, ReadUncommitted};

#[derive(Clone, Debug)]
enum Step {
    Plain { count: usize, value_bytes: usize },
    Data { producer: i64, count: usize, in_txn: bool },
    SendAgain { producer: i64 },
    End { producer: i64, kind: MarkerKind, bumps: bool },
    DeleteRecords { permille: i64 },
    Maintain,
    MoveClock { ms: i64 },
    Checkpoint,
    Restart,
    Crash,
    Tear { bytes: u64 },
    LoseFile { which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let producer = 0..4i64;
    let kind = prop_oneof![Just(MarkerKind::Abort), Just(MarkerKind::Commit)];
    prop_oneof![
        4 => (1..4usize, 0..200usize).prop_map(|(count, value_bytes)| Step::Plain { count, value_bytes }),
        10 => (producer.clone(), 1..4usize, prop::bool::weighted(0.8))
            .prop_map(|(producer, count, in_txn)| Step::Data { producer, count, in_txn }),
        2 => producer.clone().prop_map(|producer| Step::SendAgain { producer }),
        6 => (producer, kind, any::<bool>()).prop_map(|(producer, kind, bumps)| Step::End { producer, kind, bumps }),
        1 => (0..=1000i64).prop_map(|permille| Step::DeleteRecords { permille }),
        1 => Just(Step::Maintain),
        3 => (-50..200i64).prop_map(|ms| Step::MoveClock { ms }),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
        1 => (1..600u64).prop_map(|bytes| Step::Tear { bytes }),
        1 => (0..100usize).prop_map(|which| Step::LoseFile { which }),
    ]
}

/// One batch, as the model remembers it.
#[derive(Clone, Debug)]
struct Batch {
    base: i64,
    count: i64,
    size: u64,
    timestamp: i64,
    producer: Option<(i64, i16, i32)>,
    in_txn: bool,
    ends: Option<MarkerKind>,
}

#[derive(Debug, Default)]
struct Model {
    batches: Vec<Batch>,
    start: i64,
}

/// What the model knows of a producer: epoch, last sequence, last batch, start of the open transaction.
#[derive(Clone, Copy, Debug, Default)]
struct Producer {
    epoch: i16,
    last_sequence: i32,
    last: Option<(i64, i64)>,
    open_since: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.base + batch.count)
    }

    fn producers(&self) -> BTreeMap<i64, Producer> {
        let mut producers: BTreeMap<i64, Producer> = BTreeMap::new();
        for batch in &self.batches {
            let Some((id, epoch, sequence)) = batch.producer else { continue };
            let fresh = Producer { epoch, last_sequence: -1, last: None, open_since: -1 };
            let known = producers.entry(id).or_insert(fresh);
            if known.epoch != epoch {
                *known = Producer { open_since: known.open_since, ..fresh };
            }
            if batch.ends.is_some() {
                known.open_since = -1;
                continue;
            }
            known.last_sequence = sequence + batch.count as i32 - 1;
            known.last = Some((batch.base, batch.count));
            if batch.in_txn && known.open_since < 0 {
                known.open_since = batch.base;
            }
        }
        producers
    }

    /// Producer, first offset and marker of every aborted transaction.
    fn aborted(&self) -> Vec<(i64, i64, i64)> {
        let mut open: BTreeMap<i64, i64> = BTreeMap::new();
        let mut aborted = Vec::new();
        for batch in &self.batches {
            let Some((id, ..)) = batch.producer else { continue };
            match batch.ends {
                None if batch.in_txn => drop(open.entry(id).or_insert(batch.base)),
                None => {}
                Some(kind) => {
                    let first = open.remove(&id);
                    aborted.extend(
                        first.filter(|_| kind == MarkerKind::Abort).map(|first| (id, first, batch.base)),
                    );
                }
            }
        }
        aborted
    }

    fn bound(&self, isolation: Isolation) -> i64 {
        let open =
            self.producers().into_values().map(|producer| producer.open_since).filter(|since| *since >= 0);
        match isolation {
            ReadUncommitted => self.end(),
            ReadCommitted => open.min().map_or(self.end(), |first| first.max(self.start)),
        }
    }

    fn visible(&self, isolation: Isolation) -> Vec<i64> {
        let bound = self.bound(isolation);
        let wanted = |batch: &&Batch| {
            self.start < bound && batch.base + batch.count > self.start && batch.base < bound
        };
        self.batches.iter().filter(wanted).map(|batch| batch.base).collect()
    }

    fn first_at(&self, timestamp: i64, isolation: Isolation) -> Option<i64> {
        let bound = self.bound(isolation);
        let batch = self
            .batches
            .iter()
            .find(|batch| batch.timestamp >= timestamp && batch.base + batch.count > self.start)?;
        Some(batch.base.max(self.start)).filter(|offset| *offset < bound)
    }
}

struct Run {
    world: World,
    model: Model,
}

impl Run {
    fn take(&mut self, step: &Step) {
        let now = self.world.now;
        match *step {
            Step::Plain { count, value_bytes } => {
                self.append(plain(now, count, value_bytes), count, None, false);
            }
            Step::Data { producer, count, in_txn } => {
                let known = self.model.producers().get(&producer).copied();
                let (epoch, sequence) = known.map_or((0, 0), |known| (known.epoch, known.last_sequence + 1));
                let is_open = known.is_some_and(|known| known.open_since >= 0);
                let in_txn = in_txn || is_open;
                let batch = sequenced(producer, epoch, sequence, count, in_txn, now);
                self.append(batch, count, Some((producer, epoch, sequence)), in_txn);
            }
            Step::SendAgain { producer } => {
                let Some(known) = self.model.producers().get(&producer).copied() else { return };
                let Some((base, count)) = known.last else { return };
                let sequence = known.last_sequence + 1 - count as i32;
                let batch = sequenced(producer, known.epoch, sequence, count as usize, true, now);
                let appended = self.world.append_batch(&batch, Verification::None).unwrap();
                assert!(appended.is_duplicate);
                assert_eq!(appended.base_offset.0, base);
            }
            Step::End { producer, kind, bumps } => {
                let known = self.model.producers().get(&producer).copied();
                let epoch = known.map_or(0, |known| known.epoch) + i16::from(bumps);
                let before = self.world.log().size();
                let appended = self.world.end(producer, epoch, kind);
                self.model.batches.push(Batch {
                    base: appended.base_offset.0,
                    count: 1,
                    size: self.world.log().size() - before,
                    timestamp: now,
                    producer: Some((producer, epoch, -1)),
                    in_txn: true,
                    ends: Some(kind),
                });
            }
            Step::DeleteRecords { permille } => {
                let before = self.model.end() * permille / 1000;
                let (start, garbage) = self.world.log().delete_records(Some(Offset(before))).unwrap();
                garbage.remove().unwrap();
                self.model.start = self.model.start.max(before);
                assert_eq!(start.0, self.model.start);
                self.world.note_start();
            }
            Step::Maintain => {
                let now = self.world.now();
                self.world.log().maintain(now).unwrap().remove().unwrap();
                let start = self.world.log().log_start_offset().0;
                assert!(start >= self.model.start && start <= self.model.end());
                let is_segment_start =
                    start == self.model.end() || self.model.batches.iter().any(|batch| batch.base == start);
                assert!(start == self.model.start || is_segment_start);
                self.model.start = start;
                self.world.note_start();
            }
            Step::MoveClock { ms } => self.world.now += ms,
            Step::Checkpoint => self.world.checkpoint(),
            Step::Restart => self.world.restart(),
            Step::Crash => self.world.crash(),
            Step::Tear { bytes } => self.tear(bytes),
            Step::LoseFile { which } => self.world.lose_index(which),
        }
    }

    fn append(&mut self, batch: bytes::Bytes, count: usize, producer: Option<(i64, i16, i32)>, in_txn: bool) {
        let appended = self.world.append_batch(&batch, Verification::Verified).unwrap();
        assert!(!appended.is_duplicate);
        assert_eq!(appended.base_offset.0, self.model.end());
        self.model.batches.push(Batch {
            base: appended.base_offset.0,
            count: count as i64,
            size: batch.len() as u64,
            timestamp: self.world.now,
            producer,
            in_txn,
            ends: None,
        });
    }

    /// Crashes with some bytes of the last file missing, as long as that leaves the log's start where it is.
    fn tear(&mut self, bytes: u64) {
        let directory = self.world.root.join(partition().to_string());
        self.world.open = None;
        let entries = self.world.disk.list(&directory).unwrap_or_default();
        let last = entries.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(".log")).max();
        if let Some(name) = last {
            let file = self.world.disk.open(&directory.join(name), OpenMode::Existing).unwrap();
            let length = file.length().unwrap();
            let bytes = bytes.min(length);
            let (mut left, mut popped) = (self.model.batches.len(), 0);
            while popped < bytes {
                left -= 1;
                popped += self.model.batches[left].size;
            }
            let end = left
                .checked_sub(1)
                .map_or(0, |at| self.model.batches[at].base + self.model.batches[at].count);
            if end >= self.model.start {
                file.truncate(length - bytes).unwrap();
                self.model.batches.truncate(left);
            }
        }
        self.world.start();
    }

    fn check(&mut self) {
        let (world, model) = (&mut self.world, &self.model);
        let log = world.log();
        assert_eq!(log.log_start_offset().0, model.start);
        assert_eq!(log.log_end_offset().0, model.end());
        assert_eq!(log.high_watermark().0, model.end());
        assert_eq!(log.last_stable_offset().0, model.bound(ReadCommitted));
        let mut found: Vec<_> = log.producers().collect();
        found.sort_by_key(|producer| producer.producer_id);
        let known = model.producers();
        assert_eq!(found.len(), known.len());
        for (found, (id, known)) in found.iter().zip(known) {
            assert_eq!(found.producer_id, ProducerId(id));
            assert_eq!(found.producer_epoch, ProducerEpoch(known.epoch));
            assert_eq!(found.last_sequence, known.last_sequence);
            assert_eq!(found.transaction_start_offset.0, known.open_since);
        }
    }

    fn check_reads(&mut self, at: i64, max_bytes: u32) {
        for isolation in [ReadUncommitted, ReadCommitted] {
            let (world, model) = (&mut self.world, &self.model);
            assert_eq!(world.read_all(model.start, isolation), model.visible(isolation));
            let offset = model.start + at % (model.end() - model.start + 1);
            let spec =
                ReadSpec { offset: Offset(offset), max_bytes, at_least_one_batch: at % 2 == 0, isolation };
            let read = world.log().read(&spec).unwrap();
            let bytes = bytes_of(&read.records);
            assert_eq!(bytes.len() as u32, read.size);
            let mut until = offset;
            for batch in batches(&bytes) {
                let batch = batch.unwrap();
                assert_eq!(
                    world.log().leader_epoch_at(batch.base_offset().max(Offset(model.start))),
                    batch.partition_leader_epoch()
                );
                until = batch.next_offset().0;
            }
            if read.size > 0 {
                assert!(read.size <= max_bytes || spec.at_least_one_batch);
                let mut listed: Vec<_> = read
                    .aborted
                    .unwrap_or_default()
                    .iter()
                    .map(|entry| (entry.producer_id.0, entry.first_offset.0))
                    .collect();
                listed.sort();
                let overlaps = |(_, first, marker): &(i64, i64, i64)| *marker >= offset && *first < until;
                let mut wanted: Vec<_> =
                    model.aborted().into_iter().filter(overlaps).map(|(id, first, _)| (id, first)).collect();
                wanted.sort();
                if isolation == ReadCommitted {
                    assert_eq!(listed, wanted, "from {offset} to {until}");
                }
            }
            let timestamp = world.now - at % 1000;
            let found = world.log().list_offset(OffsetQuery::At(Timestamp(timestamp)), isolation).unwrap();
            assert_eq!(found.map(|found| found.offset.0), model.first_at(timestamp, isolation));
        }
    }
}

fn run(world: World, steps: &[(Step, i64, u32)]) {
    let mut run = Run { world, model: Model::default() };
    for (step, at, max_bytes) in steps {
        run.take(step);
        run.check();
        run.check_reads(*at, *max_bytes);
    }
    run.world.restart();
    run.check();
    run.check_reads(0, 1 << 20);
}

fn config() -> impl Strategy<Value = LogConfig> {
    (700..3000u32, 0..400u32, prop::option::of(500..4000u64), prop::option::of(100..2000i64)).prop_map(
        |(segment_bytes, index_interval_bytes, retention_bytes, retention_ms)| LogConfig {
            segment_bytes,
            index_interval_bytes,
            retention_bytes,
            retention_ms,
            producer_id_expiration_ms: i64::MAX,
            ..LogConfig::default()
        },
    )
}

fn steps(count: usize) -> impl Strategy<Value = Vec<(Step, i64, u32)>> {
    prop::collection::vec((step(), 0..10_000i64, prop_oneof![0..400u32, Just(1 << 20)]), 1..count)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_log_in_memory_is_what_the_model_says(config in config(), steps in steps(80)) {
        run(World::in_memory(config), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_log_in_files_is_what_the_model_says(config in config(), steps in steps(50)) {
        let directory = tempfile::tempdir().unwrap();
        run(World::on(Arc::new(FileDisk::new()), directory.path().join("data"), config), &steps);
    }
}

//! Power cuts, with the journal in front of several logs: what survives is a prefix of what was appended to all of them
//! together, and all that was synced is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oncelog_log::*;
use oncelog_records::{BatchBuilder, BatchView, MarkerKind, batches};
use oncelog_wire::{LeaderEpoch, Now, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition, Uuid};
use proptest::prelude::*;

use crate::lossy::{Dice, LossyDisk};
use crate::world::{bytes_of, marker, options};

const ROOT: &str = "/data";
const LOGS: usize = 3;
/// Few pages, so that the journal's files are used again and again.
const JOURNAL: Durability = Durability::Fsync { journal_file_bytes: 48 * 1024 };
const NOW: Now = Now { monotonic: Duration::from_secs(1), wall: Timestamp(1_000_000) };

#[derive(Clone, Debug)]
enum Step {
    /// A batch, of a producer with sequence numbers or in its transaction.
    Append {
        log: usize,
        producer: i64,
        in_txn: bool,
        bytes: usize,
    },
    End {
        log: usize,
        producer: i64,
        kind: MarkerKind,
    },
    Sync,
    Checkpoint,
    /// A checkpoint whose syncs fail after some.
    BreakCheckpoint {
        syncs: usize,
        seed: u64,
    },
    DeleteRecords {
        log: usize,
    },
    PowerCut {
        seed: u64,
        during_recovery: Vec<(usize, u64)>,
    },
    Kill,
    Restart {
        durability: Durability,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (log, producer) = (0..LOGS, 0..3i64);
    let kind = prop_oneof![Just(MarkerKind::Commit), Just(MarkerKind::Abort)];
    let bytes = prop_oneof![10..300usize, 3000..9000usize];
    let cuts = prop::collection::vec((0..12usize, any::<u64>()), 0..3);
    prop_oneof![
        12 => (log.clone(), producer.clone(), any::<bool>(), bytes)
            .prop_map(|(log, producer, in_txn, bytes)| Step::Append { log, producer, in_txn, bytes }),
        4 => (log.clone(), producer, kind).prop_map(|(log, producer, kind)| Step::End { log, producer, kind }),
        5 => Just(Step::Sync),
        2 => Just(Step::Checkpoint),
        1 => (0..12usize, any::<u64>()).prop_map(|(syncs, seed)| Step::BreakCheckpoint { syncs, seed }),
        1 => log.prop_map(|log| Step::DeleteRecords { log }),
        3 => (any::<u64>(), cuts)
            .prop_map(|(seed, during_recovery)| Step::PowerCut { seed, during_recovery }),
        1 => Just(Step::Kill),
        1 => prop_oneof![Just(JOURNAL), Just(Durability::Os)].prop_map(|durability| Step::Restart { durability }),
    ]
}

/// A batch as it was appended.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    log: usize,
    base_offset: i64,
    /// Producer, sequence (-1 for a marker), whether in a transaction.
    producer: (i64, i32, bool),
    bytes: usize,
}

struct World {
    disk: LossyDisk,
    durability: Durability,
    open: Option<(DataDir, Vec<Log>)>,
    /// Everything that has been appended and may be there.
    history: Vec<Entry>,
    /// How much of it must be there.
    synced: usize,
    /// How much of it the journal has seen since it began.
    begun_at: usize,
}

fn partition(log: usize) -> (TopicPartition, Uuid) {
    (TopicPartition::new(format!("orders{log}"), 0), Uuid([log as u8 + 1; 16]))
}

fn config() -> Arc<LogConfig> {
    Arc::new(LogConfig {
        segment_bytes: 20_000,
        index_interval_bytes: 500,
        retention_ms: None,
        ..LogConfig::default()
    })
}

/// Opens the directory and its logs, and stops before anything is settled.
fn recover(disk: &LossyDisk, durability: Durability) -> (DataDir, Vec<Log>) {
    let options = DataDirOptions { durability, ..options() };
    let data = DataDir::open(Arc::new(disk.clone()), Path::new(ROOT), options).unwrap();
    let open = |log| {
        let (name, id) = partition(log);
        data.open_log(&name, id, config(), NOW).unwrap()
    };
    let logs = (0..LOGS).map(open).collect();
    (data, logs)
}

fn checkpoint(log: &mut Log) -> Result<(), LogError> {
    if let Some(mut checkpoint) = log.begin_checkpoint()? {
        checkpoint.sync()?;
        log.finish_checkpoint(checkpoint);
    }
    Ok(())
}

fn settle(data: &DataDir, logs: &mut [Log]) -> Result<(), LogError> {
    if data.must_be_settled() {
        logs.iter_mut().try_for_each(checkpoint)?;
        data.settle(logs.iter().filter_map(Log::points))?;
    }
    Ok(())
}

impl World {
    fn new() -> World {
        let (disk, durability) = (LossyDisk::default(), JOURNAL);
        let mut world = World { disk, durability, open: None, history: Vec::new(), synced: 0, begun_at: 0 };
        world.start();
        world
    }

    fn start(&mut self) {
        let (data, mut logs) = recover(&self.disk, self.durability);
        settle(&data, &mut logs).unwrap();
        self.open = Some((data, logs));
        self.check_prefix();
        self.synced = self.history.len();
        self.begun_at = self.history.len();
    }

    fn logs(&mut self) -> &mut Vec<Log> {
        &mut self.open.as_mut().unwrap().1
    }

    /// Compares what is there with what was appended, which is cut to what is there.
    fn check_prefix(&mut self) {
        let (_, logs) = self.open.as_mut().unwrap();
        let ends: Vec<i64> = logs.iter().map(|log| log.log_end_offset().0).collect();
        let mut next = [0; LOGS];
        let is_there = |entry: &Entry| entry.base_offset < ends[entry.log];
        let kept = self.history.iter().take_while(|entry| is_there(entry)).count();
        assert!(kept >= self.synced, "{kept} of {} that were synced", self.synced);
        self.history.truncate(kept);
        for entry in &self.history {
            next[entry.log] = entry.base_offset + 1;
        }
        assert_eq!(next.to_vec(), ends, "what is there is no prefix of what was appended");
        self.check_content();
    }

    /// Compares batches and producers with what was appended.
    fn check_content(&mut self) {
        let history = self.history.clone();
        for (at, log) in self.logs().iter_mut().enumerate() {
            let mut found = Vec::new();
            let mut offset = log.log_start_offset();
            while offset < log.high_watermark() {
                let spec = ReadSpec {
                    offset,
                    max_bytes: 1 << 20,
                    at_least_one_batch: true,
                    isolation: Isolation::ReadUncommitted,
                };
                let bytes = bytes_of(&log.read(&spec).unwrap().records);
                for batch in batches(&bytes) {
                    let batch = batch.unwrap();
                    assert!(batch.is_crc_valid());
                    found.push((batch.base_offset().0, batch.producer_id().0, batch.size_in_bytes()));
                    offset = batch.next_offset();
                }
            }
            let (start, end) = (log.log_start_offset().0, log.high_watermark().0);
            let wanted: Vec<_> = history
                .iter()
                .filter(|entry| entry.log == at && (start..end).contains(&entry.base_offset))
                .map(|entry| (entry.base_offset, entry.producer.0, entry.bytes))
                .collect();
            assert_eq!(found, wanted, "log {at}");
            for known in log.producers() {
                let (sequence, open) = producer_of(&history, at, known.producer_id.0);
                assert_eq!((known.last_sequence, known.transaction_start_offset.0), (sequence, open));
            }
            let open = log.producers().map(|known| known.transaction_start_offset);
            let first = open.filter(|first| *first >= Offset::ZERO).min();
            let bound = first.map_or(end, |first| first.0.max(start).min(end));
            assert!(log.last_stable_offset().0 <= bound);
            if log.high_watermark() == log.log_end_offset() {
                assert_eq!(log.last_stable_offset().0, bound);
            }
        }
    }

    fn note(&mut self, log: usize, appended: Appended, producer: (i64, i32, bool), bytes: usize) {
        self.history.push(Entry { log, base_offset: appended.base_offset.0, producer, bytes });
        if self.durability == Durability::Os {
            self.synced = self.history.len();
        }
    }

    fn sync(&mut self) {
        let (data, logs) = self.open.as_mut().unwrap();
        let Some(journal) = data.journal().cloned() else { return };
        loop {
            let outcome = journal.sync(|(id, _), synced| {
                logs[usize::from(id.0[0]) - 1].advance_high_watermark(synced);
            });
            match outcome.unwrap() {
                JournalSync::Done => break,
                JournalSync::Full => checkpoint_all(data, logs).unwrap(),
            }
        }
        assert_eq!(journal.synced(), journal.appended());
        assert_eq!(journal.waiting_bytes(), 0);
        self.synced = self.history.len();
        assert_eq!(journal.synced() as usize, self.synced - self.begun_at);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append { log, producer, in_txn, bytes } => {
                let (last, open) = producer_of(&self.history, log, producer);
                let in_txn = in_txn || open >= 0;
                let mut builder =
                    BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(0), last + 1);
                if in_txn {
                    builder = builder.transactional();
                }
                builder.push(NOW.wall, None, Some(&vec![b'x'; bytes]));
                let batch = builder.build();
                let origin = Origin::Client(Verification::Verified);
                let view = BatchView::parse(&batch).unwrap();
                let appended = self.logs()[log].append(&view, origin, NOW).unwrap();
                self.note(log, appended, (producer, last + 1, in_txn), batch.len());
            }
            Step::End { log, producer, kind } => {
                let before = self.logs()[log].size();
                let appended = self.logs()[log].append_marker(&marker(producer, 0, kind), NOW).unwrap();
                let bytes = (self.logs()[log].size() - before) as usize;
                self.note(log, appended, (producer, -1, false), bytes);
            }
            Step::Sync => self.sync(),
            Step::Checkpoint => {
                let (data, logs) = self.open.as_mut().unwrap();
                checkpoint_all(data, logs).unwrap();
            }
            Step::BreakCheckpoint { syncs, seed } => {
                self.disk.fail_syncs_after(Some(syncs));
                let (data, logs) = self.open.as_mut().unwrap();
                let _ = checkpoint_all(data, logs);
                self.disk.fail_syncs_after(None);
                self.power_cut(&mut Dice::new(seed), &[]);
            }
            Step::DeleteRecords { log } => {
                let (_, garbage) = self.logs()[log].delete_records(None).unwrap();
                let (data, logs) = self.open.as_mut().unwrap();
                data.write_checkpoints(logs.iter().filter_map(Log::points)).unwrap();
                garbage.remove().unwrap();
            }
            Step::PowerCut { seed, during_recovery } => {
                self.power_cut(&mut Dice::new(seed), &during_recovery)
            }
            Step::Kill => {
                self.open = None;
                self.start();
            }
            Step::Restart { durability } => {
                self.sync();
                let (data, mut logs) = self.open.take().unwrap();
                let points: Vec<_> = logs.iter_mut().map(|log| log.close().unwrap()).collect();
                data.close(points.into_iter().flatten()).unwrap();
                drop(data);
                self.durability = durability;
                self.start();
            }
        }
    }

    fn power_cut(&mut self, dice: &mut Dice, during_recovery: &[(usize, u64)]) {
        if self.durability == Durability::Os {
            return;
        }
        self.open = None;
        self.disk = self.disk.after_power_cut(dice);
        for (syncs, seed) in during_recovery {
            // The power goes again before the recovery has come to its end.
            let (data, mut logs) = recover(&self.disk, self.durability);
            self.disk.fail_syncs_after(Some(*syncs));
            let _ = settle(&data, &mut logs);
            drop(data);
            self.disk = self.disk.after_power_cut(&mut Dice::new(*seed));
        }
        self.start();
    }
}

/// As the node does it: what is released had been synced before any log was looked at.
fn checkpoint_all(data: &DataDir, logs: &mut [Log]) -> Result<(), LogError> {
    let covered = data.journal().map(|journal| journal.synced());
    logs.iter_mut().try_for_each(checkpoint)?;
    data.write_checkpoints(logs.iter().filter_map(Log::points))?;
    if let Some(journal) = data.journal() {
        journal.release(covered.unwrap());
        assert!(!journal.wants_checkpoint());
    }
    Ok(())
}

/// The last sequence of a producer in a log, and where its open transaction starts, or -1.
fn producer_of(history: &[Entry], log: usize, producer: i64) -> (i32, i64) {
    let (mut last, mut open) = (-1, -1);
    for entry in history.iter().filter(|entry| entry.log == log && entry.producer.0 == producer) {
        match entry.producer {
            (_, -1, _) => open = -1,
            (_, sequence, in_txn) => {
                last = sequence;
                if in_txn && open < 0 {
                    open = entry.base_offset;
                }
            }
        }
    }
    (last, open)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_power_cut_leaves_a_prefix_with_all_that_was_synced(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check_content();
        }
        world.sync();
        world.power_cut(&mut Dice::new(7), &[]);
    }
}

#[test]
fn nothing_is_visible_before_it_is_synced() {
    let mut world = World::new();
    let append = |log, in_txn| Step::Append { log, producer: 1, in_txn, bytes: 10 };
    world.take(append(0, true));
    world.take(append(1, false));
    let watermarks = |world: &mut World, log: usize| {
        let log = &world.logs()[log];
        (log.high_watermark().0, log.last_stable_offset().0, log.log_end_offset().0)
    };
    assert_eq!(watermarks(&mut world, 0), (0, 0, 1));
    assert_eq!(watermarks(&mut world, 1), (0, 0, 1));
    assert!(!world.logs()[0].is_open_transaction_safe(ProducerId(1)));
    world.sync();
    assert_eq!(watermarks(&mut world, 0), (1, 0, 1));
    assert_eq!(watermarks(&mut world, 1), (1, 1, 1));
    assert!(world.logs()[0].is_open_transaction_safe(ProducerId(1)));
    world.take(Step::End { log: 0, producer: 1, kind: MarkerKind::Abort });
    assert_eq!(watermarks(&mut world, 0), (1, 0, 2), "the marker does not count before it is synced");
    world.sync();
    assert_eq!(watermarks(&mut world, 0), (2, 2, 2));
}

#[test]
fn all_that_waits_is_synced_at_once() {
    let mut world = World::new();
    for number in 0..64 {
        world.take(Step::Append { log: number % LOGS, producer: number as i64, in_txn: false, bytes: 10 });
    }
    let before = world.disk.syncs();
    world.sync();
    assert_eq!(world.disk.syncs() - before, 1);
    world.sync();
    assert_eq!(world.disk.syncs() - before, 1, "there was nothing to sync");
}

#[test]
fn an_index_that_a_power_cut_has_torn_costs_no_aborted_transaction() {
    for extension in ["index", "timeindex", "txnindex"] {
        let mut world = World::new();
        world.take(Step::Append { log: 0, producer: 1, in_txn: true, bytes: 10 });
        world.take(Step::End { log: 0, producer: 1, kind: MarkerKind::Abort });
        world.sync();
        world.take(Step::Checkpoint);
        world.open = None;
        let path = PathBuf::from(ROOT).join("orders0-0/00000000000000000000").with_extension(extension);
        let file = world.disk.open(&path, OpenMode::Existing).unwrap();
        file.write_at(&[0; 5], file.length().unwrap()).unwrap();
        for _ in 0..2 {
            world.start();
            let spec = ReadSpec {
                offset: Offset::ZERO,
                max_bytes: 1 << 20,
                at_least_one_batch: true,
                isolation: Isolation::ReadCommitted,
            };
            let aborted = world.logs()[0].read(&spec).unwrap().aborted.unwrap();
            assert_eq!(aborted.len(), 1, "{extension} was torn");
            world.open = None;
        }
    }
}

#[test]
fn a_batch_that_would_not_fit_into_the_journal_is_refused() {
    let mut world = World::new();
    let mut builder = BatchBuilder::new();
    builder.push(NOW.wall, None, Some(&vec![b'x'; 50_000]));
    let batch = builder.build();
    let config = LogConfig { segment_bytes: 1 << 20, ..LogConfig::default() };
    let log = &mut world.logs()[0];
    log.set_config(Arc::new(config));
    let refused = log.append(&BatchView::parse(&batch).unwrap(), Origin::Coordinator, NOW);
    assert!(matches!(refused, Err(AppendError::LargerThanJournal { .. })), "{refused:?}");
    assert_eq!(log.log_end_offset(), Offset::ZERO);
}

#[test]
fn a_sync_that_has_failed_is_not_tried_again_and_what_it_was_to_bring_is_lost_or_not() {
    let mut world = World::new();
    world.take(Step::Append { log: 0, producer: 1, in_txn: false, bytes: 10 });
    world.sync();
    world.take(Step::Append { log: 0, producer: 1, in_txn: false, bytes: 10 });
    world.disk.fail_syncs_after(Some(0));
    let journal = world.open.as_ref().unwrap().0.journal().unwrap().clone();
    assert!(journal.sync(|_, _| panic!("nothing was synced")).is_err());
    world.disk.fail_syncs_after(None);
    assert!(journal.has_failed());
    assert!(journal.sync(|_, _| panic!("nothing was synced")).is_err());
    assert_eq!(world.logs()[0].high_watermark(), Offset(1));
    world.power_cut(&mut Dice::new(3), &[]);
}

#[test]
fn what_changes_between_runs_is_written_down() {
    let read = |world: &World| {
        let file = world.disk.open(&PathBuf::from(ROOT).join("meta.properties"), OpenMode::Existing).unwrap();
        let mut content = vec![0; file.length().unwrap() as usize];
        file.read_at(&mut content, 0).unwrap();
        let text = String::from_utf8(content).unwrap();
        let lines: BTreeMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        (lines["oncelog.durability"].clone(), lines["oncelog.journal.era"].clone())
    };
    let has_journal = |world: &World| {
        world
            .disk
            .list(Path::new(ROOT))
            .unwrap()
            .iter()
            .filter(|entry| entry.name.starts_with("journal-"))
            .count()
    };
    let mut world = World::new();
    assert_eq!(read(&world), ("fsync".into(), "1".into()));
    assert_eq!(has_journal(&world), 2);
    world.take(Step::Append { log: 0, producer: 1, in_txn: true, bytes: 10 });
    world.take(Step::Restart { durability: Durability::Os });
    assert_eq!(read(&world), ("os".into(), "2".into()));
    assert_eq!(has_journal(&world), 0);
    // Killed without a journal, and then with one: the rules are those of the run that was killed.
    world.take(Step::Append { log: 0, producer: 1, in_txn: true, bytes: 10 });
    world.durability = JOURNAL;
    world.take(Step::Kill);
    assert_eq!(read(&world).0, "fsync");
    assert!(!world.open.as_ref().unwrap().0.may_have_lost_records());
    world.take(Step::Append { log: 0, producer: 1, in_txn: true, bytes: 10 });
    world.sync();
    world.durability = Durability::Os;
    world.take(Step::Kill);
    assert_eq!(read(&world).0, "os");
    assert!(world.open.as_ref().unwrap().0.may_have_lost_records());
}

#[test]
fn a_log_does_not_inherit_the_recovery_point_of_one_that_was_deleted_during_a_checkpoint() {
    let mut world = World::new();
    for _ in 0..3 {
        world.take(Step::Append { log: 0, producer: 1, in_txn: false, bytes: 10 });
    }
    world.sync();
    world.take(Step::Checkpoint);
    let (data, mut logs) = world.open.take().unwrap();
    data.begin_checkpoints();
    let points: Vec<_> = logs.iter().filter_map(Log::points).collect();
    data.delete_log(&partition(0).0).unwrap();
    data.write_checkpoints(points.into_iter()).unwrap();
    let (name, successor) = (partition(0).0, Uuid([9; 16]));
    logs[0] = data.open_log(&name, successor, config(), NOW).unwrap();
    let batch = crate::world::plain(NOW.wall.0, 1, 10);
    logs[0].append(&BatchView::parse(&batch).unwrap(), Origin::Coordinator, NOW).unwrap();
    data.journal().unwrap().sync(|_, _| {}).unwrap();
    drop((data, logs));
    let disk = world.disk.after_power_cut(&mut Dice::new(1));
    let options = DataDirOptions { durability: JOURNAL, ..options() };
    let data = DataDir::open(Arc::new(disk), Path::new(ROOT), options).unwrap();
    for found in data.logs().unwrap().iter().filter(|found| found.topic_id != Some(successor)) {
        if found.topic_partition == name {
            data.delete_log(&name).unwrap();
        }
    }
    let log = data.open_log(&name, successor, config(), NOW).unwrap();
    assert_eq!(log.log_end_offset(), Offset(1), "what was acknowledged of the successor is there");
}

/// Or else batches would be written in an epoch that contradicts the file, which the next recovery takes for damage.
#[test]
fn a_recovery_that_is_killed_leaves_the_epoch_that_it_began_to_the_next() {
    let mut world = World::new();
    world.take(Step::Append { log: 0, producer: 1, in_txn: false, bytes: 10 });
    world.sync();
    world.take(Step::Append { log: 0, producer: 1, in_txn: false, bytes: 10 });
    // Killed with a batch in the page cache that is in no frame, and then while it recovers.
    drop(world.open.take());
    let (_, logs) = recover(&world.disk, world.durability);
    assert_eq!((logs[0].log_end_offset(), logs[0].leader_epoch()), (Offset(1), LeaderEpoch(1)));
    drop(logs);
    world.durability = Durability::Os;
    world.start();
    world.take(Step::Append { log: 0, producer: 1, in_txn: false, bytes: 10 });
    world.take(Step::Kill);
    assert_eq!(world.history.len(), 2, "what was acknowledged is there");
    assert_eq!(world.logs()[0].leader_epoch(), LeaderEpoch(1));
}

#[test]
fn a_write_that_was_given_up_at_the_end_of_a_segment_leaves_nothing_behind() {
    for (seed, is_checkpointed) in (0..100).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut world = World::new();
        let append = |world: &mut World| {
            world.take(Step::Append { log: 0, producer: 0, in_txn: false, bytes: 9_000 });
            world.sync();
        };
        append(&mut world);
        append(&mut world);
        world.take(Step::Checkpoint);
        let path = Path::new(ROOT).join("orders0-0/00000000000000000000.log");
        let segment = world.disk.open(&path, OpenMode::Existing).unwrap();
        let length = segment.length().unwrap();
        segment.write_at(b"the disk is full he", length).unwrap();
        segment.truncate(length).unwrap();
        append(&mut world);
        assert_eq!(segment.length().unwrap(), length, "the third went into another segment");
        if is_checkpointed {
            world.take(Step::Checkpoint);
        }
        world.power_cut(&mut Dice::new(seed), &[]);
        append(&mut world);
        world.check_content();
    }
}

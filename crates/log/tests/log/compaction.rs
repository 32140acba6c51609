//! Compaction, case by case: what stays and for how long, when a log is worth it, and crashes in the middle of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use oncelog_log::{
    CleaningStats, Dirtiness, Disk, FileDisk, Garbage, Isolation, Log, LogConfig, LogError, OffsetMapSize,
    OffsetQuery, OpenMode, Verification,
};
use oncelog_records::{BatchBuilder, MarkerKind, batches};
use oncelog_wire::{Offset, ProducerEpoch, ProducerId, Records, Timestamp};

use crate::cleaning::compacting;
use crate::crashes::{Traced, traced_memory};
use crate::lossy::{Dice, LossyDisk};
use crate::world::{World, bytes_of, partition, sequenced};

use Isolation::{ReadCommitted, ReadUncommitted};

const LARGE_MAP: u64 = 1 << 16;
const DIRECTORY: &str = "/data/orders-0";

/// Appends one record of a key.
fn put(world: &mut World, key: &str, value: Option<&str>) -> i64 {
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(world.now), Some(key.as_bytes()), value.map(str::as_bytes));
    world.append_batch(&builder.build(), Verification::None).unwrap().base_offset.0
}

/// Appends one record of a key within the producer's transaction.
fn put_in_txn(world: &mut World, producer: i64, sequence: i32, key: &str) -> i64 {
    let builder = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(0), sequence);
    let mut builder = builder.transactional();
    builder.push(Timestamp(world.now), Some(key.as_bytes()), Some(b"in a transaction"));
    world.append_batch(&builder.build(), Verification::Verified).unwrap().base_offset.0
}

/// Has the log start a new segment, and checkpoints all before.
fn close_segment(world: &mut World) {
    let config = LogConfig { segment_bytes: 500, segment_ms: -1, ..world.config.clone() };
    world.log().set_config(Arc::new(config));
    put(world, "last", Some("of a segment"));
    let config = Arc::new(world.config.clone());
    world.log().set_config(config);
    world.checkpoint();
}

/// Base offset, last offset and number of records of each batch.
fn shape(world: &mut World) -> Vec<(i64, i64, i32)> {
    let start = world.log().log_start_offset().0;
    let (mut offset, mut found) = (start, Vec::new());
    loop {
        let read = world.read(offset, ReadUncommitted);
        if read.size == 0 {
            return found;
        }
        for batch in batches(&bytes_of(&read.records)) {
            let batch = batch.unwrap();
            found.push((batch.base_offset().0, batch.last_offset().0, batch.record_count()));
            offset = batch.next_offset().0;
        }
    }
}

/// The newest value of each key, as a read_committed reader without memory of aborted transactions would see it.
fn values(world: &mut World) -> BTreeMap<Vec<u8>, (i64, Option<Vec<u8>>)> {
    let mut offset = world.log().log_start_offset().0;
    let mut values = BTreeMap::new();
    loop {
        let read = world.read(offset, ReadCommitted);
        if read.size == 0 {
            return values;
        }
        let aborted = read.aborted.unwrap();
        for batch in batches(&bytes_of(&read.records)) {
            let batch = batch.unwrap();
            offset = batch.next_offset().0;
            if batch.is_control() || aborted.iter().any(|entry| entry.producer_id == batch.producer_id()) {
                continue;
            }
            let mut records = batch.records().unwrap();
            while let Some(record) = records.next_record().unwrap() {
                let value = record.value.map(<[u8]>::to_vec);
                values.insert(record.key.unwrap().to_vec(), (record.offset.0, value));
            }
        }
    }
}

fn names(disk: &dyn Disk, ending: &str) -> Vec<String> {
    let entries = disk.list(Path::new(DIRECTORY)).unwrap();
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names
}

fn dirtiness(world: &mut World) -> Option<Dirtiness> {
    let (name, now) = (partition(), world.now().wall);
    let (data, log) = world.open.as_ref().unwrap();
    log.dirtiness(data.cleaned_offset(&name), data.written_recovery_point(&name), now).unwrap()
}

#[test]
fn tombstones_stay_until_their_horizon_has_passed_and_then_go_with_all_before() {
    let mut world = World::in_memory(compacting(10_000));
    put(&mut world, "a", Some("1"));
    put(&mut world, "b", Some("1"));
    put(&mut world, "a", None);
    close_segment(&mut world);
    world.clean(LARGE_MAP).unwrap();
    assert_eq!(shape(&mut world), [(1, 1, 1), (2, 2, 1), (3, 3, 1)], "the tombstone is still there");
    for (ms, kept) in [(999, 1), (1, 0)] {
        world.now += ms;
        put(&mut world, "c", Some("1"));
        close_segment(&mut world);
        world.clean(LARGE_MAP).unwrap();
        let tombstones = shape(&mut world).iter().filter(|batch| batch.0 == 2).count();
        assert_eq!(tombstones, kept, "{ms} ms later");
    }
    assert_eq!(
        values(&mut world).keys().map(|key| key.as_slice()).collect::<Vec<_>>(),
        [b"b", &b"c"[..], b"last"]
    );
}

#[test]
fn a_marker_stays_for_as_long_as_a_batch_of_its_transaction_and_then_until_its_horizon() {
    for kind in [MarkerKind::Commit, MarkerKind::Abort] {
        let mut world = World::in_memory(compacting(10_000));
        put_in_txn(&mut world, 1, 0, "a");
        world.end(1, 0, kind);
        put(&mut world, "a", Some("2"));
        close_segment(&mut world);
        let mut seen = Vec::new();
        for round in 0..4 {
            if round == 1 {
                // Only now its first batch is not the last that is known of the producer.
                put_in_txn(&mut world, 1, 1, "b");
                world.end(1, 0, MarkerKind::Commit);
                close_segment(&mut world);
            } else if round > 0 {
                world.now += 1_000;
                put(&mut world, "c", Some("1"));
                close_segment(&mut world);
            }
            world.clean(LARGE_MAP).unwrap();
            let below: Vec<_> = shape(&mut world).into_iter().filter(|batch| batch.0 < 2).collect();
            seen.push(below);
            let end = world.log().log_end_offset();
            assert_eq!(world.log().last_stable_offset(), end, "{kind:?}");
            // All that is known of producers comes from the batches now.
            let disk = world.disk.clone();
            world.open = None;
            for name in names(&*disk, ".snapshot").iter().chain(&names(&*disk, ".txnindex")) {
                disk.remove_file(&Path::new(DIRECTORY).join(name)).unwrap();
            }
            world.start();
            assert_eq!(
                world.log().last_stable_offset(),
                end,
                "{kind:?}: an open transaction without a marker"
            );
            world.checkpoint();
        }
        assert_eq!(
            seen,
            [
                // The last batch of the producer, empty.
                vec![(0, 0, 0), (1, 1, 1)],
                // It goes; the marker had something to end in this round.
                vec![(1, 1, 1)],
                // The marker gets its horizon.
                vec![(1, 1, 1)],
                vec![],
            ],
            "{kind:?}"
        );
    }
}

#[test]
fn the_last_batch_of_a_producer_stays_even_without_records_and_is_recognised_when_it_comes_again() {
    let mut world = World::in_memory(compacting(10_000));
    let batch = sequenced(7, 2, 40, 3, false, world.now);
    assert_eq!(world.append_batch(&batch, Verification::None).unwrap().base_offset, Offset(0));
    put(&mut world, "key", Some("newer"));
    close_segment(&mut world);
    world.clean(LARGE_MAP).unwrap();
    assert_eq!(shape(&mut world)[0], (0, 2, 0));
    let disk = world.disk.clone();
    for restart in 0..2 {
        if restart == 1 {
            world.open = None;
            for name in names(&*disk, ".snapshot") {
                disk.remove_file(&Path::new(DIRECTORY).join(name)).unwrap();
            }
            world.start();
        }
        let again = world.append_batch(&batch, Verification::None).unwrap();
        assert!(again.is_duplicate && again.base_offset == Offset(0));
    }
    let next = sequenced(7, 2, 43, 1, false, world.now);
    assert!(!world.append_batch(&next, Verification::None).unwrap().is_duplicate);
}

#[test]
fn small_segments_become_one_and_lookups_go_on_across_gaps() {
    let mut world = World::in_memory(compacting(10_000));
    for number in 0..60 {
        world.now += 10;
        put(&mut world, &format!("{}", number % 3), Some("value"));
        if number % 5 == 4 {
            close_segment(&mut world);
        }
    }
    let before = names(&*world.disk, ".log").len();
    world.clean(LARGE_MAP).unwrap();
    assert!(before > 10);
    assert_eq!(names(&*world.disk, ".log").len(), 2);
    assert_eq!(names(&*world.disk, ".cleaned").len() + names(&*world.disk, ".swap").len(), 0);
    assert_eq!(names(&*world.disk, ".deleted").len(), 0);
    let first = shape(&mut world)[0].0;
    assert!(first > 50);
    // An offset in a gap leads to what comes next.
    for offset in 0..=first {
        let read = world.read(offset, ReadUncommitted);
        let bytes = bytes_of(&read.records);
        assert_eq!(batches(&bytes).next().unwrap().unwrap().base_offset().0, first);
    }
    assert_eq!(world.log().log_start_offset(), Offset(0));
    let listed = world.log().list_offset(OffsetQuery::At(Timestamp(0)), ReadUncommitted).unwrap().unwrap();
    assert_eq!(listed.offset.0, first);
    world.crash();
    assert_eq!(shape(&mut world)[0].0, first);
}

#[test]
fn a_log_is_cleaned_below_what_is_undecided_unsynced_young_or_active() {
    let mut world = World::in_memory(compacting(10_000));
    put(&mut world, "a", Some("1"));
    assert_eq!(dirtiness(&mut world), None, "the active segment is not cleaned");
    close_segment(&mut world);
    let one = dirtiness(&mut world).unwrap();
    assert_eq!((one.first_dirty_offset, one.end_offset), (Offset(0), Offset(1)));
    assert!(one.is_due && one.ratio == 1.0);

    put_in_txn(&mut world, 1, 0, "a");
    close_segment(&mut world);
    put(&mut world, "a", Some("1"));
    close_segment(&mut world);
    assert_eq!(dirtiness(&mut world).unwrap().end_offset, Offset(1), "a transaction is open from 2 on");
    world.end(1, 0, MarkerKind::Commit);
    assert_eq!(dirtiness(&mut world).unwrap().end_offset, Offset(5));

    let name = partition();
    let (_, log) = world.open.as_ref().unwrap();
    let end_for = |synced| log.dirtiness(Offset(0), Offset(synced), Timestamp(0)).unwrap();
    assert_eq!(end_for(4).unwrap().end_offset, Offset(3), "what is not known to be synced is not cleaned");
    assert_eq!(end_for(0), None);
    let beyond = log.dirtiness(Offset(1_000), Offset(5), Timestamp(0)).unwrap().unwrap();
    assert_eq!(beyond.first_dirty_offset, Offset(0), "a checkpoint beyond the log's end does not count");

    world.open.as_ref().unwrap().0.note_cleaned(&name, Offset(3)).unwrap();
    let (ratio, now) = (dirtiness(&mut world).unwrap().ratio, world.now);
    assert!(ratio > 0.2 && ratio < 0.5, "{ratio}");
    assert!(!dirtiness(&mut world).unwrap().is_due, "less than half is dirty");
    for (config, end, is_due) in [
        (LogConfig { min_cleanable_dirty_ratio: 0.2, ..compacting(10_000) }, Some(5), true),
        (LogConfig { max_compaction_lag_ms: 99, ..compacting(10_000) }, Some(5), true),
        (LogConfig { max_compaction_lag_ms: 100, ..compacting(10_000) }, Some(5), false),
        (LogConfig { min_compaction_lag_ms: 101, ..compacting(10_000) }, None, false),
        (LogConfig { is_compacting: false, ..compacting(10_000) }, None, false),
    ] {
        world.now = now + 100;
        world.log().set_config(Arc::new(config.clone()));
        let found = dirtiness(&mut world);
        assert_eq!(found.map(|found| found.end_offset.0), end, "{config:?}");
        assert_eq!(found.is_some_and(|found| found.is_due), is_due, "{config:?}");
    }
    world.restart();
    assert_eq!(dirtiness(&mut world).unwrap().first_dirty_offset, Offset(3), "the checkpoint is kept");
}

#[test]
fn a_segment_that_spans_more_than_the_largest_lag_is_closed() {
    let mut world = World::in_memory(LogConfig { max_compaction_lag_ms: 500, ..compacting(10_000) });
    put(&mut world, "a", Some("1"));
    world.now += 501;
    put(&mut world, "a", Some("2"));
    world.checkpoint();
    assert!(dirtiness(&mut world).unwrap().is_due);
    assert_eq!(dirtiness(&mut world).unwrap().end_offset, Offset(1));
}

#[test]
fn what_does_not_fit_into_the_map_is_cleaned_the_next_time() {
    let mut world = World::in_memory(compacting(1_000));
    for number in 0..200 {
        put(&mut world, &format!("key {}", number % 40), Some("value"));
    }
    world.checkpoint();
    let all = values(&mut world);
    let mut end = 0;
    for _ in 0..200 {
        let Some(stats) = world.clean(20 * 24) else { break };
        assert!(stats.end_offset.0 > end && stats.keys <= 18, "{stats:?}");
        end = stats.end_offset.0;
        assert_eq!(values(&mut world), all);
    }
    assert_eq!(dirtiness(&mut world), None);
    assert!(shape(&mut world).len() < 60);
}

/// Begins a cleaning, has something happen, and runs it.
fn clean_while(
    world: &mut World,
    mut meanwhile: impl FnMut(&mut Log),
) -> Result<Option<CleaningStats>, LogError> {
    let dirtiness = dirtiness(world).unwrap();
    let now = world.now().wall;
    let log = world.log();
    let map = OffsetMapSize { bytes: LARGE_MAP, load_factor: 0.9 };
    let cleaning = log.begin_cleaning(&dirtiness, map, now).unwrap();
    cleaning.run(&|| false, &mut |segment| {
        meanwhile(log);
        let garbage = log.swap_in(segment)?;
        garbage.map(Garbage::remove).transpose().map(|removed| removed.is_some())
    })
}

#[test]
fn a_cleaning_gives_way_to_records_that_are_deleted_meanwhile() {
    let mut world = World::in_memory(compacting(10_000));
    for _ in 0..2 {
        put(&mut world, "a", Some("1"));
        close_segment(&mut world);
    }
    let delete = |log: &mut Log| log.delete_records(Some(Offset(2))).unwrap().1.remove().unwrap();
    assert!(clean_while(&mut world, delete).unwrap().is_none());
    assert_eq!(names(&*world.disk, ".log").len(), 2);
    assert_eq!(names(&*world.disk, ".cleaned").len() + names(&*world.disk, ".swap").len(), 0);
    assert_eq!(world.read_all(2, ReadUncommitted), [2, 3]);
    assert_eq!(world.clean(LARGE_MAP).unwrap().end_offset, Offset(3));
}

#[test]
fn appends_go_on_while_a_log_is_cleaned() {
    let mut world = World::in_memory(compacting(10_000));
    put(&mut world, "a", Some("1"));
    put(&mut world, "a", Some("2"));
    close_segment(&mut world);
    let now = world.now();
    let batch = sequenced(1, 0, 0, 1, true, world.now);
    clean_while(&mut world, |log| {
        let batch = oncelog_records::BatchView::parse(&batch).unwrap();
        log.append(&batch, oncelog_log::Origin::Client(Verification::Verified), now).unwrap();
    })
    .unwrap()
    .unwrap();
    assert_eq!(world.read_all(0, ReadUncommitted), [1, 2, 3]);
    assert_eq!(world.log().last_stable_offset(), Offset(3));
}

#[test]
fn a_damaged_batch_stops_the_cleaning_and_nothing_is_rewritten() {
    // In the value, and in the base offset, which the CRC does not cover.
    for byte in [68, 7] {
        let mut world = World::in_memory(compacting(10_000));
        put(&mut world, "a", Some("1"));
        put(&mut world, "a", Some("2"));
        close_segment(&mut world);
        let path = Path::new(DIRECTORY).join("00000000000000000000.log");
        let file = world.disk.open(&path, OpenMode::Existing).unwrap();
        let length = file.length().unwrap();
        let second = length / 2;
        let mut one = [0];
        file.read_at(&mut one, second + byte).unwrap();
        file.write_at(&[one[0] ^ 0x40], second + byte).unwrap();
        let error = clean_while(&mut world, |_| panic!("there is nothing to swap in")).unwrap_err();
        assert!(error.to_string().contains("00000000000000000000.log"), "{error}");
        assert_eq!(file.length().unwrap(), length);
        assert_eq!(names(&*world.disk, ".cleaned"), [""; 0]);
        assert!(!world.log().is_offline());
    }
}

#[test]
fn a_reader_that_was_handed_a_range_of_a_file_reads_it_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("data");
    let mut world = World::on(Arc::new(FileDisk::new()), root, compacting(1 << 20));
    let value = "x".repeat(50_000);
    for _ in 0..4 {
        put(&mut world, "a", Some(&value));
    }
    close_segment(&mut world);
    let read = world.read(0, ReadUncommitted);
    assert!(matches!(read.records, Records::File(_)));
    assert!(world.clean(LARGE_MAP).unwrap().bytes_kept < 60_000);
    let bytes = bytes_of(&read.records);
    assert_eq!(batches(&bytes).map(|batch| batch.unwrap().base_offset().0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(shape(&mut world)[0].0, 3);
}

/// A log with updates, tombstones and transactions in several segments, all checkpointed.
fn with_history(disk: Arc<dyn Disk>) -> World {
    let mut world = World::on(disk, "/data".into(), compacting(600));
    for number in 0..40 {
        let key = format!("key {}", number % 4);
        match number % 8 {
            3 => drop(put(&mut world, &key, None)),
            5 => {
                put_in_txn(&mut world, number, 0, &key);
                world.end(number, 0, if number % 16 == 5 { MarkerKind::Abort } else { MarkerKind::Commit });
            }
            _ => drop(put(&mut world, &key, Some("value"))),
        }
    }
    world.checkpoint();
    world
}

/// Cleans twice on a disk that is traced, and opens each copy of it: it has to know as much as the log did.
fn crash_in_cleanings<D: Disk + Clone + 'static>(disk: Traced<D>) {
    let mut world = with_history(Arc::new(disk.clone()));
    for round in 0..2 {
        disk.take();
        let expected = known(&mut world);
        world.clean(LARGE_MAP).unwrap();
        assert_eq!(known(&mut world), expected);
        let copies = disk.take();
        assert!(copies.len() > 50, "{}", copies.len());
        for (number, copy) in copies.into_iter().enumerate() {
            let (disk, root, config) = (Arc::new(copy), "/data".into(), world.config.clone());
            let mut world = World { disk, root, config, now: world.now, open: None };
            // Twice: what the recovery itself leaves is looked at as well.
            for _ in 0..2 {
                world.start();
                assert_eq!(known(&mut world), expected, "round {round}, copy {number}");
                for left in [".cleaned", ".swap", ".deleted"] {
                    assert_eq!(names(&*world.disk, left), [""; 0], "round {round}, copy {number}");
                }
                world.open = None;
            }
            world.start();
            world.clean(LARGE_MAP);
            assert_eq!(known(&mut world), expected, "round {round}, copy {number}, cleaned again");
        }
        for number in 0..10 {
            put(&mut world, &format!("key {}", number % 4), Some("value"));
        }
        world.checkpoint();
    }
}

/// What no crash may change.
fn known(world: &mut World) -> impl PartialEq + std::fmt::Debug + use<> {
    let log = world.log();
    let ends = (log.log_start_offset(), log.last_stable_offset(), log.log_end_offset());
    let mut producers: Vec<_> = log.producers().collect();
    producers.sort_by_key(|producer| producer.producer_id);
    (ends, producers, values(world))
}

#[test]
fn a_process_that_is_killed_at_any_step_of_a_cleaning_loses_nothing() {
    crash_in_cleanings(traced_memory());
}

#[test]
fn a_power_cut_at_any_step_of_a_cleaning_loses_nothing_that_was_synced() {
    let cuts: [fn(&LossyDisk, usize) -> LossyDisk; 4] = [
        |disk, at| disk.after_power_cut(&mut Dice::new(at as u64)),
        |disk, at| disk.after_power_cut(&mut Dice::new(1_000 + at as u64)),
        |disk, at| disk.after_power_cut(&mut Dice::new(2_000 + at as u64)),
        |disk, at| disk.after_power_cut(&mut Dice::new(3_000 + at as u64)),
    ];
    for cut in cuts {
        crash_in_cleanings(Traced::new(LossyDisk::default(), cut));
    }
}

#[test]
fn a_disk_that_fails_in_a_cleaning_leaves_the_log_as_it_was() {
    let disk = LossyDisk::default();
    let mut world = with_history(Arc::new(disk.clone()));
    let expected = values(&mut world);
    for syncs in 0..4 {
        disk.fail_syncs_after(Some(syncs));
        clean_while(&mut world, |_| {}).unwrap_err();
        disk.fail_syncs_after(None);
        assert_eq!(values(&mut world), expected);
        assert_eq!(names(&*world.disk, ".cleaned").len() + names(&*world.disk, ".swap").len(), 0);
        assert!(!world.log().is_offline());
    }
    world.clean(LARGE_MAP).unwrap();
    assert_eq!(values(&mut world), expected);
}

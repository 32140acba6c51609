//! What a log makes of files that are torn, flipped, garbled or gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oncelog_log::{
    AbortedTransaction, Disk, EntryKind, Isolation, LogConfig, MemoryDisk, OpenMode, ReadError,
};
use oncelog_records::MarkerKind;
use oncelog_wire::{LeaderEpoch, Offset};

use crate::append_and_read::small_segments;
use crate::world::{World, partition};

use Isolation::{ReadCommitted, ReadUncommitted};

/// All that readers and producers can tell of a log.
#[derive(Clone, Debug, PartialEq)]
struct State {
    size: u64,
    start: Offset,
    end: Offset,
    last_stable: Offset,
    batches: Vec<i64>,
    aborted: Vec<AbortedTransaction>,
    producers: Vec<(i64, i16, i32, i64)>,
}

fn state(world: &mut World) -> State {
    let start = world.log().log_start_offset();
    let mut producers: Vec<_> = world
        .log()
        .producers()
        .map(|p| (p.producer_id.0, p.producer_epoch.0, p.last_sequence, p.transaction_start_offset.0))
        .collect();
    producers.sort();
    let mut aborted = Vec::new();
    for offset in world.read_all(start.0, ReadCommitted) {
        for entry in world.read(offset, ReadCommitted).aborted.unwrap() {
            if !aborted.contains(&entry) {
                aborted.push(entry);
            }
        }
    }
    State {
        size: world.log().size(),
        start,
        end: world.log().log_end_offset(),
        last_stable: world.log().last_stable_offset(),
        batches: world.read_all(start.0, ReadUncommitted),
        aborted,
        producers,
    }
}

/// A world on a disk that can be copied, and its states after each append.
fn history(config: LogConfig, checkpoint_at: Option<usize>) -> (MemoryDisk, World, Vec<State>) {
    let disk = MemoryDisk::new();
    let mut world = World::on(Arc::new(disk.clone()), PathBuf::from("/data"), config);
    let mut states = vec![state(&mut world)];
    for step in 0..30 {
        match step % 6 {
            0 => drop(world.append(1 + step % 4)),
            1 | 3 => drop(world.transactional(step as i64 / 6, 0, if step % 6 == 1 { 0 } else { 1 })),
            2 => drop(world.append(2)),
            4 => drop(world.transactional(100, 0, step as i32 / 6)),
            _ => {
                let kind = if step % 12 == 5 { MarkerKind::Abort } else { MarkerKind::Commit };
                world.end(step as i64 / 6, 0, kind);
                world.end(100, 0, MarkerKind::Abort);
            }
        }
        world.now += 10;
        states.push(state(&mut world));
        if checkpoint_at == Some(step) {
            world.checkpoint();
        }
    }
    (disk, world, states)
}

fn log_directory() -> PathBuf {
    PathBuf::from("/data").join(partition().to_string())
}

fn files(disk: &MemoryDisk, extension: &str) -> Vec<PathBuf> {
    let entries = disk.list(&log_directory()).unwrap();
    let named = entries.into_iter().filter(|entry| entry.name.ends_with(&format!(".{extension}")));
    let mut paths: Vec<_> = named.map(|entry| log_directory().join(entry.name)).collect();
    paths.sort();
    paths
}

fn content(disk: &MemoryDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Existing).unwrap();
    let mut bytes = vec![0; file.length().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn put(disk: &MemoryDisk, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, OpenMode::Create).unwrap();
    file.truncate(0).unwrap();
    file.write_at(bytes, 0).unwrap();
}

fn start_on(disk: MemoryDisk, config: &LogConfig, now: i64) -> World {
    let mut world =
        World { disk: Arc::new(disk), root: "/data".into(), config: config.clone(), now, open: None };
    world.start();
    world
}

/// Checks that a log that was cut is as it once was, in a new epoch, and can be written and reopened.
fn check_cut(world: &mut World, expected: &State, what: &str) {
    assert_eq!(&state(world), expected, "{what}");
    assert_eq!(world.log().leader_epoch(), LeaderEpoch(1), "{what}");
    let end = world.log().offset_for_leader_epoch(LeaderEpoch(0));
    assert_eq!(end.end_offset, expected.end, "{what}");
    let appended = world.append(3);
    assert_eq!(appended.base_offset, expected.end, "{what}");
    let state = state(world);
    world.crash();
    assert_eq!(self::state(world), state, "{what}");
    assert_eq!(world.log().leader_epoch(), LeaderEpoch(1), "{what}: it is not cut twice");
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_after_the_last_whole_batch() {
    for checkpoint_at in [None, Some(13)] {
        let (disk, world, states) =
            history(LogConfig { index_interval_bytes: 200, ..LogConfig::default() }, checkpoint_at);
        let path = files(&disk, "log").pop().unwrap();
        let length = content(&disk, &path).len() as u64;
        assert_eq!(length, states.last().unwrap().size);
        // A step may have written several batches, so cuts between those are looked at by their ends only.
        for cut in 0..length {
            let torn = disk.snapshot();
            torn.open(&path, OpenMode::Existing).unwrap().truncate(cut).unwrap();
            let mut world = start_on(torn, &world.config, world.now);
            let before = states.iter().rev().find(|state| state.size <= cut).unwrap();
            if before.size == world.log().size() {
                let is_cut_between_batches = before.size == cut;
                if is_cut_between_batches && checkpoint_at.is_none() {
                    assert_eq!(&state(&mut world), before);
                    assert_eq!(
                        world.log().leader_epoch(),
                        LeaderEpoch(0),
                        "nothing tells that there was more"
                    );
                } else if !is_cut_between_batches {
                    check_cut(&mut world, before, &format!("cut at {cut}"));
                }
            } else {
                assert!(world.log().size() <= cut);
                assert!(world.log().log_end_offset() > before.end);
            }
        }
    }
}

#[test]
fn a_log_that_is_shorter_than_its_checkpoint_says_starts_a_new_epoch() {
    let (disk, world, states) = history(LogConfig::default(), Some(20));
    let path = files(&disk, "log").pop().unwrap();
    let torn = disk.snapshot();
    torn.open(&path, OpenMode::Existing).unwrap().truncate(states[10].size).unwrap();
    let mut world = start_on(torn, &world.config, world.now);
    check_cut(&mut world, &states[10], "cut between batches");
}

#[test]
fn a_flipped_bit_in_the_tail_cuts_the_log_there() {
    let (disk, world, states) = history(LogConfig::default(), None);
    let path = files(&disk, "log").pop().unwrap();
    let bytes = content(&disk, &path);
    let before = &states[states.len() - 3];
    let after = &states[states.len() - 2];
    for bit in before.size * 8..after.size * 8 {
        // The leader epoch is part of no checksum, and no reason to lose a record.
        let is_epoch = (12 * 8..16 * 8).contains(&(bit - before.size * 8));
        let mut flipped = bytes.clone();
        flipped[bit as usize / 8] ^= 1 << (bit % 8);
        let copy = disk.snapshot();
        put(&copy, &path, &flipped);
        let mut world = start_on(copy, &world.config, world.now);
        match is_epoch {
            true => assert_eq!(Some(&state(&mut world)), states.last()),
            false => check_cut(&mut world, before, &format!("bit {}", bit - before.size * 8)),
        }
    }
}

#[test]
fn zeros_and_garbage_behind_the_tail_are_cut_off() {
    let (disk, world, states) = history(LogConfig::default(), None);
    let path = files(&disk, "log").pop().unwrap();
    let bytes = content(&disk, &path);
    let first_batch = &bytes[..states[1].size as usize];
    for tail in [&[0; 4096][..], &[0xff; 100], &[7; 61], &[1], first_batch] {
        let copy = disk.snapshot();
        put(&copy, &path, &[&bytes, tail].concat());
        let mut world = start_on(copy, &world.config, world.now);
        check_cut(&mut world, states.last().unwrap(), &format!("{} bytes", tail.len()));
    }
}

#[test]
fn missing_and_garbled_indexes_are_made_again() {
    for is_clean in [true, false] {
        let (disk, mut world, states) = history(small_segments(), Some(20));
        if is_clean {
            let (data, mut log) = world.open.take().unwrap();
            let points = log.close().unwrap();
            data.close(points.into_iter()).unwrap();
        }
        for extension in ["index", "timeindex", "txnindex"] {
            for path in files(&disk, extension) {
                let original = content(&disk, &path);
                let garbage: Vec<u8> =
                    (0..340u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
                let plausible = vec![0; original.len()];
                for replacement in [None, Some(garbage), Some(vec![1]), Some(plausible), Some(vec![])] {
                    let copy = disk.snapshot();
                    match &replacement {
                        None => copy.remove_file(&path).unwrap(),
                        Some(bytes) => put(&copy, &path, bytes),
                    }
                    let mut world = start_on(copy, &world.config, world.now);
                    // An index that was emptied and could be right is not told from one that is.
                    let is_undetectable =
                        replacement == Some(vec![]) && extension == "txnindex" && !original.is_empty();
                    if !is_undetectable {
                        let what = format!("{} clean={is_clean} {replacement:?}", path.display());
                        assert_eq!(&state(&mut world), states.last().unwrap(), "{what}");
                        assert_eq!(world.log().leader_epoch(), LeaderEpoch(0), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn missing_and_garbled_snapshots_are_done_without() {
    for is_clean in [true, false] {
        let (disk, mut world, states) = history(small_segments(), Some(20));
        if is_clean {
            let (data, mut log) = world.open.take().unwrap();
            let points = log.close().unwrap();
            data.close(points.into_iter()).unwrap();
        }
        let snapshots = files(&disk, "snapshot");
        assert!(snapshots.len() > 3);
        for first in 0..snapshots.len() {
            for is_removed in [true, false] {
                let copy = disk.snapshot();
                for path in &snapshots[first..] {
                    if is_removed {
                        copy.remove_file(path).unwrap();
                    } else {
                        let mut bytes = content(&copy, path);
                        *bytes.last_mut().unwrap() ^= 1;
                        put(&copy, path, &bytes);
                    }
                }
                let mut world = start_on(copy, &world.config, world.now);
                assert_eq!(&state(&mut world), states.last().unwrap());
                world.restart();
                assert_eq!(&state(&mut world), states.last().unwrap());
            }
        }
    }
}

#[test]
fn a_batch_of_an_internal_log_whose_offset_a_power_cut_has_torn_off_is_cut_and_below_a_checkpoint_refused() {
    for is_synced in [false, true] {
        let disk = MemoryDisk::new();
        let config = LogConfig { is_internal: true, ..LogConfig::default() };
        let mut world = World::on(Arc::new(disk.clone()), "/data".into(), config.clone());
        world.append(1);
        world.checkpoint();
        let size = world.log().size();
        world.append(1);
        if is_synced {
            world.checkpoint();
        }
        let log = disk.open(&files(&disk, "log")[0], OpenMode::Existing).unwrap();
        log.write_at(&[0; 8], size).unwrap();
        drop(world.open.take());
        let options = crate::world::options();
        let data = oncelog_log::DataDir::open(Arc::new(disk), Path::new("/data"), options).unwrap();
        let opened = data.open_log(&partition(), crate::world::TOPIC_ID, Arc::new(config), world.now());
        match is_synced {
            false => assert_eq!(opened.unwrap().log_end_offset(), Offset(1)),
            true => assert!(opened.unwrap_err().to_string().contains(&format!("byte {size}"))),
        }
    }
}

#[test]
fn what_follows_a_hole_in_what_was_not_checkpointed_is_dropped() {
    let (disk, world, states) = history(small_segments(), None);
    let logs = files(&disk, "log");
    let disk = disk.snapshot();
    disk.remove_file(&logs[2]).unwrap();
    let mut world = start_on(disk, &world.config, world.now);
    let base: i64 = logs[2].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    assert_eq!(world.log().log_end_offset(), Offset(base));
    assert_eq!(world.log().leader_epoch(), LeaderEpoch(1));
    assert!(states.last().unwrap().batches.starts_with(&state(&mut world).batches));
    world.append(1);
    world.crash();
    assert_eq!(world.log().log_end_offset(), Offset(base + 1));
}

#[test]
fn a_broken_batch_in_an_old_segment_is_told_to_its_readers_and_the_rest_is_served() {
    for is_clean in [true, false] {
        let config = LogConfig { segment_bytes: 1500, index_interval_bytes: 150, ..LogConfig::default() };
        let disk = MemoryDisk::new();
        let mut world = World::on(Arc::new(disk.clone()), "/data".into(), config);
        for _ in 0..60 {
            world.append(1);
        }
        let size = world.read(59, ReadUncommitted).size;
        world.checkpoint();
        if is_clean {
            world.restart();
        }
        let path = files(&disk, "log")[1].clone();
        let base: i64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let broken = base + 7;
        disk.open(&path, OpenMode::Existing).unwrap().write_at(&[9], u64::from(size) * 7 + 16).unwrap();
        if is_clean {
            world.restart()
        } else {
            world.crash()
        }
        assert_eq!(world.log().log_end_offset(), Offset(60));
        assert_eq!(world.log().leader_epoch(), LeaderEpoch(0));
        let mut corrupt = Vec::new();
        for offset in 0..60 {
            let spec = oncelog_log::ReadSpec {
                offset: Offset(offset),
                max_bytes: 1,
                at_least_one_batch: true,
                isolation: ReadUncommitted,
            };
            match world.log().read(&spec) {
                Ok(read) => assert_eq!(read.size, size),
                Err(error @ ReadError::Corrupt { .. }) => {
                    assert_eq!(error.code(), oncelog_wire::ErrorCode::CorruptMessage);
                    assert!(error.to_string().contains(path.to_str().unwrap()));
                    corrupt.push(offset);
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(corrupt.contains(&broken) && corrupt.len() <= 3, "{corrupt:?}");
        let replayed = world.log().replay(Offset(0), |_| Ok::<(), ReadError>(())).unwrap_err();
        assert!(replayed.to_string().contains(path.to_str().unwrap()), "{replayed}");
        assert_eq!(world.append(1).base_offset, Offset(60));
    }
}

#[test]
fn leftovers_are_removed_at_the_start() {
    let (disk, world, states) = history(small_segments(), None);
    let names = [
        "00000000000000000000.log.deleted",
        "00000000000000000000.index.deleted",
        "leader-epoch-checkpoint.tmp",
        "00000000000000009999.index",
        "00000000000000009999.txnindex",
    ];
    for name in names {
        put(&disk, &log_directory().join(name), b"leftover");
    }
    let mut world = start_on(disk.snapshot(), &world.config, world.now);
    assert_eq!(&state(&mut world), states.last().unwrap());
    for entry in world.disk.list(&log_directory()).unwrap() {
        assert!(!names.contains(&entry.name.as_str()) && matches!(entry.kind, EntryKind::File { .. }));
    }
}

#[test]
fn a_lost_leader_epoch_checkpoint_is_learned_from_the_batches() {
    let (disk, world, _) = history(LogConfig::default(), None);
    let path = files(&disk, "log").pop().unwrap();
    let bytes = content(&disk, &path);
    let disk = disk.snapshot();
    put(&disk, &path, &bytes[..bytes.len() - 1]);
    let mut world = start_on(disk.clone(), &world.config, world.now);
    let cut = world.append(1).base_offset;
    for content in [None, Some("")] {
        let copy = disk.snapshot();
        let checkpoint = log_directory().join("leader-epoch-checkpoint");
        match content {
            None => copy.remove_file(&checkpoint).unwrap(),
            Some(content) => put(&copy, &checkpoint, content.as_bytes()),
        }
        let mut world = start_on(copy, &world.config, world.now);
        assert_eq!(world.log().leader_epoch(), LeaderEpoch(1));
        assert_eq!(world.log().offset_for_leader_epoch(LeaderEpoch(0)).end_offset, cut);
        assert_eq!(world.log().log_end_offset(), cut.next());
    }
}

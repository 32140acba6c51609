//! The plain life of a log.

use oncelog_log::{Isolation, LogConfig, ReadError, ReadSpec};
use oncelog_records::{MarkerKind, batches};
use oncelog_wire::{ErrorCode, LeaderEpoch, Offset};

use crate::world::{World, bytes_of, partition};

use Isolation::{ReadCommitted, ReadUncommitted};

pub fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 400, index_interval_bytes: 150, ..LogConfig::default() }
}

#[test]
fn a_log_without_appends_has_no_files_and_an_empty_answer() {
    let mut world = World::in_memory(LogConfig::default());
    let read = world.read(0, ReadUncommitted);
    assert_eq!((read.size, read.high_watermark), (0, Offset(0)));
    assert!(world.log().points().is_none());
    assert_eq!(world.log().leader_epoch(), LeaderEpoch(0));
    let log_directory = world.root.join(partition().to_string());
    assert!(world.disk.list(&log_directory).is_err());
    world.restart();
    assert!(world.disk.list(&log_directory).is_err());
}

#[test]
fn batches_get_consecutive_offsets_and_are_read_back_whole() {
    let mut world = World::in_memory(small_segments());
    let mut expected = Vec::new();
    let mut next = 0;
    for count in [1, 3, 2, 5, 1, 4, 2, 2] {
        let appended = world.append(count);
        assert_eq!((appended.base_offset.0, appended.last_offset.0), (next, next + count as i64 - 1));
        expected.push(next);
        next += count as i64;
    }
    assert_eq!(world.read_all(0, ReadUncommitted), expected);
    // From the middle of a batch the whole batch comes.
    assert_eq!(world.read_all(2, ReadUncommitted), expected[1..]);
    assert_eq!(world.read_all(next, ReadUncommitted), [0i64; 0]);
    let read = world.read(0, ReadUncommitted);
    let bytes = bytes_of(&read.records);
    assert!(batches(&bytes).all(|batch| batch.unwrap().partition_leader_epoch() == LeaderEpoch(0)));
}

#[test]
fn offsets_outside_of_the_log_are_out_of_range() {
    let mut world = World::in_memory(small_segments());
    world.append(3);
    for offset in [-1, 4] {
        let spec = ReadSpec {
            offset: Offset(offset),
            max_bytes: 100,
            at_least_one_batch: true,
            isolation: ReadUncommitted,
        };
        let error = world.log().read(&spec).unwrap_err();
        assert!(matches!(error, ReadError::OffsetOutOfRange { .. }));
        assert_eq!(error.code(), ErrorCode::OffsetOutOfRange);
    }
}

#[test]
fn only_whole_batches_are_returned_and_the_first_one_only_if_it_fits_or_must_come() {
    let mut world = World::in_memory(LogConfig { index_interval_bytes: 150, ..LogConfig::default() });
    for _ in 0..50 {
        world.append(1);
    }
    let size = world.read(49, ReadUncommitted).size;
    let mut read = |max_bytes, at_least_one_batch| {
        let spec = ReadSpec { offset: Offset(3), max_bytes, at_least_one_batch, isolation: ReadUncommitted };
        world.log().read(&spec).unwrap().size
    };
    assert_eq!(read(size - 1, false), 0);
    assert_eq!(read(size - 1, true), size);
    for batches in 1..47 {
        assert_eq!(read(batches * size, false), batches * size);
        assert_eq!(read(batches * size + size - 1, false), batches * size);
    }
    assert_eq!(read(u32::MAX, false), 47 * size);
}

#[test]
fn everything_is_there_after_a_clean_stop_and_after_a_crash() {
    let mut world = World::in_memory(small_segments());
    for round in 0..6 {
        for count in [2, 1, 4] {
            world.append(count);
        }
        world.transactional(round, 0, 0);
        world.end(round, 0, MarkerKind::Abort);
        let all = world.read_all(0, ReadCommitted);
        let aborted = world.read(0, ReadCommitted).aborted;
        match round % 3 {
            0 => world.restart(),
            1 => world.crash(),
            _ => {
                world.checkpoint();
                world.crash();
            }
        }
        assert_eq!(world.read_all(0, ReadCommitted), all);
        assert_eq!(world.read(0, ReadCommitted).aborted, aborted);
        assert_eq!(world.log().leader_epoch(), LeaderEpoch(0));
    }
}

#[test]
fn logs_and_data_directories_can_be_shared_between_threads() {
    fn assert_shared<T: Send + Sync>() {}
    assert_shared::<oncelog_log::Log>();
    assert_shared::<oncelog_log::DataDir>();
    assert_shared::<oncelog_log::Checkpoint>();
    assert_shared::<oncelog_log::Garbage>();
}

#[test]
fn what_a_start_had_to_look_at_waits_for_the_next_checkpoint() {
    let mut world = World::in_memory(LogConfig::default());
    world.append(1);
    let first = world.log().bytes_since_checkpoint();
    world.checkpoint();
    world.append(1);
    assert_eq!(world.log().bytes_since_checkpoint(), first);
    world.crash();
    assert_eq!(world.log().bytes_since_checkpoint(), first, "the second batch would be looked at again");
    world.restart();
    assert_eq!(world.log().bytes_since_checkpoint(), 0);
}

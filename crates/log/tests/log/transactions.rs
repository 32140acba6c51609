//! The last stable offset and the aborted transactions, by hand-written histories.

use oncelog_log::{Isolation, LogConfig, ReadSpec};
use oncelog_records::MarkerKind::{Abort, Commit};
use oncelog_wire::Offset;

use crate::append_and_read::small_segments;
use crate::world::{World, bytes_of};

use Isolation::{ReadCommitted, ReadUncommitted};

/// The aborted transactions listed beside what a reader gets from `offset` on with `max_bytes`, and the offset after.
fn aborted(world: &mut World, offset: i64, max_bytes: u32) -> (Vec<(i64, i64)>, i64) {
    let spec =
        ReadSpec { offset: Offset(offset), max_bytes, at_least_one_batch: true, isolation: ReadCommitted };
    let read = world.log().read(&spec).unwrap();
    let bytes = bytes_of(&read.records);
    let end = oncelog_records::batches(&bytes).last().map_or(offset, |batch| batch.unwrap().next_offset().0);
    let listed = read.aborted.unwrap();
    (listed.iter().map(|entry| (entry.producer_id.0, entry.first_offset.0)).collect(), end)
}

fn last_stable(world: &mut World) -> i64 {
    let offset = world.log().last_stable_offset();
    let read = world.read(offset.0, ReadCommitted);
    assert_eq!(
        (read.size, read.last_stable_offset),
        (0, offset),
        "nothing is read at the last stable offset"
    );
    offset.0
}

#[test]
fn the_last_stable_offset_is_the_start_of_the_earliest_open_transaction() {
    let mut world = World::in_memory(LogConfig::default());
    world.append(2);
    assert_eq!(last_stable(&mut world), 2);
    world.transactional(1, 0, 0); // 2
    world.transactional(2, 0, 0); // 3
    world.append(1); // 4
    assert_eq!(last_stable(&mut world), 2);
    assert_eq!(world.read_all(0, ReadCommitted), [0]);
    assert_eq!(world.read_all(0, ReadUncommitted), [0, 2, 3, 4]);
    world.end(2, 0, Commit); // 5
    assert_eq!(last_stable(&mut world), 2, "a later one that is committed waits for the earlier");
    world.transactional(1, 0, 1); // 6
    world.end(1, 0, Abort); // 7
    assert_eq!(last_stable(&mut world), 8);
    assert_eq!(
        world.read_all(0, ReadCommitted),
        [0, 2, 3, 4, 5, 6, 7],
        "markers and aborted records included"
    );
    world.transactional(2, 0, 1); // 8
    assert_eq!(last_stable(&mut world), 8);
}

#[test]
fn the_last_stable_offset_never_lies_below_the_log_start() {
    let mut world = World::in_memory(LogConfig::default());
    world.transactional(1, 0, 0);
    world.append(5);
    world.log().delete_records(Some(Offset(3))).unwrap().1.remove().unwrap();
    assert_eq!(world.log().last_stable_offset(), Offset(3));
    world.end(1, 0, Abort);
    assert_eq!(world.log().last_stable_offset(), Offset(7));
}

#[test]
fn a_reader_is_told_of_the_aborted_transactions_its_data_may_be_part_of() {
    let mut world = World::in_memory(LogConfig { index_interval_bytes: 150, ..LogConfig::default() });
    world.transactional(1, 0, 0); // 0
    world.transactional(2, 0, 0); // 1
    world.end(1, 0, Abort); // 2
    world.transactional(2, 0, 1); // 3
    world.end(2, 0, Commit); // 4
    world.transactional(3, 0, 0); // 5
    world.append(1); // 6
    world.end(3, 0, Abort); // 7
    world.append(1); // 8
    let everything = 1 << 20;
    assert_eq!(aborted(&mut world, 0, everything), (vec![(1, 0), (3, 5)], 9));
    assert_eq!(
        aborted(&mut world, 2, everything),
        (vec![(1, 0), (3, 5)], 9),
        "the marker itself is still to come"
    );
    assert_eq!(aborted(&mut world, 3, everything), (vec![(3, 5)], 9));
    assert_eq!(aborted(&mut world, 8, everything), (vec![], 9));
    let (listed, end) = aborted(&mut world, 0, 1);
    assert_eq!((listed, end), (vec![(1, 0)], 1), "the marker lies beyond the data");
    let (listed, end) = aborted(&mut world, 3, 1);
    assert_eq!((listed, end), (vec![], 4), "what starts beyond the data is not listed");
    let (listed, end) = aborted(&mut world, 6, 1);
    assert_eq!((listed, end), (vec![(3, 5)], 7), "what started before it is");
}

#[test]
fn aborted_transactions_are_found_across_segments() {
    let mut world = World::in_memory(small_segments());
    let mut expected = Vec::new();
    for round in 0..20 {
        let first = world.log().log_end_offset().0;
        world.transactional(round, 0, 0);
        world.append(1);
        world.transactional(round, 0, 1);
        if round % 3 == 0 {
            world.append(3);
        }
        let marker = world.end(round, 0, if round % 2 == 0 { Abort } else { Commit }).base_offset.0;
        if round % 2 == 0 {
            expected.push((round, first, marker));
        }
    }
    for restart in [false, true] {
        if restart {
            world.restart();
        }
        let end = world.log().log_end_offset().0;
        for offset in 0..end {
            for max_bytes in [1, 200, 300, 1 << 20] {
                let (mut listed, until) = aborted(&mut world, offset, max_bytes);
                listed.sort_by_key(|entry| entry.1);
                let wanted: Vec<(i64, i64)> = expected
                    .iter()
                    .filter(|(_, first, marker)| *marker >= offset && *first < until)
                    .map(|(producer, first, _)| (*producer, *first))
                    .collect();
                assert_eq!(listed, wanted, "from {offset} to {until}");
            }
        }
    }
}

#[test]
fn a_transaction_whose_marker_is_the_first_thing_in_its_segment_is_found() {
    let mut world = World::in_memory(small_segments());
    let segments = |world: &mut World| world.log().size();
    // Fill a segment to the brim with one open transaction, so that the marker starts the next.
    let mut sequence = 0;
    let batch = {
        world.transactional(1, 0, sequence);
        segments(&mut world)
    };
    while segments(&mut world) + batch <= u64::from(world.config.segment_bytes) {
        sequence += 1;
        world.transactional(1, 0, sequence);
    }
    let marker = world.end(1, 0, Abort).base_offset;
    for _ in 0..2 {
        for offset in 0..marker.0 {
            assert_eq!(aborted(&mut world, offset, 1).0, [(1, 0)]);
        }
        assert_eq!(aborted(&mut world, marker.0, 1).0, [(1, 0)]);
        assert_eq!(last_stable(&mut world), marker.0 + 1);
        world.crash();
    }
}

#[test]
fn a_commit_lists_nothing_and_an_empty_abort_neither() {
    let mut world = World::in_memory(LogConfig::default());
    world.transactional(1, 0, 0);
    world.end(1, 0, Commit);
    world.end(1, 0, Abort);
    assert_eq!(aborted(&mut world, 0, 1 << 20), (vec![], 3));
    assert_eq!(world.read(0, ReadUncommitted).aborted, None);
}

#[test]
fn open_transactions_survive_a_restart_and_can_be_ended_after_it() {
    let mut world = World::in_memory(small_segments());
    world.append(1); // 0
    world.transactional(1, 0, 0); // 1
    world.transactional(2, 0, 0); // 2
    world.append(4); // 3..=6
    for crash in [false, true, false] {
        if crash {
            world.crash()
        } else {
            world.restart()
        }
        assert_eq!(last_stable(&mut world), 1);
        assert!(
            world.log().has_open_transaction(oncelog_wire::ProducerId(1), oncelog_wire::ProducerEpoch(0))
        );
        assert!(
            !world.log().has_open_transaction(oncelog_wire::ProducerId(1), oncelog_wire::ProducerEpoch(1))
        );
        let mut open: Vec<(i64, i64)> = world
            .log()
            .producers()
            .map(|producer| (producer.producer_id.0, producer.transaction_start_offset.0))
            .collect();
        open.sort();
        assert_eq!(open, [(1, 1), (2, 2)]);
    }
    world.end(1, 0, Abort); // 7
    assert_eq!(last_stable(&mut world), 2);
    world.end(2, 1, Abort); // 8
    assert_eq!(last_stable(&mut world), 9);
    assert_eq!(aborted(&mut world, 1, 1 << 20).0, [(1, 1), (2, 2)]);
}

#[test]
fn waiting_readers_count_bytes_up_to_their_own_bound() {
    let mut world = World::in_memory(small_segments());
    let appended = world.append(1);
    let size = u64::from(world.read(0, ReadUncommitted).size);
    let open = world.transactional(1, 0, 0);
    world.append(1);
    let mut available =
        |offset: i64, isolation| world.log().bytes_available(Offset(offset), isolation, 10_000).unwrap();
    assert_eq!(available(appended.base_offset.0, ReadCommitted), size);
    assert_eq!(available(open.base_offset.0, ReadCommitted), 0);
    assert!(available(open.base_offset.0, ReadUncommitted) > size);
    assert_eq!(available(3, ReadUncommitted), 0);
    assert!(world.log().bytes_available(Offset(4), ReadUncommitted, 1).is_err());
    for _ in 0..5 {
        world.append(1);
    }
    assert_eq!(
        world.log().bytes_available(Offset(0), ReadUncommitted, 10_000).unwrap(),
        10_000,
        "a newer segment answers at once"
    );
    assert_eq!(world.log().bytes_available(Offset(0), ReadUncommitted, 5).unwrap(), 5);
}

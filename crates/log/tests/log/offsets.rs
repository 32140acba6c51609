//! Finding offsets by timestamp and by epoch.

use oncelog_log::{Isolation, ListedOffset, LogConfig, OffsetQuery};
use oncelog_records::{BatchBuilder, BatchView, Compression, MarkerKind};
use oncelog_wire::{LeaderEpoch, Offset, Timestamp};

use crate::append_and_read::small_segments;
use crate::world::World;

use Isolation::{ReadCommitted, ReadUncommitted};

fn find(world: &mut World, query: OffsetQuery, isolation: Isolation) -> Option<(i64, i64)> {
    let found = world.log().list_offset(query, isolation).unwrap();
    found.map(|ListedOffset { offset, timestamp, leader_epoch }| {
        assert_eq!(leader_epoch, LeaderEpoch(0));
        (offset.0, timestamp.0)
    })
}

fn at(world: &mut World, timestamp: i64) -> Option<(i64, i64)> {
    find(world, OffsetQuery::At(Timestamp(timestamp)), ReadUncommitted)
}

fn append_at(world: &mut World, timestamps: &[i64], compression: Compression) {
    let mut builder = BatchBuilder::new().compression(compression);
    for timestamp in timestamps {
        builder.push(Timestamp(*timestamp), None, Some(b"value"));
    }
    let (batch, now) = (builder.build(), world.now());
    let origin = oncelog_log::Origin::Coordinator;
    world.log().append(&BatchView::parse(&batch).unwrap(), origin, now).unwrap();
}

#[test]
fn the_first_record_with_the_timestamp_or_a_later_one_is_found() {
    for compression in [Compression::None, Compression::Lz4] {
        let mut world = World::in_memory(small_segments());
        let mut all = Vec::new();
        // Timestamps that step back now and then, within batches and between them.
        for round in 0..60i64 {
            let base = 1000 + round * 10 - (round % 7) * 25;
            let timestamps = [base, base + 30, base + 5];
            append_at(&mut world, &timestamps, compression);
            all.extend(timestamps);
        }
        for restart in 0..3 {
            match restart {
                1 => world.restart(),
                2 => world.crash(),
                _ => {}
            }
            for wanted in (800..1700).step_by(3) {
                let position = all.iter().position(|timestamp| *timestamp >= wanted);
                let expected = position.map(|at| (at as i64, all[at]));
                assert_eq!(at(&mut world, wanted), expected, "{wanted}");
            }
            let largest = *all.iter().max().unwrap();
            let first = all.iter().position(|timestamp| *timestamp == largest).unwrap();
            let found = find(&mut world, OffsetQuery::MaxTimestamp, ReadUncommitted);
            assert_eq!(found, Some((first as i64, largest)));
        }
    }
}

#[test]
fn an_empty_log_has_a_start_and_an_end_and_no_records() {
    let mut world = World::in_memory(LogConfig::default());
    assert_eq!(find(&mut world, OffsetQuery::Earliest, ReadUncommitted), Some((0, -1)));
    assert_eq!(find(&mut world, OffsetQuery::Latest, ReadUncommitted), Some((0, -1)));
    assert_eq!(find(&mut world, OffsetQuery::MaxTimestamp, ReadUncommitted), None);
    assert_eq!(at(&mut world, 0), None);
    let end = world.log().offset_for_leader_epoch(LeaderEpoch(0));
    assert_eq!((end.leader_epoch, end.end_offset), (LeaderEpoch(0), Offset(0)));
}

#[test]
fn the_largest_timestamp_is_that_of_a_record_that_is_left() {
    let mut world = World::in_memory(LogConfig::default());
    append_at(&mut world, &[100, 300, 200], Compression::Lz4);
    append_at(&mut world, &[150, 180, 160], Compression::None);
    let largest = |world: &mut World, start: i64| {
        world.log().delete_records(Some(Offset(start))).unwrap().1.remove().unwrap();
        find(world, OffsetQuery::MaxTimestamp, ReadUncommitted)
    };
    assert_eq!(largest(&mut world, 1), Some((1, 300)));
    assert_eq!(largest(&mut world, 2), Some((2, 200)));
    assert_eq!(largest(&mut world, 3), Some((4, 180)));
    assert_eq!(largest(&mut world, 5), Some((5, 160)));
    assert_eq!(largest(&mut world, 6), None);
}

#[test]
fn records_below_the_start_or_beyond_the_last_stable_offset_are_not_found() {
    let mut world = World::in_memory(LogConfig::default());
    append_at(&mut world, &[100, 110, 120], Compression::None);
    world.log().delete_records(Some(Offset(1))).unwrap().1.remove().unwrap();
    assert_eq!(at(&mut world, 0), Some((1, 110)), "within a batch that is half deleted");
    assert_eq!(find(&mut world, OffsetQuery::Earliest, ReadUncommitted), Some((1, -1)));
    world.now = 5000;
    world.transactional(1, 0, 0);
    assert_eq!(at(&mut world, 200), Some((3, 5000)));
    assert_eq!(find(&mut world, OffsetQuery::At(Timestamp(200)), ReadCommitted), None);
    assert_eq!(find(&mut world, OffsetQuery::MaxTimestamp, ReadCommitted), None);
    assert_eq!(find(&mut world, OffsetQuery::Latest, ReadCommitted), Some((3, -1)));
    assert_eq!(find(&mut world, OffsetQuery::Latest, ReadUncommitted), Some((4, -1)));
    world.end(1, 0, MarkerKind::Commit);
    assert_eq!(find(&mut world, OffsetQuery::At(Timestamp(200)), ReadCommitted), Some((3, 5000)));
}

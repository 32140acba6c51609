//! What is let go, and what stays.

use oncelog_log::{EntryKind, Isolation, LogConfig, OffsetQuery};
use oncelog_records::MarkerKind;
use oncelog_wire::{ErrorCode, LeaderEpoch, Offset};

use crate::append_and_read::small_segments;
use crate::world::{World, partition};

use Isolation::{ReadCommitted, ReadUncommitted};

fn maintain(world: &mut World) {
    let now = world.now();
    world.log().maintain(now).unwrap().remove().unwrap();
}

fn files(world: &World, extension: &str) -> Vec<i64> {
    let entries = world.disk.list(&world.root.join(partition().to_string())).unwrap();
    let files = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
    let mut offsets: Vec<i64> = files
        .filter_map(|entry| entry.name.strip_suffix(extension)?.strip_suffix('.')?.parse().ok())
        .collect();
    offsets.sort();
    offsets
}

#[test]
fn segments_older_than_the_retention_go_and_the_offsets_stay() {
    let mut world = World::in_memory(LogConfig { retention_ms: Some(1000), ..small_segments() });
    for _ in 0..20 {
        world.append(1);
        world.now += 100;
    }
    let before = files(&world, "log");
    world.now += 500;
    maintain(&mut world);
    let after = files(&world, "log");
    assert!(after.len() < before.len() && before.ends_with(&after));
    let start = world.log().log_start_offset().0;
    assert_eq!(start, after[0]);
    assert_eq!(world.read_all(start, ReadUncommitted), (start..20).collect::<Vec<_>>());
    for extension in ["index", "timeindex", "txnindex"] {
        assert_eq!(files(&world, extension), after);
    }
    assert!(files(&world, "snapshot").iter().all(|offset| *offset >= start));
    world.crash();
    assert_eq!(world.log().log_start_offset().0, start);
    world.now += 5000;
    maintain(&mut world);
    assert_eq!(world.log().log_start_offset(), Offset(20), "even the active segment is too old");
    assert_eq!(files(&world, "log"), [20]);
    world.restart();
    assert_eq!(world.log().log_end_offset(), Offset(20));
    assert_eq!(world.append(1).base_offset, Offset(20));
}

#[test]
fn segments_beyond_the_retention_size_go() {
    let mut world =
        World::in_memory(LogConfig { retention_bytes: Some(1000), retention_ms: None, ..small_segments() });
    for _ in 0..40 {
        world.append(1);
    }
    maintain(&mut world);
    let size = world.log().size();
    assert!((1000..1400).contains(&size), "{size}");
    let config = LogConfig { is_deleting: false, ..world.config.clone() };
    world.log().set_config(config.into());
    for _ in 0..40 {
        world.append(1);
    }
    let size = world.log().size();
    maintain(&mut world);
    assert_eq!(world.log().size(), size, "without the delete policy everything stays");
}

#[test]
fn records_are_deleted_on_request_up_to_the_high_watermark() {
    let mut world = World::in_memory(small_segments());
    for _ in 0..20 {
        world.append(1);
    }
    let delete = |world: &mut World, before: Option<i64>| {
        let deleted = world.log().delete_records(before.map(Offset));
        deleted.map(|(start, garbage)| {
            garbage.remove().unwrap();
            start.0
        })
    };
    assert_eq!(delete(&mut world, Some(21)).unwrap_err().code(), ErrorCode::OffsetOutOfRange);
    assert_eq!(delete(&mut world, Some(-1)).unwrap_err().code(), ErrorCode::OffsetOutOfRange);
    assert_eq!(delete(&mut world, Some(9)).unwrap(), 9);
    assert_eq!(delete(&mut world, Some(4)).unwrap(), 9, "the start never moves back");
    assert!(files(&world, "log")[0] <= 9 && files(&world, "log")[1] > 9);
    assert_eq!(world.read_all(9, ReadUncommitted), (9..20).collect::<Vec<_>>());
    world.checkpoint();
    world.crash();
    assert_eq!(world.log().log_start_offset(), Offset(9));
    assert_eq!(delete(&mut world, None).unwrap(), 20);
    assert_eq!(files(&world, "log").len(), 1, "the segment that is written to stays");
    assert_eq!(world.append(1).base_offset, Offset(20));
    world.restart();
    assert_eq!(world.read_all(20, ReadUncommitted), [20]);
}

#[test]
fn a_segment_spans_no_more_than_its_time_by_the_records_clock() {
    let mut world =
        World::in_memory(LogConfig { segment_ms: 1000, segment_jitter_ms: 100, ..LogConfig::default() });
    world.append(1);
    world.now += 900;
    world.append(1);
    assert_eq!(files(&world, "log"), [0]);
    world.now += 1;
    world.append(1);
    assert_eq!(files(&world, "log"), [0, 2]);
    world.restart();
    world.now += 901;
    world.append(1);
    assert_eq!(files(&world, "log"), [0, 2, 3], "also after a restart");
}

#[test]
fn a_segment_ends_when_an_index_is_full() {
    let config = LogConfig { index_interval_bytes: 0, segment_index_bytes: 12 * 8, ..LogConfig::default() };
    let mut world = World::in_memory(config);
    for _ in 0..40 {
        world.append(1);
        world.now += 1;
    }
    assert_eq!(files(&world, "log"), [0, 8, 16, 24, 32]);
    world.crash();
    assert_eq!(world.read_all(0, ReadUncommitted), (0..40).collect::<Vec<_>>());
}

#[test]
fn a_producer_outlives_the_records_that_made_it_known() {
    let mut world = World::in_memory(LogConfig { retention_ms: Some(1000), ..small_segments() });
    world.transactional(1, 0, 0);
    world.end(1, 0, MarkerKind::Abort);
    world.now += 2000;
    maintain(&mut world);
    assert_eq!(world.log().log_start_offset(), Offset(2));
    world.restart();
    assert_eq!(world.log().producers().count(), 1);
    world.transactional(1, 0, 1);
    assert_eq!(world.read_all(2, ReadCommitted), [0i64; 0]);
}

#[test]
fn the_epoch_of_the_log_start_is_known_after_its_first_records_are_gone() {
    let mut world = World::in_memory(small_segments());
    for _ in 0..20 {
        world.append(1);
    }
    world.log().delete_records(Some(Offset(15))).unwrap().1.remove().unwrap();
    world.restart();
    let earliest = world.log().list_offset(OffsetQuery::Earliest, ReadUncommitted).unwrap().unwrap();
    assert_eq!((earliest.offset, earliest.leader_epoch), (Offset(15), LeaderEpoch(0)));
    let end = world.log().offset_for_leader_epoch(LeaderEpoch(0));
    assert_eq!(end.end_offset, Offset(20));
}

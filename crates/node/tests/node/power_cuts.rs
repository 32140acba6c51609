//! The power fails: whatever was acknowledged, or shown to a read_committed reader, is there when it comes back, and every
//! transaction has ended in one way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oncelog_log::{Disk, OpenMode};
use oncelog_records::BatchBuilder;
use oncelog_wire::*;

use crate::crashes::{ObservedDisk, Seen, seen};
use crate::lossy::{Dice, LossyDisk};
use crate::transactions::{ORDERS, REFUNDS, fetched};
use crate::world::{START, World};

/// How often each moment is tried, with other sectors lost.
const TRIES: u64 = 12;

/// The bytes of a journal's file, so few that it is full now and then.
const SMALL: u64 = 64 << 10;

fn restarted(disk: &LossyDisk, seed: u64) -> (LossyDisk, World) {
    let disk = disk.after_power_cut(&mut Dice::new(seed));
    let world = World::with_journal(Arc::new(disk.clone()), SMALL, START);
    (disk, world)
}

/// Records in the partition that a read_committed reader sees.
fn committed(world: &mut World, partition: (&str, i32)) -> usize {
    let data = world.fetch(partition, 1);
    let is_aborted = data.aborted_transactions.as_ref().is_some_and(|aborted| !aborted.is_empty());
    if is_aborted { 0 } else { fetched(&data).iter().filter(|&&(_, is_control)| !is_control).count() }
}

#[test]
fn a_transaction_is_whole_or_nothing_whenever_the_power_fails_and_whole_once_its_commit_was_answered() {
    let (mut whole, mut nothing) = (0, 0);
    for syncs in 0..6 {
        for seed in 0..TRIES {
            let context = format!("after {syncs} syncs, seed {seed}");
            let disk = LossyDisk::default();
            let mut world = World::with_journal(Arc::new(disk.clone()), SMALL, START);
            world.create_topics();
            let producer = world.init("pay");
            world.sync_only(syncs);
            let (mut is_end_asked, mut answered) = (false, 0);
            for step in 0..5 {
                match step {
                    0 => drop(world.write(12, &producer, ORDERS, 0)),
                    // Part of the transaction that is open: answered at once.
                    1 => assert_eq!(world.write(12, &producer, ORDERS, 1), ErrorCode::None),
                    2 => drop(world.write(12, &producer, REFUNDS, 0)),
                    3 => drop(world.store(5, &producer, 3)),
                    _ => {
                        is_end_asked = true;
                        let _ = world.end(5, &producer, true);
                    }
                }
                if world.took_no_answer() {
                    break;
                }
                answered += 1;
                if step < 4 {
                    assert_eq!(committed(&mut world, ORDERS), 0, "{context}");
                }
            }
            let was_shown = committed(&mut world, ORDERS) > 0;
            let is_acknowledged = answered == 5;
            assert_eq!(was_shown, is_acknowledged, "{context}: readers see what is synced, and no more");
            drop(world);

            let (disk, mut world) = restarted(&disk, seed);
            let found = seen(&mut world);
            match (is_acknowledged, is_end_asked) {
                (true, _) => assert_eq!(found, Seen::All, "{context}"),
                (false, true) => assert_ne!(found, Seen::Undecided, "{context}"),
                (false, false) => assert_eq!(found, Seen::Nothing, "{context}"),
            }
            match found {
                Seen::All => whole += 1,
                _ => nothing += 1,
            }
            // What the client is told when it asks again is what has happened. Where nothing at all is left, not even
            // the producer id is known.
            assert_eq!(world.end(5, &producer, true).is_ok(), found == Seen::All, "{context}");
            assert_eq!(seen(&mut world), found, "{context}");
            if answered > 0 && found == Seen::Nothing {
                // Its transaction has lost records, so no more of it is taken.
                assert_ne!(world.write(12, &producer, ORDERS, 2), ErrorCode::None, "{context}");
            }
            drop(world);
            // And it stays like that.
            let (_, mut world) = restarted(&disk, seed + 1);
            assert_eq!(seen(&mut world), found, "{context}, and again");
            let successor = world.init("pay");
            assert_eq!(world.write(12, &successor, ORDERS, 0), ErrorCode::None, "{context}");
            assert!(world.end(5, &successor, true).is_ok(), "{context}");
        }
    }
    assert!(whole >= TRIES && nothing >= 4 * TRIES, "{whole} and {nothing}");
}

#[test]
fn one_sync_answers_all_who_wait_and_a_transaction_of_one_record_takes_two() {
    let disk = LossyDisk::default();
    let mut world = World::with_journal(Arc::new(disk.clone()), 1 << 20, START);
    world.create_topics();
    let producers: Vec<_> = (0..64).map(|number| world.init(&format!("pay-{number}"))).collect();
    let before = disk.syncs();
    world.sync_only(0);
    for producer in &producers {
        let _ = world.write(12, producer, ORDERS, 0);
        assert!(world.took_no_answer(), "the first batch waits for its sync");
    }
    world.node.sync().unwrap();
    assert_eq!(disk.syncs() - before, 1);
    for producer in &producers {
        let _ = world.end(5, producer, true);
        assert!(world.took_no_answer(), "the end waits for its sync");
    }
    assert_eq!(committed(&mut world, ORDERS), 0);
    world.node.sync().unwrap();
    assert_eq!(disk.syncs() - before, 2, "Prepare, markers and Complete are synced together");
    assert_eq!(committed(&mut world, ORDERS), 64);
}

#[test]
fn what_is_sent_again_is_answered_when_the_original_is_synced() {
    let disk = LossyDisk::default();
    let mut world = World::with_journal(Arc::new(disk), SMALL, START);
    world.create_topics();
    let producer = world.init("pay");
    world.sync_only(0);
    for _ in 0..2 {
        let _ = world.write(12, &producer, ORDERS, 0);
        assert!(world.took_no_answer());
    }
    world.node.sync().unwrap();
    assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
    assert!(!world.took_no_answer());
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_ends_the_node() {
    let disk = LossyDisk::default();
    let mut world = World::with_journal(Arc::new(disk.clone()), SMALL, START);
    world.create_topics();
    let producer = world.init("pay");
    world.sync_only(0);
    let _ = world.write(12, &producer, ORDERS, 0);
    disk.fail_syncs_after(Some(0));
    assert!(world.node.sync().is_err());
    disk.fail_syncs_after(None);
    assert!(world.node.has_failed());
    assert!(world.node.sync().is_err(), "it is not tried again");
    assert!(world.took_no_answer());
    assert_eq!(world.write(12, &producer, ORDERS, 1), ErrorCode::KafkaStorageError);
    assert_eq!(world.watermarks(ORDERS), (0, 0));
    assert!(world.node.close(world.now).is_err());
    drop(world);
    let (_, mut world) = restarted(&disk, 5);
    assert_eq!(seen(&mut world), Seen::Nothing);
}

#[test]
fn a_small_journal_is_emptied_by_checkpoints_and_nothing_is_lost() {
    let disk = LossyDisk::default();
    let mut world = World::with_journal(Arc::new(disk.clone()), SMALL, START);
    world.create_topics();
    let mut producer = world.init("pay");
    for number in 0..40 {
        assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
        producer = world.end(5, &producer, true).unwrap();
        if number % 9 == 0 && world.node.wants_maintenance() {
            world.node.maintain(world.now);
            assert!(!world.node.wants_maintenance());
        }
    }
    drop(world);
    for seed in 0..TRIES {
        let (_, mut world) = restarted(&disk, seed);
        assert_eq!(committed(&mut world, ORDERS), 40);
    }
}

#[test]
fn the_journal_is_kept_until_the_checkpoints_that_cover_it_are_written() {
    for name in ["recovery-point-offset-checkpoint.tmp", "log-start-offset-checkpoint.tmp"] {
        let disk = ObservedDisk::default();
        let mut world = World::with_journal(Arc::new(disk.clone()), SMALL, START);
        world.create_topics();
        let mut producer = world.init("pay");
        let mut written = 0;
        let mut write_one = |world: &mut World| {
            assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
            producer = world.end(5, &producer, true).unwrap();
            written += 1;
            written
        };
        while !world.node.wants_maintenance() {
            write_one(&mut world);
        }
        disk.refuse(Some(name));
        for _ in 0..2 {
            // The second time no log has moved, yet nothing of the first is on disk.
            world.node.maintain(world.now);
            assert!(world.node.wants_maintenance(), "{name}");
        }
        disk.refuse(None);
        for _ in 0..20 {
            let written = write_one(&mut world);
            let mut restarted = World::with_journal(Arc::new(disk.after_kill()), SMALL, START);
            assert_eq!(committed(&mut restarted, ORDERS), written, "{name}");
        }
        world.node.maintain(world.now);
        assert!(!world.node.wants_maintenance(), "{name}");
    }
}

#[test]
fn what_was_written_to_a_topic_whose_creation_is_lost_does_not_stand_in_the_way_of_another_one() {
    let root = Path::new("/data");
    for seed in 0..TRIES {
        let disk = LossyDisk::default();
        let mut world = World::with_journal(Arc::new(disk.clone()), SMALL, START);
        let producer = world.init("pay");
        world.sync_only(0);
        world.create_topics();
        let _ = world.write(12, &producer, ORDERS, 0);
        assert!(world.took_no_answer());
        disk.sync_directory(root).unwrap();
        let directory = |disk: &LossyDisk, end: &str| {
            let names = disk.list(root).unwrap().into_iter().map(|entry| entry.name);
            names.filter(|name| name.starts_with("orders-0") && name.ends_with(end)).count()
        };
        assert_eq!(directory(&disk, ""), 1);
        drop(world);
        let (disk, mut world) = restarted(&disk, seed);
        assert_eq!((directory(&disk, "orders-0"), directory(&disk, "-stray")), (0, 1), "seed {seed}");
        world.create_topics();
        let producer = world.init("pay");
        assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
        assert!(world.end(5, &producer, true).is_ok());
        drop(world);
        let (_, mut world) = restarted(&disk, seed);
        assert_eq!(committed(&mut world, ORDERS), 1, "seed {seed}");
    }
}

#[test]
fn what_checkpoints_speak_of_is_left_alone_even_if_it_belongs_to_no_topic() {
    let (disk, root) = (LossyDisk::default(), Path::new("/data"));
    drop(World::with_journal(Arc::new(disk.clone()), SMALL, START));
    disk.create_directory(&root.join("ghost-0")).unwrap();
    let points = disk.open(&root.join("recovery-point-offset-checkpoint"), OpenMode::Create).unwrap();
    points.truncate(0).unwrap();
    points.write_at(b"0\n1\nghost 0 5\n", 0).unwrap();
    disk.after_kill();
    drop(World::with_journal(Arc::new(disk.clone()), SMALL, START));
    assert!(disk.list(root).unwrap().iter().any(|entry| entry.name == "ghost-0"));
}

/// The offset that a batch of this producer has got, now or before.
fn produced(world: &mut World, producer_id: i64, sequence: i32) -> Offset {
    let mut builder = BatchBuilder::new().producer(ProducerId(producer_id), ProducerEpoch(0), sequence);
    builder.push(world.now.wall, None, Some(&[7; 400_000]));
    let data = produce::PartitionProduceData { index: 0, records: Some(builder.build().into()) };
    let topic =
        produce::TopicProduceData { name: "orders".into(), partition_data: vec![data], ..Default::default() };
    let answer = world.ask(9, produce::Request { acks: -1, topic_data: vec![topic], ..Default::default() });
    let answer = &answer.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, ErrorCode::None);
    answer.base_offset
}

#[test]
fn checkpoints_that_could_not_be_written_twice_do_not_cost_what_is_known_of_a_producer() {
    let disk = ObservedDisk::default();
    let journal_file_bytes = 8 << 20;
    let mut world = World::with_journal(Arc::new(disk.clone()), journal_file_bytes, START);
    let config = |(name, value): (&str, &str)| create_topics::CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
    };
    let topic = create_topics::CreatableTopic {
        name: "orders".into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: [("segment.bytes", "1048576"), ("retention.bytes", "1")].map(config).into(),
        ..Default::default()
    };
    world.ask(7, create_topics::Request { topics: vec![topic], ..Default::default() });
    assert_eq!(produced(&mut world, 1, 0), Offset(0));
    for round in 0..4 {
        // The first checkpoint is written down. From then on all but that goes on.
        disk.refuse((round > 0).then_some("recovery-point-offset-checkpoint.tmp"));
        for sequence in 4 * round..4 * round + 4 {
            assert_eq!(produced(&mut world, 2, sequence), Offset(i64::from(sequence) + 1));
        }
        world.wait(Duration::from_secs(400));
        world.node.maintain(world.now);
    }
    let mut restarted = World::with_journal(Arc::new(disk.after_kill()), journal_file_bytes, START);
    assert_eq!(produced(&mut restarted, 1, 0), Offset(0), "it is recognised");
    assert_eq!(produced(&mut restarted, 2, 15), Offset(16));
    assert_eq!(produced(&mut restarted, 2, 16), Offset(17));
}

#[test]
fn a_topic_whose_deletion_is_lost_is_whole_even_if_the_deletion_found_the_journal_full() {
    let filled = |others: usize, writes: usize| {
        let disk = LossyDisk::default();
        let mut world = World::with_journal(Arc::new(disk.clone()), SMALL, START);
        world.create_topics();
        (0..others).for_each(|_| drop(world.init("another")));
        let mut producer = world.init("pay");
        for _ in 0..writes {
            assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
            producer = world.end(5, &producer, true).unwrap();
        }
        (disk, world)
    };
    let delete = |world: &World| {
        world.sync_only(0);
        let topic_names = vec!["orders".into()];
        world.ask(5, delete_topics::Request { topic_names, timeout_ms: 1_000, ..Default::default() })
    };
    let makes_room = |(others, writes): (usize, usize)| {
        let (disk, world) = filled(others, writes);
        let (was_full, before) = (world.node.wants_maintenance(), disk.syncs());
        delete(&world);
        (was_full && !world.node.wants_maintenance()).then_some((others, writes, disk.syncs() - before))
    };
    let all = (1..60).flat_map(|writes| [(0, writes), (1, writes)]);
    let (others, writes, syncs) = all.into_iter().find_map(makes_room).expect("once it is full");
    for allowed in 0..syncs {
        let (disk, world) = filled(others, writes);
        disk.fail_syncs_after(Some(allowed));
        delete(&world);
        drop(world);
        disk.fail_syncs_after(None);
        for seed in 0..TRIES {
            let (_, mut world) = restarted(&disk, seed);
            if world.watermarks(ORDERS).1 > 0 {
                assert_eq!(committed(&mut world, ORDERS), writes, "after {allowed} syncs, seed {seed}");
            }
        }
    }
}

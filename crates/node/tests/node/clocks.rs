//! The wall clock jumps, steps back or stands still. Timeouts do not notice, offsets do not either; just timestamps say what
//! the clock said.

use std::time::Duration;

use oncelog_wire::*;

use crate::transactions::ORDERS;
use crate::world::World;

const HOUR_MS: i64 = 3_600_000;

/// What the wall clock does from one moment to the next while the world goes on.
type Turn = fn(Timestamp) -> Timestamp;

const TROUBLES: [(&str, Turn); 3] = [
    ("back an hour", |wall| wall.plus_ms(-HOUR_MS)),
    ("forward a year", |wall| wall.plus_ms(365 * 24 * HOUR_MS)),
    ("frozen", |wall| wall),
];

#[test]
fn a_transaction_times_out_by_the_time_that_has_passed() {
    for (what, turn) in TROUBLES {
        let mut world = World::new("transaction.state.log.num.partitions=1");
        world.create_topics();
        let producer = world.init("pay");
        assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
        world.now.wall = turn(world.now.wall);
        let frozen = world.now.wall;
        world.wait(Duration::from_millis(59_999));
        world.now.wall = frozen;
        world.node.tick(world.now);
        assert_eq!(world.write(12, &producer, ORDERS, 1), ErrorCode::None, "{what}: it is open");
        world.wait(Duration::from_millis(1));
        assert_eq!(world.end(5, &producer, true), Err(ErrorCode::ProducerFenced), "{what}: it has timed out");
    }
}

#[test]
fn offsets_go_on_and_deadlines_stay_where_they_were() {
    for (what, turn) in TROUBLES {
        let mut world = World::new("transaction.state.log.num.partitions=1");
        world.create_topics();
        let producer = world.init("pay");
        for sequence in 0..6 {
            let deadline = world.node.next_deadline();
            world.now.wall = turn(world.now.wall);
            assert_eq!(world.write(12, &producer, ORDERS, sequence), ErrorCode::None, "{what}");
            world.node.maintain(world.now);
            assert_eq!(world.watermarks(ORDERS), (0, i64::from(sequence) + 1), "{what}");
            if sequence > 0 {
                assert_eq!(world.node.next_deadline(), deadline, "{what}");
            }
        }
        assert!(world.end(5, &producer, true).is_ok(), "{what}");
        let mut world = world.after_a_kill();
        assert_eq!(world.watermarks(ORDERS), (7, 7), "{what}");
        let producer = world.init("pay");
        assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None, "{what}");
        assert!(world.end(5, &producer, false).is_ok(), "{what}");
        assert_eq!(world.watermarks(ORDERS), (9, 9), "{what}");
    }
}

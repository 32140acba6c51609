//! What goes wrong with broker and disk, and when.

use std::time::Duration;

use crate::disk::Faults;
use crate::executor::Shared;
use crate::replay;
use crate::world::Phase;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// The broker is killed between two requests.
    Kill,
    /// The broker dies in the middle of a change to the disk, of whatever it is doing then.
    DieAmidWrite,
    /// The broker is stopped in order.
    Stop,
    /// The disk is full for a while.
    FullDisk,
    /// Reads, writes or syncs fail now and then for a while.
    FailingDisk,
    /// The wall clock jumps.
    ClockJump,
    /// Nothing: what the broker knows is compared with what its log says.
    Compare,
}

const ALL: [Trouble; 7] = [
    Trouble::Kill,
    Trouble::DieAmidWrite,
    Trouble::Stop,
    Trouble::FullDisk,
    Trouble::FailingDisk,
    Trouble::ClockJump,
    Trouble::Compare,
];

/// Makes trouble, of the kinds that belong to this world, until the storm ends.
pub async fn run(world: Shared) {
    // Worlds in which everything happens hide what needs many repetitions of one thing, so most have a few kinds.
    let (kinds, pause) = {
        let mut world = world.change();
        let count = world.random.within(1..4);
        let mut kinds: Vec<_> = (0..count).map(|_| world.random.pick(&ALL)).collect();
        kinds.push(Trouble::Compare);
        (kinds, world.random.pick(&[500, 2_000, 8_000]))
    };
    loop {
        world.sleep_within(pause / 4..pause).await;
        if world.look().phase > Phase::Storm {
            return;
        }
        let kind = world.pick(&kinds);
        match kind {
            Trouble::Kill => world.change().kill_broker(),
            Trouble::Stop => world.change().stop_broker(),
            Trouble::DieAmidWrite => {
                let mut world = world.change();
                let dies_after = Some(world.random.within(0..40));
                world.set_disk_faults(Faults { dies_after, ..Faults::default() });
            }
            Trouble::FullDisk => {
                let faults = {
                    let mut world = world.change();
                    let left = world.random.within(0..3_000);
                    Faults { capacity: Some(world.disk.used() + left), ..Faults::default() }
                };
                for_a_while(&world, faults).await;
            }
            Trouble::FailingDisk => {
                let faults = {
                    let mut world = world.change();
                    let rate = |world: &mut crate::world::World| world.random.pick(&[0, 3, 30]);
                    Faults {
                        failing_reads: rate(&mut world),
                        failing_writes: rate(&mut world),
                        failing_syncs: rate(&mut world),
                        ..Faults::default()
                    }
                };
                for_a_while(&world, faults).await;
                // A log that could not undo a failed write is offline until the broker starts again.
                if world.look().phase == Phase::Storm {
                    world.change().kill_broker();
                }
            }
            Trouble::ClockJump => {
                let mut world = world.change();
                // Not so far that a batch that was built before is refused for its timestamp.
                let skew = world.random.pick(&[-1_500_000, -1_000, 0, 1_000, 1_500_000]);
                world.set_wall_clock_skew(skew);
            }
            Trouble::Compare => replay::compare(&mut world.change()),
        }
    }
}

async fn for_a_while(world: &Shared, faults: Faults) {
    world.change().set_disk_faults(faults);
    let span = Duration::from_millis(world.within(100..6_000));
    world.sleep(span).await;
    world.change().set_disk_faults(Faults::default());
}

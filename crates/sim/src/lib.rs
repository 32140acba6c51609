//! The seeded world: the real broker, its clients, the network and the disk in one process and in virtual time.
//!
//! A seed decides everything that happens: which clients there are and what they do, which messages are late or lost,
//! when the broker dies and in the middle of which write, what the disk refuses. The same seed gives the same world.
//! While it lives, and once it has come to rest, the history of what clients did, were told and saw is held against
//! what exactly-once promises (see [`history::Property`]).
//!
//! The broker in here is `oncelog-node` as it is: nothing in it knows of the world. Bugs that the checks have to catch
//! are seeded from outside (see [`mutants`]).

pub mod audit;
pub mod broker;
pub mod chaos;
pub mod clients;
pub mod disk;
pub mod executor;
pub mod history;
pub mod life;
pub mod mutants;
pub mod network;
pub mod random;
pub mod replay;
pub mod trace;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use executor::Shared;
use history::{Property, Violation};
use mutants::Interposer;
use oncelog_log::Durability;
use world::World;

/// Which world to live through.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What decides everything.
    pub seed: u64,
    /// How many events the storm has.
    pub steps: u64,
    /// What the broker promises to survive: with `fsync` the power is cut, too.
    pub durability: Durability,
    /// Whether the trace goes to the standard output.
    pub is_printed: bool,
}

/// What came of a world.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The hash of all that happened.
    pub trace: u64,
    /// The last lines of what happened.
    pub tail: Vec<String>,
    /// The first claim that did not hold.
    pub violation: Option<Violation>,
    /// How many records were written, or tried to be.
    pub records: usize,
    /// How many transactions were begun.
    pub transactions: usize,
    /// How many answers clients got.
    pub answers: u64,
}

/// Lives through a world, with a bug in it if the interposer brings one along.
pub fn run(options: Options, interposer: Interposer) -> Outcome {
    let world = Shared::new(World::new(&options, interposer));
    world.spawn(life::run(world.clone()));
    let lived = catch_unwind(AssertUnwindSafe(|| executor::run(&world)));
    if lived.is_err() {
        let what = "a panic; see the standard error output".to_owned();
        world.change().history.violated(Property::NoPanics, what);
    }
    let world = world.look();
    Outcome {
        trace: world.trace.hash(),
        tail: world.trace.tail().map(str::to_owned).collect(),
        violation: world.history.violation().cloned(),
        records: world.history.records.len(),
        transactions: world.history.transactions.len(),
        answers: world.history.answers,
    }
}

//! A few worlds in every test run.

use oncelog_log::Durability;
use oncelog_sim::broker::FSYNC;
use oncelog_sim::{Options, run};

use crate::seeds;

fn live_through(seed: u64, durability: Durability) {
    let outcome = run(Options { seed, steps: 4_000, durability, is_printed: false }, Default::default());
    if let Some(violation) = outcome.violation {
        let tail = outcome.tail.join("\n");
        panic!("{tail}\nseed {seed}: {violation}");
    }
    assert!(outcome.answers > 100, "seed {seed}: {} answers", outcome.answers);
}

#[test]
fn what_is_promised_holds_in_every_world() {
    (1..=seeds(10)).for_each(|seed| live_through(seed, Durability::Os));
}

#[test]
fn what_is_promised_survives_power_cuts() {
    (1..=seeds(10)).for_each(|seed| live_through(seed, FSYNC));
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for (seed, durability) in [(1, Durability::Os), (2, Durability::Os), (147, Durability::Os), (3, FSYNC)] {
        let options = Options { seed, steps: 3_000, durability, is_printed: false };
        let [one, other] = [run(options, Default::default()), run(options, Default::default())];
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_ne!(one.trace, run(Options { seed: seed + 1, ..options }, Default::default()).trace);
    }
}

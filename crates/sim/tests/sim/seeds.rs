//! A few worlds in every test run.

use oncelog_log::Durability;
use oncelog_sim::{Options, run};

use crate::seeds;

#[test]
fn what_is_promised_holds_in_every_world() {
    for seed in 1..=seeds(12) {
        let outcome = run(
            Options { seed, steps: 4_000, durability: Durability::Os, is_printed: false },
            Default::default(),
        );
        if let Some(violation) = outcome.violation {
            let tail = outcome.tail.join("\n");
            panic!("{tail}\nseed {seed}: {violation}");
        }
        assert!(outcome.answers > 100, "seed {seed}: {} answers", outcome.answers);
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in [1, 2, 3, 147] {
        let options = Options { seed, steps: 3_000, durability: Durability::Os, is_printed: false };
        let [one, other] = [run(options, Default::default()), run(options, Default::default())];
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_ne!(one.trace, run(Options { seed: seed + 1, ..options }, Default::default()).trace);
    }
}

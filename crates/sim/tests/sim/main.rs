//! Tests of the whole crate: seeds, seeded bugs, and a broker on the lossy disk. `ONCELOG_SEEDS` makes them longer.
#![allow(clippy::unwrap_used)]

mod mutants;
mod power_cuts;
mod seeds;

/// How many seeds a test tries: as many as `ONCELOG_SEEDS` says, or few.
fn seeds(few: u64) -> u64 {
    std::env::var("ONCELOG_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(few)
}

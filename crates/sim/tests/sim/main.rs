//! Tests of the whole crate: seeds, seeded bugs, and logs on the lossy disk.

mod mutants;
mod power_cuts;
mod seeds;

//! Lives through worlds and says what did not hold.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use oncelog_log::Durability;
use oncelog_sim::broker::FSYNC;
use oncelog_sim::{Options, Outcome, run};

/// Runs the broker in seeded worlds, and checks what it promises.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many events the storm of each world has.
    #[arg(long, default_value_t = 5_000)]
    steps: u64,
    /// What the broker promises to survive: `os` (the death of the process) or `fsync` (a power cut, too).
    #[arg(long, default_value = "os", value_parser = durability)]
    durability: Durability,
    /// Prints all that happens.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let started = Instant::now();
    let (mut answers, mut transactions, mut records, mut failures) = (0, 0, 0, 0);
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        let options = Options {
            seed,
            steps: arguments.steps,
            durability: arguments.durability,
            is_printed: arguments.trace,
        };
        let outcome = run(options, Default::default());
        answers += outcome.answers;
        transactions += outcome.transactions;
        records += outcome.records;
        if arguments.seeds == 1 {
            println!("seed {seed}: trace {:016x}", outcome.trace);
        }
        if outcome.violation.is_some() {
            failures += 1;
            report(&options, &outcome);
        }
    }
    println!(
        "{} seeds of {} steps in {:.1} s: {answers} answers, {transactions} transactions, {records} records; \
         {failures} failed",
        arguments.seeds,
        arguments.steps,
        started.elapsed().as_secs_f64(),
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn durability(name: &str) -> Result<Durability, String> {
    match name {
        "os" => Ok(Durability::Os),
        "fsync" => Ok(FSYNC),
        _ => Err("expected os or fsync".to_owned()),
    }
}

fn report(options: &Options, outcome: &Outcome) {
    let Some(violation) = &outcome.violation else { return };
    if !options.is_printed {
        outcome.tail.iter().for_each(|line| println!("{line}"));
    }
    println!("seed {}, {} steps: {violation}", options.seed, options.steps);
    println!(
        "again: cargo run -p oncelog-sim --release -- --seed {} --steps {}",
        options.seed, options.steps
    );
}

//! Lives through worlds and says what did not hold.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clap::Parser;
use oncelog_log::Durability;
use oncelog_sim::broker::FSYNC;
use oncelog_sim::{Options, Outcome, run};
use parking_lot::Mutex;

/// How often it is said how far it has come.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Runs the broker in seeded worlds, and checks what it promises.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other on each core.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many events the storm of each world has.
    #[arg(long, default_value_t = 5_000)]
    steps: u64,
    /// What the broker promises to survive: `os` (the death of the process) or `fsync` (a power cut, too).
    #[arg(long, default_value = "os", value_parser = durability)]
    durability: Durability,
    /// How many seeds at a time; by default one for each core.
    #[arg(long)]
    threads: Option<usize>,
    /// Prints all that happens, of one seed at a time.
    #[arg(long)]
    trace: bool,
}

/// How far it has come.
struct Progress {
    next: u64,
    under_way: BTreeSet<u64>,
    done: u64,
    answers: u64,
    transactions: usize,
    records: usize,
    failures: u64,
    said: Instant,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let started = Instant::now();
    let progress = Mutex::new(Progress {
        next: arguments.seed,
        under_way: BTreeSet::new(),
        done: 0,
        answers: 0,
        transactions: 0,
        records: 0,
        failures: 0,
        said: started,
    });
    let cores = available_parallelism().map_or(1, NonZero::get);
    let threads = if arguments.trace { 1 } else { arguments.threads.unwrap_or(cores) };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(seed) = progress.lock().begin(&arguments) else { return };
                    let options = arguments.options(seed);
                    let outcome = run(options, Default::default());
                    progress.lock().end(&options, &arguments, outcome);
                }
            });
        }
    });
    let Progress { done, answers, transactions, records, failures, .. } = progress.into_inner();
    println!(
        "{done} seeds of {} steps, {}, in {:.1} s: {answers} answers, {transactions} transactions, {records} records; \
         {failures} failed",
        arguments.steps,
        name(arguments.durability),
        started.elapsed().as_secs_f64(),
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Arguments {
    fn options(&self, seed: u64) -> Options {
        Options { seed, steps: self.steps, durability: self.durability, is_printed: self.trace }
    }
}

impl Progress {
    /// The next seed, if there is one.
    fn begin(&mut self, arguments: &Arguments) -> Option<u64> {
        let seed = self.next;
        if seed - arguments.seed == arguments.seeds {
            return None;
        }
        self.next += 1;
        self.under_way.insert(seed);
        Some(seed)
    }

    fn end(&mut self, options: &Options, arguments: &Arguments, outcome: Outcome) {
        self.under_way.remove(&options.seed);
        self.done += 1;
        self.answers += outcome.answers;
        self.transactions += outcome.transactions;
        self.records += outcome.records;
        if arguments.seeds == 1 {
            println!("seed {}: trace {:016x}", options.seed, outcome.trace);
        }
        if outcome.violation.is_some() {
            self.failures += 1;
            report(options, &outcome);
        }
        if self.said.elapsed() >= REPORT_EVERY {
            self.said = Instant::now();
            let all_below = self.under_way.first().unwrap_or(&self.next);
            eprintln!(
                "{} of {} seeds, all below {all_below}; {} failed",
                self.done, arguments.seeds, self.failures
            );
        }
    }
}

fn durability(name: &str) -> Result<Durability, String> {
    match name {
        "os" => Ok(Durability::Os),
        "fsync" => Ok(FSYNC),
        _ => Err("expected os or fsync".to_owned()),
    }
}

fn name(durability: Durability) -> &'static str {
    if durability == Durability::Os { "os" } else { "fsync" }
}

fn report(options: &Options, outcome: &Outcome) {
    let Some(violation) = &outcome.violation else { return };
    if !options.is_printed {
        outcome.tail.iter().for_each(|line| println!("{line}"));
    }
    let Options { seed, steps, durability, .. } = options;
    println!("seed {seed}, {steps} steps: {violation}");
    println!(
        "again: cargo run -p oncelog-sim --release -- --seed {seed} --steps {steps} --durability {}",
        name(*durability)
    );
}

//! Kills the real broker again and again under real transactional clients, and holds what is there against what they
//! were told.
//!
//! ```text
//! cargo run --release -p oncelog-tests --features librdkafka --bin torture -- --cycles 100 --durability fsync
//! ```
//!
//! Broker and clients are processes of their own; the broker's data is on disk. One cycle is a `kill -9` of the broker at
//! a random moment, its recovery, and new transactions that are committed and copied after it. Between the crashes clients
//! are killed, paused, and replaced while they are paused, connections are cut, answers lost, the broker is paused,
//! stopped, killed while it recovers, or started in the other mode. Every so many cycles all clients come to their end
//! and the whole history is judged by the rules of `verdict.rs`.
//!
//! A seed gives the same faults again, but not at the same moments of what the processes do.

mod clients;
mod fleet;
mod history;
mod random;
mod reader;
mod verdict;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use world::{Outcome, World};

/// If no part of a run ends for so long, something hangs.
const HANGS_AFTER: Duration = Duration::from_secs(600);

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    arguments: Arguments,
}

#[derive(clap::Subcommand)]
enum Part {
    /// One of the clients: what a run starts.
    #[command(hide = true)]
    Client(clients::Role),
}

/// Tortures a broker.
#[derive(Clone, Debug, clap::Args)]
struct Arguments {
    /// How often the broker is killed.
    #[arg(long, default_value_t = 100)]
    cycles: u64,
    /// Goes on for so long, in place of a number of cycles.
    #[arg(long)]
    minutes: Option<u64>,
    /// What the broker promises to survive.
    #[arg(long, value_enum, default_value = "os")]
    durability: Durability,
    /// Chooses the faults. [default: another one each time]
    #[arg(long, default_value_t = seed(), hide_default_value = true)]
    seed: u64,
    /// After how many cycles all rests and is judged.
    #[arg(long, default_value_t = 25)]
    rest_after: u64,
    /// The broker's program. [default: `ONCELOG_BIN`, or `oncelog` beside this program]
    #[arg(long)]
    broker: Option<PathBuf>,
    /// Where to make the directory of the run. [default: that of temporary files]
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Durability {
    /// The death of the process.
    Os,
    /// A power cut, too.
    Fsync,
}

impl Durability {
    fn syncs(self) -> bool {
        self == Durability::Fsync
    }
}

impl Arguments {
    fn broker(&self) -> PathBuf {
        let named = self.broker.clone().or_else(|| std::env::var_os("ONCELOG_BIN").map(PathBuf::from));
        named.unwrap_or_else(|| std::env::current_exe().expect("this is a program").with_file_name("oncelog"))
    }
}

fn seed() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_micros() as u64 % 1_000_000)
}

fn main() -> ExitCode {
    let CommandLine { part, arguments } = CommandLine::parse();
    if let Some(Part::Client(role)) = part {
        role.play();
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let mode = arguments.durability.to_possible_value().expect("no mode is hidden");
    println!("torture in {} mode, seed {}", mode.get_name(), arguments.seed);
    let mut world = match World::new(&arguments) {
        Ok(world) => world,
        Err(error) => {
            eprintln!("torture: {error}");
            return ExitCode::from(2);
        }
    };
    let outcome = run(&mut world, &arguments, began);
    println!("{} in {:.0} s", world.summary(), began.elapsed().as_secs_f64());
    match outcome {
        Ok(()) => {
            println!("no faults");
            let _ = std::fs::remove_dir_all(world.directory());
            ExitCode::SUCCESS
        }
        Err(fault) => {
            println!("FAULT: {fault}");
            println!(
                "the data, the broker's log and the history are kept in {}",
                world.directory().display()
            );
            println!(
                "again: cargo run --release -p oncelog-tests --features librdkafka --bin torture -- \
                 --durability {} --seed {} --cycles {}",
                mode.get_name(),
                arguments.seed,
                arguments.cycles,
            );
            ExitCode::FAILURE
        }
    }
}

fn run(world: &mut World, arguments: &Arguments, began: Instant) -> Outcome {
    let parts = watch();
    let limit = arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    while limit.map_or(world.counts.cycles < arguments.cycles, |limit| began.elapsed() < limit) {
        let left = if limit.is_some() { u64::MAX } else { arguments.cycles - world.counts.cycles };
        world.live(left.min(arguments.rest_after))?;
        parts.fetch_add(1, Ordering::SeqCst);
        println!("{:5.0} s: {}", began.elapsed().as_secs_f64(), world.summary());
    }
    Ok(())
}

/// Ends the process where no part of the run ends any more.
fn watch() -> Arc<AtomicU64> {
    let parts = Arc::new(AtomicU64::new(0));
    let watched = parts.clone();
    std::thread::spawn(move || {
        let mut known = 0;
        loop {
            std::thread::sleep(HANGS_AFTER);
            let now = watched.load(Ordering::SeqCst);
            if now == known {
                println!("FAULT: nothing ended for {HANGS_AFTER:?}");
                std::process::exit(1);
            }
            known = now;
        }
    });
    parts
}

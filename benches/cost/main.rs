//! Does one thing so many times, for a tool that counts instructions: `cost transaction 1000`, `cost fetch 1000`.

use std::process::ExitCode;

use oncelog_benches::World;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.get(1).and_then(|count| count.parse::<u32>().ok());
    match (arguments.first().map(String::as_str), count) {
        (Some("transaction"), Some(count)) => transactions(count),
        (Some("fetch"), Some(count)) => fetches(count),
        _ => {
            eprintln!("usage: cost transaction|fetch COUNT");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One-record transactions of one producer.
fn transactions(count: u32) {
    let world = World::in_memory(1);
    let mut producer = world.init_producer();
    for _ in 0..count {
        world.commit_one(&mut producer, 1);
    }
}

/// Fetches of 10 KB out of transactions.
fn fetches(count: u32) {
    let world = World::in_memory(1);
    let mut producer = world.init_producer();
    for _ in 0..200 {
        world.commit_one(&mut producer, 1);
    }
    let frame = world.fetch_frame();
    for _ in 0..count {
        assert!(world.fetch(&frame) > 5_000);
    }
}

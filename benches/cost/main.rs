//! Does one thing so many times, for a tool that counts instructions: `cost transaction 1000`, `cost fetch 1000`;
//! with a further number on a node with so many partitions.

use std::process::ExitCode;

use oncelog_benches::World;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.get(1).and_then(|count| count.parse::<u32>().ok());
    let partitions = arguments.get(2).map_or(Some(1), |partitions| partitions.parse::<i32>().ok());
    match (arguments.first().map(String::as_str), count, partitions) {
        (Some("transaction"), Some(count), Some(partitions)) => transactions(count, partitions),
        (Some("fetch"), Some(count), Some(partitions)) => fetches(count, partitions),
        _ => {
            eprintln!("usage: cost transaction|fetch COUNT [PARTITIONS]");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One-record transactions of one producer.
fn transactions(count: u32, partitions: i32) {
    let world = World::in_memory(partitions);
    let mut producer = world.init_producer();
    for _ in 0..count {
        world.commit_one(&mut producer, 1);
    }
}

/// Fetches of 10 KB out of transactions.
fn fetches(count: u32, partitions: i32) {
    let world = World::in_memory(partitions);
    let mut producer = world.init_producer();
    for _ in 0..200 {
        world.commit_one(&mut producer, 1);
    }
    let frame = world.fetch_frame();
    for _ in 0..count {
        assert!(world.fetch(&frame) > 5_000);
    }
}

//! Puts many of one thing on a broker: `scale create|write|count|connect ADDRESS COUNT`; see scale/run.

use std::io::Read;
use std::time::{Duration, Instant};

use oncelog_client::{Client, Connection, Isolation, Producer, ProducerOptions, Result};
use oncelog_wire::{Request, Str, create_topics, metadata};

/// Partitions of a topic.
const PARTITIONS: i32 = 100;

/// How long all topics together may take to be created.
const CREATION_PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.get(2).and_then(|count| count.parse().ok());
    match (arguments.first().map(String::as_str), arguments.get(1), count) {
        (Some("create"), Some(address), Some(count)) => create(address, count),
        (Some("write"), Some(address), Some(count)) => write(address, count),
        (Some("count"), Some(address), Some(count)) => count_records(address, count),
        (Some("connect"), Some(address), Some(count)) => connect(address, count),
        _ => {
            eprintln!("usage: scale create|write|count|connect ADDRESS COUNT");
            std::process::exit(1);
        }
    }
}

fn topics(partitions: i32) -> impl Iterator<Item = String> {
    (0..partitions / PARTITIONS).map(|number| format!("scale-{number}"))
}

/// Creates so many partitions with one request; prints the seconds that took.
fn create(address: &str, count: i32) -> Result<()> {
    let topic = |name: String| create_topics::CreatableTopic {
        name: name.into(),
        num_partitions: PARTITIONS,
        replication_factor: -1,
        ..Default::default()
    };
    let request = create_topics::Request {
        topics: topics(count).map(topic).collect(),
        timeout_ms: CREATION_PATIENCE.as_millis() as i32,
        ..Default::default()
    };
    let mut client = Client::connect(address, "scale")?;
    client.connection().set_read_timeout(Some(CREATION_PATIENCE))?;
    let start = Instant::now();
    let answer = client.call(&request)?;
    let seconds = start.elapsed().as_secs_f64();
    let errors: Vec<_> = answer.topics.iter().filter(|topic| topic.error_code.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    println!("{seconds:.2}");
    Ok(())
}

/// Writes a record to each of the partitions.
fn write(address: &str, count: i32) -> Result<()> {
    let client = Client::connect(address, "scale")?;
    let mut producer = Producer::idempotent(client, ProducerOptions::default())?;
    let partitions: Vec<i32> = (0..PARTITIONS).collect();
    for topic in topics(count) {
        producer.send_batches(&topic, &partitions, |_, batch| {
            batch.push(oncelog_wire::Timestamp(0), None, Some(&[b'x'; 100]));
        })?;
    }
    Ok(())
}

/// Fails where a partition has not the one record that was written.
fn count_records(address: &str, count: i32) -> Result<()> {
    let mut client = Client::connect(address, "scale")?;
    for topic in topics(count) {
        for partition in 0..PARTITIONS {
            let end = client.end_offset(&topic, partition, Isolation::ReadCommitted)?;
            assert_eq!(end.0, 1, "{topic}-{partition}");
        }
    }
    Ok(())
}

/// Opens so many connections that do what clients do first, says so, and holds them until its input ends.
fn connect(address: &str, count: i32) -> Result<()> {
    let request = metadata::Request { topics: None, ..Default::default() };
    let version = *metadata::Request::VERSIONS.end();
    let mut connections = Vec::new();
    for number in 0..count {
        let mut connection = Connection::connect(address, &Str::from(format!("scale-{number}")))?;
        connection.api_versions()?;
        connection.call(&request, version)?;
        connections.push(connection);
    }
    println!("{}", connections.len());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

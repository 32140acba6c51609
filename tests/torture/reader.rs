//! The reader with our own client, and what it finds at the end. It goes on through all crashes.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use oncelog_client::{Client, ClientError, FetchedRecord, Isolation, Result, visible_records};
use oncelog_wire::{ErrorCode, Offset};

use crate::clients::GROUP;
use crate::fleet::{MIRROR, Shared, known};
use crate::history::{PARTITIONS, Place, READER, Step, Topic, Value, copies, places};
use crate::verdict::Contents;

const PATIENCE: Duration = Duration::from_secs(30);

/// Begins to read, and goes on until this process ends.
pub fn start(broker: SocketAddr, history: &Shared) {
    for work in [read, compare] {
        let history = history.clone();
        std::thread::spawn(move || {
            let mut positions: Positions = places().map(|place| (place, Offset(0))).collect();
            loop {
                let Ok(mut client) = Client::connect(broker, "reader") else {
                    sleep(Duration::from_millis(5));
                    continue;
                };
                client.set_retry_for(Duration::ZERO);
                loop {
                    match work(&mut client, &history, &mut positions) {
                        Ok(()) => sleep(Duration::from_millis(10)),
                        Err(ClientError::Io(_) | ClientError::Closed) => break,
                        Err(error) => judge(&history, &error),
                    }
                }
            }
        });
    }
}

type Positions = Vec<(Place, Offset)>;

/// Notes an error that says that something is not there any more, or is damaged; others pass.
fn judge(history: &Shared, error: &ClientError) {
    let passes = error.code().is_some_and(|code| code != ErrorCode::OffsetOutOfRange);
    if !passes {
        known(history, |history| history.faults.push(format!("a reader was told: {error}")));
    }
    sleep(Duration::from_millis(5));
}

/// Reads on in all partitions, and asks for their watermarks.
fn read(client: &mut Client, history: &Shared, positions: &mut Positions) -> Result<()> {
    for ((topic, partition), position) in positions {
        let (place, name) = ((*topic, *partition), topic.name());
        let stable = client.end_offset(name, *partition, Isolation::ReadCommitted)?.0;
        let high = client.end_offset(name, *partition, Isolation::ReadUncommitted)?.0;
        known(history, |history| history.watermarks(place, stable, high));
        if stable <= position.0 {
            continue;
        }
        let data = client.fetch(name, *partition, *position, Isolation::ReadCommitted, Duration::ZERO)?;
        if data.error_code.is_error() {
            return Err(ClientError::Refused { code: data.error_code, message: None });
        }
        let mut records = Vec::new();
        *position = visible_records(&data, Isolation::ReadCommitted, *position, &mut records)?;
        let seen = values(&records, place, history);
        known(history, |history| history.seen.entry((READER, place)).or_default().extend(seen));
    }
    Ok(())
}

/// Notes where a copy ends, and then which offset its group has committed.
fn compare(client: &mut Client, history: &Shared, _: &mut Positions) -> Result<()> {
    for place in copies() {
        let end = client.end_offset(place.0.name(), place.1, Isolation::ReadCommitted)?.0;
        let committed = client.committed_offset(group(place.0), Topic::Orders.name(), place.1)?;
        let committed = committed.map_or(0, |offset| offset.0);
        known(history, |history| history.steps.push(Step { place, end, committed }));
    }
    sleep(Duration::from_millis(90));
    Ok(())
}

fn group(copy: Topic) -> &'static str {
    if copy == Topic::Mirror { MIRROR } else { GROUP }
}

fn values(records: &[FetchedRecord], place: Place, history: &Shared) -> Vec<(i64, Value)> {
    let value = |record: &FetchedRecord| {
        let value = record.value_text().parse();
        if value.is_err() {
            let fault = format!("{place:?} has at {} a value that nobody wrote", record.offset.0);
            known(history, |history| history.faults.push(fault));
        }
        Some((record.offset.0, value.ok()?))
    };
    records.iter().filter_map(value).collect()
}

/// All that the broker holds.
pub fn contents(broker: SocketAddr, history: &Shared) -> Result<Contents> {
    let mut client = Client::connect_within(broker, "reader", PATIENCE)?;
    let mut contents = Contents::default();
    for place in places() {
        for (isolation, logs) in [
            (Isolation::ReadCommitted, &mut contents.committed),
            (Isolation::ReadUncommitted, &mut contents.all),
        ] {
            let records = client.fetch_all(place.0.name(), place.1, isolation)?;
            logs.insert(place, values(&records, place, history));
        }
    }
    for place in copies() {
        if let Some(offset) = client.committed_offset(group(place.0), Topic::Orders.name(), place.1)? {
            contents.offsets.insert(place, offset.0);
        }
    }
    Ok(contents)
}

/// Whether both copies are complete, as far as the groups' offsets tell.
pub fn is_copied(broker: SocketAddr) -> Result<bool> {
    let mut client = Client::connect_within(broker, "reader", PATIENCE)?;
    for partition in 0..PARTITIONS {
        let orders = client.fetch_all(Topic::Orders.name(), partition, Isolation::ReadCommitted)?;
        let Some(last) = orders.last() else { continue };
        for topic in Topic::COPIES {
            let committed = client.committed_offset(group(topic), Topic::Orders.name(), partition)?;
            if committed.is_none_or(|offset| offset <= last.offset) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

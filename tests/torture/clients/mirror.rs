//! The copier with our own client: it reads all partitions, and holds others with its transactional id off by that id
//! alone.

use std::time::Duration;

use oncelog_client::{Client, FetchedRecord, Isolation, visible_records};
use oncelog_wire::Offset;

use super::{Role, Stage, ours};
use crate::history::{PARTITIONS, Source, Topic, Value};

/// How many records go into one transaction at most, from each partition.
const BATCH: usize = 10;

/// Copies until it is over.
pub fn copy(role: &Role, stage: &Stage) {
    let mut producer = ours::producer(role, stage);
    let mut client = ours::client(role);
    let mut random = role.random();
    let orders = Topic::Orders.name();
    let mut positions = Vec::new();
    for partition in 0..PARTITIONS {
        let committed =
            ours::insist(&mut client, role, |client| client.committed_offset(&role.name, orders, partition));
        positions.push(committed.unwrap_or(Offset(0)));
    }
    for transaction in 0.. {
        if stage.is_over() {
            return;
        }
        let mut batches = Vec::new();
        for (partition, position) in (0..).zip(&mut positions) {
            let batch = fetch(&mut client, role, partition, *position);
            // What is not visible is behind us at once: it may be all there is in a segment.
            if batch.is_empty() {
                *position = batch.next;
            }
            batches.push(batch);
        }
        if batches.iter().all(Batch::is_empty) {
            continue;
        }
        stage.begins(transaction);
        producer.begin();
        for (partition, batch) in (0..).zip(&batches) {
            let Some(last) = batch.records.last() else { continue };
            for record in &batch.records {
                let place = (Topic::Mirror, partition);
                let value = stage.sends(place, Some(transaction), source_of(record));
                ours::send(&mut producer, role, stage, place, &value);
            }
            ours::persist(&mut producer, role, |producer| {
                producer.send_offset(&role.name, orders, partition, Offset(last.offset.0 + 1))
            });
        }
        let is_commit = !random.one_in(6);
        ours::end(&mut producer, role, stage, transaction, is_commit);
        for (position, batch) in positions.iter_mut().zip(&batches).filter(|_| is_commit) {
            *position = batch.next;
        }
    }
}

/// What was read of a partition, and where to go on once it is copied.
struct Batch {
    records: Vec<FetchedRecord>,
    next: Offset,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

fn fetch(client: &mut Client, role: &Role, partition: i32, position: Offset) -> Batch {
    ours::insist(client, role, |client| {
        let (isolation, wait) = (Isolation::ReadCommitted, Duration::from_millis(5));
        let data = client.fetch(Topic::Orders.name(), partition, position, isolation, wait)?;
        let mut records = Vec::new();
        let mut next = visible_records(&data, isolation, position, &mut records)?;
        if let Some(left) = records.get(BATCH) {
            next = left.offset;
            records.truncate(BATCH);
        }
        Ok(Batch { records, next })
    })
}

fn source_of(record: &FetchedRecord) -> Option<Source> {
    let order: Value = record.value_text().parse().ok()?;
    Some((order.id, record.offset.0))
}

//! The copier with our own client: it is given all partitions, and holds others with its transactional id off by that id alone.

use std::time::Duration;

use oncelog_client::{FetchedRecord, Isolation, visible_records};
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
        let batches: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let position = positions[partition as usize];
                ours::insist(&mut client, role, |client| {
                    let wait = Duration::from_millis(5);
                    let data = client.fetch(orders, partition, position, Isolation::ReadCommitted, wait)?;
                    let mut records = Vec::new();
                    visible_records(&data, Isolation::ReadCommitted, position, &mut records)?;
                    records.truncate(BATCH);
                    Ok(records)
                })
            })
            .collect();
        if batches.iter().all(Vec::is_empty) {
            continue;
        }
        stage.begins(transaction);
        producer.begin();
        for (partition, batch) in (0..).zip(&batches) {
            let Some(last) = batch.last() else { continue };
            for record in batch {
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
            *position = batch.last().map_or(*position, |last| Offset(last.offset.0 + 1));
        }
    }
}

fn source_of(record: &FetchedRecord) -> Option<Source> {
    let order: Value = record.value_text().parse().ok()?;
    Some((order.id, record.offset.0))
}

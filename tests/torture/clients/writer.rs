//! Those who write: one record after the other, or transactions over many partitions.

use std::sync::Arc;
use std::thread::sleep;

use rdkafka::producer::Producer as _;

use super::rdkafka::{end, enqueue, producer};
use super::{PATIENCE, Role, Stage, fail, ours};
use crate::history::{PARTITIONS, Place, Topic};
use crate::random::Random;

/// How many records may wait for their acknowledgement.
const IN_FLIGHT: i32 = 50;

/// Writes orders without transactions.
pub fn idempotent(role: &Role, stage: &Arc<Stage>) {
    let producer = producer(role, stage, false);
    let mut random = role.random();
    while !stage.is_over() {
        let place = (Topic::Orders, random.within(0..PARTITIONS as u64) as i32);
        enqueue(&producer, place, &stage.sends(place, None, None));
        loop {
            producer.poll(random.millis(1..20));
            if producer.in_flight_count() < IN_FLIGHT {
                break;
            }
        }
    }
    producer.flush(PATIENCE).unwrap_or_else(|error| fail(error));
}

/// Writes transactions with librdkafka.
pub fn transactional(role: &Role, stage: &Arc<Stage>) {
    let producer = producer(role, stage, true);
    let mut random = role.random();
    for transaction in 0.. {
        if stage.is_over() {
            return;
        }
        stage.begins(transaction);
        let begun = producer.begin_transaction();
        for place in script(&mut random) {
            enqueue(&producer, place, &stage.sends(place, Some(transaction), None));
            producer.poll(random.millis(0..2));
        }
        let ended = end(&producer, stage, transaction, begun, !random.one_in(6));
        ended.unwrap_or_else(|error| fail(error));
        sleep(random.millis(0..20));
    }
}

/// Writes transactions with our own client.
pub fn transactional_of_ours(role: &Role, stage: &Stage) {
    let mut producer = ours::producer(role, stage);
    let mut random = role.random();
    for transaction in 0.. {
        if stage.is_over() {
            return;
        }
        stage.begins(transaction);
        producer.begin();
        for place in script(&mut random) {
            let value = stage.sends(place, Some(transaction), None);
            ours::send(&mut producer, role, stage, place, &value);
        }
        ours::end(&mut producer, role, stage, transaction, !random.one_in(6));
        sleep(random.millis(0..20));
    }
}

/// Where the records of a transaction go.
fn script(random: &mut Random) -> Vec<Place> {
    let count = random.within(2..9);
    let place = |random: &mut Random| {
        (random.pick(&[Topic::Orders, Topic::Ledger]), random.within(0..PARTITIONS as u64) as i32)
    };
    (0..count).map(|_| place(random)).collect()
}

//! EndTxn: the state a transaction is in, against the end that is asked for, by the old and the new rules.

use oncelog_wire::{ProducerEpoch, ProducerId, describe_transactions, init_producer_id};

use super::transactions::{add_request, end, end_request, produce_in};
use super::{Producer, Topic, init_producer, topic};
use crate::compare::FOREIGN_PRODUCERS;
use crate::pair::{Both, Pair, Side};

const UNKNOWN: (ProducerId, ProducerEpoch) = (ProducerId(FOREIGN_PRODUCERS), ProducerEpoch(0));

fn shifted(producer: &Producer, epoch: i16) -> Producer {
    producer.map(|(id, producer_epoch)| (*id, ProducerEpoch(producer_epoch.0 + epoch)))
}

/// Waits until the reference has written all markers, which is when the state is a final one.
pub fn through(pair: &mut Pair, id: &str) {
    pair.ask_unless(&["PrepareCommit", "PrepareAbort"], "state", 0, |_| describe_transactions::Request {
        transactional_ids: vec![id.into()],
    });
}

/// Brings a transaction into a state: 0 empty, 1 ongoing, 2 committed, 3 aborted.
fn bring(pair: &mut Pair, id: &str, topic: &Topic, state: usize, version: i16) -> (Producer, Producer) {
    let producer = init_producer(pair, "a producer", Some(id));
    if state == 0 {
        return (producer, producer);
    }
    if version < 5 {
        pair.settle("added", 3, |side| add_request(id, producer[side], &[(&topic.name, 0)]));
    } else {
        produce_in(pair, "written", 12, Some(id), &producer, (topic, 0), 0);
    }
    if state == 1 {
        return (producer, producer);
    }
    let next = end(pair, "brought to its end", id, &producer, state == 2, version);
    settled(pair, id);
    (producer, next)
}

fn settled(pair: &mut Pair, id: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while std::time::Instant::now() < deadline {
        let answer = pair.ask("the state it is in", 0, |_| describe_transactions::Request {
            transactional_ids: vec![id.into()],
        });
        let is_final = |answer: &describe_transactions::Response| {
            answer.transaction_states.iter().all(|state| !state.transaction_state.starts_with("Prepare"))
        };
        if is_final(&answer.reference) && is_final(&answer.broker) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

const STATES: [&str; 4] = ["Empty", "Ongoing", "CompleteCommit", "CompleteAbort"];

fn rows(pair: &mut Pair, version: i16) {
    let topic = topic(pair, &format!("ends-{version}"), 1, &[]);
    for (state, name) in STATES.iter().enumerate() {
        for committed in [true, false] {
            let what = |what: &str| format!("{name}, {}, {what}", if committed { "commit" } else { "abort" });
            let id = pair.name(&format!("ends-{version}-{state}-{committed}"));
            let (before, now) = bring(pair, &id, &topic, state, version);
            let ask = |pair: &mut Pair, this: &str, producer: Producer| {
                pair.settle(&what(this), version, |side| end_request(&id, producer[side], committed))
            };
            ask(pair, "another id", Both::of(|_| UNKNOWN));
            ask(pair, "a much higher epoch", shifted(&now, 5));
            ask(pair, "a much lower epoch", shifted(&now, -5));
            ask(pair, "the next epoch", shifted(&now, 1));
            if version == 5 {
                ask(pair, "the epoch before", shifted(&now, -1));
            }
            ask(pair, "as it was", before);
            let answer = ask(pair, "as it is", now);
            settled(pair, &id);
            ask(pair, "again", now);
            settled(pair, &id);
            let next = Both::of(|side: Side| match answer[side].producer_id {
                ProducerId::NONE => now[side],
                producer_id => (producer_id, answer[side].producer_epoch),
            });
            ask(pair, "with what was answered", next);
            settled(pair, &id);
            pair.settle("a new start", 4, |_| init_producer_id::Request {
                transactional_id: Some(id.as_str().into()),
                transaction_timeout_ms: 60_000,
                ..Default::default()
            });
        }
    }
}

/// Every row of the table for versions up to 4, whose epochs stay.
pub fn old_rows(pair: &mut Pair) {
    for version in [1, 2, 4] {
        rows(pair, version);
    }
}

/// Every row of the table for version 5, which raises the epoch.
pub fn new_rows(pair: &mut Pair) {
    rows(pair, 5);
}

/// Faults that each version tells in its way, and both generations in turn.
pub fn versions(pair: &mut Pair) {
    let topic = topic(pair, "generations", 1, &[]);
    pair.ask_all("unknown id", |_| end_request("nobody", UNKNOWN, true));
    pair.ask_all("empty id", |_| end_request("", UNKNOWN, true));
    let id = pair.name("generations");
    let mut producer = init_producer(pair, "a producer", Some(&id));
    for (version, committed) in [(4, true), (5, true), (3, false), (5, false), (0, true), (5, true)] {
        if version < 5 {
            pair.settle("added", 3, |side| add_request(&id, producer[side], &[(&topic.name, 0)]));
        } else {
            produce_in(pair, "written", 13, Some(&id), &producer, (&topic, 0), 0);
        }
        producer = end(pair, &format!("end by {version}"), &id, &producer, committed, version);
        through(pair, &id);
    }
    for version in 0..=5 {
        pair.settle("a higher epoch", version, |side| end_request(&id, shifted(&producer, 3)[side], true));
        pair.settle("a lower epoch", version, |side| end_request(&id, shifted(&producer, -2)[side], true));
    }
    pair.ask("producers", 0, |_| super::transactions::producers_of(&topic.name, &[0]));
    timed_out(pair, &topic);
}

/// A transaction that the coordinator ends by itself.
fn timed_out(pair: &mut Pair, topic: &Topic) {
    for version in [4, 5] {
        let id = pair.name(&format!("late-{version}"));
        let producer = pair
            .settle("impatient", 4, |_| init_producer_id::Request {
                transactional_id: Some(id.as_str().into()),
                transaction_timeout_ms: 300,
                ..Default::default()
            })
            .map(|answer| (answer.producer_id, answer.producer_epoch));
        if version < 5 {
            pair.settle("added", 3, |side| add_request(&id, producer[side], &[(&topic.name, 0)]));
        }
        let produce_version = if version < 5 { 11 } else { 13 };
        let sequence = 0;
        produce_in(pair, "written", produce_version, Some(&id), &producer, (topic, 0), sequence);
        // The reference looks once a second.
        std::thread::sleep(std::time::Duration::from_millis(2500));
        through(pair, &id);
        for committed in [true, false] {
            pair.settle(&format!("too late, commit {committed}"), version, |side| {
                end_request(&id, producer[side], committed)
            });
        }
        produce_in(pair, "too late", produce_version, Some(&id), &producer, (topic, 0), 1);
        for timeout_version in [3, 4] {
            pair.settle("what it had", timeout_version, |side| init_producer_id::Request {
                transactional_id: Some(id.as_str().into()),
                transaction_timeout_ms: 60_000,
                producer_id: producer[side].0,
                producer_epoch: producer[side].1,
                ..Default::default()
            });
        }
    }
}

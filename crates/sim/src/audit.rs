//! The audit at the end of a world: all logs are read from their start, and what is in them is held against what
//! clients did, were told and saw.

use std::collections::{BTreeMap, BTreeSet};

use oncelog_client::{Isolation, visible_records};
use oncelog_log::Durability;
use oncelog_node::Node;
use oncelog_records::{EndTransactionMarker, MarkerKind, batches};
use oncelog_wire::{Now, Offset, ProducerId, Records, TopicPartition, describe_transactions, fetch};

use crate::broker;
use crate::clients::copier::{self, PIPELINES, Pipeline, committed_in};
use crate::clients::reader::check_contiguous;
use crate::history::{End, History, ORDERS, Pass, Property, RecordId, Violation, Written, record_id};
use crate::life::{TRANSACTIONAL_IDS, audited_places};
use crate::replay;
use crate::world::World;

/// What a log has in the end.
#[derive(Debug, Default)]
struct Truth {
    /// Where it begins.
    start: i64,
    /// Where it ends.
    end: i64,
    /// Its records, and whether they are in no transaction or in a committed one.
    records: Vec<(i64, RecordId, bool)>,
}

type Truths = BTreeMap<TopicPartition, Truth>;
type Verdict = Result<(), Violation>;

fn violation(property: Property, what: String) -> Verdict {
    Err(Violation { property, what })
}

/// Audits a world that has come to rest.
pub fn run(world: &mut World) {
    replay::compare(world);
    let Some(node) = world.node() else {
        return world.history.violated(Property::Progress, "the broker is gone".to_owned());
    };
    let may_lose = world.durability != Durability::Os;
    if let Err(Violation { property, what }) = audit(node, &world.history, may_lose, world.now()) {
        world.history.violated(property, what);
    }
    world.note(format_args!("audited: {:?}", world.history.violation().is_none()));
}

fn audit(node: &Node, history: &History, may_lose_uncommitted: bool, now: Now) -> Verdict {
    check_transactions_ended(node, now)?;
    let mut truths = Truths::new();
    for place in audited_places() {
        let truth = read(node, &place, now)?;
        check_order(history, &place, &truth)?;
        check_shown_to_newcomers(node, &place, &truth, now)?;
        truths.insert(place, truth);
    }
    check_acknowledged(history, &truths, may_lose_uncommitted)?;
    check_whole(history, &truths)?;
    for pass in &history.passes {
        check_pass(pass, &truths[&pass.place])?;
    }
    PIPELINES.iter().try_for_each(|pipeline| check_in_step(node, history, pipeline, &truths, now))
}

/// Nothing is left open.
fn check_transactions_ended(node: &Node, now: Now) -> Verdict {
    let transactional_ids = TRANSACTIONAL_IDS.iter().map(|id| (*id).into()).collect();
    let answer = broker::ask(node, 0, &describe_transactions::Request { transactional_ids }, now);
    for state in answer.unwrap_or_default().transaction_states {
        if state.transaction_state == "Ongoing" || state.transaction_state.starts_with("Prepare") {
            return violation(Property::Progress, format!("a transaction never ends: {state:?}"));
        }
    }
    for place in audited_places() {
        let ends = [0, 1].map(|isolation| replay::end_offset(node, &place, isolation, now));
        if ends[0] != ends[1] || !matches!(ends[0], Some(Ok(_))) {
            return violation(Property::Progress, format!("{place} is not all stable: {ends:?}"));
        }
    }
    Ok(())
}

/// One fetch past the network.
fn fetch(
    node: &Node,
    place: &TopicPartition,
    from: i64,
    isolation: Isolation,
    now: Now,
) -> Result<fetch::PartitionData, Violation> {
    let request = fetch::Request {
        max_bytes: 1 << 20,
        isolation_level: isolation.code(),
        session_epoch: -1,
        topics: vec![fetch::FetchTopic {
            topic: place.topic.clone(),
            partitions: vec![fetch::FetchPartition {
                partition: place.partition,
                fetch_offset: Offset(from),
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = broker::ask(node, 12, &request, now);
    let data = answer.and_then(|mut answer| answer.responses.pop()?.partitions.pop());
    data.ok_or_else(|| {
        let what = format!("a fetch of {place} at {from} is not answered");
        Violation { property: Property::SoundAnswers, what }
    })
}

/// Reads all of a log, and finds out by its markers what is committed.
fn read(node: &Node, place: &TopicPartition, now: Now) -> Result<Truth, Violation> {
    let mut truth = Truth::default();
    let mut open: BTreeMap<ProducerId, Vec<usize>> = BTreeMap::new();
    truth.start = replay::start_offset(node, place, now).unwrap_or(0);
    let mut position = truth.start;
    loop {
        let data = fetch(node, place, position, Isolation::ReadUncommitted, now)?;
        truth.end = data.high_watermark.0;
        let next = check_contiguous(&data, position, truth.end)
            .map_err(|(property, what)| Violation { property, what: format!("{place}: {what}") })?;
        if next == position {
            break;
        }
        let bytes = data.records.as_ref().and_then(Records::as_bytes).cloned().unwrap_or_default();
        for batch in batches(&bytes).flatten() {
            if batch.is_control() {
                let marker = EndTransactionMarker::parse(&batch).ok();
                let ended = open.remove(&batch.producer_id()).unwrap_or_default();
                let is_committed = marker.is_some_and(|marker| marker.kind == MarkerKind::Commit);
                ended.into_iter().for_each(|at| truth.records[at].2 = is_committed);
                continue;
            }
            let mut records = batch.records().ok();
            while let Some(Ok(Some(record))) = records.as_mut().map(|records| records.next_record()) {
                if record.offset.0 < truth.start {
                    continue;
                }
                if batch.is_transactional() {
                    open.entry(batch.producer_id()).or_default().push(truth.records.len());
                }
                let id = record.value.and_then(record_id).unwrap_or(RecordId::MAX);
                truth.records.push((record.offset.0, id, !batch.is_transactional()));
            }
        }
        position = next;
    }
    match open.is_empty() {
        true => Ok(truth),
        false => {
            let what = format!("{place} has open transactions: {open:?}");
            Err(Violation { property: Property::Progress, what })
        }
    }
}

/// What one producer wrote comes in the order it was written in, and once.
fn check_order(history: &History, place: &TopicPartition, truth: &Truth) -> Verdict {
    let mut last: BTreeMap<usize, (RecordId, i64)> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for (offset, id, _) in &truth.records {
        let Some(record) = history.records.get(*id) else {
            return violation(Property::StableOffsets, format!("{place} has at {offset} what nobody wrote"));
        };
        if record.written == Written::Plainly {
            continue;
        }
        if let Some(before) = seen.insert(*id, *offset) {
            let what = format!("record {id} is in {place} at {before} and at {offset}");
            return violation(Property::OnlyOnce, what);
        }
        let (before, at) = *last.get(&record.session).unwrap_or(&(0, -1));
        if before > *id {
            let what = format!("record {before} is in {place} at {at}, before record {id} at {offset}");
            return violation(Property::SequenceOrder, what);
        }
        last.insert(record.session, (*id, *offset));
    }
    Ok(())
}

/// A consumer that starts anywhere is shown what is committed from there on.
fn check_shown_to_newcomers(node: &Node, place: &TopicPartition, truth: &Truth, now: Now) -> Verdict {
    let step = ((truth.end - truth.start) / 7).max(1);
    for from in (truth.start..=truth.end).step_by(step as usize) {
        let mut pass = Pass { place: place.clone(), is_committed: true, from, to: from, shown: Vec::new() };
        while pass.to < truth.end {
            let data = fetch(node, place, pass.to, Isolation::ReadCommitted, now)?;
            let mut records = Vec::new();
            let next = visible_records(&data, Isolation::ReadCommitted, Offset(pass.to), &mut records);
            let next = next.map_or(-1, |next| next.0);
            if next <= pass.to {
                let what = format!("{place}: a reader that started at {from} is stuck at {}", pass.to);
                return violation(Property::Progress, what);
            }
            pass.to = next;
            let id = |value: &[u8]| record_id(value).unwrap_or(RecordId::MAX);
            let shown = records.iter().map(|r| (r.offset.0, id(r.value.as_deref().unwrap_or_default())));
            pass.shown.extend(shown);
        }
        check_pass(&pass, truth)?;
    }
    Ok(())
}

/// A reader was shown what there is to show, as far as it came, and nothing else.
fn check_pass(pass: &Pass, truth: &Truth) -> Verdict {
    let start = pass.from.max(truth.start);
    let expected = truth.records.iter().filter(|(offset, _, is_committed)| {
        (start..pass.to).contains(offset) && (*is_committed || !pass.is_committed)
    });
    let mut expected = expected.map(|(offset, id, _)| (*offset, *id));
    let mut shown = pass.shown.iter().copied().filter(|(offset, _)| *offset >= start);
    loop {
        let (wanted, found) = (expected.next(), shown.next());
        if wanted != found {
            let Pass { place, is_committed, from, to, .. } = pass;
            let what = format!(
                "{place}, committed {is_committed}, read from {from} to {to}: \
                 shown {found:?} instead of {wanted:?}"
            );
            return violation(Property::CompleteReads, what);
        }
        if wanted.is_none() {
            return Ok(());
        }
    }
}

/// What was acknowledged is where its writer was told. With fsync, that is said of what is in a transaction only once its
/// commit is acknowledged.
fn check_acknowledged(history: &History, truths: &Truths, may_lose_uncommitted: bool) -> Verdict {
    let at: BTreeMap<(&TopicPartition, i64), RecordId> = truths
        .iter()
        .flat_map(|(place, truth)| truth.records.iter().map(move |(offset, id, _)| ((place, *offset), *id)))
        .collect();
    for (id, record) in history.records.iter().enumerate() {
        let (Some(offset), Some(truth)) = (record.acknowledged, truths.get(&record.place)) else { continue };
        if let Written::In(transaction) = record.written
            && may_lose_uncommitted
            && history.transactions[transaction].end != End::Committed
        {
            continue;
        }
        if offset >= truth.start && at.get(&(&record.place, offset)) != Some(&id) {
            let found = at.get(&(&record.place, offset));
            let what =
                format!("record {id} was acknowledged at {} {offset}; there is {found:?}", record.place);
            return violation(Property::AcknowledgedIsKept, what);
        }
    }
    Ok(())
}

/// Of each transaction all is committed or nothing, as its producer was told.
fn check_whole(history: &History, truths: &Truths) -> Verdict {
    let committed: BTreeSet<RecordId> = truths
        .values()
        .flat_map(|truth| truth.records.iter().filter(|record| record.2).map(|record| record.1))
        .collect();
    for (number, transaction) in history.transactions.iter().enumerate() {
        let is_kept = |id: &&RecordId| {
            let record = &history.records[**id];
            let start = truths.get(&record.place).map(|truth| truth.start);
            // What is below the start of its log may have been deleted.
            start.is_some_and(|start| start == 0 || record.acknowledged.is_some_and(|at| at >= start))
        };
        let records: Vec<&RecordId> = transaction.records.iter().filter(is_kept).collect();
        let visible = records.iter().filter(|id| committed.contains(id)).count();
        let told = format!("transaction {number}: {visible} of {} records are committed", records.len());
        let told = format!("{told}, and its producer knows: {:?}", transaction.end);
        match transaction.end {
            _ if visible > 0 && visible < records.len() => {
                return violation(Property::WholeTransactions, told);
            }
            End::Committed if visible < records.len() => {
                return violation(Property::WholeTransactions, told);
            }
            End::Open | End::Aborted if visible > 0 => return violation(Property::NoAbortedRead, told),
            End::MayCommit if transaction.is_late && visible > 0 => {
                return violation(Property::FencedZombies, told);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The outputs of a pipeline are the copies of its inputs up to the committed offset, each once and in order.
fn check_in_step(node: &Node, history: &History, pipeline: &Pipeline, truths: &Truths, now: Now) -> Verdict {
    for (input, truth) in truths.iter().filter(|(place, _)| place.topic == ORDERS) {
        let request = copier::offset_fetch_request(pipeline.group, input);
        let answer = broker::ask(node, 8, &request, now).unwrap_or_default();
        let (code, committed) = committed_in(&answer);
        let fail = |what: String| {
            violation(Property::OffsetsInStep, format!("{} of {input}: {what}", pipeline.group))
        };
        if code.is_error() {
            return fail(format!("the committed offset is not known: {code}"));
        }
        let output = TopicPartition::new(pipeline.output, input.partition);
        let copied = truths[&output].records.iter().filter(|record| record.2);
        let mut copied = copied.filter_map(|(_, id, _)| history.records.get(*id)?.source);
        let wanted = truth.records.iter().filter(|record| record.2).map(|record| record.0);
        for offset in wanted.clone().filter(|offset| *offset < committed) {
            let copy = copied.next();
            if copy != Some((input.partition, offset)) {
                return fail(format!("the copy of {offset} was due, and {copy:?} is there"));
            }
        }
        if let Some(copy) = copied.next() {
            return fail(format!("there is a copy of {copy:?}, and the committed offset is {committed}"));
        }
        // In some worlds nobody is a member.
        let nobody_copies = committed < 0;
        let left = wanted.clone().find(|offset| *offset >= committed);
        if let Some(left) = left.filter(|_| !nobody_copies) {
            let what = format!("{input}: {left} was never copied");
            return violation(Property::Progress, what);
        }
    }
    Ok(())
}

//! Transactions that do not add up.

use oncelog_client::TransactionVersion;
use oncelog_inspect::Severity::{Fault, Note};
use oncelog_records::{BatchBuilder, EndTransactionMarker, MarkerKind};
use oncelog_wire::{ProducerEpoch, ProducerId, Timestamp};

use crate::world::{Data, connect, first_segment, placed, transactional};

const REFUNDS: &str = "refunds-0/00000000000000000000.log";

/// The newest transaction in `refunds`: its producer, and the epoch of its marker.
fn last_producer(data: &Data) -> (ProducerId, ProducerEpoch) {
    let last = data.batches(REFUNDS).pop().unwrap().header;
    assert!(last.is_control());
    (last.producer_id(), last.producer_epoch())
}

fn batch(id: ProducerId, epoch: ProducerEpoch, sequence: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new().producer(id, epoch, sequence).transactional();
    builder.push(Timestamp(5), Some(b"k"), Some(b"v"));
    builder.build().to_vec()
}

fn marker(id: ProducerId, epoch: ProducerEpoch, kind: MarkerKind) -> Vec<u8> {
    EndTransactionMarker { kind, coordinator_epoch: 0 }.build(id, epoch, Timestamp(9)).to_vec()
}

#[test]
fn a_transaction_whose_marker_is_gone_hangs() {
    let data = Data::sound();
    let batches = data.batches(REFUNDS);
    let [.., first, last] = &batches[..] else { panic!("a batch and its marker") };
    data.edit(REFUNDS, |content| content.truncate(last.position));
    let checked = data.check();
    let offset = first.header.base_offset().0;
    checked.has(Fault, REFUNDS, Some(offset), "'new' is in CompleteCommit");
    checked.has(Fault, REFUNDS, Some(offset), "hanging transaction of producer");
    checked.has(Fault, "refunds-0", Some(offset + 1), "its commit marker is not here");
}

#[test]
fn data_after_the_end_of_its_transaction_is_found() {
    let data = Data::sound();
    let (id, epoch) = last_producer(&data);
    let late = data.append(REFUNDS, &batch(id, ProducerEpoch(epoch.0 - 1), 1));
    let checked = data.check();
    checked.has(Fault, REFUNDS, Some(late.0), "a fenced producer, or one whose transaction had ended");
    checked.has(Fault, REFUNDS, Some(late.0), "hanging transaction");
}

#[test]
fn a_transaction_of_a_producer_that_nobody_knows_hangs() {
    let data = Data::sound();
    let stranger = data.append(REFUNDS, &batch(ProducerId(999), ProducerEpoch(0), 0));
    data.check().faults(1).has(Fault, REFUNDS, Some(stranger.0), "no coordinator knows of the producer");
    let data = Data::sound();
    let stranger = data.append(REFUNDS, &batch(ProducerId(123_456), ProducerEpoch(0), 0));
    data.check().has(Fault, REFUNDS, Some(stranger.0), "was never handed out");
}

#[test]
fn a_marker_that_nobody_decided_on_is_found() {
    let data = Data::sound();
    let (id, epoch) = last_producer(&data);
    data.append(REFUNDS, &batch(id, epoch, 0));
    let offset = data.append(REFUNDS, &marker(id, epoch.next(), MarkerKind::Commit));
    data.check().faults(1).has(Fault, REFUNDS, Some(offset.0), "no coordinator has prepared to commit");

    let data = Data::sound();
    data.append(REFUNDS, &batch(id, epoch, 0));
    let offset = data.append(REFUNDS, &marker(id, epoch.next(), MarkerKind::Abort));
    let checked = data.check();
    checked.has(Note, REFUNDS, Some(offset.0), "somebody has aborted a hanging transaction by hand");
    let index = "refunds-0/00000000000000000000.txnindex";
    checked.faults(1).has(Fault, index, Some(offset.0), "is not in the index");
}

#[test]
fn a_torn_transaction_is_found() {
    let data = Data::sound();
    let last = data.batches(REFUNDS).pop().unwrap();
    let (id, epoch) = last_producer(&data);
    let other = placed(
        &marker(id, epoch, MarkerKind::Abort),
        last.header.base_offset(),
        last.header.partition_leader_epoch(),
    );
    data.edit(REFUNDS, |content| {
        content.truncate(last.position);
        content.extend(other);
    });
    let offset = Some(last.header.base_offset().0);
    data.check().has(Fault, REFUNDS, offset, "the coordinator decided to commit: the transaction is torn");
}

#[test]
fn a_missing_marker_in_the_middle_is_found() {
    let data = Data::sound();
    let batches = data.batches(REFUNDS);
    // The transactions of the newer protocol have an epoch each.
    let (new, _) = last_producer(&data);
    let at = batches.iter().position(|found| found.header.is_control() && found.header.producer_id() == new);
    let gone = &batches[at.unwrap()];
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(5), None, Some(b"in its place"));
    let instead = placed(&builder.build(), gone.header.base_offset(), gone.header.partition_leader_epoch());
    data.edit(REFUNDS, |content| {
        content.splice(gone.position..gone.position + gone.bytes.len(), instead);
    });
    let next = batches.iter().find(|found| {
        found.position > gone.position && found.header.producer_id() == new && !found.header.is_control()
    });
    let offset = Some(next.unwrap().header.base_offset().0);
    data.check().has(Fault, REFUNDS, offset, "has no marker: its outcome is lost");
}

#[test]
fn sequences_that_do_not_follow_are_found() {
    let data = Data::sound();
    let orders = first_segment("orders-1");
    let batches = data.batches(&orders);
    let idempotent = batches[4].header;
    assert_eq!(idempotent.last_sequence(), 4);
    let numbered = |sequence| {
        let mut builder =
            BatchBuilder::new().producer(idempotent.producer_id(), idempotent.producer_epoch(), sequence);
        builder.push(Timestamp(5), Some(b"k"), Some(b"v"));
        builder.build()
    };
    let twice = data.append(&orders, &numbered(4));
    let gap = data.append(&orders, &numbered(9));
    let checked = data.check();
    checked.faults(2).has(Fault, &orders, Some(twice.0), "sequence 4 of producer");
    checked.has(Fault, &orders, Some(gap.0), "where 5 should follow: batches are missing");
}

#[test]
fn the_transaction_index_is_held_against_the_log() {
    let index = "orders-1/00000000000000000000.txnindex";
    let data = Data::sound();
    assert_eq!(data.read(index).len(), 4 * 34);
    data.edit(index, |content| {
        content.drain(34..68);
    });
    let checked = data.check();
    let marker = checked.findings[0].offset.map(|offset| offset.0);
    checked.faults(1).has(Fault, index, marker, "is not in the index: read_committed readers are given");

    let data = Data::sound();
    data.edit(index, |content| content[34 + 33] ^= 1);
    data.check().faults(1).has(Fault, index, marker, "the entry has producer");

    let data = Data::sound();
    data.edit(index, |content| {
        let mut extra = content[..34].to_vec();
        extra[25] += 1;
        content.splice(34..34, extra);
    });
    data.check().has(Fault, index, marker_of_second(&data, index), "that was not aborted there");
}

/// The offset of the marker in the second entry.
fn marker_of_second(data: &Data, index: &str) -> Option<i64> {
    let content = data.read(index);
    Some(i64::from_be_bytes(content[34 + 18..34 + 26].try_into().unwrap()))
}

#[test]
fn what_is_decided_and_not_complete_is_noted() {
    let data = Data::killed(|broker| {
        let mut client = connect(broker);
        client.create_topic("refunds", 1).unwrap();
        let mut producer = transactional(broker, "t", TransactionVersion::V2);
        producer.begin();
        producer.send("refunds", 0, "k", "v").unwrap();
        producer.commit().unwrap();
    });
    // As if the broker had died between Prepare and the marker.
    let state = (0..2).map(|at| first_segment(&format!("__transaction_state-{at}")));
    let state = state.into_iter().find(|name| data.file(name).exists()).unwrap();
    let complete = data.batches(&state).pop().unwrap();
    data.edit(&state, |content| content.truncate(complete.position));
    let marker = data.batches(REFUNDS).pop().unwrap();
    data.edit(REFUNDS, |content| content.truncate(marker.position));
    let checked = data.check();
    let prepared = complete.header.base_offset().0 - 1;
    let log = state.split('/').next().unwrap();
    checked.faults(0).has(
        Note,
        log,
        Some(prepared),
        "'t' is in PrepareCommit: the next start writes the markers",
    );
    checked.has(Note, REFUNDS, Some(0), "'t' is in PrepareCommit: the next start writes the marker");
}

#[test]
fn steps_that_no_transaction_takes_are_found() {
    let data = Data::sound();
    let state = (0..2).map(|at| first_segment(&format!("__transaction_state-{at}")));
    let state = state.into_iter().find(|name| data.file(name).exists()).unwrap();
    // The first record again: from some Complete to Empty, with an epoch of the past.
    let again = data.batches(&state)[0].bytes.clone();
    let offset = data.append(&state, &again);
    data.check().has(Fault, &state, Some(offset.0), "goes back from epoch");
}

#[test]
fn records_in_the_wrong_partition_are_found() {
    let data = Data::sound();
    let name = |partition| first_segment(&format!("__transaction_state-{partition}"));
    // Each of the two ids has a partition of its own.
    let moved = data.batches(&name(0)).pop().unwrap().bytes;
    let offset = data.append(&name(1), &moved);
    data.check().has(Fault, &name(1), Some(offset.0), "'new' belongs to partition 0");
}

//! The rules for idempotent producers: which batches are taken, which are known already, which are refused.

use oncelog_log::{LogConfig, Origin, Verification};
use oncelog_records::{BatchView, MarkerKind};
use oncelog_wire::ErrorCode;

use crate::world::{World, marker, sequenced};

use ErrorCode::{
    InvalidProducerEpoch, InvalidTxnState, None as Taken, OutOfOrderSequenceNumber,
    TransactionCoordinatorFenced,
};

const PRODUCER: i64 = 9;

/// What became of a batch: the code, and the base offset where it is in the log.
type Outcome = (ErrorCode, i64);

fn world() -> World {
    World::in_memory(LogConfig::default())
}

fn send(world: &mut World, epoch: i16, sequence: i32, count: usize) -> Outcome {
    send_as(world, epoch, sequence, count, false, Verification::None)
}

fn send_as(
    world: &mut World,
    epoch: i16,
    sequence: i32,
    count: usize,
    in_txn: bool,
    verification: Verification,
) -> Outcome {
    let batch = sequenced(PRODUCER, epoch, sequence, count, in_txn, world.now);
    let before = world.log().log_end_offset();
    let outcome = match world.append_batch(&batch, verification) {
        Ok(appended) => {
            assert_eq!(appended.is_duplicate, world.log().log_end_offset() == before);
            (Taken, appended.base_offset.0)
        }
        Err(error) => (error.code(), -1),
    };
    if outcome.0 != Taken {
        assert_eq!(world.log().log_end_offset(), before, "a refused batch leaves no trace");
    }
    outcome
}

fn end(world: &mut World, epoch: i16, coordinator_epoch: i32, transaction_version: i16) -> ErrorCode {
    let marker = oncelog_log::Marker {
        coordinator_epoch,
        transaction_version,
        ..marker(PRODUCER, epoch, MarkerKind::Abort)
    };
    let now = world.now();
    match world.log().append_marker(&marker, now) {
        Ok(_) => Taken,
        Err(error) => error.code(),
    }
}

#[test]
fn sequence_numbers_must_follow_one_another() {
    let mut world = world();
    assert_eq!(send(&mut world, 0, 0, 3), (Taken, 0));
    assert_eq!(send(&mut world, 0, 4, 1), (OutOfOrderSequenceNumber, -1));
    assert_eq!(send(&mut world, 0, 2, 1), (OutOfOrderSequenceNumber, -1));
    assert_eq!(send(&mut world, 0, 3, 2), (Taken, 3));
    assert_eq!(
        send(&mut world, 0, 0, 1),
        (OutOfOrderSequenceNumber, -1),
        "a part of a batch is no duplicate"
    );
}

#[test]
fn the_last_five_batches_are_known_when_they_come_again() {
    let mut world = world();
    for sequence in 0..7 {
        assert_eq!(send(&mut world, 0, sequence, 1), (Taken, i64::from(sequence)));
    }
    for sequence in 2..7 {
        assert_eq!(send(&mut world, 0, sequence, 1), (Taken, i64::from(sequence)));
    }
    for sequence in 0..2 {
        assert_eq!(send(&mut world, 0, sequence, 1), (OutOfOrderSequenceNumber, -1));
    }
    assert_eq!(send(&mut world, 0, 7, 1), (Taken, 7));
}

#[test]
fn sequence_numbers_wrap_from_the_largest_to_zero() {
    let mut world = world();
    assert_eq!(send(&mut world, 0, i32::MAX - 2, 2), (Taken, 0));
    assert_eq!(send(&mut world, 0, i32::MAX, 1), (Taken, 2));
    assert_eq!(send(&mut world, 0, 0, 1), (Taken, 3));
    assert_eq!(send(&mut world, 0, i32::MAX, 1), (Taken, 2), "a duplicate across the wrap");
    let mut world = self::world();
    assert_eq!(send(&mut world, 0, i32::MAX - 1, 5), (Taken, 0), "wraps within the batch");
    assert_eq!(send(&mut world, 0, i32::MAX - 1, 5), (Taken, 0));
    assert_eq!(send(&mut world, 0, 4, 1), (OutOfOrderSequenceNumber, -1));
    assert_eq!(send(&mut world, 0, 3, 1), (Taken, 5));
}

#[test]
fn a_producer_nobody_knows_may_start_anywhere() {
    let mut world = world();
    assert_eq!(send(&mut world, 3, 42, 1), (Taken, 0));
    assert_eq!(send(&mut world, 3, 43, 1), (Taken, 1));
}

#[test]
fn a_new_epoch_starts_at_zero_and_fences_the_old() {
    let mut world = world();
    assert_eq!(send(&mut world, 1, 0, 2), (Taken, 0));
    assert_eq!(send(&mut world, 2, 2, 1), (OutOfOrderSequenceNumber, -1));
    assert_eq!(send(&mut world, 2, 0, 1), (Taken, 2));
    assert_eq!(send(&mut world, 1, 2, 1), (InvalidProducerEpoch, -1));
    assert_eq!(send(&mut world, 1, 0, 2), (InvalidProducerEpoch, -1), "not even a duplicate");
}

#[test]
fn a_duplicate_is_known_before_anything_else_is_checked() {
    let mut world = world();
    let begins = Verification::Begins;
    assert_eq!(send_as(&mut world, 0, 0, 1, true, begins), (Taken, 0));
    assert_eq!(end(&mut world, 0, 0, 0), Taken);
    // The transaction is over and nothing is verified, but the batch is here.
    assert_eq!(send_as(&mut world, 0, 0, 1, true, Verification::None), (Taken, 0));
}

#[test]
fn a_transactional_batch_needs_a_transaction() {
    let mut world = world();
    assert_eq!(send_as(&mut world, 0, 0, 1, true, Verification::None), (InvalidTxnState, -1));
    assert_eq!(send_as(&mut world, 0, 0, 1, true, Verification::Verified), (Taken, 0));
    assert_eq!(send_as(&mut world, 0, 1, 1, true, Verification::None), (Taken, 1), "it is open now");
    assert_eq!(send(&mut world, 0, 2, 1), (InvalidTxnState, -1), "and takes nothing from outside");
    assert_eq!(end(&mut world, 0, 0, 0), Taken);
    assert_eq!(send_as(&mut world, 0, 2, 1, true, Verification::None), (InvalidTxnState, -1));
    assert_eq!(send(&mut world, 0, 2, 1), (Taken, 3));
}

#[test]
fn a_fenced_epoch_shows_before_a_missing_transaction() {
    let mut world = world();
    assert_eq!(send_as(&mut world, 5, 0, 1, true, Verification::Verified), (Taken, 0));
    assert_eq!(send_as(&mut world, 4, 0, 1, true, Verification::None), (InvalidProducerEpoch, -1));
}

#[test]
fn the_first_batch_of_a_version_2_transaction_has_sequence_zero() {
    let mut world = world();
    let begins = Verification::Begins;
    assert_eq!(
        send_as(&mut world, 0, 1, 1, true, begins),
        (OutOfOrderSequenceNumber, -1),
        "nothing is known"
    );
    assert_eq!(send_as(&mut world, 0, 0, 1, true, begins), (Taken, 0));
    assert_eq!(end(&mut world, 1, 0, 2), Taken);
    assert_eq!(send_as(&mut world, 1, 1, 1, true, begins), (OutOfOrderSequenceNumber, -1), "after the bump");
    assert_eq!(send_as(&mut world, 1, 0, 1, true, begins), (Taken, 2));
}

#[test]
fn sequences_run_on_over_a_marker_that_keeps_the_epoch_and_start_anew_after_one_that_bumps_it() {
    let mut world = world();
    assert_eq!(send_as(&mut world, 0, 0, 2, true, Verification::Verified), (Taken, 0));
    assert_eq!(end(&mut world, 0, 0, 0), Taken);
    assert_eq!(send_as(&mut world, 0, 0, 1, true, Verification::Verified), (OutOfOrderSequenceNumber, -1));
    assert_eq!(send_as(&mut world, 0, 2, 1, true, Verification::Verified), (Taken, 3));
    assert_eq!(end(&mut world, 1, 0, 0), Taken);
    assert_eq!(send_as(&mut world, 1, 3, 1, true, Verification::Verified), (OutOfOrderSequenceNumber, -1));
    assert_eq!(send_as(&mut world, 1, 0, 1, true, Verification::Verified), (Taken, 5));
}

#[test]
fn markers_are_fenced_by_epoch_and_by_coordinator() {
    let mut world = world();
    assert_eq!(send_as(&mut world, 4, 0, 1, true, Verification::Verified), (Taken, 0));
    assert_eq!(end(&mut world, 3, 7, 0), InvalidProducerEpoch);
    assert_eq!(end(&mut world, 3, 7, 2), InvalidProducerEpoch);
    assert_eq!(end(&mut world, 4, 7, 2), InvalidProducerEpoch, "version 2 has to bump");
    assert_eq!(end(&mut world, 5, 7, 2), Taken);
    assert_eq!(end(&mut world, 5, 7, 2), Taken, "a retry does no harm");
    assert_eq!(end(&mut world, 5, 6, 0), TransactionCoordinatorFenced);
    assert_eq!(end(&mut world, 5, 7, 0), Taken);
    assert_eq!(end(&mut world, 6, 8, 0), Taken);
    assert_eq!(send(&mut world, 5, 0, 1), (InvalidProducerEpoch, -1), "a marker alone fences");
}

#[test]
fn a_marker_for_an_unknown_producer_fences_its_older_epochs() {
    let mut world = world();
    assert_eq!(end(&mut world, 3, 0, 0), Taken);
    assert_eq!(send(&mut world, 2, 0, 1), (InvalidProducerEpoch, -1));
    assert_eq!(send(&mut world, 3, 5, 1), (OutOfOrderSequenceNumber, -1));
    assert_eq!(send(&mut world, 3, 0, 1), (Taken, 1));
}

#[test]
fn the_coordinator_writes_without_sequence_numbers() {
    let mut world = world();
    let now = world.now();
    for _ in 0..3 {
        let batch = sequenced(PRODUCER, 2, -1, 1, true, now.wall.0);
        world.log().append(&BatchView::parse(&batch).unwrap(), Origin::Coordinator, now).unwrap();
    }
    let stale = sequenced(PRODUCER, 1, -1, 1, true, now.wall.0);
    let error = world.log().append(&BatchView::parse(&stale).unwrap(), Origin::Coordinator, now).unwrap_err();
    assert_eq!(error.code(), InvalidProducerEpoch);
    assert_eq!(world.log().log_end_offset().0, 3);
}

#[test]
fn a_restart_knows_the_last_batch_and_a_crash_those_of_the_tail() {
    let mut world = world();
    for sequence in 0..6 {
        send(&mut world, 0, sequence, 1);
    }
    world.crash();
    for sequence in 1..6 {
        assert_eq!(send(&mut world, 0, sequence, 1), (Taken, i64::from(sequence)), "replayed from the log");
    }
    world.restart();
    assert_eq!(send(&mut world, 0, 5, 1), (Taken, 5));
    assert_eq!(send(&mut world, 0, 6, 1), (Taken, 6));
}

#[test]
fn silent_producers_are_forgotten_but_not_those_with_an_open_transaction() {
    let mut world = world();
    let expiration = LogConfig::default().producer_id_expiration_ms;
    send(&mut world, 0, 0, 1);
    world.transactional(77, 0, 0);
    world.now += expiration - 1;
    let now = world.now();
    world.log().maintain(now).unwrap().remove().unwrap();
    assert_eq!(world.log().producers().count(), 2);
    world.now += 1;
    let now = world.now();
    world.log().maintain(now).unwrap().remove().unwrap();
    let left: Vec<i64> = world.log().producers().map(|producer| producer.producer_id.0).collect();
    assert_eq!(left, [77]);
    assert_eq!(send(&mut world, 0, 123, 1), (Taken, 2), "it may start anywhere again");
}

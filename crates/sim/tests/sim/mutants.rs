//! Bugs of each kind are seeded, and have to be caught.

use oncelog_log::Durability;
use oncelog_sim::broker::FSYNC;
use oncelog_sim::history::Property::{self, *};
use oncelog_sim::mutants::{Interposer, Mutant};
use oncelog_sim::{Options, run};

/// In how many worlds a bug may hide, or show as something else.
const SEEDS: u64 = 60;

/// Some world shows the bug as one of these.
fn assert_caught(mutant: Mutant, expected: &[Property]) {
    let durability = if mutant == Mutant::AckBeforeSync { FSYNC } else { Durability::Os };
    let mut found = Vec::new();
    for seed in 1..=SEEDS {
        let options = Options { seed, steps: 4_000, durability, is_printed: false };
        let Some(violation) = run(options, Interposer::new(Some(mutant))).violation else { continue };
        if expected.contains(&violation.property) {
            return println!("{mutant:?} is caught in seed {seed}: {violation}");
        }
        found.push(violation.property);
    }
    panic!("{mutant:?} is caught as {found:?}");
}

#[test]
fn a_lost_write_is_caught() {
    assert_caught(Mutant::AckWithoutWrite, &[AcknowledgedIsKept, WholeTransactions]);
    assert_caught(Mutant::AckBeforeWrite, &[AcknowledgedIsKept, StableOffsets, Watermarks, CompleteReads]);
}

#[test]
fn an_answer_before_the_sync_is_caught() {
    assert_caught(
        Mutant::AckBeforeSync,
        &[AcknowledgedIsKept, StableOffsets, Watermarks, WholeTransactions, OffsetsInStep],
    );
}

#[test]
fn dropped_deduplication_is_caught() {
    assert_caught(Mutant::NoDeduplication, &[OnlyOnce]);
}

#[test]
fn a_wrong_order_is_caught() {
    assert_caught(Mutant::WrongOrder, &[SequenceOrder]);
}

#[test]
fn hidden_aborts_are_caught() {
    assert_caught(Mutant::HiddenAborts, &[NoAbortedRead]);
}

#[test]
fn reads_of_open_transactions_are_caught() {
    assert_caught(Mutant::NoLastStableOffset, &[NoIntermediateRead, NoAbortedRead]);
    assert_caught(Mutant::LastStableOffByOne, &[Watermarks]);
}

#[test]
fn a_gap_between_polls_is_caught() {
    assert_caught(Mutant::SkippedBatch, &[ContiguousPolls]);
}

#[test]
fn a_marker_before_its_prepare_is_caught() {
    assert_caught(Mutant::MarkerBeforePrepare, &[WholeTransactions]);
}

#[test]
fn a_forgotten_commit_is_caught() {
    assert_caught(Mutant::ForgottenCommit, &[WholeTransactions, OffsetsInStep]);
}

#[test]
fn offsets_that_do_not_belong_to_the_transaction_are_caught() {
    assert_caught(Mutant::EagerOffsets, &[OffsetsInStep, Progress]);
    assert_caught(Mutant::ForgottenOffsets, &[OffsetsInStep]);
}

#[test]
fn a_forgotten_commit_of_offsets_is_caught() {
    assert_caught(Mutant::ForgottenOffsetCommit, &[CommittedOffsets]);
}

#[test]
fn a_zombie_that_is_not_fenced_is_caught() {
    // Or one that the coordinator has fenced for being late: it has nothing to commit any more.
    assert_caught(Mutant::NoFencing, &[FencedZombies, WholeTransactions]);
}

#[test]
fn deadlines_that_pass_unheeded_are_caught() {
    assert_caught(Mutant::NoTimers, &[Progress]);
}

#[test]
fn a_replay_that_misses_something_is_caught() {
    assert_caught(Mutant::ShortReplay, &[StateIsReplay]);
}

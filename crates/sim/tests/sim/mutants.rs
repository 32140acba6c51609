//! Bugs of each kind are seeded, and have to be caught.

use oncelog_log::Durability;
use oncelog_sim::history::Property::{self, *};
use oncelog_sim::history::Violation;
use oncelog_sim::mutants::{Interposer, Mutant};
use oncelog_sim::{Options, run};

/// In how many worlds a bug may hide.
const SEEDS: u64 = 25;

fn violation(mutant: Mutant, seed: u64) -> Option<Violation> {
    let options = Options { seed, steps: 4_000, durability: Durability::Os, is_printed: false };
    run(options, Interposer::new(Some(mutant))).violation
}

/// The first claim that is found not to hold, in the first world that shows the bug.
fn caught(mutant: Mutant) -> Option<Property> {
    (1..=SEEDS).find_map(|seed| {
        let violation = violation(mutant, seed)?;
        println!("{mutant:?} in seed {seed}: {violation}");
        Some(violation.property)
    })
}

fn assert_caught(mutant: Mutant, expected: &[Property]) {
    let found = caught(mutant).unwrap_or_else(|| panic!("{mutant:?} is not caught"));
    assert!(expected.contains(&found), "{mutant:?} is caught as {found:?}");
}

#[test]
fn a_lost_write_is_caught() {
    assert_caught(Mutant::AckWithoutWrite, &[AcknowledgedIsKept, WholeTransactions, SoundAnswers]);
    assert_caught(
        Mutant::AckBeforeWrite,
        &[AcknowledgedIsKept, StableOffsets, Watermarks, SoundAnswers, OnlyOnce, CompleteReads],
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
fn a_zombie_that_is_not_fenced_is_caught() {
    // Those that the coordinator has fenced for being late are caught in another way.
    assert_caught(Mutant::NoFencing, &[FencedZombies, WholeTransactions]);
    let is_let_through =
        |seed| violation(Mutant::NoFencing, seed).is_some_and(|found| found.property == FencedZombies);
    assert!((1..=2 * SEEDS).any(is_let_through));
}

#[test]
fn deadlines_that_pass_unheeded_are_caught() {
    assert_caught(Mutant::NoTimers, &[Progress]);
}

#[test]
fn a_replay_that_misses_something_is_caught() {
    assert_caught(Mutant::ShortReplay, &[StateIsReplay]);
}

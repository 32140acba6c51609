//! Which transactions a cleaning is in the middle of, batch by batch (`CleanedTransactionMetadata`).
//!
//! A marker stays for as long as there is a batch of its transaction before it, even an empty one: without the marker
//! that transaction would be open for ever.

use std::collections::{HashMap, HashSet};

use oncelog_records::{BatchHeader, BatchView, EndTransactionMarker, MarkerKind};
use oncelog_wire::{Offset, ProducerId};

use crate::transaction_index::AbortedEntry;

#[derive(Debug)]
pub(super) struct CleanedTransactions {
    /// Those that have not begun yet, by first offset, the next being the last.
    to_come: Vec<AbortedEntry>,
    aborted: HashMap<ProducerId, Aborted>,
    /// Producers with batches of a transaction that was not aborted.
    committed: HashSet<ProducerId>,
}

#[derive(Debug)]
struct Aborted {
    entry: AbortedEntry,
    has_batches: bool,
}

/// What may become of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkerFate {
    /// There are batches of its transaction. If it was aborted, readers have to know of it.
    Needed(Option<AbortedEntry>),
    /// Nothing is left of its transaction.
    Spare,
}

impl CleanedTransactions {
    /// Of all the aborted transactions those that reach `from`, where the batches begin.
    pub(super) fn new(aborted: &[AbortedEntry], from: Offset) -> CleanedTransactions {
        let mut to_come: Vec<_> = aborted.iter().filter(|entry| entry.last_offset >= from).copied().collect();
        to_come.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.first_offset));
        CleanedTransactions { to_come, aborted: HashMap::new(), committed: HashSet::new() }
    }

    /// Takes note of a data batch; says whether its records count for nothing.
    pub(super) fn take_data(&mut self, batch: &BatchHeader) -> bool {
        self.begin_up_to(batch.last_offset());
        if !batch.is_transactional() {
            return false;
        }
        if let Some(aborted) = self.aborted.get_mut(&batch.producer_id()) {
            aborted.has_batches = true;
            return true;
        }
        self.committed.insert(batch.producer_id());
        false
    }

    /// Takes note of a marker.
    pub(super) fn take_marker(&mut self, batch: &BatchView<'_>) -> MarkerFate {
        self.begin_up_to(batch.last_offset());
        if batch.record_count() == 0 {
            return MarkerFate::Spare;
        }
        let producer_id = batch.producer_id();
        match EndTransactionMarker::parse(batch).map(|marker| marker.kind) {
            Ok(MarkerKind::Abort) => match self.aborted.remove(&producer_id) {
                Some(aborted) if aborted.has_batches => MarkerFate::Needed(Some(aborted.entry)),
                _ => MarkerFate::Spare,
            },
            Ok(MarkerKind::Commit) => match self.committed.remove(&producer_id) {
                true => MarkerFate::Needed(None),
                false => MarkerFate::Spare,
            },
            // Not one of ours to judge.
            Err(_) => MarkerFate::Needed(None),
        }
    }

    fn begin_up_to(&mut self, offset: Offset) {
        while let Some(entry) = self.to_come.pop_if(|entry| entry.first_offset <= offset) {
            self.aborted.entry(entry.producer_id).or_insert(Aborted { entry, has_batches: false });
        }
    }
}

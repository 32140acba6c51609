//! What a log remembers of each producer: its epoch, its last five batches, and its open transaction.
//!
//! Appends are checked against this state first and change it only after they have been written, so a refused or failed
//! append leaves no trace. The rules are those of `ProducerStateManager` and `ProducerAppendInfo`.

use std::collections::{BTreeMap, HashMap};

use oncelog_records::{BatchHeader, MarkerKind, increment_sequence};
use oncelog_wire::{Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::error::AppendError;
use crate::log::{Marker, Origin, Verification};

/// Batches of a producer that are recognised when they come again (KIP-98; five may be in flight).
const REMEMBERED_BATCHES: usize = 5;

/// The state of all producers of one log, and its transactions in the order of their first offsets.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProducerStates {
    producers: HashMap<ProducerId, ProducerState>,
    open: BTreeMap<Offset, OpenTransaction>,
    /// First and last offset of the transactions whose markers are not yet below the high watermark.
    ended: BTreeMap<Offset, Offset>,
}

/// What is known of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerState {
    pub(crate) epoch: ProducerEpoch,
    /// That of the last marker; -1 before the first.
    pub(crate) coordinator_epoch: i32,
    pub(crate) last_timestamp: Timestamp,
    /// Where the open transaction starts, or `Offset::NONE`.
    pub(crate) transaction_first_offset: Offset,
    pub(crate) batches: RememberedBatches,
}

/// The last batches of a producer, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RememberedBatches {
    batches: [RememberedBatch; REMEMBERED_BATCHES],
    count: usize,
}

/// One batch of a producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RememberedBatch {
    pub(crate) last_sequence: i32,
    pub(crate) last_offset: Offset,
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: Timestamp,
}

/// A transaction without a marker yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenTransaction {
    pub(crate) producer_id: ProducerId,
    /// Where its first batch lies; not known for one that comes from a snapshot.
    pub(crate) place: Option<Place>,
}

/// The start of a batch on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: Offset,
    pub(crate) position: u32,
}

/// A transaction that a marker has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedTransaction {
    pub(crate) producer_id: ProducerId,
    pub(crate) first_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) kind: MarkerKind,
    /// The last stable offset now that it is over.
    pub(crate) last_stable_offset: Offset,
}

impl ProducerState {
    fn empty() -> ProducerState {
        ProducerState {
            epoch: ProducerEpoch::NONE,
            coordinator_epoch: -1,
            last_timestamp: Timestamp::NONE,
            transaction_first_offset: Offset::NONE,
            batches: RememberedBatches::default(),
        }
    }

    fn has_open_transaction(&self) -> bool {
        self.transaction_first_offset != Offset::NONE
    }

    /// A new epoch starts its sequence numbers anew.
    fn move_to_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.count = 0;
        }
    }
}

impl RememberedBatch {
    pub(crate) fn base_offset(&self) -> Offset {
        self.last_offset.plus(-i64::from(self.offset_delta))
    }

    fn base_sequence(&self) -> i32 {
        match self.last_sequence {
            -1 => -1,
            last => increment_sequence(last, -self.offset_delta),
        }
    }
}

impl RememberedBatches {
    pub(crate) fn as_slice(&self) -> &[RememberedBatch] {
        &self.batches[..self.count]
    }

    pub(crate) fn last(&self) -> Option<&RememberedBatch> {
        self.as_slice().last()
    }

    pub(crate) fn push(&mut self, batch: RememberedBatch) {
        if self.count == REMEMBERED_BATCHES {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        self.batches[self.count] = batch;
        self.count += 1;
    }
}

impl ProducerStates {
    /// Checks a batch against what is known of its producer; a batch that is here already comes back.
    pub(crate) fn check_batch(
        &self,
        batch: &BatchHeader,
        origin: Origin,
    ) -> Result<Option<RememberedBatch>, AppendError> {
        let producer_id = batch.producer_id();
        if producer_id < ProducerId(0) {
            return Ok(None);
        }
        let known = self.producers.get(&producer_id);
        if let (Origin::Client(verification), state) = (origin, known) {
            if let Some(duplicate) = state.and_then(|state| duplicate_of(state, batch)) {
                return Ok(Some(duplicate));
            }
            check_verification(batch, state, verification)?;
        }
        let current = known.map_or(ProducerEpoch::NONE, |state| state.epoch);
        check_epoch(producer_id, batch.producer_epoch(), current)?;
        if let Origin::Client(verification) = origin {
            check_sequence(batch, known, verification)?;
        }
        if known.is_some_and(ProducerState::has_open_transaction) && !batch.is_transactional() {
            let reason = "a batch outside of the transaction that is open here";
            return Err(AppendError::InvalidTransactionState { producer_id, reason });
        }
        Ok(None)
    }

    /// Notes a data batch that has been written at `place`. The header has its final offsets and timestamps.
    pub(crate) fn apply_batch(&mut self, batch: &BatchHeader, place: Place) {
        let producer_id = batch.producer_id();
        if producer_id < ProducerId(0) {
            return;
        }
        let state = self.producers.entry(producer_id).or_insert_with(ProducerState::empty);
        state.move_to_epoch(batch.producer_epoch());
        state.batches.push(RememberedBatch {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta(),
            timestamp: batch.max_timestamp(),
        });
        state.last_timestamp = batch.max_timestamp();
        if batch.is_transactional() && !state.has_open_transaction() {
            state.transaction_first_offset = batch.base_offset();
            self.open.insert(batch.base_offset(), OpenTransaction { producer_id, place: Some(place) });
        }
    }

    /// Checks a marker against what is known of its producer (KIP-890 and KIP-1228 for transaction version 2).
    pub(crate) fn check_marker(&self, marker: &Marker) -> Result<(), AppendError> {
        let producer_id = marker.producer_id;
        let Some(state) = self.producers.get(&producer_id) else { return Ok(()) };
        check_epoch(producer_id, marker.producer_epoch, state.epoch)?;
        // With version 2 every marker carries a new epoch; the same one again is harmless only as a retry.
        let is_bump_missing = marker.transaction_version >= 2
            && marker.producer_epoch == state.epoch
            && state.has_open_transaction();
        if is_bump_missing {
            let (epoch, current) = (marker.producer_epoch, state.epoch);
            return Err(AppendError::InvalidProducerEpoch { producer_id, epoch, current });
        }
        if marker.coordinator_epoch < state.coordinator_epoch {
            return Err(AppendError::TransactionCoordinatorFenced {
                producer_id,
                epoch: marker.coordinator_epoch,
                current: state.coordinator_epoch,
            });
        }
        Ok(())
    }

    /// Notes a marker that has been written at `offset`; says which transaction it has ended, if any was open.
    pub(crate) fn apply_marker(
        &mut self,
        marker: &Marker,
        offset: Offset,
        timestamp: Timestamp,
    ) -> Option<EndedTransaction> {
        let producer_id = marker.producer_id;
        let state = self.producers.entry(producer_id).or_insert_with(ProducerState::empty);
        state.move_to_epoch(marker.producer_epoch);
        state.coordinator_epoch = marker.coordinator_epoch;
        state.last_timestamp = timestamp;
        let first_offset = std::mem::replace(&mut state.transaction_first_offset, Offset::NONE);
        if first_offset == Offset::NONE {
            return None;
        }
        self.open.remove(&first_offset);
        self.ended.insert(first_offset, offset);
        let last_stable_offset = self.open.first_key_value().map_or(offset.next(), |(first, _)| *first);
        Some(EndedTransaction {
            producer_id,
            first_offset,
            last_offset: offset,
            kind: marker.kind,
            last_stable_offset,
        })
    }

    /// Lets go of the ended transactions whose markers are below the high watermark.
    pub(crate) fn advance_high_watermark(&mut self, high_watermark: Offset) {
        while let Some(entry) = self.ended.first_entry()
            && *entry.get() < high_watermark
        {
            entry.remove();
        }
    }

    /// The first offset of the earliest transaction that is open, or whose marker is not yet below the high watermark.
    pub(crate) fn first_unstable_offset(&self) -> Option<(Offset, Option<Place>)> {
        let open = self.open.first_key_value().map(|(first, open)| (*first, open.place));
        let ended = self.ended.first_key_value().map(|(first, _)| (*first, None));
        match (open, ended) {
            (Some(open), Some(ended)) => Some(if open.0 < ended.0 { open } else { ended }),
            (one, other) => one.or(other),
        }
    }

    /// Whether this incarnation of the producer has a transaction open here.
    pub(crate) fn has_open_transaction(&self, producer_id: ProducerId, epoch: ProducerEpoch) -> bool {
        self.producers
            .get(&producer_id)
            .is_some_and(|state| state.has_open_transaction() && state.epoch == epoch)
    }

    /// Where the open transaction of the producer starts.
    pub(crate) fn open_transaction_start(&self, producer_id: ProducerId) -> Option<Offset> {
        let state = self.producers.get(&producer_id)?;
        state.has_open_transaction().then_some(state.transaction_first_offset)
    }

    /// Forgets the producers that have been silent for so long; never one with an open transaction.
    pub(crate) fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        self.producers.retain(|_, state| !is_expired(state, now, expiration_ms));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.producers.iter().map(|(id, state)| (*id, state))
    }

    /// Takes over what a snapshot says of one producer.
    pub(crate) fn restore(&mut self, producer_id: ProducerId, state: ProducerState) {
        if state.has_open_transaction() {
            let open = OpenTransaction { producer_id, place: None };
            self.open.insert(state.transaction_first_offset, open);
        }
        self.producers.insert(producer_id, state);
    }
}

fn is_expired(state: &ProducerState, now: Timestamp, expiration_ms: i64) -> bool {
    !state.has_open_transaction() && now.ms_since(state.last_timestamp) >= expiration_ms
}

fn duplicate_of(state: &ProducerState, batch: &BatchHeader) -> Option<RememberedBatch> {
    if state.epoch != batch.producer_epoch() {
        return None;
    }
    let is_same = |known: &&RememberedBatch| {
        known.last_sequence == batch.last_sequence() && known.base_sequence() == batch.base_sequence()
    };
    state.batches.as_slice().iter().find(is_same).copied()
}

/// A transactional batch needs a transaction that is open here, or one the coordinator has confirmed.
fn check_verification(
    batch: &BatchHeader,
    state: Option<&ProducerState>,
    verification: Verification,
) -> Result<(), AppendError> {
    let is_open =
        state.is_some_and(|state| state.has_open_transaction() && state.epoch == batch.producer_epoch());
    if !batch.is_transactional() || is_open {
        return Ok(());
    }
    let producer_id = batch.producer_id();
    check_epoch(producer_id, batch.producer_epoch(), state.map_or(ProducerEpoch::NONE, |state| state.epoch))?;
    if verification == Verification::None {
        let reason = "the transaction coordinator knows of no transaction with this partition";
        return Err(AppendError::InvalidTransactionState { producer_id, reason });
    }
    Ok(())
}

fn check_epoch(
    producer_id: ProducerId,
    epoch: ProducerEpoch,
    current: ProducerEpoch,
) -> Result<(), AppendError> {
    match epoch < current {
        true => Err(AppendError::InvalidProducerEpoch { producer_id, epoch, current }),
        false => Ok(()),
    }
}

fn check_sequence(
    batch: &BatchHeader,
    state: Option<&ProducerState>,
    verification: Verification,
) -> Result<(), AppendError> {
    let sequence = batch.base_sequence();
    let out_of_order = |expected| {
        let producer_id = batch.producer_id();
        Err(AppendError::OutOfOrderSequence { producer_id, sequence, expected })
    };
    let last = state.and_then(|state| state.batches.last());
    if verification == Verification::Begins && last.is_none() && sequence != 0 {
        return out_of_order(0);
    }
    // Without any state every number is taken: it may have expired, or the records were deleted.
    let Some(state) = state.filter(|state| state.epoch != ProducerEpoch::NONE) else { return Ok(()) };
    let expected = match last {
        Some(last) if state.epoch == batch.producer_epoch() => match last.last_sequence {
            i32::MAX => 0,
            sequence => sequence + 1,
        },
        _ => 0,
    };
    if sequence == expected { Ok(()) } else { out_of_order(expected) }
}

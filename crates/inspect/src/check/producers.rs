//! What a log says of its producers, batch by batch: epochs, sequence numbers, open transactions.
//!
//! This is the broker's bookkeeping done again by other code, from the batches alone.

use std::collections::{BTreeMap, HashMap};

use oncelog_records::{BatchHeader, EndTransactionMarker, increment_sequence};
use oncelog_wire::{Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::entries::SnapshotEntry;

/// The producers of a log.
#[derive(Debug)]
pub(crate) struct Producers {
    known: HashMap<ProducerId, Producer>,
    /// By their first offsets.
    open: BTreeMap<Offset, ProducerId>,
    /// Whether nothing was missed so far. If not, what looks wrong may follow from what was missed.
    pub(crate) is_exact: bool,
    /// Whether batches may have been removed, so that numbers have gaps.
    is_compacted: bool,
    /// Producers are forgotten after so long a silence, and with that nothing they do is out of order.
    expiration_ms: i64,
}

/// One producer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Producer {
    pub(crate) epoch: ProducerEpoch,
    coordinator_epoch: i32,
    /// Of the last batch in this epoch, or -1.
    last_sequence: i32,
    last_offset: Offset,
    last_timestamp: Timestamp,
    /// The transaction that has no marker yet.
    pub(crate) open: Option<OpenTransaction>,
}

/// The start of a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenTransaction {
    pub(crate) first_offset: Offset,
    /// The base offset of its segment and the position in it; unknown where a snapshot was the start.
    pub(crate) place: Option<(Offset, u64)>,
}

/// A transaction that a marker has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) first_offset: Offset,
    /// The last stable offset once it was over.
    pub(crate) last_stable_offset: Offset,
}

impl Producers {
    pub(crate) fn new(is_compacted: bool, expiration_ms: i64) -> Producers {
        Producers {
            known: HashMap::new(),
            open: BTreeMap::new(),
            is_exact: true,
            is_compacted,
            expiration_ms,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    pub(crate) fn get(&self, producer_id: ProducerId) -> Option<&Producer> {
        self.known.get(&producer_id)
    }

    /// The transactions without markers, by their first offsets.
    pub(crate) fn open(&self) -> impl Iterator<Item = (ProducerId, Producer, OpenTransaction)> {
        self.open.values().filter_map(|id| {
            let producer = self.known.get(id)?;
            Some((*id, *producer, producer.open?))
        })
    }

    /// Starts from a snapshot.
    pub(crate) fn restore(&mut self, entries: &[SnapshotEntry]) {
        for entry in entries {
            let first_offset = entry.transaction_first_offset;
            let open =
                (first_offset >= Offset::ZERO).then_some(OpenTransaction { first_offset, place: None });
            if open.is_some() {
                self.open.insert(first_offset, entry.producer_id);
            }
            let producer = Producer {
                epoch: entry.epoch,
                coordinator_epoch: entry.coordinator_epoch,
                last_sequence: entry.last_sequence,
                last_offset: entry.last_offset,
                last_timestamp: entry.timestamp,
                open,
            };
            self.known.insert(entry.producer_id, producer);
        }
    }

    /// Takes a data batch in; says what is wrong with it.
    pub(crate) fn take_batch(&mut self, batch: &BatchHeader, place: (Offset, u64)) -> Option<String> {
        let (producer_id, epoch) = (batch.producer_id(), batch.producer_epoch());
        if producer_id < ProducerId(0) {
            return None;
        }
        let problem = self.known.get(&producer_id).and_then(|known| self.problem_of(known, batch));
        let producer = self.known.entry(producer_id).or_insert(Producer {
            epoch,
            coordinator_epoch: -1,
            last_sequence: -1,
            last_offset: Offset::NONE,
            last_timestamp: Timestamp::NONE,
            open: None,
        });
        producer.epoch = epoch;
        producer.last_sequence = batch.last_sequence();
        producer.last_offset = batch.last_offset();
        producer.last_timestamp = batch.max_timestamp();
        if batch.is_transactional() && producer.open.is_none() {
            let first_offset = batch.base_offset();
            producer.open = Some(OpenTransaction { first_offset, place: Some(place) });
            self.open.insert(first_offset, producer_id);
        }
        problem.filter(|_| self.is_exact)
    }

    fn problem_of(&self, known: &Producer, batch: &BatchHeader) -> Option<String> {
        let (producer_id, epoch) = (batch.producer_id(), batch.producer_epoch());
        if let Some(open) = known.open {
            if epoch != known.epoch {
                return Some(format!(
                    "producer {producer_id} goes on with epoch {epoch}, but its transaction of epoch {} that began at \
                     offset {} has no marker: its outcome is lost here",
                    known.epoch, open.first_offset
                ));
            }
            if !batch.is_transactional() {
                return Some(format!(
                    "a batch outside of the transaction that producer {producer_id} has open since offset {}",
                    open.first_offset
                ));
            }
        } else if batch.max_timestamp().ms_since(known.last_timestamp) >= self.expiration_ms {
            return None;
        }
        if epoch < known.epoch {
            return Some(format!(
                "epoch {epoch} of producer {producer_id} after epoch {}: a fenced producer, or one whose transaction \
                 had ended, has written",
                known.epoch
            ));
        }
        let sequence = batch.base_sequence();
        if sequence < 0 {
            return None;
        }
        let expected = match known.last_sequence {
            last if epoch == known.epoch && last >= 0 => increment_sequence(last, 1),
            _ => 0,
        };
        let is_behind_a_gap = self.is_compacted && (sequence > expected || epoch > known.epoch);
        (sequence != expected && !is_behind_a_gap).then(|| {
            let what = if sequence < expected { "a batch is there twice" } else { "batches are missing" };
            format!("sequence {sequence} of producer {producer_id} where {expected} should follow: {what}")
        })
    }

    /// Takes a marker in; says which transaction it ends, and what is wrong with it.
    pub(crate) fn take_marker(
        &mut self,
        header: &BatchHeader,
        marker: EndTransactionMarker,
    ) -> (Option<Ended>, Option<String>) {
        let (producer_id, epoch) = (header.producer_id(), header.producer_epoch());
        let producer = self.known.entry(producer_id).or_insert(Producer {
            epoch,
            coordinator_epoch: -1,
            last_sequence: -1,
            last_offset: Offset::NONE,
            last_timestamp: Timestamp::NONE,
            open: None,
        });
        let problem = if epoch < producer.epoch {
            Some(format!(
                "a marker of epoch {epoch} for producer {producer_id} after epoch {}",
                producer.epoch
            ))
        } else if marker.coordinator_epoch < producer.coordinator_epoch {
            Some(format!(
                "a marker for producer {producer_id} of coordinator epoch {} after {}: a coordinator of the past has written",
                marker.coordinator_epoch, producer.coordinator_epoch
            ))
        } else {
            None
        };
        if producer.epoch != epoch {
            producer.epoch = epoch;
            (producer.last_sequence, producer.last_offset) = (-1, Offset::NONE);
        }
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.last_timestamp = header.max_timestamp();
        let ended = producer.open.take().map(|open| {
            self.open.remove(&open.first_offset);
            let next_open = self.open.first_key_value().map(|(first, _)| *first);
            Ended {
                first_offset: open.first_offset,
                last_stable_offset: next_open.unwrap_or(header.base_offset().next()),
            }
        });
        (ended, problem.filter(|_| self.is_exact))
    }

    /// What in a snapshot is not as the batches before it have it.
    pub(crate) fn difference_from(&self, entries: &[SnapshotEntry]) -> Option<String> {
        if !self.is_exact {
            return None;
        }
        let mut open_in_snapshot = 0;
        for entry in entries {
            let id = entry.producer_id;
            open_in_snapshot += usize::from(entry.transaction_first_offset >= Offset::ZERO);
            let Some(known) = self.known.get(&id) else {
                match self.is_compacted {
                    true => continue,
                    false => {
                        return Some(format!("it knows a producer {id} that has written nothing before it"));
                    }
                }
            };
            let open = known.open.map_or(Offset::NONE, |open| open.first_offset);
            // Compaction may have taken what a transaction begins with, or all of it.
            let is_earlier =
                open == Offset::NONE || (Offset::ZERO..=open).contains(&entry.transaction_first_offset);
            if entry.transaction_first_offset != open && !(self.is_compacted && is_earlier) {
                return Some(format!(
                    "the open transaction of producer {id} starts at {} in it and at {open} in the log (-1: none)",
                    entry.transaction_first_offset
                ));
            }
            let is_other = (entry.epoch, entry.last_sequence, entry.last_offset)
                != (known.epoch, known.last_sequence, known.last_offset);
            if is_other && !self.is_compacted {
                return Some(format!(
                    "it has producer {id} at epoch {}, sequence {}, offset {}; the log at epoch {}, sequence {}, offset {}",
                    entry.epoch,
                    entry.last_sequence,
                    entry.last_offset,
                    known.epoch,
                    known.last_sequence,
                    known.last_offset
                ));
            }
        }
        (open_in_snapshot < self.open.len()).then(|| {
            format!("{} transactions are open before it, and it knows of {open_in_snapshot}", self.open.len())
        })
    }
}

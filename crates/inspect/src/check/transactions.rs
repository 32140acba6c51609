//! What the transaction coordinators know, and how it fits what the partitions have.
//!
//! Of every transaction that was ever decided two bits are kept, whether it was to commit or to abort; of every
//! transactional id what the coordinator itself would hold, and where its last transaction has to have markers.

use std::collections::{HashMap, HashSet};

use oncelog_coordinator::transactions::{
    Producer, Record, TransactionMetadata, TransactionState, TransactionVersion,
};
use oncelog_records::MarkerKind;
use oncelog_wire::{Offset, ProducerEpoch, ProducerId, Str, Timestamp, TopicPartition};

use crate::finding::Severity;

/// What `__transaction_state` says.
#[derive(Debug)]
pub(crate) struct Transactions {
    by_id: HashMap<Str, Known>,
    owners: HashMap<ProducerId, Str>,
    /// Four epochs a byte, for each the outcomes that were decided.
    decided: HashMap<ProducerId, Vec<u8>>,
    /// Those whose epochs may stand for more than one transaction each, as they do before KIP-890.
    reusing: HashSet<ProducerId>,
    /// The markers that have to be in a partition.
    due: HashMap<TopicPartition, Vec<Due>>,
    /// Whether every record that was ever written is still there.
    pub(crate) is_complete: bool,
    /// Whether every record that is there could be read.
    pub(crate) is_whole: bool,
}

#[derive(Debug)]
struct Known {
    metadata: TransactionMetadata,
    log: TopicPartition,
    offset: Offset,
    prepared: Option<Prepared>,
}

/// The last decision on a transaction.
#[derive(Debug)]
struct Prepared {
    producer: Producer,
    kind: MarkerKind,
    time: Timestamp,
    partitions: Vec<TopicPartition>,
}

/// A marker that has to be in a partition.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) transactional_id: Str,
    pub(crate) producer_id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) kind: MarkerKind,
    pub(crate) decided_at: Timestamp,
}

impl Transactions {
    pub(crate) fn new() -> Transactions {
        Transactions {
            by_id: HashMap::new(),
            owners: HashMap::new(),
            decided: HashMap::new(),
            reusing: HashSet::new(),
            due: HashMap::new(),
            is_complete: true,
            is_whole: true,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes a record in; says what is wrong with it, where the one before it is known to be the last of its id.
    pub(crate) fn take(
        &mut self,
        record: Record,
        log: &TopicPartition,
        offset: Offset,
        is_gapless: bool,
    ) -> Option<String> {
        let Record { transactional_id, metadata } = record;
        let before = self.by_id.get(&transactional_id);
        let Some(metadata) = metadata else {
            let is_open = before.is_some_and(|known| {
                known.metadata.state == TransactionState::Ongoing || known.metadata.state.prepared().is_some()
            });
            self.by_id.remove(&transactional_id);
            return is_open
                .then(|| format!("transactional id '{transactional_id}' expires with an open transaction"));
        };
        let problem = is_gapless
            .then(|| problem_of(&transactional_id, before.map(|known| &known.metadata), &metadata))
            .flatten();
        self.owners.insert(metadata.producer.id, transactional_id.clone());
        let mut prepared = self.by_id.remove(&transactional_id).and_then(|known| known.prepared);
        if let Some(kind) = metadata.state.prepared() {
            self.note_decision(metadata.producer, kind);
            if metadata.client_transaction_version < TransactionVersion::Two {
                self.reusing.insert(metadata.producer.id);
            }
            prepared = Some(Prepared {
                producer: metadata.producer,
                kind,
                time: metadata.last_update,
                partitions: metadata.partitions.clone(),
            });
        }
        self.by_id.insert(transactional_id, Known { metadata, log: log.clone(), offset, prepared });
        problem
    }

    /// After the last record: works out which partition has to have which markers.
    pub(crate) fn settle(&mut self) {
        for (id, known) in &mut self.by_id {
            // Where it is prepared, markers may be missing; where none is prepared, there is nothing to look for.
            let Some(prepared) = known.prepared.take().filter(|_| known.metadata.state.prepared().is_none())
            else {
                continue;
            };
            for partition in prepared.partitions {
                self.due.entry(partition).or_default().push(Due {
                    transactional_id: id.clone(),
                    producer_id: prepared.producer.id,
                    epoch: prepared.producer.epoch,
                    kind: prepared.kind,
                    decided_at: prepared.time,
                });
            }
        }
    }

    /// The markers that have to be in a partition, of transactions whose end was recorded as complete.
    pub(crate) fn due(&self, partition: &TopicPartition) -> &[Due] {
        self.due.get(partition).map_or(&[], Vec::as_slice)
    }

    /// The ids whose transaction is decided but not complete.
    pub(crate) fn prepared(
        &self,
    ) -> impl Iterator<Item = (&Str, &TransactionMetadata, &TopicPartition, Offset)> {
        let all = self.by_id.iter().filter(|(_, known)| known.metadata.state.prepared().is_some());
        all.map(|(id, known)| (id, &known.metadata, &known.log, known.offset))
    }

    /// What is wrong with a marker that has ended a transaction in some partition.
    pub(crate) fn problem_of_marker(&self, marker: Producer, kind: MarkerKind) -> Option<(Severity, String)> {
        let Producer { id, epoch } = marker;
        let outcomes = self.decision(marker);
        let other = match kind {
            MarkerKind::Commit => MarkerKind::Abort,
            MarkerKind::Abort => MarkerKind::Commit,
        };
        if outcomes & bit(kind) != 0 {
            return None;
        }
        // Compaction may have taken the decision, and left another one of the same epoch.
        let is_known = self.is_complete || !self.reusing.contains(&id);
        if outcomes & bit(other) != 0 && is_known {
            let what = format!(
                "a {} marker of producer {id}, epoch {epoch}, whose transaction the coordinator decided to {}: the \
                 transaction is torn",
                word(kind),
                word(other)
            );
            return Some((Severity::Fault, what));
        }
        match kind {
            _ if !self.is_complete => None,
            MarkerKind::Commit => {
                let what = format!(
                    "a commit marker of producer {id}, epoch {epoch}, and no coordinator has prepared to commit: records \
                     show that should not"
                );
                Some((Severity::Fault, what))
            }
            MarkerKind::Abort => {
                let what = format!(
                    "an abort marker of producer {id}, epoch {epoch}, without a decision of a coordinator: somebody has \
                     aborted a hanging transaction by hand"
                );
                Some((Severity::Note, what))
            }
        }
    }

    /// What is to be said of a transaction that is open in a partition; nothing where that is as it should be.
    pub(crate) fn problem_of_open(
        &self,
        partition: &TopicPartition,
        producer: Producer,
    ) -> Option<(Severity, String)> {
        let Producer { id, epoch } = producer;
        let hanging = |what: String| {
            let what = format!(
                "hanging transaction of producer {id}, epoch {epoch}: {what}. No marker will come, and read_committed \
                 readers get no further"
            );
            Some((Severity::Fault, what))
        };
        let owner = self.owners.get(&id).and_then(|owner| Some((owner, self.by_id.get(owner)?)));
        let Some((owner, known)) = owner else {
            return hanging("no coordinator knows of the producer".into());
        };
        let metadata = &known.metadata;
        let (state, is_part) = (metadata.state.name(), metadata.has_partition(partition));
        if metadata.producer.id != id {
            return hanging(format!("'{owner}' has gone on with producer {}", metadata.producer.id));
        }
        match metadata.state {
            TransactionState::Ongoing if is_part && metadata.producer.epoch == epoch => None,
            TransactionState::PrepareCommit | TransactionState::PrepareAbort if is_part => {
                let what =
                    format!("'{owner}' is in {state}: the next start writes the marker that is missing here");
                Some((Severity::Note, what))
            }
            TransactionState::Ongoing if is_part => {
                hanging(format!("'{owner}' has epoch {} by now", metadata.producer.epoch))
            }
            TransactionState::Ongoing | TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                hanging(format!("the transaction of '{owner}' does not include this partition"))
            }
            _ => hanging(format!("'{owner}' is in {state}, by offset {} of {}", known.offset, known.log)),
        }
    }

    fn note_decision(&mut self, producer: Producer, kind: MarkerKind) {
        let Ok(epoch) = usize::try_from(producer.epoch.0) else { return };
        let decided = self.decided.entry(producer.id).or_default();
        if decided.len() <= epoch / 4 {
            decided.resize(epoch / 4 + 1, 0);
        }
        decided[epoch / 4] |= bit(kind) << (epoch % 4 * 2);
    }

    fn decision(&self, producer: Producer) -> u8 {
        let epoch = usize::try_from(producer.epoch.0).unwrap_or(usize::MAX);
        let byte = self.decided.get(&producer.id).and_then(|decided| decided.get(epoch / 4));
        byte.map_or(0, |byte| byte >> (epoch % 4 * 2) & 3)
    }
}

fn bit(kind: MarkerKind) -> u8 {
    match kind {
        MarkerKind::Abort => 1,
        MarkerKind::Commit => 2,
    }
}

/// The outcome as a word.
pub(crate) fn word(kind: MarkerKind) -> &'static str {
    match kind {
        MarkerKind::Abort => "abort",
        MarkerKind::Commit => "commit",
    }
}

fn problem_of(id: &Str, before: Option<&TransactionMetadata>, after: &TransactionMetadata) -> Option<String> {
    let Some(before) = before else {
        return (after.state != TransactionState::Empty).then(|| {
            format!("'{id}' begins with {}, without ever having been initialized", after.state.name())
        });
    };
    if !can_follow(before.state, after.state) {
        let (from, to) = (before.state.name(), after.state.name());
        return Some(format!("'{id}' goes from {from} to {to}, which is no step of a transaction"));
    }
    let (old, new) = (before.producer, after.producer);
    (old.id == new.id && new.epoch < old.epoch).then(|| {
        format!(
            "'{id}' goes back from epoch {} to {}: fenced producers can write again",
            old.epoch, new.epoch
        )
    })
}

fn can_follow(from: TransactionState, to: TransactionState) -> bool {
    use TransactionState::*;
    // Whoever takes partitions out of a transaction, as when a topic is deleted, leaves its state.
    from == to
        || match to {
            Empty | Ongoing => matches!(from, Empty | CompleteCommit | CompleteAbort),
            PrepareCommit => from == Ongoing,
            PrepareAbort => matches!(from, Ongoing | Empty | CompleteCommit | CompleteAbort),
            CompleteCommit => from == PrepareCommit,
            CompleteAbort => from == PrepareAbort,
        }
}

//! What is known of one transactional id, and the steps it can take (KIP-98, KIP-360, KIP-890).
//!
//! A step makes the metadata that would hold after it; nothing here changes metadata in place. Whether a step is
//! allowed is for the caller to have checked.

use std::time::Duration;

use oncelog_records::MarkerKind;
use oncelog_wire::{ErrorCode, ProducerEpoch, ProducerId, Timestamp, TopicPartition};

/// A producer id with its epoch: who a request says it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Producer {
    /// The producer id.
    pub id: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
}

impl Producer {
    /// "No producer", -1 and -1 on the wire.
    pub const NONE: Producer = Producer { id: ProducerId::NONE, epoch: ProducerEpoch::NONE };

    /// The first incarnation of a producer id.
    pub(super) fn first(id: ProducerId) -> Producer {
        Producer { id, epoch: ProducerEpoch(0) }
    }

    /// Whether this is the very last epoch. Only markers carry it; no client ever gets it.
    pub(super) fn is_fence(self) -> bool {
        self.epoch == ProducerEpoch(i16::MAX)
    }
}

/// Where a transactional id stands. Names and numbers are Kafka's, as persisted and shown to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionState {
    /// Initialized; no transaction yet.
    Empty,
    /// Partitions have been added.
    Ongoing,
    /// To be committed; some markers may not have been written.
    PrepareCommit,
    /// To be aborted; some markers may not have been written.
    PrepareAbort,
    /// Committed, with all its markers.
    CompleteCommit,
    /// Aborted, with all its markers.
    CompleteAbort,
}

impl TransactionState {
    /// The states that are ever persisted.
    pub const ALL: [TransactionState; 6] = [
        TransactionState::Empty,
        TransactionState::Ongoing,
        TransactionState::PrepareCommit,
        TransactionState::PrepareAbort,
        TransactionState::CompleteCommit,
        TransactionState::CompleteAbort,
    ];

    /// The number in the transaction log.
    pub fn id(self) -> i8 {
        self as i8
    }

    /// The state of a number in the transaction log.
    pub fn from_id(id: i8) -> Option<TransactionState> {
        TransactionState::ALL.into_iter().find(|state| state.id() == id)
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            TransactionState::Empty => "Empty",
            TransactionState::Ongoing => "Ongoing",
            TransactionState::PrepareCommit => "PrepareCommit",
            TransactionState::PrepareAbort => "PrepareAbort",
            TransactionState::CompleteCommit => "CompleteCommit",
            TransactionState::CompleteAbort => "CompleteAbort",
        }
    }

    /// The outcome that is decided but not yet carried out, if that is where things stand.
    pub fn prepared(self) -> Option<MarkerKind> {
        match self {
            TransactionState::PrepareCommit => Some(MarkerKind::Commit),
            TransactionState::PrepareAbort => Some(MarkerKind::Abort),
            _ => None,
        }
    }

    /// The outcome of the last transaction, if it is over.
    pub fn completed(self) -> Option<MarkerKind> {
        match self {
            TransactionState::CompleteCommit => Some(MarkerKind::Commit),
            TransactionState::CompleteAbort => Some(MarkerKind::Abort),
            _ => None,
        }
    }
}

/// Which of Kafka's transaction protocols a transaction follows (`transaction.version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionVersion {
    /// Epochs stay the same from one transaction to the next (KIP-98).
    #[default]
    Zero,
    /// As zero, with a flexible log value.
    One,
    /// The epoch grows at every end (KIP-890).
    Two,
}

impl TransactionVersion {
    /// What this broker finalizes; the ends it decides on by itself follow it.
    pub const FINALIZED: TransactionVersion = TransactionVersion::Two;

    /// The protocol spoken by a client that sends this version of EndTxn.
    pub fn for_end_transaction(api_version: i16) -> TransactionVersion {
        if api_version >= 5 { TransactionVersion::Two } else { TransactionVersion::Zero }
    }

    /// The feature level, as persisted and as WriteTxnMarkers carries it.
    pub fn level(self) -> i16 {
        self as i16
    }

    /// The protocol of a feature level; a level of the future counts as the newest known.
    pub fn from_level(level: i16) -> TransactionVersion {
        match level {
            ..=0 => TransactionVersion::Zero,
            1 => TransactionVersion::One,
            _ => TransactionVersion::Two,
        }
    }

    /// Whether every end of a transaction bumps the epoch.
    pub fn bumps_epoch(self) -> bool {
        self >= TransactionVersion::Two
    }
}

/// Everything that is persisted of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionMetadata {
    /// Who owns the id now.
    pub producer: Producer,
    /// The producer id before the last step; differs from the present one right after a new one was given out.
    pub previous_producer_id: ProducerId,
    /// The producer id to go on with once the prepared end is complete, where the present one has no epochs left.
    pub next_producer_id: ProducerId,
    /// How long a transaction may take; `i32::MAX` for one that never times out (KIP-939).
    pub timeout_ms: i32,
    /// Where the id stands.
    pub state: TransactionState,
    /// The partitions of the transaction, sorted.
    pub partitions: Vec<TopicPartition>,
    /// When it last changed.
    pub last_update: Timestamp,
    /// When the transaction began; none where there is none.
    pub start: Timestamp,
    /// The protocol of the client that made the last step.
    pub client_transaction_version: TransactionVersion,
}

impl TransactionMetadata {
    /// An id that `producer_id` is about to own: it has no epoch yet.
    pub(super) fn unowned(producer_id: ProducerId, now: Timestamp) -> TransactionMetadata {
        TransactionMetadata {
            producer: Producer { id: producer_id, epoch: ProducerEpoch::NONE },
            previous_producer_id: ProducerId::NONE,
            next_producer_id: ProducerId::NONE,
            timeout_ms: 0,
            state: TransactionState::Empty,
            partitions: Vec::new(),
            last_update: now,
            start: Timestamp::NONE,
            client_transaction_version: TransactionVersion::Zero,
        }
    }

    /// Refuses everyone but the present owner.
    pub(super) fn check_producer(&self, producer: Producer) -> Result<(), ErrorCode> {
        if producer.id != self.producer.id {
            Err(ErrorCode::InvalidProducerIdMapping)
        } else if producer.epoch != self.producer.epoch || producer.is_fence() {
            Err(ErrorCode::ProducerFenced)
        } else {
            Ok(())
        }
    }

    /// How long a transaction may take, if there is a limit.
    pub(super) fn timeout(&self) -> Option<Duration> {
        (self.timeout_ms != i32::MAX).then(|| Duration::from_millis(self.timeout_ms.max(0) as u64))
    }

    /// Whether `partition` is part of the transaction.
    pub fn has_partition(&self, partition: &TopicPartition) -> bool {
        self.partitions.binary_search(partition).is_ok()
    }

    /// Initialized anew for `producer`.
    pub(super) fn initialized(
        &self,
        producer: Producer,
        timeout_ms: i32,
        now: Timestamp,
    ) -> TransactionMetadata {
        TransactionMetadata {
            producer,
            timeout_ms,
            start: Timestamp::NONE,
            ..self.step(TransactionState::Empty, Vec::new(), now)
        }
    }

    /// With `partitions` added, which begins a transaction where none is open.
    pub(super) fn with_partitions(
        &self,
        partitions: &[TopicPartition],
        version: TransactionVersion,
        now: Timestamp,
    ) -> TransactionMetadata {
        let mut all = Vec::with_capacity(self.partitions.len() + partitions.len());
        all.extend_from_slice(&self.partitions);
        for partition in partitions {
            if let Err(at) = all.binary_search(partition) {
                all.insert(at, partition.clone());
            }
        }
        let start = if self.state == TransactionState::Ongoing { self.start } else { now };
        TransactionMetadata {
            start,
            client_transaction_version: version,
            ..self.step(TransactionState::Ongoing, all, now)
        }
    }

    /// With the end decided, ready for the markers. They carry the epoch that the result has: bumped where the
    /// protocol asks for it.
    pub(super) fn prepared(&self, end: &End, now: Timestamp) -> TransactionMetadata {
        let state = match end.outcome {
            MarkerKind::Commit => TransactionState::PrepareCommit,
            MarkerKind::Abort => TransactionState::PrepareAbort,
        };
        let mut prepared = self.step(state, self.partitions.clone(), now);
        if end.version.bumps_epoch() {
            prepared.producer.epoch = self.producer.epoch.next();
        }
        if self.state != TransactionState::Ongoing {
            prepared.start = now;
        }
        prepared.next_producer_id = end.next_producer_id;
        prepared.client_transaction_version = end.version;
        prepared
    }

    /// With all markers written.
    pub(super) fn completed(&self, now: Timestamp) -> TransactionMetadata {
        let state = match self.state.prepared() {
            Some(MarkerKind::Commit) => TransactionState::CompleteCommit,
            _ => TransactionState::CompleteAbort,
        };
        let mut completed = self.step(state, Vec::new(), now);
        completed.producer = self.producer_after_end();
        completed.next_producer_id = ProducerId::NONE;
        completed
    }

    /// Who owns the id once the prepared end is complete: what EndTxn tells the client to go on with.
    pub(super) fn producer_after_end(&self) -> Producer {
        if self.client_transaction_version.bumps_epoch() && self.next_producer_id != ProducerId::NONE {
            Producer::first(self.next_producer_id)
        } else {
            self.producer
        }
    }

    /// Without the partitions of `topic`; otherwise the same.
    pub(super) fn without_topic(&self, topic: &str) -> TransactionMetadata {
        let mut without = self.clone();
        without.partitions.retain(|partition| partition.topic != *topic);
        without
    }

    fn step(
        &self,
        state: TransactionState,
        partitions: Vec<TopicPartition>,
        now: Timestamp,
    ) -> TransactionMetadata {
        TransactionMetadata {
            producer: self.producer,
            previous_producer_id: self.producer.id,
            next_producer_id: self.next_producer_id,
            timeout_ms: self.timeout_ms,
            state,
            partitions,
            last_update: now,
            start: self.start,
            client_transaction_version: self.client_transaction_version,
        }
    }
}

/// The end of a transaction as decided.
pub(super) struct End {
    pub outcome: MarkerKind,
    pub version: TransactionVersion,
    /// Where the present producer id has no epochs left.
    pub next_producer_id: ProducerId,
}

impl End {
    /// The broker's own abort, of a transaction that is too old or whose owner was replaced.
    pub const FENCE: End = End {
        outcome: MarkerKind::Abort,
        version: TransactionVersion::FINALIZED,
        next_producer_id: ProducerId::NONE,
    };
}

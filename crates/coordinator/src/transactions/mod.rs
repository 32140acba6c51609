//! The transaction coordinator as a pure machine: one [`Coordinator`] for each partition of `__transaction_state`.
//!
//! Its durable state is a [`TransactionMetadata`] for each transactional id, changed by [`Coordinator::apply`] alone.
//! A transaction ends in two steps: a Prepare record decides the outcome for good, and once every partition has its
//! marker a Complete record says so. Between the two the id is closed to every request, so no late request can reach
//! the transaction that comes next. Whatever stops half-way is taken up again from the Prepare record.
//!
//! Not here: the writing of markers, WriteTxnMarkers, and the staged offsets of groups.

mod add_partitions;
mod end_transaction;
mod errors;
mod init_producer_id;
mod list;
mod metadata;
mod record;
#[cfg(test)]
mod script;
mod sessions;
#[cfg(test)]
mod simulation;
mod timers;

use std::collections::HashMap;
use std::time::Duration;

use oncelog_records::MarkerKind;
use oncelog_wire::{ErrorCode, Now, ProducerId, Str, TopicPartition};

pub use errors::{PartitionCheck, error_for_version};
pub use list::ListFilter;
pub use metadata::{Producer, TransactionMetadata, TransactionState, TransactionVersion};
pub use record::Record;

use sessions::Sessions;

/// What the operator can set. Kafka's keys and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `transaction.max.timeout.ms`
    pub transaction_max_timeout: Duration,
    /// `transactional.id.expiration.ms`
    pub transactional_id_expiration: Duration,
    /// `transaction.two.phase.commit.enable`
    pub two_phase_commit_enable: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            transaction_max_timeout: Duration::from_secs(15 * 60),
            transactional_id_expiration: Duration::from_secs(7 * 24 * 60 * 60),
            two_phase_commit_enable: false,
        }
    }
}

/// Something that happened, for the machine to decide on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A producer starts, or starts over (InitProducerId with a transactional id).
    InitProducerId(InitProducerId<'a>),
    /// Partitions join the transaction, which begins if need be: AddPartitionsToTxn, AddOffsetsToTxn, and the first
    /// batch that Produce or TxnOffsetCommit brings to a partition.
    AddPartitions(AddPartitions<'a>),
    /// The client commits or aborts (EndTxn).
    EndTransaction(EndTransaction<'a>),
    /// Markers that the machine asked for have been tried. What is not in `failed` was written.
    MarkersWritten {
        /// As they were in the [`Output`].
        markers: Markers,
        /// The partitions that refused, and why.
        failed: Vec<(TopicPartition, ErrorCode)>,
    },
    /// A topic is gone for good.
    TopicDeleted {
        /// Its name.
        topic: &'a str,
    },
    /// The whole log has been applied. Comes once, before anything else.
    Loaded {
        /// Whether records of open transactions may have been lost although their producers were told that they are
        /// stored. Such transactions must not be committed.
        is_after_power_cut: bool,
    },
    /// A deadline has come.
    Tick,
}

/// See [`Event::InitProducerId`].
#[derive(Clone, Copy, Debug)]
pub struct InitProducerId<'a> {
    /// The id to take over.
    pub transactional_id: &'a str,
    /// How long its transactions may take.
    pub timeout_ms: i32,
    /// Who the client thinks it is, if it says so (KIP-360).
    pub expected: Option<Producer>,
    /// Transactions that never time out (KIP-939).
    pub enable_two_phase_commit: bool,
    /// Keep a transaction that was prepared (KIP-939).
    pub keep_prepared_transaction: bool,
    /// A producer id that nobody has had, in case one is needed; see [`Answer::ProducerIdNeeded`].
    pub fresh: Option<ProducerId>,
}

/// See [`Event::AddPartitions`].
#[derive(Clone, Copy, Debug)]
pub struct AddPartitions<'a> {
    /// Whose transaction.
    pub transactional_id: &'a str,
    /// Who the client says it is.
    pub producer: Producer,
    /// Partitions that exist. Their names are kept, so they should not be slices of a large frame.
    pub partitions: &'a [TopicPartition],
    /// Two where a produce request adds its partition by itself (KIP-890), else zero.
    pub transaction_version: TransactionVersion,
}

/// See [`Event::EndTransaction`].
#[derive(Clone, Copy, Debug)]
pub struct EndTransaction<'a> {
    /// Whose transaction.
    pub transactional_id: &'a str,
    /// Who the client says it is.
    pub producer: Producer,
    /// What the client wants.
    pub outcome: MarkerKind,
    /// See [`TransactionVersion::for_end_transaction`].
    pub transaction_version: TransactionVersion,
    /// As in [`InitProducerId`].
    pub fresh: Option<ProducerId>,
}

/// What the machine wants done, in this order: append `records` in one batch and apply them, write `markers` and
/// report on each, answer.
#[derive(Debug, Default)]
pub struct Output {
    /// For the machine's own partition.
    pub records: Vec<Record>,
    /// For the partitions of transactions.
    pub markers: Vec<Markers>,
    /// To the client. An InitProducerId that has to abort a transaction first is answered by the report on its markers.
    pub answer: Option<Answer>,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done. The producer is what the client is to use from now on.
    Done(Producer),
    /// It is not done.
    Refused(ErrorCode),
    /// Nothing has been decided: ask again with a fresh producer id.
    ProducerIdNeeded,
}

/// The markers that end one transaction, one for each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    /// Whose transaction.
    pub transactional_id: Str,
    /// The producer id and epoch for the markers to carry.
    pub producer: Producer,
    /// Commit or abort.
    pub outcome: MarkerKind,
    /// Tells a partition whether the epoch has been bumped (KIP-1228).
    pub transaction_version: TransactionVersion,
    /// Where to write them.
    pub partitions: Vec<TopicPartition>,
}

/// The coordinator of the transactional ids of one partition of `__transaction_state`.
#[derive(Debug, Default)]
pub struct Coordinator {
    config: Config,
    durable: HashMap<Str, TransactionMetadata>,
    sessions: Sessions,
}

impl Coordinator {
    /// A coordinator of no ids.
    pub fn new(config: Config) -> Coordinator {
        Coordinator { config, ..Coordinator::default() }
    }

    /// Decides what `event` leads to. Durable state changes only as the records are applied.
    pub fn decide(&mut self, event: Event<'_>, now: Now) -> Output {
        let mut output = Output::default();
        match event {
            Event::InitProducerId(request) => self.init_producer_id(&request, now, &mut output),
            Event::AddPartitions(request) => {
                output.answer = Some(self.add_partitions(&request, now, &mut output.records))
            }
            Event::EndTransaction(request) => self.end_transaction(&request, now, &mut output),
            Event::MarkersWritten { markers, failed } => {
                self.markers_written(&markers, failed, now, &mut output)
            }
            Event::TopicDeleted { topic } => self.topic_deleted(topic, now, &mut output),
            Event::Loaded { is_after_power_cut } => self.loaded(is_after_power_cut, now, &mut output),
            Event::Tick => self.tick(now, &mut output),
        }
        output
    }

    /// Takes a record of the log into the durable state, as it is appended and in replay alike.
    pub fn apply(&mut self, record: Record) {
        match record.metadata {
            Some(metadata) => self.durable.insert(record.transactional_id, metadata),
            None => self.durable.remove(record.transactional_id.as_str()),
        };
    }

    /// When [`Event::Tick`] is wanted, on the monotonic clock. May be early, never late.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.sessions.next_deadline()
    }

    /// What is known of `transactional_id`.
    pub fn describe(&self, transactional_id: &str) -> Option<&TransactionMetadata> {
        self.durable.get(transactional_id)
    }

    /// The ids that pass `filter`, in no order.
    pub fn list<'a>(
        &'a self,
        filter: &'a ListFilter,
        now: Now,
    ) -> impl Iterator<Item = (&'a Str, &'a TransactionMetadata)> {
        self.durable
            .iter()
            .filter(move |(transactional_id, metadata)| filter.accepts(transactional_id, metadata, now))
    }
}

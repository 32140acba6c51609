//! One partition's log: what it consists of, and where it stands.
//!
//! A log without segments has no files: it is made with its first append. All watermarks move together, once producer
//! state and transaction index are up to date; see [`Log::publish`].

use std::path::PathBuf;
use std::sync::Arc;

use oncelog_records::MarkerKind;
use oncelog_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition, Uuid};

use crate::LogConfig;
use crate::disk::FilePool;
use crate::journal::Journal;
use crate::leader_epochs::LeaderEpochs;
use crate::producer_state::{Place, ProducerStates};
use crate::segment::Segment;

/// The log of one partition. Reads take `&self`, everything that changes it takes `&mut self`; the host keeps it in a
/// lock.
#[derive(Debug)]
pub struct Log {
    pub(crate) pool: Arc<FilePool>,
    /// Where appends go as well, if they have to survive a power cut.
    pub(crate) journal: Option<Arc<Journal>>,
    pub(crate) topic_partition: TopicPartition,
    pub(crate) topic_id: Uuid,
    pub(crate) directory: PathBuf,
    pub(crate) config: Arc<LogConfig>,
    /// By base offset, the last being the active one.
    pub(crate) segments: Vec<Segment>,
    pub(crate) producers: ProducerStates,
    /// Offsets of the producer snapshots on disk.
    pub(crate) snapshots: Vec<Offset>,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) log_start_offset: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) last_stable: Bound,
    pub(crate) log_end_offset: Offset,
    /// All below is on the device, indexes and a producer snapshot included.
    pub(crate) recovery_point: Offset,
    /// The recovery point before that, which has been written down.
    pub(crate) settled_point: Offset,
    pub(crate) bytes_since_checkpoint: u64,
    /// How often files have been made or renamed since the directory was last synced.
    pub(crate) directory_changes: u32,
    /// Whether a write has failed in a way that could not be undone.
    pub(crate) is_offline: bool,
    /// Whether the files of a segment have been replaced in part; the next start does the rest.
    pub(crate) is_half_swapped: bool,
}

/// An offset, and where its batch starts where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) offset: Offset,
    pub(crate) place: Option<Place>,
}

/// Where a batch comes from, and with that how strictly it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a producer: sequence numbers and transactions are checked.
    Client(Verification),
    /// From the broker's own machines, which know what they do: only epochs are checked.
    Coordinator,
    /// From the transaction coordinator, which ends a transaction: there is room for that even on a full disk.
    TransactionEnd,
}

/// What the transaction coordinator has said of a producer's transaction and this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// It was not asked: the batch is not transactional, or its transaction is open here.
    None,
    /// The partition is part of the transaction; the client added it (Produce up to version 11).
    Verified,
    /// The partition has just been added for this batch (Produce from version 12, KIP-890).
    Begins,
}

/// What ends a transaction in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The producer whose transaction ends.
    pub producer_id: ProducerId,
    /// The epoch the marker carries; with transaction version 2 a new one.
    pub producer_epoch: ProducerEpoch,
    /// Commit or abort.
    pub kind: MarkerKind,
    /// The epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
    /// The transaction version by which the epoch is checked.
    pub transaction_version: i16,
}

/// Which records a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// All up to the high watermark.
    ReadUncommitted,
    /// All up to the last stable offset; aborted transactions are listed beside them.
    ReadCommitted,
}

/// What is known of a producer, as DescribeProducers shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerDescription {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its newest epoch seen here.
    pub producer_epoch: ProducerEpoch,
    /// Its last sequence number in that epoch, or -1.
    pub last_sequence: i32,
    /// The timestamp of its last batch or marker.
    pub last_timestamp: Timestamp,
    /// The epoch of the coordinator that wrote its last marker, or -1.
    pub coordinator_epoch: i32,
    /// Where its open transaction starts, or none.
    pub transaction_start_offset: Offset,
}

/// What has to be remembered of a log outside of its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPoints {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Where recovery has to begin after a crash.
    pub recovery_point: Offset,
    /// The first offset that is still to be seen.
    pub log_start_offset: Offset,
}

impl Log {
    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        self.log_start_offset
    }

    /// The offset up to which records are as safe as they are going to be.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The offset up to which every transaction is decided.
    pub fn last_stable_offset(&self) -> Offset {
        self.last_stable.offset
    }

    /// The offset the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    /// The epoch appended batches carry. It grows when a start finds the log shorter than it was.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Notes that all below an offset is on the device. Only a log with a journal has to be told.
    pub fn advance_high_watermark(&mut self, synced: Offset) {
        self.high_watermark = self.high_watermark.max(synced.min(self.log_end_offset));
        self.settle_last_stable();
    }

    /// Whether the transaction that a producer has open here would still be known after a power cut.
    pub fn is_open_transaction_safe(&self, producer_id: ProducerId) -> bool {
        let first = self.producers.open_transaction_start(producer_id);
        first.is_some_and(|first| first < self.high_watermark)
    }

    /// Whether this incarnation of a producer has a transaction open here.
    pub fn has_open_transaction(&self, producer_id: ProducerId, epoch: ProducerEpoch) -> bool {
        self.producers.has_open_transaction(producer_id, epoch)
    }

    /// The producers that are known, in no order.
    pub fn producers(&self) -> impl Iterator<Item = ProducerDescription> {
        self.producers.iter().map(|(producer_id, state)| ProducerDescription {
            producer_id,
            producer_epoch: state.epoch,
            last_sequence: state.batches.last().map_or(-1, |batch| batch.last_sequence),
            last_timestamp: state.last_timestamp,
            coordinator_epoch: state.coordinator_epoch,
            transaction_start_offset: state.transaction_first_offset,
        })
    }

    /// Whether a write has failed in an unknown state: the log refuses more until it is opened anew.
    pub fn is_offline(&self) -> bool {
        self.is_offline
    }

    /// Bytes of the batches on disk.
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.size)).sum()
    }

    /// Puts other settings in force.
    pub fn set_config(&mut self, config: Arc<LogConfig>) {
        self.config = config;
    }

    /// What the data directory's checkpoints say of this log; nothing while it has no files.
    pub fn points(&self) -> Option<LogPoints> {
        let has_files = !self.segments.is_empty() || self.log_start_offset > Offset::ZERO;
        has_files.then(|| LogPoints {
            topic_partition: self.topic_partition.clone(),
            recovery_point: self.recovery_point,
            log_start_offset: self.log_start_offset,
        })
    }

    /// The offset readers of an isolation level may see up to, and where it lies.
    pub(crate) fn bound(&self, isolation: Isolation) -> Bound {
        match isolation {
            Isolation::ReadUncommitted => Bound { offset: self.high_watermark, place: None },
            Isolation::ReadCommitted => self.last_stable,
        }
    }

    /// Takes note of what has been written, and lets readers see it unless it has to be synced first. Whatever they need
    /// to read it must be in place.
    pub(crate) fn publish(&mut self, log_end_offset: Offset) {
        self.log_end_offset = log_end_offset;
        if self.journal.is_none() {
            self.high_watermark = log_end_offset;
        }
        self.settle_last_stable();
    }

    fn settle_last_stable(&mut self) {
        let high_watermark = self.high_watermark;
        self.producers.advance_high_watermark(high_watermark);
        self.last_stable = match self.producers.first_unstable_offset() {
            Some((offset, place)) if offset > self.log_start_offset && offset < high_watermark => {
                Bound { offset, place }
            }
            Some((offset, _)) if offset < high_watermark => {
                Bound { offset: self.log_start_offset, place: None }
            }
            _ => Bound { offset: high_watermark, place: None },
        };
    }

    /// The segment an offset belongs to: the last one that does not start after it.
    pub(crate) fn segment_of(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
    }
}

//! What can go wrong in a log, and what a client is told of it.

use std::io;
use std::path::{Path, PathBuf};

use oncelog_wire::{ErrorCode, Offset, ProducerEpoch, ProducerId};
use thiserror::Error;

/// The storage failed, or holds something that should not be there.
#[derive(Debug, Error)]
pub enum LogError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason given.
        source: io::Error,
    },
    /// A file holds what it should not.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process uses the data directory.
    #[error("{path} is locked: another oncelog uses this data directory")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// An earlier write failed and could not be undone; the log takes no more until it can be.
    #[error("{path} is offline since a write failed")]
    Offline {
        /// The directory of the log.
        path: PathBuf,
    },
    /// What room there is on the disk is kept for what has to be written more than this.
    #[error("{path}: the disk is full")]
    Full {
        /// The directory of the log.
        path: PathBuf,
    },
}

impl LogError {
    pub(crate) fn invalid(path: &Path, reason: impl Into<String>) -> LogError {
        LogError::Invalid { path: path.to_owned(), reason: reason.into() }
    }

    /// What a client is told.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::KafkaStorageError
    }

    /// Whether it may work when it is tried again. Never so for a sync: what could not be synced is not tried again by the
    /// operating system.
    pub fn may_pass(&self) -> bool {
        match self {
            LogError::Io { action, .. } => !action.starts_with("sync"),
            LogError::Full { .. } => true,
            LogError::Invalid { .. } | LogError::Locked { .. } | LogError::Offline { .. } => false,
        }
    }

    /// Whether there was no room for what was to be written.
    pub(crate) fn is_for_want_of_room(&self) -> bool {
        let LogError::Io { action, source, .. } = self else { return false };
        let is_full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        is_full && !action.starts_with("sync")
    }
}

/// Names the action and the file of an I/O error.
pub(crate) trait IoContext<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, LogError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, LogError> {
        self.map_err(|source| LogError::Io { action, path: path.to_owned(), source })
    }
}

/// Why a batch or marker was not appended. The log is as it was before.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The sequence number does not follow the last one.
    #[error("producer {producer_id}: sequence {sequence} where {expected} was expected")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The first sequence number of the batch.
        sequence: i32,
        /// The one that would have been taken.
        expected: i32,
    },
    /// A newer incarnation of the producer has written here.
    #[error("producer {producer_id}: epoch {epoch} is fenced by {current}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the batch or marker.
        epoch: ProducerEpoch,
        /// The newest epoch seen.
        current: ProducerEpoch,
    },
    /// A transactional batch outside of a transaction, or another one inside.
    #[error("producer {producer_id}: {reason}")]
    InvalidTransactionState {
        /// The producer.
        producer_id: ProducerId,
        /// Which of the two.
        reason: &'static str,
    },
    /// The marker comes from a coordinator that has been replaced.
    #[error("producer {producer_id}: coordinator epoch {epoch} is fenced by {current}")]
    TransactionCoordinatorFenced {
        /// The producer.
        producer_id: ProducerId,
        /// The coordinator epoch of the marker.
        epoch: i32,
        /// The newest coordinator epoch seen.
        current: i32,
    },
    /// The batch does not fit into a segment.
    #[error("a batch of {size} bytes is larger than a segment of {segment_bytes}")]
    LargerThanSegment {
        /// The bytes of the batch.
        size: u32,
        /// The bytes of a segment.
        segment_bytes: u32,
    },
    /// The batch does not fit into the journal.
    #[error("a batch of {size} bytes is larger than the journal takes, {max}")]
    LargerThanJournal {
        /// The bytes of the batch.
        size: u32,
        /// The most bytes a batch may have.
        max: usize,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] LogError),
}

impl AppendError {
    /// What a client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            AppendError::InvalidTransactionState { .. } => ErrorCode::InvalidTxnState,
            AppendError::TransactionCoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
            AppendError::LargerThanSegment { .. } | AppendError::LargerThanJournal { .. } => {
                ErrorCode::RecordListTooLarge
            }
            AppendError::Storage(error) => error.code(),
        }
    }
}

/// Why nothing could be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The offset is below the log's start or above its end.
    #[error("offset {offset} is outside {log_start_offset}..={log_end_offset}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The first offset there is.
        log_start_offset: Offset,
        /// The offset after the last.
        log_end_offset: Offset,
    },
    /// The bytes on disk are not a batch.
    #[error("{path}, byte {position}: {reason}")]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where in it the batch should start.
        position: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] LogError),
}

impl ReadError {
    /// What a client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            ReadError::Corrupt { .. } => ErrorCode::CorruptMessage,
            ReadError::Storage(error) => error.code(),
        }
    }
}

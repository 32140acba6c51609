//! One partition on disk: append, read, recover, retain, compact; producer state and the aborted-transaction index.
//!
//! The files are Kafka's, byte for byte. A [`DataDir`] holds many [`Log`]s; all they do to storage goes through a
//! [`Disk`]. Nothing here knows a client or a socket, reads a clock, or starts a thread.

mod append;
mod batch_file;
mod checkpoint;
mod cleaner;
mod config;
mod data_dir;
mod disk;
mod entry_file;
mod error;
mod flush;
mod journal;
mod journaled;
mod leader_epochs;
mod log;
mod log_files;
mod meta_properties;
mod offset_index;
mod offsets;
mod partition_metadata;
mod producer_snapshot;
mod producer_state;
mod read;
mod recovery;
mod reserve;
mod retention;
mod segment;
mod swap;
mod time_index;
mod transaction_index;

pub use append::Appended;
pub use cleaner::{Cleaning, CleaningStats, Dirtiness, OffsetMapSize};
pub use config::LogConfig;
pub use data_dir::{DataDir, DataDirOptions, Durability, FoundLog};
pub use disk::{DirectoryEntry, Disk, DiskFile, DiskLock, EntryKind, FileDisk, MemoryDisk, OpenMode};
pub use error::{AppendError, LogError, ReadError};
pub use flush::Checkpoint;
pub use journal::{Journal, JournalSync};
pub use leader_epochs::EpochEnd;
pub use log::{Isolation, Log, LogPoints, Marker, Origin, ProducerDescription, Verification};
pub use offsets::{ListedOffset, OffsetQuery};
pub use read::{AbortedTransaction, Read, ReadSpec};
pub use retention::Garbage;
pub use swap::CleanedSegment;

//! The hosts of the machines, and of the logs.
//!
//! A host decides under its machine's lock, appends what was decided to the machine's own partition, applies
//! it, and carries out the effects. Where an append fails the machine is dropped and its log replayed: the
//! recovery path is the error path.

pub(crate) mod cleaning;
pub(crate) mod deadline;
pub(crate) mod groups;
pub(crate) mod internal_log;
pub(crate) mod maintenance;
pub(crate) mod metadata;
pub(crate) mod transactions;

use oncelog_log::LogError;

/// Why a node does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory or one of its logs cannot be used.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The log of a coordinator holds something that cannot be read.
    #[error("{log}: {what}")]
    Replay {
        /// The partition whose log it is.
        log: String,
        /// What is wrong, and where.
        what: String,
    },
}

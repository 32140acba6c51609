//! Why a directory cannot be looked at.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no answer at all. What is wrong within a directory is a [`Finding`](crate::Finding) instead.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
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
    /// Not a data directory of oncelog.
    #[error("{path}: {reason}")]
    NotOurs {
        /// The file or directory that shows it.
        path: PathBuf,
        /// What it shows.
        reason: String,
    },
    /// A broker uses the directory.
    #[error("{path} is locked: a broker uses this data directory")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The directory has no such topic or partition.
    #[error("{directory} has no files of {name}")]
    NotFound {
        /// The data directory.
        directory: PathBuf,
        /// The topic or partition.
        name: String,
    },
    /// What is printed cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Names the action and the file of an I/O error.
pub(crate) trait IoContext<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, InspectError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, InspectError> {
        self.map_err(|source| InspectError::Io { action, path: path.to_owned(), source })
    }
}

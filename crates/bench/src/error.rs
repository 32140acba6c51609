//! Why there is no result.

use oncelog_client::ClientError;

/// What can keep a run from being made, or a report from being read.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The settings contradict each other or themselves.
    #[error("{0}")]
    Settings(String),
    /// A step before or after the measured part failed.
    #[error("{step}: {source}")]
    Step {
        /// What was being done.
        step: String,
        /// What went wrong.
        source: ClientError,
    },
    /// Nothing at all succeeded.
    #[error("not one operation succeeded; the errors were: {0}")]
    NothingDone(String),
    /// Records that were acknowledged are not there, or there are more than were written.
    #[error("{0}")]
    Wrong(String),
    /// A report cannot be read.
    #[error("{name}: {source}")]
    Json {
        /// The report's name.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A report is of another format.
    #[error("{name}: it has format {found}, this program reads {}", crate::FORMAT)]
    Format {
        /// The report's name.
        name: String,
        /// Its format.
        found: u32,
    },
    /// The system does not tell what is asked of it.
    #[error("{0}")]
    Process(String),
}

/// Says which step a client's error belongs to.
pub(crate) trait During<T> {
    fn during(self, step: impl FnOnce() -> String) -> Result<T, BenchError>;
}

impl<T> During<T> for Result<T, ClientError> {
    fn during(self, step: impl FnOnce() -> String) -> Result<T, BenchError> {
        self.map_err(|source| BenchError::Step { step: step(), source })
    }
}

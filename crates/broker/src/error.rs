//! Why a broker does not start.

use std::io;

use oncelog_node::OpenError;
use oncelog_node::config::ConfigError;

/// Why a broker does not start; each prints as one line that names the culprit.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configuration value does not fit.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A listener is described in a way that cannot work.
    #[error("{0}")]
    Listener(String),
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {cause}")]
    Bind {
        /// The address, as configured.
        address: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The data cannot be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The runtime's threads cannot be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
}

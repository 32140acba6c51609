//! What can go wrong between a client and a broker.

use oncelog_records::BatchError;
use oncelog_wire::{ApiKey, DecodeError, ErrorCode};

/// The result of anything a client does.
pub type Result<T> = std::result::Result<T, ClientError>;

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection failed, or an answer did not come in time.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The broker closed the connection.
    #[error("the broker closed the connection")]
    Closed,
    /// The broker answered with an error.
    #[error("the broker answered {code}{}", detail(.message))]
    Refused {
        /// The error.
        code: ErrorCode,
        /// The broker's words for it, where it sent any.
        message: Option<String>,
    },
    /// The broker has no version of this API that we have too.
    #[error("the broker has no version of {0} that this client knows")]
    NoCommonVersion(ApiKey),
    /// The answer cannot be decoded.
    #[error("the answer cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// The answer has records that cannot be read.
    #[error("the answer has bad records: {0}")]
    Records(#[from] BatchError),
    /// The answer is sound but makes no sense.
    #[error("the answer makes no sense: {0}")]
    Nonsense(&'static str),
}

fn detail(message: &Option<String>) -> String {
    message.as_ref().map_or_else(String::new, |message| format!(": {message}"))
}

impl ClientError {
    /// The error the broker answered with, if it did answer.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// An error code as a result.
pub(crate) fn check(code: ErrorCode) -> Result<()> {
    check_with(code, None)
}

/// An error code, with the broker's words, as a result.
pub(crate) fn check_with(code: ErrorCode, message: Option<&str>) -> Result<()> {
    if code.is_error() {
        Err(ClientError::Refused { code, message: message.map(str::to_owned) })
    } else {
        Ok(())
    }
}

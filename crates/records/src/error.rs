//! What can be wrong with the bytes of a batch.

use crate::Compression;

/// Why bytes are not a record batch, or not one that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does; a torn tail looks like this.
    #[error("a batch of {needed} bytes has only {available}")]
    Truncated {
        /// How many bytes the batch has by its own account (or the header alone, where not even that is there).
        needed: usize,
        /// How many there are.
        available: usize,
    },
    /// The length field leaves no room for the header.
    #[error("the batch length {0} is less than a header")]
    LengthTooSmall(i32),
    /// Not the one format there is.
    #[error("magic {0} is not supported")]
    UnsupportedMagic(i8),
    /// A compression codec nobody has assigned.
    #[error("compression codec {0} is unknown")]
    UnknownCodec(u8),
    /// The records are not what the header or their own lengths promise.
    #[error("{0}")]
    Malformed(&'static str),
    /// The compressed part does not decompress.
    #[error("the records do not decompress as {compression}: {reason}")]
    Undecodable {
        /// The codec the header names.
        compression: Compression,
        /// What the codec had to say.
        reason: String,
    },
}

impl BatchError {
    /// Names the codec in an error that came up while reading through it.
    pub(crate) fn while_reading(self, compression: Compression) -> BatchError {
        match self {
            BatchError::Undecodable { reason, .. } => BatchError::Undecodable { compression, reason },
            other => other,
        }
    }
}

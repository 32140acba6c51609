//! Why bytes are no message.

/// What is wrong with a frame, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{within}: {reason} at byte {position}")]
pub struct DecodeError {
    /// What is wrong.
    pub reason: Reason,
    /// The position in the frame.
    pub position: usize,
    /// The message, or the struct within it, that was being read.
    pub within: &'static str,
}

/// What can be wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Reason {
    #[error("{wanted} bytes are needed, {left} are left")]
    Truncated { wanted: usize, left: usize },
    #[error("length {0} is negative")]
    NegativeLength(i64),
    #[error("null where there must be a value")]
    Null,
    #[error("a string of {0} bytes is too long")]
    StringTooLong(usize),
    #[error("the text is not UTF-8")]
    InvalidUtf8,
    #[error("the variable-length number is too long")]
    VarintTooLong,
    #[error("{count} elements do not fit in the {left} bytes that are left")]
    TooManyElements { count: usize, left: usize },
    #[error("the elements would take too much memory")]
    TooMuchMemory,
    #[error("tag {0} has another size than it says")]
    TagSize(u32),
    #[error("too many tagged fields that are not known")]
    TooManyUnknownTags,
    #[error("there is no API with key {0}")]
    UnknownApi(i16),
    #[error("version {0} is not supported")]
    UnsupportedVersion(i16),
    #[error("expected {expected}, found {found}")]
    Mismatch { expected: i32, found: i32 },
}

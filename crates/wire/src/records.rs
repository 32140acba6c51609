//! Record batches as a message carries them: bytes, or a range of a file.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

/// Record batches, unread.
#[derive(Clone, Debug, PartialEq)]
pub enum Records {
    /// In memory; a decoded message has slices of its frame.
    Bytes(Bytes),
    /// Still in a log segment. Only what is encoded has this.
    File(FileSlice),
}

/// A range of a file.
#[derive(Clone, Debug)]
pub struct FileSlice {
    /// The file, kept open for as long as the range is needed.
    pub file: Arc<File>,
    /// Where the range begins.
    pub position: u64,
    /// Its size in bytes.
    pub length: u32,
}

impl Records {
    /// No batches.
    pub const EMPTY: Records = Records::Bytes(Bytes::new());

    /// The size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Records::Bytes(bytes) => bytes.len(),
            Records::File(slice) => slice.length as usize,
        }
    }

    /// Whether there are no batches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, where they are in memory.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Records::Bytes(bytes) => Some(bytes),
            Records::File(_) => None,
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        Records::EMPTY
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records::Bytes(bytes)
    }
}

/// The same range of the same open file.
impl PartialEq for FileSlice {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.position == other.position && self.length == other.length
    }
}

//! Reads the batches of a segment one after the other, through a window.

use std::io;
use std::path::Path;
use std::sync::Arc;

use oncelog_log::{Disk, DiskFile, OpenMode};
use oncelog_records::{BatchError, BatchHeader, BatchView, HEADER_LEN};

/// How much is read at once; a larger batch still comes whole.
const WINDOW: u64 = 256 << 10;

/// A batch that says it is larger than this is taken for damage. No request carries as much.
const MAX_BATCH: usize = 256 << 20;

/// The batches of one file.
pub(crate) struct BatchReader {
    file: Arc<dyn DiskFile>,
    length: u64,
    position: u64,
    window: Vec<u8>,
    window_start: u64,
}

/// What comes next in the file.
pub(crate) enum Next<'a> {
    /// A batch that is whole by its own account; the CRC was not looked at.
    Batch(BatchView<'a>),
    /// What is there is no batch.
    Broken(BatchError),
    /// The file ends.
    End,
}

impl BatchReader {
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> io::Result<BatchReader> {
        let file = disk.open(path, OpenMode::ReadOnly)?;
        let length = file.length()?;
        Ok(BatchReader { file, length, position: 0, window: Vec::new(), window_start: 0 })
    }

    /// Where the next batch starts.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Goes on from `position`, which should be the start of a batch.
    pub(crate) fn resume_at(&mut self, position: u64) {
        self.position = position.min(self.length);
    }

    /// Reads the next batch and goes past it; stays where it is if that is broken.
    pub(crate) fn read_batch(&mut self) -> io::Result<Next<'_>> {
        let left = self.length - self.position;
        if left == 0 {
            return Ok(Next::End);
        }
        let needed = match self.fill(left.min(HEADER_LEN as u64) as usize)?.first_chunk::<HEADER_LEN>() {
            None => HEADER_LEN,
            Some(head) => match BatchHeader::parse(head) {
                Ok(header) => header.size_in_bytes(),
                Err(error) => return Ok(Next::Broken(error)),
            },
        };
        if needed as u64 > left {
            return Ok(Next::Broken(BatchError::Truncated { needed, available: left as usize }));
        }
        if needed > MAX_BATCH {
            return Ok(Next::Broken(BatchError::Malformed("a batch length beyond all reason")));
        }
        self.fill(needed)?;
        let start = (self.position - self.window_start) as usize;
        self.position += needed as u64;
        Ok(match BatchView::parse(&self.window[start..start + needed]) {
            Ok(batch) => Next::Batch(batch),
            Err(error) => {
                self.position -= needed as u64;
                Next::Broken(error)
            }
        })
    }

    /// The next `count` bytes, which have to be there.
    fn fill(&mut self, count: usize) -> io::Result<&[u8]> {
        let end = self.window_start + self.window.len() as u64;
        if self.position < self.window_start || self.position + count as u64 > end {
            let wanted = WINDOW.max(count as u64).min(self.length - self.position);
            self.window.clear();
            self.window.resize(wanted as usize, 0);
            self.window_start = self.position;
            if self.file.read_at(&mut self.window, self.position)? < count {
                self.window.clear();
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let start = (self.position - self.window_start) as usize;
        Ok(&self.window[start..start + count])
    }
}

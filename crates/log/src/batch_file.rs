//! The `.log` file of a segment: batches one after the other, and how they are read.
//!
//! Bounds are handed in, and nothing is believed that was not compared with them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use oncelog_records::{BatchHeader, BatchView, HEADER_LEN};
use oncelog_wire::{FileSlice, Offset, Records};

use crate::disk::{DiskFile, PooledFile};
use crate::error::{IoContext, LogError, ReadError};

/// How much is read at once where headers are looked for; small answers are taken from it.
const WINDOW: usize = 8 * 1024;

/// Ranges up to this size are read into memory; larger ones are handed out as ranges of the file.
const MAX_COPIED: u32 = 32 * 1024;

/// How much is read at once where all batches are wanted; a larger batch still comes whole.
const CHUNK: usize = 256 * 1024;

/// How far behind a broken batch a sound one is looked for.
const MAX_SEARCHED: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct BatchFile {
    base_offset: Offset,
    file: PooledFile,
}

/// A batch that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) header: BatchHeader,
    pub(crate) position: u32,
}

impl BatchFile {
    pub(crate) fn new(file: PooledFile, base_offset: Offset) -> BatchFile {
        BatchFile { base_offset, file }
    }

    pub(crate) fn file(&self) -> &PooledFile {
        &self.file
    }

    pub(crate) fn open(&self) -> Result<Arc<dyn DiskFile>, LogError> {
        self.file.get().on("open", self.file.path())
    }

    /// Walks over the headers from `position`, which has to be the start of a batch, to `end`.
    pub(crate) fn headers(self: &Arc<Self>, position: u32, end: u32) -> Result<HeaderCursor, LogError> {
        let open = self.open()?;
        let batches = self.clone();
        Ok(HeaderCursor { batches, open, position, end, window: [0; WINDOW], window_start: 0, filled: 0 })
    }

    /// Reads one whole batch.
    pub(crate) fn read_batch(&self, found: &Found) -> Result<Bytes, ReadError> {
        let mut bytes = BytesMut::zeroed(found.header.size_in_bytes());
        self.fill(&*self.open()?, &mut bytes, found.position)?;
        Ok(bytes.freeze())
    }

    /// Reads the batches between `position` and `end` into `buffer`, as many as fit and at least one, and gives them to
    /// `visit` with their positions. Says how far it came.
    pub(crate) fn read_batches(
        &self,
        position: u32,
        end: u32,
        buffer: &mut Vec<u8>,
        visit: &mut dyn FnMut(u32, &BatchView<'_>) -> Result<(), ReadError>,
    ) -> Result<u32, ReadError> {
        let open = self.open()?;
        buffer.resize(CHUNK.min((end - position) as usize), 0);
        self.fill(&*open, buffer, position)?;
        let first = self.parse(buffer, position, end)?;
        if first.size_in_bytes() > buffer.len() {
            buffer.resize(first.size_in_bytes(), 0);
            self.fill(&*open, buffer, position)?;
        }
        let mut at = 0;
        // What cannot be parsed may continue beyond the buffer; if not, it fails as the first of the next call.
        while let Ok(batch) = BatchView::parse(&buffer[at..]) {
            self.parse(&buffer[at..], position + at as u32, end)?;
            visit(position + at as u32, &batch)?;
            at += batch.size_in_bytes();
        }
        Ok(position + at as u32)
    }

    /// Where the first batch starts at `position` or behind it whose CRC is right; looked for in the next 16 MiB.
    pub(crate) fn sound_batch_from(&self, position: u32, end: u32) -> Result<Option<u32>, LogError> {
        let mut bytes = vec![0; ((end - position) as usize).min(MAX_SEARCHED)];
        let read = self.open()?.read_at(&mut bytes, u64::from(position)).on("read", self.file.path())?;
        bytes.truncate(read);
        let is_sound = |at: &usize| BatchView::parse(&bytes[*at..]).is_ok_and(|batch| batch.is_crc_valid());
        Ok((0..bytes.len()).find(is_sound).map(|at| position + at as u32))
    }

    pub(crate) fn corrupt(&self, position: u32, reason: impl Into<String>) -> ReadError {
        let (path, position) = (self.file.path().to_owned(), u64::from(position));
        ReadError::Corrupt { path, position, reason: reason.into() }
    }

    fn fill(&self, open: &dyn DiskFile, buffer: &mut [u8], position: u32) -> Result<(), ReadError> {
        match open.read_at(buffer, u64::from(position)).on("read", self.file.path())? == buffer.len() {
            true => Ok(()),
            false => Err(self.corrupt(position, "the file is shorter than it was")),
        }
    }

    /// Takes the header of a batch at `position`, as far as it can be one.
    fn parse(&self, bytes: &[u8], position: u32, end: u32) -> Result<BatchHeader, ReadError> {
        let head = bytes.first_chunk::<HEADER_LEN>();
        let head = head.ok_or_else(|| self.corrupt(position, "less than the header of a batch is left"))?;
        let header = BatchHeader::parse(head).map_err(|error| self.corrupt(position, error.to_string()))?;
        if header.size_in_bytes() as u64 > u64::from(end - position) {
            return Err(self.corrupt(position, "the batch reaches beyond the end of the segment"));
        }
        if header.base_offset() < self.base_offset || header.last_offset_delta() < 0 {
            return Err(self.corrupt(position, "the offsets of the batch are outside of the segment"));
        }
        Ok(header)
    }
}

/// Walks over the headers of a file, reading it a window at a time.
pub(crate) struct HeaderCursor {
    batches: Arc<BatchFile>,
    open: Arc<dyn DiskFile>,
    /// Where the next batch starts.
    pub(crate) position: u32,
    pub(crate) end: u32,
    window: [u8; WINDOW],
    window_start: u32,
    filled: usize,
}

impl HeaderCursor {
    /// The next batch; `None` at the end.
    pub(crate) fn next_batch(&mut self) -> Result<Option<Found>, ReadError> {
        let position = self.position;
        if position >= self.end {
            return Ok(None);
        }
        self.load(position)?;
        let bytes = &self.window[(position - self.window_start) as usize..self.filled];
        let header = self.batches.parse(bytes, position, self.end)?;
        self.position += header.size_in_bytes() as u32;
        Ok(Some(Found { header, position }))
    }

    /// The next batch that reaches `offset`.
    pub(crate) fn skip_to(&mut self, offset: Offset) -> Result<Option<Found>, ReadError> {
        loop {
            match self.next_batch()? {
                Some(found) if found.header.last_offset() < offset => {}
                found => return Ok(found),
            }
        }
    }

    /// The start and base offset of the next batch that ends beyond `limit`.
    pub(crate) fn skip_to_position(&mut self, limit: u32) -> Result<(u32, Offset), ReadError> {
        loop {
            match self.next_batch()? {
                Some(_) if self.position <= limit => {}
                Some(found) => return Ok((found.position, found.header.base_offset())),
                None => return Err(self.batches.corrupt(self.end, "the last batch does not end here")),
            }
        }
    }

    /// The bytes from `start` to `stop`: from the window, from the file, or as a range of the file, by their size.
    pub(crate) fn take(&self, start: u32, stop: u32) -> Result<Records, ReadError> {
        let length = stop - start;
        if start >= self.window_start && (stop - self.window_start) as usize <= self.filled {
            let from = (start - self.window_start) as usize;
            return Ok(Records::Bytes(Bytes::copy_from_slice(&self.window[from..from + length as usize])));
        }
        match self.open.os_file() {
            Some(file) if length > MAX_COPIED => {
                Ok(Records::File(FileSlice { file: file.clone(), position: u64::from(start), length }))
            }
            _ => {
                let mut bytes = BytesMut::zeroed(length as usize);
                self.batches.fill(&*self.open, &mut bytes, start)?;
                Ok(Records::Bytes(bytes.freeze()))
            }
        }
    }

    /// Has the window start at or before `position` and hold at least a header from there, if there is one.
    fn load(&mut self, position: u32) -> Result<(), ReadError> {
        let needed = HEADER_LEN.min((self.end - position) as usize);
        let is_loaded =
            position >= self.window_start && (position - self.window_start) as usize + needed <= self.filled;
        if !is_loaded {
            let length = WINDOW.min((self.end - position) as usize);
            let path = self.batches.file.path();
            self.filled =
                self.open.read_at(&mut self.window[..length], u64::from(position)).on("read", path)?;
            self.window_start = position;
        }
        Ok(())
    }
}

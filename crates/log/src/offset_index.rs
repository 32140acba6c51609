//! `.index`: for about every 4 KiB of a segment, the last offset of a batch and where the batch starts.
//!
//! An entry has 8 bytes: the offset less the segment's base offset, and the position (`OffsetIndex`).

use oncelog_wire::Offset;

use crate::disk::PooledFile;
use crate::entry_file::EntryFile;
use crate::error::LogError;

pub(crate) const ENTRY_BYTES: u32 = 8;

#[derive(Debug)]
pub(crate) struct OffsetIndex {
    base_offset: Offset,
    entries: EntryFile<8>,
}

/// The last offset of a batch, and where the batch starts in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) last_offset: Offset,
    pub(crate) position: u32,
}

impl OffsetIndex {
    pub(crate) fn create(file: PooledFile, base_offset: Offset) -> Result<OffsetIndex, LogError> {
        Ok(OffsetIndex { base_offset, entries: EntryFile::create(file)? })
    }

    pub(crate) fn open(file: PooledFile, length: u64, base_offset: Offset) -> OffsetIndex {
        OffsetIndex { base_offset, entries: EntryFile::open(file, length) }
    }

    pub(crate) fn entries(&self) -> &EntryFile<8> {
        &self.entries
    }

    pub(crate) fn entries_mut(&mut self) -> &mut EntryFile<8> {
        &mut self.entries
    }

    pub(crate) fn push(&mut self, entry: OffsetEntry) {
        let relative = (entry.last_offset.0 - self.base_offset.0) as u32;
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&relative.to_be_bytes());
        bytes[4..].copy_from_slice(&entry.position.to_be_bytes());
        self.entries.push(bytes);
    }

    /// Where to start looking for the batch that holds `offset`: the start of a batch at or before it.
    pub(crate) fn position_before(&self, offset: Offset) -> Result<u32, LogError> {
        let entry = self.entries.last_before(|entry| self.parse(entry).last_offset <= offset)?;
        Ok(entry.map_or(0, |entry| self.parse(&entry).position))
    }

    /// The largest known start of a batch that is not beyond `position`.
    pub(crate) fn start_before(&self, position: u32) -> Result<u32, LogError> {
        let entry = self.entries.last_before(|entry| self.parse(entry).position <= position)?;
        Ok(entry.map_or(0, |entry| self.parse(&entry).position))
    }

    pub(crate) fn last(&self) -> Result<Option<OffsetEntry>, LogError> {
        Ok(self.entries.last()?.map(|entry| self.parse(&entry)))
    }

    /// Drops the entries of batches that reach `offset`.
    pub(crate) fn truncate_to(&mut self, offset: Offset) -> Result<(), LogError> {
        let keep = self.entries.partition_point(|entry| self.parse(entry).last_offset < offset)?;
        self.entries.truncate(keep)
    }

    fn parse(&self, entry: &[u8; 8]) -> OffsetEntry {
        let [a, b, c, d, e, f, g, h] = *entry;
        OffsetEntry {
            last_offset: self.base_offset.plus(i64::from(u32::from_be_bytes([a, b, c, d]))),
            position: u32::from_be_bytes([e, f, g, h]),
        }
    }
}

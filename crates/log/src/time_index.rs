//! `.timeindex`: the largest timestamp so far, and the last offset of the batch that brought it.
//!
//! An entry has 12 bytes: the timestamp, and the offset less the segment's base offset (`TimeIndex`). Both grow from
//! entry to entry.

use oncelog_wire::{Offset, Timestamp};

use crate::disk::PooledFile;
use crate::entry_file::EntryFile;
use crate::error::LogError;

pub(crate) const ENTRY_BYTES: u32 = 12;

#[derive(Debug)]
pub(crate) struct TimeIndex {
    base_offset: Offset,
    entries: EntryFile<12>,
    /// The last entry, or "none" at the base offset.
    last: TimeEntry,
}

/// A timestamp, and the last offset of the first batch that has it as its largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: Timestamp,
    pub(crate) offset: Offset,
}

impl TimeIndex {
    pub(crate) fn create(file: PooledFile, base_offset: Offset) -> Result<TimeIndex, LogError> {
        let last = TimeEntry { timestamp: Timestamp::NONE, offset: base_offset };
        Ok(TimeIndex { base_offset, entries: EntryFile::create(file)?, last })
    }

    pub(crate) fn open(file: PooledFile, length: u64, base_offset: Offset) -> Result<TimeIndex, LogError> {
        let last = TimeEntry { timestamp: Timestamp::NONE, offset: base_offset };
        let mut index = TimeIndex { base_offset, entries: EntryFile::open(file, length), last };
        index.load_last()?;
        Ok(index)
    }

    pub(crate) fn entries(&self) -> &EntryFile<12> {
        &self.entries
    }

    pub(crate) fn entries_mut(&mut self) -> &mut EntryFile<12> {
        &mut self.entries
    }

    pub(crate) fn last(&self) -> TimeEntry {
        self.last
    }

    /// Appends an entry if its timestamp is larger than all before.
    pub(crate) fn push(&mut self, entry: TimeEntry) {
        if entry.timestamp <= self.last.timestamp {
            return;
        }
        let relative = (entry.offset.0 - self.base_offset.0) as u32;
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&entry.timestamp.0.to_be_bytes());
        bytes[8..].copy_from_slice(&relative.to_be_bytes());
        self.entries.push(bytes);
        self.last = entry;
    }

    /// An offset before which no record has this timestamp or a later one.
    pub(crate) fn offset_before(&self, timestamp: Timestamp) -> Result<Offset, LogError> {
        let entry = self.entries.last_before(|entry| self.parse(entry).timestamp < timestamp)?;
        Ok(entry.map_or(self.base_offset, |entry| self.parse(&entry).offset))
    }

    /// Drops the entries that point to `offset` or beyond.
    pub(crate) fn truncate_to(&mut self, offset: Offset) -> Result<(), LogError> {
        let keep = self.entries.partition_point(|entry| self.parse(entry).offset < offset)?;
        self.entries.truncate(keep)?;
        self.load_last()
    }

    fn load_last(&mut self) -> Result<(), LogError> {
        self.last = match self.entries.last()? {
            Some(entry) => self.parse(&entry),
            None => TimeEntry { timestamp: Timestamp::NONE, offset: self.base_offset },
        };
        Ok(())
    }

    fn parse(&self, entry: &[u8; 12]) -> TimeEntry {
        let (timestamp, relative) = entry.split_at(8);
        TimeEntry {
            timestamp: Timestamp(i64::from_be_bytes(timestamp.try_into().expect("8 bytes"))),
            offset: self
                .base_offset
                .plus(i64::from(u32::from_be_bytes(relative.try_into().expect("4 bytes")))),
        }
    }
}

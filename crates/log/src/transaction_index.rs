//! `.txnindex`: the aborted transactions whose markers a segment holds, by the offsets of the markers.
//!
//! An entry has 34 bytes: version 0, producer id, first and last offset of the transaction, and the last stable offset
//! once it was over (`AbortedTxn`). The file is there for every segment, so that a lost one is noticed.

use oncelog_wire::{Offset, ProducerId};

use crate::disk::PooledFile;
use crate::entry_file::EntryFile;
use crate::error::LogError;

pub(crate) const ENTRY_BYTES: u32 = 34;

const VERSION: i16 = 0;

#[derive(Debug)]
pub(crate) struct TransactionIndex {
    entries: EntryFile<34>,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedEntry {
    pub(crate) producer_id: ProducerId,
    pub(crate) first_offset: Offset,
    /// The marker's.
    pub(crate) last_offset: Offset,
    /// The first offset of the next transaction that was open when this one ended, or the offset after the marker.
    pub(crate) last_stable_offset: Offset,
}

impl TransactionIndex {
    pub(crate) fn create(file: PooledFile) -> Result<TransactionIndex, LogError> {
        Ok(TransactionIndex { entries: EntryFile::create(file)? })
    }

    /// An index that has no file until it is complete.
    pub(crate) fn held(file: PooledFile) -> Result<TransactionIndex, LogError> {
        Ok(TransactionIndex { entries: EntryFile::held(file)? })
    }

    pub(crate) fn open(file: PooledFile, length: u64) -> TransactionIndex {
        TransactionIndex { entries: EntryFile::open(file, length) }
    }

    pub(crate) fn entries(&self) -> &EntryFile<34> {
        &self.entries
    }

    pub(crate) fn entries_mut(&mut self) -> &mut EntryFile<34> {
        &mut self.entries
    }

    pub(crate) fn push(&mut self, aborted: AbortedEntry) {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
        let fields = [
            aborted.producer_id.0,
            aborted.first_offset.0,
            aborted.last_offset.0,
            aborted.last_stable_offset.0,
        ];
        for (at, field) in fields.into_iter().enumerate() {
            bytes[2 + 8 * at..][..8].copy_from_slice(&field.to_be_bytes());
        }
        self.entries.push(bytes);
    }

    pub(crate) fn last(&self) -> Result<Option<AbortedEntry>, LogError> {
        Ok(self.entries.last()?.map(|entry| parse(&entry)))
    }

    /// Adds to `found` the transactions that may have records in `from..until`; says whether there can be more of them
    /// in later segments.
    pub(crate) fn collect(
        &self,
        from: Offset,
        until: Offset,
        found: &mut Vec<AbortedEntry>,
    ) -> Result<bool, LogError> {
        let first = self.entries.partition_point(|entry| parse(entry).last_offset < from)?;
        let mut can_be_more = true;
        self.entries.for_each_from(first, |entry| {
            let aborted = parse(entry);
            if aborted.first_offset < until {
                found.push(aborted);
            }
            can_be_more = aborted.last_stable_offset < until;
            can_be_more
        })?;
        Ok(can_be_more)
    }

    /// Drops the entries whose markers are at `offset` or beyond.
    pub(crate) fn truncate_to(&mut self, offset: Offset) -> Result<(), LogError> {
        let keep = self.entries.partition_point(|entry| parse(entry).last_offset < offset)?;
        self.entries.truncate(keep)
    }

    /// Whether every entry makes sense within `from..until`; garbage does not.
    pub(crate) fn is_plausible(&self, from: Offset, until: Offset) -> Result<bool, LogError> {
        let (mut is_plausible, mut last) = (true, from.plus(-1));
        self.entries.for_each_from(0, |bytes| {
            let entry = parse(bytes);
            is_plausible = bytes[..2] == VERSION.to_be_bytes()
                && entry.last_offset > last
                && entry.last_offset < until
                && entry.first_offset < entry.last_offset
                && entry.first_offset >= Offset::ZERO
                && entry.last_stable_offset <= entry.last_offset.next();
            last = entry.last_offset;
            is_plausible
        })?;
        Ok(is_plausible)
    }
}

fn parse(entry: &[u8; 34]) -> AbortedEntry {
    let field =
        |at: usize| i64::from_be_bytes(entry[2 + 8 * at..][..8].try_into().expect("four fields of 8 bytes"));
    AbortedEntry {
        producer_id: ProducerId(field(0)),
        first_offset: Offset(field(1)),
        last_offset: Offset(field(2)),
        last_stable_offset: Offset(field(3)),
    }
}

//! A batch where it lies: a checked header in front of bytes that are borrowed.

use std::ops::Deref;

use oncelog_wire::{Offset, Timestamp};

use crate::header::MAGIC;
use crate::{BatchError, BatchHeader, HEADER_LEN, Records, record};

/// One whole batch in somebody else's bytes. The header's fields are read through [`BatchHeader`].
#[derive(Clone, Copy)]
pub struct BatchView<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// Takes the batch at the head of `bytes`; what follows it is left alone.
    ///
    /// Checks the magic and the length only: neither the CRC nor the records have been looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<BatchView<'a>, BatchError> {
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(match bytes.get(MAGIC) {
                Some(&magic) if magic != 2 => BatchError::UnsupportedMagic(magic as i8),
                _ => BatchError::Truncated { needed: HEADER_LEN, available: bytes.len() },
            });
        };
        let header = BatchHeader::parse(head)?;
        let needed = header.size_in_bytes();
        let bytes = bytes.get(..needed).ok_or(BatchError::Truncated { needed, available: bytes.len() })?;
        Ok(BatchView { header, bytes })
    }

    /// The whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records: what follows the header, compressed where the batch is.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// A copy of the header, to be patched.
    pub fn header(&self) -> BatchHeader {
        self.header
    }

    /// Whether the bytes are those the CRC was made of.
    pub fn is_crc_valid(&self) -> bool {
        self.compute_crc(self.payload()) == self.crc()
    }

    /// Reads the records one by one, through the compression.
    pub fn records(&self) -> Result<Records<'a>, BatchError> {
        Records::of(self)
    }

    /// The first record whose timestamp is `timestamp` or later.
    pub fn first_record_at_or_after(
        &self,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, BatchError> {
        if self.max_timestamp() < timestamp {
            return Ok(None);
        }
        let mut found = None;
        record::skim(self, |_, skimmed| {
            let at = skimmed.timestamp(self);
            if at >= timestamp {
                found = Some((self.base_offset().plus(i64::from(skimmed.offset_delta)), at));
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// The first of the records with the largest timestamp; `None` where there is no record.
    pub fn record_with_max_timestamp(&self) -> Result<Option<(Offset, Timestamp)>, BatchError> {
        let mut found: Option<(Offset, Timestamp)> = None;
        record::skim(self, |_, skimmed| {
            let at = skimmed.timestamp(self);
            if found.is_none_or(|(_, max)| at > max) {
                found = Some((self.base_offset().plus(i64::from(skimmed.offset_delta)), at));
            }
            true
        })?;
        Ok(found)
    }
}

impl Deref for BatchView<'_> {
    type Target = BatchHeader;
    fn deref(&self) -> &BatchHeader {
        &self.header
    }
}

impl std::fmt::Debug for BatchView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.header.fmt(f)
    }
}

/// The batches that stand one after the other in `bytes`.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

/// Iterates over consecutive batches; ends after the first error, and a part of a batch at the end is an error.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = BatchView::parse(self.rest);
        self.rest = match &batch {
            Ok(batch) => &self.rest[batch.size_in_bytes()..],
            Err(_) => &[],
        };
        Some(batch)
    }
}

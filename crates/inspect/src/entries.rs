//! The small fixed-size entries of indexes and producer snapshots, taken apart.

use oncelog_wire::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// The last offset of a batch, and where the batch starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OffsetEntry {
    pub(crate) last_offset: Offset,
    pub(crate) position: u64,
}

/// The largest timestamp so far, and the batch that brought it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: Timestamp,
    pub(crate) offset: Offset,
}

/// An aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedEntry {
    pub(crate) version: i16,
    pub(crate) producer_id: ProducerId,
    pub(crate) first_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) last_stable_offset: Offset,
}

/// A producer in a snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotEntry {
    pub(crate) producer_id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) last_sequence: i32,
    pub(crate) last_offset: Offset,
    pub(crate) timestamp: Timestamp,
    pub(crate) coordinator_epoch: i32,
    pub(crate) transaction_first_offset: Offset,
}

impl OffsetEntry {
    pub(crate) fn parse(bytes: &[u8; 8], base_offset: Offset) -> OffsetEntry {
        let mut fields = Fields(bytes);
        OffsetEntry { last_offset: base_offset.plus(fields.u32().into()), position: fields.u32().into() }
    }
}

impl TimeEntry {
    pub(crate) fn parse(bytes: &[u8; 12], base_offset: Offset) -> TimeEntry {
        let mut fields = Fields(bytes);
        TimeEntry { timestamp: Timestamp(fields.i64()), offset: base_offset.plus(fields.u32().into()) }
    }
}

impl AbortedEntry {
    pub(crate) fn parse(bytes: &[u8; 34]) -> AbortedEntry {
        let mut fields = Fields(bytes);
        AbortedEntry {
            version: fields.i16(),
            producer_id: ProducerId(fields.i64()),
            first_offset: Offset(fields.i64()),
            last_offset: Offset(fields.i64()),
            last_stable_offset: Offset(fields.i64()),
        }
    }
}

/// Reads a producer snapshot; says what is wrong with it where it cannot be one.
pub(crate) fn parse_snapshot(content: &[u8]) -> Result<Vec<SnapshotEntry>, &'static str> {
    let (head, body) = content.split_first_chunk::<6>().ok_or("too short")?;
    let mut head = Fields(head);
    if head.i16() != 1 {
        return Err("of an unknown version");
    }
    if head.u32() != crc32c::crc32c(body) {
        return Err("its CRC does not match");
    }
    let (count, body) = body.split_first_chunk::<4>().ok_or("too short")?;
    let (entries, rest) = body.as_chunks::<46>();
    if !rest.is_empty() || entries.len() as u32 != Fields(count).u32() {
        return Err("it has another number of producers than it says");
    }
    let parse = |bytes: &[u8; 46]| {
        let mut fields = Fields(bytes);
        let (producer_id, epoch) = (ProducerId(fields.i64()), ProducerEpoch(fields.i16()));
        let (last_sequence, last_offset) = (fields.u32() as i32, Offset(fields.i64()));
        let _offset_delta = fields.u32();
        SnapshotEntry {
            producer_id,
            epoch,
            last_sequence,
            last_offset,
            timestamp: Timestamp(fields.i64()),
            coordinator_epoch: fields.u32() as i32,
            transaction_first_offset: Offset(fields.i64()),
        }
    };
    Ok(entries.iter().map(parse).collect())
}

/// Big-endian numbers one after the other, as many as the caller knows to be there.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("entries are as long as their fields");
        self.0 = rest;
        *field
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take())
    }
}

//! A frame of the journal, as bytes: a header, and entries of batches as they were placed in their logs.
//!
//! A frame starts at a page of its own, so that writing it never touches bytes that have been synced.

use oncelog_wire::{Offset, Uuid};

/// Frames start at multiples of this. What lies between the end of one and the start of the next are zeros.
pub(super) const PAGE: usize = 4096;

/// Magic, CRC, length of the entries, era, sequence, first sequence needed.
pub(super) const HEADER: usize = 4 + 4 + 4 + 8 + 8 + 8;

/// Topic id, partition, length of the batch.
pub(super) const ENTRY_HEADER: usize = 16 + 4 + 4;

const MAGIC: [u8; 4] = *b"ojf1";

/// The CRC covers everything from here on.
const LENGTH: usize = 8;
const ERA: usize = 12;
const SEQUENCE: usize = 20;
const NEEDED_FROM: usize = 28;

/// A log, by the id of its topic and the index of its partition.
pub(crate) type LogKey = (Uuid, i32);

/// What the header of a frame says beside its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameNumbers {
    /// Counts the starts of the journal; frames of other eras mean nothing.
    pub era: u64,
    /// Counts the frames of an era, from 1.
    pub sequence: u64,
    /// The first frame of the era that is not known to have become superfluous.
    pub needed_from: u64,
}

/// Makes room for a header in front of the entries.
pub(super) fn begin(bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.resize(HEADER, 0);
}

/// Adds an entry: the batch in two parts.
pub(super) fn push(bytes: &mut Vec<u8>, log: LogKey, header: &[u8], payload: &[u8]) {
    bytes.reserve(ENTRY_HEADER + header.len() + payload.len());
    bytes.extend_from_slice(&log.0.0);
    bytes.extend_from_slice(&log.1.to_be_bytes());
    bytes.extend_from_slice(&((header.len() + payload.len()) as u32).to_be_bytes());
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(payload);
}

/// Fills the header in, and the last page up.
pub(super) fn seal(bytes: &mut Vec<u8>, numbers: FrameNumbers) {
    let length = (bytes.len() - HEADER) as u32;
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[LENGTH..ERA].copy_from_slice(&length.to_be_bytes());
    bytes[ERA..SEQUENCE].copy_from_slice(&numbers.era.to_be_bytes());
    bytes[SEQUENCE..NEEDED_FROM].copy_from_slice(&numbers.sequence.to_be_bytes());
    bytes[NEEDED_FROM..HEADER].copy_from_slice(&numbers.needed_from.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[LENGTH..]);
    bytes[4..LENGTH].copy_from_slice(&crc.to_be_bytes());
    bytes.resize(padded(bytes.len()), 0);
}

/// The bytes a frame takes up.
pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(PAGE)
}

/// The length of the whole frame (without what fills up its last page) and its numbers, if this is a header.
pub(super) fn parse_header(header: &[u8; HEADER]) -> Option<(usize, FrameNumbers)> {
    let number = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let length = u32::from_be_bytes(header[LENGTH..ERA].try_into().expect("4 bytes"));
    let numbers =
        FrameNumbers { era: number(ERA), sequence: number(SEQUENCE), needed_from: number(NEEDED_FROM) };
    (header[..4] == MAGIC).then_some((HEADER + length as usize, numbers))
}

/// Whether a whole frame is as it was written.
pub(super) fn is_sound(frame: &[u8]) -> bool {
    frame.get(4..LENGTH).is_some_and(|crc| *crc == crc32c::crc32c(&frame[LENGTH..]).to_be_bytes())
}

/// Gives the log, the base offset and the range of bytes of each batch in a sound frame to `visit`; false where the
/// entries do not fill the frame.
pub(super) fn entries(frame: &[u8], mut visit: impl FnMut(LogKey, Offset, std::ops::Range<usize>)) -> bool {
    let mut at = HEADER;
    while at < frame.len() {
        let Some(header) = frame[at..].first_chunk::<ENTRY_HEADER>() else { return false };
        let (id, rest) = header.split_at(16);
        let (partition, length) = rest.split_at(4);
        let log = (
            Uuid(id.try_into().expect("16 bytes")),
            i32::from_be_bytes(partition.try_into().expect("4 bytes")),
        );
        let length = u32::from_be_bytes(length.try_into().expect("4 bytes")) as usize;
        at += ENTRY_HEADER;
        let Some(batch) = frame.get(at..at.saturating_add(length)) else { return false };
        let Some(base_offset) = batch.first_chunk::<8>() else { return false };
        visit(log, Offset(i64::from_be_bytes(*base_offset)), at..at + length);
        at += length;
    }
    true
}

//! `<offset>.snapshot`: the state of the producers before an offset, so that a start need not read the whole log.
//!
//! Version (2 bytes), CRC-32C of all that follows (4), count (4), then 46 bytes for each producer
//! (`ProducerStateManager.writeSnapshot`). Only the last batch of each producer is kept.

use oncelog_wire::{Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::producer_state::{ProducerState, ProducerStates, RememberedBatch, RememberedBatches};

pub(crate) const EXTENSION: &str = "snapshot";

const VERSION: i16 = 1;
const PREFIX: usize = 6;
const ENTRY: usize = 46;

/// The snapshot file's content.
pub(crate) fn encode(producers: &ProducerStates) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX + 4 + ENTRY * producers.iter().count());
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    let mut count = 0i32;
    for (producer_id, state) in producers.iter() {
        let last = state.batches.last();
        out.extend_from_slice(&producer_id.0.to_be_bytes());
        out.extend_from_slice(&state.epoch.0.to_be_bytes());
        out.extend_from_slice(&last.map_or(-1, |batch| batch.last_sequence).to_be_bytes());
        out.extend_from_slice(&last.map_or(-1, |batch| batch.last_offset.0).to_be_bytes());
        out.extend_from_slice(&last.map_or(0, |batch| batch.offset_delta).to_be_bytes());
        out.extend_from_slice(&state.last_timestamp.0.to_be_bytes());
        out.extend_from_slice(&state.coordinator_epoch.to_be_bytes());
        out.extend_from_slice(&state.transaction_first_offset.0.to_be_bytes());
        count += 1;
    }
    out[PREFIX..PREFIX + 4].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&out[PREFIX..]);
    out[2..PREFIX].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Reads a snapshot; says what is wrong with it where it cannot be one.
pub(crate) fn decode(content: &[u8]) -> Result<ProducerStates, &'static str> {
    let (version, rest) = content.split_first_chunk().ok_or("too short")?;
    let (crc, body) = rest.split_first_chunk().ok_or("too short")?;
    if i16::from_be_bytes(*version) != VERSION {
        return Err("unknown version");
    }
    if u32::from_be_bytes(*crc) != crc32c::crc32c(body) {
        return Err("wrong CRC");
    }
    let (count, body) = body.split_first_chunk().ok_or("too short")?;
    let (entries, rest) = body.as_chunks::<ENTRY>();
    if !rest.is_empty() || entries.len() != i32::from_be_bytes(*count) as usize {
        return Err("wrong number of producers");
    }
    let mut producers = ProducerStates::default();
    for entry in entries {
        let (producer_id, state) = decode_entry(entry);
        producers.restore(producer_id, state);
    }
    Ok(producers)
}

fn decode_entry(entry: &[u8; ENTRY]) -> (ProducerId, ProducerState) {
    let mut at = 0;
    let last_timestamp = Timestamp(take(entry, &mut 26));
    let producer_id = ProducerId(take(entry, &mut at));
    let epoch = ProducerEpoch(take(entry, &mut at));
    let last_sequence: i32 = take(entry, &mut at);
    let last_offset = Offset(take(entry, &mut at));
    let offset_delta: i32 = take(entry, &mut at);
    at += 8;
    let coordinator_epoch: i32 = take(entry, &mut at);
    let transaction_first_offset = Offset(i64::max(take(entry, &mut at), -1));
    let mut batches = RememberedBatches::default();
    if last_offset >= Offset::ZERO {
        batches.push(RememberedBatch { last_sequence, last_offset, offset_delta, timestamp: last_timestamp });
    }
    (
        producer_id,
        ProducerState { epoch, coordinator_epoch, last_timestamp, transaction_first_offset, batches },
    )
}

/// Numbers that are read from fixed places.
trait Number {
    fn read(bytes: &[u8]) -> Self;
    const SIZE: usize;
}

macro_rules! number {
    ($($type:ty),*) => {
        $(impl Number for $type {
            const SIZE: usize = size_of::<$type>();
            fn read(bytes: &[u8]) -> Self {
                <$type>::from_be_bytes(bytes.try_into().expect("as many bytes as the number has"))
            }
        })*
    };
}
number!(i16, i32, i64);

fn take<T: Number>(entry: &[u8; ENTRY], at: &mut usize) -> T {
    let value = T::read(&entry[*at..*at + T::SIZE]);
    *at += T::SIZE;
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn some_producers() -> ProducerStates {
        let mut producers = ProducerStates::default();
        for id in 0..3 {
            let mut batches = RememberedBatches::default();
            if id > 0 {
                batches.push(RememberedBatch {
                    last_sequence: i32::MAX,
                    last_offset: Offset(70 + id),
                    offset_delta: 4,
                    timestamp: Timestamp(99),
                });
            }
            let state = ProducerState {
                epoch: ProducerEpoch(id as i16),
                coordinator_epoch: 7 - id as i32,
                last_timestamp: Timestamp(99),
                transaction_first_offset: if id == 2 { Offset(60) } else { Offset::NONE },
                batches,
            };
            producers.restore(ProducerId(1000 + id), state);
        }
        producers
    }

    #[test]
    fn a_snapshot_reads_back_as_it_was_written() {
        let producers = some_producers();
        let bytes = encode(&producers);
        assert_eq!(bytes.len(), 10 + 3 * 46);
        let back = decode(&bytes).unwrap();
        for (id, state) in producers.iter() {
            assert_eq!(back.iter().find(|(other, _)| *other == id).unwrap().1, state);
        }
        assert_eq!(back.first_unstable_offset().unwrap().0, Offset(60));
    }

    #[test]
    fn a_snapshot_with_any_bit_flipped_or_byte_missing_is_refused() {
        let bytes = encode(&some_producers());
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&broken).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}

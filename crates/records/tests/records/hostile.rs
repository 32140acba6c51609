//! Bytes from a client that means harm, or has lost its way.

use std::io::{Read, Write};

use oncelog_records::{BatchError, BatchView, Compression, batches, validate};
use oncelog_wire::{ErrorCode, Timestamp};
use proptest::prelude::*;

use super::{Owned, build, read_all, reseal, rules, wrap};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn sample(compression: Compression) -> Vec<u8> {
    let records: Vec<_> = (0..5i64)
        .map(|index| Owned {
            offset: index,
            timestamp: NOW.0 + index,
            key: Some(format!("key-{index}").into_bytes()),
            value: Some(vec![b'v'; 30 * index as usize]),
            headers: vec![(b"h".to_vec(), (index % 2 == 0).then(|| b"x".to_vec()))],
        })
        .collect();
    build(&records, compression).to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The CRC catches any one byte; base offset and leader epoch lie outside it and are the broker's to set.
    #[test]
    fn a_flipped_byte_is_refused(codec in prop::sample::select(&Compression::ALL[..]), at in 0usize..2_000, flip in 1u8..) {
        let mut bytes = sample(codec);
        let at = at % bytes.len();
        bytes[at] ^= flip;
        let is_leader_epoch = (12..16).contains(&at);
        prop_assert_eq!(validate(&bytes, &rules(), NOW).is_ok(), is_leader_epoch);
    }

    /// With a right CRC the damage reaches the records: whatever is accepted can be read, and counts up from 0.
    #[test]
    fn what_is_accepted_can_be_read(
        codec in prop::sample::select(&Compression::ALL[..]),
        damage in prop::collection::vec((21usize..2_000, any::<u8>()), 1..4),
    ) {
        let mut bytes = sample(codec);
        let len = bytes.len();
        for (at, byte) in damage {
            bytes[21 + at % (len - 21)] = byte;
        }
        reseal(&mut bytes);
        if validate(&bytes, &rules(), NOW).is_ok() {
            let batch = BatchView::parse(&bytes).unwrap();
            let records = read_all(&batch).unwrap();
            prop_assert_eq!(records.len(), batch.record_count() as usize);
            prop_assert!(records.iter().enumerate().all(|(index, record)| record.offset == index as i64));
        } else if let Ok(batch) = BatchView::parse(&bytes) {
            let _ = read_all(&batch);
            let _ = batch.record_with_max_timestamp();
        }
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), codec in 0u8..8) {
        let _ = batches(&bytes).count();
        let mut batch = wrap(Compression::None, 1 + i32::from(bytes.first().copied().unwrap_or(0)) % 4, &bytes);
        batch[22] = codec;
        reseal(&mut batch);
        let _ = validate(&batch, &rules(), NOW);
        let _ = read_all(&BatchView::parse(&batch).unwrap());
    }
}

#[test]
fn every_cut_of_a_batch_is_truncated() {
    let bytes = sample(Compression::Lz4);
    for len in 1..bytes.len() {
        assert!(matches!(BatchView::parse(&bytes[..len]), Err(BatchError::Truncated { .. })), "{len}");
    }
}

#[test]
fn snappy_lengths_that_lie_are_refused_before_anything_is_allocated() {
    const MAGIC: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
    let block_of = |len: u32| [&MAGIC[..], &len.to_be_bytes(), &[1, 0, 0]].concat();
    let claims_two_gib = [&MAGIC[..], &[0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff, 0x07, 0]].concat();
    for payload in [
        block_of(0x7fff_ffff),
        block_of(0xffff_ffff),
        block_of(0),
        claims_two_gib,
        vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0],
        MAGIC.to_vec(),
    ] {
        let batch = wrap(Compression::Snappy, 1, &payload);
        let refusal = validate(&batch, &rules(), NOW).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidRecord, "{payload:?}");
    }
}

#[test]
fn bare_snappy_blocks_are_read() {
    let plain = sample(Compression::None);
    let payload = snap::raw::Encoder::new().compress_vec(&plain[61..]).unwrap();
    let batch = wrap(Compression::Snappy, 5, &payload);
    let batch = BatchView::parse(&batch).unwrap();
    assert_eq!(read_all(&batch).unwrap().len(), 5);
}

#[test]
fn a_record_too_large_to_read_back_is_refused() {
    let len = (128 << 20) + 10i64;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(&record_head(len)).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(len as u64), &mut encoder).unwrap();
    let batch = wrap(Compression::Zstd, 1, &encoder.finish().unwrap());
    assert_eq!(validate(&batch, &rules(), NOW).unwrap_err().code, ErrorCode::InvalidRecord);
    assert!(read_all(&BatchView::parse(&batch).unwrap()).is_err());
}

fn record_head(len: i64) -> Vec<u8> {
    let mut rest = (len << 1) as u64;
    let mut head = Vec::new();
    while rest >= 0x80 {
        head.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    head.push(rest as u8);
    head
}

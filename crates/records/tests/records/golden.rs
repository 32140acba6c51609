//! Bytes that Apache Kafka 4.3.1 wrote (`MemoryRecords.withRecords` and its siblings).

use oncelog_records::{BatchBuilder, BatchView, Compression, EndTransactionMarker, MarkerKind};
use oncelog_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use super::{Owned, read_all};

const PLAIN: &str = "000000000000000000000055ffffffff0232b48f550000000000020000018bcfe568000000018bcfe56805ffffffffffffffffffffffffffff0000000314000000046b31047631001e000a02010476320402680278026e0110000604046b330100";
const IDEMPOTENT: &str = "00000000000000070000005500000009028b4d86860000000000020000018bcfe568000000018bcfe568050000000000000fa000037ffffffe0000000314000000046b31047631001e000a02010476320402680278026e0110000604046b330100";
const GZIP: &str = "000000000000000000000069ffffffff0218eef8420001000000020000018bcfe568000000018bcfe56805ffffffffffffffffffffffffffff000000031f8b08000000000000ff1361606060c936642933649063e062626429336261ca60aa60ca631460606361c936666400000e3cc70824000000";
const SNAPPY: &str = "00000000000000000000006bffffffff024ef77f4f0002000000020000018bcfe568000000018bcfe56805ffffffffffffffffffffffffffff0000000382534e4150505900000000010000000100000026248c14000000046b31047631001e000a02010476320402680278026e0110000604046b330100";
const LZ4: &str = "000000000000000000000064ffffffff0277d9f0050003000000020000018bcfe568000000018bcfe56805ffffffffffffffffffffffffffff0000000304224d186040822400008014000000046b31047631001e000a02010476320402680278026e0110000604046b33010000000000";
const ZSTD_TRANSACTIONAL: &str = "000000000000000000000061ffffffff02513589670014000000020000018bcfe568000000018bcfe568050000000000000fa00003000000000000000328b52ffd005820010014000000046b31047631001e000a02010476320402680278026e0110000604046b330100010000";
const ABORT: &str = "000000000000002a000000420000000502e9ec86a20030000000000000018bcfe568000000018bcfe568000000000000000fa00003ffffffff000000012000000008000000000c00000000000b00";
const COMMIT: &str = "000000000000002a0000004200000005021dd250ea0030000000000000018bcfe568000000018bcfe568000000000000000fa00003ffffffff000000012000000008000000010c00000000000b00";

const BASE: Timestamp = Timestamp(1_700_000_000_000);

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn push_the_three(builder: &mut BatchBuilder) {
    builder.push(BASE, Some(b"k1"), Some(b"v1"));
    builder.push_with_headers(BASE.plus_ms(5), None, Some(b"v2"), &[(b"h", Some(b"x")), (b"n", None)]);
    builder.push(BASE.plus_ms(3), Some(b"k3"), None);
}

fn the_three(base_offset: i64) -> Vec<Owned> {
    let record = |index: i64, ms: i64, key: Option<&[u8]>, value: Option<&[u8]>| Owned {
        offset: base_offset + index,
        timestamp: BASE.0 + ms,
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: vec![],
    };
    let mut all = vec![
        record(0, 0, Some(b"k1"), Some(b"v1")),
        record(1, 5, None, Some(b"v2")),
        record(2, 3, Some(b"k3"), None),
    ];
    all[1].headers = vec![(b"h".to_vec(), Some(b"x".to_vec())), (b"n".to_vec(), None)];
    all
}

#[test]
fn uncompressed_batches_are_built_to_the_byte() {
    let mut plain = BatchBuilder::new();
    push_the_three(&mut plain);
    assert_eq!(plain.build(), bytes(PLAIN));

    let mut idempotent = BatchBuilder::new().at(Offset(7), LeaderEpoch(9)).producer(
        ProducerId(4000),
        ProducerEpoch(3),
        i32::MAX - 1,
    );
    push_the_three(&mut idempotent);
    assert_eq!(idempotent.build(), bytes(IDEMPOTENT));
}

#[test]
fn every_codec_of_kafka_is_read() {
    for (hex, compression, base_offset) in [
        (PLAIN, Compression::None, 0),
        (IDEMPOTENT, Compression::None, 7),
        (GZIP, Compression::Gzip, 0),
        (SNAPPY, Compression::Snappy, 0),
        (LZ4, Compression::Lz4, 0),
        (ZSTD_TRANSACTIONAL, Compression::Zstd, 0),
    ] {
        let bytes = bytes(hex);
        let batch = BatchView::parse(&bytes).unwrap();
        assert!(batch.is_crc_valid());
        assert_eq!(batch.compression(), Ok(compression));
        assert_eq!(read_all(&batch).unwrap(), the_three(base_offset), "{compression}");
    }
}

#[test]
fn header_fields_are_where_kafka_puts_them() {
    let idempotent = bytes(IDEMPOTENT);
    let batch = BatchView::parse(&idempotent).unwrap();
    assert_eq!(
        (batch.base_offset(), batch.last_offset(), batch.next_offset()),
        (Offset(7), Offset(9), Offset(10))
    );
    assert_eq!(batch.partition_leader_epoch(), LeaderEpoch(9));
    assert_eq!((batch.producer_id(), batch.producer_epoch()), (ProducerId(4000), ProducerEpoch(3)));
    assert_eq!((batch.base_sequence(), batch.last_sequence()), (i32::MAX - 1, 0));
    assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (BASE, BASE.plus_ms(5)));
    assert_eq!((batch.record_count(), batch.size_in_bytes()), (3, idempotent.len()));
    assert!(!batch.is_transactional() && !batch.is_control() && !batch.has_delete_horizon());

    let transactional = bytes(ZSTD_TRANSACTIONAL);
    assert!(BatchView::parse(&transactional).unwrap().is_transactional());
    let plain = bytes(PLAIN);
    assert_eq!(BatchView::parse(&plain).unwrap().last_sequence(), -1);
}

#[test]
fn snappy_and_lz4_are_framed_as_kafka_frames_them() {
    for (hex, compression, frame) in [(SNAPPY, Compression::Snappy, 61..77), (LZ4, Compression::Lz4, 61..68)]
    {
        let mut builder = BatchBuilder::new().compression(compression);
        push_the_three(&mut builder);
        assert_eq!(builder.build()[frame.clone()], bytes(hex)[frame], "{compression}");
    }
}

#[test]
fn transaction_markers_are_written_and_read_to_the_byte() {
    for (hex, kind) in [(ABORT, MarkerKind::Abort), (COMMIT, MarkerKind::Commit)] {
        let marker = EndTransactionMarker { kind, coordinator_epoch: 11 };
        let written = marker.build(ProducerId(4000), ProducerEpoch(3), BASE);
        let kafka = bytes(hex);
        let mut header = BatchView::parse(&written).unwrap().header();
        header.set_base_offset(Offset(42));
        header.set_partition_leader_epoch(LeaderEpoch(5));
        assert_eq!(header.as_bytes()[..], kafka[..61]);
        assert_eq!(written[61..], kafka[61..]);
        assert_eq!(EndTransactionMarker::parse(&BatchView::parse(&kafka).unwrap()), Ok(marker));
    }
}

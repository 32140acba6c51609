//! A batch that decompresses to hundreds of megabytes is judged within a few. A test of its own process, because it
//! watches the memory of the process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};

use oncelog_records::{BatchView, Compression, Rules, TimestampType, validate};
use oncelog_wire::Timestamp;

const RECORDS: i32 = 4;
const RECORD_LEN: u64 = 64 << 20;

#[test]
fn bombs_keep_memory_flat() {
    for (compression, max_growth_kib) in [
        (Compression::Gzip, 4 << 10),
        (Compression::Snappy, 4 << 10),
        (Compression::Lz4, 4 << 10),
        // The decoder may hold a window as large as the frame asks for: here that of level 19.
        (Compression::Zstd, 20 << 10),
    ] {
        let payload = bomb(compression);
        let mut bytes = vec![0; 61];
        bytes[8..12].copy_from_slice(&(49 + payload.len() as i32).to_be_bytes());
        bytes[16] = 2;
        bytes[22] = compression.id();
        bytes[26] = RECORDS as u8 - 1;
        bytes[43..57].fill(0xff);
        bytes[60] = RECORDS as u8;
        bytes.extend_from_slice(&payload);
        drop(payload);
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());

        let rules = Rules {
            max_message_bytes: usize::MAX,
            segment_bytes: usize::MAX,
            timestamp_type: TimestampType::CreateTime,
            before_max_ms: i64::MAX,
            after_max_ms: 0,
            is_compacted: false,
            is_zstd_allowed: true,
        };
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = peak_kib();
        assert!(validate(&bytes, &rules, Timestamp(0)).is_ok(), "{compression}");
        let growth = peak_kib() - before;
        assert!(growth < max_growth_kib, "{compression}: {growth} KiB for {} bytes", bytes.len());
        assert_eq!(BatchView::parse(&bytes).unwrap().record_count(), RECORDS);
    }
}

/// Four records of 64 MiB of zeros each: attributes, deltas, a missing key and a long value.
fn bomb(compression: Compression) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::default());
            write_records(&mut encoder);
            encoder.finish().unwrap();
        }
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut out);
            write_records(&mut encoder);
            encoder.finish().unwrap();
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(&mut out, 1).unwrap();
            encoder.window_log(23).unwrap();
            write_records(&mut encoder);
            encoder.finish().unwrap();
        }
        Compression::Snappy => {
            out.extend_from_slice(&[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1]);
            let mut blocks = SnappyBlocks { out: &mut out, block: Vec::new() };
            write_records(&mut blocks);
            blocks.flush().unwrap();
        }
        Compression::None => unreachable!("nothing to blow up"),
    }
    out
}

fn write_records(out: &mut impl Write) {
    for index in 0..RECORDS as u8 {
        let value_len = varint(RECORD_LEN);
        let head = [&[0, 0, index * 2, 1][..], &value_len].concat();
        out.write_all(&varint(head.len() as u64 + RECORD_LEN + 1)).unwrap();
        out.write_all(&head).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(RECORD_LEN + 1), out).unwrap();
    }
}

fn varint(value: u64) -> Vec<u8> {
    let mut rest = value << 1;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

struct SnappyBlocks<'a> {
    out: &'a mut Vec<u8>,
    block: Vec<u8>,
}

impl Write for SnappyBlocks<'_> {
    fn write(&mut self, input: &[u8]) -> std::io::Result<usize> {
        self.block.extend_from_slice(input);
        if self.block.len() >= 32 << 10 {
            self.flush()?;
        }
        Ok(input.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let compressed = snap::raw::Encoder::new().compress_vec(&self.block)?;
        self.out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        self.out.extend_from_slice(&compressed);
        self.block.clear();
        Ok(())
    }
}

fn peak_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

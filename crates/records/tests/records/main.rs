//! Batches against bytes that Kafka wrote, against another implementation, and against damage.
#![allow(clippy::unwrap_used)]

mod filter;
mod golden;
mod hostile;
mod round_trip;

use oncelog_records::{BatchBuilder, BatchView, Compression, Rules, TimestampType};
use oncelog_wire::Timestamp;

/// A record that owns what is in it.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Reads a batch to its end.
fn read_all(batch: &BatchView<'_>) -> Result<Vec<Owned>, oncelog_records::BatchError> {
    let mut records = batch.records()?;
    let mut all = Vec::new();
    while let Some(record) = records.next_record()? {
        all.push(Owned {
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers()
                .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
                .collect(),
        });
    }
    Ok(all)
}

fn build(records: &[Owned], compression: Compression) -> bytes::Bytes {
    let mut builder = BatchBuilder::new().compression(compression);
    for record in records {
        let headers: Vec<_> = record.headers.iter().map(|(n, v)| (n.as_slice(), v.as_deref())).collect();
        builder.push_with_headers(
            Timestamp(record.timestamp),
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
    }
    builder.build()
}

/// What a topic with Kafka's defaults asks.
fn rules() -> Rules {
    Rules {
        max_message_bytes: 1_048_588,
        segment_bytes: 1 << 30,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
        is_compacted: false,
        is_zstd_allowed: true,
    }
}

/// Wraps `payload` in a header with a right length and CRC, so that only what is tested is wrong.
fn wrap(compression: Compression, count: i32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 61];
    bytes[8..12].copy_from_slice(&(49 + payload.len() as i32).to_be_bytes());
    bytes[16] = 2;
    bytes[22] = compression.id();
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[43..57].fill(0xff);
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(payload);
    reseal(&mut bytes);
    bytes
}

/// Sets the CRC to what it should be.
fn reseal(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

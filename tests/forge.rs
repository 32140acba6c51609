//! Bytes that no decent client sends: batches and frames, made by hand.

use bytes::Bytes;
use oncelog_records::{BatchBuilder, Compression};
use oncelog_wire::{ApiKey, Timestamp};

/// The time, for records that should be of today.
pub fn now() -> Timestamp {
    let elapsed = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}

/// Where the fields of a batch's header are.
pub mod at {
    #![allow(missing_docs)]
    pub const BASE_OFFSET: usize = 0;
    pub const LENGTH: usize = 8;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const PRODUCER_EPOCH: usize = 51;
    pub const BASE_SEQUENCE: usize = 53;
    pub const RECORD_COUNT: usize = 57;
    pub const RECORDS: usize = 61;
}

/// A batch whose bytes are changed after it was made.
#[derive(Clone, Debug)]
pub struct Forged(Vec<u8>);

impl Forged {
    /// A sound batch, to begin with.
    pub fn of(values: &[&str]) -> Forged {
        let mut builder = BatchBuilder::new();
        for value in values {
            builder.push(now(), None, Some(value.as_bytes()));
        }
        Forged(builder.build().to_vec())
    }

    /// A batch around these encoded records, said to be so many.
    pub fn around(records: &[u8], count: i32) -> Forged {
        Forged::of(&["x"])
            .records(records)
            .set(at::RECORD_COUNT, &count.to_be_bytes())
            .set(at::LAST_OFFSET_DELTA, &(count - 1).to_be_bytes())
    }

    /// Puts other bytes in the place of the records, and corrects the length.
    pub fn records(mut self, records: &[u8]) -> Forged {
        self.0.truncate(at::RECORDS);
        self.0.extend_from_slice(records);
        let length = i32::try_from(self.0.len() - 12).expect("tests forge small batches");
        self.set(at::LENGTH, &length.to_be_bytes())
    }

    /// Overwrites bytes.
    pub fn set(mut self, at: usize, bytes: &[u8]) -> Forged {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Sets the codec in the attributes, whatever the records are.
    pub fn codec(self, codec: u8) -> Forged {
        self.set(at::ATTRIBUTES, &[0, codec])
    }

    /// The bytes, with the CRC they should have.
    pub fn seal(self) -> Bytes {
        let crc = crc32c::crc32c(&self.0[at::ATTRIBUTES..]);
        self.set(at::CRC, &crc.to_be_bytes()).raw()
    }

    /// The bytes as they are.
    pub fn raw(self) -> Bytes {
        Bytes::from(self.0)
    }
}

/// One encoded record, of parts that may be nonsense.
#[derive(Clone, Debug)]
pub struct RawRecord {
    /// Added to the length the record says it has.
    pub length_error: i64,
    /// Milliseconds after the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Where the record is in the batch.
    pub offset_delta: i64,
    /// The length of the key, whatever its bytes are.
    pub key_length: i64,
    /// The bytes of the key.
    pub key: Vec<u8>,
    /// The length of the value.
    pub value_length: i64,
    /// The bytes of the value.
    pub value: Vec<u8>,
    /// How many headers follow.
    pub header_count: i64,
    /// The bytes of the headers, and whatever else.
    pub rest: Vec<u8>,
}

impl RawRecord {
    /// A sound record, to begin with.
    pub fn new(offset_delta: i64) -> RawRecord {
        RawRecord {
            length_error: 0,
            timestamp_delta: 0,
            offset_delta,
            key_length: -1,
            key: Vec::new(),
            value_length: 1,
            value: vec![b'v'],
            header_count: 0,
            rest: Vec::new(),
        }
    }

    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let body = [
            &[0][..],
            &varint(self.timestamp_delta),
            &varint(self.offset_delta),
            &varint(self.key_length),
            &self.key,
            &varint(self.value_length),
            &self.value,
            &varint(self.header_count),
            &self.rest,
        ]
        .concat();
        [&varint(body.len() as i64 + self.length_error)[..], &body].concat()
    }
}

/// A zig-zag varint.
pub fn varint(value: i64) -> Vec<u8> {
    unsigned_varint(((value << 1) ^ (value >> 63)) as u64)
}

/// A plain varint.
pub fn unsigned_varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A batch of one record of so many zeros, compressed.
pub fn bomb(compression: Compression, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new().compression(compression);
    builder.push(now(), None, Some(&vec![0; bytes]));
    builder.build()
}

/// A frame with a header of the old kind and this body, size first.
pub fn frame(api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    frame_of_key(api.code(), version, body)
}

/// The same, for any number in place of an API.
pub fn frame_of_key(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let header = [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 7], &[0, 1, b'f']].concat();
    sized(&[&header[..], body].concat())
}

/// A frame with a header with tagged fields, of which there are none, and this body, size first.
pub fn flexible_frame(api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    frame(api, version, &[&[0][..], body].concat())
}

/// Puts the size in front.
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = i32::try_from(bytes.len()).expect("tests forge small frames");
    [&size.to_be_bytes()[..], bytes].concat()
}

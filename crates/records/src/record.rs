//! The records within a batch: read in full one by one, or skimmed without keeping anything.
//!
//! Whatever the batch decompresses to, no more than one record and one window is held at a time.

use std::io::{BufRead, BufReader, Read};

use oncelog_wire::{Offset, Timestamp};

use crate::{BatchError, BatchView, Compression, Decompressor, TimestampType, varint};

/// No record may be larger, key, value and headers together: one that is could not be read back.
pub(crate) const MAX_RECORD_SIZE: usize = 128 << 20;

/// How much is decompressed at a time.
const WINDOW: usize = 64 << 10;

/// One record, borrowed from the batch or from the reader's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where in the partition it stands.
    pub offset: Offset,
    /// Its own timestamp, or that of the append.
    pub timestamp: Timestamp,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; none in a tombstone.
    pub value: Option<&'a [u8]>,
    headers: HeaderIter<'a>,
}

impl<'a> Record<'a> {
    /// The headers in their order: name and value.
    pub fn headers(&self) -> HeaderIter<'a> {
        self.headers
    }
}

/// Iterates over the headers of a record. They were checked when the record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderIter<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let key = take_bytes(&mut self.rest).ok()??;
        let value = take_bytes(&mut self.rest).ok()?;
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for HeaderIter<'_> {}

/// Reads the records of one batch in full. It lends each record until the next is read.
pub struct Records<'a> {
    source: Source<'a>,
    left: i32,
    base_offset: Offset,
    base_timestamp: Timestamp,
    append_time: Option<Timestamp>,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Compressed { reader: BufReader<Decompressor<'a>>, compression: Compression, record: Vec<u8> },
}

impl<'a> Records<'a> {
    pub(crate) fn of(batch: &BatchView<'a>) -> Result<Records<'a>, BatchError> {
        let source = match batch.compression()? {
            Compression::None => Source::Plain(batch.payload()),
            compression => Source::Compressed {
                reader: BufReader::with_capacity(WINDOW, Decompressor::new(compression, batch.payload())),
                compression,
                record: Vec::new(),
            },
        };
        Ok(Records {
            source,
            left: batch.record_count(),
            base_offset: batch.base_offset(),
            base_timestamp: batch.base_timestamp(),
            append_time: append_time(batch),
        })
    }

    /// The next record; `None` after the last. Nothing can be read after an error.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, BatchError> {
        let mut body = match &mut self.source {
            Source::Plain(rest) if self.left <= 0 => {
                expect_end(rest)?;
                return Ok(None);
            }
            Source::Compressed { reader, compression, .. } if self.left <= 0 => {
                expect_end(reader).map_err(|error| error.while_reading(*compression))?;
                return Ok(None);
            }
            Source::Plain(rest) => {
                let len = read_record_len(rest)?;
                take(rest, len)?
            }
            Source::Compressed { reader, compression, record } => {
                fill_record(reader, record).map_err(|error| error.while_reading(*compression))?;
                record.as_slice()
            }
        };
        self.left -= 1;
        let body = &mut body;
        varint::read_u8(body)?;
        let timestamp_delta = varint::read_i64(body)?;
        let offset_delta = varint::read_i32(body)?;
        let key = take_bytes(body)?;
        let value = take_bytes(body)?;
        let headers = HeaderIter { left: read_header_count(body)?, rest: body };
        for _ in 0..headers.left {
            take_bytes(body)?.ok_or(HEADER_WITHOUT_NAME)?;
            take_bytes(body)?;
        }
        expect_end(body).map_err(|_| RECORD_TOO_LONG)?;
        Ok(Some(Record {
            offset: self.base_offset.plus(i64::from(offset_delta)),
            timestamp: self.append_time.unwrap_or_else(|| self.base_timestamp.plus_ms(timestamp_delta)),
            key,
            value,
            headers,
        }))
    }
}

const RECORD_TOO_LONG: BatchError = BatchError::Malformed("a record is longer than what is in it");
const HEADER_WITHOUT_NAME: BatchError = BatchError::Malformed("a header has no name");

fn append_time(batch: &BatchView<'_>) -> Option<Timestamp> {
    (batch.timestamp_type() == TimestampType::LogAppendTime).then(|| batch.max_timestamp())
}

fn read_record_len<R: BufRead>(reader: &mut R) -> Result<usize, BatchError> {
    match usize::try_from(varint::read_i32(reader)?) {
        Ok(len) if len <= MAX_RECORD_SIZE => Ok(len),
        Ok(_) => Err(BatchError::Malformed("a record is too large")),
        Err(_) => Err(BatchError::Malformed("a record has a negative length")),
    }
}

/// Reads one record into `record`, which grows with what is there and not with what is announced.
fn fill_record<R: BufRead>(reader: &mut R, record: &mut Vec<u8>) -> Result<(), BatchError> {
    let len = read_record_len(reader)?;
    record.clear();
    reader.by_ref().take(len as u64).read_to_end(record).map_err(varint::io_error)?;
    if record.len() == len { Ok(()) } else { Err(varint::RUNS_OUT) }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], BatchError> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(varint::RUNS_OUT)?;
    *bytes = rest;
    Ok(taken)
}

/// A length (-1 where there is nothing, not even nothing of length 0) and as many bytes.
fn read_bytes_len<R: BufRead>(reader: &mut R) -> Result<Option<usize>, BatchError> {
    match varint::read_i32(reader)? {
        -1 => Ok(None),
        len => {
            usize::try_from(len).map(Some).map_err(|_| BatchError::Malformed("a field has a negative length"))
        }
    }
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BatchError> {
    match read_bytes_len(bytes)? {
        Some(len) => take(bytes, len).map(Some),
        None => Ok(None),
    }
}

fn read_header_count<R: BufRead>(reader: &mut R) -> Result<usize, BatchError> {
    usize::try_from(varint::read_i32(reader)?)
        .map_err(|_| BatchError::Malformed("a negative count of headers"))
}

fn expect_end<R: BufRead>(reader: &mut R) -> Result<(), BatchError> {
    if reader.fill_buf().map_err(varint::io_error)?.is_empty() {
        Ok(())
    } else {
        Err(BatchError::Malformed("bytes are left over after the last record"))
    }
}

/// What is learnt of a record in passing.
pub(crate) struct Skimmed {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) has_key: bool,
}

impl Skimmed {
    pub(crate) fn timestamp(&self, batch: &BatchView<'_>) -> Timestamp {
        append_time(batch).unwrap_or_else(|| batch.base_timestamp().plus_ms(self.timestamp_delta))
    }
}

/// Passes over the records and checks their form, keeping none. `visit` gets each with its place in the batch, and
/// says whether to go on; the end of the batch is checked only where it is reached.
pub(crate) fn skim(batch: &BatchView<'_>, visit: impl FnMut(i32, Skimmed) -> bool) -> Result<(), BatchError> {
    let count = batch.record_count();
    match batch.compression()? {
        Compression::None => skim_from(&mut batch.payload(), count, visit),
        compression => {
            let decompressor = Decompressor::new(compression, batch.payload());
            skim_from(&mut BufReader::with_capacity(WINDOW, decompressor), count, visit)
                .map_err(|error| error.while_reading(compression))
        }
    }
}

fn skim_from<R: BufRead>(
    reader: &mut R,
    count: i32,
    mut visit: impl FnMut(i32, Skimmed) -> bool,
) -> Result<(), BatchError> {
    for index in 0..count {
        let len = read_record_len(reader)?;
        let mut body = reader.by_ref().take(len as u64);
        let skimmed = skim_one(&mut body)?;
        if body.limit() != 0 {
            return Err(RECORD_TOO_LONG);
        }
        if !visit(index, skimmed) {
            return Ok(());
        }
    }
    expect_end(reader)
}

fn skim_one<R: BufRead>(body: &mut R) -> Result<Skimmed, BatchError> {
    varint::read_u8(body)?;
    let timestamp_delta = varint::read_i64(body)?;
    let offset_delta = varint::read_i32(body)?;
    let key_len = read_bytes_len(body)?;
    varint::skip(body, key_len.unwrap_or(0))?;
    let value_len = read_bytes_len(body)?;
    varint::skip(body, value_len.unwrap_or(0))?;
    for _ in 0..read_header_count(body)? {
        let name_len = read_bytes_len(body)?.ok_or(HEADER_WITHOUT_NAME)?;
        varint::skip(body, name_len)?;
        let value_len = read_bytes_len(body)?;
        varint::skip(body, value_len.unwrap_or(0))?;
    }
    Ok(Skimmed { timestamp_delta, offset_delta, has_key: key_len.is_some() })
}

//! Zig-zag varints of records, read from anything buffered and written to a vector.

use std::io::BufRead;

use crate::BatchError;

pub(crate) const RUNS_OUT: BatchError = BatchError::Malformed("a record ends early");

/// Wraps what a codec says while it is read; the caller knows the codec and fills it in.
pub(crate) fn io_error(error: std::io::Error) -> BatchError {
    BatchError::Undecodable { compression: crate::Compression::None, reason: error.to_string() }
}

/// The bytes at hand, refilled where none are left; an error at the end of the input.
fn fill<R: BufRead>(reader: &mut R) -> Result<&[u8], BatchError> {
    let bytes = reader.fill_buf().map_err(io_error)?;
    if bytes.is_empty() { Err(RUNS_OUT) } else { Ok(bytes) }
}

/// One byte.
pub(crate) fn read_u8<R: BufRead>(reader: &mut R) -> Result<u8, BatchError> {
    let byte = fill(reader)?[0];
    reader.consume(1);
    Ok(byte)
}

/// A varint of at most 32 bits.
pub(crate) fn read_i32<R: BufRead>(reader: &mut R) -> Result<i32, BatchError> {
    let raw = read_unsigned(reader, 32)? as u32;
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// A varint of at most 64 bits.
pub(crate) fn read_i64<R: BufRead>(reader: &mut R) -> Result<i64, BatchError> {
    let raw = read_unsigned(reader, 64)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

fn read_unsigned<R: BufRead>(reader: &mut R, bits: u32) -> Result<u64, BatchError> {
    let mut value = 0u64;
    for shift in (0..bits).step_by(7) {
        let byte = read_u8(reader)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let room = bits - shift;
            return if room < 7 && byte >> room != 0 {
                Err(BatchError::Malformed("a varint is too large"))
            } else {
                Ok(value)
            };
        }
    }
    Err(BatchError::Malformed("a varint is too long"))
}

/// Passes over `count` bytes.
pub(crate) fn skip<R: BufRead>(reader: &mut R, mut count: usize) -> Result<(), BatchError> {
    while count > 0 {
        let step = fill(reader)?.len().min(count);
        reader.consume(step);
        count -= step;
    }
    Ok(())
}

/// How many bytes the varint of `value` takes.
pub(crate) fn size_of(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes a varint; one of 32 bits has the same form.
pub(crate) fn write(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn varints_read_back_and_take_the_bytes_foretold() {
        for value in
            [0, 1, -1, 63, 64, -64, -65, 8191, 8192, i32::MAX as i64, i32::MIN as i64, i64::MAX, i64::MIN]
        {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            assert_eq!(bytes.len(), size_of(value), "{value}");
            assert_eq!(read_i64(&mut bytes.as_slice()).unwrap(), value);
            let narrow = read_i32(&mut bytes.as_slice());
            match i32::try_from(value) {
                Ok(value) => assert_eq!(narrow.unwrap(), value),
                Err(_) => assert!(narrow.is_err()),
            }
        }
    }

    #[test]
    fn endless_and_cut_varints_are_refused() {
        assert!(read_i32(&mut [0xff; 6].as_slice()).is_err());
        assert!(read_i64(&mut [0xff; 11].as_slice()).is_err());
        assert_eq!(read_i64(&mut [0x80, 0x80].as_slice()), Err(RUNS_OUT));
        assert!(read_i32(&mut [0x80, 0x80, 0x80, 0x80, 0x10].as_slice()).is_err());
        assert!(read_i32(&mut [0x80, 0x80, 0x80, 0x80, 0x0f].as_slice()).is_ok());
    }
}

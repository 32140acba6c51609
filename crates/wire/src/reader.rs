//! Decodes the primitives of the protocol from one frame.
//!
//! Invariant: no length or count from the frame is used before it was compared with what is left of the frame,
//! and the memory a message may take is bounded by the size of its frame.

use std::mem::size_of;

use bytes::Bytes;

use crate::decode_error::{DecodeError, Reason};
use crate::{Message, Records, Str, Uuid};

/// No array makes room for more elements than this before it has read them.
const PREALLOCATED_ELEMENTS: usize = 4096;
/// A message may carry this many tagged fields that we do not know. Clients send none or a few.
const MAX_UNKNOWN_TAGS: usize = 64;
/// And this many bytes of them.
const MAX_UNKNOWN_TAG_BYTES: usize = 8 * 1024;
/// The elements of all arrays of a message may take this many bytes of memory for each byte of its frame ...
const MEMORY_BY_FRAME_BYTE: usize = 16;
/// ... and this many besides, so that small frames need no thought ...
const MEMORY_BASE: usize = 1024 * 1024;
/// ... but never more than this: what is larger than a few MiB on the wire consists of records, not of elements.
const MEMORY_LIMIT: usize = 32 * 1024 * 1024;

/// A position in a frame, and the first error met on the way there.
///
/// The methods return plain values: after an error they return zeros and empty values, read nothing more, and
/// [`Reader::check`] reports the error. [`Message::decode`] does that for whole messages.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    position: usize,
    memory_left: usize,
    unknown_tags: usize,
    unknown_tag_bytes: usize,
    error: Option<Box<DecodeError>>,
}

impl Reader {
    /// Starts at the first byte of `frame`.
    pub fn new(frame: Bytes) -> Reader {
        let memory = frame.len().saturating_mul(MEMORY_BY_FRAME_BYTE).saturating_add(MEMORY_BASE);
        Reader {
            frame,
            position: 0,
            memory_left: memory.min(MEMORY_LIMIT),
            unknown_tags: 0,
            unknown_tag_bytes: 0,
            error: None,
        }
    }

    /// The bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.position
    }

    /// What is not yet read, shared and not copied; afterwards nothing is left.
    pub fn take_rest(&mut self) -> Bytes {
        self.slice(self.remaining())
    }

    /// The first error, if there was one.
    pub fn check(&self) -> Result<(), DecodeError> {
        match &self.error {
            None => Ok(()),
            Some(error) => Err(DecodeError::clone(error)),
        }
    }

    /// The first error, said to be within `name` where nothing more precise is known.
    pub(crate) fn check_within(&mut self, name: &'static str) -> Result<(), DecodeError> {
        self.locate(name);
        self.check()
    }

    fn locate(&mut self, name: &'static str) {
        if let Some(error) = &mut self.error
            && error.within.is_empty()
        {
            error.within = name;
        }
    }

    /// Notes an error, unless there was one before, and leaves nothing to read.
    #[cold]
    pub(crate) fn fail(&mut self, reason: Reason) {
        if self.error.is_none() {
            self.error = Some(Box::new(DecodeError { reason, position: self.position, within: "" }));
        }
        self.position = self.frame.len();
    }

    fn fixed<const N: usize>(&mut self) -> [u8; N] {
        match self.frame[self.position..].first_chunk::<N>() {
            Some(&bytes) => {
                self.position += N;
                bytes
            }
            None => {
                self.fail(Reason::Truncated { wanted: N, left: self.remaining() });
                [0; N]
            }
        }
    }

    fn slice(&mut self, length: usize) -> Bytes {
        if length > self.remaining() {
            self.fail(Reason::Truncated { wanted: length, left: self.remaining() });
            return Bytes::new();
        }
        let start = self.position;
        self.position += length;
        self.frame.slice(start..self.position)
    }

    /// One byte, true unless it is 0.
    pub fn bool(&mut self) -> bool {
        self.int8() != 0
    }

    /// A signed byte.
    pub fn int8(&mut self) -> i8 {
        i8::from_be_bytes(self.fixed())
    }

    /// Two bytes.
    pub fn int16(&mut self) -> i16 {
        i16::from_be_bytes(self.fixed())
    }

    /// Two bytes, unsigned.
    pub fn uint16(&mut self) -> u16 {
        u16::from_be_bytes(self.fixed())
    }

    /// Four bytes.
    pub fn int32(&mut self) -> i32 {
        i32::from_be_bytes(self.fixed())
    }

    /// Eight bytes.
    pub fn int64(&mut self) -> i64 {
        i64::from_be_bytes(self.fixed())
    }

    /// Eight bytes of IEEE 754.
    pub fn float64(&mut self) -> f64 {
        f64::from_be_bytes(self.fixed())
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self) -> Uuid {
        Uuid(self.fixed())
    }

    /// Seven bits a byte, the lowest first; at most 32 bits in 5 bytes.
    pub fn unsigned_varint(&mut self) -> u32 {
        let value = self.varint_bits(5);
        u32::try_from(value).unwrap_or_else(|_| {
            self.fail(Reason::VarintTooLong);
            0
        })
    }

    /// As [`Reader::unsigned_varint`], with the sign in the lowest bit.
    pub fn varint(&mut self) -> i32 {
        let bits = self.unsigned_varint();
        (bits >> 1) as i32 ^ -((bits & 1) as i32)
    }

    /// As [`Reader::varint`], with 64 bits in at most 10 bytes.
    pub fn varlong(&mut self) -> i64 {
        let bits = self.varint_bits(10);
        (bits >> 1) as i64 ^ -((bits & 1) as i64)
    }

    fn varint_bits(&mut self, max_bytes: u32) -> u64 {
        let mut value = 0;
        for at in 0..max_bytes {
            let [byte] = self.fixed();
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * at);
            if shifted >> (7 * at) != bits {
                break;
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        self.fail(Reason::VarintTooLong);
        0
    }

    /// The length of something that may be null: compact where `flexible`, else four bytes.
    fn length(&mut self, flexible: bool) -> Option<usize> {
        let length = if flexible { i64::from(self.unsigned_varint()) - 1 } else { i64::from(self.int32()) };
        self.non_negative(length)
    }

    /// -1 is null; what is less is an error.
    fn non_negative(&mut self, length: i64) -> Option<usize> {
        if length < -1 {
            self.fail(Reason::NegativeLength(length));
        }
        usize::try_from(length).ok()
    }

    fn required<T: Default>(&mut self, value: Option<T>) -> T {
        value.unwrap_or_else(|| {
            self.fail(Reason::Null);
            T::default()
        })
    }

    /// Text. At most 32,767 bytes, also where the length is compact; that is Kafka's limit.
    pub fn string(&mut self, flexible: bool) -> Str {
        let text = self.nullable_string(flexible);
        self.required(text)
    }

    /// Text or null.
    pub fn nullable_string(&mut self, flexible: bool) -> Option<Str> {
        let length = if flexible { i64::from(self.unsigned_varint()) - 1 } else { i64::from(self.int16()) };
        let length = self.non_negative(length)?;
        if length > i16::MAX as usize {
            self.fail(Reason::StringTooLong(length));
        }
        let bytes = self.slice(length);
        let text = Str::from_utf8(bytes);
        if text.is_err() {
            self.fail(Reason::InvalidUtf8);
        }
        text.ok()
    }

    /// Bytes, a slice of the frame.
    pub fn bytes(&mut self, flexible: bool) -> Bytes {
        let bytes = self.nullable_bytes(flexible);
        self.required(bytes)
    }

    /// Bytes or null.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Option<Bytes> {
        let length = self.length(flexible)?;
        Some(self.slice(length))
    }

    /// Record batches, a slice of the frame.
    pub fn records(&mut self, flexible: bool) -> Records {
        Records::Bytes(self.bytes(flexible))
    }

    /// Record batches or null.
    pub fn nullable_records(&mut self, flexible: bool) -> Option<Records> {
        self.nullable_bytes(flexible).map(Records::Bytes)
    }

    /// An array whose elements take `min_size` bytes or more, each read by `read`.
    pub fn array<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        read: impl FnMut(&mut Reader) -> T,
    ) -> Vec<T> {
        let elements = self.nullable_array(flexible, min_size, read);
        self.required(elements)
    }

    /// An array or null.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        mut read: impl FnMut(&mut Reader) -> T,
    ) -> Option<Vec<T>> {
        let count = self.length(flexible)?;
        let count = self.admit(count, min_size, size_of::<T>());
        let mut elements = Vec::with_capacity(count.min(PREALLOCATED_ELEMENTS));
        for at in 0..count {
            if at == elements.capacity() {
                elements.reserve_exact(at.min(count - at));
            }
            elements.push(read(self));
            if self.error.is_some() {
                break;
            }
        }
        Some(elements)
    }

    /// Passes a count of elements if the rest of the frame can hold them and the budget their memory; else 0.
    fn admit(&mut self, count: usize, min_size: usize, memory: usize) -> usize {
        if count.saturating_mul(min_size.max(1)) > self.remaining() {
            self.fail(Reason::TooManyElements { count, left: self.remaining() });
            return 0;
        }
        match self.memory_left.checked_sub(count.saturating_mul(memory)) {
            Some(left) => {
                self.memory_left = left;
                count
            }
            None => {
                self.fail(Reason::TooMuchMemory);
                0
            }
        }
    }

    /// An array of structs.
    pub fn structures<T: Message>(&mut self, flexible: bool, version: i16) -> Vec<T> {
        self.array(flexible, T::MIN_SIZE, |r| r.structure(version))
    }

    /// An array of structs or null.
    pub fn nullable_structures<T: Message>(&mut self, flexible: bool, version: i16) -> Option<Vec<T>> {
        self.nullable_array(flexible, T::MIN_SIZE, |r| r.structure(version))
    }

    /// One struct.
    pub fn structure<T: Message>(&mut self, version: i16) -> T {
        let value = T::read(self, version);
        if self.error.is_some() {
            self.locate(T::NAME);
        }
        value
    }

    /// A struct, or null: a byte below zero.
    pub fn nullable_structure<T: Message>(&mut self, version: i16) -> Option<T> {
        if self.int8() < 0 { None } else { Some(self.structure(version)) }
    }

    /// A struct in a tagged field, or null: there it is a compact 0.
    pub fn nullable_tagged_structure<T: Message>(&mut self, version: i16) -> Option<T> {
        if self.unsigned_varint() == 0 { None } else { Some(self.structure(version)) }
    }

    /// The tagged fields of a struct that knows none.
    pub fn skip_tagged_fields(&mut self) {
        self.tagged_fields(|_, _| false);
    }

    /// The tagged fields of a struct. `read` reads the content of a tag, or says that it does not know it.
    ///
    /// Like Kafka's own readers this does not insist that tags ascend; of two equal ones the last counts.
    pub fn tagged_fields(&mut self, mut read: impl FnMut(&mut Reader, u32) -> bool) {
        let count = self.unsigned_varint();
        for _ in 0..count {
            let tag = self.unsigned_varint();
            let size = self.unsigned_varint() as usize;
            if size > self.remaining() {
                self.fail(Reason::Truncated { wanted: size, left: self.remaining() });
            }
            let end = self.position + size;
            if self.error.is_none() && !read(self, tag) {
                self.skip_unknown_tag(size);
            }
            if self.error.is_some() {
                return;
            }
            if self.position != end {
                self.fail(Reason::TagSize(tag));
            }
        }
    }

    fn skip_unknown_tag(&mut self, size: usize) {
        self.unknown_tags += 1;
        self.unknown_tag_bytes += size;
        if self.unknown_tags > MAX_UNKNOWN_TAGS || self.unknown_tag_bytes > MAX_UNKNOWN_TAG_BYTES {
            self.fail(Reason::TooManyUnknownTags);
        } else {
            self.position += size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader {
        Reader::new(Bytes::copy_from_slice(bytes))
    }

    /// What `read` returns and the error it leaves.
    fn read<T>(bytes: &[u8], read: impl FnOnce(&mut Reader) -> T) -> (T, Option<Reason>) {
        let mut r = reader(bytes);
        let value = read(&mut r);
        (value, r.check().err().map(|error| error.reason))
    }

    #[test]
    fn variable_length_numbers_have_at_most_the_bytes_of_their_width() {
        assert_eq!(read(&[0xac, 0x02], Reader::unsigned_varint), (300, None));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f], Reader::unsigned_varint), (u32::MAX, None));
        let too_long = Some(Reason::VarintTooLong);
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x1f], Reader::unsigned_varint), (0, too_long.clone()));
        assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0], Reader::unsigned_varint), (0, too_long.clone()));
        assert_eq!(read(&[0x03], Reader::varint), (-2, None));
        let mut lowest = [0xff; 10];
        lowest[9] = 0x01;
        assert_eq!(read(&lowest, Reader::varlong), (i64::MIN, None));
        lowest[9] = 0x02;
        assert_eq!(read(&lowest, Reader::varlong), (0, too_long));
    }

    #[test]
    fn lengths_are_held_against_what_is_left() {
        let truncated = |wanted, left| Some(Reason::Truncated { wanted, left });
        assert_eq!(read(&[0, 5, b'a', b'b'], |r| r.string(false)), (Str::EMPTY, truncated(5, 2)));
        assert_eq!(read(&[6, b'a', b'b'], |r| r.string(true)), (Str::EMPTY, truncated(5, 2)));
        assert_eq!(read(&[0, 0], Reader::int32), (0, truncated(4, 2)));
        let (elements, error) = read(&[0x7f, 0xff, 0xff, 0xff, 1], |r| r.array(false, 1, Reader::int8));
        assert!(elements.is_empty());
        assert_eq!(error, Some(Reason::TooManyElements { count: 0x7fff_ffff, left: 1 }));
    }

    #[test]
    fn null_is_minus_one_and_nothing_below() {
        assert_eq!(read(&[0xff, 0xff], |r| r.nullable_string(false)), (None, None));
        assert_eq!(read(&[0], |r| r.nullable_bytes(true)), (None, None));
        assert_eq!(read(&[0xff; 4], |r| r.array(false, 1, Reader::int8)), (vec![], Some(Reason::Null)));
        assert_eq!(
            read(&[0xff, 0xfe], |r| r.nullable_string(false)),
            (None, Some(Reason::NegativeLength(-2)))
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        assert_eq!(read(&[0, 2, 0xc3, 0x28], |r| r.string(false)).1, Some(Reason::InvalidUtf8));
    }

    #[test]
    fn compact_text_is_held_to_the_limit_of_classic_text() {
        let mut frame = vec![0; 40_000];
        frame[..3].copy_from_slice(&[0x81, 0x80, 0x02]); // 32,768 and one
        assert_eq!(read(&frame, |r| r.string(true)).1, Some(Reason::StringTooLong(32_768)));
    }

    #[test]
    fn decoded_text_is_a_slice_of_the_frame() {
        let frame = Bytes::from_static(&[0, 2, b'h', b'i']);
        let text = Reader::new(frame.clone()).string(false);
        assert_eq!(text.as_str().as_ptr(), frame[2..].as_ptr());
    }

    #[test]
    fn the_first_error_is_the_one_reported() {
        let mut r = reader(&[0, 1, 2]);
        r.int16();
        r.int32();
        r.string(true);
        let error = r.check().expect_err("truncated");
        assert_eq!(error.reason, Reason::Truncated { wanted: 4, left: 1 });
        assert_eq!(error.position, 2);
    }

    #[test]
    fn unknown_tags_are_skipped_and_known_ones_must_have_the_size_they_say() {
        let mut known = 0;
        // Tag 9 with 2 bytes, then tag 0 with 4.
        let frame = [2, 9, 2, 7, 7, 0, 4, 0, 0, 0, 5];
        let mut r = reader(&frame);
        r.tagged_fields(|r, tag| {
            if tag == 0 {
                known = r.int32();
            }
            tag == 0
        });
        assert_eq!((r.check(), r.remaining(), known), (Ok(()), 0, 5));

        let mut r = reader(&[1, 0, 4, 0, 0, 0, 5]);
        r.tagged_fields(|r, _| {
            r.int16();
            true
        });
        assert_eq!(r.check().expect_err("two bytes are left over").reason, Reason::TagSize(0));
    }

    #[test]
    fn unknown_tags_are_bounded_in_number_and_in_bytes() {
        let mut many = vec![65];
        many.extend([3, 0].repeat(65));
        assert_eq!(read(&many, Reader::skip_tagged_fields).1, Some(Reason::TooManyUnknownTags));
        many[0] = 64;
        assert_eq!(read(&many, Reader::skip_tagged_fields).1, None);

        let mut large = vec![1, 3, 0x81, 0x40]; // 8,193 bytes
        large.resize(10_000, 0);
        assert_eq!(read(&large, Reader::skip_tagged_fields).1, Some(Reason::TooManyUnknownTags));
    }
}

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
const MEMORY_BY_FRAME_BYTE: usize = 32;
/// ... and this many besides, so that small frames need no thought ...
const MEMORY_BASE: usize = 1024 * 1024;
/// ... but never more than this: what is larger than a few MiB on the wire consists of records, not of elements.
const MEMORY_LIMIT: usize = 256 * 1024 * 1024;

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
        for _ in 0..count {
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

    /// The tagged fields of a struct that knows none.
    pub fn skip_tagged_fields(&mut self) {
        self.tagged_fields(|_, _| false);
    }

    /// The tagged fields of a struct. `read` reads the content of a tag, or says that it does not know it.
    pub fn tagged_fields(&mut self, mut read: impl FnMut(&mut Reader, u32) -> bool) {
        let count = self.unsigned_varint();
        let mut last_tag = None;
        for _ in 0..count {
            let tag = self.unsigned_varint();
            let size = self.unsigned_varint() as usize;
            if self.error.is_none() && last_tag.is_some_and(|last| last >= tag) {
                self.fail(Reason::TagOrder(tag));
            }
            last_tag = Some(tag);
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

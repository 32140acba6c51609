//! Encodes the primitives of the protocol into chunks.
//!
//! Everything goes into one growing buffer, except large record batches and ranges of files, which are passed
//! through; [`Writer::finish`] cuts the buffer where they belong.

use std::mem::{replace, take};

use bytes::{BufMut, Bytes, BytesMut};

use crate::records::{FileSlice, Records};
use crate::{Message, Uuid};

/// Record batches of fewer bytes are copied: one more chunk would cost more than the copy.
const COPIED_RECORDS: usize = 2 * 1024;

/// A piece of an encoded frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of a file, to be sent without being read.
    File(FileSlice),
}

impl Chunk {
    /// The bytes it stands for.
    pub fn len(&self) -> usize {
        match self {
            Chunk::Bytes(bytes) => bytes.len(),
            Chunk::File(slice) => slice.length as usize,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Gathers one frame after the other. It keeps its buffer, so keep the writer.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: BytesMut,
    /// What goes between the bytes of the buffer, by position in it.
    inserted: Vec<(usize, Chunk)>,
    inserted_bytes: usize,
}

impl Writer {
    /// A writer that has nothing yet.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// The bytes written since the last [`Writer::finish`].
    pub fn len(&self) -> usize {
        self.buffer.len() + self.inserted_bytes
    }

    /// Whether nothing was written since the last [`Writer::finish`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written, in order, and starts anew.
    pub fn finish(&mut self) -> Vec<Chunk> {
        let mut chunks = Vec::with_capacity(2 * self.inserted.len() + 1);
        let mut cut = 0;
        for (position, chunk) in self.inserted.drain(..) {
            if position > cut {
                chunks.push(Chunk::Bytes(self.buffer.split_to(position - cut).freeze()));
                cut = position;
            }
            chunks.push(chunk);
        }
        if !self.buffer.is_empty() {
            chunks.push(Chunk::Bytes(self.buffer.split().freeze()));
        }
        self.inserted_bytes = 0;
        chunks
    }

    /// What was written, as one piece of memory, and starts anew.
    ///
    /// # Panics
    /// Where ranges of files were written: they are not in memory.
    pub fn finish_bytes(&mut self) -> Bytes {
        if self.inserted.is_empty() {
            return self.buffer.split().freeze();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        for chunk in self.finish() {
            match chunk {
                Chunk::Bytes(bytes) => whole.extend_from_slice(&bytes),
                Chunk::File(_) => panic!("a file range cannot be had as bytes"),
            }
        }
        whole.freeze()
    }

    /// Writes a four-byte length, then what `write` writes, and sets the length to its size.
    pub fn sized(&mut self, write: impl FnOnce(&mut Writer)) {
        let start = self.buffer.len();
        let inserted = self.inserted_bytes;
        self.int32(0);
        write(self);
        let size = (self.buffer.len() - start - 4) + (self.inserted_bytes - inserted);
        let size = i32::try_from(size).expect("frames are far below 2 GiB");
        self.buffer[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }

    /// One byte, 1 for true.
    pub fn bool(&mut self, value: bool) {
        self.buffer.put_u8(value.into());
    }

    /// A signed byte.
    pub fn int8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    /// Two bytes.
    pub fn int16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// Two bytes, unsigned.
    pub fn uint16(&mut self, value: u16) {
        self.buffer.put_u16(value);
    }

    /// Four bytes.
    pub fn int32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// Eight bytes.
    pub fn int64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// Eight bytes of IEEE 754.
    pub fn float64(&mut self, value: f64) {
        self.buffer.put_f64(value);
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.put_slice(&value.0);
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Seven bits a byte, the lowest first.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// The length of something that may be null: compact where `flexible`, else four bytes.
    fn length(&mut self, length: Option<usize>, flexible: bool) {
        let length = length.map(|length| i32::try_from(length).expect("frames are far below 2 GiB"));
        match length {
            Some(length) if flexible => self.unsigned_varint(length as u32 + 1),
            Some(length) => self.int32(length),
            None if flexible => self.unsigned_varint(0),
            None => self.int32(-1),
        }
    }

    /// Text. More than Kafka's 32,767 bytes are cut at a character.
    pub fn string(&mut self, text: &str, flexible: bool) {
        let mut end = text.len().min(i16::MAX as usize);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = &text[..end];
        if flexible {
            self.unsigned_varint(text.len() as u32 + 1);
        } else {
            self.int16(text.len() as i16);
        }
        self.raw(text.as_bytes());
    }

    /// Text or null.
    pub fn nullable_string(&mut self, text: Option<&str>, flexible: bool) {
        match text {
            Some(text) => self.string(text, flexible),
            None if flexible => self.unsigned_varint(0),
            None => self.int16(-1),
        }
    }

    /// Bytes, copied.
    pub fn bytes(&mut self, bytes: &[u8], flexible: bool) {
        self.length(Some(bytes.len()), flexible);
        self.raw(bytes);
    }

    /// Bytes or null.
    pub fn nullable_bytes(&mut self, bytes: Option<&[u8]>, flexible: bool) {
        match bytes {
            Some(bytes) => self.bytes(bytes, flexible),
            None => self.length(None, flexible),
        }
    }

    /// Record batches; large ones and ranges of files become chunks of their own.
    pub fn records(&mut self, records: &Records, flexible: bool) {
        self.length(Some(records.len()), flexible);
        match records {
            Records::Bytes(bytes) if bytes.len() < COPIED_RECORDS => self.raw(bytes),
            Records::Bytes(bytes) => self.insert(Chunk::Bytes(bytes.clone())),
            Records::File(slice) if slice.length == 0 => {}
            Records::File(slice) => self.insert(Chunk::File(slice.clone())),
        }
    }

    /// Record batches or null.
    pub fn nullable_records(&mut self, records: Option<&Records>, flexible: bool) {
        match records {
            Some(records) => self.records(records, flexible),
            None => self.length(None, flexible),
        }
    }

    fn insert(&mut self, chunk: Chunk) {
        self.inserted_bytes += chunk.len();
        self.inserted.push((self.buffer.len(), chunk));
    }

    /// An array, each element written by `write`.
    pub fn array<T>(&mut self, elements: &[T], flexible: bool, mut write: impl FnMut(&mut Writer, &T)) {
        self.length(Some(elements.len()), flexible);
        for element in elements {
            write(self, element);
        }
    }

    /// An array or null.
    pub fn nullable_array<T>(
        &mut self,
        elements: Option<&[T]>,
        flexible: bool,
        write: impl FnMut(&mut Writer, &T),
    ) {
        match elements {
            Some(elements) => self.array(elements, flexible, write),
            None => self.length(None, flexible),
        }
    }

    /// An array of structs.
    pub fn structures<T: Message>(&mut self, elements: &[T], flexible: bool, version: i16) {
        self.array(elements, flexible, |w, element| element.encode(w, version));
    }

    /// An array of structs or null.
    pub fn nullable_structures<T: Message>(&mut self, elements: Option<&[T]>, flexible: bool, version: i16) {
        self.nullable_array(elements, flexible, |w, element| element.encode(w, version));
    }

    /// One struct.
    pub fn structure<T: Message>(&mut self, value: &T, version: i16) {
        value.encode(self, version);
    }

    /// A struct, or null: the byte -1.
    pub fn nullable_structure<T: Message>(&mut self, value: Option<&T>, version: i16) {
        match value {
            Some(value) => {
                self.int8(1);
                value.encode(self, version);
            }
            None => self.int8(-1),
        }
    }

    /// A struct in a tagged field, or null: there it is a compact 0.
    pub fn nullable_tagged_structure<T: Message>(&mut self, value: Option<&T>, version: i16) {
        self.unsigned_varint(value.is_some().into());
        if let Some(value) = value {
            value.encode(self, version);
        }
    }

    /// Says that a struct has no tagged fields.
    pub fn no_tagged_fields(&mut self) {
        self.unsigned_varint(0);
    }

    /// Says how many tagged fields follow: as many as are `present`.
    pub fn tagged_field_count(&mut self, present: &[bool]) {
        self.unsigned_varint(present.iter().filter(|present| **present).count() as u32);
    }

    /// One tagged field, its content written by `write`. No tagged field of Kafka's contains record batches.
    pub fn tagged_field(&mut self, tag: u32, write: impl FnOnce(&mut Writer)) {
        self.unsigned_varint(tag);
        let outer = take(&mut self.buffer);
        let inserted = self.inserted.len();
        write(self);
        debug_assert_eq!(inserted, self.inserted.len(), "a tagged field with record batches");
        let content = replace(&mut self.buffer, outer);
        self.unsigned_varint(content.len() as u32);
        self.raw(&content);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::*;

    fn file_records(length: u32) -> Records {
        let file = Arc::new(File::open(env!("CARGO_MANIFEST_DIR")).expect("it can be opened"));
        Records::File(FileSlice { file, position: 7, length })
    }

    #[test]
    fn file_ranges_and_large_batches_are_passed_through() {
        let (file, large) = (file_records(100), Records::Bytes(vec![1; COPIED_RECORDS].into()));
        let mut w = Writer::new();
        w.sized(|w| {
            w.records(&file, false);
            w.records(&large, true);
            w.records(&Records::Bytes(Bytes::from_static(b"ab")), true);
        });
        assert_eq!(w.len(), 4 + 4 + 100 + 2 + COPIED_RECORDS + 3);

        let chunks = w.finish();
        let size = (100 + 9 + COPIED_RECORDS) as u32;
        let head = [size.to_be_bytes(), 100u32.to_be_bytes()].concat();
        assert_eq!(chunks[0], Chunk::Bytes(head.into()));
        assert!(matches!(&chunks[1], Chunk::File(slice) if slice.position == 7 && slice.length == 100));
        assert_eq!(chunks[2], Chunk::Bytes(vec![0x81, 0x10].into()));
        let (Chunk::Bytes(sent), Records::Bytes(given)) = (&chunks[3], &large) else { panic!("not bytes") };
        assert_eq!(sent.as_ptr(), given.as_ptr());
        assert_eq!(chunks[4], Chunk::Bytes(vec![3, b'a', b'b'].into()));
        assert!(w.is_empty());
    }

    #[test]
    fn a_writer_starts_anew_after_each_frame() {
        let mut w = Writer::new();
        w.records(&file_records(5), false);
        w.finish();
        w.sized(|w| w.int16(7));
        assert_eq!(w.finish_bytes()[..], [0, 0, 0, 2, 0, 7]);
    }

    #[test]
    fn text_beyond_the_limit_is_cut_at_a_character() {
        let mut w = Writer::new();
        w.string(&"é".repeat(20_000), false);
        let bytes = w.finish_bytes();
        assert_eq!(bytes[..2], 32_766u16.to_be_bytes());
        assert_eq!(bytes.len(), 2 + 32_766);
    }

    #[test]
    fn tagged_fields_say_their_size() {
        let mut w = Writer::new();
        w.tagged_field_count(&[true, false, true]);
        w.tagged_field(0, |w| w.int16(5));
        w.tagged_field(2, |w| w.raw(&[9; 200]));
        let bytes = w.finish_bytes();
        assert_eq!(bytes[..8], [2, 0, 2, 0, 5, 2, 0xc8, 0x01]);
        assert_eq!(bytes.len(), 8 + 200);
    }
}

//! The four codecs, as Kafka's clients frame them. Reading is a stream through small buffers.

use std::fmt;
use std::io::{self, Read, Write};

use crate::{BatchError, BatchHeader, BatchView};

/// More than this a batch must not decompress to: it bounds the time a bomb can take. Memory is bounded by the window.
const MAX_DECOMPRESSED: u64 = 1 << 30;

/// The window of Zstandard's highest level, 128 MiB: no frame may ask for a larger one, and the decoder holds as much
/// only where a frame asks for it and has the output to fill it.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// All there are, by their numbers.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The number in a batch's attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The codec with this number.
    pub fn from_id(id: u8) -> Option<Compression> {
        Compression::ALL.get(usize::from(id)).copied()
    }

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Decompresses as it is read. Fails where there is more than a gibibyte of output.
pub struct Decompressor<'a> {
    codec: Codec<'a>,
    left: u64,
}

enum Codec<'a> {
    None(&'a [u8]),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyReader<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
    Failed(Option<io::Error>),
}

impl<'a> Decompressor<'a> {
    /// Reads `bytes`, which were compressed with `compression`.
    pub fn new(compression: Compression, bytes: &'a [u8]) -> Decompressor<'a> {
        let codec = match compression {
            Compression::None => Codec::None(bytes),
            Compression::Gzip => Codec::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(bytes))),
            Compression::Snappy => Codec::Snappy(SnappyReader::new(bytes)),
            Compression::Lz4 => Codec::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(bytes))),
            Compression::Zstd => match zstd_decoder(bytes) {
                Ok(decoder) => Codec::Zstd(Box::new(decoder)),
                Err(error) => Codec::Failed(Some(error)),
            },
        };
        Decompressor { codec, left: MAX_DECOMPRESSED }
    }
}

fn zstd_decoder(bytes: &[u8]) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

impl Read for Decompressor<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.codec {
            Codec::None(bytes) => bytes.read(out),
            Codec::Gzip(decoder) => decoder.read(out),
            Codec::Snappy(reader) => reader.read(out),
            Codec::Lz4(decoder) => decoder.read(out),
            Codec::Zstd(decoder) => decoder.read(out),
            Codec::Failed(error) => Err(error.take().unwrap_or_else(|| invalid("no decoder"))),
        }?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| invalid("too much output"))?;
        Ok(count)
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// What the Java library puts in front of its blocks: its name, a version, and the oldest version that can read it.
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_MAGIC_LEN: usize = 8;

/// Bytes a framed snappy block is made of.
const SNAPPY_BLOCK: usize = 32 << 10;

/// Snappy's best copy makes 64 bytes of 3. A block that claims a better ratio lies.
const SNAPPY_MAX_RATIO: usize = 22;

/// Reads snappy as the Java client frames it (blocks behind their lengths), or one bare block, as other clients write.
struct SnappyReader<'a> {
    rest: &'a [u8],
    is_framed: bool,
    block: Vec<u8>,
    position: usize,
}

impl<'a> SnappyReader<'a> {
    fn new(bytes: &'a [u8]) -> SnappyReader<'a> {
        let is_framed = bytes.len() >= XERIAL_HEADER.len()
            && bytes[..XERIAL_MAGIC_LEN] == XERIAL_HEADER[..XERIAL_MAGIC_LEN];
        let rest = if is_framed { &bytes[XERIAL_HEADER.len()..] } else { bytes };
        SnappyReader { rest, is_framed, block: Vec::new(), position: 0 }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let block = if self.is_framed {
            let (len, rest) =
                self.rest.split_first_chunk().ok_or_else(|| invalid("a block length is cut"))?;
            let len = u32::from_be_bytes(*len) as usize;
            let (block, rest) = rest.split_at_checked(len).ok_or_else(|| invalid("a block is cut"))?;
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        let len = snap::raw::decompress_len(block)?;
        if len > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
            return Err(invalid("a block claims an impossible length"));
        }
        self.block.resize(len, 0);
        self.position = 0;
        snap::raw::Decoder::new().decompress(block, &mut self.block)?;
        Ok(())
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.position == self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let count = (&self.block[self.position..]).read(out)?;
        self.position += count;
        Ok(count)
    }
}

/// Compresses all of `input` to `out`, framed as the Java client does.
pub(crate) fn compress(compression: Compression, input: &mut impl Read, out: impl Write) -> io::Result<()> {
    match compression {
        Compression::None => copy(input, out).map(drop),
        Compression::Gzip => {
            let encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            copy(input, encoder)?.finish().map(drop)
        }
        Compression::Snappy => compress_snappy(input, out),
        Compression::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
            let encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
            copy(input, encoder)?.finish().map(drop).map_err(io::Error::from)
        }
        Compression::Zstd => {
            let encoder = zstd::stream::write::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            copy(input, encoder)?.finish().map(drop)
        }
    }
}

fn copy<W: Write>(input: &mut impl Read, mut out: W) -> io::Result<W> {
    io::copy(input, &mut out)?;
    Ok(out)
}

fn compress_snappy(input: &mut impl Read, mut out: impl Write) -> io::Result<()> {
    out.write_all(&XERIAL_HEADER)?;
    let mut encoder = snap::raw::Encoder::new();
    let mut block = Vec::with_capacity(SNAPPY_BLOCK);
    loop {
        block.clear();
        input.by_ref().take(SNAPPY_BLOCK as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(());
        }
        let compressed = encoder.compress_vec(&block)?;
        out.write_all(&(compressed.len() as u32).to_be_bytes())?;
        out.write_all(&compressed)?;
    }
}

/// The same batch with its records compressed another way; `None` where it would be larger than `max_bytes`.
///
/// For topics whose `compression.type` is not "producer". The records themselves are not looked at.
pub fn recompress(
    batch: &BatchView<'_>,
    to: Compression,
    max_bytes: usize,
) -> Result<Option<Vec<u8>>, BatchError> {
    let from = batch.compression()?;
    let mut out = Bounded { bytes: batch.header().as_bytes().to_vec(), max_bytes, is_full: false };
    if let Err(error) = compress(to, &mut Decompressor::new(from, batch.payload()), &mut out) {
        return if out.is_full { Ok(None) } else { Err(crate::varint::io_error(error).while_reading(from)) };
    }
    let mut bytes = out.bytes;
    let (header, payload) = bytes.split_first_chunk_mut().expect("the header was written first");
    let mut patched: BatchHeader = batch.header();
    patched.set_compression(to);
    patched.seal(payload);
    *header = *patched.as_bytes();
    Ok(Some(bytes))
}

/// A vector that takes no more than it may hold.
struct Bounded {
    bytes: Vec<u8>,
    max_bytes: usize,
    is_full: bool,
}

impl Write for Bounded {
    fn write(&mut self, input: &[u8]) -> io::Result<usize> {
        if input.len() > self.max_bytes.saturating_sub(self.bytes.len()) {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(input);
        Ok(input.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

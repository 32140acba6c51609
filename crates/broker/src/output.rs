//! What waits to be written to a socket: bytes and ranges of files, in order.
//!
//! Bytes go out by vectored writes; ranges of files by `sendfile`, so that records on their way to a consumer
//! are never copied through this process.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::Buf;
use oncelog_node::Frame;
use oncelog_wire::Chunk;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// How many buffers one `writev` takes at most; beyond that the gain is nil.
const MOST_SLICES: usize = 64;

/// How much of a file one `sendfile` sends at most, so that one slow disk read does not hold a thread for long.
const MOST_FILE_BYTES: usize = 1 << 20;

/// The frames of one connection that are not written yet.
#[derive(Default)]
pub(crate) struct Output {
    chunks: VecDeque<Chunk>,
    pending_bytes: usize,
}

impl Output {
    /// Bytes that wait to be written.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Queues a frame behind what is there.
    pub(crate) fn push(&mut self, frame: Frame) {
        for chunk in frame {
            self.pending_bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Writes all that waits. Fails where the peer takes nothing for as long as `patience`.
    pub(crate) async fn flush(&mut self, stream: &TcpStream, patience: Duration) -> io::Result<()> {
        while !self.chunks.is_empty() {
            match self.write_some(stream) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match tokio::time::timeout(patience, stream.writable()).await {
                        Ok(ready) => ready?,
                        Err(_) => {
                            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing"));
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_some(&mut self, stream: &TcpStream) -> io::Result<()> {
        match self.chunks.front() {
            Some(Chunk::File(_)) => self.send_file(stream),
            _ => self.write_bytes(stream),
        }
    }

    fn write_bytes(&mut self, stream: &TcpStream) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let mut used = 0;
        for (slot, chunk) in slices.iter_mut().zip(&self.chunks) {
            let Chunk::Bytes(bytes) = chunk else { break };
            *slot = IoSlice::new(bytes);
            used += 1;
        }
        let mut written = stream.try_write_vectored(&slices[..used])?;
        self.pending_bytes -= written;
        while let Some(Chunk::Bytes(bytes)) = self.chunks.front_mut() {
            if bytes.len() > written {
                bytes.advance(written);
                break;
            }
            written -= bytes.len();
            self.chunks.pop_front();
        }
        Ok(())
    }

    fn send_file(&mut self, stream: &TcpStream) -> io::Result<()> {
        let Some(Chunk::File(slice)) = self.chunks.front_mut() else { return Ok(()) };
        let most = (slice.length as usize).min(MOST_FILE_BYTES);
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut position = slice.position;
            Ok(rustix::fs::sendfile(stream, &slice.file, Some(&mut position), most)?)
        })?;
        if sent == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a log segment is shorter than its index says",
            ));
        }
        slice.position += sent as u64;
        slice.length -= sent as u32;
        self.pending_bytes -= sent;
        if slice.length == 0 {
            self.chunks.pop_front();
        }
        Ok(())
    }
}

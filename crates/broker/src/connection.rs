//! One client's connection: bytes in, frames to the node, answers out, in order and one at a time.
//!
//! As in Kafka, the next request of a connection is looked at when the answer to the one before is on its way,
//! and nothing more is read from a client that does not take its answers. Memory grows with the bytes received,
//! never with the size a frame announces.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use oncelog_node::{Connection, Frame, Reply, Wait};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use crate::output::Output;
use crate::shared::Shared;

/// The room a read is given at least.
const READ_BYTES: usize = 8 * 1024;

/// Answers are gathered up to this size before they are written, where requests are pipelined.
const GATHER_BYTES: usize = 256 * 1024;

/// A frame may take this long from its first byte to its last …
const FRAME_PATIENCE: Duration = Duration::from_secs(30);

/// … and a second more for each this many bytes that came.
const SLOWEST_BYTES_PER_SECOND: u64 = 16 * 1024;

/// A frame up to this size is read without a share of `queued.max.request.bytes`.
const UNCOUNTED_FRAME_BYTES: usize = 16 * 1024;

/// Why a connection ended, where it was not the client's own wish.
enum End {
    /// The client closed, the network failed, or the broker is stopping.
    Quiet,
    /// The client did something that is not answered; worth a line in the log.
    Refused(Box<str>),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Quiet
    }
}

/// Serves the connection until it ends.
pub(crate) async fn serve(
    stream: TcpStream,
    connection: Connection,
    shared: Arc<Shared>,
    stopping: watch::Receiver<bool>,
) {
    let mut server = Server {
        input: BytesMut::new(),
        output: Output::default(),
        frame_started: None,
        share: None,
        stream,
        connection,
        shared,
        stopping,
    };
    if let Err(End::Refused(reason)) = server.run().await {
        let host = &server.connection.client_host;
        server.shared.complaints.say(|| format!("closed the connection of {host}: {reason}"));
    }
}

struct Server {
    stream: TcpStream,
    connection: Connection,
    shared: Arc<Shared>,
    stopping: watch::Receiver<bool>,
    input: BytesMut,
    output: Output,
    /// When the first byte of the frame that is not whole yet came.
    frame_started: Option<Instant>,
    /// The part of `queued.max.request.bytes` that the frame being received or handled holds.
    share: Option<OwnedSemaphorePermit>,
}

impl Server {
    async fn run(&mut self) -> Result<(), End> {
        let patience = Duration::from_millis(self.shared.limits.idle_ms);
        loop {
            while let Some(frame) = self.next_frame()? {
                self.answer(frame, patience).await?;
                self.share = None;
                if self.output.pending_bytes() > GATHER_BYTES {
                    self.output.flush(&self.stream, patience).await?;
                }
            }
            self.output.flush(&self.stream, patience).await?;
            self.read_more(patience).await?;
        }
    }

    async fn answer(&mut self, frame: Bytes, patience: Duration) -> Result<(), End> {
        match self.shared.node.handle(&self.connection, frame, self.shared.clock.now()) {
            Reply::Send(answer) => self.output.push(answer),
            Reply::Silent => {}
            Reply::Wait(wait) => {
                self.output.flush(&self.stream, patience).await?;
                let answer = self.wait(wait).await?;
                self.output.push(answer);
            }
            Reply::Close(reason) => {
                self.output.flush(&self.stream, patience).await?;
                return Err(End::Refused(reason));
            }
        }
        Ok(())
    }

    /// Holds an answer until its signal or its deadline brings it. A broker that stops cuts it off unless it just waits for
    /// the device.
    async fn wait(&mut self, mut wait: Box<dyn Wait>) -> Result<Frame, End> {
        let signal = wait.signal().clone();
        loop {
            if let Some(frame) = wait.poll(&self.shared.node, self.shared.clock.now()) {
                return Ok(frame);
            }
            let fired = poll_fn(|context| match signal.is_set_or_wake(context.waker()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            let deadline = wait.deadline().map(|deadline| self.shared.clock.instant(deadline));
            let at_deadline = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = fired => { signal.take(); }
                _ = at_deadline => {}
                _ = self.stopping.changed(), if !wait.is_done() => return Err(End::Quiet),
            }
        }
    }

    /// Cuts the next whole frame off the input, without its size prefix.
    fn next_frame(&mut self) -> Result<Option<Bytes>, End> {
        let Some(size) = self.announced_size()? else { return Ok(None) };
        if self.input.len() < 4 + size {
            return Ok(None);
        }
        self.frame_started = None;
        let mut frame = self.input.split_to(4 + size).freeze();
        Ok(Some(frame.split_off(4)))
    }

    /// The size of the frame at the head of the input, once its prefix is there.
    fn announced_size(&self) -> Result<Option<usize>, End> {
        let Some(prefix) = self.input.first_chunk::<4>() else { return Ok(None) };
        let most = self.shared.limits.request_bytes;
        match usize::try_from(i32::from_be_bytes(*prefix)) {
            Ok(size) if (1..=most).contains(&size) => Ok(Some(size)),
            _ => Err(End::Refused(describe_bad_prefix(*prefix, most))),
        }
    }

    /// Waits for bytes, the client's departure, the end of patience, or the broker's stop.
    async fn read_more(&mut self, idle: Duration) -> Result<(), End> {
        let missing = match self.announced_size()? {
            Some(size) => 4 + size - self.input.len(),
            None => READ_BYTES,
        };
        self.take_share(self.input.len() + missing).await?;
        // At most as much again as has come: a client is believed as far as it has already gone.
        self.input.reserve(missing.min(self.input.len()).max(READ_BYTES));

        let is_partial = !self.input.is_empty();
        if is_partial && self.frame_started.is_none() {
            self.frame_started = Some(Instant::now());
        }
        let deadline = match self.frame_started {
            Some(started) => {
                let earned = Duration::from_secs(self.input.len() as u64 / SLOWEST_BYTES_PER_SECOND);
                started + FRAME_PATIENCE + earned
            }
            None => Instant::now() + idle,
        };
        let count = tokio::select! {
            count = self.stream.read_buf(&mut self.input) => count?,
            _ = tokio::time::sleep_until(deadline) => {
                return Err(match is_partial {
                    true => End::Refused("a request came too slowly to wait for its end".into()),
                    false => End::Quiet,
                });
            }
            _ = self.stopping.changed() => return Err(End::Quiet),
        };
        if count == 0 { Err(End::Quiet) } else { Ok(()) }
    }

    /// Waits for a share of the memory all requests may take together, where that is bounded.
    async fn take_share(&mut self, frame_bytes: usize) -> Result<(), End> {
        let Some(pool) = &self.shared.request_memory else { return Ok(()) };
        if frame_bytes <= UNCOUNTED_FRAME_BYTES || self.share.is_some() {
            return Ok(());
        }
        let count = frame_bytes.min(self.shared.limits.request_memory_bytes) as u32;
        tokio::select! {
            share = pool.clone().acquire_many_owned(count) => self.share = share.ok(),
            _ = self.stopping.changed() => return Err(End::Quiet),
        }
        Ok(())
    }
}

/// Says what a size prefix that cannot be one looks like.
fn describe_bad_prefix(prefix: [u8; 4], most: usize) -> Box<str> {
    let size = i32::from_be_bytes(prefix);
    match &prefix {
        [0x16, 0x03, ..] => "this looks like a TLS handshake, but the listener speaks plaintext".into(),
        b"GET " | b"POST" | b"HEAD" | b"PUT " => "this looks like HTTP, but the listener speaks Kafka".into(),
        _ if size <= 0 => format!("a request announced a size of {size} bytes").into(),
        _ => format!("a request announced {size} bytes; socket.request.max.bytes allows {most}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_size_prefix_is_called_by_its_name() {
        assert!(describe_bad_prefix(*b"GET ", 100).contains("HTTP"));
        assert!(describe_bad_prefix([0x16, 3, 1, 2], 100).contains("TLS"));
        assert!(describe_bad_prefix([0xff; 4], 100).contains("-1"));
        assert!(describe_bad_prefix([0, 0, 1, 0], 100).contains("256"));
    }
}

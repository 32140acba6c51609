//! One connection: frames out, frames in, in order.

use std::io::{BufReader, Read, Write};
use std::marker::PhantomData;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;
use oncelog_wire::{
    ApiKey, Chunk, ErrorCode, Request, RequestHeader, Str, Writer, api_versions, decode_response,
    encode_request,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::{ClientError, Result};

/// How long to wait for an answer, unless told otherwise. A broker that hangs should fail a test, not hang it.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// No answer is larger; a size beyond this is taken for noise.
const MAX_FRAME: usize = 256 << 20;

/// A connection to one broker.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    client_id: Option<Str>,
    next_correlation_id: i32,
    writer: Writer,
}

/// A request that was sent: what is needed to read its answer.
#[derive(Debug)]
#[must_use = "an answer that is not received stays in the way of the next"]
pub struct Pending<R> {
    correlation_id: i32,
    version: i16,
    request: PhantomData<fn() -> R>,
}

impl Connection {
    /// Connects, and waits at most 30 seconds for each answer from then on.
    pub fn connect(address: impl ToSocketAddrs, client_id: &str) -> Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(Connection {
            stream: BufReader::with_capacity(64 << 10, stream),
            client_id: Some(client_id.into()),
            next_correlation_id: 0,
            writer: Writer::new(),
        })
    }

    /// How long to wait for an answer; `None` waits for ever.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        Ok(self.stream.get_ref().set_read_timeout(timeout)?)
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends a request and waits for its answer.
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        let pending = self.send(request, version)?;
        self.receive(pending)
    }

    /// Sends a request. The answers to several are received in the order in which they were sent.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<Pending<R>> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = correlation_id.wrapping_add(1);
        let header = RequestHeader {
            api_key: R::KEY,
            api_version: version,
            correlation_id,
            client_id: self.client_id.clone(),
        };
        match encode_request(&header, request, &mut self.writer).as_slice() {
            [Chunk::Bytes(frame)] => self.send_raw(frame)?,
            chunks => {
                let parts = chunks.iter().map(|chunk| match chunk {
                    Chunk::Bytes(bytes) => &bytes[..],
                    Chunk::File(_) => unreachable!("requests carry no files"),
                });
                self.send_raw(&parts.collect::<Vec<_>>().concat())?;
            }
        }
        Ok(Pending { correlation_id, version, request: PhantomData })
    }

    /// Waits for the answer to a request that was sent.
    pub fn receive<R: Request>(&mut self, pending: Pending<R>) -> Result<R::Response> {
        let frame = self.receive_frame()?;
        let (correlation_id, response) = decode_response::<R>(pending.version, frame)?;
        if correlation_id != pending.correlation_id {
            return Err(ClientError::Nonsense("it has another correlation id"));
        }
        Ok(response)
    }

    /// Sends bytes as they are, whatever they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Waits for one frame and returns it without its size.
    pub fn receive_frame(&mut self) -> Result<Bytes> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).map_err(or_closed)?;
        let size = usize::try_from(i32::from_be_bytes(size))
            .ok()
            .filter(|size| (4..=MAX_FRAME).contains(size))
            .ok_or(ClientError::Nonsense("its size is out of bounds"))?;
        let mut frame = Vec::with_capacity(size.min(1 << 20));
        self.stream.by_ref().take(size as u64).read_to_end(&mut frame).map_err(or_closed)?;
        if frame.len() < size { Err(ClientError::Closed) } else { Ok(frame.into()) }
    }

    /// Waits until there is something to receive, at most for `patience`; says whether there is.
    pub fn wait(&self, patience: Duration) -> Result<bool> {
        if !self.stream.buffer().is_empty() {
            return Ok(true);
        }
        let timeout = Timespec::try_from(patience).ok();
        let mut sockets = [PollFd::new(self.stream.get_ref(), PollFlags::IN)];
        match poll(&mut sockets, timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(ClientError::Io(error.into())),
        }
    }

    /// Waits until the broker closes the connection; an answer in its place, or the read timeout, is an error.
    pub fn wait_for_close(&mut self) -> Result<()> {
        match self.receive_frame() {
            Err(ClientError::Closed) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(ClientError::Nonsense("the connection should have been closed")),
        }
    }

    /// Closes the connection both ways, as a client that dies does. What was sent may or may not have arrived.
    pub fn shutdown(&self) {
        // The broker may have been faster, and that is as good.
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
    }

    /// Asks which versions the broker has; falls back to version 0 where the broker does not know ours.
    pub fn api_versions(&mut self) -> Result<api_versions::Response> {
        let request = api_versions::Request {
            client_software_name: Str::from_static("oncelog-client"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
        };
        let newest = ApiKey::ApiVersions.newest_version().min(*api_versions::Request::VERSIONS.end());
        // The error code follows the correlation id, and with it the whole answer has the form of version 0.
        const UNSUPPORTED: [u8; 2] = (ErrorCode::UnsupportedVersion as i16).to_be_bytes();
        let _ = self.send(&request, newest)?;
        let frame = self.receive_frame()?;
        let version = if frame.get(4..6) == Some(&UNSUPPORTED) { 0 } else { newest };
        let (_, response) = decode_response::<api_versions::Request>(version, frame)?;
        if version == 0 { self.call(&request, 0) } else { Ok(response) }
    }
}

/// A connection that ends, gently or not, is closed; anything else is an error of its own.
fn or_closed(error: std::io::Error) -> ClientError {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe => ClientError::Closed,
        _ => ClientError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::script::{Arrived, answer, serve};
    use oncelog_wire::list_groups;

    fn connect(respond: impl FnMut(Arrived) -> Vec<u8> + Send + 'static) -> Connection {
        Connection::connect(serve(respond), "test").unwrap()
    }

    fn ok(request: &Arrived) -> Vec<u8> {
        let response =
            list_groups::Response { throttle_time_ms: request.header.correlation_id, ..Default::default() };
        answer::<list_groups::Request>(&request.header, &response)
    }

    #[test]
    fn pipelined_answers_are_received_in_order() {
        let mut connection = connect(|request| {
            assert_eq!(request.header.client_id.as_deref(), Some("test"));
            ok(&request)
        });
        let request = list_groups::Request::default();
        let pending: Vec<_> = (0..50).map(|_| connection.send(&request, 3).unwrap()).collect();
        for (index, pending) in pending.into_iter().enumerate() {
            assert_eq!(connection.receive(pending).unwrap().throttle_time_ms, index as i32);
        }
    }

    #[test]
    fn an_answer_to_something_else_is_nonsense() {
        let mut connection = connect(|mut request| {
            request.header.correlation_id += 1;
            ok(&request)
        });
        let answer = connection.call(&list_groups::Request::default(), 3);
        assert!(matches!(answer, Err(ClientError::Nonsense(_))), "{answer:?}");
    }

    #[test]
    fn a_cut_answer_is_a_closed_connection_and_a_huge_one_nonsense() {
        let mut connection = connect(|_| vec![0, 0, 0, 9, 1, 2]);
        connection.send_raw(&[0, 0, 0, 10, 0, 16, 0, 0, 0, 0, 0, 0, 0xff, 0xff]).unwrap();
        connection.stream().shutdown(Shutdown::Write).unwrap();
        assert!(matches!(connection.receive_frame(), Err(ClientError::Closed)));

        let mut connection = connect(|_| vec![0x7f, 0xff, 0xff, 0xff]);
        let answer = connection.call(&list_groups::Request::default(), 3);
        assert!(matches!(answer, Err(ClientError::Nonsense(_))), "{answer:?}");

        let mut connection = connect(|_| vec![]);
        let _ = connection.send(&list_groups::Request::default(), 3).unwrap();
        connection.wait_for_close().unwrap();
    }

    #[test]
    fn an_old_broker_is_asked_again_for_its_versions() {
        let mut connection = connect(|mut request| {
            let is_new = request.header.api_version > 0;
            request.header.api_version = 0;
            let response = api_versions::Response {
                error_code: if is_new { ErrorCode::UnsupportedVersion } else { ErrorCode::None },
                api_keys: vec![api_versions::ApiVersion { api_key: 18, min_version: 0, max_version: 0 }],
                ..Default::default()
            };
            answer::<api_versions::Request>(&request.header, &response)
        });
        let versions = connection.api_versions().unwrap();
        assert_eq!(versions.error_code, ErrorCode::None);
        assert_eq!(versions.api_keys.len(), 1);
    }
}

//! A broker for unit tests: it answers each request as the test says, on a socket of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use oncelog_wire::{ApiKey, Chunk, Reader, Request, RequestHeader, Writer, api_versions, encode_response};

/// A request as it arrived.
pub(crate) struct Arrived {
    pub(crate) header: RequestHeader,
    body: Reader,
}

impl Arrived {
    pub(crate) fn decode<R: Request>(mut self) -> R {
        R::decode(&mut self.body, self.header.api_version).unwrap()
    }
}

/// The frame of an answer to `header`.
pub(crate) fn answer<R: Request>(header: &RequestHeader, response: &R::Response) -> Vec<u8> {
    let chunks =
        encode_response::<R>(header.api_version, header.correlation_id, response, &mut Writer::new());
    let bytes = chunks.iter().flat_map(|chunk| match chunk {
        Chunk::Bytes(bytes) => bytes.to_vec(),
        Chunk::File(_) => unreachable!("tests have no files"),
    });
    bytes.collect()
}

/// Says that the broker has every version, and this transaction version.
pub(crate) fn all_versions(header: &RequestHeader, transaction_version: i16) -> Vec<u8> {
    let api_keys = ApiKey::ALL.iter().map(|api| api_versions::ApiVersion {
        api_key: api.code(),
        min_version: *api.versions().start(),
        max_version: *api.versions().end(),
    });
    let feature = api_versions::FinalizedFeatureKey {
        name: "transaction.version".into(),
        max_version_level: transaction_version,
        min_version_level: transaction_version,
    };
    let response = api_versions::Response {
        api_keys: api_keys.collect(),
        finalized_features_epoch: 0,
        finalized_features: vec![feature],
        ..Default::default()
    };
    answer::<api_versions::Request>(header, &response)
}

/// Takes one connection and answers what comes over it with `respond`; an empty answer closes the connection.
pub(crate) fn serve(mut respond: impl FnMut(Arrived) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while let Some(frame) = read_frame(&mut stream) {
            let mut body = Reader::new(frame.into());
            let header = RequestHeader::decode(&mut body).unwrap();
            let bytes = respond(Arrived { header, body });
            if bytes.is_empty() || stream.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    address
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

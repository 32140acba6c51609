//! Kafka's vocabulary as types, and the generated requests, responses and records of internal topics.
//!
//! The messages are defined in `protocol/`, a file for each API, and generated when this crate is built: a module
//! for each file, such as [`produce`] with its [`produce::Request`] and [`produce::Response`], and [`internal`]
//! for what brokers and clients write into topics. Headers and the frames around messages are written by hand.
//!
//! Nothing here does I/O. Decoding copies nothing, and never trusts a length it has not compared with what is
//! left in the frame.
//!
//! ```
//! use oncelog_wire::{ApiKey, DecodeError, Message, ProducerEpoch, ProducerId, Reader, RequestHeader, Writer};
//! use oncelog_wire::{encode_request, encode_response, init_producer_id};
//!
//! let header = RequestHeader {
//!     api_key: ApiKey::InitProducerId,
//!     api_version: 5,
//!     correlation_id: 1,
//!     client_id: Some("producer-1".into()),
//! };
//! let request = init_producer_id::Request { transactional_id: Some("pay".into()), ..Default::default() };
//! let mut writer = Writer::new();
//! // What a client sends: `encode_request(&header, &request, &mut writer)`.
//! # let frame = {
//! #     let mut chunks = encode_request(&header, &request, &mut writer);
//! #     let oncelog_wire::Chunk::Bytes(bytes) = chunks.remove(0) else { panic!("no bytes") };
//! #     bytes.slice(4..)
//! # };
//!
//! // The broker, with the frame behind the size:
//! let mut reader = Reader::new(frame);
//! let header = RequestHeader::decode(&mut reader)?;
//! let request = init_producer_id::Request::decode(&mut reader, header.api_version)?;
//! assert_eq!(request.transactional_id.as_deref(), Some("pay"));
//! let response = init_producer_id::Response {
//!     producer_id: ProducerId(7),
//!     producer_epoch: ProducerEpoch(0),
//!     ..Default::default()
//! };
//! let chunks = encode_response::<init_producer_id::Request>(
//!     header.api_version,
//!     header.correlation_id,
//!     &response,
//!     &mut writer,
//! );
//! assert_eq!(chunks.len(), 1);
//! # Ok::<(), DecodeError>(())
//! ```

mod api_key;
mod decode_error;
mod error_code;
mod frame;
mod id;
mod message;
mod reader;
mod records;
mod text;
mod time;
mod writer;

pub use decode_error::{DecodeError, Reason};
pub use error_code::ErrorCode;
pub use frame::{RequestHeader, decode_response, encode_request, encode_response};
pub use generated::*;
pub use id::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition, Uuid};
pub use message::{Message, Record, Request};
pub use reader::Reader;
pub use records::{FileSlice, Records};
pub use text::Str;
pub use time::{Now, Timestamp};
pub use writer::{Chunk, Writer};

/// The messages, as the build script emits them from `protocol/`.
#[allow(missing_docs, unused_imports, unused_mut, unused_variables, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

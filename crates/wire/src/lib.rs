//! Kafka's vocabulary as types, and the generated requests, responses and records of internal topics.
//!
//! Nothing here does I/O. Decoding never trusts a length it has not compared with what is left in the frame.

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

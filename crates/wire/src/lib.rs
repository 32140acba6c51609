//! Kafka's vocabulary as types, and the generated requests, responses and records of internal topics.
//!
//! Nothing here does I/O. Decoding never trusts a length it has not compared with what is left in the frame.

mod error_code;
mod id;
mod text;
mod time;

pub use error_code::ErrorCode;
pub use id::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition, Uuid};
pub use text::Str;
pub use time::{Now, Timestamp};

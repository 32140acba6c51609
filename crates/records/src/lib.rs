//! Record batches: view, validate, build, filter, control markers, compression.
//!
//! Everything here is a function of bytes (and of a time that is handed in): nothing does I/O, and nothing trusts a
//! length it has not compared with what is there. Only batches of magic 2 exist; older formats are refused.

mod batch;
mod builder;
mod compression;
mod control;
mod error;
mod filter;
mod header;
mod record;
mod validate;
mod varint;

pub use batch::{BatchView, Batches, batches};
pub use builder::{BatchBuilder, Headers};
pub use compression::{Compression, Decompressor, recompress};
pub use control::{EndTransactionMarker, MarkerKind};
pub use error::BatchError;
pub use filter::{DeleteHorizon, Filtered, emptied, filter};
pub use header::{BatchHeader, HEADER_LEN, TimestampType, increment_sequence};
pub use record::{HeaderIter, Record, Records};
pub use validate::{RecordError, Refusal, Rules, Validated, validate};

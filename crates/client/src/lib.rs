//! A small, blocking Kafka client for tests, benchmarks and commands. It is not a product: it speaks to one broker
//! over one connection, does one thing at a time, and says what the broker said.
//!
//! - [`Connection`] moves frames: typed requests one by one or pipelined, and raw bytes.
//! - [`Client`] knows the broker's versions and has a method for each everyday task.
//! - [`Producer`] writes idempotently or in transactions, by either version of the transaction protocol.
//!
//! ```no_run
//! use oncelog_client::{Client, Isolation, Producer, ProducerOptions};
//!
//! # fn main() -> oncelog_client::Result<()> {
//! let mut client = Client::connect("localhost:9092", "example")?;
//! client.create_topic("orders", 3)?;
//!
//! let mut producer = Producer::transactional(Client::connect("localhost:9092", "payer")?, "pay", ProducerOptions::default())?;
//! producer.begin();
//! producer.send("orders", 0, "customer-7", "42.00")?;
//! producer.commit()?;
//! assert_eq!(client.values("orders", 0, Isolation::ReadCommitted)?, ["42.00"]);
//! # Ok(())
//! # }
//! ```

mod batches;
mod client;
mod connection;
mod error;
mod fetch;
mod offsets;
mod producer;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod script;

pub use batches::PendingBatch;
pub use client::{Client, EARLIEST, LATEST, MAX_TIMESTAMP};
pub use connection::{Connection, Pending};
pub use error::{ClientError, Result};
pub use fetch::{FetchedRecord, Isolation, each_visible_record, visible_records};
pub use producer::{Producer, ProducerOptions, TransactionVersion};

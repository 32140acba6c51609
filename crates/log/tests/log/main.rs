//! The log through its public interface, on both disks.
#![allow(clippy::unwrap_used, missing_docs)]

mod append_and_read;
mod world;

//! Whole nodes, without sockets and in virtual time: what handlers, machines and logs do together.
#![allow(clippy::unwrap_used)]

mod clocks;
mod compaction;
mod crashes;
mod damage;
mod groups;
#[path = "../../../log/tests/log/lossy.rs"]
#[allow(dead_code, missing_docs, reason = "the disk of the log's tests")]
mod lossy;
mod metadata;
mod power_cuts;
mod transactions;
mod world;

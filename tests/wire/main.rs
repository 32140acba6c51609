//! The broker as its clients meet it: requests over real sockets, good and bad, and the data directories that
//! a crash leaves. Nothing here looks inside.
//!
//! With `ONCELOG_TESTS_BOOTSTRAP=host:port` the requests go to another broker, such as an Apache Kafka; the tests
//! that start a broker of their own start ours all the same.

#![allow(clippy::unwrap_used)]

mod batches;
mod coordinator;
mod crash;
mod directories;
mod failing_disk;
mod fetching;
mod frames;
mod fsync;
mod groups;
mod process;
mod reading;
mod restart;
mod sequences;
mod topics;
mod transactions;

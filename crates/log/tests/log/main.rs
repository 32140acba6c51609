//! The log through its public interface, on both disks.
#![allow(clippy::unwrap_used, missing_docs)]

mod append_and_read;
mod cleaning;
mod compaction;
mod crashes;
mod damage;
mod data_dir;
mod faults;
mod full_disk;
mod journal;
mod lossy;
mod model;
mod offsets;
mod retention;
mod sequences;
mod transactions;
mod world;

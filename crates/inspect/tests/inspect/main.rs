//! Data directories as brokers leave them, sound and damaged, and what a look at them finds.
#![allow(clippy::unwrap_used)]

mod dumps;
mod faults;
mod sound;
mod transactions;
mod world;

//! Whole nodes, without sockets and in virtual time: what handlers, machines and logs do together.
#![allow(clippy::unwrap_used)]

mod crashes;
mod groups;
mod metadata;
mod transactions;
mod world;

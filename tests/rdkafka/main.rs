//! librdkafka against the broker: in process where nothing has to die, as a process of its own where something has to.

#![allow(clippy::unwrap_used)]

mod clients;
#[allow(dead_code, reason = "shared with the copier")]
mod copy;
mod copying;
mod groups;
mod lost_answers;
mod produce;
mod transactions;

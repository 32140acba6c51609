//! Pure state machines: transactions, groups, and the cluster's metadata.

pub mod groups;
pub mod metadata;
pub mod transactions;

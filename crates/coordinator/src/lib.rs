//! Pure state machines: transactions, groups, and the cluster's metadata.

pub mod metadata;

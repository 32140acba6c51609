//! The cluster's metadata: configuration, topics, producer-id blocks.

pub mod config;

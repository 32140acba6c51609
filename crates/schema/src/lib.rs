//! Reads the protocol definition files and emits the Rust of the messages.

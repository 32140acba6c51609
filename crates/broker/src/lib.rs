//! The tokio shell around a node, and the embeddable library.

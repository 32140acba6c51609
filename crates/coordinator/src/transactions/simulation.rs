//! Random clients, honest and not, against what must hold whatever they do.

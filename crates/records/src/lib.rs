//! Record batches: view, validate, build, control markers, compression.

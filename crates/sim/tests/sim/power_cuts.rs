//! Logs on the lossy disk.

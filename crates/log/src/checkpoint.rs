//! Kafka's checkpoint files: a version, a count, and as many lines (`CheckpointFile`).

use std::io;
use std::path::Path;

use crate::disk::{Disk, read_file};
use crate::error::{IoContext, LogError};

const VERSION: &str = "0";

/// More than a checkpoint of a million partitions has.
const MAX_BYTES: u64 = 512 << 20;

/// The lines of a checkpoint; none where there is no file.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<String>, LogError> {
    let content = match read_file(disk, path, MAX_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        content => content.on("read", path)?,
    };
    let text = String::from_utf8(content).map_err(|_| LogError::invalid(path, "not a text file"))?;
    let mut lines = text.lines();
    if lines.next() != Some(VERSION) {
        return Err(LogError::invalid(path, "not a checkpoint of version 0"));
    }
    let count = lines.next().and_then(|line| line.parse::<usize>().ok());
    let entries: Vec<String> = lines.map(str::to_owned).collect();
    if count != Some(entries.len()) {
        return Err(LogError::invalid(path, format!("holds {} entries and promises others", entries.len())));
    }
    Ok(entries)
}

/// What a checkpoint with these lines holds.
pub(crate) fn content(entries: impl Iterator<Item = String>) -> Vec<u8> {
    let mut body = String::new();
    let mut count = 0;
    for entry in entries {
        body.push_str(&entry);
        body.push('\n');
        count += 1;
    }
    format!("{VERSION}\n{count}\n{body}").into_bytes()
}

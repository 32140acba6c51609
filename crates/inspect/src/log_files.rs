//! The files of one log, by their names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use oncelog_log::{Disk, EntryKind};
use oncelog_wire::Offset;

pub(crate) const LOG: &str = "log";
pub(crate) const OFFSET_INDEX: &str = "index";
pub(crate) const TIME_INDEX: &str = "timeindex";
pub(crate) const TRANSACTION_INDEX: &str = "txnindex";
pub(crate) const SNAPSHOT: &str = "snapshot";

/// What the directory of a log holds.
#[derive(Debug, Default)]
pub(crate) struct LogFiles {
    /// The base offsets of the segments with the bytes of their batches, in order.
    pub(crate) segments: Vec<(Offset, u64)>,
    /// The offsets of the producer snapshots, in order.
    pub(crate) snapshots: Vec<Offset>,
    /// Indexes without a segment.
    pub(crate) strays: Vec<PathBuf>,
    /// What a crash has left half done.
    pub(crate) leftovers: Vec<PathBuf>,
}

impl LogFiles {
    pub(crate) fn list(disk: &dyn Disk, directory: &Path) -> io::Result<LogFiles> {
        let mut files = LogFiles::default();
        let mut indexes: BTreeMap<Offset, Vec<PathBuf>> = BTreeMap::new();
        for entry in disk.list(directory)? {
            let EntryKind::File { length } = entry.kind else { continue };
            let path = directory.join(&entry.name);
            let Some((stem, extension)) = entry.name.split_once('.') else { continue };
            if [".deleted", ".tmp", ".cleaned", ".swap"].iter().any(|end| entry.name.ends_with(end)) {
                files.leftovers.push(path);
            } else if stem.len() == 20
                && let Ok(offset) = stem.parse().map(Offset)
            {
                match extension {
                    LOG => files.segments.push((offset, length)),
                    SNAPSHOT => files.snapshots.push(offset),
                    OFFSET_INDEX | TIME_INDEX | TRANSACTION_INDEX => {
                        indexes.entry(offset).or_default().push(path);
                    }
                    _ => {}
                }
            }
        }
        files.segments.sort_unstable();
        files.snapshots.sort_unstable();
        let has_segment = |offset: &Offset| files.segments.iter().any(|(base, _)| base == offset);
        let strays = indexes.into_iter().filter(|(offset, _)| !has_segment(offset));
        files.strays = strays.flat_map(|(_, paths)| paths).collect();
        Ok(files)
    }
}

/// The file names of a log: an offset in 20 digits, and what kind of file it is.
pub(crate) fn file_name(offset: Offset, extension: &str) -> String {
    format!("{:020}.{extension}", offset.0)
}

//! Putting one cleaned segment in the place of those it was made from, so that a crash at any point leaves either.
//!
//! A segment is written under names that end in `.cleaned`. Once it is on the device its files are renamed to `.swap`,
//! the log last: from then on it counts (`UnifiedLog.replaceSegments`). The segments it replaces go, and its files get
//! their names, the log last again. A start that finds a log called `.swap` does the rest.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oncelog_wire::{Offset, Timestamp};

use crate::batch_file::BatchFile;
use crate::disk::{DirectoryEntry, Disk, FilePool, PooledFile};
use crate::error::{IoContext, LogError, ReadError};
use crate::log::Log;
use crate::log_files::SegmentFiles;
use crate::retention::{Garbage, retire};
use crate::segment::{LOG, OFFSET_INDEX, Segment, TIME_INDEX, TRANSACTION_INDEX, file_name};

/// How the files of a segment are called that is not complete yet.
pub(crate) const CLEANED: &str = ".cleaned";
/// How the files of a segment are called that is to replace others.
pub(crate) const SWAP: &str = ".swap";

/// The log last: it decides.
const EXTENSIONS: [&str; 4] = [OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX, LOG];

/// A cleaned segment on the device, to be swapped in.
#[must_use = "it replaces nothing before it is swapped in"]
#[derive(Debug)]
pub struct CleanedSegment {
    files: SegmentFiles,
    /// What it was made from.
    sources: Vec<Arc<BatchFile>>,
    /// When the newest of these was made.
    created: Timestamp,
}

impl CleanedSegment {
    /// A segment that was written and synced as `.cleaned`.
    pub(crate) fn new(segment: &Segment, sources: Vec<Arc<BatchFile>>, created: Timestamp) -> CleanedSegment {
        CleanedSegment { files: SegmentFiles::of(segment), sources, created }
    }
}

impl Log {
    /// Puts a cleaned segment in the place of those it was made from; `None` where these have gone meanwhile.
    ///
    /// # Errors
    /// Where a file cannot be renamed, or its name not be synced. If it cannot be undone the log takes no more, and the
    /// next start completes the swap.
    pub fn swap_in(&mut self, cleaned: CleanedSegment) -> Result<Option<Garbage>, LogError> {
        let base_offset = cleaned.files.base_offset;
        let is_first = |segment: &Segment| Arc::ptr_eq(&segment.batches, &cleaned.sources[0]);
        let first = self.segments.iter().position(is_first).filter(|_| !self.is_offline);
        let Some(first) = first else {
            discard(self.pool.disk(), &self.directory, base_offset);
            return Ok(None);
        };
        // Segments go from the front only, so the others are there too.
        let range = first..first + cleaned.sources.len();
        if let Err(error) = commit(self.pool.disk(), &self.directory, base_offset) {
            discard(self.pool.disk(), &self.directory, base_offset);
            return Err(error);
        }
        let mut paths = Vec::new();
        match self.replace(range.clone(), &cleaned, &mut paths) {
            Ok(segment) => {
                self.segments.splice(range, [segment]);
                self.directory_changes += 1;
                Ok(Some(Garbage::new(self.pool.shared_disk(), paths)))
            }
            Err(error) => {
                (self.is_offline, self.is_half_swapped) = (true, true);
                Err(error)
            }
        }
    }

    fn replace(
        &mut self,
        range: std::ops::Range<usize>,
        cleaned: &CleanedSegment,
        retired: &mut Vec<PathBuf>,
    ) -> Result<Segment, LogError> {
        // The first has the same names as the one that comes, and is replaced by it.
        for replaced in &self.segments[range.start + 1..range.end] {
            retire(&self.pool, replaced.files(), retired)?;
        }
        take_names(self.pool.disk(), &self.directory, cleaned.files.base_offset)?;
        let next = self.next_base_offset(range.end - 1);
        let (mut segment, is_sound) =
            cleaned.files.open(&self.pool, &self.directory, Some(next), cleaned.created)?;
        match is_sound {
            true => {
                segment.created = cleaned.created;
                Ok(segment)
            }
            false => Err(LogError::invalid(segment.batches.file().path(), "the indexes are not as written")),
        }
    }
}

/// Has a segment that was written and synced as `.cleaned` count from now on. The old ones must not go before that is on
/// the device.
fn commit(disk: &dyn Disk, directory: &Path, base_offset: Offset) -> Result<(), LogError> {
    for extension in EXTENSIONS {
        let name = directory.join(file_name(base_offset, extension));
        let path = with_suffix(&name, CLEANED);
        disk.rename(&path, &with_suffix(&name, SWAP)).on("rename", &path)?;
    }
    disk.sync_directory(directory).on("sync", directory)
}

/// Gives the files of a segment that is to replace others their names.
fn take_names(disk: &dyn Disk, directory: &Path, base_offset: Offset) -> Result<(), LogError> {
    for extension in EXTENSIONS {
        let name = directory.join(file_name(base_offset, extension));
        let path = with_suffix(&name, SWAP);
        match disk.rename(&path, &name) {
            // Done before the crash.
            Err(error) if error.kind() == io::ErrorKind::NotFound && extension != LOG => {}
            result => result.on("rename", &path)?,
        }
    }
    Ok(())
}

/// Removes what was made of a segment that replaces nothing. What cannot be removed now goes, or is swapped in, at the
/// next start.
pub(crate) fn discard(disk: &dyn Disk, directory: &Path, base_offset: Offset) {
    for extension in EXTENSIONS.into_iter().rev() {
        for suffix in [SWAP, CLEANED] {
            let path = with_suffix(&directory.join(file_name(base_offset, extension)), suffix);
            match disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("cannot remove {}: {error}", path.display());
                }
                _ => {}
            }
        }
    }
}

/// Completes the swaps that a crash has interrupted; says whether there were any.
pub(crate) fn complete(
    pool: &Arc<FilePool>,
    directory: &Path,
    entries: &[DirectoryEntry],
) -> Result<bool, LogError> {
    let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let mut is_change = false;
    for name in &names {
        let base = name.strip_suffix(SWAP).and_then(|name| name.strip_suffix(".log")).map(str::parse);
        let Some(Ok(base)) = base else { continue };
        let path = directory.join(name);
        let end_offset = end_of(BatchFile::new(PooledFile::new(pool, path.clone()), Offset(base)))?;
        tracing::info!("{}: the segments up to offset {end_offset} are replaced by this one", path.display());
        for name in &names {
            let replaced = name.split_once('.').and_then(|(stem, extension)| {
                let offset: i64 = stem.parse().ok()?;
                (offset > base && offset < end_offset.0 && EXTENSIONS.contains(&extension)).then_some(())
            });
            if replaced.is_some() {
                let path = directory.join(name);
                pool.disk().remove_file(&path).on("remove", &path)?;
            }
        }
        take_names(pool.disk(), directory, Offset(base))?;
        is_change = true;
    }
    Ok(is_change)
}

/// The offset after the last batch of a segment, as far as it can be read.
fn end_of(batches: BatchFile) -> Result<Offset, LogError> {
    let length = batches.open()?.length().on("read", batches.file().path())?;
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let mut cursor = Arc::new(batches).headers(0, length)?;
    let mut end_offset = Offset::ZERO;
    loop {
        match cursor.next_batch() {
            Ok(Some(found)) => end_offset = found.header.next_offset(),
            Ok(None) => return Ok(end_offset),
            Err(ReadError::Storage(error)) => return Err(error),
            Err(error) => {
                tracing::error!("{error}; what it should replace from offset {end_offset} on stays");
                return Ok(end_offset);
            }
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

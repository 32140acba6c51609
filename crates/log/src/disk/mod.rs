//! What the log asks of storage: a small synchronous interface, and the disks that implement it.
//!
//! Everything the crate does to storage goes through [`Disk`] and [`DiskFile`]; nothing else opens a file.

mod files;
mod memory;
mod pool;

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{IoContext, LogError};

pub use files::FileDisk;
pub use memory::MemoryDisk;
pub(crate) use pool::{FilePool, PooledFile};

/// How to open a file, for reading and (but for one way) for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must be there.
    Existing,
    /// The file must be there, and is not written to.
    ReadOnly,
    /// The file is made where it is not there.
    Create,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file of this many bytes.
    File {
        /// The length in bytes.
        length: u64,
    },
    /// A directory.
    Directory,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name within the directory.
    pub name: String,
    /// File or directory.
    pub kind: EntryKind,
}

/// Holds a lock file until it is dropped.
pub struct DiskLock(#[allow(dead_code, reason = "held for its drop")] Box<dyn Any + Send + Sync>);

impl DiskLock {
    /// Wraps what releases the lock when dropped.
    pub fn new(guard: impl Any + Send + Sync) -> DiskLock {
        DiskLock(Box::new(guard))
    }
}

impl fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskLock")
    }
}

/// A tree of directories and files.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file or directory another name; a file in the way is replaced at once.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Open handles stay usable.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory with all those above it; no error where it exists.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// What a directory holds, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>>;
    /// Makes the names in a directory (creations, renames, removals) durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Takes the lock file, made where it is missing; `WouldBlock` where another holds it.
    fn lock(&self, path: &Path) -> io::Result<DiskLock>;

    /// How much room should be held back for what has to be written even on a full disk.
    fn reserve_bytes(&self) -> u64 {
        0
    }

    /// How many files should be open at most, beside those in use at the moment.
    fn most_open_files(&self) -> usize {
        MOST_OPEN_FILES
    }
}

/// As many open files as do any good: those of some 1,000 partitions that are in use at the same time.
pub(crate) const MOST_OPEN_FILES: usize = 4096;

/// Zeros are written so many at once.
const ZEROS: u64 = 1 << 20;

/// An open file.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Fills the buffer from `position`; fewer bytes only where the file ends.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all the parts, one after the other, from `position`; on an error any part of it may have been written.
    fn write_vectored_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Cuts the file, or extends it with zeros.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Makes the content and length durable.
    fn sync(&self) -> io::Result<()>;
    /// The length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// The operating system's file behind it, if there is one, for `sendfile`.
    fn os_file(&self) -> Option<&Arc<File>>;

    /// Has an empty file take up so much room on the disk; on an error it may have taken part of it.
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.write_zeros(bytes)
    }

    /// Writes so many zeros at the head of the file.
    fn write_zeros(&self, bytes: u64) -> io::Result<()> {
        let zeros = vec![0; bytes.min(ZEROS) as usize];
        for at in (0..bytes).step_by(zeros.len().max(1)) {
            self.write_at(&zeros[..(bytes - at).min(ZEROS) as usize], at)?;
        }
        Ok(())
    }

    /// Writes all of `bytes` from `position`.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.write_vectored_at(&mut [IoSlice::new(bytes)], position)
    }
}

/// Reads a whole file, at most `limit` bytes.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Existing)?;
    let length = file.length()?;
    if length > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{length} bytes; at most {limit} expected"),
        ));
    }
    let mut content = vec![0; length as usize];
    let read = file.read_at(&mut content, 0)?;
    content.truncate(read);
    Ok(content)
}

/// Puts a file in place of whatever is there: the process may die at any point, the file holds the old content or the
/// new.
pub(crate) fn replace_file(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let (temporary, _) = write_temporary(disk, path, content)?;
    disk.rename(&temporary, path)
}

/// Like [`replace_file`], but the machine may die at any point.
pub(crate) fn replace_file_durably(disk: &dyn Disk, path: &Path, content: &[u8]) -> Result<(), LogError> {
    let (temporary, file) = write_temporary(disk, path, content).on("write", path)?;
    file.sync().on("sync", path)?;
    disk.rename(&temporary, path).on("write", path)?;
    disk.sync_directory(path.parent().unwrap_or(Path::new("."))).on("sync the directory of", path)
}

fn write_temporary(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<(PathBuf, Arc<dyn DiskFile>)> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let file = disk.open(&temporary, OpenMode::Create)?;
    file.truncate(0)?;
    file.write_at(content, 0)?;
    Ok((temporary, file))
}

/// Removes a directory and all it holds; no error where there is none.
pub(crate) fn remove_tree(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    let entries = match disk.list(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = directory.join(&entry.name);
        match entry.kind {
            EntryKind::Directory => remove_tree(disk, &path)?,
            EntryKind::File { .. } => disk.remove_file(&path)?,
        }
    }
    disk.remove_directory(directory)
}

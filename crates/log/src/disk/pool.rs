//! Bounds the number of open files: those unused for longest are closed and opened again on demand.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Disk, DiskFile, OpenMode, replace_file};
use crate::reserve::Reserve;

/// So many are closed where the process can open no more: one is needed now, others may be soon.
const CLOSED_AT_ONCE: usize = 8;

/// The disk, and the files of it that are open.
#[derive(Debug)]
pub(crate) struct FilePool {
    disk: Arc<dyn Disk>,
    reserve: Reserve,
    max_open: usize,
    /// Open files, roughly the longest unused first (a "second chance" queue).
    open: Mutex<VecDeque<Weak<Slot>>>,
}

#[derive(Debug, Default)]
struct Slot {
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    used: AtomicBool,
}

/// A file that is open only while the pool has room for it.
#[derive(Debug)]
pub(crate) struct PooledFile {
    pool: Arc<FilePool>,
    path: PathBuf,
    slot: Arc<Slot>,
}

impl FilePool {
    pub(crate) fn new(disk: Arc<dyn Disk>, root: &Path, max_open: usize) -> FilePool {
        let reserve = Reserve::open(disk.clone(), root);
        FilePool { disk, reserve, max_open: max_open.max(1), open: Mutex::default() }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The room held back on the disk.
    pub(crate) fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    pub(crate) fn shared_disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    /// Opens a file; where no more can be open, in place of others.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        match self.disk.open(path, mode) {
            Err(error) if is_out_of_files(&error) => {
                self.close_some();
                self.disk.open(path, mode)
            }
            opened => opened,
        }
    }

    fn close_some(&self) {
        let mut open = self.open.lock();
        for _ in 0..CLOSED_AT_ONCE.min(open.len()) {
            let Some(slot) = open.pop_front().and_then(|oldest| oldest.upgrade()) else { continue };
            match slot.file.try_lock() {
                Some(mut file) => drop(file.take()),
                None => open.push_back(Arc::downgrade(&slot)),
            };
        }
    }

    /// Counts a file as open, and closes others while there are too many.
    fn admit(&self, slot: &Arc<Slot>) {
        let mut open = self.open.lock();
        open.push_back(Arc::downgrade(slot));
        // Every slot gets at most one second chance in one call, so this ends.
        for _ in 0..2 * open.len() {
            if open.len() <= self.max_open {
                break;
            }
            let Some(oldest) = open.pop_front() else { break };
            let Some(strong) = oldest.upgrade() else { continue };
            if strong.used.swap(false, Ordering::Relaxed) {
                open.push_back(oldest);
                continue;
            }
            // A slot that is locked is being opened right now; it stays in the queue.
            match strong.file.try_lock() {
                Some(mut file) => drop(file.take()),
                None => open.push_back(oldest),
            };
        }
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .iter()
        .any(|errno| Some(errno.raw_os_error()) == code)
}

impl PooledFile {
    /// Names a file; nothing is opened yet.
    pub(crate) fn new(pool: &Arc<FilePool>, path: PathBuf) -> PooledFile {
        PooledFile { pool: pool.clone(), path, slot: Arc::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file. What holds it keeps it open even when the pool lets go of it.
    pub(crate) fn get(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.open(OpenMode::Existing)
    }

    /// The open file, made where it is missing.
    pub(crate) fn get_or_create(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.open(OpenMode::Create)
    }

    /// Makes sure the file does not exist.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match self.pool.disk.remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Makes the file at once with all its content, in place of whatever is there.
    pub(crate) fn replace(&self, content: &[u8]) -> io::Result<()> {
        replace_file(&*self.pool.disk, &self.path, content)
    }

    /// Makes sure the file exists and is empty, without keeping it open.
    pub(crate) fn create_empty(&self) -> io::Result<()> {
        self.pool.disk.open(&self.path, OpenMode::Create)?.truncate(0)
    }

    fn open(&self, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut slot = self.slot.file.lock();
        self.slot.used.store(true, Ordering::Relaxed);
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let file = self.pool.open(&self.path, mode)?;
        *slot = Some(file.clone());
        drop(slot);
        self.pool.admit(&self.slot);
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn no_more_files_stay_open_than_allowed_and_closed_ones_come_back() {
        let disk = MemoryDisk::new();
        disk.create_directory(Path::new("/d")).unwrap();
        let pool = Arc::new(FilePool::new(Arc::new(disk), Path::new("/d"), 3));
        let files: Vec<_> =
            (0..10).map(|n| PooledFile::new(&pool, PathBuf::from(format!("/d/{n}")))).collect();
        for (n, file) in files.iter().enumerate() {
            file.get_or_create().unwrap().write_at(&[n as u8], 0).unwrap();
        }
        let open = files.iter().filter(|file| file.slot.file.lock().is_some()).count();
        assert_eq!(open, 3);
        for (n, file) in files.iter().enumerate() {
            let mut byte = [0];
            file.get().unwrap().read_at(&mut byte, 0).unwrap();
            assert_eq!(byte, [n as u8]);
        }
        drop(files);
        let another = PooledFile::new(&pool, PathBuf::from("/d/1"));
        another.get().unwrap();
        assert!(pool.open.lock().len() <= 3);
    }
}

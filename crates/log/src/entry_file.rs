//! A file of entries of one fixed size, sorted, appended to through a small buffer: what all three indexes are made of.
//!
//! Entries are written behind the log they index and can always be made again from it, so a failed write only keeps
//! them in the buffer; it shows as an error when the file is flushed for a checkpoint, a roll or a close.

use std::io;
use std::sync::Arc;

use crate::disk::{DiskFile, PooledFile};
use crate::error::{IoContext, LogError};

/// Entries kept in memory before they are written.
const BUFFERED: usize = 64;

/// A search reads entries one by one until at most this many bytes are left, then those at once.
const WINDOW: usize = 2048;

#[derive(Debug)]
pub(crate) struct EntryFile<const N: usize> {
    file: PooledFile,
    written: u32,
    buffer: Vec<[u8; N]>,
    /// Whether there is to be no file before [`EntryFile::release`].
    is_held: bool,
}

impl<const N: usize> EntryFile<N> {
    /// An empty file where there may have been another.
    pub(crate) fn create(file: PooledFile) -> Result<EntryFile<N>, LogError> {
        file.create_empty().on("create", file.path())?;
        Ok(EntryFile { file, written: 0, buffer: Vec::new(), is_held: false })
    }

    /// No file, until it is released: its absence says that what it is to hold is not complete.
    pub(crate) fn held(file: PooledFile) -> Result<EntryFile<N>, LogError> {
        file.remove().on("remove", file.path())?;
        Ok(EntryFile { file, written: 0, buffer: Vec::new(), is_held: true })
    }

    /// Writes the file, if it was held.
    pub(crate) fn release(&mut self) -> Result<(), LogError> {
        if self.is_held {
            self.file.replace(self.buffer.as_flattened()).on("write", self.file.path())?;
            self.written = self.buffer.len() as u32;
            self.buffer.clear();
            self.is_held = false;
        }
        self.flush()
    }

    /// A file that has `length` bytes; what does not make up a whole entry is not counted.
    pub(crate) fn open(file: PooledFile, length: u64) -> EntryFile<N> {
        let written = (length / N as u64).min(u64::from(u32::MAX)) as u32;
        EntryFile { file, written, buffer: Vec::new(), is_held: false }
    }

    pub(crate) fn file(&self) -> &PooledFile {
        &self.file
    }

    pub(crate) fn len(&self) -> u32 {
        self.written + self.buffer.len() as u32
    }

    pub(crate) fn get(&self, index: u32) -> Result<[u8; N], LogError> {
        if let Some(buffered) = index.checked_sub(self.written) {
            return Ok(self.buffer[buffered as usize]);
        }
        let mut entry = [0; N];
        let file = self.file.get().on("open", self.file.path())?;
        read_exact(&*file, &mut entry, u64::from(index) * N as u64).on("read", self.file.path())?;
        Ok(entry)
    }

    pub(crate) fn last(&self) -> Result<Option<[u8; N]>, LogError> {
        self.len().checked_sub(1).map(|last| self.get(last)).transpose()
    }

    /// How many entries at the front are `before` what is looked for.
    pub(crate) fn partition_point(&self, before: impl Fn(&[u8; N]) -> bool) -> Result<u32, LogError> {
        if self.written == 0 || self.buffer.first().is_some_and(&before) {
            return Ok(self.written + self.buffer.partition_point(before) as u32);
        }
        let (mut low, mut high) = (0, self.written);
        while (high - low) as usize * N > WINDOW {
            let middle = low + (high - low) / 2;
            match before(&self.get(middle)?) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let mut window = [0; WINDOW];
        let entries = self.read_window(&mut window, low, high - low)?;
        Ok(low + entries.partition_point(before) as u32)
    }

    /// The last entry at the front that is `before` what is looked for.
    pub(crate) fn last_before(&self, before: impl Fn(&[u8; N]) -> bool) -> Result<Option<[u8; N]>, LogError> {
        self.partition_point(before)?.checked_sub(1).map(|at| self.get(at)).transpose()
    }

    /// Gives the entries from `index` on to `visit`, for as long as it wants more.
    pub(crate) fn for_each_from(
        &self,
        mut index: u32,
        mut visit: impl FnMut(&[u8; N]) -> bool,
    ) -> Result<(), LogError> {
        let mut window = [0; WINDOW];
        while index < self.written {
            let count = (self.written - index).min((WINDOW / N) as u32);
            let entries = self.read_window(&mut window, index, count)?;
            if !entries.iter().all(&mut visit) {
                return Ok(());
            }
            index += count;
        }
        self.buffer[(index - self.written) as usize..].iter().all(visit);
        Ok(())
    }

    fn read_window<'a>(
        &self,
        window: &'a mut [u8; WINDOW],
        index: u32,
        count: u32,
    ) -> Result<&'a [[u8; N]], LogError> {
        let window = &mut window[..count as usize * N];
        let file = self.file.get().on("open", self.file.path())?;
        read_exact(&*file, window, u64::from(index) * N as u64).on("read", self.file.path())?;
        Ok(window.as_chunks().0)
    }

    /// Appends an entry; it may stay in memory until the next flush.
    pub(crate) fn push(&mut self, entry: [u8; N]) {
        self.buffer.push(entry);
        if self.buffer.len().is_multiple_of(BUFFERED)
            && let Err(error) = self.flush()
        {
            tracing::warn!("{error}; the entries are kept in memory");
        }
    }

    /// Writes what is in memory, and gives the memory back.
    pub(crate) fn flush(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() || self.is_held {
            return Ok(());
        }
        let file = self.file.get_or_create().on("open", self.file.path())?;
        let at = u64::from(self.written) * N as u64;
        file.write_at(self.buffer.as_flattened(), at).on("write", self.file.path())?;
        self.written += self.buffer.len() as u32;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is in memory and hands out the file, to be synced.
    pub(crate) fn flushed_file(&mut self) -> Result<Arc<dyn DiskFile>, LogError> {
        self.flush()?;
        self.file.get().on("open", self.file.path())
    }

    /// Keeps the first `count` entries.
    pub(crate) fn truncate(&mut self, count: u32) -> Result<(), LogError> {
        if count >= self.len() {
            return Ok(());
        }
        if let Some(buffered) = count.checked_sub(self.written) {
            self.buffer.truncate(buffered as usize);
        } else {
            self.buffer.clear();
            self.written = count;
        }
        if self.is_held {
            return Ok(());
        }
        let file = self.file.get_or_create().on("open", self.file.path())?;
        file.truncate(u64::from(self.written) * N as u64).on("truncate", self.file.path())
    }
}

/// Fills the buffer, or says that the file ends too early.
pub(crate) fn read_exact(file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<()> {
    match file.read_at(buffer, position)? == buffer.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::disk::{Disk, FilePool, MemoryDisk};

    #[test]
    fn a_search_finds_the_same_in_the_file_and_in_the_buffer() {
        let disk = MemoryDisk::new();
        disk.create_directory(Path::new("/d")).unwrap();
        let pool = Arc::new(FilePool::new(Arc::new(disk), Path::new("/d"), 8));
        let file = || PooledFile::new(&pool, PathBuf::from("/d/entries"));
        let mut entries = EntryFile::<8>::create(file()).unwrap();
        for count in 0..1500u64 {
            assert_eq!(entries.len() as u64, count);
            entries.push((count * 2).to_be_bytes());
            if count % 97 == 0 {
                for wanted in (0..2 * count + 4).step_by(7) {
                    let found = entries.partition_point(|e| u64::from_be_bytes(*e) < wanted).unwrap();
                    assert_eq!(u64::from(found), wanted.div_ceil(2).min(count + 1));
                }
            }
        }
        entries.truncate(1200).unwrap();
        entries.flush().unwrap();
        let entries = EntryFile::<8>::open(file(), 1200 * 8 + 3);
        assert_eq!(entries.len(), 1200);
        assert_eq!(entries.last().unwrap(), Some(2398u64.to_be_bytes()));
    }
}

//! A disk in memory: for brokers that keep nothing, and for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::{DirectoryEntry, Disk, DiskFile, DiskLock, EntryKind, OpenMode};

/// Content is kept in blocks of this size, so that a growing file is never copied as a whole.
const BLOCK: usize = 64 * 1024;

/// Files that live as long as the value does. Clones share them; [`MemoryDisk::snapshot`] makes a disk of its own.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Tree>>);

#[derive(Debug, Default)]
struct Tree {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Arc<MemoryFile>>,
    locks: BTreeMap<PathBuf, Weak<()>>,
}

#[derive(Debug, Default)]
struct MemoryFile(RwLock<Content>);

/// All blocks but the last are full; blocks are shared with snapshots until they are written to.
#[derive(Clone, Debug, Default)]
struct Content {
    blocks: Vec<Arc<Vec<u8>>>,
    length: usize,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// The disk as it is now, as a disk of its own that nobody has locked. Content is copied only once one side
    /// writes to it.
    pub fn snapshot(&self) -> MemoryDisk {
        let tree = self.0.lock();
        let files = tree
            .files
            .iter()
            .map(|(path, file)| (path.clone(), Arc::new(MemoryFile(RwLock::new(file.0.read().clone())))))
            .collect();
        let copy = Tree { directories: tree.directories.clone(), files, locks: BTreeMap::new() };
        MemoryDisk(Arc::new(Mutex::new(copy)))
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = self.0.lock();
        if let Some(file) = tree.files.get(path) {
            return Ok(file.clone());
        }
        let parent = path.parent().ok_or_else(not_found)?;
        if mode != OpenMode::Create || !tree.directories.contains(parent) {
            return Err(not_found());
        }
        if tree.directories.contains(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let file = Arc::new(MemoryFile::default());
        tree.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.0.lock();
        if let Some(file) = tree.files.remove(from) {
            tree.files.insert(to.to_owned(), file);
            return Ok(());
        }
        if !tree.directories.contains(from) {
            return Err(not_found());
        }
        let moved = |path: &Path| path.strip_prefix(from).ok().map(|rest| to.join(rest));
        tree.directories = tree
            .directories
            .iter()
            .map(
                |path| if path == from { to.to_owned() } else { moved(path).unwrap_or_else(|| path.clone()) },
            )
            .collect();
        tree.files = std::mem::take(&mut tree.files)
            .into_iter()
            .map(|(path, file)| (moved(&path).unwrap_or(path), file))
            .collect();
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.lock().files.remove(path).map(drop).ok_or_else(not_found)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.0.lock();
        let inside = |other: &PathBuf| other.starts_with(path) && other != path;
        if tree.files.keys().any(inside) || tree.directories.iter().any(inside) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        tree.directories.remove(path).then_some(()).ok_or_else(not_found)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.0.lock();
        tree.directories.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let tree = self.0.lock();
        if !tree.directories.contains(directory) {
            return Err(not_found());
        }
        let name = |path: &Path| match path.parent() == Some(directory) {
            true => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            false => None,
        };
        let first = directory.to_owned();
        let directories = tree
            .directories
            .range(first.clone()..)
            .take_while(|path| path.starts_with(directory))
            .filter_map(|path| Some(DirectoryEntry { name: name(path)?, kind: EntryKind::Directory }));
        let files = tree.files.range(first..).take_while(|(path, _)| path.starts_with(directory)).filter_map(
            |(path, file)| {
                let length = file.0.read().length as u64;
                Some(DirectoryEntry { name: name(path)?, kind: EntryKind::File { length } })
            },
        );
        Ok(directories.chain(files).collect())
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        self.open(path, OpenMode::Create)?;
        let mut tree = self.0.lock();
        if tree.locks.get(path).is_some_and(|holder| holder.strong_count() > 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let holder = Arc::new(());
        tree.locks.insert(path.to_owned(), Arc::downgrade(&holder));
        Ok(DiskLock::new(holder))
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let content = self.0.read();
        let start = (position.min(content.length as u64)) as usize;
        let wanted = buffer.len().min(content.length - start);
        let mut filled = 0;
        while filled < wanted {
            let (block, within) = ((start + filled) / BLOCK, (start + filled) % BLOCK);
            let source = &content.blocks[block][within..];
            let count = source.len().min(wanted - filled);
            buffer[filled..filled + count].copy_from_slice(&source[..count]);
            filled += count;
        }
        Ok(filled)
    }

    fn write_vectored_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut content = self.0.write();
        let mut position = position as usize;
        if position > content.length {
            content.resize(position);
        }
        for part in parts.iter() {
            content.write(position, part);
            position += part.len();
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.write().resize(length as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.read().length as u64)
    }

    fn os_file(&self) -> Option<&Arc<File>> {
        None
    }
}

impl Content {
    fn resize(&mut self, length: usize) {
        self.blocks.truncate(length.div_ceil(BLOCK));
        if let Some(last) = self.blocks.len().checked_sub(1) {
            let size = (length - last * BLOCK).min(BLOCK);
            Arc::make_mut(&mut self.blocks[last]).resize(size, 0);
        }
        while self.blocks.len() < length.div_ceil(BLOCK) {
            let size = (length - self.blocks.len() * BLOCK).min(BLOCK);
            self.blocks.push(Arc::new(vec![0; size]));
        }
        self.length = length;
    }

    /// Writes at a position within the content or right at its end.
    fn write(&mut self, mut position: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (block, within) = (position / BLOCK, position % BLOCK);
            let count = bytes.len().min(BLOCK - within);
            let (now, rest) = bytes.split_at(count);
            if block == self.blocks.len() {
                self.blocks.push(Arc::default());
            }
            let target = Arc::make_mut(&mut self.blocks[block]);
            let overlap = count.min(target.len() - within);
            target[within..within + overlap].copy_from_slice(&now[..overlap]);
            target.extend_from_slice(&now[overlap..]);
            position += count;
            bytes = rest;
        }
        self.length = self.length.max(position);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize, usize),
        Truncate(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let size = 0..3 * BLOCK;
        prop::collection::vec(
            prop_oneof![
                (size.clone(), 0..BLOCK + 100).prop_map(|(at, length)| Step::Write(at, length)),
                size.prop_map(Step::Truncate),
            ],
            1..12,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn memory_file_holds_what_a_plain_vector_would(steps in steps()) {
            let disk = MemoryDisk::new();
            disk.create_directory(Path::new("/d")).unwrap();
            let file = disk.open(Path::new("/d/f"), OpenMode::Create).unwrap();
            let mut model: Vec<u8> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                let before = disk.snapshot();
                let old = model.clone();
                match step {
                    Step::Write(at, length) => {
                        let bytes = vec![number as u8 + 1; length];
                        model.resize(model.len().max(at + length).max(at), 0);
                        model[at..at + length].copy_from_slice(&bytes);
                        let (left, right) = bytes.split_at(length / 3);
                        let mut parts = [IoSlice::new(left), IoSlice::new(right)];
                        file.write_vectored_at(&mut parts, at as u64).unwrap();
                    }
                    Step::Truncate(length) => {
                        model.resize(length, 0);
                        file.truncate(length as u64).unwrap();
                    }
                }
                prop_assert!(super::super::read_file(&disk, Path::new("/d/f"), u64::MAX).unwrap() == model);
                prop_assert!(super::super::read_file(&before, Path::new("/d/f"), u64::MAX).unwrap() == old);
            }
        }
    }

    #[test]
    fn a_renamed_directory_takes_its_content_along() {
        let disk = MemoryDisk::new();
        disk.create_directory(Path::new("/a/b")).unwrap();
        disk.open(Path::new("/a/b/f"), OpenMode::Create).unwrap().write_at(b"x", 0).unwrap();
        disk.rename(Path::new("/a/b"), Path::new("/a/c")).unwrap();
        let entries = disk.list(Path::new("/a/c")).unwrap();
        assert_eq!(entries, [DirectoryEntry { name: "f".into(), kind: EntryKind::File { length: 1 } }]);
        assert!(disk.list(Path::new("/a/b")).is_err());
    }

    #[test]
    fn a_lock_is_held_until_dropped() {
        let disk = MemoryDisk::new();
        disk.create_directory(Path::new("/a")).unwrap();
        let lock = disk.lock(Path::new("/a/.lock")).unwrap();
        assert_eq!(disk.lock(Path::new("/a/.lock")).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        disk.lock(Path::new("/a/.lock")).unwrap();
    }
}

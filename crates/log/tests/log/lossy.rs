//! A disk that forgets at a power cut what was not synced: sectors of files, and names in directories.
//!
//! Each sector of each write since the last sync of a file survives or does not, whatever happened to the others. Of the
//! changes to a directory's names since it was synced a prefix survives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use oncelog_log::{DirectoryEntry, Disk, DiskFile, DiskLock, EntryKind, OpenMode};

const SECTOR: usize = 512;

/// A small random generator that a seed replays.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end.max(1)
    }
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct LossyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    live: Tree,
    durable: Tree,
    /// Changes of names that are not durable, by the directory they were made in.
    names: Vec<(PathBuf, NameChange)>,
    inodes: Vec<Inode>,
    syncs: usize,
    /// Syncs that may still succeed.
    syncs_left: Option<usize>,
    is_locked: bool,
}

/// Files by their inodes; directories have none.
type Tree = BTreeMap<PathBuf, Option<usize>>;

#[derive(Clone, Debug)]
enum NameChange {
    Put(PathBuf, Option<usize>),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Debug)]
struct LossyFile {
    disk: LossyDisk,
    inode: usize,
}

impl LossyDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What is left when the power comes back.
    pub fn after_power_cut(&self, dice: &mut Dice) -> LossyDisk {
        let state = self.state();
        let mut tree = state.durable.clone();
        let mut fates: BTreeMap<&Path, usize> = BTreeMap::new();
        for (directory, _) in &state.names {
            let count = state.names.iter().filter(|(other, _)| other == directory).count();
            fates.entry(directory).or_insert_with(|| dice.below(count + 1));
        }
        for (directory, change) in &state.names {
            let left = fates.get_mut(directory.as_path()).unwrap();
            if *left > 0 {
                *left -= 1;
                apply(&mut tree, change);
            }
        }
        // What is in a directory that is not there is not there either.
        let whole = tree.clone();
        tree.retain(|path, _| path.ancestors().all(|above| whole.contains_key(above)));
        let inodes = state.inodes.iter().map(|inode| {
            let content = inode.after_power_cut(dice);
            Inode { live: content.clone(), durable: content, changes: Vec::new() }
        });
        let state = State { live: tree.clone(), durable: tree, inodes: inodes.collect(), ..State::default() };
        LossyDisk(Arc::new(Mutex::new(state)))
    }

    /// What a process finds whose predecessor was killed.
    pub fn after_kill(&self) {
        self.state().is_locked = false;
    }

    /// How many syncs of files there have been.
    pub fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// Has syncs fail after so many.
    pub fn fail_syncs_after(&self, count: Option<usize>) {
        self.state().syncs_left = count;
    }
}

fn apply(tree: &mut Tree, change: &NameChange) {
    match change {
        NameChange::Put(path, inode) => drop(tree.insert(path.clone(), *inode)),
        NameChange::Remove(path) => drop(tree.remove(path)),
        NameChange::Rename(from, to) => {
            let moved: Vec<_> = tree.keys().filter(|path| path.starts_with(from)).cloned().collect();
            for path in moved {
                let inode = tree.remove(&path).unwrap();
                let rest = path.strip_prefix(from).unwrap();
                let name = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                tree.insert(name, inode);
            }
        }
    }
}

impl Inode {
    fn after_power_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.durable.clone();
        // All, nothing, or a part of it.
        let chance = [0, 50, 90, 100][dice.below(4)];
        for change in &self.changes {
            match change {
                Change::Truncate(length) if dice.below(100) < chance => content.resize(*length, 0),
                Change::Truncate(_) => {}
                Change::Write(position, bytes) => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let start = position + at;
                        let end = (bytes.len()).min(at + SECTOR - start % SECTOR);
                        if dice.below(100) < chance {
                            write(&mut content, start, &bytes[at..end]);
                        }
                        at = end;
                    }
                }
            }
        }
        content
    }
}

fn write(content: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    content.resize(content.len().max(position + bytes.len()), 0);
    content[position..position + bytes.len()].copy_from_slice(bytes);
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    fn change(&mut self, directory: &Path, change: NameChange) {
        apply(&mut self.live, &change);
        self.names.push((directory.to_owned(), change));
    }
}

impl Disk for LossyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let inode = match state.live.get(path) {
            Some(Some(inode)) => *inode,
            Some(None) => return Err(io::ErrorKind::IsADirectory.into()),
            None if mode != OpenMode::Create => return Err(not_found()),
            None => {
                let parent = path.parent().unwrap().to_owned();
                if !state.live.contains_key(&parent) {
                    return Err(not_found());
                }
                let inode = state.inodes.len();
                state.inodes.push(Inode::default());
                state.change(&parent, NameChange::Put(path.to_owned(), Some(inode)));
                inode
            }
        };
        Ok(Arc::new(LossyFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.live.contains_key(from) {
            return Err(not_found());
        }
        assert_eq!(from.parent(), to.parent());
        state.change(from.parent().unwrap(), NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !matches!(state.live.get(path), Some(Some(_))) {
            return Err(not_found());
        }
        state.change(path.parent().unwrap(), NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change(path.parent().unwrap(), NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        for directory in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if !state.live.contains_key(directory) {
                let parent = directory.parent().unwrap_or(directory).to_owned();
                state.change(&parent, NameChange::Put(directory.to_owned(), None));
                // The root of it all is there in any case.
                if directory.components().count() <= 2 {
                    state.durable.insert(directory.to_owned(), None);
                }
            }
        }
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let state = self.state();
        if !state.live.contains_key(directory) {
            return Err(not_found());
        }
        let entries = state.live.iter().filter(|(path, _)| path.parent() == Some(directory));
        let entry = |(path, inode): (&PathBuf, &Option<usize>)| DirectoryEntry {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            kind: match inode {
                None => EntryKind::Directory,
                Some(inode) => EntryKind::File { length: state.inodes[*inode].live.len() as u64 },
            },
        };
        Ok(entries.map(entry).collect())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        let names = std::mem::take(&mut state.names);
        for (of, change) in names {
            match of == directory {
                true => apply(&mut state.durable, &change),
                false => state.names.push((of, change)),
            }
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        self.open(path, OpenMode::Create)?;
        let mut state = self.state();
        if std::mem::replace(&mut state.is_locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(DiskLock::new(Unlock(self.clone())))
    }
}

struct Unlock(LossyDisk);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.after_kill();
    }
}

impl LossyFile {
    fn with<T>(&self, run: impl FnOnce(&mut Inode) -> T) -> T {
        run(&mut self.disk.state().inodes[self.inode])
    }
}

impl DiskFile for LossyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|inode| {
            let start = inode.live.len().min(position as usize);
            let count = buffer.len().min(inode.live.len() - start);
            buffer[..count].copy_from_slice(&inode.live[start..start + count]);
            Ok(count)
        })
    }

    fn write_vectored_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.with(|inode| {
            write(&mut inode.live, position as usize, &bytes);
            inode.changes.push(Change::Write(position as usize, bytes));
        });
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with(|inode| {
            inode.live.resize(length as usize, 0);
            inode.changes.push(Change::Truncate(length as usize));
        });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if let Some(left) = &mut state.syncs_left {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::from_raw_os_error(5))?;
        }
        state.syncs += 1;
        let inode = &mut state.inodes[self.inode];
        inode.durable = inode.live.clone();
        inode.changes.clear();
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|inode| Ok(inode.live.len() as u64))
    }

    fn os_file(&self) -> Option<&Arc<File>> {
        None
    }
}

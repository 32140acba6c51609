//! A disk that can fail in every way a disk does.
//!
//! It keeps what is written apart from what is durable. When the process dies all that was written is still there;
//! when the power is cut, what was not synced is lost, torn or there, sector by sector and name by name. Besides it
//! can refuse reads, writes and syncs, be full, and take the process down in the middle of a write.

mod content;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use oncelog_log::{DirectoryEntry, Disk, DiskFile, DiskLock, EntryKind, MemoryDisk, OpenMode};
use parking_lot::Mutex;

use crate::random::Random;
use content::Content;

/// Small, as are the disk and what clients write in a run.
const RESERVE_BYTES: u64 = 64 << 10;

/// What goes wrong at the moment.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The process dies in the middle of the change to the disk that comes after this many.
    pub dies_after: Option<u64>,
    /// The disk is full at this many bytes.
    pub capacity: Option<u64>,
    /// One read in so many fails; none where it is 0.
    pub failing_reads: u64,
    /// One write in so many fails, half done.
    pub failing_writes: u64,
    /// One sync in so many fails.
    pub failing_syncs: u64,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct LossyDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    live: Tree,
    durable: Tree,
    /// Changes of names that a power cut may undo, in order.
    unsynced: Vec<NameChange>,
    faults: Faults,
    is_dead: bool,
    /// Files whose name begins so are synced every other time only.
    half_synced: Option<&'static str>,
    /// Counts the lives of the process: handles of an earlier life are dead.
    life: u64,
    locks: BTreeMap<PathBuf, Weak<()>>,
    random: Random,
}

#[derive(Clone, Debug, Default)]
struct Tree {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Inode>,
}

type Inode = Arc<Mutex<Content>>;

#[derive(Clone, Debug)]
enum NameChange {
    Create(PathBuf, Inode),
    CreateDirectory(PathBuf),
    Rename(PathBuf, PathBuf),
    RemoveFile(PathBuf),
    RemoveDirectory(PathBuf),
}

#[derive(Debug)]
struct LossyFile {
    disk: LossyDisk,
    life: u64,
    name: String,
    inode: Inode,
}

impl LossyDisk {
    /// An empty disk.
    pub fn new(random: Random) -> LossyDisk {
        LossyDisk(Arc::new(Mutex::new(State {
            live: Tree::default(),
            durable: Tree::default(),
            unsynced: Vec::new(),
            faults: Faults::default(),
            is_dead: false,
            half_synced: None,
            life: 0,
            locks: BTreeMap::new(),
            random,
        })))
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    /// From now on every other sync of files whose name begins like this does nothing, and says that all is well.
    pub fn lie_about_syncs_of(&self, name: &'static str) {
        self.0.lock().half_synced = Some(name);
    }

    /// Bytes in all files.
    pub fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// Whether the process has died in the middle of a write. Nothing works until it is started anew.
    pub fn is_dead(&self) -> bool {
        self.0.lock().is_dead
    }

    /// The process has died: open files are closed, what was written stays.
    pub fn end_process(&self) {
        let mut state = self.0.lock();
        state.life += 1;
        state.is_dead = false;
        state.faults.dies_after = None;
        state.locks.clear();
    }

    /// The power was cut: what was not synced is lost, in part or whole.
    pub fn cut_power(&self) {
        self.end_process();
        let mut state = self.0.lock();
        let mut random = state.random.fork();
        let unsynced = std::mem::take(&mut state.unsynced);
        // Names are journalled by file systems: what survives of their changes is a prefix.
        let kept = random.below(unsynced.len() as u64 + 1) as usize;
        for change in &unsynced[..kept] {
            state.durable.apply(change);
        }
        for file in state.durable.files.values() {
            file.lock().cut_power(&mut random);
        }
        state.live = state.durable.clone();
    }

    /// A copy of all that is written, as a disk in memory.
    ///
    /// # Panics
    /// If the disk in memory refuses a file.
    pub fn copy(&self) -> MemoryDisk {
        let copy = MemoryDisk::new();
        let state = self.0.lock();
        for directory in &state.live.directories {
            copy.create_directory(directory).expect("memory takes directories");
        }
        for (path, file) in &state.live.files {
            let target = copy.open(path, OpenMode::Create).expect("its directory was made");
            target.write_at(file.lock().live(), 0).expect("memory takes bytes");
        }
        copy
    }

    fn read<T>(&self, life: u64, read: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock();
        state.check_alive(life)?;
        read(&mut state)
    }

    /// Makes a change, unless the process dies before it.
    fn change<T>(&self, life: u64, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock();
        state.check_alive(life)?;
        if state.is_dying() {
            return Err(dead());
        }
        change(&mut state)
    }

    fn current_life(&self) -> u64 {
        self.0.lock().life
    }
}

impl State {
    fn check_alive(&self, life: u64) -> io::Result<()> {
        if self.is_dead || self.life != life { Err(dead()) } else { Ok(()) }
    }

    /// Counts a change; says whether the process dies in it.
    fn is_dying(&mut self) -> bool {
        match &mut self.faults.dies_after {
            None => false,
            Some(0) => {
                self.is_dead = true;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    fn rename(&mut self, change: NameChange) {
        self.live.apply(&change);
        self.unsynced.push(change);
    }

    fn used(&self) -> u64 {
        self.live.files.values().map(|file| file.lock().live().len() as u64).sum()
    }

    fn refuse_some(&mut self, one_in: u64, what: &str) -> io::Result<()> {
        if self.random.one_in(one_in) { Err(io::Error::other(format!("{what} failed"))) } else { Ok(()) }
    }

    fn write(&mut self, inode: &Inode, bytes: &[u8], position: u64) -> io::Result<()> {
        let part = |random: &mut Random| random.below(bytes.len() as u64 + 1);
        let (fitting, error) = if self.is_dying() {
            (part(&mut self.random), Some(dead()))
        } else if self.random.one_in(self.faults.failing_writes) {
            (part(&mut self.random), Some(io::Error::other("the write failed")))
        } else {
            let end = inode.lock().live().len() as u64;
            let growth = (position + bytes.len() as u64).saturating_sub(end);
            let left = self.faults.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
            let lacking = growth.saturating_sub(left);
            let error = (lacking > 0).then(|| io::ErrorKind::StorageFull.into());
            ((bytes.len() as u64).saturating_sub(lacking), error)
        };
        inode.lock().write(position, &bytes[..fitting as usize]);
        error.map_or(Ok(()), Err)
    }
}

impl Tree {
    fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Create(path, inode) => {
                self.files.insert(path.clone(), inode.clone());
            }
            NameChange::CreateDirectory(path) => {
                self.directories.extend(path.ancestors().map(Path::to_owned))
            }
            NameChange::RemoveFile(path) => {
                self.files.remove(path);
            }
            NameChange::RemoveDirectory(path) => {
                self.directories.remove(path);
            }
            NameChange::Rename(from, to) => {
                if let Some(file) = self.files.remove(from) {
                    self.files.insert(to.clone(), file);
                    return;
                }
                let moved = |path: &PathBuf| match path.strip_prefix(from) {
                    Ok(rest) if rest.as_os_str().is_empty() => to.clone(),
                    Ok(rest) => to.join(rest),
                    Err(_) => path.clone(),
                };
                self.directories = self.directories.iter().map(&moved).collect();
                self.files = self.files.iter().map(|(path, file)| (moved(path), file.clone())).collect();
            }
        }
    }

    fn holds(&self, path: &Path) -> bool {
        self.files.contains_key(path) || self.directories.contains(path)
    }

    fn is_within(&self, directory: &Path) -> bool {
        let mut paths = self.files.keys().chain(&self.directories);
        paths.any(|path| path.starts_with(directory) && path != directory)
    }
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for LossyDisk {
    fn reserve_bytes(&self) -> u64 {
        RESERVE_BYTES
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let life = self.current_life();
        let found = self.read(life, |state| {
            let file = state.live.files.get(path).cloned();
            let parent = path.parent().filter(|parent| state.live.directories.contains(*parent));
            match file {
                None if mode == OpenMode::Existing || parent.is_none() => Err(not_found()),
                None if state.live.directories.contains(path) => Err(io::ErrorKind::IsADirectory.into()),
                file => Ok(file),
            }
        })?;
        let inode = match found {
            Some(inode) => inode,
            None => self.change(life, |state| {
                let inode = Inode::default();
                state.rename(NameChange::Create(path.to_owned(), inode.clone()));
                Ok(inode)
            })?,
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Arc::new(LossyFile { disk: self.clone(), life, name, inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(self.current_life(), |state| {
            if !state.live.holds(from) {
                return Err(not_found());
            }
            state.rename(NameChange::Rename(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(self.current_life(), |state| {
            if !state.live.files.contains_key(path) {
                return Err(not_found());
            }
            state.rename(NameChange::RemoveFile(path.to_owned()));
            Ok(())
        })
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.change(self.current_life(), |state| {
            if state.live.is_within(path) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            if !state.live.directories.contains(path) {
                return Err(not_found());
            }
            state.rename(NameChange::RemoveDirectory(path.to_owned()));
            Ok(())
        })
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.change(self.current_life(), |state| {
            if !state.live.directories.contains(path) {
                state.rename(NameChange::CreateDirectory(path.to_owned()));
            }
            Ok(())
        })
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.read(self.current_life(), |state| {
            if !state.live.directories.contains(directory) {
                return Err(not_found());
            }
            let entry = |path: &Path, kind| {
                let name = path.file_name().filter(|_| path.parent() == Some(directory))?;
                Some(DirectoryEntry { name: name.to_string_lossy().into_owned(), kind })
            };
            let directories = state.live.directories.iter();
            let directories = directories.filter_map(|path| entry(path, EntryKind::Directory));
            let files = state.live.files.iter().filter_map(|(path, file)| {
                entry(path, EntryKind::File { length: file.lock().live().len() as u64 })
            });
            Ok(directories.chain(files).collect())
        })
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        self.change(self.current_life(), |state| {
            state.refuse_some(state.faults.failing_syncs, "the sync")?;
            // The journal is one: syncing any directory brings all earlier changes of names along.
            for change in std::mem::take(&mut state.unsynced) {
                state.durable.apply(&change);
            }
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        self.open(path, OpenMode::Create)?;
        let mut state = self.0.lock();
        if state.locks.get(path).is_some_and(|holder| holder.strong_count() > 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let holder = Arc::new(());
        state.locks.insert(path.to_owned(), Arc::downgrade(&holder));
        Ok(DiskLock::new(holder))
    }
}

impl DiskFile for LossyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.disk.read(self.life, |state| {
            state.refuse_some(state.faults.failing_reads, "the read")?;
            let content = self.inode.lock();
            let rest = content.live().get(position as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn write_vectored_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.disk.read(self.life, |state| state.write(&self.inode, &bytes, position))
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.change(self.life, |state| {
            state.refuse_some(state.faults.failing_writes, "the truncation")?;
            self.inode.lock().truncate(length);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change(self.life, |state| {
            state.refuse_some(state.faults.failing_syncs, "the sync")?;
            let is_lied_about = state.half_synced.is_some_and(|name| self.name.starts_with(name));
            if !(is_lied_about && state.random.one_in(2)) {
                self.inode.lock().sync();
            }
            Ok(())
        })
    }

    fn length(&self) -> io::Result<u64> {
        self.disk.read(self.life, |_| Ok(self.inode.lock().live().len() as u64))
    }

    fn os_file(&self) -> Option<&Arc<File>> {
        None
    }
}

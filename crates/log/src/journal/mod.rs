//! The journal: everything that is appended to any log of a data directory, in one order and synced at once.
//!
//! It is there only where acknowledged data has to survive a power cut. An append goes into its segment through the page
//! cache and, under the log's lock, into the journal's memory; [`Journal::sync`] writes all that has gathered there
//! with one write and one sync, whoever waits for it. So what a crash leaves of all logs together is a prefix of what
//! was appended. Two files take turns; one is written over once checkpoints cover all that is in it.

mod frame;
mod replay;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oncelog_wire::Offset;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

pub(crate) use frame::LogKey;
use frame::{ENTRY_HEADER, FrameNumbers, HEADER, PAGE};
pub(crate) use replay::{JournalEntries, JournalReplay};

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{IoContext, LogError};

/// The files, in the order in which they are first used.
const FILE_NAMES: [&str; 2] = ["journal-0.log", "journal-1.log"];

/// The memory of a written frame is used again unless it is larger than this.
const MAX_SPARE_BYTES: usize = 1 << 20;

/// The journal of a data directory.
#[derive(Debug)]
pub struct Journal {
    waiting: Mutex<Waiting>,
    /// Held shared while several appends are made that belong into one frame.
    groups: RwLock<()>,
    writer: Mutex<Writer>,
    appended: AtomicU64,
    synced: AtomicU64,
    waiting_bytes: AtomicU64,
    has_failed: AtomicBool,
    /// A frame is closed once it has this many bytes.
    frame_bytes: usize,
    max_batch_bytes: usize,
}

/// What has been appended and not been taken by the writer.
#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    spare: Option<Frame>,
}

/// Appends on their way to the device together.
#[derive(Debug, Default)]
struct Frame {
    bytes: Vec<u8>,
    /// The journal's position behind its last entry.
    position: u64,
    /// The bytes of its entries, once it is sealed.
    entry_bytes: usize,
    /// Where the logs it has entries of end with them.
    logs: HashMap<LogKey, Offset>,
}

#[derive(Debug)]
struct Writer {
    files: [JournalFile; 2],
    active: usize,
    /// Where in the active file the next frame goes.
    at: u64,
    numbers: FrameNumbers,
    /// Entries up to this position are covered by checkpoints.
    released: u64,
    frames: VecDeque<Frame>,
}

#[derive(Debug)]
struct JournalFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    capacity: u64,
    first_sequence: u64,
    /// The position behind the last entry in it.
    last: u64,
}

/// What a sync has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalSync {
    /// All that had been appended is on the device.
    Done,
    /// There is no room for the rest: logs have to be checkpointed and [`Journal::release`] to be called.
    Full,
}

impl Journal {
    /// Opens the files, which are made and filled with zeros where they are missing. Nothing is written before
    /// [`Journal::begin`].
    pub(crate) fn open(disk: &dyn Disk, root: &Path, file_bytes: u64) -> Result<Journal, LogError> {
        let files = FILE_NAMES.map(|name| JournalFile::open(disk, root.join(name), file_bytes));
        let [first, second] = files;
        let files = [first?, second?];
        let smallest = files.iter().map(|file| file.capacity).min().unwrap_or(0) as usize;
        let max_batch_bytes = smallest.saturating_sub(2 * PAGE);
        Ok(Journal {
            waiting: Mutex::default(),
            groups: RwLock::default(),
            writer: Mutex::new(Writer {
                files,
                active: 0,
                at: 0,
                numbers: FrameNumbers { era: 0, sequence: 1, needed_from: 1 },
                released: 0,
                frames: VecDeque::new(),
            }),
            appended: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            waiting_bytes: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            frame_bytes: max_batch_bytes / 4,
            max_batch_bytes,
        })
    }

    /// Starts a new era, which the data directory has written down: what the files hold counts no more.
    pub(crate) fn begin(&self, era: u64) {
        let mut writer = self.writer.lock();
        writer.numbers.era = era;
        writer.files[0].first_sequence = writer.numbers.sequence;
    }

    /// The most bytes a batch may have.
    pub(crate) fn max_batch_bytes(&self) -> usize {
        self.max_batch_bytes
    }

    /// Takes in a batch that has just been written to its log. The log's lock is held, so that the order is the log's.
    pub(crate) fn push(&self, log: LogKey, header: &[u8], payload: &[u8], next_offset: Offset) {
        let mut waiting = self.waiting.lock();
        let bytes = ENTRY_HEADER + header.len() + payload.len();
        let has_room = |frame: &Frame| frame.bytes.len() + bytes <= self.frame_bytes;
        if !waiting.frames.back().is_some_and(has_room) {
            let mut frame = waiting.spare.take().unwrap_or_default();
            frame::begin(&mut frame.bytes);
            waiting.frames.push_back(frame);
        }
        let position = self.appended.load(Ordering::Relaxed) + 1;
        let frame = waiting.frames.back_mut().expect("one was put there if there was none");
        frame::push(&mut frame.bytes, log, header, payload);
        frame.position = position;
        frame.logs.insert(log, next_offset);
        self.waiting_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.appended.store(position, Ordering::Release);
    }

    /// Holds back syncs, so that all that is appended while the guard lives becomes durable together.
    pub fn group(&self) -> RwLockReadGuard<'_, ()> {
        self.groups.read()
    }

    /// How many batches have been appended since the start.
    pub fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// How many of them are on the device, and below the high watermarks of their logs.
    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// The bytes that have been appended and are not on the device.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Whether a write or a sync has failed. Nobody knows then what is on the device; only a new start finds out.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Says that something else which a start after a crash relies on could not be brought to the device.
    pub fn fail(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    /// Brings all that has been appended to the device, and tells `advance` up to where each log is there.
    ///
    /// # Errors
    /// Where the device refuses. That is not to be tried again: whatever was not synced then may be gone.
    pub fn sync(&self, mut advance: impl FnMut(LogKey, Offset)) -> Result<JournalSync, LogError> {
        let mut writer = self.writer.lock();
        if self.has_failed() {
            return Err(LogError::Offline { path: writer.files[writer.active].path.clone() });
        }
        {
            let _nothing_half_done = self.groups.write();
            let mut waiting = self.waiting.lock();
            writer.frames.append(&mut waiting.frames);
        }
        let mut written = Vec::new();
        let outcome = writer.write_frames(&mut written).inspect_err(|_| self.fail())?;
        for frame in &written {
            frame.logs.iter().for_each(|(log, offset)| advance(*log, *offset));
        }
        if let Some(last) = written.last() {
            self.synced.store(last.position, Ordering::Release);
        }
        self.give_back(written);
        Ok(outcome)
    }

    /// Keeps the memory of a frame for the next.
    fn give_back(&self, written: Vec<Frame>) {
        let bytes: usize = written.iter().map(|frame| frame.entry_bytes).sum();
        self.waiting_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        if let Some(mut frame) = written.into_iter().next()
            && frame.bytes.capacity() <= MAX_SPARE_BYTES
        {
            frame.logs.clear();
            self.waiting.lock().spare = Some(frame);
        }
    }

    /// Whether a file is full and its logs should be checkpointed, so that it can be used again.
    pub fn wants_checkpoint(&self) -> bool {
        let writer = self.writer.lock();
        !writer.is_free(1 - writer.active)
    }

    /// Says that checkpoints cover all entries up to a position that [`Journal::synced`] has given.
    pub fn release(&self, position: u64) {
        let mut writer = self.writer.lock();
        writer.released = writer.released.max(position);
    }
}

impl Writer {
    fn is_free(&self, file: usize) -> bool {
        self.files[file].last <= self.released
    }

    /// Writes the frames for which there is room, and syncs them.
    fn write_frames(&mut self, written: &mut Vec<Frame>) -> Result<JournalSync, LogError> {
        let mut is_synced = true;
        let mut outcome = JournalSync::Done;
        while let Some(frame) = self.frames.front() {
            let needed = frame::padded(frame.bytes.len()) + PAGE;
            if self.at + needed as u64 > self.files[self.active].capacity {
                if !is_synced {
                    self.files[self.active].sync()?;
                    is_synced = true;
                }
                if !self.is_free(1 - self.active) {
                    outcome = JournalSync::Full;
                    break;
                }
                self.switch()?;
            }
            let mut frame = self.frames.pop_front().expect("it is there");
            frame.entry_bytes = frame.bytes.len() - HEADER;
            self.write(&mut frame.bytes)?;
            self.files[self.active].last = frame.position;
            written.push(frame);
            is_synced = false;
        }
        if !is_synced {
            self.files[self.active].sync()?;
        }
        Ok(outcome)
    }

    /// Goes on in the other file, of which nothing is needed any more.
    fn switch(&mut self) -> Result<(), LogError> {
        // The device has to know that before it is written over, or a frame that gets torn there would look as if one
        // that is needed were missing. There is always a page left for this.
        self.numbers.needed_from = self.files[self.active].first_sequence;
        let mut empty = Vec::new();
        frame::begin(&mut empty);
        self.write(&mut empty)?;
        self.files[self.active].sync()?;
        self.active = 1 - self.active;
        self.at = 0;
        self.files[self.active].first_sequence = self.numbers.sequence;
        Ok(())
    }

    fn write(&mut self, bytes: &mut Vec<u8>) -> Result<(), LogError> {
        assert!(self.numbers.era > 0, "the journal has begun before anything is written to it");
        frame::seal(bytes, self.numbers);
        let file = &self.files[self.active];
        file.file.write_at(bytes, self.at).on("write", &file.path)?;
        self.at += bytes.len() as u64;
        self.numbers.sequence += 1;
        Ok(())
    }
}

impl JournalFile {
    fn open(disk: &dyn Disk, path: PathBuf, file_bytes: u64) -> Result<JournalFile, LogError> {
        let file = match disk.open(&path, OpenMode::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fill(disk, &path, file_bytes).on("make room for", &path)?
            }
            file => file.on("open", &path)?,
        };
        let capacity = file.length().on("look at", &path)? / PAGE as u64 * PAGE as u64;
        if capacity < 4 * PAGE as u64 {
            return Err(LogError::invalid(&path, format!("{capacity} bytes are too few for a journal")));
        }
        Ok(JournalFile { path, file, capacity, first_sequence: 0, last: 0 })
    }

    fn sync(&self) -> Result<(), LogError> {
        self.file.sync().on("sync", &self.path)
    }
}

/// Makes a file of zeros, durably: whatever is written to it later needs no more room, and no other sync.
fn fill(disk: &dyn Disk, path: &Path, file_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    let temporary = path.with_extension("tmp");
    let file = disk.open(&temporary, OpenMode::Create)?;
    file.truncate(0)?;
    file.write_zeros(file_bytes)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_directory(path.parent().unwrap_or(Path::new(".")))?;
    Ok(file)
}

/// Removes the files, of which nothing is needed.
pub(crate) fn remove(disk: &dyn Disk, root: &Path) -> Result<(), LogError> {
    for name in FILE_NAMES {
        let path = root.join(name);
        match disk.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).on("remove", &path),
            _ => {}
        }
    }
    Ok(())
}

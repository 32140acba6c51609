//! Reading the journal after a crash: which batches it holds for each log, and where.
//!
//! The frames of the last era count, up to the first that is not whole: that one was on its way to the device, and so
//! nobody has been told of it. A frame that is missing where a later one is there has been lost after it was synced,
//! which is refused.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oncelog_wire::Offset;
use parking_lot::Mutex;

use super::FILE_NAMES;
use super::frame::{self, FrameNumbers, HEADER, LogKey, PAGE};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::entry_file::read_exact;
use crate::error::{IoContext, LogError};

/// What a journal has for the logs that are to be recovered.
#[derive(Debug, Default)]
pub(crate) struct JournalReplay {
    logs: Mutex<HashMap<LogKey, Vec<Entry>>>,
}

/// The batches of one log, in the order of their offsets.
#[derive(Debug, Default)]
pub(crate) struct JournalEntries(Vec<Entry>);

/// A batch in a journal.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    file: Arc<ReadFile>,
    position: u64,
    length: u32,
    base_offset: Offset,
}

#[derive(Debug)]
struct ReadFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

/// The frames of a file, from its start.
struct Found {
    file: Arc<ReadFile>,
    first: FrameNumbers,
    last: FrameNumbers,
    /// The sequence of its frame, and the entry, for each entry.
    entries: Vec<(u64, LogKey, Entry)>,
    /// Where the last frame ends.
    end: u64,
}

impl JournalReplay {
    /// Reads the files; what is missing holds nothing.
    pub(crate) fn read(disk: &dyn Disk, root: &Path, era: u64) -> Result<JournalReplay, LogError> {
        let mut found = Vec::new();
        for name in FILE_NAMES {
            found.extend(read_file(disk, root.join(name), era)?);
        }
        found.sort_by_key(|found| found.first.sequence);
        let Some(newest) = found.last() else { return Ok(JournalReplay::default()) };
        let needed_from = newest.last.needed_from;
        found.retain(|found| found.last.sequence >= needed_from);
        let first = found.first().map_or(needed_from, |first| first.first.sequence);
        if first > needed_from {
            let file = &found[0].file;
            return Err(LogError::invalid(
                &file.path,
                format!("the frames from {needed_from} to {} are lost", first - 1),
            ));
        }
        if let [older, newer] = &found[..]
            && newer.first.sequence != older.last.sequence + 1
        {
            let reason = format!("byte {}: no sound frame where others follow", older.end);
            return Err(LogError::invalid(&older.file.path, reason));
        }
        let mut logs: HashMap<LogKey, Vec<Entry>> = HashMap::new();
        for (sequence, log, entry) in found.into_iter().flat_map(|found| found.entries) {
            if sequence >= needed_from {
                logs.entry(log).or_default().push(entry);
            }
        }
        Ok(JournalReplay { logs: Mutex::new(logs) })
    }

    /// Takes out what is there for a log.
    pub(crate) fn take(&self, log: LogKey) -> JournalEntries {
        JournalEntries(self.logs.lock().remove(&log).unwrap_or_default())
    }
}

impl JournalEntries {
    /// Gives each batch from `from` on to `visit`, in order.
    pub(crate) fn for_each_from(
        &self,
        from: Offset,
        mut visit: impl FnMut(&[u8]) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let mut batch = Vec::new();
        for entry in self.0.iter().filter(|entry| entry.base_offset >= from) {
            batch.resize(entry.length as usize, 0);
            read_exact(&*entry.file.file, &mut batch, entry.position).on("read", &entry.file.path)?;
            visit(&batch)?;
        }
        Ok(())
    }
}

fn read_file(disk: &dyn Disk, path: PathBuf, era: u64) -> Result<Option<Found>, LogError> {
    let file = match disk.open(&path, OpenMode::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.on("open", &path)?,
    };
    let capacity = file.length().on("look at", &path)?;
    let file = Arc::new(ReadFile { path, file });
    let mut found: Option<Found> = None;
    let mut at = 0;
    let mut bytes = Vec::new();
    while at + PAGE as u64 <= capacity {
        let mut header = [0; HEADER];
        read_exact(&*file.file, &mut header, at).on("read", &file.path)?;
        let Some((length, numbers)) = frame::parse_header(&header) else { break };
        let is_next = found.as_ref().is_none_or(|found| numbers.sequence == found.last.sequence + 1);
        if numbers.era != era || !is_next || length as u64 > capacity - at {
            break;
        }
        bytes.resize(length, 0);
        read_exact(&*file.file, &mut bytes, at).on("read", &file.path)?;
        if !frame::is_sound(&bytes) {
            break;
        }
        let end = at + frame::padded(length) as u64;
        let found = found.get_or_insert_with(|| Found {
            file: file.clone(),
            first: numbers,
            last: numbers,
            entries: Vec::new(),
            end,
        });
        (found.last, found.end) = (numbers, end);
        let is_whole = frame::entries(&bytes, |log, base_offset, range| {
            let (position, length) = (at + range.start as u64, range.len() as u32);
            let entry = Entry { file: file.clone(), position, length, base_offset };
            found.entries.push((numbers.sequence, log, entry));
        });
        if !is_whole {
            return Err(LogError::invalid(
                &file.path,
                format!("byte {at}: the frame's entries make no sense"),
            ));
        }
        at = end;
    }
    Ok(found)
}

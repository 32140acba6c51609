//! Room that is held back on the disk, so that a full one does not keep from being ended what was begun.
//!
//! It is a file that is really allocated. Where something that must be written finds no room, the file is given up and the
//! write tried again. From then on ordinary appends are refused before they are begun, until the file could be made
//! again; so they cannot take the room that was meant for others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oncelog_wire::Now;
use parking_lot::Mutex;

use crate::disk::{Disk, OpenMode};
use crate::error::LogError;
use crate::log::Origin;

const FILE_NAME: &str = "reserve";

/// How often it is tried to make the file again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The room held back on the disk of a data directory.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bytes: u64,
    is_whole: AtomicBool,
    missing: Mutex<Missing>,
}

/// How it stands while the file is not there.
#[derive(Debug, Default)]
struct Missing {
    /// The bytes that were appended meanwhile.
    used: u64,
    next_attempt: Duration,
    is_told: bool,
}

impl Reserve {
    /// Gives up what an earlier run has held back: its recovery may need it. It is held back again with the first append.
    pub(crate) fn open(disk: Arc<dyn Disk>, root: &Path) -> Reserve {
        let bytes = disk.reserve_bytes();
        let reserve = Reserve {
            path: root.join(FILE_NAME),
            disk,
            bytes,
            is_whole: AtomicBool::new(bytes == 0),
            missing: Mutex::default(),
        };
        reserve.remove();
        reserve
    }

    /// Whether an append of so many bytes may be tried. Producers get nothing of what was held back, the
    /// coordinators half of it, and what ends a transaction all.
    pub(crate) fn admits(&self, origin: Origin, bytes: u64, now: Now) -> bool {
        if self.is_whole.load(Ordering::Relaxed) {
            return true;
        }
        let mut missing = self.missing.lock();
        if now.monotonic >= missing.next_attempt {
            missing.next_attempt = now.monotonic + RETRY_AFTER;
            if self.restore(&mut missing) {
                return true;
            }
        }
        let most = match origin {
            Origin::Client(_) => 0,
            Origin::Coordinator => self.bytes / 2,
            Origin::TransactionEnd => u64::MAX,
        };
        let is_admitted = missing.used.saturating_add(bytes) <= most;
        if is_admitted {
            missing.used += bytes;
        }
        is_admitted
    }

    /// Does what must be done even on a full disk, at the cost of the room held back.
    pub(crate) fn insist<T>(&self, mut attempt: impl FnMut() -> Result<T, LogError>) -> Result<T, LogError> {
        match attempt() {
            Err(error) if error.is_for_want_of_room() => {
                self.give_up();
                attempt()
            }
            result => result,
        }
    }

    /// Lets go of the room, for somebody who needs it now.
    pub(crate) fn give_up(&self) {
        if self.bytes > 0 {
            let mut missing = self.missing.lock();
            if self.is_whole.swap(false, Ordering::Relaxed) {
                *missing = Missing::default();
                self.remove();
            }
            self.tell(&mut missing);
        }
    }

    fn restore(&self, missing: &mut Missing) -> bool {
        let allocated = self.disk.open(&self.path, OpenMode::Create).and_then(|file| {
            file.truncate(0)?;
            file.allocate(self.bytes)
        });
        if let Err(error) = allocated {
            tracing::debug!("cannot allocate {}: {error}", self.path.display());
            self.remove();
            self.tell(missing);
            return false;
        }
        if missing.is_told {
            tracing::info!("there is room again for {}: appends are taken", self.path.display());
        }
        *missing = Missing::default();
        self.is_whole.store(true, Ordering::Relaxed);
        true
    }

    fn tell(&self, missing: &mut Missing) {
        if !std::mem::replace(&mut missing.is_told, true) {
            tracing::error!(
                "the disk is full: no records are taken until there is room for the {} bytes of {}; open transactions \
                 can be ended, and all can be read",
                self.bytes,
                self.path.display()
            );
        }
    }

    fn remove(&self) {
        match self.disk.remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::error!("cannot remove {}: {error}", self.path.display());
            }
            _ => {}
        }
    }
}

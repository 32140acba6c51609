//! What has to survive a power cut: syncs of the journal, and the answers that wait for them.
//!
//! There are none of these where acknowledged data has to survive no more than the death of the process. Otherwise an
//! answer leaves once the journal is synced up to where it was when the answer was made, so that nobody is told of
//! anything that may get lost; see `docs/crash-safety.md`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use oncelog_log::{Journal, JournalSync, LogError};
use oncelog_wire::{Offset, Uuid};
use parking_lot::{Mutex, RwLockReadGuard};

use crate::Node;
use crate::host::maintenance;
use crate::reply::Signal;
use crate::topics::CLUSTER_METADATA_ID;

/// Answers that need not wait do so once so much waits for the journal, to keep its memory bounded.
const MAX_WAITING_BYTES: u64 = 32 << 20;

/// The journal, and who waits for it.
pub(crate) struct Syncs {
    journal: Arc<Journal>,
    /// By the position each waits for.
    waiters: Mutex<VecDeque<Waiter>>,
    /// Fires when there is something to be synced.
    work: Arc<Signal>,
    /// Whether `work` has been fired since the last sync began.
    is_announced: AtomicBool,
    /// Whether somebody waits for the next sync.
    is_urgent: AtomicBool,
}

struct Waiter {
    position: u64,
    signal: Weak<Signal>,
}

/// How it stands with what was appended up to a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Synced,
    Waiting,
    /// Nobody knows, and only a new start finds out.
    Failed,
}

impl Syncs {
    pub fn new(journal: Arc<Journal>) -> Syncs {
        Syncs {
            journal,
            waiters: Mutex::default(),
            work: Arc::default(),
            is_announced: AtomicBool::new(false),
            is_urgent: AtomicBool::new(false),
        }
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    pub fn progress(&self, position: u64) -> Progress {
        if self.journal.synced() >= position {
            Progress::Synced
        } else if self.journal.has_failed() {
            Progress::Failed
        } else {
            Progress::Waiting
        }
    }

    /// Whether even answers that need not wait have to.
    pub fn is_overloaded(&self) -> bool {
        self.journal.has_failed() || self.journal.waiting_bytes() > MAX_WAITING_BYTES
    }

    /// Has `signal` fired once the journal is synced up to a position, or has failed.
    pub fn wake_at(&self, position: u64, signal: &Arc<Signal>) {
        let mut waiters = self.waiters.lock();
        let at = waiters.partition_point(|waiter| waiter.position <= position);
        waiters.insert(at, Waiter { position, signal: Arc::downgrade(signal) });
        drop(waiters);
        if self.progress(position) != Progress::Waiting {
            signal.fire();
        } else if !self.is_urgent.swap(true, Ordering::SeqCst) {
            self.work.fire();
        }
    }

    /// Says that there is something to be synced, if there is.
    pub fn announce(&self) {
        if self.journal.appended() > self.journal.synced()
            && !self.is_announced.load(Ordering::Relaxed)
            && !self.is_announced.swap(true, Ordering::SeqCst)
        {
            self.work.fire();
        }
    }

    fn wake(&self) {
        let (synced, has_failed) = (self.journal.synced(), self.journal.has_failed());
        let mut waiters = self.waiters.lock();
        while let Some(waiter) = waiters.front()
            && (has_failed || waiter.position <= synced)
        {
            if let Some(signal) = waiter.signal.upgrade() {
                signal.fire();
            }
            waiters.pop_front();
        }
        if !waiters.is_empty() && !self.is_urgent.swap(true, Ordering::SeqCst) {
            self.work.fire();
        }
    }

    /// Gives everything up: what could not be brought to the device was something that a start would rely on.
    pub fn fail(&self) {
        self.journal.fail();
        self.wake();
        // So that whoever syncs finds out.
        self.work.fire();
    }
}

impl Node {
    /// Brings all that has been appended to the device, moves the watermarks, and wakes those who wait. Does nothing where
    /// data does not have to survive a power cut.
    ///
    /// # Errors
    /// Where that was not possible. Once [`Node::has_failed`], it never will be, and the node has to be dropped; else
    /// it may be tried again.
    pub fn sync(&self) -> Result<(), LogError> {
        let Some(syncs) = &self.syncs else { return Ok(()) };
        syncs.is_announced.store(false, Ordering::SeqCst);
        syncs.is_urgent.store(false, Ordering::SeqCst);
        let outcome = loop {
            match syncs
                .journal
                .sync(|(topic_id, partition), synced| self.advance(topic_id, partition, synced))
            {
                Ok(JournalSync::Done) => break Ok(()),
                Ok(JournalSync::Full) => {
                    syncs.wake();
                    if let Err(error) = maintenance::make_room(self) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        syncs.wake();
        outcome
    }

    /// Fires when there is something to [`Node::sync`]; none where there never is.
    pub fn sync_signal(&self) -> Option<&Arc<Signal>> {
        self.syncs.as_ref().map(|syncs| &syncs.work)
    }

    /// Whether an answer waits for the next [`Node::sync`]. If not, it can wait for some milliseconds.
    pub fn is_sync_urgent(&self) -> bool {
        self.syncs.as_ref().is_some_and(|syncs| syncs.is_urgent.load(Ordering::SeqCst))
    }

    /// Whether [`Node::maintain`] should be called soon.
    pub fn wants_maintenance(&self) -> bool {
        self.syncs.as_ref().is_some_and(|syncs| syncs.journal.wants_checkpoint())
    }

    /// Whether something could not be synced. Nothing is acknowledged any more; only a new start finds out what is there.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
            || self.syncs.as_ref().is_some_and(|syncs| syncs.journal.has_failed())
    }

    /// Gives up: what was to be brought to the device may not be there, and trying again would not show it.
    pub(crate) fn fail(&self) {
        self.has_failed.store(true, Ordering::SeqCst);
        if let Some(syncs) = &self.syncs {
            syncs.fail();
        }
    }

    /// Holds syncs back, so that what is appended meanwhile is synced together.
    pub(crate) fn group_appends(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.syncs.as_ref().map(|syncs| syncs.journal.group())
    }

    fn advance(&self, topic_id: Uuid, partition: i32, synced: Offset) {
        if topic_id == CLUSTER_METADATA_ID {
            self.metadata.partition().advance(synced);
        } else if let Some(partition) =
            self.topics.by_id(topic_id).and_then(|topic| topic.partition(partition))
        {
            partition.advance(synced);
        }
    }
}

//! One partition: its log under a lock, and those who wait for its watermarks.

use std::cmp::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use oncelog_log::{AppendError, Appended, Isolation, Log, Marker, Origin};
use oncelog_records::BatchView;
use oncelog_wire::{ErrorCode, LeaderEpoch, Now, Offset, Str};
use parking_lot::{Mutex, MutexGuard};

use crate::reply::Signal;

/// A partition of a topic.
pub struct Partition {
    /// The topic's name.
    pub topic: Str,
    /// The partition's index.
    pub index: i32,
    state: Mutex<State>,
}

/// What the partition's lock guards.
pub struct State {
    /// The log.
    pub log: Log,
    /// Whether the topic was deleted: nothing is appended any more, and those who wait are told.
    pub is_deleted: bool,
    waiters: Vec<Waiter>,
    /// When it was last said that the disk fails.
    last_complaint: Option<Duration>,
}

/// A disk that fails is spoken of this often for a partition, however many appends it refuses.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(10);

struct Waiter {
    signal: Weak<Signal>,
    isolation: Isolation,
    /// Fires when the watermark of `isolation` is above this.
    above: Offset,
}

impl Partition {
    /// A partition over an opened log.
    pub fn new(topic: Str, index: i32, log: Log) -> Partition {
        let state = State { log, is_deleted: false, waiters: Vec::new(), last_complaint: None };
        Partition { topic, index, state: Mutex::new(state) }
    }

    /// Takes the lock. Nothing else is locked while it is held.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Appends a batch of one of the broker's own logs.
    pub fn append_internal(
        &self,
        batch: &BatchView<'_>,
        origin: Origin,
        now: Now,
    ) -> Result<Appended, AppendError> {
        self.lock().append(batch, origin, now)
    }

    /// Appends the marker that ends a transaction here.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION` where the topic is gone, or what the log refuses the marker with.
    pub fn append_marker(&self, marker: &Marker, now: Now) -> Result<Appended, ErrorCode> {
        let mut state = self.lock();
        if state.is_deleted {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let appended = state.log.append_marker(marker, now).map_err(|error| error.code())?;
        state.wake();
        Ok(appended)
    }

    /// Notes that all below an offset has been synced, and wakes those who waited for it.
    pub fn advance(&self, synced: Offset) {
        let mut state = self.lock();
        state.log.advance_high_watermark(synced);
        state.wake();
    }

    /// Marks the topic as gone and lets those who wait see it.
    pub fn mark_deleted(&self) {
        let mut state = self.lock();
        state.is_deleted = true;
        for waiter in state.waiters.drain(..) {
            if let Some(signal) = waiter.signal.upgrade() {
                signal.fire();
            }
        }
    }
}

impl State {
    /// Appends a batch and wakes those who waited for it.
    pub fn append(
        &mut self,
        batch: &BatchView<'_>,
        origin: Origin,
        now: Now,
    ) -> Result<Appended, AppendError> {
        let appended = self.log.append(batch, origin, now).inspect_err(|error| self.complain(error, now))?;
        self.wake();
        Ok(appended)
    }

    fn complain(&mut self, error: &AppendError, now: Now) {
        let is_time = self.last_complaint.is_none_or(|last| now.monotonic - last >= COMPLAINT_PERIOD);
        if error.code() == ErrorCode::KafkaStorageError && is_time {
            self.last_complaint = Some(now.monotonic);
            tracing::error!("an append is refused: {error}");
        }
    }

    /// The watermark up to which a reader of that isolation may read.
    pub fn watermark(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.log.high_watermark(),
            Isolation::ReadCommitted => self.log.last_stable_offset(),
        }
    }

    /// Has `signal` fired once the watermark is above `seen`; at once, where it already is.
    pub fn wake_above(&mut self, signal: &Arc<Signal>, isolation: Isolation, seen: Offset) {
        if self.is_deleted || self.watermark(isolation) > seen {
            signal.fire();
        } else {
            self.waiters.push(Waiter { signal: Arc::downgrade(signal), isolation, above: seen });
        }
    }

    /// Compares the leader epoch a client believes in with ours.
    ///
    /// # Errors
    /// `FENCED_LEADER_EPOCH` for an older one, `UNKNOWN_LEADER_EPOCH` for one that is to come.
    pub fn check_leader_epoch(&self, believed: LeaderEpoch) -> Result<(), ErrorCode> {
        match believed.cmp(&self.log.leader_epoch()) {
            _ if believed == LeaderEpoch::NONE => Ok(()),
            Ordering::Less => Err(ErrorCode::FencedLeaderEpoch),
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(ErrorCode::UnknownLeaderEpoch),
        }
    }

    /// Forgets what was asked with [`State::wake_above`].
    pub fn forget(&mut self, signal: &Arc<Signal>) {
        self.waiters.retain(|waiter| !std::ptr::eq(waiter.signal.as_ptr(), Arc::as_ptr(signal)));
    }

    fn wake(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        let (high_watermark, last_stable_offset) = (self.log.high_watermark(), self.log.last_stable_offset());
        self.waiters.retain(|waiter| {
            let watermark = match waiter.isolation {
                Isolation::ReadUncommitted => high_watermark,
                Isolation::ReadCommitted => last_stable_offset,
            };
            if watermark <= waiter.above {
                return true;
            }
            if let Some(signal) = waiter.signal.upgrade() {
                signal.fire();
            }
            false
        });
    }
}

//! The thread that has the node bring to the device what must survive a power cut.
//!
//! It syncs at once where an answer waits for that, and what has gathered meanwhile goes along. Where nobody waits it
//! takes its time, but not long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::shared::Shared;

/// How long what nobody waits for may stay unsynced.
const LAZY: Duration = Duration::from_millis(10);

/// How long to rest where there is no room at the moment for what has to be synced.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How long connections have to tell their clients that the storage has failed.
const FAREWELL: Duration = Duration::from_millis(100);

/// The thread. Dropping it ends it.
pub(crate) struct SyncThread {
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes a parked thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl SyncThread {
    /// Starts the thread; none where nothing has to survive a power cut. It hurries `maintenance` when the journal is
    /// filling up. When the device fails it says so to all who serve clients, and then to the owner of the broker.
    pub(crate) fn start(
        shared: Arc<Shared>,
        maintenance: mpsc::Sender<bool>,
        stopping: Arc<watch::Sender<bool>>,
        failed: watch::Sender<bool>,
    ) -> std::io::Result<Option<SyncThread>> {
        if shared.node.sync_signal().is_none() {
            return Ok(None);
        }
        let is_stopping = Arc::new(AtomicBool::new(false));
        let seen = is_stopping.clone();
        let thread = std::thread::Builder::new().name("oncelog-sync".into()).spawn(move || {
            let mut was_hurried = false;
            while wait_for_work(&shared, &seen) {
                if let Err(error) = shared.node.sync() {
                    tracing::error!("{error}");
                    if !shared.node.has_failed() {
                        std::thread::park_timeout(RETRY_AFTER);
                    }
                }
                if shared.node.has_failed() {
                    // Those who are told of the failure get their answers first.
                    std::thread::park_timeout(FAREWELL);
                    // Nobody listens any more only where every task has already ended.
                    let _ = (stopping.send(true), failed.send(true));
                    return;
                }
                let wants_maintenance = shared.node.wants_maintenance();
                if wants_maintenance && !was_hurried {
                    // Without a receiver the broker is stopping, which checkpoints all logs as well.
                    let _ = maintenance.send(true);
                }
                was_hurried = wants_maintenance;
            }
        })?;
        Ok(Some(SyncThread { is_stopping, thread: Some(thread) }))
    }
}

impl Drop for SyncThread {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the sync thread had panicked");
        }
    }
}

/// Waits until a sync is due; false where the broker stops.
fn wait_for_work(shared: &Shared, is_stopping: &AtomicBool) -> bool {
    let node = &shared.node;
    let Some(work) = node.sync_signal() else { return false };
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut due: Option<Instant> = None;
    loop {
        if is_stopping.load(Ordering::SeqCst) {
            return false;
        }
        // The signal first: what it stands for is looked at after it has been taken down.
        let has_fired = work.take();
        if node.has_failed() || node.is_sync_urgent() {
            return true;
        }
        if has_fired && due.is_none() {
            due = Some(Instant::now() + LAZY);
        }
        let rest = due.map(|due| due.saturating_duration_since(Instant::now()));
        if rest == Some(Duration::ZERO) {
            return true;
        }
        if work.is_set_or_wake(&waker) {
            continue;
        }
        match rest {
            Some(rest) => std::thread::park_timeout(rest),
            None => std::thread::park(),
        }
    }
}

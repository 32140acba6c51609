//! What comes back for a request: a frame now, a frame later, nothing, or the end of the connection.
//!
//! An answer that has to wait is a value the shell holds on behalf of the connection. It waits for the
//! [`Signal`] or the deadline, whichever is first, and polls again; dropping it gives the wait up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use oncelog_wire::{Chunk, Now};
use parking_lot::Mutex;

use crate::Node;

/// The frame of an answer, size first, in the pieces it is written in.
pub type Frame = Vec<Chunk>;

/// What a handler says: typed, not yet encoded.
pub enum Answer<R> {
    /// The response.
    Now(R),
    /// The response, which may leave before what it speaks of would survive a power cut.
    Early(R),
    /// The response comes when something happens, or at a deadline.
    Later(Box<dyn Later<R>>),
    /// No response belongs on the wire (acks=0).
    Silent,
    /// The connection is to be closed, for this reason.
    Close(&'static str),
}

impl<R> From<R> for Answer<R> {
    fn from(response: R) -> Self {
        Answer::Now(response)
    }
}

/// An answer in waiting.
pub trait Later<R>: Send {
    /// Fires when it is worth polling again.
    fn signal(&self) -> &Arc<Signal>;

    /// The monotonic time at which `poll` answers in any case; `None` where only the signal counts.
    fn deadline(&self) -> Option<Duration>;

    /// The response, if its time has come.
    fn poll(&mut self, node: &Node, now: Now) -> Option<R>;
}

/// What the dispatcher hands the shell: encoded.
pub enum Reply {
    /// Send this frame.
    Send(Frame),
    /// Send what this will give.
    Wait(Box<dyn Wait>),
    /// Send nothing; the next request may be read.
    Silent,
    /// Close the connection; the text is for the log.
    Close(Box<str>),
}

/// An encoded answer in waiting: [`Later`] with the response's type and header taken care of.
pub trait Wait: Send {
    /// Fires when it is worth polling again.
    fn signal(&self) -> &Arc<Signal>;

    /// The monotonic time at which `poll` answers in any case.
    fn deadline(&self) -> Option<Duration>;

    /// The frame to send, if its time has come.
    fn poll(&mut self, node: &Node, now: Now) -> Option<Frame>;

    /// Whether what was asked for is done, and its answer waits just for a sync. It is owed even to those who stop.
    fn is_done(&self) -> bool;
}

/// A flag that somebody waits for: set by whoever makes the awaited thing happen, seen by one waiter.
#[derive(Default)]
pub struct Signal {
    is_set: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    /// Sets the flag and wakes the waiter, if there is one.
    pub fn fire(&self) {
        self.is_set.store(true, Ordering::Release);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }

    /// Takes the flag down; says whether it was up.
    pub fn take(&self) -> bool {
        self.is_set.swap(false, Ordering::AcqRel)
    }

    /// Whether the flag is up; if not, `waker` is woken once it is.
    pub fn is_set_or_wake(&self, waker: &Waker) -> bool {
        let mut slot = self.waker.lock();
        if self.is_set.load(Ordering::Acquire) {
            return true;
        }
        match &mut *slot {
            Some(known) if known.will_wake(waker) => {}
            other => *other = Some(waker.clone()),
        }
        false
    }
}

/// A place where one answer will be put, for requests that another request or a timer answers.
pub struct Slot<R> {
    signal: Arc<Signal>,
    answer: Mutex<Option<R>>,
}

impl<R> Default for Slot<R> {
    fn default() -> Self {
        Slot { signal: Arc::default(), answer: Mutex::new(None) }
    }
}

impl<R> Slot<R> {
    /// Puts the answer in and wakes whoever waits for it.
    pub fn fill(&self, answer: R) {
        *self.answer.lock() = Some(answer);
        self.signal.fire();
    }

    /// Takes the answer out, if it is there.
    pub fn take(&self) -> Option<R> {
        self.answer.lock().take()
    }

    /// Fires when the answer is there.
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_fired_before_anybody_waits_is_not_lost() {
        let signal = Signal::default();
        signal.fire();
        assert!(signal.is_set_or_wake(Waker::noop()));
        assert!(signal.take());
        assert!(!signal.take());
        assert!(!signal.is_set_or_wake(Waker::noop()));
    }

    #[test]
    fn a_slot_gives_its_answer_once() {
        let slot = Slot::default();
        assert_eq!(slot.take(), None);
        slot.fill(7);
        assert!(slot.signal().take());
        assert_eq!((slot.take(), slot.take()), (Some(7), None));
    }
}

//! Deadlines by key.
//!
//! The queue holds one entry for each key. Moving a deadline further away, which is what every heartbeat does, leaves the entry where it
//! is, to be put right when its time comes. So [`Timers::next`] may be early, never late.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// The deadlines of a machine, on the monotonic clock.
#[derive(Debug)]
pub(super) struct Timers<K> {
    armed: HashMap<K, Armed>,
    queue: BTreeSet<(Duration, K)>,
}

#[derive(Debug)]
struct Armed {
    deadline: Duration,
    /// The time of this key's entry in the queue, at or before `deadline`.
    queued: Duration,
}

impl<K: Clone + Ord + Hash> Timers<K> {
    pub fn new() -> Timers<K> {
        Timers { armed: HashMap::new(), queue: BTreeSet::new() }
    }

    /// Sets, or moves, the deadline of `key`.
    pub fn set(&mut self, key: K, deadline: Duration) {
        if let Some(armed) = self.armed.get_mut(&key)
            && armed.queued <= deadline
        {
            armed.deadline = deadline;
            return;
        }
        self.cancel(&key);
        self.armed.insert(key.clone(), Armed { deadline, queued: deadline });
        self.queue.insert((deadline, key));
    }

    /// Forgets the deadline of `key`, if it has one.
    pub fn cancel(&mut self, key: &K) {
        if let Some((key, armed)) = self.armed.remove_entry(key) {
            self.queue.remove(&(armed.queued, key));
        }
    }

    /// When to look again.
    pub fn next(&self) -> Option<Duration> {
        self.queue.first().map(|(time, _)| *time)
    }

    /// Takes one key whose deadline has come; the earliest first.
    pub fn pop_due(&mut self, now: Duration) -> Option<K> {
        while self.next()? <= now {
            let (_, key) = self.queue.pop_first().expect("there is a first entry");
            let armed = self.armed.get_mut(&key).expect("each entry in the queue has its key");
            if armed.deadline <= now {
                self.armed.remove(&key);
                return Some(key);
            }
            armed.queued = armed.deadline;
            self.queue.insert((armed.deadline, key));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_deadline_that_moved_away_fires_once_at_its_last_time() {
        let mut timers = Timers::new();
        timers.set("a", s(10));
        timers.set("a", s(20));
        timers.set("b", s(15));
        assert_eq!(timers.next(), Some(s(10)));
        assert_eq!(timers.pop_due(s(12)), None);
        assert_eq!(timers.next(), Some(s(15)));
        assert_eq!(timers.pop_due(s(30)), Some("b"));
        assert_eq!(timers.pop_due(s(30)), Some("a"));
        assert_eq!(timers.pop_due(s(30)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_deadline_that_moved_nearer_fires_at_the_nearer_time_only() {
        let mut timers = Timers::new();
        timers.set("a", s(300));
        timers.set("a", s(10));
        assert_eq!(timers.pop_due(s(10)), Some("a"));
        assert_eq!(timers.pop_due(s(300)), None);
    }

    #[test]
    fn a_cancelled_deadline_does_not_fire_and_may_be_set_anew() {
        let mut timers = Timers::new();
        timers.set("a", s(10));
        timers.cancel(&"a");
        timers.set("a", s(20));
        assert_eq!(timers.next(), Some(s(20)));
        assert_eq!(timers.pop_due(s(20)), Some("a"));
        assert_eq!(timers.next(), None);
    }
}

//! The deadline of a shard, to be seen without its lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::as_nanos;

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

/// When a machine wants to be woken, on the monotonic clock.
pub(crate) struct Deadline(AtomicU64);

impl Deadline {
    /// One that is due then; none at all is never due.
    pub fn new(deadline: Option<Duration>) -> Deadline {
        Deadline(AtomicU64::new(to_nanos(deadline)))
    }

    /// When it is due.
    pub fn get(&self) -> Option<Duration> {
        let deadline = self.0.load(Ordering::SeqCst);
        (deadline != NEVER).then(|| Duration::from_nanos(deadline))
    }

    /// Whether it has come.
    pub fn is_due(&self, now: Duration) -> bool {
        self.get().is_some_and(|deadline| deadline <= now)
    }

    /// Moves it; says whether it came closer.
    pub fn set(&self, deadline: Option<Duration>) -> bool {
        let deadline = to_nanos(deadline);
        deadline < self.0.swap(deadline, Ordering::SeqCst)
    }
}

fn to_nanos(time: Option<Duration>) -> u64 {
    time.map_or(NEVER, as_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_tells_when_it_came_closer_and_when_it_is_due() {
        let deadline = Deadline::new(None);
        assert!(!deadline.is_due(Duration::MAX));
        assert!(deadline.set(Some(Duration::from_secs(5))));
        assert!(!deadline.set(Some(Duration::from_secs(7))));
        assert_eq!(deadline.get(), Some(Duration::from_secs(7)));
        assert!(deadline.is_due(Duration::from_secs(7)) && !deadline.is_due(Duration::from_secs(6)));
        assert!(deadline.set(Some(Duration::from_secs(6))));
        assert!(!deadline.set(None));
        assert_eq!(deadline.get(), None);
    }
}

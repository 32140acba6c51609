//! What a coordinator remembers of its transactional ids without persisting it, and their timers.
//!
//! Each id has one deadline: when its open transaction times out, when its missing markers are tried again, or when
//! the idle id expires. The queue holds at most one entry for each id. A deadline that moves away leaves the entry
//! where it is, to be put right when its time comes, so that a busy id hardly ever touches the queue.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use oncelog_wire::{ProducerEpoch, ProducerId, Str, TopicPartition};

/// Of one transactional id. Starts empty when the log has been replayed.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The epoch before the present one, if its owner may retry the request that bumped it (KIP-360).
    pub last_producer_epoch: ProducerEpoch,
    /// Markers that could not be written so far; empty where none has been tried.
    pub unwritten: Vec<TopicPartition>,
    /// How often the markers have been tried in vain.
    pub attempts: u32,
    /// An InitProducerId to be answered when the abort it caused is complete.
    pub initialization: Option<Initialization>,
    deadline: Option<Duration>,
    queued: Option<Duration>,
}

/// An InitProducerId request that has passed the checks of its arguments.
#[derive(Debug)]
pub(super) struct Initialization {
    pub timeout_ms: i32,
    pub expected_epoch: Option<ProducerEpoch>,
    pub fresh: Option<ProducerId>,
}

/// Of all transactional ids.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: HashMap<Str, Session>,
    queue: BTreeSet<(Duration, Str)>,
}

impl Sessions {
    /// The epoch before the present one of `transactional_id`, or none.
    pub fn last_producer_epoch(&self, transactional_id: &str) -> ProducerEpoch {
        self.by_id.get(transactional_id).map_or(ProducerEpoch::NONE, |session| session.last_producer_epoch)
    }

    /// The session of `transactional_id`, made if need be.
    pub fn get(&mut self, transactional_id: &Str) -> &mut Session {
        if !self.by_id.contains_key(transactional_id.as_str()) {
            self.by_id.insert(transactional_id.clone(), Session::default());
        }
        self.by_id.get_mut(transactional_id.as_str()).expect("it was there, or has just been put there")
    }

    /// Replaces the deadline of `transactional_id`.
    pub fn set_deadline(&mut self, transactional_id: &Str, deadline: Option<Duration>) {
        let session = self.get(transactional_id);
        session.deadline = deadline;
        let Some(deadline) = deadline else { return };
        match session.queued {
            Some(queued) if queued <= deadline => {}
            queued => {
                session.queued = Some(deadline);
                if let Some(queued) = queued {
                    self.queue.remove(&(queued, transactional_id.clone()));
                }
                self.queue.insert((deadline, transactional_id.clone()));
            }
        }
    }

    /// A moment no later than the earliest deadline.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.queue.first().map(|&(deadline, _)| deadline)
    }

    /// Takes an id whose deadline has come; it has none afterwards.
    pub fn take_due(&mut self, now: Duration) -> Option<Str> {
        while self.next_deadline()? <= now {
            let (_, transactional_id) = self.queue.pop_first().expect("it has just been looked at");
            let Some(session) = self.by_id.get_mut(transactional_id.as_str()) else { continue };
            session.queued = None;
            match session.deadline {
                Some(deadline) if deadline > now => self.set_deadline(&transactional_id, Some(deadline)),
                Some(_) => {
                    session.deadline = None;
                    return Some(transactional_id);
                }
                None => {}
            }
        }
        None
    }

    /// Forgets `transactional_id`.
    pub fn remove(&mut self, transactional_id: &Str) {
        if let Some(Session { queued: Some(queued), .. }) = self.by_id.remove(transactional_id.as_str()) {
            self.queue.remove(&(queued, transactional_id.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_queue_holds_one_entry_for_each_id_however_often_deadlines_move() {
        let mut sessions = Sessions::default();
        let id = Str::from_static("a");
        for at in 0..100 {
            sessions.set_deadline(&id, Some(secs(at + 60)));
            sessions.set_deadline(&id, Some(secs(at + 600)));
            sessions.set_deadline(&id, Some(secs(50)));
            sessions.set_deadline(&id, Some(secs(at + 600)));
        }
        assert_eq!(sessions.queue.len(), 1);
    }

    #[test]
    fn an_id_is_due_at_its_deadline_and_not_at_an_earlier_one_it_once_had() {
        let mut sessions = Sessions::default();
        let id = Str::from_static("a");
        sessions.set_deadline(&id, Some(secs(60)));
        sessions.set_deadline(&id, Some(secs(100)));
        assert_eq!(sessions.next_deadline(), Some(secs(60)));
        assert_eq!(sessions.take_due(secs(60)), None);
        assert_eq!(sessions.next_deadline(), Some(secs(100)));
        assert_eq!(sessions.take_due(secs(100)), Some(id.clone()));
        assert_eq!(sessions.take_due(secs(100)), None);
        assert_eq!(sessions.next_deadline(), None);
        sessions.set_deadline(&id, Some(secs(200)));
        sessions.remove(&id);
        assert_eq!(sessions.next_deadline(), None);
    }
}

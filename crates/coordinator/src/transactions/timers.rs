//! What happens by itself: transactions time out, missing markers are tried again, idle ids expire.

use std::time::Duration;

use oncelog_wire::{Now, Str, Timestamp};

use super::metadata::{End, TransactionState};
use super::{Coordinator, Output, Record};

/// How many ids one tick deals with, so that its batch stays small. The rest are still due.
const IDS_A_TICK: usize = 256;

impl Coordinator {
    pub(super) fn tick(&mut self, now: Now, output: &mut Output) {
        for _ in 0..IDS_A_TICK {
            let Some(transactional_id) = self.sessions.take_due(now.monotonic) else { return };
            let Some(current) = self.durable.get(&transactional_id) else {
                self.sessions.remove(&transactional_id);
                continue;
            };
            match current.state {
                TransactionState::Ongoing => {
                    self.prepare_end(transactional_id, &End::FENCE, now, output);
                }
                TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                    let prepared = current.clone();
                    self.send_markers(transactional_id, prepared, now, output);
                }
                TransactionState::Empty
                | TransactionState::CompleteCommit
                | TransactionState::CompleteAbort => {
                    self.sessions.remove(&transactional_id);
                    output.records.push(Record { transactional_id, metadata: None });
                }
            }
        }
    }

    /// Lets an id expire if nothing happens to it from now on.
    pub(super) fn expire_later(&mut self, transactional_id: &Str, now: Now) {
        self.sessions
            .set_deadline(transactional_id, Some(now.monotonic + self.config.transactional_id_expiration));
    }

    /// Takes up what the log says was left undone.
    pub(super) fn loaded(&mut self, is_after_power_cut: bool, now: Now, output: &mut Output) {
        let mut ids: Vec<Str> = self.durable.keys().cloned().collect();
        // So that the same log always gives the same decisions.
        ids.sort_unstable();
        for transactional_id in ids {
            let current = &self.durable[&transactional_id];
            let deadline = match current.state {
                TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                    if current.partitions.is_empty() {
                        let completed = current.completed(now.wall);
                        self.complete_end(transactional_id, completed, now, output);
                    } else {
                        let prepared = current.clone();
                        self.send_markers(transactional_id, prepared, now, output);
                    }
                    continue;
                }
                TransactionState::Ongoing if is_after_power_cut => {
                    self.prepare_end(transactional_id, &End::FENCE, now, output);
                    continue;
                }
                TransactionState::Ongoing => {
                    current.timeout().map(|timeout| remaining(current.start, timeout, now.wall))
                }
                _ => Some(remaining(current.last_update, self.config.transactional_id_expiration, now.wall)),
            };
            self.sessions.set_deadline(&transactional_id, deadline.map(|deadline| now.monotonic + deadline));
        }
    }
}

/// What is left of `span` since `start`; all of it where the wall clock has been set back behind `start`.
fn remaining(start: Timestamp, span: Duration, now: Timestamp) -> Duration {
    span.saturating_sub(Duration::from_millis(now.ms_since(start).max(0) as u64))
}

//! Offsets nobody has used for `offsets.retention.minutes`, and groups that have nothing left.

use oncelog_wire::{Now, Timestamp};

use super::durable::{DurableGroup, PartitionOffsets};
use super::group::{Group, State};
use super::{Coordinator, Output, record};

/// From when on the retention of a group's offsets counts.
enum Retention {
    /// From each commit.
    Commit,
    /// From the moment the group became empty.
    Empty(Timestamp),
    /// They are in use.
    Never,
}

impl Coordinator {
    /// Deletes what has expired. Nothing expires for which a transaction is open.
    pub(super) fn expire_offsets(&self, output: &mut Output, now: Now) {
        for (group_id, durable) in self.durable.groups() {
            let session = self.groups.get(group_id);
            let retention = retention(durable, session);
            let mut is_left = session.is_some();
            for (topic, partitions) in &durable.offsets {
                let is_in_use = session.is_some_and(|group| group.is_subscribed_to(topic));
                for (&partition, offsets) in partitions {
                    if !is_in_use && self.is_expired(offsets, &retention, now) {
                        output.records.push(record::offset_commit(group_id, topic, partition, None));
                    } else {
                        is_left = true;
                    }
                }
            }
            if !is_left {
                output.records.push(record::group_metadata(group_id, None));
            }
        }
    }

    fn is_expired(&self, offsets: &PartitionOffsets, retention: &Retention, now: Now) -> bool {
        let Some(committed) = offsets.committed.as_ref().filter(|_| offsets.pending.is_empty()) else {
            return false;
        };
        let value = &committed.value;
        let base = match retention {
            Retention::Never => return false,
            _ if value.expire_timestamp != Timestamp::NONE => return now.wall >= value.expire_timestamp,
            Retention::Commit => value.commit_timestamp,
            Retention::Empty(since) if *since == Timestamp::NONE => value.commit_timestamp,
            Retention::Empty(since) => *since,
        };
        let age_ms = now.wall.ms_since(base);
        u64::try_from(age_ms).is_ok_and(|ms| u128::from(ms) >= self.config.offsets_retention.as_millis())
    }
}

fn retention(durable: &DurableGroup, session: Option<&Group>) -> Retention {
    match session {
        Some(group) if group.state != State::Empty => {
            let is_known = group.is_consumer_group() && group.subscribed_topics.is_some();
            if group.state == State::Stable && is_known { Retention::Commit } else { Retention::Never }
        }
        _ => match &durable.metadata {
            Some(metadata) if durable.protocol_type().is_some() => {
                Retention::Empty(metadata.current_state_timestamp)
            }
            _ => Retention::Commit,
        },
    }
}

//! The offsets a group has committed.

use oncelog_wire::{Offset, find_coordinator, offset_commit, offset_fetch};

use crate::client::only;
use crate::error::{check, check_with};
use crate::{Client, Result};

/// Which kind of name a coordinator is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoordinatorOf {
    Group,
    Transaction,
}

impl Client {
    /// Waits until the broker has the coordinator of `key`, which makes it create what a coordinator needs.
    pub(crate) fn await_coordinator(&mut self, of: CoordinatorOf, key: &str) -> Result<()> {
        let request = find_coordinator::Request {
            key: key.into(),
            key_type: of as i8,
            coordinator_keys: vec![key.into()],
        };
        self.retry(|client| {
            let answer = client.call(&request)?;
            check_with(answer.error_code, answer.error_message.as_deref())?;
            answer
                .coordinators
                .iter()
                .try_for_each(|found| check_with(found.error_code, found.error_message.as_deref()))
        })
    }

    /// Commits an offset for a group without members.
    pub fn commit_offset(&mut self, group: &str, topic: &str, partition: i32, offset: Offset) -> Result<()> {
        self.await_coordinator(CoordinatorOf::Group, group)?;
        self.retry(|client| {
            let request = offset_commit::Request {
                group_id: group.into(),
                generation_id_or_member_epoch: -1,
                topics: vec![offset_commit::OffsetCommitRequestTopic {
                    name: topic.into(),
                    topic_id: client.topic_id(topic)?,
                    partitions: vec![offset_commit::OffsetCommitRequestPartition {
                        partition_index: partition,
                        committed_offset: offset,
                        ..Default::default()
                    }],
                }],
                ..Default::default()
            };
            check(only(only(client.call(&request)?.topics)?.partitions)?.error_code)
        })
    }

    /// The offset a group has committed, if it has; waits while a transaction is about to change it.
    pub fn committed_offset(&mut self, group: &str, topic: &str, partition: i32) -> Result<Option<Offset>> {
        self.await_coordinator(CoordinatorOf::Group, group)?;
        self.retry(|client| {
            let topic_id = client.topic_id(topic)?;
            let answer = client.call(&offset_fetch::Request {
                group_id: group.into(),
                topics: Some(vec![offset_fetch::OffsetFetchRequestTopic {
                    name: topic.into(),
                    partition_indexes: vec![partition],
                }]),
                groups: vec![offset_fetch::OffsetFetchRequestGroup {
                    group_id: group.into(),
                    topics: Some(vec![offset_fetch::OffsetFetchRequestTopics {
                        name: topic.into(),
                        topic_id,
                        partition_indexes: vec![partition],
                    }]),
                    ..Default::default()
                }],
                require_stable: true,
            })?;
            check(answer.error_code)?;
            let (offset, code) = if answer.groups.is_empty() {
                let found = only(only(answer.topics)?.partitions)?;
                (found.committed_offset, found.error_code)
            } else {
                let group = only(answer.groups)?;
                check(group.error_code)?;
                let found = only(only(group.topics)?.partitions)?;
                (found.committed_offset, found.error_code)
            };
            check(code)?;
            Ok((offset != Offset::NONE).then_some(offset))
        })
    }
}

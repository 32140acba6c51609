//! Committing, reading and deleting offsets.

use oncelog_wire::internal::offset_commit::Value;
use oncelog_wire::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
};
use oncelog_wire::{
    ErrorCode, LeaderEpoch, Now, Offset, Str, Timestamp, Uuid, offset_commit, offset_delete,
    txn_offset_commit,
};

use super::durable::PartitionOffsets;
use super::group::{Group, State};
use super::record;
use super::{Coordinator, Output};

/// The first version in which a commit by a member of an unknown group says so.
const GROUP_ID_NOT_FOUND_FROM: i16 = 9;

/// Who commits, as the request has it.
struct Committer<'a> {
    member_id: &'a Str,
    instance_id: Option<&'a Str>,
    generation: i32,
}

impl Coordinator {
    pub(super) fn commit(
        &mut self,
        version: i16,
        request: &offset_commit::Request,
        output: &mut Output,
        now: Now,
    ) -> offset_commit::Response {
        let generation = request.generation_id_or_member_epoch;
        let committer = Committer {
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_ref(),
            generation,
        };
        let error_code = self.check_commit(&request.group_id, version, &committer).err();
        if error_code.is_none() {
            self.keep_session(&request.group_id, &request.member_id, output, now);
        }
        let expire_timestamp = match request.retention_time_ms {
            ..0 => Timestamp::NONE,
            ms => now.wall.plus_ms(ms),
        };
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let partitions = topic.partitions.iter().map(|partition| {
                let commit = Commit {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.as_ref(),
                    expire_timestamp,
                    topic_id: topic.topic_id,
                };
                let error_code = error_code.unwrap_or_else(|| {
                    self.push_commit(
                        &request.group_id,
                        &topic.name,
                        partition.partition_index,
                        commit,
                        output,
                        now,
                    )
                });
                offset_commit::OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code,
                }
            });
            topics.push(offset_commit::OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: partitions.collect(),
            });
        }
        offset_commit::Response { topics, ..Default::default() }
    }

    pub(super) fn commit_in_transaction(
        &mut self,
        request: &txn_offset_commit::Request,
        output: &mut Output,
        now: Now,
    ) -> txn_offset_commit::Response {
        let committer = Committer {
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_ref(),
            generation: request.generation_id,
        };
        let error_code = self.check_commit_in_transaction(&request.group_id, &committer).err();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let partitions = topic.partitions.iter().map(|partition| {
                let commit = Commit {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.as_ref(),
                    expire_timestamp: Timestamp::NONE,
                    topic_id: Uuid::ZERO,
                };
                let error_code = error_code.unwrap_or_else(|| {
                    self.push_commit(
                        &request.group_id,
                        &topic.name,
                        partition.partition_index,
                        commit,
                        output,
                        now,
                    )
                });
                txn_offset_commit::TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code,
                }
            });
            topics.push(txn_offset_commit::TxnOffsetCommitResponseTopic {
                name: topic.name.clone(),
                partitions: partitions.collect(),
            });
        }
        txn_offset_commit::Response { topics, ..Default::default() }
    }

    fn check_commit(&self, group_id: &Str, version: i16, committer: &Committer<'_>) -> Result<(), ErrorCode> {
        let Some(group) = self.groups.get(group_id).filter(|group| group.state != State::Empty) else {
            return match committer.generation {
                // An administrator, or a consumer that assigns its partitions itself.
                ..0 => Ok(()),
                _ if self.durable.group(group_id).is_some() => Err(ErrorCode::UnknownMemberId),
                _ if version >= GROUP_ID_NOT_FOUND_FROM => Err(ErrorCode::GroupIdNotFound),
                _ => Err(ErrorCode::IllegalGeneration),
            };
        };
        if committer.is_nobody() {
            return Err(ErrorCode::UnknownMemberId);
        }
        committer.check(group)?;
        // The member knows the generation, so it has joined; its assignment is not out yet, though.
        if group.state == State::CompletingRebalance { Err(ErrorCode::RebalanceInProgress) } else { Ok(()) }
    }

    fn check_commit_in_transaction(
        &self,
        group_id: &Str,
        committer: &Committer<'_>,
    ) -> Result<(), ErrorCode> {
        if group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        match self.groups.get(group_id).filter(|group| group.state != State::Empty) {
            // Versions before 3 do not say who commits.
            Some(group) => {
                if committer.is_nobody() {
                    Ok(())
                } else {
                    committer.check(group)
                }
            }
            None if committer.generation < 0 => Ok(()),
            None if self.durable.group(group_id).is_some() => Err(ErrorCode::UnknownMemberId),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// A commit shows that the member is alive, as a heartbeat does.
    fn keep_session(&mut self, group_id: &Str, member_id: &Str, output: &mut Output, now: Now) {
        self.with_group(group_id, output, now, |group, turn| {
            if matches!(group.state, State::Stable | State::PreparingRebalance(_)) {
                group.restart_session(member_id, turn);
            }
        });
    }

    fn push_commit(
        &self,
        group_id: &Str,
        topic: &Str,
        partition: i32,
        commit: Commit<'_>,
        output: &mut Output,
        now: Now,
    ) -> ErrorCode {
        let metadata = commit.metadata.cloned().unwrap_or_default();
        if is_longer_than(&metadata, self.config.offset_metadata_max_bytes) {
            return ErrorCode::OffsetMetadataTooLarge;
        }
        let has_expiry = commit.expire_timestamp != Timestamp::NONE;
        let value = Value {
            offset: commit.offset,
            // The version with an expiry has no room for the epoch.
            leader_epoch: if has_expiry { LeaderEpoch::NONE } else { commit.leader_epoch },
            metadata,
            commit_timestamp: now.wall,
            expire_timestamp: commit.expire_timestamp,
            topic_id: if has_expiry { Uuid::ZERO } else { commit.topic_id },
        };
        output.records.push(record::offset_commit(group_id, topic, partition, Some(value)));
        ErrorCode::None
    }

    /// The committed offsets of a group: of the partitions asked for, or of all.
    ///
    /// With `require_stable`, partitions for which a transaction is open are answered UNSTABLE_OFFSET_COMMIT (KIP-447).
    /// Topic names must be filled in; topic ids may be.
    pub fn fetch_offsets(
        &self,
        request: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        let group = self.durable.group(&request.group_id);
        let mut topics = Vec::new();
        if let Some(wanted) = &request.topics {
            for topic in wanted {
                let partitions = topic.partition_indexes.iter().map(|&index| {
                    let offsets = group.and_then(|group| group.partition(&topic.name, index));
                    fetched(index, offsets, require_stable, topic.topic_id)
                });
                topics.push(OffsetFetchResponseTopics {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    partitions: partitions.collect(),
                });
            }
        } else if let Some(group) = group {
            for (topic, partitions) in &group.offsets {
                let committed = partitions.iter().filter(|(_, offsets)| offsets.committed.is_some());
                let partitions: Vec<_> = committed
                    .map(|(&index, offsets)| fetched(index, Some(offsets), require_stable, Uuid::ZERO))
                    .collect();
                if !partitions.is_empty() {
                    let topic =
                        OffsetFetchResponseTopics { name: topic.clone(), partitions, ..Default::default() };
                    topics.push(topic);
                }
            }
        }
        OffsetFetchResponseGroup { group_id: request.group_id.clone(), topics, ..Default::default() }
    }

    pub(super) fn delete_offsets(
        &mut self,
        request: &offset_delete::Request,
        output: &mut Output,
    ) -> offset_delete::Response {
        let refuse = |error_code| offset_delete::Response { error_code, ..Default::default() };
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let Some(durable) = self.durable.group(&request.group_id) else {
            return refuse(ErrorCode::GroupIdNotFound);
        };
        let session = self.groups.get(&request.group_id).filter(|group| group.state != State::Empty);
        if session.is_some_and(|group| !group.is_consumer_group()) {
            return refuse(ErrorCode::NonEmptyGroup);
        }
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let is_in_use = session.is_some_and(|group| group.is_subscribed_to(&topic.name));
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                if !is_in_use && durable.partition(&topic.name, partition.partition_index).is_some() {
                    let index = partition.partition_index;
                    output.records.push(record::offset_commit(&request.group_id, &topic.name, index, None));
                }
                partitions.push(offset_delete::OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: if is_in_use { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None },
                });
            }
            topics.push(offset_delete::OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
        }
        offset_delete::Response { topics, ..Default::default() }
    }

    /// A deleted topic takes all offsets committed for it along, those of open transactions included.
    pub(super) fn delete_topic(&mut self, topic: &str, output: &mut Output) {
        let topic = &Str::from(topic);
        for (group_id, group) in self.durable.groups() {
            for &partition in group.offsets.get(topic).into_iter().flatten().map(|(partition, _)| partition) {
                output.records.push(record::offset_commit(group_id, topic, partition, None));
            }
        }
    }

    /// Deletes a group without members, with all its offsets.
    pub(super) fn delete_group(&mut self, group_id: &Str, output: &mut Output) -> ErrorCode {
        let Some(durable) = self.durable.group(group_id) else { return ErrorCode::GroupIdNotFound };
        if self.groups.get(group_id).is_some_and(|group| group.state != State::Empty) {
            return ErrorCode::NonEmptyGroup;
        }
        for (topic, partitions) in &durable.offsets {
            for &partition in partitions.keys() {
                output.records.push(record::offset_commit(group_id, topic, partition, None));
            }
        }
        output.records.push(record::group_metadata(group_id, None));
        self.forget_group(group_id);
        ErrorCode::None
    }
}

/// What is to be committed for a partition.
struct Commit<'a> {
    offset: Offset,
    leader_epoch: LeaderEpoch,
    metadata: Option<&'a Str>,
    expire_timestamp: Timestamp,
    topic_id: Uuid,
}

impl Committer<'_> {
    /// Whether the request does not say who commits.
    fn is_nobody(&self) -> bool {
        self.generation < 0 && self.member_id.is_empty() && self.instance_id.is_none()
    }

    fn check(&self, group: &Group) -> Result<(), ErrorCode> {
        group.check_member(self.member_id, self.instance_id)?;
        if self.generation == group.generation { Ok(()) } else { Err(ErrorCode::IllegalGeneration) }
    }
}

/// Whether Java would count more than `max` characters in `text`.
fn is_longer_than(text: &str, max: usize) -> bool {
    text.len() > max && text.encode_utf16().count() > max
}

fn fetched(
    partition_index: i32,
    offsets: Option<&PartitionOffsets>,
    require_stable: bool,
    topic_id: Uuid,
) -> OffsetFetchResponsePartitions {
    let none = OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: Offset::NONE,
        metadata: Some(Str::EMPTY),
        ..Default::default()
    };
    let Some(offsets) = offsets else { return none };
    if require_stable && !offsets.pending.is_empty() {
        return OffsetFetchResponsePartitions { error_code: ErrorCode::UnstableOffsetCommit, ..none };
    }
    // An offset of an earlier topic of the same name is no offset of this one.
    let is_of_topic = |id: Uuid| id.is_zero() || topic_id.is_zero() || id == topic_id;
    match &offsets.committed {
        Some(committed) if is_of_topic(committed.value.topic_id) => OffsetFetchResponsePartitions {
            committed_offset: committed.value.offset,
            committed_leader_epoch: committed.value.leader_epoch,
            metadata: Some(committed.value.metadata.clone()),
            ..none
        },
        _ => none,
    }
}

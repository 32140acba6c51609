//! What outlives a restart: the last record of each group, committed offsets, and the offsets of open transactions.
//!
//! Changes in `apply` and with end-of-transaction markers only, live and on replay alike.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;
use oncelog_wire::internal::{group_metadata, offset_commit};
use oncelog_wire::{Offset, ProducerId, Str};

use super::record::Record;

/// Where a record was found in the partition of `__consumer_offsets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The record's offset.
    pub offset: Offset,
    /// The producer, if the record is part of a transaction.
    pub producer_id: Option<ProducerId>,
}

/// The durable state of one partition of `__consumer_offsets`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Durable {
    groups: IndexMap<Str, DurableGroup>,
    /// Where each open transaction has pending offsets. Some may be gone by the time it ends.
    open_transactions: HashMap<ProducerId, Vec<OffsetKey>>,
}

/// What is durable of one group. A group exists if it has an entry, empty as that may be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DurableGroup {
    /// The last generation that was written. A group that only has offsets (a "simple" one) has none.
    pub metadata: Option<group_metadata::Value>,
    pub offsets: IndexMap<Str, BTreeMap<i32, PartitionOffsets>>,
}

/// The offsets of one partition: at least one of the two.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PartitionOffsets {
    pub committed: Option<CommittedOffset>,
    /// What open transactions would commit, one for each producer.
    pub pending: Vec<(ProducerId, CommittedOffset)>,
}

/// A committed offset and where its record is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CommittedOffset {
    pub value: offset_commit::Value,
    record_offset: Offset,
}

#[derive(Clone, Debug, PartialEq)]
struct OffsetKey {
    group_id: Str,
    topic: Str,
    partition: i32,
}

impl Durable {
    pub fn group(&self, group_id: &str) -> Option<&DurableGroup> {
        self.groups.get(group_id)
    }

    pub fn groups(&self) -> impl Iterator<Item = (&Str, &DurableGroup)> {
        self.groups.iter()
    }

    pub fn apply(&mut self, record: &Record, position: Position) {
        match record {
            Record::OffsetCommit(key, Some(value)) => self.put_offset(key, value, position),
            Record::OffsetCommit(key, None) => self.remove_offset(key),
            Record::GroupMetadata(key, Some(value)) => {
                self.group_entry(&key.group).metadata = Some(value.clone());
            }
            Record::GroupMetadata(key, None) => {
                let Some(group) = self.groups.get_mut(&key.group) else { return };
                group.metadata = None;
                if group.offsets.is_empty() {
                    self.groups.swap_remove(&key.group);
                }
            }
        }
    }

    fn group_entry(&mut self, group_id: &Str) -> &mut DurableGroup {
        if !self.groups.contains_key(group_id) {
            self.groups.insert(group_id.detached(), DurableGroup::default());
        }
        self.groups.get_mut(group_id).expect("it was there or was inserted")
    }

    fn put_offset(&mut self, key: &offset_commit::Key, value: &offset_commit::Value, position: Position) {
        let value = offset_commit::Value { metadata: value.metadata.detached(), ..value.clone() };
        let committed = CommittedOffset { value, record_offset: position.offset };
        let group = self.group_entry(&key.group);
        if !group.offsets.contains_key(&key.topic) {
            group.offsets.insert(key.topic.detached(), BTreeMap::new());
        }
        let partitions = group.offsets.get_mut(&key.topic).expect("it was there or was inserted");
        let offsets = partitions.entry(key.partition).or_default();
        let Some(producer_id) = position.producer_id else {
            offsets.committed = Some(committed);
            return;
        };
        match offsets.pending.iter_mut().find(|(id, _)| *id == producer_id) {
            Some((_, pending)) => *pending = committed,
            None => {
                offsets.pending.push((producer_id, committed));
                let key = OffsetKey {
                    group_id: key.group.detached(),
                    topic: key.topic.detached(),
                    partition: key.partition,
                };
                self.open_transactions.entry(producer_id).or_default().push(key);
            }
        }
    }

    /// A tombstone takes what is committed and what is pending.
    fn remove_offset(&mut self, key: &offset_commit::Key) {
        self.change_offsets(&key.group, &key.topic, key.partition, |offsets| {
            *offsets = PartitionOffsets::default()
        });
    }

    /// Ends a producer's transaction. Of two commits the one whose *record* is later wins, whenever their transactions end.
    pub fn end_transaction(&mut self, producer_id: ProducerId, is_commit: bool) {
        for OffsetKey { group_id, topic, partition } in
            self.open_transactions.remove(&producer_id).unwrap_or_default()
        {
            self.change_offsets(&group_id, &topic, partition, |offsets| {
                let Some(at) = offsets.pending.iter().position(|(id, _)| *id == producer_id) else { return };
                let (_, pending) = offsets.pending.swap_remove(at);
                let is_later = |committed: &CommittedOffset| committed.record_offset > pending.record_offset;
                if is_commit && !offsets.committed.as_ref().is_some_and(is_later) {
                    offsets.committed = Some(pending);
                }
            });
        }
    }

    /// Changes what there is for a partition, and leaves no empty entries behind.
    fn change_offsets(
        &mut self,
        group_id: &Str,
        topic: &Str,
        partition: i32,
        change: impl FnOnce(&mut PartitionOffsets),
    ) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        let Some(partitions) = group.offsets.get_mut(topic) else { return };
        let Some(offsets) = partitions.get_mut(&partition) else { return };
        change(offsets);
        if *offsets == PartitionOffsets::default() {
            partitions.remove(&partition);
            if partitions.is_empty() {
                group.offsets.swap_remove(topic);
            }
        }
    }
}

impl DurableGroup {
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionOffsets> {
        self.offsets.get(topic)?.get(&partition)
    }

    /// The protocol type; a simple group has none.
    pub fn protocol_type(&self) -> Option<&Str> {
        self.metadata.as_ref().map(|metadata| &metadata.protocol_type).filter(|name| !name.is_empty())
    }
}

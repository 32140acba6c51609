//! Groups as the records of `__consumer_offsets` leave them: members, offsets, and what open transactions would commit.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use oncelog_coordinator::groups::Record;
use oncelog_log::Disk;
use oncelog_records::{EndTransactionMarker, MarkerKind};
use oncelog_wire::internal::consumer_protocol::Assignment;
use oncelog_wire::internal::{group_metadata, offset_commit};
use oncelog_wire::{Offset, ProducerId, Record as _, Str, TopicPartition};

use super::{for_each_record, or_dash, say_unread, some_of, walk};
use crate::directory::Directory;
use crate::error::InspectError;
use crate::time::utc;

/// The groups of one partition of `__consumer_offsets`.
#[derive(Default)]
struct Groups(BTreeMap<Str, Group>);

#[derive(Default)]
struct Group {
    metadata: Option<group_metadata::Value>,
    offsets: BTreeMap<TopicPartition, Committed>,
    pending: Vec<(ProducerId, TopicPartition, Committed)>,
}

struct Committed {
    value: offset_commit::Value,
    record_offset: Offset,
}

/// Prints all groups, or one.
///
/// # Errors
/// Where the directory is not one of oncelog, or a file cannot be read.
pub fn dump_groups(
    disk: &dyn Disk,
    root: &Path,
    group_id: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), InspectError> {
    let directory = Directory::open(disk, root)?;
    for log in directory.logs.iter().filter(|log| log.topic == "__consumer_offsets") {
        let mut groups = Groups::default();
        walk(&directory, log, Offset::ZERO, out, &mut |batch, out| {
            if batch.is_control() {
                if let Ok(marker) = EndTransactionMarker::parse(batch) {
                    groups.end_transaction(batch.producer_id(), marker.kind);
                }
                return Ok(ControlFlow::Continue(()));
            }
            let producer_id = batch.is_transactional().then(|| batch.producer_id());
            let result =
                for_each_record(batch, |offset, key, value| match Record::decode(&key, value.as_ref()) {
                    Ok(Some(record)) if group_id.is_none_or(|id| group_of(&record) == id) => {
                        groups.take(record, offset, producer_id);
                        Ok(())
                    }
                    Ok(_) => Ok(()),
                    Err(error) => writeln!(out, "!! {log}, offset {offset}: {error}"),
                });
            say_unread(result, batch, out)?;
            Ok(ControlFlow::Continue(()))
        })?;
        for (id, group) in &groups.0 {
            group.dump(id, log, out)?;
        }
    }
    Ok(())
}

fn group_of(record: &Record) -> &str {
    match record {
        Record::OffsetCommit(key, _) => key.group.as_str(),
        Record::GroupMetadata(key, _) => key.group.as_str(),
    }
}

impl Groups {
    fn take(&mut self, record: Record, record_offset: Offset, producer_id: Option<ProducerId>) {
        match record {
            Record::GroupMetadata(key, value) => {
                let group = self.0.entry(key.group.clone()).or_default();
                group.metadata = value;
                if group.metadata.is_none() && group.offsets.is_empty() && group.pending.is_empty() {
                    self.0.remove(&key.group);
                }
            }
            Record::OffsetCommit(key, value) => {
                let group = self.0.entry(key.group).or_default();
                let partition = TopicPartition::new(key.topic, key.partition);
                let Some(value) = value else {
                    group.offsets.remove(&partition);
                    group.pending.retain(|(_, other, _)| *other != partition);
                    return;
                };
                let committed = Committed { value, record_offset };
                match producer_id {
                    None => _ = group.offsets.insert(partition, committed),
                    Some(id) => {
                        group.pending.retain(|(other, of, _)| (*other, of) != (id, &partition));
                        group.pending.push((id, partition, committed));
                    }
                }
            }
        }
    }

    /// Of two commits the one whose record is later wins, whenever their transactions end.
    fn end_transaction(&mut self, producer_id: ProducerId, kind: MarkerKind) {
        for group in self.0.values_mut() {
            for (id, partition, pending) in std::mem::take(&mut group.pending) {
                let is_later = |known: &Committed| known.record_offset > pending.record_offset;
                if id != producer_id {
                    group.pending.push((id, partition, pending));
                } else if kind == MarkerKind::Commit && !group.offsets.get(&partition).is_some_and(is_later) {
                    group.offsets.insert(partition, pending);
                }
            }
        }
    }
}

impl Group {
    fn dump(&self, id: &Str, log: &TopicPartition, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "group '{id}' in {log}: ")?;
        match &self.metadata {
            None => writeln!(out, "offsets only")?,
            Some(metadata) => {
                writeln!(
                    out,
                    "{} members, generation {}, type {}, protocol {}, since {}",
                    metadata.members.len(),
                    metadata.generation,
                    or_dash(&metadata.protocol_type),
                    or_dash(metadata.protocol.as_deref().unwrap_or_default()),
                    utc(metadata.current_state_timestamp),
                )?;
                for member in &metadata.members {
                    let is_leader = metadata.leader.as_ref() == Some(&member.member_id);
                    writeln!(
                        out,
                        "    {}{} client={} host={} instance={} assigned: {}",
                        member.member_id,
                        if is_leader { " (leader)" } else { "" },
                        or_dash(&member.client_id),
                        or_dash(&member.client_host),
                        or_dash(member.group_instance_id.as_deref().unwrap_or_default()),
                        assigned(&member.assignment),
                    )?;
                }
            }
        }
        for (partition, committed) in &self.offsets {
            committed.dump(partition, "", out)?;
        }
        for (producer_id, partition, committed) in &self.pending {
            let note = format!(" pending in the open transaction of producer {producer_id}");
            committed.dump(partition, &note, out)?;
        }
        Ok(())
    }
}

impl Committed {
    fn dump(&self, partition: &TopicPartition, note: &str, out: &mut dyn Write) -> io::Result<()> {
        let offset_commit::Value { offset, commit_timestamp, metadata, .. } = &self.value;
        write!(out, "    {:40} {offset:>12} at {}{note}", partition.to_string(), utc(*commit_timestamp))?;
        match metadata.is_empty() {
            true => writeln!(out),
            false => writeln!(out, " metadata={:?}", metadata.as_str()),
        }
    }
}

/// The partitions of an assignment, where it is one of a consumer.
fn assigned(bytes: &Bytes) -> String {
    let Ok(assignment) = Assignment::from_versioned_bytes(bytes.clone()) else {
        return format!("{} bytes", bytes.len());
    };
    let of_topic = |topic: oncelog_wire::internal::consumer_protocol::TopicPartition| {
        let name = topic.topic;
        topic.partitions.into_iter().map(move |partition| format!("{name}-{partition}"))
    };
    some_of(&assignment.assigned_partitions.into_iter().flat_map(of_topic).collect::<Vec<_>>())
}

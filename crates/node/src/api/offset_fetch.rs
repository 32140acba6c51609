//! OffsetFetch: how far groups have read. Before version 8 a request is about one group.

use std::collections::HashSet;

use oncelog_coordinator::groups::Coordinator;
use oncelog_wire::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics, Request, Response,
};
use oncelog_wire::{ErrorCode, LeaderEpoch, Offset, Str};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

/// The first version that is about several groups.
const GROUPS_SINCE: i16 = 8;
/// The first version that names topics by their ids.
const TOPIC_ID_SINCE: i16 = 10;
/// The first version that has an error for the whole group.
const GROUP_ERROR_SINCE: i16 = 2;

pub(crate) fn handle(node: &Node, context: &Context<'_>, mut request: Request) -> Answer<Response> {
    let require_stable = request.require_stable;
    if context.api_version >= GROUPS_SINCE {
        // All offsets of a group are told once, however often a small request asks for them.
        let mut told = HashSet::new();
        request.groups.retain(|group| group.topics.is_some() || told.insert(group.group_id.clone()));
        let groups = request.groups.into_iter().map(|group| fetch(node, context, group, require_stable));
        return Response { groups: groups.collect(), ..Response::default() }.into();
    }
    let topics = request.topics.map(|topics| {
        let topic = |topic: OffsetFetchRequestTopic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        };
        topics.into_iter().map(topic).collect()
    });
    let group =
        OffsetFetchRequestGroup { group_id: request.group_id, topics, ..OffsetFetchRequestGroup::default() };
    flat(context.api_version, fetch(node, context, group, require_stable)).into()
}

fn fetch(
    node: &Node,
    context: &Context<'_>,
    mut group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let unknown = match context.api_version >= TOPIC_ID_SINCE {
        true => take_unknown(node, &mut group),
        false => Vec::new(),
    };
    let look = |coordinator: &Coordinator| coordinator.fetch_offsets(&group, require_stable);
    match node.groups.look_at(node, &group.group_id, context.now, look) {
        Ok(mut fetched) => {
            if context.api_version >= TOPIC_ID_SINCE && group.topics.is_none() {
                add_topic_ids(node, &mut fetched);
            }
            fetched.topics.extend(unknown);
            fetched
        }
        Err(error_code) => refuse(group, context.api_version, error_code),
    }
}

/// Gives the topics their names, and takes out those whose ids nobody knows; gives the answers for them.
fn take_unknown(node: &Node, group: &mut OffsetFetchRequestGroup) -> Vec<OffsetFetchResponseTopics> {
    let mut unknown = Vec::new();
    let Some(topics) = &mut group.topics else { return unknown };
    topics.retain_mut(|topic| {
        if let Some(found) = node.topics.by_id(topic.topic_id) {
            topic.name = found.name.clone();
            return true;
        }
        let partitions =
            topic.partition_indexes.iter().map(|&index| failed(index, ErrorCode::UnknownTopicId));
        unknown.push(OffsetFetchResponseTopics {
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
            ..OffsetFetchResponseTopics::default()
        });
        false
    });
    unknown
}

/// Names the topics of all offsets by their ids; offsets of topics that are gone are left out.
fn add_topic_ids(node: &Node, fetched: &mut OffsetFetchResponseGroup) {
    fetched.topics.retain_mut(|topic| {
        let found = node.topics.by_name(&topic.name);
        found.inspect(|found| topic.topic_id = found.id).is_some()
    });
}

fn failed(partition_index: i32, error_code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: Offset::NONE,
        committed_leader_epoch: LeaderEpoch::NONE,
        metadata: Some(Str::EMPTY),
        error_code,
    }
}

fn refuse(group: OffsetFetchRequestGroup, version: i16, error_code: ErrorCode) -> OffsetFetchResponseGroup {
    let topics = group.topics.into_iter().flatten().map(|topic| OffsetFetchResponseTopics {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(|&index| failed(index, error_code)).collect(),
    });
    // Later versions say it once.
    let topics = if version < GROUP_ERROR_SINCE { topics.collect() } else { Vec::new() };
    OffsetFetchResponseGroup { group_id: group.group_id, topics, error_code }
}

/// The answer about one group as the versions before 8 have it.
fn flat(version: i16, group: OffsetFetchResponseGroup) -> Response {
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(flat_partition).collect(),
    });
    let error_code = if version < GROUP_ERROR_SINCE { ErrorCode::None } else { group.error_code };
    Response { topics: topics.collect(), error_code, ..Response::default() }
}

fn flat_partition(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    }
}

//! ListOffsets: the offset at an end of a partition, or at a moment in time.

use std::collections::HashSet;

use oncelog_log::{Isolation, OffsetQuery};
use oncelog_wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse, Request, Response,
};
use oncelog_wire::{ErrorCode, LeaderEpoch, Offset, Timestamp};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

const LATEST: Timestamp = Timestamp(-1);
const EARLIEST: Timestamp = Timestamp(-2);
const MAX_TIMESTAMP: Timestamp = Timestamp(-3);
const EARLIEST_LOCAL: Timestamp = Timestamp(-4);
const LATEST_TIERED: Timestamp = Timestamp(-5);
const EARLIEST_PENDING_UPLOAD: Timestamp = Timestamp(-6);

/// What a timestamp of a request stands for.
enum Wanted {
    Of(OffsetQuery),
    /// Offsets of tiered storage, of which there is none.
    Nothing,
}

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let isolation = match request.isolation_level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    };
    let repeated = repeated_partitions(&request);
    let topics = request.topics.iter().map(|topic| {
        let answer = |partition: &ListOffsetsPartition| {
            let index = partition.partition_index;
            let found = match repeated.contains(&(topic.name.as_str(), index)) {
                true => Err(ErrorCode::InvalidRequest),
                false => find(node, context.api_version, &topic.name, partition, isolation),
            };
            let none = ListOffsetsPartitionResponse {
                partition_index: index,
                timestamp: Timestamp::NONE,
                offset: Offset::NONE,
                leader_epoch: LeaderEpoch::NONE,
                ..ListOffsetsPartitionResponse::default()
            };
            match found {
                Ok(Some(found)) => ListOffsetsPartitionResponse {
                    timestamp: found.timestamp,
                    offset: found.offset,
                    leader_epoch: found.leader_epoch,
                    ..none
                },
                Ok(None) => none,
                Err(error_code) => ListOffsetsPartitionResponse { error_code, ..none },
            }
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        ListOffsetsTopicResponse { name: topic.name.clone(), partitions }
    });
    Response { topics: topics.collect(), ..Response::default() }.into()
}

/// The partitions named more than once.
fn repeated_partitions(request: &Request) -> HashSet<(&str, i32)> {
    let mut seen = HashSet::new();
    let mut repeated = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let name = (topic.name.as_str(), partition.partition_index);
            if !seen.insert(name) {
                repeated.insert(name);
            }
        }
    }
    repeated
}

fn find(
    node: &Node,
    api_version: i16,
    topic: &str,
    partition: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Option<oncelog_log::ListedOffset>, ErrorCode> {
    let found = node.topics.partition(topic, partition.partition_index);
    let state = found.as_ref().ok_or(ErrorCode::UnknownTopicOrPartition)?.lock();
    state.check_leader_epoch(partition.current_leader_epoch)?;
    match wanted(partition.timestamp, api_version)? {
        Wanted::Of(query) => state.log.list_offset(query, isolation).map_err(|error| error.code()),
        Wanted::Nothing => Ok(None),
    }
}

fn wanted(timestamp: Timestamp, api_version: i16) -> Result<Wanted, ErrorCode> {
    let (since, wanted) = match timestamp {
        LATEST => (0, Wanted::Of(OffsetQuery::Latest)),
        EARLIEST => (0, Wanted::Of(OffsetQuery::Earliest)),
        MAX_TIMESTAMP => (7, Wanted::Of(OffsetQuery::MaxTimestamp)),
        EARLIEST_LOCAL => (8, Wanted::Of(OffsetQuery::Earliest)),
        LATEST_TIERED => (9, Wanted::Nothing),
        EARLIEST_PENDING_UPLOAD => (11, Wanted::Nothing),
        Timestamp(0..) => (0, Wanted::Of(OffsetQuery::At(timestamp))),
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    if api_version < since { Err(ErrorCode::UnsupportedVersion) } else { Ok(wanted) }
}

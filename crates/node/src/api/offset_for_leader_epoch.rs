//! OffsetForLeaderEpoch: where the records of a leader epoch end (KIP-101).

use oncelog_wire::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult, Request, Response,
};
use oncelog_wire::{ErrorCode, LeaderEpoch, Offset};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, _: &Context<'_>, request: Request) -> Answer<Response> {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let end = find(node, &topic.topic, partition).unwrap_or_else(|error_code| EpochEndOffset {
                error_code,
                leader_epoch: LeaderEpoch::NONE,
                end_offset: Offset::NONE,
                ..EpochEndOffset::default()
            });
            EpochEndOffset { partition: partition.partition, ..end }
        });
        OffsetForLeaderTopicResult { partitions: partitions.collect(), topic: topic.topic.clone() }
    });
    Response { topics: topics.collect(), ..Response::default() }.into()
}

fn find(node: &Node, topic: &str, wanted: &OffsetForLeaderPartition) -> Result<EpochEndOffset, ErrorCode> {
    let found = node.topics.partition(topic, wanted.partition);
    let state = found.as_ref().ok_or(ErrorCode::UnknownTopicOrPartition)?.lock();
    state.check_leader_epoch(wanted.current_leader_epoch)?;
    let end = state.log.offset_for_leader_epoch(wanted.leader_epoch);
    Ok(EpochEndOffset {
        leader_epoch: end.leader_epoch,
        end_offset: end.end_offset,
        ..EpochEndOffset::default()
    })
}

//! A consumer that has its progress kept by the group coordinator, outside of any transaction.

use std::collections::BTreeSet;

use oncelog_wire::{ErrorCode, Offset, TopicPartition, offset_commit};

use super::Client;
use super::copier::{committed_in, offset_fetch_request};
use crate::history::{ORDERS, Property};
use crate::world::Phase;

/// Commits how far it has come, and asks for it, until the storm ends. Nobody else commits for its group.
pub async fn run(mut client: Client) {
    let group = client.name.to_string();
    let place = TopicPartition::new(ORDERS, 0);
    let mut position = 0;
    // Offsets of which a copy may still come in.
    let mut late = BTreeSet::new();
    while client.phase() == Phase::Storm {
        position += client.world.within(1..5) as i64;
        let request = commit_request(&group, &place, position);
        let asked = client.ask(8, &request).await;
        if asked.was_lost {
            late.insert(position);
        }
        let topic = asked.answer.topics.first();
        let code = topic.and_then(|topic| topic.partitions.first()).map(|partition| partition.error_code);
        match code.unwrap_or(ErrorCode::UnknownServerError) {
            ErrorCode::None => {}
            code if client.may_pass(code) => {
                // It may have been stored nevertheless.
                late.insert(position);
                client.back_off().await;
                continue;
            }
            _ => return,
        }
        let (code, committed) =
            committed_in(&client.ask(8, &offset_fetch_request(&group, &place)).await.answer);
        match code {
            ErrorCode::None if committed == position || late.contains(&committed) => {}
            ErrorCode::None => {
                let what = format!("{group} has committed {position}, and is told {committed}");
                client.world.change().history.violated(Property::CommittedOffsets, what);
            }
            code if client.may_pass(code) => {}
            _ => return,
        }
        client.world.sleep_within(1..600).await;
    }
}

fn commit_request(group: &str, place: &TopicPartition, offset: i64) -> offset_commit::Request {
    let partition = offset_commit::OffsetCommitRequestPartition {
        partition_index: place.partition,
        committed_offset: Offset(offset),
        ..Default::default()
    };
    let topic = offset_commit::OffsetCommitRequestTopic {
        name: place.topic.clone(),
        partitions: vec![partition],
        ..Default::default()
    };
    offset_commit::Request { group_id: group.into(), topics: vec![topic], ..Default::default() }
}

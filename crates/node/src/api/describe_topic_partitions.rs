//! DescribeTopicPartitions: topics and their partitions, page by page.

use std::collections::BTreeSet;

use oncelog_coordinator::metadata::is_legal_name;
use oncelog_wire::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, Request, Response,
};
use oncelog_wire::{ErrorCode, Str};

use super::metadata::{Leadership, TOPIC_OPERATIONS};
use crate::Node;
use crate::context::Context;
use crate::partition::Partition;
use crate::reply::Answer;
use crate::topics::is_internal;

pub(crate) fn handle(node: &Node, _: &Context<'_>, request: Request) -> Answer<Response> {
    let is_all = request.topics.is_empty();
    let named: BTreeSet<Str> = match is_all {
        true => node.topics.all().iter().map(|topic| topic.name.clone()).collect(),
        false => request.topics.iter().map(|topic| topic.name.clone()).collect(),
    };
    let cursor = request.cursor.unwrap_or_default();
    let is_cursor_sound = cursor.partition_index >= 0
        && (is_all || cursor.topic_name.is_empty() || named.contains(&cursor.topic_name));
    if !is_cursor_sound {
        let refused = request.topics.into_iter().map(|topic| DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::InvalidRequest,
            is_internal: is_internal(&topic.name),
            name: Some(topic.name),
            ..DescribeTopicPartitionsResponseTopic::default()
        });
        return Response { topics: refused.collect(), ..Response::default() }.into();
    }
    let most =
        node.config.max_request_partition_size_limit.min(request.response_partition_limit).max(1) as usize;
    let mut left = most;
    let mut response = Response::default();
    for name in named.into_iter().filter(|name| *name >= cursor.topic_name) {
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: name, partition_index: 0 });
            break;
        }
        let Some(topic) = node.topics.by_name(&name) else {
            if !is_all {
                let is_legal = is_legal_name(&name);
                let code = if is_legal {
                    ErrorCode::UnknownTopicOrPartition
                } else {
                    ErrorCode::InvalidTopicException
                };
                response.topics.push(failed(code, name));
            }
            continue;
        };
        let first = if name == cursor.topic_name { cursor.partition_index as usize } else { 0 };
        let partitions = topic.partitions();
        let page = partitions.iter().skip(first).take(left);
        let page: Vec<_> = page.map(|partition| described(node, partition)).collect();
        let next = first + page.len();
        left -= page.len();
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(name.clone()),
            topic_id: topic.id,
            is_internal: is_internal(&name),
            partitions: page,
            topic_authorized_operations: TOPIC_OPERATIONS,
            ..DescribeTopicPartitionsResponseTopic::default()
        });
        if next < partitions.len() {
            response.next_cursor = Some(Cursor { topic_name: name, partition_index: next as i32 });
            break;
        }
    }
    response.into()
}

fn described(node: &Node, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    let leadership = Leadership::of(node, partition);
    DescribeTopicPartitionsResponsePartition {
        error_code: leadership.error_code,
        partition_index: partition.index,
        leader_id: leadership.leader_id,
        leader_epoch: leadership.leader_epoch,
        replica_nodes: vec![node.id],
        isr_nodes: vec![node.id],
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: leadership.offline_replicas,
    }
}

fn failed(error_code: ErrorCode, name: Str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code,
        is_internal: is_internal(&name),
        name: Some(name),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

//! DescribeProducers: the producers that a partition knows, and where their open transactions start.

use oncelog_coordinator::metadata::is_legal_name;
use oncelog_wire::describe_producers::{PartitionResponse, ProducerState, Request, Response, TopicResponse};
use oncelog_wire::{ErrorCode, Str};

use crate::Node;
use crate::api::once_each;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, _context: &Context<'_>, mut request: Request) -> Answer<Response> {
    once_each(&mut request.topics, |topic| topic.name.clone());
    let topics = request.topics.into_iter().map(|mut topic| {
        once_each(&mut topic.partition_indexes, |index| *index);
        let partitions = topic.partition_indexes.iter().map(|&index| {
            describe(node, &topic.name, index).unwrap_or_else(|error_code| PartitionResponse {
                partition_index: index,
                error_code,
                error_message: Some(Str::from_static(error_code.name())),
                ..PartitionResponse::default()
            })
        });
        TopicResponse { partitions: partitions.collect(), name: topic.name }
    });
    Response { topics: topics.collect(), ..Response::default() }.into()
}

fn describe(node: &Node, topic: &str, index: i32) -> Result<PartitionResponse, ErrorCode> {
    if !is_legal_name(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = node.topics.partition(topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let state = partition.lock();
    let active_producers = state.log.producers().map(|producer| ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch.0.into(),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start_offset,
    });
    Ok(PartitionResponse {
        partition_index: index,
        active_producers: active_producers.collect(),
        ..PartitionResponse::default()
    })
}

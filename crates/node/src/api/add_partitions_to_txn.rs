//! AddPartitionsToTxn: partitions join a transaction, or are looked up in it.
//!
//! Clients use versions 0 to 3, for one transaction. Later versions are for brokers, and carry several.

use oncelog_coordinator::transactions::{
    AddPartitions, Event, Producer, TransactionVersion, error_for_version,
};
use oncelog_wire::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult, AddPartitionsToTxnTransaction, Request, Response,
};
use oncelog_wire::{ErrorCode, TopicPartition};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;
use crate::topics::is_internal;

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_SINCE: i16 = 2;

/// The first version that carries several transactions.
const BATCHED_SINCE: i16 = 4;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    if context.api_version >= BATCHED_SINCE {
        let results = request.transactions.iter().map(|transaction| AddPartitionsToTxnResult {
            transactional_id: transaction.transactional_id.clone(),
            topic_results: add(node, context, transaction),
        });
        return Response { results_by_transaction: results.collect(), ..Response::default() }.into();
    }
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: request.v3_and_below_transactional_id,
        producer_id: request.v3_and_below_producer_id,
        producer_epoch: request.v3_and_below_producer_epoch,
        verify_only: false,
        topics: request.v3_and_below_topics,
    };
    let results = add(node, context, &transaction);
    Response { results_by_topic_v3_and_below: results, ..Response::default() }.into()
}

/// Deals with one transaction: all of its partitions or, where one of them cannot be had, none.
fn add(
    node: &Node,
    context: &Context<'_>,
    transaction: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let found = |topic: &str, index: i32| find(node, context, topic, index);
    let all_found: Result<Vec<_>, _> =
        each(&transaction.topics).map(|(topic, index)| found(topic, index)).collect();
    let Ok(partitions) = all_found else {
        return results(&transaction.topics, |topic, index| match found(topic, index) {
            Ok(_) => ErrorCode::OperationNotAttempted,
            Err(error) => error,
        });
    };
    let producer = Producer { id: transaction.producer_id, epoch: transaction.producer_epoch };
    let transactional_id = &transaction.transactional_id;
    if transaction.verify_only {
        return node
            .transactions
            .look_at(node, transactional_id, context.now, |coordinator| {
                results(&transaction.topics, |topic, index| {
                    let partition = TopicPartition::new(topic, index);
                    coordinator.verify_partition(transactional_id, producer, &partition)
                })
            })
            .unwrap_or_else(|error| results(&transaction.topics, |_, _| error));
    }
    let transaction_version = match context.api_version >= BATCHED_SINCE {
        true => TransactionVersion::Two,
        false => TransactionVersion::Zero,
    };
    let added = node.transactions.decide(node, transactional_id, context.now, |_| {
        let partitions = &partitions;
        Event::AddPartitions(AddPartitions { transactional_id, producer, partitions, transaction_version })
    });
    let error = added.err().unwrap_or_default();
    let error = error_for_version(error, context.api_version, FENCED_SINCE);
    results(&transaction.topics, |_, _| error)
}

/// A partition that can be added, under the name the topic itself has.
fn find(node: &Node, context: &Context<'_>, topic: &str, index: i32) -> Result<TopicPartition, ErrorCode> {
    if is_internal(topic) && context.api_version < BATCHED_SINCE {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let partition = node.topics.partition(topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(TopicPartition { topic: partition.topic.clone(), partition: index })
}

fn each(topics: &[AddPartitionsToTxnTopic]) -> impl Iterator<Item = (&str, i32)> {
    topics.iter().flat_map(|topic| topic.partitions.iter().map(|&index| (topic.name.as_str(), index)))
}

fn results(
    topics: &[AddPartitionsToTxnTopic],
    mut error: impl FnMut(&str, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let of_topic = |topic: &AddPartitionsToTxnTopic| {
        let of_partition = |&partition_index: &i32| AddPartitionsToTxnPartitionResult {
            partition_index,
            partition_error_code: error(&topic.name, partition_index),
        };
        AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: topic.partitions.iter().map(of_partition).collect(),
        }
    };
    topics.iter().map(of_topic).collect()
}

//! TxnOffsetCommit: a transaction stores how far a group has read; it counts if the transaction is committed.

use oncelog_coordinator::transactions::{PartitionCheck, Producer};
use oncelog_wire::txn_offset_commit::{
    Request, Response, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use oncelog_wire::{ErrorCode, TopicPartition};

use crate::Node;
use crate::api;
use crate::context::Context;
use crate::host::transactions::TransactionalWrite;
use crate::reply::Answer;
use crate::topics::CONSUMER_OFFSETS;

/// The first version whose clients can wait for a coordinator that is loading.
const LOADING_SINCE: i16 = 2;

pub(crate) fn handle(node: &Node, context: &Context<'_>, mut request: Request) -> Answer<Response> {
    let refused = take_unknown(node, &mut request);
    let is_needed = request.topics.iter().any(|topic| !topic.partitions.is_empty());
    let mut response = match is_needed {
        true => {
            commit(node, context, &request).unwrap_or_else(|error_code| refuse(context, &request, error_code))
        }
        false => same_for_all(&request, ErrorCode::None),
    };
    for (topic, refused) in response.topics.iter_mut().zip(refused) {
        topic.partitions.extend(refused);
    }
    response.into()
}

/// Stores the offsets: at once if the transaction has some here already, else when the transaction coordinator has
/// verified that it may, or has added the partition.
fn commit(node: &Node, context: &Context<'_>, request: &Request) -> Result<Response, ErrorCode> {
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let check = PartitionCheck::for_txn_offset_commit(context.api_version);
    if check != PartitionCheck::Add && !node.config.transaction_partition_verification_enable {
        return node.groups.commit(node, request, context.now);
    }
    if let Some(answer) = node.groups.commit_if_open(node, request, context.now) {
        return answer;
    }
    let partition =
        TopicPartition { topic: CONSUMER_OFFSETS, partition: node.groups.partition_of(&request.group_id) };
    let write = TransactionalWrite {
        transactional_id: &request.transactional_id,
        producer: Producer { id: request.producer_id, epoch: request.producer_epoch },
        partitions: std::slice::from_ref(&partition),
        check,
    };
    node.transactions.with_partitions(node, &write, context.now, |codes| match codes[0] {
        ErrorCode::None => node.groups.commit(node, request, context.now),
        error_code => Err(check.error(error_code)),
    })
}

/// Takes out the partitions that do not exist; gives the answers for them, topic by topic.
fn take_unknown(node: &Node, request: &mut Request) -> Vec<Vec<TxnOffsetCommitResponsePartition>> {
    let topics = request.topics.iter_mut().map(|topic| {
        let unknown =
            api::take_unknown(node, &topic.name, &mut topic.partitions, |found| found.partition_index);
        let refused = |partition_index| {
            let error_code = ErrorCode::UnknownTopicOrPartition;
            TxnOffsetCommitResponsePartition { partition_index, error_code }
        };
        unknown.into_iter().map(refused).collect()
    });
    topics.collect()
}

fn refuse(context: &Context<'_>, request: &Request, error_code: ErrorCode) -> Response {
    match error_code {
        ErrorCode::CoordinatorLoadInProgress if context.api_version < LOADING_SINCE => {
            same_for_all(request, ErrorCode::CoordinatorNotAvailable)
        }
        error_code => same_for_all(request, error_code),
    }
}

fn same_for_all(request: &Request, error_code: ErrorCode) -> Response {
    let topics = request.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code,
            })
            .collect(),
    });
    Response { topics: topics.collect(), ..Response::default() }
}

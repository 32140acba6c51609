//! DescribeTransactions: where transactional ids stand.

use oncelog_coordinator::transactions::TransactionMetadata;
use oncelog_wire::describe_transactions::{Request, Response, TopicData, TransactionState};
use oncelog_wire::{ErrorCode, Str};

use crate::Node;
use crate::api::once_each;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, mut request: Request) -> Answer<Response> {
    once_each(&mut request.transactional_ids, Str::clone);
    let states = request.transactional_ids.into_iter().map(|transactional_id| {
        let described = describe(node, context, &transactional_id);
        let state = described
            .unwrap_or_else(|error_code| TransactionState { error_code, ..TransactionState::default() });
        TransactionState { transactional_id, ..state }
    });
    Response { transaction_states: states.collect(), ..Response::default() }.into()
}

fn describe(
    node: &Node,
    context: &Context<'_>,
    transactional_id: &str,
) -> Result<TransactionState, ErrorCode> {
    if transactional_id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    node.transactions
        .look_at(node, transactional_id, context.now, |coordinator| {
            coordinator.describe(transactional_id).map(show)
        })?
        .ok_or(ErrorCode::TransactionalIdNotFound)
}

fn show(metadata: &TransactionMetadata) -> TransactionState {
    let topics = metadata.partitions.chunk_by(|a, b| a.topic == b.topic).map(|partitions| TopicData {
        topic: partitions[0].topic.clone(),
        partitions: partitions.iter().map(|partition| partition.partition).collect(),
    });
    TransactionState {
        error_code: ErrorCode::None,
        transactional_id: Str::EMPTY,
        transaction_state: Str::from_static(metadata.state.name()),
        transaction_timeout_ms: metadata.timeout_ms,
        transaction_start_time_ms: metadata.start,
        producer_id: metadata.producer.id,
        producer_epoch: metadata.producer.epoch,
        topics: topics.collect(),
    }
}

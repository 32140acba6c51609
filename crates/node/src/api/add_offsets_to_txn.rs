//! AddOffsetsToTxn: the partition that a group's offsets go to joins a transaction.

use oncelog_coordinator::transactions::{
    AddPartitions, Event, Producer, TransactionVersion, error_for_version,
};
use oncelog_wire::add_offsets_to_txn::{Request, Response};
use oncelog_wire::{ErrorCode, TopicPartition};

use crate::Node;
use crate::context::Context;
use crate::host::internal_log::partition_for;
use crate::reply::Answer;
use crate::topics::CONSUMER_OFFSETS;

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_SINCE: i16 = 2;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let error_code = match add(node, context, &request) {
        Ok(()) => ErrorCode::None,
        Err(error) => error_for_version(error, context.api_version, FENCED_SINCE),
    };
    Response { error_code, ..Response::default() }.into()
}

fn add(node: &Node, context: &Context<'_>, request: &Request) -> Result<(), ErrorCode> {
    let topic = node.topics.by_name(&CONSUMER_OFFSETS).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let index = partition_for(&request.group_id, topic.partitions().len());
    let partition = TopicPartition { topic: CONSUMER_OFFSETS, partition: index as i32 };
    node.transactions.decide(node, &request.transactional_id, context.now, |_| {
        Event::AddPartitions(AddPartitions {
            transactional_id: &request.transactional_id,
            producer: Producer { id: request.producer_id, epoch: request.producer_epoch },
            partitions: std::slice::from_ref(&partition),
            transaction_version: TransactionVersion::Zero,
        })
    })?;
    Ok(())
}

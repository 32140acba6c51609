//! DeleteRecords: moves the start of a partition up.

use oncelog_wire::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsTopicResult, Request, Response,
};
use oncelog_wire::{ErrorCode, Offset};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;
use crate::topics::is_internal;

/// "Up to the high watermark."
const HIGH_WATERMARK: Offset = Offset(-1);

pub(crate) fn handle(node: &Node, _: &Context<'_>, request: Request) -> Answer<Response> {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let partition_index = partition.partition_index;
            match delete(node, &topic.name, partition) {
                Ok(low_watermark) => DeleteRecordsPartitionResult {
                    partition_index,
                    low_watermark,
                    error_code: ErrorCode::None,
                },
                Err(error_code) => {
                    DeleteRecordsPartitionResult { partition_index, low_watermark: Offset::NONE, error_code }
                }
            }
        });
        DeleteRecordsTopicResult { partitions: partitions.collect(), name: topic.name.clone() }
    });
    Response { topics: topics.collect(), ..Response::default() }.into()
}

fn delete(node: &Node, name: &str, wanted: &DeleteRecordsPartition) -> Result<Offset, ErrorCode> {
    let topic = node.topics.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if is_internal(name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = topic.partition(wanted.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !topic.config().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let before = (wanted.offset != HIGH_WATERMARK).then_some(wanted.offset);
    let deleted = partition.lock().log.delete_records(before);
    let (low_watermark, garbage) = deleted.map_err(|error| error.code())?;
    if let Err(error) = garbage.remove() {
        tracing::warn!("files of deleted records of {name}-{} stay: {error}", wanted.partition_index);
    }
    Ok(low_watermark)
}

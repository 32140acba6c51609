//! WriteTxnMarkers: an administrator ends a transaction that no coordinator knows of (KIP-664).

use oncelog_log::Marker;
use oncelog_records::MarkerKind;
use oncelog_wire::write_txn_markers::{
    Request, Response, WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
};
use oncelog_wire::{ErrorCode, TopicPartition};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let markers = request.markers.iter().map(|marker| write(node, context, marker));
    Response { markers: markers.collect() }.into()
}

fn write(node: &Node, context: &Context<'_>, request: &WritableTxnMarker) -> WritableTxnMarkerResult {
    let marker = Marker {
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        kind: if request.transaction_result { MarkerKind::Commit } else { MarkerKind::Abort },
        coordinator_epoch: request.coordinator_epoch,
        transaction_version: request.transaction_version.into(),
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|&partition_index| {
            let partition = TopicPartition { topic: topic.name.clone(), partition: partition_index };
            let written = node.append_marker(&partition, &marker, context.now);
            let error_code = written.map_or_else(marker_error, |_| ErrorCode::None);
            WritableTxnMarkerPartitionResult { partition_index, error_code }
        });
        WritableTxnMarkerTopicResult { name: topic.name.clone(), partitions: partitions.collect() }
    });
    WritableTxnMarkerResult { producer_id: request.producer_id, topics: topics.collect() }
}

/// A group coordinator that is not there is, to those who write markers, a partition without a leader.
fn marker_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::NotCoordinator => ErrorCode::NotLeaderOrFollower,
        error => error,
    }
}

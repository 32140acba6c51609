//! OffsetCommit: a group stores how far it has read.

use oncelog_coordinator::groups::Event;
use oncelog_wire::ErrorCode;
use oncelog_wire::offset_commit::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic, Request, Response,
};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

/// The first version that names topics by their ids.
const TOPIC_ID_SINCE: i16 = 10;

pub(crate) fn handle(node: &Node, context: &Context<'_>, mut request: Request) -> Answer<Response> {
    let version = context.api_version;
    let refused = take_unknown(node, version, &mut request);
    let request = &request;
    let event = |ticket| Event::OffsetCommit { ticket, version, request };
    let answer = node.groups.answer(node, &request.group_id, context.now, event);
    let mut response: Response = answer.unwrap_or_else(|error_code| refuse(request, error_code));
    for (topic, refused) in response.topics.iter_mut().zip(refused) {
        topic.partitions.extend(refused);
    }
    response.into()
}

/// Takes out the partitions that do not exist, and completes what is said of the topics; gives the answers for those
/// partitions, topic by topic.
fn take_unknown(node: &Node, version: i16, request: &mut Request) -> Vec<Vec<OffsetCommitResponsePartition>> {
    let topics = request.topics.iter_mut().map(|topic| {
        let found = match version >= TOPIC_ID_SINCE {
            true => node.topics.by_id(topic.topic_id).ok_or(ErrorCode::UnknownTopicId),
            false => node.topics.by_name(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition),
        };
        let mut refused = Vec::new();
        topic.partitions.retain(|partition| {
            let error_code = match &found {
                Ok(found) if found.has_partition(partition.partition_index) => return true,
                Ok(_) => ErrorCode::UnknownTopicOrPartition,
                Err(error_code) => *error_code,
            };
            let partition_index = partition.partition_index;
            refused.push(OffsetCommitResponsePartition { partition_index, error_code });
            false
        });
        if let Ok(found) = found {
            topic.name = found.name.clone();
            topic.topic_id = found.id;
        }
        refused
    });
    topics.collect()
}

fn refuse(request: &Request, error_code: ErrorCode) -> Response {
    let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code,
            })
            .collect(),
    });
    Response { topics: topics.collect(), ..Response::default() }
}

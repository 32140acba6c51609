//! OffsetDelete: a group forgets how far it has read.

use oncelog_coordinator::groups::Event;
use oncelog_wire::ErrorCode;
use oncelog_wire::offset_delete::{OffsetDeleteResponsePartition, Request, Response};

use crate::Node;
use crate::api;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, mut request: Request) -> Answer<Response> {
    let refused = take_unknown(node, &mut request);
    let request = &request;
    let event = |ticket| Event::OffsetDelete { ticket, request };
    let answer = node.groups.answer(node, &request.group_id, context.now, event);
    let mut response: Response =
        answer.unwrap_or_else(|error_code| Response { error_code, ..Response::default() });
    for (topic, refused) in response.topics.iter_mut().zip(refused) {
        topic.partitions.extend(refused);
    }
    response.into()
}

/// Takes out the partitions that do not exist; gives the answers for them, topic by topic.
fn take_unknown(node: &Node, request: &mut Request) -> Vec<Vec<OffsetDeleteResponsePartition>> {
    let topics = request.topics.iter_mut().map(|topic| {
        let unknown =
            api::take_unknown(node, &topic.name, &mut topic.partitions, |found| found.partition_index);
        let refused = |partition_index| {
            let error_code = ErrorCode::UnknownTopicOrPartition;
            OffsetDeleteResponsePartition { partition_index, error_code }
        };
        unknown.into_iter().map(refused).collect()
    });
    topics.collect()
}

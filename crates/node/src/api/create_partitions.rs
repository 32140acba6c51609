//! CreatePartitions: more partitions for topics that exist.

use oncelog_wire::ErrorCode;
use oncelog_wire::create_partitions::{CreatePartitionsTopicResult, Request, Response};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let decided = node.metadata.change(node, context.now, |cluster| cluster.create_partitions(&request));
    decided.unwrap_or_else(|error_code| not_stored(&request, error_code)).into()
}

fn not_stored(request: &Request, error_code: ErrorCode) -> Response {
    let failed = request.topics.iter().map(|topic| CreatePartitionsTopicResult {
        name: topic.name.clone(),
        error_code,
        error_message: None,
    });
    Response { results: failed.collect(), ..Response::default() }
}

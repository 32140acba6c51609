//! CreateTopics: new topics, there for everyone once the answer is out.

use oncelog_coordinator::metadata::Cluster;
use oncelog_wire::create_topics::{CreatableTopicResult, Request, Response};
use oncelog_wire::{ErrorCode, Str};

use crate::Node;
use crate::context::Context;
use crate::host::metadata::Metadata;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let decide = |cluster: &_| Cluster::create_topics(cluster, &request, || Metadata::topic_id(node));
    let answer = node.metadata.change(node, context.now, decide);
    answer.unwrap_or_else(|error_code| not_stored(&request, error_code)).into()
}

fn not_stored(request: &Request, error_code: ErrorCode) -> Response {
    let failed = |name: &Str| CreatableTopicResult { name: name.clone(), error_code, ..Default::default() };
    let topics = request.topics.iter().map(|topic| failed(&topic.name)).collect();
    Response { topics, ..Response::default() }
}

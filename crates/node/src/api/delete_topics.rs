//! DeleteTopics: topics that go, with all their records and whatever anyone remembers of them.

use oncelog_wire::delete_topics::{DeletableTopicResult, Request, Response};
use oncelog_wire::{ErrorCode, Uuid};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let decided = node.metadata.change(node, context.now, |cluster| cluster.delete_topics(&request));
    let mut response = decided.unwrap_or_else(|error_code| not_stored(&request, error_code));
    if context.api_version < 3 {
        // Clients of those versions do not know the code.
        for result in &mut response.responses {
            if result.error_code == ErrorCode::TopicDeletionDisabled {
                result.error_code = ErrorCode::InvalidRequest;
            }
        }
    }
    response.into()
}

fn not_stored(request: &Request, error_code: ErrorCode) -> Response {
    let by_state = request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id));
    let by_name = request.topic_names.iter().map(|name| (Some(name.clone()), Uuid::ZERO));
    let failed = by_state.chain(by_name).map(|(name, topic_id)| DeletableTopicResult {
        name,
        topic_id,
        error_code,
        error_message: None,
    });
    Response { responses: failed.collect(), ..Response::default() }
}

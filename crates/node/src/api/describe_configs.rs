//! DescribeConfigs: the configs of topics, of the broker, of groups, and who set them.

use oncelog_coordinator::metadata::ResourceType;
use oncelog_wire::describe_configs::{DescribeConfigsResource, DescribeConfigsResult, Request, Response};
use oncelog_wire::{ErrorCode, Str};

use crate::Node;
use crate::api::once_each;
use crate::context::Context;
use crate::reply::Answer;

/// A group has configs before it exists, so there is no end to what may be asked for; this is the end.
const MOST_RESOURCES_BESIDE_TOPICS: usize = 4096;

pub(crate) fn handle(node: &Node, _: &Context<'_>, mut request: Request) -> Answer<Response> {
    once_each(&mut request.resources, |resource| (resource.resource_type, resource.resource_name.clone()));
    let mut room = MOST_RESOURCES_BESIDE_TOPICS;
    let has_room = |resource: &DescribeConfigsResource| {
        let is_topic = resource.resource_type == ResourceType::Topic as i8;
        let has_room = is_topic || room > 0;
        room = room.saturating_sub(usize::from(!is_topic));
        has_room
    };
    let (taken, refused): (Vec<_>, Vec<_>) = request.resources.into_iter().partition(has_room);
    request.resources = taken;
    let mut response = node.metadata.cluster().describe_configs(&request);
    response.results.extend(refused.into_iter().map(|resource| DescribeConfigsResult {
        error_code: ErrorCode::InvalidRequest,
        error_message: Some(Str::from_static("the request has too many resources")),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        ..DescribeConfigsResult::default()
    }));
    response.into()
}

//! DescribeGroups: the state and the members of groups.

use oncelog_wire::Str;
use oncelog_wire::describe_groups::{DescribedGroup, Request, Response};

use crate::Node;
use crate::api::once_each;
use crate::context::Context;
use crate::reply::Answer;

/// Everything that can be allowed for a group, as Kafka numbers operations: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS
/// and ALTER_CONFIGS.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub(crate) fn handle(node: &Node, context: &Context<'_>, mut request: Request) -> Answer<Response> {
    once_each(&mut request.groups, Str::clone);
    let groups = request.groups.iter().map(|group_id| {
        let describe = node.groups.look_at(node, group_id, context.now, |coordinator| {
            coordinator.describe(group_id, context.api_version)
        });
        let mut described = describe.unwrap_or_else(|error_code| DescribedGroup {
            group_id: group_id.clone(),
            error_code,
            ..DescribedGroup::default()
        });
        if request.include_authorized_operations && !described.error_code.is_error() {
            described.authorized_operations = ALL_OPERATIONS;
        }
        described
    });
    Response { groups: groups.collect(), ..Response::default() }.into()
}

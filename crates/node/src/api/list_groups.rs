//! ListGroups: all groups, or those in some states or of some types.

use oncelog_wire::ErrorCode;
use oncelog_wire::list_groups::{Request, Response};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let mut groups = Vec::new();
    let listed = node.groups.look_at_all(node, context.now, |coordinator| {
        groups.extend(coordinator.list(&request.states_filter, &request.types_filter));
    });
    let error_code = listed.err().unwrap_or(ErrorCode::None);
    Response { error_code, groups, ..Response::default() }.into()
}

//! LeaveGroup: members leave a group, or are taken out of it.

use oncelog_coordinator::groups::Event;
use oncelog_wire::ErrorCode;
use oncelog_wire::leave_group::{Request, Response};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let (version, request) = (context.api_version, &request);
    let event = |ticket| Event::LeaveGroup { ticket, version, request };
    node.groups.ask(node, &request.group_id, context.now, event, refuse)
}

fn refuse(error_code: ErrorCode) -> Response {
    Response { error_code, ..Response::default() }
}

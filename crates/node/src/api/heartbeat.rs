//! Heartbeat: a member says that it is there, and is told whether to join anew.

use oncelog_coordinator::groups::Event;
use oncelog_wire::ErrorCode;
use oncelog_wire::heartbeat::{Request, Response};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let request = &request;
    let event = |ticket| Event::Heartbeat { ticket, request };
    node.groups.ask(node, &request.group_id, context.now, event, refuse)
}

fn refuse(error_code: ErrorCode) -> Response {
    // A member need not know that the coordinator is starting.
    let is_loading = error_code == ErrorCode::CoordinatorLoadInProgress;
    Response { error_code: if is_loading { ErrorCode::None } else { error_code }, ..Response::default() }
}

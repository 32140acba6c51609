//! JoinGroup: a client wants to be a member of a group. Answered when the group has its next generation.

use oncelog_coordinator::groups::{Client, Event};
use oncelog_wire::ErrorCode;
use oncelog_wire::join_group::{Request, Response};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, mut request: Request) -> Answer<Response> {
    if context.api_version == 0 {
        request.rebalance_timeout_ms = request.session_timeout_ms;
    }
    let random = node.random_uuid().0;
    let client = Client { id: context.client_id.clone(), host: context.connection.client_host.clone() };
    let (version, request) = (context.api_version, &request);
    let event = |ticket| Event::JoinGroup { ticket, version, client, random, request };
    node.groups.ask(node, &request.group_id, context.now, event, refuse)
}

fn refuse(error_code: ErrorCode) -> Response {
    Response { error_code, protocol_name: None, ..Response::default() }
}

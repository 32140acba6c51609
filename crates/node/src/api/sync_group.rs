//! SyncGroup: a member asks for its assignment, and the leader hands in those of all. Answered when the leader's is
//! stored.

use oncelog_coordinator::groups::Event;
use oncelog_wire::ErrorCode;
use oncelog_wire::sync_group::{Request, Response};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

/// The first version that must name the protocol and its type.
const PROTOCOL_SINCE: i16 = 5;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let has_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.api_version >= PROTOCOL_SINCE && !has_protocol {
        return refuse(ErrorCode::InconsistentGroupProtocol).into();
    }
    let request = &request;
    let event = |ticket| Event::SyncGroup { ticket, request };
    node.groups.ask(node, &request.group_id, context.now, event, refuse)
}

fn refuse(error_code: ErrorCode) -> Response {
    Response { error_code, ..Response::default() }
}

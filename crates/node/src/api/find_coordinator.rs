//! FindCoordinator: who looks after a group or a transactional id. With one broker, it is that broker.

use oncelog_wire::find_coordinator::{Coordinator, Request, Response};
use oncelog_wire::{ErrorCode, Str};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

/// The kinds of coordinators there are; that of share groups (2) is not.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let is_known = matches!(request.key_type, GROUP | TRANSACTION);
    let find = |key: &Str| match is_known {
        true => Coordinator {
            key: key.clone(),
            node_id: node.id,
            host: context.connection.advertised_host.clone(),
            port: context.connection.advertised_port,
            ..Coordinator::default()
        },
        false => Coordinator {
            key: key.clone(),
            node_id: -1,
            port: -1,
            error_code: ErrorCode::InvalidRequest,
            error_message: Some(Str::from_static("there is no coordinator of this type")),
            ..Coordinator::default()
        },
    };
    if context.api_version >= 4 {
        let coordinators = request.coordinator_keys.iter().map(find).collect();
        return Response { coordinators, ..Response::default() }.into();
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } = find(&request.key);
    Response { node_id, host, port, error_code, error_message, ..Response::default() }.into()
}

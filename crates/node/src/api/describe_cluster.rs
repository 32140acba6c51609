//! DescribeCluster: the broker, as an administrator's tool asks for it.

use oncelog_wire::ErrorCode;
use oncelog_wire::describe_cluster::{DescribeClusterBroker, Request, Response};

use super::metadata::CLUSTER_OPERATIONS;
use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

/// The endpoints of brokers are asked for, and those of controllers.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let refused = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((ErrorCode::MismatchedEndpointType, "this is the endpoint of a broker")),
        _ => Some((ErrorCode::UnsupportedEndpointType, "there is no such type of endpoint")),
    };
    if let Some((error_code, message)) = refused {
        return Response { error_code, error_message: Some(message.into()), ..Response::default() }.into();
    }
    let broker = DescribeClusterBroker {
        broker_id: node.id,
        host: context.connection.advertised_host.clone(),
        port: context.connection.advertised_port,
        rack: node.config.rack.as_deref().map(Into::into),
        is_fenced: false,
    };
    let mut response = Response {
        cluster_id: node.cluster_id.clone(),
        controller_id: node.id,
        brokers: vec![broker],
        ..Response::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response.into()
}

//! ListConfigResources: what there is that has configs.

use oncelog_wire::list_config_resources::{Request, Response};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    node.metadata.cluster().list_config_resources(&request, context.api_version).into()
}

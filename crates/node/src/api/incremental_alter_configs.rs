//! IncrementalAlterConfigs: single configs of resources, changed.

use oncelog_wire::ErrorCode;
use oncelog_wire::incremental_alter_configs::{AlterConfigsResourceResponse, Request, Response};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let decided =
        node.metadata.change(node, context.now, |cluster| cluster.incremental_alter_configs(&request));
    decided.unwrap_or_else(|error_code| not_stored(&request, error_code)).into()
}

fn not_stored(request: &Request, error_code: ErrorCode) -> Response {
    let failed = request.resources.iter().map(|resource| AlterConfigsResourceResponse {
        error_code,
        error_message: None,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
    });
    Response { responses: failed.collect(), ..Response::default() }
}

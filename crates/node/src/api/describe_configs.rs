//! DescribeConfigs: the configs of topics, of the broker, of groups, and who set them.

use oncelog_wire::describe_configs::{Request, Response};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, _: &Context<'_>, request: Request) -> Answer<Response> {
    node.metadata.cluster().describe_configs(&request).into()
}

//! DeleteGroups: groups without members go, with their offsets.

use std::collections::HashSet;

use oncelog_coordinator::groups::Event;
use oncelog_wire::delete_groups::{DeletableGroupResult, Request, Response};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let mut seen = HashSet::new();
    let group_ids = request.groups_names.iter().filter(|group_id| seen.insert(*group_id));
    let results = group_ids.flat_map(|group_id| {
        let group_ids = std::slice::from_ref(group_id);
        let event = |ticket| Event::DeleteGroups { ticket, group_ids };
        match node.groups.answer::<Response>(node, group_id, context.now, event) {
            Ok(response) => response.results,
            Err(error_code) => vec![DeletableGroupResult { group_id: group_id.clone(), error_code }],
        }
    });
    Response { results: results.collect(), ..Response::default() }.into()
}

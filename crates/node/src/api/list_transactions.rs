//! ListTransactions: which transactional ids there are.

use oncelog_coordinator::transactions::ListFilter;
use oncelog_wire::ErrorCode;
use oncelog_wire::list_transactions::{Request, Response, TransactionState};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    list(node, context, &request)
        .unwrap_or_else(|error_code| Response { error_code, ..Response::default() })
        .into()
}

fn list(node: &Node, context: &Context<'_>, request: &Request) -> Result<Response, ErrorCode> {
    let (filter, unknown_state_filters) = ListFilter::new(
        &request.state_filters,
        &request.producer_id_filters,
        request.duration_filter,
        request.transactional_id_pattern.as_deref(),
    )?;
    let mut transaction_states = Vec::new();
    node.transactions.look_at_all(node, context.now, |coordinator| {
        let listed =
            coordinator.list(&filter, context.now).map(|(transactional_id, metadata)| TransactionState {
                transactional_id: transactional_id.clone(),
                producer_id: metadata.producer.id,
                transaction_state: metadata.state.name().into(),
            });
        transaction_states.extend(listed);
    })?;
    Ok(Response { unknown_state_filters, transaction_states, ..Response::default() })
}

//! EndTxn: a producer commits or aborts. The answer comes when the markers are written and the end is recorded.

use oncelog_coordinator::transactions::{
    EndTransaction, Event, Producer, TransactionVersion, error_for_version,
};
use oncelog_records::MarkerKind;
use oncelog_wire::end_txn::{Request, Response};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_SINCE: i16 = 2;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let ended = node.transactions.decide(node, &request.transactional_id, context.now, |fresh| {
        Event::EndTransaction(EndTransaction {
            transactional_id: &request.transactional_id,
            producer: Producer { id: request.producer_id, epoch: request.producer_epoch },
            outcome: if request.committed { MarkerKind::Commit } else { MarkerKind::Abort },
            transaction_version: TransactionVersion::for_end_transaction(context.api_version),
            fresh,
        })
    });
    match ended {
        Ok(producer) => {
            Response { producer_id: producer.id, producer_epoch: producer.epoch, ..Response::default() }
                .into()
        }
        Err(error) => Response {
            error_code: error_for_version(error, context.api_version, FENCED_SINCE),
            ..Response::default()
        }
        .into(),
    }
}

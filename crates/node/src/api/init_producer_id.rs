//! InitProducerId: a producer gets its id and epoch; one with a transactional id fences whoever had it.

use oncelog_coordinator::transactions::{self, Event, Producer, error_for_version};
use oncelog_wire::init_producer_id::{Request, Response};
use oncelog_wire::{ErrorCode, ProducerEpoch, ProducerId};

use crate::Node;
use crate::context::Context;
use crate::reply::Answer;

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_SINCE: i16 = 4;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    match initialize(node, context, &request) {
        Ok(producer) => {
            Response { producer_id: producer.id, producer_epoch: producer.epoch, ..Response::default() }
                .into()
        }
        Err(error) => Response {
            error_code: error_for_version(error, context.api_version, FENCED_SINCE),
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            ..Response::default()
        }
        .into(),
    }
}

fn initialize(node: &Node, context: &Context<'_>, request: &Request) -> Result<Producer, ErrorCode> {
    let expected = match (request.producer_id, request.producer_epoch) {
        (ProducerId::NONE, ProducerEpoch::NONE) => None,
        (ProducerId::NONE, _) | (_, ProducerEpoch::NONE) => return Err(ErrorCode::InvalidRequest),
        (id, epoch) => Some(Producer { id, epoch }),
    };
    let Some(transactional_id) = &request.transactional_id else {
        let id = node.transactions.new_producer_id(node, context.now)?;
        return Ok(Producer { id, epoch: ProducerEpoch(0) });
    };
    node.transactions.decide(node, transactional_id, context.now, |fresh| {
        Event::InitProducerId(transactions::InitProducerId {
            transactional_id,
            timeout_ms: request.transaction_timeout_ms,
            expected,
            enable_two_phase_commit: request.enable_2pc,
            keep_prepared_transaction: request.keep_prepared_txn,
            fresh,
        })
    })
}

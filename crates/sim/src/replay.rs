//! Compares what a broker knows with what another one knows that has replayed the same logs.

use std::sync::Arc;

use oncelog_client::{EARLIEST, LATEST};
use oncelog_log::Durability;
use oncelog_node::Node;
use oncelog_wire::{
    ErrorCode, Now, Timestamp, TopicPartition, describe_producers, describe_transactions, list_offsets,
};

use crate::broker;
use crate::clients::copier::{self, PIPELINES, committed_in};
use crate::history::{ORDERS, Property, TRIMMED};
use crate::life::{ORDERS_PARTITIONS, TRANSACTIONAL_IDS, audited_places};
use crate::world::World;

/// Starts a second broker on a copy of the disk and compares. Does nothing where there is no broker now, or where
/// something is half-way and a start would finish it.
pub fn compare(world: &mut World) {
    let Some(node) = world.node() else { return };
    let now = world.now();
    // With fsync, a start after a crash ends whatever is open.
    let ends_open = world.durability != Durability::Os;
    let Some(known) = knowledge(node, now).filter(|known| !known.is_half_way) else { return };
    if ends_open && known.lines.iter().any(|line| line.contains("Ongoing")) {
        return;
    }
    let copy = world.disk.copy();
    world.interposer.before_replay(&copy);
    let what = match broker::start(Arc::new(copy), world.durability, world.random.fork(), now) {
        Err(error) => format!("no start on a copy of the disk: {error}"),
        Ok(replayed) => match knowledge(&replayed, now) {
            None => "the broker on the copy does not answer".to_owned(),
            Some(replayed) => match known.difference(&replayed) {
                None => return world.note(format_args!("what the broker knows is what its logs say")),
                Some(difference) => difference,
            },
        },
    };
    world.history.violated(Property::StateIsReplay, what);
}

/// What a broker knows, in lines that can be compared.
struct Knowledge {
    lines: Vec<String>,
    is_half_way: bool,
}

impl Knowledge {
    fn difference(&self, other: &Knowledge) -> Option<String> {
        let at = self.lines.iter().zip(&other.lines).find(|(mine, others)| mine != others);
        at.map(|(mine, others)| format!("known: {mine}, replayed: {others}"))
    }
}

fn knowledge(node: &Node, now: Now) -> Option<Knowledge> {
    let mut known = Knowledge { lines: Vec::new(), is_half_way: false };
    known.transactions(node, now)?;
    for place in audited_places() {
        known.partition(node, &place, now)?;
    }
    for (pipeline, partition) in
        PIPELINES.iter().flat_map(|one| (0..ORDERS_PARTITIONS).map(move |at| (one, at)))
    {
        let input = TopicPartition::new(ORDERS, partition);
        let request = copier::offset_fetch_request(pipeline.group, &input);
        let committed = committed_in(&broker::ask(node, 8, &request, now)?);
        known.add(pipeline.group, committed.0, format!("{input} {committed:?}"));
    }
    Some(known)
}

impl Knowledge {
    fn add(&mut self, of: &str, code: ErrorCode, line: String) {
        // A coordinator whose log failed is replaying it, which is as good.
        self.is_half_way |= matches!(code, ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator);
        self.lines.push(format!("{of}: {line}"));
    }

    fn transactions(&mut self, node: &Node, now: Now) -> Option<()> {
        let transactional_ids = TRANSACTIONAL_IDS.iter().map(|id| (*id).into()).collect();
        let answer = broker::ask(node, 0, &describe_transactions::Request { transactional_ids }, now)?;
        for mut state in answer.transaction_states {
            self.is_half_way |= state.transaction_state.starts_with("Prepare");
            state.topics.sort_by(|one, other| one.topic.cmp(&other.topic));
            self.add("transaction", state.error_code, format!("{state:?}"));
        }
        Some(())
    }

    fn partition(&mut self, node: &Node, place: &TopicPartition, now: Now) -> Option<()> {
        let topic = describe_producers::TopicRequest {
            name: place.topic.clone(),
            partition_indexes: vec![place.partition],
        };
        let answer = broker::ask(node, 0, &describe_producers::Request { topics: vec![topic] }, now)?;
        let mut partition = answer.topics.into_iter().next()?.partitions.into_iter().next()?;
        partition.active_producers.sort_by_key(|producer| producer.producer_id);
        self.add(&place.to_string(), partition.error_code, format!("{:?}", partition.active_producers));
        // As in Kafka, a kill may bring deleted records back, and with them a transaction that is open among them.
        let isolations = if place.topic == TRIMMED { &[0][..] } else { &[0, 1] };
        for &isolation in isolations {
            let offset = end_offset(node, place, isolation, now)?;
            self.add(
                &place.to_string(),
                ErrorCode::None,
                format!("isolation {isolation} ends at {offset:?}"),
            );
        }
        Some(())
    }
}

/// Where a partition ends for readers of an isolation level.
pub fn end_offset(
    node: &Node,
    place: &TopicPartition,
    isolation_level: i8,
    now: Now,
) -> Option<Result<i64, ErrorCode>> {
    list_offset(node, place, isolation_level, LATEST, now)
}

/// Where a partition begins.
pub fn start_offset(node: &Node, place: &TopicPartition, now: Now) -> Option<i64> {
    list_offset(node, place, 0, EARLIEST, now)?.ok()
}

fn list_offset(
    node: &Node,
    place: &TopicPartition,
    isolation_level: i8,
    timestamp: Timestamp,
    now: Now,
) -> Option<Result<i64, ErrorCode>> {
    let partition = list_offsets::ListOffsetsPartition {
        partition_index: place.partition,
        timestamp,
        ..Default::default()
    };
    let topic = list_offsets::ListOffsetsTopic { name: place.topic.clone(), partitions: vec![partition] };
    let request =
        list_offsets::Request { replica_id: -1, isolation_level, topics: vec![topic], ..Default::default() };
    let answer = broker::ask(node, 5, &request, now)?;
    let found = answer.topics.first()?.partitions.first()?;
    Some(if found.error_code.is_error() { Err(found.error_code) } else { Ok(found.offset.0) })
}

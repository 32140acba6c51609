//! The copier with librdkafka, a member of a group: reads orders, writes copies, and commits both in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaResult;
use rdkafka::producer::Producer as _;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::rdkafka::{Producer, Rebalances, config, end, enqueue, insist, producer};
use super::{Kind, PATIENCE, Role, Stage, fail};
use crate::history::{Source, Topic, Value};

/// The group.
pub const GROUP: &str = "copies";
/// How many records go into one transaction at most.
const BATCH: usize = 100;

type Member = BaseConsumer<Rebalances>;

/// What was read, by partition, and the membership it was read under.
struct Batch {
    records: BTreeMap<i32, Vec<Source>>,
    metadata: ConsumerGroupMetadata,
}

/// Copies until it is over.
pub fn copy(role: &Role, stage: &Arc<Stage>) {
    let producer = producer(role, stage, true);
    let member = member(role);
    let mut random = role.random();
    for transaction in 0.. {
        if stage.is_over() {
            return;
        }
        let batch = poll(&member);
        if batch.records.is_empty() {
            continue;
        }
        stage.begins(transaction);
        let filled = fill(&producer, stage, transaction, &batch);
        std::thread::sleep(random.millis(0..20));
        match end(&producer, stage, transaction, filled, !random.one_in(8)) {
            Ok(true) => {}
            Ok(false) => rewind(&member),
            Err(error) => {
                // Leaves the group, so that nobody waits for it there.
                drop(member);
                fail(error);
            }
        }
    }
}

fn member(role: &Role) -> Member {
    let mut config = config(
        role,
        &[
            ("group.id", GROUP),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("session.timeout.ms", "1500"),
            ("heartbeat.interval.ms", "200"),
            ("max.poll.interval.ms", "10000"),
            ("fetch.wait.max.ms", "20"),
        ],
    );
    if role.kind == Kind::StaticCopier {
        config.set("group.instance.id", &role.name);
    }
    let member: Member =
        config.create_with_context(Rebalances::default()).unwrap_or_else(|error| fail(error));
    member.subscribe(&[Topic::Orders.name()]).unwrap_or_else(|error| fail(error));
    member
}

/// What can be read at once. The membership is the one from before the first record: if it is another one when the offsets
/// are committed, the broker has to refuse them.
fn poll(member: &Member) -> Batch {
    let metadata = || member.group_metadata().expect("it is a member of a group");
    let mut batch = Batch { records: BTreeMap::new(), metadata: metadata() };
    let mut rebalances = member.context().count();
    let mut count = 0;
    while count < BATCH {
        let polled = member.poll(Duration::from_millis(10));
        if rebalances != member.context().count() {
            // Their next owner reads them again.
            rebalances = member.context().count();
            batch = Batch { records: BTreeMap::new(), metadata: metadata() };
            continue;
        }
        match polled {
            None => break,
            Some(Ok(record)) => {
                let text = record.payload().and_then(|bytes| std::str::from_utf8(bytes).ok());
                let order: Option<Value> = text.and_then(|text| text.parse().ok());
                let order = order.unwrap_or_else(|| fail("an order that cannot be read"));
                batch.records.entry(record.partition()).or_default().push((order.id, record.offset()));
                count += 1;
            }
            Some(Err(error)) if member.client().fatal_error().is_some() => fail(error),
            Some(Err(_)) => {}
        }
    }
    batch
}

fn fill(producer: &Producer, stage: &Stage, transaction: u32, batch: &Batch) -> KafkaResult<()> {
    producer.begin_transaction()?;
    let mut next = TopicPartitionList::new();
    for (partition, records) in &batch.records {
        for source in records {
            let place = (Topic::Copies, *partition);
            enqueue(producer, place, &stage.sends(place, Some(transaction), Some(*source)));
            let offset = Offset::Offset(source.1 + 1);
            match next.find_partition(Topic::Orders.name(), *partition) {
                Some(mut found) => found.set_offset(offset)?,
                None => next.add_partition_offset(Topic::Orders.name(), *partition, offset)?,
            }
        }
    }
    insist(|| producer.send_offsets_to_transaction(&next, &batch.metadata, PATIENCE))
}

/// Goes back to the committed offsets.
fn rewind(member: &Member) {
    let Ok(committed) = member.committed(PATIENCE) else { fail("the committed offsets cannot be had") };
    for partition in committed.elements() {
        let offset =
            if partition.offset() == Offset::Invalid { Offset::Beginning } else { partition.offset() };
        let sought = member.seek(partition.topic(), partition.partition(), offset, PATIENCE);
        sought.unwrap_or_else(|error| fail(error));
    }
}

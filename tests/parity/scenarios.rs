//! What is put to both brokers: a short function for each theme, and what they share.

mod admin;
mod cluster;
mod configs;
mod effects;
mod fetch;
mod frames;
mod group_offsets;
mod groups;
mod lives;
mod offsets;
mod produce;
mod rebalances;
mod transaction_ends;
mod transactions;

use bytes::Bytes;
use oncelog_records::BatchBuilder;
use oncelog_wire::{
    Offset, ProducerEpoch, ProducerId, Str, Timestamp, Uuid, create_topics, fetch as fetch_api,
    find_coordinator, init_producer_id, list_offsets, metadata, produce as produce_api,
};

use crate::pair::{Both, Pair};

/// A scenario.
pub type Scenario = fn(&mut Pair);

macro_rules! scenarios {
    ($($module:ident: $($name:ident)*;)*) => {
        /// Every scenario, in the order in which they are run.
        pub const ALL: &[(&str, Scenario)] = &[$($((concat!(stringify!($module), "::", stringify!($name)), $module::$name),)*)*];
    };
}

scenarios! {
    cluster: api_versions metadata_of_topics metadata_that_creates find_coordinator describe_cluster topic_partitions;
    produce: versions refused_batches sequences idempotence_after_reset;
    fetch: versions errors sizes sessions;
    offsets: list_offsets leader_epochs delete_records;
    transactions: init_producer_id expected_pairs add_partitions add_offsets transactional_produce read_committed
        offset_commits markers listings;
    transaction_ends: old_rows new_rows versions;
    groups: members errors static_members protocols descriptions;
    rebalances: wrong_moments timeouts static_pairs transactional_members;
    group_offsets: commits errors fetches transactional deletions;
    lives: topics_made_anew transactions_without_topics waiting_fetches crowded_requests searched_times
        exhausted_epochs;
    effects: topic_settings defaults mixed_generations markers_amid second_instances;
    frames: odd_bodies;
    admin: create_topics delete_topics create_partitions;
    configs: describe_topics describe_others alter list_resources;
}

/// A topic of both brokers.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: Str,
    /// Its id on each.
    pub id: Both<Uuid>,
}

/// Creates a topic and waits until it can be used. None of this is compared.
pub fn topic(pair: &mut Pair, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
    let name = Str::from(pair.name(name));
    let configs = configs.iter().map(|(name, value)| create_topics::CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    });
    let request = create_topics::Request {
        topics: vec![create_topics::CreatableTopic {
            name: name.clone(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    pair.ask("a topic for the scenario", 7, |_| request.clone());
    let answer =
        pair.ask_unless(&["LeaderNotAvailable", "UnknownTopicOrPartition"], "the new topic", 12, |_| {
            describe_topic(&name)
        });
    let partitions: Vec<_> = (0..partitions).collect();
    pair.ask_unless(
        &["NotLeaderOrFollower", "UnknownTopicOrPartition", "LeaderNotAvailable"],
        "its leaders",
        9,
        |_| list_offsets_of(&name, &partitions, -1, 0),
    );
    Topic { name, id: answer.map(|answer| answer.topics.first().map_or(Uuid::ZERO, |topic| topic.topic_id)) }
}

/// Metadata of one topic, which is not created.
pub fn describe_topic(name: &Str) -> metadata::Request {
    metadata::Request {
        topics: Some(vec![metadata::MetadataRequestTopic { name: Some(name.clone()), ..Default::default() }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    }
}

/// ListOffsets of some partitions.
pub fn list_offsets_of(
    name: &Str,
    partitions: &[i32],
    timestamp: i64,
    isolation_level: i8,
) -> list_offsets::Request {
    let partitions = partitions.iter().map(|&partition_index| list_offsets::ListOffsetsPartition {
        partition_index,
        timestamp: Timestamp(timestamp),
        ..Default::default()
    });
    list_offsets::Request {
        replica_id: -1,
        isolation_level,
        topics: vec![list_offsets::ListOffsetsTopic { name: name.clone(), partitions: partitions.collect() }],
        timeout_ms: 1000,
    }
}

/// Asks for coordinators, so that their topics are there from now on.
pub fn coordinators(pair: &mut Pair) {
    for key_type in [0, 1] {
        pair.ask("a coordinator", 4, |_| find_coordinator::Request {
            key_type,
            coordinator_keys: vec!["any".into()],
            ..Default::default()
        });
    }
}

/// A producer of both brokers: id and epoch.
pub type Producer = Both<(ProducerId, ProducerEpoch)>;

/// Asks for a producer id.
pub fn init_producer(pair: &mut Pair, what: &str, transactional_id: Option<&str>) -> Producer {
    let answer = pair.settle(what, 4, |_| init_producer_id::Request {
        transactional_id: transactional_id.map(Str::from),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    });
    answer.map(|answer| (answer.producer_id, answer.producer_epoch))
}

/// A batch of some values, a millisecond apart.
pub fn batch(pair: &Pair, values: &[&str]) -> Bytes {
    filled(BatchBuilder::new(), pair.time(), values)
}

/// A batch of a producer.
pub fn batch_of(pair: &Pair, producer: (ProducerId, ProducerEpoch), sequence: i32, values: &[&str]) -> Bytes {
    filled(BatchBuilder::new().producer(producer.0, producer.1, sequence), pair.time(), values)
}

/// Puts values into a batch and seals it.
pub fn filled(mut builder: BatchBuilder, from: Timestamp, values: &[&str]) -> Bytes {
    for (at, value) in values.iter().enumerate() {
        builder.push(from.plus_ms(at as i64), Some(b"key"), Some(value.as_bytes()));
    }
    builder.build()
}

/// Produce to one partition.
pub fn produce_to(
    topic: &Topic,
    side: crate::pair::Side,
    partition: i32,
    records: Bytes,
) -> produce_api::Request {
    produce_api::Request {
        acks: -1,
        timeout_ms: 5000,
        topic_data: vec![produce_api::TopicProduceData {
            name: topic.name.clone(),
            topic_id: topic.id[side],
            partition_data: vec![produce_api::PartitionProduceData {
                index: partition,
                records: Some(records.into()),
            }],
        }],
        ..Default::default()
    }
}

/// Fetch from one partition, without waiting and outside of a session.
pub fn fetch_from(topic: &Topic, side: crate::pair::Side, partition: i32, offset: i64) -> fetch_api::Request {
    fetch_api::Request {
        max_bytes: 1 << 20,
        topics: vec![fetch_api::FetchTopic {
            topic: topic.name.clone(),
            topic_id: topic.id[side],
            partitions: vec![fetch_api::FetchPartition {
                partition,
                fetch_offset: Offset(offset),
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

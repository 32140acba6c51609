//! The reader with librdkafka: all partitions, committed records only, from the start and through all that happens.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::rdkafka::config;
use super::{Role, Stage, fail};
use crate::history::{Topic, places};

/// Reads until it is over.
pub fn read(role: &Role, stage: &Arc<Stage>) {
    let options = [
        ("group.id", role.name.as_str()),
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "error"),
        ("fetch.wait.max.ms", "20"),
        ("log_level", "0"),
    ];
    let consumer: BaseConsumer<DefaultConsumerContext> =
        config(role, &options).create().unwrap_or_else(|error| fail(error));
    let mut assignment = TopicPartitionList::new();
    for (topic, partition) in places() {
        assignment
            .add_partition_offset(topic.name(), partition, Offset::Beginning)
            .unwrap_or_else(|error| fail(error));
    }
    consumer.assign(&assignment).unwrap_or_else(|error| fail(error));
    while !stage.is_over() {
        let Some(Ok(record)) = consumer.poll(Duration::from_millis(20)) else { continue };
        let topic = Topic::named(record.topic()).unwrap_or_else(|| fail("a topic that nobody asked for"));
        let value = record.payload().map(String::from_utf8_lossy).unwrap_or_default();
        stage.saw((topic, record.partition()), record.offset(), &value);
    }
}

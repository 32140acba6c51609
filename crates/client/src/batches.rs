//! A producer that writes to several partitions with one request, or does not wait for an answer before it writes
//! on: what a client has to do whose broker should be the limit.

use bytes::Bytes;
use oncelog_records::{BatchBuilder, BatchView, increment_sequence};
use oncelog_wire::{ApiKey, Offset, Str, TopicPartition, Uuid, produce};

use crate::client::{REQUEST_TIMEOUT_MS, only};
use crate::error::check_with;
use crate::producer::TransactionVersion;
use crate::{ClientError, Pending, Producer, Result};

/// A batch whose answer has not been received.
#[derive(Debug)]
#[must_use = "an answer that is not received stays in the way of the next"]
pub struct PendingBatch(Pending<produce::Request>);

impl Producer {
    /// Writes one batch to each of several partitions with one request. As with [`Producer::send_batch`], sequence
    /// numbers are used up only when the broker has taken all of them.
    pub fn send_batches(
        &mut self,
        topic: &str,
        partitions: &[i32],
        mut fill: impl FnMut(i32, &mut BatchBuilder),
    ) -> Result<()> {
        self.announce(topic, partitions)?;
        let batches: Vec<(i32, Bytes)> = partitions
            .iter()
            .map(|&partition| (partition, self.batch(topic, partition, |batch| fill(partition, batch))))
            .collect();
        let limit = self.version.limit(ApiKey::Produce);
        let version = self.client.version_of::<produce::Request>()?.min(limit);
        let transactional_id = self.transactional_id.clone().filter(|_| self.is_in_transaction);
        self.client.retry(|client| {
            let topic_id = if version >= 13 { client.topic_id(topic)? } else { Uuid::ZERO };
            let request = request(topic, topic_id, &batches, transactional_id.clone());
            let answer = client.connection().call(&request, version)?;
            let partitions = only(answer.responses)?.partition_responses;
            if partitions.len() != batches.len() {
                return Err(ClientError::Nonsense("it is not about the partitions that were written"));
            }
            partitions.iter().try_for_each(|partition| {
                check_with(partition.error_code, partition.error_message.as_deref())
            })
        })?;
        batches.iter().try_for_each(|(partition, batch)| self.use_up(topic, *partition, batch))
    }

    /// Sends a batch and does not wait: the answers to several are received in the order in which they were sent.
    /// Nothing is sent again after an error, and the sequence numbers are used up at once. Until all answers are
    /// received, nothing else may be asked of this producer.
    pub fn start_batch(
        &mut self,
        topic: &str,
        partition: i32,
        fill: impl FnOnce(&mut BatchBuilder),
    ) -> Result<PendingBatch> {
        self.announce(topic, &[partition])?;
        let version = self.client.version_of::<produce::Request>()?.min(self.version.limit(ApiKey::Produce));
        let topic_id = if version >= 13 { self.client.topic_id(topic)? } else { Uuid::ZERO };
        let batch = self.batch(topic, partition, fill);
        self.use_up(topic, partition, &batch)?;
        let transactional_id = self.transactional_id.clone().filter(|_| self.is_in_transaction);
        let request = request(topic, topic_id, &[(partition, batch)], transactional_id);
        Ok(PendingBatch(self.client.connection().send(&request, version)?))
    }

    /// Waits for the answer to a batch; returns the offset of its first record.
    pub fn finish_batch(&mut self, pending: PendingBatch) -> Result<Offset> {
        let answer = self.client.connection().receive(pending.0)?;
        let partition = only(only(answer.responses)?.partition_responses)?;
        check_with(partition.error_code, partition.error_message.as_deref())?;
        Ok(partition.base_offset)
    }

    /// Tells the coordinator of the partitions that are about to be written, where the protocol asks for it.
    pub(crate) fn announce(&mut self, topic: &str, partitions: &[i32]) -> Result<()> {
        self.has_written = true;
        if self.is_in_transaction && self.version == TransactionVersion::V1 {
            self.add_partitions(topic, partitions)?;
        }
        Ok(())
    }

    /// Counts the records of a batch that the broker has; not twice.
    pub(crate) fn use_up(&mut self, topic: &str, partition: i32, batch: &Bytes) -> Result<()> {
        let header = BatchView::parse(batch)?.header();
        let sequence = self.sequences.entry(TopicPartition::new(topic, partition)).or_insert(0);
        if *sequence == header.base_sequence() {
            *sequence = increment_sequence(*sequence, header.record_count());
        }
        Ok(())
    }
}

fn request(
    topic: &str,
    topic_id: Uuid,
    batches: &[(i32, Bytes)],
    transactional_id: Option<Str>,
) -> produce::Request {
    let partitions = batches
        .iter()
        .map(|(index, batch)| produce::PartitionProduceData {
            index: *index,
            records: Some(batch.clone().into()),
        })
        .collect();
    produce::Request {
        transactional_id,
        acks: -1,
        timeout_ms: REQUEST_TIMEOUT_MS,
        topic_data: vec![produce::TopicProduceData {
            name: topic.into(),
            topic_id,
            partition_data: partitions,
        }],
    }
}

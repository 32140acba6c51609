//! Partitions join a transaction, or are looked up in it.

use oncelog_wire::{ErrorCode, Now, TopicPartition};

use super::metadata::TransactionState;
use super::{AddPartitions, Answer, Coordinator, Producer, Record};

impl Coordinator {
    pub(super) fn add_partitions(
        &mut self,
        request: &AddPartitions<'_>,
        now: Now,
        records: &mut Vec<Record>,
    ) -> Answer {
        if request.transactional_id.is_empty() {
            return Answer::Refused(ErrorCode::InvalidRequest);
        }
        let Some((transactional_id, current)) = self.durable.get_key_value(request.transactional_id) else {
            return Answer::Refused(ErrorCode::InvalidProducerIdMapping);
        };
        // Before the check of the producer: the end in progress may be about to give the client a new id.
        if current.state.prepared().is_some() {
            return Answer::Refused(ErrorCode::ConcurrentTransactions);
        }
        if let Err(error) = current.check_producer(request.producer) {
            return Answer::Refused(error);
        }
        let is_ongoing = current.state == TransactionState::Ongoing;
        if !is_ongoing || request.partitions.iter().any(|partition| !current.has_partition(partition)) {
            let metadata = current.with_partitions(request.partitions, request.transaction_version, now.wall);
            let transactional_id = transactional_id.clone();
            if !is_ongoing {
                self.sessions.set_deadline(
                    &transactional_id,
                    metadata.timeout().map(|timeout| now.monotonic + timeout),
                );
            }
            records.push(Record { transactional_id, metadata: Some(metadata) });
        }
        Answer::Done(request.producer)
    }

    /// Whether `partition` is in the open transaction of `producer`, for produce requests that rely on the client
    /// having added it. [`PartitionCheck`](super::PartitionCheck) turns the error into what the client is told.
    pub fn verify_partition(
        &self,
        transactional_id: &str,
        producer: Producer,
        partition: &TopicPartition,
    ) -> ErrorCode {
        if transactional_id.is_empty() {
            return ErrorCode::InvalidRequest;
        }
        let Some(current) = self.durable.get(transactional_id) else {
            return ErrorCode::InvalidProducerIdMapping;
        };
        if let Err(error) = current.check_producer(producer) {
            return error;
        }
        if current.state.prepared().is_some() {
            ErrorCode::ConcurrentTransactions
        } else if current.has_partition(partition) {
            ErrorCode::None
        } else {
            ErrorCode::TransactionAbortable
        }
    }
}

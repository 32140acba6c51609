//! A transaction ends: the outcome is decided for good, markers go out, and once all are written the end is complete.

use std::time::Duration;

use oncelog_records::MarkerKind;
use oncelog_wire::{ErrorCode, Now, ProducerEpoch, ProducerId, Str, TopicPartition};

use super::metadata::{End, TransactionMetadata, TransactionState};
use super::{Answer, Coordinator, EndTransaction, Markers, Output, Producer, Record};

/// After how long a marker that could not be written is tried again: at first, doubled each time, and at most.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(10);

impl Coordinator {
    pub(super) fn end_transaction(&mut self, request: &EndTransaction<'_>, now: Now, output: &mut Output) {
        match self.decide_end(request) {
            Ok((transactional_id, end)) => {
                let producer = self.prepare_end(transactional_id, &end, now, output);
                output.answer = Some(Answer::Done(producer));
            }
            Err(answer) => output.answer = Some(answer),
        }
    }

    /// The end that has to be prepared, or the answer where nothing has to be done.
    fn decide_end(&self, request: &EndTransaction<'_>) -> Result<(Str, End), Answer> {
        if request.transactional_id.is_empty() {
            return Err(Answer::Refused(ErrorCode::InvalidRequest));
        }
        let Some((transactional_id, current)) = self.durable.get_key_value(request.transactional_id) else {
            return Err(Answer::Refused(ErrorCode::InvalidProducerIdMapping));
        };
        let end = if request.transaction_version.bumps_epoch() {
            current.end_with_bump(request)?
        } else {
            current.end_without_bump(request)?
        };
        Ok((transactional_id.clone(), end))
    }

    /// Decides an end for good, and completes it where there are no markers to write. Returns who owns the id then.
    pub(super) fn prepare_end(
        &mut self,
        transactional_id: Str,
        end: &End,
        now: Now,
        output: &mut Output,
    ) -> Producer {
        let current = &self.durable[&transactional_id];
        let prepared = current.prepared(end, now.wall);
        let session = self.sessions.get(&transactional_id);
        if end.version.bumps_epoch() {
            session.last_producer_epoch = current.producer.epoch;
        }
        session.unwritten.clear();
        session.attempts = 0;
        let producer = prepared.producer_after_end();
        output
            .records
            .push(Record { transactional_id: transactional_id.clone(), metadata: Some(prepared.clone()) });
        if prepared.partitions.is_empty() {
            self.complete_end(transactional_id, prepared.completed(now.wall), now, output);
        } else {
            self.send_markers(transactional_id, prepared, now, output);
        }
        producer
    }

    /// Sends the markers that are still missing. Should no report on them come, they go out again at the deadline.
    pub(super) fn send_markers(
        &mut self,
        transactional_id: Str,
        prepared: TransactionMetadata,
        now: Now,
        output: &mut Output,
    ) {
        let session = self.sessions.get(&transactional_id);
        let partitions =
            if session.unwritten.is_empty() { prepared.partitions } else { session.unwritten.clone() };
        let backoff = RETRY_BACKOFF.saturating_mul(1 << session.attempts.min(10)).min(RETRY_BACKOFF_MAX);
        session.attempts += 1;
        self.sessions.set_deadline(&transactional_id, Some(now.monotonic + backoff));
        output.markers.push(Markers {
            transactional_id,
            producer: prepared.producer,
            outcome: if prepared.state == TransactionState::PrepareCommit {
                MarkerKind::Commit
            } else {
                MarkerKind::Abort
            },
            transaction_version: prepared.client_transaction_version,
            partitions,
        });
    }

    pub(super) fn markers_written(
        &mut self,
        markers: &Markers,
        mut failed: Vec<(TopicPartition, ErrorCode)>,
        now: Now,
        output: &mut Output,
    ) {
        let Some(current) = self.durable.get(&markers.transactional_id) else { return };
        if current.state.prepared() != Some(markers.outcome) || current.producer != markers.producer {
            return;
        }
        failed.retain(|&(_, error)| must_be_retried(error));
        if failed.is_empty() {
            let completed = current.completed(now.wall);
            self.complete_end(markers.transactional_id.clone(), completed, now, output);
            return;
        }
        let session = self.sessions.get(&markers.transactional_id);
        session.unwritten = failed.into_iter().map(|(partition, _)| partition).collect();
        if session.initialization.take().is_some() {
            output.answer = Some(Answer::Refused(ErrorCode::ConcurrentTransactions));
        }
    }

    /// All markers are written.
    pub(super) fn complete_end(
        &mut self,
        transactional_id: Str,
        completed: TransactionMetadata,
        now: Now,
        output: &mut Output,
    ) {
        let session = self.sessions.get(&transactional_id);
        session.unwritten.clear();
        let initialization = session.initialization.take();
        self.expire_later(&transactional_id, now);
        output
            .records
            .push(Record { transactional_id: transactional_id.clone(), metadata: Some(completed.clone()) });
        if let Some(initialization) = initialization {
            self.initialize_after_abort(transactional_id, &completed, &initialization, now, output);
        }
    }

    /// Transactions do not wait for the markers of a topic that is gone.
    pub(super) fn topic_deleted(&mut self, topic: &str, now: Now, output: &mut Output) {
        let mut concerned: Vec<Str> = self
            .durable
            .iter()
            .filter(|(_, metadata)| metadata.partitions.iter().any(|partition| partition.topic == *topic))
            .map(|(transactional_id, _)| transactional_id.clone())
            .collect();
        // So that the same history always gives the same decisions.
        concerned.sort_unstable();
        for transactional_id in concerned {
            let metadata = self.durable[&transactional_id].without_topic(topic);
            let is_prepared = metadata.state.prepared().is_some();
            output.records.push(Record {
                transactional_id: transactional_id.clone(),
                metadata: Some(metadata.clone()),
            });
            let session = self.sessions.get(&transactional_id);
            let was_tried = !session.unwritten.is_empty();
            session.unwritten.retain(|partition| partition.topic != *topic);
            if is_prepared && (metadata.partitions.is_empty() || (was_tried && session.unwritten.is_empty()))
            {
                self.complete_end(transactional_id, metadata.completed(now.wall), now, output);
            }
        }
    }
}

/// Whether a partition still waits for its marker. It does not where it is gone, nor where it has already seen a
/// higher epoch of this producer, which ended the transaction there.
fn must_be_retried(error: ErrorCode) -> bool {
    !matches!(error, ErrorCode::UnknownTopicOrPartition | ErrorCode::InvalidProducerEpoch | ErrorCode::None)
}

impl TransactionMetadata {
    /// EndTxn up to version 4: the epoch stays, so a repeated request is told by the state alone.
    fn end_without_bump(&self, request: &EndTransaction<'_>) -> Result<End, Answer> {
        self.check_producer(request.producer).map_err(Answer::Refused)?;
        if self.state.prepared().is_some() {
            return Err(Answer::Refused(ErrorCode::ConcurrentTransactions));
        }
        if self.state == TransactionState::Ongoing {
            Ok(End {
                outcome: request.outcome,
                version: request.transaction_version,
                next_producer_id: ProducerId::NONE,
            })
        } else if self.state.completed() == Some(request.outcome) {
            Err(Answer::Done(self.producer))
        } else {
            Err(Answer::Refused(ErrorCode::InvalidTxnState))
        }
    }

    /// EndTxn from version 5 (KIP-890): the epoch tells a repeated request from a new one.
    fn end_with_bump(&self, request: &EndTransaction<'_>) -> Result<End, Answer> {
        // Before the check of the producer: the end in progress may be about to give the client a new id.
        if self.state.prepared().is_some() {
            return Err(Answer::Refused(ErrorCode::ConcurrentTransactions));
        }
        if self.was_ended_for(request.producer) {
            return Err(self.answer_again(request.outcome));
        }
        self.check_producer(request.producer).map_err(Answer::Refused)?;
        if self.state != TransactionState::Ongoing && request.outcome == MarkerKind::Commit {
            return Err(Answer::Refused(ErrorCode::InvalidTxnState));
        }
        let next_producer_id = if self.producer.epoch.is_exhausted() {
            request.fresh.ok_or(Answer::ProducerIdNeeded)?
        } else {
            ProducerId::NONE
        };
        Ok(End { outcome: request.outcome, version: request.transaction_version, next_producer_id })
    }

    /// Whether `producer` is the owner whose transaction was the last to end, with a bump that it may not know of.
    /// Ends without a bump say nothing of the owner before: its epoch is that of a zombie.
    fn was_ended_for(&self, producer: Producer) -> bool {
        let is_bumped = producer.id == self.producer.id && producer.epoch.next() == self.producer.epoch;
        let is_moved = producer.id == self.previous_producer_id
            && producer.epoch == ProducerEpoch::EXHAUSTED
            && self.producer.epoch == ProducerEpoch(0);
        self.client_transaction_version.bumps_epoch() && (is_bumped || is_moved)
    }

    /// The answer to a client that asks for an end it has already had.
    fn answer_again(&self, wanted: MarkerKind) -> Answer {
        match self.state.completed() {
            // Somebody else has taken over since.
            None => Answer::Refused(ErrorCode::ProducerFenced),
            // The last epoch is for markers; the client has to start over to get a new producer id.
            Some(_) if self.producer.is_fence() => Answer::Refused(ErrorCode::ProducerFenced),
            Some(outcome) if outcome == wanted => Answer::Done(self.producer),
            // The coordinator has aborted a transaction that took too long (KAFKA-20785).
            Some(MarkerKind::Abort) => Answer::Refused(ErrorCode::ProducerFenced),
            Some(MarkerKind::Commit) => Answer::Refused(ErrorCode::InvalidTxnState),
        }
    }
}

//! A producer takes over a transactional id: it fences whoever had it, and what that one left open is aborted.

use oncelog_wire::{ErrorCode, Now, ProducerEpoch, Str};

use super::metadata::{End, TransactionMetadata, TransactionState};
use super::sessions::Initialization;
use super::{Answer, Coordinator, InitProducerId, Output, Producer, Record};

impl Coordinator {
    pub(super) fn init_producer_id(&mut self, request: &InitProducerId<'_>, now: Now, output: &mut Output) {
        let initialization = match self.check_arguments(request) {
            Ok(initialization) => initialization,
            Err(error) => {
                output.answer = Some(Answer::Refused(error));
                return;
            }
        };
        let Some((transactional_id, current)) = self.durable.get_key_value(request.transactional_id) else {
            self.create(request, &initialization, now, output);
            return;
        };
        if current.state.prepared().is_some() {
            output.answer = Some(Answer::Refused(ErrorCode::ConcurrentTransactions));
            return;
        }
        if request.expected.is_some_and(|expected| !current.may_continue_from(expected)) {
            output.answer = Some(Answer::Refused(ErrorCode::ProducerFenced));
            return;
        }
        let transactional_id = transactional_id.clone();
        if current.state == TransactionState::Ongoing {
            self.abort_and_initialize(transactional_id, initialization, now, output);
            return;
        }
        let last_epoch = self.sessions.last_producer_epoch(&transactional_id);
        match current.initialize(last_epoch, &initialization, now) {
            Ok((metadata, last_epoch)) => {
                self.initialized(transactional_id, metadata, last_epoch, now, output)
            }
            Err(answer) => output.answer = Some(answer),
        }
    }

    fn check_arguments(&self, request: &InitProducerId<'_>) -> Result<Initialization, ErrorCode> {
        if request.transactional_id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        if request.enable_two_phase_commit && !self.config.two_phase_commit_enable {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        if request.keep_prepared_transaction {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let timeout_ms = if request.enable_two_phase_commit { i32::MAX } else { request.timeout_ms };
        let max_ms = self.config.transaction_max_timeout.as_millis();
        if timeout_ms <= 0 || (!request.enable_two_phase_commit && timeout_ms as u128 > max_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        let expected_epoch = request.expected.map(|expected| expected.epoch);
        Ok(Initialization { timeout_ms, expected_epoch, fresh: request.fresh })
    }

    fn create(
        &mut self,
        request: &InitProducerId<'_>,
        initialization: &Initialization,
        now: Now,
        output: &mut Output,
    ) {
        let Some(fresh) = initialization.fresh else {
            output.answer = Some(Answer::ProducerIdNeeded);
            return;
        };
        let metadata = TransactionMetadata::unowned(fresh, now.wall).initialized(
            Producer::first(fresh),
            initialization.timeout_ms,
            now.wall,
        );
        self.initialized(Str::from(request.transactional_id), metadata, ProducerEpoch::NONE, now, output);
    }

    /// What Kafka does in two requests, with CONCURRENT_TRANSACTIONS in between: the epoch is bumped by the abort, and
    /// once more for the client.
    fn abort_and_initialize(
        &mut self,
        transactional_id: Str,
        initialization: Initialization,
        now: Now,
        output: &mut Output,
    ) {
        let current = &self.durable[&transactional_id];
        // Kafka aborts whatever the epoch, and tells the client afterwards that it is fenced. A zombie must not be able
        // to end the transaction of its successor.
        if initialization.expected_epoch.is_some_and(|epoch| epoch != current.producer.epoch) {
            output.answer = Some(Answer::Refused(ErrorCode::ProducerFenced));
            return;
        }
        let last_epoch = current.producer.epoch;
        let completed = current.prepared(&End::FENCE, now.wall).completed(now.wall);
        if let Err(answer) = completed.initialize(last_epoch, &initialization, now) {
            output.answer = Some(answer);
            return;
        }
        self.sessions.get(&transactional_id).initialization = Some(initialization);
        self.prepare_end(transactional_id, &End::FENCE, now, output);
    }

    /// Goes on with an InitProducerId whose abort is now complete.
    pub(super) fn initialize_after_abort(
        &mut self,
        transactional_id: Str,
        completed: &TransactionMetadata,
        initialization: &Initialization,
        now: Now,
        output: &mut Output,
    ) {
        let last_epoch = self.sessions.last_producer_epoch(&transactional_id);
        match completed.initialize(last_epoch, initialization, now) {
            Ok((metadata, last_epoch)) => {
                self.initialized(transactional_id, metadata, last_epoch, now, output)
            }
            Err(answer) => output.answer = Some(answer),
        }
    }

    fn initialized(
        &mut self,
        transactional_id: Str,
        metadata: TransactionMetadata,
        last_epoch: ProducerEpoch,
        now: Now,
        output: &mut Output,
    ) {
        self.sessions.get(&transactional_id).last_producer_epoch = last_epoch;
        self.expire_later(&transactional_id, now);
        output.answer = Some(Answer::Done(metadata.producer));
        output.records.push(Record { transactional_id, metadata: Some(metadata) });
    }
}

impl TransactionMetadata {
    /// Whether a client that believes to be `expected` is the present owner, or the one before it that has not heard
    /// of its new producer id (KIP-360). Its epoch is for [`TransactionMetadata::initialize`] to check.
    fn may_continue_from(&self, expected: Producer) -> bool {
        expected.id == self.producer.id
            || (expected.id == self.previous_producer_id && expected.epoch.is_exhausted())
    }

    /// Initialized for its next owner, and the epoch that one may name if it has to ask again.
    fn initialize(
        &self,
        last_epoch: ProducerEpoch,
        request: &Initialization,
        now: Now,
    ) -> Result<(TransactionMetadata, ProducerEpoch), Answer> {
        let current = self.producer;
        let (is_retry, last_epoch) = match request.expected_epoch {
            None => (false, ProducerEpoch::NONE),
            Some(expected) if expected == current.epoch => (false, expected),
            Some(expected) if expected == last_epoch => (true, expected),
            Some(_) => return Err(Answer::Refused(ErrorCode::ProducerFenced)),
        };
        let producer = if is_retry && !current.is_fence() {
            current
        } else if is_retry || current.epoch.is_exhausted() {
            Producer::first(request.fresh.ok_or(Answer::ProducerIdNeeded)?)
        } else {
            Producer { epoch: current.epoch.next(), ..current }
        };
        Ok((self.initialized(producer, request.timeout_ms, now.wall), last_epoch))
    }
}

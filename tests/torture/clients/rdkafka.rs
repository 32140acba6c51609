//! Short forms for librdkafka.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig,
};

use super::{PATIENCE, Role, Stage, TRANSACTION_TIMEOUT, fail};
use crate::history::{Place, Value};

/// A producer that says what is acknowledged.
pub type Producer = BaseProducer<Deliveries>;

/// Says what is acknowledged.
pub struct Deliveries(Arc<Stage>);

impl ClientContext for Deliveries {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Deliveries {
    /// The number of the record.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        if let Ok(message) = result {
            self.0.acknowledged(number as u32, message.offset());
        }
    }
}

/// Counts rebalances.
#[derive(Default)]
pub struct Rebalances(AtomicUsize);

impl Rebalances {
    /// How often partitions were given or taken.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl ClientContext for Rebalances {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The settings all clients share.
pub fn config(role: &Role, options: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", role.address.to_string())
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .set("retry.backoff.ms", "10")
        .set("socket.timeout.ms", "2500");
    for (key, value) in options {
        config.set(*key, *value);
    }
    config
}

/// A producer; a transactional one is let in.
pub fn producer(role: &Role, stage: &Arc<Stage>, is_transactional: bool) -> Producer {
    let mut config = config(role, &[("enable.idempotence", "true"), ("linger.ms", "1")]);
    if is_transactional {
        config.set("transactional.id", &role.name);
        config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
    }
    let producer: Producer =
        config.create_with_context(Deliveries(stage.clone())).unwrap_or_else(|error| fail(error));
    if is_transactional {
        stage.enters();
        insist(|| producer.init_transactions(PATIENCE)).unwrap_or_else(|error| fail(error));
        stage.is_in();
    }
    producer
}

/// Queues a record; waits while the queue is full.
pub fn enqueue(producer: &Producer, (topic, partition): Place, value: &Value) {
    let text = value.to_string();
    let mut record = BaseRecord::<(), str, usize>::with_opaque_to(topic.name(), value.id.1 as usize)
        .partition(partition)
        .payload(&text);
    while let Err((error, refused)) = producer.send(record) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => producer.poll(Duration::from_millis(10)),
            // The transaction is lost already; its end will tell.
            Some(RDKafkaErrorCode::State) => return,
            _ => fail(error),
        };
        record = refused;
    }
}

/// Repeats a call on a transaction as often as librdkafka says that it may be.
pub fn insist(mut call: impl FnMut() -> KafkaResult<()>) -> KafkaResult<()> {
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            result => return result,
        }
    }
}

/// Ends a transaction, by an abort where it cannot be committed. Says whether it was committed.
pub fn end(
    producer: &Producer,
    stage: &Stage,
    transaction: u32,
    filled: KafkaResult<()>,
    is_commit: bool,
) -> KafkaResult<bool> {
    let committed = filled.and_then(|()| {
        insist(|| producer.flush(PATIENCE))?;
        if is_commit {
            stage.asks(transaction, true);
            insist(|| producer.commit_transaction(PATIENCE))?;
            stage.committed(transaction);
        }
        Ok(is_commit)
    });
    match committed {
        Ok(true) => return Ok(true),
        Ok(false) => {}
        Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
            // An abort waits until all delivery reports are taken.
            producer.purge(PurgeConfig::default().queue().inflight());
            insist(|| producer.flush(PATIENCE))?;
        }
        Err(error) => return Err(error),
    }
    stage.asks(transaction, false);
    insist(|| producer.abort_transaction(PATIENCE))?;
    Ok(false)
}

//! An idempotent or transactional producer that sends one batch at a time.
//!
//! It speaks both versions of the transaction protocol: in the first (KIP-98) it names each partition to the
//! coordinator before it writes there; in the second (KIP-890) the broker does, and every end of a transaction
//! brings a new epoch. The first error is the caller's to handle: nothing is aborted behind its back.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use oncelog_records::{BatchBuilder, Compression};
use oncelog_wire::{
    ApiKey, Offset, ProducerEpoch, ProducerId, Str, TopicPartition, add_offsets_to_txn,
    add_partitions_to_txn, end_txn, init_producer_id, txn_offset_commit,
};

use crate::client::{now, only};
use crate::error::{check, check_with};
use crate::offsets::CoordinatorOf;
use crate::{Client, Result};

/// Which protocol transactions are run by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionVersion {
    /// KIP-98: the client adds partitions, the epoch stays.
    V1,
    /// KIP-890: the broker adds partitions, the epoch grows with each transaction.
    V2,
}

impl TransactionVersion {
    /// The newest version of an API that belongs to the protocol.
    pub(crate) fn limit(self, api: ApiKey) -> i16 {
        match (self, api) {
            (TransactionVersion::V1, ApiKey::Produce) => 11,
            (TransactionVersion::V1, ApiKey::TxnOffsetCommit | ApiKey::EndTxn) => 4,
            _ => i16::MAX,
        }
    }
}

/// How a producer is set up.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// After this the coordinator aborts a transaction on its own.
    pub transaction_timeout: Duration,
    /// The protocol; the newest the broker has, where it is left open.
    pub transaction_version: Option<TransactionVersion>,
    /// How batches are compressed.
    pub compression: Compression,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        ProducerOptions {
            transaction_timeout: Duration::from_secs(60),
            transaction_version: None,
            compression: Compression::None,
        }
    }
}

/// A producer with an identity.
#[derive(Debug)]
pub struct Producer {
    pub(crate) client: Client,
    pub(crate) transactional_id: Option<Str>,
    options: ProducerOptions,
    pub(crate) version: TransactionVersion,
    id: ProducerId,
    epoch: ProducerEpoch,
    pub(crate) sequences: HashMap<TopicPartition, i32>,
    pub(crate) is_in_transaction: bool,
    /// Whether the broker may know of the transaction.
    pub(crate) has_written: bool,
    added: HashSet<TopicPartition>,
    /// The group whose coordinator has been asked for.
    known_group: Option<Str>,
}

impl Producer {
    /// A producer that writes each batch exactly once.
    pub fn idempotent(client: Client, options: ProducerOptions) -> Result<Producer> {
        Producer::new(client, None, options)
    }

    /// A producer that writes in transactions. Fences every other producer with this id, and aborts what it left.
    pub fn transactional(
        client: Client,
        transactional_id: &str,
        options: ProducerOptions,
    ) -> Result<Producer> {
        Producer::new(client, Some(transactional_id.into()), options)
    }

    fn new(client: Client, transactional_id: Option<Str>, options: ProducerOptions) -> Result<Producer> {
        let newest =
            if client.transaction_version() >= 2 { TransactionVersion::V2 } else { TransactionVersion::V1 };
        let mut producer = Producer {
            version: options.transaction_version.unwrap_or(newest),
            client,
            transactional_id,
            options,
            id: ProducerId::NONE,
            epoch: ProducerEpoch::NONE,
            sequences: HashMap::new(),
            is_in_transaction: false,
            has_written: false,
            added: HashSet::new(),
            known_group: None,
        };
        if let Some(id) = producer.transactional_id.clone() {
            producer.client.await_coordinator(CoordinatorOf::Transaction, &id)?;
        }
        producer.init()?;
        Ok(producer)
    }

    /// Asks for an identity anew, bumping the epoch of the one there is (KIP-360); an open transaction is aborted.
    pub fn init(&mut self) -> Result<()> {
        let timeout_ms = match self.transactional_id {
            Some(_) => i32::try_from(self.options.transaction_timeout.as_millis()).unwrap_or(i32::MAX),
            None => i32::MAX,
        };
        let request = init_producer_id::Request {
            transactional_id: self.transactional_id.clone(),
            transaction_timeout_ms: timeout_ms,
            producer_id: self.id,
            producer_epoch: self.epoch,
            ..Default::default()
        };
        let (id, epoch) = self.client.retry(|client| {
            let answer = client.call(&request)?;
            check(answer.error_code)?;
            Ok((answer.producer_id, answer.producer_epoch))
        })?;
        self.adopt(id, epoch);
        self.forget_transaction();
        Ok(())
    }

    /// The client underneath: for other requests, or to be replaced by one with a new connection.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Producer id and epoch.
    pub fn identity(&self) -> (ProducerId, ProducerEpoch) {
        (self.id, self.epoch)
    }

    /// The protocol that is spoken.
    pub fn transaction_version(&self) -> TransactionVersion {
        self.version
    }

    /// Begins a transaction. The broker learns of it when something is written.
    ///
    /// # Panics
    /// Where the producer has no transactional id, or a transaction is open.
    pub fn begin(&mut self) {
        assert!(self.transactional_id.is_some(), "only a producer with a transactional id has transactions");
        assert!(!self.is_in_transaction, "a transaction is open");
        self.is_in_transaction = true;
    }

    /// Writes one record; returns its offset.
    pub fn send(
        &mut self,
        topic: &str,
        partition: i32,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Offset> {
        self.send_batch(topic, partition, |batch| batch.push(now(), Some(key.as_ref()), Some(value.as_ref())))
    }

    /// Writes values without keys in one batch; returns the offset of the first.
    pub fn send_values(
        &mut self,
        topic: &str,
        partition: i32,
        values: impl IntoIterator<Item: AsRef<[u8]>>,
    ) -> Result<Offset> {
        self.send_batch(topic, partition, |batch| {
            let now = now();
            values.into_iter().for_each(|value| batch.push(now, None, Some(value.as_ref())));
        })
    }

    /// Writes one batch, filled by `fill`; returns the offset of the first record. Its sequence numbers are used up
    /// only when the broker has taken it, so that the same call may be made again after an error.
    pub fn send_batch(
        &mut self,
        topic: &str,
        partition: i32,
        fill: impl FnOnce(&mut BatchBuilder),
    ) -> Result<Offset> {
        let batch = self.batch(topic, partition, fill);
        self.send_built(topic, partition, batch)
    }

    /// The next batch for a partition, with this producer's id, epoch and sequence, without sending it.
    pub fn batch(&self, topic: &str, partition: i32, fill: impl FnOnce(&mut BatchBuilder)) -> Bytes {
        let sequence = self.sequences.get(&TopicPartition::new(topic, partition)).copied().unwrap_or(0);
        let mut builder =
            BatchBuilder::new().compression(self.options.compression).producer(self.id, self.epoch, sequence);
        if self.is_in_transaction {
            builder = builder.transactional();
        }
        fill(&mut builder);
        builder.build()
    }

    /// Sends a batch that [`Producer::batch`] has built, for the first time or again.
    pub fn send_built(&mut self, topic: &str, partition: i32, batch: Bytes) -> Result<Offset> {
        self.announce(topic, &[partition])?;
        let transactional_id = self.transactional_id.as_deref().filter(|_| self.is_in_transaction);
        let limit = self.version.limit(ApiKey::Produce);
        let offset = self.client.retry(|client| {
            let answer = client.produce(topic, partition, batch.clone(), transactional_id, limit)?;
            check_with(answer.error_code, answer.error_message.as_deref())?;
            Ok(answer.base_offset)
        })?;
        self.use_up(topic, partition, &batch)?;
        Ok(offset)
    }

    pub(crate) fn add_partitions(&mut self, topic: &str, partitions: &[i32]) -> Result<()> {
        let is_added = |partition: &&i32| self.added.contains(&TopicPartition::new(topic, **partition));
        let partitions: Vec<i32> = partitions.iter().filter(|index| !is_added(index)).copied().collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let request = add_partitions_to_txn::Request {
            v3_and_below_transactional_id: self.own_transactional_id(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![add_partitions_to_txn::AddPartitionsToTxnTopic {
                name: topic.into(),
                partitions: partitions.clone(),
            }],
            ..Default::default()
        };
        self.client.retry(|client| {
            let answer = client.call_up_to(&request, 3)?;
            let results = only(answer.results_by_topic_v3_and_below)?.results_by_partition;
            results.iter().try_for_each(|result| check(result.partition_error_code))
        })?;
        self.added.extend(partitions.into_iter().map(|partition| TopicPartition::new(topic, partition)));
        Ok(())
    }

    /// Commits an offset of a group as part of the transaction.
    pub fn send_offset(&mut self, group: &str, topic: &str, partition: i32, offset: Offset) -> Result<()> {
        assert!(self.is_in_transaction, "no transaction is open");
        self.has_written = true;
        if self.known_group.as_deref() != Some(group) {
            self.client.await_coordinator(CoordinatorOf::Group, group)?;
            self.known_group = Some(group.into());
        }
        let transactional_id = self.own_transactional_id();
        if self.version == TransactionVersion::V1 {
            let request = add_offsets_to_txn::Request {
                transactional_id: transactional_id.clone(),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: group.into(),
            };
            self.client.retry(|client| check(client.call(&request)?.error_code))?;
        }
        let request = txn_offset_commit::Request {
            transactional_id,
            group_id: group.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            generation_id: -1,
            topics: vec![txn_offset_commit::TxnOffsetCommitRequestTopic {
                name: topic.into(),
                partitions: vec![txn_offset_commit::TxnOffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let limit = self.version.limit(ApiKey::TxnOffsetCommit);
        self.client.retry(|client| {
            check(only(only(client.call_up_to(&request, limit)?.topics)?.partitions)?.error_code)
        })
    }

    /// Makes the transaction's records count.
    ///
    /// # Panics
    /// Where no transaction is open; so do [`Producer::abort`] and [`Producer::send_offset`].
    pub fn commit(&mut self) -> Result<()> {
        self.end(true)
    }

    /// Makes the transaction's records count for nothing.
    pub fn abort(&mut self) -> Result<()> {
        self.end(false)
    }

    /// Like other clients, says nothing to the broker where nothing was written.
    fn end(&mut self, committed: bool) -> Result<()> {
        assert!(self.is_in_transaction, "no transaction is open");
        if !self.has_written {
            self.forget_transaction();
            return Ok(());
        }
        let request = end_txn::Request {
            transactional_id: self.own_transactional_id(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        };
        let limit = self.version.limit(ApiKey::EndTxn);
        let (id, epoch) = self.client.retry(|client| {
            let answer = client.call_up_to(&request, limit)?;
            check(answer.error_code)?;
            Ok((answer.producer_id, answer.producer_epoch))
        })?;
        if self.version == TransactionVersion::V2 {
            self.adopt(id, epoch);
        }
        self.forget_transaction();
        Ok(())
    }

    fn forget_transaction(&mut self) {
        self.is_in_transaction = false;
        self.has_written = false;
        self.added.clear();
    }

    /// Takes on an identity; with a new one sequences start at 0.
    fn adopt(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        if (id, epoch) != (self.id, self.epoch) {
            self.sequences.clear();
        }
        (self.id, self.epoch) = (id, epoch);
    }

    fn own_transactional_id(&self) -> Str {
        self.transactional_id.clone().expect("begin() is refused without one")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::script::{Arrived, all_versions, answer, serve};
    use oncelog_records::BatchView;
    use oncelog_wire::{ErrorCode, api_versions, find_coordinator, metadata, produce};
    use std::sync::{Arc, Mutex};

    type Log = Arc<Mutex<Vec<String>>>;

    /// A broker of one producer that takes everything, after refusing every second Produce in a way that passes.
    fn broker(transaction_version: i16) -> (Client, Log) {
        let log = Log::default();
        let notes = Arc::clone(&log);
        let mut epoch = 0;
        let mut produced = 0;
        let address = serve(move |request: Arrived| {
            let header = request.header.clone();
            let note = |text: String| notes.lock().unwrap().push(text);
            match header.api_key {
                ApiKey::ApiVersions => all_versions(&header, transaction_version),
                ApiKey::FindCoordinator => {
                    let found = vec![find_coordinator::Coordinator::default()];
                    let response = find_coordinator::Response { coordinators: found, ..Default::default() };
                    answer::<find_coordinator::Request>(&header, &response)
                }
                ApiKey::InitProducerId => {
                    let response = init_producer_id::Response {
                        producer_id: ProducerId(7),
                        producer_epoch: ProducerEpoch(epoch),
                        ..Default::default()
                    };
                    answer::<init_producer_id::Request>(&header, &response)
                }
                ApiKey::Metadata => {
                    let response =
                        metadata::Response { topics: vec![Default::default()], ..Default::default() };
                    answer::<metadata::Request>(&header, &response)
                }
                ApiKey::AddPartitionsToTxn => {
                    let request = request.decode::<add_partitions_to_txn::Request>();
                    let topic = &request.v3_and_below_topics[0];
                    note(format!("add {}-{}", topic.name, topic.partitions[0]));
                    let partitions = vec![Default::default()];
                    let topic = add_partitions_to_txn::AddPartitionsToTxnTopicResult {
                        name: topic.name.clone(),
                        results_by_partition: partitions,
                    };
                    let response = add_partitions_to_txn::Response {
                        results_by_topic_v3_and_below: vec![topic],
                        ..Default::default()
                    };
                    answer::<add_partitions_to_txn::Request>(&header, &response)
                }
                ApiKey::Produce => {
                    let request = request.decode::<produce::Request>();
                    let partition = &request.topic_data[0].partition_data[0];
                    let bytes = partition.records.as_ref().unwrap().as_bytes().unwrap();
                    let batch = BatchView::parse(bytes).unwrap();
                    let (epoch, sequence) = (batch.producer_epoch(), batch.base_sequence());
                    let is_transactional = batch.is_transactional() && request.transactional_id.is_some();
                    note(format!(
                        "produce v{} epoch={epoch} sequence={sequence} {is_transactional}",
                        header.api_version
                    ));
                    produced += 1;
                    let refusal =
                        if produced % 2 == 1 { ErrorCode::NotEnoughReplicas } else { ErrorCode::None };
                    let partition =
                        produce::PartitionProduceResponse { error_code: refusal, ..Default::default() };
                    let topic = produce::TopicProduceResponse {
                        partition_responses: vec![partition],
                        ..Default::default()
                    };
                    let response = produce::Response { responses: vec![topic], ..Default::default() };
                    answer::<produce::Request>(&header, &response)
                }
                ApiKey::EndTxn => {
                    let request = request.decode::<end_txn::Request>();
                    note(format!("end v{} {}", header.api_version, request.committed));
                    epoch += 1;
                    let response = end_txn::Response {
                        producer_id: ProducerId(7),
                        producer_epoch: ProducerEpoch(epoch),
                        ..Default::default()
                    };
                    answer::<end_txn::Request>(&header, &response)
                }
                _ => Vec::new(),
            }
        });
        (Client::connect(address, "test").unwrap(), log)
    }

    fn run(transaction_version: i16) -> Vec<String> {
        let (client, log) = broker(transaction_version);
        let mut producer = Producer::transactional(client, "pay", ProducerOptions::default()).unwrap();
        producer.begin();
        producer.send_values("t", 0, ["a", "b"]).unwrap();
        producer.send("t", 0, "k", "c").unwrap();
        producer.commit().unwrap();
        producer.begin();
        producer.commit().unwrap();
        producer.begin();
        producer.send("t", 0, "k", "d").unwrap();
        producer.abort().unwrap();
        log.lock().unwrap().clone()
    }

    #[test]
    fn version_1_adds_partitions_and_counts_on() {
        assert_eq!(
            run(1),
            [
                "add t-0",
                "produce v11 epoch=0 sequence=0 true",
                "produce v11 epoch=0 sequence=0 true",
                "produce v11 epoch=0 sequence=2 true",
                "produce v11 epoch=0 sequence=2 true",
                "end v4 true",
                "add t-0",
                "produce v11 epoch=0 sequence=3 true",
                "produce v11 epoch=0 sequence=3 true",
                "end v4 false",
            ]
        );
    }

    #[test]
    fn version_2_takes_a_new_epoch_and_starts_at_0() {
        assert_eq!(
            run(2),
            [
                "produce v13 epoch=0 sequence=0 true",
                "produce v13 epoch=0 sequence=0 true",
                "produce v13 epoch=0 sequence=2 true",
                "produce v13 epoch=0 sequence=2 true",
                "end v5 true",
                "produce v13 epoch=1 sequence=0 true",
                "produce v13 epoch=1 sequence=0 true",
                "end v5 false",
            ]
        );
    }

    #[test]
    fn without_retries_the_first_error_is_seen() {
        let (mut client, log) = broker(2);
        client.set_retry_for(Duration::ZERO);
        let mut producer = Producer::idempotent(client, ProducerOptions::default()).unwrap();
        let error = producer.send("t", 0, "k", "v").unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::NotEnoughReplicas));
        assert_eq!(log.lock().unwrap().as_slice(), ["produce v13 epoch=0 sequence=0 false"]);
        assert_eq!(producer.client().version_of::<api_versions::Request>().unwrap(), 4);
    }
}

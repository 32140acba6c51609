//! Produce: batches into partitions.
//!
//! A transactional batch goes into a partition that is part of its producer's open transaction. Where it is
//! the first of the transaction there, the coordinator is asked, and the batch is appended before the
//! coordinator can decide anything else about that transaction.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use oncelog_coordinator::metadata::config::{CompressionType, TopicConfig};
use oncelog_coordinator::transactions::{PartitionCheck, Producer};
use oncelog_log::{Appended, Origin, Verification};
use oncelog_records::{BatchError, BatchView, Compression, Refusal, Rules, recompress, validate};
use oncelog_wire::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, Request, Response, TopicProduceResponse,
};
use oncelog_wire::{ErrorCode, Offset, ProducerId, Records, Str, Timestamp, TopicPartition, Uuid};

use crate::Node;
use crate::context::Context;
use crate::host::transactions::TransactionalWrite;
use crate::partition::{Partition, State};
use crate::reply::Answer;
use crate::topics::{Topic, is_internal};

/// The client id that may write to internal topics, as Kafka has it.
const ADMIN_CLIENT_ID: &str = "__admin_client";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Acks {
    None,
    Leader,
    All,
}

impl Acks {
    fn from_wire(acks: i16) -> Option<Acks> {
        match acks {
            0 => Some(Acks::None),
            1 => Some(Acks::Leader),
            -1 => Some(Acks::All),
            _ => None,
        }
    }
}

/// Why a batch is not appended.
enum Failure {
    Code(ErrorCode),
    Refused(Refusal),
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Failure {
        Failure::Code(code)
    }
}

/// A sound batch on its way into its partition.
struct Entry {
    /// Where its answer goes: the index of the topic and, in it, of the partition.
    slot: (usize, usize),
    partition: Arc<Partition>,
    batch: Bytes,
}

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let mut response = Response {
        responses: request
            .topic_data
            .iter()
            .map(|topic| TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses: topic.partition_data.iter().map(|data| blank(data.index)).collect(),
            })
            .collect(),
        ..Response::default()
    };
    let acks = Acks::from_wire(request.acks);
    let may_be_early = Cell::new(node.syncs.is_some());
    let outcome = match acks {
        None => Err(ErrorCode::InvalidRequiredAcks),
        Some(_) => Produce { node, context, may_be_early: &may_be_early }.run(&request, &mut response),
    };
    if let Err(error_code) = outcome {
        may_be_early.set(false);
        refuse(&mut response, error_code);
    } else if acks == Some(Acks::None) {
        // Nobody reads an answer, so closing is the only way to say that something went wrong.
        let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        return match partitions.any(|partition| partition.error_code.is_error()) {
            true => Answer::Close("a produce with acks=0 failed"),
            false => Answer::Silent,
        };
    }
    if may_be_early.get() { Answer::Early(response) } else { response.into() }
}

/// Turns every answer into this error.
pub(crate) fn refuse(response: &mut Response, error_code: ErrorCode) {
    for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
        *partition = failed(partition.index, error_code.into());
    }
}

struct Produce<'a> {
    node: &'a Node,
    context: &'a Context<'a>,
    /// Whether each batch belongs to a transaction whose start, here, is synced: a transaction that loses records then is
    /// known to have been open, and will never be committed.
    may_be_early: &'a Cell<bool>,
}

impl Produce<'_> {
    /// Appends what can be appended and fills in the answers.
    ///
    /// # Errors
    /// What the whole request is refused with.
    fn run(&self, request: &Request, response: &mut Response) -> Result<(), ErrorCode> {
        let producer = transactional_producer(request)?;
        let mut unverified = Vec::new();
        for (topic_at, data) in request.topic_data.iter().enumerate() {
            let topic = self.find(&data.name, data.topic_id);
            for (partition_at, data) in data.partition_data.iter().enumerate() {
                let slot = (topic_at, partition_at);
                let appended = topic.as_ref().map_err(|code| Failure::Code(*code)).and_then(|topic| {
                    let partition = topic.partition(data.index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
                    let batch = self.check(&topic.config(), data.records.as_ref())?;
                    Ok(Entry { slot, partition, batch })
                });
                let appended =
                    appended.and_then(|entry| self.append_unless_unverified(entry, &mut unverified));
                self.may_be_early.set(self.may_be_early.get() && appended.is_ok());
                if let Some(answer) = answer(data.index, appended) {
                    response.responses[topic_at].partition_responses[partition_at] = answer;
                }
            }
        }
        if let Some(producer) = producer
            && !unverified.is_empty()
        {
            let transactional_id = request.transactional_id.clone().unwrap_or_default();
            self.append_verified(&transactional_id, producer, unverified, response);
        }
        Ok(())
    }

    fn find(&self, name: &str, id: Uuid) -> Result<Arc<Topic>, ErrorCode> {
        let topic = match self.context.api_version >= 13 {
            true => self.node.topics.by_id(id).ok_or(ErrorCode::UnknownTopicId)?,
            false => self.node.topics.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?,
        };
        match is_internal(&topic.name) && self.context.client_id != ADMIN_CLIENT_ID {
            true => Err(ErrorCode::InvalidTopicException),
            false => Ok(topic),
        }
    }

    /// Checks all that the bytes and the topic's settings tell; gives the batch as it will be stored.
    fn check(&self, config: &TopicConfig, records: Option<&Records>) -> Result<Bytes, Failure> {
        let Some(Records::Bytes(bytes)) = records else { return Err(ErrorCode::InvalidRecord.into()) };
        let rules = Rules {
            max_message_bytes: config.max_message_bytes as usize,
            segment_bytes: config.segment_bytes as usize,
            timestamp_type: config.message_timestamp_type,
            before_max_ms: config.message_timestamp_before_max_ms,
            after_max_ms: config.message_timestamp_after_max_ms,
            is_compacted: config.cleanup_policy.compact,
            is_zstd_allowed: self.context.api_version >= 7,
        };
        let now = self.context.now.wall;
        let validated = validate(bytes, &rules, now).map_err(Failure::Refused)?;
        let header = validated.header(Offset::ZERO, validated.batch.partition_leader_epoch());
        let is_stamped = header.as_bytes()[..] == validated.batch.bytes()[..header.as_bytes().len()];
        let stored = match is_stamped {
            true => Cow::Borrowed(bytes),
            false => Cow::Owned([&header.as_bytes()[..], validated.batch.payload()].concat().into()),
        };
        match target_compression(config, &validated.batch) {
            None => Ok(stored.into_owned()),
            Some(codec) => {
                let refused = |error: BatchError| Failure::Refused(error.into());
                let view = BatchView::parse(&stored).map_err(refused)?;
                let batch = recompress(&view, codec, rules.max_message_bytes).map_err(refused)?;
                Ok(batch.ok_or(ErrorCode::MessageTooLarge)?.into())
            }
        }
    }

    /// Appends the batch, unless the coordinator has to be asked first; then it is put with the `unverified`.
    fn append_unless_unverified(
        &self,
        entry: Entry,
        unverified: &mut Vec<Entry>,
    ) -> Result<Option<Appended>, Failure> {
        let batch = view(&entry.batch);
        let mut state = entry.partition.lock();
        if batch.is_transactional()
            && self.node.config.transaction_partition_verification_enable | self.adds_partitions()
            && !state.log.has_open_transaction(batch.producer_id(), batch.producer_epoch())
        {
            drop(state);
            self.may_be_early.set(false);
            unverified.push(entry);
            return Ok(None);
        }
        let appended = self.append(&mut state, &batch, Verification::None)?;
        if self.may_be_early.get() {
            let producer_id = batch.producer_id();
            let is_safe = batch.is_transactional() && state.log.is_open_transaction_safe(producer_id);
            self.may_be_early.set(is_safe);
        }
        Ok(Some(appended))
    }

    /// Whether this version of the request adds its partitions to the transaction (KIP-890).
    fn adds_partitions(&self) -> bool {
        PartitionCheck::for_produce(self.context.api_version) == PartitionCheck::Add
    }

    fn append_verified(
        &self,
        transactional_id: &Str,
        producer: Producer,
        entries: Vec<Entry>,
        response: &mut Response,
    ) {
        let partitions: Vec<_> = entries
            .iter()
            .map(|entry| TopicPartition {
                topic: entry.partition.topic.clone(),
                partition: entry.partition.index,
            })
            .collect();
        let check = PartitionCheck::for_produce(self.context.api_version);
        let write = TransactionalWrite { transactional_id, producer, partitions: &partitions, check };
        let verification = match check {
            PartitionCheck::Add => Verification::Begins,
            _ => Verification::Verified,
        };
        self.node.transactions.with_partitions(self.node, &write, self.context.now, |codes| {
            for (entry, &code) in entries.iter().zip(codes) {
                let (topic, partition) = entry.slot;
                let appended = match code {
                    ErrorCode::None => {
                        self.append(&mut entry.partition.lock(), &view(&entry.batch), verification).map(Some)
                    }
                    code => Err(check.produce_error(code)),
                };
                if let Some(answer) = answer(entry.partition.index, appended.map_err(Failure::Code)) {
                    response.responses[topic].partition_responses[partition] = answer;
                }
            }
        });
    }

    fn append(
        &self,
        state: &mut State,
        batch: &BatchView<'_>,
        verification: Verification,
    ) -> Result<Appended, ErrorCode> {
        if state.is_deleted {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        state.append(batch, Origin::Client(verification), self.context.now).map_err(|error| error.code())
    }
}

fn view(batch: &Bytes) -> BatchView<'_> {
    BatchView::parse(batch).expect("the batch has been validated")
}

/// The one producer of the transactional batches of a request, if there are any.
///
/// # Errors
/// As Kafka refuses the whole request: without a transactional id, or with batches of several producers. Every
/// batch is looked at, not just the first.
fn transactional_producer(request: &Request) -> Result<Option<Producer>, ErrorCode> {
    let mut found: Option<Producer> = None;
    for data in request.topic_data.iter().flat_map(|topic| &topic.partition_data) {
        let Some(Records::Bytes(bytes)) = &data.records else { continue };
        let Ok(batch) = BatchView::parse(bytes) else { continue };
        if !batch.is_transactional() {
            continue;
        }
        if request.transactional_id.is_none() {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        let producer = Producer { id: batch.producer_id(), epoch: batch.producer_epoch() };
        if producer.id == ProducerId::NONE || found.is_some_and(|found| found.id != producer.id) {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        found = Some(producer);
    }
    Ok(found)
}

/// The codec the topic asks for, where the batch has another.
fn target_compression(config: &TopicConfig, batch: &BatchView<'_>) -> Option<Compression> {
    let codec = match config.compression_type {
        CompressionType::Producer => return None,
        CompressionType::Uncompressed => Compression::None,
        CompressionType::Gzip => Compression::Gzip,
        CompressionType::Snappy => Compression::Snappy,
        CompressionType::Lz4 => Compression::Lz4,
        CompressionType::Zstd => Compression::Zstd,
    };
    (batch.compression().ok() != Some(codec)).then_some(codec)
}

fn blank(index: i32) -> PartitionProduceResponse {
    PartitionProduceResponse { index, ..PartitionProduceResponse::default() }
}

/// The answer for a partition; none yet for a batch that waits for the coordinator.
fn answer(index: i32, appended: Result<Option<Appended>, Failure>) -> Option<PartitionProduceResponse> {
    match appended {
        Ok(None) => None,
        Ok(Some(appended)) => Some(PartitionProduceResponse {
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time,
            log_start_offset: appended.log_start_offset,
            ..blank(index)
        }),
        Err(failure) => Some(failed(index, failure)),
    }
}

fn failed(index: i32, failure: Failure) -> PartitionProduceResponse {
    let blank = PartitionProduceResponse {
        base_offset: Offset::NONE,
        log_append_time_ms: Timestamp::NONE,
        log_start_offset: Offset::NONE,
        ..blank(index)
    };
    match failure {
        Failure::Code(error_code) => PartitionProduceResponse { error_code, ..blank },
        Failure::Refused(refusal) => PartitionProduceResponse {
            error_code: refusal.code,
            error_message: Some(Str::from(refusal.message)),
            record_errors: refusal
                .record_errors
                .iter()
                .map(|error| BatchIndexAndErrorMessage {
                    batch_index: error.index,
                    batch_index_error_message: Some(Str::from_static(error.message)),
                })
                .collect(),
            ..blank
        },
    }
}

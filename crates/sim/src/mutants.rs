//! Seeded bugs: what stands between clients and broker does to requests, answers and the disk what a bug would do.
//!
//! The broker itself stays as it is. A check that cannot see the trace of a bug in what clients are told and shown could
//! not see the bug either.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use oncelog_log::{Disk, MemoryDisk, OpenMode};
use oncelog_node::{Connection, Node, Reply};
use oncelog_records::{BatchBuilder, BatchView, batches};
use oncelog_wire::{
    ApiKey, ErrorCode, Now, Offset, ProducerEpoch, ProducerId, Reader, Records, Request, RequestHeader,
    Writer, decode_response, describe_transactions, encode_response, end_txn, fetch, init_producer_id,
    offset_commit, produce, txn_offset_commit, write_txn_markers,
};

use crate::broker;
use crate::disk::LossyDisk;
use crate::random::Random;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A produce is acknowledged and forgotten.
    AckWithoutWrite,
    /// The end of a log is lost at a start, as if acknowledged before it was written.
    AckBeforeWrite,
    /// What is acknowledged is not synced every other time. Shows where the power is cut.
    AckBeforeSync,
    /// Idempotent produces are taken for plain ones.
    NoDeduplication,
    /// The records of a batch are written in the wrong order.
    WrongOrder,
    /// A fetch says nothing of aborted transactions.
    HiddenAborts,
    /// read_committed is served up to the high watermark.
    NoLastStableOffset,
    /// The last stable offset is one too high.
    LastStableOffByOne,
    /// A fetch leaves out its first batch.
    SkippedBatch,
    /// A marker is written, and then the coordinator, which has not written its Prepare, decides otherwise.
    MarkerBeforePrepare,
    /// A commit is answered well and not done.
    ForgottenCommit,
    /// Offsets of a transaction count at once.
    EagerOffsets,
    /// Offsets of a transaction are forgotten.
    ForgottenOffsets,
    /// A commit of offsets outside of transactions is answered well and not done.
    ForgottenOffsetCommit,
    /// A fenced instance ends the transaction of its successor, and is told that all is well.
    NoFencing,
    /// Nothing is done at its deadline.
    NoTimers,
    /// A replay misses the last record of a coordinator.
    ShortReplay,
}

/// Hands requests to the broker and answers to clients; brings the bug in.
#[derive(Debug)]
pub struct Interposer {
    mutant: Option<Mutant>,
    random: Random,
    /// The newest epoch of each producer id.
    epochs: BTreeMap<ProducerId, ProducerEpoch>,
}

impl Default for Interposer {
    fn default() -> Interposer {
        Interposer::new(None)
    }
}

impl Interposer {
    /// With a bug, or without.
    pub fn new(mutant: Option<Mutant>) -> Interposer {
        Interposer { mutant, random: Random::new(1), epochs: BTreeMap::new() }
    }

    /// Whether the broker is told when a deadline has come.
    pub fn has_timers(&self) -> bool {
        self.mutant != Some(Mutant::NoTimers)
    }

    /// Hands a request to the broker.
    pub fn handle(
        &mut self,
        node: &Node,
        connection: &Connection,
        api: (ApiKey, i16),
        frame: Bytes,
        now: Now,
    ) -> Reply {
        let altered = self.mutant.and_then(|mutant| match api.0 {
            ApiKey::Produce => self.produce(mutant, node, connection, &frame, now),
            ApiKey::Fetch => self.fetch(mutant, node, connection, &frame, now),
            ApiKey::EndTxn => self.end_txn(mutant, node, connection, &frame, now),
            ApiKey::TxnOffsetCommit => self.txn_offset_commit(mutant, node, &frame, now),
            ApiKey::OffsetCommit => self.offset_commit(mutant, &frame),
            _ => None,
        });
        altered.unwrap_or_else(|| node.handle(connection, frame, now))
    }

    /// Hands on an answer.
    pub fn alter_answer(&mut self, api: (ApiKey, i16), answer: Bytes) -> Bytes {
        match (self.mutant, api.0) {
            (Some(Mutant::NoFencing), ApiKey::InitProducerId) => {
                if let Ok((_, found)) = decode_response::<init_producer_id::Request>(api.1, answer.clone()) {
                    self.epochs.insert(found.producer_id, found.producer_epoch);
                }
                answer
            }
            (Some(Mutant::NoFencing), ApiKey::EndTxn) if api.1 >= 5 => {
                if let Ok((_, found)) = decode_response::<end_txn::Request>(api.1, answer.clone()) {
                    self.epochs.insert(found.producer_id, found.producer_epoch);
                }
                answer
            }
            (Some(mutant), ApiKey::Fetch) => alter_fetched(mutant, api.1, answer),
            _ => answer,
        }
    }

    /// The broker is about to start.
    pub fn before_start(&mut self, disk: &LossyDisk) {
        match self.mutant {
            Some(Mutant::AckBeforeWrite) => cut_last_segment(disk, "orders-0"),
            Some(Mutant::AckBeforeSync) => disk.lie_about_syncs_of("journal-"),
            _ => {}
        }
    }

    /// Another broker is about to start on a copy of the disk.
    pub fn before_replay(&mut self, copy: &MemoryDisk) {
        if self.mutant == Some(Mutant::ShortReplay) {
            cut_last_segment(copy, "__transaction_state-0");
            cut_last_segment(copy, "__transaction_state-1");
        }
    }

    fn produce(
        &mut self,
        mutant: Mutant,
        node: &Node,
        connection: &Connection,
        frame: &Bytes,
        now: Now,
    ) -> Option<Reply> {
        let (header, mut request) = decode::<produce::Request>(frame)?;
        let data = request.topic_data.first_mut()?.partition_data.first_mut()?;
        let bytes = data.records.as_ref()?.as_bytes()?.clone();
        let batch = BatchView::parse(&bytes).ok()?;
        match mutant {
            Mutant::AckWithoutWrite if self.random.one_in(30) => {
                let partition = produce::PartitionProduceResponse { index: data.index, ..Default::default() };
                let topic = produce::TopicProduceResponse {
                    name: request.topic_data[0].name.clone(),
                    partition_responses: vec![produce::PartitionProduceResponse {
                        base_offset: Offset(1_000_000 + self.random.below(1_000) as i64),
                        ..partition
                    }],
                    ..Default::default()
                };
                let response = produce::Response { responses: vec![topic], ..Default::default() };
                Some(send::<produce::Request>(&header, &response))
            }
            Mutant::NoDeduplication if !batch.is_transactional() => {
                data.records = Some(rebuilt(&batch, false, false)?.into());
                Some(hand_over(node, connection, &header, &request, now))
            }
            Mutant::WrongOrder if batch.record_count() > 1 => {
                data.records = Some(rebuilt(&batch, true, true)?.into());
                let mut response = broker::ask(node, header.api_version, &request, now)?;
                // As an old duplicate is answered, so that nobody has been told where the records are.
                let topics = response.responses.iter_mut();
                for partition in topics.flat_map(|topic| &mut topic.partition_responses) {
                    partition.base_offset = Offset::NONE;
                }
                Some(send::<produce::Request>(&header, &response))
            }
            _ => None,
        }
    }

    fn fetch(
        &mut self,
        mutant: Mutant,
        node: &Node,
        connection: &Connection,
        frame: &Bytes,
        now: Now,
    ) -> Option<Reply> {
        let (header, mut request) = decode::<fetch::Request>(frame)?;
        if mutant != Mutant::NoLastStableOffset || request.isolation_level == 0 {
            return None;
        }
        request.isolation_level = 0;
        Some(hand_over(node, connection, &header, &request, now))
    }

    fn end_txn(
        &mut self,
        mutant: Mutant,
        node: &Node,
        connection: &Connection,
        frame: &Bytes,
        now: Now,
    ) -> Option<Reply> {
        let (header, mut request) = decode::<end_txn::Request>(frame)?;
        match mutant {
            Mutant::ForgottenCommit if request.committed && self.random.one_in(4) => {
                request.committed = false;
                Some(hand_over(node, connection, &header, &request, now))
            }
            Mutant::MarkerBeforePrepare if request.committed && self.random.one_in(4) => {
                write_one_marker(node, &request, now)?;
                request.committed = false;
                Some(hand_over(node, connection, &header, &request, now))
            }
            Mutant::NoFencing => {
                let newest = *self.epochs.get(&request.producer_id)?;
                if newest <= request.producer_epoch {
                    return None;
                }
                request.producer_epoch = newest;
                let mut response = broker::ask(node, header.api_version, &request, now)?;
                response.error_code = ErrorCode::None;
                (response.producer_id, response.producer_epoch) = (request.producer_id, newest);
                Some(send::<end_txn::Request>(&header, &response))
            }
            _ => None,
        }
    }

    fn offset_commit(&mut self, mutant: Mutant, frame: &Bytes) -> Option<Reply> {
        let (header, request) = decode::<offset_commit::Request>(frame)?;
        if mutant != Mutant::ForgottenOffsetCommit || !self.random.one_in(10) {
            return None;
        }
        let topics = request.topics.iter().map(answer_well).collect();
        Some(send::<offset_commit::Request>(
            &header,
            &offset_commit::Response { topics, ..Default::default() },
        ))
    }

    fn txn_offset_commit(&mut self, mutant: Mutant, node: &Node, frame: &Bytes, now: Now) -> Option<Reply> {
        let (header, request) = decode::<txn_offset_commit::Request>(frame)?;
        match mutant {
            Mutant::EagerOffsets => {
                let topics = request.topics.iter().map(|topic| offset_commit::OffsetCommitRequestTopic {
                    name: topic.name.clone(),
                    partitions: topic.partitions.iter().map(eager).collect(),
                    ..Default::default()
                });
                let commit = offset_commit::Request {
                    group_id: request.group_id.clone(),
                    topics: topics.collect(),
                    ..Default::default()
                };
                broker::ask(node, 8, &commit, now)?;
            }
            Mutant::ForgottenOffsets => {}
            _ => return None,
        }
        let partition = |partition: &txn_offset_commit::TxnOffsetCommitRequestPartition| {
            let partition_index = partition.partition_index;
            txn_offset_commit::TxnOffsetCommitResponsePartition { partition_index, ..Default::default() }
        };
        let topics = request.topics.iter().map(|topic| txn_offset_commit::TxnOffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(partition).collect(),
        });
        let response = txn_offset_commit::Response { topics: topics.collect(), ..Default::default() };
        Some(send::<txn_offset_commit::Request>(&header, &response))
    }
}

fn answer_well(topic: &offset_commit::OffsetCommitRequestTopic) -> offset_commit::OffsetCommitResponseTopic {
    let partition = |partition: &offset_commit::OffsetCommitRequestPartition| {
        let partition_index = partition.partition_index;
        offset_commit::OffsetCommitResponsePartition { partition_index, ..Default::default() }
    };
    offset_commit::OffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(partition).collect(),
        ..Default::default()
    }
}

fn eager(
    partition: &txn_offset_commit::TxnOffsetCommitRequestPartition,
) -> offset_commit::OffsetCommitRequestPartition {
    offset_commit::OffsetCommitRequestPartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        ..Default::default()
    }
}

fn alter_fetched(mutant: Mutant, version: i16, answer: Bytes) -> Bytes {
    let Ok((_, mut response)) = decode_response::<fetch::Request>(version, answer.clone()) else {
        return answer;
    };
    for data in response.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
        match mutant {
            Mutant::HiddenAborts => data.aborted_transactions = None,
            Mutant::NoLastStableOffset => data.last_stable_offset = data.high_watermark,
            Mutant::LastStableOffByOne if !data.error_code.is_error() => {
                data.last_stable_offset = data.last_stable_offset.next();
            }
            Mutant::SkippedBatch => {
                let bytes = data.records.as_ref().and_then(Records::as_bytes).cloned().unwrap_or_default();
                let mut found = batches(&bytes).flatten();
                if let (Some(first), Some(_)) = (found.next(), found.next()) {
                    data.records = Some(bytes.slice(first.bytes().len()..).into());
                }
            }
            _ => {}
        }
    }
    broker::gather(encode_response::<fetch::Request>(version, 7, &response, &mut Writer::new()))
}

/// Ends the transaction in the first of its partitions, behind the coordinator's back.
fn write_one_marker(node: &Node, request: &end_txn::Request, now: Now) -> Option<()> {
    let transactional_ids = vec![request.transactional_id.clone()];
    let known = broker::ask(node, 0, &describe_transactions::Request { transactional_ids }, now)?;
    let topics = &known.transaction_states.first()?.topics;
    let partition = |topic: &describe_transactions::TopicData| (topic.topic.clone(), topic.partitions[0]);
    let (name, partition) = topics.iter().find(|topic| !topic.topic.starts_with("__")).map(partition)?;
    let topic = write_txn_markers::WritableTxnMarkerTopic { name, partition_indexes: vec![partition] };
    let marker = write_txn_markers::WritableTxnMarker {
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        transaction_result: true,
        topics: vec![topic],
        ..Default::default()
    };
    broker::ask(node, 1, &write_txn_markers::Request { markers: vec![marker] }, now).map(drop)
}

fn decode<R: Request>(frame: &Bytes) -> Option<(RequestHeader, R)> {
    let mut reader = Reader::new(frame.clone());
    let header = RequestHeader::decode(&mut reader).ok()?;
    let request = R::decode(&mut reader, header.api_version).ok()?;
    Some((header, request))
}

fn hand_over<R: Request>(
    node: &Node,
    connection: &Connection,
    header: &RequestHeader,
    request: &R,
    now: Now,
) -> Reply {
    let client_id = header.client_id.as_deref().unwrap_or_default();
    let frame = broker::frame(header.api_version, header.correlation_id, client_id, request);
    node.handle(connection, frame, now)
}

fn send<R: Request>(header: &RequestHeader, response: &R::Response) -> Reply {
    let frame = encode_response::<R>(header.api_version, header.correlation_id, response, &mut Writer::new());
    Reply::Send(frame)
}

/// The same records in another batch: without the identity of the producer, or in the wrong order.
fn rebuilt(batch: &BatchView<'_>, keeps_identity: bool, is_reversed: bool) -> Option<Bytes> {
    let mut builder = BatchBuilder::new();
    if keeps_identity && batch.producer_id() != ProducerId::NONE {
        builder = builder.producer(batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
    }
    if batch.is_transactional() {
        builder = builder.transactional();
    }
    let mut values = Vec::new();
    let mut records = batch.records().ok()?;
    while let Some(record) = records.next_record().ok()? {
        values.push((record.timestamp, record.value?.to_vec()));
    }
    if is_reversed {
        values.reverse();
    }
    values.iter().for_each(|(timestamp, value)| builder.push(*timestamp, None, Some(value)));
    Some(builder.build())
}

/// Cuts some bytes off the newest segment of a partition.
fn cut_last_segment(disk: &dyn Disk, partition: &str) {
    let directory = Path::new(broker::DIRECTORY).join(partition);
    let entries = disk.list(&directory).unwrap_or_default();
    let Some(newest) = entries.iter().map(|entry| &entry.name).filter(|name| name.ends_with(".log")).max()
    else {
        return;
    };
    if let Ok(file) = disk.open(&directory.join(newest), OpenMode::Existing) {
        let length = file.length().unwrap_or_default();
        // What does not work changes nothing.
        let _ = file.truncate(length.saturating_sub(10));
    }
}

//! Transactional producers of both generations, and those who live by writing transactions.
//!
//! The first generation (KIP-98) keeps its epoch from one transaction to the next, so that a copy of a request that
//! comes in late could hit the next transaction. As a careful client does, it takes a new epoch whenever it lost sight
//! of a request. The second (KIP-890) gets a new epoch with every end.

use std::collections::{BTreeMap, BTreeSet};

use oncelog_wire::{
    ErrorCode, Offset, Str, TopicPartition, add_offsets_to_txn, add_partitions_to_txn, end_txn,
    init_producer_id, produce, txn_offset_commit,
};

use super::{Batch, Client, Identity};
use crate::history::{End, FLEETING, SessionId, TransactionId, Written};
use crate::world::Phase;

/// After this the coordinator aborts a transaction.
pub const TRANSACTION_TIMEOUT_MS: i32 = 8_000;

/// How often a write is tried before the transaction is given up.
const ATTEMPTS: usize = 8;

/// The version of the transaction protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The client adds partitions.
    One,
    /// The broker does.
    Two,
}

impl Generation {
    fn pick(self, one: i16, two: i16) -> i16 {
        if self == Generation::One { one } else { two }
    }
}

/// Why a transaction does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It has to be aborted.
    Transaction,
    /// Somebody else has taken over, or nothing can be known any more: the instance ends.
    Instance,
}

/// A group's progress to be committed with a transaction, and which member says so.
pub struct Progress<'a> {
    /// The group.
    pub group: &'a str,
    /// The member's id; empty where the group has no members.
    pub member_id: Str,
    /// The member's generation; -1 where the group has no members.
    pub generation_id: i32,
    /// The offsets.
    pub offsets: Vec<(TopicPartition, i64)>,
}

/// An instance of a transactional id.
pub struct Transactional {
    /// Its connection.
    pub client: Client,
    id: Str,
    generation: Generation,
    identity: Identity,
    session: SessionId,
    sequences: BTreeMap<TopicPartition, i32>,
    added: BTreeSet<TopicPartition>,
    has_added_offsets: bool,
    transaction: TransactionId,
    has_sent: bool,
    /// Whether there is anything to commit.
    has_part: bool,
    /// A copy of a request may still come in.
    has_lost_sight: bool,
    /// A copy of the request for this identity may.
    has_lost_init: bool,
}

impl Transactional {
    /// Asks to be let in, whoever has the id now.
    pub async fn new(client: Client, id: &str, generation: Generation) -> Result<Transactional, Failed> {
        let session = client.world.change().history.new_session();
        let mut producer = Transactional {
            client,
            id: id.into(),
            generation,
            identity: Identity::NONE,
            session,
            sequences: BTreeMap::new(),
            added: BTreeSet::new(),
            has_added_offsets: false,
            transaction: 0,
            has_sent: false,
            has_part: false,
            has_lost_sight: false,
            has_lost_init: false,
        };
        producer.init().await?;
        Ok(producer)
    }

    /// Gets an identity, or a new epoch for the one there is (KIP-360).
    async fn init(&mut self) -> Result<(), Failed> {
        let request = init_producer_id::Request {
            transactional_id: Some(self.id.clone()),
            transaction_timeout_ms: TRANSACTION_TIMEOUT_MS,
            producer_id: self.identity.id,
            producer_epoch: self.identity.epoch,
            ..Default::default()
        };
        loop {
            let asked = self.client.ask(self.generation.pick(4, 5), &request).await;
            self.has_lost_init |= asked.was_lost;
            let answer = asked.answer;
            match answer.error_code {
                ErrorCode::None => {
                    self.adopt(Identity { id: answer.producer_id, epoch: answer.producer_epoch });
                    let mut world = self.client.world.change();
                    world.history.let_in(self.identity.id, self.identity.epoch);
                    break;
                }
                ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch
                    if self.identity != Identity::NONE && request.producer_id == self.identity.id =>
                {
                    return Err(self.is_fenced("init"));
                }
                code => self.wait_for_better(code).await?,
            }
        }
        self.client.note(format_args!("is producer {}/{}", self.identity.id, self.identity.epoch));
        self.has_lost_sight = false;
        Ok(())
    }

    fn adopt(&mut self, identity: Identity) {
        if identity != self.identity {
            self.sequences.clear();
        }
        self.identity = identity;
    }

    fn is_fenced(&self, at: &str) -> Failed {
        self.client.note(format_args!("is fenced at {at}"));
        Failed::Instance
    }

    async fn wait_for_better(&self, code: ErrorCode) -> Result<(), Failed> {
        if !self.client.may_pass(code) {
            return Err(Failed::Instance);
        }
        self.client.back_off().await;
        Ok(())
    }

    /// Begins a transaction.
    pub fn begin(&mut self) {
        let Identity { id, epoch } = self.identity;
        self.transaction = self.client.world.change().history.begin(id, epoch);
        self.has_sent = false;
        self.has_part = false;
        self.added.clear();
        self.has_added_offsets = false;
        self.client.note(format_args!("begins transaction {}", self.transaction));
    }

    /// Writes records, copies of these sources where there are any.
    pub async fn write(
        &mut self,
        place: &TopicPartition,
        sources: &[Option<(i32, i64)>],
    ) -> Result<(), Failed> {
        if self.generation == Generation::One && !self.add_partition(place).await? {
            return Ok(());
        }
        self.has_sent = true;
        let sequence = self.sequences.get(place).copied().unwrap_or(0);
        let records = {
            let mut world = self.client.world.change();
            let written = Written::In(self.transaction);
            let new = |source: &Option<_>| world.history.new_record(place, self.session, written, *source);
            sources.iter().map(new).collect()
        };
        let batch = Batch::new(&self.client.world, place, records, self.identity, sequence, true);
        for _ in 0..ATTEMPTS {
            let request = batch.request(&self.client.world, Some(&self.id));
            let version = self.generation.pick(11, 12);
            let Ok(answer) = self.client.try_once::<produce::Request>(version, &request).await else {
                self.has_lost_sight = true;
                self.client.back_off().await;
                continue;
            };
            match batch.take_answer(&self.client.world, &answer) {
                ErrorCode::None => {
                    self.has_part = true;
                    self.sequences.insert(place.clone(), sequence + batch.records.len() as i32);
                    return Ok(());
                }
                ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced => {
                    return Err(self.is_fenced("write"));
                }
                ErrorCode::UnknownTopicOrPartition if place.topic == FLEETING => return Ok(()),
                ErrorCode::TransactionAbortable => break,
                // The topic was made anew in the middle of the transaction, and knows nothing of what came before.
                ErrorCode::OutOfOrderSequenceNumber if place.topic == FLEETING => break,
                code => self.wait_for_better(code).await?,
            }
        }
        self.client.note(format_args!("gives up writing to {place}"));
        self.has_lost_sight = true;
        Err(Failed::Transaction)
    }

    /// Names a partition to the coordinator; says whether there is such a partition.
    async fn add_partition(&mut self, place: &TopicPartition) -> Result<bool, Failed> {
        if self.added.contains(place) {
            return Ok(true);
        }
        self.has_sent = true;
        let topic = add_partitions_to_txn::AddPartitionsToTxnTopic {
            name: place.topic.clone(),
            partitions: vec![place.partition],
        };
        let request = add_partitions_to_txn::Request {
            v3_and_below_transactional_id: self.id.clone(),
            v3_and_below_producer_id: self.identity.id,
            v3_and_below_producer_epoch: self.identity.epoch,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        loop {
            let asked = self.client.ask(3, &request).await;
            self.has_lost_sight |= asked.was_lost;
            let results = asked.answer.results_by_topic_v3_and_below;
            let result = results.first().and_then(|topic| topic.results_by_partition.first());
            let Some(code) = result.map(|result| result.partition_error_code) else {
                self.client.is_surprised("AddPartitionsToTxn was answered without the partition");
                return Err(Failed::Instance);
            };
            match code {
                ErrorCode::None => break,
                ErrorCode::UnknownTopicOrPartition if place.topic == FLEETING => return Ok(false),
                ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced => {
                    return Err(self.is_fenced("add partitions"));
                }
                code => self.wait_for_better(code).await?,
            }
        }
        self.added.insert(place.clone());
        Ok(true)
    }

    /// Has the group's offsets committed with the transaction.
    pub async fn commit_offsets(&mut self, progress: &Progress<'_>) -> Result<(), Failed> {
        self.has_sent = true;
        if self.generation == Generation::One {
            self.add_offsets(progress.group).await?;
        }
        let topics = progress.offsets.iter().map(|(place, offset)| {
            let partition = txn_offset_commit::TxnOffsetCommitRequestPartition {
                partition_index: place.partition,
                committed_offset: Offset(*offset),
                ..Default::default()
            };
            let name = place.topic.clone();
            txn_offset_commit::TxnOffsetCommitRequestTopic { name, partitions: vec![partition] }
        });
        let request = txn_offset_commit::Request {
            transactional_id: self.id.clone(),
            group_id: progress.group.into(),
            producer_id: self.identity.id,
            producer_epoch: self.identity.epoch,
            generation_id: progress.generation_id,
            member_id: progress.member_id.clone(),
            topics: topics.collect(),
            ..Default::default()
        };
        let version = self.generation.pick(3, 5);
        for _ in 0..ATTEMPTS {
            let Ok(answer) = self.client.try_once(version, &request).await else {
                self.has_lost_sight = true;
                if self.generation == Generation::One {
                    // A second copy could undo the next transaction's progress, so there must be no next in this epoch.
                    return Err(Failed::Transaction);
                }
                self.client.back_off().await;
                continue;
            };
            let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let code = codes.map(|partition| partition.error_code).find(|code| code.is_error());
            match code.unwrap_or_default() {
                ErrorCode::None => {
                    self.has_part = true;
                    return Ok(());
                }
                ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced => {
                    return Err(self.is_fenced("commit offsets"));
                }
                ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::RebalanceInProgress
                | ErrorCode::TransactionAbortable => return Err(Failed::Transaction),
                code => self.wait_for_better(code).await?,
            }
        }
        self.has_lost_sight = true;
        Err(Failed::Transaction)
    }

    async fn add_offsets(&mut self, group: &str) -> Result<(), Failed> {
        if self.has_added_offsets {
            return Ok(());
        }
        let request = add_offsets_to_txn::Request {
            transactional_id: self.id.clone(),
            producer_id: self.identity.id,
            producer_epoch: self.identity.epoch,
            group_id: group.into(),
        };
        loop {
            let asked = self.client.ask(3, &request).await;
            self.has_lost_sight |= asked.was_lost;
            match asked.answer.error_code {
                ErrorCode::None => break,
                ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced => {
                    return Err(self.is_fenced("add offsets"));
                }
                code => self.wait_for_better(code).await?,
            }
        }
        self.has_added_offsets = true;
        Ok(())
    }

    /// Ends the transaction. One that nothing has become part of is aborted.
    pub async fn end(&mut self, is_commit: bool) -> Result<(), Failed> {
        let transaction = self.transaction;
        let is_commit = is_commit && self.has_part;
        self.client.world.change().history.asks_for_end(transaction, is_commit);
        if !self.has_sent {
            return Ok(());
        }
        let request = end_txn::Request {
            transactional_id: self.id.clone(),
            producer_id: self.identity.id,
            producer_epoch: self.identity.epoch,
            committed: is_commit,
        };
        loop {
            let asked = self.client.ask(self.generation.pick(4, 5), &request).await;
            self.has_lost_sight |= asked.was_lost;
            self.client.note(format_args!(
                "ends transaction {transaction}, commit {is_commit}: {}",
                asked.answer.error_code
            ));
            match asked.answer.error_code {
                ErrorCode::None => {
                    if is_commit {
                        self.client.world.change().history.committed(transaction);
                    }
                    if self.generation == Generation::Two {
                        let (id, epoch) = (asked.answer.producer_id, asked.answer.producer_epoch);
                        self.adopt(Identity { id, epoch });
                        self.has_lost_sight = false;
                    }
                    break;
                }
                ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced => {
                    return Err(self.is_fenced("end"));
                }
                // Nothing had reached the coordinator.
                ErrorCode::InvalidTxnState if !is_commit => {
                    self.has_lost_sight = true;
                    break;
                }
                // As in Kafka, a copy of InitProducerId that comes in late takes the coordinator from a finished transaction
                // to none, and then nobody can tell how it ended.
                ErrorCode::InvalidTxnState if self.has_lost_init => return Err(Failed::Instance),
                code => self.wait_for_better(code).await?,
            }
        }
        if self.has_lost_sight {
            self.init().await?;
        }
        Ok(())
    }

    /// Goes on after a failure: aborts the transaction, if it is that which has failed.
    pub async fn recover(&mut self, failed: Failed) -> Result<(), Failed> {
        match failed {
            Failed::Transaction => self.end(false).await,
            Failed::Instance => Err(failed),
        }
    }

    /// Whether the commit was asked for, if it is not known to have failed.
    pub fn has_committed(&self) -> bool {
        let world = self.client.world.look();
        world.history.transactions[self.transaction].end == End::Committed
    }
}

/// Writes transactions until the storm ends, or somebody else takes over.
pub async fn run(client: Client, id: String, generation: Generation, places: Vec<TopicPartition>) {
    let Ok(mut producer) = Transactional::new(client, &id, generation).await else { return };
    while producer.client.phase() == Phase::Storm {
        producer.begin();
        let outcome = match write_some(&mut producer, &places).await {
            Ok(is_commit) => producer.end(is_commit).await,
            Err(failed) => producer.recover(failed).await,
        };
        if outcome.is_err() {
            return;
        }
        producer.client.world.sleep_within(1..300).await;
    }
}

/// Writes some records here and there; says whether they are to be committed.
async fn write_some(producer: &mut Transactional, places: &[TopicPartition]) -> Result<bool, Failed> {
    let world = producer.client.world.clone();
    for _ in 0..world.within(1..6) {
        let (place, count) = {
            let mut world = world.change();
            let place = places[world.random.below(places.len() as u64) as usize].clone();
            (place, world.random.within(1..4) as usize)
        };
        producer.write(&place, &vec![None; count]).await?;
        world.sleep_within(1..100).await;
    }
    // Now and then for too long.
    if world.one_in(60) && producer.client.phase() == Phase::Storm {
        world.sleep_within(2_000..12_000).await;
    }
    Ok(!world.one_in(4))
}

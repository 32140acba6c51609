//! Requests with every field in the test's hand, where the client would decide for itself.

use bytes::Bytes;
use oncelog_client::{Client, Isolation, Result, TransactionVersion};
use oncelog_records::BatchBuilder;
use oncelog_wire::{
    ErrorCode, Offset, ProducerEpoch, ProducerId, Str, add_offsets_to_txn, add_partitions_to_txn,
    create_topics, describe_producers, describe_transactions, end_txn, find_coordinator, init_producer_id,
    metadata, offset_fetch, produce, txn_offset_commit, write_txn_markers,
};

use crate::eventually;
use crate::forge::now;

/// A producer's identity.
pub type Identity = (ProducerId, ProducerEpoch);

/// The newest version of Produce, and of TxnOffsetCommit and EndTxn, that belongs to a version of transactions.
pub fn newest_versions(version: TransactionVersion) -> (i16, i16) {
    match version {
        TransactionVersion::V1 => (11, 4),
        TransactionVersion::V2 => (i16::MAX, 5),
    }
}

/// Asks for a producer id; `expected` is what the producer has.
pub fn init_producer_id(
    client: &mut Client,
    transactional_id: Option<&str>,
    timeout_ms: i32,
    expected: Option<Identity>,
) -> Result<init_producer_id::Response> {
    let (producer_id, producer_epoch) = expected.unwrap_or((ProducerId::NONE, ProducerEpoch::NONE));
    client.call(&init_producer_id::Request {
        transactional_id: transactional_id.map(Str::from),
        transaction_timeout_ms: timeout_ms,
        producer_id,
        producer_epoch,
        ..Default::default()
    })
}

/// A new identity under a transactional id, once the coordinator is there to give one.
pub fn new_identity(client: &mut Client, transactional_id: &str) -> Identity {
    new_identity_for(client, transactional_id, 60_000)
}

/// The same, with a transaction timeout.
pub fn new_identity_for(client: &mut Client, transactional_id: &str, timeout_ms: i32) -> Identity {
    let find = find_coordinator::Request {
        key_type: 1,
        coordinator_keys: vec![transactional_id.into()],
        ..Default::default()
    };
    let mut identity = None;
    eventually("a producer id is given", || {
        client.call(&find).expect("FindCoordinator is answered");
        let answer = init_producer_id(client, Some(transactional_id), timeout_ms, None);
        let answer = answer.expect("InitProducerId is answered");
        assert!(!answer.error_code.is_error() || answer.error_code.is_retriable(), "{}", answer.error_code);
        identity = (!answer.error_code.is_error()).then_some((answer.producer_id, answer.producer_epoch));
        identity.is_some()
    });
    identity.expect("it was waited for")
}

/// A transactional producer whose every request is sent when the test says so, as often as it says so.
pub struct Transactor {
    /// Whom it talks to.
    pub client: Client,
    /// Its transactional id.
    pub id: String,
    /// What it was given last.
    pub identity: Identity,
    /// The protocol it speaks.
    pub version: TransactionVersion,
}

impl Transactor {
    /// A new producer with a transactional id of its own.
    pub fn new(version: TransactionVersion) -> Transactor {
        Transactor::named(version, &crate::unique("tx"), 60_000)
    }

    /// A producer with this transactional id and this timeout.
    pub fn named(version: TransactionVersion, id: &str, timeout_ms: i32) -> Transactor {
        Transactor::at(crate::client(), version, id, timeout_ms)
    }

    /// The same, over a connection of the test's choice.
    pub fn at(mut client: Client, version: TransactionVersion, id: &str, timeout_ms: i32) -> Transactor {
        let identity = new_identity_for(&mut client, id, timeout_ms);
        Transactor { client, id: id.to_owned(), identity, version }
    }

    /// Writes records to a partition, after adding it to the transaction where that is the client's to do.
    pub fn write(&mut self, topic: &str, partition: i32, sequence: i32, count: i32) -> ErrorCode {
        if self.version == TransactionVersion::V1 {
            let added = self.add(&[(topic, partition)]);
            if added.is_error() {
                return added;
            }
        }
        self.produce(topic, partition, sequence, count)
    }

    /// Writes records to a partition that ought to be part of the transaction.
    pub fn produce(&mut self, topic: &str, partition: i32, sequence: i32, count: i32) -> ErrorCode {
        let (identity, transactional_id) = (self.identity, Some(self.id.as_str()));
        let write = Write { topic, partition, identity, sequence, count, transactional_id };
        let newest = newest_versions(self.version).0;
        settled(|| write.send(&mut self.client, newest).expect("a batch is answered").error_code)
    }

    /// Adds partitions to the transaction; says the first error.
    pub fn add(&mut self, partitions: &[(&str, i32)]) -> ErrorCode {
        settled(|| {
            let codes = add_partitions(&mut self.client, &self.id, self.identity, partitions);
            let mut codes = codes.expect("AddPartitionsToTxn is answered").into_iter();
            codes.find(|code| code.is_error()).unwrap_or_default()
        })
    }

    /// Commits an offset of a group as part of the transaction.
    pub fn commit_offset(&mut self, group: &str, topic: &str, offset: i64) -> ErrorCode {
        find_group(&mut self.client, group);
        if self.version == TransactionVersion::V1 {
            let added = settled(|| {
                let added = add_offsets(&mut self.client, &self.id, self.identity, group);
                added.expect("AddOffsetsToTxn is answered")
            });
            if added.is_error() {
                return added;
            }
        }
        let newest = newest_versions(self.version).1;
        settled(|| {
            let commit = (group, topic, offset);
            let code = txn_offset_commit(&mut self.client, &self.id, self.identity, commit, newest);
            code.expect("TxnOffsetCommit is answered")
        })
    }

    /// Ends the transaction and takes on the identity that comes with it.
    pub fn end(&mut self, committed: bool) -> ErrorCode {
        let (code, identity) = self.end_as(self.identity, committed);
        if !code.is_error() && self.version == TransactionVersion::V2 {
            self.identity = identity;
        }
        code
    }

    /// Ends the transaction as somebody else, or as who one was.
    pub fn end_as(&mut self, identity: Identity, committed: bool) -> (ErrorCode, Identity) {
        let newest = newest_versions(self.version).1;
        let mut given = identity;
        let code = settled(|| {
            let answer = end_txn(&mut self.client, &self.id, identity, committed, newest);
            let answer = answer.expect("EndTxn is answered");
            given = (answer.producer_id, answer.producer_epoch);
            answer.error_code
        });
        (code, given)
    }

    /// The name of the state the coordinator has the transactional id in.
    pub fn state(&mut self) -> String {
        describe_transaction(&mut self.client, &self.id).transaction_state.to_string()
    }
}

/// Asks for the coordinator of a group, which makes the broker create what it needs.
pub fn find_group(client: &mut Client, group: &str) {
    let find = find_coordinator::Request { coordinator_keys: vec![group.into()], ..Default::default() };
    client.call(&find).expect("FindCoordinator is answered");
}

/// Tries again while the answer is that of a coordinator that is about to be ready.
pub fn settled(mut attempt: impl FnMut() -> ErrorCode) -> ErrorCode {
    let mut code = ErrorCode::None;
    eventually("the coordinator is ready", || {
        code = attempt();
        !matches!(
            code,
            ErrorCode::ConcurrentTransactions
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator
                | ErrorCode::NotEnoughReplicas
        )
    });
    code
}

/// A batch of a producer.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Where to.
    pub topic: &'a str,
    /// Where to in that.
    pub partition: i32,
    /// By whom.
    pub identity: Identity,
    /// The sequence of the first record.
    pub sequence: i32,
    /// How many records.
    pub count: i32,
    /// In whose transaction.
    pub transactional_id: Option<&'a str>,
}

impl Write<'_> {
    /// The bytes of the batch.
    pub fn batch(&self) -> Bytes {
        let (id, epoch) = self.identity;
        let mut builder = BatchBuilder::new().producer(id, epoch, self.sequence);
        if self.transactional_id.is_some() {
            builder = builder.transactional();
        }
        for at in 0..self.count {
            builder.push(now(), None, Some(format!("{epoch}/{}", self.sequence.wrapping_add(at)).as_bytes()));
        }
        builder.build()
    }

    /// Sends it, by a version of Produce of at most this.
    pub fn send(
        &self,
        client: &mut Client,
        newest_version: i16,
    ) -> Result<produce::PartitionProduceResponse> {
        client.produce(self.topic, self.partition, self.batch(), self.transactional_id, newest_version)
    }

    /// Sends it by the newest version and says what became of it.
    pub fn outcome(&self, client: &mut Client) -> (ErrorCode, Offset) {
        let answer = self.send(client, i16::MAX).expect("a batch is answered");
        (answer.error_code, answer.base_offset)
    }
}

/// Adds partitions to a transaction, as clients of the first version do.
pub fn add_partitions(
    client: &mut Client,
    transactional_id: &str,
    (id, epoch): Identity,
    partitions: &[(&str, i32)],
) -> Result<Vec<ErrorCode>> {
    let topics = partitions.iter().map(|(topic, partition)| add_partitions_to_txn::AddPartitionsToTxnTopic {
        name: (*topic).into(),
        partitions: vec![*partition],
    });
    let request = add_partitions_to_txn::Request {
        v3_and_below_transactional_id: transactional_id.into(),
        v3_and_below_producer_id: id,
        v3_and_below_producer_epoch: epoch,
        v3_and_below_topics: topics.collect(),
        ..Default::default()
    };
    let answer = client.call_up_to(&request, 3)?;
    let results = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
    Ok(results.map(|result| result.partition_error_code).collect())
}

/// Adds a group to a transaction, as clients of the first version do.
pub fn add_offsets(
    client: &mut Client,
    transactional_id: &str,
    (id, epoch): Identity,
    group: &str,
) -> Result<ErrorCode> {
    let request = add_offsets_to_txn::Request {
        transactional_id: transactional_id.into(),
        producer_id: id,
        producer_epoch: epoch,
        group_id: group.into(),
    };
    Ok(client.call(&request)?.error_code)
}

/// Commits an offset of partition 0 as part of a transaction.
pub fn txn_offset_commit(
    client: &mut Client,
    transactional_id: &str,
    (id, epoch): Identity,
    (group, topic, offset): (&str, &str, i64),
    version: i16,
) -> Result<ErrorCode> {
    let request = txn_offset_commit::Request {
        transactional_id: transactional_id.into(),
        group_id: group.into(),
        producer_id: id,
        producer_epoch: epoch,
        generation_id: -1,
        topics: vec![txn_offset_commit::TxnOffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![txn_offset_commit::TxnOffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: Offset(offset),
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    Ok(client.call_up_to(&request, version)?.topics[0].partitions[0].error_code)
}

/// The committed offset of partition 0, and the error there is in its place.
pub fn fetch_offset(
    client: &mut Client,
    group: &str,
    topic: &str,
    require_stable: bool,
) -> Result<(ErrorCode, i64)> {
    let topic_id = client.topic_id(topic)?;
    let answer = client.call(&offset_fetch::Request {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![offset_fetch::OffsetFetchRequestTopics {
                name: topic.into(),
                topic_id,
                partition_indexes: vec![0],
            }]),
            ..Default::default()
        }],
        require_stable,
        ..Default::default()
    })?;
    let group = &answer.groups[0];
    if group.error_code.is_error() {
        return Ok((group.error_code, -1));
    }
    let partition = &group.topics[0].partitions[0];
    Ok((partition.error_code, partition.committed_offset.0))
}

/// Ends a transaction by this version of EndTxn.
pub fn end_txn(
    client: &mut Client,
    transactional_id: &str,
    (id, epoch): Identity,
    committed: bool,
    version: i16,
) -> Result<end_txn::Response> {
    let request = end_txn::Request {
        transactional_id: transactional_id.into(),
        producer_id: id,
        producer_epoch: epoch,
        committed,
    };
    client.call_up_to(&request, version)
}

/// What the coordinator knows of a transactional id.
pub fn describe_transaction(
    client: &mut Client,
    transactional_id: &str,
) -> describe_transactions::TransactionState {
    let request = describe_transactions::Request { transactional_ids: vec![transactional_id.into()] };
    let mut answer = client.call(&request).expect("DescribeTransactions is answered");
    answer.transaction_states.pop().expect("one was asked for")
}

/// The producers a partition remembers.
pub fn producers(client: &mut Client, topic: &str, partition: i32) -> Vec<describe_producers::ProducerState> {
    let request = describe_producers::Request {
        topics: vec![describe_producers::TopicRequest {
            name: topic.into(),
            partition_indexes: vec![partition],
        }],
    };
    let mut answer = client.call(&request).expect("DescribeProducers is answered");
    answer
        .topics
        .pop()
        .and_then(|mut topic| topic.partitions.pop())
        .expect("one was asked for")
        .active_producers
}

/// Writes a marker, as an administrator does.
pub fn write_marker(
    client: &mut Client,
    (id, epoch): Identity,
    committed: bool,
    coordinator_epoch: i32,
    (topic, partition): (&str, i32),
) -> Result<ErrorCode> {
    let request = write_txn_markers::Request {
        markers: vec![write_txn_markers::WritableTxnMarker {
            producer_id: id,
            producer_epoch: epoch,
            transaction_result: committed,
            topics: vec![write_txn_markers::WritableTxnMarkerTopic {
                name: topic.into(),
                partition_indexes: vec![partition],
            }],
            coordinator_epoch,
            ..Default::default()
        }],
    };
    Ok(client.call(&request)?.markers[0].topics[0].partitions[0].error_code)
}

/// High watermark and last stable offset.
pub fn watermarks(client: &mut Client, topic: &str, partition: i32) -> (i64, i64) {
    let high = client.end_offset(topic, partition, Isolation::ReadUncommitted);
    let stable = client.end_offset(topic, partition, Isolation::ReadCommitted);
    (high.expect("the high watermark is known").0, stable.expect("the last stable offset is known").0)
}

/// A topic to create, with one replica.
pub fn creatable(name: &str, partitions: i32) -> create_topics::CreatableTopic {
    create_topics::CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    }
}

/// Creates a topic and says with which error.
pub fn create(client: &mut Client, topic: create_topics::CreatableTopic) -> Result<ErrorCode> {
    let request = create_topics::Request { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    Ok(client.call(&request)?.topics[0].error_code)
}

/// What Metadata says of a topic, which it may create.
pub fn metadata_code(client: &mut Client, name: &str, may_create: bool) -> Result<ErrorCode> {
    let request = metadata::Request {
        topics: Some(vec![metadata::MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]),
        allow_auto_topic_creation: may_create,
        ..Default::default()
    };
    Ok(client.call(&request)?.topics[0].error_code)
}

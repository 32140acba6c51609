//! A connection that knows the broker's versions, and the everyday requests: topics, and one partition at a time.

use std::collections::HashMap;
use std::net::ToSocketAddrs;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use oncelog_records::BatchBuilder;
use oncelog_wire::{
    ErrorCode, Offset, Request, Str, Timestamp, Uuid, create_topics, delete_topics, list_offsets, metadata,
    produce,
};

use crate::error::{check, check_with};
use crate::{ClientError, Connection, Isolation, Result};

/// In place of a timestamp: the end of the partition, or of what is stable.
pub const LATEST: Timestamp = Timestamp(-1);
/// In place of a timestamp: the start of the log.
pub const EARLIEST: Timestamp = Timestamp(-2);
/// In place of a timestamp: the record with the largest timestamp.
pub const MAX_TIMESTAMP: Timestamp = Timestamp(-3);

/// How long the broker may take for what it waits on.
pub(crate) const REQUEST_TIMEOUT_MS: i32 = 30_000;

/// How long to go on after errors that pass, unless told otherwise.
const RETRY_FOR: Duration = Duration::from_secs(10);
/// How long to wait before the first repetition; twice as long before each further one, up to a limit.
const RETRY_PAUSE: Duration = Duration::from_millis(1);
const MAX_RETRY_PAUSE: Duration = Duration::from_millis(16);

/// A client of one broker.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    versions: HashMap<i16, RangeInclusive<i16>>,
    transaction_version: i16,
    topic_ids: HashMap<Str, Uuid>,
    retry_for: Duration,
    retries: u64,
}

impl Client {
    /// Connects and learns the broker's versions.
    pub fn connect(address: impl ToSocketAddrs, client_id: &str) -> Result<Client> {
        Client::new(Connection::connect(address, client_id)?)
    }

    /// The same, for a broker that may still be starting: tries again until `patience` is used up.
    pub fn connect_within(
        address: impl ToSocketAddrs,
        client_id: &str,
        patience: Duration,
    ) -> Result<Client> {
        let deadline = Instant::now() + patience;
        loop {
            match Client::connect(&address, client_id) {
                Err(ClientError::Io(_) | ClientError::Closed) if Instant::now() < deadline => {
                    std::thread::sleep(MAX_RETRY_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Learns the versions of the broker at the other end.
    pub fn new(mut connection: Connection) -> Result<Client> {
        let answer = connection.api_versions()?;
        check(answer.error_code)?;
        let versions =
            answer.api_keys.iter().map(|api| (api.api_key, api.min_version..=api.max_version)).collect();
        let mut features = answer.finalized_features.iter();
        let transaction_version = features
            .find(|feature| feature.name == "transaction.version")
            .map_or(0, |feature| feature.max_version_level);
        Ok(Client {
            connection,
            versions,
            transaction_version,
            topic_ids: HashMap::new(),
            retry_for: RETRY_FOR,
            retries: 0,
        })
    }

    /// The connection, for requests by hand.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// How long requests are repeated that meet an error that passes. With zero every error is seen.
    pub fn set_retry_for(&mut self, retry_for: Duration) {
        self.retry_for = retry_for;
    }

    /// How many requests were repeated so far because of an error that passes.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// The finalized level of `transaction.version`, 0 where the broker has none.
    pub fn transaction_version(&self) -> i16 {
        self.transaction_version
    }

    /// The newest version of `R` that both sides know.
    pub fn version_of<R: Request>(&self) -> Result<i16> {
        let theirs = self.versions.get(&R::KEY.code()).ok_or(ClientError::NoCommonVersion(R::KEY))?;
        let newest = *theirs.end().min(R::VERSIONS.end());
        if newest < *theirs.start().max(R::VERSIONS.start()) {
            return Err(ClientError::NoCommonVersion(R::KEY));
        }
        Ok(newest)
    }

    /// Sends a request in the newest common version and waits for its answer.
    pub fn call<R: Request>(&mut self, request: &R) -> Result<R::Response> {
        self.call_up_to(request, i16::MAX)
    }

    /// The same, in no version above `limit`.
    pub fn call_up_to<R: Request>(&mut self, request: &R, limit: i16) -> Result<R::Response> {
        let version = self.version_of::<R>()?.min(limit);
        self.connection.call(request, version)
    }

    /// Repeats `attempt` while it meets an error that passes.
    pub(crate) fn retry<T>(&mut self, mut attempt: impl FnMut(&mut Client) -> Result<T>) -> Result<T> {
        let mut first = None;
        let mut pause = RETRY_PAUSE;
        loop {
            match attempt(self) {
                Err(error)
                    if error.code().is_some_and(passes)
                        && first.get_or_insert_with(Instant::now).elapsed() < self.retry_for =>
                {
                    if error.code() == Some(ErrorCode::UnknownTopicId) {
                        self.topic_ids.clear();
                    }
                    self.retries += 1;
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(MAX_RETRY_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Creates a topic with the broker's defaults.
    pub fn create_topic(&mut self, name: &str, partitions: i32) -> Result<Uuid> {
        self.create_topic_with(name, partitions, &[])
    }

    /// Creates a topic with configs of its own.
    pub fn create_topic_with(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<Uuid> {
        let configs = configs.iter().map(|(name, value)| create_topics::CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        });
        let answer = self.call(&create_topics::Request {
            topics: vec![create_topics::CreatableTopic {
                name: name.into(),
                num_partitions: partitions,
                replication_factor: -1,
                configs: configs.collect(),
                ..Default::default()
            }],
            timeout_ms: REQUEST_TIMEOUT_MS,
            ..Default::default()
        })?;
        let topic = only(answer.topics)?;
        check_with(topic.error_code, topic.error_message.as_deref())?;
        Ok(topic.topic_id)
    }

    /// Deletes a topic.
    pub fn delete_topic(&mut self, name: &str) -> Result<()> {
        let request = delete_topics::Request {
            topics: vec![delete_topics::DeleteTopicState { name: Some(name.into()), ..Default::default() }],
            topic_names: vec![name.into()],
            timeout_ms: REQUEST_TIMEOUT_MS,
        };
        self.topic_ids.remove(name);
        let topic = only(self.call(&request)?.responses)?;
        check_with(topic.error_code, topic.error_message.as_deref())
    }

    /// What the broker says of a topic. A topic that does not exist is not created.
    pub fn describe_topic(&mut self, name: &str) -> Result<metadata::MetadataResponseTopic> {
        let answer = self.call(&metadata::Request {
            topics: Some(vec![metadata::MetadataRequestTopic {
                name: Some(name.into()),
                ..Default::default()
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        })?;
        let topic = only(answer.topics)?;
        check(topic.error_code)?;
        Ok(topic)
    }

    /// The topic's id; asked for once and remembered.
    pub fn topic_id(&mut self, name: &str) -> Result<Uuid> {
        if let Some(id) = self.topic_ids.get(name) {
            return Ok(*id);
        }
        let id = self.describe_topic(name)?.topic_id;
        self.topic_ids.insert(name.into(), id);
        Ok(id)
    }

    /// Writes one batch and waits for all replicas. The broker's answer is returned whatever it says.
    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        transactional_id: Option<&str>,
        newest_version: i16,
    ) -> Result<produce::PartitionProduceResponse> {
        let version = self.version_of::<produce::Request>()?.min(newest_version);
        let topic_id = if version >= 13 { self.topic_id(topic)? } else { Uuid::ZERO };
        let request = produce::Request {
            transactional_id: transactional_id.map(Str::from),
            acks: -1,
            timeout_ms: REQUEST_TIMEOUT_MS,
            topic_data: vec![produce::TopicProduceData {
                name: topic.into(),
                topic_id,
                partition_data: vec![produce::PartitionProduceData {
                    index: partition,
                    records: Some(batch.into()),
                }],
            }],
        };
        let answer = self.connection.call(&request, version)?;
        only(only(answer.responses)?.partition_responses)
    }

    /// Writes values without keys, all in one batch and without a producer id. Returns the offset of the first.
    pub fn produce_values(
        &mut self,
        topic: &str,
        partition: i32,
        values: impl IntoIterator<Item: AsRef<[u8]>>,
    ) -> Result<Offset> {
        let mut builder = BatchBuilder::new();
        let now = now();
        for value in values {
            builder.push(now, None, Some(value.as_ref()));
        }
        let batch = builder.build();
        self.retry(|client| {
            let answer = client.produce(topic, partition, batch.clone(), None, i16::MAX)?;
            check_with(answer.error_code, answer.error_message.as_deref())?;
            Ok(answer.base_offset)
        })
    }

    /// The offset, and the timestamp where there is one, of the first record at `timestamp` or later; or of
    /// [`EARLIEST`], [`LATEST`] or [`MAX_TIMESTAMP`]. [`Offset::NONE`] where there is no such record.
    pub fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: Timestamp,
        isolation: Isolation,
    ) -> Result<(Offset, Timestamp)> {
        let request = list_offsets::Request {
            replica_id: -1,
            isolation_level: isolation.code(),
            topics: vec![list_offsets::ListOffsetsTopic {
                name: topic.into(),
                partitions: vec![list_offsets::ListOffsetsPartition {
                    partition_index: partition,
                    timestamp,
                    ..Default::default()
                }],
            }],
            timeout_ms: REQUEST_TIMEOUT_MS,
        };
        self.retry(|client| {
            let answer = only(only(client.call(&request)?.topics)?.partitions)?;
            check(answer.error_code)?;
            Ok((answer.offset, answer.timestamp))
        })
    }

    /// The end of the partition: the high watermark, or the last stable offset.
    pub fn end_offset(&mut self, topic: &str, partition: i32, isolation: Isolation) -> Result<Offset> {
        Ok(self.list_offset(topic, partition, LATEST, isolation)?.0)
    }
}

/// Errors of a broker that is about to be ready.
fn passes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::ConcurrentTransactions
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::UnknownTopicId
            | ErrorCode::UnstableOffsetCommit
    )
}

/// The one element of an answer to a question about one thing.
pub(crate) fn only<T>(elements: Vec<T>) -> Result<T> {
    match <[T; 1]>::try_from(elements) {
        Ok([element]) => Ok(element),
        Err(_) => Err(ClientError::Nonsense("it is not about the one thing that was asked")),
    }
}

/// The time of the wall clock.
pub(crate) fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}

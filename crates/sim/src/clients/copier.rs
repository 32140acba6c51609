//! Consume, transform, produce: each committed input record is to have one committed output record, whoever dies.

use std::time::Duration;

use oncelog_client::{Isolation, visible_records};
use oncelog_wire::{ErrorCode, Offset, Str, TopicPartition, fetch, offset_fetch};

use super::Client;
use super::transactional::{Failed, Generation, Progress, Transactional};
use crate::history::ORDERS;
use crate::world::Phase;

/// The most records that are copied in one transaction.
const MOST_RECORDS: u64 = 8;

/// One way from the orders to a topic of copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// The group whose offsets say how far it has come.
    pub group: &'static str,
    /// Where the copies go, partition by partition.
    pub output: &'static str,
}

/// The pipeline in which each partition has a transactional id of its own.
pub const BY_PARTITION: Pipeline = Pipeline { group: "by-partition", output: "copies" };

/// The pipeline whose copiers are members of the group.
pub const BY_MEMBERS: Pipeline = Pipeline { group: "by-members", output: "shared-copies" };

/// All of them.
pub const PIPELINES: [Pipeline; 2] = [BY_PARTITION, BY_MEMBERS];

/// Copies one partition until there is nothing left to copy at the end of the world, or somebody else takes over.
pub async fn run(client: Client, id: String, generation: Generation, partition: i32) {
    let Ok(mut producer) = Transactional::new(client, &id, generation).await else { return };
    // Whoever was here before is fenced, so its offsets do not change any more.
    let input = TopicPartition::new(ORDERS, partition);
    let Some(position) = committed_offset(&mut producer.client, BY_PARTITION.group, &input).await else {
        return;
    };
    let mut copying = Copying { pipeline: BY_PARTITION, input, position, member: (Str::default(), -1) };
    loop {
        match copying.copy_some(&mut producer).await {
            Ok(Copied::Nothing) if producer.client.phase() == Phase::Draining => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// What one round of copying came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// Records, or there may be some.
    Some,
    /// There was nothing to copy.
    Nothing,
    /// The transaction failed.
    Failed,
}

/// Copying one partition.
pub struct Copying {
    /// Which way.
    pub pipeline: Pipeline,
    /// From where.
    pub input: TopicPartition,
    /// How far it has come.
    pub position: i64,
    /// The member of the group that does it: its id and generation.
    pub member: (Str, i32),
}

impl Copying {
    /// Copies what there is, in one transaction.
    pub async fn copy_some(&mut self, producer: &mut Transactional) -> Result<Copied, Failed> {
        let Some((offsets, next)) = read_some(&mut producer.client, &self.input, self.position).await else {
            producer.client.back_off().await;
            return Ok(Copied::Some);
        };
        if offsets.is_empty() {
            let is_at_end = next == self.position;
            self.position = next;
            return Ok(if is_at_end { Copied::Nothing } else { Copied::Some });
        }
        producer.begin();
        match self.copy(producer, &offsets).await {
            Ok(()) => producer.end(true).await?,
            Err(failed) => producer.recover(failed).await?,
        }
        if !producer.has_committed() {
            return Ok(Copied::Failed);
        }
        self.position = offsets.last().map_or(self.position, |last| last + 1);
        Ok(Copied::Some)
    }

    async fn copy(&self, producer: &mut Transactional, offsets: &[i64]) -> Result<(), Failed> {
        let output = TopicPartition::new(self.pipeline.output, self.input.partition);
        let half = offsets.len().div_ceil(2);
        for part in offsets.chunks(half) {
            let sources: Vec<_> = part.iter().map(|offset| Some((self.input.partition, *offset))).collect();
            producer.write(&output, &sources).await?;
        }
        let next = offsets.last().map_or(self.position, |last| last + 1);
        let progress = Progress {
            group: self.pipeline.group,
            member_id: self.member.0.clone(),
            generation_id: self.member.1,
            offsets: vec![(self.input.clone(), next)],
        };
        producer.commit_offsets(&progress).await
    }
}

/// Reads committed records from a position on: their offsets, and where to go on.
async fn read_some(client: &mut Client, input: &TopicPartition, position: i64) -> Option<(Vec<i64>, i64)> {
    let request = fetch::Request {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation_level: Isolation::ReadCommitted.code(),
        session_epoch: -1,
        topics: vec![fetch::FetchTopic {
            topic: input.topic.clone(),
            partitions: vec![fetch::FetchPartition {
                partition: input.partition,
                fetch_offset: Offset(position),
                partition_max_bytes: 2_000,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut answer = client.try_once(12, &request).await.ok()?;
    let data = answer.responses.pop()?.partitions.pop()?;
    if data.error_code.is_error() {
        client.may_pass(data.error_code);
        return None;
    }
    let mut records = Vec::new();
    let next = match visible_records(&data, Isolation::ReadCommitted, Offset(position), &mut records) {
        Ok(next) => next.0,
        Err(error) => {
            client.is_surprised(error);
            return None;
        }
    };
    let most = client.world.within(1..MOST_RECORDS) as usize;
    Some((records.iter().take(most).map(|record| record.offset.0).collect(), next))
}

/// How far a group has come, once that is decided.
pub async fn committed_offset(client: &mut Client, group: &str, input: &TopicPartition) -> Option<i64> {
    let request = offset_fetch_request(group, input);
    loop {
        let answer = client.ask(8, &request).await.answer;
        let (code, offset) = committed_in(&answer);
        match code {
            ErrorCode::None => {
                client.note(format_args!("goes on from {input} {offset}"));
                return Some(offset.max(0));
            }
            code if client.may_pass(code) => client.back_off().await,
            _ => return None,
        }
        // Pending offsets are decided when the transaction times out, at the latest.
        client.world.sleep(Duration::from_millis(100)).await;
    }
}

/// Asks for one committed offset, and just for what is decided.
pub fn offset_fetch_request(group: &str, input: &TopicPartition) -> offset_fetch::Request {
    let topic = offset_fetch::OffsetFetchRequestTopics {
        name: input.topic.clone(),
        partition_indexes: vec![input.partition],
        ..Default::default()
    };
    let group = offset_fetch::OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    offset_fetch::Request { groups: vec![group], require_stable: true, ..Default::default() }
}

/// The error code and the offset in the answer.
pub fn committed_in(answer: &offset_fetch::Response) -> (ErrorCode, i64) {
    let Some(group) = answer.groups.first() else { return (ErrorCode::UnknownServerError, -1) };
    let partition = group.topics.first().and_then(|topic| topic.partitions.first());
    match partition {
        _ if group.error_code.is_error() => (group.error_code, -1),
        Some(partition) => (partition.error_code, partition.committed_offset.0),
        None => (ErrorCode::UnknownServerError, -1),
    }
}

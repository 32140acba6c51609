//! A consumer of one partition, as far as a benchmark needs one: it checks and reads every record, and copies none.

use std::time::Duration;

use oncelog_client::{Client, ClientError, Isolation, Result, each_visible_record};
use oncelog_records::Record;
use oncelog_wire::{Offset, Uuid, fetch};

/// Reads a partition from a position on.
#[derive(Debug)]
pub(crate) struct Reader {
    client: Client,
    topic: String,
    topic_id: Uuid,
    partition: i32,
    isolation: Isolation,
    max_bytes: i32,
    /// The offset to read from.
    pub(crate) position: Offset,
}

impl Reader {
    pub(crate) fn new(
        mut client: Client,
        topic: &str,
        partition: i32,
        isolation: Isolation,
        max_bytes: usize,
    ) -> Result<Reader> {
        let topic_id = client.topic_id(topic)?;
        let max_bytes = i32::try_from(max_bytes).unwrap_or(i32::MAX);
        let topic = topic.to_owned();
        Ok(Reader { client, topic, topic_id, partition, isolation, max_bytes, position: Offset(0) })
    }

    /// The offset behind the last record that can be read now.
    pub(crate) fn end(&mut self) -> Result<Offset> {
        self.client.end_offset(&self.topic, self.partition, self.isolation)
    }

    /// Fetches once, waiting at most `max_wait` for a record, and moves on behind what it hands to `see`.
    pub(crate) fn poll(&mut self, max_wait: Duration, see: impl FnMut(&Record<'_>)) -> Result<()> {
        let answer = self.client.call(&fetch::Request {
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: self.max_bytes,
            isolation_level: self.isolation.code(),
            session_id: 0,
            session_epoch: -1,
            topics: vec![fetch::FetchTopic {
                topic: self.topic.as_str().into(),
                topic_id: self.topic_id,
                partitions: vec![fetch::FetchPartition {
                    partition: self.partition,
                    fetch_offset: self.position,
                    partition_max_bytes: self.max_bytes,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        })?;
        refused(answer.error_code)?;
        // Where nothing came in time, some brokers leave the partition out.
        if let Some(data) = answer.responses.first().and_then(|topic| topic.partitions.first()) {
            refused(data.error_code)?;
            self.position = each_visible_record(data, self.isolation, self.position, see)?;
        }
        Ok(())
    }
}

fn refused(code: oncelog_wire::ErrorCode) -> Result<()> {
    if code.is_error() { Err(ClientError::Refused { code, message: None }) } else { Ok(()) }
}

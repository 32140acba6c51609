//! Reading a partition, and hiding what a read_committed consumer must not see.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use oncelog_records::{BatchError, EndTransactionMarker, MarkerKind, Record, batches};
use oncelog_wire::{Offset, ProducerId, Timestamp, fetch};

use crate::client::only;
use crate::error::check;
use crate::{Client, ClientError, EARLIEST, Result};

/// How much one fetch asks for.
const MAX_BYTES: i32 = 16 << 20;

/// How long to wait for data that should be there already.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All of them.
    #[default]
    ReadUncommitted,
    /// Those of no transaction, and those of transactions that were committed.
    ReadCommitted,
}

impl Isolation {
    /// The number on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// A record as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FetchedRecord {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl FetchedRecord {
    fn of(record: &Record<'_>) -> FetchedRecord {
        let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        FetchedRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            key: copy(record.key),
            value: copy(record.value),
            headers: record
                .headers()
                .map(|(name, value)| (Bytes::copy_from_slice(name), copy(value)))
                .collect(),
        }
    }

    /// The value as text; empty where there is none.
    pub fn value_text(&self) -> String {
        self.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned()
    }
}

impl Client {
    /// One fetch of one partition, outside any session. The broker's answer is returned whatever it says.
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: Offset,
        isolation: Isolation,
        max_wait: Duration,
    ) -> Result<fetch::PartitionData> {
        let topic_id = self.topic_id(topic)?;
        let answer = self.call(&fetch::Request {
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: MAX_BYTES,
            isolation_level: isolation.code(),
            session_id: 0,
            session_epoch: -1,
            topics: vec![fetch::FetchTopic {
                topic: topic.into(),
                topic_id,
                partitions: vec![fetch::FetchPartition {
                    partition,
                    fetch_offset: offset,
                    partition_max_bytes: MAX_BYTES,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        })?;
        check(answer.error_code)?;
        only(only(answer.responses)?.partitions)
    }

    /// All records from the start of the log to where its end was when this began.
    pub fn fetch_all(
        &mut self,
        topic: &str,
        partition: i32,
        isolation: Isolation,
    ) -> Result<Vec<FetchedRecord>> {
        let (mut position, _) = self.list_offset(topic, partition, EARLIEST, isolation)?;
        let end = self.end_offset(topic, partition, isolation)?;
        let mut records = Vec::new();
        let mut deadline = Instant::now() + PATIENCE;
        while position < end {
            let data = self.retry(|client| {
                let data = client.fetch(topic, partition, position, isolation, PATIENCE)?;
                check(data.error_code)?;
                Ok(data)
            })?;
            let next = visible_records(&data, isolation, position, &mut records)?;
            if next > position {
                position = next;
                deadline = Instant::now() + PATIENCE;
            } else if Instant::now() > deadline {
                return Err(ClientError::Nonsense("there is no data below the end offset"));
            }
        }
        records.retain(|record| record.offset < end);
        Ok(records)
    }

    /// The values of all records, as text.
    pub fn values(&mut self, topic: &str, partition: i32, isolation: Isolation) -> Result<Vec<String>> {
        Ok(self.fetch_all(topic, partition, isolation)?.iter().map(FetchedRecord::value_text).collect())
    }
}

/// Adds what a consumer at `position` sees of a fetched partition to `records`; returns its next position.
///
/// A batch that is cut is left for the next fetch, unless it is the first. Control records are never seen. With read_committed neither are the records of a transaction in the list of
/// aborted ones, from its first offset to its abort marker, as the Java client's `CompletedFetch` does it.
pub fn visible_records(
    data: &fetch::PartitionData,
    isolation: Isolation,
    position: Offset,
    records: &mut Vec<FetchedRecord>,
) -> Result<Offset> {
    each_visible_record(data, isolation, position, |record| records.push(FetchedRecord::of(record)))
}

/// The same, handing each record to `see` without a copy.
pub fn each_visible_record(
    data: &fetch::PartitionData,
    isolation: Isolation,
    position: Offset,
    mut see: impl FnMut(&Record<'_>),
) -> Result<Offset> {
    let Some(bytes) = data.records.as_ref().and_then(|records| records.as_bytes()) else {
        return Ok(position);
    };
    let mut to_come = match isolation {
        Isolation::ReadCommitted => data.aborted_transactions.clone().unwrap_or_default(),
        Isolation::ReadUncommitted => Vec::new(),
    };
    to_come.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
    let mut aborted: HashSet<ProducerId> = HashSet::new();
    let mut next = position;
    for batch in batches(bytes) {
        let batch = match batch {
            // Kafka cuts the last batch where the limit of the fetch is.
            Err(BatchError::Truncated { .. }) if next > position => break,
            batch => batch?,
        };
        if !batch.is_crc_valid() {
            return Err(ClientError::Nonsense("the CRC of a batch does not match"));
        }
        while let Some(transaction) =
            to_come.pop_if(|transaction| transaction.first_offset <= batch.last_offset())
        {
            aborted.insert(transaction.producer_id);
        }
        next = next.max(batch.next_offset());
        if batch.is_control() {
            // Compaction may leave no record of a marker.
            let has_record = batch.record_count() > 0;
            if has_record && EndTransactionMarker::parse(&batch)?.kind == MarkerKind::Abort {
                aborted.remove(&batch.producer_id());
            }
            continue;
        }
        if batch.is_transactional() && aborted.contains(&batch.producer_id()) {
            continue;
        }
        let mut reader = batch.records()?;
        while let Some(record) = reader.next_record()? {
            if record.offset >= position {
                see(&record);
            }
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use oncelog_records::BatchBuilder;
    use oncelog_wire::{LeaderEpoch, ProducerEpoch};

    const NOW: Timestamp = Timestamp(1_000);

    struct Partition {
        bytes: Vec<u8>,
        end: i64,
    }

    impl Partition {
        fn append(&mut self, mut batch: oncelog_records::BatchHeader, payload: &[u8]) {
            batch.set_base_offset(Offset(self.end));
            batch.set_partition_leader_epoch(LeaderEpoch(0));
            self.end = batch.next_offset().0;
            self.bytes.extend_from_slice(batch.as_bytes());
            self.bytes.extend_from_slice(payload);
        }

        fn append_bytes(&mut self, bytes: &[u8]) {
            let batch = oncelog_records::BatchView::parse(bytes).unwrap();
            self.append(batch.header(), batch.payload());
        }

        fn write(&mut self, producer_id: Option<i64>, values: &[&str]) {
            let mut builder = BatchBuilder::new();
            if let Some(id) = producer_id {
                builder = builder.producer(ProducerId(id), ProducerEpoch(0), 0).transactional();
            }
            for value in values {
                builder.push(NOW, None, Some(value.as_bytes()));
            }
            self.append_bytes(&builder.build());
        }

        fn mark(&mut self, producer_id: i64, kind: MarkerKind) {
            let marker = EndTransactionMarker { kind, coordinator_epoch: 0 };
            self.append_bytes(&marker.build(ProducerId(producer_id), ProducerEpoch(0), NOW));
        }

        fn seen(&self, isolation: Isolation, from: i64, aborted: &[(i64, i64)]) -> (Vec<String>, i64) {
            let aborted = aborted.iter().map(|&(producer_id, first_offset)| fetch::AbortedTransaction {
                producer_id: ProducerId(producer_id),
                first_offset: Offset(first_offset),
            });
            let data = fetch::PartitionData {
                records: Some(Bytes::copy_from_slice(&self.bytes).into()),
                aborted_transactions: Some(aborted.collect()),
                ..Default::default()
            };
            let mut records = Vec::new();
            let next = visible_records(&data, isolation, Offset(from), &mut records).unwrap();
            (records.iter().map(FetchedRecord::value_text).collect(), next.0)
        }
    }

    #[test]
    fn aborted_records_are_hidden_until_their_marker_and_only_from_read_committed() {
        let mut partition = Partition { bytes: vec![], end: 0 };
        partition.write(Some(1), &["a0", "a1"]); // 0, 1
        partition.write(Some(2), &["b2"]); // 2
        partition.write(None, &["c3"]); // 3
        partition.mark(1, MarkerKind::Abort); // 4
        partition.write(Some(1), &["d5"]); // 5
        partition.mark(2, MarkerKind::Commit); // 6
        partition.mark(1, MarkerKind::Commit); // 7

        let aborted = [(1, 0)];
        let seen = |from| partition.seen(Isolation::ReadCommitted, from, &aborted);
        assert_eq!(seen(0), (vec!["b2".into(), "c3".into(), "d5".into()], 8));
        assert_eq!(seen(1), (vec!["b2".into(), "c3".into(), "d5".into()], 8));
        assert_eq!(seen(3), (vec!["c3".into(), "d5".into()], 8));
        let (all, _) = partition.seen(Isolation::ReadUncommitted, 1, &aborted);
        assert_eq!(all, ["a1", "b2", "c3", "d5"]);
    }

    #[test]
    fn a_producer_that_aborts_twice_is_hidden_twice() {
        let mut partition = Partition { bytes: vec![], end: 0 };
        partition.write(Some(1), &["a0"]);
        partition.mark(1, MarkerKind::Abort);
        partition.write(Some(1), &["b2"]);
        partition.mark(1, MarkerKind::Commit);
        partition.write(Some(1), &["c4"]);
        partition.mark(1, MarkerKind::Abort);
        let (seen, next) = partition.seen(Isolation::ReadCommitted, 0, &[(1, 4), (1, 0)]);
        assert_eq!((seen, next), (vec!["b2".to_owned()], 6));
    }

    #[test]
    fn a_cut_batch_after_another_is_left_for_the_next_fetch() {
        let mut partition = Partition { bytes: vec![], end: 0 };
        partition.write(None, &["a"]);
        partition.write(None, &["b"]);
        partition.bytes.pop();
        assert_eq!(partition.seen(Isolation::ReadCommitted, 0, &[]), (vec!["a".to_owned()], 1));
    }

    #[test]
    fn a_cut_batch_is_an_error() {
        let mut partition = Partition { bytes: vec![], end: 0 };
        partition.write(None, &["a"]);
        let cut = Bytes::copy_from_slice(&partition.bytes[..partition.bytes.len() - 1]);
        let data = fetch::PartitionData { records: Some(cut.into()), ..Default::default() };
        assert!(visible_records(&data, Isolation::ReadCommitted, Offset(0), &mut Vec::new()).is_err());
    }
}

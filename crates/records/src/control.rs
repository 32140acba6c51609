//! The control batches that end a transaction in a partition (KIP-98, Kafka's `EndTransactionMarker`).

use bytes::Bytes;
use oncelog_wire::{ProducerEpoch, ProducerId, Timestamp};

use crate::{BatchBuilder, BatchError, BatchView};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MarkerKind {
    /// Its records count for nothing.
    Abort,
    /// Its records count.
    Commit,
}

/// What the one record of a marker batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// How the transaction ended.
    pub kind: MarkerKind,
    /// The epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// The batch that writes this marker for a producer. It has no sequence number.
    pub fn build(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        timestamp: Timestamp,
    ) -> Bytes {
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let key = [0, 0, 0, (self.kind == MarkerKind::Commit) as u8];
        let mut builder =
            BatchBuilder::new().producer(producer_id, producer_epoch, -1).transactional().control();
        builder.push(timestamp, Some(&key), Some(&value));
        builder.build()
    }

    /// Reads the marker of a control batch. Control records of another type, which have no place in the partitions
    /// of topics, are an error like any other.
    pub fn parse(batch: &BatchView<'_>) -> Result<EndTransactionMarker, BatchError> {
        const NO_MARKER: BatchError = BatchError::Malformed("a control batch is no transaction marker");
        if !batch.is_control() {
            return Err(NO_MARKER);
        }
        let mut records = batch.records()?;
        let record = records.next_record()?.ok_or(NO_MARKER)?;
        let kind = match record.key.ok_or(NO_MARKER)? {
            [0..=127, _, 0, 0, ..] => MarkerKind::Abort,
            [0..=127, _, 0, 1, ..] => MarkerKind::Commit,
            _ => return Err(NO_MARKER),
        };
        let value = record.value.ok_or(NO_MARKER)?;
        let epoch = value.get(2..6).ok_or(NO_MARKER)?;
        Ok(EndTransactionMarker {
            kind,
            coordinator_epoch: i32::from_be_bytes(epoch.try_into().expect("four bytes")),
        })
    }
}

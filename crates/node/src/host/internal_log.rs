//! The logs of the coordinators' machines: which partition a key belongs to, how records get in and come back.

use bytes::Bytes;
pub(crate) use oncelog_coordinator::partition_for;
use oncelog_log::{Origin, ReadError};
use oncelog_records::{BatchBuilder, BatchError, BatchView};
use oncelog_wire::{DecodeError, ErrorCode, Now, Offset};

use super::OpenError;
use crate::partition::Partition;

/// Appends records, as keys and values, in one batch.
///
/// # Errors
/// What a client of the coordinator is told of the failure.
pub(crate) fn append(
    partition: &Partition,
    records: impl IntoIterator<Item = (Bytes, Option<Bytes>)>,
    origin: Origin,
    now: Now,
) -> Result<(), ErrorCode> {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        builder.push(now.wall, Some(&key), value.as_deref());
    }
    append_batch(partition, builder, origin, now)?;
    Ok(())
}

/// Appends a batch; gives the offset of its first record.
///
/// # Errors
/// What a client of the coordinator is told of the failure.
pub(crate) fn append_batch(
    partition: &Partition,
    builder: BatchBuilder,
    origin: Origin,
    now: Now,
) -> Result<Offset, ErrorCode> {
    let bytes = builder.build();
    let batch = BatchView::parse(&bytes).expect("it was built just now");
    let appended = partition.append_internal(&batch, origin, now).map_err(|error| {
        // That is no failure of the log but a producer's.
        if error.code() != ErrorCode::InvalidProducerEpoch {
            tracing::error!("{}-{}: {error}", partition.topic, partition.index);
        }
        coordinator_error(error.code())
    })?;
    Ok(appended.base_offset)
}

/// What a failure of the coordinator's log means to its clients, as Kafka maps it.
fn coordinator_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        error => error,
    }
}

/// Gives every batch in the log to `visit`, from the first.
///
/// # Errors
/// Where the log cannot be read, or `visit` cannot read a batch.
pub(crate) fn replay(
    partition: &Partition,
    mut visit: impl FnMut(&BatchView<'_>) -> Result<(), Unreadable>,
) -> Result<(), OpenError> {
    partition.lock().log.replay(Offset::ZERO, &mut visit).map_err(|Unreadable(what)| OpenError::Replay {
        log: format!("{}-{}", partition.topic, partition.index),
        what,
    })
}

/// Gives every record of a batch to `visit`. Records without a key are none of a machine's.
///
/// # Errors
/// Where `batch`, or a record for `visit`, cannot be read.
pub(crate) fn for_each_record<E>(
    batch: &BatchView<'_>,
    mut visit: impl FnMut(Offset, Bytes, Option<Bytes>) -> Result<(), E>,
) -> Result<(), Unreadable>
where
    Unreadable: From<E>,
{
    let mut records = batch.records()?;
    while let Some(record) = records.next_record()? {
        let Some(key) = record.key else { continue };
        let (offset, key) = (record.offset, Bytes::copy_from_slice(key));
        visit(offset, key, record.value.map(Bytes::copy_from_slice))
            .map_err(|error| Unreadable(format!("offset {offset}: {}", Unreadable::from(error).0)))?;
    }
    Ok(())
}

/// What a record says; nothing, with a line in the log, where it cannot be decoded. The checksums have been compared, so
/// such a record is one that a client put there, as the admin client may, and it must not keep the broker from starting.
pub(crate) fn decodable<T>(
    partition: &Partition,
    offset: Offset,
    decoded: Result<T, DecodeError>,
) -> Option<T> {
    decoded
        .inspect_err(|error| {
            tracing::error!(
                "{}-{}: skipped the record at {offset}: {error}",
                partition.topic,
                partition.index
            );
        })
        .ok()
}

/// What cannot be read in a log, and where.
pub(crate) struct Unreadable(pub String);

impl From<ReadError> for Unreadable {
    fn from(error: ReadError) -> Self {
        Unreadable(error.to_string())
    }
}

impl From<BatchError> for Unreadable {
    fn from(error: BatchError) -> Self {
        Unreadable(error.to_string())
    }
}

impl From<DecodeError> for Unreadable {
    fn from(error: DecodeError) -> Self {
        Unreadable(error.to_string())
    }
}

//! Looking after the logs: what has to be done now and then, whoever writes or reads.

use std::sync::atomic::Ordering;
use std::time::Duration;

use oncelog_log::LogError;
use oncelog_wire::Now;

use crate::{Node, as_nanos};
use crate::partition::Partition;

/// A checkpoint is due for a log once this much has been written since the one before, or, with whatever has been
/// written, once `log.flush.offset.checkpoint.interval.ms` have passed; recovery reads no more.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Retention, expiry of producers, deferred rolls and checkpoints, log by log.
pub(crate) fn run(node: &Node, now: Now) {
    let last = Duration::from_nanos(node.checkpointed.load(Ordering::Relaxed));
    let is_time = now.monotonic.saturating_sub(last) >= node.config.log_flush_offset_checkpoint_interval;
    if is_time {
        node.checkpointed.store(as_nanos(now.monotonic), Ordering::Relaxed);
    }
    let checkpoint_bytes = if is_time { 1 } else { CHECKPOINT_BYTES };
    let mut points = Vec::new();
    let mut has_moved = false;
    node.for_each_partition(|partition| {
        has_moved |= maintain(partition, checkpoint_bytes, now).unwrap_or_else(|error| {
            tracing::error!("{}-{}: {error}", partition.topic, partition.index);
            false
        });
        points.extend(partition.lock().log.points());
    });
    if has_moved && let Err(error) = node.data.write_checkpoints(points.into_iter()) {
        tracing::error!("the checkpoints were not written: {error}");
    }
}

/// Looks after one log; says whether its checkpoint has moved.
fn maintain(partition: &Partition, checkpoint_bytes: u64, now: Now) -> Result<bool, LogError> {
    let garbage = {
        let mut state = partition.lock();
        if state.is_deleted {
            return Ok(false);
        }
        state.log.maintain(now)?
    };
    let has_shrunk = !garbage.is_empty();
    garbage.remove()?;
    let checkpoint = {
        let mut state = partition.lock();
        match state.log.bytes_since_checkpoint() >= checkpoint_bytes {
            true => state.log.begin_checkpoint()?,
            false => None,
        }
    };
    let Some(checkpoint) = checkpoint else { return Ok(has_shrunk) };
    // The log goes on taking appends while the disk catches up.
    checkpoint.sync()?;
    partition.lock().log.finish_checkpoint(checkpoint);
    Ok(true)
}

/// Closes every log and marks the directory as closed cleanly.
pub(crate) fn close(node: &Node, _now: Now) -> Result<(), LogError> {
    let mut points = Vec::new();
    let mut failure = None;
    node.for_each_partition(|partition| match partition.lock().log.close() {
        Ok(point) => points.extend(point),
        Err(error) => failure = Some(error),
    });
    match failure {
        Some(error) => Err(error),
        None => node.data.close(points.into_iter()),
    }
}

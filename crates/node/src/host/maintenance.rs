//! Looking after the logs: what has to be done now and then, whoever writes or reads.

use std::time::Duration;

use oncelog_coordinator::metadata::config::BrokerConfig;
use oncelog_log::LogError;
use oncelog_wire::Now;

use crate::Node;
use crate::partition::Partition;

/// A checkpoint is due for a log once this much has been written since the one before, or, with whatever has been
/// written, once `log.flush.offset.checkpoint.interval.ms` have passed; recovery reads no more.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// When the things are due that are done to all logs at once, in monotonic time.
pub(crate) struct Schedule {
    retention: Duration,
    checkpoint: Duration,
}

impl Schedule {
    /// As Kafka does it: not right after the start.
    pub(crate) fn new(config: &BrokerConfig, now: Now) -> Schedule {
        Schedule {
            retention: now.monotonic + config.log_initial_task_delay,
            checkpoint: now.monotonic + config.log_flush_offset_checkpoint_interval,
        }
    }
}

/// Retention, expiry of producers, and checkpoints, log by log, as far as they are due.
pub(crate) fn run(node: &Node, now: Now) {
    let mut schedule = node.schedule.lock();
    let is_due = |due: &mut Duration, period: Duration| {
        let is_due = now.monotonic >= *due;
        if is_due {
            *due = now.monotonic + period;
        }
        is_due
    };
    let is_retention_due = is_due(&mut schedule.retention, node.config.log_retention_check_interval);
    let is_checkpoint_due =
        is_due(&mut schedule.checkpoint, node.config.log_flush_offset_checkpoint_interval);
    let checkpoint_bytes = if is_checkpoint_due { 1 } else { CHECKPOINT_BYTES };
    let mut points = Vec::new();
    let mut has_moved = false;
    node.for_each_partition(|partition| {
        let maintained = if is_retention_due { maintain(partition, now) } else { Ok(false) };
        for moved in [maintained, checkpoint(partition, checkpoint_bytes)] {
            has_moved |= moved.unwrap_or_else(|error| {
                tracing::error!("{}-{}: {error}", partition.topic, partition.index);
                false
            });
        }
        points.extend(partition.lock().log.points());
    });
    if has_moved && let Err(error) = node.data.write_checkpoints(points.into_iter()) {
        tracing::error!("the checkpoints were not written: {error}");
    }
}

/// Lets go of what a log need not keep; says whether that moved its start.
fn maintain(partition: &Partition, now: Now) -> Result<bool, LogError> {
    let garbage = {
        let mut state = partition.lock();
        if state.is_deleted {
            return Ok(false);
        }
        state.log.maintain(now)?
    };
    let has_shrunk = !garbage.is_empty();
    garbage.remove()?;
    Ok(has_shrunk)
}

/// Brings a log to the device if that is due; says whether its recovery point moved.
fn checkpoint(partition: &Partition, due_bytes: u64) -> Result<bool, LogError> {
    let checkpoint = {
        let mut state = partition.lock();
        match !state.is_deleted && state.log.bytes_since_checkpoint() >= due_bytes {
            true => state.log.begin_checkpoint()?,
            false => None,
        }
    };
    let Some(checkpoint) = checkpoint else { return Ok(false) };
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

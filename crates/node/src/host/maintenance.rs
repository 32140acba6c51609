//! Looking after the logs: what has to be done now and then, whoever writes or reads.

use std::time::Duration;

use oncelog_coordinator::metadata::config::BrokerConfig;
use oncelog_log::{Log, LogError};
use oncelog_wire::Now;

use super::cleaning;
use crate::Node;
use crate::partition::Partition;

/// Checkpoints are due once this much has been written to all logs since those before, or, with whatever has been
/// written, once `log.flush.offset.checkpoint.interval.ms` have passed; recovery reads no more. That takes it half a second.
const CHECKPOINT_BYTES: u64 = 768 << 20;

/// When the things are due that are done to all logs at once, in monotonic time.
pub(crate) struct Schedule {
    retention: Duration,
    checkpoint: Duration,
    cleaning: Duration,
}

impl Schedule {
    /// As Kafka does it: all but cleaning not right after the start.
    pub(crate) fn new(config: &BrokerConfig, now: Now) -> Schedule {
        Schedule {
            retention: now.monotonic + config.log_initial_task_delay,
            checkpoint: now.monotonic + config.log_flush_offset_checkpoint_interval,
            cleaning: now.monotonic,
        }
    }
}

/// Retention, expiry of producers, and checkpoints, log by log, and the cleaning of one log, as far as they are due. Says
/// whether there is more to clean.
pub(crate) fn run(node: &Node, now: Now) -> bool {
    let config = node.metadata.cluster().broker_config();
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
    let is_cleaning_due = is_due(&mut schedule.cleaning, config.log_cleaner_backoff);
    let is_much = unsynced_bytes(node) >= CHECKPOINT_BYTES;
    let scope = match (is_checkpoint_due || is_much || node.wants_maintenance(), is_cleaning_due) {
        (true, _) => Scope::All,
        (false, true) => Scope::Cleanable,
        (false, false) => Scope::Nothing,
    };
    let retention = is_retention_due.then_some(now);
    // Each failure has been logged.
    let _ = pass(node, scope, retention);
    drop(schedule);
    let has_cleaned = is_cleaning_due && cleaning::clean_dirtiest(node, &config, now);
    if has_cleaned {
        node.schedule.lock().cleaning = now.monotonic;
    }
    has_cleaned
}

/// What a recovery would have to read now.
fn unsynced_bytes(node: &Node) -> u64 {
    let mut bytes = 0;
    node.for_each_partition(|partition| bytes += partition.lock().log.bytes_since_checkpoint());
    bytes
}

/// Which logs are brought to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Nothing,
    /// Those that have segments to be cleaned, if they were.
    Cleanable,
    /// Those with any news.
    All,
}

/// Makes room in a journal that is full, by checkpoints of all logs.
pub(crate) fn make_room(node: &Node) -> Result<(), LogError> {
    // Whoever is at it already may have made room meanwhile.
    let _schedule = node.schedule.lock();
    if node.wants_maintenance() { pass(node, Scope::All, None) } else { Ok(()) }
}

/// Looks after each log in turn: by retention where that is due, and by a checkpoint where it is one of `scope`.
fn pass(node: &Node, scope: Scope, retention: Option<Now>) -> Result<(), LogError> {
    node.data.begin_checkpoints();
    let covered = node.syncs.as_ref().map(|syncs| syncs.journal().synced());
    let mut points = Vec::new();
    // Two checkpoints of a log, and nothing is left that the one before them needs: that one must not be the one on disk.
    let mut failure = node.data.write_owed_checkpoints().err();
    if let Some(error) = &failure {
        tracing::error!("the checkpoints are still not written: {error}");
    }
    let may_checkpoint = failure.is_none();
    let mut has_moved = false;
    node.for_each_partition(|partition| {
        let maintained = retention.map_or(Ok(false), |now| node.data.insist(|| maintain(partition, now)));
        let checkpointed = match may_checkpoint {
            true => node.data.insist(|| checkpoint(partition, scope)),
            false => Ok(false),
        };
        for moved in [maintained, checkpointed] {
            match moved {
                Ok(moved) => has_moved |= moved,
                // Its files may have gone under our hands.
                Err(_) if partition.lock().is_deleted => {}
                Err(error) => {
                    tracing::error!("{}-{}: {error}", partition.topic, partition.index);
                    failure = Some(error);
                }
            }
        }
        points.extend(partition.lock().log.points());
    });
    let is_lost = failure.as_ref().is_some_and(|error| !error.may_pass());
    if has_moved
        && !is_lost
        && let Err(error) = node.data.write_checkpoints(points.into_iter())
    {
        tracing::error!("the checkpoints were not written: {error}");
        failure = Some(error);
    }
    match (&failure, &node.syncs) {
        (Some(error), _) if !error.may_pass() => node.fail(),
        (None, Some(syncs)) if scope == Scope::All => syncs.journal().release(covered.unwrap_or(0)),
        _ => {}
    }
    failure.map_or(Ok(()), Err)
}

/// Ends the recovery: brings what it has written to the device, and starts the journal.
pub(crate) fn settle(node: &Node) -> Result<(), LogError> {
    if !node.data.must_be_settled() {
        return Ok(());
    }
    node.data.begin_checkpoints();
    let mut points = Vec::new();
    let mut settled = Ok(());
    node.for_each_partition(|partition| {
        if settled.is_ok() {
            settled = finish_checkpoint(partition, |_| true).map(drop);
        }
        points.extend(partition.lock().log.points());
    });
    settled?;
    node.data.settle(points.into_iter())
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
fn checkpoint(partition: &Partition, scope: Scope) -> Result<bool, LogError> {
    // Where that does not work yet, readers go on, and it is tried again.
    let _ = partition.lock().log.mend();
    finish_checkpoint(partition, |log| {
        scope != Scope::Nothing && log.has_unsynced_segment_to_clean()
            || scope == Scope::All && log.recovery_point() < log.high_watermark()
    })
}

fn finish_checkpoint(partition: &Partition, is_due: impl FnOnce(&Log) -> bool) -> Result<bool, LogError> {
    let checkpoint = {
        let mut state = partition.lock();
        match !state.is_deleted && is_due(&state.log) {
            true => state.log.begin_checkpoint()?,
            false => None,
        }
    };
    let Some(mut checkpoint) = checkpoint else { return Ok(false) };
    // The log goes on taking appends while the disk catches up.
    checkpoint.sync()?;
    partition.lock().log.finish_checkpoint(checkpoint);
    Ok(true)
}

/// Closes every log and marks the directory as closed cleanly.
pub(crate) fn close(node: &Node, _now: Now) -> Result<(), LogError> {
    node.sync()?;
    node.data.begin_checkpoints();
    let mut points = Vec::new();
    let mut failure = None;
    node.for_each_partition(|partition| match node.data.insist(|| partition.lock().log.close()) {
        Ok(point) => points.extend(point),
        Err(error) => failure = Some(error),
    });
    match failure {
        Some(error) => Err(error),
        None => node.data.close(points.into_iter()),
    }
}

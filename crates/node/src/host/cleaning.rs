//! Compaction: which log is cleaned next, and what becomes of those that cannot be (`LogCleanerManager`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oncelog_coordinator::metadata::config::BrokerConfig;
use oncelog_log::{CleaningStats, Dirtiness, LogError, OffsetMapSize};
use oncelog_wire::{Now, Offset, TopicPartition, Uuid};
use parking_lot::Mutex;

use crate::Node;
use crate::partition::Partition;

/// When a log is tried again that could not be cleaned for want of room.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// What is remembered between cleanings.
#[derive(Default)]
pub(crate) struct Cleaner {
    /// The logs that could not be cleaned, and when they are tried again; without a time, not by this process.
    failed: Mutex<HashMap<(Uuid, i32), Option<Duration>>>,
    is_cancelled: AtomicBool,
}

impl Cleaner {
    /// Has a cleaning end that is under way, and none begin.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

/// A log that is to be cleaned.
struct Choice {
    topic_id: Uuid,
    name: TopicPartition,
    partition: Arc<Partition>,
    dirtiness: Dirtiness,
}

/// Cleans the dirtiest of the logs for which it is time; says whether there was one, so that there may be more.
pub(crate) fn clean_dirtiest(node: &Node, config: &BrokerConfig, now: Now) -> bool {
    if !config.log_cleaner_enable || node.cleaner.is_cancelled() {
        return false;
    }
    let Some(choice) = choose(node, now) else { return false };
    let name = &choice.name;
    let is_deleted = || choice.partition.lock().is_deleted;
    match clean(node, config, &choice, now) {
        Ok(Some(stats)) => tracing::debug!(
            "cleaned {name} up to offset {}: {} of {} records are left, {} of {} bytes, of {} keys",
            stats.end_offset,
            stats.records_kept,
            stats.records_read,
            stats.bytes_kept,
            stats.bytes_read,
            stats.keys
        ),
        Ok(None) => {
            tracing::debug!("the cleaning of {name} gave way");
            return false;
        }
        Err(error) if is_deleted() => tracing::debug!("{name} was deleted while it was cleaned: {error}"),
        Err(error) => {
            let retry_at = error.may_pass().then(|| now.monotonic + RETRY_AFTER);
            let until = if retry_at.is_some() { "for a minute" } else { "until the next start" };
            tracing::error!("{name} cannot be cleaned and is left as it is {until}: {error}");
            node.cleaner.failed.lock().insert((choice.topic_id, name.partition), retry_at);
        }
    }
    true
}

fn choose(node: &Node, now: Now) -> Option<Choice> {
    let mut failed = node.cleaner.failed.lock();
    failed.retain(|_, retry_at| retry_at.is_none_or(|retry_at| now.monotonic < retry_at));
    let mut dirtiest: Option<Choice> = None;
    for topic in node.topics.all() {
        if !topic.config().cleanup_policy.compact {
            continue;
        }
        for partition in topic.partitions().iter() {
            if failed.contains_key(&(topic.id, partition.index)) {
                continue;
            }
            let name = TopicPartition::new(topic.name.clone(), partition.index);
            let dirtiness = match dirtiness(node, partition, &name, now) {
                Ok(Some(dirtiness)) if dirtiness.is_due => dirtiness,
                Ok(_) => continue,
                Err(error) => {
                    tracing::error!("{name} cannot be cleaned and is left as it is: {error}");
                    failed.insert((topic.id, partition.index), None);
                    continue;
                }
            };
            if dirtiest.as_ref().is_none_or(|other| dirtiness.ratio > other.dirtiness.ratio) {
                dirtiest = Some(Choice { topic_id: topic.id, name, partition: partition.clone(), dirtiness });
            }
        }
    }
    dirtiest
}

fn dirtiness(
    node: &Node,
    partition: &Partition,
    name: &TopicPartition,
    now: Now,
) -> Result<Option<Dirtiness>, LogError> {
    let (cleaned, synced) = (node.data.cleaned_offset(name), node.data.written_recovery_point(name));
    let state = partition.lock();
    match state.is_deleted || synced == Offset::ZERO {
        true => Ok(None),
        false => state.log.dirtiness(cleaned, synced, now.wall),
    }
}

fn clean(
    node: &Node,
    config: &BrokerConfig,
    choice: &Choice,
    now: Now,
) -> Result<Option<CleaningStats>, LogError> {
    let Choice { name, partition, dirtiness, .. } = choice;
    let map = OffsetMapSize {
        bytes: u64::try_from(config.log_cleaner_dedupe_buffer_size).unwrap_or_default(),
        load_factor: config.log_cleaner_io_buffer_load_factor,
    };
    let cleaning = partition.lock().log.begin_cleaning(dirtiness, map, now.wall)?;
    let is_cancelled = || node.cleaner.is_cancelled() || partition.lock().is_deleted;
    let cleaned = cleaning.run(&is_cancelled, &mut |segment| {
        let garbage = {
            let mut state = partition.lock();
            // Its directory may be another log's by now.
            if state.is_deleted {
                return Ok(false);
            }
            state.log.swap_in(segment)?
        };
        let Some(garbage) = garbage else { return Ok(false) };
        if let Err(error) = garbage.remove() {
            tracing::warn!("{name}: {error}");
        }
        Ok(true)
    });
    let Some(stats) = cleaned? else { return Ok(None) };
    node.data.note_cleaned(name, stats.end_offset)?;
    if partition.lock().is_deleted {
        // A topic that is made anew under this name must not inherit it.
        node.data.forget_cleaned(name)?;
    }
    Ok(Some(stats))
}

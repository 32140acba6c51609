//! Verifies a data directory: first what the cluster should consist of, then what the transaction coordinators know,
//! then every other log against both.

mod indexes;
mod log;
mod producers;
mod report;
mod transactions;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use oncelog_coordinator::metadata::config::StaticConfig;
use oncelog_coordinator::metadata::{self, Cluster, Identity};
use oncelog_coordinator::{groups, partition_for, transactions as coordinator};
use oncelog_log::Disk;
use oncelog_wire::{Offset, ProducerId, Timestamp, TopicPartition, Uuid};

use crate::directory::{Directory, LOG_STARTS, RECOVERY_POINTS, read_file, read_offsets};
use crate::error::InspectError;
use crate::finding::At;
use log::{Extent, Scope, Visit, Visitor, check_log};
use report::Report;
use transactions::Transactions;

pub use report::{Event, Progress, Summary};

const CLUSTER_METADATA: &str = "__cluster_metadata";
const TRANSACTION_STATE: &str = "__transaction_state";
const CONSUMER_OFFSETS: &str = "__consumer_offsets";
const PARTITION_METADATA: &str = "partition.metadata";

/// The id Kafka gives the topic of the metadata log.
const CLUSTER_METADATA_ID: Uuid = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// Verifies the data directory `root` and tells `watch` what it finds. Writes nothing.
///
/// # Errors
/// Where the directory is not one of oncelog, or a broker uses it.
pub fn check(
    disk: &dyn Disk,
    root: &Path,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Summary, InspectError> {
    let directory = Directory::open(disk, root)?;
    let _lock = directory.lock()?;
    let mut report = Report::new(watch);
    report.logs_in_all = directory.logs.len() as u64;
    let points = |name: &str, report: &mut Report<'_>| {
        let path = root.join(name);
        read_offsets(disk, &path).unwrap_or_else(|reason| {
            report.fault(At::file(path), format!("{reason}; the broker will not start with it"));
            BTreeMap::new()
        })
    };
    let mut checker = Checker {
        recovery_points: points(RECOVERY_POINTS, &mut report),
        log_starts: points(LOG_STARTS, &mut report),
        view: ClusterView::new(&directory),
        transactions: Transactions::new(),
        directory: &directory,
    };
    checker.run(&mut report);
    Ok(report.finish())
}

struct Checker<'a> {
    directory: &'a Directory<'a>,
    recovery_points: BTreeMap<TopicPartition, Offset>,
    log_starts: BTreeMap<TopicPartition, Offset>,
    view: ClusterView,
    transactions: Transactions,
}

/// What the metadata log says.
struct ClusterView {
    cluster: Cluster,
    created: HashMap<Uuid, Timestamp>,
    removed: HashSet<Uuid>,
    next_producer_id: Option<ProducerId>,
    is_complete: bool,
}

impl ClusterView {
    fn new(directory: &Directory<'_>) -> ClusterView {
        let node_id = directory.properties.get("node.id").and_then(|id| id.parse().ok()).unwrap_or_default();
        let identity = Identity { node_id, directory_id: Uuid::ZERO };
        ClusterView {
            cluster: Cluster::new(identity, StaticConfig::default()),
            created: HashMap::new(),
            removed: HashSet::new(),
            next_producer_id: None,
            is_complete: false,
        }
    }

    fn take(&mut self, report: &mut Report<'_>, visit: Visit<'_>) {
        let Some(value) = visit.record.value else { return };
        match metadata::Record::decode(Bytes::copy_from_slice(value)) {
            Ok(None) => {}
            Ok(Some(record)) => {
                match &record {
                    metadata::Record::Topic(topic) => {
                        self.created.insert(topic.topic_id, visit.record.timestamp);
                    }
                    metadata::Record::RemoveTopic(topic) => {
                        self.removed.insert(topic.topic_id);
                    }
                    metadata::Record::ProducerIds(block) => {
                        self.next_producer_id = self.next_producer_id.max(Some(block.next_producer_id));
                    }
                    _ => {}
                }
                self.cluster.apply(&record);
            }
            Err(error) => report.fault(visit.at, format!("no record of the metadata: {error}")),
        }
    }

    fn is_compacted(&self, topic: &str) -> bool {
        topic != CLUSTER_METADATA && self.cluster.topic_config(topic).cleanup_policy.compact
    }
}

impl Checker<'_> {
    fn run(&mut self, report: &mut Report<'_>) {
        if !self.directory.was_clean {
            let what =
                "not closed by its last broker: the next start recovers what is above the recovery points";
            report.note(At::file(&self.directory.root), what);
        }
        for path in &self.directory.retired {
            report.note(At::file(path), "the log of a deleted topic: the next start removes it");
        }
        self.metadata(report);
        self.names(report);
        let is_of = |topic: &'static str| move |log: &&TopicPartition| log.topic == topic;
        self.transaction_state(report);
        for log in self.directory.logs.iter().filter(is_of(CONSUMER_OFFSETS)) {
            self.log(log, report, &mut |report, visit| self.take_offset(log, report, visit));
        }
        let internal = [CLUSTER_METADATA, TRANSACTION_STATE, CONSUMER_OFFSETS];
        let is_internal = |log: &TopicPartition| internal.iter().any(|topic| log.topic == *topic);
        for log in self.directory.logs.iter().filter(|log| !is_internal(log)) {
            self.log(log, report, &mut |_, _| {});
        }
    }

    fn metadata(&mut self, report: &mut Report<'_>) {
        let log = TopicPartition::new(CLUSTER_METADATA, 0);
        if !self.directory.logs.contains(&log) {
            if !self.directory.logs.is_empty() {
                let what = "missing: the broker will start with no topics, and leave all others alone";
                report.fault(At::file(self.directory.path_of(&log)), what);
            }
            return;
        }
        let mut view = ClusterView::new(self.directory);
        let scope = self.scope(&log);
        let extent = check_log(scope, report, &mut |report, visit| view.take(report, visit));
        report.summary.logs += 1;
        report.summary.topics = view.cluster.topics().count() as u64;
        self.view = ClusterView { is_complete: extent == Extent::Complete, ..view };
    }

    /// Holds the names of the directories, and the ids in them, against the topics.
    fn names(&self, report: &mut Report<'_>) {
        for log in &self.directory.logs {
            let path = self.directory.path_of(log);
            let file = path.join(PARTITION_METADATA);
            let content = read_file(self.directory.disk, &file, 1 << 16).ok().flatten().unwrap_or_default();
            let text = String::from_utf8_lossy(&content);
            let id = text.lines().find_map(|line| Uuid::parse(line.strip_prefix("topic_id: ")?.trim()));
            if id.is_none() {
                report.note(At::file(&file), "missing, or without a topic id: the next start makes it anew");
            }
            let (expected, count) = match self.view.cluster.topic(&log.topic) {
                Some(topic) => (topic.id, topic.partition_count),
                None if log.topic == CLUSTER_METADATA => (CLUSTER_METADATA_ID, 1),
                None => {
                    if id.is_some_and(|id| self.view.removed.contains(&id)) {
                        report.note(At::file(path), "the log of a deleted topic: the next start removes it");
                    } else if self.view.is_complete {
                        report
                            .fault(At::file(path), "belongs to no topic of this cluster: nobody can read it");
                    }
                    continue;
                }
            };
            if log.partition >= count {
                let what = format!("the topic has {count} partitions: nobody can read this");
                report.fault(At::file(&path), what);
            }
            if let Some(id) = id.filter(|id| *id != expected) {
                let what = match self.view.removed.contains(&id) {
                    true => {
                        let what = "the log of a deleted topic of this name: the next start removes it";
                        report.note(At::file(&file), what);
                        continue;
                    }
                    false => {
                        format!("topic id {id}, and the topic has {expected}: the broker will not start")
                    }
                };
                report.fault(At::file(&file), what);
            }
        }
        self.lost_directories(report);
    }

    /// Logs that have been on the device and are not there.
    fn lost_directories(&self, report: &mut Report<'_>) {
        for (log, point) in &self.recovery_points {
            let is_topic = |topic: &metadata::Topic| log.partition < topic.partition_count;
            let is_known = self.view.cluster.topic(&log.topic).is_some_and(is_topic);
            let is_emptied = self.log_starts.get(log) == Some(point);
            let is_there = self.directory.logs.binary_search(log).is_ok();
            if !is_there && is_known && !is_emptied && *point > Offset::ZERO {
                let what = format!("missing: it was on the device up to offset {point}");
                report.fault(At::file(self.directory.path_of(log)).offset(*point), what);
            }
        }
    }

    fn transaction_state(&mut self, report: &mut Report<'_>) {
        let mut known = Transactions::new();
        for log in self.directory.logs.iter().filter(|log| log.topic == TRANSACTION_STATE) {
            let extent = self.log(log, report, &mut |report, visit| {
                let (Some(key), value) = (visit.record.key, visit.record.value) else { return };
                let value = value.map(Bytes::copy_from_slice);
                match coordinator::Record::decode(&Bytes::copy_from_slice(key), value.as_ref()) {
                    Ok(None) => {}
                    Ok(Some(record)) => {
                        self.belongs(log, &record.transactional_id, visit.at.clone(), report);
                        if let Some(what) = known.take(record, log, visit.record.offset, visit.is_gapless) {
                            report.fault(visit.at, what);
                        }
                    }
                    Err(error) => {
                        report.fault(
                            visit.at,
                            format!("no record of a transactional id: {error}; it is passed over"),
                        );
                    }
                }
            });
            known.is_complete &= extent == Extent::Complete;
            known.is_whole &= extent != Extent::Damaged;
        }
        for (id, metadata, log, offset) in known.prepared() {
            let at = At::file(self.directory.path_of(log)).offset(offset);
            let what = format!(
                "'{id}' is in {}: the next start writes the markers that are missing and completes it",
                metadata.state.name()
            );
            report.note(at, what);
        }
        report.summary.transactional_ids = known.len() as u64;
        known.settle();
        self.transactions = known;
    }

    /// Reads one log; says how much of it there is.
    fn log(&self, log: &TopicPartition, report: &mut Report<'_>, visitor: &mut Visitor<'_>) -> Extent {
        let extent = check_log(self.scope(log), report, visitor);
        report.summary.logs += 1;
        extent
    }

    fn scope<'c>(&'c self, log: &'c TopicPartition) -> Scope<'c> {
        let Directory { was_clean, disk, .. } = *self.directory;
        let recovery_point = self.recovery_points.get(log).copied().unwrap_or_default();
        let topic = self.view.cluster.topic(&log.topic);
        let is_coordinated = log.topic != CLUSTER_METADATA && log.topic != TRANSACTION_STATE;
        let expiration = self.view.cluster.broker_config().producer_id_expiration;
        Scope {
            disk,
            log,
            path: self.directory.path_of(log),
            is_compacted: self.view.is_compacted(&log.topic),
            settled_below: if was_clean { Offset(i64::MAX) } else { recovery_point },
            recovery_point,
            log_start_offset: self.log_starts.get(log).copied().unwrap_or_default(),
            is_provisional: self.directory.is_provisional(),
            producer_expiration_ms: i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX),
            producer_ids_below: self
                .view
                .is_complete
                .then(|| self.view.next_producer_id.unwrap_or(ProducerId(0))),
            created: topic.and_then(|topic| self.view.created.get(&topic.id)).copied().unwrap_or_default(),
            transactions: is_coordinated.then_some(&self.transactions),
        }
    }

    fn take_offset(&self, log: &TopicPartition, report: &mut Report<'_>, visit: Visit<'_>) {
        let (Some(key), value) = (visit.record.key, visit.record.value) else { return };
        let value = value.map(Bytes::copy_from_slice);
        let group = match groups::Record::decode(&Bytes::copy_from_slice(key), value.as_ref()) {
            Ok(None) => return,
            Ok(Some(groups::Record::GroupMetadata(key, _))) => key.group,
            Ok(Some(groups::Record::OffsetCommit(key, _))) => {
                report.summary.offset_commits += 1;
                key.group
            }
            Err(error) => {
                let what = format!("no record of a group or an offset: {error}; it is passed over");
                return report.fault(visit.at, what);
            }
        };
        self.belongs(log, &group, visit.at, report);
    }

    /// Whether the coordinator of a key is the one whose log has the record: clients are sent to no other.
    fn belongs(&self, log: &TopicPartition, key: &str, at: At, report: &mut Report<'_>) {
        let Some(topic) = self.view.cluster.topic(&log.topic) else { return };
        let partition = partition_for(key, topic.partition_count.max(1) as usize);
        if partition as i32 != log.partition {
            let what =
                format!("'{key}' belongs to partition {partition}: its coordinator does not know this");
            report.fault(at, what);
        }
    }
}

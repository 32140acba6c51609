//! Everything between a decoded frame and the logs.
//!
//! A [`Node`] takes frames and time and gives replies. It is synchronous: time and randomness are handed in,
//! answers that have to wait are values the shell holds ([`Wait`]), and timers are one deadline that the shell
//! keeps ([`Node::next_deadline`]). So it runs the same behind sockets and in a simulation.
//!
//! Locks are taken in one order: metadata, a transaction shard, a group shard, a partition. A partition's lock
//! is a leaf: nothing else is taken while it is held.

mod api;
mod context;
mod dispatch;
mod fetch_session;
mod host;
mod partition;
mod random;
mod reply;
mod syncs;
mod topics;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use oncelog_coordinator::metadata::config::{BrokerConfig, StaticConfig};
use oncelog_log::{Appended, DataDir, DataDirOptions, Disk, Durability, LogError, Marker};
use oncelog_wire::{ErrorCode, Now, Str, TopicPartition, Uuid};
use parking_lot::Mutex;

use crate::fetch_session::FetchSessions;
use crate::host::cleaning::Cleaner;
use crate::host::groups::Groups;
use crate::host::maintenance::Schedule;
use crate::host::metadata::Metadata;
use crate::host::transactions::Transactions;
use crate::partition::Partition;
use crate::random::Random;
use crate::syncs::Syncs;
use crate::topics::{CONSUMER_OFFSETS, Topics};

pub use context::{Connection, Context};
pub use dispatch::{ApiRange, SERVED};
pub use host::OpenError;
pub use oncelog_coordinator::metadata::config;
pub use random::FillRandom;
pub use reply::{Frame, Reply, Signal, Wait};

/// What a node is made of.
pub struct NodeOptions {
    /// What was configured, key by key.
    pub properties: StaticConfig,
    /// The same, typed.
    pub config: BrokerConfig,
    /// Where the data is.
    pub disk: Arc<dyn Disk>,
    /// The data directory on that disk.
    pub directory: PathBuf,
    /// Where random ids come from.
    pub random: FillRandom,
    /// What acknowledged data survives.
    pub durability: Durability,
    /// Told how far a start is, log by log.
    pub progress: Box<dyn Fn(Progress)>,
}

/// How far a start is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The logs that are open, and recovered where that was needed.
    pub open: usize,
    /// All that there are.
    pub logs: usize,
}

/// A broker without sockets, threads and clocks.
pub struct Node {
    pub(crate) id: i32,
    pub(crate) cluster_id: Str,
    pub(crate) config: BrokerConfig,
    pub(crate) topics: Topics,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) metadata: Metadata,
    pub(crate) transactions: Transactions,
    pub(crate) groups: Groups,
    pub(crate) data: DataDir,
    /// None where data need not survive a power cut.
    pub(crate) syncs: Option<Syncs>,
    /// Whether something that was written could not be synced.
    pub(crate) has_failed: AtomicBool,
    random: Random,
    timer: Arc<Signal>,
    /// The deadline that the shell was last told, in nanoseconds.
    armed: AtomicU64,
    pub(crate) schedule: Mutex<Schedule>,
    pub(crate) cleaner: Cleaner,
}

impl Node {
    /// Opens the data directory, recovers logs and coordinators, and finishes what a crash left half-done.
    ///
    /// # Errors
    /// Where the directory is in use, is not ours, or cannot be read; the error names the file.
    pub fn open(options: NodeOptions, now: Now) -> Result<Node, OpenError> {
        let random = Random::new(options.random);
        let data_options = DataDirOptions {
            node_id: options.config.node_id,
            expected_cluster_id: None,
            new_cluster_id: Uuid::from_random(random.bytes()),
            new_directory_id: Uuid::from_random(random.bytes()),
            max_open_files: options.disk.most_open_files(),
            durability: options.durability,
        };
        let data = DataDir::open(options.disk, &options.directory, data_options)?;
        let topics = Topics::default();
        let (properties, config) = (options.properties, &options.config);
        let metadata = Metadata::open(&data, &topics, properties, config, &random, &*options.progress, now)?;
        let transactions = Transactions::open(&topics, &options.config)?;
        let groups = Groups::open(&topics, &options.config, now)?;
        let node = Node {
            id: options.config.node_id,
            cluster_id: Str::from(data.cluster_id()),
            fetch_sessions: FetchSessions::new(
                options.config.max_incremental_fetch_session_cache_slots.max(0) as usize,
            ),
            schedule: Mutex::new(Schedule::new(&options.config, now)),
            cleaner: Cleaner::default(),
            config: options.config,
            topics,
            metadata,
            transactions,
            groups,
            syncs: data.journal().cloned().map(Syncs::new),
            has_failed: AtomicBool::new(false),
            data,
            random,
            timer: Arc::default(),
            armed: AtomicU64::new(u64::MAX),
        };
        // The end of the recovery forgets what the last run promised. Without a journal what follows from that comes before: a
        // start that is killed in between does it again. A journal takes appends only after that, and promises the same.
        if node.syncs.is_none() {
            node.transactions.recover(&node, now);
        }
        host::maintenance::settle(&node)?;
        if node.syncs.is_some() {
            node.transactions.recover(&node, now);
        }
        node.sync()?;
        Ok(node)
    }

    /// Takes up one request: a frame without its size prefix.
    pub fn handle(&self, connection: &Connection, frame: Bytes, now: Now) -> Reply {
        dispatch::handle(self, connection, frame, now)
    }

    /// When [`Node::tick`] is due, in monotonic time.
    pub fn next_deadline(&self) -> Option<Duration> {
        // Whoever sets a deadline meanwhile finds that it is earlier than this, and fires the signal.
        self.armed.store(u64::MAX, Ordering::SeqCst);
        let earliest =
            [self.transactions.next_deadline(), self.groups.next_deadline()].into_iter().flatten().min();
        self.armed.store(earliest.map_or(u64::MAX, as_nanos), Ordering::SeqCst);
        earliest
    }

    /// Fires when [`Node::next_deadline`] may have come closer.
    pub fn timer_signal(&self) -> &Arc<Signal> {
        &self.timer
    }

    /// Does what is due: transactions that time out, sessions that end, rebalances that complete.
    pub fn tick(&self, now: Now) {
        self.transactions.tick(self, now);
        self.groups.tick(self, now);
        if let Some(syncs) = &self.syncs {
            syncs.announce();
        }
    }

    /// Looks after the logs: retention, producers that expired, checkpoints, compaction. Waits for the disk. Says whether
    /// there is more to do at once.
    pub fn maintain(&self, now: Now) -> bool {
        host::maintenance::run(self, now)
    }

    /// Has [`Node::maintain`] come to its end soon, for good: a log that is being cleaned stays as it is.
    pub fn stop_cleaning(&self) {
        self.cleaner.cancel();
    }

    /// Closes the logs so that the next start has nothing to recover. No request may come after.
    ///
    /// # Errors
    /// Where something could not be written; the next start then recovers.
    pub fn close(&self, now: Now) -> Result<(), LogError> {
        host::maintenance::close(self, now)
    }

    /// Says that there is a deadline that the shell may not know of.
    pub(crate) fn timer_changed(&self, deadline: Duration) {
        if as_nanos(deadline) < self.armed.load(Ordering::SeqCst) {
            self.timer.fire();
        }
    }

    /// Appends the marker that ends a transaction in a partition, and has the group coordinator see it where
    /// the partition is one of its own.
    pub(crate) fn append_marker(
        &self,
        partition: &TopicPartition,
        marker: &Marker,
        now: Now,
    ) -> Result<Appended, ErrorCode> {
        if partition.topic == CONSUMER_OFFSETS {
            return self.groups.append_marker(partition.partition, marker, now);
        }
        let found = self.topics.partition(&partition.topic, partition.partition);
        let found = found.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        found.append_marker(marker, now)
    }

    /// Visits every partition, the hidden ones included.
    pub(crate) fn for_each_partition(&self, mut visit: impl FnMut(&Partition)) {
        visit(self.metadata.partition());
        for topic in self.topics.all() {
            topic.partitions().iter().for_each(|partition| visit(partition));
        }
    }

    /// A random id.
    pub(crate) fn random_uuid(&self) -> Uuid {
        Uuid::from_random(self.random.bytes())
    }

    /// A random number.
    pub(crate) fn random_i32(&self) -> i32 {
        i32::from_be_bytes(self.random.bytes())
    }
}

/// A monotonic time in nanoseconds, as deadlines are kept where they have to be atomic.
pub(crate) fn as_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

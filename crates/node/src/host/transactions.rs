//! The host of the transaction coordinators, one for each partition of `__transaction_state`.
//!
//! Whoever decides something about a transactional id holds the lock of its shard until all of it is done: records
//! appended, markers written, the end recorded. So a producer never meets a transaction that is half-way between two
//! states, unless a log fails.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use oncelog_coordinator::metadata::config::BrokerConfig;
use oncelog_coordinator::transactions::{
    AddPartitions, Answer, Config, Coordinator, Event, Markers, Output, PartitionCheck, Producer, Record,
    TransactionVersion,
};
use oncelog_log::{Marker, Origin};
use oncelog_wire::{DecodeError, ErrorCode, Now, ProducerId, Str, TopicPartition};
use parking_lot::{Mutex, MutexGuard, RwLockReadGuard};

use super::deadline::Deadline;
use super::{OpenError, internal_log};
use crate::Node;
use crate::partition::Partition;
use crate::topics::{TRANSACTION_STATE, Topics};

/// How long a shard whose log has failed rests before its log is replayed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// All transaction coordinators.
pub(crate) struct Transactions {
    shards: Box<[Shard]>,
    config: Config,
    /// What is left of the block of producer ids that was taken last. Taken before, never within, a shard's lock.
    producer_ids: Mutex<Range<i64>>,
}

/// One coordinator, with its partition.
struct Shard {
    partition: Arc<Partition>,
    /// None after an append has failed: the log has to be replayed.
    machine: Mutex<Option<Coordinator>>,
    deadline: Deadline,
}

/// Batches of a transaction on their way into partitions that may not be part of it yet.
pub(crate) struct TransactionalWrite<'a> {
    /// As the request names it.
    pub transactional_id: &'a Str,
    /// As the batches name it.
    pub producer: Producer,
    /// Where they go, named as the topics themselves are.
    pub partitions: &'a [TopicPartition],
    /// What the version of the request asks for.
    pub check: PartitionCheck,
}

impl Transactions {
    /// Replays the coordinators' logs. Nothing is decided before [`Transactions::recover`].
    pub fn open(topics: &Topics, config: &BrokerConfig) -> Result<Transactions, OpenError> {
        let config = Config {
            transaction_max_timeout: config.transaction_max_timeout,
            transactional_id_expiration: config.transactional_id_expiration,
            two_phase_commit_enable: config.transaction_two_phase_commit_enable,
        };
        let topic = topics
            .by_name(&TRANSACTION_STATE)
            .expect("the internal topics are there from the first start on");
        let partitions = topic.partitions();
        let shards = partitions.iter().map(|partition| {
            let machine = replay(partition, &config)?;
            Ok(Shard {
                partition: partition.clone(),
                machine: Mutex::new(Some(machine)),
                deadline: Deadline::new(None),
            })
        });
        Ok(Transactions {
            shards: shards.collect::<Result<_, OpenError>>()?,
            config,
            producer_ids: Mutex::default(),
        })
    }

    /// Finishes what was prepared when the broker stopped, and sets the timers.
    pub fn recover(&self, node: &Node, now: Now) {
        let is_after_power_cut = node.data.may_have_lost_records();
        for shard in &self.shards {
            // A failure has been logged, and the shard is tried again.
            let _ = shard.lock(node, now).decide(Event::Loaded { is_after_power_cut });
        }
    }

    /// Has the coordinator of `transactional_id` decide on the event that `event` makes, with a new producer id where
    /// one is needed.
    ///
    /// # Errors
    /// What the client is told.
    pub fn decide<'e>(
        &self,
        node: &Node,
        transactional_id: &str,
        now: Now,
        event: impl Fn(Option<ProducerId>) -> Event<'e>,
    ) -> Result<Producer, ErrorCode> {
        let mut fresh = None;
        loop {
            let answer = self.enter(node, transactional_id, now)?.decide(event(fresh))?;
            match answer.expect("requests are answered") {
                Answer::Done(producer) => return Ok(producer),
                Answer::Refused(error) => return Err(error),
                Answer::ProducerIdNeeded => fresh = Some(self.new_producer_id(node, now)?),
            }
        }
    }

    /// A producer id that nobody has had.
    ///
    /// # Errors
    /// Where no block of them can be had.
    pub fn new_producer_id(&self, node: &Node, now: Now) -> Result<ProducerId, ErrorCode> {
        let mut producer_ids = self.producer_ids.lock();
        loop {
            if let Some(id) = producer_ids.next() {
                return Ok(ProducerId(id));
            }
            *producer_ids = node.metadata.allocate_producer_ids(node, now)?;
        }
    }

    /// Verifies that the partitions are part of the transaction, or adds them, as the request's version asks for, and
    /// then runs `then` with the coordinator's word on each, before the coordinator decides anything else.
    pub fn with_partitions<T>(
        &self,
        node: &Node,
        write: &TransactionalWrite<'_>,
        now: Now,
        then: impl FnOnce(&[ErrorCode]) -> T,
    ) -> T {
        let for_all = |code| vec![code; write.partitions.len()];
        let mut held = match self.enter(node, write.transactional_id, now) {
            Ok(held) => held,
            Err(code) => return then(&for_all(code)),
        };
        let codes = match write.check {
            PartitionCheck::Add => for_all(held.add_partitions(write)),
            PartitionCheck::Verify | PartitionCheck::VerifyAbortable => {
                let verify = |partition| {
                    held.machine().verify_partition(write.transactional_id, write.producer, partition)
                };
                write.partitions.iter().map(verify).collect()
            }
        };
        then(&codes)
    }

    /// Looks at the coordinator of `transactional_id`.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub fn look_at<T>(
        &self,
        node: &Node,
        transactional_id: &str,
        now: Now,
        look: impl FnOnce(&Coordinator) -> T,
    ) -> Result<T, ErrorCode> {
        Ok(look(self.enter(node, transactional_id, now)?.machine()))
    }

    /// Looks at every coordinator, one after the other.
    ///
    /// # Errors
    /// Where one of them cannot be had.
    pub fn look_at_all(
        &self,
        node: &Node,
        now: Now,
        mut look: impl FnMut(&Coordinator),
    ) -> Result<(), ErrorCode> {
        self.shards.iter().try_for_each(|shard| {
            look(shard.enter(node, now)?.machine());
            Ok(())
        })
    }

    /// Takes the partitions of a topic that is gone out of all transactions.
    pub fn topic_deleted(&self, node: &Node, topic: &str, now: Now) {
        for shard in &self.shards {
            // Where the log fails, the markers will be found to have nowhere to go.
            let _ = shard.enter(node, now).and_then(|mut held| held.decide(Event::TopicDeleted { topic }));
        }
    }

    /// Does what is due.
    pub fn tick(&self, node: &Node, now: Now) {
        let due = |shard: &&Shard| shard.deadline.is_due(now.monotonic);
        for shard in self.shards.iter().filter(due) {
            // A failure has been logged, and the shard is tried again.
            let _ = self.tick_shard(node, shard, now);
        }
    }

    fn tick_shard(&self, node: &Node, shard: &Shard, now: Now) -> Result<(), ErrorCode> {
        let mut held = shard.lock(node, now);
        if held.machine.is_none() {
            let machine = replay(&shard.partition, &self.config).map_err(|error| {
                tracing::error!("{error}");
                ErrorCode::NotCoordinator
            })?;
            *held.machine = Some(machine);
            held.decide(Event::Loaded { is_after_power_cut: false })?;
        }
        held.decide(Event::Tick)?;
        Ok(())
    }

    /// When [`Transactions::tick`] is due.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.shards.iter().filter_map(|shard| shard.deadline.get()).min()
    }

    fn enter<'a>(&'a self, node: &'a Node, transactional_id: &str, now: Now) -> Result<Held<'a>, ErrorCode> {
        let shard = &self.shards[internal_log::partition_for(transactional_id, self.shards.len())];
        shard.enter(node, now)
    }
}

impl Shard {
    fn lock<'a>(&'a self, node: &'a Node, now: Now) -> Held<'a> {
        self.hold(self.machine.lock(), node, now)
    }

    fn hold<'a>(
        &'a self,
        machine: MutexGuard<'a, Option<Coordinator>>,
        node: &'a Node,
        now: Now,
    ) -> Held<'a> {
        Held { node, shard: self, now, machine, _together: node.group_appends() }
    }

    /// Takes the lock, if the coordinator is there.
    fn enter<'a>(&'a self, node: &'a Node, now: Now) -> Result<Held<'a>, ErrorCode> {
        let machine = self.machine.lock();
        match machine.is_some() {
            true => Ok(self.hold(machine, node, now)),
            // However often it is asked for: that does not put off the time at which its log is replayed.
            false => Err(ErrorCode::CoordinatorLoadInProgress),
        }
    }

    fn append(&self, records: Vec<Record>, machine: &mut Coordinator, now: Now) -> Result<(), ErrorCode> {
        if records.is_empty() {
            return Ok(());
        }
        let encoded = records.iter().map(|record| (record.encode_key(), record.encode_value()));
        let origin = match records.iter().all(Record::ends_transaction) {
            true => Origin::TransactionEnd,
            false => Origin::Coordinator,
        };
        internal_log::append(&self.partition, encoded, origin, now)?;
        records.into_iter().for_each(|record| machine.apply(record));
        Ok(())
    }
}

/// A shard whose lock is held, by whom and when.
struct Held<'a> {
    node: &'a Node,
    shard: &'a Shard,
    now: Now,
    machine: MutexGuard<'a, Option<Coordinator>>,
    /// Prepare, markers and Complete are synced together, as are the start of a transaction and its first batch.
    _together: Option<RwLockReadGuard<'a, ()>>,
}

impl Held<'_> {
    fn machine(&self) -> &Coordinator {
        self.machine.as_ref().expect("there is a machine whenever the lock is entered")
    }

    fn add_partitions(&mut self, write: &TransactionalWrite<'_>) -> ErrorCode {
        let event = Event::AddPartitions(AddPartitions {
            transactional_id: write.transactional_id,
            producer: write.producer,
            partitions: write.partitions,
            transaction_version: TransactionVersion::Two,
        });
        match self.decide(event) {
            Ok(Some(Answer::Refused(error))) | Err(error) => error,
            Ok(_) => ErrorCode::None,
        }
    }

    /// Carries out an event to its end.
    ///
    /// # Errors
    /// Where nothing can be said because the log failed. What had been decided for good when it failed is answered.
    fn decide(&mut self, event: Event<'_>) -> Result<Option<Answer>, ErrorCode> {
        let machine = self.machine.as_mut().expect("there is a machine whenever the lock is entered");
        let mut output = machine.decide(event, self.now);
        let mut answer = None;
        loop {
            if let Err(error) = self.shard.append(output.records, machine, self.now) {
                *self.machine = None;
                return answer.map(Some).ok_or(error);
            }
            answer = output.answer.or(answer);
            if output.markers.is_empty() {
                return Ok(answer);
            }
            let mut next = Output::default();
            for markers in output.markers {
                let failed = write_markers(self.node, self.shard, &markers, self.now);
                let then = machine.decide(Event::MarkersWritten { markers, failed }, self.now);
                next.records.extend(then.records);
                next.markers.extend(then.markers);
                next.answer = then.answer.or(next.answer);
            }
            output = next;
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let deadline = match self.machine.as_ref() {
            Some(machine) => machine.next_deadline(),
            None => Some(self.now.monotonic + RETRY_AFTER),
        };
        if self.shard.deadline.set(deadline)
            && let Some(deadline) = deadline
        {
            self.node.timer_changed(deadline);
        }
    }
}

/// Writes each marker into its partition; tells those that refused.
fn write_markers(
    node: &Node,
    shard: &Shard,
    markers: &Markers,
    now: Now,
) -> Vec<(TopicPartition, ErrorCode)> {
    let marker = Marker {
        producer_id: markers.producer.id,
        producer_epoch: markers.producer.epoch,
        kind: markers.outcome,
        coordinator_epoch: shard.partition.lock().log.leader_epoch().0,
        transaction_version: markers.transaction_version.level(),
    };
    let mut failed = Vec::new();
    for partition in &markers.partitions {
        if let Err(error) = node.append_marker(partition, &marker, now) {
            tracing::warn!(
                "{partition}: the marker of {} was not written: {error}",
                markers.transactional_id
            );
            failed.push((partition.clone(), error));
        }
    }
    failed
}

fn replay(partition: &Partition, config: &Config) -> Result<Coordinator, OpenError> {
    let mut machine = Coordinator::new(config.clone());
    internal_log::replay(partition, |batch| {
        // Anyone may have markers written here. They mean nothing.
        if batch.is_control() {
            return Ok(());
        }
        internal_log::for_each_record(batch, |offset, key, value| {
            let decoded = Record::decode(&key, value.as_ref());
            let record = internal_log::decodable(partition, offset, decoded).flatten();
            record.into_iter().for_each(|record| machine.apply(record));
            Ok::<_, DecodeError>(())
        })
    })?;
    Ok(machine)
}

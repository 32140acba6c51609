//! The host of the group coordinators, one for each partition of `__consumer_offsets`.
//!
//! Whoever decides something about a group holds the lock of its shard until the records are appended and applied;
//! end-of-transaction markers go into the shard's partition under that lock too. Clients are answered after that.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use oncelog_coordinator::groups::{Answer, Config, Coordinator, Event, Output, Position, Record, Ticket};
use oncelog_coordinator::metadata::config::BrokerConfig;
use oncelog_coordinator::transactions::Producer;
use oncelog_log::{Appended, Marker, Origin};
use oncelog_records::{BatchBuilder, EndTransactionMarker, MarkerKind};
use oncelog_wire::{DecodeError, ErrorCode, Now, ProducerId, txn_offset_commit};
use parking_lot::{Mutex, MutexGuard};

use super::deadline::Deadline;
use super::{OpenError, internal_log};
use crate::Node;
use crate::partition::Partition;
use crate::reply::{self, Later, Signal, Slot};
use crate::topics::{CONSUMER_OFFSETS, Topics};

/// How long a shard whose log has failed rests before its log is replayed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is decided at once, say the deletion of all offsets of a topic, goes into the log in batches of about this many
/// bytes.
const BATCH_BYTES: usize = 512 * 1024;

/// All group coordinators.
pub(crate) struct Groups {
    shards: Box<[Shard]>,
    config: Config,
}

/// One coordinator, with its partition.
struct Shard {
    partition: Arc<Partition>,
    state: Mutex<State>,
    deadline: Deadline,
}

/// What the shard's lock guards.
struct State {
    /// None after an append has failed: the log has to be replayed.
    machine: Option<Coordinator>,
    waiting: Waiting,
}

/// Where the answers that are still to come will be put.
type AnswerSlot = Slot<Result<Answer, ErrorCode>>;

/// The requests that wait for their answers. Those whose connection is gone are dropped now and then.
#[derive(Default)]
struct Waiting {
    slots: HashMap<Ticket, Weak<AnswerSlot>>,
    last_ticket: u64,
    clean_at: usize,
}

impl Groups {
    /// Replays the coordinators' logs; sessions of members start now.
    pub fn open(topics: &Topics, config: &BrokerConfig, now: Now) -> Result<Groups, OpenError> {
        let topic =
            topics.by_name(&CONSUMER_OFFSETS).expect("the internal topics are there from the first start on");
        let config = Config {
            offset_metadata_max_bytes: to_size(config.offset_metadata_max_bytes),
            min_session_timeout: config.group_min_session_timeout,
            max_session_timeout: config.group_max_session_timeout,
            max_size: to_size(config.group_max_size),
            initial_rebalance_delay: config.group_initial_rebalance_delay,
            offsets_retention: config.offsets_retention,
            offsets_retention_check_interval: config.offsets_retention_check_interval,
            max_record_bytes: to_size(topic.config().max_message_bytes),
        };
        let partitions = topic.partitions();
        let shards = partitions.iter().map(|partition| {
            let machine = load(partition, &config, now)?;
            let deadline = Deadline::new(machine.next_deadline());
            let state = Mutex::new(State { machine: Some(machine), waiting: Waiting::default() });
            Ok(Shard { partition: partition.clone(), state, deadline })
        });
        Ok(Groups { shards: shards.collect::<Result<_, OpenError>>()?, config })
    }

    /// Has the coordinator of `group_id` decide on a request. The answer may have to wait; it is `refuse`'s where the
    /// coordinator cannot be had, or what it decided cannot be stored.
    pub fn ask<'e, R>(
        &self,
        node: &Node,
        group_id: &str,
        now: Now,
        event: impl FnOnce(Ticket) -> Event<'e>,
        refuse: fn(ErrorCode) -> R,
    ) -> reply::Answer<R>
    where
        R: TryFrom<Answer> + 'static,
    {
        let asked = self.enter(node, group_id, now).and_then(|mut held| {
            let ticket = held.state.waiting.new_ticket();
            let answer = held.decide(event(ticket), ticket, None)?;
            Ok(answer.ok_or_else(|| held.state.waiting.wait(ticket)))
        });
        match asked {
            Ok(Ok(answer)) => reply::Answer::Now(typed(answer)),
            Ok(Err(slot)) => reply::Answer::Later(Box::new(Awaited { slot, refuse })),
            Err(error) => reply::Answer::Now(refuse(error)),
        }
    }

    /// Has the coordinator of `group_id` decide on a request that is answered at once.
    ///
    /// # Errors
    /// Where the coordinator cannot be had, or what it decided cannot be stored.
    pub fn answer<'e, R: TryFrom<Answer>>(
        &self,
        node: &Node,
        group_id: &str,
        now: Now,
        event: impl FnOnce(Ticket) -> Event<'e>,
    ) -> Result<R, ErrorCode> {
        self.enter(node, group_id, now)?.answer(event, None)
    }

    /// Stores the offsets of a transaction that the transaction coordinator answers for, by holding its shard's lock.
    ///
    /// # Errors
    /// Where the coordinator cannot be had, or refuses the producer.
    pub fn commit(
        &self,
        node: &Node,
        request: &txn_offset_commit::Request,
        now: Now,
    ) -> Result<txn_offset_commit::Response, ErrorCode> {
        let mut held = self.enter(node, &request.group_id, now)?;
        held.commit(request)
    }

    /// As [`Groups::commit`], but without the transaction coordinator, if the transaction has offsets here already: it
    /// cannot end in between. `None` if it has none.
    pub fn commit_if_open(
        &self,
        node: &Node,
        request: &txn_offset_commit::Request,
        now: Now,
    ) -> Option<Result<txn_offset_commit::Response, ErrorCode>> {
        let mut held = match self.enter(node, &request.group_id, now) {
            Ok(held) => held,
            Err(error) => return Some(Err(error)),
        };
        let (producer_id, producer_epoch) = (request.producer_id, request.producer_epoch);
        let is_open = held.shard.partition.lock().log.has_open_transaction(producer_id, producer_epoch);
        is_open.then(|| held.commit(request))
    }

    /// Looks at the coordinator of `group_id`.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub fn look_at<T>(
        &self,
        node: &Node,
        group_id: &str,
        now: Now,
        look: impl FnOnce(&Coordinator) -> T,
    ) -> Result<T, ErrorCode> {
        Ok(look(self.enter(node, group_id, now)?.machine()))
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

    /// Appends the marker that ends a transaction in one of the coordinators' partitions, and counts its offsets or
    /// drops them.
    ///
    /// # Errors
    /// What the log says.
    pub fn append_marker(&self, partition: i32, marker: &Marker, now: Now) -> Result<Appended, ErrorCode> {
        let shard = usize::try_from(partition).ok().and_then(|index| self.shards.get(index));
        let shard = shard.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let mut state = shard.state.lock();
        let appended = shard.partition.append_marker(marker, now)?;
        if let Some(machine) = &mut state.machine {
            end_transaction(machine, marker.producer_id, marker.kind);
        }
        Ok(appended)
    }

    /// Drops the offsets of a topic that is gone.
    pub fn topic_deleted(&self, node: &Node, topic: &str, now: Now) {
        for shard in &self.shards {
            // Where the log fails the offsets stay; a topic of that name has another id, which tells them apart.
            let _ = shard.enter(node, now).and_then(|mut held| held.run(Event::TopicDeleted(topic)));
        }
    }

    /// Does what is due.
    pub fn tick(&self, node: &Node, now: Now) {
        for shard in self.shards.iter().filter(|shard| shard.deadline.is_due(now.monotonic)) {
            // A failure has been logged, and the shard is tried again.
            let _ = self.tick_shard(node, shard, now);
        }
    }

    fn tick_shard(&self, node: &Node, shard: &Shard, now: Now) -> Result<(), ErrorCode> {
        let mut held = shard.lock(node, now);
        if held.state.machine.is_none() {
            let machine = load(&shard.partition, &self.config, now).map_err(|error| {
                tracing::error!("{error}");
                ErrorCode::NotCoordinator
            })?;
            held.state.machine = Some(machine);
        }
        held.run(Event::Tick)
    }

    /// When [`Groups::tick`] is due.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.shards.iter().filter_map(|shard| shard.deadline.get()).min()
    }

    /// The partition that the offsets of `group_id` are in.
    pub fn partition_of(&self, group_id: &str) -> i32 {
        internal_log::partition_for(group_id, self.shards.len()) as i32
    }

    fn enter<'a>(&'a self, node: &'a Node, group_id: &str, now: Now) -> Result<Held<'a>, ErrorCode> {
        self.shards[internal_log::partition_for(group_id, self.shards.len())].enter(node, now)
    }
}

impl Shard {
    fn lock<'a>(&'a self, node: &'a Node, now: Now) -> Held<'a> {
        Held { node, shard: self, now, state: self.state.lock() }
    }

    /// Takes the lock, if the coordinator is there.
    fn enter<'a>(&'a self, node: &'a Node, now: Now) -> Result<Held<'a>, ErrorCode> {
        let state = self.state.lock();
        match state.machine.is_some() {
            true => Ok(Held { node, shard: self, now, state }),
            // However often it is asked for: that does not put off the time at which its log is replayed.
            false => Err(ErrorCode::CoordinatorLoadInProgress),
        }
    }
}

/// A shard whose lock is held, by whom and when.
struct Held<'a> {
    node: &'a Node,
    shard: &'a Shard,
    now: Now,
    state: MutexGuard<'a, State>,
}

impl Held<'_> {
    fn machine(&self) -> &Coordinator {
        self.state.machine.as_ref().expect("there is a machine whenever the lock is entered")
    }

    fn commit(
        &mut self,
        request: &txn_offset_commit::Request,
    ) -> Result<txn_offset_commit::Response, ErrorCode> {
        let producer = Producer { id: request.producer_id, epoch: request.producer_epoch };
        self.answer(|ticket| Event::TxnOffsetCommit { ticket, request }, Some(producer))
    }

    fn answer<'e, R: TryFrom<Answer>>(
        &mut self,
        event: impl FnOnce(Ticket) -> Event<'e>,
        producer: Option<Producer>,
    ) -> Result<R, ErrorCode> {
        let ticket = self.state.waiting.new_ticket();
        let answer = self.decide(event(ticket), ticket, producer)?;
        Ok(typed(answer.expect("only joins and syncs have to wait")))
    }

    /// Carries out an event that nobody asked for.
    fn run(&mut self, event: Event<'_>) -> Result<(), ErrorCode> {
        let ticket = self.state.waiting.new_ticket();
        self.decide(event, ticket, None)?;
        Ok(())
    }

    /// Carries out an event; gives the answer for `ticket` if there is one, and others to those who wait.
    ///
    /// # Errors
    /// Where the log failed; what was decided is void. Or where it refused the transaction's producer.
    fn decide(
        &mut self,
        event: Event<'_>,
        ticket: Ticket,
        producer: Option<Producer>,
    ) -> Result<Option<Answer>, ErrorCode> {
        let State { machine, waiting } = &mut *self.state;
        let decider = machine.as_mut().expect("there is a machine whenever the lock is entered");
        let Output { records, answers } = decider.decide(event, self.now);
        if let Err(error) = append(&self.shard.partition, decider, &records, producer, self.now) {
            // A producer with an old epoch is refused and leaves nothing behind.
            if producer.is_none() || error != ErrorCode::InvalidProducerEpoch {
                *machine = None;
                waiting.refuse_all(error);
            }
            return Err(error);
        }
        let mut own = None;
        for (whose, answer) in answers {
            if whose == ticket {
                own = Some(answer);
            } else {
                waiting.answer(whose, answer);
            }
        }
        Ok(own)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let next = match &self.state.machine {
            Some(machine) => machine.next_deadline(),
            None => Some(self.now.monotonic + RETRY_AFTER),
        };
        if self.shard.deadline.set(next)
            && let Some(next) = next
        {
            self.node.timer_changed(next);
        }
    }
}

impl Waiting {
    fn new_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn wait(&mut self, ticket: Ticket) -> Arc<AnswerSlot> {
        if self.slots.len() >= self.clean_at {
            self.slots.retain(|_, slot| slot.strong_count() > 0);
            self.clean_at = 2 * self.slots.len() + 16;
        }
        let slot = Arc::<AnswerSlot>::default();
        self.slots.insert(ticket, Arc::downgrade(&slot));
        slot
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(slot) = self.slots.remove(&ticket).and_then(|slot| slot.upgrade()) {
            slot.fill(Ok(answer));
        }
    }

    fn refuse_all(&mut self, error: ErrorCode) {
        for slot in self.slots.drain().filter_map(|(_, slot)| slot.upgrade()) {
            slot.fill(Err(error));
        }
    }
}

/// The answer of a coordinator, when it comes.
struct Awaited<R> {
    slot: Arc<AnswerSlot>,
    refuse: fn(ErrorCode) -> R,
}

impl<R: TryFrom<Answer>> Later<R> for Awaited<R> {
    fn signal(&self) -> &Arc<Signal> {
        self.slot.signal()
    }

    fn deadline(&self) -> Option<Duration> {
        None
    }

    fn poll(&mut self, _node: &Node, _now: Now) -> Option<R> {
        self.slot.take().map(|answer| answer.map_or_else(self.refuse, typed))
    }
}

fn typed<R: TryFrom<Answer>>(answer: Answer) -> R {
    R::try_from(answer).ok().expect("a request is answered in kind")
}

/// Appends and applies records, in as many batches as they need.
fn append(
    partition: &Partition,
    machine: &mut Coordinator,
    records: &[Record],
    producer: Option<Producer>,
    now: Now,
) -> Result<(), ErrorCode> {
    let mut records =
        records.iter().map(|record| (record, record.encode_key(), record.encode_value())).peekable();
    while records.peek().is_some() {
        let mut builder = match producer {
            Some(producer) => BatchBuilder::new().producer(producer.id, producer.epoch, -1).transactional(),
            None => BatchBuilder::new(),
        };
        let mut appended = Vec::new();
        while builder.size_in_bytes() < BATCH_BYTES
            && let Some((record, key, value)) = records.next()
        {
            builder.push(now.wall, Some(&key), value.as_deref());
            appended.push(record);
        }
        let base_offset = internal_log::append_batch(partition, builder, Origin::Coordinator, now)?;
        for (record, at) in appended.into_iter().zip(0..) {
            let producer_id = producer.map(|producer| producer.id);
            machine.apply(record, Position { offset: base_offset.plus(at), producer_id });
        }
    }
    Ok(())
}

/// A machine that knows what is in the log.
fn load(partition: &Partition, config: &Config, now: Now) -> Result<Coordinator, OpenError> {
    let mut machine = Coordinator::new(config.clone());
    internal_log::replay(partition, |batch| {
        if batch.is_control() {
            // Compaction leaves markers without a record, once nothing of their transaction is there.
            if batch.record_count() > 0 {
                let marker = EndTransactionMarker::parse(batch)?;
                end_transaction(&mut machine, batch.producer_id(), marker.kind);
            }
            return Ok(());
        }
        let producer_id = batch.is_transactional().then(|| batch.producer_id());
        internal_log::for_each_record(batch, |offset, key, value| {
            let decoded = Record::decode(&key, value.as_ref());
            if let Some(record) = internal_log::decodable(partition, offset, decoded).flatten() {
                machine.apply(&record, Position { offset, producer_id });
            }
            Ok::<_, DecodeError>(())
        })
    })?;
    let Output { records, .. } = machine.decide(Event::Loaded, now);
    append(partition, &mut machine, &records, None, now).map_err(|error| OpenError::Replay {
        log: format!("{}-{}", partition.topic, partition.index),
        what: format!("what follows from it cannot be appended: {error}"),
    })?;
    Ok(machine)
}

fn end_transaction(machine: &mut Coordinator, producer_id: ProducerId, kind: MarkerKind) {
    match kind {
        MarkerKind::Commit => machine.apply_commit(producer_id),
        MarkerKind::Abort => machine.apply_abort(producer_id),
    }
}

fn to_size(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

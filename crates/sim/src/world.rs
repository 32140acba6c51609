//! The world: virtual time, the queue of events, the network, and the broker with its disk.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncelog_log::Durability;
use oncelog_node::{Node, Reply};
use oncelog_wire::{ApiKey, Now, Timestamp};

use crate::Options;
use crate::broker;
use crate::disk::{Faults, LossyDisk};
use crate::executor::{Task, TaskId};
use crate::history::{History, Property};
use crate::mutants::Interposer;
use crate::network::{Fate, InFlight, Link, Lost, Slot, Weather, short_delay};
use crate::random::Random;
use crate::trace::{Trace, fingerprint};

/// When worlds begin.
const START: Now = Now { monotonic: Duration::from_secs(1), wall: Timestamp(1_700_000_000_000) };

/// How often the broker looks after its logs.
const MAINTENANCE: Duration = Duration::from_secs(1);

/// How long a broker that did not start rests before the next try.
const RESTART_AFTER: Duration = Duration::from_millis(200);

/// Why the broker may close a connection.
const ACKS_0_FAILED: &str = "a produce with acks=0 failed";

/// How far the life of a world has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everybody works, everything fails.
    Storm,
    /// Nothing fails any more, and writers finish what they have begun.
    Ending,
    /// Copiers and readers go on to the end of what there is.
    Draining,
}

/// Something that happens at a time.
#[derive(Debug)]
enum Event {
    Wake(TaskId),
    Arrive { link: u64, request: u64 },
    Deliver { link: u64, request: u64, answer: Result<Bytes, Lost> },
    Break { link: u64 },
    TimeOut { link: u64, request: u64 },
    WaitDue { link: u64 },
    Maintain,
    Sync,
    Start,
}

/// The world.
pub struct World {
    /// Where chance comes from.
    pub random: Random,
    /// What happens.
    pub trace: Trace,
    /// What clients did, were told and saw.
    pub history: History,
    /// How far it has come.
    pub phase: Phase,
    /// How the network behaves.
    pub weather: Weather,
    /// The broker's disk.
    pub disk: LossyDisk,
    /// Who stands between clients and broker.
    pub interposer: Interposer,
    /// What the broker promises to survive, and has to.
    pub durability: Durability,
    now: Now,
    skew: i64,
    steps_left: u64,
    events: BTreeMap<(Duration, u64), Event>,
    next_number: u64,
    node: Option<Node>,
    links: BTreeMap<u64, Link>,
    ready: VecDeque<TaskId>,
    current: TaskId,
    born: Vec<(TaskId, Task)>,
    killed: Vec<TaskId>,
    alive: BTreeSet<TaskId>,
}

impl World {
    /// A world with its broker.
    pub fn new(options: &Options, interposer: Interposer) -> World {
        let mut random = Random::new(options.seed);
        let disk = LossyDisk::new(random.fork());
        let mut world = World {
            weather: Weather::of_a_world(&mut random),
            random,
            trace: Trace::new(options.is_printed),
            history: History::default(),
            phase: Phase::Storm,
            disk,
            interposer,
            durability: options.durability,
            now: START,
            skew: 0,
            steps_left: options.steps,
            events: BTreeMap::new(),
            next_number: 1,
            node: None,
            links: BTreeMap::new(),
            ready: VecDeque::new(),
            current: 0,
            born: Vec::new(),
            killed: Vec::new(),
            alive: BTreeSet::new(),
        };
        world.start_broker();
        world.at(START.monotonic + MAINTENANCE, Event::Maintain);
        world
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Sets by how many milliseconds the wall clock is wrong; nothing but timestamps may depend on it.
    pub fn set_wall_clock_skew(&mut self, skew: i64) {
        self.now.wall = self.now.wall.plus_ms(skew - self.skew);
        self.skew = skew;
        self.note(format_args!("the wall clock is wrong by {skew} ms"));
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.note(self.now.monotonic, line);
    }

    /// Whether the storm is to end.
    pub fn is_out_of_steps(&self) -> bool {
        self.steps_left == 0
    }

    // The inhabitants.

    /// Lets a task live.
    pub fn spawn(&mut self, task: Task) -> TaskId {
        let id = self.number();
        self.born.push((id, task));
        self.alive.insert(id);
        self.ready.push_back(id);
        id
    }

    /// Ends a task wherever it is.
    pub fn kill(&mut self, id: TaskId) {
        if self.alive.remove(&id) {
            self.killed.push(id);
        }
    }

    /// Whether a task lives.
    pub fn is_alive(&self, id: TaskId) -> bool {
        self.alive.contains(&id)
    }

    /// Wakes the task that is running at a later time.
    pub fn wake_at(&mut self, time: Duration) {
        self.at(time, Event::Wake(self.current));
    }

    pub(crate) fn has_ended(&mut self, id: TaskId) {
        self.alive.remove(&id);
    }

    pub(crate) fn take_births_and_deaths(&mut self) -> (Vec<(TaskId, Task)>, Vec<TaskId>) {
        (std::mem::take(&mut self.born), std::mem::take(&mut self.killed))
    }

    pub(crate) fn next_ready(&mut self) -> Option<TaskId> {
        self.current = self.ready.pop_front()?;
        Some(self.current)
    }

    /// Takes the next event; says whether there was one.
    pub(crate) fn step(&mut self) -> bool {
        let timers = self.node.as_ref().filter(|_| self.interposer.has_timers());
        let deadline = timers.and_then(Node::next_deadline);
        let next = self.events.first_key_value().map(|((time, _), _)| *time);
        match (deadline, next) {
            (Some(deadline), next) if next.is_none_or(|next| deadline < next) => {
                self.move_to(deadline);
                if let Some(node) = &self.node {
                    node.tick(self.now);
                }
                self.note(format_args!("the broker does what is due"));
            }
            (_, None) => return false,
            (_, Some(_)) => {
                let Some(((time, _), event)) = self.events.pop_first() else { return false };
                self.move_to(time);
                self.happens(event);
            }
        }
        self.steps_left = self.steps_left.saturating_sub(1);
        self.settle();
        true
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Wake(task) => self.ready.push_back(task),
            Event::Arrive { link, request } => self.arrives(link, request),
            Event::Deliver { link, request, answer } => self.deliver(link, request, answer),
            Event::Break { link } => self.break_link(link),
            Event::TimeOut { link, request } => {
                self.times_out(link, request);
            }
            Event::WaitDue { link } => self.poll_wait(link),
            Event::Maintain => {
                if let Some(node) = &self.node {
                    node.maintain(self.now);
                }
                self.at(self.now.monotonic + MAINTENANCE, Event::Maintain);
            }
            Event::Sync => {
                let synced = self.node.as_ref().map_or(Ok(()), Node::sync);
                if let Err(error) = synced {
                    self.note(format_args!("the broker cannot sync: {error}"));
                }
            }
            Event::Start => self.start_broker(),
        }
    }

    /// The client gives up on a request, and with it on the connection.
    fn times_out(&mut self, link: u64, request: u64) {
        let Some(found) = self.links.get(&link).filter(|link| link.slots.contains_key(&request)) else {
            return;
        };
        for request in found.slots.keys().copied().collect::<Vec<_>>() {
            self.deliver(link, request, Err(Lost::TimedOut));
        }
        self.close(link);
    }

    fn move_to(&mut self, time: Duration) {
        let time = time.max(self.now.monotonic);
        // In whole milliseconds of the monotonic clock, so that small steps are not lost.
        let passed = time.as_millis() - self.now.monotonic.as_millis();
        self.now.wall = self.now.wall.plus_ms(passed as i64);
        self.now.monotonic = time;
    }

    fn at(&mut self, time: Duration, event: Event) {
        let number = self.number();
        self.events.insert((time, number), event);
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    // The broker.

    /// The broker, if it runs.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Kills the broker, which starts again after a while.
    pub fn kill_broker(&mut self) {
        self.note(format_args!("the broker is killed"));
        self.end_broker();
    }

    /// Has the broker close its logs and end, and start again after a while.
    pub fn stop_broker(&mut self) {
        let closed = self.node.as_ref().map(|node| node.close(self.now));
        self.note(format_args!("the broker stops: {:?}", closed.map(|closed| closed.is_ok())));
        self.end_broker();
    }

    fn end_broker(&mut self) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.break_link(link);
        }
        if self.node.take().is_some() {
            let pause = Duration::from_millis(self.random.within(10..3_000));
            self.at(self.now.monotonic + pause, Event::Start);
        }
        if self.durability != Durability::Os && self.random.one_in(2) {
            self.note(format_args!("the power is cut"));
            self.disk.cut_power();
        } else {
            self.disk.end_process();
        }
    }

    fn start_broker(&mut self) {
        self.interposer.before_start(&self.disk);
        match broker::start(Arc::new(self.disk.clone()), self.durability, self.random.fork(), self.now) {
            Ok(node) => {
                self.node = Some(node);
                self.note(format_args!("the broker runs"));
            }
            Err(error) => {
                self.note(format_args!("the broker does not start: {error}"));
                if self.phase > Phase::Storm {
                    self.history.violated(Property::Progress, format!("no start on a sound disk: {error}"));
                }
                self.disk.end_process();
                self.at(self.now.monotonic + RESTART_AFTER, Event::Start);
            }
        }
    }

    /// Has what the last event brought about take effect.
    fn settle(&mut self) {
        if self.disk.is_dead() {
            self.note(format_args!("the broker dies amid a write"));
            self.end_broker();
            return;
        }
        if self.node.as_ref().is_some_and(Node::has_failed) {
            self.note(format_args!("the broker gives up"));
            self.end_broker();
            return;
        }
        self.schedule_sync();
        // One answer may let the next one go.
        loop {
            let fired = self.links.iter().find_map(|(id, link)| {
                let (_, wait) = link.waiting.as_ref()?;
                wait.signal().take().then_some(*id)
            });
            let Some(link) = fired else { break };
            self.poll_wait(link);
        }
    }

    /// Has the journal synced: soon where somebody waits for it, else within some milliseconds.
    fn schedule_sync(&mut self) {
        let Some(node) = self.node.as_ref() else { return };
        if !node.sync_signal().is_some_and(|signal| signal.take()) {
            return;
        }
        let most = if node.is_sync_urgent() { 2_000 } else { 10_000 };
        let delay = Duration::from_micros(self.random.within(100..most));
        self.at(self.now.monotonic + delay, Event::Sync);
    }

    // The network.

    /// Opens a connection to the broker, if it runs.
    pub fn connect(&mut self, client: &Rc<str>) -> Option<u64> {
        self.node.as_ref()?;
        let id = self.number();
        let link = Link {
            connection: broker::connection(id),
            client: client.clone(),
            has_client: true,
            has_broker: true,
            last_arrival: Duration::ZERO,
            last_answer: Duration::ZERO,
            in_flight: BTreeMap::new(),
            arrived: VecDeque::new(),
            waiting: None,
            slots: BTreeMap::new(),
        };
        self.links.insert(id, link);
        Some(id)
    }

    /// Whether a connection still stands, as far as the client can tell.
    pub fn is_open(&self, link: u64) -> bool {
        self.links.get(&link).is_some_and(|link| link.has_client)
    }

    /// Sends a request; the answer, or why there is none, will be in the slot.
    pub fn send(&mut self, link: u64, api: (ApiKey, i16), frame: Bytes, patience: Duration) -> Slot {
        let request = self.number();
        let slot = Slot { answer: Rc::new(RefCell::new(None)), task: self.current };
        let (fate, delay) = self.weather.fate(&mut self.random);
        let now = self.now.monotonic;
        let Some(found) = self.links.get_mut(&link).filter(|link| link.has_client) else {
            *slot.answer.borrow_mut() = Some(Err(Lost::Broken));
            return slot;
        };
        let arrival = found.last_arrival.max(now + delay);
        found.last_arrival = arrival;
        found.slots.insert(request, slot.clone());
        let loses_answer = fate == Fate::LosesAnswer;
        let print = fingerprint(&frame);
        let client = found.client.clone();
        found.in_flight.insert(request, InFlight { api, frame, loses_answer });
        self.trace
            .note(now, format_args!("{client} -> {} v{} #{request} {print:08x} {fate:?}", api.0, api.1));
        self.at(now + patience, Event::TimeOut { link, request });
        match fate {
            Fate::IsLost => self.at(arrival, Event::Break { link }),
            _ => self.at(arrival, Event::Arrive { link, request }),
        }
        slot
    }

    /// The client closes its side. What is in flight may still arrive.
    pub fn close(&mut self, link: u64) {
        let keeps = self.random.one_in(2);
        let Some(found) = self.links.get_mut(&link) else { return };
        found.has_client = false;
        found.slots.clear();
        found.waiting = None;
        if !keeps || found.in_flight.is_empty() {
            self.links.remove(&link);
        }
    }

    /// The connection breaks; the client learns of it.
    fn break_link(&mut self, link: u64) {
        let Some(found) = self.links.get_mut(&link) else { return };
        found.has_broker = false;
        found.waiting = None;
        found.in_flight.clear();
        found.arrived.clear();
        if found.slots.is_empty() {
            self.links.remove(&link);
            return;
        }
        let waiting: Vec<u64> = found.slots.keys().copied().collect();
        for request in waiting {
            self.answer(link, request, Err(Lost::Broken));
        }
    }

    fn arrives(&mut self, link: u64, request: u64) {
        let Some(found) = self.links.get_mut(&link).filter(|link| link.has_broker) else { return };
        if self.node.is_none() {
            return self.break_link(link);
        }
        found.arrived.push_back(request);
        self.serve(link);
    }

    /// Handles the requests of a connection that have arrived, one after the other.
    fn serve(&mut self, link: u64) {
        loop {
            let Some(node) = &self.node else { return };
            let Some(found) = self.links.get_mut(&link) else { return };
            if found.waiting.is_some() || !found.has_broker {
                return;
            }
            let Some(request) = found.arrived.pop_front() else { return };
            let Some(InFlight { api, frame, .. }) = found.in_flight.get(&request) else { continue };
            let reply = self.interposer.handle(node, &found.connection, *api, frame.clone(), self.now);
            if self.disk.is_dead() {
                // Nobody is there any more to send an answer; `settle` sees to the rest.
                return;
            }
            match reply {
                Reply::Send(frame) => self.reply(link, request, broker::gather(frame)),
                Reply::Silent => self.forget(link, request),
                Reply::Wait(wait) => {
                    if let Some(due) = wait.deadline() {
                        self.at(due, Event::WaitDue { link });
                    }
                    if let Some(found) = self.links.get_mut(&link) {
                        found.waiting = found.has_client.then_some((request, wait));
                    }
                    // What it waits for may be told once it is asked only, or have happened already.
                    self.poll_wait(link);
                    return;
                }
                Reply::Close(reason) => {
                    self.note(format_args!("the broker closes a connection: {reason}"));
                    if &*reason != ACKS_0_FAILED {
                        self.history.violated(Property::SoundAnswers, format!("closed: {reason}"));
                    }
                    self.break_link(link);
                }
            }
        }
    }

    fn poll_wait(&mut self, link: u64) {
        let (Some(node), Some(found)) = (&self.node, self.links.get_mut(&link)) else { return };
        let Some((request, wait)) = &mut found.waiting else { return };
        let Some(frame) = wait.poll(node, self.now) else { return };
        let request = *request;
        found.waiting = None;
        if frame.is_empty() {
            return self.break_link(link);
        }
        self.reply(link, request, broker::gather(frame));
        self.serve(link);
    }

    fn forget(&mut self, link: u64, request: u64) {
        if let Some(found) = self.links.get_mut(&link) {
            found.in_flight.remove(&request);
            found.slots.remove(&request);
        }
    }

    /// The broker sends an answer.
    fn reply(&mut self, link: u64, request: u64, answer: Bytes) {
        let Some(found) = self.links.get_mut(&link) else { return };
        let Some(InFlight { api, loses_answer, .. }) = found.in_flight.remove(&request) else { return };
        let answer = self.interposer.alter_answer(api, answer);
        let (client, print) = (found.client.clone(), fingerprint(&answer));
        self.note(format_args!("{client} <- {} v{} #{request} {print:08x}", api.0, api.1));
        if loses_answer {
            self.break_link(link);
        } else {
            self.answer(link, request, Ok(answer));
        }
    }

    /// Brings an answer under way.
    fn answer(&mut self, link: u64, request: u64, answer: Result<Bytes, Lost>) {
        let delay = short_delay(&mut self.random);
        let Some(found) = self.links.get_mut(&link) else { return };
        let time = found.last_answer.max(self.now.monotonic + delay);
        found.last_answer = time;
        self.at(time, Event::Deliver { link, request, answer });
    }

    /// An answer, or the news that there will be none, reaches the client.
    fn deliver(&mut self, link: u64, request: u64, answer: Result<Bytes, Lost>) {
        let Some(found) = self.links.get_mut(&link) else { return };
        let Some(slot) = found.slots.remove(&request) else { return };
        if let Err(lost) = answer {
            let client = found.client.clone();
            found.has_client = false;
            self.note(format_args!("{client} learns that #{request} is lost: {lost:?}"));
        }
        *slot.answer.borrow_mut() = Some(answer);
        self.ready.push_back(slot.task);
    }

    // Faults.

    /// Sets what goes wrong with the disk from now on.
    pub fn set_disk_faults(&mut self, faults: Faults) {
        self.note(format_args!("the disk: {faults:?}"));
        self.disk.set_faults(faults);
    }
}

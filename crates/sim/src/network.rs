//! Connections between clients and the broker, and what happens to requests on the way.
//!
//! As with TCP, what arrives on a connection arrives in order and once; what is in flight when a connection breaks may
//! arrive or not. So a request comes twice only if a client sends it again, but the first copy may come in last.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use oncelog_node::{Connection, Wait};
use oncelog_wire::ApiKey;

use crate::executor::TaskId;
use crate::random::Random;

/// Why a request has no answer. It may have been carried out, may still be, or may never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// There was nobody to connect to: it was not carried out.
    Down,
    /// The connection broke.
    Broken,
    /// The client waited for long enough.
    TimedOut,
}

/// Where the answer to one request will be put.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The answer.
    pub answer: Rc<RefCell<Option<Result<Bytes, Lost>>>>,
    /// Who waits for it.
    pub task: TaskId,
}

/// A request on its way.
#[derive(Debug)]
pub struct InFlight {
    /// Which API it is of, in which version.
    pub api: (ApiKey, i16),
    /// Its bytes; taken when it arrives.
    pub frame: Bytes,
    /// Whether the connection breaks in place of the answer.
    pub loses_answer: bool,
}

/// A connection.
pub struct Link {
    /// What the broker knows of it.
    pub connection: Connection,
    /// The client's name.
    pub client: Rc<str>,
    /// Whether the client still listens.
    pub has_client: bool,
    /// Whether the broker still reads.
    pub has_broker: bool,
    /// Nothing overtakes: the time at which the last request arrives.
    pub last_arrival: Duration,
    /// And the last answer.
    pub last_answer: Duration,
    /// Requests that have not arrived, by number.
    pub in_flight: BTreeMap<u64, InFlight>,
    /// Those that have, and wait for their turn.
    pub arrived: VecDeque<u64>,
    /// The request whose answer has to wait: its number, and what it waits for.
    pub waiting: Option<(u64, Box<dyn Wait>)>,
    /// The client's side.
    pub slots: BTreeMap<u64, Slot>,
}

/// How the network behaves.
#[derive(Clone, Debug)]
pub struct Weather {
    /// One request in so many is lost with its connection before it arrives.
    pub loses_requests: u64,
    /// One answer in so many is lost with its connection.
    pub loses_answers: u64,
    /// One request in so many takes seconds.
    pub slows_requests: u64,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives,
    /// It is lost with its connection.
    IsLost,
    /// It arrives, but its answer is lost.
    LosesAnswer,
}

impl Weather {
    /// Nothing goes wrong.
    pub const FAIR: Weather = Weather { loses_requests: 0, loses_answers: 0, slows_requests: 0 };

    /// How much goes wrong in this world.
    pub fn of_a_world(random: &mut Random) -> Weather {
        let rate = |random: &mut Random| random.pick(&[0, 15, 40, 100, 300]);
        Weather { loses_requests: rate(random), loses_answers: rate(random), slows_requests: rate(random) }
    }

    /// What becomes of a request, and how long it is under way.
    pub fn fate(&self, random: &mut Random) -> (Fate, Duration) {
        let fate = match (random.one_in(self.loses_requests), random.one_in(self.loses_answers)) {
            (true, _) => Fate::IsLost,
            (_, true) => Fate::LosesAnswer,
            _ => Fate::Arrives,
        };
        let delay = match random.one_in(self.slows_requests) {
            true => Duration::from_millis(random.within(200..15_000)),
            false => short_delay(random),
        };
        (fate, delay)
    }
}

/// How long a message is under way on a good day.
pub fn short_delay(random: &mut Random) -> Duration {
    let micros = match random.one_in(10) {
        true => random.within(1_000..80_000),
        false => random.within(50..2_000),
    };
    Duration::from_micros(micros)
}

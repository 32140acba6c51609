//! The two brokers under comparison: each request is put to both, and what they answer is compared on the spot.

use std::cell::RefCell;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::ops::Index;
use std::rc::Rc;
use std::time::{Duration, Instant};

use oncelog_client::{ClientError, Connection, Pending};
use oncelog_wire::{ApiKey, Request};

use crate::compare::{Clock, Names, compare};
use crate::report::Report;
use crate::value::Value;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Apache Kafka.
    Reference,
    /// The broker that is to be like it.
    Broker,
}

/// Something of each broker's: an answer, or an id that it made up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Both<T> {
    /// The reference's.
    pub reference: T,
    /// The broker's.
    pub broker: T,
}

impl<T> Both<T> {
    /// The same for each side.
    pub fn of(mut make: impl FnMut(Side) -> T) -> Both<T> {
        Both { reference: make(Side::Reference), broker: make(Side::Broker) }
    }

    /// Takes out of both what is wanted.
    pub fn map<U>(&self, take: impl Fn(&T) -> U) -> Both<U> {
        Both { reference: take(&self.reference), broker: take(&self.broker) }
    }
}

impl<T> Index<Side> for Both<T> {
    type Output = T;

    fn index(&self, side: Side) -> &T {
        match side {
            Side::Reference => &self.reference,
            Side::Broker => &self.broker,
        }
    }
}

/// Errors of a broker that has just been started; whoever meets them asks again.
const STARTING: &[&str] = &["CoordinatorNotAvailable", "CoordinatorLoadInProgress", "NotCoordinator"];
/// Errors while a transaction is being ended: the reference answers before the markers are written.
const ENDING: &[&str] = &["ConcurrentTransactions", "UnstableOffsetCommit"];

const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// How long an answer may take that is expected at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// A connection to each broker, in one scenario.
pub struct Pair {
    addresses: Both<SocketAddr>,
    client_id: String,
    connections: [Option<Connection>; 2],
    names: Rc<RefCell<Names>>,
    report: Rc<RefCell<Report>>,
    clock: Clock,
    run: String,
}

/// A request that was sent to both.
pub struct Sent<R> {
    what: String,
    version: i16,
    pending: [Option<Pending<R>>; 2],
}

type Outcome<T> = Result<T, String>;

impl Pair {
    /// Connections to both, for a new scenario. What a scenario creates is named after `run`.
    pub fn new(addresses: Both<SocketAddr>, report: Rc<RefCell<Report>>, clock: Clock, run: &str) -> Pair {
        Pair {
            addresses,
            client_id: "parity".into(),
            connections: [None, None],
            names: Rc::default(),
            report,
            clock,
            run: run.to_owned(),
        }
    }

    /// Further connections in the same scenario.
    pub fn another(&self) -> Pair {
        self.another_called("parity")
    }

    /// Further connections, of a client of that name.
    pub fn another_called(&self, client_id: &str) -> Pair {
        Pair {
            addresses: self.addresses,
            client_id: client_id.to_owned(),
            connections: [None, None],
            names: self.names.clone(),
            report: self.report.clone(),
            clock: self.clock,
            run: self.run.clone(),
        }
    }

    /// A name that no other run has used.
    pub fn name(&self, name: &str) -> String {
        format!("{name}.{}", self.run)
    }

    /// The first timestamp for records.
    pub fn time(&self) -> oncelog_wire::Timestamp {
        oncelog_wire::Timestamp(self.clock.records_from)
    }

    fn connection(&mut self, side: Side) -> Outcome<&mut Connection> {
        let slot = &mut self.connections[side as usize];
        if slot.is_none() {
            let connection =
                Connection::connect(self.addresses[side], &self.client_id).map_err(|e| e.to_string())?;
            connection.set_read_timeout(Some(ANSWER_WITHIN)).map_err(|e| e.to_string())?;
            *slot = Some(connection);
        }
        Ok(slot.as_mut().expect("it was just filled"))
    }

    /// What became of a call; a connection that failed is given up.
    fn outcome<T>(&mut self, side: Side, result: Result<T, ClientError>) -> Outcome<T> {
        result.map_err(|error| {
            self.connections[side as usize] = None;
            match error {
                ClientError::Closed => "connection_closed".into(),
                ClientError::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    "no_answer".into()
                }
                other => other.to_string(),
            }
        })
    }

    fn call<R: Request>(&mut self, side: Side, request: &R, version: i16) -> Outcome<R::Response> {
        let result = self.connection(side)?.call(request, version);
        self.outcome(side, result)
    }

    /// Asks both in one version, and once more where a coordinator is not there yet.
    pub fn ask<R>(&mut self, what: &str, version: i16, request: impl Fn(Side) -> R) -> Both<R::Response>
    where
        R: Request,
        R::Response: Debug,
    {
        self.ask_unless(STARTING, what, version, request)
    }

    /// Asks both in one version, until no transaction is being ended any more.
    pub fn settle<R>(&mut self, what: &str, version: i16, request: impl Fn(Side) -> R) -> Both<R::Response>
    where
        R: Request,
        R::Response: Debug,
    {
        self.ask_unless(&[STARTING, ENDING].concat(), what, version, request)
    }

    /// Asks both in every version there is, and returns the answers to the last.
    pub fn ask_all<R>(&mut self, what: &str, request: impl Fn(Side) -> R) -> Both<R::Response>
    where
        R: Request,
        R::Response: Debug,
    {
        let mut last = Both::of(|_| R::Response::default());
        for version in R::VERSIONS {
            last = self.ask(what, version, &request);
        }
        last
    }

    /// Asks both in one version, and again while one of these errors is in the answer.
    pub fn ask_unless<R>(
        &mut self,
        passing: &[&str],
        what: &str,
        version: i16,
        request: impl Fn(Side) -> R,
    ) -> Both<R::Response>
    where
        R: Request,
        R::Response: Debug,
    {
        let outcomes = [Side::Reference, Side::Broker].map(|side| {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let outcome = self.call(side, &request(side), version);
                let passes = outcome.as_ref().is_ok_and(|answer| Value::of(answer).mentions(passing));
                if !passes || Instant::now() > deadline {
                    return outcome;
                }
                std::thread::sleep(PAUSE);
            }
        });
        self.judge(R::KEY, what, version, outcomes)
    }

    /// Puts a request to one side again and again, and compares nothing, until `is_enough` says so of an answer.
    pub fn repeat_until<R: Request>(
        &mut self,
        side: Side,
        version: i16,
        request: &R,
        mut is_enough: impl FnMut(&R::Response) -> bool,
    ) {
        while let Ok(answer) = self.call(side, request, version) {
            if is_enough(&answer) {
                return;
            }
        }
    }

    /// Sends a request to both, whose answers will take their time.
    pub fn send<R: Request>(&mut self, what: &str, version: i16, request: impl Fn(Side) -> R) -> Sent<R> {
        let pending = [Side::Reference, Side::Broker].map(|side| {
            let sent = self.connection(side).ok()?.send(&request(side), version);
            self.outcome(side, sent).ok()
        });
        Sent { what: what.to_owned(), version, pending }
    }

    /// Waits for the answers to what was sent.
    pub fn receive<R>(&mut self, sent: Sent<R>) -> Both<R::Response>
    where
        R: Request,
        R::Response: Debug,
    {
        let [reference, broker] = sent.pending;
        let outcomes = [(Side::Reference, reference), (Side::Broker, broker)].map(|(side, pending)| {
            let pending = pending.ok_or("not_sent")?;
            let received = self.connection(side)?.receive(pending);
            self.outcome(side, received)
        });
        self.judge(R::KEY, &sent.what, sent.version, outcomes)
    }

    /// Sends bytes to both and compares the bytes that come back.
    pub fn ask_raw(&mut self, what: &str, api: ApiKey, version: i16, frame: &[u8]) {
        let outcomes = [Side::Reference, Side::Broker].map(|side| {
            let connection = self.connection(side)?;
            let result = connection.send_raw(frame).and_then(|()| connection.receive_frame());
            self.outcome(side, result)
        });
        self.judge(api, what, version, outcomes);
    }

    /// The same for answers that depend on what else is there: just whether there is one is compared.
    pub fn ask_raw_kind(&mut self, what: &str, api: ApiKey, frame: &[u8]) {
        let outcomes = [Side::Reference, Side::Broker].map(|side| {
            let connection = self.connection(side)?;
            let result = connection.send_raw(frame).and_then(|()| connection.receive_frame());
            self.outcome(side, result).map(|answer| answer.get(4..6).map(<[u8]>::to_vec))
        });
        self.judge(api, what, -1, outcomes);
    }

    fn judge<T: Default + Debug>(
        &mut self,
        api: ApiKey,
        what: &str,
        version: i16,
        outcomes: [Outcome<T>; 2],
    ) -> Both<T> {
        let [reference, broker] = &outcomes;
        let value = |outcome: &Outcome<T>| match outcome {
            Ok(answer) => Value::of(answer),
            Err(error) => Value::Atom(error.clone()),
        };
        let differences =
            compare(&value(reference), &value(broker), &mut self.names.borrow_mut(), self.clock);
        let mut report = self.report.borrow_mut();
        report.asked(api, what, version, &value(reference), differences);
        let [reference, broker] = outcomes;
        Both { reference: reference.unwrap_or_default(), broker: broker.unwrap_or_default() }
    }
}

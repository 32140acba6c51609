//! The inhabitants: clients that write, copy, read and administer, each a straight line of requests.
//!
//! They behave as well-made clients do: they send again what was lost, in the order that keeps idempotence, and take
//! no answer for granted. What they are told and see goes into the history.

pub mod admin;
pub mod consumer;
pub mod copier;
pub mod idempotent;
pub mod member;
pub mod plain;
pub mod reader;
pub mod transactional;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use oncelog_records::{BatchBuilder, Compression};
use oncelog_wire::{
    ErrorCode, ProducerEpoch, ProducerId, Request, Str, TopicPartition, decode_response, produce,
};

use crate::broker;
use crate::executor::Shared;
use crate::history::{Property, RecordId, value_of};
use crate::network::{Lost, Slot};
use crate::world::Phase;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A client with its connection.
pub struct Client {
    /// Where it lives.
    pub world: Shared,
    /// Its name.
    pub name: Rc<str>,
    link: Option<u64>,
}

/// An answer, and whether the same request is still under way or carried out a second time.
pub struct Asked<R> {
    /// The answer.
    pub answer: R,
    /// Whether an earlier copy of the request was lost sight of.
    pub was_lost: bool,
}

impl Client {
    /// A client without a connection.
    pub fn new(world: &Shared, name: String) -> Client {
        Client { world: world.clone(), name: name.into(), link: None }
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: std::fmt::Arguments<'_>) {
        self.world.change().note(format_args!("{} {line}", self.name));
    }

    /// How far the world has come.
    pub fn phase(&self) -> Phase {
        self.world.look().phase
    }

    /// Notes an answer that this client cannot have got.
    pub fn is_surprised(&self, what: impl std::fmt::Display) {
        let what = format!("{}: {what}", self.name);
        self.world.change().history.violated(Property::SoundAnswers, what);
    }

    /// Rests before it tries again.
    pub async fn back_off(&self) {
        self.world.sleep_within(5..150).await;
    }

    /// Sends a request, on a new connection if need be, without waiting for the answer.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<Slot, Lost> {
        let mut world = self.world.change();
        let link = match self.link.filter(|link| world.is_open(*link)) {
            Some(link) => link,
            None => {
                if let Some(old) = self.link.take() {
                    world.close(old);
                }
                world.connect(&self.name).ok_or(Lost::Down)?
            }
        };
        self.link = Some(link);
        let frame = broker::frame(version, 7, &self.name, request);
        Ok(world.send(link, (R::KEY, version), frame.slice(..), PATIENCE))
    }

    /// Waits for an answer.
    pub async fn receive<R: Request>(&mut self, version: i16, slot: Slot) -> Result<R::Response, Lost> {
        let answer = poll_fn(|_| match slot.answer.borrow_mut().take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        });
        match decode_response::<R>(version, answer.await?) {
            Ok((_, answer)) => {
                self.world.change().history.answers += 1;
                Ok(answer)
            }
            Err(error) => {
                self.is_surprised(format_args!("cannot read the answer: {error}"));
                Err(Lost::Broken)
            }
        }
    }

    /// Sends a request once.
    pub async fn try_once<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Lost> {
        self.hesitate().await;
        let slot = self.send(version, request)?;
        self.receive::<R>(version, slot).await
    }

    /// Sends a request until it is answered.
    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> Asked<R::Response> {
        let mut was_lost = false;
        loop {
            match self.try_once(version, request).await {
                Ok(answer) => return Asked { answer, was_lost },
                Err(lost) => was_lost |= lost != Lost::Down,
            }
            self.back_off().await;
        }
    }

    /// Now and then a process stands still for a long time, and does not notice.
    async fn hesitate(&self) {
        let stands_still = self.phase() == Phase::Storm && self.world.one_in(400);
        if stands_still {
            self.note(format_args!("stands still"));
            self.world.sleep_within(1_000..25_000).await;
        }
    }

    /// Whether trying again may help; other than that the client did not expect this error.
    pub fn may_pass(&self, code: ErrorCode) -> bool {
        let passes = code.is_retriable();
        if !passes {
            self.is_surprised(format_args!("answered {code}"));
        }
        passes
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(link) = self.link {
            self.world.change().close(link);
        }
    }
}

/// Who writes a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The producer id.
    pub id: ProducerId,
    /// The epoch.
    pub epoch: ProducerEpoch,
}

impl Identity {
    /// Of a producer that is not idempotent.
    pub const NONE: Identity = Identity { id: ProducerId::NONE, epoch: ProducerEpoch::NONE };
}

/// A batch on its way into a partition.
pub struct Batch {
    /// Where to.
    pub place: TopicPartition,
    /// The records, in order.
    pub records: Vec<RecordId>,
    /// The number of the first.
    pub sequence: i32,
    bytes: Bytes,
}

impl Batch {
    /// Builds a batch of records.
    pub fn new(
        world: &Shared,
        place: &TopicPartition,
        records: Vec<RecordId>,
        identity: Identity,
        sequence: i32,
        is_transactional: bool,
    ) -> Batch {
        let mut world = world.change();
        let mut builder = BatchBuilder::new();
        if identity != Identity::NONE {
            builder = builder.producer(identity.id, identity.epoch, sequence);
        }
        if is_transactional {
            builder = builder.transactional();
        }
        if world.random.one_in(8) {
            builder = builder.compression(Compression::Lz4);
        }
        for id in &records {
            let weight = world.random.within(0..200) as usize;
            builder.push(world.now().wall, None, Some(value_of(*id, weight).as_bytes()));
        }
        Batch { place: place.clone(), records, sequence, bytes: builder.build() }
    }

    /// The request that writes it. Counts as an attempt.
    pub fn request(&self, world: &Shared, transactional_id: Option<&Str>) -> produce::Request {
        let mut world = world.change();
        let Batch { place, records, sequence, .. } = self;
        world.note(format_args!("writes {records:?} to {place} with sequence {sequence}"));
        self.records.iter().for_each(|id| world.history.sends(*id));
        let data = produce::PartitionProduceData {
            index: self.place.partition,
            records: Some(self.bytes.clone().into()),
        };
        let topic = produce::TopicProduceData {
            name: self.place.topic.clone(),
            partition_data: vec![data],
            ..Default::default()
        };
        produce::Request {
            transactional_id: transactional_id.cloned(),
            acks: -1,
            timeout_ms: 1_000,
            topic_data: vec![topic],
        }
    }

    /// Takes down what the broker said; gives the error code.
    pub fn take_answer(&self, world: &Shared, answer: &produce::Response) -> ErrorCode {
        let Some(partition) = answer.responses.first().and_then(|topic| topic.partition_responses.first())
        else {
            let what = "a produce was answered without its partition".to_owned();
            world.change().history.violated(Property::SoundAnswers, what);
            return ErrorCode::UnknownServerError;
        };
        let mut world = world.change();
        let (code, base) = (partition.error_code, partition.base_offset);
        world.note(format_args!("{:?} to {}: {code}, at {base}", self.records, self.place));
        if code == ErrorCode::None {
            for (at, id) in self.records.iter().enumerate() {
                let base = partition.base_offset.0;
                world.history.acknowledge(*id, if base < 0 { base } else { base + at as i64 });
            }
        }
        partition.error_code
    }
}

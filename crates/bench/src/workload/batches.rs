//! Idempotent producers that write full batches, several ahead of their answers; on request in transactions of some
//! duration. A closed loop fills each batch at once. In an open one every record has its time, and a batch leaves
//! when it is full or its first record has lingered long enough.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oncelog_client::{PendingBatch, Producer, Result};

use super::{Aborts, Place, Stage, Work, timestamp, value};
use crate::BenchError;
use crate::error::During;
use crate::measure::Recorder;
use crate::schedule::Schedule;

/// What the encoding of a record may add to its value, for a batch of up to 2 MiB.
const RECORD_OVERHEAD: usize = 16;

pub(super) fn set_up(place: &Arc<Place>) -> std::result::Result<Vec<Work>, BenchError> {
    let settings = &place.settings;
    let workers = (0..settings.producers).map(|worker| {
        let partition = (worker % settings.topic_partitions()) as i32;
        let mut writer =
            BatchWriter::new(place, worker, partition).during(|| format!("starting producer {worker}"))?;
        Ok(Box::new(move |stage: &Stage<'_>| {
            let share = stage.schedule.share(stage.worker, writer.place.settings.producers);
            writer.run(stage, &share, u64::MAX);
        }) as Work)
    });
    workers.collect()
}

/// Writes what consumers are to read.
pub(super) fn fill_topic(place: &Arc<Place>) -> std::result::Result<(), BenchError> {
    let partitions = place.settings.topic_partitions();
    let records = place.settings.records / partitions as u64;
    let recorder = Recorder::new(1);
    let start = Instant::now();
    let schedule = Schedule::new(start, start + Duration::from_secs(600), None);
    for partition in 0..partitions {
        let mut writer = BatchWriter::new(place, partition, partition as i32)
            .during(|| format!("filling {}", place.topic))?;
        let stage = Stage { schedule: &schedule, recorder: &recorder, worker: partition };
        writer.run(&stage, &schedule, records.max(1));
    }
    let counts = recorder.take().counts;
    if counts.error_count() > 0 {
        let text = format!("filling {} failed: {:?}", place.topic, counts.errors);
        return Err(BenchError::Wrong(text));
    }
    Ok(())
}

/// One producer of batches.
struct BatchWriter {
    place: Arc<Place>,
    producer: Producer,
    partition: i32,
    value: Vec<u8>,
    /// Records of a full batch.
    full: u64,
    in_flight: VecDeque<(PendingBatch, Sent)>,
    aborts: Aborts,
    /// When the open transaction began, where they are wanted.
    begun: Option<Instant>,
    /// Records of the open transaction that the broker has.
    open: u64,
}

/// The records of a batch.
#[derive(Clone, Copy)]
struct Sent {
    first: u64,
    count: u64,
    at: Instant,
}

impl BatchWriter {
    fn new(place: &Arc<Place>, worker: usize, partition: i32) -> Result<BatchWriter> {
        let settings = &place.settings;
        let room = settings.batch_bytes.saturating_sub(oncelog_records::HEADER_LEN);
        Ok(BatchWriter {
            place: place.clone(),
            producer: producer(place, worker)?,
            partition,
            value: value(settings.record_size),
            full: (room / (settings.record_size + RECORD_OVERHEAD)).max(1) as u64,
            in_flight: VecDeque::new(),
            aborts: Aborts::default(),
            begun: None,
            open: 0,
        })
    }

    /// Writes until the time is up, or until `limit` records are written.
    fn run(&mut self, stage: &Stage<'_>, schedule: &Schedule, limit: u64) {
        let mut next = 0;
        while let Err(error) = self.write(stage, schedule, &mut next, limit) {
            stage.failed(&error);
            stage.retried(&mut self.producer);
            let unknown: u64 = self.in_flight.drain(..).map(|(_, sent)| sent.count).sum();
            if self.begun.take().is_none() {
                Recorder::count(&stage.recorder.unknown, unknown);
            }
            self.open = 0;
            match stage.insist(|| producer(&self.place, stage.worker)) {
                Some(producer) => self.producer = producer,
                None => return,
            }
        }
        stage.retried(&mut self.producer);
    }

    fn write(&mut self, stage: &Stage<'_>, schedule: &Schedule, next: &mut u64, limit: u64) -> Result<()> {
        let max_in_flight = self.place.settings.in_flight;
        loop {
            if self.transaction_left().is_some_and(|left| left.is_zero()) {
                self.end_transaction(stage, schedule)?;
            }
            let Some(at) = self.ready_at(schedule, *next, limit) else { break };
            let wait = at.saturating_duration_since(Instant::now());
            if self.in_flight.len() >= max_in_flight {
                self.receive(stage, schedule)?;
            } else if wait.is_zero() {
                let count = self.send(schedule, next, limit)?;
                Recorder::count(&stage.recorder.begun, count);
            } else if self.in_flight.is_empty() {
                std::thread::sleep(wait.min(self.transaction_left().unwrap_or(wait)));
            } else if self.producer.client().connection().wait(wait)? {
                self.receive(stage, schedule)?;
            }
        }
        self.end_transaction(stage, schedule)
    }

    /// When the next batch is to leave; nothing once all is written that there was time for.
    fn ready_at(&self, schedule: &Schedule, next: u64, limit: u64) -> Option<Instant> {
        if next >= limit || schedule.is_over() {
            return None;
        }
        if !schedule.is_open() {
            return Some(schedule.start());
        }
        let lingered = schedule.intended(next)? + self.place.settings.linger;
        Some(schedule.intended(next + self.full - 1).map_or(lingered, |full| full.min(lingered)))
    }

    fn send(&mut self, schedule: &Schedule, next: &mut u64, limit: u64) -> Result<u64> {
        if self.begun.is_none() && self.place.settings.is_transactional() {
            self.producer.begin();
            self.begun = Some(Instant::now());
        }
        let at = Instant::now();
        let count = match schedule.is_open() {
            false => self.full.min(limit - *next),
            true => (*next..*next + self.full)
                .take_while(|&number| schedule.intended(number).is_some_and(|intended| intended <= at))
                .count()
                .max(1) as u64,
        };
        let sent = Sent { first: *next, count, at };
        *next += count;
        let now = timestamp();
        let pending = self.producer.start_batch(&self.place.topic, self.partition, |batch| {
            (0..count).for_each(|_| batch.push(now, None, Some(&self.value)));
        })?;
        self.in_flight.push_back((pending, sent));
        Ok(count)
    }

    /// Waits for the oldest answer.
    fn receive(&mut self, stage: &Stage<'_>, schedule: &Schedule) -> Result<()> {
        let Some((pending, sent)) = self.in_flight.pop_front() else { return Ok(()) };
        if let Err(error) = self.producer.finish_batch(pending) {
            if self.begun.is_none() {
                Recorder::count(&stage.recorder.unknown, sent.count);
            }
            return Err(error);
        }
        let now = Instant::now();
        match self.begun {
            Some(_) => self.open += sent.count,
            None => Recorder::count(&stage.recorder.committed, sent.count),
        }
        let mut window = stage.recorder.window(stage.worker);
        window.counts.records += sent.count;
        window.counts.bytes += sent.count * self.value.len() as u64;
        if schedule.is_open() {
            let intended =
                (sent.first..sent.first + sent.count).map_while(|number| schedule.intended(number));
            intended.for_each(|intended| window.time(now.saturating_duration_since(intended), 1));
        } else {
            window.time(now - sent.at, sent.count);
        }
        Ok(())
    }

    /// How long the open transaction goes on.
    fn transaction_left(&self) -> Option<Duration> {
        let duration = self.place.settings.transaction_duration?;
        Some(duration.saturating_sub(self.begun?.elapsed()))
    }

    /// Waits for all answers, and ends the open transaction if there is one.
    fn end_transaction(&mut self, stage: &Stage<'_>, schedule: &Schedule) -> Result<()> {
        while !self.in_flight.is_empty() {
            self.receive(stage, schedule)?;
        }
        if self.begun.take().is_none() {
            return Ok(());
        }
        let open = std::mem::take(&mut self.open);
        let is_aborted = self.aborts.next(self.place.settings.abort_ratio);
        let end = if is_aborted { self.producer.abort() } else { self.producer.commit() };
        if !is_aborted {
            let outcome = if end.is_ok() { &stage.recorder.committed } else { &stage.recorder.unknown };
            Recorder::count(outcome, open);
        }
        end?;
        let mut window = stage.recorder.window(stage.worker);
        window.counts.transactions += 1;
        window.counts.aborted += u64::from(is_aborted);
        Ok(())
    }
}

fn producer(place: &Place, worker: usize) -> Result<Producer> {
    if place.settings.is_transactional() {
        place.transactional(worker)
    } else {
        Producer::idempotent(place.client()?, place.options())
    }
}

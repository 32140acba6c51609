//! Consume, transform, produce: what exactly-once is for. Each worker reads an input partition of its own, in a loop,
//! and commits records and offset together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use oncelog_client::{Isolation, Producer, Result};
use oncelog_wire::Offset;

use super::{Place, Stage, Work, after, timestamp, value};
use crate::BenchError;
use crate::error::During;
use crate::measure::Recorder;
use crate::reader::Reader;

/// An input partition has at least so many records, and is read again from its start after that.
const INPUT_RECORDS: usize = 10_000;

/// Bytes of the batches that make up the input.
const INPUT_BATCH: usize = 64 << 10;

pub(super) fn set_up(place: &Arc<Place>) -> std::result::Result<Vec<Work>, BenchError> {
    let settings = &place.settings;
    // Whole transactions, so that none is cut by the end of the input.
    let records = INPUT_RECORDS.next_multiple_of(settings.records_per_transaction);
    let workers = (0..settings.producers).map(|worker| {
        let partition = worker as i32;
        write_input(place, partition, records).during(|| format!("writing {}-{partition}", place.input))?;
        let mut copier =
            Copier::new(place, worker, records).during(|| format!("starting worker {worker}"))?;
        Ok(Box::new(move |stage: &Stage<'_>| copier.run(stage)) as Work)
    });
    workers.collect()
}

fn write_input(place: &Place, partition: i32, records: usize) -> Result<()> {
    let mut client = place.client()?;
    let value = value(place.settings.record_size);
    let batch = (INPUT_BATCH / value.len().max(1)).clamp(1, records);
    let mut left = records;
    while left > 0 {
        let count = batch.min(left);
        client.produce_values(&place.input, partition, std::iter::repeat_n(&value, count))?;
        left -= count;
    }
    Ok(())
}

/// One worker of a copying application.
struct Copier {
    place: Arc<Place>,
    reader: Reader,
    producer: Producer,
    group: String,
    input_partition: i32,
    /// Where the input begins anew.
    end: Offset,
    /// Records that were fetched and not copied.
    fetched: VecDeque<(Offset, Vec<u8>)>,
    next_partition: usize,
}

impl Copier {
    fn new(place: &Arc<Place>, worker: usize, records: usize) -> Result<Copier> {
        let partition = worker as i32;
        let max_bytes = place.settings.fetch_bytes;
        let reader =
            Reader::new(place.client()?, &place.input, partition, Isolation::ReadCommitted, max_bytes)?;
        Ok(Copier {
            place: place.clone(),
            reader,
            producer: place.transactional(worker)?,
            group: format!("{}-group", place.prefix),
            input_partition: partition,
            end: Offset(records as i64),
            fetched: VecDeque::new(),
            next_partition: worker * place.settings.partitions_per_transaction,
        })
    }

    fn run(&mut self, stage: &Stage<'_>) {
        let records = self.place.settings.records_per_transaction as u64;
        while let Some(intended) = stage.next() {
            let mut is_open = false;
            match self.copy(&mut is_open) {
                Ok(bytes) => {
                    Recorder::count(&stage.recorder.committed, records);
                    let mut window = stage.recorder.window(stage.worker);
                    window.counts.transactions += 1;
                    window.counts.records += records;
                    window.counts.bytes += bytes;
                    window.time(intended.elapsed(), 1);
                }
                Err(error) => {
                    stage.failed(&error);
                    if is_open {
                        Recorder::count(&stage.recorder.unknown, records);
                    }
                    stage.retried(&mut self.producer);
                    let Some((producer, reader)) = self.again(stage) else { return };
                    (self.producer, self.reader) = (producer, reader);
                    self.fetched.clear();
                }
            }
        }
        stage.retried(&mut self.producer);
    }

    /// Copies the records of one transaction; returns the bytes of their values.
    fn copy(&mut self, is_open: &mut bool) -> Result<u64> {
        let settings = &self.place.settings;
        let count = settings.records_per_transaction;
        while self.fetched.len() < count {
            if self.reader.position >= self.end {
                self.reader.position = Offset(0);
            }
            let fetched = &mut self.fetched;
            self.reader.poll(Duration::from_millis(500), |record| {
                let mut value = record.value.unwrap_or_default().to_vec();
                value.reverse();
                fetched.push_back((record.offset, value));
            })?;
        }
        let records: Vec<(Offset, Vec<u8>)> = self.fetched.drain(..count).collect();
        let (offset, _) = records.last().expect("a transaction has at least one record");
        let (spread, all) = (settings.partitions_per_transaction, settings.topic_partitions());
        let partitions: Vec<i32> =
            (0..spread).map(|index| ((self.next_partition + index) % all) as i32).collect();
        let now = timestamp();
        let mut place = 0;
        self.producer.begin();
        self.producer.send_batches(&self.place.topic, &partitions, |_, batch| {
            for (_, value) in records.iter().skip(place).step_by(spread) {
                batch.push(now, None, Some(value));
            }
            place += 1;
        })?;
        self.producer.send_offset(&self.group, &self.place.input, self.input_partition, after(*offset))?;
        *is_open = true;
        self.producer.commit()?;
        self.next_partition = (self.next_partition + spread) % all;
        Ok(records.iter().map(|(_, value)| value.len() as u64).sum())
    }

    /// A new producer and a new reader, after an error of the old ones, at the first record of the input.
    fn again(&self, stage: &Stage<'_>) -> Option<(Producer, Reader)> {
        let producer = self.place.transactional_again(stage)?;
        let max_bytes = self.place.settings.fetch_bytes;
        let reader = stage.insist(|| {
            let client = self.place.client()?;
            Reader::new(client, &self.place.input, self.input_partition, Isolation::ReadCommitted, max_bytes)
        })?;
        Some((producer, reader))
    }
}

//! Begin, write, commit: a producer that does nothing else. The records of a transaction leave in one Produce
//! request, one batch a partition, as those of any client do that gathers what it sends.

use std::sync::Arc;
use std::time::Instant;

use oncelog_client::{ClientError, Producer, Result};

use super::{Aborts, Place, Stage, Work, timestamp, value};
use crate::BenchError;
use crate::error::During;
use crate::measure::Recorder;
use crate::settings::STAMP_LEN;

pub(super) fn set_up(place: &Arc<Place>) -> std::result::Result<Vec<Work>, BenchError> {
    let workers = (0..place.settings.producers).map(|worker| {
        let mut writer = TransactionWriter::new(place, worker)?;
        Ok(Box::new(move |stage: &Stage<'_>| writer.run(stage, |_| None)) as Work)
    });
    workers.collect()
}

/// What becomes of the first bytes of a record's value.
pub(super) type Stamp = Option<[u8; STAMP_LEN]>;

/// One producer of transactions.
pub(super) struct TransactionWriter {
    place: Arc<Place>,
    producer: Producer,
    aborts: Aborts,
    value: Vec<u8>,
    /// Of this transaction.
    partitions: Vec<i32>,
}

/// Why a transaction did not end as it should.
struct Failure {
    error: ClientError,
    /// The commit was sent, and may have been carried out.
    is_open: bool,
}

impl TransactionWriter {
    pub(super) fn new(
        place: &Arc<Place>,
        worker: usize,
    ) -> std::result::Result<TransactionWriter, BenchError> {
        let producer = place.transactional(worker).during(|| format!("starting producer {worker}"))?;
        let (count, all) = (place.settings.partitions_per_transaction, place.settings.topic_partitions());
        let partitions = (0..count).map(|index| ((worker * count + index) % all) as i32).collect();
        let value = value(place.settings.record_size);
        Ok(TransactionWriter { place: place.clone(), producer, aborts: Aborts::default(), value, partitions })
    }

    /// Writes transactions until the time is up. Where `stamp` makes something of a transaction's intended start, its
    /// records carry that, and whoever reads them takes the time.
    pub(super) fn run(&mut self, stage: &Stage<'_>, stamp: impl Fn(Instant) -> Stamp) {
        let settings = &self.place.clone().settings;
        let records = settings.records_per_transaction as u64;
        while let Some(intended) = stage.next() {
            let stamp = stamp(intended);
            let is_aborted = self.aborts.next(settings.abort_ratio);
            match self.transact(stamp, is_aborted) {
                Ok(()) => {
                    let latency = intended.elapsed();
                    if !is_aborted {
                        Recorder::count(&stage.recorder.committed, records);
                    }
                    let mut window = stage.recorder.window(stage.worker);
                    window.counts.transactions += 1;
                    window.counts.aborted += u64::from(is_aborted);
                    if stamp.is_none() {
                        window.counts.records += records;
                        window.counts.bytes += records * settings.record_size as u64;
                        window.time(latency, 1);
                    }
                }
                Err(failure) => {
                    stage.failed(&failure.error);
                    if failure.is_open && !is_aborted {
                        Recorder::count(&stage.recorder.unknown, records);
                    }
                    stage.retried(&mut self.producer);
                    match self.place.transactional_again(stage) {
                        Some(producer) => self.producer = producer,
                        None => return,
                    }
                }
            }
        }
        stage.retried(&mut self.producer);
    }

    fn transact(&mut self, stamp: Stamp, is_aborted: bool) -> std::result::Result<(), Failure> {
        self.producer.begin();
        self.write(stamp).map_err(|error| Failure { error, is_open: false })?;
        let end = if is_aborted { self.producer.abort() } else { self.producer.commit() };
        end.map_err(|error| Failure { error, is_open: true })
    }

    fn write(&mut self, stamp: Stamp) -> Result<()> {
        if let Some(stamp) = stamp {
            self.value[..STAMP_LEN].copy_from_slice(&stamp);
        }
        let settings = &self.place.settings;
        let (count, all) = (self.partitions.len(), settings.topic_partitions());
        let first = self.partitions[0];
        let now = timestamp();
        self.producer.send_batches(&self.place.topic, &self.partitions, |partition, batch| {
            // Records are dealt out one by one; the first partitions get the rest.
            let place = (partition - first).rem_euclid(all as i32) as usize;
            let records = settings.records_per_transaction;
            for _ in 0..records / count + usize::from(place < records % count) {
                batch.push(now, None, Some(&self.value));
            }
        })?;
        // The next transaction goes to the next partitions, where there are more.
        for partition in &mut self.partitions {
            *partition = (*partition + count as i32) % all as i32;
        }
        Ok(())
    }
}

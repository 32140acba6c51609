//! What the workers of a run do; a file each, and here what they have in common.

mod batches;
mod consume;
mod end_to_end;
mod transactions;
mod transform;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oncelog_client::{Client, ClientError, Producer, ProducerOptions, Result, TransactionVersion};
use oncelog_wire::{Offset, Timestamp};

use crate::error::During;
use crate::measure::Recorder;
use crate::reader::Reader;
use crate::schedule::Schedule;
use crate::{BenchError, Settings, Workload};

/// The part of one worker, on a thread of its own, once everything is set up.
pub(crate) type Work = Box<dyn FnOnce(&Stage<'_>) + Send>;

/// How long a worker waits that cannot go on, before it tries again.
const RECOVERY_PAUSE: Duration = Duration::from_millis(100);

/// Where a worker plays its part.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) schedule: &'a Schedule,
    pub(crate) recorder: &'a Recorder,
    pub(crate) worker: usize,
}

/// What all workers of a run know.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) settings: Settings,
    pub(crate) address: SocketAddr,
    pub(crate) topic: String,
    /// Whether the topic was created for this run.
    pub(crate) is_new: bool,
    /// The topic that Transform reads.
    pub(crate) input: String,
    /// Begins the names of transactional ids and groups.
    pub(crate) prefix: String,
}

impl Place {
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(self.address, "oncelog-bench")
    }

    fn options(&self) -> ProducerOptions {
        let transaction_version = self.settings.transaction_version.map(|version| match version {
            1 => TransactionVersion::V1,
            _ => TransactionVersion::V2,
        });
        ProducerOptions { transaction_version, ..ProducerOptions::default() }
    }

    /// The transactional producer of a worker.
    fn transactional(&self, worker: usize) -> Result<Producer> {
        let id = format!("{}-{worker}", self.prefix);
        Producer::transactional(self.client()?, &id, self.options())
    }

    /// A worker's producer, in place of one that met an error: what that one left open is aborted. None once the
    /// time is up.
    fn transactional_again(&self, stage: &Stage<'_>) -> Option<Producer> {
        stage.insist(|| self.transactional(stage.worker))
    }
}

impl Stage<'_> {
    /// Waits until the next operation is to start, and says when that was; nothing once the time is up.
    fn next(&self) -> Option<Instant> {
        let intended = self.schedule.next()?;
        Recorder::count(&self.recorder.begun, 1);
        Some(intended)
    }

    fn failed(&self, error: &ClientError) {
        self.recorder.failed(self.worker, error);
    }

    /// Repeats an attempt until it succeeds or the time is up, and counts how often it fails.
    fn insist<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Option<T> {
        while !self.schedule.is_over() {
            match attempt() {
                Ok(result) => return Some(result),
                Err(error) => self.failed(&error),
            }
            std::thread::sleep(RECOVERY_PAUSE);
        }
        None
    }

    fn retried(&self, producer: &mut Producer) {
        Recorder::count(&self.recorder.retries, producer.client().retries());
    }
}

/// Connects all workers and writes what they are to read.
pub(crate) fn set_up(place: &Arc<Place>) -> std::result::Result<Vec<Work>, BenchError> {
    match place.settings.workload {
        Workload::Transactions => transactions::set_up(place),
        Workload::Transform => transform::set_up(place),
        Workload::EndToEnd => end_to_end::set_up(place),
        Workload::Produce => batches::set_up(place),
        Workload::Consume => consume::set_up(place),
    }
}

/// How many records a read_committed consumer finds in the topic.
pub(crate) fn count_committed(place: &Place) -> std::result::Result<u64, BenchError> {
    let count = |partition| {
        let isolation = oncelog_client::Isolation::ReadCommitted;
        let mut reader = Reader::new(place.client()?, &place.topic, partition, isolation, 16 << 20)?;
        let end = reader.end()?;
        let mut found = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        while reader.position < end {
            if Instant::now() > deadline {
                return Err(ClientError::Nonsense("there are no records below the end offset"));
            }
            reader.poll(Duration::from_secs(1), |_| found += 1)?;
        }
        Ok(found)
    };
    let mut found = 0;
    for partition in 0..place.settings.topic_partitions() as i32 {
        found +=
            count(partition).during(|| format!("counting the records of {}-{partition}", place.topic))?;
    }
    Ok(found)
}

/// Says which transactions are aborted, so that their share is as wanted at any time.
#[derive(Debug, Default)]
struct Aborts {
    ended: u64,
    aborted: u64,
}

impl Aborts {
    /// Whether the next one is aborted.
    fn next(&mut self, ratio: f64) -> bool {
        self.ended += 1;
        let is_aborted = (self.aborted as f64) < (self.ended as f64 * ratio).floor();
        self.aborted += u64::from(is_aborted);
        is_aborted
    }
}

fn timestamp() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}

/// The value of a record: bytes that say nothing, but do not all say the same.
fn value(len: usize) -> Vec<u8> {
    (0..len).map(|index| b'a' + (index * 7 % 26) as u8).collect()
}

/// The offset behind `offset`.
fn after(offset: Offset) -> Offset {
    Offset(offset.0 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_aborted_transactions_is_exact() {
        for (ratio, expected) in [(0.0, 0), (0.25, 250), (0.1, 100), (1.0, 1000)] {
            let mut aborts = Aborts::default();
            let aborted = (0..1000).filter(|_| aborts.next(ratio)).count();
            assert_eq!(aborted, expected, "{ratio}");
        }
    }
}

//! From the start of a transaction to the moment a read_committed consumer has its records. Producers and consumers
//! are in one process, so that one clock does for both.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use oncelog_client::{Isolation, Result};

use super::transactions::TransactionWriter;
use super::{Place, Stage, Work};
use crate::BenchError;
use crate::error::During;
use crate::measure::Recorder;
use crate::reader::Reader;
use crate::settings::STAMP_LEN;

/// How long one fetch waits for records.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// How long consumers wait for the last records once all producers have stopped.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn set_up(place: &Arc<Place>) -> std::result::Result<Vec<Work>, BenchError> {
    let mut works: Vec<Work> = Vec::new();
    for worker in 0..place.settings.producers {
        let mut writer = TransactionWriter::new(place, worker)?;
        works.push(Box::new(move |stage| {
            let start = stage.schedule.start();
            writer.run(stage, |intended| Some(((intended - start).as_nanos() as u64).to_be_bytes()));
            stage.recorder.producing.fetch_sub(1, Ordering::AcqRel);
        }));
    }
    for partition in 0..place.settings.topic_partitions() as i32 {
        let reader =
            reader(place, partition).during(|| format!("starting the consumer of partition {partition}"))?;
        works.push(Box::new(move |stage| consume(reader, stage)));
    }
    Ok(works)
}

fn reader(place: &Place, partition: i32) -> Result<Reader> {
    let max_bytes = place.settings.fetch_bytes;
    let mut reader =
        Reader::new(place.client()?, &place.topic, partition, Isolation::ReadCommitted, max_bytes)?;
    reader.position = reader.end()?;
    Ok(reader)
}

/// Receives records until all that were committed are there.
fn consume(mut reader: Reader, stage: &Stage<'_>) {
    let recorder = stage.recorder;
    let mut stopped = None;
    loop {
        let mut now = None;
        let mut received: Vec<(Duration, usize)> = Vec::new();
        let polled = reader.poll(MAX_WAIT, |record| {
            let now = *now.get_or_insert_with(Instant::now);
            let value = record.value.unwrap_or_default();
            if let Some(stamp) = value.first_chunk::<STAMP_LEN>() {
                let intended = stage.schedule.start() + Duration::from_nanos(u64::from_be_bytes(*stamp));
                received.push((now.saturating_duration_since(intended), value.len()));
            }
        });
        if let Err(error) = polled {
            stage.failed(&error);
            return;
        }
        Recorder::count(&recorder.received, received.len() as u64);
        if let Some(now) = now {
            let nanos = (now - stage.schedule.start()).as_nanos() as u64;
            recorder.last_receipt.fetch_max(nanos, Ordering::Relaxed);
            let mut window = recorder.window(stage.worker);
            for (latency, bytes) in received {
                window.counts.records += 1;
                window.counts.bytes += bytes as u64;
                window.time(latency, 1);
            }
        }
        if recorder.producing.load(Ordering::Acquire) == 0 {
            let stopped = *stopped.get_or_insert_with(Instant::now);
            let is_complete =
                recorder.received.load(Ordering::Relaxed) >= recorder.committed.load(Ordering::Relaxed);
            if is_complete || stopped.elapsed() > PATIENCE {
                return;
            }
        }
    }
}

//! Reading a topic from start to end, again and again, with every record looked at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use oncelog_client::Result;
use oncelog_wire::Offset;

use super::batches::fill_topic;
use super::{Place, Stage, Work};
use crate::BenchError;
use crate::error::During;
use crate::reader::Reader;

pub(super) fn set_up(place: &Arc<Place>) -> std::result::Result<Vec<Work>, BenchError> {
    if place.is_new {
        fill_topic(place)?;
    }
    let workers = (0..place.settings.topic_partitions() as i32).map(|partition| {
        let mut consumer = Consumer::new(place, partition)
            .during(|| format!("starting the consumer of partition {partition}"))?;
        if consumer.end == Offset(0) {
            return Err(BenchError::Settings(format!(
                "there is nothing to read in {}-{partition}",
                place.topic
            )));
        }
        Ok(Box::new(move |stage: &Stage<'_>| consumer.run(stage)) as Work)
    });
    workers.collect()
}

struct Consumer {
    place: Arc<Place>,
    partition: i32,
    reader: Reader,
    /// Where reading begins anew.
    end: Offset,
}

impl Consumer {
    fn new(place: &Arc<Place>, partition: i32) -> Result<Consumer> {
        let settings = &place.settings;
        let isolation = settings.isolation.into();
        let mut reader =
            Reader::new(place.client()?, &place.topic, partition, isolation, settings.fetch_bytes)?;
        let end = reader.end()?;
        Ok(Consumer { place: place.clone(), partition, reader, end })
    }

    fn run(&mut self, stage: &Stage<'_>) {
        while !stage.schedule.is_over() {
            let begun = Instant::now();
            let (mut records, mut bytes) = (0, 0);
            let polled = self.reader.poll(Duration::from_millis(500), |record| {
                records += 1;
                bytes += record.value.map_or(0, <[u8]>::len) as u64;
            });
            if let Err(error) = polled {
                stage.failed(&error);
                match stage.insist(|| Consumer::new(&self.place, self.partition)) {
                    Some(consumer) => *self = consumer,
                    None => return,
                }
                continue;
            }
            let mut window = stage.recorder.window(stage.worker);
            window.time(begun.elapsed(), 1);
            window.counts.records += records;
            window.counts.bytes += bytes;
            drop(window);
            if self.reader.position >= self.end {
                self.reader.position = Offset(0);
            }
        }
    }
}

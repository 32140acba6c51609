//! What to measure: the workload, its shape, and for how long.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::BenchError;

/// No more workers: each is a thread and a connection.
const MAX_WORKERS: usize = 10_000;

/// A record of the end-to-end workload carries the time at which it was to be written.
pub(crate) const STAMP_LEN: usize = 8;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Producers write transactions and commit or abort them.
    Transactions,
    /// Consume, transform, produce: each transaction copies records and commits the offset of its input.
    Transform,
    /// Producers write transactions, and read_committed consumers receive the records.
    EndToEnd,
    /// Idempotent producers write batches, several ahead of their answers.
    Produce,
    /// Consumers read a topic from start to end, again and again.
    Consume,
}

impl Workload {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Transactions => "transactions",
            Workload::Transform => "transform",
            Workload::EndToEnd => "end-to-end",
            Workload::Produce => "produce",
            Workload::Consume => "consume",
        }
    }

    /// From when to when a latency is.
    pub fn latency_is(self) -> &'static str {
        match self {
            Workload::Transactions => "start of a transaction to the answer to its end",
            Workload::Transform => "taking the first input record to the answer to the commit",
            Workload::EndToEnd => "start of a transaction to a read_committed consumer having the record",
            Workload::Produce => "a record being there to the answer to its batch",
            Workload::Consume => "one fetch: request sent to all its records read",
        }
    }

    /// Whether its rate is in transactions, not records.
    pub fn counts_transactions(self) -> bool {
        matches!(self, Workload::Transactions | Workload::Transform)
    }
}

/// Which records consumers see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Those that are committed.
    #[default]
    Committed,
    /// All.
    Uncommitted,
}

impl From<Isolation> for oncelog_client::Isolation {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::Committed => oncelog_client::Isolation::ReadCommitted,
            Isolation::Uncommitted => oncelog_client::Isolation::ReadUncommitted,
        }
    }
}

/// All that makes a run; what a workload has no use for is ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What the broker is called in reports.
    pub name: String,
    /// Where the broker is, as `host:port`.
    pub bootstrap: String,
    /// What to do.
    pub workload: Workload,
    /// Producers, each with a connection and a transactional id.
    pub producers: usize,
    /// Records of a transaction.
    pub records_per_transaction: usize,
    /// Partitions of a transaction, over which its records are spread.
    pub partitions_per_transaction: usize,
    /// Partitions of the topic; where 0, as many as are of use.
    pub partitions: usize,
    /// Bytes of a record's value.
    pub record_size: usize,
    /// Which part of the transactions is aborted, from 0 to 1.
    pub abort_ratio: f64,
    /// An open loop at so many a second: transactions, or records for [`Workload::Produce`]. A closed one without.
    pub rate: Option<f64>,
    /// How long to measure.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// How long to do the same before that.
    #[serde(with = "seconds")]
    pub warmup: Duration,
    /// The version of the transaction protocol; that which the broker has finalized, where it is left open.
    pub transaction_version: Option<i16>,
    /// The topic; one of its own, where it is left open. A topic that exists is used and left.
    pub topic: Option<String>,
    /// Produce: when a batch is full.
    pub batch_bytes: usize,
    /// Produce, open loop: how long a batch waits to become full.
    #[serde(with = "seconds")]
    pub linger: Duration,
    /// Produce: batches of a producer that may be without answer.
    pub in_flight: usize,
    /// Produce, and what Consume reads: write in transactions of this length.
    #[serde(with = "optional_seconds")]
    pub transaction_duration: Option<Duration>,
    /// Consume: how many records to read, over and over.
    pub records: u64,
    /// Consume: which of them are seen.
    pub isolation: Isolation,
    /// Consume: how much one fetch asks for.
    pub fetch_bytes: usize,
    /// Count the records that are there at the end.
    pub verify: bool,
    /// Leave the topics.
    pub keep_topics: bool,
    /// The broker's process, on this machine, to measure its CPU time and memory.
    pub broker_pid: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: "broker".to_owned(),
            bootstrap: "127.0.0.1:9092".to_owned(),
            workload: Workload::Transactions,
            producers: 1,
            records_per_transaction: 1,
            partitions_per_transaction: 1,
            partitions: 0,
            record_size: 100,
            abort_ratio: 0.0,
            rate: None,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(2),
            transaction_version: None,
            topic: None,
            batch_bytes: 65_536,
            linger: Duration::from_millis(5),
            in_flight: 5,
            transaction_duration: None,
            records: 1_000_000,
            isolation: Isolation::Committed,
            fetch_bytes: 1 << 20,
            verify: false,
            keep_topics: false,
            broker_pid: None,
        }
    }
}

impl Settings {
    /// The number of partitions of the topic.
    pub fn topic_partitions(&self) -> usize {
        match self.workload {
            _ if self.partitions > 0 => self.partitions,
            Workload::Produce => self.producers,
            Workload::Consume => 1,
            _ => self.partitions_per_transaction,
        }
    }

    /// Whether the producers write in transactions.
    pub fn is_transactional(&self) -> bool {
        match self.workload {
            Workload::Produce | Workload::Consume => self.transaction_duration.is_some(),
            _ => true,
        }
    }

    /// Refuses what cannot be done.
    pub(crate) fn check(&self) -> Result<(), BenchError> {
        let refuse = |text: &str| Err(BenchError::Settings(text.to_owned()));
        if self.producers == 0 || self.producers > MAX_WORKERS {
            return refuse("there have to be 1 to 10000 producers");
        }
        if self.topic_partitions() > MAX_WORKERS {
            return refuse("there can be at most 10000 partitions");
        }
        if self.records_per_transaction == 0 || self.partitions_per_transaction == 0 {
            return refuse("a transaction needs a record and a partition");
        }
        if self.partitions_per_transaction > self.records_per_transaction {
            return refuse("a transaction cannot have more partitions than records");
        }
        if self.partitions_per_transaction > self.topic_partitions() {
            return refuse("a transaction cannot have more partitions than the topic");
        }
        if !(0.0..=1.0).contains(&self.abort_ratio) {
            return refuse("the abort ratio is between 0 and 1");
        }
        if self.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            return refuse("the rate has to be above 0");
        }
        if self.rate.is_some() && self.workload == Workload::Consume {
            return refuse("consumers read as fast as they can, without a rate");
        }
        if self.duration.is_zero() {
            return refuse("the duration has to be above 0");
        }
        if self.workload == Workload::EndToEnd && self.record_size < STAMP_LEN {
            return refuse("records have to have 8 bytes, to carry the time at which they were written");
        }
        if self.in_flight == 0 || (self.in_flight > 5 && self.is_transactional()) {
            return refuse("1 to 5 batches may be in flight");
        }
        if self.workload == Workload::Consume && self.records == 0 {
            return refuse("there has to be a record to read");
        }
        if self.transaction_duration.is_some_and(|duration| duration.is_zero()) {
            return refuse("the duration of a transaction has to be above 0");
        }
        if !matches!(self.transaction_version, None | Some(1 | 2)) {
            return refuse("the transaction version is 1 or 2");
        }
        Ok(())
    }
}

/// The shape, in a few words: two runs with the same text can be compared.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.workload.name())?;
        match self.workload {
            Workload::Consume => {
                write!(f, "{} records of {} B", self.records, self.record_size)?;
                write!(
                    f,
                    ", {} of {} KiB a fetch",
                    plural(self.topic_partitions(), "partition"),
                    self.fetch_bytes >> 10
                )?;
                let isolation = match self.isolation {
                    Isolation::Committed => "read_committed",
                    Isolation::Uncommitted => "read_uncommitted",
                };
                write!(f, ", {isolation}")?;
            }
            Workload::Produce => {
                write!(f, "{}, records of {} B", plural(self.producers, "producer"), self.record_size)?;
                write!(f, ", {}", plural(self.topic_partitions(), "partition"))?;
                write!(f, ", batches of {} KiB, {} in flight", self.batch_bytes >> 10, self.in_flight)?;
            }
            _ => {
                write!(f, "{}, ", plural(self.producers, "producer"))?;
                write!(f, "{} of {} B", plural(self.records_per_transaction, "record"), self.record_size)?;
                write!(f, " in {} a transaction", plural(self.partitions_per_transaction, "partition"))?;
                if self.topic_partitions() != self.partitions_per_transaction {
                    write!(f, " of {}", self.topic_partitions())?;
                }
            }
        }
        if let Some(duration) = self.transaction_duration.filter(|_| self.is_transactional()) {
            write!(f, ", transactions of {} ms", duration.as_millis())?;
        }
        if self.is_transactional() && self.abort_ratio > 0.0 {
            write!(f, ", {} % aborted", self.abort_ratio * 100.0)?;
        }
        if self.is_transactional()
            && let Some(version) = self.transaction_version
        {
            write!(f, ", transaction version {version}")?;
        }
        match self.rate {
            None => write!(f, "; closed loop"),
            Some(rate) => write!(f, "; {rate} a second"),
        }
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("{count} {noun}") } else { format!("{count} {noun}s") }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(de::Error::custom)
    }
}

mod optional_seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        duration.map(|duration| duration.as_secs_f64()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(from)?;
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_read_back_from_json() {
        let settings = Settings {
            rate: Some(1_000.0),
            warmup: Duration::from_millis(500),
            transaction_duration: Some(Duration::from_millis(100)),
            ..Settings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        assert!(text.contains(r#""warmup":0.5"#) && text.contains(r#""workload":"transactions""#), "{text}");
    }

    #[test]
    fn shapes_that_contradict_themselves_are_refused() {
        let base = Settings::default();
        base.check().unwrap();
        for wrong in [
            Settings { producers: 0, ..base.clone() },
            Settings { partitions_per_transaction: 2, ..base.clone() },
            Settings { abort_ratio: 1.5, ..base.clone() },
            Settings { rate: Some(0.0), ..base.clone() },
            Settings { workload: Workload::EndToEnd, record_size: 7, ..base.clone() },
            Settings { workload: Workload::Consume, rate: Some(1.0), ..base.clone() },
            Settings { transaction_version: Some(3), ..base.clone() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_shape_is_told_in_a_few_words() {
        let settings = Settings {
            producers: 4,
            records_per_transaction: 100,
            partitions_per_transaction: 4,
            ..Settings::default()
        };
        assert_eq!(
            settings.to_string(),
            "transactions: 4 producers, 100 records of 100 B in 4 partitions a transaction; closed loop"
        );
    }
}

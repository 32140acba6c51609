//! The result of a run, with all that is needed to judge it; stored as JSON.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{BenchError, Counts, Latency, Machine, ProcessUse, Settings};

/// The number of the JSON's format; a reader refuses others.
pub const FORMAT: u32 = 1;

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The number of the format, [`FORMAT`].
    pub format: u32,
    /// The version of this program.
    pub version: String,
    /// When it began, in UTC.
    pub started: String,
    /// What was to be done.
    pub settings: Settings,
    /// What the broker says of itself.
    pub broker: Broker,
    /// Where the load was made; and the broker ran, if its address is a local one.
    pub machine: Machine,
    /// How long it took, from the end of the warm-up to the last answer.
    pub seconds: f64,
    /// What was done in that time.
    pub counts: Counts,
    /// Operations of an open loop that never started, as the broker did not get to them.
    pub not_started: u64,
    /// Requests that were repeated after errors that pass, warm-up included.
    pub retries: u64,
    /// How much a second.
    pub rates: Rates,
    /// From when to when a latency is.
    pub latency_is: String,
    /// How long operations took.
    pub latency: Latency,
    /// The same, second by second.
    pub timeline: Vec<Point>,
    /// CPU seconds of this program: with those near `seconds` times the cores, it is the limit and not the broker.
    pub generator_cpu_seconds: f64,
    /// What the broker's process used, where it is known.
    pub broker_process: Option<ProcessUse>,
    /// Whether all records are there, where that was asked or is known.
    pub verified: Option<Verified>,
}

/// What the broker says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// The finalized level of `transaction.version`.
    pub transaction_version: i16,
    /// The version of the transaction protocol that producers spoke.
    pub used_transaction_version: i16,
    /// The cluster's id.
    pub cluster_id: Option<String>,
}

/// How much a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Rates {
    pub transactions: f64,
    pub records: f64,
    /// MiB of values.
    pub mib: f64,
}

impl Rates {
    pub(crate) fn of(counts: &Counts, seconds: f64) -> Rates {
        Rates {
            transactions: counts.transactions as f64 / seconds,
            records: counts.records as f64 / seconds,
            mib: counts.bytes as f64 / seconds / f64::from(1 << 20),
        }
    }
}

/// One second of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Point {
    /// When it ended, since the end of the warm-up.
    pub at_seconds: f64,
    /// Transactions or records a second, as [`Report::rate`].
    pub rate: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub errors: u64,
}

/// What read_committed consumers found: those of the run itself, or one that read the topic after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Records that the broker has acknowledged as committed.
    pub committed: u64,
    /// Records whose fate is unknown, as an answer was lost.
    pub unknown: u64,
    /// Records that are there.
    pub found: u64,
}

impl Verified {
    /// Whether nothing is lost and nothing is there twice.
    pub fn is_right(&self) -> bool {
        (self.committed..=self.committed + self.unknown).contains(&self.found)
    }
}

impl Report {
    /// The rate that counts for the workload: of transactions, or of records.
    pub fn rate(&self) -> f64 {
        if self.settings.workload.counts_transactions() {
            self.rates.transactions
        } else {
            self.rates.records
        }
    }

    /// What [`Report::rate`] is a rate of.
    pub fn unit(&self) -> &'static str {
        if self.settings.workload.counts_transactions() { "tx/s" } else { "records/s" }
    }

    /// What the broker's CPU time is shared out to.
    pub fn each(&self) -> &'static str {
        if self.settings.workload.counts_transactions() { "transaction" } else { "record" }
    }

    /// The report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has no keys that JSON cannot have")
    }

    /// Reads a report; `name` says which in errors.
    pub fn from_json(name: &str, text: &str) -> Result<Report, BenchError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let bad = |source| BenchError::Json { name: name.to_owned(), source };
        let head: Head = serde_json::from_str(text).map_err(bad)?;
        if head.format != FORMAT {
            return Err(BenchError::Format { name: name.to_owned(), found: head.format });
        }
        serde_json::from_str(text).map_err(bad)
    }
}

/// A time as `2026-01-31 23:59:59`, in UTC.
pub(crate) fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let (mut year, mut day) = (1970, seconds / 86_400);
    loop {
        let days = if is_leap(year) { 366 } else { 365 };
        if day < days {
            break;
        }
        day -= days;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}", day + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::measure::Window;
    use std::time::Duration;

    /// A report of a run of which nothing is true.
    pub(crate) fn invented(name: &str, rate: f64) -> Report {
        let mut window = Window::new();
        for micros in 1..1000 {
            window.time(Duration::from_micros(micros * 3), 1);
        }
        window.counts.transactions = (rate * 3.0) as u64;
        window.counts.records = window.counts.transactions;
        window.counts.errors.insert("PRODUCER_FENCED".to_owned(), 2);
        let point = |second: u32| Point {
            at_seconds: f64::from(second),
            rate,
            p50_ms: 0.1,
            p99_ms: 0.3,
            max_ms: 2.0,
            errors: 0,
        };
        Report {
            format: FORMAT,
            version: "0".to_owned(),
            started: "2026-01-31 12:00:00".to_owned(),
            settings: Settings { name: name.to_owned(), ..Settings::default() },
            broker: Broker { transaction_version: 2, used_transaction_version: 2, cluster_id: None },
            machine: Machine::here(),
            seconds: 3.0,
            rates: Rates::of(&window.counts, 3.0),
            latency: Latency::of(&window.latencies),
            counts: window.counts,
            not_started: 0,
            retries: 0,
            latency_is: "nothing".to_owned(),
            timeline: (1..=3).map(point).collect(),
            generator_cpu_seconds: 1.0,
            broker_process: Some(ProcessUse { cpu_seconds: 1.5, cpu_us_each: 50.0, peak_memory_mib: 12.0 }),
            verified: Some(Verified { committed: 10, unknown: 0, found: 10 }),
        }
    }

    #[test]
    fn a_report_reads_back_from_json() {
        let report = invented("oncelog", 1000.0);
        assert_eq!(Report::from_json("a.json", &report.to_json()).unwrap(), report);
    }

    #[test]
    fn a_report_of_another_format_is_refused_by_its_name() {
        let text = r#"{"format": 99, "what": "ever"}"#;
        let error = Report::from_json("a.json", text).unwrap_err().to_string();
        assert_eq!(error, "a.json: it has format 99, this program reads 1");
        let error = Report::from_json("b.json", "[]").unwrap_err().to_string();
        assert!(error.starts_with("b.json: "), "{error}");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |seconds| utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01 00:00:00");
        assert_eq!(at(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(at(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(at(1_798_761_599), "2026-12-31 23:59:59");
    }

    #[test]
    fn more_records_than_were_written_are_as_wrong_as_fewer() {
        let verified = |found| Verified { committed: 10, unknown: 2, found };
        assert!(verified(10).is_right() && verified(12).is_right());
        assert!(!verified(9).is_right() && !verified(13).is_right());
    }
}

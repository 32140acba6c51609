//! Counting and timing while a run goes on: workers record, once a second the run takes what is there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use oncelog_client::ClientError;
use serde::{Deserialize, Serialize};

/// Latencies are nanoseconds with three digits, whatever their size.
const DIGITS: u8 = 3;

/// Many workers share a few windows: few enough to be small, enough that nobody waits.
const MAX_WINDOWS: usize = 16;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Transactions that were ended, committed or aborted.
    pub transactions: u64,
    /// Those among them that were aborted.
    pub aborted: u64,
    /// Records, written or read.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Operations that failed, by error.
    pub errors: BTreeMap<String, u64>,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.transactions += other.transactions;
        self.aborted += other.aborted;
        self.records += other.records;
        self.bytes += other.bytes;
        for (error, count) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
    }

    /// All errors together.
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// What was done and how long it took, in some time.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) counts: Counts,
    pub(crate) latencies: Histogram<u64>,
}

impl Window {
    pub(crate) fn new() -> Window {
        let latencies = Histogram::new(DIGITS).expect("three digits are within bounds");
        Window { counts: Counts::default(), latencies }
    }

    pub(crate) fn time(&mut self, latency: Duration, times: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.latencies.record_n(nanos, times).expect("the histogram grows as it needs to");
    }

    pub(crate) fn add(&mut self, other: &Window) {
        self.counts.add(&other.counts);
        self.latencies.add(&other.latencies).expect("the histogram grows as it needs to");
    }
}

/// Where the workers of a run leave what they did.
#[derive(Debug)]
pub(crate) struct Recorder {
    windows: Vec<Mutex<Window>>,
    /// Operations that were begun.
    pub(crate) begun: AtomicU64,
    /// Records that are committed, from the first on.
    pub(crate) committed: AtomicU64,
    /// Records of which nobody knows whether they are.
    pub(crate) unknown: AtomicU64,
    /// Records that consumers of the same run have received.
    pub(crate) received: AtomicU64,
    /// When the last of these came, in nanoseconds from the start.
    pub(crate) last_receipt: AtomicU64,
    /// Requests that were repeated after an error that passes.
    pub(crate) retries: AtomicU64,
    /// Producers that have not finished.
    pub(crate) producing: AtomicU64,
}

impl Recorder {
    pub(crate) fn new(workers: usize) -> Recorder {
        let windows = workers.clamp(1, MAX_WINDOWS);
        Recorder {
            windows: (0..windows).map(|_| Mutex::new(Window::new())).collect(),
            begun: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            received: AtomicU64::new(0),
            last_receipt: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            producing: AtomicU64::new(0),
        }
    }

    /// The window that a worker writes to.
    pub(crate) fn window(&self, worker: usize) -> MutexGuard<'_, Window> {
        self.windows[worker % self.windows.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, worker: usize, error: &ClientError) {
        let name = match error {
            ClientError::Refused { code, .. } => code.to_string(),
            other => other.to_string(),
        };
        *self.window(worker).counts.errors.entry(name).or_default() += 1;
    }

    /// Takes what was recorded since the last time.
    pub(crate) fn take(&self) -> Window {
        let mut taken = Window::new();
        for window in &self.windows {
            let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
            taken.add(&window);
            window.counts = Counts::default();
            window.latencies.reset();
        }
        taken
    }

    pub(crate) fn count(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// A percentile: so many of a hundred were at most this slow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    /// From 0 to 100.
    pub percentile: f64,
    /// Milliseconds.
    pub ms: f64,
}

/// How long operations took, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub samples: u64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    /// The whole distribution, finer towards its end.
    pub percentiles: Vec<Percentile>,
}

impl Latency {
    pub(crate) fn of(latencies: &Histogram<u64>) -> Latency {
        let at = |quantile: f64| in_ms(latencies.value_at_quantile(quantile));
        let steps = latencies.iter_quantiles(4).map(|step| Percentile {
            percentile: step.quantile_iterated_to() * 100.0,
            ms: in_ms(step.value_iterated_to()),
        });
        Latency {
            samples: latencies.len(),
            mean_ms: latencies.mean() / 1e6,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: in_ms(latencies.max()),
            percentiles: steps.collect(),
        }
    }
}

pub(crate) fn in_ms(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use oncelog_wire::ErrorCode;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let recorder = Recorder::new(40);
        for worker in 0..1000 {
            recorder.window(worker).time(Duration::from_micros(worker as u64 + 1), 1);
        }
        let latency = Latency::of(&recorder.take().latencies);
        assert_eq!(latency.samples, 1000);
        for (found, expected) in
            [(latency.p50_ms, 0.5), (latency.p90_ms, 0.9), (latency.p99_ms, 0.99), (latency.max_ms, 1.0)]
        {
            assert!((found / expected - 1.0).abs() < 0.002, "{found} {expected}");
        }
        assert!(latency.percentiles.is_sorted_by_key(|step| step.ms), "{latency:?}");
        assert_eq!(latency.percentiles.last().map(|step| step.percentile), Some(100.0));
    }

    #[test]
    fn what_was_taken_is_not_there_a_second_time() {
        let recorder = Recorder::new(2);
        recorder.window(1).counts.records = 7;
        recorder.failed(0, &ClientError::Closed);
        recorder.failed(1, &ClientError::Closed);
        recorder.failed(1, &ClientError::Refused { code: ErrorCode::ProducerFenced, message: None });
        let counts = recorder.take().counts;
        assert_eq!((counts.records, counts.error_count()), (7, 3));
        assert_eq!(counts.errors["the broker closed the connection"], 2);
        assert_eq!(recorder.take().counts, Counts::default());
    }
}

//! A run: set up, warm up, measure, look after it.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use oncelog_client::Client;
use oncelog_wire::{ErrorCode, metadata};

use crate::error::During;
use crate::machine::{cpu_seconds, peak_memory_mib};
use crate::measure::{Latency, Recorder, Window, in_ms};
use crate::report::{Broker, FORMAT, Point, Rates, Report, Verified, utc};
use crate::schedule::{Schedule, wake_in_time};
use crate::table::{grouped, ms_text};
use crate::workload::{Place, Stage, Work, count_committed, set_up};
use crate::{BenchError, Machine, ProcessUse, Settings, Workload};

/// How long one line of progress is about.
const PERIOD: Duration = Duration::from_secs(1);

/// How long to wait for a broker that is starting, and for the partitions of a new topic.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_PAUSE: Duration = Duration::from_millis(20);

/// What happened in the last second.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Since the start of the warm-up.
    pub elapsed: Duration,
    /// Whether it does not count yet.
    pub is_warmup: bool,
    /// Transactions or records a second, as the unit says.
    pub rate: f64,
    /// What `rate` is a rate of.
    pub unit: &'static str,
    /// Half of the operations took at most so many milliseconds.
    pub p50_ms: f64,
    /// 99 of a hundred took at most so many milliseconds.
    pub p99_ms: f64,
    /// Operations that failed.
    pub errors: u64,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rate) = (self.elapsed.as_secs_f64(), grouped(self.rate));
        write!(f, "{seconds:>6.1} s {rate:>12} {:<9}", self.unit)?;
        write!(f, "  p50 {:>7} ms  p99 {:>7} ms", ms_text(self.p50_ms), ms_text(self.p99_ms))?;
        if self.errors > 0 {
            write!(f, "  {} errors", self.errors)?;
        }
        if self.is_warmup { write!(f, "  (warm-up)") } else { Ok(()) }
    }
}

/// Puts a workload on a broker and measures it. Topics that this makes are deleted again, unless they are to be kept.
///
/// # Errors
/// Where the settings are wrong, the broker cannot be reached or set up, or where nothing succeeds.
pub fn run(settings: &Settings, on_progress: &mut dyn FnMut(&Progress)) -> Result<Report, BenchError> {
    settings.check()?;
    let address = resolve(&settings.bootstrap)?;
    let mut admin = Client::connect_within(address, "oncelog-bench", PATIENCE)
        .during(|| format!("connecting to {}", settings.bootstrap))?;
    let broker = describe(&mut admin, settings)?;
    let started = SystemTime::now();
    let mut place = place(settings, address, started);
    let created = create_topics(&mut admin, &place)?;
    place.is_new = created.contains(&place.topic);
    let place = Arc::new(place);
    let result = set_up(&place).and_then(|works| measure(&place, works, broker, started, on_progress));
    if !settings.keep_topics {
        for topic in created {
            admin.delete_topic(&topic).during(|| format!("deleting {topic}"))?;
        }
    }
    result
}

fn resolve(bootstrap: &str) -> Result<SocketAddr, BenchError> {
    let addresses = bootstrap.to_socket_addrs();
    let mut addresses = addresses.map_err(|error| BenchError::Settings(format!("{bootstrap}: {error}")))?;
    addresses.next().ok_or_else(|| BenchError::Settings(format!("{bootstrap} has no address")))
}

fn place(settings: &Settings, address: SocketAddr, started: SystemTime) -> Place {
    let micros = started.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros());
    let prefix = format!("oncelog-bench-{micros}");
    let topic = settings.topic.clone().unwrap_or_else(|| prefix.clone());
    Place {
        settings: settings.clone(),
        address,
        topic,
        is_new: false,
        input: format!("{prefix}-input"),
        prefix,
    }
}

/// What the broker says of itself. Others beside it would have a part of the work that nobody asks them for.
fn describe(admin: &mut Client, settings: &Settings) -> Result<Broker, BenchError> {
    let request = metadata::Request { topics: Some(Vec::new()), ..Default::default() };
    let answer = admin.call(&request).during(|| "asking for the cluster".to_owned())?;
    if answer.brokers.len() > 1 {
        let text = format!("the cluster has {} brokers; only one is supported", answer.brokers.len());
        return Err(BenchError::Settings(text));
    }
    let finalized = admin.transaction_version();
    Ok(Broker {
        transaction_version: finalized,
        used_transaction_version: settings.transaction_version.unwrap_or(finalized.clamp(1, 2)),
        cluster_id: answer.cluster_id.map(|id| id.to_string()),
    })
}

/// Creates the topics that do not exist; returns their names.
fn create_topics(admin: &mut Client, place: &Place) -> Result<Vec<String>, BenchError> {
    let settings = &place.settings;
    let mut wanted = vec![(place.topic.clone(), settings.topic_partitions() as i32)];
    if settings.workload == Workload::Transform {
        wanted.push((place.input.clone(), settings.producers as i32));
    }
    let mut created = Vec::new();
    for (topic, partitions) in wanted {
        match admin.create_topic(&topic, partitions) {
            Ok(_) => created.push(topic.clone()),
            Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) && settings.topic.is_some() => {
            }
            Err(error) => return Err(error).during(|| format!("creating {topic}")),
        }
        await_leaders(admin, &topic, partitions as usize)?;
    }
    Ok(created)
}

fn await_leaders(admin: &mut Client, topic: &str, partitions: usize) -> Result<(), BenchError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = admin.describe_topic(topic);
        let led = found
            .as_ref()
            .map_or(0, |found| found.partitions.iter().filter(|partition| partition.leader_id >= 0).count());
        if led >= partitions {
            // Kafka says who leads before the leader itself knows.
            return (0..partitions as i32).try_for_each(|partition| {
                let end = admin.end_offset(topic, partition, oncelog_client::Isolation::ReadUncommitted);
                end.map(|_| ()).during(|| format!("waiting for {topic}-{partition}"))
            });
        }
        if Instant::now() > deadline {
            found.during(|| format!("looking for {topic}"))?;
            let text = format!("{topic} has {led} partitions that work, {partitions} are needed");
            return Err(BenchError::Settings(text));
        }
        std::thread::sleep(PATIENCE_PAUSE);
    }
}

/// What was gathered while the workers worked.
struct Measured {
    window: Window,
    timeline: Vec<Point>,
    seconds: f64,
    generator_cpu_seconds: f64,
    broker_cpu_seconds: Option<f64>,
}

fn measure(
    place: &Place,
    works: Vec<Work>,
    broker: Broker,
    started: SystemTime,
    on_progress: &mut dyn FnMut(&Progress),
) -> Result<Report, BenchError> {
    let settings = &place.settings;
    let recorder = Recorder::new(works.len());
    if settings.workload == Workload::EndToEnd {
        recorder.producing.store(settings.producers as u64, Ordering::Release);
    }
    let start = Instant::now();
    let end = start + settings.warmup + settings.duration;
    let schedule = Schedule::new(start, end, settings.rate);
    let measured = std::thread::scope(|scope| {
        let (alive, finished) = mpsc::channel::<()>();
        for (worker, work) in works.into_iter().enumerate() {
            let (stage, alive) = (Stage { schedule: &schedule, recorder: &recorder, worker }, alive.clone());
            scope.spawn(move || {
                wake_in_time();
                work(&stage);
                drop(alive);
            });
        }
        drop(alive);
        watch(settings, &recorder, start, &finished, on_progress)
    })?;
    let Measured { window, timeline, seconds, generator_cpu_seconds, broker_cpu_seconds } = measured;
    let counts = window.counts;
    if window.latencies.is_empty() {
        return Err(BenchError::NothingDone(format!("{:?}", counts.errors)));
    }
    let each = if settings.workload.counts_transactions() { counts.transactions } else { counts.records };
    let broker_process = match (settings.broker_pid, broker_cpu_seconds) {
        (Some(pid), Some(cpu_seconds)) => Some(ProcessUse {
            cpu_seconds,
            cpu_us_each: cpu_seconds * 1e6 / each.max(1) as f64,
            peak_memory_mib: peak_memory_mib(pid)?,
        }),
        _ => None,
    };
    let verified = verify(place, &recorder)?;
    let wanted = schedule.wanted().unwrap_or(0);
    let begun = recorder.begun.load(Ordering::Relaxed);
    Ok(Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: utc(started),
        settings: settings.clone(),
        broker,
        machine: Machine::here(),
        seconds,
        rates: Rates::of(&counts, seconds),
        latency_is: settings.workload.latency_is().to_owned(),
        latency: Latency::of(&window.latencies),
        counts,
        not_started: wanted.saturating_sub(begun),
        retries: recorder.retries.load(Ordering::Relaxed),
        timeline,
        generator_cpu_seconds,
        broker_process,
        verified,
    })
}

/// Takes what the workers record, second by second, until the last of them has finished.
fn watch(
    settings: &Settings,
    recorder: &Recorder,
    start: Instant,
    finished: &mpsc::Receiver<()>,
    on_progress: &mut dyn FnMut(&Progress),
) -> Result<Measured, BenchError> {
    let broker_cpu = || settings.broker_pid.map(cpu_seconds).transpose();
    let generator_cpu = || cpu_seconds(std::process::id()).unwrap_or(0.0);
    let counted_from = start + settings.warmup;
    let mut window = Window::new();
    let mut timeline = Vec::new();
    let mut cpu_before = (generator_cpu(), broker_cpu()?);
    let mut last = start;
    let mut is_over = false;
    while !is_over {
        let is_warmup = last < counted_from;
        let until = if is_warmup { (last + PERIOD).min(counted_from) } else { last + PERIOD };
        let left = until.saturating_duration_since(Instant::now());
        is_over = finished.recv_timeout(left) == Err(RecvTimeoutError::Disconnected);
        let taken = recorder.take();
        let now = if is_over { Instant::now() } else { until };
        let point = point(settings, &taken, now - last, now.saturating_duration_since(counted_from));
        // The last moment may be one in which only a few finish; it says nothing of the rate.
        let is_short = is_over && now - last < PERIOD / 4 && !timeline.is_empty();
        if !is_short {
            on_progress(&Progress {
                elapsed: now - start,
                is_warmup,
                rate: point.rate,
                unit: if settings.workload.counts_transactions() { "tx/s" } else { "records/s" },
                p50_ms: point.p50_ms,
                p99_ms: point.p99_ms,
                errors: point.errors,
            });
        }
        last = now;
        if !is_warmup || is_over {
            window.add(&taken);
            timeline.extend((!is_short).then_some(point));
        } else if now == counted_from {
            cpu_before = (generator_cpu(), broker_cpu()?);
        }
    }
    // What consumers waited in vain after the last record is not part of it.
    let last = match recorder.last_receipt.load(Ordering::Relaxed) {
        0 => last,
        nanos => (start + Duration::from_nanos(nanos)).max(counted_from + settings.duration),
    };
    let broker_cpu_seconds = broker_cpu()?.zip(cpu_before.1).map(|(after, before)| after - before);
    Ok(Measured {
        window,
        timeline,
        seconds: last.saturating_duration_since(counted_from).as_secs_f64().max(1e-9),
        generator_cpu_seconds: generator_cpu() - cpu_before.0,
        broker_cpu_seconds,
    })
}

fn point(settings: &Settings, window: &Window, length: Duration, at: Duration) -> Point {
    let counts = &window.counts;
    let done = if settings.workload.counts_transactions() { counts.transactions } else { counts.records };
    Point {
        at_seconds: at.as_secs_f64(),
        rate: done as f64 / length.as_secs_f64().max(1e-9),
        p50_ms: in_ms(window.latencies.value_at_quantile(0.5)),
        p99_ms: in_ms(window.latencies.value_at_quantile(0.99)),
        max_ms: in_ms(window.latencies.max()),
        errors: counts.error_count(),
    }
}

/// Compares what was acknowledged with what is there. Only a topic that was empty before can be judged.
fn verify(place: &Place, recorder: &Recorder) -> Result<Option<Verified>, BenchError> {
    let settings = &place.settings;
    let committed = recorder.committed.load(Ordering::Relaxed);
    let unknown = recorder.unknown.load(Ordering::Relaxed);
    let found = match settings.workload {
        Workload::EndToEnd => recorder.received.load(Ordering::Relaxed),
        Workload::Consume => return Ok(None),
        _ if settings.verify && place.is_new => count_committed(place)?,
        _ => return Ok(None),
    };
    Ok(Some(Verified { committed, unknown, found }))
}

//! The world of a run: one broker that is killed in each cycle, the clients around it, and all that befalls them. Now
//! and then everything rests, and what is there is judged.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use oncelog_client::Client;
use oncelog_tests::process::BrokerProcess;
use oncelog_tests::proxy::{Fault, Proxy};
use oncelog_wire::ApiKey;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::Arguments;
use crate::clients::{Kind, now};
use crate::fleet::{COPIERS, Fleet, MIRROR, Shared, WRITERS, known};
use crate::history::{Crash, End, Micros, PARTITIONS, READER, Topic};
use crate::random::Random;
use crate::reader;
use crate::verdict::{self, Contents};

/// How long may pass until there is progress, or an end to what is to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing is looked after.
const TICK: Duration = Duration::from_millis(5);

/// What was wrong.
pub type Outcome<T = ()> = Result<T, String>;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Crashes with recovery and progress.
    pub cycles: u64,
    /// Kills of the broker, during recovery or not.
    pub kills: u64,
    /// Kills during recovery.
    pub in_recovery: u64,
    /// Lives of the broker in the other mode.
    pub other_mode: u64,
    /// Stops by SIGTERM, with all clients there or at rest.
    pub stops: u64,
    /// Pauses of the broker.
    pub pauses: u64,
    /// Times all connections were cut.
    pub cuts: u64,
    /// Answers and requests that were to be lost.
    pub losses: u64,
}

/// The world.
pub struct World {
    arguments: Arguments,
    random: Random,
    broker: BrokerProcess,
    proxy: Proxy,
    /// Whether the broker that runs, or ran last, is in fsync mode.
    syncs: bool,
    history: Shared,
    fleet: Fleet,
    directory: PathBuf,
    /// What was done.
    pub counts: Counts,
}

impl World {
    /// A broker with empty topics, and nobody there but the reader.
    pub fn new(arguments: &Arguments) -> Outcome<World> {
        let proxy = Proxy::bind();
        let directory = match &arguments.dir {
            Some(parent) => TempDir::with_prefix_in("torture-", parent),
            None => TempDir::with_prefix("oncelog-torture-"),
        };
        let directory = directory.map_err(|error| error.to_string())?;
        let syncs = arguments.durability.syncs();
        let flags = flags(&proxy, syncs);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut broker = BrokerProcess::start_in(arguments.broker(), directory, &flags);
        let directory = broker.keep();
        proxy.forward_to(broker.address());
        let mut client = Client::connect(broker.address(), "torture").map_err(|error| error.to_string())?;
        for topic in Topic::ALL {
            client.create_topic(topic.name(), PARTITIONS).map_err(|error| error.to_string())?;
        }
        let history = Shared::default();
        let fleet = Fleet::new(proxy.address(), history.clone(), &directory.join("history"));
        reader::start(broker.address(), &history);
        let (random, counts) = (Random::new(arguments.seed), Counts::default());
        let arguments = arguments.clone();
        Ok(World { arguments, random, broker, proxy, syncs, history, fleet, directory, counts })
    }

    /// Lives through so many cycles, with a rest after them.
    pub fn live(&mut self, cycles: u64) -> Outcome {
        self.fleet.start();
        self.await_progress(now())?;
        for _ in 0..cycles {
            let calm = self.random.millis(0..1000);
            let before = calm * self.random.within(0..100) as u32 / 100;
            self.pass(before);
            self.befall();
            self.pass(calm - before);
            if self.random.one_in(15) {
                self.stop()?;
                self.broker.start_again();
                self.pass_some(300);
            }
            self.crash();
            self.await_progress(now())?;
            self.counts.cycles += 1;
        }
        self.rest()
    }

    /// Lets less than so many milliseconds pass.
    fn pass_some(&mut self, limit: u64) {
        let time = self.random.millis(0..limit);
        self.pass(time);
    }

    /// Lets time pass, and tends the clients meanwhile.
    fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.fleet.tend();
            std::thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Waits for something while clients are tended.
    fn await_that(&mut self, what: &str, mut is_so: impl FnMut(&mut World) -> Outcome<bool>) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self)? {
            if Instant::now() > deadline {
                return Err(format!("{what}: this did not come true within {PATIENCE:?}"));
            }
            self.pass(TICK);
        }
        Ok(())
    }

    /// New transactions come in and are copied.
    fn await_progress(&mut self, since: Micros) -> Outcome {
        self.await_that("there is progress after a start", |world| {
            known(&world.history, |history| {
                if let Some(fault) = history.faults.first() {
                    return Err(fault.clone());
                }
                let any = |names: &[&str]| names.iter().any(|name| history.last_commit(name) > since);
                Ok(any(&WRITERS) && any(&COPIERS) && any(&[MIRROR]))
            })
        })
    }

    /// Something happens that is no crash.
    fn befall(&mut self) {
        let client = self.random.within(0..self.fleet.len() as u64) as usize;
        match self.random.within(0..9) {
            0 => self.fleet.kill(client),
            1 => self.fleet.pause(client, self.random.millis(0..5_000)),
            2 | 3 => self.fleet.usurp(client, self.random.millis(0..5_000)),
            4 => {
                self.broker.signal(Signal::STOP);
                self.pass_some(300);
                self.broker.signal(Signal::CONT);
                self.counts.pauses += 1;
            }
            5 => {
                self.proxy.cut_all();
                self.counts.cuts += 1;
            }
            6 | 7 => {
                let api = self.random.pick(&[
                    ApiKey::InitProducerId,
                    ApiKey::Produce,
                    ApiKey::AddPartitionsToTxn,
                    ApiKey::TxnOffsetCommit,
                    ApiKey::EndTxn,
                ]);
                let fault = self.random.pick(&[Fault::LoseAnswer, Fault::LoseRequest]);
                self.proxy.arm(api, fault, self.random.within(0..4) as usize);
                self.counts.losses += 1;
            }
            _ => {}
        }
    }

    /// `kill -9` and a new start, which may be killed, too, and may be in the other mode.
    fn crash(&mut self) {
        let from = now();
        self.broker.kill();
        self.counts.kills += 1;
        let crash = Crash { from, to: now(), aborts_open: self.syncs };
        known(&self.history, |history| history.crashes.push(crash));
        let is_other = self.random.one_in(10);
        self.set_mode(is_other);
        if self.random.one_in(5) {
            self.broker.begin_to_start();
            self.pass_some(50);
            self.broker.kill();
            self.counts.kills += 1;
            self.counts.in_recovery += 1;
        }
        self.broker.start_again();
    }

    /// Chooses the mode of the next start.
    fn set_mode(&mut self, is_other: bool) {
        self.syncs = self.arguments.durability.syncs() != is_other;
        self.counts.other_mode += u64::from(is_other);
        let flags = flags(&self.proxy, self.syncs);
        self.broker.set_arguments(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// SIGTERM, and a look at what is on disk then.
    fn stop(&mut self) -> Outcome {
        self.broker.signal(Signal::TERM);
        let status = self.broker.wait();
        if !status.success() {
            return Err(format!("after SIGTERM the broker ended with {status}"));
        }
        self.counts.stops += 1;
        let checked = Command::new(self.arguments.broker()).arg("check").arg(self.broker.data_dir()).output();
        let checked = checked.map_err(|error| error.to_string())?;
        if !checked.status.success() {
            let said = String::from_utf8_lossy(&checked.stdout);
            return Err(format!("oncelog check found after a clean stop:\n{said}"));
        }
        Ok(())
    }

    /// Everybody comes to an end, all is copied and read, and what is there then is judged.
    fn rest(&mut self) -> Outcome {
        let is_writer = |kind| matches!(kind, Kind::Idempotent | Kind::Writer | Kind::NewWriter);
        if !self.fleet.end(is_writer) {
            return Err("a writer did not come to its end".to_owned());
        }
        let address = self.broker.address();
        self.await_that("all is copied", |world| {
            world.pass(Duration::from_millis(50));
            reader::is_copied(address).map_err(|error| error.to_string())
        })?;
        if !self.fleet.end(|kind| kind != Kind::Reader) {
            return Err("a copier did not come to its end".to_owned());
        }
        let contents = self.contents()?;
        self.await_that("readers have read all", |world| {
            let readers = [Some(READER), world.fleet.session_of("reader")];
            Ok(known(&world.history, |history| {
                let has_all = |reader| {
                    contents.committed.iter().all(|(place, log)| {
                        log.len() <= history.seen.get(&(reader, *place)).map_or(0, Vec::len)
                    })
                };
                readers.into_iter().flatten().all(has_all)
            }))
        })?;
        if !self.fleet.end(|_| true) {
            return Err("a reader did not come to its end".to_owned());
        }
        self.stop()?;
        self.set_mode(false);
        self.broker.start_again();
        if self.contents()? != contents {
            return Err("a clean stop and a start have changed what is there".to_owned());
        }
        match known(&self.history, |history| verdict::faults(history, &contents)) {
            faults if faults.is_empty() => {
                known(&self.history, |history| history.forget());
                Ok(())
            }
            faults => Err(faults.join("\n")),
        }
    }

    fn contents(&self) -> Outcome<Contents> {
        reader::contents(self.broker.address(), &self.history).map_err(|error| error.to_string())
    }

    /// Where all is kept that this world leaves.
    pub fn directory(&self) -> &PathBuf {
        &self.directory
    }

    /// All counts in words.
    pub fn summary(&self) -> String {
        let World { counts, fleet: Fleet { counts: clients, .. }, .. } = self;
        let told = known(&self.history, |history| {
            let ends =
                |end| history.transactions.values().filter(|transaction| transaction.end == end).count();
            let (readers, seen) = history.read();
            format!(
                "{} transactions committed ({} across a crash), {} aborted, {} with an end unknown to their \
                 producer; {} records written, {seen} read by {readers} readers",
                ends(End::Committed),
                history.survivors(),
                ends(End::Aborted) + ends(End::Open),
                ends(End::MayCommit),
                history.records.len(),
            )
        });
        format!(
            "{} cycles: {} kills of the broker ({} in recovery), {} stops, {} pauses, {} lives in the other mode, \
             {} cuts, {} lost answers; clients {} killed, {} paused, {} replaced, {} failed; {told}",
            counts.cycles,
            counts.kills,
            counts.in_recovery,
            counts.stops,
            counts.pauses,
            counts.other_mode,
            counts.cuts,
            counts.losses,
            clients.killed,
            clients.paused,
            clients.replaced,
            clients.failed,
        )
    }
}

/// Sessions are short, so that a group does not wait long for the dead. Segments are small and cleaned all the time, so
/// that kills meet that, too.
const SETTINGS: [&str; 6] = [
    "group.min.session.timeout.ms=1000",
    "group.initial.rebalance.delay.ms=0",
    "log.segment.bytes=1048576",
    "offsets.topic.segment.bytes=65536",
    "transaction.state.log.segment.bytes=65536",
    "log.cleaner.backoff.ms=100",
];

/// How the broker is started.
fn flags(proxy: &Proxy, syncs: bool) -> Vec<String> {
    let mode = if syncs { "fsync" } else { "os" };
    let address = proxy.address().to_string();
    let flags = ["--advertise", &address, "--durability", mode];
    let settings = SETTINGS.iter().flat_map(|setting| ["--set", setting]);
    flags.into_iter().chain(settings).map(str::to_owned).collect()
}

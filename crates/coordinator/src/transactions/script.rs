//! Runs the scripts of `testdata/transactions`: events go in, and what the machine wants is compared with the lines
//! that follow. `UPDATE_SCRIPTS=1` writes what it wants now into the files.
//!
//! Time passes as the script says, with every deadline on the way. After each event the log is replayed into a second
//! machine, which must come to the same durable state.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use oncelog_wire::{ErrorCode, Now, ProducerEpoch, ProducerId, Str, Timestamp, TopicPartition};

use super::*;
use crate::script_files::check_scripts;

/// Everything around the machine: clocks, a log in memory, partitions that can refuse markers, producer ids.
pub(super) struct World {
    pub machine: Coordinator,
    log: Vec<(Bytes, Option<Bytes>)>,
    pub now: Duration,
    wall_ahead_ms: i64,
    next_producer_id: i64,
    pub broken: HashMap<TopicPartition, ErrorCode>,
    /// What the machine has had appended, and written, for tests to take.
    pub appended: Vec<Record>,
    pub written: Vec<(TopicPartition, Markers)>,
    config: Config,
    report: String,
}

impl World {
    pub fn new() -> World {
        let config = Config::default();
        World {
            machine: Coordinator::new(config.clone()),
            log: Vec::new(),
            now: Duration::ZERO,
            wall_ahead_ms: 1_000_000,
            next_producer_id: 7,
            broken: HashMap::new(),
            appended: Vec::new(),
            written: Vec::new(),
            config,
            report: String::new(),
        }
    }

    pub fn clocks(&self) -> Now {
        Now { monotonic: self.now, wall: Timestamp(self.wall_ahead_ms + self.now.as_millis() as i64) }
    }

    /// What a host does with an event, until there is an answer or nothing more to do.
    pub fn handle(&mut self, event: Event<'_>) -> Option<Answer> {
        let mut output = self.machine.decide(event, self.clocks());
        let mut answer = None;
        loop {
            for record in output.records {
                self.append(record);
            }
            answer = output.answer.or(answer);
            let mut next = Output::default();
            for markers in output.markers {
                let failed = self.write_markers(&markers);
                let then = self.machine.decide(Event::MarkersWritten { markers, failed }, self.clocks());
                next.records.extend(then.records);
                next.markers.extend(then.markers);
                next.answer = then.answer.or(next.answer);
            }
            if next.records.is_empty() && next.markers.is_empty() {
                break next.answer.or(answer);
            }
            output = next;
        }
    }

    /// As [`World::handle`], for events that may need a producer id.
    pub fn handle_with_id(&mut self, event: impl Fn(Option<ProducerId>) -> Event<'static>) -> Option<Answer> {
        let answer = self.handle(event(None));
        if answer != Some(Answer::ProducerIdNeeded) {
            return answer;
        }
        let fresh = ProducerId(self.next_producer_id);
        self.next_producer_id += 1;
        self.handle(event(Some(fresh)))
    }

    pub fn append(&mut self, record: Record) {
        let was = self.machine.describe(&record.transactional_id).cloned();
        let change = describe_change(was.as_ref(), &record);
        let _ = writeln!(self.report, "  -> append  {change}");
        self.log.push((record.encode_key(), record.encode_value()));
        self.appended.push(record.clone());
        self.machine.apply(record);
    }

    fn write_markers(&mut self, markers: &Markers) -> Vec<(TopicPartition, ErrorCode)> {
        let mut failed = Vec::new();
        for partition in &markers.partitions {
            let Markers { producer, outcome, transaction_version, .. } = markers;
            let outcome = if *outcome == MarkerKind::Commit { "commit" } else { "abort" };
            let version = transaction_version.level();
            let _ = write!(
                self.report,
                "  -> marker  {partition} {outcome} producer={} epoch={} tv={version}",
                producer.id, producer.epoch
            );
            match self.broken.get(partition) {
                Some(&error) => {
                    let _ = writeln!(self.report, " fails with {error}");
                    failed.push((partition.clone(), error));
                }
                None => {
                    self.report.push('\n');
                    self.written.push((partition.clone(), markers.clone()));
                }
            }
        }
        failed
    }

    /// Lets time pass, with every deadline on the way.
    pub fn wait_until(&mut self, until: Duration) {
        while let Some(deadline) = self.machine.next_deadline().filter(|&deadline| deadline <= until) {
            self.now = self.now.max(deadline);
            let before = self.report.len();
            self.handle(Event::Tick);
            if self.report.len() > before {
                self.report.insert_str(before, &format!("  -> tick    at {}\n", show_time(self.now)));
            }
        }
        self.now = until;
    }

    pub fn restart(&mut self) {
        self.machine = self.replayed();
        self.handle(Event::Loaded { is_after_power_cut: false });
    }

    fn replayed(&self) -> Coordinator {
        let mut machine = Coordinator::new(self.config.clone());
        for (key, value) in &self.log {
            let record = Record::decode(key, value.as_ref()).expect("it was written just now");
            machine.apply(record.expect("there are no other records"));
        }
        machine
    }

    /// What must hold at any time.
    pub fn check(&self) {
        assert_eq!(self.replayed().durable, self.machine.durable, "replay comes to another state");
    }
}

/// What a record changes, as the scripts show it.
fn describe_change(was: Option<&TransactionMetadata>, record: &Record) -> String {
    let Some(is) = &record.metadata else { return format!("{} expired", record.transactional_id) };
    let mut text = format!("{} {}", record.transactional_id, is.state.name());
    let differs = |part: fn(&TransactionMetadata) -> i64| was.is_none_or(|was| part(was) != part(is));
    if differs(|metadata| metadata.producer.id.0) {
        let _ = write!(text, " producer={}", is.producer.id);
    }
    if differs(|metadata| metadata.producer.epoch.0.into()) {
        let _ = write!(text, " epoch={}", is.producer.epoch);
    }
    if differs(|metadata| metadata.timeout_ms.into()) {
        let _ = write!(text, " timeout={}", show_time(Duration::from_millis(is.timeout_ms as u64)));
    }
    if is.previous_producer_id != is.producer.id {
        let _ = write!(text, " previous={}", is.previous_producer_id);
    }
    if is.next_producer_id != ProducerId::NONE {
        let _ = write!(text, " next={}", is.next_producer_id);
    }
    if differs(|metadata| metadata.client_transaction_version.level().into()) {
        let _ = write!(text, " tv={}", is.client_transaction_version.level());
    }
    if was.is_none_or(|was| was.partitions != is.partitions) && is.state == TransactionState::Ongoing {
        let names: Vec<String> = is.partitions.iter().map(TopicPartition::to_string).collect();
        let _ = write!(text, " partitions=[{}]", names.join(" "));
    }
    text
}

fn show_time(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}

/// The words of one line: those with a name, and those without.
struct Words<'a> {
    named: HashMap<&'a str, &'a str>,
    plain: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn parse(line: &'a str) -> Words<'a> {
        let (named, plain): (Vec<&str>, Vec<&str>) =
            line.split_whitespace().partition(|word| word.contains('='));
        Words { named: named.iter().filter_map(|word| word.split_once('=')).collect(), plain }
    }

    fn transactional_id(&self) -> &'static str {
        self.named.get("tx").copied().unwrap_or("").to_owned().leak()
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let text = self.named.get(name)?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
    }

    fn producer(&self) -> Option<Producer> {
        Some(Producer {
            id: ProducerId(self.number("producer")?),
            epoch: ProducerEpoch(self.number("epoch")?),
        })
    }

    fn version(&self) -> TransactionVersion {
        TransactionVersion::from_level(self.number("tv").unwrap_or(2))
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        let partition = |word: &&str| {
            let (topic, partition) = word.rsplit_once('-').expect("a partition is written topic-0");
            TopicPartition::new(topic, partition.parse().expect("a partition is written topic-0"))
        };
        self.plain.iter().filter(|word| word.contains('-')).map(partition).collect()
    }
}

fn parse_time(text: &str) -> Duration {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits.parse().unwrap_or_else(|_| panic!("{text} is no time"));
    match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "h" => Duration::from_secs(number * 3_600),
        "d" => Duration::from_secs(number * 86_400),
        unit => panic!("{unit} is no unit of time"),
    }
}

/// Carries out one line of a script, which leaves its doings in the report.
fn run_line(world: &mut World, line: &str) {
    let (time, rest) = line
        .strip_prefix("at ")
        .expect("a line starts with `at`")
        .split_once(' ')
        .expect("after the time comes a command");
    let (command, rest) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
    let words = Words::parse(rest);
    world.wait_until(parse_time(time));
    let transactional_id = words.transactional_id();
    let producer = words.producer().unwrap_or_default();
    let answer = match command {
        "init_producer_id" => world.handle_with_id(|fresh| {
            Event::InitProducerId(InitProducerId {
                transactional_id,
                timeout_ms: words.named.get("timeout").map_or(60_000, |text| match text.strip_prefix('-') {
                    Some(text) => -(parse_time(text).as_millis() as i32),
                    None => parse_time(text).as_millis() as i32,
                }),
                expected: words.producer(),
                enable_two_phase_commit: words.plain.contains(&"two_phase_commit"),
                keep_prepared_transaction: words.plain.contains(&"keep_prepared"),
                fresh,
            })
        }),
        "add_partitions" => {
            world
                .handle(Event::AddPartitions(AddPartitions {
                    transactional_id,
                    producer,
                    partitions: &words.partitions(),
                    transaction_version: words.version(),
                }))
                .map(|answer| {
                    if matches!(answer, Answer::Done(_)) { Answer::Refused(ErrorCode::None) } else { answer }
                })
        }
        "verify" => {
            let partition = &words.partitions()[0];
            Some(Answer::Refused(world.machine.verify_partition(transactional_id, producer, partition)))
        }
        "end_transaction" => world.handle_with_id(|fresh| {
            Event::EndTransaction(EndTransaction {
                transactional_id,
                producer,
                outcome: if words.plain.contains(&"commit") { MarkerKind::Commit } else { MarkerKind::Abort },
                transaction_version: words.version(),
                fresh,
            })
        }),
        "delete_topic" => world.handle(Event::TopicDeleted { topic: words.plain[0] }),
        "wait" => None,
        "restart" => {
            world.restart();
            None
        }
        "move_wall_clock" => {
            world.wall_ahead_ms += words.number::<i64>("hours").expect("hours=") * 3_600_000;
            None
        }
        "break" | "heal" => {
            for partition in words.partitions() {
                match ErrorCode::ALL.iter().find(|error| words.plain.contains(&error.name())) {
                    Some(&error) => world.broken.insert(partition, error),
                    None => world.broken.remove(&partition),
                };
            }
            None
        }
        "given" => {
            given(world, &words, producer);
            None
        }
        command => panic!("{command} is no command"),
    };
    match answer {
        Some(Answer::Done(Producer { id, epoch })) => {
            let _ = writeln!(world.report, "  -> answer  producer={id} epoch={epoch}");
        }
        Some(Answer::Refused(error)) => {
            let _ = writeln!(world.report, "  -> answer  {error}");
        }
        Some(Answer::ProducerIdNeeded) => panic!("a fresh producer id was not enough"),
        None => {}
    }
    world.check();
}

/// Puts a record into the log as an earlier run of the broker would have, and starts again.
fn given(world: &mut World, words: &Words<'_>, producer: Producer) {
    let mut metadata = TransactionMetadata::unowned(producer.id, world.clocks().wall);
    metadata.producer = producer;
    metadata.timeout_ms = 60_000;
    metadata.client_transaction_version = words.version();
    metadata.partitions = words.partitions();
    metadata.next_producer_id = words.number("next").map_or(ProducerId::NONE, ProducerId);
    metadata.state = *TransactionState::ALL
        .iter()
        .find(|state| words.plain.contains(&state.name()))
        .expect("the name of a state");
    if metadata.state != TransactionState::Empty {
        metadata.start = world.clocks().wall;
    }
    let record = Record { transactional_id: Str::from(words.transactional_id()), metadata: Some(metadata) };
    world.log.push((record.encode_key(), record.encode_value()));
    world.restart();
}

/// The whole script again, with what happens in it now.
fn run(script: &str) -> String {
    let mut world = World::new();
    let mut result = String::new();
    for line in script.lines() {
        if line.starts_with("  ->") {
            continue;
        }
        if line.trim() == "---" {
            world = World::new();
        }
        result.push_str(line);
        result.push('\n');
        if line.starts_with("at ") {
            run_line(&mut world, line);
            result.push_str(&std::mem::take(&mut world.report));
        }
    }
    result
}

#[test]
fn the_scripts_still_hold() {
    check_scripts(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/transactions"), run);
}

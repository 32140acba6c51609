//! Runs the scripts of `testdata/groups`: requests go in, and what the machine wants is compared with the lines that follow.
//! `UPDATE_SCRIPTS=1` writes what it wants now into the files.
//!
//! Time passes as the script says, with every deadline on the way. After each line the log is replayed into a second machine, which
//! must come to the same durable state. A member id, `a-` and a UUID, is written `a-1`, `a-2` and so on.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use oncelog_wire::internal::consumer_protocol;
use oncelog_wire::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use oncelog_wire::{LeaderEpoch, Offset, Record as _, Timestamp, Uuid};

use super::*;
use crate::script_files::check_scripts;

/// Everything around the machine: clocks, a log in memory, and who waits for an answer.
pub(super) struct World {
    pub machine: Coordinator,
    pub log: Vec<Entry>,
    pub now: Duration,
    wall_ahead_ms: i64,
    config: Config,
    next_ticket: u64,
    next_member: u64,
    /// Who waits for which answer.
    pub asked: HashMap<Ticket, String>,
    report: String,
}

/// What the log holds.
#[derive(Clone)]
pub(super) enum Entry {
    Record(Record, Option<ProducerId>),
    Marker(ProducerId, bool),
}

impl World {
    pub fn new(config: Config) -> World {
        let mut world = World {
            machine: Coordinator::new(config.clone()),
            log: Vec::new(),
            now: Duration::ZERO,
            wall_ahead_ms: 1_000_000,
            config,
            next_ticket: 0,
            next_member: 0,
            asked: HashMap::new(),
            report: String::new(),
        };
        world.handle(Event::Loaded, None);
        world
    }

    pub fn clocks(&self) -> Now {
        Now { monotonic: self.now, wall: Timestamp(self.wall_ahead_ms + self.now.as_millis() as i64) }
    }

    pub fn ticket(&mut self, name: &str) -> Ticket {
        self.next_ticket += 1;
        self.asked.insert(Ticket(self.next_ticket), name.to_owned());
        Ticket(self.next_ticket)
    }

    pub fn random(&mut self) -> [u8; 16] {
        self.next_member += 1;
        u128::from(self.next_member).to_be_bytes()
    }

    /// What a host does with an event.
    pub fn handle(&mut self, event: Event<'_>, producer_id: Option<ProducerId>) -> Vec<(Ticket, Answer)> {
        let output = self.machine.decide(event, self.clocks());
        for record in output.records {
            let _ = writeln!(self.report, "  -> append  {}", show_record(&record, self.wall_ahead_ms));
            self.append(Entry::Record(record, producer_id));
        }
        for (ticket, answer) in &output.answers {
            let name = self.asked.remove(ticket).unwrap_or_else(|| panic!("{ticket:?} was not waiting"));
            let _ = writeln!(self.report, "  -> answer  {name} {}", show_answer(answer));
        }
        output.answers
    }

    pub fn append(&mut self, entry: Entry) {
        apply(&mut self.machine, self.log.len(), &entry);
        self.log.push(entry);
    }

    /// Lets time pass, with every deadline on the way.
    pub fn wait_until(&mut self, until: Duration) -> Vec<(Ticket, Answer)> {
        let mut answers = Vec::new();
        while let Some(deadline) = self.machine.next_deadline().filter(|&deadline| deadline <= until) {
            self.now = self.now.max(deadline);
            let before = self.report.len();
            answers.extend(self.handle(Event::Tick, None));
            if self.report.len() > before {
                self.report.insert_str(before, &format!("  -> tick    at {}\n", show_time(self.now)));
            }
        }
        self.now = until;
        answers
    }

    /// The broker stops at once and starts again; nobody gets an answer.
    pub fn restart(&mut self) -> Vec<(Ticket, Answer)> {
        self.machine = self.replayed();
        self.asked.clear();
        self.handle(Event::Loaded, None)
    }

    fn replayed(&self) -> Coordinator {
        let mut machine = Coordinator::new(self.config.clone());
        for (offset, entry) in self.log.iter().enumerate() {
            apply(&mut machine, offset, entry);
        }
        machine
    }

    /// What must hold at any time.
    pub fn check(&self) {
        assert_eq!(self.replayed().durable, self.machine.durable, "replay comes to another state");
    }
}

fn apply(machine: &mut Coordinator, offset: usize, entry: &Entry) {
    match entry {
        Entry::Record(record, producer_id) => {
            // Through the bytes, as a restart would have it.
            let value = record.encode_value();
            let record = Record::decode(&record.encode_key(), value.as_ref()).expect("it was encoded here");
            let position = Position { offset: Offset(offset as i64), producer_id: *producer_id };
            machine.apply(&record.expect("its kind is known"), position);
        }
        Entry::Marker(producer_id, true) => machine.apply_commit(*producer_id),
        Entry::Marker(producer_id, false) => machine.apply_abort(*producer_id),
    }
}

// ---- what is shown ----

const UUID_START: &str = "-00000000-0000-4000-8000-";

/// `a-1` for a member id that ends in the UUID made of 1.
fn show_id(id: &str) -> String {
    let Some((name, uuid)) = id.split_once(UUID_START) else { return id.to_owned() };
    format!("{name}-{}", u64::from_str_radix(uuid, 16).expect("the end of a UUID"))
}

fn show_bytes(bytes: &Bytes) -> String {
    if bytes.first() != Some(&0) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let subscription =
        consumer_protocol::Subscription::from_versioned_bytes(bytes.clone()).expect("a subscription");
    format!("topics({})", subscription.topics.iter().map(Str::as_str).collect::<Vec<_>>().join("+"))
}

fn show_record(record: &Record, wall_ahead_ms: i64) -> String {
    let mut text = String::new();
    match record {
        Record::OffsetCommit(key, None) => {
            let _ = write!(text, "{} {}-{} tombstone", key.group, key.topic, key.partition);
        }
        Record::OffsetCommit(key, Some(value)) => {
            let _ = write!(text, "{} {}-{} offset={}", key.group, key.topic, key.partition, value.offset);
            if value.leader_epoch != LeaderEpoch::NONE {
                let _ = write!(text, " epoch={}", value.leader_epoch);
            }
            if !value.metadata.is_empty() {
                let _ = write!(text, " metadata={}", value.metadata);
            }
            if value.expire_timestamp != Timestamp::NONE {
                let _ = write!(text, " expires={}s", (value.expire_timestamp.0 - wall_ahead_ms) / 1000);
            }
        }
        Record::GroupMetadata(key, None) => {
            let _ = write!(text, "{} tombstone", key.group);
        }
        Record::GroupMetadata(key, Some(value)) => {
            let _ = write!(text, "{} generation={}", key.group, value.generation);
            if !value.protocol_type.is_empty() {
                let _ = write!(text, " type={}", value.protocol_type);
            }
            if let Some(protocol) = &value.protocol {
                let _ = write!(text, " protocol={protocol}");
            }
            if let Some(leader) = &value.leader {
                let _ = write!(text, " leader={}", show_id(leader));
            }
            let members = value.members.iter().map(|member| {
                let instance =
                    member.group_instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
                let (subscription, assignment) =
                    (show_bytes(&member.subscription), show_bytes(&member.assignment));
                format!("{}{instance}:{subscription}:{assignment}", show_id(&member.member_id))
            });
            let _ = write!(text, " members=[{}]", members.collect::<Vec<_>>().join(" "));
        }
    }
    text
}

fn show_answer(answer: &Answer) -> String {
    let mut text = String::new();
    match answer {
        Answer::JoinGroup(join) if join.error_code.is_error() => {
            let _ = write!(text, "{} member={}", join.error_code, show_id(&join.member_id));
        }
        Answer::JoinGroup(join) => {
            let _ = write!(
                text,
                "joined member={} generation={} protocol={} leader={}",
                show_id(&join.member_id),
                join.generation_id,
                join.protocol_name.as_ref().map_or("-", Str::as_str),
                show_id(&join.leader)
            );
            if join.skip_assignment {
                text.push_str(" skip_assignment");
            }
            if !join.members.is_empty() {
                let members = join.members.iter().map(|member| {
                    let instance =
                        member.group_instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
                    format!("{}{instance}:{}", show_id(&member.member_id), show_bytes(&member.metadata))
                });
                let _ = write!(text, " members=[{}]", members.collect::<Vec<_>>().join(" "));
            }
        }
        Answer::SyncGroup(sync) if sync.error_code.is_error() => {
            let _ = write!(text, "{}", sync.error_code);
        }
        Answer::SyncGroup(sync) => {
            let _ = write!(text, "synced assignment={}", show_bytes(&sync.assignment));
        }
        Answer::Heartbeat(heartbeat) => {
            let _ = write!(text, "{}", heartbeat.error_code);
        }
        Answer::LeaveGroup(leave) => {
            let _ = write!(text, "{}", leave.error_code);
            for member in &leave.members {
                let instance =
                    member.group_instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
                let _ = write!(text, " {}{instance}:{}", show_id(&member.member_id), member.error_code);
            }
        }
        Answer::OffsetCommit(commit) => {
            for topic in &commit.topics {
                for partition in &topic.partitions {
                    let _ = write!(
                        text,
                        "{}-{}:{} ",
                        topic.name, partition.partition_index, partition.error_code
                    );
                }
            }
        }
        Answer::TxnOffsetCommit(commit) => {
            for topic in &commit.topics {
                for partition in &topic.partitions {
                    let _ = write!(
                        text,
                        "{}-{}:{} ",
                        topic.name, partition.partition_index, partition.error_code
                    );
                }
            }
        }
        Answer::OffsetDelete(delete) => {
            let _ = write!(text, "{} ", delete.error_code);
            for topic in &delete.topics {
                for partition in &topic.partitions {
                    let _ = write!(
                        text,
                        "{}-{}:{} ",
                        topic.name, partition.partition_index, partition.error_code
                    );
                }
            }
        }
        Answer::DeleteGroups(delete) => {
            for group in &delete.results {
                let _ = write!(text, "{}:{} ", group.group_id, group.error_code);
            }
        }
    }
    text.trim_end().to_owned()
}

fn show_time(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}

// ---- what a line says ----

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

    fn text(&self, name: &str) -> Option<Str> {
        self.named.get(name).map(|text| Str::from(*text))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let text = self.named.get(name)?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
    }

    fn version(&self, newest: i16) -> i16 {
        self.number("v").unwrap_or(newest)
    }

    fn time_ms(&self, name: &str, default: i32) -> i32 {
        self.named.get(name).map_or(default, |text| parse_time(text).as_millis() as i32)
    }

    fn member_id(&self) -> Str {
        self.named.get("member").map(|id| parse_id(id)).unwrap_or_default()
    }

    fn generation(&self) -> i32 {
        self.number("generation").unwrap_or(-1)
    }

    /// `t-0@5`: topic, partition, offset. Without an offset it is -1.
    fn partitions(&self) -> Vec<(Str, i32, Offset)> {
        let partition = |word: &&str| {
            let (name, offset) = word.split_once('@').unwrap_or((word, "-1"));
            let (topic, partition) = name.rsplit_once('-').expect("a partition is written topic-0");
            let number = partition.parse().expect("a partition is written topic-0");
            (Str::from(topic), number, Offset(offset.parse().expect("an offset is a number")))
        };
        self.plain.iter().filter(|word| word.contains('-')).map(partition).collect()
    }

    fn list(&self, name: &str) -> Vec<Str> {
        self.named.get(name).map(|text| text.split(',').map(Str::from).collect()).unwrap_or_default()
    }

    /// `name:bytes,name:bytes`
    fn pairs(&self, name: &str) -> Option<Vec<(Str, Bytes)>> {
        let pair = |text: &str| {
            let (name, bytes) = text.split_once(':').unwrap_or((text, ""));
            (Str::from(name), parse_bytes(bytes))
        };
        self.named.get(name).map(|text| text.split(',').filter(|text| !text.is_empty()).map(pair).collect())
    }
}

fn parse_id(id: &str) -> Str {
    match id.rsplit_once('-') {
        Some((name, number)) if number.parse::<u64>().is_ok() => {
            Str::from(format!("{name}{UUID_START}{:012x}", number.parse::<u64>().expect("it was parsed")))
        }
        _ => Str::from(id),
    }
}

fn parse_bytes(text: &str) -> Bytes {
    let Some(topics) = text.strip_prefix("topics(").and_then(|text| text.strip_suffix(')')) else {
        return Bytes::copy_from_slice(text.as_bytes());
    };
    let topics = topics.split('+').map(Str::from).collect();
    consumer_protocol::Subscription { topics, ..Default::default() }.to_bytes(3, 3)
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

fn parse_config(line: &str) -> Config {
    let words = Words::parse(line);
    let mut config = Config::default();
    for (name, value) in &words.named {
        match *name {
            "initial_rebalance_delay" => config.initial_rebalance_delay = parse_time(value),
            "max_size" => config.max_size = value.parse().expect("a number"),
            "max_record_bytes" => config.max_record_bytes = value.parse().expect("a number"),
            "offset_metadata_max_bytes" => {
                config.offset_metadata_max_bytes = value.parse().expect("a number")
            }
            name => panic!("{name} is not configurable here"),
        }
    }
    config
}

// ---- carrying it out ----

/// Carries out one line of a script, which leaves its doings in the report.
fn run_line(world: &mut World, line: &str) {
    let (time, rest) =
        line.strip_prefix("at ").and_then(|rest| rest.split_once(' ')).expect("at <time> <command>");
    world.wait_until(parse_time(time));
    let words = Words::parse(rest);
    let said = words.plain.clone();
    match said.as_slice() {
        ["wait"] => {}
        ["restart"] => {
            world.restart();
        }
        ["move_wall_clock"] => {
            world.wall_ahead_ms += words.number::<i64>("hours").expect("hours=") * 3_600_000
        }
        ["commit_marker"] => world.append(Entry::Marker(producer_id(&words), true)),
        ["abort_marker"] => world.append(Entry::Marker(producer_id(&words), false)),
        ["delete_topic", topic] => {
            world.handle(Event::TopicDeleted(topic), None);
        }
        ["describe", group] => {
            let text = show_described(&world.machine.describe(&Str::from(*group), words.version(6)));
            let _ = writeln!(world.report, "  -> group   {text}");
        }
        ["list"] => {
            for group in world.machine.list(&words.list("states"), &words.list("types")) {
                let (id, state, kind) = (group.group_id, group.group_state, group.group_type);
                let _ =
                    writeln!(world.report, "  -> group   {id} {state} {kind} type={}", group.protocol_type);
            }
        }
        ["fetch", group, ..] => fetch(world, Str::from(*group), &words),
        [name, command, rest @ ..] => {
            let words = Words { named: words.named, plain: rest.to_vec() };
            let producer_id = (*command == "txn_commit").then(|| producer_id(&words));
            let ticket = world.ticket(name);
            let event = request(world, ticket, name, command, words);
            world.handle(event, producer_id);
        }
        _ => panic!("{line} is no command"),
    }
    world.check();
}

fn producer_id(words: &Words<'_>) -> ProducerId {
    ProducerId(words.number("producer").expect("producer="))
}

/// A script is short enough to keep all that was asked.
fn leak<T>(request: T) -> &'static T {
    Box::leak(Box::new(request))
}

/// `<client> <request> <group> ...`
fn request(
    world: &mut World,
    ticket: Ticket,
    client: &str,
    command: &str,
    mut words: Words<'_>,
) -> Event<'static> {
    if command == "delete_groups" {
        return Event::DeleteGroups {
            ticket,
            group_ids: words.plain.iter().map(|id| Str::from(*id)).collect::<Vec<_>>().leak(),
        };
    }
    let group_id = match words.plain.first() {
        Some(&"-") | None => Str::EMPTY,
        Some(id) => Str::from(*id),
    };
    words.plain = words.plain.split_off(1.min(words.plain.len()));
    let group_instance_id = words.text("instance");
    match command {
        "join" => {
            let protocols = words.pairs("protocols").unwrap_or_else(|| vec![("range".into(), "m".into())]);
            let protocol = |(name, metadata)| join_group::JoinGroupRequestProtocol { name, metadata };
            let request = join_group::Request {
                group_id,
                session_timeout_ms: words.time_ms("session", 10_000),
                rebalance_timeout_ms: words.time_ms("rebalance", 60_000),
                member_id: words.member_id(),
                group_instance_id,
                protocol_type: words.text("type").unwrap_or_else(|| "consumer".into()),
                protocols: protocols.into_iter().map(protocol).collect(),
                ..Default::default()
            };
            let client = Client { id: client.into(), host: "/127.0.0.1".into() };
            Event::JoinGroup {
                ticket,
                version: words.version(9),
                client,
                random: world.random(),
                request: leak(request),
            }
        }
        "sync" => {
            let assignment = |(id, assignment): (Str, Bytes)| sync_group::SyncGroupRequestAssignment {
                member_id: parse_id(&id),
                assignment,
            };
            let request = sync_group::Request {
                group_id,
                generation_id: words.generation(),
                member_id: words.member_id(),
                group_instance_id,
                protocol_type: words.text("type"),
                protocol_name: words.text("protocol"),
                assignments: words.pairs("assign").unwrap_or_default().into_iter().map(assignment).collect(),
            };
            Event::SyncGroup { ticket, request: leak(request) }
        }
        "heartbeat" => {
            let (member_id, generation_id) = (words.member_id(), words.generation());
            let request = heartbeat::Request { group_id, generation_id, member_id, group_instance_id };
            Event::Heartbeat { ticket, request: leak(request) }
        }
        "leave" => {
            // `a-1`, `a-1@instance` or `@instance`
            let identity = |word: &&str| {
                let (id, instance) = word.split_once('@').map_or((*word, None), |(id, at)| (id, Some(at)));
                leave_group::MemberIdentity {
                    member_id: parse_id(id),
                    group_instance_id: instance.map(Str::from),
                    ..Default::default()
                }
            };
            let members = words.plain.iter().map(identity).collect();
            let request = leave_group::Request { group_id, member_id: words.member_id(), members };
            Event::LeaveGroup { ticket, version: words.version(5), request: leak(request) }
        }
        "commit" => {
            let topics = words.partitions().into_iter().map(|(name, partition_index, committed_offset)| {
                let partition = offset_commit::OffsetCommitRequestPartition {
                    partition_index,
                    committed_offset,
                    committed_leader_epoch: LeaderEpoch(words.number("epoch").unwrap_or(-1)),
                    committed_metadata: words.text("metadata"),
                };
                let topic_id = words.number::<u8>("id").map_or(Uuid::ZERO, |id| Uuid([id; 16]));
                offset_commit::OffsetCommitRequestTopic { name, topic_id, partitions: vec![partition] }
            });
            let request = offset_commit::Request {
                topics: topics.collect(),
                group_id,
                generation_id_or_member_epoch: words.generation(),
                member_id: words.member_id(),
                group_instance_id,
                retention_time_ms: words
                    .named
                    .get("retention")
                    .map_or(-1, |time| parse_time(time).as_millis() as i64),
            };
            Event::OffsetCommit { ticket, version: words.version(10), request: leak(request) }
        }
        "txn_commit" => {
            let topics = words.partitions().into_iter().map(|(name, partition_index, committed_offset)| {
                let partition = txn_offset_commit::TxnOffsetCommitRequestPartition {
                    partition_index,
                    committed_offset,
                    committed_leader_epoch: LeaderEpoch(words.number("epoch").unwrap_or(-1)),
                    committed_metadata: words.text("metadata"),
                };
                txn_offset_commit::TxnOffsetCommitRequestTopic { name, partitions: vec![partition] }
            });
            let request = txn_offset_commit::Request {
                topics: topics.collect(),
                group_id,
                generation_id: words.generation(),
                member_id: words.member_id(),
                group_instance_id,
                ..Default::default()
            };
            Event::TxnOffsetCommit { ticket, request: leak(request) }
        }
        "delete_offsets" => {
            let topics = words.partitions().into_iter().map(|(name, partition_index, _)| {
                let partition = offset_delete::OffsetDeleteRequestPartition { partition_index };
                offset_delete::OffsetDeleteRequestTopic { name, partitions: vec![partition] }
            });
            Event::OffsetDelete {
                ticket,
                request: leak(offset_delete::Request { topics: topics.collect(), group_id }),
            }
        }
        command => panic!("{command} is no request"),
    }
}

fn fetch(world: &mut World, group_id: Str, words: &Words<'_>) {
    let topic_id = words.number::<u8>("id").map_or(Uuid::ZERO, |id| Uuid([id; 16]));
    let topic = |(name, partition, _)| OffsetFetchRequestTopics {
        name,
        topic_id,
        partition_indexes: vec![partition],
    };
    let topics: Vec<_> = words.partitions().into_iter().map(topic).collect();
    let request = OffsetFetchRequestGroup {
        group_id,
        topics: (!words.plain.contains(&"all")).then_some(topics),
        ..Default::default()
    };
    let fetched = world.machine.fetch_offsets(&request, words.plain.contains(&"stable"));
    for topic in fetched.topics {
        for partition in topic.partitions {
            let _ = write!(world.report, "  -> offset  {}-{} ", topic.name, partition.partition_index);
            let offset = partition.committed_offset;
            let _ = match partition.error_code {
                ErrorCode::None => write!(world.report, "{offset}"),
                error_code => write!(world.report, "{error_code} {offset}"),
            };
            if partition.committed_leader_epoch != LeaderEpoch::NONE {
                let _ = write!(world.report, " epoch={}", partition.committed_leader_epoch);
            }
            if let Some(metadata) = partition.metadata.filter(|text| !text.is_empty()) {
                let _ = write!(world.report, " metadata={metadata}");
            }
            world.report.push('\n');
        }
    }
}

fn show_described(group: &oncelog_wire::describe_groups::DescribedGroup) -> String {
    let mut text = format!("{} {}", group.group_id, group.group_state);
    if group.error_code.is_error() {
        let _ = write!(text, " {}", group.error_code);
    }
    if let Some(message) = &group.error_message {
        let _ = write!(text, " ({message})");
    }
    let _ = write!(text, " type={} protocol={}", group.protocol_type, group.protocol_data);
    for member in &group.members {
        let instance = member.group_instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
        let (metadata, assignment) =
            (show_bytes(&member.member_metadata), show_bytes(&member.member_assignment));
        let (id, client, host) = (show_id(&member.member_id), &member.client_id, &member.client_host);
        let _ = write!(text, " {id}{instance}:{metadata}:{assignment} ({client}{host})");
    }
    text
}

/// The whole script again, with what happens in it now.
fn run(script: &str) -> String {
    let mut world = World::new(Config::default());
    let mut result = String::new();
    for line in script.lines() {
        if line.starts_with("  ->") {
            continue;
        }
        result.push_str(line);
        result.push('\n');
        if line.trim() == "---" {
            world = World::new(Config::default());
        } else if let Some(config) = line.strip_prefix("config ") {
            world = World::new(parse_config(config));
        } else if line.starts_with("at ") {
            run_line(&mut world, line);
            result.push_str(&std::mem::take(&mut world.report));
        }
    }
    result
}

#[test]
fn the_scripts_still_hold() {
    check_scripts(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/groups"), run);
}

//! Random consumers and producers around one machine, in virtual time: they join, work, leave, crash and come back, the broker stops
//! dead, and a group's rules must hold throughout. Once nobody crashes any more, every consumer must come to work.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::script::{Entry, World};
use super::*;

const GROUP: Str = Str::from_static("g");
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// Within this much time of peace every consumer must have its assignment.
const PEACE: Duration = Duration::from_secs(600);

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Start(usize),
    Crash(usize),
    Leave(usize),
    JoinAnew(usize),
    Commit(usize),
    CommitInTransaction(i64),
    EndTransaction(i64, bool),
    BrokerStops,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let consumer = 0..5usize;
    let producer = 1..4i64;
    let step = prop_oneof![
        6 => (1..8_000u64).prop_map(Step::Pass),
        4 => consumer.clone().prop_map(Step::Start),
        1 => consumer.clone().prop_map(Step::Crash),
        1 => consumer.clone().prop_map(Step::Leave),
        1 => consumer.clone().prop_map(Step::JoinAnew),
        2 => consumer.prop_map(Step::Commit),
        2 => producer.clone().prop_map(Step::CommitInTransaction),
        2 => (producer, any::<bool>()).prop_map(|(producer, commit)| Step::EndTransaction(producer, commit)),
        1 => Just(Step::BrokerStops),
    ];
    prop::collection::vec(step, 1..120)
}

/// A consumer as clients are written: it joins, syncs, sends heartbeats, and begins again when it is told to.
#[derive(Clone, Debug, Default)]
struct Consumer {
    is_running: bool,
    instance_id: Option<Str>,
    version: i16,
    member_id: Str,
    generation: i32,
    waits: Waits,
    next_heartbeat: Duration,
    /// Its assignment, while it works.
    works: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Waits {
    #[default]
    Nothing,
    Join(Ticket),
    Sync(Ticket),
}

struct Simulation {
    world: World,
    consumers: Vec<Consumer>,
    /// The one assignment of each generation, as it was first told. Generations start over when the group was deleted.
    assignments: HashMap<(usize, i32), String>,
    /// What the rule says is committed: the record with the highest offset among those in force.
    committed: Option<(usize, i64)>,
    pending: HashMap<i64, (usize, i64)>,
    next_value: i64,
}

impl Simulation {
    fn new() -> Simulation {
        let consumer = |at: usize| Consumer {
            instance_id: (at % 3 == 2).then(|| Str::from(format!("i{at}"))),
            version: if at < 3 { 9 } else { 3 },
            ..Default::default()
        };
        Simulation {
            world: World::new(Config::default()),
            consumers: (0..5).map(consumer).collect(),
            assignments: HashMap::new(),
            committed: None,
            pending: HashMap::new(),
            next_value: 0,
        }
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
            self.world.check();
            self.check_offset();
        }
        for at in 0..self.consumers.len() {
            self.step(&Step::Start(at));
        }
        let until = self.world.now + PEACE;
        while self.world.now < until {
            self.pass(Duration::from_secs(1));
        }
        for consumer in &self.consumers {
            assert!(consumer.works, "a consumer never came to work: {consumer:?}");
        }
        let generations: Vec<i32> = self.consumers.iter().map(|consumer| consumer.generation).collect();
        assert!(generations.iter().all(|generation| *generation == generations[0]), "{generations:?}");
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Pass(ms) => self.pass(Duration::from_millis(ms)),
            Step::Start(at) if !self.consumers[at].is_running => {
                self.consumers[at].is_running = true;
                self.join(at);
            }
            Step::Start(_) => {}
            // A crashed client forgets who it was; answers to it go nowhere.
            Step::Crash(at) => {
                let Consumer { instance_id, version, .. } = self.consumers[at].clone();
                self.consumers[at] = Consumer { instance_id, version, ..Default::default() };
            }
            Step::Leave(at) => self.leave(at),
            Step::JoinAnew(at) if self.consumers[at].works => self.join(at),
            Step::JoinAnew(_) => {}
            Step::Commit(at) => self.commit(at),
            Step::CommitInTransaction(producer) => self.commit_in_transaction(producer),
            Step::EndTransaction(producer, is_commit) => {
                self.world.append(Entry::Marker(ProducerId(producer), is_commit));
                if let Some(pending) = self.pending.remove(&producer).filter(|_| is_commit) {
                    self.committed = self.committed.max(Some(pending));
                }
            }
            Step::BrokerStops => {
                let answers = self.world.restart();
                for at in 0..self.consumers.len() {
                    if self.consumers[at].waits != Waits::Nothing {
                        self.join(at);
                    }
                }
                self.take(answers);
            }
        }
    }

    /// Lets time pass, with the heartbeats that are due on the way.
    fn pass(&mut self, span: Duration) {
        let until = self.world.now + span;
        loop {
            let working = self.consumers.iter().filter(|consumer| consumer.works);
            let next = working.map(|consumer| consumer.next_heartbeat).min().filter(|next| *next <= until);
            let now = self.world.now;
            let answers = self.world.wait_until(next.unwrap_or(until).max(now));
            self.take(answers);
            if next.is_none() {
                return;
            }
            for at in 0..self.consumers.len() {
                if self.consumers[at].works && self.consumers[at].next_heartbeat <= self.world.now {
                    self.heartbeat(at);
                }
            }
        }
    }

    fn ask(&mut self, event: Event<'_>) {
        let answers = self.world.handle(event, None);
        self.take(answers);
    }

    fn join(&mut self, at: usize) {
        let ticket = self.world.ticket("consumer");
        let consumer = &mut self.consumers[at];
        consumer.works = false;
        consumer.waits = Waits::Join(ticket);
        let protocol = join_group::JoinGroupRequestProtocol { name: "range".into(), metadata: "m".into() };
        let request = join_group::Request {
            group_id: GROUP,
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            member_id: consumer.member_id.clone(),
            group_instance_id: consumer.instance_id.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        let version = consumer.version;
        let client = Client { id: Str::from(format!("c{at}")), host: "/::1".into() };
        let random = self.world.random();
        self.ask(Event::JoinGroup { ticket, version, client, random, request: &request });
    }

    fn sync(&mut self, at: usize, members: &[join_group::JoinGroupResponseMember]) {
        let ticket = self.world.ticket("consumer");
        let consumer = &mut self.consumers[at];
        consumer.waits = Waits::Sync(ticket);
        let assignment =
            |member: &join_group::JoinGroupResponseMember| sync_group::SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: format!("{ticket:?}").into_bytes().into(),
            };
        let request = sync_group::Request {
            group_id: GROUP,
            generation_id: consumer.generation,
            member_id: consumer.member_id.clone(),
            group_instance_id: consumer.instance_id.clone(),
            assignments: members.iter().map(assignment).collect(),
            ..Default::default()
        };
        self.ask(Event::SyncGroup { ticket, request: &request });
    }

    fn heartbeat(&mut self, at: usize) {
        let ticket = self.world.ticket("consumer");
        let now = self.world.now;
        let consumer = &mut self.consumers[at];
        consumer.next_heartbeat = now + HEARTBEAT_INTERVAL;
        let request = heartbeat::Request {
            group_id: GROUP,
            generation_id: consumer.generation,
            member_id: consumer.member_id.clone(),
            group_instance_id: consumer.instance_id.clone(),
        };
        let answers = self.world.handle(Event::Heartbeat { ticket, request: &request }, None);
        let Some((_, Answer::Heartbeat(response))) = answers.first() else { panic!("{answers:?}") };
        match response.error_code {
            ErrorCode::None => {}
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                self.consumers[at].member_id = Str::EMPTY;
                self.join(at);
            }
            _ => self.join(at),
        }
    }

    fn leave(&mut self, at: usize) {
        let ticket = self.world.ticket("consumer");
        let Consumer { instance_id, version, member_id, .. } = self.consumers[at].clone();
        self.consumers[at] = Consumer { instance_id: instance_id.clone(), version, ..Default::default() };
        let member = leave_group::MemberIdentity { member_id, group_instance_id: instance_id, reason: None };
        let request = leave_group::Request { group_id: GROUP, members: vec![member], ..Default::default() };
        self.ask(Event::LeaveGroup { ticket, version: 5, request: &request });
    }

    fn commit(&mut self, at: usize) {
        let ticket = self.world.ticket("consumer");
        let consumer = &self.consumers[at];
        let partition = offset_commit::OffsetCommitRequestPartition {
            committed_offset: oncelog_wire::Offset(self.next_value),
            ..Default::default()
        };
        let topic = offset_commit::OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = offset_commit::Request {
            group_id: GROUP,
            generation_id_or_member_epoch: consumer.generation,
            member_id: consumer.member_id.clone(),
            topics: vec![topic],
            ..Default::default()
        };
        let offset = self.world.log.len();
        self.ask(Event::OffsetCommit { ticket, version: 9, request: &request });
        if self.world.log.len() > offset {
            self.committed = Some((offset, self.next_value));
        }
        self.next_value += 1;
    }

    fn commit_in_transaction(&mut self, producer: i64) {
        let ticket = self.world.ticket("producer");
        let partition = txn_offset_commit::TxnOffsetCommitRequestPartition {
            committed_offset: oncelog_wire::Offset(self.next_value),
            ..Default::default()
        };
        let topic =
            txn_offset_commit::TxnOffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition] };
        let request =
            txn_offset_commit::Request { group_id: GROUP, topics: vec![topic], ..Default::default() };
        self.pending.insert(producer, (self.world.log.len(), self.next_value));
        self.world.handle(Event::TxnOffsetCommit { ticket, request: &request }, Some(ProducerId(producer)));
        self.next_value += 1;
    }

    /// Clients take their answers.
    fn take(&mut self, answers: Vec<(Ticket, Answer)>) {
        for (ticket, answer) in answers {
            let waits = |consumer: &Consumer| {
                consumer.waits == Waits::Join(ticket) || consumer.waits == Waits::Sync(ticket)
            };
            let Some(at) = self.consumers.iter().position(waits) else { continue };
            self.consumers[at].waits = Waits::Nothing;
            match answer {
                Answer::JoinGroup(join) => self.joined(at, join),
                Answer::SyncGroup(sync) => self.synced(at, sync),
                answer => panic!("{answer:?}"),
            }
        }
    }

    fn joined(&mut self, at: usize, join: join_group::Response) {
        match join.error_code {
            ErrorCode::None => {
                assert!(join.members.is_empty() || join.leader == join.member_id, "{join:?}");
                self.consumers[at].member_id = join.member_id;
                self.consumers[at].generation = join.generation_id;
                self.sync(at, &join.members);
            }
            ErrorCode::MemberIdRequired => {
                self.consumers[at].member_id = join.member_id;
                self.join(at);
            }
            _ => {
                self.consumers[at].member_id = Str::EMPTY;
                self.join(at);
            }
        }
    }

    fn synced(&mut self, at: usize, sync: sync_group::Response) {
        let consumer = &mut self.consumers[at];
        match sync.error_code {
            ErrorCode::None => {
                consumer.works = true;
                consumer.next_heartbeat = self.world.now + HEARTBEAT_INTERVAL;
                let assignment = String::from_utf8_lossy(&sync.assignment).into_owned();
                if !assignment.is_empty() {
                    let is_deletion =
                        |entry: &&Entry| matches!(entry, Entry::Record(Record::GroupMetadata(_, None), _));
                    let deletions = self.world.log.iter().filter(is_deletion).count();
                    let generation = (deletions, consumer.generation);
                    let first = self.assignments.entry(generation).or_insert_with(|| assignment.clone());
                    assert_eq!(*first, assignment, "two assignments of one generation");
                }
            }
            ErrorCode::RebalanceInProgress => self.join(at),
            _ => {
                consumer.member_id = Str::EMPTY;
                self.join(at);
            }
        }
    }

    /// The later record wins.
    fn check_offset(&self) {
        let topic = oncelog_wire::offset_fetch::OffsetFetchRequestTopics {
            name: "t".into(),
            partition_indexes: vec![0],
            ..Default::default()
        };
        let request = oncelog_wire::offset_fetch::OffsetFetchRequestGroup {
            group_id: GROUP,
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let committed = |fetched: &oncelog_wire::offset_fetch::OffsetFetchResponseGroup| {
            let partition = &fetched.topics[0].partitions[0];
            (partition.committed_offset.0, partition.error_code)
        };
        let expected = self.committed.map_or(-1, |(_, value)| value);
        assert_eq!(
            committed(&self.world.machine.fetch_offsets(&request, false)),
            (expected, ErrorCode::None)
        );
        let is_stable = self.pending.is_empty();
        let error_code = committed(&self.world.machine.fetch_offsets(&request, true)).1;
        assert_eq!(error_code == ErrorCode::UnstableOffsetCommit, !is_stable);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold_and_in_peace_everyone_works(steps in steps()) {
        Simulation::new().run(&steps);
    }
}

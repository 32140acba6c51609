//! One classic group while it has members, or clients about to become members: session state.
//!
//! What outlives a restart is its last `GroupMetadata` record. Between two such records (from the first join of a rebalance to the
//! leader's sync) everything here is ahead of the log, and what is told to clients of it can be told again after a restart.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use indexmap::IndexMap;
use oncelog_wire::internal::{consumer_protocol, group_metadata};
use oncelog_wire::join_group::{self, JoinGroupRequestProtocol, JoinGroupResponseMember};
use oncelog_wire::{ErrorCode, Message, Now, Reader, Str, Timestamp};

use super::record::{self, Record};
use super::{Answer, Config, Output, Ticket, Timer, Timers};

/// The protocol type of consumers, whose subscriptions the coordinator can read.
const CONSUMER: &str = "consumer";

/// Where a group stands between two generations (Kafka's `ClassicGroupState`; a dead group is one that does not exist).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No members.
    Empty,
    /// Members are to join anew; `Some` while the first members of an empty group are waited for.
    PreparingRebalance(Option<InitialRebalance>),
    /// All have joined and the leader is working out the assignment.
    CompletingRebalance,
    /// The assignment is in the log.
    Stable,
}

/// The wait for the first members of an empty group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InitialRebalance {
    /// How long the current step of the wait is.
    pub delay: Duration,
    /// How much of the rebalance timeout the wait may still be extended by.
    pub remaining: Duration,
    /// Whether a member came during the current step.
    pub new_member_added: bool,
}

impl State {
    /// The name Kafka shows.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance(_) => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// One member of a classic group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The protocols the member can follow, the one it likes best first, each with the member's metadata for it.
    pub protocols: Vec<(Str, Bytes)>,
    pub assignment: Bytes,
    /// The JoinGroup that waits for the rebalance to complete.
    pub joining: Option<Ticket>,
    /// The SyncGroup that waits for the leader's.
    pub syncing: Option<Ticket>,
    /// Whether the member has not yet been told its id by a completed join: it cannot send heartbeats, and its join is timed out.
    pub is_new: bool,
}

impl Member {
    /// The metadata for `protocol`; empty where the member does not know it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// Whether a join with `protocols` brings nothing new.
    pub fn matches(&self, protocols: &[JoinGroupRequestProtocol]) -> bool {
        self.protocols.len() == protocols.len()
            && self
                .protocols
                .iter()
                .zip(protocols)
                .all(|((name, metadata), p)| *name == p.name && *metadata == p.metadata)
    }

    fn session_timeout(&self) -> Duration {
        duration_ms(self.session_timeout_ms)
    }
}

/// What a decision may use besides the group it is about.
pub(super) struct Turn<'a> {
    pub config: &'a Config,
    pub timers: &'a mut Timers<Timer>,
    pub output: &'a mut Output,
    pub now: Now,
}

impl Turn<'_> {
    /// Sets the deadline of `timer` to `after` from now.
    pub fn set(&mut self, timer: Timer, after: Duration) {
        self.timers.set(timer, self.now.monotonic.saturating_add(after));
    }

    /// Answers a JoinGroup.
    pub fn answer_join(&mut self, ticket: Ticket, response: join_group::Response) {
        self.output.answers.push((ticket, Answer::JoinGroup(response)));
    }

    /// Refuses a JoinGroup.
    pub fn refuse_join(&mut self, ticket: Ticket, member_id: Str, error_code: ErrorCode) {
        self.answer_join(ticket, refused(member_id, error_code));
    }
}

/// The answer to a JoinGroup that is refused. Null becomes the empty name in the versions that know no null.
pub(super) fn refused(member_id: Str, error_code: ErrorCode) -> join_group::Response {
    join_group::Response { member_id, error_code, protocol_name: None, ..Default::default() }
}

/// A classic group.
#[derive(Debug)]
pub(super) struct Group {
    pub id: Str,
    pub state: State,
    pub state_timestamp: Timestamp,
    pub generation: i32,
    pub protocol_type: Option<Str>,
    pub protocol: Option<Str>,
    pub leader: Option<Str>,
    /// The topics the members subscribe to, where that is known.
    pub subscribed_topics: Option<HashSet<Str>>,
    /// Members that are still to send their SyncGroup of this generation.
    pub owing_sync: BTreeSet<Str>,
    members: IndexMap<Str, Member>,
    /// The member behind each group instance id.
    static_members: HashMap<Str, Str>,
    /// Member ids handed out with MEMBER_ID_REQUIRED that have not come back yet.
    pending_members: HashSet<Str>,
    /// How many members' JoinGroups wait.
    joining: usize,
    /// How many members support each protocol.
    support: HashMap<Str, usize>,
}

impl Group {
    /// A group that nobody has heard of.
    pub fn new(id: Str, now: Now) -> Group {
        Group {
            id,
            state: State::Empty,
            state_timestamp: now.wall,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            subscribed_topics: None,
            owing_sync: BTreeSet::new(),
            members: IndexMap::new(),
            static_members: HashMap::new(),
            pending_members: HashSet::new(),
            joining: 0,
            support: HashMap::new(),
        }
    }

    /// The group as its last record has it: stable, or empty.
    pub fn from_record(id: Str, value: &group_metadata::Value, now: Now) -> Group {
        let mut group = Group::new(id, now);
        group.state_timestamp = value.current_state_timestamp;
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type.clone()).filter(|name| !name.is_empty());
        group.protocol = value.protocol.clone();
        let protocol = value.protocol.clone().unwrap_or_default();
        for member in &value.members {
            let rebalance_timeout_ms =
                if member.rebalance_timeout < 0 { member.session_timeout } else { member.rebalance_timeout };
            let loaded = Member {
                instance_id: member.group_instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout,
                protocols: vec![(protocol.clone(), member.subscription.clone())],
                assignment: member.assignment.clone(),
                joining: None,
                syncing: None,
                is_new: false,
            };
            group.add(member.member_id.clone(), loaded);
        }
        group.leader = value.leader.clone().or(group.leader);
        if !group.members.is_empty() {
            group.state = State::Stable;
        }
        group.subscribed_topics = group.read_subscriptions();
        group
    }

    /// The record that makes the group's present generation durable.
    pub fn record(&self) -> Record {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members.iter().map(|(member_id, member)| group_metadata::MemberMetadata {
            member_id: member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.metadata(&protocol),
            assignment: member.assignment.clone(),
        });
        let value = group_metadata::Value {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.state_timestamp,
            members: members.collect(),
        };
        record::group_metadata(&self.id, Some(value))
    }

    // ---- members ----

    pub fn members(&self) -> &IndexMap<Str, Member> {
        &self.members
    }

    pub fn member(&self, member_id: &str) -> Option<&Member> {
        self.members.get(member_id)
    }

    pub fn member_mut(&mut self, member_id: &str) -> Option<&mut Member> {
        self.members.get_mut(member_id)
    }

    pub fn members_mut(&mut self) -> impl Iterator<Item = (&Str, &mut Member)> {
        self.members.iter_mut()
    }

    pub fn static_member_id(&self, instance_id: &str) -> Option<&Str> {
        self.static_members.get(instance_id)
    }

    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_ref().is_some_and(|leader| leader == member_id)
    }

    pub fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|name| name == CONSUMER)
    }

    /// Whether nothing is left that a restart would lose.
    pub fn is_idle(&self) -> bool {
        self.members.is_empty() && self.pending_members.is_empty() && self.state == State::Empty
    }

    pub fn all_joined(&self) -> bool {
        self.members.len() == self.joining && self.pending_members.is_empty()
    }

    pub fn joining(&self) -> usize {
        self.joining
    }

    /// The longest rebalance timeout of all members.
    pub fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| duration_ms(member.rebalance_timeout_ms)).max().unwrap_or_default()
    }

    /// Checks who is asking: a fenced static member, an unknown member, or neither.
    pub fn check_member(&self, member_id: &str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if known != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether a member with these protocols can be in the group together with all others.
    pub fn supports(&self, protocol_type: &str, protocols: &[JoinGroupRequestProtocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_ref().is_some_and(|name| name == protocol_type)
            && protocols.iter().any(|p| self.support.get(&p.name).copied().unwrap_or(0) == self.members.len())
    }

    pub fn add(&mut self, member_id: Str, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member_id.clone());
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        count(&mut self.support, &member.protocols, 1);
        self.joining += usize::from(member.joining.is_some());
        self.pending_members.remove(&member_id);
        let previous = self.members.insert(member_id, member);
        assert!(previous.is_none(), "a member id is handed out once");
    }

    /// Takes a member out, or a client that was to become one, and makes another member the leader where it led.
    pub fn remove(&mut self, member_id: &str, turn: &mut Turn<'_>) -> Option<Member> {
        let member = self.members.swap_remove(member_id);
        if let Some(member) = &member {
            count(&mut self.support, &member.protocols, -1);
            self.joining -= usize::from(member.joining.is_some());
            if let Some(instance_id) = &member.instance_id {
                self.static_members.remove(instance_id);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.owing_sync.remove(member_id);
        if member.is_some() || self.pending_members.remove(member_id) {
            turn.timers.cancel(&self.session_timer(member_id));
        }
        member
    }

    /// Hands the place of a static member to its new incarnation, which inherits all but the parked requests.
    pub fn replace_static_member(&mut self, old_id: &str, new_id: Str) -> Option<Member> {
        let old = self.members.swap_remove(old_id)?;
        self.joining -= usize::from(old.joining.is_some());
        let new = Member { joining: None, syncing: None, is_new: false, ..old.clone() };
        if let Some(instance_id) = &new.instance_id {
            self.static_members.insert(instance_id.clone(), new_id.clone());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        if self.owing_sync.remove(old_id) {
            self.owing_sync.insert(new_id.clone());
        }
        self.members.insert(new_id, new);
        Some(old)
    }

    /// Takes over what a member's new JoinGroup says and parks that request.
    pub fn update(&mut self, member_id: &str, request: &join_group::Request, ticket: Ticket) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        count(&mut self.support, &member.protocols, -1);
        member.protocols = detach(&request.protocols);
        count(&mut self.support, &member.protocols, 1);
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        self.joining += usize::from(member.joining.replace(ticket).is_none());
    }

    /// Takes the parked JoinGroup of a member, to answer it.
    pub fn take_joining(&mut self, member_id: &str) -> Option<Ticket> {
        let ticket = self.members.get_mut(member_id)?.joining.take()?;
        self.joining -= 1;
        Some(ticket)
    }

    pub fn is_pending(&self, member_id: &str) -> bool {
        self.pending_members.contains(member_id)
    }

    pub fn pending_count(&self) -> usize {
        self.pending_members.len()
    }

    pub fn add_pending(&mut self, member_id: Str) {
        self.pending_members.insert(member_id);
    }

    // ---- protocol and subscriptions ----

    /// The protocol of the next generation: each member votes for the one it likes best of those that all support.
    pub fn select_protocol(&self) -> Option<Str> {
        let mut votes: IndexMap<&Str, usize> = IndexMap::new();
        for member in self.members.values() {
            let choice =
                member.protocols.iter().find(|(name, _)| self.support.get(name) == Some(&self.members.len()));
            if let Some((name, _)) = choice {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// The topics the members of a consumer group subscribe to; `None` where the coordinator cannot tell.
    pub fn read_subscriptions(&self) -> Option<HashSet<Str>> {
        if !self.is_consumer_group() {
            return None;
        }
        let Some(protocol) = &self.protocol else { return self.members.is_empty().then(HashSet::new) };
        let mut topics = HashSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(member.metadata(protocol))?);
        }
        Some(topics)
    }

    /// Whether offsets of `topic` are in use by a member, as far as that is known.
    pub fn is_subscribed_to(&self, topic: &Str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer_group(),
        }
    }

    // ---- answers and timers ----

    /// What a member is told once the group has its generation; the leader also gets the members.
    pub fn joined(&self, member_id: &Str) -> join_group::Response {
        join_group::Response {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.clone(),
            members: if self.is_leader(member_id) { self.joined_members() } else { Vec::new() },
            ..Default::default()
        }
    }

    fn joined_members(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members.iter().map(|(member_id, member)| JoinGroupResponseMember {
            member_id: member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(&protocol),
        });
        members.collect()
    }

    pub fn session_timer(&self, member_id: &str) -> Timer {
        Timer::Session(self.id.clone(), member_id.into())
    }

    /// Starts a member's session anew.
    pub fn restart_session(&self, member_id: &str, turn: &mut Turn<'_>) {
        if let Some((member_id, member)) = self.members.get_key_value(member_id) {
            turn.set(Timer::Session(self.id.clone(), member_id.clone()), member.session_timeout());
        }
    }

    pub fn cancel_timers(&self, timers: &mut Timers<Timer>) {
        timers.cancel(&Timer::Join(self.id.clone()));
        timers.cancel(&Timer::Sync(self.id.clone()));
        for member_id in self.members.keys().chain(&self.pending_members) {
            timers.cancel(&self.session_timer(member_id));
        }
    }

    pub fn enter(&mut self, state: State, now: Now) {
        self.state = state;
        self.state_timestamp = now.wall;
    }
}

/// The protocols of a request, each name once, copied out of its frame.
pub(super) fn detach(protocols: &[JoinGroupRequestProtocol]) -> Vec<(Str, Bytes)> {
    let mut seen = HashSet::new();
    let first = protocols.iter().filter(|p| seen.insert(&p.name));
    first.map(|p| (p.name.detached(), Bytes::copy_from_slice(&p.metadata))).collect()
}

/// Notes that one member more, or one fewer, supports `protocols`.
fn count(support: &mut HashMap<Str, usize>, protocols: &[(Str, Bytes)], by: isize) {
    for (name, _) in protocols {
        let supporters = support.entry(name.clone()).or_default();
        *supporters = supporters.checked_add_signed(by).expect("each member is counted once");
        if *supporters == 0 {
            support.remove(name);
        }
    }
}

/// A span from the wire; a negative one is none at all.
pub(super) fn duration_ms(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// The topics in a consumer's subscription, read as version 0, with which every later version begins.
fn subscribed_topics(subscription: Bytes) -> Option<Vec<Str>> {
    let mut reader = Reader::new(subscription);
    let _version = reader.int16();
    let subscription = consumer_protocol::Subscription::decode(&mut reader, 0).ok()?;
    Some(subscription.topics.iter().map(Str::detached).collect())
}

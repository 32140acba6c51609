//! The group coordinator: one machine for each partition of `__consumer_offsets`.
//!
//! Durable: the last generation of each classic group, committed offsets, offsets of open transactions ([`Record`]s). Session: members
//! that wait for a rebalance, and all deadlines. A group between two records, from the first join of a rebalance to the leader's sync,
//! is session state too. Groups without members live in durable state alone.
//!
//! Not here: whether a partition exists, who may do what, and everything of transactions but their offsets.

mod describe;
mod durable;
mod expiry;
mod group;
mod join;
mod membership;
mod offsets;
mod rebalance;
mod record;
#[cfg(test)]
mod script;
#[cfg(test)]
mod simulation;
mod timers;

use std::time::Duration;

use indexmap::IndexMap;
use oncelog_wire::{
    ErrorCode, Now, ProducerId, Str, delete_groups, heartbeat, join_group, leave_group, offset_commit,
    offset_delete, sync_group, txn_offset_commit,
};

pub use self::durable::Position;
pub use self::record::Record;

use self::durable::Durable;
use self::group::{Group, Turn};
use self::timers::Timers;

/// What can be configured. The defaults are Kafka's.
#[derive(Clone, Debug)]
pub struct Config {
    /// `offset.metadata.max.bytes`
    pub offset_metadata_max_bytes: usize,
    /// `group.min.session.timeout.ms`
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout: Duration,
    /// `group.max.size`
    pub max_size: usize,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay: Duration,
    /// `offsets.retention.minutes`
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval: Duration,
    /// What one record may hold, `message.max.bytes`: a member's metadata, or a group's members, must fit in.
    pub max_record_bytes: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            offset_metadata_max_bytes: 4096,
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(1800),
            max_size: i32::MAX as usize,
            initial_rebalance_delay: Duration::from_secs(3),
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            offsets_retention_check_interval: Duration::from_secs(600),
            max_record_bytes: 1_048_588,
        }
    }
}

/// Names a request that is yet to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Who sends a request, as its group record and DescribeGroups show it.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// The client id of the request's header.
    pub id: Str,
    /// The address, as Java prints one: `/127.0.0.1`.
    pub host: Str,
}

/// What the machine decides about. All requests with a ticket are answered, in the same [`Output`] but for joins and
/// syncs.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Event<'a> {
    /// The log was replayed; sessions start now.
    Loaded,
    /// `random` makes up a new member's id.
    JoinGroup {
        ticket: Ticket,
        version: i16,
        client: Client,
        random: [u8; 16],
        request: &'a join_group::Request,
    },
    SyncGroup {
        ticket: Ticket,
        request: &'a sync_group::Request,
    },
    Heartbeat {
        ticket: Ticket,
        request: &'a heartbeat::Request,
    },
    LeaveGroup {
        ticket: Ticket,
        version: i16,
        request: &'a leave_group::Request,
    },
    /// Only of partitions that exist, with the topics' names and ids at every version.
    OffsetCommit {
        ticket: Ticket,
        version: i16,
        request: &'a offset_commit::Request,
    },
    /// Only of partitions that exist, by a producer whose transaction has been verified. The records are to be
    /// appended as part of it.
    TxnOffsetCommit {
        ticket: Ticket,
        request: &'a txn_offset_commit::Request,
    },
    /// Only of partitions that exist.
    OffsetDelete {
        ticket: Ticket,
        request: &'a offset_delete::Request,
    },
    DeleteGroups {
        ticket: Ticket,
        group_ids: &'a [Str],
    },
    /// A topic is gone.
    TopicDeleted(&'a str),
    /// A deadline may have come.
    Tick,
}

macro_rules! answers {
    ($($kind:ident($response:ty),)*) => {
        /// The answer to a request.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Answer {
            $($kind($response),)*
        }

        $(impl TryFrom<Answer> for $response {
            type Error = Answer;

            fn try_from(answer: Answer) -> Result<$response, Answer> {
                match answer {
                    Answer::$kind(response) => Ok(response),
                    answer => Err(answer),
                }
            }
        })*
    };
}

answers! {
    JoinGroup(join_group::Response),
    SyncGroup(sync_group::Response),
    Heartbeat(heartbeat::Response),
    LeaveGroup(leave_group::Response),
    OffsetCommit(offset_commit::Response),
    TxnOffsetCommit(txn_offset_commit::Response),
    OffsetDelete(offset_delete::Response),
    DeleteGroups(delete_groups::Response),
}

/// What follows from a decision: first the records, to be appended and applied in order, then the answers.
///
/// Many records may be appended as several batches, cut anywhere.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// What is to be made durable.
    pub records: Vec<Record>,
    /// What clients are told after that.
    pub answers: Vec<(Ticket, Answer)>,
}

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    /// A member, or a client that was given a member id, is silent.
    Session(Str, Str),
    /// Members of a group do not join.
    Join(Str),
    /// Members of a group do not sync.
    Sync(Str),
    /// Offsets may have expired.
    Retention,
}

/// The coordinator of the groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct Coordinator {
    config: Config,
    durable: Durable,
    /// The groups that have members or are about to.
    groups: IndexMap<Str, Group>,
    timers: Timers<Timer>,
}

impl Coordinator {
    /// A machine whose log is empty, or is about to be replayed.
    pub fn new(config: Config) -> Coordinator {
        Coordinator { config, durable: Durable::default(), groups: IndexMap::new(), timers: Timers::new() }
    }

    /// Takes over a record that is in the log.
    pub fn apply(&mut self, record: &Record, position: Position) {
        self.durable.apply(record, position);
    }

    /// A transaction was committed: its COMMIT marker is in the log.
    pub fn apply_commit(&mut self, producer_id: ProducerId) {
        self.durable.end_transaction(producer_id, true);
    }

    /// A transaction was aborted: its ABORT marker is in the log.
    pub fn apply_abort(&mut self, producer_id: ProducerId) {
        self.durable.end_transaction(producer_id, false);
    }

    /// When to come back with [`Event::Tick`], on the monotonic clock; may be too early.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Decides what follows from an event.
    pub fn decide(&mut self, event: Event<'_>, now: Now) -> Output {
        let mut output = Output::default();
        let out = &mut output;
        let answer = match event {
            Event::Loaded => return self.loaded(now),
            Event::Tick => return self.tick(now),
            Event::TopicDeleted(topic) => {
                self.delete_topic(topic, out);
                return output;
            }
            Event::JoinGroup { ticket, version, client, random, request } => {
                self.join(join::Join { ticket, version, client, random, request }, out, now);
                return output;
            }
            Event::SyncGroup { ticket, request } => {
                self.sync(ticket, request, out, now);
                return output;
            }
            Event::Heartbeat { ticket, request } => {
                (ticket, Answer::Heartbeat(self.heartbeat(request, out, now)))
            }
            Event::LeaveGroup { ticket, version, request } => {
                (ticket, Answer::LeaveGroup(self.leave(version, request, out, now)))
            }
            Event::OffsetCommit { ticket, version, request } => {
                (ticket, Answer::OffsetCommit(self.commit(version, request, out, now)))
            }
            Event::TxnOffsetCommit { ticket, request } => {
                (ticket, Answer::TxnOffsetCommit(self.commit_in_transaction(request, out, now)))
            }
            Event::OffsetDelete { ticket, request } => {
                (ticket, Answer::OffsetDelete(self.delete_offsets(request, out)))
            }
            Event::DeleteGroups { ticket, group_ids } => {
                (ticket, Answer::DeleteGroups(self.delete_groups(group_ids, out)))
            }
        };
        output.answers.push(answer);
        output
    }

    fn loaded(&mut self, now: Now) -> Output {
        let mut output = Output::default();
        let with_members: Vec<Group> = self
            .durable
            .groups()
            .filter_map(|(group_id, durable)| Some((group_id, durable.metadata.as_ref()?)))
            .filter(|(_, metadata)| !metadata.members.is_empty())
            .map(|(group_id, metadata)| Group::from_record(group_id.clone(), metadata, now))
            .collect();
        for group in with_members {
            let group_id = group.id.clone();
            self.groups.insert(group_id.clone(), group);
            self.with_group(&group_id, &mut output, now, |group, turn| {
                for member_id in group.members().keys() {
                    group.restart_session(member_id, turn);
                }
                // `group.max.size` may be smaller than it was.
                if group.members().len() > turn.config.max_size {
                    group.prepare_rebalance(turn);
                }
            });
        }
        self.timers.set(
            Timer::Retention,
            now.monotonic.saturating_add(self.config.offsets_retention_check_interval),
        );
        output
    }

    fn tick(&mut self, now: Now) -> Output {
        let mut output = Output::default();
        while let Some(timer) = self.timers.pop_due(now.monotonic) {
            match timer {
                Timer::Session(group_id, member_id) => {
                    self.with_group(&group_id, &mut output, now, |group, turn| {
                        group.session_expired(&member_id, turn)
                    });
                }
                Timer::Join(group_id) => {
                    self.with_group(&group_id, &mut output, now, |group, turn| group.join_expired(turn));
                }
                Timer::Sync(group_id) => {
                    self.with_group(&group_id, &mut output, now, |group, turn| group.sync_expired(turn));
                }
                // Looks at durable state, so what was decided before must have been applied.
                Timer::Retention if !output.records.is_empty() => {
                    self.timers.set(Timer::Retention, now.monotonic);
                    break;
                }
                Timer::Retention => {
                    self.expire_offsets(&mut output, now);
                    let next = now.monotonic.saturating_add(self.config.offsets_retention_check_interval);
                    self.timers.set(Timer::Retention, next);
                    break;
                }
            }
        }
        output
    }

    fn join(&mut self, join: join::Join<'_>, output: &mut Output, now: Now) {
        let (ticket, request) = (join.ticket, join.request);
        let refuse = |output: &mut Output, error_code| {
            let response = group::refused(request.member_id.clone(), error_code);
            output.answers.push((ticket, Answer::JoinGroup(response)));
        };
        if request.group_id.is_empty() {
            return refuse(output, ErrorCode::InvalidGroupId);
        }
        let session_timeout = group::duration_ms(request.session_timeout_ms);
        if session_timeout < self.config.min_session_timeout
            || session_timeout > self.config.max_session_timeout
        {
            return refuse(output, ErrorCode::InvalidSessionTimeout);
        }
        let group_id = request.group_id.detached();
        let known = self.durable.group(&group_id);
        if known.is_none() && !request.member_id.is_empty() {
            return refuse(output, ErrorCode::UnknownMemberId);
        }
        let is_new = known.is_none();
        if !self.groups.contains_key(&group_id) {
            let group = match known.and_then(|durable| durable.metadata.as_ref()) {
                Some(metadata) => Group::from_record(group_id.clone(), metadata, now),
                None => Group::new(group_id.clone(), now),
            };
            self.groups.insert(group_id.clone(), group);
        }
        self.with_group(&group_id, output, now, |group, turn| {
            let records = turn.output.records.len();
            group.join(join, turn);
            if is_new && !group.is_idle() && turn.output.records.len() == records {
                turn.output.records.push(record::new_group(&group.id, group.state_timestamp));
            }
        });
    }

    fn sync(&mut self, ticket: Ticket, request: &sync_group::Request, output: &mut Output, now: Now) {
        let error_code =
            if request.group_id.is_empty() { ErrorCode::InvalidGroupId } else { ErrorCode::UnknownMemberId };
        let synced =
            self.with_group(&request.group_id, output, now, |group, turn| group.sync(ticket, request, turn));
        if synced.is_none() {
            let response = sync_group::Response { error_code, ..Default::default() };
            output.answers.push((ticket, Answer::SyncGroup(response)));
        }
    }

    fn heartbeat(
        &mut self,
        request: &heartbeat::Request,
        output: &mut Output,
        now: Now,
    ) -> heartbeat::Response {
        let alive =
            self.with_group(&request.group_id, output, now, |group, turn| group.heartbeat(request, turn));
        let error_code = match alive {
            _ if request.group_id.is_empty() => ErrorCode::InvalidGroupId,
            None => ErrorCode::UnknownMemberId,
            Some(result) => result.err().unwrap_or_default(),
        };
        heartbeat::Response { error_code, ..Default::default() }
    }

    fn leave(
        &mut self,
        version: i16,
        request: &leave_group::Request,
        output: &mut Output,
        now: Now,
    ) -> leave_group::Response {
        if request.group_id.is_empty() {
            return leave_group::Response { error_code: ErrorCode::InvalidGroupId, ..Default::default() };
        }
        let takes_many = version >= 3;
        let only =
            [leave_group::MemberIdentity { member_id: request.member_id.clone(), ..Default::default() }];
        let members = if takes_many { &request.members[..] } else { &only[..] };
        let results =
            self.with_group(&request.group_id, output, now, |group, turn| group.leave(members, turn));
        let results = results.unwrap_or_else(|| {
            members.iter().map(|member| membership::left(member, ErrorCode::UnknownMemberId)).collect()
        });
        if takes_many {
            return leave_group::Response { members: results, ..Default::default() };
        }
        let error_code = results.first().map(|result| result.error_code).unwrap_or_default();
        leave_group::Response { error_code, ..Default::default() }
    }

    fn delete_groups(&mut self, group_ids: &[Str], output: &mut Output) -> delete_groups::Response {
        let results = group_ids.iter().map(|group_id| delete_groups::DeletableGroupResult {
            group_id: group_id.clone(),
            error_code: self.delete_group(group_id, output),
        });
        delete_groups::Response { results: results.collect(), ..Default::default() }
    }

    /// Lets `act` change a group that has members or is about to, and forgets the session of one that has none left.
    fn with_group<R>(
        &mut self,
        group_id: &Str,
        output: &mut Output,
        now: Now,
        act: impl FnOnce(&mut Group, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(group_id)?;
        let mut turn = Turn { config: &self.config, timers: &mut self.timers, output, now };
        let result = act(group, &mut turn);
        if group.is_idle() {
            self.forget_group(group_id);
        }
        Some(result)
    }

    fn forget_group(&mut self, group_id: &Str) {
        let Some(group) = self.groups.swap_remove(group_id) else { return };
        group.cancel_timers(&mut self.timers);
    }
}

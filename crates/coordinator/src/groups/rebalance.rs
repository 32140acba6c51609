//! How a group gets from one generation to the next, and what happens to members that do not keep up.

use bytes::Bytes;
use oncelog_wire::{ErrorCode, Str, sync_group};

use super::group::{Group, InitialRebalance, Member, State, Turn};
use super::{Answer, Ticket, Timer};

impl Group {
    /// After a member was added or changed: begins a rebalance, or sees whether the one under way can complete.
    pub fn rebalance_or_complete_join(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::PreparingRebalance(_) => self.complete_join_if_ready(turn),
            _ => self.prepare_rebalance(turn),
        }
    }

    /// After a member went away.
    pub fn rebalance_without(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
            State::PreparingRebalance(_) => self.complete_join_if_ready(turn),
            State::Empty => {}
        }
    }

    /// Asks all members to join anew. Not for a group that is preparing already.
    pub fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::CompletingRebalance {
            self.fail_syncs(ErrorCode::RebalanceInProgress, turn);
        }
        self.owing_sync.clear();
        turn.timers.cancel(&Timer::Sync(self.id.clone()));
        if self.state != State::Empty {
            self.enter(State::PreparingRebalance(None), turn.now);
            if self.all_joined() {
                self.complete_join(turn);
            } else {
                turn.set(Timer::Join(self.id.clone()), self.rebalance_timeout());
            }
            return;
        }
        let delay = turn.config.initial_rebalance_delay;
        let remaining = self.rebalance_timeout().saturating_sub(delay);
        self.enter(
            State::PreparingRebalance(Some(InitialRebalance { delay, remaining, new_member_added: false })),
            turn.now,
        );
        if delay.is_zero() {
            self.complete_join(turn);
        } else {
            turn.set(Timer::Join(self.id.clone()), delay);
        }
    }

    /// Completes the rebalance if nobody is missing; an initial one waits for its timer.
    pub fn complete_join_if_ready(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::PreparingRebalance(None) && self.all_joined() {
            self.complete_join(turn);
        }
    }

    /// The wait for members is over, or may be extended if it is the first and members still arrive.
    pub fn join_expired(&mut self, turn: &mut Turn<'_>) {
        if let State::PreparingRebalance(Some(initial)) = &mut self.state
            && initial.new_member_added
            && !initial.remaining.is_zero()
        {
            let next = turn.config.initial_rebalance_delay.min(initial.remaining);
            *initial = InitialRebalance {
                delay: next,
                remaining: initial.remaining.saturating_sub(initial.delay),
                new_member_added: false,
            };
            return turn.set(Timer::Join(self.id.clone()), next);
        }
        if matches!(self.state, State::PreparingRebalance(_)) {
            self.complete_join(turn);
        }
    }

    /// Begins the next generation with those who joined.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        turn.timers.cancel(&Timer::Join(self.id.clone()));
        let is_gone = |member: &Member| member.joining.is_none() && member.instance_id.is_none();
        let gone: Vec<Str> =
            self.members().iter().filter(|(_, m)| is_gone(m)).map(|(id, _)| id.clone()).collect();
        for member_id in &gone {
            self.remove(member_id, turn);
        }
        if !self.members().is_empty() && !self.elect_leader() {
            // Only static members are left, and none has joined: they have until their sessions end.
            return turn.set(Timer::Join(self.id.clone()), self.rebalance_timeout());
        }
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.owing_sync.clear();
        self.protocol = self.select_protocol();
        self.subscribed_topics = self.read_subscriptions();
        if self.members().is_empty() {
            self.enter(State::Empty, turn.now);
            turn.output.records.push(self.record());
            return;
        }
        self.enter(State::CompletingRebalance, turn.now);
        let member_ids: Vec<Str> = self.members().keys().cloned().collect();
        for member_id in member_ids {
            if let Some(ticket) = self.take_joining(&member_id) {
                turn.answer_join(ticket, self.joined(&member_id));
            }
            self.restart_session(&member_id, turn);
            if let Some(member) = self.member_mut(&member_id) {
                member.is_new = false;
            }
            self.owing_sync.insert(member_id);
        }
        turn.set(Timer::Sync(self.id.clone()), self.rebalance_timeout());
    }

    /// Keeps the leader if it joined, or else takes the first member that did.
    fn elect_leader(&mut self) -> bool {
        let joined = |member: &Member| member.joining.is_some();
        if self.leader.as_ref().and_then(|leader| self.member(leader)).is_some_and(joined) {
            return true;
        }
        let Some((member_id, _)) = self.members().iter().find(|(_, member)| joined(member)) else {
            return false;
        };
        self.leader = Some(member_id.clone());
        true
    }

    /// Members that have not asked for their assignment in time are taken out, and the rest starts over.
    pub fn sync_expired(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.owing_sync.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.owing_sync) {
            self.remove(&member_id, turn);
        }
        self.prepare_rebalance(turn);
    }

    /// A member, or a client that was to become one, has not been heard of for too long.
    pub fn session_expired(&mut self, member_id: &Str, turn: &mut Turn<'_>) {
        let Some(member) = self.member(member_id) else {
            self.remove(member_id, turn);
            return self.complete_join_if_ready(turn);
        };
        // One whose request waits here is not expected to send heartbeats; its session starts anew with the answer.
        if member.is_new || (member.joining.is_none() && member.syncing.is_none()) {
            self.dismiss(member_id, turn);
            self.rebalance_without(turn);
        }
    }

    /// Takes a member out and tells its waiting requests.
    pub fn dismiss(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        let Some(member) = self.remove(member_id, turn) else { return };
        if let Some(ticket) = member.joining {
            turn.refuse_join(ticket, Str::EMPTY, ErrorCode::UnknownMemberId);
        }
        if let Some(ticket) = member.syncing {
            refuse_sync(ticket, ErrorCode::UnknownMemberId, turn);
        }
    }

    /// Drops the assignments and answers all waiting SyncGroups with an error.
    pub fn fail_syncs(&mut self, error_code: ErrorCode, turn: &mut Turn<'_>) {
        self.answer_syncs(turn, |member| {
            member.assignment = Bytes::new();
            sync_group::Response { error_code, ..Default::default() }
        });
    }

    /// Answers all waiting SyncGroups and starts those members' sessions anew.
    pub fn answer_syncs(
        &mut self,
        turn: &mut Turn<'_>,
        response: impl Fn(&mut Member) -> sync_group::Response,
    ) {
        let mut answered = Vec::new();
        for (member_id, member) in self.members_mut() {
            let response = response(member);
            if let Some(ticket) = member.syncing.take() {
                turn.output.answers.push((ticket, Answer::SyncGroup(response)));
                answered.push(member_id.clone());
            }
        }
        for member_id in answered {
            self.restart_session(&member_id, turn);
        }
    }
}

/// Tells the waiting requests of a static member's earlier incarnation that it was replaced.
pub(super) fn fence(member_id: &Str, old: &Member, turn: &mut Turn<'_>) {
    if let Some(ticket) = old.joining {
        turn.refuse_join(ticket, member_id.clone(), ErrorCode::FencedInstanceId);
    }
    if let Some(ticket) = old.syncing {
        refuse_sync(ticket, ErrorCode::FencedInstanceId, turn);
    }
}

/// Refuses a SyncGroup.
pub(super) fn refuse_sync(ticket: Ticket, error_code: ErrorCode, turn: &mut Turn<'_>) {
    let response = sync_group::Response { error_code, ..Default::default() };
    turn.output.answers.push((ticket, Answer::SyncGroup(response)));
}

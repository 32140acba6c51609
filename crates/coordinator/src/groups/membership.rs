//! SyncGroup, Heartbeat and LeaveGroup: what members do between two joins.

use std::collections::HashMap;

use bytes::Bytes;
use oncelog_wire::leave_group::{MemberIdentity, MemberResponse};
use oncelog_wire::{ErrorCode, Str, heartbeat, sync_group};

use super::group::{Group, State, Turn};
use super::rebalance::refuse_sync;
use super::{Answer, Ticket, Timer};

/// What a member takes in the group's record besides its ids, its subscription and its assignment.
const MEMBER_RECORD_BYTES: usize = 32;

impl Group {
    /// Hands out assignments: at once in a stable group, else when the leader's arrives.
    pub fn sync(&mut self, ticket: Ticket, request: &sync_group::Request, turn: &mut Turn<'_>) {
        if let Err(error_code) = self.check_sync(request) {
            return refuse_sync(ticket, error_code, turn);
        }
        if self.owing_sync.remove(&request.member_id) && self.owing_sync.is_empty() {
            turn.timers.cancel(&Timer::Sync(self.id.clone()));
        }
        let is_stable = self.state == State::Stable;
        let Some(member) = self.member_mut(&request.member_id) else {
            return refuse_sync(ticket, ErrorCode::UnknownMemberId, turn);
        };
        if is_stable {
            let assignment = member.assignment.clone();
            return turn.output.answers.push((ticket, Answer::SyncGroup(self.synced(assignment))));
        }
        member.syncing = Some(ticket);
        if self.is_leader(&request.member_id) {
            self.assign(request, turn);
        }
    }

    fn check_sync(&self, request: &sync_group::Request) -> Result<(), ErrorCode> {
        let differs =
            |given: &Option<Str>, ours: &Option<Str>| given.is_some() && ours.is_some() && given != ours;
        self.check_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance(_) => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// Takes the leader's assignment: one record, and then the answers to all who wait for it.
    fn assign(&mut self, request: &sync_group::Request, turn: &mut Turn<'_>) {
        let given: HashMap<&Str, &Bytes> =
            request.assignments.iter().map(|a| (&a.member_id, &a.assignment)).collect();
        for (member_id, member) in self.members_mut() {
            member.assignment =
                given.get(member_id).map(|bytes| Bytes::copy_from_slice(bytes)).unwrap_or_default();
        }
        if self.record_bytes() > turn.config.max_record_bytes {
            tracing::warn!(group = %self.id, members = self.members().len(), "the group's record would be too large");
            self.fail_syncs(ErrorCode::UnknownServerError, turn);
            return self.prepare_rebalance(turn);
        }
        self.enter(State::Stable, turn.now);
        turn.output.records.push(self.record());
        let synced = self.synced(Bytes::new());
        self.answer_syncs(turn, |member| sync_group::Response {
            assignment: member.assignment.clone(),
            ..synced.clone()
        });
    }

    fn record_bytes(&self) -> usize {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members().iter().map(|(member_id, member)| {
            MEMBER_RECORD_BYTES
                + member_id.len()
                + member.instance_id.as_ref().map_or(0, |id| id.len())
                + member.client_id.len()
                + member.client_host.len()
                + member.metadata(&protocol).len()
                + member.assignment.len()
        });
        members.sum()
    }

    fn synced(&self, assignment: Bytes) -> sync_group::Response {
        sync_group::Response {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment,
            ..Default::default()
        }
    }

    /// Keeps a member's session alive and tells it whether to join anew.
    pub fn heartbeat(&mut self, request: &heartbeat::Request, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.restart_session(&request.member_id, turn);
        match self.state {
            State::PreparingRebalance(_) => Err(ErrorCode::RebalanceInProgress),
            State::Empty | State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// Takes members out at their own wish, or at an administrator's who names their instance ids.
    pub fn leave(&mut self, members: &[MemberIdentity], turn: &mut Turn<'_>) -> Vec<MemberResponse> {
        let results: Vec<_> = members.iter().map(|member| self.leave_one(member, turn)).collect();
        if results.iter().any(|result| result.error_code == ErrorCode::None) {
            self.rebalance_without(turn);
        }
        results
    }

    fn leave_one(&mut self, member: &MemberIdentity, turn: &mut Turn<'_>) -> MemberResponse {
        let instance_id = member.group_instance_id.as_ref();
        let leaving = if member.member_id.is_empty() {
            instance_id.and_then(|id| self.static_member_id(id)).cloned().ok_or(ErrorCode::UnknownMemberId)
        } else if self.is_pending(&member.member_id) {
            Ok(member.member_id.clone())
        } else {
            self.check_member(&member.member_id, instance_id).map(|()| member.member_id.clone())
        };
        if let Ok(member_id) = &leaving {
            self.dismiss(member_id, turn);
        }
        left(member, leaving.err().unwrap_or_default())
    }
}

/// What became of one member that wanted to leave.
pub(super) fn left(member: &MemberIdentity, error_code: ErrorCode) -> MemberResponse {
    MemberResponse {
        member_id: member.member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        error_code,
    }
}

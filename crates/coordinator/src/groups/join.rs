//! JoinGroup: who may be a member, and under which id (KIP-394, KIP-345, KIP-814).

use std::time::Duration;

use oncelog_wire::join_group::Request;
use oncelog_wire::{ErrorCode, Str};

use super::group::{Group, Member, State, Turn, detach, duration_ms};
use super::rebalance::fence;
use super::{Client, Ticket};

/// How long a new member's JoinGroup may wait: until it is answered the client has no id to send heartbeats with, so one that went
/// away is only found out by this.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Member ids that may be handed out for one group without a client coming back with them; they cost memory until their session
/// timeout, and no group starts this many members at once.
const MAX_PENDING_MEMBERS: usize = 10_000;

/// The first version whose clients bring back the member id they were given (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// The first version whose clients understand `skip_assignment` (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// A JoinGroup and where it came from.
pub(super) struct Join<'a> {
    pub ticket: Ticket,
    pub version: i16,
    pub client: Client,
    pub random: [u8; 16],
    pub request: &'a Request,
}

impl Group {
    /// Lets a client in, or says why not.
    pub fn join(&mut self, join: Join<'_>, turn: &mut Turn<'_>) {
        let Join { ticket, request, .. } = join;
        let is_unknown = request.member_id.is_empty();
        if !self.has_room_for(&request.member_id, turn.config.max_size) {
            self.remove(&request.member_id, turn);
            turn.refuse_join(ticket, Str::EMPTY, ErrorCode::GroupMaxSizeReached);
            return self.complete_join_if_ready(turn);
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return turn.refuse_join(ticket, request.member_id.clone(), ErrorCode::InconsistentGroupProtocol);
        }
        if metadata_bytes(request) > turn.config.max_record_bytes {
            return turn.refuse_join(ticket, request.member_id.clone(), ErrorCode::MessageTooLarge);
        }
        match &request.group_instance_id {
            _ if !is_unknown => self.join_known(join, turn),
            Some(instance_id) => match self.static_member_id(instance_id).cloned() {
                Some(old_id) => self.join_instead_of(old_id, join, turn),
                None => {
                    let member_id = new_member_id(instance_id, join.random);
                    self.add_joining(member_id, join, turn);
                }
            },
            None => {
                let member_id = new_member_id(&join.client.id, join.random);
                if join.version >= MEMBER_ID_REQUIRED_FROM {
                    self.hand_out(member_id, &join, turn);
                } else {
                    self.add_joining(member_id, join, turn);
                }
            }
        }
    }

    fn has_room_for(&self, member_id: &str, max_size: usize) -> bool {
        match self.state {
            State::Empty => true,
            // Those that wait are counted here, so that the last to rejoin a group over its size are the ones left out.
            State::PreparingRebalance(_) => {
                self.member(member_id).is_some_and(|member| member.joining.is_some())
                    || self.joining() < max_size
            }
            State::CompletingRebalance | State::Stable => {
                self.member(member_id).is_some() || self.members().len() < max_size
            }
        }
    }

    /// Answers a new dynamic member with the id it is to come back with.
    fn hand_out(&mut self, member_id: Str, join: &Join<'_>, turn: &mut Turn<'_>) {
        if self.pending_count() >= MAX_PENDING_MEMBERS {
            return turn.refuse_join(join.ticket, Str::EMPTY, ErrorCode::GroupMaxSizeReached);
        }
        self.add_pending(member_id.clone());
        turn.set(self.session_timer(&member_id), duration_ms(join.request.session_timeout_ms));
        turn.refuse_join(join.ticket, member_id, ErrorCode::MemberIdRequired);
    }

    fn add_joining(&mut self, member_id: Str, join: Join<'_>, turn: &mut Turn<'_>) {
        let Join { ticket, client, request, .. } = join;
        if self.members().is_empty() {
            self.protocol_type = Some(request.protocol_type.detached());
        }
        if let State::PreparingRebalance(Some(initial)) = &mut self.state {
            initial.new_member_added = true;
        }
        let member = Member {
            instance_id: request.group_instance_id.as_ref().map(Str::detached),
            client_id: client.id.detached(),
            client_host: client.host.detached(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: detach(&request.protocols),
            assignment: Default::default(),
            joining: Some(ticket),
            syncing: None,
            is_new: true,
        };
        turn.set(self.session_timer(&member_id), NEW_MEMBER_JOIN_TIMEOUT);
        self.add(member_id, member);
        self.rebalance_or_complete_join(turn);
    }

    /// A client that brings a member id.
    fn join_known(&mut self, join: Join<'_>, turn: &mut Turn<'_>) {
        let member_id = join.request.member_id.detached();
        if self.is_pending(&member_id) && join.request.group_instance_id.is_none() {
            return self.add_joining(member_id, join, turn);
        }
        let Join { ticket, request, .. } = join;
        if let Err(error_code) = self.check_member(&member_id, request.group_instance_id.as_ref()) {
            return turn.refuse_join(ticket, member_id, error_code);
        }
        let is_unchanged = self.member(&member_id).is_some_and(|member| member.matches(&request.protocols));
        match self.state {
            // The client may not have received the answer to its first join.
            State::CompletingRebalance if is_unchanged => turn.answer_join(ticket, self.joined(&member_id)),
            // A leader that joins again asks for a rebalance, say because a topic has more partitions now.
            State::Stable if is_unchanged && !self.is_leader(&member_id) => {
                turn.answer_join(ticket, self.joined(&member_id));
            }
            _ => {
                self.update(&member_id, request, ticket);
                self.rebalance_or_complete_join(turn);
            }
        }
    }

    /// A static member that comes back without its member id takes the place of what it was before.
    fn join_instead_of(&mut self, old_id: Str, join: Join<'_>, turn: &mut Turn<'_>) {
        let Join { ticket, version, request, random, .. } = join;
        let instance_id = request.group_instance_id.clone().unwrap_or_default();
        let member_id = new_member_id(&instance_id, random);
        let old_leader = self.leader.clone();
        turn.timers.cancel(&self.session_timer(&old_id));
        if let Some(old) = self.replace_static_member(&old_id, member_id.clone()) {
            fence(&old_id, &old, turn);
        }
        self.update(&member_id, request, ticket);
        self.restart_session(&member_id, turn);
        if self.state != State::Stable {
            // A leader at work may already have been told of the old id, so it has to start over.
            return match self.state {
                State::CompletingRebalance => self.prepare_rebalance(turn),
                _ => self.complete_join_if_ready(turn),
            };
        }
        if self.select_protocol() != self.protocol {
            return self.rebalance_or_complete_join(turn);
        }
        // The assignment stands, and the member has it with its next SyncGroup.
        turn.output.records.push(self.record());
        self.take_joining(&member_id);
        let mut response = self.joined(&member_id);
        if version >= SKIP_ASSIGNMENT_FROM {
            response.skip_assignment = self.is_leader(&member_id);
        } else {
            // With the old id as the leader's the client does not take itself for the leader, and makes no assignment.
            response.leader = old_leader.unwrap_or_default();
            response.members.clear();
        }
        turn.answer_join(ticket, response);
    }
}

fn metadata_bytes(request: &Request) -> usize {
    request.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum()
}

/// `prefix-` and a random UUID as Java prints it.
fn new_member_id(prefix: &str, random: [u8; 16]) -> Str {
    let id = u128::from_be_bytes(oncelog_wire::Uuid::from_random(random).0);
    let part = |from: u32, bits: u32| (id >> from) & ((1 << bits) - 1);
    Str::from(format!(
        "{prefix}-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 32),
        part(80, 16),
        part(64, 16),
        part(48, 16),
        part(0, 48)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_id_is_the_prefix_and_a_uuid_as_java_prints_it() {
        let random =
            [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        assert_eq!(
            new_member_id("consumer-1", random).as_str(),
            "consumer-1-12345678-9abc-4ef0-8123-456789abcdef"
        );
    }
}

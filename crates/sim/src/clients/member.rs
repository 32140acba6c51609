//! Copiers that share the work as members of a group (KIP-447): whoever lost its partitions in a rebalance, and does not
//! know it yet, is fenced by its generation when it commits its offsets.

use bytes::Bytes;
use oncelog_wire::{ErrorCode, Str, TopicPartition, heartbeat, join_group, leave_group, sync_group};

use super::Client;
use super::copier::{BY_MEMBERS, Copied, Copying, committed_offset};
use super::transactional::{Failed, Generation, Transactional};
use crate::history::ORDERS;
use crate::life::ORDERS_PARTITIONS;
use crate::world::Phase;

const SESSION_TIMEOUT_MS: i32 = 6_000;
/// Shorter than a client waits for an answer.
const REBALANCE_TIMEOUT_MS: i32 = 2_000;

/// Copies what it is assigned until there is nothing left to copy at the end of the world, or it is taken for dead.
pub async fn run(client: Client, id: String, generation: Generation) {
    let name = format!("{}/group", client.name);
    let mut member = Member {
        client: Client::new(&client.world, name),
        member_id: Str::default(),
        generation_id: -1,
        partitions: Vec::new(),
    };
    let Ok(mut producer) = Transactional::new(client, &id, generation).await else { return };
    loop {
        member.join().await;
        match copy_assigned(&mut member, &mut producer).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(_) => return,
        }
    }
    // Otherwise the session ends by itself.
    if member.client.world.one_in(2) {
        member.leave().await;
    }
}

/// Copies until the partitions are somebody else's, or, at the end of the world, copied; says whether they are.
async fn copy_assigned(member: &mut Member, producer: &mut Transactional) -> Result<bool, Failed> {
    let mut copyings = Vec::new();
    for &partition in &member.partitions {
        let input = TopicPartition::new(ORDERS, partition);
        let position = committed_offset(&mut member.client, BY_MEMBERS.group, &input).await;
        let position = position.ok_or(Failed::Instance)?;
        let identity = (member.member_id.clone(), member.generation_id);
        copyings.push(Copying { pipeline: BY_MEMBERS, input, position, member: identity });
    }
    loop {
        let mut is_done = member.client.phase() == Phase::Draining;
        for copying in &mut copyings {
            match copying.copy_some(producer).await? {
                Copied::Failed => return Ok(false),
                Copied::Some => is_done = false,
                Copied::Nothing => {}
            }
        }
        if is_done {
            return Ok(true);
        }
        if !member.is_member().await {
            return Ok(false);
        }
        if copyings.is_empty() {
            member.client.world.sleep_within(100..1_000).await;
        }
    }
}

struct Member {
    client: Client,
    member_id: Str,
    generation_id: i32,
    partitions: Vec<i32>,
}

impl Member {
    /// Becomes a member of the newest generation, and is assigned partitions.
    async fn join(&mut self) {
        loop {
            if let Some(joined) = self.try_join().await
                && self.sync(&joined).await
            {
                let (generation_id, partitions) = (self.generation_id, &self.partitions);
                return self.client.note(format_args!("has {partitions:?} in generation {generation_id}"));
            }
            self.client.back_off().await;
        }
    }

    async fn try_join(&mut self) -> Option<join_group::Response> {
        let protocol =
            join_group::JoinGroupRequestProtocol { name: "fair".into(), metadata: Bytes::from_static(b"-") };
        let request = join_group::Request {
            group_id: BY_MEMBERS.group.into(),
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: self.member_id.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        let answer = self.client.try_once(7, &request).await.ok()?;
        match answer.error_code {
            ErrorCode::None => {
                self.member_id = answer.member_id.clone();
                self.generation_id = answer.generation_id;
                return Some(answer);
            }
            ErrorCode::MemberIdRequired => self.member_id = answer.member_id,
            code => self.has_lost_membership(code),
        }
        None
    }

    async fn sync(&mut self, joined: &join_group::Response) -> bool {
        let mut request = sync_group::Request {
            group_id: BY_MEMBERS.group.into(),
            generation_id: self.generation_id,
            member_id: self.member_id.clone(),
            protocol_type: joined.protocol_type.clone(),
            protocol_name: joined.protocol_name.clone(),
            ..Default::default()
        };
        if joined.leader == self.member_id {
            let count = joined.members.len().max(1) as i32;
            let assign = |(at, member): (i32, &join_group::JoinGroupResponseMember)| {
                let partitions = (0..ORDERS_PARTITIONS).filter(|partition| partition % count == at);
                let assignment = partitions.map(|partition| partition as u8).collect::<Vec<_>>().into();
                sync_group::SyncGroupRequestAssignment { member_id: member.member_id.clone(), assignment }
            };
            request.assignments = (0..).zip(&joined.members).map(assign).collect();
        }
        let Ok(answer) = self.client.try_once(5, &request).await else { return false };
        if answer.error_code.is_error() {
            self.has_lost_membership(answer.error_code);
            return false;
        }
        self.partitions = answer.assignment.iter().map(|partition| i32::from(*partition)).collect();
        true
    }

    /// Sends a heartbeat; says whether the generation is still the newest, as far as is known.
    async fn is_member(&mut self) -> bool {
        let request = heartbeat::Request {
            group_id: BY_MEMBERS.group.into(),
            generation_id: self.generation_id,
            member_id: self.member_id.clone(),
            ..Default::default()
        };
        match self.client.try_once(4, &request).await.map(|answer| answer.error_code) {
            Ok(ErrorCode::None) | Err(_) => true,
            Ok(code) => {
                self.has_lost_membership(code);
                false
            }
        }
    }

    fn has_lost_membership(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::UnknownMemberId => self.member_id = Str::default(),
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => {}
            code => {
                self.client.may_pass(code);
            }
        }
    }

    async fn leave(&mut self) {
        let member = leave_group::MemberIdentity {
            member_id: self.member_id.clone(),
            group_instance_id: None,
            ..Default::default()
        };
        let request = leave_group::Request {
            group_id: BY_MEMBERS.group.into(),
            members: vec![member],
            ..Default::default()
        };
        // If that is lost, the session ends by itself.
        let _ = self.client.try_once(5, &request).await;
    }
}

//! Groups through a whole node: members wait for each other, offsets are stored for partitions that exist, and both
//! survive.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use oncelog_node::{Connection, Reply, Wait};
use oncelog_wire::*;

use crate::crashes::ObservedDisk;
use crate::world::{START, World};

/// A request whose answer has to wait.
struct Waiting<R> {
    wait: Box<dyn Wait>,
    version: i16,
    request: PhantomData<R>,
}

impl<R: Request> Waiting<R> {
    fn answer(&mut self, world: &World) -> Option<R::Response> {
        let chunks = self.wait.poll(&world.node, world.now)?;
        Some(decode_response::<R>(self.version, gather(chunks).slice(4..)).unwrap().1)
    }
}

fn gather(chunks: Vec<Chunk>) -> Bytes {
    let mut bytes = BytesMut::new();
    for chunk in chunks {
        let Chunk::Bytes(more) = chunk else { panic!("{chunk:?}") };
        bytes.extend_from_slice(&more);
    }
    bytes.freeze()
}

impl World {
    fn begin<R: Request>(&mut self, version: i16, request: R) -> Waiting<R> {
        let header = RequestHeader {
            api_key: R::KEY,
            api_version: version,
            correlation_id: 7,
            client_id: Some("client".into()),
        };
        let frame = gather(encode_request(&header, &request, &mut Writer::new()));
        let connection = Connection {
            id: 2,
            client_host: "/127.0.0.1".into(),
            listener: "PLAINTEXT".into(),
            advertised_host: "localhost".into(),
            advertised_port: 9092,
        };
        match self.node.handle(&connection, frame.slice(4..), self.now) {
            Reply::Wait(wait) => Waiting { wait, version, request: PhantomData },
            _ => panic!("the answer does not wait"),
        }
    }

    fn member_id(&mut self) -> Str {
        let response = self.ask(9, join("", "consumer"));
        assert_eq!(response.error_code, ErrorCode::MemberIdRequired);
        response.member_id
    }

    fn heartbeat(&mut self, member_id: &Str, generation_id: i32) -> ErrorCode {
        let member_id = member_id.clone();
        let request =
            heartbeat::Request { group_id: GROUP, generation_id, member_id, group_instance_id: None };
        self.ask(4, request).error_code
    }

    /// A stable group of one.
    fn member(&mut self) -> Str {
        let member_id = self.member_id();
        let mut joining = self.begin(9, join(&member_id, "consumer"));
        self.wait(Duration::from_secs(3));
        let joined = joining.answer(self).unwrap();
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::None, 1));
        let synced = self.ask(5, sync(&member_id, 1, &[(&member_id, "all of it")]));
        assert_eq!(synced.assignment, "all of it");
        member_id
    }

    fn topic_id(&mut self, name: &str) -> Uuid {
        let topic = metadata::MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        self.ask(13, metadata::Request { topics: Some(vec![topic]), ..Default::default() }).topics[0].topic_id
    }
}

const GROUP: Str = Str::from_static("readers");

fn join(member_id: &str, protocol_type: &str) -> join_group::Request {
    let protocol = join_group::JoinGroupRequestProtocol { name: "range".into(), metadata: "m".into() };
    join_group::Request {
        group_id: GROUP,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id: member_id.into(),
        protocol_type: protocol_type.into(),
        protocols: vec![protocol],
        ..Default::default()
    }
}

fn sync(member_id: &Str, generation_id: i32, assignments: &[(&Str, &'static str)]) -> sync_group::Request {
    let assignment = |&(member_id, assignment): &(&Str, &'static str)| {
        sync_group::SyncGroupRequestAssignment { member_id: member_id.clone(), assignment: assignment.into() }
    };
    sync_group::Request {
        group_id: GROUP,
        generation_id,
        member_id: member_id.clone(),
        group_instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments.iter().map(assignment).collect(),
    }
}

/// A commit for `index` of a topic, named as `version` has it.
fn commit(topic: &str, topic_id: Uuid, indexes: &[i32]) -> offset_commit::Request {
    let partition = |&partition_index: &i32| offset_commit::OffsetCommitRequestPartition {
        partition_index,
        committed_offset: Offset(5),
        committed_leader_epoch: LeaderEpoch(2),
        committed_metadata: Some("note".into()),
    };
    let topic = offset_commit::OffsetCommitRequestTopic {
        name: topic.into(),
        topic_id,
        partitions: indexes.iter().map(partition).collect(),
    };
    offset_commit::Request { group_id: GROUP, topics: vec![topic], ..Default::default() }
}

fn errors(response: &offset_commit::Response) -> Vec<(i32, ErrorCode)> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| (partition.partition_index, partition.error_code)).collect()
}

#[test]
fn members_wait_for_each_other_and_for_the_leaders_assignment() {
    let mut world = World::new("");
    let (first, second) = (world.member_id(), world.member_id());
    assert!(first.len() == "-".len() + 36 && first != second, "{first}");
    let mut first_joining = world.begin(9, join(&first, "consumer"));
    let mut second_joining = world.begin(9, join(&second, "consumer"));
    assert!(first_joining.answer(&world).is_none());
    world.wait(Duration::from_secs(6));
    let joined = first_joining.answer(&world).unwrap();
    assert_eq!((joined.generation_id, joined.members.len()), (1, 2));
    assert_eq!(joined.leader, first);
    assert!(second_joining.answer(&world).unwrap().members.is_empty());

    let mut second_syncing = world.begin(5, sync(&second, 1, &[]));
    assert_eq!(world.ask(5, sync(&first, 1, &[(&first, "p0"), (&second, "p1")])).assignment, "p0");
    assert_eq!(second_syncing.answer(&world).unwrap().assignment, "p1");
    assert_eq!(world.heartbeat(&second, 1), ErrorCode::None);

    let request = describe_groups::Request { groups: vec![GROUP], include_authorized_operations: true };
    let described = world.ask(6, request).groups.remove(0);
    assert_eq!((described.group_state.as_str(), described.members.len()), ("Stable", 2));
    assert_eq!(described.members[0].client_id, "client");
    assert_eq!(described.members[0].client_host, "/127.0.0.1");
    assert_eq!(described.authorized_operations, 3400);

    // The session of the first ends, and the second is to join anew.
    world.wait(Duration::from_secs(5));
    assert_eq!(world.heartbeat(&second, 1), ErrorCode::None);
    world.wait(Duration::from_secs(6));
    assert_eq!(world.heartbeat(&second, 1), ErrorCode::RebalanceInProgress);
    assert_eq!(world.heartbeat(&first, 1), ErrorCode::UnknownMemberId);
}

#[test]
fn a_waiting_client_that_goes_away_disturbs_nobody() {
    let mut world = World::new("");
    let (first, second) = (world.member_id(), world.member_id());
    drop(world.begin(9, join(&first, "consumer")));
    let mut second_joining = world.begin(9, join(&second, "consumer"));
    world.wait(Duration::from_secs(6));
    assert_eq!(second_joining.answer(&world).unwrap().generation_id, 1);
}

#[test]
fn a_sync_that_does_not_name_its_protocol_is_refused_from_version_5_on() {
    let mut world = World::new("");
    let member_id = world.member();
    let request = sync_group::Request { protocol_name: None, ..sync(&member_id, 1, &[]) };
    assert_eq!(world.ask(5, request.clone()).error_code, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(world.ask(4, request).error_code, ErrorCode::None);
}

#[test]
fn a_group_and_its_offsets_survive_a_kill() {
    let mut world = World::new("");
    world.create_topics();
    let member_id = world.member();
    let request = offset_commit::Request {
        member_id: member_id.clone(),
        generation_id_or_member_epoch: 1,
        ..commit("orders", Uuid::ZERO, &[0])
    };
    assert_eq!(errors(&world.ask(9, request)), [(0, ErrorCode::None)]);
    world.wait(Duration::from_secs(9));
    let mut restarted = world.after_a_kill();
    assert_eq!(restarted.stored(), Ok(5));
    restarted.wait(Duration::from_secs(9));
    assert_eq!(restarted.heartbeat(&member_id, 1), ErrorCode::None);
    assert_eq!(restarted.ask(5, sync(&member_id, 1, &[])).assignment, "all of it");
    restarted.wait(Duration::from_secs(10));
    assert_eq!(restarted.heartbeat(&member_id, 1), ErrorCode::UnknownMemberId);
}

#[test]
fn offsets_are_stored_for_partitions_that_exist_and_refused_for_others() {
    let mut world = World::new("");
    world.create_topics();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(
        errors(&world.ask(9, commit("orders", Uuid::ZERO, &[7, 0, -1]))),
        [(0, ErrorCode::None), (7, unknown), (-1, unknown)]
    );
    assert_eq!(errors(&world.ask(9, commit("none", Uuid::ZERO, &[0]))), [(0, unknown)]);

    // From version 10 on, topics go by their ids.
    let id = world.topic_id("orders");
    let response = world.ask(10, commit("", id, &[1, 9]));
    assert_eq!(errors(&response), [(1, ErrorCode::None), (9, unknown)]);
    assert_eq!(response.topics[0].topic_id, id);
    assert_eq!(errors(&world.ask(10, commit("", Uuid([7; 16]), &[0]))), [(0, ErrorCode::UnknownTopicId)]);
}

#[test]
fn offsets_are_told_in_the_form_of_each_version() {
    let mut world = World::new("");
    world.create_topics();
    world.ask(9, commit("orders", Uuid::ZERO, &[0]));
    for version in 1..=7 {
        let topic =
            offset_fetch::OffsetFetchRequestTopic { name: "orders".into(), partition_indexes: vec![0, 1] };
        let request =
            offset_fetch::Request { group_id: GROUP, topics: Some(vec![topic]), ..Default::default() };
        let response = world.ask(version, request);
        let [first, second] = &response.topics[0].partitions[..] else { panic!("{response:?}") };
        assert_eq!((first.committed_offset, first.metadata.clone()), (Offset(5), Some("note".into())));
        let has_epoch = version >= 5;
        assert_eq!(first.committed_leader_epoch, LeaderEpoch(if has_epoch { 2 } else { -1 }));
        assert_eq!((second.committed_offset, second.error_code), (Offset::NONE, ErrorCode::None));
    }
    let id = world.topic_id("orders");
    for version in 8..=10 {
        let topic = |name: &str, topic_id| offset_fetch::OffsetFetchRequestTopics {
            name: name.into(),
            topic_id,
            partition_indexes: vec![0],
        };
        let topics = vec![topic("orders", id), topic("none", Uuid([7; 16]))];
        let group = |group_id: &str, topics| offset_fetch::OffsetFetchRequestGroup {
            group_id: group_id.into(),
            topics,
            ..Default::default()
        };
        let groups = vec![group(&GROUP, Some(topics)), group(&GROUP, None), group("others", None)];
        let response = world.ask(version, offset_fetch::Request { groups, ..Default::default() });
        let [some, all, others] = &response.groups[..] else { panic!("{response:?}") };
        assert_eq!(some.topics[0].partitions[0].committed_offset, Offset(5));
        let unknown = if version >= 10 { ErrorCode::UnknownTopicId } else { ErrorCode::None };
        assert_eq!(some.topics[1].partitions[0].error_code, unknown);
        assert_eq!(all.topics.len(), 1);
        assert_eq!(all.topics[0].topic_id, if version >= 10 { id } else { Uuid::ZERO });
        assert!(others.topics.is_empty() && !others.error_code.is_error());
    }
}

#[test]
fn offsets_of_a_deleted_topic_are_gone() {
    let mut world = World::new("");
    world.create_topics();
    world.ask(9, commit("orders", Uuid::ZERO, &[0]));
    assert_eq!(world.stored(), Ok(5));
    let topic = delete_topics::DeleteTopicState { name: Some("orders".into()), ..Default::default() };
    world.ask(6, delete_topics::Request { topics: vec![topic], ..Default::default() });
    world.create_topics();
    assert_eq!(world.stored(), Ok(-1));
    assert_eq!(world.after_a_kill().stored(), Ok(-1));
}

#[test]
fn groups_are_listed_and_deleted_once_they_are_empty() {
    let mut world = World::new("");
    world.create_topics();
    let member_id = world.member();
    let listed = |world: &mut World| {
        let listed = world.ask(5, list_groups::Request::default());
        let group =
            |group: &list_groups::ListedGroup| (group.group_id.to_string(), group.group_state.to_string());
        listed.groups.iter().map(group).collect::<Vec<_>>()
    };
    assert_eq!(listed(&mut world), [("readers".into(), "Stable".into())]);
    let delete = |world: &mut World| {
        let request = delete_groups::Request { groups_names: vec![GROUP, "none".into(), GROUP] };
        let results = world.ask(2, request).results;
        results.iter().map(|result| result.error_code).collect::<Vec<_>>()
    };
    assert_eq!(delete(&mut world), [ErrorCode::NonEmptyGroup, ErrorCode::GroupIdNotFound]);
    let member = leave_group::MemberIdentity { member_id, ..Default::default() };
    let request = leave_group::Request { group_id: GROUP, members: vec![member], ..Default::default() };
    assert_eq!(world.ask(5, request).members[0].error_code, ErrorCode::None);
    world.ask(9, commit("orders", Uuid::ZERO, &[0, 1]));

    let partition = |partition_index| offset_delete::OffsetDeleteRequestPartition { partition_index };
    let topic = offset_delete::OffsetDeleteRequestTopic {
        name: "orders".into(),
        partitions: vec![partition(0), partition(9)],
    };
    let deleted = world.ask(0, offset_delete::Request { group_id: GROUP, topics: vec![topic] });
    let codes: Vec<_> = deleted.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(world.stored(), Ok(-1));

    assert_eq!(delete(&mut world), [ErrorCode::None, ErrorCode::GroupIdNotFound]);
    assert!(listed(&mut world).is_empty());
    assert!(listed(&mut world.after_a_kill()).is_empty());
}

#[test]
fn a_coordinator_that_cannot_write_tells_those_who_wait_and_recovers() {
    let disk = ObservedDisk::default();
    let mut world = World::on_disk(Arc::new(disk.clone()), START);
    world.create_topics();
    let member_id = world.member();
    assert_eq!(errors(&world.ask(9, commit("orders", Uuid::ZERO, &[0]))), [(0, ErrorCode::UnknownMemberId)]);
    let joins = [world.member_id(), world.member_id()];
    let mut joining = joins.map(|member_id| world.begin(9, join(&member_id, "consumer")));

    // The hash of the group's id.
    disk.refuse(Some("__consumer_offsets-28"));
    let request = offset_commit::Request {
        member_id: member_id.clone(),
        generation_id_or_member_epoch: 1,
        ..commit("orders", Uuid::ZERO, &[0])
    };
    assert_eq!(errors(&world.ask(9, request.clone())), [(0, ErrorCode::NotCoordinator)]);
    for joining in &mut joining {
        assert_eq!(joining.answer(&world).unwrap().error_code, ErrorCode::NotCoordinator);
    }
    assert_eq!(errors(&world.ask(9, request.clone())), [(0, ErrorCode::CoordinatorLoadInProgress)]);
    // A member need not know.
    assert_eq!(world.heartbeat(&member_id, 1), ErrorCode::None);

    disk.refuse(None);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.heartbeat(&member_id, 1), ErrorCode::None);
    assert_eq!(errors(&world.ask(9, request)), [(0, ErrorCode::None)]);
    assert_eq!(world.stored(), Ok(5));
}

//! Groups and their offsets, also those that wait for a transaction, and joins of every odd kind.

use std::time::Duration;

use bytes::Bytes;
use oncelog_broker::{Broker, Config};
use oncelog_client::{Client, Isolation, TransactionVersion};
use oncelog_tests::requests::{self, Transactor, fetch_offset, find_group, settled};
use oncelog_tests::{Witness, address, client, eventually, is_ours, topic, unique};
use oncelog_wire::{
    ErrorCode, Offset, describe_groups, heartbeat, join_group, leave_group, offset_commit, sync_group,
    txn_offset_commit,
};

use TransactionVersion::{V1, V2};

const BOTH: [TransactionVersion; 2] = [V1, V2];

/// A group with a coordinator that is up.
fn group(client: &mut Client) -> String {
    let group = unique("group");
    find_group(client, &group);
    client.commit_offset(&group, &topic(1), 0, Offset(0)).unwrap();
    group
}

fn commit(client: &mut Client, group: &str, topic: &str, offset: i64) {
    client.commit_offset(group, topic, 0, Offset(offset)).unwrap();
}

fn committed(client: &mut Client, group: &str, topic: &str) -> i64 {
    let mut offset = -1;
    eventually("the offset is stable", || {
        let (code, found) = fetch_offset(client, group, topic, true).unwrap();
        offset = found;
        code == ErrorCode::None
    });
    offset
}

#[test]
fn an_offset_in_a_transaction_counts_when_that_commits() {
    for version in BOTH {
        for outcome in [true, false] {
            let topic = topic(1);
            let mut producer = Transactor::new(version);
            let group = group(&mut producer.client);
            assert_eq!(fetch_offset(&mut client(), &group, &topic, true).unwrap(), (ErrorCode::None, -1));
            commit(&mut producer.client, &group, &topic, 3);
            assert_eq!(producer.commit_offset(&group, &topic, 7), ErrorCode::None);
            assert_eq!(producer.commit_offset(&group, &topic, 8), ErrorCode::None);
            let client = &mut producer.client;
            assert_eq!(
                fetch_offset(client, &group, &topic, true).unwrap(),
                (ErrorCode::UnstableOffsetCommit, -1)
            );
            assert_eq!(fetch_offset(client, &group, &topic, false).unwrap(), (ErrorCode::None, 3));
            assert_eq!(producer.end(outcome), ErrorCode::None);
            if is_ours() {
                let now = fetch_offset(&mut producer.client, &group, &topic, true).unwrap();
                assert_eq!(now.0, ErrorCode::None, "the answer came before the end");
            }
            assert_eq!(committed(&mut producer.client, &group, &topic), if outcome { 8 } else { 3 });
        }
    }
}

#[test]
fn of_two_commits_the_one_that_was_written_later_wins() {
    for version in BOTH {
        let topic = topic(1);
        let (mut first, mut second) = (Transactor::new(version), Transactor::new(version));
        let group = group(&mut first.client);
        // A plain commit after that of the transaction stays, whenever the transaction ends.
        assert_eq!(first.commit_offset(&group, &topic, 10), ErrorCode::None);
        commit(&mut second.client, &group, &topic, 20);
        assert_eq!(first.end(true), ErrorCode::None);
        assert_eq!(committed(&mut first.client, &group, &topic), 20);
        // Between two transactions it is the same.
        assert_eq!(first.commit_offset(&group, &topic, 30), ErrorCode::None);
        assert_eq!(second.commit_offset(&group, &topic, 40), ErrorCode::None);
        assert_eq!(second.end(true), ErrorCode::None);
        assert_eq!(
            fetch_offset(&mut first.client, &group, &topic, true).unwrap().0,
            ErrorCode::UnstableOffsetCommit
        );
        assert_eq!(first.end(true), ErrorCode::None);
        assert_eq!(committed(&mut first.client, &group, &topic), 40);
        // And an abort takes back only its own.
        assert_eq!(first.commit_offset(&group, &topic, 50), ErrorCode::None);
        assert_eq!(second.commit_offset(&group, &topic, 60), ErrorCode::None);
        assert_eq!(second.end(false), ErrorCode::None);
        assert_eq!(first.end(true), ErrorCode::None);
        assert_eq!(committed(&mut first.client, &group, &topic), 50);
    }
}

#[test]
fn records_and_offsets_of_a_transaction_count_together() {
    for version in BOTH {
        let (source, target) = (topic(1), topic(1));
        let mut producer = Transactor::new(version);
        let group = group(&mut producer.client);
        for round in 1..=4 {
            let sequence = if version == V1 { round - 1 } else { 0 };
            assert_eq!(producer.write(&target, 0, sequence, 1), ErrorCode::None);
            assert_eq!(producer.commit_offset(&group, &source, round.into()), ErrorCode::None);
            assert_eq!(producer.end(round % 2 == 0), ErrorCode::None);
            let expected = if round < 2 { -1 } else { i64::from(round / 2 * 2) };
            assert_eq!(committed(&mut producer.client, &group, &source), expected);
            eventually("the records are stable", || {
                let (high_watermark, last_stable_offset) =
                    requests::watermarks(&mut producer.client, &target, 0);
                high_watermark == last_stable_offset
            });
            let seen = producer.client.values(&target, 0, Isolation::ReadCommitted).unwrap();
            assert_eq!(seen.len() as i32, round / 2);
        }
    }
}

#[test]
fn an_offset_of_a_topic_that_is_deleted_is_waited_for_by_nobody() {
    let (doomed, kept) = (topic(1), topic(1));
    let mut producer = Transactor::new(V2);
    let group = group(&mut producer.client);
    assert_eq!(producer.commit_offset(&group, &doomed, 5), ErrorCode::None);
    assert_eq!(producer.commit_offset(&group, &kept, 6), ErrorCode::None);
    client().delete_topic(&doomed).unwrap();
    assert_eq!(producer.end(true), ErrorCode::None);
    assert_eq!(committed(&mut producer.client, &group, &kept), 6);
    let mut client = client();
    eventually("the topic can be made again", || client.create_topic(&doomed, 1).is_ok());
    oncelog_tests::await_topic(&mut client, &doomed, 1);
    assert_eq!(committed(&mut client, &group, &doomed), -1);
}

#[test]
fn offsets_that_nobody_may_commit_are_refused_one_by_one() {
    let (mut client, topic) = (client(), topic(1));
    let group = group(&mut client);
    let topic_id = client.topic_id(&topic).unwrap();
    let partition = |partition_index, metadata: usize| offset_commit::OffsetCommitRequestPartition {
        partition_index,
        committed_offset: Offset(1),
        committed_metadata: Some("m".repeat(metadata).into()),
        ..Default::default()
    };
    let request = offset_commit::Request {
        group_id: group.as_str().into(),
        topics: vec![offset_commit::OffsetCommitRequestTopic {
            name: topic.as_str().into(),
            topic_id,
            partitions: vec![partition(0, 4096), partition(1, 0), partition(-1, 0)],
        }],
        ..Default::default()
    };
    for version in [9, 10] {
        let answer = client.call_up_to(&request, version).unwrap();
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let mut codes: Vec<_> =
            partitions.map(|partition| (partition.partition_index, partition.error_code)).collect();
        codes.sort();
        let unknown = ErrorCode::UnknownTopicOrPartition;
        assert_eq!(codes, [(-1, unknown), (0, ErrorCode::None), (1, unknown)]);
    }
    let mut large = request.clone();
    large.topics[0].partitions = vec![partition(0, 4097)];
    let answer = client.call(&large).unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::OffsetMetadataTooLarge);
    let mut nameless = request.clone();
    nameless.group_id = "".into();
    nameless.topics[0].partitions.truncate(1);
    let answer = client.call(&nameless).unwrap();
    assert_eq!(
        answer.topics[0].partitions[0].error_code,
        ErrorCode::None,
        "old clients may call a group nothing"
    );
}

fn join(group: &str, member_id: &str, session_timeout_ms: i32) -> join_group::Request {
    join_group::Request {
        group_id: group.into(),
        session_timeout_ms,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(&[0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        }],
        ..Default::default()
    }
}

/// Joins as the client of a version does that is told its member id first; gives the member id and the generation.
fn become_member(client: &mut Client, group: &str) -> (String, i32) {
    let first = client.call(&join(group, "", 10_000)).unwrap();
    assert_eq!(first.error_code, ErrorCode::MemberIdRequired);
    let joined = client.call(&join(group, &first.member_id, 10_000)).unwrap();
    assert_eq!(joined.error_code, ErrorCode::None);
    assert_eq!(joined.leader, joined.member_id);
    let synced = client
        .call(&sync_group::Request {
            group_id: group.into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: vec![sync_group::SyncGroupRequestAssignment {
                member_id: joined.member_id.clone(),
                assignment: Bytes::from_static(b"all of it"),
            }],
            ..Default::default()
        })
        .unwrap();
    assert_eq!((synced.error_code, &synced.assignment[..]), (ErrorCode::None, &b"all of it"[..]));
    (joined.member_id.to_string(), joined.generation_id)
}

fn beat(client: &mut Client, group: &str, member_id: &str, generation_id: i32) -> ErrorCode {
    let request = heartbeat::Request {
        group_id: group.into(),
        member_id: member_id.into(),
        generation_id,
        ..Default::default()
    };
    client.call(&request).unwrap().error_code
}

#[test]
fn a_join_that_makes_no_sense_is_refused() {
    let mut witness = Witness::of(address());
    let mut client = client();
    let group = group(&mut client);
    let mut code = |request: join_group::Request| client.call(&request).unwrap().error_code;
    for timeout in [0, -1, i32::MIN, i32::MAX, 5_999, 1_800_001] {
        assert_eq!(code(join(&group, "", timeout)), ErrorCode::InvalidSessionTimeout, "{timeout}");
    }
    assert_eq!(code(join("", "", 10_000)), ErrorCode::InvalidGroupId);
    assert_eq!(code(join(&group, "nobody", 10_000)), ErrorCode::UnknownMemberId);
    let nothing = join_group::Request { protocols: vec![], ..join(&group, "", 10_000) };
    assert_eq!(code(nothing), ErrorCode::InconsistentGroupProtocol);
    let typeless = join_group::Request { protocol_type: "".into(), ..join(&group, "", 10_000) };
    assert_eq!(code(typeless), ErrorCode::InconsistentGroupProtocol);
    witness.is_served();
}

#[test]
fn a_member_of_ten_megabytes_gets_in_nobodys_way() {
    let mut witness = Witness::of(address());
    let mut client = client();
    let group = group(&mut client);
    let mut request = join(&group, "", 10_000);
    request.protocols[0].metadata = Bytes::from(vec![7; 10 << 20]);
    // No record of the group could hold it. (Kafka lets it in and never answers.)
    if is_ours() {
        assert!(client.call(&request).unwrap().error_code.is_error());
    }
    witness.is_served();
}

#[test]
fn only_members_of_the_generation_are_heard() {
    let mut client = client();
    let topic = topic(1);
    let group = group(&mut client);
    let (member_id, generation) = become_member(&mut client, &group);
    assert_eq!(beat(&mut client, &group, &member_id, generation), ErrorCode::None);
    assert_eq!(beat(&mut client, &group, &member_id, generation + 1), ErrorCode::IllegalGeneration);
    assert_eq!(beat(&mut client, &group, "nobody", generation), ErrorCode::UnknownMemberId);
    let topic_id = client.topic_id(&topic).unwrap();
    let mut commit = |member_id: &str, generation| {
        let request = offset_commit::Request {
            group_id: group.as_str().into(),
            generation_id_or_member_epoch: generation,
            member_id: member_id.into(),
            topics: vec![offset_commit::OffsetCommitRequestTopic {
                name: topic.as_str().into(),
                topic_id,
                partitions: vec![offset_commit::OffsetCommitRequestPartition {
                    committed_offset: Offset(4),
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        client.call(&request).unwrap().topics[0].partitions[0].error_code
    };
    assert_eq!(commit(&member_id, generation), ErrorCode::None);
    assert_eq!(commit(&member_id, generation - 1), ErrorCode::IllegalGeneration);
    assert_eq!(commit("nobody", generation), ErrorCode::UnknownMemberId);
    assert_eq!(commit("", -1), ErrorCode::UnknownMemberId, "a group with members is not to be meddled with");
    let leave = leave_group::Request {
        group_id: group.as_str().into(),
        members: vec![leave_group::MemberIdentity {
            member_id: member_id.as_str().into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(client.call(&leave).unwrap().members[0].error_code, ErrorCode::None);
    assert_eq!(client.call(&leave).unwrap().members[0].error_code, ErrorCode::UnknownMemberId);
    assert_eq!(beat(&mut client, &group, &member_id, generation), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_was_replaced_commits_no_offsets_in_a_transaction() {
    for version in BOTH {
        let topic = topic(1);
        let mut producer = Transactor::new(version);
        let group = group(&mut producer.client);
        let (member_id, generation) = become_member(&mut producer.client, &group);
        if version == V1 {
            let identity = producer.identity;
            let added = settled(|| {
                requests::add_offsets(&mut producer.client, &producer.id, identity, &group).unwrap()
            });
            assert_eq!(added, ErrorCode::None);
        }
        let newest = requests::newest_versions(version).1;
        let mut commit = |member_id: &str, generation_id| {
            let request = txn_offset_commit::Request {
                transactional_id: producer.id.as_str().into(),
                group_id: group.as_str().into(),
                producer_id: producer.identity.0,
                producer_epoch: producer.identity.1,
                generation_id,
                member_id: member_id.into(),
                topics: vec![txn_offset_commit::TxnOffsetCommitRequestTopic {
                    name: topic.as_str().into(),
                    partitions: vec![txn_offset_commit::TxnOffsetCommitRequestPartition {
                        committed_offset: Offset(4),
                        ..Default::default()
                    }],
                }],
                ..Default::default()
            };
            producer.client.call_up_to(&request, newest).unwrap().topics[0].partitions[0].error_code
        };
        assert_eq!(commit(&member_id, generation - 1), ErrorCode::IllegalGeneration);
        assert_eq!(commit(&member_id, generation + 1), ErrorCode::IllegalGeneration);
        assert_eq!(commit("nobody", generation), ErrorCode::UnknownMemberId);
        assert_eq!(commit(&member_id, generation), ErrorCode::None);
        assert_eq!(producer.end(true), ErrorCode::None);
        assert_eq!(committed(&mut producer.client, &group, &topic), 4);
    }
}

#[test]
fn a_member_that_falls_silent_is_taken_out() {
    let broker =
        Broker::start(Config::ephemeral().with("group.min.session.timeout.ms", "1").unwrap()).unwrap();
    let mut client = Client::connect(broker.address(), "tests").unwrap();
    let first = client.call(&join("group", "", 1_000)).unwrap();
    let joined = client.call(&join("group", &first.member_id, 1_000)).unwrap();
    assert_eq!(joined.error_code, ErrorCode::None);
    let mut state = || {
        let request = describe_groups::Request { groups: vec!["group".into()], ..Default::default() };
        client.call(&request).unwrap().groups[0].group_state.to_string()
    };
    assert_eq!(state(), "CompletingRebalance");
    eventually("the member is gone", || state() == "Empty");
}

#[test]
fn a_group_takes_no_more_than_group_max_size() {
    let broker = Broker::start(Config::ephemeral().with("group.max.size", "1").unwrap()).unwrap();
    let mut client = Client::connect(broker.address(), "tests").unwrap();
    let (member_id, generation) = become_member(&mut client, "full");
    let answer = client.call(&join("full", "", 10_000)).unwrap();
    assert_eq!(answer.error_code, ErrorCode::GroupMaxSizeReached);
    assert_eq!(beat(&mut client, "full", &member_id, generation), ErrorCode::None);
}

#[test]
fn a_group_may_be_called_anything_of_up_to_32767_bytes() {
    let (mut client, topic) = (client(), topic(1));
    client.set_retry_for(Duration::from_secs(10));
    for (at, name) in
        ["g".repeat(32_767).as_str(), "../../etc", "a\0b", "\n", " ", "💥"].into_iter().enumerate()
    {
        commit(&mut client, name, &topic, at as i64);
        assert_eq!(committed(&mut client, name, &topic), at as i64, "{at}");
        let request = describe_groups::Request { groups: vec![name.into()], ..Default::default() };
        assert_eq!(client.call(&request).unwrap().groups[0].group_state, "Empty");
    }
}

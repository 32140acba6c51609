//! Creating, changing and deleting topics with every odd argument.

use oncelog_client::Client;
use oncelog_tests::requests::{creatable, create, find_group, metadata_code};
use oncelog_tests::{Witness, address, client, eventually, topic, unique};
use oncelog_wire::{ErrorCode, create_partitions, create_topics, delete_topics};

/// The names of all topics.
fn names(client: &mut Client) -> Vec<String> {
    let answer =
        client.call(&oncelog_wire::metadata::Request { topics: None, ..Default::default() }).unwrap();
    answer.topics.iter().filter_map(|topic| Some(topic.name.as_ref()?.to_string())).collect()
}

#[test]
fn a_name_that_no_directory_could_have_is_refused() {
    let mut witness = Witness::of(address());
    let mut client = client();
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a/b", "../x", "a\0b", "a b", "é", "a\\b", "a:b", "💥", long.as_str(), "%2e"]
    {
        let code = create(&mut client, creatable(name, 1)).unwrap();
        assert_eq!(code, ErrorCode::InvalidTopicException, "{name:?}");
        let code = metadata_code(&mut client, name, true).unwrap();
        assert_eq!(code, ErrorCode::InvalidTopicException, "{name:?} by metadata");
    }
    let prefix = unique("long");
    let longest = format!("{prefix}{}", "x".repeat(249 - prefix.len()));
    assert_eq!(create(&mut client, creatable(&longest, 1)).unwrap(), ErrorCode::None);
    oncelog_tests::await_topic(&mut client, &longest, 1);
    client.produce_values(&longest, 0, ["x"]).unwrap();
    client.delete_topic(&longest).unwrap();
    let all = names(&mut client);
    assert!(all.iter().all(|name| name.len() <= 249 && !name.contains(['/', ' '])));
    witness.is_served();
}

#[test]
fn names_that_differ_in_dots_and_underscores_only_collide() {
    let mut client = client();
    let name = unique("a.b_c");
    assert_eq!(create(&mut client, creatable(&name, 1)).unwrap(), ErrorCode::None);
    for other in [name.replace('.', "_"), name.replace('_', ".")] {
        assert_eq!(
            create(&mut client, creatable(&other, 1)).unwrap(),
            ErrorCode::InvalidTopicException,
            "{other}"
        );
    }
    assert_eq!(create(&mut client, creatable(&name, 1)).unwrap(), ErrorCode::TopicAlreadyExists);
}

#[test]
fn the_brokers_own_topics_are_there_and_nobody_elses() {
    let mut client = client();
    find_group(&mut client, "any");
    eventually("the internal topic is there", || {
        create(&mut client, creatable("__consumer_offsets", 1)).unwrap() == ErrorCode::TopicAlreadyExists
    });
    let described = client.describe_topic("__consumer_offsets").unwrap();
    assert!(described.is_internal);
    assert_eq!(described.partitions.len(), 50);
}

#[test]
fn counts_and_assignments_that_cannot_be_are_refused() {
    let mut witness = Witness::of(address());
    let mut client = client();
    let name = unique("refused");
    for (partitions, code) in [
        (0, ErrorCode::InvalidPartitions),
        (-2, ErrorCode::InvalidPartitions),
        (i32::MIN, ErrorCode::InvalidPartitions),
    ] {
        assert_eq!(create(&mut client, creatable(&name, partitions)).unwrap(), code, "{partitions}");
    }
    let most = create(&mut client, creatable(&name, i32::MAX)).unwrap();
    assert!(most.is_error(), "{most}");
    for replication_factor in [0, -2, -5, 2, i16::MAX] {
        let topic = create_topics::CreatableTopic { replication_factor, ..creatable(&name, 1) };
        let code = create(&mut client, topic).unwrap();
        assert_eq!(code, ErrorCode::InvalidReplicationFactor, "{replication_factor}");
    }
    let assigned =
        |num_partitions, replication_factor, assignments: &[(i32, &[i32])]| create_topics::CreatableTopic {
            num_partitions,
            replication_factor,
            assignments: assignments
                .iter()
                .map(|(partition_index, broker_ids)| create_topics::CreatableReplicaAssignment {
                    partition_index: *partition_index,
                    broker_ids: broker_ids.to_vec(),
                })
                .collect(),
            ..creatable(&name, 1)
        };
    let invalid = ErrorCode::InvalidReplicaAssignment;
    for (what, topic, code) in [
        ("with counts", assigned(1, 1, &[(0, &[1])]), ErrorCode::InvalidRequest),
        ("a gap", assigned(-1, -1, &[(0, &[1]), (2, &[1])]), invalid),
        ("not from 0", assigned(-1, -1, &[(1, &[1])]), invalid),
        ("negative", assigned(-1, -1, &[(-1, &[1])]), invalid),
        ("no such broker", assigned(-1, -1, &[(0, &[77])]), invalid),
        ("a broker twice", assigned(-1, -1, &[(0, &[1, 1])]), invalid),
        ("no broker", assigned(-1, -1, &[(0, &[])]), invalid),
    ] {
        assert_eq!(create(&mut client, topic).unwrap(), code, "{what}");
    }
    assert!(!names(&mut client).contains(&name));
    witness.is_served();
}

#[test]
fn no_request_makes_more_partitions_than_a_broker_can_bear() {
    let mut client = client();
    let name = unique("huge");
    for partitions in [10_001, 1_000_000, i32::MAX] {
        let code = create(&mut client, creatable(&name, partitions)).unwrap();
        assert_eq!(code, ErrorCode::PolicyViolation, "{partitions}");
    }
    let many = (0..101).map(|at| creatable(&format!("{name}-{at}"), 100)).collect();
    let request = create_topics::Request { topics: many, timeout_ms: 5_000, ..Default::default() };
    let answer = client.call(&request).unwrap();
    let refused: Vec<_> = answer.topics.iter().filter(|topic| topic.error_code.is_error()).collect();
    assert!(
        !refused.is_empty() && refused.iter().all(|topic| topic.error_code == ErrorCode::PolicyViolation)
    );
    let made = names(&mut client).iter().filter(|made| made.starts_with(&name)).count();
    assert_eq!(made, answer.topics.len() - refused.len());
}

#[test]
fn configs_that_make_no_sense_are_refused_and_nothing_is_created() {
    let mut client = client();
    let name = unique("refused");
    for (key, value) in [
        ("no.such.key", Some("1")),
        ("retention.ms", Some("soon")),
        ("retention.ms", Some("-2")),
        ("cleanup.policy", Some("shred")),
        ("segment.bytes", Some("0")),
        ("max.message.bytes", Some("-1")),
        ("compression.type", Some("rar")),
        ("min.insync.replicas", Some("0")),
        ("retention.ms", None),
    ] {
        let config = create_topics::CreatableTopicConfig { name: key.into(), value: value.map(Into::into) };
        let topic = create_topics::CreatableTopic { configs: vec![config], ..creatable(&name, 1) };
        assert_eq!(create(&mut client, topic).unwrap(), ErrorCode::InvalidConfig, "{key}={value:?}");
    }
    assert!(!names(&mut client).contains(&name));
}

#[test]
fn a_topic_named_twice_in_a_request_is_not_created() {
    let mut client = client();
    let (twice, once) = (unique("twice"), unique("once"));
    let request = create_topics::Request {
        topics: vec![creatable(&twice, 1), creatable(&once, 1), creatable(&twice, 2)],
        timeout_ms: 5000,
        ..Default::default()
    };
    let answer = client.call(&request).unwrap();
    let mut codes: Vec<_> =
        answer.topics.iter().map(|topic| (topic.name.to_string(), topic.error_code)).collect();
    codes.sort();
    assert_eq!(codes, [(once.clone(), ErrorCode::None), (twice.clone(), ErrorCode::InvalidRequest)]);
    let rehearsal = create_topics::Request { validate_only: true, ..request };
    let rehearsal = create_topics::Request { topics: vec![creatable(&twice, 1)], ..rehearsal };
    assert_eq!(client.call(&rehearsal).unwrap().topics[0].error_code, ErrorCode::None);
    assert!(!names(&mut client).contains(&twice), "to validate is not to create");
}

#[test]
fn a_topic_is_created_by_asking_for_it_only_if_the_client_lets_it() {
    let mut client = client();
    let name = unique("auto");
    assert_eq!(metadata_code(&mut client, &name, false).unwrap(), ErrorCode::UnknownTopicOrPartition);
    assert!(!names(&mut client).contains(&name));
    eventually("it is created", || metadata_code(&mut client, &name, true).unwrap() == ErrorCode::None);
    oncelog_tests::await_topic(&mut client, &name, 1);
    client.produce_values(&name, 0, ["x"]).unwrap();
}

#[test]
fn partitions_only_grow() {
    let mut client = client();
    let name = topic(2);
    let mut grow = |name: &str, count| {
        let request = create_partitions::Request {
            topics: vec![create_partitions::CreatePartitionsTopic {
                name: name.into(),
                count,
                assignments: None,
            }],
            timeout_ms: 5000,
            ..Default::default()
        };
        client.call(&request).unwrap().results[0].error_code
    };
    for count in [2, 1, 0, -1, i32::MIN] {
        assert_eq!(grow(&name, count), ErrorCode::InvalidPartitions, "{count}");
    }
    assert!(grow(&name, i32::MAX).is_error());
    assert_eq!(grow(&unique("no-such-topic"), 3), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(grow(&name, 3), ErrorCode::None);
    eventually("there are three", || {
        client.describe_topic(&name).is_ok_and(|topic| topic.partitions.len() == 3)
    });
}

#[test]
fn what_does_not_exist_cannot_be_deleted() {
    let mut client = client();
    let kept = topic(1);
    let kept_id = client.topic_id(&kept).unwrap();
    let mut delete = |topics| {
        let request = delete_topics::Request { topics, timeout_ms: 5000, ..Default::default() };
        let mut codes: Vec<_> =
            client.call(&request).unwrap().responses.iter().map(|topic| topic.error_code).collect();
        codes.sort();
        codes
    };
    let named =
        |name: &str| delete_topics::DeleteTopicState { name: Some(name.into()), ..Default::default() };
    let unknown =
        delete_topics::DeleteTopicState { topic_id: oncelog_wire::Uuid([9; 16]), ..Default::default() };
    assert_eq!(delete(vec![named(&unique("no-such-topic"))]), [ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(delete(vec![named("../../etc")]), [ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(delete(vec![unknown.clone()]), [ErrorCode::UnknownTopicId]);
    let both = delete_topics::DeleteTopicState { topic_id: kept_id, ..named(&kept) };
    assert_eq!(delete(vec![both]), [ErrorCode::InvalidRequest]);
    assert_eq!(delete(vec![named(&kept)]), [ErrorCode::None]);
    assert_eq!(delete(vec![named(&kept)]), [ErrorCode::UnknownTopicOrPartition]);
}

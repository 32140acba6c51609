//! Topics and configs through a whole node: what is decided is stored, seen by everyone, and survives.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use oncelog_records::BatchBuilder;
use oncelog_wire::*;

use crate::world::World;

const TOPIC: i8 = 2;

impl World {
    fn create(&self, name: &str, num_partitions: i32, configs: &[(&str, &str)]) -> ErrorCode {
        let config = |&(name, value): &(&str, &str)| create_topics::CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        };
        let topic = create_topics::CreatableTopic {
            name: name.into(),
            num_partitions,
            replication_factor: -1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request = create_topics::Request { topics: vec![topic], ..Default::default() };
        self.ask(7, request).topics[0].error_code
    }

    fn delete(&self, name: &str) -> ErrorCode {
        let topics = vec![delete_topics::DeleteTopicState { name: Some(name.into()), ..Default::default() }];
        let request = delete_topics::Request { topics, ..Default::default() };
        self.ask(6, request).responses[0].error_code
    }

    fn metadata(&self, version: i16, names: Option<&[&str]>, may_create: bool) -> metadata::Response {
        let topic =
            |name: &&str| metadata::MetadataRequestTopic { name: Some((*name).into()), ..Default::default() };
        let topics = names.map(|names| names.iter().map(topic).collect());
        self.ask(
            version,
            metadata::Request { topics, allow_auto_topic_creation: may_create, ..Default::default() },
        )
    }

    fn topic(&self, name: &str) -> metadata::MetadataResponseTopic {
        self.metadata(13, Some(&[name]), false).topics.remove(0)
    }

    fn produce(&self, topic: &str, index: i32, size: usize) -> (ErrorCode, Offset) {
        let mut builder = BatchBuilder::new();
        builder.push(self.now.wall, None, Some(&vec![b'x'; size]));
        let data = produce::PartitionProduceData { index, records: Some(builder.build().into()) };
        let topic_data = vec![produce::TopicProduceData {
            name: topic.into(),
            partition_data: vec![data],
            ..Default::default()
        }];
        let request = produce::Request { acks: -1, topic_data, ..Default::default() };
        let response = self.ask(9, request).responses.remove(0).partition_responses.remove(0);
        (response.error_code, response.base_offset)
    }

    fn config(&self, name: &str, key: &str) -> String {
        let resource = describe_configs::DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: name.into(),
            configuration_keys: Some(vec![key.into()]),
        };
        let request = describe_configs::Request { resources: vec![resource], ..Default::default() };
        let mut result = self.ask(4, request).results.remove(0);
        assert_eq!(result.error_code, ErrorCode::None);
        result.configs.remove(0).value.unwrap().to_string()
    }

    fn set_config(&self, resource_type: i8, name: &str, key: &str, value: &str) -> ErrorCode {
        let config = incremental_alter_configs::AlterableConfig {
            name: key.into(),
            config_operation: 0,
            value: Some(value.into()),
        };
        let resource = incremental_alter_configs::AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: vec![config],
        };
        let request = incremental_alter_configs::Request { resources: vec![resource], ..Default::default() };
        self.ask(1, request).responses[0].error_code
    }

    fn producer_id(&self) -> ProducerId {
        self.ask(4, init_producer_id::Request { transactional_id: None, ..Default::default() }).producer_id
    }
}

#[test]
fn topics_configs_and_producer_ids_survive_a_kill() {
    let world = World::new("");
    assert_eq!(world.create("t", 3, &[("retention.ms", "5000")]), ErrorCode::None);
    assert_eq!(world.create("gone", 1, &[]), ErrorCode::None);
    assert_eq!(world.produce("t", 2, 1), (ErrorCode::None, Offset(0)));
    assert_eq!(world.delete("gone"), ErrorCode::None);
    let (before, producer_id) = (world.topic("t"), world.producer_id());

    let world = world.after_a_kill();
    assert_eq!(world.topic("t"), before);
    assert_eq!(before.partitions.len(), 3);
    assert_eq!(world.topic("gone").error_code, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(world.config("t", "retention.ms"), "5000");
    assert_eq!(world.produce("t", 2, 1), (ErrorCode::None, Offset(1)));
    assert!(world.producer_id() > producer_id);
}

#[test]
fn a_topic_made_again_has_another_id_and_none_of_the_records() {
    let world = World::new("");
    assert_eq!(world.create("t", 1, &[("retention.ms", "5000")]), ErrorCode::None);
    assert_eq!(world.produce("t", 0, 1).0, ErrorCode::None);
    let first = world.topic("t").topic_id;
    assert_eq!(world.delete("t"), ErrorCode::None);
    assert_eq!(world.produce("t", 0, 1).0, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(world.create("t", 1, &[]), ErrorCode::None);
    assert_ne!(world.topic("t").topic_id, first);
    assert_eq!(world.config("t", "retention.ms"), "604800000");
    assert_eq!(world.produce("t", 0, 1), (ErrorCode::None, Offset(0)));
}

#[test]
fn a_topic_that_comes_and_goes_while_it_is_written_is_there_or_unknown() {
    let world = World::new("");
    let is_over = AtomicBool::new(false);
    let write = || {
        while !is_over.load(Ordering::Relaxed) {
            let (code, _) = world.produce("t", 0, 1);
            assert!(matches!(code, ErrorCode::None | ErrorCode::UnknownTopicOrPartition), "{code}");
        }
    };
    thread::scope(|scope| {
        scope.spawn(write);
        scope.spawn(write);
        let codes: Vec<_> = (0..200).map(|_| (world.create("t", 1, &[]), world.delete("t"))).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(codes.iter().all(|codes| *codes == (ErrorCode::None, ErrorCode::None)), "{codes:?}");
    });
}

#[test]
fn files_of_a_topic_whose_deletion_was_cut_short_go_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::in_directory(directory.path());
    assert_eq!(world.create("t", 1, &[]), ErrorCode::None);
    assert_eq!(world.produce("t", 0, 1).0, ErrorCode::None);
    let (log, aside) = (directory.path().join("t-0"), directory.path().join("aside"));
    fs::create_dir(&aside).unwrap();
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(&log, &aside);
    assert_eq!(world.delete("t"), ErrorCode::None);
    drop(world);
    assert!(!log.exists());
    fs::create_dir(&log).unwrap();
    copy(&aside, &log);
    fs::remove_dir_all(&aside).unwrap();

    let world = World::in_directory(directory.path());
    assert!(!log.exists());
    assert_eq!(world.create("t", 1, &[]), ErrorCode::None);
    assert_eq!(world.produce("t", 0, 1), (ErrorCode::None, Offset(0)));
}

#[test]
fn metadata_creates_topics_where_client_and_broker_agree() {
    let world = World::new("num.partitions=2");
    assert_eq!(world.topic("new").error_code, ErrorCode::UnknownTopicOrPartition);
    let response = world.metadata(12, Some(&["new", "a/b", "new"]), true);
    let told: Vec<_> =
        response.topics.iter().map(|topic| (topic.error_code, topic.partitions.len())).collect();
    assert_eq!(told, [(ErrorCode::None, 2), (ErrorCode::InvalidTopicException, 0)]);
    assert_eq!(world.produce("new", 1, 1).0, ErrorCode::None);
    assert_eq!(
        world.metadata(12, Some(&["__cluster_metadata"]), true).topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition
    );

    let world = World::new("auto.create.topics.enable=false");
    let response = world.metadata(12, Some(&["new"]), true);
    assert_eq!(response.topics[0].error_code, ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn metadata_names_all_topics_or_none_as_each_version_has_it() {
    let world = World::new("");
    assert_eq!(world.create("t", 1, &[]), ErrorCode::None);
    let names = |response: metadata::Response| {
        response.topics.iter().map(|topic| topic.name.as_ref().unwrap().to_string()).collect::<Vec<_>>()
    };
    let all = ["__consumer_offsets", "__transaction_state", "t"];
    assert_eq!(names(world.metadata(0, Some(&[]), false)), all);
    assert_eq!(names(world.metadata(1, None, false)), all);
    assert_eq!(names(world.metadata(13, None, false)), all);
    assert!(world.metadata(1, Some(&[]), false).topics.is_empty());
    assert!(world.metadata(13, Some(&[]), false).topics.is_empty());

    let response = world.metadata(13, Some(&["t"]), false);
    let [broker] = &response.brokers[..] else { panic!("one broker: {response:?}") };
    assert_eq!((broker.node_id, broker.host.as_str(), broker.port), (1, "localhost", 9092));
    assert_eq!(response.controller_id, 1);
    assert!(response.cluster_id.is_some_and(|id| !id.is_empty()));
    let partition = &response.topics[0].partitions[0];
    assert_eq!(
        (partition.leader_id, partition.leader_epoch, &partition.isr_nodes[..]),
        (1, LeaderEpoch(0), &[1][..])
    );
}

#[test]
fn topics_are_found_by_their_ids_from_version_12_on() {
    let world = World::new("");
    assert_eq!(world.create("t", 1, &[]), ErrorCode::None);
    let topic_id = world.topic("t").topic_id;
    let by_id = |version, topic_id| {
        let topics = vec![metadata::MetadataRequestTopic { topic_id, name: None }];
        world.ask(version, metadata::Request { topics: Some(topics), ..Default::default() }).topics.remove(0)
    };
    assert_eq!(by_id(12, topic_id).name.as_deref(), Some("t"));
    let unknown = by_id(12, Uuid([9; 16]));
    assert_eq!((unknown.error_code, unknown.name), (ErrorCode::UnknownTopicId, None));
    assert_eq!(by_id(10, topic_id).error_code, ErrorCode::InvalidRequest);
}

#[test]
fn partitions_that_are_added_can_be_written_at_once() {
    let world = World::new("");
    assert_eq!(world.create("t", 1, &[]), ErrorCode::None);
    assert_eq!(world.produce("t", 1, 1).0, ErrorCode::UnknownTopicOrPartition);
    let topic = create_partitions::CreatePartitionsTopic { name: "t".into(), count: 2, assignments: None };
    let request = create_partitions::Request { topics: vec![topic], ..Default::default() };
    assert_eq!(world.ask(3, request).results[0].error_code, ErrorCode::None);
    assert_eq!(world.produce("t", 1, 1), (ErrorCode::None, Offset(0)));
    assert_eq!(world.after_a_kill().topic("t").partitions.len(), 2);
}

#[test]
fn configs_take_effect_at_once() {
    let world = World::new("");
    assert_eq!(world.create("t", 1, &[]), ErrorCode::None);
    assert_eq!(world.set_config(TOPIC, "t", "max.message.bytes", "200"), ErrorCode::None);
    assert_eq!(world.produce("t", 0, 500).0, ErrorCode::MessageTooLarge);
    assert_eq!(world.set_config(TOPIC, "t", "max.message.bytes", "2000"), ErrorCode::None);
    assert_eq!(world.produce("t", 0, 500).0, ErrorCode::None);
    assert_eq!(world.create("u", 1, &[]), ErrorCode::None);
    assert_eq!(world.set_config(4, "", "message.max.bytes", "300"), ErrorCode::None);
    assert_eq!(
        world.produce("u", 0, 500).0,
        ErrorCode::MessageTooLarge,
        "what the topic does not say the broker does"
    );
    assert_eq!(world.produce("t", 0, 500).0, ErrorCode::None);
}

#[test]
fn partitions_are_described_page_by_page() {
    let world = World::new("offsets.topic.num.partitions=1\ntransaction.state.log.num.partitions=1");
    for (name, count) in [("a", 2), ("b", 3), ("c", 1)] {
        assert_eq!(world.create(name, count, &[]), ErrorCode::None);
    }
    let page = |names: &[&str], limit, cursor: Option<(&str, i32)>| {
        let topic = |name: &&str| describe_topic_partitions::TopicRequest { name: (*name).into() };
        let cursor = cursor.map(|(name, partition_index)| describe_topic_partitions::Cursor {
            topic_name: name.into(),
            partition_index,
        });
        let topics = names.iter().map(topic).collect();
        let request = describe_topic_partitions::Request { topics, response_partition_limit: limit, cursor };
        let response = world.ask(0, request);
        let shown = response.topics.iter().map(|topic| {
            let indexes: Vec<i32> =
                topic.partitions.iter().map(|partition| partition.partition_index).collect();
            format!("{} {} {indexes:?}", topic.name.as_deref().unwrap(), topic.error_code)
        });
        let next = response.next_cursor.map(|next| (next.topic_name.to_string(), next.partition_index));
        (shown.collect::<Vec<_>>(), next)
    };
    let at = |name: &str, index| Some((name.to_owned(), index));
    assert_eq!(page(&["b", "a"], 3, None), (vec!["a NONE [0, 1]".into(), "b NONE [0]".into()], at("b", 1)));
    assert_eq!(page(&["b", "a"], 3, Some(("b", 1))), (vec!["b NONE [1, 2]".into()], None));
    assert_eq!(page(&["a", "b"], 2, None), (vec!["a NONE [0, 1]".into()], at("b", 0)));
    assert_eq!(page(&[], 2000, Some(("c", 0))), (vec!["c NONE [0]".into()], None));
    let unknown =
        vec!["no/pe INVALID_TOPIC_EXCEPTION []".into(), "nope UNKNOWN_TOPIC_OR_PARTITION []".into()];
    assert_eq!(page(&["nope", "no/pe"], 2000, None), (unknown, None));
    assert_eq!(page(&["a"], 2000, Some(("b", 0))).0, ["a INVALID_REQUEST []"]);
    assert_eq!(page(&["a"], 2000, Some(("a", -1))).0, ["a INVALID_REQUEST []"]);
}

#[test]
fn every_coordinator_is_this_broker() {
    let world = World::new("");
    let request = find_coordinator::Request { key: "g".into(), ..Default::default() };
    let response = world.ask(0, request.clone());
    assert_eq!((response.error_code, response.node_id, response.port), (ErrorCode::None, 1, 9092));
    let response = world.ask(3, find_coordinator::Request { key_type: 1, ..request.clone() });
    assert_eq!((response.error_code, response.node_id), (ErrorCode::None, 1));
    let response = world.ask(3, find_coordinator::Request { key_type: 9, ..request });
    assert_eq!(response.error_code, ErrorCode::InvalidRequest);
    let coordinator_keys = vec!["a".into(), "b".into()];
    let response = world.ask(6, find_coordinator::Request { coordinator_keys, ..Default::default() });
    let found: Vec<_> = response.coordinators.iter().map(|it| (it.key.as_str(), it.node_id)).collect();
    assert_eq!(found, [("a", 1), ("b", 1)]);
}

#[test]
fn the_cluster_is_this_broker() {
    let world = World::new("");
    let describe =
        |endpoint_type| world.ask(2, describe_cluster::Request { endpoint_type, ..Default::default() });
    let response = describe(1);
    assert_eq!((response.brokers.len(), response.controller_id), (1, 1));
    assert_eq!(describe(2).error_code, ErrorCode::MismatchedEndpointType);
    assert_eq!(describe(3).error_code, ErrorCode::UnsupportedEndpointType);
}

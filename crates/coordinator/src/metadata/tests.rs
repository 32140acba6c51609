//! The machine's rules, request by request, and that replay gives what was live.
#![allow(clippy::unwrap_used)]

use oncelog_wire::create_partitions::{self, CreatePartitionsAssignment, CreatePartitionsTopic};
use oncelog_wire::create_topics::{self, CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
use oncelog_wire::delete_topics::{self, DeleteTopicState};
use oncelog_wire::describe_configs::{self, DescribeConfigsResource, DescribeConfigsResourceResult};
use oncelog_wire::incremental_alter_configs::{self, AlterConfigsResource, AlterableConfig};
use oncelog_wire::{ErrorCode, Str, Uuid, alter_configs, list_config_resources};
use proptest::prelude::*;

use super::config::StaticConfig;
use super::*;

const NODE: i32 = 1;
const TOPIC: i8 = ResourceType::Topic as i8;
const BROKER: i8 = ResourceType::Broker as i8;
const GROUP: i8 = ResourceType::Group as i8;

/// A cluster that appends nowhere: what it decides is applied, and kept to be replayed.
struct World {
    cluster: Cluster,
    log: Vec<Record>,
    effects: Vec<Effect>,
    next_id: u8,
}

impl World {
    fn new(properties: &str) -> World {
        let mut fixed = StaticConfig::default();
        fixed.read_properties(properties).unwrap();
        let identity = Identity { node_id: NODE, directory_id: Uuid([9; 16]) };
        World { cluster: Cluster::new(identity, fixed), log: Vec::new(), effects: Vec::new(), next_id: 0 }
    }

    fn take<A>(&mut self, output: Output<A>) -> A {
        for record in &output.records {
            self.cluster.apply(&Record::decode(record.encode()).unwrap().unwrap());
        }
        self.log.extend(output.records);
        self.effects = output.effects;
        output.answer
    }

    fn create(&mut self, request: &create_topics::Request) -> Vec<(String, ErrorCode)> {
        let mut next_id = self.next_id;
        let output = self.cluster.create_topics(request, || {
            next_id += 1;
            Uuid([next_id; 16])
        });
        self.next_id = next_id;
        let answer = self.take(output);
        answer.topics.iter().map(|topic| (topic.name.to_string(), topic.error_code)).collect()
    }

    fn create_one(&mut self, topic: CreatableTopic) -> ErrorCode {
        self.create(&create_topics::Request { topics: vec![topic], ..Default::default() })[0].1
    }

    fn grow(&mut self, name: &str, count: i32, assignments: Option<&[&[i32]]>) -> ErrorCode {
        let assignment = |ids: &&[i32]| CreatePartitionsAssignment { broker_ids: ids.to_vec() };
        let assignments = assignments.map(|all| all.iter().map(assignment).collect());
        let topics = vec![CreatePartitionsTopic { name: name.into(), count, assignments }];
        let output =
            self.cluster.create_partitions(&create_partitions::Request { topics, ..Default::default() });
        self.take(output).results[0].error_code
    }

    fn delete(&mut self, named: &[(Option<&str>, Uuid)]) -> Vec<ErrorCode> {
        let state = |(name, topic_id): &(Option<&str>, Uuid)| DeleteTopicState {
            name: name.map(Into::into),
            topic_id: *topic_id,
        };
        let request =
            delete_topics::Request { topics: named.iter().map(state).collect(), ..Default::default() };
        let output = self.cluster.delete_topics(&request);
        self.take(output).responses.iter().map(|result| result.error_code).collect()
    }

    /// Operations: 0 set, 1 delete, 2 append, 3 subtract.
    fn alter(&mut self, resource_type: i8, name: &str, edits: &[(i8, &str, Option<&str>)]) -> ErrorCode {
        let config = |&(config_operation, name, value): &(i8, &str, Option<&str>)| AlterableConfig {
            name: name.into(),
            config_operation,
            value: value.map(Into::into),
        };
        let configs = edits.iter().map(config).collect();
        let resource = AlterConfigsResource { resource_type, resource_name: name.into(), configs };
        let request = incremental_alter_configs::Request { resources: vec![resource], ..Default::default() };
        let output = self.cluster.incremental_alter_configs(&request);
        self.take(output).responses[0].error_code
    }

    fn set(&mut self, resource_type: i8, name: &str, key: &str, value: &str) -> ErrorCode {
        self.alter(resource_type, name, &[(0, key, Some(value))])
    }

    fn describe(
        &self,
        resource_type: i8,
        name: &str,
    ) -> Result<Vec<DescribeConfigsResourceResult>, ErrorCode> {
        let resource =
            DescribeConfigsResource { resource_type, resource_name: name.into(), ..Default::default() };
        let request = describe_configs::Request {
            resources: vec![resource],
            include_synonyms: true,
            include_documentation: true,
        };
        let result = self.cluster.describe_configs(&request).results.remove(0);
        if result.error_code.is_error() { Err(result.error_code) } else { Ok(result.configs) }
    }

    /// `value source [synonyms]` of one config.
    fn shown(&self, resource_type: i8, name: &str, key: &str) -> String {
        let entries = self.describe(resource_type, name).unwrap();
        let Some(entry) = entries.iter().find(|entry| entry.name == key) else { return "absent".to_owned() };
        let text = |value: &Option<Str>| value.as_deref().unwrap_or("null").to_owned();
        let synonym = |it: &describe_configs::DescribeConfigsSynonym| {
            format!("{}:{}={}", it.source, it.name, text(&it.value))
        };
        let synonyms: Vec<String> = entry.synonyms.iter().map(synonym).collect();
        format!("{} {} [{}]", text(&entry.value), entry.config_source, synonyms.join(" "))
    }
}

fn topic(name: &str) -> CreatableTopic {
    CreatableTopic { name: name.into(), num_partitions: 1, replication_factor: 1, ..Default::default() }
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> CreatableTopic {
    let assignment = |&(partition_index, broker_ids): &(i32, &[i32])| CreatableReplicaAssignment {
        partition_index,
        broker_ids: broker_ids.to_vec(),
    };
    let assignments = assignments.iter().map(assignment).collect();
    CreatableTopic { num_partitions: -1, replication_factor: -1, assignments, ..topic(name) }
}

fn configured(name: &str, key: &str, value: Option<&str>) -> CreatableTopic {
    let config = CreatableTopicConfig { name: key.into(), value: value.map(Into::into) };
    CreatableTopic { configs: vec![config], ..topic(name) }
}

#[test]
fn a_new_cluster_has_its_internal_topics_and_a_second_start_adds_nothing() {
    let mut world = World::new("offsets.topic.num.partitions=3");
    let output = world.cluster.bootstrap(|| Uuid([7; 16]));
    world.take(output);
    assert_eq!(world.cluster.topic(TRANSACTION_STATE).unwrap().partition_count, 50);
    assert_eq!(world.cluster.topic(CONSUMER_OFFSETS).unwrap().partition_count, 3);
    let config = world.cluster.topic_config(TRANSACTION_STATE);
    assert_eq!((config.segment_bytes, config.cleanup_policy.compact), (104_857_600, true));
    assert_eq!(
        world.shown(TOPIC, TRANSACTION_STATE, "compression.type"),
        "uncompressed 1 [1:compression.type=uncompressed 5:compression.type=producer]"
    );
    let features: Vec<_> = world.cluster.features().map(|(name, level)| (name.to_string(), level)).collect();
    assert_eq!(features, [("metadata.version".to_owned(), 30), ("transaction.version".to_owned(), 2)]);
    assert_eq!(world.cluster.bootstrap(|| Uuid([8; 16])).records, []);
}

#[test]
fn topics_are_created_with_what_the_client_asked_for_or_the_defaults() {
    let mut world = World::new("num.partitions=3\nlog.retention.hours=1");
    assert_eq!(world.create_one(CreatableTopic { num_partitions: 2, ..topic("a") }), ErrorCode::None);
    let expected = world.cluster.topic("a").unwrap().clone();
    assert_eq!((expected.partition_count, expected.id), (2, Uuid([1; 16])));
    assert_eq!(world.cluster.topic_by_id(Uuid([1; 16])), Some(&expected));
    let defaults = CreatableTopic { num_partitions: -1, replication_factor: -1, ..topic("b") };
    assert_eq!(world.create_one(defaults), ErrorCode::None);
    assert_eq!(world.cluster.topic("b").unwrap().partition_count, 3);
    assert_eq!(world.create_one(assigned("c", &[(1, &[NODE]), (0, &[NODE])])), ErrorCode::None);
    assert_eq!(world.cluster.topic("c").unwrap().partition_count, 2);
    assert_eq!(
        world.create_one(configured("d", "cleanup.policy", Some("compact , delete"))),
        ErrorCode::None
    );
    let config = world.cluster.topic_config("d");
    assert!(config.cleanup_policy.compact && config.cleanup_policy.delete);
    let created =
        matches!(&world.effects[..], [Effect::TopicCreated { config: at_once, .. }] if **at_once == config);
    assert!(created, "the effect has the settings of the topic: {:?}", world.effects);
}

#[test]
fn topics_that_cannot_be_are_refused_with_kafkas_codes() {
    let mut world = World::new("");
    assert_eq!(world.create_one(topic("here")), ErrorCode::None);
    assert_eq!(world.create_one(topic("a.b")), ErrorCode::None);
    let long = "x".repeat(250);
    for name in ["a/b", ".", "..", "", "a b", &long, "é", "nul\0", "../x", "a_b"] {
        assert_eq!(world.create_one(topic(name)), ErrorCode::InvalidTopicException, "{name:?}");
    }
    assert_eq!(world.create_one(topic(&long[1..])), ErrorCode::None);
    let counts = |num_partitions, replication_factor| CreatableTopic {
        num_partitions,
        replication_factor,
        ..topic("t")
    };
    let cases = [
        (topic("here"), ErrorCode::TopicAlreadyExists),
        (CreatableTopic { num_partitions: 0, ..topic("here") }, ErrorCode::TopicAlreadyExists),
        (topic("a.b"), ErrorCode::TopicAlreadyExists),
        (topic("__cluster_metadata"), ErrorCode::InvalidRequest),
        (counts(0, 1), ErrorCode::InvalidPartitions),
        (counts(-2, 1), ErrorCode::InvalidPartitions),
        (counts(1, 0), ErrorCode::InvalidReplicationFactor),
        (counts(1, -2), ErrorCode::InvalidReplicationFactor),
        (counts(1, 2), ErrorCode::InvalidReplicationFactor),
        (counts(0, 0), ErrorCode::InvalidReplicationFactor),
        (counts(10_001, 1), ErrorCode::PolicyViolation),
        (counts(i32::MAX, 1), ErrorCode::PolicyViolation),
        (assigned("t", &[(0, &[NODE]), (2, &[NODE])]), ErrorCode::InvalidReplicaAssignment),
        (assigned("t", &[(0, &[NODE]), (0, &[NODE])]), ErrorCode::InvalidReplicaAssignment),
        (assigned("t", &[(0, &[9])]), ErrorCode::InvalidReplicaAssignment),
        (assigned("t", &[(0, &[])]), ErrorCode::InvalidReplicaAssignment),
        (assigned("t", &[(0, &[NODE, NODE])]), ErrorCode::InvalidReplicaAssignment),
        (CreatableTopic { num_partitions: 1, ..assigned("t", &[(0, &[NODE])]) }, ErrorCode::InvalidRequest),
        (configured("t", "nope", Some("1")), ErrorCode::InvalidConfig),
        (configured("t", "retention.ms", Some("x")), ErrorCode::InvalidConfig),
        (configured("t", "retention.ms", None), ErrorCode::InvalidConfig),
        (configured("t", "segment.bytes", Some("1")), ErrorCode::InvalidConfig),
        (configured("t", "max.compaction.lag.ms", Some("0")), ErrorCode::InvalidConfig),
        (configured("t", "remote.storage.enable", Some("true")), ErrorCode::InvalidConfig),
    ];
    for (topic, code) in cases {
        assert_eq!(world.create_one(topic.clone()), code, "{topic:?}");
        assert_eq!(world.cluster.topic("t"), None);
    }
}

#[test]
fn a_topic_named_twice_is_not_created_and_the_others_are() {
    let mut world = World::new("");
    let topics = vec![topic("twice"), topic("once"), topic("twice")];
    let answer = world.create(&create_topics::Request { topics, ..Default::default() });
    assert_eq!(
        answer,
        [("twice".to_owned(), ErrorCode::InvalidRequest), ("once".to_owned(), ErrorCode::None)]
    );
    assert_eq!(world.cluster.topics().map(|topic| topic.name.to_string()).collect::<Vec<_>>(), ["once"]);
}

#[test]
fn validating_changes_nothing() {
    let mut world = World::new("");
    let request =
        create_topics::Request { topics: vec![topic("t")], validate_only: true, ..Default::default() };
    assert_eq!(world.create(&request), [("t".to_owned(), ErrorCode::None)]);
    assert_eq!((world.log.len(), world.effects.len()), (0, 0));
}

#[test]
fn all_partitions_together_are_bounded() {
    let mut world = World::new("");
    for at in 0..20 {
        let wide = CreatableTopic { num_partitions: 10_000, ..topic(&format!("wide-{at}")) };
        assert_eq!(world.create_one(wide), ErrorCode::None);
    }
    assert_eq!(world.create_one(topic("more")), ErrorCode::PolicyViolation);
    assert_eq!(world.grow("wide-0", 10_001, None), ErrorCode::InvalidPartitions);
    assert_eq!(world.delete(&[(Some("wide-1"), Uuid::ZERO)]), [ErrorCode::None]);
    assert_eq!(world.grow("wide-0", 10_001, None), ErrorCode::None);
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let mut world = World::new("");
    let output = world.cluster.bootstrap(|| Uuid([70; 16]));
    world.take(output);
    assert_eq!(world.create_one(topic("t")), ErrorCode::None);
    for (count, assignments, code) in [
        (1, None, ErrorCode::InvalidPartitions),
        (0, None, ErrorCode::InvalidPartitions),
        (-1, None, ErrorCode::InvalidPartitions),
        (i32::MAX, None, ErrorCode::InvalidPartitions),
        (3, Some(&[&[NODE][..]][..]), ErrorCode::InvalidReplicaAssignment),
        (2, Some(&[&[7][..]][..]), ErrorCode::InvalidReplicaAssignment),
        (2, Some(&[&[NODE, 2][..]][..]), ErrorCode::InvalidReplicaAssignment),
        (2, Some(&[&[NODE][..]][..]), ErrorCode::None),
        (4, None, ErrorCode::None),
    ] {
        assert_eq!(world.grow("t", count, assignments), code, "{count} {assignments:?}");
    }
    assert_eq!(world.cluster.topic("t").unwrap().partition_count, 4);
    assert_eq!(world.effects, [Effect::PartitionsAdded { name: "t".into(), partition_count: 4 }]);
    assert_eq!(world.grow("nope", 2, None), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(world.grow(TRANSACTION_STATE, 60, None), ErrorCode::InvalidTopicException);
}

#[test]
fn topics_are_deleted_by_name_or_id_and_their_configs_with_them() {
    let mut world = World::new("");
    for name in ["a", "b", "c.d"] {
        assert_eq!(world.create_one(configured(name, "retention.ms", Some("5"))), ErrorCode::None);
    }
    let id = world.cluster.topic("b").unwrap().id;
    let named = [(Some("a"), Uuid::ZERO), (None, id), (Some("nope"), Uuid::ZERO), (None, Uuid([99; 16]))];
    let expected =
        [ErrorCode::None, ErrorCode::None, ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId];
    assert_eq!(world.delete(&named), expected);
    assert_eq!(world.effects.len(), 2);
    assert_eq!(world.create_one(topic("a")), ErrorCode::None);
    assert_ne!(world.cluster.topic("a").unwrap().id, Uuid([1; 16]), "a new topic has a new id");
    assert_eq!(world.shown(TOPIC, "a", "retention.ms"), "604800000 5 []");

    let id = world.cluster.topic("c.d").unwrap().id;
    for named in [
        &[(Some("c.d"), id)][..],
        &[(None, Uuid::ZERO)],
        &[(Some("c.d"), Uuid::ZERO), (Some("c.d"), Uuid::ZERO)],
        &[(Some("c.d"), Uuid::ZERO), (None, id)],
    ] {
        let codes = world.delete(named);
        assert!(codes.iter().all(|code| *code == ErrorCode::InvalidRequest), "{named:?}: {codes:?}");
    }
    assert_eq!(world.delete(&[(Some("c.d"), Uuid::ZERO)]), [ErrorCode::None]);
    assert_eq!(world.create_one(topic("c_d")), ErrorCode::None, "the name it collided with is gone");
}

#[test]
fn deletion_can_be_switched_off_and_never_takes_internal_topics() {
    let mut world = World::new("delete.topic.enable=false");
    assert_eq!(world.create_one(topic("t")), ErrorCode::None);
    assert_eq!(world.delete(&[(Some("t"), Uuid::ZERO)]), [ErrorCode::TopicDeletionDisabled]);
    let mut world = World::new("");
    let output = world.cluster.bootstrap(|| Uuid([7; 16]));
    world.take(output);
    assert_eq!(world.delete(&[(Some(CONSUMER_OFFSETS), Uuid::ZERO)]), [ErrorCode::InvalidTopicException]);
}

#[test]
fn configs_of_topics_change_one_by_one_or_not_at_all() {
    let mut world = World::new("");
    assert_eq!(world.create_one(topic("t")), ErrorCode::None);
    let edits = [(0, "retention.ms", Some("1000")), (0, "segment.bytes", Some("1"))];
    assert_eq!(world.alter(TOPIC, "t", &edits), ErrorCode::InvalidConfig);
    assert_eq!(world.shown(TOPIC, "t", "retention.ms"), "604800000 5 []", "one bad config, and none is set");
    assert_eq!(world.set(TOPIC, "t", "retention.ms", " 1000 "), ErrorCode::None);
    assert_eq!(world.effects, [Effect::TopicConfigChanged { name: "t".into() }]);
    assert_eq!(world.shown(TOPIC, "t", "retention.ms"), "1000 1 [1:retention.ms=1000]");
    assert_eq!(world.set(TOPIC, "t", "retention.ms", "1000"), ErrorCode::None);
    assert_eq!(world.effects, [], "nothing has changed");

    assert_eq!(world.alter(TOPIC, "t", &[(2, "cleanup.policy", Some("compact"))]), ErrorCode::None);
    let both = "delete,compact 1 [1:cleanup.policy=delete,compact 5:log.cleanup.policy=delete]";
    assert_eq!(world.shown(TOPIC, "t", "cleanup.policy"), both, "what is added to is the default");
    assert_eq!(world.alter(TOPIC, "t", &[(2, "cleanup.policy", Some("compact"))]), ErrorCode::None);
    assert_eq!(world.shown(TOPIC, "t", "cleanup.policy"), both);
    assert_eq!(world.alter(TOPIC, "t", &[(3, "cleanup.policy", Some("delete"))]), ErrorCode::None);
    assert!(world.shown(TOPIC, "t", "cleanup.policy").starts_with("compact 1"));
    assert_eq!(world.alter(TOPIC, "t", &[(1, "cleanup.policy", None)]), ErrorCode::None);
    assert!(world.shown(TOPIC, "t", "cleanup.policy").starts_with("delete 5"));
    assert_eq!(world.alter(TOPIC, "t", &[(1, "foo", None)]), ErrorCode::None, "unsetting asks for no key");
}

#[test]
fn changes_that_make_no_sense_are_refused_with_kafkas_codes() {
    let mut world = World::new("");
    assert_eq!(world.create_one(topic("t")), ErrorCode::None);
    for (resource_type, name, edits, code) in [
        (TOPIC, "t", &[(0, "foo", Some("1"))][..], ErrorCode::InvalidConfig),
        (TOPIC, "t", &[(2, "retention.ms", Some("1"))], ErrorCode::InvalidConfig),
        (TOPIC, "t", &[(2, "frob", Some("1"))], ErrorCode::InvalidConfig),
        (TOPIC, "t", &[(2, "cleanup.policy", Some("frob"))], ErrorCode::InvalidConfig),
        (TOPIC, "t", &[(0, "retention.ms", None)], ErrorCode::InvalidRequest),
        (TOPIC, "t", &[(7, "retention.ms", Some("1"))], ErrorCode::InvalidRequest),
        (TOPIC, "t", &[(0, "retention.ms", Some("1")), (1, "retention.ms", None)], ErrorCode::InvalidRequest),
        (TOPIC, "nope", &[(0, "retention.ms", Some("1"))], ErrorCode::UnknownTopicOrPartition),
        (TOPIC, "nope", &[(0, "retention.ms", Some("x"))], ErrorCode::InvalidConfig),
        (TOPIC, "no/pe", &[(0, "retention.ms", Some("1"))], ErrorCode::InvalidTopicException),
        (TOPIC, "", &[(0, "retention.ms", Some("1"))], ErrorCode::InvalidRequest),
        (BROKER, "2", &[(0, "log.cleaner.threads", Some("2"))], ErrorCode::InvalidRequest),
        (BROKER, "x", &[(0, "log.cleaner.threads", Some("2"))], ErrorCode::InvalidRequest),
        (BROKER, "1", &[(0, "num.partitions", Some("3"))], ErrorCode::InvalidRequest),
        (BROKER, "1", &[(0, "message.max.bytes", Some("x"))], ErrorCode::InvalidRequest),
        (BROKER, "1", &[(0, "listeners", Some("PLAINTEXT://:1"))], ErrorCode::InvalidRequest),
        (BROKER, "1", &[(0, "ssl.keystore.location", Some("x"))], ErrorCode::InvalidRequest),
        (BROKER, "", &[(0, "sasl.jaas.config", Some("x"))], ErrorCode::InvalidRequest),
        (BROKER, "1", &[(2, "log.cleaner.threads", Some("1"))], ErrorCode::InvalidConfig),
        (GROUP, "g", &[(0, "foo", Some("1"))], ErrorCode::InvalidConfig),
        (GROUP, "g", &[(0, "consumer.session.timeout.ms", Some("1"))], ErrorCode::InvalidConfig),
        (GROUP, "g", &[(0, "consumer.heartbeat.interval.ms", Some("100000"))], ErrorCode::InvalidConfig),
        (GROUP, "", &[(0, "consumer.session.timeout.ms", Some("50000"))], ErrorCode::InvalidRequest),
        (ResourceType::ClientMetrics as i8, "m", &[(0, "interval.ms", Some("1"))], ErrorCode::InvalidRequest),
        (
            ResourceType::BrokerLogger as i8,
            "1",
            &[(0, "kafka.server", Some("DEBUG"))],
            ErrorCode::InvalidConfig,
        ),
        (99, "t", &[(0, "retention.ms", Some("1"))], ErrorCode::InvalidRequest),
    ] {
        let before = world.log.len();
        assert_eq!(world.alter(resource_type, name, edits), code, "{resource_type} {name} {edits:?}");
        assert_eq!(world.log.len(), before);
    }
}

#[test]
fn a_resource_named_twice_is_left_alone() {
    let mut world = World::new("");
    assert_eq!(world.create_one(topic("t")), ErrorCode::None);
    let resource =
        AlterConfigsResource { resource_type: TOPIC, resource_name: "t".into(), configs: Vec::new() };
    let request = incremental_alter_configs::Request {
        resources: vec![resource.clone(), resource],
        ..Default::default()
    };
    let answer = world.cluster.incremental_alter_configs(&request).answer;
    let codes: Vec<ErrorCode> = answer.responses.iter().map(|response| response.error_code).collect();
    assert_eq!(codes, [ErrorCode::InvalidRequest]);
}

#[test]
fn the_older_way_of_altering_replaces_everything() {
    let mut world = World::new("");
    assert_eq!(world.create_one(configured("t", "retention.ms", Some("5"))), ErrorCode::None);
    let replace = |pairs: &[(&str, Option<&str>)]| {
        let config = |(name, value): &(&str, Option<&str>)| alter_configs::AlterableConfig {
            name: (*name).into(),
            value: value.map(Into::into),
        };
        let configs = pairs.iter().map(config).collect();
        let resource =
            alter_configs::AlterConfigsResource { resource_type: TOPIC, resource_name: "t".into(), configs };
        alter_configs::Request { resources: vec![resource], ..Default::default() }
    };
    let output = world.cluster.alter_configs(&replace(&[("segment.ms", Some("7"))]));
    assert_eq!(world.take(output).responses[0].error_code, ErrorCode::None);
    assert_eq!(world.shown(TOPIC, "t", "retention.ms"), "604800000 5 []");
    assert_eq!(world.shown(TOPIC, "t", "segment.ms"), "7 1 [1:segment.ms=7]");
    for pairs in [&[("segment.ms", None)][..], &[("segment.ms", Some("1")), ("segment.ms", Some("2"))]] {
        let answer = world.cluster.alter_configs(&replace(pairs)).answer;
        assert_eq!(answer.responses[0].error_code, ErrorCode::InvalidRequest);
    }
}

#[test]
fn every_config_is_described_with_who_set_it() {
    let mut world = World::new("log.retention.hours=1\nlog.segment.bytes=2097152");
    assert_eq!(world.create_one(topic("t")), ErrorCode::None);
    let counts = [(TOPIC, "t"), (BROKER, "1"), (GROUP, "any")]
        .map(|(of, name)| world.describe(of, name).unwrap().len());
    assert_eq!(counts, [33, 340, 17]);
    assert_eq!(
        world.shown(TOPIC, "t", "segment.bytes"),
        "2097152 4 [4:log.segment.bytes=2097152 5:log.segment.bytes=1073741824]"
    );
    assert_eq!(
        world.shown(TOPIC, "t", "retention.ms"),
        "3600000 5 []",
        "Kafka does not say that hours were set"
    );
    assert_eq!(
        world.shown(BROKER, "1", "log.retention.hours"),
        "1 4 [4:log.retention.hours=1 5:log.retention.hours=168]"
    );
    assert_eq!(world.shown(BROKER, "1", "log.retention.ms"), "null 5 []");

    assert_eq!(world.set(BROKER, "", "message.max.bytes", "2000000"), ErrorCode::None);
    assert_eq!(world.effects, [Effect::BrokerConfigChanged]);
    let wide = "2000000 3 [3:message.max.bytes=2000000 5:message.max.bytes=1048588]";
    assert_eq!(world.shown(BROKER, "1", "message.max.bytes"), wide);
    assert_eq!(world.shown(TOPIC, "t", "max.message.bytes"), wide);
    assert_eq!(world.cluster.topic_config("t").max_message_bytes, 2_000_000);
    assert_eq!(world.shown(BROKER, "", "message.max.bytes"), "2000000 3 [3:message.max.bytes=2000000]");
    assert_eq!(world.set(BROKER, "1", "log.retention.ms", "5000"), ErrorCode::None);
    assert_eq!(
        world.shown(BROKER, "1", "log.retention.ms"),
        "5000 2 [2:log.retention.ms=5000 4:log.retention.hours=1 5:log.retention.hours=168]"
    );
    assert!(world.shown(TOPIC, "t", "retention.ms").starts_with("5000 2 "));

    assert_eq!(world.shown(BROKER, "1", "leader.replication.throttled.rate"), "absent");
    assert_eq!(world.set(BROKER, "1", "leader.replication.throttled.rate", "100"), ErrorCode::None);
    assert!(world.shown(BROKER, "1", "leader.replication.throttled.rate").starts_with("100 2 "));
    assert_eq!(world.set(BROKER, "1", "foo.bar", "secret?"), ErrorCode::None);
    assert_eq!(
        world.shown(BROKER, "1", "foo.bar"),
        "null 2 [2:foo.bar=null]",
        "what nobody knows might be secret"
    );
    assert_eq!(world.set(BROKER, "1", "sasl.jaas.config", "secret"), ErrorCode::None);
    assert_eq!(world.shown(BROKER, "1", "sasl.jaas.config"), "null 2 [2:sasl.jaas.config=null]");

    assert_eq!(world.set(GROUP, "g", "consumer.session.timeout.ms", "50000"), ErrorCode::None);
    assert_eq!(
        world.shown(GROUP, "g", "consumer.session.timeout.ms"),
        "50000 8 [8:consumer.session.timeout.ms=50000 5:group.consumer.session.timeout.ms=45000]"
    );
    assert_eq!(
        world.shown(GROUP, "g", "share.auto.offset.reset"),
        "latest 5 [5:share.auto.offset.reset=latest]"
    );
    let errors = [(TOPIC, "nope"), (TOPIC, "a/b"), (BROKER, "2"), (GROUP, ""), (99, "t")];
    let errors = errors.map(|(of, name)| world.describe(of, name).unwrap_err());
    let expected = [
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::InvalidTopicException,
        ErrorCode::InvalidRequest,
        ErrorCode::InvalidRequest,
        ErrorCode::InvalidRequest,
    ];
    assert_eq!(errors, expected);
}

#[test]
fn just_the_named_configs_are_described() {
    let world = World::new("");
    let keys = vec!["node.id".into(), "no.such.key".into()];
    let resource = DescribeConfigsResource {
        resource_type: BROKER,
        resource_name: "1".into(),
        configuration_keys: Some(keys),
    };
    let request = describe_configs::Request { resources: vec![resource], ..Default::default() };
    let result = world.cluster.describe_configs(&request).results.remove(0);
    let [entry] = &result.configs[..] else { panic!("one config: {result:?}") };
    assert_eq!((entry.value.as_deref(), entry.read_only, entry.config_type), (Some("1"), true, 3));
    assert_eq!((entry.synonyms.len(), &entry.documentation), (0, &None), "neither was asked for");
}

#[test]
fn resources_with_configs_are_listed() {
    let mut world = World::new("");
    assert_eq!(world.create_one(topic("t")), ErrorCode::None);
    assert_eq!(world.set(GROUP, "g", "consumer.session.timeout.ms", "50000"), ErrorCode::None);
    let list = |types: &[i8], version| {
        let request = list_config_resources::Request { resource_types: types.to_vec() };
        let response = world.cluster.list_config_resources(&request, version);
        let named =
            response.config_resources.iter().map(|it| (it.resource_type, it.resource_name.to_string()));
        (response.error_code, named.collect::<Vec<_>>())
    };
    let named =
        |list: &[(i8, &str)]| list.iter().map(|(of, name)| (*of, (*name).to_owned())).collect::<Vec<_>>();
    assert_eq!(list(&[], 1), (ErrorCode::None, named(&[(2, "t"), (4, "1"), (8, "1"), (32, "g")])));
    assert_eq!(list(&[GROUP], 1), (ErrorCode::None, named(&[(32, "g")])));
    assert_eq!(list(&[], 0), (ErrorCode::None, named(&[])));
    assert_eq!(list(&[5], 1), (ErrorCode::UnsupportedVersion, named(&[])));
}

#[test]
fn producer_ids_are_never_handed_out_twice() {
    let mut world = World::new("");
    for block in [0..1000, 1000..2000] {
        let output = world.cluster.allocate_producer_ids();
        assert_eq!(world.take(output), block);
    }
}

/// One of the requests of the property below.
#[derive(Clone, Debug)]
enum Step {
    Create(u8, i32, Option<i64>),
    Delete(u8),
    Grow(u8, i32),
    Set(u8, i64),
    Unset(u8),
    Broker(bool, i64),
    ProducerIds,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, -1..4, proptest::option::of(-2..100_i64))
            .prop_map(|(at, count, ms)| Step::Create(at, count, ms)),
        (0..4_u8).prop_map(Step::Delete),
        (0..4_u8, 0..9).prop_map(|(at, count)| Step::Grow(at, count)),
        (0..4_u8, -2..100_i64).prop_map(|(at, ms)| Step::Set(at, ms)),
        (0..4_u8).prop_map(Step::Unset),
        (any::<bool>(), -2..100_i64).prop_map(|(all, ms)| Step::Broker(all, ms)),
        Just(Step::ProducerIds),
    ]
}

proptest! {
    #[test]
    fn replay_gives_what_was_live(steps in proptest::collection::vec(step(), 0..60)) {
        let mut world = World::new("");
        let name = |at: u8| ["a", "b.c", "b_c", "d"][usize::from(at)];
        for step in steps {
            match step {
                Step::Create(at, num_partitions, retention) => {
                    let retention = retention.map(|ms| ms.to_string());
                    let configured = configured(name(at), "retention.ms", retention.as_deref());
                    let configs = if retention.is_some() { configured.configs } else { Vec::new() };
                    world.create_one(CreatableTopic { num_partitions, configs, ..topic(name(at)) });
                }
                Step::Delete(at) => {
                    world.delete(&[(Some(name(at)), Uuid::ZERO)]);
                }
                Step::Grow(at, count) => {
                    world.grow(name(at), count, None);
                }
                Step::Set(at, ms) => {
                    world.set(TOPIC, name(at), "retention.ms", &ms.to_string());
                }
                Step::Unset(at) => {
                    world.alter(TOPIC, name(at), &[(1, "retention.ms", None)]);
                }
                Step::Broker(all, ms) => {
                    world.set(BROKER, if all { "" } else { "1" }, "log.retention.ms", &ms.to_string());
                }
                Step::ProducerIds => {
                    let output = world.cluster.allocate_producer_ids();
                    world.take(output);
                }
            }
        }
        let mut replayed = World::new("").cluster;
        for record in &world.log {
            replayed.apply(&Record::decode(record.encode()).unwrap().unwrap());
        }
        let total: i64 = replayed.topics().map(|topic| i64::from(topic.partition_count)).sum();
        prop_assert_eq!(total, replayed.partition_total);
        prop_assert_eq!(replayed, world.cluster);
    }
}

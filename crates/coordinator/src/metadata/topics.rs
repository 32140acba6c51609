//! Topics: which names are legal, and the decisions to create, grow and delete them.

use std::collections::{BTreeMap, HashMap, HashSet};

use oncelog_wire::create_partitions::{self, CreatePartitionsTopic, CreatePartitionsTopicResult};
use oncelog_wire::create_topics::{self, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult};
use oncelog_wire::delete_topics::{self, DeletableTopicResult};
use oncelog_wire::internal::metadata::{ConfigRecord, PartitionRecord, RemoveTopicRecord, TopicRecord};
use oncelog_wire::{ErrorCode, LeaderEpoch, Str, Uuid};

use super::config::{BrokerConfig, Overrides, TopicConfig};
use super::{Cluster, Effect, Output, Record, Refusal, ResourceType};

/// The topic of the transaction coordinator.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// The topic of the group coordinator.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// The partition this machine lives in; clients cannot see it.
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Kafka's bound on the partitions of one request (`MAX_PARTITIONS_PER_BATCH`); it keeps the batch of records small.
const MOST_PARTITIONS_PER_REQUEST: i64 = 10_000;
/// A bound on all partitions, so that clients cannot fill the memory with them: some hundred bytes each.
const MOST_PARTITIONS: i64 = 200_000;
/// The longest name that leaves room for `-partition.unique id-delete` in a directory's name.
const LONGEST_NAME: usize = 249;

/// Whether the topic belongs to the broker.
pub fn is_internal(name: &str) -> bool {
    matches!(name, TRANSACTION_STATE | CONSUMER_OFFSETS)
}

/// Whether a topic may have this name; only such names ever become directories.
pub fn is_legal_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name != "."
        && name != ".."
        && name.bytes().all(is_legal)
}

pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    if is_legal_name(name) {
        return Ok(());
    }
    let message = format!(
        "{name:?} cannot be the name of a topic: names have 1 to {LONGEST_NAME} characters of a-z, A-Z, 0-9, '.', '_' \
         and '-', and are neither '.' nor '..'"
    );
    Err(Refusal::new(ErrorCode::InvalidTopicException, message))
}

impl Cluster {
    /// What a cluster needs before it serves anyone: finalized features and the internal topics. What is there
    /// already stays as it is.
    pub fn bootstrap(&self, mut next_id: impl FnMut() -> Uuid) -> Output<()> {
        let config = self.broker_config();
        let mut output =
            Output { records: self.missing_features().collect(), answer: (), effects: Vec::new() };
        let topics = [
            (
                TRANSACTION_STATE,
                config.transaction_state_log_num_partitions,
                transaction_state_configs(&config),
            ),
            (CONSUMER_OFFSETS, config.offsets_topic_num_partitions, consumer_offsets_configs(&config)),
        ];
        for (name, partition_count, overrides) in topics {
            if self.topic(name).is_none() {
                let name = Str::from_static(name);
                self.push_topic(&mut output, NewTopic { name, id: next_id(), partition_count, overrides });
            }
        }
        output
    }

    /// Creates topics, or says what is wrong with them. `next_id` gives random ids.
    pub fn create_topics(
        &self,
        request: &create_topics::Request,
        mut next_id: impl FnMut() -> Uuid,
    ) -> Output<create_topics::Response> {
        let config = self.broker_config();
        let mut output =
            Output { records: Vec::new(), answer: create_topics::Response::default(), effects: Vec::new() };
        let partitions: i64 = request.topics.iter().map(|topic| partitions_asked_for(topic, &config)).sum();
        let is_excessive =
            partitions > MOST_PARTITIONS_PER_REQUEST || self.partition_total + partitions > MOST_PARTITIONS;
        for (topic, is_repeated) in once_each(&request.topics, |topic| &topic.name) {
            let checked = if is_repeated {
                Err(Refusal::new(ErrorCode::InvalidRequest, "the request names this topic more than once"))
            } else if is_excessive {
                let message = format!(
                    "too many partitions: a request may add {MOST_PARTITIONS_PER_REQUEST}, the broker holds \
                     {MOST_PARTITIONS}"
                );
                Err(Refusal::new(ErrorCode::PolicyViolation, message))
            } else {
                self.check_new_topic(topic, &config)
            };
            let result = match checked {
                Ok((partition_count, overrides)) => {
                    let name = topic.name.detached();
                    let topic =
                        NewTopic { name, id: self.unused_id(&mut next_id), partition_count, overrides };
                    let result = self.created(&topic);
                    self.push_topic(&mut output, topic);
                    result
                }
                Err(refusal) => CreatableTopicResult {
                    name: topic.name.clone(),
                    error_code: refusal.code,
                    error_message: Some(refusal.message.into()),
                    ..CreatableTopicResult::default()
                },
            };
            output.answer.topics.push(result);
        }
        output.unless(request.validate_only)
    }

    /// Creates one topic with the broker's defaults because a client asked for it (`auto.create.topics.enable`).
    pub fn auto_create_topics(
        &self,
        names: &[Str],
        next_id: impl FnMut() -> Uuid,
    ) -> Output<create_topics::Response> {
        let topic = |name: &Str| CreatableTopic {
            name: name.clone(),
            num_partitions: -1,
            replication_factor: -1,
            ..CreatableTopic::default()
        };
        let topics = names.iter().map(topic).collect();
        self.create_topics(&create_topics::Request { topics, ..create_topics::Request::default() }, next_id)
    }

    /// Deletes topics by name or id.
    pub fn delete_topics(&self, request: &delete_topics::Request) -> Output<delete_topics::Response> {
        let is_enabled = self.broker_config().delete_topic_enable;
        let by_state = request.topics.iter().map(|topic| (topic.name.as_ref(), topic.topic_id));
        let by_name = request.topic_names.iter().map(|name| (Some(name), Uuid::ZERO));
        let named: Vec<(Option<&Str>, Uuid)> = by_state.chain(by_name).collect();
        // A topic that is named by its name and again by its id is not deleted, as if it were named twice.
        let mut mentions: HashMap<Uuid, u32> = HashMap::new();
        for (topic, _) in once_each(&named, |topic| topic) {
            if let Ok(topic) = self.find_to_delete(topic) {
                *mentions.entry(topic.id).or_default() += 1;
            }
        }
        let mut output =
            Output { records: Vec::new(), answer: delete_topics::Response::default(), effects: Vec::new() };
        for (&(name, topic_id), is_repeated) in once_each(&named, |topic| topic) {
            let mut result =
                DeletableTopicResult { name: name.cloned(), topic_id, ..DeletableTopicResult::default() };
            let found = match self.find_to_delete(&(name, topic_id)) {
                _ if !is_enabled => {
                    Err(Refusal::new(ErrorCode::TopicDeletionDisabled, "delete.topic.enable is false"))
                }
                Ok(topic) if is_repeated || mentions.get(&topic.id).is_some_and(|&count| count > 1) => Err(
                    Refusal::new(ErrorCode::InvalidRequest, "the request names this topic more than once"),
                ),
                found => found,
            };
            match found {
                Ok(topic) => {
                    result.name = Some(topic.name.clone());
                    result.topic_id = topic.id;
                    output.records.push(RemoveTopicRecord { topic_id: topic.id }.into());
                    output.effects.push(Effect::TopicDeleted { name: topic.name.clone(), id: topic.id });
                }
                Err(refusal) => {
                    result.error_code = refusal.code;
                    result.error_message = Some(refusal.message.into());
                }
            }
            output.answer.responses.push(result);
        }
        output
    }

    /// Adds partitions to topics.
    pub fn create_partitions(
        &self,
        request: &create_partitions::Request,
    ) -> Output<create_partitions::Response> {
        let mut output = Output {
            records: Vec::new(),
            answer: create_partitions::Response::default(),
            effects: Vec::new(),
        };
        let mut left = MOST_PARTITIONS_PER_REQUEST.min(MOST_PARTITIONS - self.partition_total);
        for (topic, is_repeated) in once_each(&request.topics, |topic| &topic.name) {
            let checked = if is_repeated {
                Err(Refusal::new(ErrorCode::InvalidRequest, "the request names this topic more than once"))
            } else {
                self.check_growth(topic, left)
            };
            let mut result = CreatePartitionsTopicResult {
                name: topic.name.clone(),
                ..CreatePartitionsTopicResult::default()
            };
            match checked {
                Ok(grown) => {
                    left -= i64::from(topic.count - grown.partition_count);
                    let added = grown.partition_count..topic.count;
                    output.records.extend(added.map(|index| self.partition_record(grown.id, index)));
                    let name = grown.name.clone();
                    output.effects.push(Effect::PartitionsAdded { name, partition_count: topic.count });
                }
                Err(refusal) => {
                    result.error_code = refusal.code;
                    result.error_message = Some(refusal.message.into());
                }
            }
            output.answer.results.push(result);
        }
        output.unless(request.validate_only)
    }

    /// The number of partitions and the overrides of a topic that may be created.
    fn check_new_topic(
        &self,
        topic: &CreatableTopic,
        config: &BrokerConfig,
    ) -> Result<(i32, Overrides), Refusal> {
        let name = topic.name.as_str();
        if name == CLUSTER_METADATA {
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("{name} is not for clients to create"),
            ));
        }
        if self.topic(name).is_some() {
            return Err(Refusal::new(
                ErrorCode::TopicAlreadyExists,
                format!("Topic '{name}' already exists."),
            ));
        }
        check_name(name)?;
        if self.collides(name) {
            let message =
                format!("a topic exists whose name is {name} but for '.' and '_', which metrics mix up");
            return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
        let mut overrides = BTreeMap::new();
        for entry in &topic.configs {
            let Some(value) = &entry.value else {
                return Err(Refusal::new(ErrorCode::InvalidConfig, format!("{} has no value", entry.name)));
            };
            overrides.insert(entry.name.to_string(), value.to_string());
        }
        let overrides = self.check_overrides(ResourceType::Topic, name, overrides)?;
        let partition_count = match topic.assignments.is_empty() {
            true => self.check_counts(topic, config)?,
            false => self.check_assignments(topic)?,
        };
        Ok((partition_count, overrides))
    }

    fn check_counts(&self, topic: &CreatableTopic, config: &BrokerConfig) -> Result<i32, Refusal> {
        let replication_factor = match topic.replication_factor {
            -1 => config.default_replication_factor,
            given => i32::from(given),
        };
        if replication_factor <= 0 {
            let message = "the replication factor must be at least 1, or -1 for the default";
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
        if topic.num_partitions == 0 || topic.num_partitions < -1 {
            let message = "the number of partitions must be at least 1, or -1 for the default";
            return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        }
        if replication_factor > 1 {
            let message =
                format!("a replication factor of {replication_factor} needs as many brokers, there is one");
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
        Ok(if topic.num_partitions == -1 { config.num_partitions } else { topic.num_partitions })
    }

    fn check_assignments(&self, topic: &CreatableTopic) -> Result<i32, Refusal> {
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            let message = "with assignments, the number of partitions and the replication factor must be -1";
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        let mut indexes = HashSet::new();
        for assignment in &topic.assignments {
            if !indexes.insert(assignment.partition_index) {
                let message = format!("partition {} is assigned twice", assignment.partition_index);
                return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
            }
            self.check_replicas(&assignment.broker_ids)?;
        }
        let count = topic.assignments.len() as i32;
        if !(0..count).all(|index| indexes.contains(&index)) {
            let message = "the assigned partitions are not numbered from 0 without a gap";
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        Ok(count)
    }

    /// There is one broker, so a partition's replicas can only be that one.
    fn check_replicas(&self, broker_ids: &[i32]) -> Result<(), Refusal> {
        if broker_ids == [self.identity.node_id] {
            return Ok(());
        }
        let message =
            format!("replicas {broker_ids:?} cannot be: the only broker is {}", self.identity.node_id);
        Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message))
    }

    fn check_growth(&self, topic: &CreatePartitionsTopic, left: i64) -> Result<&super::Topic, Refusal> {
        let name = topic.name.as_str();
        let Some(current) = self.topic(name) else {
            return Err(Refusal::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no topic {name}"),
            ));
        };
        if is_internal(name) {
            let message =
                format!("the number of partitions of {name} decides where its state is, and is fixed");
            return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
        let count = current.partition_count;
        if topic.count <= count {
            let message = format!("{name} has {count} partitions, {} are not more", topic.count);
            return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        }
        let added = i64::from(topic.count - count);
        if added > left {
            return Err(Refusal::new(
                ErrorCode::InvalidPartitions,
                format!("{added} further partitions are too many"),
            ));
        }
        if let Some(assignments) = &topic.assignments {
            if assignments.len() as i64 != added {
                let message =
                    format!("{added} partitions would be added, {} are assigned", assignments.len());
                return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
            }
            assignments.iter().try_for_each(|assignment| self.check_replicas(&assignment.broker_ids))?;
        }
        Ok(current)
    }

    fn find_to_delete(&self, named: &(Option<&Str>, Uuid)) -> Result<&super::Topic, Refusal> {
        let refuse = |code, message: &str| Err(Refusal::new(code, message));
        let topic = match *named {
            (Some(name), id) if id.is_zero() => match self.topic(name) {
                Some(topic) => topic,
                None => return refuse(ErrorCode::UnknownTopicOrPartition, "there is no such topic"),
            },
            (None, id) if !id.is_zero() => match self.topic_by_id(id) {
                Some(topic) => topic,
                None => return refuse(ErrorCode::UnknownTopicId, "there is no topic of this id"),
            },
            _ => return refuse(ErrorCode::InvalidRequest, "a topic is named by its name or by its id"),
        };
        if is_internal(&topic.name) {
            return refuse(ErrorCode::InvalidTopicException, "the broker needs this topic");
        }
        Ok(topic)
    }

    fn unused_id(&self, next_id: &mut impl FnMut() -> Uuid) -> Uuid {
        loop {
            let id = next_id();
            if !id.is_zero() && self.topic_by_id(id).is_none() {
                return id;
            }
        }
    }

    fn push_topic<A>(&self, output: &mut Output<A>, topic: NewTopic) {
        let NewTopic { name, id, partition_count, overrides } = topic;
        let config = Box::new(TopicConfig::new(&self.layers(), &overrides));
        output.records.push(TopicRecord { name: name.clone(), topic_id: id }.into());
        output.records.extend(overrides.into_iter().map(|(key, value)| {
            let record = ConfigRecord {
                resource_type: ResourceType::Topic as i8,
                resource_name: name.clone(),
                name: key.into(),
                value: Some(value.into()),
            };
            Record::from(record)
        }));
        output.records.extend((0..partition_count).map(|index| self.partition_record(id, index)));
        output.effects.push(Effect::TopicCreated { name, id, partition_count, config });
    }

    fn partition_record(&self, topic_id: Uuid, partition_id: i32) -> Record {
        let node_id = self.identity.node_id;
        PartitionRecord {
            partition_id,
            topic_id,
            replicas: vec![node_id],
            isr: vec![node_id],
            leader: node_id,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            directories: vec![self.identity.directory_id],
            ..PartitionRecord::default()
        }
        .into()
    }

    fn created(&self, topic: &NewTopic) -> CreatableTopicResult {
        let configs = self.topic_entries(&topic.overrides).into_iter().map(|entry| CreatableTopicConfigs {
            name: entry.name,
            value: entry.value,
            read_only: entry.read_only,
            config_source: entry.config_source,
            is_sensitive: entry.is_sensitive,
        });
        CreatableTopicResult {
            name: topic.name.clone(),
            topic_id: topic.id,
            error_message: None,
            num_partitions: topic.partition_count,
            replication_factor: 1,
            configs: Some(configs.collect()),
            ..CreatableTopicResult::default()
        }
    }
}

impl<A> Output<A> {
    /// The answer alone, where the client asked only whether it could be done.
    pub(super) fn unless(mut self, validate_only: bool) -> Output<A> {
        if validate_only {
            self.records.clear();
            self.effects.clear();
        }
        self
    }
}

struct NewTopic {
    name: Str,
    id: Uuid,
    partition_count: i32,
    overrides: Overrides,
}

/// The elements in their order, each kind once, and whether there were more of it.
pub(super) fn once_each<'a, T, K: Eq + std::hash::Hash + 'a>(
    elements: &'a [T],
    kind: impl Fn(&'a T) -> &'a K,
) -> Vec<(&'a T, bool)> {
    let mut places: HashMap<&K, usize> = HashMap::new();
    let mut once: Vec<(&T, bool)> = Vec::new();
    for element in elements {
        match places.get(kind(element)) {
            Some(&place) => once[place].1 = true,
            None => {
                places.insert(kind(element), once.len());
                once.push((element, false));
            }
        }
    }
    once
}

fn partitions_asked_for(topic: &CreatableTopic, config: &BrokerConfig) -> i64 {
    match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => config.num_partitions.into(),
        (0, count) => count.max(0).into(),
        (assigned, _) => assigned as i64,
    }
}

fn transaction_state_configs(config: &BrokerConfig) -> Overrides {
    overrides([
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "uncompressed".to_owned()),
        ("min.insync.replicas", config.transaction_state_log_min_isr.to_string()),
        ("segment.bytes", config.transaction_state_log_segment_bytes.to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
    ])
}

fn consumer_offsets_configs(config: &BrokerConfig) -> Overrides {
    overrides([
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
    ])
}

fn overrides<const N: usize>(pairs: [(&str, String); N]) -> Overrides {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

//! Metadata: the broker, the topics and who leads their partitions. Creates topics that a client asks for, where
//! the client and the broker allow it.

use oncelog_coordinator::metadata::{Cluster, is_legal_name};
use oncelog_wire::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic, Request,
    Response,
};
use oncelog_wire::{ErrorCode, LeaderEpoch, Str, Uuid};

use crate::Node;
use crate::api::once_each;
use crate::context::Context;
use crate::host::metadata::Metadata;
use crate::partition::Partition;
use crate::reply::Answer;
use crate::topics::{Topic, is_internal};

/// What anyone may do to the cluster, and to a topic, without an authorizer: bit n stands for operation n.
pub(crate) const CLUSTER_OPERATIONS: i32 = 8096;
pub(crate) const TOPIC_OPERATIONS: i32 = 3576;

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let mut response = Response {
        brokers: vec![MetadataResponseBroker {
            node_id: node.id,
            host: context.connection.advertised_host.clone(),
            port: context.connection.advertised_port,
            rack: node.config.rack.as_deref().map(Into::into),
        }],
        cluster_id: Some(node.cluster_id.clone()),
        controller_id: node.id,
        ..Response::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response.topics = match &request.topics {
        None => all_topics(node),
        Some(topics) if topics.is_empty() && context.api_version == 0 => all_topics(node),
        Some(topics) => match check(topics, context.api_version) {
            Ok(()) => named_topics(node, context, topics, request.allow_auto_topic_creation),
            Err(error_code) => {
                let failed =
                    |topic: &MetadataRequestTopic| failed(error_code, topic.name.clone(), topic.topic_id);
                let topics = topics.iter().map(failed).collect();
                return Response { error_code, topics, ..Response::default() }.into();
            }
        },
    };
    if request.include_topic_authorized_operations {
        response.topics.iter_mut().for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
    }
    response.into()
}

/// Before version 12 every topic goes by its name, though from version 10 on there is a place for an id.
fn check(topics: &[MetadataRequestTopic], api_version: i16) -> Result<(), ErrorCode> {
    let is_by_name = |topic: &MetadataRequestTopic| topic.name.is_some() && topic.topic_id.is_zero();
    match api_version >= 12 || topics.iter().all(is_by_name) {
        true => Ok(()),
        false => Err(ErrorCode::InvalidRequest),
    }
}

fn all_topics(node: &Node) -> Vec<MetadataResponseTopic> {
    let mut topics: Vec<_> = node.topics.all().iter().map(|topic| described(node, topic)).collect();
    topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    topics
}

fn named_topics(
    node: &Node,
    context: &Context<'_>,
    topics: &[MetadataRequestTopic],
    may_create: bool,
) -> Vec<MetadataResponseTopic> {
    // As soon as one topic goes by its id, all do.
    let mut ids: Vec<Uuid> = topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_zero()).collect();
    if !ids.is_empty() {
        let describe = |id: Uuid| match node.topics.by_id(id) {
            Some(topic) => described(node, &topic),
            None => failed(ErrorCode::UnknownTopicId, None, id),
        };
        once_each(&mut ids, |id| *id);
        return ids.into_iter().map(describe).collect();
    }
    let mut names: Vec<Str> = topics.iter().filter_map(|topic| topic.name.clone()).collect();
    once_each(&mut names, Str::clone);
    if may_create && node.config.auto_create_topics_enable {
        let missing: Vec<Str> =
            names.iter().filter(|name| node.topics.by_name(name).is_none()).cloned().collect();
        if !missing.is_empty() {
            create(node, context, &missing);
        }
    }
    let describe = |name: Str| match node.topics.by_name(&name) {
        Some(topic) => described(node, &topic),
        None if is_legal_name(&name) => failed(ErrorCode::UnknownTopicOrPartition, Some(name), Uuid::ZERO),
        None => failed(ErrorCode::InvalidTopicException, Some(name), Uuid::ZERO),
    };
    names.into_iter().map(describe).collect()
}

/// Creates topics as well as it can be done: the client sees which are there then.
fn create(node: &Node, context: &Context<'_>, names: &[Str]) {
    let decide = |cluster: &Cluster| cluster.auto_create_topics(names, || Metadata::topic_id(node));
    match node.metadata.change(node, context.now, decide) {
        Ok(response) => {
            for topic in response.topics.iter().filter(|topic| topic.error_code.is_error()) {
                let why = topic.error_message.as_deref().unwrap_or_default();
                tracing::info!(
                    "topic {:?} is not created for {}: {why}",
                    topic.name.as_str(),
                    context.client_id
                );
            }
        }
        Err(error_code) => tracing::error!("topics cannot be created: {error_code}"),
    }
}

fn described(node: &Node, topic: &Topic) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: topic.partitions().iter().map(|partition| described_partition(node, partition)).collect(),
        ..MetadataResponseTopic::default()
    }
}

fn described_partition(node: &Node, partition: &Partition) -> MetadataResponsePartition {
    let leadership = Leadership::of(node, partition);
    MetadataResponsePartition {
        error_code: leadership.error_code,
        partition_index: partition.index,
        leader_id: leadership.leader_id,
        leader_epoch: leadership.leader_epoch,
        replica_nodes: vec![node.id],
        isr_nodes: vec![node.id],
        offline_replicas: leadership.offline_replicas,
    }
}

/// Who leads a partition: this node, as long as its log can be written.
pub(crate) struct Leadership {
    pub error_code: ErrorCode,
    pub leader_id: i32,
    pub leader_epoch: LeaderEpoch,
    pub offline_replicas: Vec<i32>,
}

impl Leadership {
    pub(crate) fn of(node: &Node, partition: &Partition) -> Leadership {
        let state = partition.lock();
        let leader_epoch = state.log.leader_epoch();
        match state.log.is_offline() {
            false => Leadership {
                error_code: ErrorCode::None,
                leader_id: node.id,
                leader_epoch,
                offline_replicas: Vec::new(),
            },
            true => Leadership {
                error_code: ErrorCode::LeaderNotAvailable,
                leader_id: -1,
                leader_epoch,
                offline_replicas: vec![node.id],
            },
        }
    }
}

fn failed(error_code: ErrorCode, name: Option<Str>, topic_id: Uuid) -> MetadataResponseTopic {
    let is_internal = name.as_deref().is_some_and(is_internal);
    MetadataResponseTopic { error_code, name, topic_id, is_internal, ..MetadataResponseTopic::default() }
}

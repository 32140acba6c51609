//! One file for each API that is served: decoded request and context in, answer out.

use std::collections::HashSet;
use std::hash::Hash;

use crate::Node;

pub(crate) mod add_offsets_to_txn;
pub(crate) mod add_partitions_to_txn;
pub(crate) mod alter_configs;
pub(crate) mod api_versions;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_groups;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod describe_producers;
pub(crate) mod describe_topic_partitions;
pub(crate) mod describe_transactions;
pub(crate) mod end_txn;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod heartbeat;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_config_resources;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod list_transactions;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod sync_group;
pub(crate) mod txn_offset_commit;
pub(crate) mod write_txn_markers;

/// Leaves each question once. An answer can be a thousand times as large as its question, so a small request that
/// repeated one would make a huge response.
fn once_each<T, K: Eq + Hash>(questions: &mut Vec<T>, key: impl Fn(&T) -> K) {
    let mut seen = HashSet::new();
    questions.retain(|question| seen.insert(key(question)));
}

/// Takes out the partitions, each with its index, that the topic does not have; gives their indexes.
fn take_unknown<T>(node: &Node, topic: &str, partitions: &mut Vec<T>, index: impl Fn(&T) -> i32) -> Vec<i32> {
    let found = node.topics.by_name(topic);
    let mut unknown = Vec::new();
    partitions.retain(|partition| {
        let exists = found.as_ref().is_some_and(|found| found.has_partition(index(partition)));
        if !exists {
            unknown.push(index(partition));
        }
        exists
    });
    unknown
}

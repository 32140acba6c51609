//! Offsets of groups: committed, fetched, pending, deleted.

use oncelog_wire::{
    LeaderEpoch, Offset, Str, Uuid, delete_groups, offset_commit, offset_delete, offset_fetch,
    txn_offset_commit,
};

use super::groups::{join_request, stable_group};
use super::transactions::end_request;
use super::{Topic, init_producer, topic};
use crate::pair::{Both, Pair, Side};

/// OffsetFetch for all versions: of these partitions, or of all there are.
pub fn fetch_request(
    group: &Str,
    of: Option<(&Topic, &[i32])>,
    require_stable: bool,
) -> offset_fetch::Request {
    fetch_by_id(group, of, require_stable, Uuid::ZERO)
}

fn fetch_by_id(
    group: &Str,
    of: Option<(&Topic, &[i32])>,
    require_stable: bool,
    topic_id: Uuid,
) -> offset_fetch::Request {
    offset_fetch::Request {
        group_id: group.clone(),
        topics: of.map(|(topic, partitions)| {
            vec![offset_fetch::OffsetFetchRequestTopic {
                name: topic.name.clone(),
                partition_indexes: partitions.into(),
            }]
        }),
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: group.clone(),
            topics: of.map(|(topic, partitions)| {
                vec![offset_fetch::OffsetFetchRequestTopics {
                    name: topic.name.clone(),
                    topic_id,
                    partition_indexes: partitions.into(),
                }]
            }),
            ..Default::default()
        }],
        require_stable,
    }
}

/// OffsetCommit of some partitions.
fn commit_request(
    group: &str,
    topic: &Topic,
    side: Side,
    partitions: &[i32],
    (generation, member): (i32, &str),
) -> offset_commit::Request {
    let partitions = partitions.iter().map(|&partition_index| offset_commit::OffsetCommitRequestPartition {
        partition_index,
        committed_offset: Offset(i64::from(partition_index) + 10),
        committed_leader_epoch: LeaderEpoch(0),
        committed_metadata: Some("meta".into()),
    });
    offset_commit::Request {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        member_id: member.into(),
        topics: vec![offset_commit::OffsetCommitRequestTopic {
            name: topic.name.clone(),
            topic_id: topic.id[side],
            partitions: partitions.collect(),
        }],
        ..Default::default()
    }
}

const NOBODY: (i32, &str) = (-1, "");

/// Commits without and with members, in all versions.
pub fn commits(pair: &mut Pair) {
    let topic = topic(pair, "commits", 3, &[]);
    for version in 2..=10 {
        let group = pair.name(&format!("commits-{version}"));
        pair.ask("of nobody", version, |side| commit_request(&group, &topic, side, &[0, 1], NOBODY));
        pair.ask("of a generation, to no group", version, |side| {
            commit_request(&format!("{group}-x"), &topic, side, &[0], (1, "m"))
        });
        pair.ask("of a generation, to an empty group", version, |side| {
            commit_request(&group, &topic, side, &[0], (1, "m"))
        });
        pair.ask("of a member, to an empty group", version, |side| {
            commit_request(&group, &topic, side, &[0], (-1, "m"))
        });
        let member = stable_group(pair, &group, 5, None);
        pair.ask("of the member", version, |side| {
            commit_request(&group, &topic, side, &[1, 2], (1, &member[side]))
        });
        pair.ask("of nobody, to a stable group", version, |side| {
            commit_request(&group, &topic, side, &[0], NOBODY)
        });
        pair.ask("of another generation", version, |side| {
            commit_request(&group, &topic, side, &[0], (2, &member[side]))
        });
        pair.ask("of no generation", version, |side| {
            commit_request(&group, &topic, side, &[0], (-1, &member[side]))
        });
        pair.ask("of an unknown member", version, |side| {
            commit_request(&group, &topic, side, &[0], (1, "m"))
        });
        pair.ask("of another instance", version, |side| offset_commit::Request {
            group_instance_id: Some("i".into()),
            ..commit_request(&group, &topic, side, &[0], (1, &member[side]))
        });
        let fetched = if version == 10 { 9 } else { version.max(1) };
        pair.ask("fetched", fetched, |_| {
            fetch_request(&Str::from(group.as_str()), Some((&topic, &[0, 1, 2])), false)
        });
        pair.ask("rejoins", 5, |side| join_request(&group, &member[side], None));
        pair.ask("while it rebalances", version, |side| {
            commit_request(&group, &topic, side, &[0], (2, &member[side]))
        });
    }
}

/// Commits that are not taken, or only in part.
pub fn errors(pair: &mut Pair) {
    let known = topic(pair, "commit-errors", 2, &[]);
    let nowhere = Topic { name: "nowhere".into(), id: Both::of(|_| Uuid([3; 16])) };
    let invalid = Topic { name: "a/b".into(), id: Both::of(|_| Uuid::ZERO) };
    let group = pair.name("commit-errors");
    for (what, topic) in [("unknown topic", &nowhere), ("invalid topic", &invalid)] {
        pair.ask_all(what, |side| commit_request(&group, topic, side, &[0], NOBODY));
    }
    pair.ask_all("unknown partition", |side| commit_request(&group, &known, side, &[0, 7, -1], NOBODY));
    pair.ask_all("known and unknown", |side| {
        let mut request = commit_request(&group, &nowhere, side, &[0], NOBODY);
        request.topics.extend(commit_request(&group, &known, side, &[0], NOBODY).topics);
        request
    });
    pair.ask_all("empty group", |side| commit_request("", &known, side, &[0], NOBODY));
    pair.ask_all("no topics", |side| offset_commit::Request {
        topics: vec![],
        ..commit_request(&group, &known, side, &[0], NOBODY)
    });
    pair.ask_all("no partitions", |side| commit_request(&group, &known, side, &[], NOBODY));
    pair.ask_all("the same twice", |side| commit_request(&group, &known, side, &[0, 0], NOBODY));
    for (what, metadata) in [
        ("long metadata", Some("m".repeat(4096))),
        ("too long metadata", Some("m".repeat(4097))),
        ("null metadata", None),
    ] {
        pair.ask_all(what, |side| {
            let mut request = commit_request(&group, &known, side, &[0, 1], NOBODY);
            request.topics[0].partitions[0].committed_metadata = metadata.as_deref().map(Str::from);
            request
        });
    }
    for offset in [-1, -2, i64::MAX] {
        pair.ask_all(&format!("offset {offset}"), |side| {
            let mut request = commit_request(&group, &known, side, &[1], NOBODY);
            request.topics[0].partitions[0].committed_offset = Offset(offset);
            request
        });
        pair.ask("fetched", 7, |_| fetch_request(&Str::from(group.as_str()), None, false));
    }
    for epoch in [-2, -1, 9] {
        pair.ask_all(&format!("leader epoch {epoch}"), |side| {
            let mut request = commit_request(&group, &known, side, &[1], NOBODY);
            request.topics[0].partitions[0].committed_leader_epoch = LeaderEpoch(epoch);
            request
        });
        pair.ask("fetched", 7, |_| fetch_request(&Str::from(group.as_str()), None, false));
    }
    pair.ask("retention", 3, |side| offset_commit::Request {
        retention_time_ms: 1000,
        ..commit_request(&group, &known, side, &[1], NOBODY)
    });
}

/// OffsetFetch: unknown groups, topics, partitions; all; members.
pub fn fetches(pair: &mut Pair) {
    let known = topic(pair, "fetches", 3, &[]);
    let nowhere = Topic { name: "nowhere".into(), id: Both::of(|_| Uuid([3; 16])) };
    let group = Str::from(pair.name("fetches"));
    pair.ask("commit", 8, |side| commit_request(&group, &known, side, &[0, 2], NOBODY));
    for require_stable in [false, true] {
        for name in [&group, &Str::from("unknown-group"), &Str::EMPTY] {
            let what = |what: &str| {
                format!(
                    "{what} of {:.8}, stable {require_stable}",
                    if name.is_empty() { "''" } else { name.as_str() }
                )
            };
            for version in 1..=10 {
                pair.ask(&what("some"), version, |side| {
                    fetch_by_id(name, Some((&known, &[0, 1, 2, 9, -1])), require_stable, known.id[side])
                });
                pair.ask(&what("unknown topic"), version, |_| {
                    fetch_by_id(name, Some((&nowhere, &[0])), require_stable, Uuid([3; 16]))
                });
                pair.ask(&what("no partitions"), version, |side| {
                    fetch_by_id(name, Some((&known, &[])), require_stable, known.id[side])
                });
                if version >= 2 {
                    pair.ask(&what("all"), version, |_| fetch_request(name, None, require_stable));
                }
                pair.ask(&what("no topics"), version, |_| {
                    let mut request = fetch_request(name, None, require_stable);
                    request.topics = Some(vec![]);
                    request.groups[0].topics = Some(vec![]);
                    request
                });
            }
            pair.ask(&what("zero id"), 10, |_| {
                fetch_by_id(name, Some((&known, &[0])), require_stable, Uuid::ZERO)
            });
        }
    }
    for version in 8..=10 {
        pair.ask("several groups", version, |side| {
            let mut request = fetch_by_id(&group, Some((&known, &[0])), false, known.id[side]);
            request.groups.extend(
                fetch_by_id(&"unknown-group".into(), Some((&known, &[0])), false, known.id[side]).groups,
            );
            request.groups.extend(fetch_request(&group, None, false).groups);
            request
        });
        pair.ask("no groups", version, |_| offset_fetch::Request::default());
    }
    let member = stable_group(pair, &group, 5, None);
    for version in 9..=10 {
        for (what, id, epoch) in [
            ("the member", None, 1),
            ("another epoch", None, 5),
            ("no epoch", None, -1),
            ("an unknown member", Some("m"), 1),
            ("an empty member", Some(""), 1),
            ("epoch -2", Some(""), -2),
        ] {
            pair.ask(&format!("by {what}"), version, |side| {
                let mut request = fetch_by_id(&group, Some((&known, &[0])), false, known.id[side]);
                request.groups[0].member_id = Some(id.map_or_else(|| member[side].clone(), Str::from));
                request.groups[0].member_epoch = epoch;
                request
            });
        }
    }
}

/// Offsets that wait for the end of a transaction, beside plain ones.
pub fn transactional(pair: &mut Pair) {
    let topic = topic(pair, "pending", 1, &[]);
    let group = Str::from(pair.name("pending"));
    for committed in [true, false] {
        let id = pair.name(&format!("pending-{committed}"));
        let producer = init_producer(pair, "a producer", Some(&id));
        pair.ask_unless(&["ConcurrentTransactions"], "in the transaction", 5, |side| {
            txn_offset_commit::Request {
                transactional_id: id.as_str().into(),
                group_id: group.clone(),
                producer_id: producer[side].0,
                producer_epoch: producer[side].1,
                generation_id: -1,
                topics: vec![txn_offset_commit::TxnOffsetCommitRequestTopic {
                    name: topic.name.clone(),
                    partitions: vec![txn_offset_commit::TxnOffsetCommitRequestPartition {
                        committed_offset: Offset(77),
                        ..Default::default()
                    }],
                }],
                ..Default::default()
            }
        });
        for version in 1..=9 {
            for require_stable in [false, true] {
                pair.ask("while it is open", version, |_| {
                    fetch_request(&group, Some((&topic, &[0])), require_stable)
                });
            }
        }
        pair.ask("a plain commit beside it", 8, |side| commit_request(&group, &topic, side, &[0], NOBODY));
        pair.ask("the plain commit", 7, |_| fetch_request(&group, Some((&topic, &[0])), false));
        pair.ask("delete while pending", 2, |_| delete_groups::Request { groups_names: vec![group.clone()] });
        pair.settle("end", 5, |side| end_request(&id, producer[side], committed));
        pair.settle("after the end", 7, |_| fetch_request(&group, Some((&topic, &[0])), true));
    }
}

/// OffsetDelete and DeleteGroups.
pub fn deletions(pair: &mut Pair) {
    let topic = topic(pair, "deletions", 2, &[]);
    let group = pair.name("deletions");
    let delete = |group: &str, name: &str, partitions: &[i32]| offset_delete::Request {
        group_id: group.into(),
        topics: vec![offset_delete::OffsetDeleteRequestTopic {
            name: name.into(),
            partitions: partitions
                .iter()
                .map(|&partition_index| offset_delete::OffsetDeleteRequestPartition { partition_index })
                .collect(),
        }],
    };
    pair.ask("commit", 8, |side| commit_request(&group, &topic, side, &[0, 1], NOBODY));
    pair.ask("one", 0, |_| delete(&group, &topic.name, &[0]));
    pair.ask("again", 0, |_| delete(&group, &topic.name, &[0]));
    pair.ask("no such partition", 0, |_| delete(&group, &topic.name, &[0, 9]));
    pair.ask("no such topic", 0, |_| delete(&group, "nowhere", &[0]));
    pair.ask("no partitions", 0, |_| delete(&group, &topic.name, &[]));
    pair.ask("no topics", 0, |_| offset_delete::Request { group_id: group.as_str().into(), topics: vec![] });
    pair.ask("unknown group", 0, |_| delete("unknown-group", &topic.name, &[0]));
    pair.ask("no group", 0, |_| delete("", &topic.name, &[0]));
    pair.ask("left", 8, |_| fetch_request(&Str::from(group.as_str()), None, false));
    let subscribed = |name: &str, member: &str| {
        let mut request = join_request(name, member, None);
        // Version 0, one topic, no user data.
        let topic = topic.name.as_bytes();
        let metadata =
            [&[0, 0, 0, 0, 0, 1][..], &(topic.len() as i16).to_be_bytes(), topic, &[0, 0, 0, 0]].concat();
        request.protocols.iter_mut().for_each(|protocol| protocol.metadata = metadata.clone().into());
        request
    };
    let member = pair.ask("joins", 3, |_| subscribed(&group, "")).map(|answer| answer.member_id.clone());
    pair.ask("syncs", 3, |side| super::groups::sync_request(&group, &member[side], 1, &[&member[side]]));
    pair.ask("of a subscribed topic", 0, |_| delete(&group, &topic.name, &[0, 1]));
    let other = pair.name("deletions-connect");
    let connect = |name: &str| oncelog_wire::join_group::Request {
        protocol_type: "connect".into(),
        ..join_request(name, "", None)
    };
    pair.ask("a group of another type", 3, |_| connect(&other));
    pair.ask("of another type", 0, |_| delete(&other, &topic.name, &[0]));
    let simple = pair.name("deletions-simple");
    pair.ask("commit", 8, |side| commit_request(&simple, &topic, side, &[0, 1], NOBODY));
    pair.ask_all("delete it", |_| delete_groups::Request { groups_names: vec![simple.as_str().into()] });
    pair.ask("gone", 8, |_| fetch_request(&Str::from(simple.as_str()), None, false));
}

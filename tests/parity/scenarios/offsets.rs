//! Where a partition begins and ends: ListOffsets, OffsetForLeaderEpoch, DeleteRecords.

use oncelog_records::BatchBuilder;
use oncelog_wire::{
    LeaderEpoch, Offset, Str, delete_records as delete_api, list_offsets as list_api, offset_for_leader_epoch,
};

use super::{batch, filled, list_offsets_of, produce_to, topic};
use crate::pair::Pair;

/// DeleteRecords of one partition.
pub fn delete_to(name: &Str, partition_index: i32, offset: i64) -> delete_api::Request {
    delete_api::Request {
        topics: vec![delete_api::DeleteRecordsTopic {
            name: name.clone(),
            partitions: vec![delete_api::DeleteRecordsPartition { partition_index, offset: Offset(offset) }],
        }],
        timeout_ms: 2000,
    }
}

/// Special and other timestamps, in all versions and isolation levels; an open transaction; errors.
pub fn list_offsets(pair: &mut Pair) {
    let known = topic(pair, "listed", 3, &[]);
    let start = pair.time();
    for (from, values) in [(100, &["a", "b", "c"][..]), (50, &["d"]), (300, &["e", "f"]), (200, &["g"])] {
        let records = filled(BatchBuilder::new(), start.plus_ms(from), values);
        pair.ask("records", 9, |side| produce_to(&known, side, 0, records.clone()));
    }
    let producer = super::init_producer(pair, "a producer", Some(&pair.name("listed")));
    let id = pair.name("listed");
    pair.ask("an open transaction", 13, |side| oncelog_wire::produce::Request {
        transactional_id: Some(id.as_str().into()),
        ..produce_to(&known, side, 2, {
            let (id, epoch) = producer[side];
            filled(BatchBuilder::new().producer(id, epoch, 0).transactional(), start.plus_ms(10), &["t"])
        })
    });
    let mut timestamps: Vec<i64> = (-8..=0).collect();
    timestamps
        .extend([0, 49, 50, 51, 99, 100, 101, 102, 103, 200, 201, 300, 301, 302].map(|at| start.0 + at));
    timestamps.push(i64::MAX);
    timestamps.push(i64::MIN);
    for timestamp in timestamps {
        let what = if timestamp >= start.0 && timestamp < i64::MAX {
            format!("start+{}", timestamp - start.0)
        } else {
            timestamp.to_string()
        };
        for isolation in [0, 1] {
            pair.ask_all(&format!("{what} isolation {isolation}"), |_| {
                list_offsets_of(&known.name, &[0, 1, 2], timestamp, isolation)
            });
        }
    }
    super::transactions::end(pair, "the end of it", &id, &producer, false, 3);
    super::transaction_ends::through(pair, &id);
    for timestamp in [-1, -2, -3, start.0] {
        pair.ask("after the abort", 11, |_| list_offsets_of(&known.name, &[2], timestamp, 0));
    }
    for epoch in [0, 1, 5, -2] {
        pair.ask_all(&format!("current epoch {epoch}"), |_| {
            let mut request = list_offsets_of(&known.name, &[0], -1, 0);
            request.topics[0].partitions[0].current_leader_epoch = LeaderEpoch(epoch);
            request
        });
    }
    for replica_id in [-2, 0, 1, 7] {
        pair.ask_all(&format!("replica {replica_id}"), |_| list_api::Request {
            replica_id,
            ..list_offsets_of(&known.name, &[0, 2], -1, 1)
        });
    }
    pair.ask_all("twice", |_| list_offsets_of(&known.name, &[0, 0, 1], -1, 0));
    pair.ask_all("no such partition", |_| list_offsets_of(&known.name, &[0, 9, -1], -1, 0));
    pair.ask_all("no such partition, by time", |_| list_offsets_of(&known.name, &[0, 9, -1], start.0, 0));
    for name in ["nowhere", "", "a/b"] {
        pair.ask_all(&format!("topic {name:?}"), |_| list_offsets_of(&name.into(), &[0], -1, 0));
    }
    pair.ask_all("isolation 7", |_| list_offsets_of(&known.name, &[2], -1, 7));
    pair.ask_all("nothing", |_| list_api::Request { replica_id: -1, ..Default::default() });
}

/// OffsetForLeaderEpoch.
pub fn leader_epochs(pair: &mut Pair) {
    let known = topic(pair, "epochs", 2, &[]);
    let records = batch(pair, &["a", "b"]);
    pair.ask("records", 9, |side| produce_to(&known, side, 0, records.clone()));
    for name in [&known.name, &Str::from("nowhere")] {
        for partition in [0, 1, 2] {
            for leader_epoch in [-1, 0, 1, 9, i32::MAX, -5] {
                for current in [-1, 0, 1, 9] {
                    let what = format!(
                        "{}-{partition} epoch {leader_epoch} current {current}",
                        if *name == known.name { "known" } else { "unknown" }
                    );
                    pair.ask_all(&what, |_| offset_for_leader_epoch::Request {
                        replica_id: -1,
                        topics: vec![offset_for_leader_epoch::OffsetForLeaderTopic {
                            topic: name.clone(),
                            partitions: vec![offset_for_leader_epoch::OffsetForLeaderPartition {
                                partition,
                                current_leader_epoch: LeaderEpoch(current),
                                leader_epoch: LeaderEpoch(leader_epoch),
                            }],
                        }],
                    });
                }
            }
        }
    }
}

/// DeleteRecords.
pub fn delete_records(pair: &mut Pair) {
    let known = topic(pair, "deleted", 2, &[]);
    let compact = topic(pair, "compact", 1, &[("cleanup.policy", "compact")]);
    let both = topic(pair, "both", 1, &[("cleanup.policy", "compact,delete")]);
    let records = batch(pair, &["a", "b", "c", "d"]);
    for topic in [&known, &compact, &both] {
        pair.ask("records", 9, |side| produce_to(topic, side, 0, records.clone()));
    }
    for offset in [-2, 5, 2, 1, 0, 2, -1, 4, 5, i64::MAX, i64::MIN] {
        pair.ask_all(&format!("to {offset}"), |_| delete_to(&known.name, 0, offset));
    }
    for offset in [-1, 0, 1] {
        pair.ask_all(&format!("compacted, to {offset}"), |_| delete_to(&compact.name, 0, offset));
        pair.ask_all(&format!("compacted and deleted, to {offset}"), |_| delete_to(&both.name, 0, offset));
        pair.ask_all(&format!("empty, to {offset}"), |_| delete_to(&known.name, 1, offset));
    }
    for (name, partition) in [
        ("nowhere", 0),
        ("", 0),
        (&known.name, 7),
        (&known.name, -1),
        ("__consumer_offsets", 0),
        ("__transaction_state", 0),
    ] {
        pair.ask_all(&format!("{name:.8}-{partition}"), |_| delete_to(&Str::from(name), partition, 0));
    }
    pair.ask_all("nothing", |_| delete_api::Request::default());
    pair.ask_all("several", |_| {
        let mut request = delete_to(&known.name, 0, 4);
        request.topics[0]
            .partitions
            .push(delete_api::DeleteRecordsPartition { partition_index: 1, offset: Offset(3) });
        request.topics.extend(delete_to(&"nowhere".into(), 0, 1).topics);
        request
    });
    pair.ask("start", 7, |_| list_offsets_of(&known.name, &[0], -2, 0));
}

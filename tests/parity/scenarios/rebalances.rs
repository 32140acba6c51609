//! Classic groups in motion: who is waited for, who is dropped, and what each is told meanwhile.

use std::time::Duration;

use oncelog_wire::{Str, describe_groups, heartbeat, join_group, leave_group, sync_group};

use super::groups::{heartbeat_request, join_request, stable_group, sync_request};
use super::topic;
use crate::pair::{Both, Pair};

fn described(pair: &mut Pair, what: &str, group: &str) {
    pair.ask(what, 6, |_| describe_groups::Request { groups: vec![group.into()], ..Default::default() });
}

/// A member id from the broker, of a member that has not joined yet.
fn pending_member(pair: &mut Pair, group: &str) -> Both<Str> {
    pair.ask("asks for an id", 5, |_| join_request(group, "", None)).map(|answer| answer.member_id.clone())
}

/// Requests of the wrong moment: while members are awaited, and while the leader decides.
pub fn wrong_moments(pair: &mut Pair) {
    let group = pair.name("moments");
    let a = pending_member(pair, &group);
    described(pair, "one pending", &group);
    pair.ask("a pending member beats", 4, |side| heartbeat_request(&group, &a[side], 0));
    pair.ask("a pending member syncs", 5, |side| sync_request(&group, &a[side], 0, &[]));
    pair.ask("a pending member leaves", 4, |side| leave(&group, &a[side], None));
    pair.ask("a pending member that left joins", 5, |side| join_request(&group, &a[side], None));
    let a = pending_member(pair, &group);
    pair.ask("it joins", 5, |side| join_request(&group, &a[side], None));
    described(pair, "completing", &group);
    pair.ask("beats while completing", 4, |side| heartbeat_request(&group, &a[side], 1));
    pair.ask("joins again while completing", 5, |side| join_request(&group, &a[side], None));
    let mut other = pair.another_called("other");
    let b = pending_member(&mut other, &group);
    described(pair, "completing, one pending", &group);
    let joining =
        other.send("the other joins while completing", 5, |side| join_request(&group, &b[side], None));
    pair.ask_unless(&["None"], "told to rejoin", 4, |side| heartbeat_request(&group, &a[side], 1));
    pair.ask("syncs too late", 5, |side| sync_request(&group, &a[side], 1, &[&a[side]]));
    described(pair, "preparing", &group);
    pair.ask("rejoins", 5, |side| join_request(&group, &a[side], None));
    other.receive(joining);
    let syncing = other.send("the other syncs", 5, |side| sync_request(&group, &b[side], 2, &[]));
    pair.ask("assigns to itself alone", 5, |side| sync_request(&group, &a[side], 2, &[&a[side]]));
    other.receive(syncing);
    other.ask("the other syncs again", 5, |side| sync_request(&group, &b[side], 2, &[]));
    pair.ask("the leader leaves", 4, |side| leave(&group, &a[side], None));
    other.ask_unless(&["None"], "the other is told", 4, |side| heartbeat_request(&group, &b[side], 2));
    other.ask("the other rejoins", 5, |side| join_request(&group, &b[side], None));
    described(pair, "the other leads", &group);
}

fn leave(group: &str, member: &str, instance: Option<&str>) -> leave_group::Request {
    leave_group::Request {
        group_id: group.into(),
        members: vec![leave_group::MemberIdentity {
            member_id: member.into(),
            group_instance_id: instance.map(Str::from),
            reason: None,
        }],
        ..Default::default()
    }
}

/// Timeouts that run out: of a pending member, of a session, of a rebalance, of a sync.
pub fn timeouts(pair: &mut Pair) {
    let quick = |group: &str, member: &str, rebalance_ms: i32| join_group::Request {
        session_timeout_ms: 6_000,
        rebalance_timeout_ms: rebalance_ms,
        ..join_request(group, member, None)
    };
    // All wait at the same time.
    let (pending, silent, rejoining, syncing) =
        (pair.name("t-pending"), pair.name("t-silent"), pair.name("t-rejoining"), pair.name("t-syncing"));
    let p = pair.ask("pending", 5, |_| quick(&pending, "", 5_000)).map(|answer| answer.member_id.clone());
    let s = pair.ask("silent", 3, |_| quick(&silent, "", 5_000)).map(|answer| answer.member_id.clone());
    pair.ask("silent syncs", 3, |side| sync_request(&silent, &s[side], 1, &[&s[side]]));
    let r = pair.ask("first", 3, |_| quick(&rejoining, "", 1_500)).map(|answer| answer.member_id.clone());
    pair.ask("first syncs", 3, |side| sync_request(&rejoining, &r[side], 1, &[&r[side]]));
    let mut late = pair.another_called("late");
    let joining = late.send("second waits for the first", 3, |_| quick(&rejoining, "", 1_500));
    let y = pair.ask("never syncs", 3, |_| quick(&syncing, "", 1_500)).map(|answer| answer.member_id.clone());
    described(pair, "never syncs yet", &syncing);
    let second = late.receive(joining).map(|answer| answer.member_id.clone());
    pair.ask("the first was dropped", 3, |side| heartbeat_request(&rejoining, &r[side], 1));
    late.ask("the second syncs", 3, |side| sync_request(&rejoining, &second[side], 2, &[&second[side]]));
    std::thread::sleep(Duration::from_millis(1_000));
    described(pair, "never synced", &syncing);
    pair.ask("never synced, beats", 3, |side| heartbeat_request(&syncing, &y[side], 1));
    std::thread::sleep(Duration::from_millis(5_500));
    for (what, group) in [("pending is gone", &pending), ("silent is gone", &silent)] {
        described(pair, what, group);
    }
    pair.ask("pending joins", 5, |side| quick(&pending, &p[side], 5_000));
    pair.ask("silent beats", 3, |side| heartbeat_request(&silent, &s[side], 1));
    pair.ask("silent joins", 3, |side| quick(&silent, &s[side], 5_000));
}

/// Static members in a group of two: one comes back, one is replaced while others wait.
pub fn static_pairs(pair: &mut Pair) {
    for version in [5, 7, 9] {
        let group = pair.name(&format!("static-pair-{version}"));
        let join = |member: &str, instance: &str| join_request(&group, member, Some(instance));
        let sync = |member: &Str, instance: &str, generation: i32, assigned: &[&str]| sync_group::Request {
            group_instance_id: Some(instance.into()),
            ..sync_request(&group, member, generation, assigned)
        };
        let a = pair.ask("one joins", version, |_| join("", "one")).map(|answer| answer.member_id.clone());
        pair.ask("one syncs", 5, |side| sync(&a[side], "one", 1, &[&a[side]]));
        let mut other = pair.another_called("other");
        let joining = other.send("two joins", version, |_| join("", "two"));
        pair.ask_unless(&["None"], "one is told", 4, |side| heartbeat::Request {
            group_instance_id: Some("one".into()),
            ..heartbeat_request(&group, &a[side], 1)
        });
        pair.ask("one rejoins", version, |side| join(&a[side], "one"));
        let b = other.receive(joining).map(|answer| answer.member_id.clone());
        let syncing = other.send("two syncs", 5, |side| sync(&b[side], "two", 2, &[]));
        pair.ask("the leader syncs", 5, |side| sync(&a[side], "one", 2, &[&a[side], &b[side]]));
        other.receive(syncing);
        let b2 =
            other.ask("two comes back", version, |_| join("", "two")).map(|answer| answer.member_id.clone());
        other.ask("two syncs anew", 5, |side| sync(&b2[side], "two", 2, &[]));
        let a2 = pair.ask("the leader comes back", version, |_| join("", "one"));
        let a2 = a2.map(|answer| answer.member_id.clone());
        pair.ask("the leader syncs anew", 5, |side| sync(&a2[side], "one", 2, &[&a2[side], &b2[side]]));
        described(pair, "as before", &group);
        let rejoining = pair.send("the leader rejoins with its id", version, |side| join(&a2[side], "one"));
        pair.receive(rejoining);
        other.ask("two is told", 4, |side| heartbeat::Request {
            group_instance_id: Some("two".into()),
            ..heartbeat_request(&group, &b2[side], 2)
        });
        other.ask("two leaves by its instance", 4, |_| leave(&group, "", Some("two")));
    }
}

/// TxnOffsetCommit of members, as EOS consumers send it.
pub fn transactional_members(pair: &mut Pair) {
    let topic = topic(pair, "eos-members", 1, &[]);
    let group = pair.name("eos-members");
    let member = stable_group(pair, &group, 5, None);
    for version in [3, 4, 5] {
        let id = pair.name(&format!("eos-members-{version}"));
        let producer = super::init_producer(pair, "a producer", Some(&id));
        if version < 5 {
            pair.settle("added", 3, |side| oncelog_wire::add_offsets_to_txn::Request {
                transactional_id: id.as_str().into(),
                producer_id: producer[side].0,
                producer_epoch: producer[side].1,
                group_id: group.as_str().into(),
            });
        }
        let ask =
            |pair: &mut Pair, what: &str, generation: i32, named: Option<&str>, instance: Option<&str>| {
                pair.settle(what, version, |side| oncelog_wire::txn_offset_commit::Request {
                    transactional_id: id.as_str().into(),
                    group_id: group.as_str().into(),
                    producer_id: producer[side].0,
                    producer_epoch: producer[side].1,
                    generation_id: generation,
                    member_id: named.map_or_else(|| member[side].clone(), Str::from),
                    group_instance_id: instance.map(Str::from),
                    topics: vec![oncelog_wire::txn_offset_commit::TxnOffsetCommitRequestTopic {
                        name: topic.name.clone(),
                        partitions: vec![Default::default()],
                    }],
                });
            };
        ask(pair, "of the member", 1, None, None);
        ask(pair, "of an older generation", 0, None, None);
        ask(pair, "of a newer generation", 2, None, None);
        ask(pair, "of no generation", -1, None, None);
        ask(pair, "of an unknown member", 1, Some("m"), None);
        ask(pair, "of nobody", -1, Some(""), None);
        ask(pair, "of a generation of nobody", 1, Some(""), None);
        ask(pair, "of an unknown instance", 1, None, Some("i"));
        super::transactions::end(pair, "end", &id, &producer, true, if version < 5 { 3 } else { 5 });
        super::transaction_ends::through(pair, &id);
    }
    pair.ask("rejoins", 5, |side| join_request(&group, &member[side], None));
    pair.ask("of a plain commit while completing", 8, |side| oncelog_wire::offset_commit::Request {
        group_id: group.as_str().into(),
        generation_id_or_member_epoch: 2,
        member_id: member[side].clone(),
        ..Default::default()
    });
}

use std::time::{Duration, Instant};

use oncelog_tests::{address, eventually, unique};
use rdkafka::Message;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::producer::Producer as _;

use crate::clients::{
    Member, PATIENCE, assigned, commit, committed_offsets, ends, joined, member, next, nudge, numbered,
    offset_of, producer, send, topic, transactional,
};

/// Polls the members until each has as many partitions as wanted.
fn balance(members: &[&Member], wanted: &[usize]) {
    eventually(&format!("the members have {wanted:?} partitions"), || {
        members.iter().for_each(|member| nudge(member));
        members.iter().map(|member| assigned(member).len()).eq(wanted.iter().copied())
    });
    let mut all: Vec<i32> = members.iter().flat_map(|member| assigned(member)).collect();
    all.sort_unstable();
    assert_eq!(all, (0..all.len() as i32).collect::<Vec<_>>(), "each partition has one owner");
}

#[test]
fn three_members_share_the_partitions_as_they_come_and_go() {
    let (topic, group) = (topic(address(), 6), unique("three"));
    let join = || member(address(), &group, &topic, &[]);
    let first = join();
    balance(&[&first], &[6]);
    let second = join();
    balance(&[&first, &second], &[3, 3]);
    let third = join();
    balance(&[&first, &second, &third], &[2, 2, 2]);
    drop(first);
    balance(&[&second, &third], &[3, 3]);
}

#[test]
fn a_member_that_falls_silent_loses_its_partitions() {
    let (topic, group) = (topic(address(), 2), unique("silent"));
    let silent = member(address(), &group, &topic, &[("max.poll.interval.ms", "6000")]);
    joined(&silent);
    let living = member(address(), &group, &topic, &[]);
    let start = Instant::now();
    balance(&[&living], &[2]);
    assert!(start.elapsed() > Duration::from_secs(2), "it had time to come back");
}

#[test]
fn static_members_return_without_a_rebalance() {
    let (topic, group) = (topic(address(), 4), unique("static"));
    let join = |instance| {
        member(address(), &group, &topic, &[("group.instance.id", instance), ("session.timeout.ms", "20000")])
    };
    let (leaving, staying) = (join("leaving"), join("staying"));
    balance(&[&leaving, &staying], &[2, 2]);
    let (before, rebalances) = (assigned(&leaving), staying.context().count());
    drop(leaving);
    let back = join("leaving");
    balance(&[&back, &staying], &[2, 2]);
    for _ in 0..20 {
        nudge(&staying);
    }
    assert_eq!(assigned(&back), before);
    assert_eq!(staying.context().count(), rebalances, "the one that stayed noticed nothing");
}

#[test]
fn offsets_in_a_transaction_count_when_it_is_committed() {
    let (source, group) = (topic(address(), 1), unique("offsets"));
    let member = member(address(), &group, &source, &[]);
    joined(&member);
    let writer = transactional(address(), &unique("offsets"), &[]);
    let send_offset = |offset| {
        writer.begin_transaction().unwrap();
        let group = member.group_metadata().unwrap();
        writer.send_offsets_to_transaction(&offset_of(&source, 0, offset), &group, PATIENCE).unwrap();
    };
    send_offset(3);
    writer.abort_transaction(PATIENCE).unwrap();
    assert_eq!(committed_offsets(address(), &group, &source, 1), [-1]);
    send_offset(4);
    commit(&writer).unwrap();
    assert_eq!(committed_offsets(address(), &group, &source, 1), [4]);
}

#[test]
fn a_group_commits_and_lags_up_to_the_last_stable_offset() {
    let (topic, group) = (topic(address(), 1), unique("lag"));
    let plain = numbered("plain", 5);
    let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
    send(&producer(address(), &[]), &topic, 0, &plain);
    let writer = transactional(address(), &unique("open"), &[]);
    writer.begin_transaction().unwrap();
    send(&writer, &topic, 0, &["open"]);

    let member = member(address(), &group, &topic, &[]);
    for _ in 0..5 {
        next(&member);
    }
    assert!(member.poll(Duration::from_millis(300)).is_none(), "nothing beyond the last stable offset");
    member.commit(&offset_of(&topic, 0, 5), CommitMode::Sync).unwrap();
    assert_eq!(committed_offsets(address(), &group, &topic, 1), [5]);
    assert_eq!(ends(address(), &topic, 0), (5, 6));
    commit(&writer).unwrap();
    assert_eq!(next(&member).offset(), 5);
    assert_eq!(ends(address(), &topic, 0), (7, 7));
}

//! What has to be true of a history and of what the logs hold in the end. Each rule is a function of its own that names
//! what breaks it.

use std::collections::{BTreeMap, HashMap};

use crate::history::{End, History, Micros, Place, RecordId, Topic, Value, copies};

/// The records of partitions, with their offsets.
pub type Logs = BTreeMap<Place, Vec<(i64, Value)>>;

/// What the broker holds in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// What a read_committed reader sees.
    pub committed: Logs,
    /// What is there at all.
    pub all: Logs,
    /// The committed offset of the group behind each partition of a copy.
    pub offsets: BTreeMap<Place, i64>,
}

/// A rule gives what breaks it.
type Rule = fn(&History, &Contents) -> Vec<String>;

const RULES: [(&str, Rule); 11] = [
    ("faults seen on the way", |history, _| history.faults.clone()),
    ("only what was written is there, and just once", only_once),
    ("what was acknowledged is kept where it was said to be", acknowledged_is_kept),
    ("what was seen stays, and nothing is passed over", seen_stays),
    ("no record of an aborted transaction is seen", no_aborted_read),
    ("a transaction is whole", whole_transactions),
    ("the records of a producer are in order", in_order),
    ("each record is copied once and in order", copied_once),
    ("a copy and the offset of its group are in step", in_step),
    ("an instance that was replaced writes nothing more", zombies_are_fenced),
    ("what was open in a crash that aborts it is not committed later", open_is_aborted),
];

/// What breaks a rule, with the rule; at most a few of each.
pub fn faults(history: &History, contents: &Contents) -> Vec<String> {
    let broken = RULES.iter().flat_map(|(name, rule)| {
        rule(history, contents).into_iter().take(5).map(move |what| format!("{name}: {what}"))
    });
    broken.collect()
}

fn only_once(history: &History, contents: &Contents) -> Vec<String> {
    let mut faults = Vec::new();
    let mut found: HashMap<RecordId, (Place, i64)> = HashMap::new();
    for (place, log) in &contents.all {
        for (offset, value) in log {
            let sent = history.records.get(&value.id);
            if !sent.is_some_and(|sent| sent.place == *place && sent.source == value.source) {
                faults.push(format!("{place:?} has at {offset} what was not written there: {value}"));
            }
            if let Some(before) = found.insert(value.id, (*place, *offset)) {
                faults.push(format!("{} is at {before:?} and at {:?}", value.id, (place, offset)));
            }
        }
    }
    faults
}

fn acknowledged_is_kept(history: &History, contents: &Contents) -> Vec<String> {
    let (committed, all) = (offsets(&contents.committed), offsets(&contents.all));
    let mut faults = Vec::new();
    for (id, sent) in &history.records {
        let Some(told) = sent.acknowledged else { continue };
        let end =
            sent.transaction.and_then(|id| history.transactions.get(&id)).map(|transaction| transaction.end);
        let is_kept = matches!(end, None | Some(End::Committed));
        let found = if is_kept { committed.get(id) } else { all.get(id) };
        match found {
            None if is_kept => faults.push(format!("{id} was acknowledged at {told}, and is lost")),
            Some(found) if told >= 0 && *found != told => {
                faults.push(format!("{id} was acknowledged at {told}, and is at {found}"));
            }
            _ => {}
        }
    }
    faults
}

fn offsets(logs: &Logs) -> HashMap<RecordId, i64> {
    logs.values().flatten().map(|(offset, value)| (value.id, *offset)).collect()
}

fn seen_stays(history: &History, contents: &Contents) -> Vec<String> {
    let mut faults = Vec::new();
    for ((reader, place), seen) in &history.seen {
        let log = contents.committed.get(place).map_or(&[][..], Vec::as_slice);
        for (at, seen) in seen.iter().enumerate() {
            if log.get(at) != Some(seen) {
                let (seen, there) = (format!("{seen:?}"), log.get(at));
                faults.push(format!("reader {reader} saw of {place:?} {seen}, where there is {there:?}"));
                break;
            }
        }
    }
    faults
}

fn no_aborted_read(history: &History, contents: &Contents) -> Vec<String> {
    let seen = history.seen.iter().flat_map(|((_, place), seen)| seen.iter().map(move |seen| (place, seen)));
    let there = contents.committed.iter().flat_map(|(place, log)| log.iter().map(move |seen| (place, seen)));
    let is_wrong = |value: &Value| {
        let transaction = history.records.get(&value.id)?.transaction?;
        let end = history.transactions[&transaction].end;
        matches!(end, End::Open | End::Aborted).then_some((transaction, end))
    };
    let wrong = seen.chain(there).filter_map(|(place, (offset, value))| {
        let (transaction, end) = is_wrong(value)?;
        Some(format!("{value} of transaction {transaction:?} ({end:?}) was seen in {place:?} at {offset}"))
    });
    wrong.collect()
}

fn whole_transactions(history: &History, contents: &Contents) -> Vec<String> {
    let visible = offsets(&contents.committed);
    let mut faults = Vec::new();
    for (id, transaction) in &history.transactions {
        let there = transaction.records.iter().filter(|record| visible.contains_key(record)).count();
        let of = transaction.records.len();
        if there != of && (there != 0 || transaction.end == End::Committed) {
            faults.push(format!(
                "{there} of {of} records of transaction {id:?} ({:?}) are there",
                transaction.end
            ));
        }
    }
    faults
}

fn in_order(_: &History, contents: &Contents) -> Vec<String> {
    let mut faults = Vec::new();
    for (place, log) in &contents.all {
        let mut last = BTreeMap::new();
        for (offset, Value { id: RecordId(session, number), .. }) in log {
            if last.insert(session, number).is_some_and(|last| last >= number) {
                faults.push(format!("{session}.{number} comes late in {place:?}, at {offset}"));
            }
        }
    }
    faults
}

fn copied_once(_: &History, contents: &Contents) -> Vec<String> {
    let mut faults = Vec::new();
    for place in copies() {
        let orders = contents.committed.get(&(Topic::Orders, place.1)).into_iter().flatten();
        let mut orders = orders.map(|(offset, value)| (value.id, *offset));
        for (offset, value) in contents.committed.get(&place).into_iter().flatten() {
            let expected = orders.next();
            if value.source != expected {
                faults.push(format!(
                    "{place:?} has at {offset} a copy of {:?}, not of {expected:?}",
                    value.source
                ));
                break;
            }
        }
        if let Some(missing) = orders.next() {
            faults.push(format!("{place:?} has no copy of {missing:?}"));
        }
    }
    faults
}

fn in_step(history: &History, contents: &Contents) -> Vec<String> {
    let mut faults = Vec::new();
    for place in copies() {
        let copied = contents.committed.get(&place).and_then(|log| log.last());
        let next = copied.and_then(|(_, value)| value.source).map(|(_, offset)| offset + 1);
        let committed = contents.offsets.get(&place).copied();
        if committed != next {
            faults.push(format!("{place:?} is copied up to {next:?}, and the group has {committed:?}"));
        }
    }
    for step in &history.steps {
        let log = contents.committed.get(&step.place).map_or(&[][..], Vec::as_slice);
        let below = log.partition_point(|(offset, _)| *offset < step.end);
        let copied = below.checked_sub(1).and_then(|last| log[last].1.source);
        if copied.is_some_and(|(_, offset)| offset >= step.committed) {
            faults.push(format!("there was a copy of {copied:?}, and then {step:?}"));
        }
    }
    faults
}

fn zombies_are_fenced(history: &History, contents: &Contents) -> Vec<String> {
    let there = offsets(&contents.all);
    let mut faults = Vec::new();
    for (id, transaction) in &history.transactions {
        let is_late = successor_of(history, id.0).is_some_and(|let_in| transaction.began > let_in);
        if !is_late {
            continue;
        }
        if transaction.end == End::Committed && !transaction.records.is_empty() {
            faults.push(format!("transaction {id:?} was committed"));
        }
        let late = transaction.records.iter().filter(|record| there.contains_key(record));
        faults.extend(late.map(|record| format!("{record} of transaction {id:?} is there")));
    }
    faults
}

/// When the first instance with the same transactional id knew that it was let in that had asked for it after this one knew.
fn successor_of(history: &History, session: u32) -> Option<Micros> {
    let predecessor = history.instances.get(&session)?;
    let (transactional_id, let_in) = (predecessor.transactional_id?, predecessor.let_in?);
    let others = history.instances.values().filter(|other| other.transactional_id == Some(transactional_id));
    others
        .filter(|other| other.asked.is_some_and(|asked| asked > let_in))
        .filter_map(|other| other.let_in)
        .min()
}

fn open_is_aborted(history: &History, _: &Contents) -> Vec<String> {
    let mut faults = Vec::new();
    for (id, transaction) in &history.transactions {
        let (Some(acknowledged), Some(asked)) = (transaction.acknowledged, transaction.asked) else {
            continue;
        };
        let lies_between = |from, to| acknowledged < from && asked > to;
        let crash =
            history.crashes.iter().find(|crash| crash.aborts_open && lies_between(crash.from, crash.to));
        if let (Some(crash), End::Committed) = (crash, transaction.end) {
            faults.push(format!("transaction {id:?} was committed after {crash:?}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::history::{Crash, Instance, Step};

    const ORDERS: Place = (Topic::Orders, 0);
    const COPIES: Place = (Topic::Copies, 0);

    /// Session 1 commits `1.0` and `1.1` in two partitions and aborts `1.2`; session 2 writes `2.0` without a
    /// transaction; sessions 3 and 4 copy what is in partition 0 of the orders; 9 reads.
    fn sound() -> (History, Contents) {
        let mut history = History::default();
        for (session, transactional_id) in
            [(1, Some("writer")), (2, None), (3, Some("copier")), (4, Some("mirror"))]
        {
            history.instances.insert(session, Instance { transactional_id, ..Instance::default() });
        }
        let lines = [
            (1, "in 10"),
            (1, "begin 0 11"),
            (1, "send 0 orders 0 0"),
            (1, "send 1 ledger 0 0"),
            (1, "ack 0 0 12"),
            (1, "ack 1 0 12"),
            (1, "asks 0 commit 13"),
            (1, "committed 0"),
            (1, "begin 1 14"),
            (1, "send 2 orders 0 1"),
            (1, "ack 2 2 15"),
            (1, "asks 1 abort 16"),
            (2, "send 0 orders 0 -"),
            (2, "ack 0 4 17"),
            (3, "in 18"),
            (3, "begin 0 19"),
            (3, "send 0 copies 0 0 1.0 0"),
            (3, "send 1 copies 0 0 2.0 4"),
            (3, "asks 0 commit 20"),
            (4, "in 18"),
            (4, "begin 0 19"),
            (4, "send 0 mirror 0 0 1.0 0"),
            (4, "send 1 mirror 0 0 2.0 4"),
            (4, "asks 0 commit 20"),
            (4, "committed 0"),
            (9, "saw orders 0 0 1.0"),
            (9, "saw copies 0 0 3.0 1.0 0"),
        ];
        lines.iter().for_each(|(session, line)| history.note(*session, line));
        history.steps.push(Step { place: COPIES, end: 3, committed: 5 });
        let log =
            |values: &[(i64, &str)]| values.iter().map(|(at, text)| (*at, text.parse().unwrap())).collect();
        let mirror = (Topic::Mirror, 0);
        let committed = BTreeMap::from([
            (ORDERS, log(&[(0, "1.0"), (4, "2.0")])),
            ((Topic::Ledger, 0), log(&[(0, "1.1")])),
            (COPIES, log(&[(0, "3.0 1.0 0"), (1, "3.1 2.0 4")])),
            (mirror, log(&[(0, "4.0 1.0 0"), (1, "4.1 2.0 4")])),
        ]);
        let mut all = committed.clone();
        all.insert(ORDERS, log(&[(0, "1.0"), (2, "1.2"), (4, "2.0")]));
        (history, Contents { committed, all, offsets: BTreeMap::from([(COPIES, 5), (mirror, 5)]) })
    }

    /// Spoils what is sound, and says what all rules say then.
    #[track_caller]
    fn breaks(expected: &[&str], spoil: impl FnOnce(&mut History, &mut Contents)) {
        let (mut history, mut contents) = sound();
        spoil(&mut history, &mut contents);
        let faults = faults(&history, &contents);
        let is_named = |fault: &String| expected.iter().any(|expected| fault.contains(expected));
        assert!(faults.iter().all(is_named), "{faults:#?}");
        for expected in expected {
            assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected} is not in {faults:#?}");
        }
    }

    fn both(contents: &mut Contents, place: Place, change: impl Fn(&mut Vec<(i64, Value)>)) {
        change(contents.committed.get_mut(&place).unwrap());
        change(contents.all.get_mut(&place).unwrap());
    }

    #[test]
    fn a_sound_history_has_no_faults() {
        breaks(&[], |_, _| {});
    }

    #[test]
    fn a_lost_record_is_found() {
        breaks(&["2.0 was acknowledged at 4, and is lost", "not of None"], |_, contents| {
            both(contents, ORDERS, |log| log.truncate(1));
        });
    }

    #[test]
    fn a_record_at_another_offset_is_found() {
        breaks(&["2.0 was acknowledged at 4, and is at 5", "a copy of"], |_, contents| {
            both(contents, ORDERS, |log| log.last_mut().unwrap().0 = 5);
        });
    }

    #[test]
    fn a_record_that_is_there_twice_is_found() {
        breaks(&["2.0 is at", "2.0 was acknowledged at 4", "2.0 comes late", "no copy of"], |_, contents| {
            both(contents, ORDERS, |log| log.push((6, "2.0".parse().unwrap())));
        });
    }

    #[test]
    fn a_record_that_nobody_wrote_is_found() {
        breaks(&["what was not written there: 7.0"], |_, contents| {
            contents.all.get_mut(&ORDERS).unwrap().push((6, "7.0".parse().unwrap()));
        });
    }

    #[test]
    fn a_record_that_is_not_where_it_was_seen_is_found() {
        breaks(&["reader 9 saw"], |history, _| history.note(9, "saw orders 0 3 2.0"));
    }

    #[test]
    fn a_record_that_a_reader_passed_over_is_found() {
        breaks(&["reader 8 saw"], |history, _| history.note(8, "saw orders 0 4 2.0"));
    }

    #[test]
    fn an_aborted_record_that_was_seen_is_found() {
        breaks(&["1.2 of transaction (1, 1) (Aborted) was seen", "reader 9 saw"], |history, _| {
            history.note(9, "saw orders 0 2 1.2");
        });
    }

    #[test]
    fn a_record_that_was_seen_before_its_commit_was_asked_for_is_found() {
        breaks(&["3.0 1.0 0 of transaction (3, 0) (Open) was seen", "3.1 2.0 4 of"], |history, _| {
            history.transactions.get_mut(&(3, 0)).unwrap().end = End::Open;
        });
    }

    #[test]
    fn a_torn_transaction_is_found() {
        breaks(
            &["1 of 2 records of transaction (1, 0)", "1.1 was acknowledged at 0, and is lost"],
            |_, contents| {
                both(contents, (Topic::Ledger, 0), Vec::clear);
            },
        );
        breaks(&["1 of 2 records of transaction (3, 0)", "no copy of", "is copied up to"], |_, contents| {
            both(contents, COPIES, |log| log.truncate(1));
        });
    }

    #[test]
    fn a_committed_transaction_that_is_gone_is_found() {
        breaks(
            &["0 of 2 records of transaction (4, 0)", "no copy of", "is copied up to None"],
            |_, contents| {
                both(contents, (Topic::Mirror, 0), Vec::clear);
            },
        );
    }

    #[test]
    fn records_in_another_order_are_found() {
        breaks(
            &["3.0 comes late", "a copy of", "no copy of", "reader 9 saw", "is copied up to"],
            |_, contents| {
                both(contents, COPIES, |log| {
                    let first = log[0].1;
                    log[0].1 = std::mem::replace(&mut log[1].1, first);
                });
            },
        );
    }

    #[test]
    fn a_record_that_is_copied_twice_is_found() {
        breaks(&["a copy of Some((RecordId(2, 0), 4)), not of None"], |history, contents| {
            history.note(4, "begin 1 21");
            history.note(4, "send 2 mirror 0 1 2.0 4");
            history.note(4, "asks 1 commit 22");
            both(contents, (Topic::Mirror, 0), |log| log.push((3, "4.2 2.0 4".parse().unwrap())));
        });
    }

    #[test]
    fn an_offset_that_is_not_in_step_is_found() {
        breaks(&["copied up to Some(5), and the group has Some(1)"], |_, contents| {
            contents.offsets.insert(COPIES, 1);
        });
        breaks(&["there was a copy of"], |history, _| {
            history.steps.push(Step { place: COPIES, end: 1, committed: 0 });
        });
    }

    #[test]
    fn a_zombie_that_goes_on_is_found() {
        let successor = |asked, let_in| Instance {
            transactional_id: Some("writer"),
            asked: Some(asked),
            let_in: Some(let_in),
        };
        breaks(&["1.2 of transaction (1, 1) is there"], |history, _| {
            history.instances.insert(5, successor(11, 12));
        });
        // Of one that asked earlier it is not known whether it came later.
        breaks(&[], |history, _| {
            history.instances.insert(5, successor(9, 12));
        });
    }

    #[test]
    fn a_commit_of_what_a_crash_has_aborted_is_found() {
        let crash = |aborts_open| Crash { from: 13, to: 13, aborts_open };
        let commit_late = |history: &mut History, aborts_open| {
            history.crashes.push(crash(aborts_open));
            history.transactions.get_mut(&(1, 0)).unwrap().asked = Some(14);
        };
        breaks(&[], |history, _| commit_late(history, false));
        breaks(&["transaction (1, 0) was committed after"], |history, _| commit_late(history, true));
    }

    #[test]
    fn a_watermark_that_goes_back_is_found() {
        breaks(&["watermarks (3, 3), then (2, 3)"], |history, _| {
            history.watermarks(ORDERS, 3, 3);
            history.watermarks(ORDERS, 2, 3);
        });
        breaks(&["watermarks (0, 0), then (4, 3)"], |history, _| history.watermarks(ORDERS, 4, 3));
    }
}

//! The broker stopped dead at each point of a commit, and of an abort: what is on disk then is started again, and
//! the outcome has to be the one that was promised at that point.

use std::path::PathBuf;

use oncelog_client::{Client, Isolation, TransactionVersion};
use oncelog_tests::eventually;
use oncelog_tests::requests::{self, Identity, Transactor, watermarks};
use oncelog_wire::ErrorCode;
use tempfile::TempDir;

use crate::directories::{self, Lengths, boundaries, connect, copy, copy_cut, lengths, start, temporary};

const PARTITIONS: [(&str, i32); 3] = [("orders", 0), ("orders", 1), ("audit", 0)];
const GROUP: &str = "group";
const OLD_OFFSET: i64 = 1;
const NEW_OFFSET: i64 = 2;

/// A transaction over three partitions and a group, from before its first write to after its end.
struct Story {
    directory: TempDir,
    version: TransactionVersion,
    committed: bool,
    /// Who ends it, and is told what.
    identity: Identity,
    next_identity: Identity,
    /// How the logs were after each request, from before the first.
    steps: Vec<Lengths>,
}

impl Story {
    fn play(version: TransactionVersion, committed: bool) -> Story {
        let directory = temporary();
        let broker = start(directory.path());
        let mut client = connect(&broker);
        client.create_topic("orders", 2).unwrap();
        client.create_topic("audit", 1).unwrap();
        // What is there already: a transaction that was committed, one that was aborted, an offset.
        let mut producer = Transactor::at(connect(&broker), version, "pay", 60_000);
        for (earlier, sequence) in [(true, 0), (false, 1)] {
            let sequence = if version == TransactionVersion::V1 { sequence } else { 0 };
            for (topic, partition) in PARTITIONS {
                assert_eq!(producer.write(topic, partition, sequence, 1), ErrorCode::None);
            }
            let offset = if earlier { OLD_OFFSET } else { 77 };
            assert_eq!(producer.commit_offset(GROUP, "orders", offset), ErrorCode::None);
            assert_eq!(producer.end(earlier), ErrorCode::None);
        }
        let mut steps = vec![lengths(directory.path())];
        let first = if version == TransactionVersion::V1 { 2 } else { 0 };
        for (topic, partition) in PARTITIONS {
            assert_eq!(producer.write(topic, partition, first, 2), ErrorCode::None);
            steps.push(lengths(directory.path()));
        }
        assert_eq!(producer.commit_offset(GROUP, "orders", NEW_OFFSET), ErrorCode::None);
        steps.push(lengths(directory.path()));
        let identity = producer.identity;
        assert_eq!(producer.end(committed), ErrorCode::None);
        steps.push(lengths(directory.path()));
        let story = Story {
            directory: copy(directory.path()),
            version,
            committed,
            identity,
            next_identity: producer.identity,
            steps,
        };
        drop(broker);
        story
    }

    fn before_the_end(&self) -> &Lengths {
        &self.steps[self.steps.len() - 2]
    }

    fn after_the_end(&self) -> &Lengths {
        self.steps.last().unwrap()
    }

    /// Every state the logs can have been in before the outcome was decided: each request adds to the coordinator's
    /// log and then to a partition, if it adds to both.
    fn undecided(&self) -> Vec<Lengths> {
        let mut states = vec![self.steps[0].clone()];
        for after in &self.steps[1..self.steps.len() - 1] {
            let before = states.last().unwrap().clone();
            let mut coordinator = coordinator_log(after);
            coordinator.retain(|path, length| before.get(path) != Some(length));
            if !coordinator.is_empty() {
                // With the first version the coordinator's part is a request of its own, which changes nothing here.
                let mut between = before;
                between.extend(coordinator);
                states.push(between);
            }
            states.push(after.clone());
        }
        states
    }

    /// Every state from the decision on: any of the markers may have been written, and the end may have been recorded
    /// if all were.
    fn decided(&self) -> Vec<Lengths> {
        let (path, _) = coordinator_log(self.after_the_end()).into_iter().next().unwrap();
        let ends = boundaries(&self.directory.path().join(&path));
        let before = self.before_the_end()[&path];
        let since: Vec<u64> = ends.into_iter().filter(|end| *end > before).collect();
        assert_eq!(since.len(), 2, "an end is a prepare and a complete");
        let marked: Vec<PathBuf> = self
            .after_the_end()
            .iter()
            .filter(|(name, length)| **name != path && self.before_the_end().get(*name) != Some(length))
            .map(|(name, _)| name.clone())
            .collect();
        assert_eq!(marked.len(), PARTITIONS.len() + 1, "each partition has a marker, and the group's has");
        let mut states = Vec::new();
        for chosen in 0..1u32 << marked.len() {
            let mut state = self.before_the_end().clone();
            state.insert(path.clone(), since[0]);
            for (_, name) in marked.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1) {
                state.insert(name.clone(), self.after_the_end()[name]);
            }
            states.push(state);
        }
        states.push(self.after_the_end().clone());
        states
    }

    /// What a reader of committed records has of the earlier transaction, and of this one where it counts.
    fn check_readers(&self, client: &mut Client, counts: bool, context: &str) {
        for (topic, partition) in PARTITIONS {
            let (high_watermark, last_stable_offset) = watermarks(client, topic, partition);
            assert_eq!(high_watermark, last_stable_offset, "{context}: {topic}-{partition} is stable");
            let seen = client.values(topic, partition, Isolation::ReadCommitted).unwrap();
            assert_eq!(seen.len(), if counts { 3 } else { 1 }, "{context}: {topic}-{partition} has {seen:?}");
        }
        let offset = requests::fetch_offset(client, GROUP, "orders", true).unwrap();
        let expected = if counts { NEW_OFFSET } else { OLD_OFFSET };
        assert_eq!(offset, (ErrorCode::None, expected), "{context}: the group");
    }
}

fn coordinator_log(lengths: &Lengths) -> Lengths {
    let is_coordinators = |path: &PathBuf| path.starts_with("__transaction_state-0");
    lengths
        .iter()
        .filter(|(path, _)| is_coordinators(path))
        .map(|(path, length)| (path.clone(), *length))
        .collect()
}

fn stories() -> impl Iterator<Item = Story> {
    let versions = [TransactionVersion::V1, TransactionVersion::V2];
    versions.into_iter().flat_map(|version| [true, false].map(|committed| Story::play(version, committed)))
}

#[test]
fn a_crash_before_the_decision_leaves_an_open_transaction_that_the_next_instance_aborts() {
    for story in stories() {
        for (at, state) in story.undecided().iter().enumerate() {
            let context = format!("{:?}, state {at}", story.version);
            let directory = copy_cut(story.directory.path(), state);
            let broker = start(directory.path());
            let mut client = connect(&broker);
            for (topic, partition) in PARTITIONS {
                let seen = client.values(topic, partition, Isolation::ReadCommitted).unwrap();
                assert_eq!(seen.len(), 1, "{context}: nothing of it is visible");
            }
            let (code, offset) = requests::fetch_offset(&mut client, GROUP, "orders", true).unwrap();
            assert!(matches!(
                (code, offset),
                (ErrorCode::None, OLD_OFFSET) | (ErrorCode::UnstableOffsetCommit, -1)
            ));
            let mut heir = Transactor::at(connect(&broker), story.version, "pay", 60_000);
            story.check_readers(&mut client, false, &context);
            assert_eq!(heir.end_as(story.identity, true).0, ErrorCode::ProducerFenced, "{context}");
            // And life goes on.
            for (topic, partition) in PARTITIONS {
                assert_eq!(heir.write(topic, partition, 0, 2), ErrorCode::None, "{context}");
            }
            assert_eq!(heir.commit_offset(GROUP, "orders", NEW_OFFSET), ErrorCode::None);
            assert_eq!(heir.end(true), ErrorCode::None, "{context}");
            story.check_readers(&mut client, true, &context);
        }
    }
}

#[test]
fn a_crash_before_the_decision_lets_the_producer_end_what_it_began() {
    for story in stories() {
        // All was written, and the request to end it is sent again to the broker that came back.
        let directory = copy_cut(story.directory.path(), story.before_the_end());
        let broker = start(directory.path());
        let mut client = connect(&broker);
        let newest = requests::newest_versions(story.version).1;
        let answer = requests::end_txn(&mut client, "pay", story.identity, story.committed, newest).unwrap();
        assert_eq!(answer.error_code, ErrorCode::None);
        if story.version == TransactionVersion::V2 {
            assert_eq!((answer.producer_id, answer.producer_epoch), story.next_identity);
        }
        story.check_readers(&mut client, story.committed, "ended again");
    }
}

#[test]
fn a_crash_after_the_decision_changes_nothing_about_it() {
    for story in stories() {
        for (at, state) in story.decided().iter().enumerate() {
            let context = format!("{:?} {}, state {at}", story.version, story.committed);
            let directory = copy_cut(story.directory.path(), state);
            let broker = start(directory.path());
            let mut client = connect(&broker);
            // At once: the outcome needs nobody to ask for it.
            story.check_readers(&mut client, story.committed, &context);
            // The answer was lost: it is given again, and the other one is not to be had.
            let newest = requests::newest_versions(story.version).1;
            for committed in [story.committed, !story.committed, story.committed] {
                let answer =
                    requests::end_txn(&mut client, "pay", story.identity, committed, newest).unwrap();
                assert_eq!(answer.error_code.is_error(), committed != story.committed, "{context}");
                if story.version == TransactionVersion::V2 && committed == story.committed {
                    assert_eq!((answer.producer_id, answer.producer_epoch), story.next_identity, "{context}");
                }
            }
            story.check_readers(&mut client, story.committed, &context);
            if at == 0 || at == 16 {
                // Each of the three transactions has one marker in each partition, and the records are there once.
                for (topic, partition) in PARTITIONS {
                    assert_eq!(
                        watermarks(&mut client, topic, partition).0,
                        1 + 1 + 1 + 1 + 2 + 1,
                        "{context}"
                    );
                }
            }
            let mut next = Transactor::at(connect(&broker), story.version, "pay", 60_000);
            assert_eq!(next.write("orders", 0, 0, 1), ErrorCode::None, "{context}");
            assert_eq!(next.end(true), ErrorCode::None, "{context}");
        }
    }
}

#[test]
fn a_crash_of_the_broker_that_recovers_changes_nothing_either() {
    let story = Story::play(TransactionVersion::V2, true);
    for state in [story.before_the_end().clone(), story.decided()[0].clone(), story.decided()[5].clone()] {
        let directory = copy_cut(story.directory.path(), &state);
        let mut copies = vec![directory];
        for _ in 0..3 {
            let broker = start(copies.last().unwrap().path());
            let copied = copy(copies.last().unwrap().path());
            drop(broker);
            copies.push(copied);
        }
        let broker = start(copies.last().unwrap().path());
        let mut client = connect(&broker);
        let newest = requests::newest_versions(story.version).1;
        let answer = requests::end_txn(&mut client, "pay", story.identity, true, newest).unwrap();
        assert_eq!(answer.error_code, ErrorCode::None);
        story.check_readers(&mut client, true, "after four starts");
    }
}

#[test]
fn an_open_transaction_times_out_although_the_broker_died_meanwhile() {
    for version in [TransactionVersion::V1, TransactionVersion::V2] {
        let directory = temporary();
        let broker = start(directory.path());
        let mut client = connect(&broker);
        client.create_topic("orders", 1).unwrap();
        let mut producer = Transactor::at(connect(&broker), version, "pay", 3_000);
        assert_eq!(producer.write("orders", 0, 0, 1), ErrorCode::None);
        client.produce_values("orders", 0, ["behind"]).unwrap();
        let copied = copy(directory.path());
        drop(broker);
        let broker = start(copied.path());
        let mut client = connect(&broker);
        assert_eq!(watermarks(&mut client, "orders", 0), (2, 0));
        eventually("the transaction times out", || watermarks(&mut client, "orders", 0) == (3, 3));
        assert_eq!(client.values("orders", 0, Isolation::ReadCommitted).unwrap(), ["behind"]);
    }
}

/// Cuts a log at every byte of its last batch; each time the broker must be as if that batch had never been begun.
fn cut_at_every_byte(story: &Story, path: &str, from: u64, to: u64, check: impl Fn(&mut Client, &str)) {
    let segment = PathBuf::from(path).join("00000000000000000000.log");
    assert!(to > from, "{path} has a batch there");
    // The ends of the batch closely, its middle in strides: 61 bytes of header, then the records.
    let near = |length: &u64| *length < from + 64 || length.is_multiple_of(7) || *length + 3 > to;
    for length in (from..to).filter(near) {
        let mut state = story.before_the_end().clone();
        state.insert(segment.clone(), to.min(story.after_the_end()[&segment]));
        let directory = copy_cut(story.directory.path(), &state);
        directories::cut(&directory.path().join(&segment), length);
        let broker = start(directory.path());
        check(&mut connect(&broker), &format!("{path} of {length} bytes between {from} and {to}"));
    }
}

#[test]
fn a_decision_that_is_torn_is_no_decision() {
    let story = Story::play(TransactionVersion::V2, true);
    let path = "__transaction_state-0";
    let before = story.before_the_end()[&PathBuf::from(path).join("00000000000000000000.log")];
    let ends = boundaries(&story.directory.path().join(path).join("00000000000000000000.log"));
    let after = ends.into_iter().find(|end| *end > before).unwrap();
    cut_at_every_byte(&story, path, before, after, |client, context| {
        assert_eq!(requests::describe_transaction(client, "pay").transaction_state, "Ongoing", "{context}");
        assert_eq!(client.values("orders", 0, Isolation::ReadCommitted).unwrap().len(), 1, "{context}");
        let answer = requests::end_txn(client, "pay", story.identity, true, 5).unwrap();
        assert_eq!(answer.error_code, ErrorCode::None, "{context}");
        story.check_readers(client, true, context);
    });
}

#[test]
fn a_batch_that_is_torn_was_never_written() {
    let story = Story::play(TransactionVersion::V2, true);
    let path = "orders-0";
    let segment = PathBuf::from(path).join("00000000000000000000.log");
    let before = story.steps[0][&segment];
    let after = story.before_the_end()[&segment];
    cut_at_every_byte(&story, path, before, after, |client, context| {
        assert_eq!(watermarks(client, "orders", 0).0, 4, "{context}");
        // Its producer sends it again, as it had no answer, and goes on.
        let (identity, transactional_id) = (story.identity, Some("pay"));
        let write = requests::Write {
            topic: "orders",
            partition: 0,
            identity,
            sequence: 0,
            count: 2,
            transactional_id,
        };
        assert_eq!(write.outcome(client).0, ErrorCode::None, "{context}");
        let answer = requests::end_txn(client, "pay", story.identity, true, 5).unwrap();
        assert_eq!(answer.error_code, ErrorCode::None, "{context}");
        story.check_readers(client, true, context);
    });
}

#[test]
fn a_marker_that_is_torn_is_written_again() {
    for committed in [true, false] {
        let story = Story::play(TransactionVersion::V2, committed);
        for partition in ["orders-0", "__consumer_offsets-0"] {
            let segment = PathBuf::from(partition).join("00000000000000000000.log");
            let (from, to) = (story.before_the_end()[&segment], story.after_the_end()[&segment]);
            for length in (from..to).step_by(11) {
                // All markers were on their way when the broker died; one of them got no further than this.
                let mut state = story.decided()[15].clone();
                state.insert(segment.clone(), length);
                let directory = copy_cut(story.directory.path(), &state);
                let broker = start(directory.path());
                let context = format!("{partition} of {length} bytes between {from} and {to}");
                story.check_readers(&mut connect(&broker), committed, &context);
            }
        }
    }
}

#[test]
fn a_batch_with_a_flipped_bit_at_the_end_of_a_log_was_never_written() {
    let story = Story::play(TransactionVersion::V2, true);
    let segment = PathBuf::from("orders-0").join("00000000000000000000.log");
    let (from, to) = (story.steps[0][&segment], story.before_the_end()[&segment]);
    for at in (from + 17..to).step_by(5) {
        let directory = copy_cut(story.directory.path(), story.before_the_end());
        let path = directory.path().join(&segment);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at as usize] ^= 0x40;
        std::fs::write(&path, bytes).unwrap();
        let broker = start(directory.path());
        let mut client = connect(&broker);
        assert_eq!(watermarks(&mut client, "orders", 0).0, 4, "byte {at}");
        assert_eq!(client.values("orders", 0, Isolation::ReadUncommitted).unwrap().len(), 2, "byte {at}");
    }
}

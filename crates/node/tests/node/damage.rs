//! Damaged files, each in turn: cut at every byte, every bit flipped. Whatever it is, the node starts, or says which file
//! it cannot read; and what it then shows is what was written, or less, or an error.
//!
//! `cargo test` tries every cut and a hundredth of the bits. All of them, with progress:
//!
//! ```text
//! cargo test --release -p oncelog-node --test node damage -- --ignored --nocapture
//! ```

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncelog_log::{Disk, Durability, EntryKind, MemoryDisk, OpenMode};
use oncelog_records::batches;
use oncelog_wire::*;

use crate::lossy::Dice;
use crate::world::{START, World};

/// So much at the end of a file is damaged; files are smaller, but for a journal.
const TAIL: u64 = 64 << 10;

const JOURNAL: Durability = Durability::Fsync { journal_file_bytes: 20 << 10 };

/// All that has offsets and can be fetched.
const LOGS: [&str; 4] = ["orders", "refunds", "__transaction_state", "__consumer_offsets"];

/// How the last run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    Killed,
    PowerCut,
}

/// What readers can see.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    logs: BTreeMap<&'static str, SeenLog>,
    stored: Option<i64>,
    transactions: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct SeenLog {
    start: i64,
    end: i64,
    stable: i64,
    batches: BTreeMap<i64, Bytes>,
    /// Offsets at which reading is answered with CORRUPT_MESSAGE.
    corrupt: Vec<i64>,
}

/// A directory, and what a start on it shows.
struct Sample {
    end: End,
    disk: MemoryDisk,
    now: Now,
    expected: Seen,
}

/// What became of the cases.
#[derive(Default)]
struct Tally {
    cases: u64,
    refused: u64,
    /// Same as before.
    unchanged: u64,
    faults: BTreeMap<String, (u64, String)>,
}

impl Sample {
    fn new(end: End) -> Sample {
        let disk = MemoryDisk::new();
        let mut world = start(&disk, end, START).unwrap();
        play(&mut world);
        if end == End::Stopped {
            world.node.close(world.now).unwrap();
        }
        let now = world.now;
        drop(world);
        let mut sample = Sample { end, disk, now, expected: Seen::default() };
        let mut world = start(&sample.disk.snapshot(), end, now).unwrap();
        sample.expected = seen(&mut world, &Seen::default());
        assert!(sample.expected.logs.values().all(|log| log.batches.len() > 2 && log.corrupt.is_empty()));
        sample
    }

    fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut directories = vec![PathBuf::from("/data")];
        let mut files = Vec::new();
        while let Some(directory) = directories.pop() {
            for entry in self.disk.list(&directory).unwrap() {
                let path = directory.join(entry.name);
                match entry.kind {
                    EntryKind::Directory => directories.push(path),
                    EntryKind::File { length } => files.push((path, length)),
                }
            }
        }
        files.sort();
        files
    }

    /// Starts on the damaged directory and looks at what it shows.
    fn try_damage(&self, path: &Path, what: &str, damage: impl FnOnce(&MemoryDisk), tally: &mut Tally) {
        let disk = self.disk.snapshot();
        damage(&disk);
        tally.cases += 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| match start(&disk, self.end, self.now) {
            Err(error) => Err(error.to_string()),
            Ok(mut world) => Ok(seen(&mut world, &self.expected)),
        }));
        let fault = match outcome {
            Err(_) => Some("panic".to_owned()),
            Ok(Err(message)) => {
                tally.refused += 1;
                let directory = path.parent().unwrap().to_string_lossy().into_owned();
                let names_it = message.contains(&*path.to_string_lossy()) || message.contains(&directory);
                (!names_it).then(|| format!("a refusal that does not name the file: {message}"))
            }
            Ok(Ok(seen)) => {
                tally.unchanged += u64::from(seen == self.expected);
                self.fault(path, &seen)
            }
        };
        if let Some(fault) = fault {
            let kind = format!("{:?} {}: {}", self.end, kind(path), fault);
            let entry = tally.faults.entry(kind).or_insert_with(|| (0, format!("{} {what}", path.display())));
            entry.0 += 1;
        }
    }

    /// What is wrong with what is shown.
    fn fault(&self, path: &Path, seen: &Seen) -> Option<String> {
        let is_log = kind(path) == "log";
        let may_lose_all = kind(path) == "journal" && self.end == End::PowerCut;
        for (name, expected) in &self.expected.logs {
            let log = &seen.logs[name];
            let is_own = is_log && path.parent().unwrap().ends_with(format!("{name}-0"));
            let may_lose = is_own || may_lose_all;
            for (offset, batch) in &log.batches {
                let is_as_written = match expected.batches.get(offset) {
                    // The leader epoch is part of no checksum, and of no record.
                    Some(written) => {
                        written[..12] == batch[..12] && written[16..] == batch[16..]
                            || is_own && !is_crc_valid(batch)
                    }
                    None => false,
                };
                // Where something is missing, the node ends transactions in another way when it starts.
                let is_news =
                    is_log && *offset >= expected.end || may_lose && *offset >= lost_from(log, expected);
                if !is_as_written && !is_news {
                    return Some(format!("{name} has another batch"));
                }
            }
            if may_lose {
                continue;
            }
            if log.start != expected.start || expected.batches.keys().any(|at| !log.batches.contains_key(at))
            {
                return Some(format!("{name} lacks batches"));
            }
            if !log.corrupt.is_empty() {
                return Some(format!("{name} is corrupt"));
            }
            if !is_log && (log.end, log.stable) != (expected.end, expected.stable) {
                return Some(format!("{name} ends elsewhere"));
            }
        }
        None
    }
}

/// The first offset at which a log is not what it was.
fn lost_from(log: &SeenLog, expected: &SeenLog) -> i64 {
    let lost = expected
        .batches
        .iter()
        .find(|(at, batch)| log.batches.get(at).is_none_or(|seen| seen[16..] != batch[16..]));
    lost.map_or(expected.end, |(at, _)| *at)
}

fn kind(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    if name.starts_with("journal") {
        return "journal".into();
    }
    path.extension().map_or_else(|| name.to_string(), |extension| extension.to_string_lossy().into_owned())
}

fn is_crc_valid(batch: &Bytes) -> bool {
    batches(batch).next().is_some_and(|batch| batch.is_ok_and(|batch| batch.is_crc_valid()))
}

fn start(disk: &MemoryDisk, end: End, now: Now) -> Result<World, oncelog_node::OpenError> {
    let durability = if end == End::PowerCut { JOURNAL } else { Durability::Os };
    World::try_on(Arc::new(disk.clone()), durability, now)
}

/// Transactions that are committed, aborted and open, in several segments, before and after a checkpoint.
fn play(world: &mut World) {
    let topic = |name: &str| create_topics::CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![create_topics::CreatableTopicConfig {
            name: "segment.ms".into(),
            value: Some("1000".into()),
        }],
        ..Default::default()
    };
    let topics = vec![topic("orders"), topic("refunds")];
    world.ask(7, create_topics::Request { topics, ..Default::default() });
    let (orders, refunds) = (("orders", 0), ("refunds", 0));
    let (mut paying, mut failing) = (world.init("pay"), world.init("fail"));
    for round in 0..3 {
        assert_eq!(world.write(12, &paying, orders, 0), ErrorCode::None);
        assert_eq!(world.write(12, &failing, orders, 0), ErrorCode::None);
        assert_eq!(world.write(12, &paying, refunds, 0), ErrorCode::None);
        assert_eq!(world.store(5, &paying, round), ErrorCode::None);
        paying = world.end(5, &paying, true).unwrap();
        failing = world.end(5, &failing, false).unwrap();
        world.wait(Duration::from_secs(2));
        if round == 1 {
            world.wait(Duration::from_secs(90));
            world.node.maintain(world.now);
        }
    }
    let open = world.init("open");
    assert_eq!(world.write(12, &open, refunds, 0), ErrorCode::None);
    world.node.sync().unwrap();
}

/// Reads everything. Where something cannot be read, it goes on with what was there before.
fn seen(world: &mut World, expected: &Seen) -> Seen {
    let mut seen = Seen { stored: world.stored().ok(), ..Seen::default() };
    for name in LOGS {
        let known = expected.logs.get(name).cloned().unwrap_or_default();
        seen.logs.insert(name, seen_log(world, name, &known));
    }
    seen
}

fn seen_log(world: &mut World, name: &'static str, known: &SeenLog) -> SeenLog {
    let mut log = SeenLog::default();
    let mut offset = 0;
    loop {
        let data = fetch(world, name, offset);
        match data.error_code {
            ErrorCode::OffsetOutOfRange if offset < data.log_start_offset.0 => {
                offset = data.log_start_offset.0;
                continue;
            }
            ErrorCode::None => {}
            ErrorCode::CorruptMessage => {
                log.corrupt.push(offset);
                match known.batches.range(offset + 1..).next() {
                    Some((next, _)) => offset = *next,
                    None => return log,
                }
                continue;
            }
            ErrorCode::OffsetOutOfRange => return log,
            error => panic!("{name}: {error}"),
        }
        log.start = data.log_start_offset.0;
        (log.end, log.stable) = (data.high_watermark.0, data.last_stable_offset.0);
        let bytes = data.records.as_ref().and_then(Records::as_bytes).cloned().unwrap_or_default();
        if bytes.is_empty() {
            return log;
        }
        let mut at = 0;
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            let size = batch.size_in_bytes();
            log.batches.insert(batch.base_offset().0, bytes.slice(at..at + size));
            at += size;
            assert!(batch.header().next_offset().0 > offset, "{name}: it does not get on");
            offset = batch.header().next_offset().0;
        }
    }
}

fn fetch(world: &mut World, name: &str, offset: i64) -> fetch::PartitionData {
    let partition = fetch::FetchPartition {
        fetch_offset: Offset(offset),
        partition_max_bytes: i32::MAX,
        ..Default::default()
    };
    let topics =
        vec![fetch::FetchTopic { topic: name.into(), partitions: vec![partition], ..Default::default() }];
    let request = fetch::Request { max_wait_ms: 0, max_bytes: i32::MAX, topics, ..Default::default() };
    world.ask(12, request).responses.remove(0).partitions.remove(0)
}

fn cut(disk: &MemoryDisk, path: &Path, length: u64) {
    disk.open(path, OpenMode::Existing).unwrap().truncate(length).unwrap();
}

fn flip(disk: &MemoryDisk, path: &Path, at: u64, bit: u8) {
    let file = disk.open(path, OpenMode::Existing).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 1 << bit], at).unwrap();
}

/// Tries all cuts, and one flip in so many.
fn damage_all(end: End, one_in: usize) {
    let mut dice = Dice::new(7);
    let mut tally = Tally::default();
    let sample = Sample::new(end);
    for (path, length) in sample.files() {
        for at in length.saturating_sub(TAIL)..length {
            sample.try_damage(&path, &format!("cut at {at}"), |disk| cut(disk, &path, at), &mut tally);
            for bit in 0..8 {
                if dice.below(one_in) == 0 {
                    let what = format!("byte {at}, bit {bit}");
                    sample.try_damage(&path, &what, |disk| flip(disk, &path, at, bit), &mut tally);
                }
            }
        }
        let Tally { cases, refused, unchanged, .. } = tally;
        eprintln!(
            "{end:?}: {cases} cases, {refused} refused, {unchanged} as if nothing were; up to {}",
            path.display()
        );
    }
    for (fault, (count, first)) in &tally.faults {
        eprintln!("{count:6} {fault} ({first})");
    }
    assert!(tally.faults.is_empty());
}

#[test]
fn no_file_that_is_cut_or_flipped_after_a_clean_stop_makes_it_show_what_was_not_written() {
    damage_all(End::Stopped, 100);
}

#[test]
fn no_file_that_is_cut_or_flipped_after_a_kill_makes_it_show_what_was_not_written() {
    damage_all(End::Killed, 100);
}

#[test]
fn no_file_that_is_cut_or_flipped_beside_a_journal_makes_it_show_what_was_not_written() {
    damage_all(End::PowerCut, 100);
}

#[test]
#[ignore = "takes minutes"]
fn all_flips_after_a_clean_stop() {
    damage_all(End::Stopped, 1);
}

#[test]
#[ignore = "takes minutes"]
fn all_flips_after_a_kill() {
    damage_all(End::Killed, 1);
}

#[test]
#[ignore = "takes minutes"]
fn all_flips_beside_a_journal() {
    damage_all(End::PowerCut, 1);
}

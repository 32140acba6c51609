//! The broker dies, or the disk refuses, at every single write on the way through a transaction.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncelog_log::{DirectoryEntry, Disk, DiskFile, DiskLock, MemoryDisk, OpenMode};
use oncelog_wire::*;

use crate::transactions::{ORDERS, Producer, REFUNDS, fetched};
use crate::world::{START, World};

/// A disk in memory that keeps how it was before and amid each change, and that can be told to refuse writes.
#[derive(Clone, Debug, Default)]
pub struct ObservedDisk(Arc<Observed>);

#[derive(Debug, Default)]
struct Observed {
    disk: MemoryDisk,
    snapshots: Mutex<Option<Vec<MemoryDisk>>>,
    /// Writes to files of this name, or in a directory of this name, fail.
    refused: Mutex<Option<&'static str>>,
}

impl ObservedDisk {
    fn start_recording(&self) {
        *self.0.snapshots.lock().unwrap() = Some(vec![self.0.disk.snapshot()]);
    }

    fn recorded(&self) -> usize {
        self.0.snapshots.lock().unwrap().as_ref().map_or(0, Vec::len)
    }

    fn take_recorded(&self) -> Vec<MemoryDisk> {
        let mut snapshots = self.0.snapshots.lock().unwrap().take().unwrap();
        snapshots.push(self.0.disk.snapshot());
        snapshots
    }

    pub fn refuse(&self, name: Option<&'static str>) {
        *self.0.refused.lock().unwrap() = name;
    }

    pub fn after_kill(&self) -> MemoryDisk {
        self.0.disk.snapshot()
    }
}

impl Observed {
    fn record(&self) {
        if let Some(snapshots) = self.snapshots.lock().unwrap().as_mut() {
            snapshots.push(self.disk.snapshot());
        }
    }
}

impl Disk for ObservedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.disk.open(path, mode)?;
        Ok(Arc::new(ObservedFile { observed: self.0.clone(), path: path.to_owned(), file }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.record();
        self.0.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.record();
        self.0.disk.remove_file(path)
    }
    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.0.disk.remove_directory(path)
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.0.disk.create_directory(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.0.disk.list(directory)
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.0.disk.sync_directory(directory)
    }
    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        self.0.disk.lock(path)
    }
}

#[derive(Debug)]
struct ObservedFile {
    observed: Arc<Observed>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

impl DiskFile for ObservedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }
    fn write_vectored_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let refused = *self.observed.refused.lock().unwrap();
        let is_meant = |name| self.path.ends_with(name) || self.path.parent().unwrap().ends_with(name);
        if refused.is_some_and(is_meant) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        self.observed.record();
        self.file.write_at(first, position)?;
        self.observed.record();
        self.file.write_at(second, position + first.len() as u64)
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
    fn os_file(&self) -> Option<&Arc<File>> {
        None
    }
}

/// What readers may see of the one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Some of it is not decided for readers yet.
    Undecided,
    All,
    Nothing,
}

/// What readers see of the transaction, which must be the same everywhere.
pub fn seen(world: &mut World) -> Seen {
    let in_partition = |world: &mut World, partition| {
        let (last_stable, end) = world.watermarks(partition);
        let data = world.fetch(partition, 1);
        let aborted = data.aborted_transactions.as_ref().is_some_and(|aborted| !aborted.is_empty());
        let has_records = fetched(&data).iter().any(|&(_, is_control)| !is_control);
        match (last_stable == end, has_records && !aborted) {
            (false, _) => Seen::Undecided,
            (true, true) => Seen::All,
            (true, false) => Seen::Nothing,
        }
    };
    let of_offsets = match world.stored() {
        Err(ErrorCode::UnstableOffsetCommit) => Seen::Undecided,
        Ok(3) => Seen::All,
        Ok(-1) => Seen::Nothing,
        other => panic!("{other:?}"),
    };
    let everywhere = [in_partition(world, ORDERS), in_partition(world, REFUNDS), of_offsets];
    match everywhere.contains(&Seen::Undecided) {
        true => Seen::Undecided,
        false => {
            assert!(everywhere.iter().all(|&seen| seen == everywhere[0]), "torn: {everywhere:?}");
            everywhere[0]
        }
    }
}

fn write_all(world: &mut World, producer: &Producer, version: i16) {
    let (produce, store) = match version {
        5 => (12, 5),
        _ => (9, 3),
    };
    if version < 5 {
        assert_eq!(world.add(producer, &[ORDERS, REFUNDS]), [ErrorCode::None; 2]);
        assert_eq!(world.add_offsets(producer), ErrorCode::None);
    }
    assert_eq!(world.write(produce, producer, ORDERS, 0), ErrorCode::None);
    assert_eq!(world.write(produce, producer, REFUNDS, 0), ErrorCode::None);
    assert_eq!(world.store(store, producer, 3), ErrorCode::None);
}

/// Runs a transaction up to its end; gives the disks of the moments in which the broker may have died during the end,
/// of which the last ones are after the answer.
fn die_at_each_write(version: i16, is_commit: bool) -> (Producer, Vec<MemoryDisk>) {
    let disk = ObservedDisk::default();
    let mut world = World::on_disk(Arc::new(disk.clone()), START);
    world.create_topics();
    let producer = world.init("pay");
    write_all(&mut world, &producer, version);
    disk.start_recording();
    world.end(version, &producer, is_commit).unwrap();
    // Prepare, three markers, Complete; before and amid each.
    assert!(disk.recorded() >= 11, "{} writes", disk.recorded());
    (producer, disk.take_recorded())
}

fn restarted(disk: &MemoryDisk) -> World {
    World::on_disk(Arc::new(disk.snapshot()), START)
}

#[test]
fn a_broker_that_dies_during_the_end_has_ended_the_transaction_or_not_at_all() {
    for version in [4, 5] {
        for is_commit in [true, false] {
            let wanted = if is_commit { Seen::All } else { Seen::Nothing };
            let (producer, disks) = die_at_each_write(version, is_commit);
            let mut decided = 0;
            for (at, disk) in disks.iter().enumerate() {
                let context = format!("version {version}, commit {is_commit}, died at {at}");
                // What was decided is carried out before anyone can ask.
                let mut world = restarted(disk);
                let at_start = seen(&mut world);
                assert!(at_start == wanted || at_start == Seen::Undecided, "{context}: {at_start:?}");
                assert!(at_start == wanted || decided == 0, "{context}: it was decided before");
                decided += usize::from(at_start == wanted);
                // The client asks again: it gets what it wanted.
                assert!(world.end(version, &producer, is_commit).is_ok(), "{context}");
                assert_eq!(seen(&mut world), wanted, "{context}");
                // Or it never comes back.
                let mut world = restarted(disk);
                world.wait(Duration::from_secs(60));
                let after = if at_start == wanted { wanted } else { Seen::Nothing };
                assert_eq!(seen(&mut world), after, "{context}, and the client is gone");
                // Or another one takes over.
                let mut world = restarted(disk);
                let successor = world.init("pay");
                assert_eq!(seen(&mut world), after, "{context}, and a new instance comes");
                assert!(world.end(version, &producer, is_commit).is_err(), "{context}");
                assert_eq!(world.write(12, &successor, ORDERS, 0), ErrorCode::None, "{context}");
                assert!(world.end(5, &successor, true).is_ok(), "{context}");
            }
            assert!((1..disks.len()).contains(&decided), "{decided} of {}", disks.len());
        }
    }
}

#[test]
fn a_broker_that_dies_before_the_end_leaves_nothing_but_an_open_transaction() {
    let disk = ObservedDisk::default();
    let mut world = World::on_disk(Arc::new(disk.clone()), START);
    world.create_topics();
    let producer = world.init("pay");
    disk.start_recording();
    write_all(&mut world, &producer, 5);
    for disk in disk.take_recorded() {
        let mut world = restarted(&disk);
        let successor = world.init("pay");
        assert_eq!(seen(&mut world), Seen::Nothing);
        assert_eq!(world.write(12, &producer, ORDERS, 5), ErrorCode::InvalidProducerEpoch);
        write_all(&mut world, &successor, 5);
        assert!(world.end(5, &successor, true).is_ok());
        assert_eq!(world.watermarks(ORDERS).0, world.watermarks(ORDERS).1);
    }
}

#[test]
fn a_broker_that_dies_in_its_first_moments_starts_again() {
    let disk = ObservedDisk::default();
    disk.start_recording();
    let mut world = World::on_disk(Arc::new(disk.clone()), START);
    world.create_topics();
    let producer = world.init("pay");
    write_all(&mut world, &producer, 5);
    for disk in disk.take_recorded() {
        let mut world = restarted(&disk);
        world.create_topics();
        let producer = world.init("pay");
        write_all(&mut world, &producer, 5);
        assert!(world.end(5, &producer, true).is_ok());
        assert_eq!(world.stored(), Ok(3));
    }
}

#[test]
fn a_marker_that_cannot_be_written_does_not_hold_the_answer_and_follows_later() {
    for directory in ["orders-0", "__consumer_offsets-"] {
        let disk = ObservedDisk::default();
        let mut world = World::on_disk(Arc::new(disk.clone()), START);
        world.create_topics();
        let producer = world.init("pay");
        write_all(&mut world, &producer, 5);
        let state = world.describe("pay");
        let offsets = &state.topics.iter().find(|topic| topic.topic == "__consumer_offsets").unwrap();
        let directory = match directory {
            "orders-0" => directory,
            prefix => format!("{prefix}{}", offsets.partitions[0]).leak(),
        };
        disk.refuse(Some(directory));
        let next = world.end(5, &producer, true).unwrap();
        assert_eq!(seen(&mut world), Seen::Undecided);
        assert_eq!(world.describe("pay").transaction_state, "PrepareCommit");
        assert_eq!(world.write(12, &next, REFUNDS, 0), ErrorCode::ConcurrentTransactions);
        world.wait(Duration::from_secs(5));
        assert_eq!(seen(&mut world), Seen::Undecided);
        disk.refuse(None);
        world.wait(Duration::from_secs(10));
        assert_eq!(seen(&mut world), Seen::All);
        assert_eq!(world.write(12, &next, REFUNDS, 0), ErrorCode::None);
    }
}

#[test]
fn a_coordinator_that_cannot_write_decides_nothing_and_recovers() {
    let disk = ObservedDisk::default();
    let mut world = World::on_disk(Arc::new(disk.clone()), START);
    world.create_topics();
    let producer = world.init("pay");
    write_all(&mut world, &producer, 5);
    // The hash of the id.
    disk.refuse(Some("__transaction_state-10"));
    assert_eq!(world.end(5, &producer, true), Err(ErrorCode::NotCoordinator));
    assert_eq!(seen(&mut world), Seen::Undecided);
    assert_eq!(world.end(5, &producer, true), Err(ErrorCode::CoordinatorLoadInProgress));
    disk.refuse(None);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.describe("pay").transaction_state, "Ongoing");
    assert!(world.end(5, &producer, true).is_ok());
    assert_eq!(seen(&mut world), Seen::All);
}

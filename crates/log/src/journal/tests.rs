//! The journal alone, on a disk in memory.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use oncelog_wire::{Offset, Uuid};

use super::*;
use crate::disk::MemoryDisk;

const FILE_BYTES: u64 = 16 * PAGE as u64;

struct World {
    disk: MemoryDisk,
    journal: Journal,
    next_offset: i64,
}

impl World {
    fn new() -> World {
        let disk = MemoryDisk::new();
        disk.create_directory(Path::new("/data")).unwrap();
        let journal = Journal::open(&disk, Path::new("/data"), FILE_BYTES).unwrap();
        journal.begin(1);
        World { disk, journal, next_offset: 0 }
    }

    /// Appends something of so many bytes that looks like a batch as far as the journal is concerned.
    fn push(&mut self, bytes: usize) {
        let mut batch = vec![7; bytes];
        batch[..8].copy_from_slice(&self.next_offset.to_be_bytes());
        self.next_offset += 1;
        let (header, payload) = batch.split_at(bytes / 2);
        self.journal.push((Uuid([1; 16]), 0), header, payload, Offset(self.next_offset));
    }

    fn sync(&self) -> JournalSync {
        self.journal.sync(|_, _| {}).unwrap()
    }
}

/// The offsets of what a start finds.
fn found(disk: &MemoryDisk, era: u64) -> Result<Vec<i64>, LogError> {
    let replay = JournalReplay::read(disk, Path::new("/data"), era)?;
    let mut found = Vec::new();
    replay.take((Uuid([1; 16]), 0)).for_each_from(Offset::ZERO, |batch| {
        found.push(i64::from_be_bytes(*batch.first_chunk().unwrap()));
        Ok(())
    })?;
    Ok(found)
}

fn content(disk: &MemoryDisk, name: &str) -> Bytes {
    crate::disk::read_file(disk, &Path::new("/data").join(name), u64::MAX).unwrap().into()
}

fn put(disk: &MemoryDisk, name: &str, bytes: &[u8], at: u64) {
    let file = disk.open(&Path::new("/data").join(name), OpenMode::Existing).unwrap();
    file.write_at(bytes, at).unwrap();
}

#[test]
fn a_frame_that_is_torn_anywhere_does_not_count_and_those_before_it_do() {
    let mut world = World::new();
    for bytes in [100, 5000, 300] {
        world.push(bytes);
        world.push(20);
        world.sync();
    }
    let before = world.disk.snapshot();
    world.push(700);
    world.push(5000);
    world.sync();
    let whole: Vec<i64> = (0..8).collect();
    assert_eq!(found(&world.disk, 1).unwrap(), whole);
    let (old, new) = (content(&before, FILE_NAMES[0]), content(&world.disk, FILE_NAMES[0]));
    let start = (0..old.len()).find(|at| old[*at] != new[*at]).unwrap() / PAGE * PAGE;
    let end = (0..old.len()).rev().find(|at| old[*at] != new[*at]).unwrap() + 1;
    for cut in start..end {
        let torn = before.snapshot();
        put(&torn, FILE_NAMES[0], &new[start..cut], start as u64);
        assert_eq!(found(&torn, 1).unwrap(), whole[..6], "cut at {cut}");
        // The end without the start.
        let torn = before.snapshot();
        put(&torn, FILE_NAMES[0], &new[cut + 1..end], cut as u64 + 1);
        assert!(found(&torn, 1).unwrap().len() <= 8, "without what is before {cut}");
        if new[start..=cut] != old[start..=cut] {
            assert_eq!(found(&torn, 1).unwrap(), whole[..6], "without what is before {cut}");
        }
    }
}

#[test]
fn a_flipped_bit_ends_what_is_found() {
    let mut world = World::new();
    for _ in 0..3 {
        world.push(100);
        world.sync();
    }
    let good = content(&world.disk, FILE_NAMES[0]);
    for bit in 0..(HEADER + ENTRY_HEADER + 100) * 8 {
        let broken = world.disk.snapshot();
        let at = PAGE + bit / 8;
        put(&broken, FILE_NAMES[0], &[good[at] ^ 1 << (bit % 8)], at as u64);
        assert_eq!(found(&broken, 1).unwrap(), [0], "bit {bit}");
    }
}

#[test]
fn what_waits_together_is_one_frame() {
    let mut world = World::new();
    for _ in 0..50 {
        world.push(20);
    }
    assert_eq!((world.journal.appended(), world.journal.synced()), (50, 0));
    assert_eq!(world.sync(), JournalSync::Done);
    assert_eq!((world.journal.appended(), world.journal.synced()), (50, 50));
    assert_eq!(world.journal.writer.lock().numbers.sequence, 2);
}

#[test]
fn files_take_turns_and_are_not_written_over_before_they_are_released() {
    let mut world = World::new();
    let mut syncs = 0;
    loop {
        world.push(3000);
        if world.sync() == JournalSync::Full {
            break;
        }
        syncs += 1;
    }
    assert_eq!(syncs, 30, "a page of each file is left for saying that it is done with");
    assert!(world.journal.wants_checkpoint());
    assert_eq!(found(&world.disk, 1).unwrap(), (0..30).collect::<Vec<_>>());
    assert_eq!(world.sync(), JournalSync::Full);
    world.journal.release(15);
    assert_eq!(world.sync(), JournalSync::Done);
    assert_eq!(world.journal.synced(), 31);
    assert_eq!(found(&world.disk, 1).unwrap(), (15..31).collect::<Vec<_>>());
    // The first frame in the file that is used again gets torn: nothing that is needed is missing.
    put(&world.disk, FILE_NAMES[0], &[0; 200], 100);
    assert_eq!(found(&world.disk, 1).unwrap(), (15..30).collect::<Vec<_>>());
}

#[test]
fn a_frame_that_is_missing_before_others_is_refused() {
    let mut world = World::new();
    for _ in 0..20 {
        world.push(3000);
        world.sync();
    }
    put(&world.disk, FILE_NAMES[0], &[0; 10], 3 * PAGE as u64);
    let error = found(&world.disk, 1).unwrap_err().to_string();
    assert!(error.contains("journal-0.log") && error.contains("byte 12288"), "{error}");
}

#[test]
fn frames_of_another_era_mean_nothing() {
    let mut world = World::new();
    world.push(100);
    world.sync();
    assert_eq!(found(&world.disk, 2).unwrap(), []);
    let journal = Journal::open(&world.disk, Path::new("/data"), FILE_BYTES).unwrap();
    journal.begin(2);
    world.journal = journal;
    world.push(100);
    world.sync();
    assert_eq!(found(&world.disk, 2).unwrap(), [1]);
}

//! A process that is killed between any two of its writes, or in the middle of one.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex};

use oncelog_log::{
    DirectoryEntry, Disk, DiskFile, DiskLock, Isolation, LogConfig, MemoryDisk, OpenMode, ProducerDescription,
};
use oncelog_records::MarkerKind;
use oncelog_wire::Offset;

use crate::world::{World, batches_of};

use Isolation::ReadUncommitted;

/// A disk that keeps a copy of itself from before and after each change, and from the middle of each write.
#[derive(Clone, Debug)]
pub struct Traced<D> {
    pub inner: D,
    /// Makes a copy; it is told how many there are.
    copy: fn(&D, usize) -> D,
    trace: Arc<Mutex<Vec<D>>>,
}

#[derive(Debug)]
struct TracedFile<D> {
    inner: Arc<dyn DiskFile>,
    disk: Traced<D>,
}

impl<D> Traced<D> {
    pub fn new(inner: D, copy: fn(&D, usize) -> D) -> Traced<D> {
        Traced { inner, copy, trace: Arc::default() }
    }

    fn note<T>(&self, result: T) -> T {
        let mut trace = self.trace.lock().unwrap();
        let copy = (self.copy)(&self.inner, trace.len());
        trace.push(copy);
        result
    }

    pub fn take(&self) -> Vec<D> {
        std::mem::take(&mut *self.trace.lock().unwrap())
    }
}

/// A disk in memory, of which the copies are what is there when the process is killed.
pub fn traced_memory() -> Traced<MemoryDisk> {
    Traced::new(MemoryDisk::new(), |disk, _| disk.snapshot())
}

impl<D: Disk + Clone + 'static> Disk for Traced<D> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.note(self.inner.open(path, mode))?;
        Ok(Arc::new(TracedFile { inner, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(self.inner.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.note(self.inner.remove_file(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.note(self.inner.remove_directory(path))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.note(self.inner.create_directory(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list(directory)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.note(self.inner.sync_directory(directory))
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        self.inner.lock(path)
    }
}

impl<D: Disk + Clone + 'static> DiskFile for TracedFile<D> {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }

    fn write_vectored_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let (half, rest) = all.split_at(all.len() / 2);
        self.disk.note(self.inner.write_at(half, position))?;
        self.disk.note(self.inner.write_at(rest, position + half.len() as u64))
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.note(self.inner.truncate(length))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.note(self.inner.sync())
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn os_file(&self) -> Option<&Arc<File>> {
        None
    }
}

/// What must survive of a log, whatever happens to its start.
#[derive(Clone, Debug, PartialEq)]
struct State {
    end: Offset,
    producers: Vec<ProducerDescription>,
}

fn state(world: &mut World) -> State {
    let mut producers: Vec<_> = world.log().producers().collect();
    producers.sort_by_key(|producer| producer.producer_id);
    let open = producers.iter().map(|producer| producer.transaction_start_offset);
    let first_open = open.filter(|start| *start != Offset::NONE).min();
    let (start, end) = (world.log().log_start_offset(), world.log().log_end_offset());
    assert_eq!(world.log().last_stable_offset(), first_open.map_or(end, |first| first.max(start)));
    State { end, producers }
}

/// Opens each copy of the disk: the log has to be in one of these states. Takes the copies.
fn check(disk: &Traced<MemoryDisk>, config: &LogConfig, now: i64, allowed: &[State], step: usize) -> usize {
    let copies = disk.take();
    for (number, copy) in copies.iter().enumerate() {
        // Twice: what the recovery itself leaves is looked at as well.
        for _ in 0..2 {
            let disk = Arc::new(copy.clone());
            let mut world = World { disk, root: "/data".into(), config: config.clone(), now, open: None };
            world.start();
            let found = state(&mut world);
            let what = format!("step {step}, copy {number}");
            assert!(allowed.contains(&found), "{what}: {found:#?} instead of {allowed:#?}");
            let start = world.log().log_start_offset().0;
            let batches = batches_of(&mut world, start, ReadUncommitted);
            let mut next = batches.first().map_or(found.end.0, |batch| batch.0);
            assert!(next <= start.max(next), "{what}");
            for (base, last) in batches {
                assert_eq!(base, next, "{what}");
                next = last + 1;
            }
            assert_eq!(next, found.end.0, "{what}");
        }
        let mut world = World {
            disk: Arc::new(copy.clone()),
            root: "/data".into(),
            config: config.clone(),
            now,
            open: None,
        };
        world.start();
        let end = world.log().log_end_offset();
        assert_eq!(world.append(1).base_offset, end);
    }
    copies.len()
}

#[test]
fn nothing_that_was_answered_is_lost_wherever_the_process_is_killed() {
    let config = LogConfig {
        segment_bytes: 700,
        index_interval_bytes: 100,
        retention_bytes: Some(1500),
        ..LogConfig::default()
    };
    let disk = traced_memory();
    let mut world = World::on(Arc::new(disk.clone()), "/data".into(), config.clone());
    let mut before = state(&mut world);
    let mut copies = check(&disk, &config, world.now, std::slice::from_ref(&before), 0);
    for step in 1..120usize {
        let producer = (step % 5) as i64;
        match step % 12 {
            0 | 4 => drop(world.append(step % 3 + 1)),
            1 | 2 | 6 | 7 => {
                let known = world.log().producers().find(|known| known.producer_id.0 == producer);
                let (epoch, last) =
                    known.map_or((0, -1), |known| (known.producer_epoch.0, known.last_sequence));
                world.transactional(producer, epoch, last + 1);
            }
            3 | 8 | 9 => {
                let known = world.log().producers().find(|known| known.producer_id.0 == producer);
                let epoch = known.map_or(0, |known| known.producer_epoch.0) + (step % 2) as i16;
                let kind = if step % 4 == 0 { MarkerKind::Commit } else { MarkerKind::Abort };
                world.end(producer, epoch, kind);
            }
            5 => world.checkpoint(),
            10 if step % 24 == 10 => {
                let (now, middle) = (world.now(), world.log().log_end_offset().0 * 2 / 3);
                if step % 48 == 10 {
                    world.log().maintain(now).unwrap().remove().unwrap();
                } else {
                    world.log().delete_records(Some(Offset(middle))).unwrap().1.remove().unwrap();
                }
                world.note_start();
            }
            10 => world.restart(),
            _ => world.crash(),
        }
        let after = state(&mut world);
        copies += check(&disk, &config, world.now, &[before, after.clone()], step);
        before = after;
    }
    assert!(copies > 1000, "{copies}");
}

#[test]
fn a_recovery_that_is_killed_while_it_makes_indexes_anew_is_done_again() {
    for extension in ["index", "timeindex", "txnindex"] {
        let disk = traced_memory();
        let mut world = World::on(Arc::new(disk.clone()), "/data".into(), LogConfig::default());
        world.transactional(1, 0, 0);
        world.end(1, 0, MarkerKind::Abort);
        world.checkpoint();
        world.open = None;
        let path = Path::new("/data/orders-0/00000000000000000000").with_extension(extension);
        let file = disk.inner.open(&path, OpenMode::Existing).unwrap();
        file.write_at(&[0; 5], file.length().unwrap()).unwrap();
        disk.take();
        world.start();
        let copies = disk.take();
        assert!(copies.len() > 3);
        for (at, copy) in copies.into_iter().enumerate() {
            let disk = Arc::new(copy);
            let config = LogConfig::default();
            let mut world = World { disk, root: "/data".into(), config, now: 1_000_000, open: None };
            world.start();
            let aborted = world.read(0, Isolation::ReadCommitted).aborted.unwrap();
            assert_eq!(aborted.len(), 1, "{extension} was torn, killed after {at} changes");
        }
    }
}

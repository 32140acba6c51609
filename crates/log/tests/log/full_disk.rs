//! A disk that is full: what was begun can be ended, and it goes on once there is room.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oncelog_log::{
    DirectoryEntry, Disk, DiskFile, DiskLock, EntryKind, Isolation, LogConfig, MemoryDisk, OpenMode, Origin,
    Verification,
};
use oncelog_records::{BatchView, MarkerKind};
use oncelog_wire::{ErrorCode, LeaderEpoch, Offset};

use crate::world::{World, plain, sequenced};

use Isolation::{ReadCommitted, ReadUncommitted};

const RESERVE: u64 = 8 << 10;

/// A disk of so many bytes.
#[derive(Clone, Debug)]
struct SmallDisk {
    inner: MemoryDisk,
    capacity: Arc<AtomicU64>,
}

#[derive(Debug)]
struct SmallFile {
    inner: Arc<dyn DiskFile>,
    disk: SmallDisk,
}

impl SmallDisk {
    fn new() -> SmallDisk {
        SmallDisk { inner: MemoryDisk::new(), capacity: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    fn used(&self) -> u64 {
        let mut directories = vec![PathBuf::from("/")];
        let mut used = 0;
        while let Some(directory) = directories.pop() {
            for entry in self.inner.list(&directory).unwrap() {
                match entry.kind {
                    EntryKind::Directory => directories.push(directory.join(entry.name)),
                    EntryKind::File { length } => used += length,
                }
            }
        }
        used
    }

    /// Leaves so much room from now on.
    fn leave(&self, bytes: u64) {
        self.capacity.store(self.used().saturating_add(bytes), Ordering::Relaxed);
    }

    fn holds_reserve(&self) -> bool {
        self.inner.open(Path::new("/data/reserve"), OpenMode::Existing).is_ok()
    }

    fn world(&self) -> World {
        World::on(Arc::new(self.clone()), "/data".into(), LogConfig::default())
    }
}

impl Disk for SmallDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(SmallFile { inner, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_directory(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.inner.create_directory(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list(directory)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.inner.sync_directory(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        self.inner.lock(path)
    }

    fn reserve_bytes(&self) -> u64 {
        RESERVE
    }
}

impl DiskFile for SmallFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }

    fn write_vectored_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let growth = (position + bytes.len() as u64).saturating_sub(self.inner.length()?);
        let left = self.disk.capacity.load(Ordering::Relaxed).saturating_sub(self.disk.used());
        let lacking = growth.saturating_sub(left);
        self.inner.write_at(&bytes[..bytes.len() - lacking as usize], position)?;
        if lacking > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.inner.truncate(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn os_file(&self) -> Option<&Arc<File>> {
        None
    }
}

#[test]
fn an_open_transaction_can_be_ended_on_a_full_disk_and_nothing_else_takes_the_room_for_it() {
    for kind in [MarkerKind::Commit, MarkerKind::Abort] {
        let disk = SmallDisk::new();
        let mut world = disk.world();
        world.append(1);
        world.transactional(1, 0, 0);
        assert!(disk.holds_reserve());
        disk.leave(0);
        let next = sequenced(1, 0, 1, 1, true, world.now);
        let error = world.append_batch(&next, Verification::Verified).unwrap_err();
        assert_eq!(error.code(), ErrorCode::KafkaStorageError);
        assert!(disk.holds_reserve(), "records do not cost the reserve");
        world.end(1, 0, kind);
        assert!(!disk.holds_reserve());
        // There is room for a small batch now, but it is not for this.
        let (small, now) = (plain(world.now, 1, 10), world.now());
        let error = world.append_batch(&small, Verification::None).unwrap_err();
        assert_eq!(error.code(), ErrorCode::KafkaStorageError);
        assert_eq!(error.to_string(), "/data/orders-0: the disk is full");
        let batch = BatchView::parse(&small).unwrap();
        world.log().append(&batch, Origin::TransactionEnd, now).unwrap();
        assert_eq!(world.read_all(0, ReadCommitted), [0, 1, 2, 3]);
        // Without a restart it goes on: not at once, but soon.
        disk.leave(2 * RESERVE);
        world.append_batch(&small, Verification::None).unwrap_err();
        world.now += 1000;
        assert_eq!(world.append_batch(&small, Verification::None).unwrap().base_offset, Offset(4));
        assert!(disk.holds_reserve());
        world.crash();
        assert_eq!(world.read_all(0, ReadUncommitted), [0, 1, 2, 3, 4]);
        assert_eq!(world.log().leader_epoch(), LeaderEpoch(0));
    }
}

#[test]
fn the_coordinators_own_records_leave_half_of_the_reserve_to_the_ends_of_transactions() {
    let disk = SmallDisk::new();
    let mut world = disk.world();
    world.append(1);
    disk.leave(0);
    let bytes = plain(world.now, 1, 400);
    let (batch, now) = (BatchView::parse(&bytes).unwrap(), world.now());
    let mut taken = 0;
    while world.log().append(&batch, Origin::Coordinator, now).is_ok() {
        taken += bytes.len() as u64;
    }
    assert!(taken > RESERVE / 3 && taken <= RESERVE / 2 + bytes.len() as u64, "{taken}");
    for _ in 0..RESERVE / 2 / bytes.len() as u64 {
        world.log().append(&batch, Origin::TransactionEnd, now).unwrap();
    }
    // And when there is really nothing left, that is said, and passes too.
    while world.log().append(&batch, Origin::TransactionEnd, now).is_ok() {}
    assert!(!world.log().is_offline());
    disk.leave(2 * RESERVE);
    world.now += 1000;
    world.append(1);
    let end = world.log().log_end_offset();
    world.crash();
    assert_eq!(world.log().log_end_offset(), end);
}

#[test]
fn a_full_disk_is_checkpointed_stopped_and_started() {
    let disk = SmallDisk::new();
    let mut world = disk.world();
    world.append(1);
    world.transactional(1, 0, 0);
    disk.leave(0);
    let (data, log) = world.open.as_mut().unwrap();
    let moved = data.insist(|| {
        let mut checkpoint = log.begin_checkpoint()?.unwrap();
        checkpoint.sync()?;
        log.finish_checkpoint(checkpoint);
        Ok(log.recovery_point())
    });
    assert_eq!(moved.unwrap(), Offset(2));
    data.write_checkpoints(log.points().into_iter()).unwrap();
    disk.leave(0);
    world.crash();
    assert_eq!(world.read_all(0, ReadUncommitted), [0, 1]);
    world.append_batch(&plain(world.now, 1, 10), Verification::None).unwrap_err();
    disk.leave(u64::MAX / 2);
    world.now += 1000;
    world.end(1, 0, MarkerKind::Commit);
    world.append(1);
    disk.leave(0);
    world.restart();
    assert_eq!(world.read_all(0, ReadCommitted), [0, 1, 2, 3]);
}

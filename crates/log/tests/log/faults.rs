//! Writes that fail: nothing is half done, and what cannot be undone takes the log offline.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use oncelog_log::{
    AppendError, DirectoryEntry, Disk, DiskFile, DiskLock, Isolation, LogConfig, LogError, MemoryDisk,
    OpenMode, Verification,
};
use oncelog_records::MarkerKind;
use oncelog_wire::{ErrorCode, LeaderEpoch, Offset};

use crate::append_and_read::small_segments;
use crate::world::{World, plain, sequenced};

use Isolation::ReadUncommitted;

/// A disk with so many bytes left, and other defects.
#[derive(Clone, Debug)]
struct Faulty {
    inner: MemoryDisk,
    defects: Arc<Defects>,
}

#[derive(Debug)]
struct Defects {
    bytes_left: AtomicU64,
    refuses_truncation: AtomicBool,
    refuses_new_files: AtomicBool,
    refuses_sync: AtomicBool,
    /// Files with this extension cannot be made.
    refused_extension: Mutex<Option<&'static str>>,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn DiskFile>,
    defects: Arc<Defects>,
}

impl Faulty {
    fn new() -> Faulty {
        let defects = Defects {
            bytes_left: AtomicU64::new(u64::MAX),
            refuses_truncation: AtomicBool::new(false),
            refuses_new_files: AtomicBool::new(false),
            refuses_sync: AtomicBool::new(false),
            refused_extension: Mutex::default(),
        };
        Faulty { inner: MemoryDisk::new(), defects: Arc::new(defects) }
    }

    fn world(&self, config: LogConfig) -> World {
        World::on(Arc::new(self.clone()), "/data".into(), config)
    }

    fn leave(&self, bytes: u64) {
        self.defects.bytes_left.store(bytes, Ordering::Relaxed);
    }
}

fn refuse_if(defect: &AtomicBool) -> io::Result<()> {
    if defect.load(Ordering::Relaxed) { Err(io::Error::other("defect")) } else { Ok(()) }
}

impl Disk for Faulty {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if mode == OpenMode::Create {
            refuse_if(&self.defects.refuses_new_files)?;
            let refused = *self.defects.refused_extension.lock().unwrap();
            if refused.is_some_and(|refused| path.extension().is_some_and(|found| found == refused)) {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(FaultyFile { inner, defects: self.defects.clone() }))
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

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        refuse_if(&self.defects.refuses_sync)
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        self.inner.lock(path)
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }

    fn write_vectored_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let left = self.defects.bytes_left.load(Ordering::Relaxed);
        let fitting = left.min(all.len() as u64);
        self.defects.bytes_left.store(left - fitting, Ordering::Relaxed);
        self.inner.write_at(&all[..fitting as usize], position)?;
        if fitting == all.len() as u64 { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        refuse_if(&self.defects.refuses_truncation)?;
        self.inner.truncate(length)
    }

    fn sync(&self) -> io::Result<()> {
        refuse_if(&self.defects.refuses_sync)
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn os_file(&self) -> Option<&Arc<File>> {
        None
    }
}

#[test]
fn a_full_disk_refuses_appends_and_keeps_everything_else() {
    for left in [0, 1, 30, 61, 70] {
        let disk = Faulty::new();
        let mut world = disk.world(LogConfig::default());
        world.append(2);
        world.transactional(1, 0, 0);
        let producers: Vec<_> = world.log().producers().collect();
        disk.leave(left);
        let batch = sequenced(1, 0, 1, 1, true, world.now);
        let error = world.append_batch(&batch, Verification::Verified).unwrap_err();
        assert_eq!(error.code(), ErrorCode::KafkaStorageError);
        assert!(error.to_string().contains("/data/orders-0/00000000000000000000.log"), "{error}");
        let batch = plain(world.now, 1, 100);
        assert!(world.append_batch(&batch, Verification::None).is_err());
        assert!(!world.log().is_offline());
        assert_eq!(world.log().log_end_offset(), Offset(3));
        assert_eq!(world.log().producers().collect::<Vec<_>>(), producers);
        assert_eq!(world.read_all(0, ReadUncommitted), [0, 2]);
        disk.leave(u64::MAX);
        assert_eq!(world.transactional(1, 0, 1).base_offset, Offset(3));
        world.end(1, 0, MarkerKind::Commit);
        world.crash();
        assert_eq!(world.read_all(0, ReadUncommitted), [0, 2, 3, 4]);
        assert_eq!(world.log().leader_epoch(), LeaderEpoch(0));
    }
}

#[test]
fn a_write_that_can_neither_be_finished_nor_undone_takes_the_log_offline() {
    let disk = Faulty::new();
    let mut world = disk.world(LogConfig::default());
    world.append(1);
    world.restart();
    disk.leave(20);
    disk.defects.refuses_truncation.store(true, Ordering::Relaxed);
    let batch = plain(world.now, 1, 100);
    assert!(world.append_batch(&batch, Verification::None).is_err());
    disk.leave(u64::MAX);
    assert!(world.log().is_offline());
    let error = world.append_batch(&batch, Verification::None).unwrap_err();
    assert!(matches!(error, AppendError::Storage(LogError::Offline { .. })));
    assert_eq!(error.code(), ErrorCode::KafkaStorageError);
    assert_eq!(world.read_all(0, ReadUncommitted), [0], "what is there can be read");
    assert!(world.log().close().is_err());
    disk.defects.refuses_truncation.store(false, Ordering::Relaxed);
    assert_eq!(world.append(1).base_offset, Offset(1), "it is undone before the next one");
    assert!(!world.log().is_offline());
    world.crash();
    assert_eq!(world.read_all(0, ReadUncommitted), [0, 1]);
    assert_eq!(world.log().leader_epoch(), LeaderEpoch(0), "there is nothing to cut");
}

#[test]
fn a_segment_that_cannot_be_made_is_made_later() {
    let disk = Faulty::new();
    let mut world = disk.world(small_segments());
    disk.defects.refuses_new_files.store(true, Ordering::Relaxed);
    let batch = plain(world.now, 1, 100);
    assert!(world.append_batch(&batch, Verification::None).is_err(), "not even the first");
    disk.defects.refuses_new_files.store(false, Ordering::Relaxed);
    world.append_batch(&batch, Verification::None).unwrap();
    world.append_batch(&batch, Verification::None).unwrap();
    disk.defects.refuses_new_files.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        assert!(world.append_batch(&batch, Verification::None).is_err());
    }
    disk.defects.refuses_new_files.store(false, Ordering::Relaxed);
    for _ in 0..5 {
        world.append_batch(&batch, Verification::None).unwrap();
    }
    world.crash();
    assert_eq!(world.read_all(0, ReadUncommitted), (0..7).collect::<Vec<_>>());
}

#[test]
fn a_half_made_segment_does_not_cost_what_comes_after() {
    for extension in ["log", "index", "timeindex", "txnindex", "snapshot"] {
        let disk = Faulty::new();
        let mut world = disk.world(small_segments());
        world.append_batch(&plain(world.now, 1, 100), Verification::None).unwrap();
        // The next batch needs a new segment, which cannot be made; smaller ones still fit where the log is.
        *disk.defects.refused_extension.lock().unwrap() = Some(extension);
        world.append_batch(&plain(world.now, 1, 300), Verification::None).unwrap_err();
        *disk.defects.refused_extension.lock().unwrap() = None;
        for size in [10, 10, 300, 10] {
            world.append_batch(&plain(world.now, 1, size), Verification::None).unwrap();
        }
        for _ in 0..2 {
            world.crash();
            assert_eq!(world.read_all(0, ReadUncommitted), [0, 1, 2, 3, 4], "without {extension}");
        }
    }
}

#[test]
fn index_entries_that_cannot_be_written_wait_in_memory() {
    let disk = Faulty::new();
    let mut world = disk.world(LogConfig { index_interval_bytes: 0, ..LogConfig::default() });
    for _ in 0..63 {
        world.append(1);
    }
    // Enough for the batch, not for the 64 entries of the offset index that are due.
    disk.leave(100);
    world.append(1);
    world.append_batch(&plain(world.now, 1, 100), Verification::None).unwrap_err();
    disk.leave(u64::MAX);
    assert_eq!(world.read_all(0, ReadUncommitted), (0..64).collect::<Vec<_>>());
    for _ in 0..100 {
        world.append(1);
    }
    world.restart();
    assert_eq!(world.read_all(100, ReadUncommitted), (100..164).collect::<Vec<_>>());
}

#[test]
fn a_checkpoint_that_cannot_be_synced_does_not_count() {
    let disk = Faulty::new();
    let mut world = disk.world(LogConfig::default());
    world.append(1);
    disk.defects.refuses_sync.store(true, Ordering::Relaxed);
    let mut checkpoint = world.log().begin_checkpoint().unwrap().unwrap();
    assert!(checkpoint.sync().is_err());
    drop(checkpoint);
    assert_eq!(world.log().points().unwrap().recovery_point, Offset(0));
    disk.defects.refuses_sync.store(false, Ordering::Relaxed);
    world.checkpoint();
    assert_eq!(world.log().points().unwrap().recovery_point, Offset(1));
}

//! A data directory with one log in it, and short words for what tests do with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncelog_log::{
    AppendError, Appended, CleaningStats, DataDir, DataDirOptions, Disk, Durability, Garbage, Isolation, Log,
    LogConfig, Marker, MemoryDisk, OffsetMapSize, Origin, Read, ReadSpec, Verification,
};
use oncelog_records::{BatchBuilder, BatchView, MarkerKind, batches};
use oncelog_wire::{Now, Offset, ProducerEpoch, ProducerId, Records, Timestamp, TopicPartition, Uuid};

pub const TOPIC_ID: Uuid = Uuid([7; 16]);

/// A broker's data directory, the log of one partition, and a clock.
pub struct World {
    pub disk: Arc<dyn Disk>,
    pub root: PathBuf,
    pub config: LogConfig,
    pub now: i64,
    pub open: Option<(DataDir, Log)>,
}

pub fn options() -> DataDirOptions {
    DataDirOptions {
        node_id: 1,
        expected_cluster_id: None,
        new_cluster_id: Uuid([1; 16]),
        new_directory_id: Uuid([2; 16]),
        max_open_files: 4,
        durability: Durability::Os,
    }
}

pub fn partition() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

impl World {
    pub fn in_memory(config: LogConfig) -> World {
        World::on(Arc::new(MemoryDisk::new()), PathBuf::from("/data"), config)
    }

    pub fn on(disk: Arc<dyn Disk>, root: PathBuf, config: LogConfig) -> World {
        let mut world = World { disk, root, config, now: 1_000_000, open: None };
        world.start();
        world
    }

    pub fn start(&mut self) {
        let data = DataDir::open(self.disk.clone(), &self.root, options()).unwrap();
        let log = data.open_log(&partition(), TOPIC_ID, Arc::new(self.config.clone()), self.now()).unwrap();
        self.open = Some((data, log));
    }

    pub fn log(&mut self) -> &mut Log {
        &mut self.open.as_mut().unwrap().1
    }

    /// Stops in order and starts again.
    pub fn restart(&mut self) {
        let (data, mut log) = self.open.take().unwrap();
        let points = data.insist(|| log.close()).unwrap();
        data.close(points.into_iter()).unwrap();
        drop(data);
        self.start();
    }

    /// Lets go of everything, as a killed process does, and starts again.
    pub fn crash(&mut self) {
        self.open = None;
        self.start();
    }

    /// Crashes without one of the indexes.
    pub fn lose_index(&mut self, which: usize) {
        let directory = self.root.join(partition().to_string());
        self.open = None;
        let entries = self.disk.list(&directory).unwrap_or_default();
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
        names.retain(|name| name.ends_with("index"));
        names.sort();
        if !names.is_empty() {
            self.disk.remove_file(&directory.join(&names[which % names.len()])).unwrap();
        }
        self.start();
    }

    pub fn checkpoint(&mut self) {
        let (data, log) = self.open.as_mut().unwrap();
        if let Some(mut checkpoint) = log.begin_checkpoint().unwrap() {
            checkpoint.sync().unwrap();
            log.finish_checkpoint(checkpoint);
        }
        data.write_checkpoints(log.points().into_iter()).unwrap();
    }

    /// Notes where the log starts, without syncing it.
    pub fn note_start(&mut self) {
        let (data, log) = self.open.as_mut().unwrap();
        data.write_checkpoints(log.points().into_iter()).unwrap();
    }

    /// Cleans the log as far as it can be, whether that is due or not; says what has come of it.
    pub fn clean(&mut self, map_bytes: u64) -> Option<CleaningStats> {
        let (now, name) = (self.now().wall, partition());
        let (data, log) = self.open.as_mut().unwrap();
        let (cleaned, synced) = (data.cleaned_offset(&name), data.written_recovery_point(&name));
        let dirtiness = log.dirtiness(cleaned, synced, now).unwrap()?;
        let map = OffsetMapSize { bytes: map_bytes, load_factor: 0.9 };
        let cleaning = log.begin_cleaning(&dirtiness, map, now).unwrap();
        let stats = cleaning.run(&|| false, &mut |segment| {
            let garbage = log.swap_in(segment)?;
            garbage.map(Garbage::remove).transpose().map(|removed| removed.is_some())
        });
        let stats = stats.unwrap().unwrap();
        data.note_cleaned(&name, stats.end_offset).unwrap();
        Some(stats)
    }

    pub fn now(&self) -> Now {
        Now { monotonic: Duration::from_millis(self.now as u64), wall: Timestamp(self.now) }
    }

    /// Appends `count` records of no producer.
    pub fn append(&mut self, count: usize) -> Appended {
        let batch = plain(self.now, count, 10);
        self.append_batch(&batch, Verification::None).unwrap()
    }

    pub fn append_batch(
        &mut self,
        batch: &Bytes,
        verification: Verification,
    ) -> Result<Appended, AppendError> {
        let now = self.now();
        self.log().append(&BatchView::parse(batch).unwrap(), Origin::Client(verification), now)
    }

    /// Appends one transactional record, opening the transaction where it is not.
    pub fn transactional(&mut self, producer_id: i64, epoch: i16, sequence: i32) -> Appended {
        let batch = sequenced(producer_id, epoch, sequence, 1, true, self.now);
        self.append_batch(&batch, Verification::Verified).unwrap()
    }

    pub fn end(&mut self, producer_id: i64, epoch: i16, kind: MarkerKind) -> Appended {
        let now = self.now();
        self.log().append_marker(&marker(producer_id, epoch, kind), now).unwrap()
    }

    pub fn read(&mut self, offset: i64, isolation: Isolation) -> Read {
        let spec =
            ReadSpec { offset: Offset(offset), max_bytes: 1 << 20, at_least_one_batch: true, isolation };
        self.log().read(&spec).unwrap()
    }

    /// The base offsets of all batches a reader of `isolation` gets from `offset` on.
    pub fn read_all(&mut self, offset: i64, isolation: Isolation) -> Vec<i64> {
        batches_of(self, offset, isolation).into_iter().map(|(base, _)| base).collect()
    }
}

/// The first and last offsets of all batches a reader of `isolation` gets from `offset` on.
pub fn batches_of(world: &mut World, offset: i64, isolation: Isolation) -> Vec<(i64, i64)> {
    let (mut offset, mut found) = (Offset(offset), Vec::new());
    loop {
        let read = world.read(offset.0, isolation);
        if read.size == 0 {
            return found;
        }
        let bytes = bytes_of(&read.records);
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            assert!(batch.is_crc_valid());
            found.push((batch.base_offset().0, batch.last_offset().0));
            offset = batch.next_offset();
        }
    }
}

pub fn bytes_of(records: &Records) -> Bytes {
    match records {
        Records::Bytes(bytes) => bytes.clone(),
        Records::File(slice) => {
            use std::os::unix::fs::FileExt;
            let mut bytes = vec![0; slice.length as usize];
            slice.file.read_exact_at(&mut bytes, slice.position).unwrap();
            bytes.into()
        }
    }
}

pub fn plain(timestamp: i64, count: usize, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    for _ in 0..count {
        builder.push(Timestamp(timestamp), None, Some(&vec![b'x'; value_bytes]));
    }
    builder.build()
}

pub fn sequenced(producer_id: i64, epoch: i16, sequence: i32, count: usize, in_txn: bool, at: i64) -> Bytes {
    let mut builder = BatchBuilder::new().producer(ProducerId(producer_id), ProducerEpoch(epoch), sequence);
    if in_txn {
        builder = builder.transactional();
    }
    for _ in 0..count {
        builder.push(Timestamp(at), Some(b"key"), Some(b"value"));
    }
    builder.build()
}

pub fn marker(producer_id: i64, epoch: i16, kind: MarkerKind) -> Marker {
    Marker {
        producer_id: ProducerId(producer_id),
        producer_epoch: ProducerEpoch(epoch),
        kind,
        coordinator_epoch: 0,
        transaction_version: 0,
    }
}

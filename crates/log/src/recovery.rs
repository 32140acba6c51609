//! Opening a log: from a clean stop without looking at the batches, after a crash from the recovery point on.
//!
//! Above the recovery point nothing on disk is believed: batches are read and checked, the log is cut after the last
//! sound one, and the indexes and the state of the producers are made anew. Below it, only what is missing or cannot
//! be right is made again, and a broken batch is left for its readers to find.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use oncelog_records::{BatchError, BatchHeader, BatchView, EndTransactionMarker};
use oncelog_wire::{LeaderEpoch, Now, Offset, Timestamp, TopicPartition, Uuid};

use crate::append::index_ended;
use crate::batch_file::Found;
use crate::disk::{FilePool, read_file};
use crate::error::{IoContext, LogError, ReadError};
use crate::journal::{Journal, JournalEntries};
use crate::journaled::Cut;
use crate::leader_epochs::LeaderEpochs;
use crate::log::{Bound, Log, Marker};
use crate::log_files::LogFiles;
use crate::producer_state::{Place, ProducerStates};
use crate::segment::{Segment, file_name};
use crate::{LogConfig, journaled, partition_metadata, producer_snapshot, swap};

/// More than a snapshot of ten million producers has.
const MAX_SNAPSHOT_BYTES: u64 = 512 << 20;

/// What is known of a log before its directory is read.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) pool: Arc<FilePool>,
    pub(crate) topic_partition: TopicPartition,
    pub(crate) topic_id: Uuid,
    pub(crate) directory: PathBuf,
    pub(crate) config: Arc<LogConfig>,
    /// Whether the last stop was clean, so that all on disk is as it was.
    pub(crate) is_clean: bool,
    pub(crate) recovery_point: Offset,
    pub(crate) log_start_offset: Offset,
    /// What the journal has, where that is what counts above the recovery point.
    pub(crate) entries: Option<JournalEntries>,
    /// The journal that takes what is appended from now on.
    pub(crate) journal: Option<Arc<Journal>>,
}

impl Opening {
    /// Opens the log. Where there is no directory it is empty, and nothing is made.
    pub(crate) fn open(mut self, now: Now) -> Result<Log, LogError> {
        let disk = self.pool.shared_disk();
        let mut files = LogFiles::default();
        let mut epochs = LeaderEpochs::default();
        let mut cut = Cut::default();
        match disk.list(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            entries => {
                let mut entries = entries.on("list", &self.directory)?;
                if swap::complete(&self.pool, &self.directory, &entries)? {
                    entries = disk.list(&self.directory).on("list", &self.directory)?;
                }
                files = LogFiles::sort_out(&*disk, &self.directory, entries)?;
                self.check_topic_id()?;
                epochs = self.read_epochs()?;
                if self.entries.is_some() {
                    cut = journaled::cut(&mut files, &self, now.wall)?;
                }
            }
        }
        if self.entries.is_some() && files.segments.is_empty() {
            // All below the recovery point has been deleted, if there was any. Its offsets must not come again.
            self.log_start_offset = self.log_start_offset.max(self.recovery_point);
        }
        let noted = epochs.clone();
        let recovery_point = self.recovery_point;
        let has_segments = !files.segments.is_empty();
        let mut log = Log {
            leader_epoch: LeaderEpoch(0),
            pool: self.pool,
            journal: None,
            topic_partition: self.topic_partition,
            topic_id: self.topic_id,
            directory: self.directory,
            config: self.config,
            segments: Vec::new(),
            producers: ProducerStates::default(),
            snapshots: std::mem::take(&mut files.snapshots),
            epochs,
            log_start_offset: self.log_start_offset,
            high_watermark: Offset::ZERO,
            last_stable: Bound { offset: Offset::ZERO, place: None },
            log_end_offset: Offset::ZERO,
            recovery_point: self.recovery_point,
            settled_point: self.recovery_point,
            bytes_since_checkpoint: 0,
            directory_changes: u32::from(match self.entries {
                Some(_) => cut.is_change,
                None => has_segments && !self.is_clean,
            }),
            is_offline: false,
            is_half_swapped: false,
        };
        let mut scanned = log.open_segments(&files, self.is_clean, now.wall)?;
        if self.entries.is_none() {
            log.settle_start(&mut scanned)?;
            log.settle_epochs(scanned.is_cut, &noted)?;
        }
        log.load_producers(scanned.indexed_from.unwrap_or(log.log_end_offset), self.entries.is_some())?;
        log.keep_indexes(scanned.indexed_from)?;
        if let Some(entries) = &self.entries {
            scanned.is_cut |= log.replay_journal(entries, recovery_point, cut, now.wall)?;
            log.settle_start(&mut scanned)?;
            log.settle_epochs(scanned.is_cut, &noted)?;
        }
        log.producers.expire(now.wall, log.config.producer_id_expiration_ms);
        log.publish(log.log_end_offset);
        log.journal = self.journal;
        Ok(log)
    }

    /// The leader epochs; if the file is damaged, the batches tell them.
    fn read_epochs(&self) -> Result<LeaderEpochs, LogError> {
        match LeaderEpochs::read(self.pool.disk(), &self.directory) {
            Err(LogError::Invalid { path, reason }) => {
                tracing::warn!("{}: {reason}; doing without", path.display());
                Ok(LeaderEpochs::default())
            }
            epochs => epochs,
        }
    }

    fn check_topic_id(&self) -> Result<(), LogError> {
        match partition_metadata::read(self.pool.disk(), &self.directory)? {
            Some(other) if other != self.topic_id => {
                let reason = format!("belongs to topic id {other}, not {}", self.topic_id);
                Err(LogError::invalid(&self.directory, reason))
            }
            Some(_) => Ok(()),
            None => partition_metadata::write(self.pool.disk(), &self.directory, self.topic_id),
        }
    }
}

/// What looking at the segments has come to.
#[derive(Debug, Default)]
struct Scanned {
    /// Whether the log has become shorter.
    is_cut: bool,
    /// From where on transaction indexes have to be made again from the producers' state.
    indexed_from: Option<Offset>,
}

/// How a segment is looked at.
#[derive(Clone, Copy, Debug)]
struct Scan {
    /// Index entries of batches before this offset are kept.
    keep_below: Offset,
    /// Batches from this offset on must have the right CRC.
    check_from: Offset,
    /// Whether the segment ends where a batch is broken.
    may_cut: bool,
}

/// How far a segment goes.
#[derive(Clone, Copy, Debug)]
struct Extent {
    end_offset: Offset,
    is_cut: bool,
}

impl Log {
    /// Opens the segments one by one, looks into those that need it, and drops what follows a cut or a hole.
    fn open_segments(
        &mut self,
        files: &LogFiles,
        is_clean: bool,
        now: Timestamp,
    ) -> Result<Scanned, LogError> {
        let mut scanned = Scanned::default();
        for (at, found) in files.segments.iter().enumerate() {
            let base_offset = found.base_offset;
            let next = files.segments.get(at + 1).map(|next| next.base_offset);
            let is_settled = is_clean || next.is_some_and(|next| next <= self.recovery_point);
            if scanned.is_cut || !is_settled && at > 0 && base_offset != self.log_end_offset {
                let end_offset = self.log_end_offset;
                let reason = format!("nothing follows offset {end_offset} where segment {base_offset} does");
                let lost = LogError::invalid(&self.directory, reason);
                if self.config.is_internal && end_offset < self.recovery_point {
                    return Err(lost);
                }
                tracing::error!("{lost}; the segments from {base_offset} on are removed");
                scanned.is_cut = true;
                files.remove_segments_from(self.pool.disk(), &self.directory, at)?;
                break;
            }
            let (mut segment, is_sound) = found.open(&self.pool, &self.directory, next, now)?;
            let scan = Scan {
                keep_below: match (is_sound, is_settled) {
                    (false, _) => base_offset,
                    (true, true) => Offset(i64::MAX),
                    (true, false) => self.recovery_point.max(base_offset),
                },
                check_from: if is_clean { Offset(i64::MAX) } else { self.recovery_point },
                may_cut: !(is_settled && next.is_some()),
            };
            let extent = match next {
                Some(next) if is_settled && is_sound => Extent { end_offset: next, is_cut: false },
                _ => self.scan_segment(&mut segment, scan, &mut scanned)?,
            };
            if next.is_some() {
                segment.seal()?;
            }
            scanned.is_cut |= extent.is_cut;
            self.log_end_offset = next.filter(|_| is_settled).unwrap_or(extent.end_offset);
            self.segments.push(segment);
        }
        Ok(scanned)
    }

    /// Walks over a segment, from the last index entry that is kept or from its start.
    fn scan_segment(
        &mut self,
        segment: &mut Segment,
        scan: Scan,
        scanned: &mut Scanned,
    ) -> Result<Extent, LogError> {
        let length = segment.size;
        let mut rebuilt_from = scan.keep_below;
        segment.truncate_indexes(scan.keep_below)?;
        if !self.is_entry_sound(segment, length)? {
            tracing::warn!("{}: the index is wrong; made anew", segment.batches.file().path().display());
            segment.truncate_indexes(segment.base_offset)?;
            rebuilt_from = segment.base_offset;
        }
        if rebuilt_from < Offset(i64::MAX) {
            let from = scanned.indexed_from.map_or(rebuilt_from, |other| other.min(rebuilt_from));
            scanned.indexed_from = Some(from);
        }
        segment.rewind()?;
        let (end_offset, is_cut) = match self.walk(segment, length, scan.check_from) {
            Ok(end_offset) => (end_offset, false),
            Err(Broken::At(end_offset, error)) if scan.may_cut => {
                self.accept_cut(segment, length, end_offset, scan.check_from, error)?;
                let path = segment.batches.file().path();
                segment.batches.open()?.truncate(u64::from(segment.size)).on("truncate", path)?;
                (end_offset, true)
            }
            Err(Broken::At(end_offset, error)) => {
                tracing::error!("{error}; what follows is served as far as it can be found");
                (segment.size, segment.noted_from) = (length, length);
                return Ok(Extent { end_offset, is_cut: false });
            }
            Err(Broken::Storage(error)) => return Err(error),
        };
        // The indexes may know of batches that were there once.
        segment.truncate_indexes(end_offset)?;
        Ok(Extent { end_offset, is_cut })
    }

    /// Says what is cut off behind a segment's last sound batch. Mostly it is the one batch that was written when the
    /// broker died; but it is damage where there was more. The broker's own logs must not go on without that.
    fn accept_cut(
        &self,
        segment: &Segment,
        length: u32,
        end_offset: Offset,
        check_from: Offset,
        error: ReadError,
    ) -> Result<(), LogError> {
        let lost = match segment.batches.sound_batch_from(segment.size, length)? {
            Some(position) => format!("but the batch at byte {position} is sound"),
            None if end_offset < self.recovery_point => {
                format!("but all up to offset {} had reached the device", self.recovery_point)
            }
            None => {
                tracing::warn!("{error}; the log ends here now");
                return Ok(());
            }
        };
        // What was not synced may have holes after a power cut, and batches whose first bytes, the offset, are missing.
        if self.config.is_internal && end_offset < check_from {
            let path = segment.batches.file().path();
            let size = segment.size;
            return Err(LogError::invalid(
                path,
                format!(
                    "byte {size}: {error}, {lost}. To go on without what follows, cut the file to {size} bytes"
                ),
            ));
        }
        tracing::error!("{error}, {lost}; records that were taken are lost, the log ends here now");
        Ok(())
    }

    /// Whether the last index entry points to the batch it means.
    fn is_entry_sound(&self, segment: &Segment, length: u32) -> Result<bool, LogError> {
        let Some(entry) = segment.offset_index.last()? else { return Ok(true) };
        if entry.position >= length {
            return Ok(false);
        }
        match segment.batches.headers(entry.position, length)?.next_batch() {
            Ok(found) => Ok(found.is_some_and(|found| found.header.last_offset() == entry.last_offset)),
            Err(ReadError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(into_log_error(error)),
        }
    }

    /// Takes one batch after the other into account until the file ends or a batch is broken.
    fn walk(&mut self, segment: &mut Segment, length: u32, check_from: Offset) -> Result<Offset, Broken> {
        let interval = self.config.index_interval_bytes;
        let mut next_offset = segment.base_offset;
        let batches = segment.batches.clone();
        // The CRC does not cover the offset. New batches follow one another without a gap (compaction leaves some, but
        // only in what has reached the device). Nor does it cover the leader epoch, but a record is a record in any.
        let must_learn_epochs = self.epochs.latest().is_none();
        let (epochs, unsynced) = (&mut self.epochs, &mut self.bytes_since_checkpoint);
        let mut take = |segment: &mut Segment, header: &BatchHeader| {
            let (offset, epoch) = (header.base_offset(), header.partition_leader_epoch());
            if offset < next_offset || offset > next_offset.max(check_from) {
                return Err(
                    batches.corrupt(segment.size, format!("offset {offset} where {next_offset} should be"))
                );
            }
            if must_learn_epochs && epochs.latest().is_none_or(|latest| latest.epoch < epoch) {
                epochs.assign(epoch, offset);
            }
            if offset >= check_from {
                *unsynced += header.size_in_bytes() as u64;
            }
            segment.note(header, interval);
            next_offset = header.next_offset();
            Ok(())
        };
        let result = walk_headers(segment, length, check_from, &mut take)
            .and_then(|()| walk_batches(segment, length, &mut take));
        match result {
            Ok(()) => Ok(next_offset),
            Err(error @ ReadError::Corrupt { .. }) => Err(Broken::At(next_offset, error)),
            Err(error) => Err(Broken::Storage(into_log_error(error))),
        }
    }

    /// Reconciles the checkpointed start of the log with what is there.
    fn settle_start(&mut self, scanned: &mut Scanned) -> Result<(), LogError> {
        if let Some(first) = self.segments.first() {
            self.log_start_offset = self.log_start_offset.max(first.base_offset);
        }
        if self.log_start_offset > self.log_end_offset {
            // All that is left was deleted already. The offsets must not come again.
            let mut retired = Vec::new();
            for segment in std::mem::take(&mut self.segments) {
                scanned.is_cut = true;
                crate::retention::retire(&self.pool, segment.files(), &mut retired)?;
            }
            for path in retired {
                self.pool.disk().remove_file(&path).on("remove", &path)?;
            }
            self.log_end_offset = self.log_start_offset;
        }
        if self.log_end_offset < self.recovery_point {
            self.accept_loss(self.recovery_point)?;
            scanned.is_cut = true;
        }
        self.recovery_point = self.recovery_point.min(self.log_end_offset);
        Ok(())
    }

    /// Says that what had reached the device is not there. The broker's own logs must not go on without it, unless all
    /// of it is gone, as if somebody had wanted that.
    pub(crate) fn accept_loss(&self, recovery_point: Offset) -> Result<(), LogError> {
        let lost = format!(
            "the records from offset {} to {recovery_point} had reached the device and are lost",
            self.log_end_offset
        );
        match self.segments.last() {
            Some(last) if self.config.is_internal => {
                let reason = format!("byte {}: {lost}", last.size);
                Err(LogError::invalid(last.batches.file().path(), reason))
            }
            _ => {
                tracing::error!("{}: {lost}", self.directory.display());
                Ok(())
            }
        }
    }

    /// Drops the epochs of what is gone, and starts a new one where the log has become shorter. An epoch that was `noted`
    /// stays used up: a recovery that was killed after it had cut the log leaves no other trace of that.
    fn settle_epochs(&mut self, is_cut: bool, noted: &LeaderEpochs) -> Result<(), LogError> {
        self.epochs.truncate_end(self.log_end_offset.next());
        let latest = self.epochs.latest();
        let known = latest.into_iter().chain(noted.latest()).map(|start| start.epoch);
        let newest = known.max().unwrap_or(LeaderEpoch(0));
        self.leader_epoch = if is_cut { newest.next() } else { newest };
        if latest.is_none_or(|latest| latest.epoch < self.leader_epoch) {
            let is_first = latest.is_none() && !is_cut;
            let start_offset = if is_first { self.log_start_offset } else { self.log_end_offset };
            self.epochs.assign(self.leader_epoch, start_offset);
        }
        self.epochs.truncate_start(self.log_start_offset);
        match self.epochs != *noted && !self.segments.is_empty() {
            true => self.write_epochs(),
            false => Ok(()),
        }
    }

    /// Takes the newest sound snapshot that is not beyond `limit`, and replays what follows it.
    fn load_producers(&mut self, limit: Offset, is_journaled: bool) -> Result<(), LogError> {
        let mut from = self.segments.first().map_or(self.log_end_offset, |first| first.base_offset);
        let mut is_loaded = false;
        for offset in std::mem::take(&mut self.snapshots).into_iter().rev() {
            let path = self.directory.join(file_name(offset, producer_snapshot::EXTENSION));
            // After a power cut what cannot be used now may be torn, and must not be taken for sound later.
            if offset > self.log_end_offset || is_journaled && offset > limit {
                self.pool.disk().remove_file(&path).on("remove", &path)?;
                self.directory_changes += 1;
                continue;
            }
            if offset <= limit && !is_loaded {
                let content = read_file(self.pool.disk(), &path, MAX_SNAPSHOT_BYTES).on("read", &path)?;
                match producer_snapshot::decode(&content) {
                    Ok(producers) => {
                        (self.producers, is_loaded) = (producers, true);
                        from = from.max(offset);
                    }
                    Err(reason) => {
                        tracing::warn!("{}: {reason}; doing without", path.display());
                        self.pool.disk().remove_file(&path).on("remove", &path)?;
                        continue;
                    }
                }
            }
            self.snapshots.insert(0, offset);
        }
        for at in self.segment_of(from)..self.segments.len() {
            match self.replay_producers(at, from) {
                Err(error @ ReadError::Corrupt { .. }) => {
                    tracing::error!("{error}; the state of producers may lack what follows in this segment");
                }
                result => result.map_err(into_log_error)?,
            }
        }
        Ok(())
    }

    /// Writes the indexes that were made again. Those below the recovery point will not be made another time.
    fn keep_indexes(&mut self, indexed_from: Option<Offset>) -> Result<(), LogError> {
        let Some(indexed_from) = indexed_from else { return Ok(()) };
        let (first, recovery_point) = (self.segment_of(indexed_from), self.recovery_point);
        for segment in self.segments.iter_mut().skip(first) {
            segment.flush_indexes()?;
            segment.transaction_index.entries_mut().release()?;
            if indexed_from < recovery_point && segment.base_offset < recovery_point {
                for file in segment.flushed_files()? {
                    file.sync().on("sync", segment.batches.file().path())?;
                }
            }
        }
        Ok(())
    }

    /// Has the producers' state take in the batches of one segment, and its transaction index what it lacks.
    fn replay_producers(&mut self, at: usize, from: Offset) -> Result<(), ReadError> {
        let segment = &mut self.segments[at];
        let Some(first) = segment.find(from)? else { return Ok(()) };
        let mut cursor = segment.headers_from(first.position)?;
        while let Some(found) = cursor.next_batch()? {
            if !found.header.is_control() {
                let place = Place { segment: segment.base_offset, position: found.position };
                self.producers.apply_batch(&found.header, place);
                continue;
            }
            let Some(marker) = read_marker(segment, &found)? else { continue };
            let (offset, timestamp) = (found.header.base_offset(), found.header.max_timestamp());
            if let Some(ended) = self.producers.apply_marker(&marker, offset, timestamp)
                && segment.transaction_index.last()?.is_none_or(|last| last.last_offset < offset)
            {
                index_ended(segment, &ended);
            }
        }
        self.producers.advance_high_watermark(self.log_end_offset);
        Ok(())
    }
}

/// Why a walk ended early.
enum Broken {
    /// The batch that should start with this offset is broken.
    At(Offset, ReadError),
    Storage(LogError),
}

type Take<'a> = dyn FnMut(&mut Segment, &BatchHeader) -> Result<(), ReadError> + 'a;

/// Takes batches by their headers, up to the first that is not below `until`.
fn walk_headers(
    segment: &mut Segment,
    length: u32,
    until: Offset,
    take: &mut Take<'_>,
) -> Result<(), ReadError> {
    let mut cursor = segment.batches.headers(segment.size, length)?;
    while let Some(found) = cursor.next_batch()? {
        if found.header.last_offset() >= until {
            break;
        }
        take(segment, &found.header)?;
    }
    Ok(())
}

/// Takes batches whose CRC is right.
fn walk_batches(segment: &mut Segment, length: u32, take: &mut Take<'_>) -> Result<(), ReadError> {
    let mut buffer = Vec::new();
    let batches = segment.batches.clone();
    while segment.size < length {
        batches.read_batches(
            segment.size,
            length,
            &mut buffer,
            &mut |at, batch| match batch.is_crc_valid() {
                true => take(segment, &batch.header()),
                false => Err(batches.corrupt(at, "the CRC of the batch does not match")),
            },
        )?;
    }
    Ok(())
}

/// Reads the marker of a control batch; nothing where it is empty, or no transaction marker.
fn read_marker(segment: &Segment, found: &Found) -> Result<Option<Marker>, ReadError> {
    let bytes = segment.batches.read_batch(found)?;
    let marker = BatchView::parse(&bytes).and_then(|batch| marker_of(&batch));
    Ok(marker.unwrap_or_else(|error| {
        tracing::error!("{}", segment.batches.corrupt(found.position, error.to_string()));
        None
    }))
}

/// The marker that a control batch is; nothing where it is empty.
pub(crate) fn marker_of(batch: &BatchView<'_>) -> Result<Option<Marker>, BatchError> {
    if batch.record_count() == 0 {
        return Ok(None);
    }
    let marker = EndTransactionMarker::parse(batch)?;
    Ok(Some(Marker {
        producer_id: batch.producer_id(),
        producer_epoch: batch.producer_epoch(),
        kind: marker.kind,
        coordinator_epoch: marker.coordinator_epoch,
        transaction_version: 0,
    }))
}

pub(crate) fn into_log_error(error: ReadError) -> LogError {
    match error {
        ReadError::Storage(error) => error,
        ReadError::Corrupt { path, position, reason } => {
            LogError::Invalid { path, reason: format!("byte {position}: {reason}") }
        }
        ReadError::OffsetOutOfRange { .. } => unreachable!("recovery asks for offsets that it has seen"),
    }
}

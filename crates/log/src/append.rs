//! Appending: check against the producer's state, give offsets, write once, take note.

use std::path::Path;

use oncelog_records::{BatchHeader, BatchView, EndTransactionMarker, MarkerKind, TimestampType};
use oncelog_wire::{Now, Offset, Timestamp};

use crate::disk::Disk;
use crate::error::{AppendError, IoContext, LogError};
use crate::flush::snapshot_path;
use crate::journal::LogKey;
use crate::log::{Log, Marker, Origin};
use crate::producer_state::{EndedTransaction, Place};
use crate::segment::{Segment, WriteFailure};
use crate::transaction_index::AbortedEntry;
use crate::{partition_metadata, producer_snapshot};

/// Where a batch has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// The timestamp all its records have got, or none where they keep their own; that of the batch for a duplicate.
    pub log_append_time: Timestamp,
    /// The first offset of the log.
    pub log_start_offset: Offset,
    /// Whether the batch had been here before; nothing was written.
    pub is_duplicate: bool,
}

impl Log {
    /// Appends a batch as it is; only its offset and leader epoch are set.
    pub fn append(
        &mut self,
        batch: &BatchView<'_>,
        origin: Origin,
        now: Now,
    ) -> Result<Appended, AppendError> {
        self.mend()?;
        let (mut header, payload) = (batch.header(), batch.payload());
        let (size, segment_bytes) = (header.size_in_bytes() as u32, self.config.segment_bytes);
        if size > segment_bytes {
            return Err(AppendError::LargerThanSegment { size, segment_bytes });
        }
        if let Some(max) = self.journal.as_ref().map(|journal| journal.max_batch_bytes())
            && size as usize > max
        {
            return Err(AppendError::LargerThanJournal { size, max });
        }
        let log_append_time = match header.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp(),
            TimestampType::CreateTime => Timestamp::NONE,
        };
        if let Some(known) = self.producers.check_batch(&header, origin)? {
            return Ok(Appended {
                base_offset: known.base_offset(),
                last_offset: known.last_offset,
                log_append_time: known.timestamp,
                log_start_offset: self.log_start_offset,
                is_duplicate: true,
            });
        }
        if !self.pool.reserve().admits(origin, u64::from(size), now) {
            return Err(LogError::Full { path: self.directory.clone() }.into());
        }
        header.set_base_offset(self.log_end_offset);
        header.set_partition_leader_epoch(self.leader_epoch);
        let place = match origin {
            Origin::Client(_) => self.write(&header, payload, now.wall)?,
            _ => self.insist_on_writing(&header, payload, now.wall)?,
        };
        self.producers.apply_batch(&header, place);
        self.publish(header.next_offset());
        Ok(self.appended(&header, log_append_time))
    }

    /// Ends the transaction of a producer here, or just tells of its new epoch where it has none.
    pub fn append_marker(&mut self, marker: &Marker, now: Now) -> Result<Appended, AppendError> {
        self.mend()?;
        self.producers.check_marker(marker)?;
        let record = EndTransactionMarker { kind: marker.kind, coordinator_epoch: marker.coordinator_epoch };
        let bytes = record.build(marker.producer_id, marker.producer_epoch, now.wall);
        let batch = BatchView::parse(&bytes).expect("a batch that was just built");
        let mut header = batch.header();
        header.set_base_offset(self.log_end_offset);
        header.set_partition_leader_epoch(self.leader_epoch);
        self.insist_on_writing(&header, batch.payload(), now.wall)?;
        if let Some(ended) = self.producers.apply_marker(marker, header.base_offset(), now.wall) {
            let active = self.segments.last_mut().expect("the segment that was written to");
            index_ended(active, &ended);
        }
        self.publish(header.next_offset());
        Ok(self.appended(&header, Timestamp::NONE))
    }

    fn appended(&self, header: &BatchHeader, log_append_time: Timestamp) -> Appended {
        Appended {
            base_offset: header.base_offset(),
            last_offset: header.last_offset(),
            log_append_time,
            log_start_offset: self.log_start_offset,
            is_duplicate: false,
        }
    }

    pub(crate) fn journal_key(&self) -> LogKey {
        (self.topic_id, self.topic_partition.partition)
    }

    /// Where a write has failed and could not be undone, undoes it now.
    pub fn mend(&mut self) -> Result<(), LogError> {
        if self.is_half_swapped {
            return Err(LogError::Offline { path: self.directory.clone() });
        }
        if self.is_offline {
            if let Some(active) = self.segments.last()
                && let Err(error) = active.cut()
            {
                tracing::debug!("{error}");
                return Err(LogError::Offline { path: self.directory.clone() });
            }
            self.is_offline = false;
            tracing::info!("{} is online again", self.directory.display());
        }
        Ok(())
    }

    /// Writes a batch that there has to be room for, as long as some is held back.
    fn insist_on_writing(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<Place, LogError> {
        match self.write(header, payload, now) {
            Err(error) if error.is_for_want_of_room() => {
                self.pool.reserve().give_up();
                self.mend()?;
                self.write(header, payload, now)
            }
            result => result,
        }
    }

    /// Writes a batch at the log's end, into a new segment where the active one should take no more.
    pub(crate) fn write(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<Place, LogError> {
        let must_roll = match self.segments.last() {
            None => true,
            Some(active) => active.must_roll_before(header, &self.config, now),
        };
        if must_roll {
            self.roll(now)?;
        }
        let active = self.segments.last_mut().expect("a segment was made where there was none");
        let place = Place { segment: active.base_offset, position: active.size };
        match active.append(header, payload, self.config.index_interval_bytes) {
            Ok(()) => {
                self.bytes_since_checkpoint += header.size_in_bytes() as u64;
                if let Some(journal) = &self.journal {
                    journal.push(self.journal_key(), header.as_bytes(), payload, header.next_offset());
                }
                Ok(place)
            }
            Err(WriteFailure::Undone(error)) => Err(error),
            Err(WriteFailure::Unknown(error)) => {
                self.is_offline = true;
                Err(error)
            }
        }
    }

    /// Closes the active segment, if there is one, and makes the next.
    pub(crate) fn roll(&mut self, now: Timestamp) -> Result<(), LogError> {
        match self.segments.last_mut() {
            None => self.create_directory()?,
            Some(active) => {
                active.seal()?;
                self.write_snapshot()?;
            }
        }
        let segment = Segment::create(&self.pool, &self.directory, self.log_end_offset, "", now)?;
        self.directory_changes += 1;
        self.segments.push(segment);
        Ok(())
    }

    /// Makes the directory with what identifies it.
    fn create_directory(&self) -> Result<(), LogError> {
        let disk = self.pool.disk();
        disk.create_directory(&self.directory).on("create", &self.directory)?;
        partition_metadata::write(disk, &self.directory, self.topic_id)?;
        // The first checkpoint syncs them; until then batches can tell what these say.
        self.epochs.write(disk, &self.directory, false)
    }

    /// Writes down where the leader epochs start.
    pub(crate) fn write_epochs(&self) -> Result<(), LogError> {
        let write = || self.epochs.write(self.pool.disk(), &self.directory, self.journal.is_some());
        self.pool.reserve().insist(write)
    }

    /// Writes a snapshot of the producers at the log's end.
    fn write_snapshot(&mut self) -> Result<(), LogError> {
        if self.has_synced_snapshot_at_end() {
            return Ok(());
        }
        let path = snapshot_path(self.log_end_offset, &self.directory);
        write_snapshot(self.pool.disk(), &path, &producer_snapshot::encode(&self.producers))?;
        if self.snapshots.last() != Some(&self.log_end_offset) {
            self.snapshots.push(self.log_end_offset);
        }
        Ok(())
    }
}

/// Writes a snapshot file, or leaves none. One that a crash leaves half written is told by its CRC.
pub(crate) fn write_snapshot(disk: &dyn Disk, path: &Path, content: &[u8]) -> Result<(), LogError> {
    let file = disk.open(path, crate::disk::OpenMode::Create).on("create", path)?;
    let written = file.truncate(0).and_then(|()| file.write_at(content, 0));
    if written.is_err() {
        // If that fails as well, the CRC tells.
        let _ = disk.remove_file(path);
    }
    written.on("write", path)
}

/// Puts an aborted transaction into the index of the segment that holds its marker.
pub(crate) fn index_ended(segment: &mut Segment, ended: &EndedTransaction) {
    if ended.kind == MarkerKind::Abort {
        segment.transaction_index.push(AbortedEntry {
            producer_id: ended.producer_id,
            first_offset: ended.first_offset,
            last_offset: ended.last_offset,
            last_stable_offset: ended.last_stable_offset,
        });
    }
}

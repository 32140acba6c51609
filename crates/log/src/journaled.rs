//! Recovering a log by the rules of the journal: up to the recovery point the segments are believed, above it the journal
//! alone.
//!
//! Segments are written through the page cache and synced at leisure, so after a power cut anything may be in them above
//! the recovery point: sound batches that were never acknowledged, behind a gap or not. All of that is cut off, and what
//! the journal has is written in its place.

use oncelog_records::BatchView;
use oncelog_wire::{LeaderEpoch, Offset, Timestamp};

use crate::append::index_ended;
use crate::error::{IoContext, LogError, ReadError};
use crate::journal::JournalEntries;
use crate::log::Log;
use crate::log_files::{LogFiles, SegmentFiles};
use crate::recovery::{Opening, into_log_error, marker_of};
use crate::segment::Segment;

/// What was cut off.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cut {
    /// The bytes of the segments.
    pub(crate) bytes: u64,
    /// Whether files have been changed.
    pub(crate) is_change: bool,
}

/// Cuts off what lies above the recovery point.
pub(crate) fn cut(files: &mut LogFiles, opening: &Opening, now: Timestamp) -> Result<Cut, LogError> {
    let (disk, directory) = (opening.pool.disk(), &opening.directory);
    let recovery_point = opening.recovery_point;
    // The segment that ends at the recovery point may have a torn end, too: of a write that was given up before the next
    // segment was made.
    let below = files.segments.partition_point(|segment| segment.base_offset < recovery_point);
    let is_first = files.segments.first().is_some_and(|first| first.base_offset == recovery_point);
    let above = below + usize::from(is_first);
    let bytes = files.segments[above..].iter().map(|segment| segment.log).sum();
    let mut cut = Cut { bytes, is_change: above < files.segments.len() };
    files.remove_segments_from(disk, directory, above)?;
    files.segments.truncate(above);
    let Some(last) = files.segments.last_mut() else { return Ok(cut) };
    let (mut segment, is_sound) = last.open(&opening.pool, directory, None, now)?;
    let position = end_below(&segment, recovery_point)?;
    if position < segment.size {
        let path = segment.batches.file().path();
        segment.batches.open()?.truncate(u64::from(position)).on("truncate", path)?;
        cut.bytes += u64::from(segment.size - position);
        cut.is_change = true;
    }
    if !is_sound {
        // They are empty now and lack all that is to stay; as if they were not there, they are made anew later.
        last.log = u64::from(position);
        (last.offset_index, last.time_index, last.transaction_index) = (None, None, None);
        return Ok(cut);
    }
    segment.truncate_indexes(recovery_point)?;
    *last = SegmentFiles { log: u64::from(position), ..SegmentFiles::of(&segment) };
    Ok(cut)
}

/// Where the batches below an offset end.
fn end_below(segment: &Segment, offset: Offset) -> Result<u32, LogError> {
    let hint = segment.offset_index.position_before(offset.plus(-1))?;
    for start in [hint, 0] {
        let mut cursor = segment.headers_from(start)?;
        let mut end = start;
        loop {
            match cursor.next_batch() {
                Ok(Some(found)) if found.header.last_offset() < offset => end = cursor.position,
                Ok(Some(found)) if found.header.base_offset() < offset => break,
                // Below the recovery point batches follow one another: here is the first that is not believed.
                Ok(_) | Err(ReadError::Corrupt { .. }) => break,
                Err(error) => return Err(into_log_error(error)),
            }
        }
        // An index entry that points to no batch is garbage.
        if end > start || start == 0 {
            return Ok(end);
        }
    }
    Ok(0)
}

impl Log {
    /// Writes what the journal has above the recovery point. Says whether the log has come back shorter: whether that is
    /// less than what was cut off.
    pub(crate) fn replay_journal(
        &mut self,
        entries: &JournalEntries,
        recovery_point: Offset,
        cut: Cut,
        now: Timestamp,
    ) -> Result<bool, LogError> {
        let is_damaged = self.log_end_offset < recovery_point && !self.segments.is_empty();
        if is_damaged {
            self.accept_loss(recovery_point)?;
        }
        // Those who have read what was here must not take anything else for it.
        self.log_end_offset = self.log_end_offset.max(recovery_point);
        self.epochs.truncate_end(self.log_end_offset.next());
        self.leader_epoch = self.epochs.latest().map_or(LeaderEpoch(0), |latest| latest.epoch);
        let mut replayed = 0;
        entries.for_each_from(recovery_point, |bytes| {
            replayed += bytes.len() as u64;
            self.replay_batch(bytes, now)
        })?;
        let is_shorter = replayed < cut.bytes;
        if is_shorter {
            tracing::warn!(
                "{}: {} bytes that had not been synced are gone; the log ends at offset {}",
                self.directory.display(),
                cut.bytes - replayed,
                self.log_end_offset
            );
        }
        self.directory_changes += u32::from(cut.is_change || replayed > 0);
        Ok(is_shorter || is_damaged)
    }

    fn replay_batch(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), LogError> {
        let invalid = |reason: String| LogError::invalid(&self.directory, reason);
        let batch = BatchView::parse(bytes).map_err(|error| invalid(format!("in the journal: {error}")))?;
        let header = batch.header();
        let (base_offset, log_end_offset) = (header.base_offset(), self.log_end_offset);
        if base_offset != log_end_offset {
            return Err(invalid(format!(
                "the journal goes on at offset {base_offset} where the log ends at {log_end_offset}"
            )));
        }
        let epoch = header.partition_leader_epoch();
        if epoch > self.leader_epoch {
            self.leader_epoch = epoch;
            self.epochs.assign(epoch, base_offset);
        }
        let place = self.write(&header, batch.payload(), now)?;
        if !header.is_control() {
            self.producers.apply_batch(&header, place);
        } else if let Ok(Some(marker)) = marker_of(&batch)
            && let Some(ended) = self.producers.apply_marker(&marker, base_offset, header.max_timestamp())
        {
            let active = self.segments.last_mut().expect("the segment that was written to");
            index_ended(active, &ended);
        }
        self.log_end_offset = header.next_offset();
        Ok(())
    }
}

//! The three indexes of a segment, held against its batches as these go by.

use std::path::Path;

use oncelog_log::Disk;
use oncelog_records::BatchHeader;
use oncelog_wire::{Offset, ProducerId, Timestamp};

use super::producers::Ended;
use super::report::Report;
use crate::directory::read_file;
use crate::entries::{AbortedEntry, OffsetEntry, TimeEntry};
use crate::finding::{At, Severity};
use crate::log_files::{OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX, file_name};

/// No index is larger; `segment.index.bytes` is a small part of it.
const MAX_BYTES: u64 = 256 << 20;

/// The indexes of one segment.
pub(crate) struct Indexes {
    base_offset: Offset,
    /// From this offset on entries are made anew at the next start.
    settled_below: Offset,
    offsets: Entries<8>,
    times: Entries<12>,
    aborted: Entries<34>,
    last_timestamp: Timestamp,
    /// The largest timestamp of the batches so far.
    largest: Timestamp,
}

/// The entries of an index that have not been compared yet.
struct Entries<const N: usize> {
    at: At,
    bytes: Option<Vec<u8>>,
    next: usize,
}

impl Indexes {
    /// Reads the indexes of a segment. One that is missing is worth a note.
    pub(crate) fn read(
        disk: &dyn Disk,
        directory: &Path,
        base_offset: Offset,
        settled_below: Offset,
        report: &mut Report<'_>,
    ) -> Indexes {
        let is_settled = base_offset < settled_below;
        let path = |extension| directory.join(file_name(base_offset, extension));
        Indexes {
            base_offset,
            settled_below,
            offsets: Entries::read(disk, &path(OFFSET_INDEX), is_settled, report),
            times: Entries::read(disk, &path(TIME_INDEX), is_settled, report),
            aborted: Entries::read(disk, &path(TRANSACTION_INDEX), is_settled, report),
            last_timestamp: Timestamp(i64::MIN),
            largest: Timestamp(i64::MIN),
        }
    }

    /// Compares what the indexes say of a batch that starts at `position`.
    pub(crate) fn take_batch(&mut self, batch: &BatchHeader, position: u64, report: &mut Report<'_>) {
        while let Some(entry) = self.next_offset().filter(|entry| entry.position <= position) {
            if entry.position < position {
                let what = format!("an entry points to byte {}, where no batch starts", entry.position);
                self.wrong_offset(entry, what, report);
            } else if entry.last_offset != batch.last_offset() {
                let last = batch.last_offset();
                let what = format!("the batch at byte {position} ends with offset {last}, not with this");
                self.wrong_offset(entry, what, report);
            }
            self.offsets.next += 1;
        }
        let is_new_largest = batch.max_timestamp() > self.largest;
        while let Some(entry) = self.next_time().filter(|entry| entry.offset <= batch.last_offset()) {
            let is_right = entry.offset >= batch.base_offset()
                && entry.timestamp == batch.max_timestamp()
                && entry.timestamp > self.last_timestamp
                && is_new_largest;
            if !is_right {
                let what = format!(
                    "timestamp {} is not the largest up to this offset: lookups by time miss records, or retention \
                     takes too many",
                    entry.timestamp
                );
                report.add(self.severity(entry.offset), self.times.place().offset(entry.offset), what);
            }
            self.last_timestamp = entry.timestamp;
            self.times.next += 1;
        }
        self.largest = self.largest.max(batch.max_timestamp());
    }

    /// Compares what the transaction index says of a transaction that was aborted by the marker at `marker`.
    pub(crate) fn take_aborted(
        &mut self,
        producer_id: ProducerId,
        marker: Offset,
        ended: &Ended,
        is_exact: bool,
        report: &mut Report<'_>,
    ) {
        self.drop_aborted_below(marker, is_exact, report);
        let expected = AbortedEntry {
            version: 0,
            producer_id,
            first_offset: ended.first_offset,
            last_offset: marker,
            last_stable_offset: ended.last_stable_offset,
        };
        match self.next_aborted().filter(|entry| entry.last_offset == marker) {
            Some(entry) => {
                if entry != expected && is_exact {
                    let what = format!(
                        "the entry has producer {}, offsets {} to {marker}, last stable offset {}; the log has producer \
                         {producer_id}, offsets {} to {marker}, last stable offset {}",
                        entry.producer_id,
                        entry.first_offset,
                        entry.last_stable_offset,
                        expected.first_offset,
                        expected.last_stable_offset
                    );
                    report.add(self.severity(marker), self.aborted.place().offset(marker), what);
                }
                self.aborted.next += 1;
            }
            // What is missing above the recovery point is made by the next start.
            None if self.aborted.bytes.is_some() && marker < self.settled_below => {
                let what = format!(
                    "the transaction of producer {producer_id} from offset {} on was aborted here and is not in the \
                     index: read_committed readers are given its records",
                    ended.first_offset
                );
                report.fault(self.aborted.place().offset(marker), what);
            }
            None => {}
        }
    }

    /// Passes over the entries of batches that cannot be read.
    pub(crate) fn skip_to(&mut self, position: u64, offset: Offset) {
        while self.next_offset().is_some_and(|entry| entry.position < position) {
            self.offsets.next += 1;
        }
        while self.next_time().is_some_and(|entry| entry.offset < offset) {
            self.times.next += 1;
        }
        self.largest = Timestamp(i64::MIN);
    }

    /// The first entry of the offset index beyond `position`: where a batch should start again.
    pub(crate) fn start_beyond(&self, position: u64) -> Option<u64> {
        let entries = self.offsets.rest().iter().map(|bytes| OffsetEntry::parse(bytes, self.base_offset));
        entries.map(|entry| entry.position).find(|start| *start > position)
    }

    /// Whether entries are left that point beyond what was read. `is_sealed` says that nothing is appended any more.
    pub(crate) fn finish(
        mut self,
        end: Offset,
        is_whole: bool,
        is_sealed: bool,
        is_exact: bool,
        report: &mut Report<'_>,
    ) {
        if is_whole {
            if let Some(entry) = self.next_offset() {
                let what = format!("an entry points to byte {}, beyond the segment's end", entry.position);
                self.wrong_offset(entry, what, report);
            }
            if let Some(entry) = self.next_time() {
                let severity = self.severity(entry.offset);
                report.add(severity, self.times.place().offset(entry.offset), "beyond the segment's end");
            }
            let is_settled = end <= self.settled_below;
            if is_sealed
                && is_settled
                && self.times.bytes.is_some()
                && self.largest >= Timestamp(0)
                && self.last_timestamp < self.largest
            {
                let what = format!("the newest record, of timestamp {}, is not in the index", self.largest);
                report.fault(self.times.place(), what);
            }
        }
        self.drop_aborted_below(Offset(i64::MAX), is_exact && is_whole, report);
    }

    /// Passes over entries of aborted transactions that the log does not have.
    fn drop_aborted_below(&mut self, marker: Offset, is_exact: bool, report: &mut Report<'_>) {
        while let Some(entry) = self.next_aborted().filter(|entry| entry.last_offset < marker) {
            if is_exact {
                let what = format!(
                    "the entry names a transaction of producer {}, offsets {} to {}, that was not aborted there: \
                     read_committed readers may lack records",
                    entry.producer_id, entry.first_offset, entry.last_offset
                );
                let severity = self.severity(entry.last_offset);
                report.add(severity, self.aborted.place().offset(entry.last_offset), what);
            }
            self.aborted.next += 1;
        }
    }

    fn wrong_offset(&self, entry: OffsetEntry, what: String, report: &mut Report<'_>) {
        let at = self.offsets.place().offset(entry.last_offset);
        report.add(self.severity(entry.last_offset), at, what);
    }

    fn severity(&self, offset: Offset) -> Severity {
        if offset < self.settled_below { Severity::Fault } else { Severity::Note }
    }

    fn next_offset(&self) -> Option<OffsetEntry> {
        Some(OffsetEntry::parse(self.offsets.rest().first()?, self.base_offset))
    }

    fn next_time(&self) -> Option<TimeEntry> {
        Some(TimeEntry::parse(self.times.rest().first()?, self.base_offset))
    }

    fn next_aborted(&self) -> Option<AbortedEntry> {
        Some(AbortedEntry::parse(self.aborted.rest().first()?))
    }
}

impl<const N: usize> Entries<N> {
    fn read(disk: &dyn Disk, path: &Path, is_settled: bool, report: &mut Report<'_>) -> Entries<N> {
        let at = At::file(path);
        let bytes = match read_file(disk, path, MAX_BYTES) {
            Ok(Some(bytes)) => {
                report.summary.index_entries += (bytes.len() / N) as u64;
                if bytes.len() % N != 0 {
                    let severity = if is_settled { Severity::Fault } else { Severity::Note };
                    let what = format!(
                        "{} bytes are not whole entries of {N}: the next start makes the index anew",
                        bytes.len()
                    );
                    report.add(severity, at.clone().byte((bytes.len() / N * N) as u64), what);
                }
                Some(bytes)
            }
            Ok(None) => {
                report.note(at.clone(), "missing: the next start makes it anew");
                None
            }
            Err(error) => {
                report.fault(at.clone(), format!("cannot be read: {error}"));
                None
            }
        };
        Entries { at, bytes, next: 0 }
    }

    /// The entries from the next on.
    fn rest(&self) -> &[[u8; N]] {
        let all = self.bytes.as_deref().unwrap_or_default().as_chunks().0;
        &all[self.next.min(all.len())..]
    }

    /// Where the next entry is.
    fn place(&self) -> At {
        self.at.clone().byte((self.next * N) as u64)
    }
}

//! One log from its first byte to its last: batches, and with them indexes, epochs, producers and transactions.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use oncelog_coordinator::transactions::Producer;
use oncelog_log::Disk;
use oncelog_records::{BatchView, EndTransactionMarker, MarkerKind, Record, TimestampType};
use oncelog_wire::{LeaderEpoch, Offset, ProducerId, Timestamp, TopicPartition};

use super::indexes::Indexes;
use super::producers::Producers;
use super::report::Report;
use super::transactions::{Transactions, word};
use crate::batch_reader::{BatchReader, Next};
use crate::directory::{read_checkpoint, read_file};
use crate::entries::{SnapshotEntry, parse_snapshot};
use crate::finding::{At, Severity};
use crate::log_files::{LOG, LogFiles, SNAPSHOT, file_name};

const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";

/// More than a snapshot of ten million producers has.
const MAX_SNAPSHOT_BYTES: u64 = 512 << 20;

/// How often progress is told, in bytes of batches.
const PROGRESS_BYTES: u64 = 16 << 20;

/// What is known of a log before it is read.
pub(crate) struct Scope<'c> {
    pub(crate) disk: &'c dyn Disk,
    pub(crate) log: &'c TopicPartition,
    pub(crate) path: PathBuf,
    /// Whether compaction may have taken records.
    pub(crate) is_compacted: bool,
    /// From here on the next start looks at everything again.
    pub(crate) settled_below: Offset,
    /// What the checkpoint says is on the device.
    pub(crate) recovery_point: Offset,
    pub(crate) log_start_offset: Offset,
    /// Whether a journal will have the last word.
    pub(crate) is_provisional: bool,
    pub(crate) producer_expiration_ms: i64,
    /// No producer has been given this id or a larger one, if that is known.
    pub(crate) producer_ids_below: Option<ProducerId>,
    /// The topic was made at this time, if that is known.
    pub(crate) created: Timestamp,
    /// What the coordinators say, where it is of concern.
    pub(crate) transactions: Option<&'c Transactions>,
}

/// A record, for who knows what it means.
pub(crate) struct Visit<'v> {
    pub(crate) at: At,
    pub(crate) record: &'v Record<'v>,
    /// Whether nothing is missing before it.
    pub(crate) is_gapless: bool,
}

pub(crate) type Visitor<'v> = dyn FnMut(&mut Report<'_>, Visit<'_>) + 'v;

/// What is left of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All that was ever written.
    Complete,
    /// What retention and compaction have left.
    Partial,
    /// Less than that: something could not be read.
    Damaged,
}

/// Reads a log; says how much of it there is.
pub(crate) fn check_log(scope: Scope<'_>, report: &mut Report<'_>, visitor: &mut Visitor<'_>) -> Extent {
    let files = match LogFiles::list(scope.disk, &scope.path) {
        Ok(files) => files,
        Err(error) => {
            report.fault(At::file(&scope.path), format!("cannot be read: {error}"));
            return Extent::Damaged;
        }
    };
    for path in files.leftovers.iter().chain(&files.strays) {
        let what = match path.extension().is_some_and(|extension| extension == "swap") {
            true => "of a cleaned segment: the next start puts it in the place of those it was made from",
            false => "left over: the next start removes it",
        };
        report.note(At::file(path), what);
    }
    let producers = Producers::new(scope.is_compacted, scope.producer_expiration_ms);
    let mut check = LogCheck {
        epochs: read_epochs(&scope, report),
        snapshots: files.snapshots.into(),
        is_gapless: files.segments.first().is_none_or(|(base, _)| *base == Offset::ZERO),
        is_whole: true,
        expected: files.segments.first().map(|(base, _)| *base),
        told_at: report.summary.bytes,
        has_unknown_producers: false,
        scope,
        report,
        visitor,
        producers,
    };
    check.start_from(files.segments.first().map(|(base, _)| *base));
    for (at, (base, _)) in files.segments.iter().enumerate() {
        check.segment(*base, files.segments.get(at + 1).map(|(next, _)| *next));
    }
    check.finish();
    match (check.is_whole, check.is_gapless) {
        (true, true) => Extent::Complete,
        (true, false) => Extent::Partial,
        (false, _) => Extent::Damaged,
    }
}

struct LogCheck<'c, 'a> {
    scope: Scope<'c>,
    report: &'c mut Report<'a>,
    visitor: &'c mut Visitor<'c>,
    producers: Producers,
    epochs: Vec<(LeaderEpoch, Offset)>,
    /// Those that are still to be compared.
    snapshots: VecDeque<Offset>,
    /// The offset that should come next, unless damage has hidden it.
    expected: Option<Offset>,
    is_gapless: bool,
    is_whole: bool,
    has_unknown_producers: bool,
    /// Bytes when progress was last told.
    told_at: u64,
}

/// Batches that are no batches, until it is known what follows them.
struct Suspect {
    offset: Option<Offset>,
    position: u64,
    reason: String,
}

impl LogCheck<'_, '_> {
    /// Takes the producers as they were before the first segment.
    fn start_from(&mut self, base: Option<Offset>) {
        let Some(base) = base.filter(|base| *base > Offset::ZERO) else { return };
        // After a crash the checkpoint may not know yet what retention took.
        if base > self.scope.log_start_offset && self.scope.settled_below == Offset(i64::MAX) {
            let what = format!(
                "the log begins at offset {base}, and records were deleted only before {}",
                self.scope.log_start_offset
            );
            self.report.fault(At::file(&self.scope.path), what);
        }
        while self.snapshots.front().is_some_and(|offset| *offset < base) {
            self.snapshots.pop_front();
        }
        self.producers.is_exact = false;
        if self.snapshots.front() == Some(&base) {
            self.snapshots.pop_front();
            if let Some(entries) = self.read_snapshot(base) {
                self.producers.restore(&entries);
                self.producers.is_exact = true;
            }
        }
    }

    fn segment(&mut self, base: Offset, next: Option<Offset>) {
        let path = self.scope.path.join(file_name(base, LOG));
        if let Some(expected) = self.expected.filter(|expected| *expected != base) {
            self.wrong_place(At::file(&path).offset(base), expected, base);
        }
        self.expected = Some(base);
        let mut reader = match BatchReader::open(self.scope.disk, &path) {
            Ok(reader) => reader,
            Err(error) => {
                self.report.fault(At::file(&path), format!("cannot be read: {error}"));
                return self.lose_track();
            }
        };
        self.report.summary.segments += 1;
        let settled = self.scope.settled_below;
        let mut indexes = Indexes::read(self.scope.disk, &self.scope.path, base, settled, self.report);
        let mut suspect: Option<Suspect> = None;
        let mut is_read = true;
        loop {
            let position = reader.position();
            let reason = match reader.read_batch() {
                Ok(Next::End) => break,
                Ok(Next::Batch(batch)) if batch.is_crc_valid() => {
                    if let Some(suspect) = suspect.take() {
                        self.damaged(&path, suspect, "the batches behind it are whole");
                        indexes.skip_to(position, batch.base_offset());
                    }
                    let at = At::file(&path).offset(batch.base_offset()).byte(position);
                    self.batch(&batch, at, (base, position), &mut indexes);
                    continue;
                }
                Ok(Next::Batch(_)) => "the CRC of the batch does not match".to_owned(),
                Ok(Next::Broken(error)) => {
                    match indexes.start_beyond(position).filter(|start| *start < reader.length()) {
                        Some(start) => reader.resume_at(start),
                        None => is_read = false,
                    }
                    error.to_string()
                }
                Err(error) => {
                    is_read = false;
                    format!("cannot be read: {error}")
                }
            };
            suspect.get_or_insert(Suspect { offset: self.expected, position, reason });
            if !is_read {
                break;
            }
        }
        is_read &= suspect.is_none();
        if let Some(suspect) = suspect {
            let is_torn = next.is_none() && suspect.offset.is_some_and(|offset| offset >= settled);
            match is_torn {
                true => self.torn(&path, suspect, reader.length()),
                false => self.damaged(&path, suspect, "nothing behind it can be read"),
            }
        }
        self.report.summary.bytes += reader.length();
        self.tell();
        let end = self.expected.unwrap_or(Offset(i64::MAX));
        let is_exact = self.is_index_exact();
        indexes.finish(end, is_read, next.is_some(), is_exact, self.report);
    }

    fn batch(&mut self, batch: &BatchView<'_>, at: At, place: (Offset, u64), indexes: &mut Indexes) {
        self.report.summary.batches += 1;
        let offset = batch.base_offset();
        if let Some(expected) = self.expected.filter(|expected| *expected != offset) {
            self.wrong_place(at.clone(), expected, offset);
        }
        if batch.last_offset_delta() < 0 || batch.record_count() < 0 {
            self.wrong(at.clone(), "the batch has no last offset, or less than no records");
        }
        self.expected = Some(batch.next_offset());
        self.leader_epoch(batch, &at);
        self.records(batch, &at);
        self.compare_snapshots(offset);
        let producer_id = batch.producer_id();
        if self.scope.producer_ids_below.is_some_and(|below| producer_id >= below)
            && !std::mem::replace(&mut self.has_unknown_producers, true)
        {
            let what =
                format!("producer id {producer_id} was never handed out: it will be, and its owner refused");
            self.wrong(at.clone(), what);
        }
        indexes.take_batch(batch, place.1, self.report);
        if !batch.is_control() {
            if let Some(problem) = self.producers.take_batch(batch, place) {
                self.wrong(at, problem);
            }
        } else if batch.record_count() > 0 {
            self.marker(batch, at, indexes);
        }
    }

    /// Whether the transaction index has just what is still there: compaction may have taken whole transactions.
    fn is_index_exact(&self) -> bool {
        self.producers.is_exact && (self.is_gapless || !self.scope.is_compacted)
    }

    fn marker(&mut self, batch: &BatchView<'_>, at: At, indexes: &mut Indexes) {
        let marker = match EndTransactionMarker::parse(batch) {
            Ok(marker) => marker,
            Err(error) => return self.wrong(at, error.to_string()),
        };
        let (ended, problem) = self.producers.take_marker(batch, marker);
        if let Some(problem) = problem {
            self.wrong(at.clone(), problem);
        }
        let Some(ended) = ended else { return };
        let producer = Producer { id: batch.producer_id(), epoch: batch.producer_epoch() };
        match marker.kind {
            MarkerKind::Commit => self.report.summary.committed += 1,
            MarkerKind::Abort => {
                self.report.summary.aborted += 1;
                let is_exact = self.is_index_exact();
                indexes.take_aborted(producer.id, batch.base_offset(), &ended, is_exact, self.report);
            }
        }
        let problem =
            self.scope.transactions.and_then(|known| known.problem_of_marker(producer, marker.kind));
        if let Some((severity, what)) = problem {
            self.report.add(self.at_most(severity), at, what);
        }
    }

    fn leader_epoch(&mut self, batch: &BatchView<'_>, at: &At) {
        let count = self.epochs.partition_point(|(_, start)| *start <= batch.base_offset());
        let known = count.checked_sub(1).map(|at| self.epochs[at].0);
        let epoch = batch.partition_leader_epoch();
        if let Some(known) = known.filter(|known| *known != epoch) {
            let what = format!("the batch is of leader epoch {epoch}, and {LEADER_EPOCHS} has {known} here");
            self.wrong(at.clone(), what);
        }
    }

    /// Reads the records, through the compression, and counts.
    fn records(&mut self, batch: &BatchView<'_>, at: &At) {
        match self.try_records(batch, at) {
            Ok(None) => {}
            Ok(Some(what)) => self.wrong(at.clone(), what),
            Err(error) => self.wrong(at.clone(), format!("the records cannot be read: {error}")),
        }
    }

    fn try_records(
        &mut self,
        batch: &BatchView<'_>,
        at: &At,
    ) -> Result<Option<String>, oncelog_records::BatchError> {
        let mut problem = None;
        let mut next = batch.base_offset();
        let mut largest = Timestamp(i64::MIN);
        let mut records = batch.records()?;
        while let Some(record) = records.next_record()? {
            self.report.summary.records += 1;
            let is_in_place = match self.scope.is_compacted {
                true => record.offset >= next && record.offset <= batch.last_offset(),
                false => record.offset == next,
            };
            // Compaction takes records out of the middle of batches too.
            self.is_gapless &= record.offset == next;
            if !is_in_place && problem.is_none() {
                problem = Some(format!("a record has offset {} where {next} should be", record.offset));
            }
            next = record.offset.next();
            largest = largest.max(record.timestamp);
            if !batch.is_control() {
                let (at, is_gapless) = (at.clone().offset(record.offset), self.is_gapless);
                (self.visitor)(self.report, Visit { at, record: &record, is_gapless });
            }
        }
        if problem.is_some() || self.scope.is_compacted {
            self.is_gapless &= next == batch.next_offset();
            return Ok(problem);
        }
        if next != batch.next_offset() {
            let (count, last) = (batch.record_count(), batch.last_offset());
            return Ok(Some(format!("the batch ends at offset {last} and has {count} records")));
        }
        let is_wrong_time = batch.timestamp_type() == TimestampType::CreateTime
            && !batch.is_control()
            && largest != batch.max_timestamp();
        Ok(is_wrong_time.then(|| {
            format!("the largest timestamp is {largest} and the batch says {}", batch.max_timestamp())
        }))
    }

    fn wrong_place(&mut self, at: At, expected: Offset, found: Offset) {
        if found < expected {
            self.wrong(at, format!("offset {found} where {expected} should be: offsets are there twice"));
        } else {
            self.is_gapless = false;
            if !self.scope.is_compacted {
                let last = found.plus(-1);
                self.wrong(at, format!("a hole: the offsets {expected} to {last} are missing"));
                self.producers.is_exact = false;
            }
        }
    }

    /// The batches up to an offset have been taken in: time to look at the snapshots that were made then.
    fn compare_snapshots(&mut self, until: Offset) {
        while let Some(offset) = self.snapshots.front().copied().filter(|offset| *offset <= until) {
            self.snapshots.pop_front();
            let Some(entries) = self.read_snapshot(offset) else { continue };
            if let Some(difference) = self.producers.difference_from(&entries) {
                let at = At::file(self.scope.path.join(file_name(offset, SNAPSHOT))).offset(offset);
                self.report.add(self.severity(offset), at, difference);
            }
        }
    }

    fn read_snapshot(&mut self, offset: Offset) -> Option<Vec<SnapshotEntry>> {
        let path = self.scope.path.join(file_name(offset, SNAPSHOT));
        self.report.summary.snapshots += 1;
        let parsed = match read_file(self.scope.disk, &path, MAX_SNAPSHOT_BYTES) {
            Ok(content) => parse_snapshot(&content.unwrap_or_default()).map_err(str::to_owned),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        parsed
            .map_err(|reason| {
                let what = format!("{reason}; the next start does without and reads more of the log instead");
                self.report.add(self.severity(offset), At::file(path).offset(offset), what);
            })
            .ok()
    }

    /// What a batch that is none means where more can be read behind it, or nothing.
    fn damaged(&mut self, path: &Path, suspect: Suspect, behind: &str) {
        let Suspect { offset, position, reason } = suspect;
        let fate = match offset.is_some_and(|offset| offset >= self.scope.settled_below) {
            true if self.scope.is_provisional => {
                "the next start has it from the journal, or cuts the log here"
            }
            true => "the next start cuts the log here",
            false => "its readers get an error",
        };
        let mut at = At::file(path).byte(position);
        at.offset = offset;
        self.wrong(at, format!("{reason}; {behind}; {fate}"));
        self.lose_track();
    }

    /// What a batch that is none means at the end of a log that was not closed.
    fn torn(&mut self, path: &Path, suspect: Suspect, length: u64) {
        let mut at = At::file(path).byte(suspect.position);
        at.offset = suspect.offset;
        let what = format!(
            "{}: the last {} bytes were being written when the broker died, and will be cut at the next start",
            suspect.reason,
            length - suspect.position
        );
        self.report.note(at, what);
    }

    /// Some batches could not be read: what follows cannot be held against them.
    fn lose_track(&mut self) {
        (self.expected, self.is_whole, self.producers.is_exact) = (None, false, false);
    }

    fn finish(&mut self) {
        if let Some(end) = self.expected {
            self.compare_snapshots(end);
            self.compare_end(end);
        } else if self.is_whole {
            self.compare_end(self.scope.log_start_offset);
        }
        self.report.summary.producers += self.producers.len() as u64;
        self.compare_transactions();
    }

    fn compare_end(&mut self, end: Offset) {
        let Scope { recovery_point, log_start_offset, .. } = self.scope;
        let directory = At::file(&self.scope.path).offset(end);
        if recovery_point > end {
            let what = format!(
                "the log ends here, and was on the device up to offset {recovery_point}: records are lost"
            );
            self.report.fault(directory.clone(), what);
        }
        if log_start_offset > end {
            let what = format!("the log ends here, before its start at offset {log_start_offset}");
            self.report.add(self.severity(end), directory, what);
        }
        for offset in std::mem::take(&mut self.snapshots) {
            let at = At::file(self.scope.path.join(file_name(offset, SNAPSHOT))).offset(offset);
            let what = format!("of an offset beyond the log's end at {end}: the next start removes it");
            self.report.add(self.severity(end), at, what);
        }
        if let Some((epoch, start)) = self.epochs.iter().find(|(_, start)| *start > end).copied() {
            let at = At::file(self.scope.path.join(LEADER_EPOCHS)).offset(start);
            let what = format!("epoch {epoch} starts beyond the log's end at {end}");
            self.report.add(self.severity(end), at, what);
        }
    }

    /// Holds what is open, and what should have ended, against the coordinators.
    fn compare_transactions(&mut self) {
        let open: Vec<_> = self.producers.open().collect();
        self.report.summary.open += open.len() as u64;
        let Some(known) = self.scope.transactions.filter(|_| self.producers.is_exact) else { return };
        for (id, producer, open) in open {
            let problem = known.problem_of_open(self.scope.log, Producer { id, epoch: producer.epoch });
            let Some((severity, what)) = problem else { continue };
            let at = match open.place {
                Some((base, position)) => At::file(self.scope.path.join(file_name(base, LOG))).byte(position),
                None => At::file(&self.scope.path),
            };
            // Where records of the coordinators cannot be read, they may be what is missing here.
            let severity = if known.is_whole { self.at_most(severity) } else { Severity::Note };
            self.report.add(severity, at.offset(open.first_offset), what);
        }
        for due in known.due(self.scope.log) {
            if self.scope.is_compacted {
                break;
            }
            let may_be_gone = self.scope.log_start_offset > Offset::ZERO
                || due.decided_at <= self.scope.created
                || !self.is_gapless;
            let is_missing = match self.producers.get(due.producer_id) {
                Some(producer) => producer.epoch < due.epoch,
                None => !may_be_gone,
            };
            if is_missing {
                let what = format!(
                    "the transaction of '{}' (producer {}, epoch {}) counts as complete, and its {} marker is not here: \
                     records are lost, or their outcome is",
                    due.transactional_id,
                    due.producer_id,
                    due.epoch,
                    word(due.kind)
                );
                let end = self.expected.unwrap_or_default();
                self.report.add(self.at_most(Severity::Fault), At::file(&self.scope.path).offset(end), what);
            }
        }
    }

    /// A fault below the recovery point is only a note above it: the next start makes that part anew.
    fn severity(&self, offset: Offset) -> Severity {
        if offset <= self.scope.settled_below { Severity::Fault } else { Severity::Note }
    }

    /// A fault at a place, unless a journal has the last word there.
    fn wrong(&mut self, at: At, what: impl Into<String>) {
        let is_settled = at.offset.is_none_or(|offset| offset < self.scope.settled_below);
        let severity = if is_settled { Severity::Fault } else { self.at_most(Severity::Fault) };
        self.report.add(severity, at, what);
    }

    /// What a journal may still put right is only a note.
    fn at_most(&self, severity: Severity) -> Severity {
        if self.scope.is_provisional { Severity::Note } else { severity }
    }

    fn tell(&mut self) {
        if self.report.summary.bytes - self.told_at >= PROGRESS_BYTES {
            self.told_at = self.report.summary.bytes;
            self.report.progress(self.scope.log);
        }
    }
}

/// Reads the starts of the leader epochs.
fn read_epochs(scope: &Scope<'_>, report: &mut Report<'_>) -> Vec<(LeaderEpoch, Offset)> {
    let path = scope.path.join(LEADER_EPOCHS);
    let lines = match read_checkpoint(scope.disk, &path) {
        Ok(Some(lines)) => lines,
        Ok(None) => {
            report.note(At::file(path), "missing: the next start makes it anew");
            return Vec::new();
        }
        Err(reason) => {
            report.fault(At::file(path), format!("{reason}; the broker will not start with it"));
            return Vec::new();
        }
    };
    let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
    for line in lines {
        let parsed = line
            .split_once(' ')
            .and_then(|(epoch, start)| Some((LeaderEpoch(epoch.parse().ok()?), Offset(start.parse().ok()?))));
        match parsed {
            Some((epoch, start)) if epochs.last().is_none_or(|last| last.0 < epoch && last.1 < start) => {
                epochs.push((epoch, start));
            }
            Some((_, start)) => {
                let what = format!("'{line}' does not follow the line before it");
                report.fault(At::file(&path).offset(start), what);
            }
            None => {
                let what =
                    format!("'{line}' is not an epoch and an offset; the broker will not start with it");
                report.fault(At::file(&path), what);
            }
        }
    }
    epochs
}

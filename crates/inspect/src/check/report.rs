//! Hands findings and progress out as they come, and keeps count of what was looked at.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use oncelog_wire::TopicPartition;

use crate::finding::{At, Finding, Severity};

/// How many findings of a file are handed out; the rest is only counted.
const MAX_PER_FILE: u64 = 20;

/// What a check tells while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something was found.
    Finding(Finding),
    /// It goes on.
    Progress(Progress<'a>),
}

/// How far a check has come.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The log that is being read.
    pub log: &'a TopicPartition,
    /// Logs that are done.
    pub logs: u64,
    /// Logs that there are.
    pub logs_in_all: u64,
    /// Bytes of batches that were read.
    pub bytes: u64,
}

macro_rules! summary {
    ($($(#[$doc:meta])* $field:ident: $label:literal,)*) => {
        /// What a check has looked at, and what came of it.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Summary {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Summary {
            /// The counts as a JSON object on one line.
            pub fn to_json(&self) -> String {
                let fields = [$(format!("\"{}\":{}", stringify!($field), self.$field)),*];
                format!("{{{}}}", fields.join(","))
            }
        }

        impl fmt::Display for Summary {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{:>15}  {}", self.$field, $label)?;)*
                Ok(())
            }
        }
    };
}

summary! {
    /// Logs with files.
    logs: "logs",
    /// Their segments.
    segments: "segments",
    /// Bytes of batches.
    bytes: "bytes of batches",
    /// Batches.
    batches: "batches",
    /// Records in them.
    records: "records",
    /// Entries of all indexes.
    index_entries: "index entries",
    /// Producer snapshots.
    snapshots: "producer snapshots",
    /// Producers, counted anew in each log.
    producers: "producers in their logs",
    /// Transactions that were committed, counted in each log.
    committed: "transactions committed in their logs",
    /// Transactions that were aborted, counted in each log.
    aborted: "transactions aborted in their logs",
    /// Transactions that are open, counted in each log.
    open: "transactions open in their logs",
    /// Transactional ids that the coordinators know.
    transactional_ids: "transactional ids",
    /// Records of committed or pending offsets.
    offset_commits: "records of offsets",
    /// Topics.
    topics: "topics",
    /// Things worth a note.
    notes: "notes",
    /// Faults.
    faults: "faults",
}

/// Where findings go.
pub(crate) struct Report<'a> {
    pub(crate) summary: Summary,
    watch: &'a mut dyn FnMut(Event<'_>),
    shown: HashMap<PathBuf, u64>,
    pub(crate) logs_in_all: u64,
}

impl<'a> Report<'a> {
    pub(crate) fn new(watch: &'a mut dyn FnMut(Event<'_>)) -> Report<'a> {
        Report { summary: Summary::default(), watch, shown: HashMap::new(), logs_in_all: 0 }
    }

    pub(crate) fn fault(&mut self, at: At, what: impl Into<String>) {
        self.add(Severity::Fault, at, what);
    }

    pub(crate) fn note(&mut self, at: At, what: impl Into<String>) {
        self.add(Severity::Note, at, what);
    }

    pub(crate) fn add(&mut self, severity: Severity, at: At, what: impl Into<String>) {
        match severity {
            Severity::Fault => self.summary.faults += 1,
            Severity::Note => self.summary.notes += 1,
        }
        let shown = self.shown.entry(at.file.clone()).or_default();
        *shown += 1;
        let At { file, offset, position } = at;
        if *shown <= MAX_PER_FILE {
            let finding = Finding { severity, file, offset, position, what: what.into() };
            (self.watch)(Event::Finding(finding));
        }
    }

    pub(crate) fn progress(&mut self, log: &TopicPartition) {
        let Summary { logs, bytes, .. } = self.summary;
        (self.watch)(Event::Progress(Progress { log, logs, logs_in_all: self.logs_in_all, bytes }));
    }

    /// Says of which files there was more than was handed out.
    pub(crate) fn finish(self) -> Summary {
        let mut cut: Vec<(&Path, u64)> =
            self.shown.iter().map(|(file, count)| (file.as_path(), *count)).collect();
        cut.retain(|(_, count)| *count > MAX_PER_FILE);
        cut.sort_unstable();
        for (file, count) in cut {
            (self.watch)(Event::Finding(Finding {
                severity: Severity::Note,
                file: file.to_owned(),
                offset: None,
                position: None,
                what: format!("{} more findings in this file are not shown", count - MAX_PER_FILE),
            }));
        }
        self.summary
    }
}

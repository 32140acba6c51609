//! The flags of `check` and `dump`, and what they print where.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use oncelog_inspect::{BatchesToDump, Event, InspectError, Progress};
use oncelog_inspect::{check, dump_batches, dump_groups, dump_transactions};
use oncelog_log::FileDisk;
use oncelog_wire::Offset;

/// The exit code where the directory could not be looked at.
const UNREADABLE: u8 = 2;

/// A check that takes no longer than this shows no progress.
const PROGRESS_AFTER: Duration = Duration::from_secs(2);

/// The flags of `check`.
#[derive(Args)]
pub struct Check {
    /// The data directory.
    dir: PathBuf,

    /// Print a JSON object for each finding, and one with the counts at the end.
    #[arg(long)]
    json: bool,
}

/// What `dump` can print.
#[derive(Subcommand)]
pub enum Dump {
    /// The batches of a topic or a partition.
    Batches {
        /// The data directory.
        dir: PathBuf,
        /// A topic, or one partition of it, such as orders-0.
        #[arg(value_name = "TOPIC[-PARTITION]")]
        name: String,
        /// Start with the batch that holds this offset.
        #[arg(long, default_value_t = 0)]
        offset: i64,
        /// Print no more batches of each partition than this.
        #[arg(long)]
        count: Option<u64>,
        /// Print the records too.
        #[arg(long)]
        records: bool,
    },
    /// The steps of transactions, from the coordinators' records.
    Transactions {
        /// The data directory.
        dir: PathBuf,
        /// Only of this transactional id.
        transactional_id: Option<String>,
    },
    /// Groups with their members and offsets, and the offsets of open transactions.
    Groups {
        /// The data directory.
        dir: PathBuf,
        /// Only this group.
        group: Option<String>,
    },
}

impl Check {
    /// Checks and says what came of it.
    pub fn run(&self) -> ExitCode {
        let mut out = io::stdout().lock();
        let mut progress = ProgressLine { began: Instant::now(), shown_at: None };
        let mut failure = Ok(());
        let summary = check(&FileDisk::new(), &self.dir, &mut |event| match event {
            Event::Progress(now) => progress.show(&now),
            Event::Finding(finding) => {
                progress.clear();
                let written = match self.json {
                    true => writeln!(out, "{}", finding.to_json()),
                    false => writeln!(out, "{finding}"),
                };
                failure = std::mem::replace(&mut failure, Ok(())).and(written);
            }
        });
        progress.clear();
        let summary = match summary {
            Ok(summary) => summary,
            Err(error) => return unreadable(&error),
        };
        let verdict = match summary.faults {
            0 => "no faults",
            _ => "THERE ARE FAULTS",
        };
        let written = match self.json {
            true => writeln!(out, "{}", summary.to_json()),
            false => writeln!(out, "{summary}{}: {verdict}", self.dir.display()),
        };
        match failure.and(written) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => unreadable(&error.into()),
            _ if summary.faults > 0 => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        }
    }
}

impl Dump {
    /// Prints what is wanted.
    pub fn run(&self) -> ExitCode {
        let mut out = BufWriter::new(io::stdout().lock());
        match self.print(&mut out).and_then(|()| Ok(out.flush()?)) {
            Ok(()) => ExitCode::SUCCESS,
            // Whoever reads has seen enough.
            Err(InspectError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                ExitCode::SUCCESS
            }
            Err(error) => unreadable(&error),
        }
    }

    fn print(&self, out: &mut dyn Write) -> Result<(), InspectError> {
        let disk = FileDisk::new();
        match self {
            Dump::Batches { dir, name, offset, count, records } => {
                let wanted = BatchesToDump {
                    name: name.clone(),
                    from: Offset(*offset),
                    count: *count,
                    with_records: *records,
                };
                dump_batches(&disk, dir, &wanted, out)
            }
            Dump::Transactions { dir, transactional_id } => {
                dump_transactions(&disk, dir, transactional_id.as_deref(), out)
            }
            Dump::Groups { dir, group } => dump_groups(&disk, dir, group.as_deref(), out),
        }
    }
}

fn unreadable(error: &InspectError) -> ExitCode {
    eprintln!("oncelog: {error}");
    ExitCode::from(UNREADABLE)
}

/// One line on a terminal that is written over and over.
struct ProgressLine {
    began: Instant,
    shown_at: Option<Instant>,
}

impl ProgressLine {
    fn show(&mut self, progress: &Progress<'_>) {
        let is_due = self.shown_at.is_none_or(|at| at.elapsed() >= Duration::from_millis(500));
        if self.began.elapsed() < PROGRESS_AFTER || !is_due || !io::stderr().is_terminal() {
            return;
        }
        self.shown_at = Some(Instant::now());
        let Progress { log, logs, logs_in_all, bytes } = progress;
        eprint!("\r{logs} of {logs_in_all} logs, {} MiB: {log}\x1b[K", bytes >> 20);
    }

    /// Makes room for other lines.
    fn clear(&mut self) {
        if self.shown_at.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

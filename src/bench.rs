//! `oncelog bench`: its flags, and where results go.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use oncelog_bench::{Comparison, Report, Settings, html, run};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    command: Option<Subject>,
    #[command(flatten)]
    load: Load,
}

#[derive(Subcommand)]
enum Subject {
    /// Compare runs: a table, and a page with plots.
    Report(Page),
}

#[derive(Args)]
struct Page {
    /// Write a page with plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Runs that were written with --json. Runs with one --name and one shape are rounds of each other.
    #[arg(required = true, value_name = "JSON")]
    runs: Vec<PathBuf>,
}

#[derive(Args)]
struct Load {
    /// The broker; any that speaks Kafka's protocol and is alone.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    bootstrap: String,

    /// Start a broker of one's own for this run, on a temporary directory; what follows -- are flags of serve.
    #[arg(long, conflicts_with_all = ["bootstrap", "broker_pid"])]
    spawn: bool,

    /// What the broker is called in results. [default: oncelog with --spawn, else its address]
    #[arg(long)]
    name: Option<String>,

    /// What to do.
    #[arg(long, value_enum, default_value_t = Workload::Transactions)]
    workload: Workload,

    /// Producers; of transform, workers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    producers: usize,

    /// Records of a transaction.
    #[arg(long, value_name = "R", default_value_t = 1)]
    records_per_transaction: usize,

    /// Partitions of a transaction.
    #[arg(long, value_name = "P", default_value_t = 1)]
    partitions_per_transaction: usize,

    /// Partitions of the topic. [default: as many as a transaction has, or one a producer; consume: 1]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    partitions: usize,

    /// Bytes of a record's value.
    #[arg(long, value_name = "B", default_value_t = 100)]
    record_size: usize,

    /// Which part of the transactions to abort, from 0 to 1.
    #[arg(long, value_name = "PART", default_value_t = 0.0)]
    abort_ratio: f64,

    /// Start so many a second (transactions; of produce, records), however fast the broker answers.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,

    /// How long to measure.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,

    /// How long to do the same before that.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    warmup: Duration,

    /// The transaction protocol, 1 or 2. [default: what the broker has finalized]
    #[arg(long, value_name = "VERSION")]
    transaction_version: Option<i16>,

    /// The topic. One that exists is used and left. [default: a new one, deleted afterwards]
    #[arg(long)]
    topic: Option<String>,

    /// Produce: the size of a batch.
    #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
    batch_bytes: usize,

    /// Produce with --rate: how long a batch waits to become full.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = duration)]
    linger: Duration,

    /// Produce: batches of a producer that may be without answer.
    #[arg(long, value_name = "N", default_value_t = 5)]
    in_flight: usize,

    /// Produce, and what consume reads: write in transactions of this length.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    transaction_duration: Option<Duration>,

    /// Consume: how many records to write first, and to read over and over.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    records: u64,

    /// Consume: which records are seen.
    #[arg(long, value_enum, default_value_t = Isolation::Committed)]
    isolation: Isolation,

    /// Consume: how much a fetch asks for.
    #[arg(long, value_name = "BYTES", default_value_t = 1_048_576)]
    fetch_bytes: usize,

    /// Count the committed records afterwards; fails where one is missing or there twice.
    #[arg(long)]
    verify: bool,

    /// Leave the topics.
    #[arg(long)]
    keep_topics: bool,

    /// The broker's process on this machine, to measure its CPU time and memory.
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,

    /// Write the result as JSON to a file, or with - to stdout in place of the table.
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,

    /// Write the result as a page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Flags of serve, for --spawn.
    #[arg(last = true, requires = "spawn", value_name = "SERVE FLAGS")]
    serve: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Workload {
    /// Write transactions, commit or abort them
    Transactions,
    /// Copy records in transactions that commit their offsets
    Transform,
    /// Write transactions and receive them, read_committed
    EndToEnd,
    /// Write batches, idempotently
    Produce,
    /// Read a topic again and again
    Consume,
}

#[derive(Clone, Copy, ValueEnum)]
enum Isolation {
    /// read_committed
    Committed,
    /// read_uncommitted
    Uncommitted,
}

impl Bench {
    pub(crate) fn run(self) -> ExitCode {
        let result = match self.command {
            Some(Subject::Report(page)) => page.make(),
            None => self.load.run(),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("oncelog: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

impl Page {
    fn make(&self) -> Result<()> {
        let read = |path: &PathBuf| -> Result<Report> {
            let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(Report::from_json(&path.to_string_lossy(), &text)?)
        };
        let reports = self.runs.iter().map(read).collect::<Result<Vec<Report>>>()?;
        print!("{}", Comparison::of(&reports));
        self.html.as_ref().map_or(Ok(()), |path| write(path, &html(&reports)))
    }
}

impl Load {
    fn run(self) -> Result<()> {
        let mut settings = self.settings();
        let _spawned = match self.spawn {
            true => {
                let spawned = Spawned::start(&self.serve)?;
                settings.bootstrap.clone_from(&spawned.address);
                settings.broker_pid = Some(spawned.child.id());
                Some(spawned)
            }
            false => None,
        };
        let report = run(&settings, &mut |progress| eprintln!("{progress}"))?;
        match &self.json {
            Some(path) if path == Path::new("-") => println!("{}", report.to_json()),
            Some(path) => {
                write(path, &report.to_json())?;
                print!("{report}");
            }
            None => print!("{report}"),
        }
        if let Some(path) = &self.html {
            write(path, &html(std::slice::from_ref(&report)))?;
        }
        match report.verified.is_none_or(|verified| verified.is_right()) {
            true => Ok(()),
            false => Err("the records are not what was committed".into()),
        }
    }

    fn settings(&self) -> Settings {
        let own_name = if self.spawn { "oncelog" } else { &self.bootstrap };
        Settings {
            name: self.name.clone().unwrap_or_else(|| own_name.to_owned()),
            bootstrap: self.bootstrap.clone(),
            workload: match self.workload {
                Workload::Transactions => oncelog_bench::Workload::Transactions,
                Workload::Transform => oncelog_bench::Workload::Transform,
                Workload::EndToEnd => oncelog_bench::Workload::EndToEnd,
                Workload::Produce => oncelog_bench::Workload::Produce,
                Workload::Consume => oncelog_bench::Workload::Consume,
            },
            producers: self.producers,
            records_per_transaction: self.records_per_transaction,
            partitions_per_transaction: self.partitions_per_transaction,
            partitions: self.partitions,
            record_size: self.record_size,
            abort_ratio: self.abort_ratio,
            rate: self.rate,
            duration: self.duration,
            warmup: self.warmup,
            transaction_version: self.transaction_version,
            topic: self.topic.clone(),
            batch_bytes: self.batch_bytes,
            linger: self.linger,
            in_flight: self.in_flight,
            transaction_duration: self.transaction_duration,
            records: self.records,
            isolation: match self.isolation {
                Isolation::Committed => oncelog_bench::Isolation::Committed,
                Isolation::Uncommitted => oncelog_bench::Isolation::Uncommitted,
            },
            fetch_bytes: self.fetch_bytes,
            verify: self.verify,
            keep_topics: self.keep_topics,
            broker_pid: self.broker_pid,
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// A time: 10s, 500ms, 2m; a number alone is seconds.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        _ => return Err("a time is a number with ms, s or m".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| "a time is a number with ms, s or m".to_owned())?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())
}

/// A broker in a process of its own, gone with its data when this is dropped.
struct Spawned {
    child: Child,
    directory: PathBuf,
    address: String,
}

impl Spawned {
    fn start(arguments: &[String]) -> Result<Spawned> {
        let directory = std::env::temp_dir().join(format!("oncelog-bench-{}", std::process::id()));
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        if !arguments.iter().any(|argument| argument == "--ephemeral") {
            command.arg("--data-dir").arg(&directory);
        }
        let child = command.args(arguments).env("ONCELOG_LOG", "warn").stdout(Stdio::piped()).spawn()?;
        let mut spawned = Spawned { child, directory, address: String::new() };
        let mut output = BufReader::new(spawned.child.stdout.take().ok_or("the broker has no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let (_, address) = line.trim().rsplit_once(' ').ok_or("the broker did not start")?;
        address.clone_into(&mut spawned.address);
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
        Ok(spawned)
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

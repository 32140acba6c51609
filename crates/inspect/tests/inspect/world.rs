//! Data directories: one that a broker made with all kinds of data, and copies of it to be damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use oncelog_broker::{Broker, Config, Durability};
use oncelog_client::{Client, Producer, ProducerOptions, TransactionVersion};
use oncelog_inspect::{Event, Finding, Severity, Summary, check};
use oncelog_log::FileDisk;
use oncelog_records::{BatchHeader, BatchView, batches};
use oncelog_wire::{LeaderEpoch, Offset};
use tempfile::TempDir;

/// A data directory of its own.
pub struct Data {
    pub directory: TempDir,
}

/// What a check came to.
pub struct Checked {
    pub findings: Vec<Finding>,
    pub summary: Summary,
}

/// A batch and where it lies in its segment.
pub struct Found {
    pub position: usize,
    pub bytes: Vec<u8>,
    pub header: BatchHeader,
}

pub fn start(directory: &Path) -> Broker {
    start_with(directory, Durability::Os)
}

fn start_with(directory: &Path, durability: Durability) -> Broker {
    let mut config = Config::in_directory(directory)
        .with("offsets.topic.num.partitions", "2")
        .and_then(|config| config.with("transaction.state.log.num.partitions", "2"))
        .unwrap();
    config.durability = durability;
    Broker::start(config).unwrap()
}

pub fn connect(broker: &Broker) -> Client {
    Client::connect(broker.address(), "inspect").unwrap()
}

pub fn transactional(broker: &Broker, id: &str, version: TransactionVersion) -> Producer {
    let options = ProducerOptions { transaction_version: Some(version), ..ProducerOptions::default() };
    Producer::transactional(connect(broker), id, options).unwrap()
}

/// Writes all kinds of data: plain, idempotent, transactions of both protocols that commit and abort, offsets within
/// them and without; small segments that have been rolled.
fn fill(broker: &Broker) {
    let mut client = connect(broker);
    let small = [("segment.bytes", "1048576"), ("index.interval.bytes", "100")];
    client.create_topic_with("orders", 2, &small).unwrap();
    client.create_topic_with("refunds", 1, &small).unwrap();
    client.create_topic("empty", 1).unwrap();
    for at in 0..30 {
        client.produce_values("orders", 0, [format!("plain {at}"), "x".repeat(50_000)]).unwrap();
    }
    let mut idempotent = Producer::idempotent(connect(broker), ProducerOptions::default()).unwrap();
    for at in 0..5 {
        idempotent.send("orders", 1, format!("k{at}"), "idempotent").unwrap();
    }
    let mut old = transactional(broker, "old", TransactionVersion::V1);
    let mut new = transactional(broker, "new", TransactionVersion::V2);
    for round in 0..4 {
        for (name, producer) in [("old", &mut old), ("new", &mut new)] {
            producer.begin();
            producer.send("orders", 1, name, format!("round {round}")).unwrap();
            producer.send("refunds", 0, name, format!("round {round}")).unwrap();
            producer.send_offset("copiers", "orders", round % 2, Offset(10 * i64::from(round))).unwrap();
        }
        // Their ends are not in the order of their starts.
        for producer in [&mut new, &mut old] {
            if round % 2 == 0 { producer.commit() } else { producer.abort() }.unwrap();
        }
    }
    client.commit_offset("readers", "orders", 0, Offset(7)).unwrap();
}

impl Data {
    /// An empty directory.
    pub fn new() -> Data {
        Data { directory: TempDir::new().unwrap() }
    }

    /// A directory that a broker has filled and closed, twice.
    pub fn sound() -> Data {
        static MADE: OnceLock<Data> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            let data = Data::new();
            let broker = start(data.path());
            fill(&broker);
            broker.stop();
            let broker = start(data.path());
            connect(&broker).produce_values("orders", 0, ["after a restart"]).unwrap();
            let mut new = transactional(&broker, "new", TransactionVersion::V2);
            new.begin();
            new.send("refunds", 0, "new", "the last").unwrap();
            new.commit().unwrap();
            broker.stop();
            data
        });
        made.copy()
    }

    /// A new directory that a broker fills and that is copied while it runs, as a kill would leave it.
    pub fn killed(fill: impl FnOnce(&Broker)) -> Data {
        Data::killed_with(Durability::Os, fill)
    }

    /// The same, with another promise of the broker.
    pub fn killed_with(durability: Durability, fill: impl FnOnce(&Broker)) -> Data {
        let data = Data::new();
        let broker = start_with(data.path(), durability);
        fill(&broker);
        let copy = data.copy();
        broker.stop();
        copy
    }

    pub fn copy(&self) -> Data {
        let copy = Data::new();
        copy_tree(self.path(), copy.path());
        copy
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.file(name), content).unwrap();
    }

    /// Changes the content of a file.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.read(name);
        edit(&mut content);
        self.write(name, content);
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    /// Forgets that the directory was closed, and what has reached the device.
    pub fn unclose(&self) {
        self.remove(".kafka_cleanshutdown");
        self.remove("recovery-point-offset-checkpoint");
    }

    /// The batches of a segment.
    pub fn batches(&self, name: &str) -> Vec<Found> {
        let content = self.read(name);
        let mut position = 0;
        let found = batches(&content).map(|batch| {
            let batch = batch.unwrap();
            let found = Found { position, bytes: batch.bytes().to_vec(), header: batch.header() };
            position += found.bytes.len();
            found
        });
        found.collect()
    }

    /// Appends a batch as the log would.
    pub fn append(&self, name: &str, batch: &[u8]) -> Offset {
        let last = self.batches(name).pop().unwrap().header;
        let offset = last.next_offset();
        self.edit(name, |content| content.extend(placed(batch, offset, last.partition_leader_epoch())));
        offset
    }

    /// All files with their contents.
    pub fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut content = BTreeMap::new();
        let mut directories = vec![self.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    content.insert(path.clone(), fs::read(&path).unwrap());
                }
            }
        }
        content
    }

    pub fn check(&self) -> Checked {
        let mut findings = Vec::new();
        let summary = check(&FileDisk::new(), self.path(), &mut |event| {
            if let Event::Finding(finding) = event {
                findings.push(finding);
            }
        });
        Checked { findings, summary: summary.unwrap() }
    }
}

impl Checked {
    /// Asserts that there is a finding of a file, at an offset, that says this.
    #[track_caller]
    pub fn has(&self, severity: Severity, file: &str, offset: Option<i64>, what: &str) -> &Checked {
        let is_it = |finding: &&Finding| {
            finding.severity == severity
                && finding.file.ends_with(file)
                && finding.offset == offset.map(Offset)
                && finding.what.contains(what)
        };
        assert!(
            self.findings.iter().any(|finding| is_it(&finding)),
            "no {severity:?} of {file} at {offset:?} that says '{what}' among\n{}",
            self.text()
        );
        self
    }

    /// Asserts that there are so many faults.
    #[track_caller]
    pub fn faults(&self, count: u64) -> &Checked {
        assert_eq!(self.summary.faults, count, "{}", self.text());
        self
    }

    pub fn text(&self) -> String {
        self.findings.iter().map(|finding| format!("{finding}\n")).collect()
    }
}

/// A batch with its place in a log.
pub fn placed(batch: &[u8], offset: Offset, epoch: LeaderEpoch) -> Vec<u8> {
    let view = BatchView::parse(batch).unwrap();
    let mut header = view.header();
    header.set_base_offset(offset);
    header.set_partition_leader_epoch(epoch);
    [header.as_bytes(), view.payload()].concat()
}

/// The file of a log's first segment.
pub fn first_segment(log: &str) -> String {
    format!("{log}/{:020}.log", 0)
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => _ = fs::copy(entry.path(), target).unwrap(),
        }
    }
}

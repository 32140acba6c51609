//! Data directories: copied as a crash would leave them, cut, and started again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use oncelog_broker::{Broker, Config};
use oncelog_client::Client;
use oncelog_records::batches;
use tempfile::TempDir;

/// A new directory: in memory where the system has such a place, as a test starts many brokers.
pub fn temporary() -> TempDir {
    let in_memory = TempDir::with_prefix_in("oncelog-tests-", "/dev/shm");
    in_memory.or_else(|_| TempDir::with_prefix("oncelog-tests-")).unwrap()
}

/// A broker on a directory, with few partitions of the internal topics so that it starts at once.
pub fn start(directory: &Path) -> Broker {
    Broker::start(config(directory)).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
}

pub fn config(directory: &Path) -> Config {
    let config = Config::in_directory(directory).with("transaction.state.log.num.partitions", "1").unwrap();
    let config = config.with("offsets.topic.num.partitions", "1").unwrap();
    config.with("group.initial.rebalance.delay.ms", "0").unwrap()
}

pub fn connect(broker: &Broker) -> Client {
    Client::connect(broker.address(), "tests").unwrap()
}

/// How long each log file is, by its path within the data directory.
pub type Lengths = BTreeMap<PathBuf, u64>;

/// The lengths of all segments as they are now. A file that is not there yet has no entry.
pub fn lengths(directory: &Path) -> Lengths {
    let mut lengths = Lengths::new();
    for partition in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if !partition.file_type().unwrap().is_dir() {
            continue;
        }
        for file in fs::read_dir(partition.path()).unwrap().map(Result::unwrap) {
            if file.path().extension().is_some_and(|extension| extension == "log") {
                let path = file.path().strip_prefix(directory).unwrap().to_owned();
                lengths.insert(path, written(&file.path()));
            }
        }
    }
    lengths
}

/// The bytes of whole batches at the head of a segment, which may have room behind them.
fn written(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    batches(&bytes).map_while(Result::ok).map(|batch| batch.size_in_bytes() as u64).sum()
}

/// Where the batches of a segment end.
pub fn boundaries(path: &Path) -> Vec<u64> {
    let bytes = fs::read(path).unwrap();
    let sizes = batches(&bytes).map_while(Result::ok).map(|batch| batch.size_in_bytes() as u64);
    sizes
        .scan(0, |end, size| {
            *end += size;
            Some(*end)
        })
        .collect()
}

/// A copy of the directory as it would be had the broker died just now.
pub fn copy(directory: &Path) -> TempDir {
    let copy = temporary();
    copy_tree(directory, copy.path());
    assert!(!copy.path().join(".kafka_cleanshutdown").exists(), "the broker is still running");
    copy
}

/// A copy whose logs end where they ended when `lengths` was taken.
pub fn copy_cut(directory: &Path, lengths: &Lengths) -> TempDir {
    let copy = copy(directory);
    for path in self::lengths(copy.path()).keys() {
        match lengths.get(path) {
            Some(length) => cut(&copy.path().join(path), *length),
            None => fs::remove_dir_all(copy.path().join(path.parent().unwrap())).unwrap(),
        }
    }
    copy
}

/// Cuts a segment. What its indexes say of the part that is gone had not been written either.
pub fn cut(segment: &Path, length: u64) {
    if length < written(segment) {
        let index = segment.with_extension("txnindex");
        if index.exists() {
            File::options().write(true).open(index).unwrap().set_len(0).unwrap();
        }
    }
    File::options().write(true).open(segment).unwrap().set_len(length).unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        // What is held back for a full disk is given up by a start anyhow.
        if entry.file_name() == "reserve" {
            continue;
        }
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

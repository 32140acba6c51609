//! The program on a disk that is full or fails: what its clients are told, and that nothing is lost and nothing has to be
//! started again.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use oncelog_client::{Client, Isolation, TransactionVersion};
use oncelog_tests::eventually;
use oncelog_tests::process::{BrokerProcess, binary};
use oncelog_tests::requests::{self, Transactor, Write};
use oncelog_wire::ErrorCode;
use tempfile::TempDir;

use crate::directories::temporary;

use Isolation::{ReadCommitted, ReadUncommitted};

const MODES: [&str; 2] = ["os", "fsync"];

/// What `failing_disk.c` is told.
#[derive(Clone, Copy)]
enum Defect {
    Room,
    LongestWrite,
    GoodWrites,
    BadTruncates,
    BadSyncs,
}

/// A disk that does what a test says, as far as the broker can tell.
struct FailingDisk {
    directory: TempDir,
    control: File,
}

impl FailingDisk {
    fn new() -> FailingDisk {
        let directory = temporary();
        let control = File::create_new(directory.path().join("control")).unwrap();
        let disk = FailingDisk { directory, control };
        disk.heal();
        disk
    }

    fn heal(&self) {
        for (defect, value) in [
            (Defect::Room, -1),
            (Defect::LongestWrite, 0),
            (Defect::GoodWrites, -1),
            (Defect::BadTruncates, 0),
            (Defect::BadSyncs, 0),
        ] {
            self.set(defect, value);
        }
    }

    fn set(&self, defect: Defect, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), 8 * defect as u64).unwrap();
    }

    fn start(&self, durability: &str) -> BrokerProcess {
        let control = self.directory.path().join("control");
        let environment = [("LD_PRELOAD", library().as_path()), ("ONCELOG_FAILING_DISK", control.as_path())];
        BrokerProcess::start_on(None, &arguments(durability), &environment)
    }
}

/// Few partitions of the internal topics, and checkpoints every second.
fn arguments(durability: &str) -> Vec<&str> {
    let settings = [
        "transaction.state.log.num.partitions=1",
        "offsets.topic.num.partitions=1",
        "log.flush.offset.checkpoint.interval.ms=1000",
        "log.retention.check.interval.ms=1000",
    ];
    let mut arguments = vec!["--durability", durability];
    arguments.extend(settings.into_iter().flat_map(|setting| ["--set", setting]));
    arguments
}

/// The library that is preloaded into the broker.
fn library() -> &'static PathBuf {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let directory = temporary();
        let path = directory.path().join("failing_disk.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/failing_disk.c");
        let built =
            Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&path).arg(source).status();
        assert!(built.expect("there is a C compiler").success());
        (directory, path)
    });
    path
}

/// A file system of its own in memory; none where mounting is not allowed.
struct SmallFileSystem(TempDir);

impl SmallFileSystem {
    fn mount(size: &str) -> Option<SmallFileSystem> {
        let directory = temporary();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "oncelog-tests"]);
        mounted
            .arg(directory.path())
            .status()
            .is_ok_and(|status| status.success())
            .then(|| SmallFileSystem(directory))
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        for size in [1 << 20, 4096, 1] {
            let zeros = vec![0; size];
            while ballast.write_all(&zeros).is_ok() {}
        }
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// An idempotent producer that sends one record at a time, and each until it is taken.
struct Steady {
    client: Client,
    identity: requests::Identity,
    sequence: i32,
}

impl Steady {
    fn new(broker: &BrokerProcess) -> Steady {
        let mut client = connect(broker);
        let given = requests::init_producer_id(&mut client, None, i32::MAX, None).unwrap();
        Steady { client, identity: (given.producer_id, given.producer_epoch), sequence: 0 }
    }

    fn try_write(&mut self) -> ErrorCode {
        let write = Write {
            topic: "orders",
            partition: 1,
            identity: self.identity,
            sequence: self.sequence,
            count: 1,
            transactional_id: None,
        };
        let (code, offset) = write.outcome(&mut self.client);
        if code == ErrorCode::None {
            assert_eq!(offset.0, i64::from(self.sequence), "the partition has its records alone");
            assert_eq!(write.outcome(&mut self.client), (code, offset), "a repetition is recognised");
            self.sequence += 1;
        }
        code
    }

    fn write(&mut self) {
        eventually("the record is taken", || match self.try_write() {
            ErrorCode::None => true,
            code => {
                assert_eq!(code, ErrorCode::KafkaStorageError);
                false
            }
        });
    }

    /// All records are there, once and in order.
    fn check(&self, client: &mut Client) {
        for isolation in [ReadUncommitted, ReadCommitted] {
            let values = client.values("orders", 1, isolation).unwrap();
            let expected: Vec<_> = (0..self.sequence).map(|at| format!("{}/{at}", self.identity.1)).collect();
            assert_eq!(values, expected);
        }
    }
}

fn connect(broker: &BrokerProcess) -> Client {
    Client::connect(broker.address(), "tests").unwrap()
}

fn transactor(broker: &BrokerProcess, id: &str) -> Transactor {
    Transactor::at(connect(broker), TransactionVersion::V2, id, 60_000)
}

fn committed(client: &mut Client) -> usize {
    client.values("orders", 0, ReadCommitted).unwrap().len()
}

/// `oncelog check` finds nothing.
fn check(directory: &Path) {
    let output = Command::new(binary()).arg("check").arg(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The whole story of a disk that fills up and is emptied again.
fn fills_up(mut broker: BrokerProcess, fill: impl Fn(), make_room: impl Fn()) {
    let mut client = connect(&broker);
    client.create_topic("orders", 3).unwrap();
    let mut steady = Steady::new(&broker);
    steady.write();
    let (mut paying, mut failing) = (transactor(&broker, "pay"), transactor(&broker, "fail"));
    assert_eq!(paying.write("orders", 0, 0, 2), ErrorCode::None);
    assert_eq!(failing.write("orders", 0, 0, 3), ErrorCode::None);
    let data = broker.data_dir();
    assert_eq!(fs::metadata(data.join("reserve")).unwrap().len(), 16 << 20);
    fill();
    // Records are refused, in whatever size.
    client.set_retry_for(Duration::ZERO);
    for size in [500_000, 5_000, 10] {
        while client.produce_values("orders", 2, ["x".repeat(size)]).is_ok() {}
    }
    while steady.try_write() == ErrorCode::None {}
    assert_eq!(steady.try_write(), ErrorCode::KafkaStorageError);
    steady.check(&mut client);
    // What is open is ended, offsets included.
    assert_eq!(paying.commit_offset("billing", "orders", 1), ErrorCode::None);
    assert_eq!((paying.end(true), failing.end(false)), (ErrorCode::None, ErrorCode::None));
    assert_eq!(committed(&mut client), 2);
    assert!(!data.join("reserve").exists());
    // Others still are not taken, although there is room now that was not for them; and they can be ended, too.
    assert_eq!(steady.try_write(), ErrorCode::KafkaStorageError);
    assert_eq!(paying.write("orders", 0, 0, 1), ErrorCode::KafkaStorageError);
    assert_eq!(paying.end(false), ErrorCode::None);
    assert!(client.commit_offset("readers", "orders", 0, oncelog_wire::Offset(1)).is_ok());
    // A broker that dies now comes back, and still takes no records.
    broker.kill();
    broker.start_again();
    let mut client = connect(&broker);
    (steady.client, paying.client) = (connect(&broker), connect(&broker));
    assert_eq!(steady.try_write(), ErrorCode::KafkaStorageError);
    assert_eq!(committed(&mut client), 2);
    make_room();
    steady.write();
    assert!(data.join("reserve").exists());
    assert_eq!(paying.write("orders", 0, 0, 1), ErrorCode::None);
    assert_eq!(paying.end(true), ErrorCode::None);
    assert_eq!(broker.said().matches("the disk is full: no records").count(), 2, "{}", broker.said());
    assert_eq!(broker.said().matches("there is room again").count(), 1, "{}", broker.said());
    broker.kill();
    broker.start_again();
    let mut client = connect(&broker);
    steady.check(&mut client);
    assert_eq!(committed(&mut client), 3);
    assert_eq!(client.committed_offset("billing", "orders", 0).unwrap().map(|offset| offset.0), Some(1));
    assert_eq!(requests::watermarks(&mut client, "orders", 0), (10, 10));
    broker.kill();
    check(&data);
}

#[test]
fn on_a_full_disk_transactions_are_ended_and_it_goes_on_once_there_is_room() {
    for durability in MODES {
        let disk = FailingDisk::new();
        fills_up(disk.start(durability), || disk.set(Defect::Room, 1_000_000), || disk.set(Defect::Room, -1));
    }
}

#[test]
fn a_file_system_that_is_full_is_lived_with() {
    for (durability, size) in [("os", "40m"), ("fsync", "180m")] {
        let Some(disk) = SmallFileSystem::mount(size) else {
            eprintln!("skipped: this user may not mount anything");
            return;
        };
        let data = disk.0.path().join("data");
        let broker = BrokerProcess::start_on(Some(&data), &arguments(durability), &[]);
        fills_up(broker, || disk.fill(), || fs::remove_file(disk.ballast()).unwrap());
    }
}

#[test]
fn writes_that_fail_are_refused_and_done_later_without_a_restart() {
    for stays_torn in [0, 1] {
        let disk = FailingDisk::new();
        let mut broker = disk.start("os");
        let mut client = connect(&broker);
        client.create_topic("orders", 3).unwrap();
        let mut steady = Steady::new(&broker);
        let mut paying = transactor(&broker, "pay");
        for life in 0..3 {
            steady.write();
            assert_eq!(paying.write("orders", 0, 0, 2), ErrorCode::None);
            // A write gets half-way; what it has left cannot always be cut off again.
            disk.set(Defect::LongestWrite, 30);
            disk.set(Defect::GoodWrites, life);
            disk.set(Defect::BadTruncates, stays_torn);
            for _ in 0..3 {
                assert_eq!(steady.try_write(), ErrorCode::KafkaStorageError);
            }
            steady.check(&mut client);
            let answer = requests::end_txn(&mut paying.client, "pay", paying.identity, true, 5).unwrap();
            assert!(
                [ErrorCode::NotCoordinator, ErrorCode::CoordinatorLoadInProgress]
                    .contains(&answer.error_code),
                "{}",
                answer.error_code
            );
            assert_eq!(committed(&mut client), 2 * life as usize);
            disk.heal();
            steady.write();
            // Nor does it keep the coordinator from coming back that it is asked for again and again.
            assert_eq!(paying.end(true), ErrorCode::None);
            assert_eq!(committed(&mut client), 2 * life as usize + 2);
        }
        broker.kill();
        broker.start_again();
        let mut client = connect(&broker);
        steady.check(&mut client);
        assert_eq!(committed(&mut client), 6);
        broker.kill();
        check(&broker.data_dir());
    }
}

#[test]
fn writes_that_come_out_short_are_finished() {
    for durability in MODES {
        let disk = FailingDisk::new();
        let mut broker = disk.start(durability);
        let mut client = connect(&broker);
        client.create_topic("orders", 3).unwrap();
        let mut steady = Steady::new(&broker);
        let mut paying = transactor(&broker, "pay");
        disk.set(Defect::LongestWrite, 7);
        for _ in 0..10 {
            steady.write();
            assert_eq!(paying.write("orders", 0, 0, 1), ErrorCode::None);
            assert_eq!(paying.end(true), ErrorCode::None);
        }
        broker.kill();
        broker.start_again();
        let mut client = connect(&broker);
        steady.check(&mut client);
        assert_eq!(committed(&mut client), 10);
        broker.kill();
        check(&broker.data_dir());
    }
}

#[test]
fn a_journal_that_cannot_be_written_or_synced_ends_the_process_and_the_next_start_recovers() {
    for defect in [Defect::GoodWrites, Defect::BadSyncs] {
        let disk = FailingDisk::new();
        let mut broker = disk.start("fsync");
        let mut client = connect(&broker);
        client.create_topic("orders", 3).unwrap();
        let mut steady = Steady::new(&broker);
        steady.write();
        // The segment takes the first write, the journal gets no second.
        disk.set(defect, 1);
        assert_eq!(steady.try_write(), ErrorCode::KafkaStorageError);
        assert_eq!(broker.exit_code(), Some(1), "{}", broker.said());
        disk.heal();
        broker.start_again();
        steady.client = connect(&broker);
        steady.write();
        steady.check(&mut connect(&broker));
    }
}

#[test]
fn a_sync_that_fails_ends_the_process_also_where_nobody_waits_for_syncs() {
    let disk = FailingDisk::new();
    let mut broker = disk.start("os");
    let mut client = connect(&broker);
    client.create_topic("orders", 3).unwrap();
    let mut steady = Steady::new(&broker);
    steady.write();
    disk.set(Defect::BadSyncs, 1);
    steady.write();
    assert_eq!(broker.exit_code(), Some(1), "{}", broker.said());
    assert!(broker.said().contains("cannot sync"), "{}", broker.said());
    disk.heal();
    broker.start_again();
    steady.client = connect(&broker);
    steady.write();
    steady.check(&mut connect(&broker));
}

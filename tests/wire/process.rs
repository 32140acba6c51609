//! The program itself: how it starts, what it says when it cannot, how it stops, and how much memory strangers can
//! make it take.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use oncelog_client::{Client, Connection, Isolation};
use oncelog_records::{BatchBuilder, Compression};
use oncelog_tests::forge::{self, sized, unsigned_varint};
use oncelog_tests::process::binary;
use oncelog_tests::{Witness, eventually};
use oncelog_wire::{
    ApiKey, ErrorCode, Offset, describe_configs, describe_groups, describe_producers, fetch, metadata,
    offset_fetch,
};

use crate::directories::temporary;

const MIB: u64 = 1 << 20;

/// Runs the program to its end, which it should find by itself.
fn run(arguments: &[&str]) -> Output {
    let mut child = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it runs on: {arguments:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// A running program, killed when dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(arguments: &[&str]) -> Process {
        Process::spawn(Command::new(binary()).args(arguments))
    }

    fn spawn(command: &mut Command) -> Process {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = child.spawn().unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.as_mut().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let address = line.strip_prefix("oncelog is ready on ").unwrap_or_else(|| panic!("it said {line:?}"));
        let address = address.trim().parse().unwrap();
        Process { child, address }
    }

    fn ephemeral() -> Process {
        // Room for many clients that come at once, as each that finds none waits for a second.
        let backlog = "socket.listen.backlog.size=2000";
        Process::start(&["serve", "--ephemeral", "--listen", "127.0.0.1:0", "--set", backlog])
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// The exit code, waited for; what was printed since the ready line.
    fn exit_code(&mut self) -> (Option<i32>, String) {
        let mut code = None;
        eventually("the process ends", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        let mut rest = String::new();
        self.child.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
        (code.unwrap().code(), rest)
    }

    /// A line of `/proc/PID/status`, in bytes.
    fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// What is in memory now.
    fn resident(&self) -> u64 {
        self.memory("VmRSS")
    }

    /// The most there ever was.
    fn peak(&self) -> u64 {
        self.memory("VmHWM")
    }

    fn connect(&self) -> Connection {
        Connection::connect(self.address, "tests").unwrap()
    }

    fn client(&self) -> Client {
        Client::connect(self.address, "tests").unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The broker refuses to start, in one line that has all of `words`.
fn refuses(arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?} should say {word}: {said}");
    }
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{arguments:?}");
}

#[test]
fn what_is_wrong_with_the_flags_is_said_in_a_line() {
    refuses(&["serve", "--bogus"], &["--bogus"]);
    refuses(&["server"], &["server"]);
    refuses(&["serve", "--listen"], &["--listen"]);
    refuses(&["serve", "--listen", "nowhere"], &["--listen nowhere", "HOST:PORT"]);
    refuses(&["serve", "--listen", "127.0.0.1:99999"], &["127.0.0.1:99999"]);
    refuses(&["serve", "--ephemeral", "--durability", "fsync"], &["--durability fsync"]);
    refuses(&["serve", "--durability", "none"], &["none", "os, fsync"]);
    refuses(&["serve", "--ephemeral", "--data-dir", "x"], &["--ephemeral", "--data-dir"]);
    refuses(&["serve", "--ephemeral", "--advertise", "a:1", "--advertise", "b:2"], &["--advertise"]);
    refuses(
        &["serve", "--ephemeral", "--listen", "127.0.0.1:0", "--advertise", "0.0.0.0:9092"],
        &["0.0.0.0"],
    );
    refuses(
        &["serve", "--ephemeral", "--listen", "127.0.0.1:0", "--port-file", "/no/such/place"],
        &["/no/such/place"],
    );
}

#[test]
fn what_is_wrong_with_the_configuration_is_said_in_a_line() {
    let set = |pair: &str, words: &[&str]| {
        refuses(&["serve", "--ephemeral", "--listen", "127.0.0.1:0", "--set", pair], words);
    };
    set("num.partitions", &["--set num.partitions", "KEY=VALUE"]);
    set("num.partitions=many", &["num.partitions=many"]);
    set("num.partitions=0", &["num.partitions=0", "at least 1"]);
    set("num.partitions=99999999999", &["num.partitions=99999999999"]);
    set("auto.create.topics.enable=maybe", &["auto.create.topics.enable=maybe", "true or false"]);
    set("log.cleanup.policy=shred", &["log.cleanup.policy=shred", "compact", "delete"]);
    set("log.dirs=/a,/b", &["log.dirs=/a,/b"]);
    let directory = temporary();
    let file = directory.path().join("server.properties");
    let path = file.to_str().unwrap();
    refuses(&["serve", "--ephemeral", "--config", path], &[path]);
    fs::write(&file, "num.partitions=3\ntransaction.max.timeout.ms=soon\n").unwrap();
    refuses(&["serve", "--ephemeral", "--config", path], &[path, "transaction.max.timeout.ms=soon"]);
}

#[test]
fn a_place_that_cannot_be_had_is_named() {
    let other = Process::ephemeral();
    let taken = other.address.to_string();
    refuses(&["serve", "--ephemeral", "--listen", &taken], &[&taken]);
    let directory = temporary();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    let serve = |place: &Path, words: &[&str]| {
        let place = place.to_str().unwrap();
        let words = [words, &[place]].concat();
        refuses(&["serve", "--listen", "127.0.0.1:0", "--data-dir", place], &words);
    };
    serve(&file, &[]);
    serve(directory.path(), &["not empty", "file"]);
    fs::remove_file(&file).unwrap();
    let running = Process::start(&serve_in(directory.path()));
    serve(directory.path(), &["locked"]);
    drop(running);
    // Something in the middle of what the broker was told to keep, after a clean stop, is no longer readable.
    let mut running = Process::start(&serve_in(directory.path()));
    running.client().create_topic("orders", 1).unwrap();
    running.terminate();
    assert_eq!(running.exit_code().0, Some(0));
    let log = directory.path().join("__cluster_metadata-0/00000000000000000000.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[100] ^= 1;
    fs::write(&log, bytes).unwrap();
    serve(directory.path(), &["__cluster_metadata-0/00000000000000000000.log", "CRC"]);
}

fn serve_in(directory: &Path) -> [&str; 5] {
    ["serve", "--listen", "127.0.0.1:0", "--data-dir", directory.to_str().unwrap()]
}

#[test]
fn a_broker_says_when_it_is_ready_and_where_and_stops_when_told_to() {
    for signal in ["-TERM", "-INT"] {
        let directory = temporary();
        let port_file = directory.path().join("port");
        let data = directory.path().join("data");
        let mut arguments = serve_in(&data).to_vec();
        arguments.extend(["--port-file", port_file.to_str().unwrap()]);
        let mut process = Process::start(&arguments);
        let port = fs::read_to_string(&port_file).unwrap();
        assert_eq!(port.trim().parse(), Ok(process.address.port()));
        let mut client = process.client();
        client.create_topic("orders", 1).unwrap();
        client.produce_values("orders", 0, ["kept"]).unwrap();
        // A reader that waits does not hold it up.
        let topic_id = client.topic_id("orders").unwrap();
        let request = fetch::Request {
            max_wait_ms: 60_000,
            min_bytes: 1,
            session_epoch: -1,
            topics: vec![fetch::FetchTopic {
                topic_id,
                partitions: vec![fetch::FetchPartition { fetch_offset: Offset(1), ..Default::default() }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let _ = client.connection().send(&request, 16).unwrap();
        let start = Instant::now();
        let pid = process.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(process.exit_code(), (Some(0), String::new()), "{signal}");
        assert!(start.elapsed() < Duration::from_secs(4), "{signal}");
        assert!(data.join(".kafka_cleanshutdown").exists(), "{signal}");
        let process = Process::start(&serve_in(&data));
        let kept = process.client().values("orders", 0, Isolation::ReadCommitted).unwrap();
        assert_eq!(kept, ["kept"]);
    }
}

#[test]
fn a_flag_that_asks_for_help_is_answered() {
    for flag in ["--help", "--version", "-h", "-V"] {
        let output = run(&[flag]);
        assert_eq!(output.status.code(), Some(0), "{flag}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("oncelog"), "{flag}");
    }
}

/// Memory that this attack costs beyond what is there at rest, at its worst.
fn cost_of(process: &Process, attack: impl FnOnce()) -> u64 {
    let mut witness = Witness::of(process.address);
    let before = process.resident();
    attack();
    witness.is_served();
    process.peak().saturating_sub(before)
}

#[test]
fn twenty_million_tagged_fields_cost_no_more_than_the_frame_that_holds_them() {
    let process = Process::ephemeral();
    let count = 20_000_000u32;
    let mut frame = [&[0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff][..], &unsigned_varint(count.into())].concat();
    // Each field is a tag and a size of 0.
    frame.extend([9, 0].repeat(count as usize));
    let size = frame.len() as u64;
    let frame = sized(&frame);
    let cost = cost_of(&process, || {
        let mut connection = process.connect();
        let _ = connection.send_raw(&frame);
        connection.wait_for_close().unwrap();
    });
    assert!(cost < 2 * size + 16 * MIB, "{} MiB", cost / MIB);
    eventually("the memory is given back", || process.resident() < 64 * MIB);
}

#[test]
fn arrays_of_nothing_cost_little_more_than_the_frame_that_holds_them() {
    let process = Process::ephemeral();
    let size = 8_000_000usize;
    // So many topics, each of them an empty name; and partitions, each of them nothing but zeros.
    let topics = [&unsigned_varint(size as u64 / 2)[..], &vec![1; size]].concat();
    let produce = [&[0, 0, 1, 0, 0, 0, 9][..], &unsigned_varint(size as u64 / 20), &vec![0; size]].concat();
    for (what, frame) in [
        ("Metadata", forge::flexible_frame(ApiKey::Metadata, 9, &topics)),
        ("DescribeGroups", forge::flexible_frame(ApiKey::DescribeGroups, 5, &topics)),
        ("DeleteGroups", forge::flexible_frame(ApiKey::DeleteGroups, 2, &topics)),
        ("Produce", forge::flexible_frame(ApiKey::Produce, 13, &produce)),
        ("Fetch", forge::flexible_frame(ApiKey::Fetch, 13, &[&[0; 20][..], &topics].concat())),
        ("CreateTopics", forge::flexible_frame(ApiKey::CreateTopics, 7, &topics)),
    ] {
        let cost = cost_of(&process, || {
            let mut connection = process.connect();
            let _ = connection.send_raw(&frame);
            // Refused, or answered: it is the memory that counts.
            let _ = connection.receive_frame();
        });
        assert!(cost < 320 * MIB, "{what}: {} MiB", cost / MIB);
    }
}

#[test]
fn a_fetch_of_a_million_partitions_is_answered_or_refused_without_much_memory() {
    let process = Process::ephemeral();
    let partitions =
        (0..1_000_000).map(|partition| fetch::FetchPartition { partition, ..Default::default() });
    let request = fetch::Request {
        session_epoch: 0,
        topics: vec![fetch::FetchTopic {
            topic_id: oncelog_wire::Uuid([7; 16]),
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let cost = cost_of(&process, || {
        let _ = process.client().call(&request);
    });
    assert!(cost < 320 * MIB, "{} MiB", cost / MIB);
}

/// Each of these asks for the same thing thousands of times in a frame of some hundred kilobytes.
#[test]
fn asking_for_the_same_thing_again_and_again_costs_little_more_than_asking_once() {
    let process = Process::ephemeral();
    let mut client = process.client();
    client.create_topic("orders", 1).unwrap();
    for sequence in 0..200 {
        let identity = oncelog_tests::requests::init_producer_id(&mut client, None, i32::MAX, None).unwrap();
        let write = oncelog_tests::requests::Write {
            topic: "orders",
            partition: 0,
            identity: (identity.producer_id, identity.producer_epoch),
            sequence,
            count: 1,
            transactional_id: None,
        };
        assert_eq!(write.outcome(&mut client).0, ErrorCode::None);
    }
    for offset in 0..50 {
        let topic = format!("topic-{offset}");
        client.create_topic(&topic, 1).unwrap();
        client.commit_offset("group", &topic, 0, Offset(offset)).unwrap();
    }
    let times = 20_000;
    let mut costs = Vec::new();
    let mut ask = |what: &'static str, ask: &mut dyn FnMut(&mut Client)| {
        let cost = cost_of(&process, || ask(&mut process.client()));
        costs.push((what, cost / MIB));
    };
    ask("DescribeConfigs", &mut |client| {
        let resource = describe_configs::DescribeConfigsResource {
            resource_type: 4,
            resource_name: "1".into(),
            configuration_keys: None,
        };
        let request = describe_configs::Request {
            resources: vec![resource; times],
            include_synonyms: true,
            ..Default::default()
        };
        let _ = client.call(&request);
    });
    ask("DescribeProducers", &mut |client| {
        let topic =
            describe_producers::TopicRequest { name: "orders".into(), partition_indexes: vec![0; times] };
        let _ = client.call(&describe_producers::Request { topics: vec![topic] });
    });
    ask("OffsetFetch", &mut |client| {
        let group = offset_fetch::OffsetFetchRequestGroup {
            group_id: "group".into(),
            topics: None,
            ..Default::default()
        };
        let _ = client.call(&offset_fetch::Request { groups: vec![group; times], ..Default::default() });
    });
    ask("DescribeGroups", &mut |client| {
        let request = describe_groups::Request { groups: vec!["group".into(); times], ..Default::default() };
        let _ = client.call(&request);
    });
    ask("Metadata", &mut |client| {
        let topic =
            metadata::MetadataRequestTopic { name: Some("__consumer_offsets".into()), ..Default::default() };
        let _ = client.call(&metadata::Request { topics: Some(vec![topic; times]), ..Default::default() });
    });
    assert!(costs.iter().all(|(_, cost)| *cost < 64), "{costs:?} MiB");
}

#[test]
fn a_thousand_connections_that_announce_much_and_send_little_cost_little() {
    let process = Process::ephemeral();
    let mut connections = Vec::new();
    let cost = cost_of(&process, || {
        for _ in 0..1_000 {
            let mut stream = TcpStream::connect(process.address).unwrap();
            stream.write_all(&[&100_000_000i32.to_be_bytes()[..], &[0, 18, 0, 3, 0]].concat()).unwrap();
            connections.push(stream);
        }
        std::thread::sleep(Duration::from_millis(100));
    });
    assert!(cost < 64 * MIB, "{} MiB", cost / MIB);
    drop(connections);
}

#[test]
fn answers_that_nobody_reads_stop_the_requests_and_not_the_broker() {
    let process = Process::ephemeral();
    let mut client = process.client();
    client.create_topic("large", 1).unwrap();
    client.produce_values("large", 0, ["x".repeat(900_000)]).unwrap();
    let topic_id = client.topic_id("large").unwrap();
    let request = fetch::Request {
        max_bytes: i32::MAX,
        session_epoch: -1,
        topics: vec![fetch::FetchTopic {
            topic_id,
            partitions: vec![fetch::FetchPartition { partition_max_bytes: i32::MAX, ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut lazy = Vec::new();
    let cost = cost_of(&process, || {
        for _ in 0..20 {
            let mut connection = process.connect();
            connection.stream().set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            let pending: Vec<_> = (0..500).map_while(|_| connection.send(&request, 16).ok()).collect();
            lazy.push((connection, pending));
        }
        std::thread::sleep(Duration::from_millis(300));
    });
    assert!(cost < 64 * MIB, "{} MiB", cost / MIB);
    // Whoever begins to read gets all the answers, in order.
    let (mut connection, pending) = lazy.pop().unwrap();
    for pending in pending.into_iter().take(50) {
        assert_eq!(connection.receive(pending).unwrap().error_code, ErrorCode::None);
    }
    connection.stream().shutdown(Shutdown::Both).unwrap();
}

#[test]
fn a_batch_that_swells_is_checked_through_a_small_window() {
    let process = Process::ephemeral();
    let mut client = process.client();
    client.create_topic("bombs", 1).unwrap();
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let zeros = vec![0; 1 << 20];
        let mut batch = BatchBuilder::new().compression(codec);
        (0..24).for_each(|_| batch.push(forge::now(), None, Some(&zeros)));
        let batch = batch.build();
        let small_enough = batch.len() < 1_000_000;
        let cost = cost_of(&process, || {
            let answer = client.produce("bombs", 0, batch, None, i16::MAX).unwrap();
            let code = if small_enough { ErrorCode::None } else { ErrorCode::MessageTooLarge };
            assert_eq!(answer.error_code, code, "{codec}");
        });
        assert!(cost < 16 * MIB, "{codec}: {} MiB", cost / MIB);
    }
}

#[test]
fn a_flood_of_connections_does_not_end_the_broker() {
    let mut command = Command::new("sh");
    let script = "ulimit -n 128; exec \"$0\" serve --ephemeral --listen 127.0.0.1:0 --set socket.listen.backlog.size=2000";
    let process = Process::spawn(command.args(["-c", script]).arg(binary()));
    let mut witness = Witness::of(process.address);
    let flood: Vec<_> = (0..200).map(|_| TcpStream::connect(process.address).unwrap()).collect();
    witness.is_served();
    drop(flood);
    eventually("there is room again", || Client::connect(process.address, "tests").is_ok());
    witness.is_served();
}

#[test]
fn connections_do_not_take_the_file_descriptors_that_segments_need() {
    let directory = temporary();
    let script = "ulimit -n 96; exec \"$0\" serve --listen 127.0.0.1:0 --data-dir \"$1\"";
    let process = Process::spawn(
        Command::new("sh").args(["-c", script]).arg(binary()).arg(directory.path().join("data")),
    );
    let mut client = process.client();
    client.set_retry_for(Duration::ZERO);
    client.create_topic("orders", 60).unwrap();
    let flood: Vec<_> = (0..200).map(|_| TcpStream::connect(process.address).unwrap()).collect();
    for round in 0..3 {
        for partition in 0..60 {
            let offset = client.produce_values("orders", partition, ["value"]).unwrap();
            assert_eq!(offset, Offset(round), "partition {partition}");
        }
        for partition in 0..60 {
            let values = client.values("orders", partition, Isolation::ReadCommitted).unwrap();
            assert_eq!(values.len() as i64, round + 1, "partition {partition}");
        }
    }
    drop(flood);
}

//! A node with its disk and its clocks, and the one client that talks to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use oncelog_inspect::{Event, Finding, Severity};
use oncelog_log::{Disk, Durability, EntryKind, FileDisk, MemoryDisk, OpenMode};
use oncelog_node::config::StaticConfig;
use oncelog_node::{Connection, Node, NodeOptions, OpenError, Reply};
use oncelog_wire::{Chunk, Now, Request, RequestHeader, Timestamp, Writer, decode_response, encode_request};

/// When worlds begin.
pub const START: Now = Now { monotonic: Duration::from_secs(1), wall: Timestamp(1_700_000_000_000) };

/// A node, its disk, and its clocks.
pub struct World {
    pub node: Node,
    pub now: Now,
    directory: PathBuf,
    memory: Option<MemoryDisk>,
    properties: StaticConfig,
    /// How often the node may still sync before the power fails.
    syncs_left: AtomicUsize,
    /// Whether an answer did not come because of that.
    is_unanswered: AtomicBool,
}

impl World {
    /// A new node in memory, with these lines of configuration.
    pub fn new(properties: &str) -> World {
        World::open(Some(MemoryDisk::new()), PathBuf::from("/data"), properties)
    }

    /// A node in a directory of the file system.
    pub fn in_directory(directory: &Path) -> World {
        World::open(None, directory.to_owned(), "")
    }

    /// A node on a disk of any kind, at a given time.
    pub fn on_disk(disk: Arc<dyn Disk>, now: Now) -> World {
        let (directory, properties) = (PathBuf::from("/data"), StaticConfig::default());
        let node = start(disk, &directory, &properties, Durability::Os, now);
        World::with(node, now, directory, None, properties)
    }

    /// Whether the last answers did not come for want of a sync.
    pub fn took_no_answer(&self) -> bool {
        self.is_unanswered.swap(false, Ordering::Relaxed)
    }

    /// Has the node sync so often and no more.
    pub fn sync_only(&self, times: usize) {
        self.syncs_left.store(times, Ordering::Relaxed);
    }

    /// A node whose data survives a power cut.
    pub fn with_journal(disk: Arc<dyn Disk>, journal_file_bytes: u64, now: Now) -> World {
        let (directory, mut properties) = (PathBuf::from("/data"), StaticConfig::default());
        let few = "transaction.state.log.num.partitions=3\noffsets.topic.num.partitions=3";
        properties.read_properties(few).unwrap();
        let durability = Durability::Fsync { journal_file_bytes };
        let node = start(disk, &directory, &properties, durability, now);
        World::with(node, now, directory, None, properties)
    }

    /// A node on a disk that may be damaged, with one partition of each internal topic.
    pub fn try_on(disk: Arc<dyn Disk>, durability: Durability, now: Now) -> Result<World, OpenError> {
        let (directory, mut properties) = (PathBuf::from("/data"), StaticConfig::default());
        let one = "transaction.state.log.num.partitions=1\noffsets.topic.num.partitions=1";
        properties.read_properties(one).unwrap();
        let node = try_start(disk, &directory, &properties, durability, now)?;
        Ok(World::with(node, now, directory, None, properties))
    }

    fn with(
        node: Node,
        now: Now,
        directory: PathBuf,
        memory: Option<MemoryDisk>,
        properties: StaticConfig,
    ) -> World {
        let (syncs_left, is_unanswered) = (AtomicUsize::new(usize::MAX), AtomicBool::new(false));
        World { node, now, directory, memory, properties, syncs_left, is_unanswered }
    }

    fn open(memory: Option<MemoryDisk>, directory: PathBuf, text: &str) -> World {
        let mut properties = StaticConfig::default();
        properties.read_properties(text).unwrap();
        let disk: Arc<dyn Disk> = match &memory {
            Some(memory) => Arc::new(memory.clone()),
            None => Arc::new(FileDisk::new()),
        };
        let node = start(disk, &directory, &properties, Durability::Os, START);
        World::with(node, START, directory, memory, properties)
    }

    /// The files in the directories whose names begin so, and their content (in memory only).
    pub fn files(&self, prefix: &str, ending: &str) -> Vec<(String, Vec<u8>)> {
        let memory = self.memory.as_ref().unwrap();
        let mut found = Vec::new();
        for directory in memory.list(&self.directory).unwrap() {
            if directory.kind != EntryKind::Directory || !directory.name.starts_with(prefix) {
                continue;
            }
            let path = self.directory.join(&directory.name);
            for entry in memory.list(&path).unwrap() {
                let EntryKind::File { length } = entry.kind else { continue };
                if entry.name.ends_with(ending) {
                    let mut content = vec![0; length as usize];
                    let file = memory.open(&path.join(&entry.name), OpenMode::Existing).unwrap();
                    file.read_at(&mut content, 0).unwrap();
                    found.push((format!("{}/{}", directory.name, entry.name), content));
                }
            }
        }
        found
    }

    /// What a check of the data finds to be wrong now, if the broker dies (in memory only).
    pub fn faults(&self) -> Vec<Finding> {
        let mut faults = Vec::new();
        let disk = self.memory.as_ref().unwrap().snapshot();
        let checked = oncelog_inspect::check(&disk, &self.directory, &mut |event| match event {
            Event::Finding(finding) if finding.severity == Severity::Fault => faults.push(finding),
            _ => {}
        });
        checked.unwrap();
        faults
    }

    /// Turns a byte of a file into another (in memory only).
    pub fn damage(&self, name: &str, position: u64) {
        let memory = self.memory.as_ref().unwrap();
        let file = memory.open(&self.directory.join(name), OpenMode::Existing).unwrap();
        let mut byte = [0];
        file.read_at(&mut byte, position).unwrap();
        file.write_at(&[byte[0] ^ 0x10], position).unwrap();
    }

    /// What another start finds after the broker was killed at this moment (in memory only).
    pub fn after_a_kill(&self) -> World {
        let memory = self.memory.as_ref().unwrap().snapshot();
        let disk = Arc::new(memory.clone());
        let node = start(disk, &self.directory, &self.properties, Durability::Os, self.now);
        World::with(node, self.now, self.directory.clone(), Some(memory), self.properties.clone())
    }

    /// The answer to a request that is answered at once.
    pub fn ask<R: Request>(&self, version: i16, request: R) -> R::Response {
        self.ask_as("", version, request)
    }

    /// The answer to a request of the client of that name.
    pub fn ask_as<R: Request>(&self, client_id: &str, version: i16, request: R) -> R::Response {
        let client_id = Some(client_id.into());
        let header = RequestHeader { api_key: R::KEY, api_version: version, correlation_id: 7, client_id };
        let frame = gather(encode_request(&header, &request, &mut Writer::new()));
        let connection = Connection {
            id: 1,
            client_host: "/127.0.0.1".into(),
            listener: "PLAINTEXT".into(),
            advertised_host: "localhost".into(),
            advertised_port: 9092,
        };
        match self.node.handle(&connection, frame.slice(4..), self.now) {
            Reply::Send(frame) => decode_response::<R>(version, gather(frame).slice(4..)).unwrap().1,
            Reply::Wait(mut wait) => {
                let answered = wait.poll(&self.node, self.now).filter(|frame| !frame.is_empty());
                let frame = answered.or_else(|| {
                    // It may wait for nothing but that.
                    let Some(left) = self.syncs_left.load(Ordering::Relaxed).checked_sub(1) else {
                        self.is_unanswered.store(true, Ordering::Relaxed);
                        return None;
                    };
                    self.syncs_left.store(left, Ordering::Relaxed);
                    self.node.sync().unwrap();
                    wait.poll(&self.node, self.now)
                });
                if self.is_unanswered.load(Ordering::Relaxed) {
                    return R::Response::default();
                }
                let frame = gather(frame.expect("the answer has to wait")).slice(4..);
                decode_response::<R>(version, frame).unwrap().1
            }
            Reply::Silent => panic!("there is no answer"),
            Reply::Close(reason) => panic!("the connection was closed: {reason}"),
        }
    }
}

fn start(
    disk: Arc<dyn Disk>,
    directory: &Path,
    properties: &StaticConfig,
    durability: Durability,
    now: Now,
) -> Node {
    try_start(disk, directory, properties, durability, now).unwrap()
}

fn try_start(
    disk: Arc<dyn Disk>,
    directory: &Path,
    properties: &StaticConfig,
    durability: Durability,
    now: Now,
) -> Result<Node, OpenError> {
    let config = properties.broker().unwrap();
    let mut seed = now.monotonic.as_nanos() as u64;
    let random = Box::new(move |bytes: &mut [u8]| {
        for byte in bytes {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (seed >> 56) as u8;
        }
    });
    let options = NodeOptions {
        properties: properties.clone(),
        config,
        disk,
        directory: directory.to_owned(),
        random,
        durability,
        progress: Box::new(|_| {}),
    };
    Node::open(options, now)
}

fn gather(chunks: Vec<Chunk>) -> Bytes {
    let mut bytes = BytesMut::new();
    for chunk in chunks {
        match chunk {
            Chunk::Bytes(more) => bytes.extend_from_slice(&more),
            Chunk::File(slice) => panic!("a file, where the answer is read in memory: {slice:?}"),
        }
    }
    bytes.freeze()
}

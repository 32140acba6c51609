//! The broker of a world: a real node on the world's disk, and direct ways to ask it things.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use oncelog_log::{Disk, Durability};
use oncelog_node::config::StaticConfig;
use oncelog_node::{Connection, Node, NodeOptions, Reply};
use oncelog_wire::{Chunk, Now, Request, RequestHeader, Writer, decode_response, encode_request};

use crate::random::Random;

/// The data directory.
pub const DIRECTORY: &str = "/data";

/// Few internal partitions, so that coordinators share them and starts are quick; small segments, so that they roll;
/// checkpoints, retention and compaction every few seconds.
const PROPERTIES: &str = "
transaction.state.log.num.partitions=2
offsets.topic.num.partitions=2
auto.create.topics.enable=false
group.min.session.timeout.ms=1000
group.initial.rebalance.delay.ms=100
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=5000
log.flush.offset.checkpoint.interval.ms=7000
transaction.state.log.segment.bytes=6000
offsets.topic.segment.bytes=6000
log.cleaner.backoff.ms=2000
";

/// What survives a power cut, with a journal so small that it is full now and then.
pub const FSYNC: Durability = Durability::Fsync { journal_file_bytes: 64 << 10 };

/// Starts a node on a disk.
///
/// # Errors
/// Where the node does not start, in its words.
pub fn start(
    disk: Arc<dyn Disk>,
    durability: Durability,
    mut random: Random,
    now: Now,
) -> Result<Node, String> {
    let mut properties = StaticConfig::default();
    properties.read_properties(PROPERTIES).map_err(|error| error.to_string())?;
    let config = properties.broker().map_err(|error| error.to_string())?;
    let fill = Box::new(move |bytes: &mut [u8]| bytes.fill_with(|| random.number() as u8));
    let directory = Path::new(DIRECTORY).to_owned();
    let options = NodeOptions {
        properties,
        config,
        disk,
        directory,
        random: fill,
        durability,
        progress: Box::new(|_| {}),
    };
    Node::open(options, now).map_err(|error| error.to_string())
}

/// What the node is told of a connection.
pub fn connection(id: u64) -> Connection {
    Connection {
        id,
        client_host: "/127.0.0.1".into(),
        listener: "PLAINTEXT".into(),
        advertised_host: "localhost".into(),
        advertised_port: 9092,
    }
}

/// The frame of a request, without its size.
pub fn frame<R: Request>(version: i16, correlation_id: i32, client_id: &str, request: &R) -> Bytes {
    let header = RequestHeader {
        api_key: R::KEY,
        api_version: version,
        correlation_id,
        client_id: Some(client_id.into()),
    };
    gather(encode_request(&header, request, &mut Writer::new()))
}

/// Asks the node past the network; `None` where it does not answer at once, or once its journal is synced.
pub fn ask<R: Request>(node: &Node, version: i16, request: &R, now: Now) -> Option<R::Response> {
    let answer = match node.handle(&connection(0), frame(version, 0, "audit", request), now) {
        Reply::Send(answer) => answer,
        Reply::Wait(mut wait) => {
            node.sync().ok()?;
            wait.poll(node, now).filter(|frame| !frame.is_empty())?
        }
        _ => return None,
    };
    decode_response::<R>(version, gather(answer)).ok().map(|(_, answer)| answer)
}

/// The bytes of a frame behind its size.
///
/// # Panics
/// Where the frame has a range of a file; the disk of a world has none.
pub fn gather(chunks: Vec<Chunk>) -> Bytes {
    let mut bytes = BytesMut::new();
    for chunk in chunks {
        match chunk {
            Chunk::Bytes(more) => bytes.extend_from_slice(&more),
            Chunk::File(slice) => panic!("a file, where all is in memory: {slice:?}"),
        }
    }
    bytes.freeze().split_off(4)
}

//! A node without sockets, and one client that talks to it in frames: what benchmarks measure.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use oncelog_log::{Disk, Durability, MemoryDisk};
use oncelog_node::config::StaticConfig;
use oncelog_node::{Connection, Frame, Node, NodeOptions, Reply};
use oncelog_records::BatchBuilder;
use oncelog_wire::{
    Chunk, ErrorCode, Now, Offset, ProducerEpoch, ProducerId, Records, Request, RequestHeader, Str,
    Timestamp, Writer, create_topics, decode_response, encode_request, end_txn, fetch, init_producer_id,
    metadata, produce,
};

/// The topic of all benchmarks.
const TOPIC: Str = Str::from_static("orders");

/// The transactional id of all benchmarks.
const TRANSACTIONAL_ID: Str = Str::from_static("pay");

/// A node on a disk, and the connection of its one client.
pub struct World {
    node: Node,
    connection: Connection,
    now: Now,
}

/// A producer of transactions, as far as the broker has told it who it is.
pub struct Producer {
    id: ProducerId,
    epoch: ProducerEpoch,
}

impl World {
    /// A node in memory with a topic of so many partitions.
    pub fn in_memory(partitions: i32) -> World {
        World::on(Arc::new(MemoryDisk::new()), PathBuf::from("/data"), partitions)
    }

    /// A node on that disk with a topic of so many partitions.
    pub fn on(disk: Arc<dyn Disk>, directory: PathBuf, partitions: i32) -> World {
        let now = Now { monotonic: Duration::from_secs(1), wall: Timestamp(1_700_000_000_000) };
        let properties = StaticConfig::default();
        let config = properties.broker().expect("the defaults fit together");
        let mut seed = 1_u64;
        let random = Box::new(move |bytes: &mut [u8]| {
            for byte in bytes {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (seed >> 56) as u8;
            }
        });
        let node = Node::open(
            NodeOptions {
                properties,
                config,
                disk,
                directory,
                random,
                durability: Durability::Os,
                progress: Box::new(|_| {}),
            },
            now,
        )
        .expect("an empty disk can be opened");
        let connection = Connection {
            id: 1,
            client_host: "/127.0.0.1".into(),
            listener: "PLAINTEXT".into(),
            advertised_host: "localhost".into(),
            advertised_port: 9092,
        };
        let world = World { node, connection, now };
        let topic = create_topics::CreatableTopic {
            name: TOPIC,
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let created = world.ask(7, &create_topics::Request { topics: vec![topic], ..Default::default() });
        assert_eq!(created.topics[0].error_code, ErrorCode::None);
        world
    }

    /// The answer to a request that is answered at once.
    ///
    /// # Panics
    /// Where there is none.
    pub fn ask<R: Request>(&self, version: i16, request: &R) -> R::Response {
        self.answer::<R>(version, &request_frame(version, request))
    }

    /// The answer to a frame that was encoded before.
    ///
    /// # Panics
    /// Where there is none.
    pub fn answer<R: Request>(&self, version: i16, frame: &Bytes) -> R::Response {
        let Reply::Send(frame) = self.node.handle(&self.connection, frame.clone(), self.now) else {
            panic!("the request is not answered at once");
        };
        decode_response::<R>(version, gather(frame).slice(4..)).expect("the broker's frames can be read").1
    }

    /// Who the producer of the transactions is.
    pub fn init_producer(&self) -> Producer {
        let request = init_producer_id::Request {
            transactional_id: Some(TRANSACTIONAL_ID),
            transaction_timeout_ms: 60_000,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            ..Default::default()
        };
        let given = self.ask(5, &request);
        assert_eq!(given.error_code, ErrorCode::None);
        Producer { id: given.producer_id, epoch: given.producer_epoch }
    }

    /// One transaction of one 100-byte record in each of the first partitions, committed.
    pub fn commit_one(&self, producer: &mut Producer, partitions: i32) {
        let mut batch = BatchBuilder::new().producer(producer.id, producer.epoch, 0).transactional();
        batch.push(self.now.wall, None, Some(&[b'x'; 100]));
        let records = Records::Bytes(batch.build());
        let data = (0..partitions)
            .map(|index| produce::PartitionProduceData { index, records: Some(records.clone()) })
            .collect();
        let topic = produce::TopicProduceData { name: TOPIC, partition_data: data, ..Default::default() };
        let request = produce::Request {
            transactional_id: Some(TRANSACTIONAL_ID),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![topic],
        };
        let produced = self.ask(12, &request);
        let answers = &produced.responses[0].partition_responses;
        assert!(answers.iter().all(|partition| partition.error_code == ErrorCode::None));
        let ended = self.ask(
            5,
            &end_txn::Request {
                transactional_id: TRANSACTIONAL_ID,
                producer_id: producer.id,
                producer_epoch: producer.epoch,
                committed: true,
            },
        );
        assert_eq!(ended.error_code, ErrorCode::None);
        *producer = Producer { id: ended.producer_id, epoch: ended.producer_epoch };
    }

    /// The frame of a read_committed fetch of some 10 KB from the start of partition 0.
    pub fn fetch_frame(&self) -> Bytes {
        let request = metadata::Request {
            topics: Some(vec![metadata::MetadataRequestTopic { name: Some(TOPIC), ..Default::default() }]),
            ..Default::default()
        };
        let topic_id = self.ask(12, &request).topics[0].topic_id;
        let partition = fetch::FetchPartition {
            partition: 0,
            fetch_offset: Offset::ZERO,
            partition_max_bytes: 10_000,
            ..Default::default()
        };
        let topic = fetch::FetchTopic { topic_id, partitions: vec![partition], ..Default::default() };
        request_frame(
            FETCH_VERSION,
            &fetch::Request {
                max_wait_ms: 0,
                min_bytes: 1,
                isolation_level: 1,
                session_epoch: -1,
                topics: vec![topic],
                ..Default::default()
            },
        )
    }

    /// Fetches with a frame of [`World::fetch_frame`]; gives the bytes of the records.
    pub fn fetch(&self, frame: &Bytes) -> usize {
        let fetched = self.answer::<fetch::Request>(FETCH_VERSION, frame);
        fetched.responses[0].partitions[0].records.as_ref().map_or(0, Records::len)
    }
}

const FETCH_VERSION: i16 = 17;

/// A request as it arrives, without its size prefix.
pub fn request_frame<R: Request>(version: i16, request: &R) -> Bytes {
    let header = RequestHeader {
        api_key: R::KEY,
        api_version: version,
        correlation_id: 7,
        client_id: Some(Str::from_static("bench")),
    };
    gather(encode_request(&header, request, &mut Writer::new())).slice(4..)
}

fn gather(mut chunks: Frame) -> Bytes {
    if let [Chunk::Bytes(only)] = chunks.as_mut_slice() {
        return std::mem::take(only);
    }
    let mut bytes = BytesMut::new();
    for chunk in chunks {
        let Chunk::Bytes(more) = chunk else {
            panic!("a range of a file, where the answer is read in memory")
        };
        bytes.extend_from_slice(&more);
    }
    bytes.freeze()
}

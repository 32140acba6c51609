//! A stand-in for a broker that answers producers from a table: `floor PORT`.
//!
//! It has no log and no transactions, just the names of topics and a counter of producer ids. What clients reach with
//! it is their own limit on this machine, so `benches/compare/run` measures it beside the brokers. It serves what
//! producers and those who create topics ask for; consumers find nothing here.

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use oncelog_wire::{
    ApiKey, Chunk, DecodeError, ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Reader, Request,
    RequestHeader, Str, Uuid, Writer, api_versions, create_topics, encode_response, end_txn,
    find_coordinator, init_producer_id, metadata, produce,
};

const NODE_ID: i32 = 1;
const HOST: Str = Str::from_static("127.0.0.1");

const SERVED: [ApiKey; 7] = [
    ApiKey::Produce,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::InitProducerId,
    ApiKey::EndTxn,
];

struct Table {
    port: i32,
    /// Names and numbers of partitions; the place of a topic is its id.
    topics: Mutex<Vec<(Str, i32)>>,
    producers: AtomicI64,
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok());
    let port = port.ok_or_else(|| io::Error::other("usage: floor PORT"))?;
    let table: &Table = Box::leak(Box::new(Table {
        port: i32::from(port),
        topics: Mutex::new(Vec::new()),
        producers: AtomicI64::new(0),
    }));
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let stream = stream?;
        std::thread::spawn(move || table.serve(stream));
    }
    Ok(())
}

impl Table {
    /// Answers one client until it goes.
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut requests = BufReader::new(stream.try_clone()?);
        let mut writer = Writer::new();
        loop {
            let mut size = [0; 4];
            requests.read_exact(&mut size)?;
            let mut frame = vec![0; u32::from_be_bytes(size) as usize];
            requests.read_exact(&mut frame)?;
            for chunk in self.answer(frame.into(), &mut writer).map_err(io::Error::other)? {
                let Chunk::Bytes(bytes) = chunk else { unreachable!("there are no files") };
                stream.write_all(&bytes)?;
            }
        }
    }

    fn answer(&self, frame: Bytes, writer: &mut Writer) -> Result<Vec<Chunk>, DecodeError> {
        let mut reader = Reader::new(frame);
        let header = RequestHeader::decode(&mut reader)?;
        let call = Call { header: &header, reader, writer };
        match header.api_key {
            ApiKey::Produce => call.with(produced),
            ApiKey::EndTxn => call.with(|request| self.ended(request)),
            ApiKey::InitProducerId => call.with(|_: init_producer_id::Request| init_producer_id::Response {
                producer_id: self.new_producer_id(),
                producer_epoch: ProducerEpoch(0),
                ..Default::default()
            }),
            ApiKey::FindCoordinator => call.with(|request| self.coordinators(request)),
            ApiKey::Metadata => call.with(|request| self.metadata(request)),
            ApiKey::CreateTopics => call.with(|request| self.created(request)),
            _ => call.with(|_: api_versions::Request| versions()),
        }
    }

    fn new_producer_id(&self) -> ProducerId {
        ProducerId(self.producers.fetch_add(1, Ordering::Relaxed))
    }

    fn ended(&self, request: end_txn::Request) -> end_txn::Response {
        let (producer_id, producer_epoch) = match request.producer_epoch.is_exhausted() {
            true => (self.new_producer_id(), ProducerEpoch(0)),
            false => (request.producer_id, request.producer_epoch.next()),
        };
        end_txn::Response { producer_id, producer_epoch, ..Default::default() }
    }

    fn coordinators(&self, request: find_coordinator::Request) -> find_coordinator::Response {
        let coordinator = |key| find_coordinator::Coordinator {
            key,
            node_id: NODE_ID,
            host: HOST,
            port: self.port,
            ..Default::default()
        };
        find_coordinator::Response {
            node_id: NODE_ID,
            host: HOST,
            port: self.port,
            coordinators: request.coordinator_keys.into_iter().map(coordinator).collect(),
            ..Default::default()
        }
    }

    fn metadata(&self, request: metadata::Request) -> metadata::Response {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let names = request.topics.unwrap_or_default().into_iter().filter_map(|topic| topic.name);
        let described = names.map(|name| match topics.iter().position(|(known, _)| *known == name) {
            None => metadata::MetadataResponseTopic {
                error_code: ErrorCode::UnknownTopicOrPartition,
                name: Some(name),
                ..Default::default()
            },
            Some(place) => metadata::MetadataResponseTopic {
                name: Some(name),
                topic_id: Uuid([place as u8 + 1; 16]),
                partitions: (0..topics[place].1).map(partition).collect(),
                ..Default::default()
            },
        });
        let broker = metadata::MetadataResponseBroker {
            node_id: NODE_ID,
            host: HOST,
            port: self.port,
            ..Default::default()
        };
        metadata::Response {
            brokers: vec![broker],
            controller_id: NODE_ID,
            topics: described.collect(),
            ..Default::default()
        }
    }

    fn created(&self, request: create_topics::Request) -> create_topics::Response {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let create = |topic: create_topics::CreatableTopic| {
            topics.push((topic.name.detached(), topic.num_partitions));
            create_topics::CreatableTopicResult { name: topic.name, ..Default::default() }
        };
        create_topics::Response {
            topics: request.topics.into_iter().map(create).collect(),
            ..Default::default()
        }
    }
}

/// A request, and where its answer goes.
struct Call<'a> {
    header: &'a RequestHeader,
    reader: Reader,
    writer: &'a mut Writer,
}

impl Call<'_> {
    fn with<R: Request>(mut self, answer: impl FnOnce(R) -> R::Response) -> Result<Vec<Chunk>, DecodeError> {
        let version = self.header.api_version;
        let response = answer(R::decode(&mut self.reader, version)?);
        Ok(encode_response::<R>(version, self.header.correlation_id, &response, self.writer))
    }
}

fn produced(request: produce::Request) -> produce::Response {
    let written = |data: produce::PartitionProduceData| produce::PartitionProduceResponse {
        index: data.index,
        base_offset: Offset::ZERO,
        ..Default::default()
    };
    let responses = request.topic_data.into_iter().map(|topic| produce::TopicProduceResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partition_responses: topic.partition_data.into_iter().map(written).collect(),
    });
    produce::Response { responses: responses.collect(), ..Default::default() }
}

fn partition(index: i32) -> metadata::MetadataResponsePartition {
    metadata::MetadataResponsePartition {
        partition_index: index,
        leader_id: NODE_ID,
        leader_epoch: LeaderEpoch(0),
        replica_nodes: vec![NODE_ID],
        isr_nodes: vec![NODE_ID],
        ..Default::default()
    }
}

/// What a broker of Kafka 4 says of producers: with transactions of version 2.
fn versions() -> api_versions::Response {
    let name = Str::from_static("transaction.version");
    api_versions::Response {
        api_keys: SERVED
            .iter()
            .map(|api| api_versions::ApiVersion {
                api_key: api.code(),
                min_version: *api.versions().start(),
                max_version: *api.versions().end(),
            })
            .collect(),
        supported_features: vec![api_versions::SupportedFeatureKey {
            name: name.clone(),
            min_version: 0,
            max_version: 2,
        }],
        finalized_features_epoch: 1,
        finalized_features: vec![api_versions::FinalizedFeatureKey {
            name,
            max_version_level: 2,
            min_version_level: 2,
        }],
        ..Default::default()
    }
}

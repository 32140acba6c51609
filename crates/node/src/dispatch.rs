//! From a frame to a reply: header, version, decoding, the handler, encoding. Done here once for all APIs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncelog_wire::{
    ApiKey, DecodeError, Now, Reader, Request, RequestHeader, Str, Writer, api_versions, encode_response,
};

use crate::Node;
use crate::api;
use crate::context::{Connection, Context};
use crate::reply::{Answer, Frame, Later, Reply, Signal, Wait};

/// The versions of one API that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiRange {
    /// The API.
    pub key: ApiKey,
    /// The oldest version served.
    pub min: i16,
    /// The newest version served.
    pub max: i16,
}

macro_rules! dispatched {
    ($($key:ident $handler:ident $min:literal ..= $max:literal,)*) => {
        /// Every API that is served. What is not here is not advertised either.
        pub const SERVED: &[ApiRange] =
            &[$(ApiRange { key: ApiKey::$key, min: $min, max: $max },)*];

        fn run(node: &Node, context: &Context<'_>, head: Head, body: &mut Reader) -> Result<Reply, DecodeError> {
            match head.key {
                $(ApiKey::$key => serve(node, context, head, body, api::$handler::handle),)*
                key => Ok(close(format!("{key} is not served"))),
            }
        }
    };
}

dispatched! {
    Produce produce 3..=13,
    Fetch fetch 4..=18,
    ListOffsets list_offsets 1..=11,
    Metadata metadata 0..=13,
    OffsetCommit offset_commit 2..=10,
    OffsetFetch offset_fetch 1..=10,
    FindCoordinator find_coordinator 0..=6,
    JoinGroup join_group 0..=9,
    Heartbeat heartbeat 0..=4,
    LeaveGroup leave_group 0..=5,
    SyncGroup sync_group 0..=5,
    DescribeGroups describe_groups 0..=6,
    ListGroups list_groups 0..=5,
    ApiVersions api_versions 0..=4,
    CreateTopics create_topics 2..=7,
    DeleteTopics delete_topics 1..=6,
    DeleteRecords delete_records 0..=2,
    InitProducerId init_producer_id 0..=5,
    OffsetForLeaderEpoch offset_for_leader_epoch 2..=4,
    AddPartitionsToTxn add_partitions_to_txn 0..=5,
    AddOffsetsToTxn add_offsets_to_txn 0..=4,
    EndTxn end_txn 0..=5,
    WriteTxnMarkers write_txn_markers 1..=2,
    TxnOffsetCommit txn_offset_commit 0..=5,
    DescribeConfigs describe_configs 1..=4,
    AlterConfigs alter_configs 0..=2,
    CreatePartitions create_partitions 0..=3,
    DeleteGroups delete_groups 0..=2,
    IncrementalAlterConfigs incremental_alter_configs 0..=1,
    OffsetDelete offset_delete 0..=0,
    DescribeCluster describe_cluster 0..=2,
    DescribeProducers describe_producers 0..=0,
    DescribeTransactions describe_transactions 0..=0,
    ListTransactions list_transactions 0..=2,
    ListConfigResources list_config_resources 0..=1,
    DescribeTopicPartitions describe_topic_partitions 0..=0,
}

/// What of the header the answer needs.
#[derive(Clone, Copy)]
struct Head {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
}

/// Takes up one request frame (without its size prefix).
pub(crate) fn handle(node: &Node, connection: &Connection, frame: Bytes, now: Now) -> Reply {
    let mut reader = Reader::new(frame);
    let header = match RequestHeader::decode(&mut reader) {
        Ok(header) => header,
        Err(error) => return close(format!("a request header cannot be read: {error}")),
    };
    let key = header.api_key;
    let head = Head { key, version: header.api_version, correlation_id: header.correlation_id };
    if !SERVED.iter().any(|api| api.key == key && (api.min..=api.max).contains(&head.version)) {
        if key == ApiKey::ApiVersions {
            let response = api::api_versions::unsupported_version();
            let head = Head { version: 0, ..head };
            return Reply::Send(head.encode::<api_versions::Request>(&response));
        }
        return close(format!("{key} is not served in version {}", head.version));
    }
    let client_id = header.client_id.unwrap_or(Str::EMPTY);
    let context = Context { connection, api_version: head.version, client_id, now };
    match run(node, &context, head, &mut reader) {
        Ok(reply) => reply,
        Err(error) => close(format!("a {key} request of version {} cannot be read: {error}", head.version)),
    }
}

fn close(reason: String) -> Reply {
    Reply::Close(reason.into())
}

fn serve<R: Request + 'static>(
    node: &Node,
    context: &Context<'_>,
    head: Head,
    body: &mut Reader,
    handler: fn(&Node, &Context<'_>, R) -> Answer<R::Response>,
) -> Result<Reply, DecodeError>
where
    R::Response: 'static,
{
    let request = R::decode(body, head.version)?;
    Ok(match handler(node, context, request) {
        Answer::Now(response) => Reply::Send(head.encode::<R>(&response)),
        Answer::Later(later) => Reply::Wait(Box::new(Encoded::<R> { head, later })),
        Answer::Silent => Reply::Silent,
        Answer::Close(reason) => Reply::Close(reason.into()),
    })
}

impl Head {
    fn encode<R: Request>(self, response: &R::Response) -> Frame {
        encode_response::<R>(self.version, self.correlation_id, response, &mut Writer::new())
    }
}

/// A typed answer in waiting that will be encoded.
struct Encoded<R: Request> {
    head: Head,
    later: Box<dyn Later<R::Response>>,
}

impl<R: Request> Wait for Encoded<R> {
    fn signal(&self) -> &Arc<Signal> {
        self.later.signal()
    }

    fn deadline(&self) -> Option<Duration> {
        self.later.deadline()
    }

    fn poll(&mut self, node: &Node, now: Now) -> Option<Frame> {
        self.later.poll(node, now).map(|response| self.head.encode::<R>(&response))
    }
}

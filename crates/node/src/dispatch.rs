//! From a frame to a reply: header, version, decoding, the handler, encoding. Done here once for all APIs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncelog_wire::{
    ApiKey, DecodeError, ErrorCode, Now, Reader, Request, RequestHeader, Str, Writer, api_versions,
    encode_response, produce,
};

use crate::Node;
use crate::api;
use crate::context::{Connection, Context};
use crate::reply::{Answer, Frame, Later, Reply, Signal, Wait};
use crate::syncs::Progress;

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
    let reply = run(node, &context, head, &mut reader);
    if let Some(syncs) = &node.syncs {
        syncs.announce();
    }
    match reply {
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
    R::Response: Send + 'static,
{
    let request = R::decode(body, head.version)?;
    let is_overloaded = || node.syncs.as_ref().is_some_and(|syncs| syncs.is_overloaded());
    Ok(match handler(node, context, request) {
        Answer::Now(response) => when_synced::<R>(node, head, Some(response)),
        Answer::Early(response) if is_overloaded() => when_synced::<R>(node, head, Some(response)),
        Answer::Early(response) => Reply::Send(head.encode::<R>(&response)),
        Answer::Later(later) => Reply::Wait(Box::new(Encoded::<R> {
            head,
            signal: later.signal().clone(),
            stage: Stage::Coming(later),
        })),
        Answer::Silent if is_overloaded() => when_synced::<R>(node, head, None),
        Answer::Silent => Reply::Silent,
        Answer::Close(reason) => Reply::Close(reason.into()),
    })
}

/// Whether answers show nothing that is not synced: what was read below a watermark, or nothing of the kind.
fn shows_only_what_is_synced(key: ApiKey) -> bool {
    matches!(key, ApiKey::Fetch | ApiKey::ListOffsets | ApiKey::ApiVersions)
}

/// Sends an answer, or nothing where there is none, once all is synced that had been appended when it was made.
fn when_synced<R: Request + 'static>(node: &Node, head: Head, response: Option<R::Response>) -> Reply
where
    R::Response: Send + 'static,
{
    let position = position(node, head.key);
    let is_synced = node.syncs.as_ref().is_none_or(|syncs| syncs.progress(position) == Progress::Synced);
    match response {
        Some(response) if is_synced => Reply::Send(head.encode::<R>(&response)),
        None if is_synced => Reply::Silent,
        response => {
            let stage = Stage::Unsynced { response, position, is_registered: false };
            Reply::Wait(Box::new(Encoded::<R> { head, signal: Arc::default(), stage }))
        }
    }
}

/// What has to be synced before an answer leaves that is made now.
fn position(node: &Node, key: ApiKey) -> u64 {
    match &node.syncs {
        Some(syncs) if !shows_only_what_is_synced(key) => syncs.journal().appended(),
        _ => 0,
    }
}

impl Head {
    fn encode<R: Request>(self, response: &R::Response) -> Frame {
        encode_response::<R>(self.version, self.correlation_id, response, &mut Writer::new())
    }
}

/// A typed answer in waiting that will be encoded.
struct Encoded<R: Request> {
    head: Head,
    signal: Arc<Signal>,
    stage: Stage<R::Response>,
}

/// What an answer waits for.
enum Stage<R> {
    /// That there is one.
    Coming(Box<dyn Later<R>>),
    /// That all is synced that it may speak of.
    Unsynced { response: Option<R>, position: u64, is_registered: bool },
}

impl<R: Request> Wait for Encoded<R>
where
    R::Response: Send + 'static,
{
    fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    fn deadline(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Coming(later) => later.deadline(),
            Stage::Unsynced { .. } => None,
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Unsynced { .. })
    }

    fn poll(&mut self, node: &Node, now: Now) -> Option<Frame> {
        if let Stage::Coming(later) = &mut self.stage {
            let response = Some(later.poll(node, now)?);
            let position = position(node, self.head.key);
            self.stage = Stage::Unsynced { response, position, is_registered: false };
        }
        let Stage::Unsynced { response, position, is_registered } = &mut self.stage else { return None };
        let progress = node.syncs.as_ref().map_or(Progress::Synced, |syncs| syncs.progress(*position));
        match (progress, &node.syncs) {
            (Progress::Waiting, Some(syncs)) => {
                if !std::mem::replace(is_registered, true) {
                    syncs.wake_at(*position, &self.signal);
                }
                return None;
            }
            (Progress::Failed, _) if !refuse_for_storage(response) => *response = None,
            _ => {}
        }
        // Where there is nothing to be said the client finds that its connection ends.
        Some(response.take().map_or_else(Frame::new, |response| self.head.encode::<R>(&response)))
    }
}

/// Turns an answer into one that says that the storage has failed, if it is one that can.
fn refuse_for_storage<T: 'static>(response: &mut Option<T>) -> bool {
    let response: Option<&mut dyn std::any::Any> = response.as_mut().map(|response| response as _);
    match response.and_then(|response| response.downcast_mut::<produce::Response>()) {
        Some(response) => {
            api::produce::refuse(response, ErrorCode::KafkaStorageError);
            true
        }
        None => false,
    }
}

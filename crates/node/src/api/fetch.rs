//! Fetch: records from many partitions at once, now or when there are enough of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncelog_log::{Isolation, ReadSpec};
use oncelog_wire::fetch::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData, Request, Response,
};
use oncelog_wire::{ErrorCode, LeaderEpoch, Now, Offset, Records};

use crate::Node;
use crate::context::Context;
use crate::fetch_session::{FetchKey, FetchState, Plan};
use crate::partition::{Partition, State};
use crate::reply::{Answer, Later, Signal};

pub(crate) fn handle(node: &Node, context: &Context<'_>, request: Request) -> Answer<Response> {
    let plan = match node.fetch_sessions.begin(&request, context.api_version, context.now.monotonic) {
        Ok(plan) => plan,
        Err(error_code) => return Response { error_code, ..Response::default() }.into(),
    };
    let most_bytes = node.config.fetch_max_bytes.min(request.max_bytes).max(0);
    let replica_id =
        if context.api_version >= 15 { request.replica_state.replica_id } else { request.replica_id };
    let mut fetch = Fetch {
        plan: Some(plan),
        api_version: context.api_version,
        is_follower: replica_id >= 0,
        isolation: if request.isolation_level == 1 {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        },
        most_bytes: most_bytes as usize,
        least_bytes: request.min_bytes.min(most_bytes) as i64,
        deadline: context.now.monotonic + Duration::from_millis(request.max_wait_ms.max(0) as u64),
        leader_host: context.connection.advertised_host.clone(),
        leader_port: context.connection.advertised_port,
        signal: Arc::default(),
        parked: Vec::new(),
    };
    match fetch.poll(node, context.now) {
        Some(response) => response.into(),
        None => Answer::Later(Box::new(fetch)),
    }
}

/// A fetch from its request to its answer.
struct Fetch {
    /// Taken when the answer is made.
    plan: Option<Plan>,
    api_version: i16,
    is_follower: bool,
    isolation: Isolation,
    most_bytes: usize,
    least_bytes: i64,
    deadline: Duration,
    leader_host: oncelog_wire::Str,
    leader_port: i32,
    signal: Arc<Signal>,
    /// The partitions whose progress fires the signal.
    parked: Vec<Arc<Partition>>,
}

/// What reading all partitions once gave.
struct Round {
    data: Vec<PartitionData>,
    bytes: usize,
    /// Something must be told at once: an error, or a log that has diverged.
    is_urgent: bool,
    /// Each partition that was read, and the watermark it was read up to.
    seen: Vec<(Arc<Partition>, Offset)>,
}

impl Later<Response> for Fetch {
    fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    fn deadline(&self) -> Option<Duration> {
        Some(self.deadline)
    }

    fn poll(&mut self, node: &Node, now: Now) -> Option<Response> {
        self.unpark();
        let plan = self.plan.as_ref()?;
        let round = self.read_all(node, plan);
        let is_due = now.monotonic >= self.deadline
            || round.is_urgent
            || plan.wanted.is_empty()
            || round.bytes as i64 >= self.least_bytes;
        if is_due {
            return Some(self.answer(node, round.data, now));
        }
        for (partition, seen) in round.seen {
            partition.lock().wake_above(&self.signal, self.isolation, seen);
            self.parked.push(partition);
        }
        None
    }
}

impl Fetch {
    fn unpark(&mut self) {
        for partition in self.parked.drain(..) {
            partition.lock().forget(&self.signal);
        }
    }

    fn read_all(&self, node: &Node, plan: &Plan) -> Round {
        let count = plan.wanted.len();
        let mut round = Round {
            data: Vec::with_capacity(count),
            bytes: 0,
            is_urgent: false,
            seen: Vec::with_capacity(count),
        };
        for (key, wanted) in &plan.wanted {
            let data = match self.find(node, key) {
                Ok(partition) => {
                    let mut state = partition.lock();
                    let data = self.read(&mut state, wanted, round.bytes);
                    let seen = state.watermark(self.isolation);
                    drop(state);
                    round.seen.push((partition, seen));
                    // Kafka has an empty list where there is no such partition, and none where it cannot be read.
                    data.unwrap_or_else(|error_code| PartitionData {
                        aborted_transactions: None,
                        ..self.failed(node, error_code)
                    })
                }
                Err(error_code) => self.failed(node, error_code),
            };
            round.is_urgent |=
                data.error_code.is_error() || data.diverging_epoch != EpochEndOffset::default();
            round.bytes += data.records.as_ref().map_or(0, Records::len);
            round.data.push(PartitionData { partition_index: key.partition, ..data });
        }
        round
    }

    fn find(&self, node: &Node, key: &FetchKey) -> Result<Arc<Partition>, ErrorCode> {
        let (topic, unknown) = match self.api_version >= 13 {
            true => (node.topics.by_id(key.topic_id), ErrorCode::UnknownTopicId),
            false => (node.topics.by_name(&key.topic), ErrorCode::UnknownTopicOrPartition),
        };
        topic.ok_or(unknown)?.partition(key.partition).ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    fn read(
        &self,
        state: &mut State,
        wanted: &FetchState,
        bytes_before: usize,
    ) -> Result<PartitionData, ErrorCode> {
        state.check_leader_epoch(wanted.current_leader_epoch)?;
        if self.is_follower {
            // There are no followers: what calls itself one is not among the replicas.
            return Err(match wanted.current_leader_epoch {
                LeaderEpoch::NONE => ErrorCode::NotLeaderOrFollower,
                _ => ErrorCode::UnknownLeaderEpoch,
            });
        }
        if let Some(diverging_epoch) = diverging_epoch(state, wanted)? {
            return Ok(PartitionData {
                diverging_epoch,
                high_watermark: state.log.high_watermark(),
                last_stable_offset: state.log.last_stable_offset(),
                log_start_offset: state.log.log_start_offset(),
                aborted_transactions: None,
                records: Some(Records::Bytes(Bytes::new())),
                ..PartitionData::default()
            });
        }
        let left = self.most_bytes.saturating_sub(bytes_before);
        let spec = ReadSpec {
            offset: wanted.offset,
            max_bytes: left.min(wanted.max_bytes.max(0) as usize) as u32,
            at_least_one_batch: bytes_before == 0,
            isolation: self.isolation,
        };
        let read = state.log.read(&spec).map_err(|error| error.code())?;
        Ok(PartitionData {
            high_watermark: read.high_watermark,
            last_stable_offset: read.last_stable_offset,
            log_start_offset: read.log_start_offset,
            aborted_transactions: read.aborted.map(|aborted| {
                let entry = |transaction: oncelog_log::AbortedTransaction| AbortedTransaction {
                    producer_id: transaction.producer_id,
                    first_offset: transaction.first_offset,
                };
                aborted.into_iter().map(entry).collect()
            }),
            records: Some(read.records),
            ..PartitionData::default()
        })
    }

    /// What is said of a partition that cannot be read.
    fn failed(&self, node: &Node, error_code: ErrorCode) -> PartitionData {
        let current_leader = match error_code {
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch => {
                LeaderIdAndEpoch { leader_id: node.id, leader_epoch: LeaderEpoch(0) }
            }
            _ => LeaderIdAndEpoch::default(),
        };
        PartitionData {
            error_code,
            high_watermark: Offset::NONE,
            last_stable_offset: Offset::NONE,
            log_start_offset: Offset::NONE,
            current_leader,
            records: Some(Records::Bytes(Bytes::new())),
            ..PartitionData::default()
        }
    }

    fn answer(&mut self, node: &Node, data: Vec<PartitionData>, now: Now) -> Response {
        let mut plan = self.plan.take().expect("a fetch is answered once");
        let is_incremental = plan.is_incremental();
        let mut responses: Vec<FetchableTopicResponse> = Vec::new();
        let mut served = Vec::new();
        let mut names_a_leader = false;
        for ((key, wanted), data) in plan.wanted.iter_mut().zip(data) {
            let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
            let is_news = wanted.tell(data.error_code, data.high_watermark, data.log_start_offset);
            let has_diverged = data.diverging_epoch != EpochEndOffset::default();
            if has_records {
                served.push(key.clone());
            }
            if is_incremental && !(has_records || is_news || has_diverged) {
                continue;
            }
            names_a_leader |= data.current_leader != LeaderIdAndEpoch::default();
            match responses.last_mut() {
                Some(last) if last.topic == key.topic && last.topic_id == key.topic_id => {
                    last.partitions.push(data)
                }
                _ => responses.push(FetchableTopicResponse {
                    topic: key.topic.clone(),
                    topic_id: key.topic_id,
                    partitions: vec![data],
                }),
            }
        }
        // Who was served goes to the end of the line, so that a busy partition does not starve the rest.
        if is_incremental && served.len() < plan.wanted.len() {
            for key in served {
                if let Some((key, wanted)) = plan.wanted.shift_remove_entry(&key) {
                    plan.wanted.insert(key, wanted);
                }
            }
        }
        let session_id = node.fetch_sessions.finish(plan, now.monotonic, || node.random_i32());
        let node_endpoints = match names_a_leader {
            true => vec![NodeEndpoint {
                node_id: node.id,
                host: self.leader_host.clone(),
                port: self.leader_port,
                ..NodeEndpoint::default()
            }],
            false => Vec::new(),
        };
        Response { session_id, responses, node_endpoints, ..Response::default() }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.unpark();
        if let Some(plan) = self.plan.take() {
            plan.abandon();
        }
    }
}

/// Where the consumer's log and ours part, if the epoch of its last record says that they do (KIP-595).
fn diverging_epoch(state: &State, wanted: &FetchState) -> Result<Option<EpochEndOffset>, ErrorCode> {
    if wanted.last_fetched_epoch == LeaderEpoch::NONE {
        return Ok(None);
    }
    let end = state.log.offset_for_leader_epoch(wanted.last_fetched_epoch);
    if end.leader_epoch == LeaderEpoch::NONE || end.end_offset == Offset::NONE {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let has_diverged = end.leader_epoch < wanted.last_fetched_epoch || end.end_offset < wanted.offset;
    Ok(has_diverged.then_some(EpochEndOffset { epoch: end.leader_epoch, end_offset: end.end_offset }))
}

//! Fetch sessions (KIP-227): what a consumer fetches is remembered, so that it need send, and is answered,
//! just what changed.
//!
//! A session belongs to one consumer, which has one request under way at a time; the cache is bounded, and a
//! consumer without a session is served all the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use oncelog_wire::fetch::{ForgottenTopic, Request};
use oncelog_wire::{ErrorCode, LeaderEpoch, Offset, Str, Uuid};
use parking_lot::Mutex;

/// A session nobody used for this long gives way to any other (Kafka's `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTION_AGE: Duration = Duration::from_secs(120);

/// The epoch of a request that opens a session, or does without.
const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that ends a session and opens none.
const FINAL_EPOCH: i32 = -1;

/// Names a partition as requests of the session do: by the topic's id, or, before version 13, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FetchKey {
    /// The topic's name; empty where the id counts.
    pub topic: Str,
    /// The topic's id; zero where the name counts.
    pub topic_id: Uuid,
    /// The partition's index.
    pub partition: i32,
}

/// What a consumer wants of a partition, and what it was last told about it.
#[derive(Clone, Debug)]
pub struct FetchState {
    /// The first offset wanted.
    pub offset: Offset,
    /// The most bytes wanted of this partition.
    pub max_bytes: i32,
    /// The leader epoch the consumer believes in.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record it has.
    pub last_fetched_epoch: LeaderEpoch,
    told_high_watermark: Offset,
    told_log_start_offset: Offset,
}

/// The partitions of a request or a session, in the order they are read.
pub type Wanted = IndexMap<FetchKey, FetchState>;

/// What one request fetches, and the session it does so in.
pub struct Plan {
    /// The partitions to read, in order.
    pub wanted: Wanted,
    session: Attachment,
}

enum Attachment {
    /// No session is wanted.
    None,
    /// A session is opened with the answer, if there is room.
    Open { uses_topic_ids: bool },
    /// The request continues a session; its partitions are on loan to the plan until the answer.
    Incremental(Arc<Mutex<Session>>),
}

struct Session {
    id: i32,
    /// The epoch that the next request has to carry.
    next_epoch: i32,
    uses_topic_ids: bool,
    wanted: Wanted,
    opened: Duration,
    last_used: Duration,
    /// `wanted` is out with a request, so its size is kept here.
    size: usize,
}

/// All sessions of a node.
pub struct FetchSessions {
    slots: usize,
    sessions: Mutex<HashMap<i32, Arc<Mutex<Session>>>>,
}

impl FetchSessions {
    /// A cache of at most `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub fn new(slots: usize) -> FetchSessions {
        FetchSessions { slots, sessions: Mutex::default() }
    }

    /// Takes up a request: the partitions to read, from the request and its session.
    ///
    /// # Errors
    /// `FETCH_SESSION_ID_NOT_FOUND`, `INVALID_FETCH_SESSION_EPOCH` or `FETCH_SESSION_TOPIC_ID_ERROR`, for the whole request.
    pub fn begin(&self, request: &Request, api_version: i16, now: Duration) -> Result<Plan, ErrorCode> {
        let uses_topic_ids = api_version >= 13;
        if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            if request.session_id != 0 {
                self.sessions.lock().remove(&request.session_id);
            }
            let mut wanted = Wanted::new();
            take_up(&mut wanted, request);
            let session = match request.session_epoch {
                INITIAL_EPOCH => Attachment::Open { uses_topic_ids },
                _ => Attachment::None,
            };
            return Ok(Plan { wanted, session });
        }
        let found = self.sessions.lock().get(&request.session_id).cloned();
        let shared = found.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut session = shared.lock();
        if session.next_epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let mut wanted = std::mem::take(&mut session.wanted);
        take_up(&mut wanted, request);
        forget(&mut wanted, &request.forgotten_topics_data);
        session.last_used = now;
        if wanted.is_empty() {
            self.sessions.lock().remove(&session.id);
            return Ok(Plan { wanted, session: Attachment::None });
        }
        session.next_epoch = if session.next_epoch == i32::MAX { 1 } else { session.next_epoch + 1 };
        session.size = wanted.len();
        drop(session);
        Ok(Plan { wanted, session: Attachment::Incremental(shared) })
    }

    /// Ends a request: the id of the session it was part of or has opened; 0 for none.
    ///
    /// `random_id` gives the id of a session that is opened.
    pub fn finish(&self, plan: Plan, now: Duration, mut random_id: impl FnMut() -> i32) -> i32 {
        match plan.session {
            Attachment::None => 0,
            Attachment::Incremental(session) => {
                let mut session = session.lock();
                session.wanted = plan.wanted;
                session.id
            }
            Attachment::Open { uses_topic_ids } => {
                let mut sessions = self.sessions.lock();
                if !make_room(&mut sessions, self.slots, plan.wanted.len(), now) {
                    return 0;
                }
                let id = loop {
                    let id = random_id() & i32::MAX;
                    if id != 0 && !sessions.contains_key(&id) {
                        break id;
                    }
                };
                let session = Session {
                    id,
                    next_epoch: 1,
                    uses_topic_ids,
                    size: plan.wanted.len(),
                    wanted: plan.wanted,
                    opened: now,
                    last_used: now,
                };
                sessions.insert(id, Arc::new(Mutex::new(session)));
                id
            }
        }
    }
}

impl Plan {
    /// Gives the partitions back to the session of a request that will not be answered.
    pub fn abandon(self) {
        if let Attachment::Incremental(session) = self.session {
            session.lock().wanted = self.wanted;
        }
    }

    /// Whether the answer leaves out what has not changed.
    pub fn is_incremental(&self) -> bool {
        matches!(self.session, Attachment::Incremental(_))
    }
}

impl FetchState {
    /// Notes what the consumer is being told; says whether any of it is news.
    pub fn tell(&mut self, error: ErrorCode, high_watermark: Offset, log_start_offset: Offset) -> bool {
        if error.is_error() {
            // So that the watermark is sent again once the partition has recovered.
            self.told_high_watermark = Offset::NONE;
            return true;
        }
        let is_news =
            self.told_high_watermark != high_watermark || self.told_log_start_offset != log_start_offset;
        self.told_high_watermark = high_watermark;
        self.told_log_start_offset = log_start_offset;
        is_news
    }
}

/// Adds the partitions of a request, or updates what is wanted of them.
fn take_up(wanted: &mut Wanted, request: &Request) {
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = FetchKey {
                topic: topic.topic.detached(),
                topic_id: topic.topic_id,
                partition: partition.partition,
            };
            let state = wanted.entry(key).or_insert_with(|| FetchState {
                offset: Offset::ZERO,
                max_bytes: 0,
                current_leader_epoch: LeaderEpoch::NONE,
                last_fetched_epoch: LeaderEpoch::NONE,
                told_high_watermark: Offset::NONE,
                told_log_start_offset: Offset::NONE,
            });
            state.offset = partition.fetch_offset;
            state.max_bytes = partition.partition_max_bytes;
            state.current_leader_epoch = partition.current_leader_epoch;
            state.last_fetched_epoch = partition.last_fetched_epoch;
        }
    }
}

fn forget(wanted: &mut Wanted, topics: &[ForgottenTopic]) {
    if topics.is_empty() {
        return;
    }
    for topic in topics {
        for &partition in &topic.partitions {
            let key = FetchKey { topic: topic.topic.clone(), topic_id: topic.topic_id, partition };
            wanted.swap_remove(&key);
        }
    }
}

/// Finds a slot for a session of `size` partitions, at the cost of an idle one or, if need be, a smaller one.
fn make_room(
    sessions: &mut HashMap<i32, Arc<Mutex<Session>>>,
    slots: usize,
    size: usize,
    now: Duration,
) -> bool {
    if sessions.len() < slots {
        return true;
    }
    let victim = sessions.iter().find_map(|(&id, session)| {
        let session = session.lock();
        let is_idle = now.saturating_sub(session.last_used) > EVICTION_AGE;
        let is_old = now.saturating_sub(session.opened) > EVICTION_AGE;
        (is_idle || (is_old && session.size < size)).then_some(id)
    });
    victim.is_some_and(|id| sessions.remove(&id).is_some())
}

#[cfg(test)]
mod tests {
    use oncelog_wire::fetch::{FetchPartition, FetchTopic};

    use super::*;

    const START: Duration = Duration::ZERO;

    fn request(session_id: i32, session_epoch: i32, partitions: &[i32]) -> Request {
        let partitions = partitions.iter().map(|&partition| FetchPartition {
            partition,
            partition_max_bytes: 1,
            ..FetchPartition::default()
        });
        let topics = vec![FetchTopic {
            topic: Str::from("t"),
            partitions: partitions.collect(),
            ..FetchTopic::default()
        }];
        Request { session_id, session_epoch, topics, ..Request::default() }
    }

    fn open(sessions: &FetchSessions, partitions: &[i32], id: i32, now: Duration) -> i32 {
        let plan = sessions.begin(&request(0, 0, partitions), 12, now).expect("a new session");
        sessions.finish(plan, now, || id)
    }

    fn partitions(plan: &Plan) -> Vec<i32> {
        plan.wanted.keys().map(|key| key.partition).collect()
    }

    #[test]
    fn a_session_remembers_what_is_fetched() {
        let sessions = FetchSessions::new(10);
        assert_eq!(open(&sessions, &[0, 1], 7, START), 7);
        let plan = sessions.begin(&request(7, 1, &[2]), 12, START).expect("the next epoch");
        assert!(plan.is_incremental());
        assert_eq!(partitions(&plan), [0, 1, 2]);
        assert_eq!(sessions.finish(plan, START, || 0), 7);
        let mut forgetful = request(7, 2, &[]);
        forgetful.forgotten_topics_data =
            vec![ForgottenTopic { topic: Str::from("t"), partitions: vec![1], ..ForgottenTopic::default() }];
        let plan = sessions.begin(&forgetful, 12, START).expect("the epoch after");
        assert_eq!(partitions(&plan), [0, 2]);
    }

    #[test]
    fn a_wrong_epoch_or_id_is_refused() {
        let sessions = FetchSessions::new(10);
        open(&sessions, &[0], 7, START);
        let refused = |request, version| sessions.begin(&request, version, START).err();
        assert_eq!(refused(request(8, 1, &[]), 12), Some(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(refused(request(7, 2, &[]), 12), Some(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(refused(request(7, 1, &[]), 13), Some(ErrorCode::FetchSessionTopicIdError));
        assert_eq!(refused(request(7, 1, &[]), 12), None);
    }

    #[test]
    fn a_full_request_with_an_id_ends_that_session() {
        let sessions = FetchSessions::new(10);
        open(&sessions, &[0], 7, START);
        let plan = sessions.begin(&request(7, FINAL_EPOCH, &[0]), 12, START).expect("a last fetch");
        assert_eq!(sessions.finish(plan, START, || 9), 0);
        assert_eq!(
            sessions.begin(&request(7, 2, &[]), 12, START).err(),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
    }

    #[test]
    fn a_session_without_partitions_ends() {
        let sessions = FetchSessions::new(10);
        open(&sessions, &[0], 7, START);
        let mut forgetful = request(7, 1, &[]);
        forgetful.forgotten_topics_data =
            vec![ForgottenTopic { topic: Str::from("t"), partitions: vec![0], ..ForgottenTopic::default() }];
        let plan = sessions.begin(&forgetful, 12, START).expect("the next epoch");
        assert_eq!(sessions.finish(plan, START, || 9), 0);
        assert_eq!(
            sessions.begin(&request(7, 2, &[]), 12, START).err(),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
    }

    #[test]
    fn a_full_cache_gives_up_idle_sessions_and_then_smaller_ones() {
        let sessions = FetchSessions::new(1);
        open(&sessions, &[0], 1, START);
        assert_eq!(open(&sessions, &[0, 1], 2, START + EVICTION_AGE), 0, "the first is in use");
        let later = START + EVICTION_AGE + Duration::from_secs(1);
        assert_eq!(open(&sessions, &[0, 1], 2, later), 2, "the first was idle");
        let plan = sessions.begin(&request(2, 1, &[]), 12, later + EVICTION_AGE).expect("in use");
        sessions.finish(plan, later + EVICTION_AGE, || 0);
        let even_later = later + EVICTION_AGE + Duration::from_secs(1);
        assert_eq!(open(&sessions, &[0], 3, even_later), 0, "a smaller one displaces nothing");
        assert_eq!(open(&sessions, &[0, 1, 2], 3, even_later), 3, "a bigger one does");
    }

    #[test]
    fn an_abandoned_request_gives_its_partitions_back() {
        let sessions = FetchSessions::new(10);
        open(&sessions, &[0, 1], 7, START);
        sessions.begin(&request(7, 1, &[]), 12, START).expect("the next epoch").abandon();
        let plan = sessions.begin(&request(7, 2, &[]), 12, START).expect("the epoch after");
        assert_eq!(partitions(&plan), [0, 1]);
    }
}

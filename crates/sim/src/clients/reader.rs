//! Readers: they poll many partitions through a fetch session, and note all they are shown.

use std::collections::{BTreeMap, BTreeSet};

use oncelog_client::{Isolation, visible_records};
use oncelog_records::batches;
use oncelog_wire::{ErrorCode, Offset, Records, Str, TopicPartition, Uuid, fetch, list_offsets, metadata};

use super::Client;
use crate::history::{PassId, Property, TRIMMED};
use crate::world::Phase;

/// Reads until the end of what there is at the end of the world.
pub async fn run(client: Client, isolation: Isolation, places: Vec<TopicPartition>) {
    let mut reader = Reader {
        client,
        isolation,
        version: 12,
        positions: BTreeMap::new(),
        session: (0, 0),
        changed: BTreeSet::new(),
        topics: Vec::new(),
    };
    reader.version = reader.client.world.pick(&[4, 7, 11, 12, 13, 17]);
    if reader.version >= NAMES_TOPICS_BY_ID {
        reader.topics = topic_ids(&mut reader.client).await;
    }
    for place in places {
        let from = {
            let mut world = reader.client.world.change();
            let end = reader.watermark(world.history.known_watermarks(&place));
            if world.random.one_in(2) { 0 } else { world.random.below(end as u64 + 1) as i64 }
        };
        reader.go_to(&place, from);
    }
    while !reader.is_done() {
        reader.poll().await;
    }
}

/// From this version of Fetch on.
const NAMES_TOPICS_BY_ID: i16 = 13;

async fn topic_ids(client: &mut Client) -> Vec<(Str, Uuid)> {
    let answer = client.ask(12, &metadata::Request { topics: None, ..Default::default() }).await.answer;
    answer.topics.into_iter().filter_map(|topic| Some((topic.name?, topic.topic_id))).collect()
}

struct Reader {
    client: Client,
    isolation: Isolation,
    version: i16,
    /// The next offset, and the pass it is part of.
    positions: BTreeMap<TopicPartition, (i64, PassId)>,
    /// The session's id and the epoch of the next request.
    session: (i32, i32),
    /// Partitions whose position the session does not know yet.
    changed: BTreeSet<TopicPartition>,
    /// The ids of topics, where they are asked for by those.
    topics: Vec<(Str, Uuid)>,
}

impl Reader {
    fn go_to(&mut self, place: &TopicPartition, offset: i64) {
        let is_committed = self.isolation == Isolation::ReadCommitted;
        let pass = self.client.world.change().history.new_pass(place, is_committed, offset);
        self.positions.insert(place.clone(), (offset, pass));
        self.changed.insert(place.clone());
    }

    fn watermark(&self, (last_stable, high): (i64, i64)) -> i64 {
        if self.isolation == Isolation::ReadCommitted { last_stable } else { high }
    }

    fn is_done(&self) -> bool {
        let world = self.client.world.look();
        let is_at_end = |place: &TopicPartition, position: i64| {
            position >= self.watermark(world.history.known_watermarks(place))
        };
        world.phase == Phase::Draining
            && self.positions.iter().all(|(place, (position, _))| is_at_end(place, *position))
    }

    async fn poll(&mut self) {
        let request = self.request();
        let known: BTreeMap<_, _> = {
            let world = self.client.world.look();
            let places = self.positions.keys();
            places.map(|place| (place.clone(), world.history.known_watermarks(place))).collect()
        };
        let Ok(answer) = self.client.try_once(self.version, &request).await else {
            // Whether the session saw the request is not known: a new one takes its place.
            self.session.1 = 0;
            return self.client.back_off().await;
        };
        match answer.error_code {
            ErrorCode::None => {}
            ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch => {
                self.session = (0, 0);
                return;
            }
            code => {
                self.client.may_pass(code);
                return;
            }
        }
        if self.version >= 7 {
            self.session = match answer.session_id {
                0 => (0, 0),
                id => (id, self.session.1 + 1),
            };
        }
        self.changed.clear();
        let mut has_failed = false;
        for topic in &answer.responses {
            for data in &topic.partitions {
                let by_id = self.topics.iter().find(|(_, id)| *id == topic.topic_id);
                let name = by_id.map_or(&topic.topic, |(name, _)| name).clone();
                let place = TopicPartition::new(name, data.partition_index);
                has_failed |= !self.take(&place, data, known.get(&place).copied()).await;
            }
        }
        if has_failed {
            self.client.back_off().await;
        }
    }

    /// The first request of a session names all partitions, later ones those whose position has changed.
    fn request(&self) -> fetch::Request {
        let mut world = self.client.world.change();
        let is_full = self.session.1 == 0;
        let mut topics: Vec<fetch::FetchTopic> = Vec::new();
        let id_of = |name: &Str| self.topics.iter().find(|(known, _)| known == name).map(|(_, id)| *id);
        for (place, (position, _)) in &self.positions {
            if !is_full && !self.changed.contains(place) {
                continue;
            }
            let partition = fetch::FetchPartition {
                partition: place.partition,
                fetch_offset: Offset(*position),
                partition_max_bytes: world.random.pick(&[300, 3_000, 1 << 20]),
                ..Default::default()
            };
            match topics.last_mut().filter(|topic| topic.topic == place.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(fetch::FetchTopic {
                    topic: place.topic.clone(),
                    topic_id: id_of(&place.topic).unwrap_or_default(),
                    partitions: vec![partition],
                }),
            }
        }
        fetch::Request {
            max_wait_ms: 500,
            min_bytes: world.random.pick(&[1, 1, 2_000]),
            max_bytes: world.random.pick(&[1_000, 20_000, 1 << 20]),
            isolation_level: self.isolation.code(),
            session_id: self.session.0,
            session_epoch: self.session.1,
            topics,
            ..Default::default()
        }
    }

    /// Takes in what a partition has given; says whether it was sound.
    async fn take(
        &mut self,
        place: &TopicPartition,
        data: &fetch::PartitionData,
        known: Option<(i64, i64)>,
    ) -> bool {
        let (Some(known), Some(&(position, pass))) = (known, self.positions.get(place)) else {
            self.client.is_surprised(format_args!("was given {place}"));
            return false;
        };
        match data.error_code {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange if place.topic == TRIMMED => {
                if let Some(start) = self.log_start(place).await {
                    self.go_to(place, start);
                }
                return true;
            }
            code => {
                if !code.is_retriable() {
                    self.client.is_surprised(format_args!("{place} at {position} answers {code}"));
                }
                return false;
            }
        }
        let mut world = self.client.world.change();
        let (last_stable, high) = (data.last_stable_offset.0, data.high_watermark.0);
        world.history.watermarks(place, last_stable, high, known);
        let end = if self.isolation == Isolation::ReadCommitted { last_stable } else { high };
        if let Err((property, what)) = check_contiguous(data, position, end) {
            world.history.violated(property, format!("{}: {place}: {what}", self.client.name));
        }
        let mut records = Vec::new();
        let next = match visible_records(data, self.isolation, Offset(position), &mut records) {
            Ok(next) => next.0,
            Err(error) => {
                world.history.violated(Property::SoundAnswers, format!("{place} at {position}: {error}"));
                return false;
            }
        };
        for record in records {
            world.history.shown(pass, record.offset.0, record.value.as_deref().unwrap_or_default());
        }
        world.history.passes[pass].to = next;
        self.positions.insert(place.clone(), (next, pass));
        if next > position {
            self.changed.insert(place.clone());
        }
        true
    }

    async fn log_start(&mut self, place: &TopicPartition) -> Option<i64> {
        let partition = list_offsets::ListOffsetsPartition {
            partition_index: place.partition,
            timestamp: oncelog_client::EARLIEST,
            ..Default::default()
        };
        let topic = list_offsets::ListOffsetsTopic { name: place.topic.clone(), partitions: vec![partition] };
        let request = list_offsets::Request { replica_id: -1, topics: vec![topic], ..Default::default() };
        let answer = self.client.try_once(5, &request).await.ok()?;
        let found = answer.topics.first()?.partitions.first()?;
        (!found.error_code.is_error()).then_some(found.offset.0)
    }
}

/// The batches begin at the position, follow each other, and end before the end that the reader may see.
pub fn check_contiguous(
    data: &fetch::PartitionData,
    position: i64,
    end: i64,
) -> Result<i64, (Property, String)> {
    let empty = Records::EMPTY;
    let bytes = data.records.as_ref().unwrap_or(&empty).as_bytes();
    let mut next = position;
    for (at, batch) in batches(bytes.map_or(&[][..], |bytes| bytes)).enumerate() {
        let batch = batch.map_err(|error| (Property::SoundAnswers, format!("at {next}: {error}")))?;
        let (base, after) = (batch.base_offset().0, batch.next_offset().0);
        let follows = if at == 0 { base <= next && next < after } else { base == next };
        if !follows {
            let what = format!("from {next} the batch {base}..{after} was given");
            return Err((Property::ContiguousPolls, what));
        }
        if after > end {
            let what = format!("the batch {base}..{after} is above the watermark {end}");
            return Err((Property::Watermarks, what));
        }
        next = after;
    }
    Ok(next)
}

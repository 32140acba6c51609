//! Topics come and go, and old records are deleted.

use oncelog_wire::{ErrorCode, Offset, TopicPartition, create_topics, delete_records, delete_topics};

use super::Client;
use crate::history::{FLEETING, TRIMMED};
use crate::world::Phase;

/// A topic to be made.
pub struct NewTopic {
    /// Its name.
    pub name: &'static str,
    /// How many partitions it has.
    pub partitions: i32,
    /// How much of it is kept; -1 for all.
    pub retention_bytes: i32,
}

impl NewTopic {
    /// A topic that is kept as a whole.
    pub const fn kept(name: &'static str, partitions: i32) -> NewTopic {
        NewTopic { name, partitions, retention_bytes: -1 }
    }
}

/// The topic that comes and goes.
pub const FLEETING_TOPIC: NewTopic = NewTopic::kept(FLEETING, 1);

/// Makes a topic with small segments, unless it is there.
pub async fn create(client: &mut Client, topic: &NewTopic) {
    let config = |name: &str, value: &str| create_topics::CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
    };
    let request = create_topics::Request {
        topics: vec![create_topics::CreatableTopic {
            name: topic.name.into(),
            num_partitions: topic.partitions,
            replication_factor: 1,
            configs: vec![
                config("internal.segment.bytes", "6000"),
                config("index.interval.bytes", "1000"),
                config("retention.ms", "-1"),
                config("retention.bytes", &topic.retention_bytes.to_string()),
            ],
            ..Default::default()
        }],
        ..Default::default()
    };
    loop {
        let answer = client.ask(7, &request).await.answer;
        match answer.topics.first().map_or(ErrorCode::UnknownServerError, |topic| topic.error_code) {
            ErrorCode::None | ErrorCode::TopicAlreadyExists => return,
            code if client.may_pass(code) => client.back_off().await,
            _ => return,
        }
    }
}

async fn delete(client: &mut Client, name: &str) {
    let request =
        delete_topics::Request { topic_names: vec![name.into()], timeout_ms: 1_000, ..Default::default() };
    let Ok(answer) = client.try_once(5, &request).await else { return };
    match answer.responses.first().map_or(ErrorCode::UnknownServerError, |topic| topic.error_code) {
        ErrorCode::None | ErrorCode::UnknownTopicOrPartition => {}
        code => {
            client.may_pass(code);
        }
    }
}

async fn delete_records_of(client: &mut Client, place: &TopicPartition) {
    let offset = {
        let mut world = client.world.change();
        let (_, high) = world.history.known_watermarks(place);
        Offset(world.random.below(high as u64 + 1) as i64)
    };
    let partition = delete_records::DeleteRecordsPartition { partition_index: place.partition, offset };
    let topic = delete_records::DeleteRecordsTopic { name: place.topic.clone(), partitions: vec![partition] };
    let request = delete_records::Request { topics: vec![topic], timeout_ms: 1_000 };
    let Ok(answer) = client.try_once(2, &request).await else { return };
    let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
    match partition.map_or(ErrorCode::UnknownServerError, |partition| partition.error_code) {
        ErrorCode::None => client.note(format_args!("deleted {place} up to {offset}")),
        code => {
            client.may_pass(code);
        }
    }
}

/// Keeps topics and records coming and going until the storm ends.
pub async fn run(mut client: Client) {
    let trimmed = TopicPartition::new(TRIMMED, 0);
    while client.phase() == Phase::Storm {
        let what = client.world.below(4);
        match what {
            0 => delete(&mut client, FLEETING).await,
            1 => create(&mut client, &FLEETING_TOPIC).await,
            _ => delete_records_of(&mut client, &trimmed).await,
        }
        client.world.sleep_within(500..5_000).await;
    }
}

//! Fetch as a request: its limits, sessions and errors, and the readers that wait for something to read.

use std::time::{Duration, Instant};

use oncelog_client::{Isolation, TransactionVersion, visible_records};
use oncelog_records::batches;
use oncelog_tests::requests::{Transactor, watermarks};
use oncelog_tests::{PATIENCE, Witness, address, client, connection, is_ours, topic, unique};
use oncelog_wire::{ErrorCode, LeaderEpoch, Offset, Uuid, fetch};

use crate::reading::{fetch_one, fetch_request, without_cut_tail};

use Isolation::{ReadCommitted, ReadUncommitted};
use TransactionVersion::{V1, V2};

#[test]
fn a_fetch_of_what_is_not_there_is_told_so_partition_by_partition() {
    let (mut client, topic) = (client(), topic(1));
    client.produce_values(&topic, 0, ["a", "b"]).unwrap();
    let topic_id = client.topic_id(&topic).unwrap();
    let mut code = |change: &dyn Fn(&mut fetch::Request)| {
        let mut request = fetch_request(topic_id, 0, ReadUncommitted);
        change(&mut request);
        let data = fetch_one(&mut client, &request);
        if data.error_code.is_error() {
            assert_eq!((data.high_watermark, data.last_stable_offset), (Offset(-1), Offset(-1)));
        }
        data.error_code
    };
    let partition = |change: fn(&mut fetch::FetchPartition)| {
        move |request: &mut fetch::Request| change(&mut request.topics[0].partitions[0])
    };
    assert_eq!(code(&partition(|_| ())), ErrorCode::None);
    assert_eq!(code(&partition(|p| p.fetch_offset = Offset(2))), ErrorCode::None);
    assert_eq!(code(&partition(|p| p.fetch_offset = Offset(3))), ErrorCode::OffsetOutOfRange);
    assert_eq!(code(&partition(|p| p.fetch_offset = Offset(-1))), ErrorCode::OffsetOutOfRange);
    assert_eq!(code(&partition(|p| p.fetch_offset = Offset(i64::MAX))), ErrorCode::OffsetOutOfRange);
    assert_eq!(code(&partition(|p| p.fetch_offset = Offset(i64::MIN))), ErrorCode::OffsetOutOfRange);
    assert_eq!(code(&partition(|p| p.partition = 1)), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(&partition(|p| p.partition = -1)), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(&partition(|p| p.current_leader_epoch = LeaderEpoch(99))), ErrorCode::UnknownLeaderEpoch);
    assert_eq!(code(&|r| r.topics[0].topic_id = Uuid([7; 16])), ErrorCode::UnknownTopicId);
    assert_eq!(code(&|r| r.topics[0].topic_id = Uuid::ZERO), ErrorCode::UnknownTopicId);
}

#[test]
fn sizes_of_every_kind_are_taken_as_kafka_takes_them() {
    let (mut client, topic) = (client(), topic(1));
    for _ in 0..3 {
        client.produce_values(&topic, 0, ["x".repeat(100)]).unwrap();
    }
    let topic_id = client.topic_id(&topic).unwrap();
    let mut count = |max_bytes: i32, partition_max_bytes: i32, min_bytes: i32| {
        let mut request = fetch_request(topic_id, 0, ReadUncommitted);
        (request.max_bytes, request.min_bytes) = (max_bytes, min_bytes);
        request.topics[0].partitions[0].partition_max_bytes = partition_max_bytes;
        let data = without_cut_tail(fetch_one(&mut client, &request));
        assert_eq!(data.error_code, ErrorCode::None);
        data.records.map_or(0, |records| batches(records.as_bytes().unwrap()).count())
    };
    assert_eq!(count(i32::MAX, i32::MAX, i32::MAX), 3);
    // The first batch comes whole, however small the limits.
    assert_eq!(count(1, 1, 1), 1);
    assert_eq!(count(0, 0, 0), 1);
    assert_eq!(count(i32::MAX, 1, 1), 1);
    assert_eq!(count(1, i32::MAX, 1), 1);
    assert_eq!(count(i32::MAX, 400, i32::MIN), 2);
    assert_eq!(count(400, i32::MAX, -1), 2);
}

#[test]
fn a_consumer_that_calls_itself_a_replica_is_not_one() {
    let (mut client, topic) = (client(), topic(1));
    client.produce_values(&topic, 0, ["a"]).unwrap();
    let mut request = fetch_request(client.topic_id(&topic).unwrap(), 0, ReadUncommitted);
    for replica_id in [2, 77, i32::MAX] {
        request.replica_state.replica_id = replica_id;
        let data = fetch_one(&mut client, &request);
        assert_eq!(data.error_code, ErrorCode::NotLeaderOrFollower, "{replica_id}");
        request.topics[0].partitions[0].current_leader_epoch = LeaderEpoch(0);
        let data = fetch_one(&mut client, &request);
        assert_eq!(data.error_code, ErrorCode::UnknownLeaderEpoch, "{replica_id}");
        request.topics[0].partitions[0].current_leader_epoch = LeaderEpoch::NONE;
    }
    // Nothing it says moves the high watermark.
    assert_eq!(watermarks(&mut client, &topic, 0), (1, 1));
}

#[test]
fn sessions_that_are_not_ones_own_are_refused() {
    let (mut client, topic) = (client(), topic(1));
    client.produce_values(&topic, 0, ["a"]).unwrap();
    let topic_id = client.topic_id(&topic).unwrap();
    let mut call = |session_id, session_epoch, topics: bool| {
        let mut request = fetch_request(topic_id, 0, ReadUncommitted);
        (request.session_id, request.session_epoch) = (session_id, session_epoch);
        if !topics {
            request.topics.clear();
        }
        let answer = client.call(&request).unwrap();
        (answer.error_code, answer.session_id, answer.responses.len())
    };
    for (id, epoch) in [(123_456, 1), (-5, 7), (77, 1)] {
        assert_eq!(call(id, epoch, true), (ErrorCode::FetchSessionIdNotFound, 0, 0), "{id} {epoch}");
    }
    let (code, id, told) = call(0, 0, true);
    assert_eq!((code, told), (ErrorCode::None, 1));
    assert_ne!(id, 0);
    assert_eq!(call(id, 2, false), (ErrorCode::InvalidFetchSessionEpoch, 0, 0));
    // The position is still at the record, so it comes again.
    assert_eq!(call(id, 1, false), (ErrorCode::None, id, 1));
    assert_eq!(call(id, 1, false).0, ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(call(id, 2, false).0, ErrorCode::None);
    assert_eq!(call(id, -1, true), (ErrorCode::None, 0, 1));
    assert_eq!(call(id, 3, false).0, ErrorCode::FetchSessionIdNotFound);
}

#[test]
fn a_session_tells_of_what_has_changed_and_forgets_what_it_is_told_to() {
    let (mut client, topic) = (client(), topic(3));
    let topic_id = client.topic_id(&topic).unwrap();
    let partition = |index, offset| fetch::FetchPartition {
        partition: index,
        fetch_offset: Offset(offset),
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let base = |session_id, session_epoch| fetch::Request {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_id,
        session_epoch,
        ..Default::default()
    };
    let told = |answer: &fetch::Response| {
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let mut told: Vec<_> = partitions.map(|partition| partition.partition_index).collect();
        told.sort();
        told
    };
    let topics = vec![fetch::FetchTopic {
        topic_id,
        partitions: (0..3).map(|index| partition(index, 0)).collect(),
        ..Default::default()
    }];
    let answer = client.call(&fetch::Request { topics, ..base(0, 0) }).unwrap();
    assert_eq!(told(&answer), [0, 1, 2]);
    let id = answer.session_id;
    let answer = client.call(&base(id, 1)).unwrap();
    assert_eq!(told(&answer), Vec::<i32>::new());
    client.produce_values(&topic, 1, ["a"]).unwrap();
    assert_eq!(told(&client.call(&base(id, 2)).unwrap()), [1]);
    let moved = vec![fetch::FetchTopic { topic_id, partitions: vec![partition(1, 1)], ..Default::default() }];
    assert_eq!(
        told(&client.call(&fetch::Request { topics: moved, ..base(id, 3) }).unwrap()),
        Vec::<i32>::new()
    );
    for index in 0..3 {
        client.produce_values(&topic, index, ["b"]).unwrap();
    }
    let forgotten = vec![fetch::ForgottenTopic { topic_id, partitions: vec![0, 2], ..Default::default() }];
    let answer = client.call(&fetch::Request { forgotten_topics_data: forgotten, ..base(id, 4) }).unwrap();
    assert_eq!(told(&answer), [1]);
}

#[test]
fn a_fetch_of_a_hundred_thousand_partitions_harms_nobody() {
    let mut witness = Witness::of(address());
    let (mut client, topic) = (client(), topic(1));
    client.produce_values(&topic, 0, ["a"]).unwrap();
    let mut request = fetch_request(client.topic_id(&topic).unwrap(), 0, ReadUncommitted);
    let count = 100_000;
    request.topics[0].partitions = (0..count)
        .map(|partition| fetch::FetchPartition { partition, partition_max_bytes: 1000, ..Default::default() })
        .collect();
    let answer = client.call(&request).unwrap();
    let codes: Vec<_> = answer.responses[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes.len(), count as usize);
    assert_eq!(codes[0], ErrorCode::None);
    assert!(codes[1..].iter().all(|code| *code == ErrorCode::UnknownTopicOrPartition));
    witness.is_served();
}

/// Starts a fetch that waits on a thread; gives its data and how long it took.
fn waiting_fetch(request: fetch::Request) -> std::thread::JoinHandle<(fetch::PartitionData, Duration)> {
    std::thread::spawn(move || {
        let mut client = client();
        let start = Instant::now();
        (fetch_one(&mut client, &request), start.elapsed())
    })
}

#[test]
fn a_read_committed_reader_that_waits_is_woken_by_the_end_and_not_by_the_writes() {
    for committed in [true, false] {
        let topic = topic(1);
        let mut producer = Transactor::new(V2);
        assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
        let topic_id = producer.client.topic_id(&topic).unwrap();
        let request =
            |isolation| fetch::Request { max_wait_ms: 20_000, ..fetch_request(topic_id, 0, isolation) };
        let waiting = waiting_fetch(request(ReadCommitted));
        // These move the high watermark only, which a reader of the other kind sees at once.
        for sequence in 1..5 {
            assert_eq!(producer.write(&topic, 0, sequence, 1), ErrorCode::None);
        }
        assert_eq!(waiting_fetch(request(ReadUncommitted)).join().unwrap().0.error_code, ErrorCode::None);
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished(), "nothing is stable yet");
        assert_eq!(producer.end(committed), ErrorCode::None);
        let (data, waited) = waiting.join().unwrap();
        assert!(waited < Duration::from_secs(10), "{waited:?}");
        assert_eq!(data.last_stable_offset, Offset(6));
        let mut records = Vec::new();
        visible_records(&data, ReadCommitted, Offset(0), &mut records).unwrap();
        assert_eq!(records.len(), if committed { 5 } else { 0 });
    }
}

#[test]
fn a_reader_at_the_end_is_woken_by_the_next_record_or_sent_away_in_time() {
    let (mut client, topic) = (client(), topic(1));
    let topic_id = client.topic_id(&topic).unwrap();
    let request = fetch::Request { max_wait_ms: 20_000, ..fetch_request(topic_id, 0, ReadUncommitted) };
    let waiting = waiting_fetch(request.clone());
    std::thread::sleep(Duration::from_millis(50));
    client.produce_values(&topic, 0, ["x"]).unwrap();
    let (data, waited) = waiting.join().unwrap();
    assert!(waited < Duration::from_secs(10) && data.records.is_some_and(|records| !records.is_empty()));
    // Less than the least that was asked for comes when time is up.
    let start = Instant::now();
    let data = fetch_one(&mut client, &fetch::Request { max_wait_ms: 100, min_bytes: i32::MAX, ..request });
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert!(data.records.is_some_and(|records| !records.is_empty()));
}

#[test]
fn a_reader_that_waits_learns_that_its_topic_is_gone() {
    let (mut client, topic) = (client(), topic(1));
    let topic_id = client.topic_id(&topic).unwrap();
    let waiting =
        waiting_fetch(fetch::Request { max_wait_ms: 20_000, ..fetch_request(topic_id, 0, ReadUncommitted) });
    std::thread::sleep(Duration::from_millis(50));
    client.delete_topic(&topic).unwrap();
    let (data, waited) = waiting.join().unwrap();
    assert!(waited < Duration::from_secs(15), "{waited:?}");
    if is_ours() {
        assert_eq!(data.error_code, ErrorCode::UnknownTopicId);
    } else {
        assert!(data.error_code.is_error());
    }
}

#[test]
fn a_hundred_readers_that_wait_are_all_woken() {
    let topic = topic(1);
    let topic_id = client().topic_id(&topic).unwrap();
    let mut readers: Vec<_> = (0..100)
        .map(|_| {
            let mut connection = connection();
            connection.set_read_timeout(Some(PATIENCE)).unwrap();
            let request = fetch::Request { max_wait_ms: 30_000, ..fetch_request(topic_id, 0, ReadCommitted) };
            let pending = connection.send(&request, 16).unwrap();
            (connection, pending)
        })
        .collect();
    let mut producer = Transactor::named(V1, &unique("tx"), 60_000);
    assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
    assert_eq!(producer.end(true), ErrorCode::None);
    for (mut connection, pending) in readers.drain(..) {
        let answer = connection.receive(pending).unwrap();
        assert!(
            answer.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty())
        );
    }
    assert_eq!(watermarks(&mut client(), &topic, 0).0, 2);
}

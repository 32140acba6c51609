//! Fetch and ListOffsets: what a reader sees, from wherever it starts.

use std::time::{Duration, Instant};

use oncelog_client::{
    Client, EARLIEST, FetchedRecord, Isolation, LATEST, MAX_TIMESTAMP, Producer, ProducerOptions,
    TransactionVersion, visible_records,
};
use oncelog_records::{BatchBuilder, batches};
use oncelog_tests::requests::{Transactor, watermarks};
use oncelog_tests::{PATIENCE, client, eventually, is_ours, topic, topic_with, unique};
use oncelog_wire::{ErrorCode, LeaderEpoch, Offset, Timestamp, Uuid, fetch, list_offsets};

use Isolation::{ReadCommitted, ReadUncommitted};
use TransactionVersion::{V1, V2};

/// A fetch of one partition, outside any session.
pub fn fetch_request(topic_id: Uuid, offset: i64, isolation: Isolation) -> fetch::Request {
    fetch::Request {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: i32::MAX,
        isolation_level: isolation.code(),
        session_epoch: -1,
        topics: vec![fetch::FetchTopic {
            topic_id,
            partitions: vec![fetch::FetchPartition {
                fetch_offset: Offset(offset),
                partition_max_bytes: i32::MAX,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub fn fetch_one(client: &mut Client, request: &fetch::Request) -> fetch::PartitionData {
    let mut answer = client.call(request).unwrap();
    assert_eq!(answer.error_code, ErrorCode::None);
    answer.responses.remove(0).partitions.remove(0)
}

/// Reads to the end in fetches of this size, from anywhere; gives the values and the number of fetches.
fn read_from(
    client: &mut Client,
    topic: &str,
    offset: i64,
    isolation: Isolation,
    max_bytes: i32,
) -> (Vec<String>, usize) {
    let topic_id = client.topic_id(topic).unwrap();
    let (mut position, mut records, mut fetches) = (Offset(offset), Vec::new(), 0);
    loop {
        let mut request = fetch_request(topic_id, position.0, isolation);
        request.topics[0].partitions[0].partition_max_bytes = max_bytes;
        let data = fetch_one(client, &request);
        assert_eq!(data.error_code, ErrorCode::None);
        fetches += 1;
        // A cut batch at the end is for the next fetch, as with any client.
        let data = without_cut_tail(data);
        let next = visible_records(&data, isolation, position, &mut records).unwrap();
        if next == position {
            return (records.iter().map(FetchedRecord::value_text).collect(), fetches);
        }
        position = next;
    }
}

pub fn without_cut_tail(mut data: fetch::PartitionData) -> fetch::PartitionData {
    if let Some(bytes) = data.records.as_ref().and_then(|records| records.as_bytes()) {
        let whole: usize = batches(bytes).map_while(Result::ok).map(|batch| batch.size_in_bytes()).sum();
        data.records = Some(bytes.slice(..whole).into());
    }
    data
}

#[test]
fn a_fetch_from_the_middle_of_a_batch_returns_the_whole_batch() {
    let (mut client, topic) = (client(), topic(1));
    client.produce_values(&topic, 0, ["a", "b"]).unwrap();
    client.produce_values(&topic, 0, ["c", "d", "e", "f"]).unwrap();
    let topic_id = client.topic_id(&topic).unwrap();
    for offset in 2..6 {
        let data = fetch_one(&mut client, &fetch_request(topic_id, offset, ReadUncommitted));
        let bytes = data.records.unwrap().as_bytes().unwrap().clone();
        let first = batches(&bytes).next().unwrap().unwrap();
        assert_eq!((first.base_offset(), first.record_count()), (Offset(2), 4), "from {offset}");
    }
    let data = fetch_one(&mut client, &fetch_request(topic_id, 6, ReadUncommitted));
    assert!(data.records.is_none_or(|records| records.is_empty()));
}

/// Transactions of three producers, interleaved over several segments: what is read from each offset on.
fn check_reads_from_everywhere(configs: &[(&str, &str)], compare_every: usize) {
    for version in [V1, V2] {
        let topic = topic_with(1, configs);
        let mut producers: Vec<_> = (0..3).map(|_| Transactor::new(version)).collect();
        let mut sequences = [0; 3];
        // By offset: whose record it is, in which of its transactions. A marker is None.
        let mut written: Vec<Option<(usize, usize)>> = Vec::new();
        let mut outcomes: [Vec<bool>; 3] = Default::default();
        for step in 0..120usize {
            let who = step * 7 % 3;
            let producer = &mut producers[who];
            if step % 5 == 4 {
                let committed = step % 3 == 0;
                if producer.end(committed) == ErrorCode::None {
                    outcomes[who].push(committed);
                    eventually("the marker is written", || {
                        watermarks(&mut producer.client, &topic, 0).0 > written.len() as i64
                    });
                    written.push(None);
                    if version == V2 {
                        sequences[who] = 0;
                    }
                }
            } else {
                assert_eq!(producer.write(&topic, 0, sequences[who], 1), ErrorCode::None);
                sequences[who] += 1;
                written.push(Some((who, outcomes[who].len())));
            }
        }
        for who in 0..3 {
            // The second is left open: nothing from its first record on is stable.
            if who != 1 && producers[who].end(who == 0) == ErrorCode::None {
                outcomes[who].push(who == 0);
            }
        }
        let mut client = client();
        let open =
            written.iter().position(|record| record.is_some_and(|(who, at)| outcomes[who].len() <= at));
        let stable = open.unwrap_or(written.len());
        eventually("the stable offset is there", || watermarks(&mut client, &topic, 0).1 == stable as i64);
        let is_visible = |offset: &usize| {
            written[*offset].is_some_and(|(who, at)| outcomes[who].get(at).copied().unwrap_or(false))
        };
        let mut most_fetches = 0;
        for from in (0..=stable).step_by(compare_every) {
            for max_bytes in [i32::MAX, 300] {
                let expected = (from..stable).filter(is_visible).count();
                let (seen, fetches) = read_from(&mut client, &topic, from as i64, ReadCommitted, max_bytes);
                assert_eq!(seen.len(), expected, "{version:?} from {from}, {max_bytes} bytes at a time");
                most_fetches = most_fetches.max(fetches);
            }
        }
        assert!(most_fetches > 10, "small fetches end within segments");
        let all = read_from(&mut client, &topic, 0, ReadUncommitted, i32::MAX).0;
        assert_eq!(all.len(), written.iter().flatten().count());
    }
}

#[test]
fn aborted_transactions_are_named_wherever_the_reader_starts() {
    check_reads_from_everywhere(&[], 1);
}

#[test]
fn aborted_transactions_are_named_across_the_seams_of_segments() {
    check_reads_from_everywhere(&[("internal.segment.bytes", "400"), ("index.interval.bytes", "100")], 1);
}

#[test]
fn the_list_of_aborted_transactions_is_for_read_committed_alone() {
    let topic = topic(1);
    let mut producer = Transactor::new(V2);
    producer.client.produce_values(&topic, 0, ["x"]).unwrap();
    assert_eq!(producer.write(&topic, 0, 0, 3), ErrorCode::None);
    assert_eq!(producer.end(false), ErrorCode::None);
    let mut client = client();
    eventually("the abort is through", || watermarks(&mut client, &topic, 0) == (5, 5));
    let topic_id = client.topic_id(&topic).unwrap();
    for (offset, expected) in [(0, vec![1]), (1, vec![1]), (3, vec![1]), (4, vec![1]), (5, vec![])] {
        let data = fetch_one(&mut client, &fetch_request(topic_id, offset, ReadCommitted));
        let aborted = data.aborted_transactions.unwrap();
        let firsts: Vec<_> = aborted.iter().map(|transaction| transaction.first_offset.0).collect();
        assert_eq!(firsts, expected, "from {offset}");
        assert!(aborted.iter().all(|transaction| transaction.producer_id == producer.identity.0));
        assert_eq!(
            (data.high_watermark, data.last_stable_offset, data.log_start_offset),
            (Offset(5), Offset(5), Offset(0))
        );
        let data = fetch_one(&mut client, &fetch_request(topic_id, offset, ReadUncommitted));
        assert_eq!(data.aborted_transactions, None);
    }
}

#[test]
fn a_marker_has_an_offset_and_a_value_that_decoders_can_read() {
    let topic = topic(1);
    let mut producer = Transactor::new(V2);
    assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
    assert_eq!(producer.end(true), ErrorCode::None);
    let mut client = client();
    eventually("the commit is through", || watermarks(&mut client, &topic, 0) == (2, 2));
    let topic_id = client.topic_id(&topic).unwrap();
    let data = fetch_one(&mut client, &fetch_request(topic_id, 1, ReadUncommitted));
    let bytes = data.records.unwrap().as_bytes().unwrap().clone();
    let marker = batches(&bytes).next().unwrap().unwrap();
    assert!(marker.is_control() && marker.is_transactional() && marker.is_crc_valid());
    assert_eq!((marker.base_offset(), marker.base_sequence(), marker.record_count()), (Offset(1), -1, 1));
    let mut records = marker.records().unwrap();
    let record = records.next_record().unwrap().unwrap();
    assert_eq!(record.key, Some(&[0, 0, 0, 1][..]));
    assert_eq!(record.value.map(<[u8]>::len), Some(6));
}

#[test]
fn offsets_are_found_by_time_and_by_name() {
    let (mut client, topic) = (client(), topic(1));
    let mut client_at = |timestamps: &[i64]| {
        let mut batch = BatchBuilder::new();
        timestamps.iter().for_each(|&at| batch.push(Timestamp(1_700_000_000_000 + at), None, Some(b"x")));
        assert_eq!(
            client.produce(&topic, 0, batch.build(), None, i16::MAX).unwrap().error_code,
            ErrorCode::None
        );
    };
    client_at(&[100, 300, 200]);
    client_at(&[250]);
    client_at(&[400, 50]);
    let mut find = |at: Timestamp| {
        let (offset, timestamp) = client.list_offset(&topic, 0, at, ReadUncommitted).unwrap();
        (offset.0, timestamp.0 - if timestamp.0 > 0 { 1_700_000_000_000 } else { 0 })
    };
    let at = |ms: i64| Timestamp(1_700_000_000_000 + ms);
    assert_eq!(find(EARLIEST), (0, -1));
    assert_eq!(find(LATEST), (6, -1));
    assert_eq!(find(MAX_TIMESTAMP), (4, 400));
    assert_eq!(find(Timestamp(0)), (0, 100));
    assert_eq!(find(at(100)), (0, 100));
    assert_eq!(find(at(101)), (1, 300));
    assert_eq!(find(at(300)), (1, 300));
    assert_eq!(find(at(301)), (4, 400));
    assert_eq!(find(at(401)), (-1, -1));
    assert_eq!(find(Timestamp(i64::MAX)), (-1, -1));
}

#[test]
fn a_read_committed_reader_finds_no_offset_beyond_what_is_stable() {
    let topic = topic(1);
    let mut producer = Transactor::new(V2);
    producer.client.produce_values(&topic, 0, ["stable"]).unwrap();
    let between = Timestamp(oncelog_tests::forge::now().0 + 1);
    eventually("time passes", || oncelog_tests::forge::now() > between);
    assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
    let client = &mut producer.client;
    assert_eq!(client.list_offset(&topic, 0, between, ReadUncommitted).unwrap().0, Offset(1));
    assert_eq!(client.list_offset(&topic, 0, between, ReadCommitted).unwrap().0, Offset(-1));
    assert_eq!(watermarks(client, &topic, 0), (2, 1));
}

#[test]
fn list_offsets_refuses_nonsense_partition_by_partition() {
    let (mut client, topic) = (client(), topic(1));
    let mut ask = |partitions: Vec<list_offsets::ListOffsetsPartition>, version| {
        let request = list_offsets::Request {
            replica_id: -1,
            topics: vec![list_offsets::ListOffsetsTopic { name: topic.as_str().into(), partitions }],
            ..Default::default()
        };
        let answer = client.call_up_to(&request, version).unwrap();
        let mut codes: Vec<_> =
            answer.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
        codes.sort();
        codes
    };
    let partition = |partition_index, timestamp| list_offsets::ListOffsetsPartition {
        partition_index,
        timestamp: Timestamp(timestamp),
        ..Default::default()
    };
    assert_eq!(
        ask(vec![partition(0, -1), partition(5, -1)], 11),
        [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]
    );
    assert_eq!(ask(vec![partition(0, -7)], 11), [ErrorCode::UnsupportedVersion]);
    assert_eq!(ask(vec![partition(0, i64::MIN)], 11), [ErrorCode::UnsupportedVersion]);
    assert_eq!(ask(vec![partition(0, -3)], 6), [ErrorCode::UnsupportedVersion]);
    assert_eq!(ask(vec![partition(0, -6)], 10), [ErrorCode::UnsupportedVersion]);
    assert!(ask(vec![partition(0, -4), partition(0, -1)], 11).contains(&ErrorCode::InvalidRequest));
    let epoch =
        list_offsets::ListOffsetsPartition { current_leader_epoch: LeaderEpoch(9), ..partition(0, -1) };
    assert_eq!(ask(vec![epoch], 11), [ErrorCode::UnknownLeaderEpoch]);
}

#[test]
fn records_that_were_deleted_are_gone_for_every_reader() {
    let (mut client, topic) = (client(), topic(1));
    client.produce_values(&topic, 0, ["a", "b", "c", "d"]).unwrap();
    let mut delete = |partition_index, offset| {
        let request = oncelog_wire::delete_records::Request {
            topics: vec![oncelog_wire::delete_records::DeleteRecordsTopic {
                name: topic.as_str().into(),
                partitions: vec![oncelog_wire::delete_records::DeleteRecordsPartition {
                    partition_index,
                    offset: Offset(offset),
                }],
            }],
            timeout_ms: 5000,
        };
        let answer = client.call(&request).unwrap();
        let partition = &answer.topics[0].partitions[0];
        (partition.error_code, partition.low_watermark.0)
    };
    assert_eq!(delete(0, 5), (ErrorCode::OffsetOutOfRange, -1));
    assert_eq!(delete(0, -2), (ErrorCode::OffsetOutOfRange, -1));
    assert_eq!(delete(3, 0), (ErrorCode::UnknownTopicOrPartition, -1));
    assert_eq!(delete(0, 3), (ErrorCode::None, 3));
    assert_eq!(delete(0, 1), (ErrorCode::None, 3), "what is gone stays gone");
    assert_eq!(client.values(&topic, 0, ReadCommitted).unwrap(), ["d"]);
    let topic_id = client.topic_id(&topic).unwrap();
    let data = fetch_one(&mut client, &fetch_request(topic_id, 2, ReadUncommitted));
    assert_eq!(data.error_code, ErrorCode::OffsetOutOfRange);
    assert_eq!(client.list_offset(&topic, 0, EARLIEST, ReadUncommitted).unwrap().0, Offset(3));
    assert_eq!(watermarks(&mut client, &topic, 0), (4, 4));
}

#[test]
fn an_open_transaction_whose_records_are_deleted_still_holds_the_stable_offset() {
    let topic = topic(1);
    let mut producer = Transactor::new(V2);
    assert_eq!(producer.write(&topic, 0, 0, 3), ErrorCode::None);
    producer.client.produce_values(&topic, 0, ["x"]).unwrap();
    let request = oncelog_wire::delete_records::Request {
        topics: vec![oncelog_wire::delete_records::DeleteRecordsTopic {
            name: topic.as_str().into(),
            partitions: vec![oncelog_wire::delete_records::DeleteRecordsPartition {
                partition_index: 0,
                offset: Offset(2),
            }],
        }],
        timeout_ms: 5000,
    };
    let answer = producer.client.call(&request).unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::None);
    if is_ours() {
        // Kafka notices with the next append.
        assert_eq!(watermarks(&mut producer.client, &topic, 0), (4, 2));
    }
    assert_eq!(producer.end(false), ErrorCode::None);
    eventually("the abort is through", || watermarks(&mut producer.client, &topic, 0) == (5, 5));
    assert_eq!(producer.client.values(&topic, 0, ReadCommitted).unwrap(), ["x"]);
}

/// Follows a partition as a consumer does until it has seen `until` as often as there are producers.
fn follow(topic: String, partition: i32, until: &'static str, times: usize) -> Vec<String> {
    let mut client = client();
    let (mut position, mut records) = (Offset(0), Vec::new());
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "the end never came");
        let data =
            client.fetch(&topic, partition, position, ReadCommitted, Duration::from_millis(500)).unwrap();
        assert_eq!(data.error_code, ErrorCode::None);
        position = visible_records(&without_cut_tail(data), ReadCommitted, position, &mut records).unwrap();
        let values: Vec<String> = records.iter().map(FetchedRecord::value_text).collect();
        if values.iter().filter(|value| *value == until).count() == times {
            return values;
        }
    }
}

#[test]
fn readers_that_follow_see_each_commit_once_and_no_abort_however_transactions_interleave() {
    let topic = topic_with(2, &[("internal.segment.bytes", "5000"), ("index.interval.bytes", "200")]);
    let readers: Vec<_> = [0, 1, 0, 1]
        .map(|partition| {
            let topic = topic.clone();
            (partition, std::thread::spawn(move || follow(topic, partition, "end", 4)))
        })
        .into();
    let producers: Vec<_> = [V1, V2, V1, V2]
        .into_iter()
        .enumerate()
        .map(|(who, version)| {
            let topic = topic.clone();
            std::thread::spawn(move || {
                let options = ProducerOptions { transaction_version: Some(version), ..Default::default() };
                let mut producer = Producer::transactional(client(), &unique("tx"), options).unwrap();
                for round in 0..60 {
                    producer.begin();
                    for partition in 0..2 {
                        let outcome = if (round + who) % 3 == 0 { "abort" } else { "commit" };
                        let values = (0..3).map(|at| format!("{outcome} {who} {round} {at}"));
                        producer.send_values(&topic, partition, values).unwrap();
                    }
                    match (round + who) % 3 {
                        0 => producer.abort().unwrap(),
                        _ => producer.commit().unwrap(),
                    }
                }
                producer.begin();
                for partition in 0..2 {
                    producer.send_values(&topic, partition, ["end"]).unwrap();
                }
                producer.commit().unwrap();
            })
        })
        .collect();
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    for (partition, reader) in readers {
        let seen = reader.join().unwrap();
        assert!(seen.iter().all(|value| !value.starts_with("abort")), "partition {partition}");
        for who in 0..4 {
            let of_one = seen.iter().filter(|value| value.starts_with(&format!("commit {who} ")));
            let expected = (0..60).filter(|round| (round + who) % 3 != 0);
            let expected =
                expected.flat_map(|round| (0..3).map(move |at| format!("commit {who} {round} {at}")));
            assert!(of_one.cloned().eq(expected), "partition {partition}, producer {who}");
        }
    }
}

//! Batches that no decent producer sends: each is refused whole, with Kafka's code, and leaves no trace.

use bytes::Bytes;
use oncelog_client::{Client, Isolation};
use oncelog_records::Compression;
use oncelog_tests::forge::{Forged, RawRecord, at, bomb};
use oncelog_tests::requests::{self, Write};
use oncelog_tests::{Witness, address, client, is_ours, topic, topic_with};
use oncelog_wire::{ErrorCode, Offset, ProducerEpoch, ProducerId, produce};

/// Produces a batch and says with which error; checks that an error leaves nothing behind.
fn outcome(client: &mut Client, topic: &str, batch: Bytes) -> produce::PartitionProduceResponse {
    let end = client.end_offset(topic, 0, Isolation::ReadUncommitted).unwrap();
    let answer = client.produce(topic, 0, batch, None, i16::MAX).unwrap();
    if answer.error_code.is_error() {
        assert_eq!(answer.base_offset, Offset::NONE);
        assert_eq!(
            client.end_offset(topic, 0, Isolation::ReadUncommitted).unwrap(),
            end,
            "something was written"
        );
    }
    answer
}

fn refuses(cases: Vec<(&str, ErrorCode, Bytes)>) {
    let mut witness = Witness::of(address());
    let (mut client, topic) = (client(), topic(1));
    let mut wrong = Vec::new();
    for (what, expected, batch) in cases {
        let got = outcome(&mut client, &topic, batch).error_code;
        if got != expected {
            wrong.push(format!("{what}: {got}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    client.produce_values(&topic, 0, ["sound"]).unwrap();
    assert_eq!(client.values(&topic, 0, Isolation::ReadUncommitted).unwrap(), ["sound"]);
    witness.is_served();
}

#[test]
fn a_batch_whose_header_is_wrong_is_refused() {
    let sound = || Forged::of(&["a", "b", "c"]);
    let two = [&sound().seal()[..], &sound().seal()].concat();
    let cut = sound().seal().slice(..80);
    refuses(vec![
        ("magic 0", ErrorCode::InvalidRecord, sound().set(at::MAGIC, &[0]).seal()),
        ("magic 1", ErrorCode::InvalidRecord, sound().set(at::MAGIC, &[1]).seal()),
        ("magic 3", ErrorCode::CorruptMessage, sound().set(at::MAGIC, &[3]).seal()),
        ("CRC", ErrorCode::CorruptMessage, sound().set(at::CRC, &[1, 2, 3, 4]).raw()),
        ("a bit of the records", ErrorCode::CorruptMessage, sound().set(at::RECORDS + 7, b"!").raw()),
        ("two batches", ErrorCode::InvalidRecord, two.into()),
        ("no batch", ErrorCode::InvalidRecord, Bytes::new()),
        ("a cut batch", ErrorCode::InvalidRecord, cut),
        ("length 0", ErrorCode::CorruptMessage, sound().set(at::LENGTH, &[0; 4]).seal()),
        ("length -1", ErrorCode::CorruptMessage, sound().set(at::LENGTH, &[0xff; 4]).seal()),
        (
            "length 2^30",
            ErrorCode::InvalidRecord,
            sound().set(at::LENGTH, &(1i32 << 30).to_be_bytes()).seal(),
        ),
        ("base offset 5", ErrorCode::InvalidRecord, sound().set(at::BASE_OFFSET + 7, &[5]).seal()),
        ("count 0", ErrorCode::InvalidRecord, sound().set(at::RECORD_COUNT, &[0; 4]).seal()),
        ("count -1", ErrorCode::InvalidRecord, sound().set(at::RECORD_COUNT, &[0xff; 4]).seal()),
        ("count 2", ErrorCode::InvalidRecord, sound().set(at::RECORD_COUNT + 3, &[2]).seal()),
        (
            "count 2^31-1",
            ErrorCode::InvalidRecord,
            sound().set(at::RECORD_COUNT, &i32::MAX.to_be_bytes()).seal(),
        ),
        ("last delta 7", ErrorCode::InvalidRecord, sound().set(at::LAST_OFFSET_DELTA + 3, &[7]).seal()),
        ("last delta -1", ErrorCode::InvalidRecord, sound().set(at::LAST_OFFSET_DELTA, &[0xff; 4]).seal()),
        ("control", ErrorCode::InvalidRecord, sound().set(at::ATTRIBUTES, &[0, 0x20]).seal()),
        (
            "control of a transaction",
            ErrorCode::InvalidRecord,
            sound()
                .set(at::ATTRIBUTES, &[0, 0x20])
                .set(at::PRODUCER_ID, &[0; 8])
                .set(at::PRODUCER_EPOCH, &[0; 6])
                .seal(),
        ),
        (
            "a producer without a sequence",
            ErrorCode::InvalidRecord,
            sound().set(at::PRODUCER_ID, &[0; 8]).set(at::PRODUCER_EPOCH, &[0, 0]).seal(),
        ),
        (
            "LogAppendTime is set by the client",
            ErrorCode::InvalidTimestamp,
            sound()
                .set(at::ATTRIBUTES, &[0, 8])
                .set(at::BASE_TIMESTAMP, &[0xff; 8])
                .set(at::MAX_TIMESTAMP, &[0xff; 8])
                .seal(),
        ),
    ]);
}

#[test]
fn a_batch_whose_records_are_wrong_is_refused() {
    let of = |record: RawRecord| Forged::around(&record.encode(), 1).seal();
    let sound = RawRecord::new(0);
    let invalid = ErrorCode::InvalidRecord;
    refuses(vec![
        ("bytes are left over", invalid, Forged::around(&[&sound.encode()[..], &[0; 9]].concat(), 1).seal()),
        ("one record of two", invalid, Forged::around(&sound.encode(), 2).seal()),
        ("no records at all", invalid, Forged::around(&[], 1).seal()),
        ("length too small", invalid, of(RawRecord { length_error: -1, ..sound.clone() })),
        ("length too large", invalid, of(RawRecord { length_error: 1, ..sound.clone() })),
        ("length 2^31", invalid, of(RawRecord { length_error: i32::MAX.into(), ..sound.clone() })),
        ("length negative", invalid, of(RawRecord { length_error: -100, ..sound.clone() })),
        ("key length beyond the record", invalid, of(RawRecord { key_length: 1 << 30, ..sound.clone() })),
        ("value length beyond the record", invalid, of(RawRecord { value_length: 5, ..sound.clone() })),
        ("value length -9", invalid, of(RawRecord { value_length: -9, ..sound.clone() })),
        ("header count -1", invalid, of(RawRecord { header_count: -1, ..sound.clone() })),
        ("header count 2^30", invalid, of(RawRecord { header_count: 1 << 30, ..sound.clone() })),
        (
            "a header without a name",
            invalid,
            of(RawRecord { header_count: 1, rest: vec![1, 0], ..sound.clone() }),
        ),
        ("a header that is cut", invalid, of(RawRecord { header_count: 1, rest: vec![20], ..sound.clone() })),
    ]);
}

#[test]
fn records_that_apache_kafka_would_take_or_stumble_over_are_refused_too() {
    if !is_ours() {
        return;
    }
    let of = |record: RawRecord| Forged::around(&record.encode(), 1).seal();
    let sound = RawRecord::new(0);
    let twice = [sound.encode(), sound.encode()].concat();
    let invalid = ErrorCode::InvalidRecord;
    refuses(vec![
        ("offset delta 1 first", invalid, of(RawRecord::new(1))),
        ("offset delta -1", invalid, of(RawRecord::new(-1))),
        ("offset delta 0 twice", invalid, Forged::around(&twice, 2).seal()),
        ("key length -2", invalid, of(RawRecord { key_length: -2, ..sound.clone() })),
        ("varints without end", invalid, Forged::around(&[0xff; 40], 1).seal()),
        ("length 2^31-1", invalid, Forged::of(&["a"]).set(at::LENGTH, &i32::MAX.to_be_bytes()).seal()),
    ]);
}

#[test]
fn a_batch_that_does_not_decompress_is_refused() {
    // Kafka says UNKNOWN_SERVER_ERROR here, as it does where it does not know what went wrong.
    if !is_ours() {
        return;
    }
    let noise = [0x5a; 64];
    let invalid = ErrorCode::InvalidRecord;
    let mut cases = vec![];
    for (name, codec) in [("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)] {
        cases.push((name, invalid, Forged::around(&noise, 1).codec(codec).seal()));
        cases.push((name, invalid, Forged::around(&[], 1).codec(codec).seal()));
    }
    let xerial = |length: u32| {
        let head = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
        Forged::around(&[&head[..], &length.to_be_bytes(), &[0; 16]].concat(), 1).codec(2).seal()
    };
    cases.push(("a snappy chunk of 2^31-1", invalid, xerial(0x7fff_ffff)));
    cases.push(("a snappy chunk of 2^32-1", invalid, xerial(0xffff_ffff)));
    refuses(cases);
}

#[test]
fn an_unassigned_codec_is_refused_with_what_kafka_says() {
    for codec in [5, 6, 7] {
        refuses(vec![("codec", ErrorCode::UnknownServerError, Forged::of(&["a"]).codec(codec).seal())]);
    }
}

#[test]
fn a_record_out_of_time_is_refused_and_named() {
    let day = 86_400_000i64;
    let mut client = client();
    let topic = topic_with(
        1,
        &[("message.timestamp.before.max.ms", "86400000"), ("message.timestamp.after.max.ms", "3600000")],
    );
    for (what, delta) in [("too old", -2 * day), ("too new", 2 * day)] {
        let records =
            [RawRecord::new(0), RawRecord { timestamp_delta: delta, ..RawRecord::new(1) }, RawRecord::new(2)];
        let bytes = records.iter().flat_map(RawRecord::encode).collect::<Vec<_>>();
        let answer = outcome(&mut client, &topic, Forged::around(&bytes, 3).seal());
        assert_eq!(answer.error_code, ErrorCode::InvalidTimestamp, "{what}");
        let blamed: Vec<_> = answer.record_errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(blamed, [1], "{what}");
        assert!(answer.error_message.is_some());
    }
    let absurd = Forged::of(&["a"]).set(at::BASE_TIMESTAMP, &i64::MAX.to_be_bytes()).seal();
    assert_eq!(outcome(&mut client, &topic, absurd).error_code, ErrorCode::InvalidTimestamp);
}

#[test]
fn a_record_without_a_key_is_refused_by_a_compacted_topic() {
    let mut client = client();
    let topic = topic_with(1, &[("cleanup.policy", "compact")]);
    let with_key = RawRecord { key_length: 1, key: vec![b'k'], ..RawRecord::new(0) };
    let bytes = [with_key.encode(), RawRecord::new(1).encode()].concat();
    let answer = outcome(&mut client, &topic, Forged::around(&bytes, 2).seal());
    assert_eq!(answer.error_code, ErrorCode::InvalidRecord);
    assert_eq!(answer.record_errors.iter().map(|error| error.batch_index).collect::<Vec<_>>(), [1]);
    let answer = outcome(&mut client, &topic, Forged::around(&with_key.encode(), 1).seal());
    assert_eq!(answer.error_code, ErrorCode::None);
}

#[test]
fn a_batch_larger_than_a_topic_allows_is_refused() {
    let mut client = client();
    let small = topic_with(1, &[("max.message.bytes", "500")]);
    let large = Forged::of(&[&"x".repeat(600)]).seal();
    assert_eq!(outcome(&mut client, &small, large.clone()).error_code, ErrorCode::MessageTooLarge);
    let exact = Forged::of(&[&"x".repeat(400)]).seal();
    assert_eq!(outcome(&mut client, &small, exact).error_code, ErrorCode::None);
}

#[test]
fn zstd_needs_a_client_that_can_read_the_error() {
    let (mut client, topic) = (client(), topic(1));
    let batch = bomb(Compression::Zstd, 10);
    let answer = client.produce(&topic, 0, batch.clone(), None, 6).unwrap();
    assert_eq!(answer.error_code, ErrorCode::UnsupportedCompressionType);
    assert_eq!(client.produce(&topic, 0, batch, None, 7).unwrap().error_code, ErrorCode::None);
}

#[test]
fn every_codec_is_accepted_and_read_back() {
    let (mut client, topic) = (client(), topic(1));
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for codec in codecs {
        assert_eq!(outcome(&mut client, &topic, bomb(codec, 1000)).error_code, ErrorCode::None, "{codec}");
    }
    let values = client.values(&topic, 0, Isolation::ReadUncommitted).unwrap();
    assert_eq!(values, vec!["\0".repeat(1000); codecs.len()]);
}

#[test]
fn a_batch_is_refused_where_clients_do_not_write() {
    let mut client = client();
    let batch = || Forged::of(&["a"]).seal();
    client.set_retry_for(std::time::Duration::ZERO);
    for internal in ["__consumer_offsets", "__transaction_state"] {
        if client.topic_id(internal).is_err() {
            continue;
        }
        let answer = client.produce(internal, 0, batch(), None, 12).unwrap();
        assert_eq!(answer.error_code, ErrorCode::InvalidTopicException, "{internal}");
    }
    for (name, code) in
        [("no-such-topic", ErrorCode::UnknownTopicOrPartition), ("../x", ErrorCode::UnknownTopicOrPartition)]
    {
        let answer = client.produce(name, 0, batch(), None, 12).unwrap();
        assert_eq!(answer.error_code, code, "{name}");
    }
    let topic = topic(1);
    for partition in [-1, 1, i32::MIN, i32::MAX] {
        let answer = client.produce(&topic, partition, batch(), None, i16::MAX).unwrap();
        assert_eq!(answer.error_code, ErrorCode::UnknownTopicOrPartition, "{partition}");
    }
}

#[test]
fn acks_are_0_1_or_all() {
    let (mut client, topic) = (client(), topic(1));
    let request = |acks: i16| produce::Request {
        acks,
        timeout_ms: 1000,
        topic_data: vec![produce::TopicProduceData {
            name: topic.as_str().into(),
            partition_data: vec![produce::PartitionProduceData {
                index: 0,
                records: Some(Forged::of(&["a"]).seal().into()),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    for acks in [2, -2, i16::MAX] {
        let answer = client.call_up_to(&request(acks), 12).unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::InvalidRequiredAcks);
    }
    for acks in [1, -1] {
        let answer = client.call_up_to(&request(acks), 12).unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::None);
    }
    // There is no answer to acks=0: the next one on the connection is that of the next request.
    let _ = client.connection().send(&request(0), 12).unwrap();
    assert_eq!(requests::watermarks(&mut client, &topic, 0).0, 3);
}

#[test]
fn an_error_nobody_would_read_closes_the_connection() {
    let mut client = client();
    let request = produce::Request {
        acks: 0,
        topic_data: vec![produce::TopicProduceData {
            name: "no-such-topic".into(),
            partition_data: vec![produce::PartitionProduceData {
                index: 0,
                records: Some(Forged::of(&["a"]).seal().into()),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let _ = client.connection().send(&request, 12).unwrap();
    client.connection().wait_for_close().unwrap();
}

#[test]
fn one_bad_partition_does_not_hold_back_the_others() {
    let (mut client, topic) = (client(), topic(3));
    let data = |index, batch: Bytes| produce::PartitionProduceData { index, records: Some(batch.into()) };
    let request = produce::Request {
        acks: -1,
        timeout_ms: 1000,
        topic_data: vec![produce::TopicProduceData {
            name: topic.as_str().into(),
            partition_data: vec![
                data(0, Forged::of(&["a"]).seal()),
                data(1, Forged::of(&["b"]).set(at::CRC, &[0; 4]).raw()),
                data(2, Forged::of(&["c"]).seal()),
                data(9, Forged::of(&["d"]).seal()),
            ],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.call_up_to(&request, 12).unwrap();
    let partitions = answer.responses[0].partition_responses.iter();
    let mut codes: Vec<_> = partitions.map(|partition| (partition.index, partition.error_code)).collect();
    codes.sort();
    assert_eq!(
        codes,
        [
            (0, ErrorCode::None),
            (1, ErrorCode::CorruptMessage),
            (2, ErrorCode::None),
            (9, ErrorCode::UnknownTopicOrPartition)
        ]
    );
}

#[test]
fn the_producer_of_every_batch_is_looked_at_and_not_just_of_the_first() {
    let mut client = client();
    let topic = topic(2);
    let id = oncelog_tests::unique("tx");
    let identity = requests::new_identity(&mut client, &id);
    let stranger = (ProducerId(identity.0.0 + 1_000_000), ProducerEpoch(0));
    let write = |partition, identity, transactional_id| Write {
        topic: &topic,
        partition,
        identity,
        sequence: 0,
        count: 1,
        transactional_id,
    };
    let mut send = |first: Bytes, second: Bytes, transactional_id: Option<&str>| {
        let data = |index, batch: Bytes| produce::PartitionProduceData { index, records: Some(batch.into()) };
        let request = produce::Request {
            transactional_id: transactional_id.map(Into::into),
            acks: -1,
            timeout_ms: 1000,
            topic_data: vec![produce::TopicProduceData {
                name: topic.as_str().into(),
                partition_data: vec![data(0, first), data(1, second)],
                ..Default::default()
            }],
        };
        let answer = client.call_up_to(&request, 12).unwrap();
        let partitions = answer.responses[0].partition_responses.iter();
        partitions.map(|partition| partition.error_code).collect::<Vec<_>>()
    };
    // A plain batch first does not smuggle in a transactional one without a transactional id.
    let smuggled = send(Forged::of(&["plain"]).seal(), write(1, identity, Some("x")).batch(), None);
    assert_eq!(smuggled, [ErrorCode::TransactionalIdAuthorizationFailed; 2]);
    // Nor does one's own batch first bring in that of another producer.
    let foreign =
        send(write(0, identity, Some(&id)).batch(), write(1, stranger, Some(&id)).batch(), Some(&id));
    assert_eq!(foreign, [ErrorCode::InvalidProducerIdMapping; 2]);
    for partition in 0..2 {
        assert_eq!(requests::watermarks(&mut client, &topic, partition), (0, 0));
    }
}

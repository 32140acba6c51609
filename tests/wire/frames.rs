//! Frames: sizes, headers, versions, order, and bytes that are no request at all.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use oncelog_broker::{Broker, Config};
use oncelog_client::{Client, ClientError, Connection};
use oncelog_tests::forge::{flexible_frame, frame, frame_of_key, sized, unsigned_varint};
use oncelog_tests::{PATIENCE, Witness, address, client, connection, topic};
use oncelog_wire::{ApiKey, ErrorCode, api_versions, fetch, list_offsets, metadata};

/// Sends bytes on a connection of their own; the broker has to close it without an answer.
fn is_closed_on(what: &str, bytes: &[u8]) {
    let mut connection = connection();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    // The broker may close before it has taken all.
    let _ = connection.send_raw(bytes);
    connection.wait_for_close().unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// The frame of a request, as the client sends it.
fn good_frame<R: oncelog_wire::Request>(request: &R, version: i16) -> Vec<u8> {
    let header = oncelog_wire::RequestHeader {
        api_key: R::KEY,
        api_version: version,
        correlation_id: 7,
        client_id: Some("f".into()),
    };
    let chunks = oncelog_wire::encode_request(&header, request, &mut oncelog_wire::Writer::new());
    let parts = chunks.into_iter().map(|chunk| match chunk {
        oncelog_wire::Chunk::Bytes(bytes) => bytes.to_vec(),
        oncelog_wire::Chunk::File(_) => unreachable!("requests carry no files"),
    });
    parts.collect::<Vec<_>>().concat()
}

#[test]
fn a_size_that_no_request_has_closes_the_connection() {
    let mut witness = Witness::of(address());
    for size in [0, -1, i32::MIN, 104_857_601, i32::MAX] {
        is_closed_on(&format!("size {size}"), &size.to_be_bytes());
    }
    witness.is_served();
}

#[test]
fn another_protocol_on_the_plain_port_is_turned_away() {
    let mut witness = Witness::of(address());
    let tls_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 500]].concat();
    is_closed_on("TLS", &tls_hello);
    is_closed_on("HTTP", b"GET /metrics HTTP/1.1\r\nHost: localhost:9092\r\n\r\n");
    is_closed_on("HTTP", b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
    is_closed_on("SSH", b"SSH-2.0-OpenSSH_9.6\r\n");
    witness.is_served();
}

#[test]
fn an_api_that_no_client_may_use_closes_the_connection() {
    let mut witness = Witness::of(address());
    for key in [-1, 4, 5, 6, 7, 52, 58, 62, 67, 93, 1000, i16::MAX, i16::MIN] {
        is_closed_on(&format!("key {key}"), &frame_of_key(key, 0, &[0; 64]));
    }
    witness.is_served();
}

#[test]
fn a_version_that_is_not_served_closes_the_connection_without_an_answer() {
    for (api, version) in [
        (ApiKey::Produce, 14),
        (ApiKey::Produce, 2),
        (ApiKey::Produce, 0),
        (ApiKey::Fetch, 3),
        (ApiKey::Fetch, 19),
        (ApiKey::Metadata, 14),
        (ApiKey::Metadata, -1),
        (ApiKey::ListOffsets, 0),
        (ApiKey::CreateTopics, 1),
        (ApiKey::EndTxn, i16::MAX),
    ] {
        is_closed_on(&format!("{api} {version}"), &frame(api, version, &[0; 64]));
    }
}

#[test]
fn api_versions_in_an_unknown_version_is_answered_in_version_0_with_its_own_range() {
    for version in [5, 99, i16::MAX, -1] {
        let mut connection = connection();
        connection.send_raw(&flexible_frame(ApiKey::ApiVersions, version, &[1, 2, 3])).unwrap();
        let (correlation_id, answer) =
            oncelog_wire::decode_response::<api_versions::Request>(0, connection.receive_frame().unwrap())
                .unwrap();
        assert_eq!(correlation_id, 7);
        assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion, "version {version}");
        let keys: Vec<_> =
            answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        assert_eq!(keys, [(18, 0, 4)]);
        // The connection stays, for the client to try again.
        assert_eq!(connection.api_versions().unwrap().error_code, ErrorCode::None);
    }
}

#[test]
fn produce_is_advertised_from_version_0_for_the_sake_of_old_clients() {
    let answer = connection().api_versions().unwrap();
    let produce = answer.api_keys.iter().find(|api| api.api_key == 0).unwrap();
    assert_eq!((produce.min_version, produce.max_version), (0, 13));
}

#[test]
fn a_client_with_an_odd_name_for_its_software_is_refused_but_not_disconnected() {
    let mut connection = connection();
    for (name, version, code) in [
        ("", "1", ErrorCode::InvalidRequest),
        ("-x", "1", ErrorCode::InvalidRequest),
        ("x", "1.", ErrorCode::InvalidRequest),
        ("x\r\ny", "1", ErrorCode::InvalidRequest),
        ("a.b-c", "1.0-beta", ErrorCode::None),
    ] {
        let request = api_versions::Request {
            client_software_name: name.into(),
            client_software_version: version.into(),
        };
        assert_eq!(connection.call(&request, 4).unwrap().error_code, code, "{name:?} {version:?}");
    }
}

#[test]
fn a_request_cut_anywhere_closes_the_connection() {
    let mut witness = Witness::of(address());
    let topics =
        Some(vec![metadata::MetadataRequestTopic { name: Some("cut".into()), ..Default::default() }]);
    let metadata = metadata::Request { topics, allow_auto_topic_creation: false, ..Default::default() };
    let fetch = fetch::Request {
        topics: vec![fetch::FetchTopic {
            topic: "cut".into(),
            partitions: vec![fetch::FetchPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    for whole in
        [good_frame(&metadata, 4), good_frame(&metadata, 13), good_frame(&fetch, 11), good_frame(&fetch, 18)]
    {
        for end in 4..whole.len() - 4 {
            is_closed_on(&format!("{end} of {whole:?}"), &sized(&whole[4..4 + end]));
        }
    }
    witness.is_served();
}

#[test]
fn what_follows_a_whole_body_is_ignored() {
    let whole = good_frame(&metadata::Request { topics: Some(vec![]), ..Default::default() }, 9);
    let mut connection = connection();
    connection.send_raw(&sized(&[&whole[4..], &[0xff; 100]].concat())).unwrap();
    let frame = connection.receive_frame().unwrap();
    let (_, answer) = oncelog_wire::decode_response::<metadata::Request>(9, frame).unwrap();
    assert_eq!(answer.brokers.len(), 1);
}

#[test]
fn lengths_and_counts_beyond_the_frame_close_the_connection() {
    let mut witness = Witness::of(address());
    let huge = i32::MAX.to_be_bytes();
    for (what, bytes) in [
        ("array of 2^31 topics", frame(ApiKey::Metadata, 0, &huge)),
        ("compact array of 2^32", flexible_frame(ApiKey::Metadata, 9, &unsigned_varint(u32::MAX.into()))),
        (
            "a varint of 6 bytes",
            flexible_frame(ApiKey::Metadata, 9, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0, 0]),
        ),
        ("array of 2^31 groups", frame(ApiKey::FindCoordinator, 0, &[0x7f, 0xff, b'x'])),
        ("a string of -2", frame(ApiKey::FindCoordinator, 0, &[0xff, 0xfe, b'x', b'y'])),
        ("null where there has to be a name", frame(ApiKey::FindCoordinator, 0, &[0xff, 0xff])),
        (
            "produce of 2^31 topics",
            frame(ApiKey::Produce, 3, &[&[0xff, 0xff, 0, 1, 0, 0, 0, 9][..], &huge].concat()),
        ),
        (
            "records of 2^31 bytes",
            frame(
                ApiKey::Produce,
                3,
                &[&[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0][..], &huge]
                    .concat(),
            ),
        ),
        ("the client id is longer than the frame", sized(&[0, 3, 0, 1, 0, 0, 0, 7, 0x7f, 0xff, b'x'])),
        ("the header is cut", sized(&[0, 3, 0, 1, 0, 0])),
    ] {
        is_closed_on(what, &bytes);
    }
    witness.is_served();
}

#[test]
fn a_body_whose_text_is_not_utf_8_closes_the_connection_or_names_nothing() {
    // Kafka puts a question mark in the place of what it cannot read, so either is as good.
    let mut connection = connection();
    connection.send_raw(&frame(ApiKey::Metadata, 1, &[0, 0, 0, 1, 0, 2, 0xff, 0xfe])).unwrap();
    match connection.receive_frame() {
        Err(ClientError::Closed) => {}
        other => {
            let (_, answer) = oncelog_wire::decode_response::<metadata::Request>(1, other.unwrap()).unwrap();
            assert_eq!(answer.topics[0].error_code, ErrorCode::InvalidTopicException);
        }
    }
}

#[test]
fn a_client_without_a_name_is_served() {
    let mut connection = connection();
    connection.send_raw(&sized(&[0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0, 0, 0, 0])).unwrap();
    let frame = connection.receive_frame().unwrap();
    assert_eq!(frame[..4], [0, 0, 0, 9]);
}

#[test]
fn unknown_tagged_fields_are_passed_over() {
    let tags = [&[2][..], &[9, 3, 1, 2, 3], &unsigned_varint(1000), &[0]].concat();
    let body = [&tags[..], &[1, 1, 0, 0], &tags].concat();
    let mut connection = connection();
    connection.send_raw(&frame(ApiKey::Metadata, 12, &body)).unwrap();
    let (_, answer) =
        oncelog_wire::decode_response::<metadata::Request>(12, connection.receive_frame().unwrap()).unwrap();
    assert_eq!(answer.brokers.len(), 1);
}

#[test]
fn a_request_that_comes_byte_by_byte_is_answered() {
    let whole = good_frame(&metadata::Request { topics: Some(vec![]), ..Default::default() }, 9);
    let mut connection = connection();
    for byte in &whole {
        connection.send_raw(&[*byte]).unwrap();
        connection.stream().flush().unwrap();
    }
    assert_eq!(connection.receive_frame().unwrap()[..4], [0, 0, 0, 7]);
}

#[test]
fn answers_come_in_the_order_of_the_requests_also_behind_one_that_waits() {
    let topic = topic(1);
    let mut client = client();
    let topic_id = client.topic_id(&topic).unwrap();
    let slow = fetch::Request {
        max_wait_ms: 200,
        min_bytes: 1,
        session_epoch: -1,
        topics: vec![fetch::FetchTopic {
            topic: topic.as_str().into(),
            topic_id,
            partitions: vec![fetch::FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() }],
        }],
        ..Default::default()
    };
    let quick = metadata::Request { topics: Some(vec![]), ..Default::default() };
    let connection = client.connection();
    let mut waiting = Vec::new();
    for _ in 0..100 {
        waiting.push(connection.send(&quick, 12).unwrap());
    }
    let last = connection.send(&slow, 16).unwrap();
    let behind: Vec<_> = (0..100).map(|_| connection.send(&quick, 9).unwrap()).collect();
    for pending in waiting {
        assert_eq!(connection.receive(pending).unwrap().brokers.len(), 1);
    }
    assert_eq!(connection.receive(last).unwrap().error_code, ErrorCode::None);
    for pending in behind {
        assert_eq!(connection.receive(pending).unwrap().brokers.len(), 1);
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_request_or_a_wait_is_forgotten() {
    let mut witness = Witness::of(address());
    let topic = topic(1);
    for _ in 0..50 {
        let mut client = client();
        let topic_id = client.topic_id(&topic).unwrap();
        let request = fetch::Request {
            max_wait_ms: 60_000,
            min_bytes: 1,
            session_epoch: -1,
            topics: vec![fetch::FetchTopic {
                topic: topic.as_str().into(),
                topic_id,
                partitions: vec![fetch::FetchPartition {
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let _ = client.connection().send(&request, 16).unwrap();
        client.connection().shutdown();
        let mut connection = connection();
        connection.send_raw(&[0, 0, 1, 0, 0]).unwrap();
        connection.shutdown();
    }
    client().produce_values(&topic, 0, ["x"]).unwrap();
    witness.is_served();
}

#[test]
fn more_than_socket_request_max_bytes_is_refused() {
    let broker =
        Broker::start(Config::ephemeral().with("socket.request.max.bytes", "1000").unwrap()).unwrap();
    let at_size = |size: usize| {
        let whole = good_frame(&metadata::Request { topics: Some(vec![]), ..Default::default() }, 9);
        let mut connection = Connection::connect(broker.address(), "tests").unwrap();
        let mut body = whole[4..].to_vec();
        body.resize(size, 0);
        let _ = connection.send_raw(&sized(&body));
        connection.receive_frame()
    };
    assert!(at_size(1000).is_ok());
    assert!(matches!(at_size(1001), Err(ClientError::Closed)));
    assert!(at_size(100).is_ok());
}

#[test]
fn no_more_than_max_connections_are_served() {
    for key in ["max.connections", "max.connections.per.ip"] {
        let broker = Broker::start(Config::ephemeral().with(key, "3").unwrap()).unwrap();
        let connect = || Client::connect(broker.address(), "tests");
        let mut served: Vec<_> = (0..3).map(|_| connect().unwrap()).collect();
        assert!(matches!(connect(), Err(ClientError::Closed | ClientError::Io(_))), "{key}");
        served.pop();
        oncelog_tests::eventually("a place that was given up is taken", || connect().is_ok());
        served[0].create_topic("still-served", 1).unwrap();
    }
}

#[test]
fn requests_take_turns_at_the_memory_they_may_have_together() {
    let config = Config::ephemeral().with("queued.max.request.bytes", "200000").unwrap();
    let broker = Broker::start(config).unwrap();
    let address = broker.address();
    Client::connect(address, "tests").unwrap().create_topic("shared", 1).unwrap();
    let value = "x".repeat(150_000);
    // One that never comes to its end holds up nobody for ever: it is gone as soon as its client is.
    let mut stalled = Connection::connect(address, "tests").unwrap();
    stalled.send_raw(&[&1_000_000i32.to_be_bytes()[..], &[0; 30_000]].concat()).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let value = value.clone();
            std::thread::spawn(move || {
                let mut client = Client::connect(address, "tests").unwrap();
                (0..10).for_each(|_| {
                    client.produce_values("shared", 0, [&value]).unwrap();
                });
            })
        })
        .collect();
    stalled.shutdown();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut client = Client::connect(address, "tests").unwrap();
    assert_eq!(oncelog_tests::requests::watermarks(&mut client, "shared", 0).0, 80);
}

#[test]
fn a_request_that_comes_too_slowly_ends_its_connection_after_30_seconds() {
    let broker = Broker::start(Config::ephemeral()).unwrap();
    let start = Instant::now();
    let ends_of = [false, true].map(|trickles| {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        stream.write_all(&1_000i32.to_be_bytes()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        std::thread::spawn(move || {
            // Neither a client that has stopped nor one that sends a byte now and then is waited for any longer.
            while start.elapsed() < Duration::from_secs(60) {
                match stream.read(&mut [0]) {
                    Ok(count) => return (count, start.elapsed()),
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => return (0, start.elapsed()),
                    Err(_) if trickles => stream.write_all(&[0]).unwrap_or_default(),
                    Err(_) => {}
                }
            }
            panic!("the connection is still there")
        })
    });
    for ends in ends_of {
        let (answered, after) = ends.join().unwrap();
        assert_eq!(answered, 0);
        assert!((29..45).contains(&after.as_secs()), "{after:?}");
    }
}

#[test]
fn a_silent_connection_is_closed_after_connections_max_idle() {
    let broker = Broker::start(Config::ephemeral().with("connections.max.idle.ms", "500").unwrap()).unwrap();
    let mut connection = Connection::connect(broker.address(), "tests").unwrap();
    connection.wait_for_close().unwrap();
    // One that asks for something now and then is not, however long it waits for the answer.
    let mut client = Client::connect(broker.address(), "tests").unwrap();
    client.create_topic("idle", 1).unwrap();
    let data = client
        .fetch(
            "idle",
            0,
            oncelog_wire::Offset(0),
            oncelog_client::Isolation::ReadUncommitted,
            Duration::from_millis(900),
        )
        .unwrap();
    assert_eq!(data.error_code, ErrorCode::None);
}

#[test]
fn a_handler_gets_numbers_of_every_kind_and_the_connection_stays() {
    let mut connection = connection();
    for number in [i32::MIN, -7, -2, 0, 1, i32::MAX] {
        let request = list_offsets::Request {
            replica_id: number,
            topics: vec![list_offsets::ListOffsetsTopic {
                name: "no-such-topic".into(),
                partitions: vec![list_offsets::ListOffsetsPartition {
                    partition_index: number,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let answer = connection.call(&request, 6).unwrap();
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::UnknownTopicOrPartition);
    }
}

#[test]
fn frames_of_noise_end_nothing_but_their_own_connection() {
    let mut witness = Witness::of(address());
    // A linear congruential generator: the same noise each time.
    let mut state = 12345u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    for _ in 0..400 {
        let size = 10 + next() as usize % 120;
        let mut noise: Vec<u8> = (0..size).map(|_| next() as u8).collect();
        // A known API in a likely version, so that the noise reaches its decoder and at times its handler.
        noise[..2].copy_from_slice(&((next() % 93) as i16).to_be_bytes());
        noise[2..4].copy_from_slice(&((next() % 8) as i16).to_be_bytes());
        noise[8..10].copy_from_slice(&[0xff, 0xff]);
        let mut connection = connection();
        let _ = connection.send_raw(&sized(&noise));
        connection.stream().shutdown(std::net::Shutdown::Write).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = connection.receive_frame();
    }
    witness.is_served();
}

use std::thread::sleep;
use std::time::Duration;

use oncelog_client::Isolation;
use oncelog_tests::process::BrokerProcess;
use oncelog_tests::{address, eventually};
use oncelog_wire::ApiKey;
use rdkafka::Message;
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};

use crate::clients::{delivered, ends, enqueue, member, next, numbered, producer, read, reports, topic};
use crate::lost_answers::behind_proxy;
use oncelog_tests::proxy::Fault;

fn in_order(count: usize) -> Vec<i64> {
    (0..count as i64).collect()
}

#[test]
fn a_thousand_records_are_there_once_and_in_order_after_kill_9() {
    let mut broker = BrokerProcess::start(&[]);
    let topic = topic(broker.address(), 1);
    let producer = producer(broker.address(), &[("batch.num.messages", "10")]);
    let values = numbered("record", 1000);
    let mut offsets = Vec::new();
    for (index, value) in values.iter().enumerate() {
        enqueue(&producer, &topic, 0, value);
        if index == 300 || index == 700 {
            eventually("some more are acknowledged", || {
                producer.poll(Duration::from_millis(1));
                let more = reports(&producer);
                offsets.extend(more.iter().map(|report| *report.as_ref().unwrap()));
                !more.is_empty()
            });
            broker.kill();
            if index == 700 {
                sleep(Duration::from_millis(100));
            }
            broker.start_again();
        }
    }
    offsets.extend(delivered(&producer));
    assert_eq!(offsets, in_order(1000));
    assert_eq!(read(broker.address(), &topic, 1, Isolation::ReadCommitted), [values]);
}

#[test]
fn a_thousand_records_are_there_once_and_in_order_when_answers_are_lost() {
    let (_broker, proxy) = behind_proxy();
    let topic = topic(proxy.address(), 1);
    for _ in 0..8 {
        proxy.arm(ApiKey::Produce, Fault::LoseAnswer, 7);
        proxy.arm(ApiKey::Produce, Fault::LoseRequest, 2);
    }
    let producer = producer(proxy.address(), &[("batch.num.messages", "10")]);
    let values = numbered("record", 1000);
    for value in &values {
        enqueue(&producer, &topic, 0, value);
    }
    assert_eq!(delivered(&producer), in_order(1000));
    assert_eq!(proxy.armed(), 0, "all faults have struck");
    assert_eq!(ends(proxy.address(), &topic, 0), (1000, 1000));
    assert_eq!(read(proxy.address(), &topic, 1, Isolation::ReadCommitted), [values]);
}

#[test]
fn every_codec_carries_keys_headers_and_nulls() {
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    let topic = topic(address(), codecs.len() as i32);
    for (partition, codec) in codecs.iter().enumerate() {
        let producer = producer(address(), &[("compression.codec", codec), ("linger.ms", "5")]);
        for number in 0..30 {
            let (key, value) = (format!("key {number}"), format!("value {number} ").repeat(number));
            let number = number.to_string();
            let headers = OwnedHeaders::new()
                .insert(Header { key: "number", value: Some(&number) })
                .insert(Header { key: "number", value: Some("again") })
                .insert(Header { key: "null", value: None::<&str> });
            let mut record = BaseRecord::to(&topic)
                .partition(partition as i32)
                .timestamp(1_700_000_000_000)
                .headers(headers);
            if number != "0" {
                record = record.key(&key).payload(&value);
            }
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }
    let member = member(address(), &oncelog_tests::unique("codecs"), &topic, &[]);
    let mut numbers = vec![0; codecs.len()];
    while numbers.iter().any(|&number| number < 30) {
        let record = next(&member);
        let number = &mut numbers[record.partition() as usize];
        let (key, value) = (format!("key {number}"), format!("value {number} ").repeat(*number));
        let (key, value) = if *number == 0 { (None, None) } else { (Some(key), Some(value)) };
        assert_eq!(record.key(), key.as_ref().map(String::as_bytes));
        assert_eq!(record.payload(), value.as_ref().map(String::as_bytes));
        assert_eq!(record.timestamp().to_millis(), Some(1_700_000_000_000));
        let headers: Vec<_> = record.headers().unwrap().iter().map(|one| (one.key, one.value)).collect();
        let text = number.to_string();
        let expected =
            [("number", Some(text.as_bytes())), ("number", Some(b"again".as_slice())), ("null", None)];
        assert_eq!(headers, expected);
        *number += 1;
    }
}

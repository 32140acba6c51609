//! Every message at every version: what is encoded decodes to the same, and nothing is left over.

#[path = "support/mod.rs"]
mod support;

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::Bytes;
use oncelog_wire::{Message, Reader};
use support::samples::visit_messages;
use support::{Sample, Sampler, Visitor, encode};

struct RoundTrip {
    sampler: Sampler,
    messages: usize,
}

impl Visitor for RoundTrip {
    fn message<M: Message + Sample + Clone + Debug + PartialEq>(
        &mut self,
        name: &'static str,
        versions: RangeInclusive<i16>,
    ) {
        for version in versions {
            self.check(name, version, &M::default());
            for _ in 0..20 {
                let message: M = self.sampler.message(version);
                self.check(name, version, &message);
            }
        }
        self.messages += 1;
    }
}

impl RoundTrip {
    fn check<M: Message + Clone + Debug + PartialEq>(&self, name: &str, version: i16, message: &M) {
        let bytes = encode(message, version);
        assert!(bytes.len() >= M::MIN_SIZE, "{name} v{version} takes less than its MIN_SIZE");
        let mut r = Reader::new(bytes.clone());
        let decoded = M::decode(&mut r, version).unwrap_or_else(|error| panic!("{name} v{version}: {error}"));
        assert_eq!(r.remaining(), 0, "{name} v{version} leaves bytes unread");
        assert_eq!(encode(&decoded, version), bytes, "{name} v{version} encodes to other bytes");
        if *message != M::default() {
            assert_eq!(decoded, *message, "{name} v{version}");
        }
    }
}

#[test]
fn every_message_reads_back_as_it_was_written_at_every_version() {
    let mut round_trip = RoundTrip { sampler: Sampler::from_environment(), messages: 0 };
    visit_messages(&mut round_trip);
    assert!(round_trip.messages >= 77 * 2);
}

struct KafkaBytes {
    lines: Vec<(String, i16, Bytes)>,
}

impl Visitor for KafkaBytes {
    fn message<M: Message + Sample + Clone + Debug + PartialEq>(
        &mut self,
        name: &'static str,
        versions: RangeInclusive<i16>,
    ) {
        self.lines.retain(|(line_name, version, bytes)| {
            let is_mine = line_name.replace('/', " ") == name && versions.contains(version);
            if is_mine {
                let mut r = Reader::new(bytes.clone());
                let message = M::decode(&mut r, *version);
                let message = message.unwrap_or_else(|error| panic!("{name} v{version}: {error}"));
                assert_eq!(r.remaining(), 0, "{name} v{version} leaves bytes unread");
                assert_eq!(encode(&message, *version), bytes, "{name} v{version}: {message:?}");
            }
            !is_mine
        });
    }
}

#[test]
fn bytes_of_kafka_are_read_and_written_again_unchanged() {
    let text = include_str!("testdata/kafka-4.3.1.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("three words");
        (word().to_owned(), word().parse().expect("a version"), unhex(word()))
    });
    let mut kafka = KafkaBytes { lines: lines.collect() };
    assert!(kafka.lines.len() > 100);
    visit_messages(&mut kafka);
    assert!(kafka.lines.is_empty(), "no such messages: {:?}", kafka.lines);
}

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

//! Idempotence as the wire shows it: sequence numbers, epochs, and who may bump them (KIP-98, KIP-360).

use oncelog_client::{Client, Isolation};
use oncelog_tests::requests::{self, Identity, Write};
use oncelog_tests::{client, topic, unique};
use oncelog_wire::{ErrorCode, Offset, ProducerEpoch, ProducerId};

const MAX: i32 = i32::MAX;

fn identity(client: &mut Client) -> Identity {
    loop {
        let answer = requests::init_producer_id(client, None, MAX, None).unwrap();
        // Kafka says so while it fetches the next block of ids.
        if answer.error_code != ErrorCode::CoordinatorLoadInProgress {
            assert_eq!(answer.error_code, ErrorCode::None);
            return (answer.producer_id, answer.producer_epoch);
        }
    }
}

/// A partition, and batches without transactions into it.
struct Partition {
    client: Client,
    topic: String,
}

impl Partition {
    fn new() -> Partition {
        Partition { client: client(), topic: topic(1) }
    }

    fn send(&mut self, identity: Identity, sequence: i32, count: i32) -> (ErrorCode, i64) {
        let topic = &self.topic;
        let write = Write { topic, partition: 0, identity, sequence, count, transactional_id: None };
        let (code, offset) = write.outcome(&mut self.client);
        (code, offset.0)
    }

    fn takes(&mut self, identity: Identity, sequence: i32, count: i32) {
        let end = self.end();
        assert_eq!(self.send(identity, sequence, count), (ErrorCode::None, end), "sequence {sequence}");
        assert_eq!(self.end(), end + i64::from(count), "sequence {sequence} was taken before");
    }

    fn repeats(&mut self, identity: Identity, sequence: i32, count: i32, offset: i64) {
        let end = self.end();
        assert_eq!(self.send(identity, sequence, count), (ErrorCode::None, offset), "sequence {sequence}");
        assert_eq!(self.end(), end, "sequence {sequence} was written twice");
    }

    fn refuses(&mut self, identity: Identity, sequence: i32, count: i32, code: ErrorCode) {
        let end = self.end();
        assert_eq!(self.send(identity, sequence, count), (code, -1), "sequence {sequence}");
        assert_eq!(self.end(), end);
    }

    fn end(&mut self) -> i64 {
        self.client.end_offset(&self.topic, 0, Isolation::ReadUncommitted).unwrap().0
    }
}

fn next_epoch((id, epoch): Identity) -> Identity {
    (id, epoch.next())
}

#[test]
fn a_batch_sent_again_has_the_offset_it_had_if_it_is_among_the_last_five() {
    let mut partition = Partition::new();
    let me = identity(&mut partition.client);
    for at in 0..7 {
        partition.takes(me, at * 2, 2);
    }
    for at in 2..7 {
        partition.repeats(me, at * 2, 2, i64::from(at) * 2);
    }
    for at in 0..2 {
        partition.refuses(me, at * 2, 2, ErrorCode::OutOfOrderSequenceNumber);
    }
    // The same first sequence is not yet the same batch.
    partition.refuses(me, 12, 1, ErrorCode::OutOfOrderSequenceNumber);
    partition.refuses(me, 12, 3, ErrorCode::OutOfOrderSequenceNumber);
    partition.takes(me, 14, 1);
}

#[test]
fn a_gap_is_refused_until_it_is_filled() {
    let mut partition = Partition::new();
    let me = identity(&mut partition.client);
    partition.takes(me, 0, 3);
    for sequence in [1, 2, 4, 100, MAX] {
        partition.refuses(me, sequence, 1, ErrorCode::OutOfOrderSequenceNumber);
    }
    partition.takes(me, 3, 1);
    partition.takes(me, 4, 1);
}

#[test]
fn sequences_go_on_at_0_after_the_largest() {
    let mut partition = Partition::new();
    let me = identity(&mut partition.client);
    // A partition that knows nothing of a producer takes it as it comes.
    partition.takes(me, MAX - 2, 2);
    partition.takes(me, MAX, 3);
    partition.repeats(me, MAX, 3, 2);
    partition.refuses(me, 0, 1, ErrorCode::OutOfOrderSequenceNumber);
    partition.takes(me, 2, 1);
    let other = identity(&mut partition.client);
    partition.takes(other, MAX, 1);
    partition.takes(other, 0, 1);
}

#[test]
fn producers_do_not_disturb_each_other() {
    let mut partition = Partition::new();
    let (mine, yours) = (identity(&mut partition.client), identity(&mut partition.client));
    assert_ne!(mine.0, yours.0);
    partition.takes(mine, 0, 1);
    partition.takes(yours, 0, 1);
    partition.takes(yours, 1, 1);
    partition.takes(mine, 1, 1);
    partition.repeats(yours, 0, 1, 1);
    partition.client.produce_values(&partition.topic, 0, ["of nobody"]).unwrap();
    partition.takes(mine, 2, 1);
}

#[test]
fn an_old_epoch_is_refused_and_a_new_one_begins_at_0() {
    let mut partition = Partition::new();
    let old = identity(&mut partition.client);
    let new = next_epoch(old);
    partition.takes(old, 0, 1);
    partition.takes(old, 1, 1);
    partition.refuses(new, 2, 1, ErrorCode::OutOfOrderSequenceNumber);
    partition.takes(new, 0, 1);
    partition.refuses(old, 2, 1, ErrorCode::InvalidProducerEpoch);
    // What was a repetition under the old epoch is one no more.
    partition.refuses(old, 1, 1, ErrorCode::InvalidProducerEpoch);
    partition.repeats(new, 0, 1, 2);
    partition.takes(new, 1, 1);
}

#[test]
fn a_producer_id_nobody_was_given_has_no_past() {
    let mut partition = Partition::new();
    let made_up = (ProducerId(i64::MAX), ProducerEpoch(i16::MAX));
    partition.takes(made_up, 77, 1);
    partition.takes(made_up, 78, 1);
    partition.refuses(made_up, 80, 1, ErrorCode::OutOfOrderSequenceNumber);
}

#[test]
fn producer_ids_are_given_once() {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let mut client = client();
                (0..300).map(|_| identity(&mut client).0).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let given = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), given);
}

#[test]
fn an_idempotent_producer_may_ask_with_any_timeout_and_gets_a_new_id_each_time() {
    let mut client = client();
    let first = identity(&mut client);
    assert_eq!(first.1, ProducerEpoch(0));
    for timeout in [0, -1, 1, MAX] {
        let answer = requests::init_producer_id(&mut client, None, timeout, None).unwrap();
        assert_eq!((answer.error_code, answer.producer_epoch), (ErrorCode::None, ProducerEpoch(0)));
    }
    let answer = requests::init_producer_id(&mut client, None, MAX, Some(first)).unwrap();
    assert_eq!((answer.error_code, answer.producer_epoch), (ErrorCode::None, ProducerEpoch(0)));
    assert_ne!(answer.producer_id, first.0);
}

#[test]
fn half_an_identity_is_no_identity() {
    let mut client = client();
    let (id, epoch) = identity(&mut client);
    let transactional_id = unique("tx");
    requests::new_identity(&mut client, &transactional_id);
    for half in [(id, ProducerEpoch::NONE), (ProducerId::NONE, epoch)] {
        for transactional_id in [None, Some(transactional_id.as_str())] {
            let answer = requests::init_producer_id(&mut client, transactional_id, 1000, Some(half)).unwrap();
            assert_eq!(answer.error_code, ErrorCode::InvalidRequest);
            assert_eq!((answer.producer_id, answer.producer_epoch), (ProducerId::NONE, ProducerEpoch::NONE));
        }
    }
}

#[test]
fn transaction_timeouts_out_of_range_are_refused() {
    let mut client = client();
    let transactional_id = unique("tx");
    requests::new_identity(&mut client, &transactional_id);
    for timeout in [0, -1, i32::MIN, 900_001, MAX] {
        let answer = requests::init_producer_id(&mut client, Some(&transactional_id), timeout, None).unwrap();
        assert_eq!(answer.error_code, ErrorCode::InvalidTransactionTimeout, "{timeout}");
    }
    for timeout in [1, 900_000] {
        let answer = requests::init_producer_id(&mut client, Some(&transactional_id), timeout, None).unwrap();
        assert_eq!(answer.error_code, ErrorCode::None, "{timeout}");
    }
    let answer = requests::init_producer_id(&mut client, Some(""), 1000, None).unwrap();
    assert_eq!(answer.error_code, ErrorCode::InvalidRequest);
}

#[test]
fn each_initialization_of_a_transactional_id_bumps_the_epoch_and_keeps_the_id() {
    let mut client = client();
    let transactional_id = unique("tx");
    let (id, epoch) = requests::new_identity(&mut client, &transactional_id);
    assert_eq!(epoch, ProducerEpoch(0));
    for bumped in 1..4 {
        assert_eq!(requests::new_identity(&mut client, &transactional_id), (id, ProducerEpoch(bumped)));
    }
}

#[test]
fn a_producer_bumps_its_own_epoch_once_even_if_the_answer_was_lost() {
    let mut client = client();
    let transactional_id = unique("tx");
    let first = requests::new_identity(&mut client, &transactional_id);
    let mut bump = |expected| {
        let answer = requests::init_producer_id(&mut client, Some(&transactional_id), 60_000, Some(expected));
        let answer = answer.unwrap();
        (answer.error_code, (answer.producer_id, answer.producer_epoch))
    };
    let second = next_epoch(first);
    assert_eq!(bump(first), (ErrorCode::None, second));
    assert_eq!(bump(first), (ErrorCode::None, second), "the same request again is the same bump");
    let third = next_epoch(second);
    assert_eq!(bump(second), (ErrorCode::None, third));
    let none = (ProducerId::NONE, ProducerEpoch::NONE);
    assert_eq!(bump(first), (ErrorCode::ProducerFenced, none), "what came before that is a zombie's");
    assert_eq!(bump(next_epoch(third)), (ErrorCode::ProducerFenced, none), "nobody has this epoch yet");
    assert_eq!(bump((ProducerId(first.0.0 + 1), third.1)), (ErrorCode::ProducerFenced, none));
    assert_eq!(bump(third), (ErrorCode::None, next_epoch(third)));
}

#[test]
fn clients_that_do_not_know_fencing_are_told_of_an_invalid_epoch() {
    let mut client = client();
    let transactional_id = unique("tx");
    let zombie = requests::new_identity(&mut client, &transactional_id);
    requests::new_identity(&mut client, &transactional_id);
    requests::new_identity(&mut client, &transactional_id);
    for (version, code) in [(3, ErrorCode::InvalidProducerEpoch), (4, ErrorCode::ProducerFenced)] {
        let request = oncelog_wire::init_producer_id::Request {
            transactional_id: Some(transactional_id.as_str().into()),
            transaction_timeout_ms: 1000,
            producer_id: zombie.0,
            producer_epoch: zombie.1,
            ..Default::default()
        };
        assert_eq!(client.call_up_to(&request, version).unwrap().error_code, code, "version {version}");
    }
    for (version, code) in [(1, ErrorCode::InvalidProducerEpoch), (2, ErrorCode::ProducerFenced)] {
        let answer = requests::end_txn(&mut client, &transactional_id, zombie, true, version).unwrap();
        assert_eq!(answer.error_code, code, "version {version}");
    }
}

#[test]
fn pipelined_batches_of_one_producer_are_written_in_order() {
    let mut client = client();
    let topic = topic(1);
    let me = identity(&mut client);
    let mut pending = Vec::new();
    let batches: Vec<_> = (0..50)
        .map(|sequence| {
            let write = Write {
                topic: &topic,
                partition: 0,
                identity: me,
                sequence,
                count: 1,
                transactional_id: None,
            };
            oncelog_wire::produce::Request {
                acks: -1,
                timeout_ms: 1000,
                topic_data: vec![oncelog_wire::produce::TopicProduceData {
                    name: topic.as_str().into(),
                    partition_data: vec![oncelog_wire::produce::PartitionProduceData {
                        index: 0,
                        records: Some(write.batch().into()),
                    }],
                    ..Default::default()
                }],
                ..Default::default()
            }
        })
        .collect();
    for batch in &batches {
        pending.push(client.connection().send(batch, 12).unwrap());
    }
    for (at, pending) in pending.into_iter().enumerate() {
        let answer = client.connection().receive(pending).unwrap();
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (ErrorCode::None, Offset(at as i64)));
    }
}

//! Transactions through a whole node: what coordinator, partitions and groups do together.

use std::time::Duration;

use oncelog_records::{BatchBuilder, BatchView, batches};
use oncelog_wire::*;

use crate::world::World;

impl World {
    /// Makes `orders` and `refunds`.
    pub fn create_topics(&mut self) {
        let topic = |name: &str| create_topics::CreatableTopic {
            name: name.into(),
            num_partitions: 2,
            replication_factor: 1,
            ..Default::default()
        };
        let topics = vec![topic("orders"), topic("refunds")];
        self.ask(7, create_topics::Request { topics, ..Default::default() });
    }

    /// Lets time pass, with every deadline on the way.
    pub fn wait(&mut self, span: Duration) {
        let until = self.now.monotonic + span;
        while let Some(deadline) = self.node.next_deadline().filter(|&deadline| deadline <= until) {
            self.move_to(deadline.max(self.now.monotonic));
            self.node.tick(self.now);
        }
        self.move_to(until);
    }

    pub fn move_to(&mut self, monotonic: Duration) {
        self.now.wall = self.now.wall.plus_ms((monotonic - self.now.monotonic).as_millis() as i64);
        self.now.monotonic = monotonic;
    }

    pub fn init(&mut self, transactional_id: &str) -> Producer {
        let response = self.ask(
            5,
            init_producer_id::Request {
                transactional_id: Some(transactional_id.into()),
                transaction_timeout_ms: 60_000,
                ..Default::default()
            },
        );
        assert_eq!(response.error_code, ErrorCode::None);
        Producer {
            transactional_id: transactional_id.into(),
            id: response.producer_id,
            epoch: response.producer_epoch,
        }
    }

    pub fn write(
        &mut self,
        version: i16,
        producer: &Producer,
        partition: (&str, i32),
        sequence: i32,
    ) -> ErrorCode {
        let mut builder = BatchBuilder::new().producer(producer.id, producer.epoch, sequence).transactional();
        builder.push(self.now.wall, Some(b"key"), Some(b"value"));
        let data =
            produce::PartitionProduceData { index: partition.1, records: Some(builder.build().into()) };
        let topic_data = vec![produce::TopicProduceData {
            name: partition.0.into(),
            partition_data: vec![data],
            ..Default::default()
        }];
        let response = self.ask(
            version,
            produce::Request {
                transactional_id: Some(producer.transactional_id.clone()),
                acks: -1,
                topic_data,
                ..Default::default()
            },
        );
        // None where the power failed before the answer.
        response
            .responses
            .first()
            .map_or(ErrorCode::RequestTimedOut, |topic| topic.partition_responses[0].error_code)
    }

    pub fn add(&mut self, producer: &Producer, partitions: &[(&str, i32)]) -> Vec<ErrorCode> {
        let topic = |&(name, index): &(&str, i32)| add_partitions_to_txn::AddPartitionsToTxnTopic {
            name: name.into(),
            partitions: vec![index],
        };
        let response = self.ask(
            3,
            add_partitions_to_txn::Request {
                v3_and_below_transactional_id: producer.transactional_id.clone(),
                v3_and_below_producer_id: producer.id,
                v3_and_below_producer_epoch: producer.epoch,
                v3_and_below_topics: partitions.iter().map(topic).collect(),
                ..Default::default()
            },
        );
        let results =
            response.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
        results.map(|result| result.partition_error_code).collect()
    }

    pub fn end(&mut self, version: i16, producer: &Producer, committed: bool) -> Result<Producer, ErrorCode> {
        let response = self.ask(
            version,
            end_txn::Request {
                transactional_id: producer.transactional_id.clone(),
                producer_id: producer.id,
                producer_epoch: producer.epoch,
                committed,
            },
        );
        match response.error_code {
            ErrorCode::None if version < 5 => Ok(producer.clone()),
            ErrorCode::None => {
                Ok(Producer { id: response.producer_id, epoch: response.producer_epoch, ..producer.clone() })
            }
            error => Err(error),
        }
    }

    /// The last stable offset and the high watermark.
    pub fn watermarks(&mut self, partition: (&str, i32)) -> (i64, i64) {
        let fetched = self.fetch(partition, 0);
        (fetched.last_stable_offset.0, fetched.high_watermark.0)
    }

    pub fn fetch(&mut self, partition: (&str, i32), isolation_level: i8) -> fetch::PartitionData {
        self.fetch_from(partition, Offset(0), isolation_level)
    }

    pub fn fetch_from(
        &mut self,
        partition: (&str, i32),
        fetch_offset: Offset,
        isolation_level: i8,
    ) -> fetch::PartitionData {
        let topics = vec![fetch::FetchTopic {
            topic: partition.0.into(),
            partitions: vec![fetch::FetchPartition {
                partition: partition.1,
                fetch_offset,
                partition_max_bytes: i32::MAX,
                ..Default::default()
            }],
            ..Default::default()
        }];
        let request = fetch::Request { max_wait_ms: 0, isolation_level, topics, ..Default::default() };
        let mut response = self.ask(12, request);
        response.responses.remove(0).partitions.remove(0)
    }

    pub fn add_offsets(&mut self, producer: &Producer) -> ErrorCode {
        let request = add_offsets_to_txn::Request {
            transactional_id: producer.transactional_id.clone(),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            group_id: "readers".into(),
        };
        self.ask(3, request).error_code
    }

    /// Stores in the transaction how far the group has read.
    pub fn store(&mut self, version: i16, producer: &Producer, committed_offset: i64) -> ErrorCode {
        let partition = txn_offset_commit::TxnOffsetCommitRequestPartition {
            committed_offset: Offset(committed_offset),
            committed_metadata: None,
            ..Default::default()
        };
        let topic = txn_offset_commit::TxnOffsetCommitRequestTopic {
            name: "orders".into(),
            partitions: vec![partition],
        };
        let request = txn_offset_commit::Request {
            transactional_id: producer.transactional_id.clone(),
            group_id: "readers".into(),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            topics: vec![topic],
            ..Default::default()
        };
        let response = self.ask(version, request);
        response.topics.first().map_or(ErrorCode::RequestTimedOut, |topic| topic.partitions[0].error_code)
    }

    /// How far the group has read, as far as that is decided.
    pub fn stored(&mut self) -> Result<i64, ErrorCode> {
        let topic = offset_fetch::OffsetFetchRequestTopics {
            name: "orders".into(),
            partition_indexes: vec![0],
            ..Default::default()
        };
        let group = offset_fetch::OffsetFetchRequestGroup {
            group_id: "readers".into(),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let request =
            offset_fetch::Request { groups: vec![group], require_stable: true, ..Default::default() };
        let response = self.ask(8, request);
        let partition = &response.groups[0].topics[0].partitions[0];
        match partition.error_code {
            ErrorCode::None => Ok(partition.committed_offset.0),
            error => Err(error),
        }
    }

    pub fn describe(&mut self, transactional_id: &str) -> describe_transactions::TransactionState {
        let transactional_ids = vec![transactional_id.into()];
        self.ask(0, describe_transactions::Request { transactional_ids }).transaction_states.remove(0)
    }
}

/// A node with two topics.
fn world() -> World {
    let mut world = World::new("");
    world.create_topics();
    world
}

#[derive(Clone, Debug, PartialEq)]
pub struct Producer {
    pub transactional_id: Str,
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

/// The batches of a fetch: whose they are, and whether they are markers.
pub fn fetched(data: &fetch::PartitionData) -> Vec<(ProducerEpoch, bool)> {
    let bytes = data.records.as_ref().and_then(Records::as_bytes).cloned().unwrap_or_default();
    let show = |batch: BatchView<'_>| (batch.producer_epoch(), batch.is_control());
    batches(&bytes).map(|batch| show(batch.unwrap())).collect()
}

pub const ORDERS: (&str, i32) = ("orders", 0);
pub const REFUNDS: (&str, i32) = ("refunds", 1);

#[test]
fn when_a_commit_returns_all_of_it_is_stable() {
    let mut world = world();
    let producer = world.init("pay");
    assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
    assert_eq!(world.write(12, &producer, ORDERS, 1), ErrorCode::None);
    assert_eq!(world.write(12, &producer, REFUNDS, 0), ErrorCode::None);
    assert_eq!(world.watermarks(ORDERS), (0, 2));
    assert!(fetched(&world.fetch(ORDERS, 1)).is_empty());

    let next = world.end(5, &producer, true).unwrap();
    assert_eq!((next.id, next.epoch), (producer.id, producer.epoch.next()));
    assert_eq!(world.watermarks(ORDERS), (3, 3));
    assert_eq!(world.watermarks(REFUNDS), (2, 2));
    let data = world.fetch(ORDERS, 1);
    let (zero, one) = (ProducerEpoch(0), ProducerEpoch(1));
    assert_eq!(fetched(&data), [(zero, false), (zero, false), (one, true)]);
    assert_eq!(data.aborted_transactions, Some(vec![]));

    // The next transaction begins at once.
    assert_eq!(world.write(12, &next, ORDERS, 0), ErrorCode::None);
    assert_eq!(world.end(5, &next, false).unwrap().epoch, ProducerEpoch(2));
    assert_eq!(world.fetch(ORDERS, 1).aborted_transactions.map(|aborted| aborted.len()), Some(1));
}

#[test]
fn clients_that_add_their_partitions_themselves_keep_epoch_and_sequences() {
    let mut world = world();
    let producer = world.init("pay");
    assert_eq!(world.write(11, &producer, ORDERS, 0), ErrorCode::TransactionAbortable);
    assert_eq!(world.write(9, &producer, ORDERS, 0), ErrorCode::InvalidTxnState);
    assert_eq!(world.add(&producer, &[ORDERS, REFUNDS]), [ErrorCode::None; 2]);
    assert_eq!(world.write(9, &producer, ORDERS, 0), ErrorCode::None);
    assert_eq!(world.end(4, &producer, true), Ok(producer.clone()));
    assert_eq!(world.end(4, &producer, true), Ok(producer.clone()), "the answer was lost");
    assert_eq!(world.end(4, &producer, false), Err(ErrorCode::InvalidTxnState));
    assert_eq!(world.add(&producer, &[ORDERS]), [ErrorCode::None]);
    assert_eq!(world.write(9, &producer, ORDERS, 1), ErrorCode::None);
    assert_eq!(world.end(4, &producer, false), Ok(producer));
    // Nothing was written to it, and still the marker is there.
    assert_eq!(world.watermarks(REFUNDS), (1, 1));
    assert_eq!(world.watermarks(ORDERS), (4, 4));
}

#[test]
fn partitions_are_added_all_or_none() {
    let mut world = world();
    let producer = world.init("pay");
    let (unknown, not_attempted) = (ErrorCode::UnknownTopicOrPartition, ErrorCode::OperationNotAttempted);
    assert_eq!(
        world.add(&producer, &[ORDERS, ("orders", 2), ("nothing", 0)]),
        [not_attempted, unknown, unknown]
    );
    let internal = ("__consumer_offsets", 0);
    assert_eq!(
        world.add(&producer, &[internal, ORDERS]),
        [ErrorCode::TopicAuthorizationFailed, not_attempted]
    );
    assert_eq!(world.describe("pay").transaction_state, "Empty");
}

#[test]
fn a_new_instance_aborts_what_the_old_one_left_open_and_fences_it() {
    let mut world = world();
    let zombie = world.init("pay");
    assert_eq!(world.write(12, &zombie, ORDERS, 0), ErrorCode::None);
    let producer = world.init("pay");
    assert_eq!((producer.id, producer.epoch), (zombie.id, ProducerEpoch(2)));
    assert_eq!(world.watermarks(ORDERS), (2, 2));

    assert_eq!(world.write(12, &zombie, ORDERS, 1), ErrorCode::InvalidProducerEpoch);
    assert_eq!(world.write(12, &zombie, REFUNDS, 0), ErrorCode::InvalidProducerEpoch);
    assert_eq!(world.add(&zombie, &[ORDERS]), [ErrorCode::ProducerFenced]);
    assert_eq!(world.end(5, &zombie, true), Err(ErrorCode::ProducerFenced));
    assert_eq!(world.end(4, &zombie, true), Err(ErrorCode::ProducerFenced));
    assert_eq!(world.end(1, &zombie, true), Err(ErrorCode::InvalidProducerEpoch));

    assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
    assert!(world.end(5, &producer, true).is_ok());
}

#[test]
fn a_producer_that_dies_is_aborted_when_its_time_is_up() {
    let mut world = world();
    let producer = world.init("pay");
    assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
    world.wait(Duration::from_millis(59_999));
    assert_eq!(world.watermarks(ORDERS), (0, 1));
    world.wait(Duration::from_millis(1));
    assert_eq!(world.watermarks(ORDERS), (2, 2));
    assert_eq!(world.fetch(ORDERS, 1).aborted_transactions.map(|aborted| aborted.len()), Some(1));
    assert_eq!(world.end(5, &producer, true), Err(ErrorCode::ProducerFenced));
    assert_eq!(world.end(5, &producer, false).unwrap().epoch, ProducerEpoch(1));
}

#[test]
fn a_transaction_goes_on_after_the_broker_was_killed() {
    let mut world = world();
    let producer = world.init("pay");
    assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
    let mut restarted = world.after_a_kill();
    assert_eq!(restarted.watermarks(ORDERS), (0, 1));
    assert_eq!(restarted.write(12, &producer, ORDERS, 1), ErrorCode::None);
    assert_eq!(restarted.write(12, &producer, REFUNDS, 0), ErrorCode::None);
    let next = restarted.end(5, &producer, true).unwrap();
    assert_eq!(restarted.watermarks(ORDERS), (3, 3));

    // The answer is lost, and so is the broker.
    let mut restarted = restarted.after_a_kill();
    assert_eq!(restarted.end(5, &producer, true), Ok(next));
    assert_eq!(restarted.end(5, &producer, false), Err(ErrorCode::InvalidTxnState));
}

#[test]
fn producer_ids_are_not_given_out_again_after_a_kill() {
    let mut world = world();
    let first = world.init("a");
    let idempotent = |world: &mut World| {
        let response = world.ask(
            5,
            init_producer_id::Request {
                transactional_id: None,
                transaction_timeout_ms: i32::MAX,
                ..Default::default()
            },
        );
        assert_eq!((response.error_code, response.producer_epoch), (ErrorCode::None, ProducerEpoch(0)));
        response.producer_id
    };
    let second = idempotent(&mut world);
    let mut restarted = world.after_a_kill();
    let third = idempotent(&mut restarted);
    assert!(first.id < second && second < third, "{first:?} {second} {third}");
}

#[test]
fn what_cannot_be_an_instance_of_itself_is_refused() {
    let world = world();
    let init = |transactional_id: Option<&str>, timeout_ms, id, epoch| {
        let request = init_producer_id::Request {
            transactional_id: transactional_id.map(Str::from),
            transaction_timeout_ms: timeout_ms,
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(epoch),
            ..Default::default()
        };
        let response = world.ask(4, request);
        assert_eq!(response.error_code.is_error(), response.producer_id == ProducerId::NONE);
        response.error_code
    };
    assert_eq!(init(Some("pay"), 1_000, 5, -1), ErrorCode::InvalidRequest);
    assert_eq!(init(None, 1_000, -1, 0), ErrorCode::InvalidRequest);
    assert_eq!(init(Some(""), 1_000, -1, -1), ErrorCode::InvalidRequest);
    assert_eq!(init(Some("pay"), 900_001, -1, -1), ErrorCode::InvalidTransactionTimeout);
    assert_eq!(init(Some("pay"), 0, -1, -1), ErrorCode::InvalidTransactionTimeout);
    assert_eq!(init(None, 0, -1, -1), ErrorCode::None);
}

#[test]
fn a_deleted_topic_does_not_hold_a_transaction_back() {
    let mut world = world();
    let producer = world.init("pay");
    assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
    assert_eq!(world.write(12, &producer, REFUNDS, 0), ErrorCode::None);
    assert_eq!(world.describe("pay").topics.len(), 2);
    let topic_names = vec!["refunds".into()];
    world.ask(5, delete_topics::Request { topic_names, ..Default::default() });
    assert_eq!(world.describe("pay").topics.len(), 1);
    assert!(world.end(5, &producer, true).is_ok());
    assert_eq!(world.watermarks(ORDERS), (2, 2));
}

#[test]
fn transactions_are_described_and_listed() {
    let mut world = world();
    let producer = world.init("pay");
    world.init("other");
    assert_eq!(world.write(12, &producer, ("orders", 1), 0), ErrorCode::None);
    assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
    let state = world.describe("pay");
    assert_eq!(
        (state.error_code, state.producer_id, state.producer_epoch),
        (ErrorCode::None, producer.id, producer.epoch)
    );
    assert_eq!((&*state.transaction_state, state.transaction_timeout_ms), ("Ongoing", 60_000));
    assert_eq!(state.transaction_start_time_ms, world.now.wall);
    assert_eq!(
        state.topics,
        [describe_transactions::TopicData { topic: "orders".into(), partitions: vec![0, 1] }]
    );
    assert_eq!(world.describe("nobody").error_code, ErrorCode::TransactionalIdNotFound);
    assert_eq!(world.describe("").error_code, ErrorCode::InvalidRequest);

    let list = |world: &mut World, states: &[&str], pattern: Option<&str>| {
        let request = list_transactions::Request {
            state_filters: states.iter().map(|&state| state.into()).collect(),
            transactional_id_pattern: pattern.map(Str::from),
            ..Default::default()
        };
        let response = world.ask(2, request);
        let mut listed: Vec<_> =
            response.transaction_states.into_iter().map(|state| state.transactional_id).collect();
        listed.sort();
        (response.error_code, listed, response.unknown_state_filters)
    };
    assert_eq!(list(&mut world, &[], None), (ErrorCode::None, vec!["other".into(), "pay".into()], vec![]));
    assert_eq!(
        list(&mut world, &["Ongoing", "Odd"], None),
        (ErrorCode::None, vec!["pay".into()], vec!["Odd".into()])
    );
    assert_eq!(list(&mut world, &[], Some("o.*")).1, [Str::from("other")]);
    assert_eq!(list(&mut world, &[], Some("(")).0, ErrorCode::InvalidRegularExpression);
}

#[test]
fn an_administrator_can_end_a_transaction_in_a_partition() {
    let mut world = world();
    let producer = world.init("pay");
    assert_eq!(world.write(12, &producer, ORDERS, 0), ErrorCode::None);
    let describe = |world: &mut World| {
        let topics =
            vec![describe_producers::TopicRequest { name: "orders".into(), partition_indexes: vec![0, 9] }];
        world.ask(0, describe_producers::Request { topics }).topics.remove(0).partitions
    };
    let described = describe(&mut world);
    assert_eq!(described[0].active_producers.len(), 1);
    let active = &described[0].active_producers[0];
    assert_eq!(
        (active.producer_id, active.last_sequence, active.current_txn_start_offset),
        (producer.id, 0, Offset(0))
    );
    assert_eq!(described[1].error_code, ErrorCode::UnknownTopicOrPartition);

    let marker = write_txn_markers::WritableTxnMarker {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        topics: vec![write_txn_markers::WritableTxnMarkerTopic {
            name: "orders".into(),
            partition_indexes: vec![0, 9],
        }],
        ..Default::default()
    };
    let response = world.ask(1, write_txn_markers::Request { markers: vec![marker] });
    let codes: Vec<_> =
        response.markers[0].topics[0].partitions.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(world.watermarks(ORDERS), (2, 2));
    assert_eq!(describe(&mut world)[0].active_producers[0].current_txn_start_offset, Offset::NONE);
}

#[test]
fn offsets_count_if_their_transaction_is_committed() {
    let mut world = world();
    let unstable = Err(ErrorCode::UnstableOffsetCommit);
    let mut producer = world.init("pay");
    assert_eq!(world.store(5, &producer, 3), ErrorCode::None);
    assert_eq!(world.stored(), unstable);
    producer = world.end(5, &producer, true).unwrap();
    assert_eq!(world.stored(), Ok(3));
    assert_eq!(world.store(5, &producer, 7), ErrorCode::None);
    assert_eq!(world.stored(), unstable);
    producer = world.end(5, &producer, false).unwrap();
    assert_eq!(world.stored(), Ok(3));

    // Before KIP-890 a client adds the partition of its group, and keeps its epoch.
    assert_eq!(world.store(4, &producer, 9), ErrorCode::TransactionAbortable);
    assert_eq!(world.store(3, &producer, 9), ErrorCode::InvalidTxnState);
    assert_eq!(world.add_offsets(&producer), ErrorCode::None);
    assert_eq!(world.store(3, &producer, 9), ErrorCode::None);
    assert_eq!(world.stored(), unstable);
    assert_eq!(world.end(3, &producer, true), Ok(producer.clone()));
    assert_eq!(world.stored(), Ok(9));
}

#[test]
fn offsets_of_an_open_transaction_survive_a_kill() {
    let mut world = world();
    let producer = world.init("pay");
    assert_eq!(world.write(12, &producer, REFUNDS, 0), ErrorCode::None);
    assert_eq!(world.store(5, &producer, 3), ErrorCode::None);
    let mut restarted = world.after_a_kill();
    assert_eq!(restarted.stored(), Err(ErrorCode::UnstableOffsetCommit));
    assert!(restarted.end(5, &producer, true).is_ok());
    assert_eq!(restarted.stored(), Ok(3));
    assert_eq!(restarted.after_a_kill().stored(), Ok(3));
    // In the world that was left behind, a new instance comes instead.
    let successor = world.init("pay");
    assert_eq!(world.stored(), Ok(-1));
    assert_eq!(world.store(5, &producer, 4), ErrorCode::InvalidProducerEpoch);
    assert_eq!(world.store(5, &successor, 4), ErrorCode::None);
    assert!(world.end(5, &successor, true).is_ok());
    assert_eq!(world.stored(), Ok(4));
}

#[test]
fn markers_in_internal_topics_do_no_harm() {
    let mut world = world();
    let producer = world.init("pay");
    let topic = |name: &str, partition_indexes: Vec<i32>| write_txn_markers::WritableTxnMarkerTopic {
        name: name.into(),
        partition_indexes,
    };
    let marker = write_txn_markers::WritableTxnMarker {
        producer_id: ProducerId(i64::MAX),
        producer_epoch: ProducerEpoch(-1),
        topics: vec![
            topic("__transaction_state", (0..51).collect()),
            topic("__consumer_offsets", vec![-1, 0, 49, 50, i32::MAX]),
        ],
        transaction_result: true,
        ..Default::default()
    };
    let response = world.ask(1, write_txn_markers::Request { markers: vec![marker] });
    let codes = |topic: usize| {
        let partitions = &response.markers[0].topics[topic].partitions;
        partitions.iter().map(|result| result.error_code).collect::<Vec<_>>()
    };
    let (ok, unknown) = (ErrorCode::None, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(codes(0), [vec![ok; 50], vec![unknown]].concat());
    assert_eq!(codes(1), [unknown, ok, ok, unknown, unknown]);
    let mut restarted = world.after_a_kill();
    assert_eq!(restarted.write(12, &producer, ORDERS, 0), ErrorCode::None);
    assert_eq!(restarted.store(5, &producer, 3), ErrorCode::None);
    assert!(restarted.end(5, &producer, true).is_ok());
    assert_eq!(restarted.after_a_kill().stored(), Ok(3));
}

#[test]
fn a_foreign_record_among_those_of_the_coordinator_does_not_stop_the_next_start() {
    let mut world = world();
    let producer = world.init("pay");
    let mut builder = BatchBuilder::new();
    builder.push(world.now.wall, Some(&[0, 0, 0]), Some(b"odd"));
    let data = produce::PartitionProduceData { index: 10, records: Some(builder.build().into()) };
    let topic_data = vec![produce::TopicProduceData {
        name: "__transaction_state".into(),
        partition_data: vec![data],
        ..Default::default()
    }];
    let request = produce::Request { transactional_id: None, acks: -1, topic_data, ..Default::default() };
    let response = world.ask_as("__admin_client", 12, request);
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::None);
    let mut restarted = world.after_a_kill();
    assert_eq!(restarted.write(12, &producer, ORDERS, 0), ErrorCode::None);
    assert!(restarted.end(5, &producer, true).is_ok());
}

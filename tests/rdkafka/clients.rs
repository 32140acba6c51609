//! Short forms for librdkafka: producers that collect their delivery reports, consumers, reading to the end.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use oncelog_client::{Client, Isolation};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, DefaultConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{Message, Offset, TopicPartitionList};

/// How long a call may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Collects what became of each record: its offset, or the error.
#[derive(Default)]
pub struct Deliveries {
    reports: Mutex<Vec<Result<i64, KafkaError>>>,
}

impl ClientContext for Deliveries {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let report = result.as_ref().map(Message::offset).map_err(|(error, _)| error.clone());
        self.reports.lock().unwrap().push(report);
    }
}

/// A producer, idempotent unless its options say otherwise.
pub type Producer = BaseProducer<Deliveries>;

/// The settings all clients share.
fn config(address: SocketAddr, options: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address.to_string())
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set("retry.backoff.ms", "20");
    for (key, value) in options {
        config.set(*key, *value);
    }
    config
}

/// An idempotent producer.
pub fn producer(address: SocketAddr, options: &[(&str, &str)]) -> Producer {
    let mut config = config(address, &[("enable.idempotence", "true"), ("linger.ms", "1")]);
    for (key, value) in options {
        config.set(*key, *value);
    }
    config.create_with_context(Deliveries::default()).unwrap()
}

/// A transactional producer that is past `init_transactions`.
pub fn transactional(address: SocketAddr, id: &str, options: &[(&str, &str)]) -> Producer {
    let options = [&[("transactional.id", id)], options].concat();
    let producer = producer(address, &options);
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

/// Queues a record; waits while the queue is full.
pub fn enqueue(producer: &Producer, topic: &str, partition: i32, value: &str) {
    let mut record = BaseRecord::<(), str>::to(topic).partition(partition).payload(value);
    while let Err((error, refused)) = producer.send(record) {
        assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
        producer.poll(Duration::from_millis(10));
        record = refused;
    }
}

/// The reports that have come in, and forgets them.
pub fn reports(producer: &Producer) -> Vec<Result<i64, KafkaError>> {
    std::mem::take(&mut *producer.context().reports.lock().unwrap())
}

/// Waits for all that is queued; gives the offsets.
pub fn delivered(producer: &Producer) -> Vec<i64> {
    producer.flush(2 * PATIENCE).unwrap();
    reports(producer).into_iter().map(Result::unwrap).collect()
}

/// Produces and waits until the broker has acknowledged all.
pub fn send(producer: &Producer, topic: &str, partition: i32, values: &[&str]) {
    for value in values {
        enqueue(producer, topic, partition, value);
    }
    assert_eq!(delivered(producer).len(), values.len());
}

/// `name 0`, `name 1`, and so on.
pub fn numbered(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name} {number}")).collect()
}

/// Commits, again where librdkafka asks for that.
pub fn commit(producer: &Producer) -> KafkaResult<()> {
    loop {
        match producer.commit_transaction(PATIENCE) {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            other => return other,
        }
    }
}

/// What librdkafka says of a failed call on a transaction.
pub fn code_of(result: KafkaResult<()>) -> RDKafkaErrorCode {
    match result {
        Err(KafkaError::Transaction(error)) => error.code(),
        other => panic!("the call was to fail: {other:?}"),
    }
}

/// A list of one partition and an offset.
pub fn offset_of(topic: &str, partition: i32, offset: i64) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    list
}

/// The values of each partition, as a consumer sees them that polls to the end.
pub fn read(address: SocketAddr, topic: &str, partitions: i32, isolation: Isolation) -> Vec<Vec<String>> {
    let level = match isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    let options = [
        ("group.id", "reader"),
        ("isolation.level", level),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("fetch.wait.max.ms", "10"),
    ];
    let consumer: BaseConsumer<DefaultConsumerContext> = config(address, &options).create().unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut values = vec![Vec::new(); assignment.count()];
    let mut open = assignment.count();
    while open > 0 {
        match consumer.poll(PATIENCE).expect("a record or the end") {
            Ok(record) => {
                let value = record.payload_view::<str>().unwrap().unwrap();
                values[record.partition() as usize].push(value.to_string());
            }
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => panic!("{error}"),
        }
    }
    values
}

/// What a `read_committed` consumer sees of a topic with one partition.
pub fn committed(address: SocketAddr, topic: &str) -> Vec<String> {
    read(address, topic, 1, Isolation::ReadCommitted).remove(0)
}

/// A client to ask things librdkafka's Rust face has no words for.
pub fn client(address: SocketAddr) -> Client {
    Client::connect(address, "tests").unwrap()
}

/// A new topic.
pub fn topic(address: SocketAddr, partitions: i32) -> String {
    let name = oncelog_tests::unique("topic");
    let mut client = client(address);
    client.create_topic(&name, partitions).unwrap();
    oncelog_tests::await_topic(&mut client, &name, partitions);
    name
}

/// The last stable offset and the high watermark.
pub fn ends(address: SocketAddr, topic: &str, partition: i32) -> (i64, i64) {
    let mut client = client(address);
    let mut end = |isolation| client.end_offset(topic, partition, isolation).unwrap().0;
    (end(Isolation::ReadCommitted), end(Isolation::ReadUncommitted))
}

/// Counts the rebalances of a member.
#[derive(Default)]
pub struct Rebalances {
    count: AtomicUsize,
}

impl Rebalances {
    /// How often partitions were given or taken.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl ClientContext for Rebalances {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

/// A member of a consumer group.
pub type Member = BaseConsumer<Rebalances>;

/// A member of a group that reads one topic, committed records only.
pub fn member(address: SocketAddr, group: &str, topic: &str, options: &[(&str, &str)]) -> Member {
    let common = [
        ("group.id", group),
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "200"),
        ("fetch.wait.max.ms", "50"),
    ];
    let options = [&common, options].concat();
    let member: Member = config(address, &options).create_with_context(Rebalances::default()).unwrap();
    member.subscribe(&[topic]).unwrap();
    member
}

/// The next record; rebalances come and go meanwhile.
pub fn next<'a>(member: &'a Member) -> BorrowedMessage<'a> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(polled) = member.poll(Duration::from_millis(100)) {
            return polled.unwrap();
        }
        assert!(Instant::now() < deadline, "no record came");
    }
}

/// Polls once for a moment; a record that comes with it is lost to the test.
pub fn nudge(member: &Member) {
    if let Some(Err(error)) = member.poll(Duration::from_millis(20)) {
        panic!("{error}");
    }
}

/// The partitions a member has now.
pub fn assigned(member: &Member) -> Vec<i32> {
    let mut partitions: Vec<i32> =
        member.assignment().unwrap().elements().iter().map(|one| one.partition()).collect();
    partitions.sort_unstable();
    partitions
}

/// Waits until the member has partitions.
pub fn joined(member: &Member) {
    let deadline = Instant::now() + PATIENCE;
    while assigned(member).is_empty() {
        assert!(Instant::now() < deadline, "no assignment");
        nudge(member);
    }
}

/// The group's committed offset in each partition, -1 for none.
pub fn committed_offsets(address: SocketAddr, group: &str, topic: &str, partitions: i32) -> Vec<i64> {
    let options = [("group.id", group), ("isolation.level", "read_committed")];
    let consumer: BaseConsumer<DefaultConsumerContext> = config(address, &options).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let found = consumer.committed_offsets(list, PATIENCE).unwrap();
    found
        .elements()
        .iter()
        .map(|one| if let Offset::Offset(offset) = one.offset() { offset } else { -1 })
        .collect()
}

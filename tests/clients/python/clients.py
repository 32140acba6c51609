"""Short forms for confluent-kafka (librdkafka): producers, consumers, reading a log to its end."""

import functools

from confluent_kafka import OFFSET_BEGINNING, Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from broker import settle, unique

COMMON = {"broker.address.family": "v4", "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500, "log_level": 0}


@functools.cache
def admin(address):
    """The one admin client for this address; it must outlive what it is asked."""
    return AdminClient({"bootstrap.servers": address, **COMMON})


def create_topic(address, name, partitions=1, config=None):
    topic = unique(name)
    future = admin(address).create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic]
    future.result(30)
    settle()
    return topic


def producer(address, **config):
    return Producer({
        "bootstrap.servers": address, "linger.ms": 2, "enable.idempotence": True, "sticky.partitioning.linger.ms": 0,
        **COMMON, **{key.replace("_", "."): value for key, value in config.items()},
    })


def transactional(address, transactional_id, **config):
    """A producer that is past init_transactions."""
    client = producer(address, transactional_id=transactional_id, **config)
    client.init_transactions(30)
    return client


def group_consumer(address, group, **config):
    return Consumer({
        "bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "isolation.level": "read_committed", "session.timeout.ms": 6000, "heartbeat.interval.ms": 300,
        "fetch.wait.max.ms": 100, **COMMON, **{key.replace("_", "."): value for key, value in config.items()},
    })


def send(client, topic, values, partition=0):
    """Produces and waits until the broker has acknowledged every value."""
    failures = []
    for value in values:
        client.produce(topic, value, partition=partition, on_delivery=lambda error, _: error and failures.append(error))
    left = client.flush(30)
    assert left == 0 and not failures, f"{left} unsent, failures: {failures[:3]}"


def read_records(address, topic, partitions=1, isolation="read_committed"):
    """All records of the topic in order of partition and offset, as a consumer sees it that polls to the end."""
    client = Consumer({
        "bootstrap.servers": address, "group.id": unique("reader"), "isolation.level": isolation,
        "enable.auto.commit": False, "enable.partition.eof": True, "fetch.wait.max.ms": 20, **COMMON,
    })
    client.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
    records, ended = [], set()
    while len(ended) < partitions:
        record = client.poll(30)
        assert record is not None, f"no end of {topic} within 30 s, {len(records)} records so far"
        if record.error():
            assert record.error().code() == KafkaError._PARTITION_EOF, record.error()
            ended.add(record.partition())
        else:
            records.append(record)
    client.close()
    return sorted(records, key=lambda r: (r.partition(), r.offset()))


def read_values(address, topic, partitions=1, isolation="read_committed"):
    return [r.value() for r in read_records(address, topic, partitions, isolation)]


def end_offset(address, topic, partition=0, isolation=IsolationLevel.READ_UNCOMMITTED):
    """The high watermark, or the last stable offset for READ_COMMITTED."""
    key = TopicPartition(topic, partition)
    return admin(address).list_offsets({key: OffsetSpec.latest()}, isolation_level=isolation)[key].result(30).offset


def stable_offset(address, topic, partition=0):
    return end_offset(address, topic, partition, IsolationLevel.READ_COMMITTED)


def committed(address, group, topic, partitions):
    """The group's committed offsets, None where there is none."""
    client = group_consumer(address, group)
    found = client.committed([TopicPartition(topic, p) for p in range(partitions)], 30)
    client.close()
    return [p.offset if p.offset >= 0 else None for p in found]


def error_of(call, *arguments):
    """The KafkaError that the call raises."""
    try:
        call(*arguments)
    except KafkaException as failure:
        return failure.args[0]
    raise AssertionError(f"{call.__name__} succeeded")

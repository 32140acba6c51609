"""confluent-kafka (librdkafka): produce, consume, transactions, groups."""

import os
import signal
import subprocess
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from broker import eventually, scenario, scenario_with_own_broker, settle, unique
from clients import (
    committed, create_topic, end_offset, error_of, group_consumer, producer, read_records, read_values, send,
    stable_offset, transactional,
)
from transform import Transformer

HERE = os.path.dirname(os.path.abspath(__file__))
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def numbered(prefix, count):
    return [f"{prefix} {i}".encode() for i in range(count)]


def run_child(program, *arguments):
    """The exit status of one of the programs beside this file; minus the signal's number if one ended it."""
    return subprocess.run([sys.executable, os.path.join(HERE, program), *map(str, arguments)], timeout=60).returncode


@scenario
def every_codec_carries_keys_headers_nulls_and_timestamps(address):
    topic = create_topic(address, "codecs", len(CODECS))
    sent = []
    for i in range(40):
        key = None if i % 3 == 0 else f"key {i}".encode()
        value = None if i % 5 == 0 else b"" if i % 7 == 0 else b"value " * i
        headers = [("name", f"{i}".encode()), ("name", b"again"), ("empty", b""), ("null", None)]
        sent.append((key, value, headers, 1_700_000_000_000 + i))
    for partition, codec in enumerate(CODECS):
        client = producer(address, compression_type=codec)
        for key, value, headers, timestamp in sent:
            client.produce(topic, value, key, partition, timestamp=timestamp, headers=headers)
        assert client.flush(30) == 0
    records = read_records(address, topic, len(CODECS))
    for partition, codec in enumerate(CODECS):
        read = [(r.key(), r.value(), r.headers(), r.timestamp()[1]) for r in records if r.partition() == partition]
        assert read == sent, codec


@scenario_with_own_broker
def a_thousand_idempotent_records_survive_kill_9_once_and_in_order(broker):
    broker.start()
    topic = create_topic(broker.address, "idempotent")
    delivered, failures = [], []
    client = producer(broker.address, batch_num_messages=20, message_timeout_ms=60_000)

    def on_delivery(error, record):
        failures.append(error) if error else delivered.append(record.offset())

    values = numbered("record", 1000)
    for i, value in enumerate(values):
        client.produce(topic, value, partition=0, on_delivery=on_delivery)
        client.poll(0)
        if i == 500:
            eventually(lambda: client.poll(0.01) is not None and len(delivered) > 100)
            broker.kill()
    broker.start()
    assert client.flush(60) == 0
    assert failures == []
    assert sorted(delivered) == list(range(1000))
    assert read_values(broker.address, topic) == values


@scenario_with_own_broker
def transactions_and_offsets_survive_kill_9(broker):
    broker.start()
    address = broker.address
    topic, source, group = create_topic(address, "survives", 2), create_topic(address, "source"), unique("group")
    send(producer(address), source, numbered("source", 5))
    consumer = group_consumer(address, group)
    consumer.subscribe([source])
    assert len(consumer.consume(5, 30)) == 5

    goes_on = unique("goes-on")
    client = transactional(address, goes_on)
    client.begin_transaction()
    send(client, topic, [b"before"])
    client.send_offsets_to_transaction([TopicPartition(source, 0, 2)], consumer.consumer_group_metadata(), 30)
    client.commit_transaction(30)
    abandoned_id = unique("abandoned")
    abandoned = transactional(address, abandoned_id)
    abandoned.begin_transaction()
    send(abandoned, topic, [b"abandoned"], 1)

    client.begin_transaction()
    send(client, topic, [b"one half"])
    broker.restart()
    assert committed(address, group, source, 1) == [2], "offsets committed before the kill"
    assert read_values(address, topic, 2) == [b"before"], "the open transactions are not committed"
    if os.environ.get("DURABILITY") == "fsync":
        assert_fenced(error_of(client.commit_transaction, 30))
        client = transactional(address, goes_on)
        client.begin_transaction()
        send(client, topic, [b"one half"])
    send(client, topic, [b"other half"])
    client.commit_transaction(30)
    transactional(address, abandoned_id)
    settle()
    assert read_values(address, topic, 2) == [b"before", b"one half", b"other half"]
    for partition in range(2):
        assert stable_offset(address, topic, partition) == end_offset(address, topic, partition)
    consumer.close()


@scenario
def readers_have_all_of_a_commit_and_nothing_of_an_abort_when_it_returns(address):
    topics = [create_topic(address, "atomic", 3) for _ in range(2)]
    client = transactional(address, unique("atomic"))

    def transaction(name, end):
        client.begin_transaction()
        for topic in topics:
            for partition in range(3):
                send(client, topic, [f"{name} {i}".encode() for i in range(3)], partition)
        end(30)
        settle()

    def expected(*names):
        return [f"{name} {i}".encode() for _ in range(3) for name in names for i in range(3)]

    transaction("first", client.commit_transaction)
    assert all(read_values(address, t, 3) == expected("first") for t in topics)
    transaction("second", client.abort_transaction)
    assert all(read_values(address, t, 3) == expected("first") for t in topics)
    transaction("third", client.commit_transaction)
    for topic in topics:
        assert read_values(address, topic, 3) == expected("first", "third")
        assert read_values(address, topic, 3, "read_uncommitted") == expected("first", "second", "third")
        for partition in range(3):
            assert stable_offset(address, topic, partition) == end_offset(address, topic, partition) == 12


@scenario
def an_open_transaction_holds_back_a_later_committed_one(address):
    topic = create_topic(address, "held-back")
    slow, quick = transactional(address, unique("slow")), transactional(address, unique("quick"))
    send(producer(address), topic, [b"plain"])
    slow.begin_transaction()
    send(slow, topic, [b"slow 1"])
    quick.begin_transaction()
    send(quick, topic, [b"quick"])
    quick.commit_transaction(30)
    send(slow, topic, [b"slow 2"])
    settle()
    assert read_values(address, topic) == [b"plain"]
    assert read_values(address, topic, isolation="read_uncommitted") == [b"plain", b"slow 1", b"quick", b"slow 2"]
    assert (stable_offset(address, topic), end_offset(address, topic)) == (1, 5)
    slow.commit_transaction(30)
    settle()
    assert read_values(address, topic) == [b"plain", b"slow 1", b"quick", b"slow 2"]


@scenario
def a_producer_that_dies_is_aborted_by_timeout_and_readers_go_on(address):
    topic = create_topic(address, "timeout")
    assert run_child("leave_open.py", address, topic, unique("dies"), 2000, "lost 1", "lost 2") == -signal.SIGKILL
    living = transactional(address, unique("lives"))
    living.begin_transaction()
    send(living, topic, [b"kept"])
    living.commit_transaction(30)
    assert read_values(address, topic) == []
    assert eventually(lambda: read_values(address, topic)) == [b"kept"]
    assert stable_offset(address, topic) == end_offset(address, topic) == 5


@scenario
def init_after_a_crash_aborts_what_was_left(address):
    topic, transactional_id = create_topic(address, "init-aborts"), unique("crashed")
    assert run_child("leave_open.py", address, topic, transactional_id, 60_000, "left behind") == -signal.SIGKILL
    assert stable_offset(address, topic) == 0
    client = transactional(address, transactional_id)
    settle()
    assert stable_offset(address, topic) == end_offset(address, topic) == 2
    client.begin_transaction()
    send(client, topic, [b"new life"])
    client.commit_transaction(30)
    settle()
    assert read_values(address, topic) == [b"new life"]


def transform_across_a_crash(address, step):
    source, target = create_topic(address, "source", 2), create_topic(address, "target", 2)
    group, transactional_id = unique("transform"), unique("transform")
    feeder = producer(address)
    for partition in range(2):
        send(feeder, source, numbered(f"partition {partition}", 40), partition)
    job = ["transform.py", address, source, target, 2, group, transactional_id, 80]
    assert run_child(*job, step) == -signal.SIGKILL
    assert run_child(*job, "never") == 0
    settle()
    assert read_values(address, target, 2) == [b"seen " + value for p in range(2) for value in numbered(f"partition {p}", 40)]
    assert committed(address, group, source, 2) == [40, 40]


@scenario
def transform_is_exact_when_killed_after_poll(address):
    transform_across_a_crash(address, "after_poll")


@scenario
def transform_is_exact_when_killed_after_send(address):
    transform_across_a_crash(address, "after_send")


@scenario
def transform_is_exact_when_killed_after_send_offsets(address):
    transform_across_a_crash(address, "after_send_offsets")


@scenario
def transform_is_exact_when_killed_during_commit(address):
    transform_across_a_crash(address, "during_commit")


@scenario
def three_members_transform_exactly_once_through_rebalances(address):
    partitions, per_partition = 6, 100
    source, target, group = create_topic(address, "shared", partitions), create_topic(address, "out", partitions), unique("three")
    failures, halt_third = [], threading.Event()

    def member(index):
        try:
            transformer = Transformer(address, source, target, group, unique(f"member-{index}"))
            members.append(transformer)
            while not done.is_set() and not (index == 2 and halt_third.is_set()):
                transformer.step()
            transformer.close()
        except BaseException as failure:
            failures.append(failure)
            done.set()

    def feed(start):
        for partition in range(partitions):
            send(feeder, source, [f"{partition} {i}".encode() for i in range(start, start + per_partition // 2)], partition)

    members, done, feeder = [], threading.Event(), producer(address)
    threads = [threading.Thread(target=member, args=[i], daemon=True) for i in range(3)]
    feed(0)
    for thread in threads[:2]:
        thread.start()
    eventually(lambda: failures or end_offset(address, target) > 0)
    threads[2].start()
    feed(per_partition // 2)
    eventually(lambda: failures or len(members) == 3 and members[2].rebalances)
    halt_third.set()
    watcher = group_consumer(address, group)
    wanted = [TopicPartition(source, p) for p in range(partitions)]
    eventually(lambda: failures or all(p.offset == per_partition for p in watcher.committed(wanted, 30)), 60)
    watcher.close()
    done.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert all(m.rebalances > 0 for m in members)
    settle()
    expected = [f"seen {p} {i}".encode() for p in range(partitions) for i in range(per_partition)]
    assert read_values(address, target, partitions) == expected


@scenario
def static_members_return_without_a_rebalance(address):
    topic, group = create_topic(address, "static", 4), unique("static")
    rebalances = {"first": 0, "second": 0}

    def join(name):
        def count(_consumer, _partitions):
            rebalances[name] += 1

        consumer = group_consumer(address, group, group_instance_id=name, session_timeout_ms=20_000)
        consumer.subscribe([topic], on_assign=count, on_revoke=count)
        return consumer

    def assignment(consumer):
        return sorted(p.partition for p in consumer.assignment())

    members = {name: join(name) for name in rebalances}

    def balanced():
        for consumer in members.values():
            consumer.poll(0.05)
        return [len(c.assignment()) for c in members.values()] == [2, 2]

    eventually(balanced)
    before, counted = {name: assignment(c) for name, c in members.items()}, rebalances["second"]
    members["first"].unsubscribe()
    members["first"].close()
    members["first"] = join("first")
    eventually(balanced)
    for _ in range(20):
        balanced()
    assert {name: assignment(c) for name, c in members.items()} == before
    assert rebalances["second"] == counted, "the member that stayed saw no rebalance"
    for consumer in members.values():
        consumer.close()


def zombie_and_heir(address, topic):
    """A producer in a transaction, and the one that has taken over its transactional id."""
    transactional_id = unique("zombie")
    zombie = transactional(address, transactional_id)
    zombie.begin_transaction()
    send(zombie, topic, [b"zombie"])
    return zombie, transactional(address, transactional_id)


def assert_fenced(error):
    assert error.code() == KafkaError._FENCED and error.fatal(), error


@scenario
def a_zombie_is_fenced_at_each_call(address):
    topic, source = create_topic(address, "zombie"), create_topic(address, "source")
    consumer = group_consumer(address, unique("group"))
    consumer.subscribe([source])
    eventually(lambda: consumer.poll(0.1) or consumer.assignment())

    zombie, heir = zombie_and_heir(address, topic)
    delivered = []
    zombie.produce(topic, b"too late", partition=0, on_delivery=lambda error, _: error or delivered.append("produce"))
    try:
        zombie.flush(30)
    except (KafkaException, SystemError):
        pass  # how this client tells of a fatal error, with or without a callback
    assert delivered == []
    assert_fenced(error_of(zombie.commit_transaction, 30))

    zombie, heir = zombie_and_heir(address, topic)
    offsets = [TopicPartition(source, 0, 7)]
    assert_fenced(error_of(zombie.send_offsets_to_transaction, offsets, consumer.consumer_group_metadata(), 30))

    zombie, heir = zombie_and_heir(address, topic)
    assert_fenced(error_of(zombie.commit_transaction, 30))

    zombie, heir = zombie_and_heir(address, topic)
    assert_fenced(error_of(zombie.abort_transaction, 30))

    heir.begin_transaction()
    send(heir, topic, [b"heir"])
    heir.commit_transaction(30)
    settle()
    assert read_values(address, topic) == [b"heir"]
    consumer.close()


@scenario
def a_transaction_timeout_above_the_maximum_is_refused(address):
    client = producer(address, transactional_id=unique("patient"), transaction_timeout_ms=900_001)
    error = error_of(client.init_transactions, 30)
    assert error.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT, error


@scenario
def lag_of_a_group_with_a_transaction_open(address):
    topic, group = create_topic(address, "lag"), unique("lag")
    plain = producer(address)
    send(plain, topic, numbered("plain", 10))
    consumer = group_consumer(address, group)
    consumer.subscribe([topic])
    read = consumer.consume(10, 30)
    assert len(read) == 10
    consumer.commit(offsets=[TopicPartition(topic, 0, 4)], asynchronous=False)
    client = transactional(address, unique("open"))
    client.begin_transaction()
    send(client, topic, numbered("open", 5))
    send(plain, topic, [b"behind"])
    assert committed(address, group, topic, 1) == [4]
    assert (stable_offset(address, topic), end_offset(address, topic)) == (10, 16)
    assert consumer.poll(0.5) is None, "nothing beyond the last stable offset"
    client.commit_transaction(30)
    assert [r.value() for r in consumer.consume(6, 30)] == numbered("open", 5) + [b"behind"]
    settle()
    assert stable_offset(address, topic) == end_offset(address, topic) == 17
    consumer.close()


@scenario
def offsets_in_an_open_transaction_are_not_committed_yet(address):
    source, group = create_topic(address, "pending"), unique("pending")
    send(producer(address), source, numbered("source", 5))
    consumer = group_consumer(address, group)
    consumer.subscribe([source])
    assert len(consumer.consume(5, 30)) == 5
    client = transactional(address, unique("pending"))
    client.begin_transaction()
    client.send_offsets_to_transaction([TopicPartition(source, 0, 3)], consumer.consumer_group_metadata(), 30)
    client.abort_transaction(30)
    settle()
    assert committed(address, group, source, 1) == [None]
    client.begin_transaction()
    client.send_offsets_to_transaction([TopicPartition(source, 0, 4)], consumer.consumer_group_metadata(), 30)
    client.commit_transaction(30)
    settle()
    assert committed(address, group, source, 1) == [4]
    consumer.close()


@scenario
def offsets_for_times_and_seek_find_the_record(address):
    topic = create_topic(address, "times")
    client = producer(address)
    for i in range(20):
        client.produce(topic, f"{i}".encode(), partition=0, timestamp=1_600_000_000_000 + i * 1000)
    assert client.flush(30) == 0
    consumer = group_consumer(address, unique("times"))
    found = consumer.offsets_for_times([TopicPartition(topic, 0, 1_600_000_000_000 + 6_500)], 30)[0]
    assert found.offset == 7
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    assert consumer.poll(30).value() == b"0"
    consumer.seek(found)
    assert consumer.poll(30).value() == b"7"
    late = consumer.offsets_for_times([TopicPartition(topic, 0, 1_700_000_000_000)], 30)[0]
    assert late.offset < 0
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), 30) == (0, 20)
    consumer.close()

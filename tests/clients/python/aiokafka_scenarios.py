"""aiokafka: a client of its own, in Python all through; transactions by the protocol of before KIP-890."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CommitFailedError, IllegalGenerationError, KafkaError, ProducerFenced

import broker as brokers
from broker import settle, unique

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


def asynchronous(mark):
    """Runs the coroutine as a scenario."""
    def decorate(function):
        def run(argument):
            asyncio.run(function(argument))
        run.__name__, run.__module__ = function.__name__, function.__module__
        return mark(run)
    return decorate


scenario = asynchronous(brokers.scenario)
scenario_with_own_broker = asynchronous(brokers.scenario_with_own_broker)


async def create_topic(address, name, partitions=1):
    topic = unique(name)
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(topic, partitions, 1)])
    await admin.close()
    settle()
    return topic


async def started(client):
    await client.start()
    return client


def producer(address, **config):
    return started(AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True, **config))


def transactional(address, transactional_id, **config):
    return producer(address, transactional_id=transactional_id, **config)


def consumer(address, *topics, **config):
    defaults = {
        "enable_auto_commit": False, "auto_offset_reset": "earliest", "isolation_level": "read_committed",
        "fetch_max_wait_ms": 100, "session_timeout_ms": 6000, "heartbeat_interval_ms": 300,
    }
    return started(AIOKafkaConsumer(*topics, bootstrap_servers=address, **{**defaults, **config}))


async def read_values(address, topic, partitions=1, isolation="read_committed"):
    """Every value that a reader gets which polls to the end: the last stable offset, or the high watermark."""
    client = await consumer(address, isolation_level=isolation)
    parts = [TopicPartition(topic, p) for p in range(partitions)]
    client.assign(parts)
    await client.seek_to_beginning(*parts)
    ends, values = await client.end_offsets(parts), {p: [] for p in parts}
    for part in parts:
        while await client.position(part) < ends[part]:
            for records in (await client.getmany(part, timeout_ms=100)).values():
                values[part] += [r.value for r in records]
    await client.stop()
    return [value for part in parts for value in values[part]]


@scenario
async def every_codec_carries_keys_headers_and_nulls(address):
    topic = await create_topic(address, "codecs", len(CODECS))
    sent = [
        (None if i % 3 == 0 else b"key %d" % i, None if i % 3 == 1 else b"value " * i, (("h", b"%d" % i), ("h", b"")))
        for i in range(30)
    ]
    for partition, codec in enumerate(CODECS):
        client = await producer(address, compression_type=codec, linger_ms=5)
        await asyncio.gather(*[
            await client.send(topic, value, key, partition, headers=list(headers)) for key, value, headers in sent
        ])
        await client.stop()
    reader = await consumer(address)
    for partition, codec in enumerate(CODECS):
        part, records = TopicPartition(topic, partition), []
        reader.assign([part])
        await reader.seek_to_beginning(part)
        while len(records) < len(sent):
            records += [r async for r in first(reader, len(sent))]
        assert [(r.key, r.value, tuple(r.headers)) for r in records] == sent, codec
    await reader.stop()


async def first(client, count):
    while count > 0:
        for records in (await client.getmany(timeout_ms=1000, max_records=count)).values():
            for record in records:
                count -= 1
                yield record


@scenario_with_own_broker
async def idempotent_records_survive_kill_9_once_and_in_order(broker):
    broker.start()
    topic = await create_topic(broker.address, "idempotent")
    client = await producer(broker.address, max_batch_size=500, request_timeout_ms=60_000)
    values = [b"record %d" % i for i in range(1000)]
    sent = [await client.send(topic, value, partition=0) for value in values[:500]]
    await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
    broker.kill()
    rest = asyncio.gather(*[asyncio.ensure_future(client.send(topic, value, partition=0)) for value in values[500:]])
    await asyncio.to_thread(broker.start)
    sent += await rest
    offsets = [record.offset for record in await asyncio.gather(*sent)]
    assert offsets == list(range(1000))
    await client.stop()
    assert await read_values(broker.address, topic) == values


@scenario
async def commits_and_aborts_are_atomic_over_topics_and_partitions(address):
    topics = [await create_topic(address, "atomic", 2) for _ in range(2)]
    client = await transactional(address, unique("atomic"))
    for name, end in [(b"1", client.commit_transaction), (b"2", client.abort_transaction), (b"3", client.commit_transaction)]:
        await client.begin_transaction()
        for topic in topics:
            for partition in range(2):
                await client.send_and_wait(topic, name, partition=partition)
        await end()
        settle()
    await client.stop()
    for topic in topics:
        assert await read_values(address, topic, 2) == [b"1", b"3"] * 2
        assert await read_values(address, topic, 2, "read_uncommitted") == [b"1", b"2", b"3"] * 2


@scenario
async def an_open_transaction_holds_back_a_later_committed_one(address):
    topic = await create_topic(address, "held-back")
    slow, quick = await transactional(address, unique("slow")), await transactional(address, unique("quick"))
    await slow.begin_transaction()
    await slow.send_and_wait(topic, b"slow")
    async with quick.transaction():
        await quick.send_and_wait(topic, b"quick")
    settle()
    assert await read_values(address, topic) == []
    await slow.commit_transaction()
    settle()
    assert await read_values(address, topic) == [b"slow", b"quick"]
    await slow.stop()
    await quick.stop()


@scenario
async def a_zombie_is_fenced_at_each_call(address):
    topic, group = await create_topic(address, "zombie"), unique("group")

    async def zombie_in_transaction():
        transactional_id = unique("zombie")
        zombie = await transactional(address, transactional_id)
        await zombie.begin_transaction()
        await zombie.send_and_wait(topic, b"zombie")
        heir = await transactional(address, transactional_id)
        return zombie, heir

    calls = {
        "send": lambda zombie: zombie.send_and_wait(topic, b"too late"),
        "send offsets": lambda zombie: zombie.send_offsets_to_transaction({TopicPartition(topic, 0): 1}, group),
        "commit": lambda zombie: zombie.commit_transaction(),
        "abort": lambda zombie: zombie.abort_transaction(),
    }
    for name, call in calls.items():
        zombie, heir = await zombie_in_transaction()
        try:
            await call(zombie)
            raise AssertionError(f"{name} succeeded")
        except ProducerFenced:
            pass
        await heir.stop()
        try:
            await zombie.stop()
        except ProducerFenced:
            pass
    settle()
    assert await read_values(address, topic) == []


@scenario
async def consume_transform_produce_commits_offsets_with_the_output(address):
    source, target, group = await create_topic(address, "source"), await create_topic(address, "target"), unique("group")
    feeder = await producer(address)
    for i in range(20):
        await feeder.send_and_wait(source, b"%d" % i, partition=0)
    await feeder.stop()
    transactional_id, part = unique("transform"), TopicPartition(source, 0)
    # Each round starts anew; the first ends after the sends, the second after the offsets, both without an end.
    for end in ["after send", "after offsets", "commit"]:
        reader = await consumer(address, source, group_id=group)
        client = await transactional(address, transactional_id)
        for _ in range(2):
            await client.begin_transaction()
            records = [r async for r in first(reader, 5)]
            for record in records:
                await client.send_and_wait(target, b"seen " + record.value, partition=0)
            if end == "after send":
                break
            await client.send_offsets_to_transaction({part: records[-1].offset + 1}, group)
            if end == "after offsets":
                break
            await client.commit_transaction()
        if end == "commit":
            await client.begin_transaction()
            records = [r async for r in first(reader, 10)]
            for record in records:
                await client.send_and_wait(target, b"seen " + record.value, partition=0)
            await client.send_offsets_to_transaction({part: records[-1].offset + 1}, group)
            await client.commit_transaction()
            settle()
            assert await reader.committed(part) == 20
        await reader.stop()
        if end == "commit":
            await client.stop()
        else:
            abandoned.append(client)
    assert await read_values(address, target) == [b"seen %d" % i for i in range(20)]
    settle()


@scenario
async def three_members_share_the_partitions_through_rebalances(address):
    topic, group = await create_topic(address, "shared", 6), unique("three")
    members = [await consumer(address, topic, group_id=group)]
    for wanted in [3, 2]:
        members.append(await consumer(address, topic, group_id=group))
        await polled_until(members, lambda: all(len(m.assignment()) == wanted for m in members))
    owned = [p.partition for m in members for p in m.assignment()]
    assert sorted(owned) == list(range(6))
    await members.pop().stop()
    await polled_until(members, lambda: [len(m.assignment()) for m in members] == [3, 3])
    client = await producer(address)
    for partition in range(6):
        await client.send_and_wait(topic, b"%d" % partition, partition=partition)
    values = []
    while len(values) < 6:
        values += await polled(members)
    assert sorted(values) == [b"%d" % p for p in range(6)]
    for client in [client, *members]:
        await client.stop()


async def polled(members):
    values = []
    for member in members:
        for records in (await member.getmany(timeout_ms=50)).values():
            values += [r.value for r in records]
    return values


async def polled_until(members, done):
    for _ in range(600):
        await polled(members)
        if done():
            return
    raise AssertionError([m.assignment() for m in members])


@scenario
async def a_static_member_returns_without_a_rebalance(address):
    topic, group = await create_topic(address, "static", 4), unique("static")

    def join(name):
        return consumer(address, topic, group_id=group, group_instance_id=name, session_timeout_ms=20_000)

    leaving, staying = await join("leaving"), await join("staying")
    await polled_until([leaving, staying], lambda: len(leaving.assignment()) == len(staying.assignment()) == 2)
    before = leaving.assignment(), staying.assignment()
    generation = staying._coordinator.generation
    await leaving.stop()
    back = await join("leaving")
    await polled_until([back, staying], lambda: len(back.assignment()) == 2)
    assert (back.assignment(), staying.assignment()) == before
    assert staying._coordinator.generation == back._coordinator.generation == generation
    await back.stop()
    await staying.stop()


@scenario
async def a_commit_of_a_former_generation_is_refused(address):
    topic, group = await create_topic(address, "former", 2), unique("former")
    member = await consumer(address, topic, group_id=group)
    await polled_until([member], lambda: len(member.assignment()) == 2)
    coordinator = member._coordinator
    coordinator.generation -= 1
    try:
        await member.commit({TopicPartition(topic, 0): 1})
        raise AssertionError("the commit succeeded")
    except (CommitFailedError, IllegalGenerationError):
        pass
    await member.stop()


@scenario
async def a_transaction_timeout_above_the_maximum_is_refused(address):
    client = AIOKafkaProducer(
        bootstrap_servers=address, transactional_id=unique("patient"), transaction_timeout_ms=900_001
    )
    try:
        await client.start()
        raise AssertionError("the transaction timeout was taken")
    except KafkaError as error:
        assert error.errno == 50 or "imeout" in str(error), repr(error)
    finally:
        await client.stop()


@scenario
async def the_admin_client_creates_grows_empties_and_deletes(address):
    topic, group = await create_topic(address, "admin"), unique("admin")
    admin = await started(AIOKafkaAdminClient(bootstrap_servers=address))
    await admin.create_partitions({topic: NewPartitions(total_count=3)})
    (described,) = await admin.describe_topics([topic])
    assert described["error_code"] == 0 and len(described["partitions"]) == 3
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    configs = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    assert configs["retention.ms"] == "604800000"
    client = await producer(address)
    for i in range(4):
        await client.send_and_wait(topic, b"%d" % i, partition=0)
    await client.stop()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=3)})
    assert await read_values(address, topic) == [b"3"]

    member = await consumer(address, topic, group_id=group)
    await polled_until([member], lambda: len(member.assignment()) == 3)
    await member.commit({TopicPartition(topic, 0): 4})
    assert group in [name for name, *_ in await admin.list_consumer_groups()]
    (answer,) = await admin.describe_consumer_groups([group])
    assert answer.groups[0][2] == "Stable" and len(answer.groups[0][5]) == 1
    offsets = await admin.list_consumer_group_offsets(group)
    assert offsets[TopicPartition(topic, 0)].offset == 4
    await member.stop()
    await admin.delete_topics([topic])
    settle()
    assert topic not in await admin.list_topics()
    await admin.close()


abandoned = []

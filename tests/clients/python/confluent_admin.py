"""confluent-kafka (librdkafka): the admin client."""

from confluent_kafka import (
    ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaError, TopicCollection, TopicPartition,
)
from confluent_kafka.admin import (
    AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions, NewTopic, OffsetSpec, ResourceType,
)

from broker import eventually, scenario, settle, unique
from clients import admin, create_topic, error_of, group_consumer, producer, read_values, send


def only(futures):
    """The result of the one future in a dictionary of them."""
    (future,) = futures.values()
    return future.result(30)


@scenario
def topics_are_created_grown_described_and_deleted(address):
    client, name = admin(address), unique("created")
    only(client.create_topics([NewTopic(name, 3, 1, config={"cleanup.policy": "compact"})]))
    settle()
    assert error_of(only, client.create_topics([NewTopic(name, 3, 1)])).code() == KafkaError.TOPIC_ALREADY_EXISTS
    only(client.create_partitions([NewPartitions(name, 5)]))
    settle()
    assert error_of(only, client.create_partitions([NewPartitions(name, 5)])).code() == KafkaError.INVALID_PARTITIONS
    settle()
    described = only(client.describe_topics(TopicCollection([name])))
    assert (described.name, described.is_internal, len(described.partitions)) == (name, False, 5)
    assert all(p.leader.id == p.replicas[0].id == p.isr[0].id for p in described.partitions)
    assert len(client.list_topics(timeout=30).topics[name].partitions) == 5
    only(client.delete_topics([name]))
    eventually(lambda: name not in client.list_topics(timeout=30).topics)
    assert error_of(only, client.delete_topics([name])).code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    only(client.create_topics([NewTopic(name, 1, 1)]))
    settle()
    again = only(client.describe_topics(TopicCollection([name])))
    assert str(again.topic_id) != str(described.topic_id)


@scenario
def bad_topics_are_refused(address):
    client = admin(address)
    refused = {
        NewTopic("no/slashes", 1, 1): KafkaError.TOPIC_EXCEPTION,
        NewTopic(unique("none"), 0, 1): KafkaError.INVALID_PARTITIONS,
        NewTopic(unique("many"), 1, 3): KafkaError.INVALID_REPLICATION_FACTOR,
        NewTopic(unique("config"), 1, 1, config={"no.such.key": "1"}): KafkaError.INVALID_CONFIG,
        NewTopic(unique("value"), 1, 1, config={"retention.ms": "soon"}): KafkaError.INVALID_CONFIG,
    }
    for topic, code in refused.items():
        assert error_of(only, client.create_topics([topic])).code() == code, topic.topic
    valid = unique("validated")
    only(client.create_topics([NewTopic(valid, 1, 1)], validate_only=True))
    assert valid not in client.list_topics(timeout=30).topics


@scenario
def topic_configs_show_their_sources_and_change(address):
    client = admin(address)
    topic = create_topic(address, "configs", config={"retention.ms": "60000"})

    def configs():
        return only(client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))

    def alter(name, value, operation):
        resource = ConfigResource(
            ResourceType.TOPIC, topic,
            incremental_configs=[ConfigEntry(name, value, incremental_operation=operation)],
        )
        return only(client.incremental_alter_configs([resource]))

    found = configs()
    assert found["retention.ms"].value == "60000"
    assert found["retention.ms"].source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    assert found["cleanup.policy"].value == "delete"
    assert found["cleanup.policy"].source == ConfigSource.DEFAULT_CONFIG.value
    assert found["max.message.bytes"].value == "1048588"
    alter("cleanup.policy", "compact", AlterConfigOpType.APPEND)
    assert configs()["cleanup.policy"].value == "delete,compact"
    alter("cleanup.policy", "delete", AlterConfigOpType.SUBTRACT)
    assert configs()["cleanup.policy"].value == "compact"
    alter("cleanup.policy", None, AlterConfigOpType.DELETE)
    assert configs()["cleanup.policy"].source == ConfigSource.DEFAULT_CONFIG.value
    alter("max.message.bytes", "1000", AlterConfigOpType.SET)
    assert error_of(alter, "max.message.bytes", "big", AlterConfigOpType.SET).code() == KafkaError.INVALID_CONFIG

    errors = []
    large = producer(address)
    large.produce(topic, b"x" * 2000, on_delivery=lambda error, _: errors.append(error))
    assert large.flush(30) == 0
    assert errors[0].code() == KafkaError.MSG_SIZE_TOO_LARGE, errors


@scenario
def the_cluster_and_its_broker_are_described(address):
    client = admin(address)
    cluster = client.describe_cluster().result(30)
    assert len(cluster.cluster_id) == 22
    (node,) = cluster.nodes
    assert f"{node.host}:{node.port}" == address and cluster.controller.id == node.id
    configs = only(client.describe_configs([ConfigResource(ResourceType.BROKER, str(node.id))]))
    assert configs["transaction.max.timeout.ms"].value == "900000"
    assert configs["transaction.state.log.num.partitions"].value == "50"
    assert len(configs) > 200


@scenario
def internal_topics_are_there_with_fifty_partitions(address):
    client = admin(address)
    transactions = client.list_topics("__transaction_state", timeout=30).topics["__transaction_state"]
    assert transactions.error is None and len(transactions.partitions) == 50
    described = only(client.describe_topics(TopicCollection(["__consumer_offsets"])))
    assert described.is_internal and len(described.partitions) == 50


@scenario
def offsets_of_all_kinds_are_listed(address):
    client, topic = admin(address), create_topic(address, "listed")
    key, sender = TopicPartition(topic, 0), producer(address)
    for timestamp in [5000, 9000, 7000]:
        sender.produce(topic, b"x", partition=0, timestamp=1_600_000_000_000 + timestamp)
    assert sender.flush(30) == 0

    def listed(spec):
        return client.list_offsets({key: spec})[key].result(30).offset

    assert listed(OffsetSpec.earliest()) == 0
    assert listed(OffsetSpec.latest()) == 3
    assert listed(OffsetSpec.max_timestamp()) == 1
    assert listed(OffsetSpec.for_timestamp(1_600_000_006_000)) == 1
    assert listed(OffsetSpec.for_timestamp(1_600_000_010_000)) == -1
    deleted = only(client.delete_records([TopicPartition(topic, 0, 2)]))
    assert deleted.low_watermark == 2 == listed(OffsetSpec.earliest())
    assert len(read_values(address, topic)) == 1


@scenario
def groups_are_listed_described_reset_and_deleted(address):
    client, topic, group = admin(address), create_topic(address, "grouped", 2), unique("described")
    send(producer(address), topic, [b"1", b"2", b"3"])
    consumer = group_consumer(address, group, client_id="the-member")
    consumer.subscribe([topic])
    eventually(lambda: consumer.poll(0.1))
    consumer.commit(offsets=[TopicPartition(topic, 0, 2, metadata="note")], asynchronous=False)

    def offsets():
        request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0), TopicPartition(topic, 1)])
        return [p.offset for p in only(client.list_consumer_group_offsets([request])).topic_partitions]

    listing = next(g for g in client.list_consumer_groups().result(30).valid if g.group_id == group)
    assert listing.state == ConsumerGroupState.STABLE and not listing.is_simple_consumer_group
    described = only(client.describe_consumer_groups([group]))
    assert described.state == ConsumerGroupState.STABLE and described.partition_assignor == "range"
    (member,) = described.members
    assert member.client_id == "the-member"
    assert sorted(p.partition for p in member.assignment.topic_partitions) == [0, 1]
    assert offsets() == [2, -1001]
    assert consumer.committed([TopicPartition(topic, 0)], 30)[0].metadata == "note"
    assert error_of(only, client.delete_consumer_groups([group])).code() == KafkaError.NON_EMPTY_GROUP

    consumer.close()
    assert only(client.describe_consumer_groups([group])).state == ConsumerGroupState.EMPTY
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 1), TopicPartition(topic, 1, 0)])
    only(client.alter_consumer_group_offsets([request]))
    assert offsets() == [1, 0]
    only(client.delete_consumer_groups([group]))
    assert offsets() == [-1001, -1001]
    assert error_of(only, client.delete_consumer_groups([group])).code() == KafkaError.GROUP_ID_NOT_FOUND


@scenario
def a_topic_comes_into_being_when_it_is_produced_to(address):
    topic = unique("automatic")
    send(producer(address), topic, [b"first"])
    assert read_values(address, topic) == [b"first"]

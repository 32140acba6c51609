package oncelog.scenarios;

import static oncelog.harness.Clients.abort;
import static oncelog.harness.Clients.commit;
import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.BROKER;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import oncelog.harness.Check;
import oncelog.harness.Context;
import oncelog.harness.Scenario;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** What an admin client does with topics, configs and offsets of partitions. */
public final class AdminScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("admin/cluster", BROKER, AdminScenarios::cluster),
        new Scenario("admin/topics", BROKER, AdminScenarios::topics),
        new Scenario("admin/refused-topics", BROKER, AdminScenarios::refusedTopics),
        new Scenario("admin/partitions", BROKER, AdminScenarios::partitions),
        new Scenario("admin/topic-configs", BROKER, AdminScenarios::topicConfigs),
        new Scenario("admin/broker-configs", BROKER, AdminScenarios::brokerConfigs),
        new Scenario("admin/delete-records", BROKER, AdminScenarios::deleteRecords),
        new Scenario("admin/list-offsets", BROKER, AdminScenarios::listOffsets));

    private AdminScenarios() {
    }

    private static void cluster(Context context) throws Exception {
        var cluster = context.admin().describeCluster();
        Check.equal("nodes", 1, cluster.nodes().get().size());
        Check.equal("the controller is the node", cluster.nodes().get().iterator().next(), cluster.controller().get());
        Check.that(!cluster.clusterId().get().isEmpty(), "the cluster has an id");
        var features = context.admin().describeFeatures().featureMetadata().get();
        Check.equal("finalized transaction.version", (short) 2, features.finalizedFeatures().get("transaction.version").maxVersionLevel());
        Check.that(features.finalizedFeatures().containsKey("metadata.version"), "metadata.version is finalized");
    }

    private static void topics(Context context) throws Exception {
        Admin admin = context.admin();
        String name = context.unique("made");
        var created = admin.createTopics(List.of(new NewTopic(name, 3, (short) 1).configs(Map.of("retention.ms", "12345"))));
        created.all().get();
        Uuid id = created.topicId(name).get();
        Check.equal("partitions in the answer", 3, created.numPartitions(name).get());
        Check.equal("replication factor in the answer", 1, created.replicationFactor(name).get());
        Check.equal("retention.ms in the answer", "12345", created.config(name).get().get("retention.ms").value());
        context.promised(() -> Check.that(admin.listTopics().names().get().contains(name), "the topic is listed"));

        TopicDescription description = describe(admin, name);
        Check.equal("topic id", id, description.topicId());
        Check.equal("partitions", List.of(0, 1, 2), description.partitions().stream().map(TopicPartitionInfo::partition).toList());
        for (TopicPartitionInfo partition : description.partitions()) {
            Check.equal("replicas", List.of(partition.leader()), partition.replicas());
            Check.equal("in-sync replicas", List.of(partition.leader()), partition.isr());
        }
        Check.equal("found by id", name,
            admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name());

        try (KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of())) {
            send(producer, new TopicPartition(name, 0), "of the first life").get();
        }
        admin.deleteTopics(List.of(name)).all().get();
        context.promised(() -> {
            Check.fails("describing a deleted topic", () -> describe(admin, name), UnknownTopicOrPartitionException.class);
            Check.fails("describing a deleted id",
                () -> admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get(), UnknownTopicIdException.class);
        });
        Check.fails("deleting it again", () -> admin.deleteTopics(List.of(name)).all().get(), UnknownTopicOrPartitionException.class);

        admin.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all().get();
        context.promised(() -> Check.that(!describe(admin, name).topicId().equals(id), "a topic of the same name has another id"));
        context.promised(() -> Check.equal("it is empty", 0L, latest(admin, new TopicPartition(name, 0))));
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(describe(admin, name).topicId()))).all().get();
        context.promised(() -> Check.that(!admin.listTopics().names().get().contains(name), "a topic deleted by its id is gone"));
    }

    private static void refusedTopics(Context context) throws Exception {
        Admin admin = context.admin();
        String name = context.topic("exists", 1).get(0).topic();
        String other = context.unique("other");
        refused(admin, new NewTopic(name, 1, (short) 1), TopicExistsException.class);
        refused(admin, new NewTopic("no spaces", 1, (short) 1), InvalidTopicException.class);
        refused(admin, new NewTopic("..", 1, (short) 1), InvalidTopicException.class);
        refused(admin, new NewTopic("x".repeat(250), 1, (short) 1), InvalidTopicException.class);
        refused(admin, new NewTopic(name.replace('-', '.') + ".x", 1, (short) 1).configs(Map.of("retention.ms", "soon")), InvalidConfigurationException.class);
        refused(admin, new NewTopic(other, 1, (short) 1).configs(Map.of("no.such.key", "1")), InvalidConfigurationException.class);
        refused(admin, new NewTopic(other, 0, (short) 1), InvalidPartitionsException.class);
        refused(admin, new NewTopic(other, 1, (short) 3), InvalidReplicationFactorException.class);
        admin.createTopics(List.of(new NewTopic(other, 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all().get();
        Check.that(!admin.listTopics().names().get().contains(other), "none of these topics exists");
    }

    private static void refused(Admin admin, NewTopic topic, Class<? extends Throwable> kind) {
        Check.fails("creating " + topic, () -> admin.createTopics(List.of(topic)).all().get(), kind);
    }

    private static void partitions(Context context) throws Exception {
        Admin admin = context.admin();
        String topic = context.topic("grows", 2).get(0).topic();
        Check.fails("shrinking", () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(1))).all().get(), InvalidPartitionsException.class);
        Check.fails("standing still", () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all().get(), InvalidPartitionsException.class);
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        context.promised(() -> Check.equal("partitions", 5, describe(admin, topic).partitions().size()));
        TopicPartition last = new TopicPartition(topic, 4);
        try (KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of())) {
            send(producer, last, "in a new partition").get();
        }
        Check.equal("in the new partition", List.of("in a new partition"), context.uncommitted(List.of(last)).values());
    }

    private static void topicConfigs(Context context) throws Exception {
        Admin admin = context.admin();
        List<TopicPartition> partitions = context.topic("configured", 1, Map.of("segment.bytes", "2000000"));
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, partitions.get(0).topic());
        checkEntry(config(admin, topic), "segment.bytes", "2000000", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
        checkEntry(config(admin, topic), "cleanup.policy", "delete", ConfigEntry.ConfigSource.DEFAULT_CONFIG);
        checkEntry(config(admin, topic), "max.message.bytes", "1048588", ConfigEntry.ConfigSource.DEFAULT_CONFIG);
        alter(admin, topic, "max.message.bytes", "500", AlterConfigOp.OpType.SET);
        alter(admin, topic, "cleanup.policy", "compact", AlterConfigOp.OpType.APPEND);
        context.promised(() -> {
            checkEntry(config(admin, topic), "max.message.bytes", "500", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
            checkEntry(config(admin, topic), "cleanup.policy", "delete,compact", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
        });
        KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of());
        Check.fails("a record that is too large now", () -> producer.send(
            new ProducerRecord<>(partitions.get(0).topic(), 0, "key", "x".repeat(1_000))).get(), RecordTooLargeException.class);
        alter(admin, topic, "max.message.bytes", null, AlterConfigOp.OpType.DELETE);
        alter(admin, topic, "cleanup.policy", "compact", AlterConfigOp.OpType.SUBTRACT);
        context.promised(() -> {
            checkEntry(config(admin, topic), "max.message.bytes", "1048588", ConfigEntry.ConfigSource.DEFAULT_CONFIG);
            checkEntry(config(admin, topic), "cleanup.policy", "delete", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
            send(producer, partitions.get(0), "x".repeat(1_000)).get();
        });
        Check.fails("a bad value", () -> alter(admin, topic, "retention.ms", "soon", AlterConfigOp.OpType.SET), InvalidConfigurationException.class);
        Check.fails("an unknown key", () -> alter(admin, topic, "no.such.key", "1", AlterConfigOp.OpType.SET), InvalidConfigurationException.class);
        ConfigResource unknown = new ConfigResource(ConfigResource.Type.TOPIC, context.unique("nowhere"));
        Check.fails("an unknown topic", () -> config(admin, unknown), UnknownTopicOrPartitionException.class);
    }

    private static void brokerConfigs(Context context) throws Exception {
        Admin admin = context.admin();
        String node = admin.describeCluster().nodes().get().iterator().next().idString();
        Config config = config(admin, new ConfigResource(ConfigResource.Type.BROKER, node));
        for (var entry : Map.of("transaction.max.timeout.ms", "900000", "message.max.bytes", "1048588", "num.partitions", "1",
            "transaction.state.log.num.partitions", "50", "offsets.topic.num.partitions", "50").entrySet()) {
            Check.that(config.get(entry.getKey()) != null, "the broker has the config " + entry.getKey());
            Check.equal(entry.getKey(), entry.getValue(), config.get(entry.getKey()).value());
        }
    }

    private static void deleteRecords(Context context) throws Exception {
        Admin admin = context.admin();
        List<TopicPartition> partitions = context.topic("trimmed", 1);
        TopicPartition partition = partitions.get(0);
        KafkaProducer<String, String> producer = context.transactional(context.unique("trimmed"));
        producer.beginTransaction();
        for (int i = 0; i < 10; i++) {
            send(producer, partition, "record-" + i);
        }
        commit(producer);
        context.promised(() -> Check.equal("end", 11L, context.committed(partitions).end(partition)));
        Check.equal("low watermark", 7L, delete(admin, partition, 7));
        Check.equal("what is left", List.of("record-7", "record-8", "record-9"), context.committed(partitions).values());
        Check.equal("earliest offset", 7L, offset(admin, partition, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED));
        Check.equal("deleting less changes nothing", 7L, delete(admin, partition, 3));
        Check.fails("deleting past the end", () -> delete(admin, partition, 12), OffsetOutOfRangeException.class);
        Check.equal("deleting all", 11L, delete(admin, partition, -1));
        Check.equal("nothing is left", List.of(), context.uncommitted(partitions).values());
        producer.beginTransaction();
        send(producer, partition, "later");
        commit(producer);
        context.promised(() -> Check.equal("appended afterwards", List.of("later"), context.committed(partitions).values()));
    }

    private static long delete(Admin admin, TopicPartition partition, long before) throws Exception {
        return admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(before))).lowWatermarks().get(partition).get().lowWatermark();
    }

    private static void listOffsets(Context context) throws Exception {
        Admin admin = context.admin();
        List<TopicPartition> partitions = context.topic("listed", 2);
        TopicPartition partition = partitions.get(0);
        long now = System.currentTimeMillis();
        KafkaProducer<String, String> producer = context.transactional(context.unique("listed"));
        producer.beginTransaction();
        for (long age : List.of(9_000, 7_000, 8_000)) {
            producer.send(new ProducerRecord<>(partition.topic(), 0, now - age, null, "old")).get();
        }
        commit(producer);
        context.promised(() -> Check.equal("end", 4L, context.committed(partitions).end(partition)));
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(partition.topic(), 0, now + 60_000, null, "open")).get();
        for (IsolationLevel isolation : IsolationLevel.values()) {
            boolean committed = isolation == IsolationLevel.READ_COMMITTED;
            Function<OffsetSpec, Long> at = spec -> offset(admin, partition, spec, isolation);
            Check.equal("earliest", 0L, at.apply(OffsetSpec.earliest()));
            Check.equal("earliest local", 0L, at.apply(OffsetSpec.earliestLocal()));
            Check.equal("latest, " + isolation, committed ? 4L : 5L, at.apply(OffsetSpec.latest()));
            Check.equal("latest tiered", -1L, at.apply(OffsetSpec.latestTiered()));
            Check.equal("earliest pending upload", -1L, at.apply(OffsetSpec.earliestPendingUpload()));
            Check.equal("at the first timestamp", 0L, at.apply(OffsetSpec.forTimestamp(now - 9_000)));
            Check.equal("just after the first", 1L, at.apply(OffsetSpec.forTimestamp(now - 8_999)));
            // The marker counts as a record of the time at which it was written.
            Check.equal("after the last record", 3L, at.apply(OffsetSpec.forTimestamp(now - 6_999)));
            Check.equal("at the open record, " + isolation, committed ? -1L : 4L, at.apply(OffsetSpec.forTimestamp(now + 60_000)));
            Check.equal("newest, " + isolation, committed ? -1L : 4L, at.apply(OffsetSpec.maxTimestamp()));
            Check.equal("in the future", -1L, at.apply(OffsetSpec.forTimestamp(now + 600_000)));
        }
        abort(producer);
        context.promised(() -> Check.equal("latest committed when it has ended", 6L,
            offset(admin, partition, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)));
        ListOffsetsResultInfo newest = list(admin, partition, OffsetSpec.maxTimestamp(), IsolationLevel.READ_UNCOMMITTED);
        Check.equal("newest", 4L, newest.offset());
        Check.equal("its timestamp", now + 60_000, newest.timestamp());
        TopicPartition empty = partitions.get(1);
        Check.equal("newest of an empty partition", -1L, offset(admin, empty, OffsetSpec.maxTimestamp(), IsolationLevel.READ_UNCOMMITTED));
        Check.fails("a partition that is not there", () -> list(admin, new TopicPartition(partition.topic(), 7), OffsetSpec.latest(),
            IsolationLevel.READ_UNCOMMITTED, 1_500), UnknownTopicOrPartitionException.class, org.apache.kafka.common.errors.TimeoutException.class);
    }

    private static ListOffsetsResultInfo list(Admin admin, TopicPartition partition, OffsetSpec spec, IsolationLevel isolation) throws Exception {
        return list(admin, partition, spec, isolation, 30_000);
    }

    private static ListOffsetsResultInfo list(Admin admin, TopicPartition partition, OffsetSpec spec, IsolationLevel isolation, int limitMs)
        throws Exception {
        return admin.listOffsets(Map.of(partition, spec), new ListOffsetsOptions(isolation).timeoutMs(limitMs)).partitionResult(partition).get();
    }

    private static long offset(Admin admin, TopicPartition partition, OffsetSpec spec, IsolationLevel isolation) {
        try {
            return list(admin, partition, spec, isolation).offset();
        } catch (Exception failure) {
            throw new AssertionError("listing " + spec.getClass().getSimpleName() + ": " + Check.chain(failure), failure);
        }
    }

    private static long latest(Admin admin, TopicPartition partition) {
        return offset(admin, partition, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED);
    }

    private static TopicDescription describe(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private static Config config(Admin admin, ConfigResource resource) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource);
    }

    private static void checkEntry(Config config, String name, String value, ConfigEntry.ConfigSource source) {
        Check.equal(name, value, config.get(name).value());
        Check.equal("source of " + name, source, config.get(name).source());
    }

    private static void alter(Admin admin, ConfigResource resource, String name, String value, AlterConfigOp.OpType operation) throws Exception {
        Collection<AlterConfigOp> operations = List.of(new AlterConfigOp(new ConfigEntry(name, value), operation));
        admin.incrementalAlterConfigs(Map.of(resource, operations)).all().get();
    }
}

package oncelog.scenarios;

import static oncelog.harness.Clients.abort;
import static oncelog.harness.Clients.commit;
import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.ALONE;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import oncelog.harness.Check;
import oncelog.harness.Context;
import oncelog.harness.Scenario;
import oncelog.harness.Tool;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.utils.Utils;

/** Kafka's own command line tools work and print what they print with Apache Kafka. */
public final class ToolScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("tools/kafka-topics", ALONE, ToolScenarios::topics),
        new Scenario("tools/kafka-topics-describes-transaction-state", ALONE, ToolScenarios::describesTransactionState),
        new Scenario("tools/kafka-consumer-groups-with-a-transaction-open", ALONE, ToolScenarios::lagWithOpenTransaction),
        new Scenario("tools/kafka-consumer-groups", ALONE, ToolScenarios::consumerGroups),
        new Scenario("tools/console-producer-and-consumer", ALONE, ToolScenarios::console),
        new Scenario("tools/console-consumer-reads-internal-topics", ALONE, ToolScenarios::internalTopics),
        new Scenario("tools/kafka-configs", ALONE, ToolScenarios::configs),
        new Scenario("tools/kafka-transactions", ALONE, ToolScenarios::transactions),
        new Scenario("tools/kafka-get-offsets-and-delete-records", ALONE, ToolScenarios::offsets),
        new Scenario("tools/perf-tests", ALONE, ToolScenarios::perfTests),
        new Scenario("tools/cluster-features-and-api-versions", ALONE, ToolScenarios::cluster));

    private static final String TOPICS = "org.apache.kafka.tools.TopicCommand";
    private static final String GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    private static final String CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    private static final String CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer";
    private static final String CONFIGS = "kafka.admin.ConfigCommand";
    private static final String TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand";
    private static final String GET_OFFSETS = "org.apache.kafka.tools.GetOffsetShell";

    private ToolScenarios() {
    }

    /** Runs a tool against the scenario's broker. */
    private static Tool.Outcome run(Context context, String tool, String... arguments) throws Exception {
        return runWith(context, "", tool, arguments);
    }

    private static Tool.Outcome runWith(Context context, String input, String tool, String... arguments) throws Exception {
        String[] all = Stream.concat(Stream.of("--bootstrap-server", context.bootstrap()), Stream.of(arguments)).toArray(String[]::new);
        return Tool.run(input, tool, all);
    }

    private static void topics(Context context) throws Exception {
        String topic = context.unique("made-by-tool");
        run(context, TOPICS, "--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=60000").good()
            .shows("Created topic " + topic);
        context.promised(() -> run(context, TOPICS, "--list").good().shows("^" + topic + "$"));
        run(context, TOPICS, "--describe", "--topic", topic).good()
            .shows("Topic: " + topic + "\\s.*PartitionCount: 3\\s.*ReplicationFactor: 1\\s.*Configs: .*retention.ms=60000",
                "Topic: " + topic + "\\s+Partition: 2\\s+Leader: 1\\s+Replicas: 1\\s+Isr: 1");
        Check.equal("creating it again", 1, run(context, TOPICS, "--create", "--topic", topic).shows("already exists").status());
        run(context, TOPICS, "--create", "--if-not-exists", "--topic", topic).good();
        run(context, TOPICS, "--alter", "--topic", topic, "--partitions", "5").good();
        context.promised(() -> run(context, TOPICS, "--describe", "--topic", topic).good().shows("PartitionCount: 5"));
        run(context, TOPICS, "--delete", "--topic", topic).good();
        context.promised(() -> run(context, TOPICS, "--list").good().hides("^" + topic + "$"));
        Check.equal("describing it", 1, run(context, TOPICS, "--describe", "--topic", topic).status());
    }

    private static void describesTransactionState(Context context) throws Exception {
        context.transactional(context.unique("any"));
        Tool.Outcome outcome = run(context, TOPICS, "--describe", "--topic", "__transaction_state").good()
            .shows("PartitionCount: 50\\s.*ReplicationFactor: 1\\s", "cleanup.policy=compact", "segment.bytes=104857600",
                "compression.type=uncompressed");
        Check.equal("lines with a leader", 50L, outcome.lines().stream().filter(line -> line.contains("Leader: 1\t")).count());
    }

    private static void lagWithOpenTransaction(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("lag", 1);
        String topic = partitions.get(0).topic();
        String group = context.unique("lagging");
        KafkaProducer<String, String> producer = context.transactional(context.unique("lag"));
        sendCommitted(producer, partitions.get(0), 5);
        context.promised(() -> Check.equal("end", 6L, context.committed(partitions).end(partitions.get(0))));
        context.admin().alterConsumerGroupOffsets(group, Map.of(partitions.get(0), new OffsetAndMetadata(2))).all().get();
        producer.beginTransaction();
        for (int i = 0; i < 3; i++) {
            send(producer, partitions.get(0), "open").get();
        }
        producer.sendOffsetsToTransaction(Map.of(partitions.get(0), new OffsetAndMetadata(6)), new ConsumerGroupMetadata(group));
        checkLag(context, group, topic, "2", "9", "7");
        commit(producer);
        context.promised(() -> checkLag(context, group, topic, "6", "10", "4"));
    }

    private static void checkLag(Context context, String group, String topic, String current, String end, String lag) throws Exception {
        Tool.Outcome outcome = run(context, GROUPS, "--describe", "--group", group).good();
        Check.equal("CURRENT-OFFSET", current, outcome.cell(topic, "CURRENT-OFFSET"));
        Check.equal("LOG-END-OFFSET", end, outcome.cell(topic, "LOG-END-OFFSET"));
        Check.equal("LAG", lag, outcome.cell(topic, "LAG"));
    }

    private static void consumerGroups(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("grouped", 2);
        String topic = partitions.get(0).topic();
        String group = context.unique("listed");
        sendCommitted(context.transactional(context.unique("grouped")), partitions.get(0), 5);
        KafkaConsumer<String, String> consumer = context.consumer(IsolationLevel.READ_COMMITTED, Map.of("group.id", group));
        consumer.subscribe(List.of(topic));
        Check.eventually("five records", Duration.ofSeconds(20), () -> consumer.poll(Duration.ofMillis(100)).count() == 5);
        consumer.commitSync();

        run(context, GROUPS, "--list").good().shows("^" + group + "$");
        run(context, GROUPS, "--list", "--state").good().shows("^" + group + "\\s+Stable");
        run(context, GROUPS, "--describe", "--group", group, "--state").good().shows(group + "\\s.*range\\s.*Stable\\s+1");
        Tool.Outcome members = run(context, GROUPS, "--describe", "--group", group, "--members", "--verbose").good();
        Check.equal("#PARTITIONS", "2", members.cell(group, "#PARTITIONS"));
        run(context, GROUPS, "--delete", "--group", group).shows("could not be deleted");
        run(context, GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute").hides(topic + "\\s+0\\s+0");
        consumer.close();

        run(context, GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute").good().shows(topic + "\\s+0\\s+0");
        run(context, GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--shift-by", "2", "--execute").good().shows(topic + "\\s+0\\s+2");
        run(context, GROUPS, "--delete-offsets", "--group", group, "--topic", topic).good().shows(topic + "\\s+0\\s+Successful");
        run(context, GROUPS, "--delete", "--group", group).good().shows("successful");
        run(context, GROUPS, "--list").good().hides(group);
    }

    private static void console(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("typed", 1);
        String topic = partitions.get(0).topic();
        KafkaProducer<String, String> producer = context.transactional(context.unique("typed"));
        producer.beginTransaction();
        send(producer, partitions.get(0), "aborted").get();
        abort(producer);
        runWith(context, "k1:one\nk2:two\nk3:three\n", CONSOLE_PRODUCER, "--topic", topic,
            "--reader-property", "parse.key=true", "--reader-property", "key.separator=:").good();
        producer.beginTransaction();
        send(producer, partitions.get(0), "open").get();
        Tool.Outcome committed = run(context, CONSOLE_CONSUMER, "--topic", topic, "--from-beginning", "--max-messages", "3",
            "--timeout-ms", "20000", "--isolation-level", "read_committed", "--formatter-property", "print.key=true", "--formatter-property", "print.offset=true").good();
        Check.equal("read_committed", List.of("Offset:2\tk1\tone", "Offset:3\tk2\ttwo", "Offset:4\tk3\tthree"), committed.lines());
        Tool.Outcome uncommitted = run(context, CONSOLE_CONSUMER, "--topic", topic, "--from-beginning", "--max-messages", "5").good();
        Check.equal("read_uncommitted", List.of("aborted", "one", "two", "three", "open"), uncommitted.lines());
        commit(producer);
        context.promised(() -> Check.equal("read_committed by group", List.of("one", "two", "three", "open"), run(context, CONSOLE_CONSUMER,
            "--topic", topic, "--from-beginning", "--max-messages", "4", "--timeout-ms", "20000",
            "--isolation-level", "read_committed", "--group", context.unique("console")).lines()));
    }

    private static void internalTopics(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("internal", 1);
        String id = context.unique("shown");
        String group = context.unique("shown-group");
        KafkaProducer<String, String> producer = context.transactional(id);
        producer.beginTransaction();
        producer.sendOffsetsToTransaction(Map.of(partitions.get(0), new OffsetAndMetadata(42)), new ConsumerGroupMetadata(group));
        commit(producer);
        context.promised(() -> internal(context, "__transaction_state", id, "TransactionLogMessageFormatter")
            .shows("\"transactionalId\":\"" + id + "\".*\"transactionStatus\":1", "\"transactionalId\":\"" + id + "\".*\"transactionStatus\":4"));
        context.promised(() -> internal(context, "__consumer_offsets", group, "OffsetsMessageFormatter")
            .shows("\"group\":\"" + group + "\".*\"offset\":42"));
    }

    /** Reads the partition of an internal topic (of 50) to which a key belongs. */
    private static Tool.Outcome internal(Context context, String topic, String key, String formatter) throws Exception {
        return run(context, CONSOLE_CONSUMER, "--topic", topic, "--partition", String.valueOf(Utils.abs(key.hashCode()) % 50),
            "--offset", "earliest", "--timeout-ms", "2000", "--isolation-level", "read_committed",
            "--formatter", "org.apache.kafka.tools.consumer." + formatter);
    }

    private static void configs(Context context) throws Exception {
        String topic = context.topic("configured", 1).get(0).topic();
        run(context, CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", topic).good().hides("retention.ms");
        run(context, CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", "retention.ms=1234567").good();
        context.promised(() -> run(context, CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", topic).good()
            .shows("retention.ms=1234567 .*DYNAMIC_TOPIC_CONFIG:retention.ms=1234567"));
        run(context, CONFIGS, "--describe", "--all", "--entity-type", "topics", "--entity-name", topic).good()
            .shows("cleanup.policy=delete", "max.message.bytes=1048588", "retention.ms=1234567");
        run(context, CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", topic, "--delete-config", "retention.ms").good();
        Check.equal("a bad value", 1, run(context, CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", "retention.ms=soon").status());
        run(context, CONFIGS, "--describe", "--all", "--entity-type", "brokers", "--entity-name", "1").good()
            .shows("transaction.max.timeout.ms=900000", "num.partitions=1");
    }

    private static void transactions(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("shown", 1);
        String topic = partitions.get(0).topic();
        String id = context.unique("shown");
        KafkaProducer<String, String> producer = context.transactional(id);
        producer.beginTransaction();
        send(producer, partitions.get(0), "open").get();
        Check.equal("listed as", "Ongoing", run(context, TRANSACTIONS, "list").good().cell(id, "TransactionState"));
        Tool.Outcome description = run(context, TRANSACTIONS, "describe", "--transactional-id", id).good();
        Check.equal("described as", "Ongoing", description.cell(id, "TransactionState"));
        Check.equal("partitions", topic + "-0", description.cell(id, "TopicPartitions"));
        String producerId = description.cell(id, "ProducerId");
        Tool.Outcome producers = run(context, TRANSACTIONS, "describe-producers", "--topic", topic, "--partition", "0").good();
        Check.equal("start of the transaction", "0", producers.cell(producerId, "CurrentTransactionStartOffset"));
        run(context, TRANSACTIONS, "find-hanging", "--topic", topic).good().hides(producerId);
        run(context, TRANSACTIONS, "abort", "--topic", topic, "--partition", "0", "--start-offset", "0").good();
        context.promised(() -> Check.equal("last stable offset", 2L, context.committed(partitions).end(partitions.get(0))));
    }

    private static void offsets(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("offsets", 2);
        String topic = partitions.get(0).topic();
        sendCommitted(context.transactional(context.unique("offsets")), partitions.get(0), 5);
        context.promised(() -> Check.equal("latest", List.of(topic + ":0:6", topic + ":1:0"), run(context, GET_OFFSETS, "--topic", topic).good().lines()));
        Path file = Files.createTempFile("oncelog-", ".json");
        context.open(() -> Files.delete(file));
        Files.writeString(file, "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":3}]}");
        run(context, "org.apache.kafka.tools.DeleteRecordsCommand", "--offset-json-file", file.toString()).good()
            .shows("partition: " + topic + "-0\\s+low_watermark: 3");
        Check.equal("earliest", List.of(topic + ":0:3", topic + ":1:0"), run(context, GET_OFFSETS, "--topic", topic, "--time", "earliest").good().lines());
        // The commit marker is the newest; the empty partition has none and is left out.
        Check.equal("newest", List.of(topic + ":0:5"), run(context, GET_OFFSETS, "--topic", topic, "--time", "max-timestamp").good().lines());
    }

    private static void perfTests(Context context) throws Exception {
        List<TopicPartition> plain = context.topic("perf", 1);
        String producerPerformance = "org.apache.kafka.tools.ProducerPerformance";
        run(context, producerPerformance, "--topic", plain.get(0).topic(), "--num-records", "5000", "--record-size", "100", "--throughput", "-1").good()
            .shows("^5000 records sent");
        Check.equal("records", 5_000L, context.uncommitted(plain).end(plain.get(0)));
        List<TopicPartition> transactional = context.topic("perf-transactional", 1);
        run(context, producerPerformance, "--topic", transactional.get(0).topic(), "--num-records", "5000", "--record-size", "100",
            "--throughput", "5000", "--transactional-id", context.unique("perf"), "--transaction-duration-ms", "50").good().shows("^5000 records sent");
        context.promised(() -> Check.equal("records in transactions", 5_000, context.committed(transactional).values().size()));
        run(context, "org.apache.kafka.tools.ConsumerPerformance", "--topic", plain.get(0).topic(), "--num-records", "5000").good();
    }

    private static void cluster(Context context) throws Exception {
        run(context, "org.apache.kafka.tools.FeatureCommand", "describe").good()
            .shows("Feature: transaction.version\\s.*FinalizedVersionLevel: 2");
        run(context, "org.apache.kafka.tools.BrokerApiVersionsCommand").good()
            .shows("Produce\\(0\\): 0 to 13", "EndTxn\\(26\\): 0 to 5", "TxnOffsetCommit\\(28\\): 0 to 5");
        Tool.Outcome id = Tool.run("org.apache.kafka.tools.ClusterTool", "cluster-id", "--bootstrap-server", context.bootstrap()).good();
        Check.that(id.out().contains(context.admin().describeCluster().clusterId().get()), "it prints the cluster's id: " + id.out());
    }

    private static void sendCommitted(KafkaProducer<String, String> producer, TopicPartition partition, int count) {
        producer.beginTransaction();
        for (int i = 0; i < count; i++) {
            send(producer, partition, "record-" + i);
        }
        commit(producer);
    }
}

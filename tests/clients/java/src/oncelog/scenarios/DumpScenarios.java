package oncelog.scenarios;

import static oncelog.harness.Clients.abort;
import static oncelog.harness.Clients.commit;
import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.OWN_BROKER_ALONE;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import oncelog.harness.Broker;
import oncelog.harness.Check;
import oncelog.harness.Context;
import oncelog.harness.Scenario;
import oncelog.harness.Tool;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;

/** The files of a data directory are Kafka's: its DumpLogSegments reads every one of them without a complaint. */
public final class DumpScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("tools/dump-log-segments-of-a-used-data-directory", OWN_BROKER_ALONE, DumpScenarios::dump));

    private static final String COMPLAINT = "(?i)mismatch|found |non-consecutive|corrupt|invalid|exception|isvalid: false";
    private static final Set<String> SUFFIXES = Set.of("log", "index", "timeindex", "txnindex", "snapshot");

    private DumpScenarios() {
    }

    private static void dump(Context context) throws Exception {
        Broker broker = context.startBroker();
        List<TopicPartition> partitions = context.topic("dumped", 2, Map.of("segment.bytes", "1048576"));
        String group = context.unique("group");
        use(context, partitions, group, "before");
        broker.kill();
        broker.start();
        use(context, partitions, group, "after");
        Check.equal("exit status of the broker", context.apacheKafka() ? 143 : 0, broker.stop());

        Map<String, List<Path>> files = files(broker.dataDirectory());
        String log = dump(files, partitions.get(0).topic() + "-").out();
        Check.that(log.contains("compresscodec: zstd") && log.contains("compresscodec: lz4"), "batches of several codecs");
        Check.that(log.contains("endTxnMarker: ABORT") && log.contains("endTxnMarker: COMMIT"), "markers of both kinds");
        for (String suffix : SUFFIXES) {
            Check.that(log.contains("." + suffix), "a file that ends with " + suffix + " of " + partitions.get(0).topic());
        }
        String transactions = dump(files, "__transaction_state-", "--transaction-log-decoder").out();
        Check.that(transactions.contains("\"transactionalId\":\"dumper-before-"), "a transactional id in the transaction log");
        String offsets = dump(files, "__consumer_offsets-", "--offsets-decoder").out();
        Check.that(offsets.contains("\"group\":\"" + group + "\""), "the group in the offsets");
        String metadata = dump(files, "__cluster_metadata-", "--cluster-metadata-decoder").out();
        Check.that(metadata.contains(partitions.get(0).topic()), "the topic in the metadata log");
    }

    /** Leaves something of every kind: many segments, all codecs, both outcomes, offsets both ways, deleted things. */
    private static void use(Context context, List<TopicPartition> partitions, String group, String when) throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            KafkaProducer<String, String> producer = context.transactional(context.bootstrap(), context.unique("dumper-" + when),
                Map.of("compression.type", codec));
            producer.initTransactions();
            for (int transaction = 0; transaction < 4; transaction++) {
                producer.beginTransaction();
                for (int i = 0; i < 500; i++) {
                    send(producer, partitions.get(0), i + " of " + when + new Random(i).ints(80).boxed().toList());
                }
                producer.sendOffsetsToTransaction(Map.of(partitions.get(0), new OffsetAndMetadata(transaction)),
                    new ConsumerGroupMetadata(group));
                if (transaction % 2 == 0) {
                    commit(producer);
                } else {
                    abort(producer);
                }
            }
        }
        KafkaConsumer<String, String> consumer = context.consumer(IsolationLevel.READ_COMMITTED, Map.of("group.id", group));
        consumer.subscribe(List.of(partitions.get(0).topic()));
        Check.eventually("a member reads", Duration.ofSeconds(20), () -> !consumer.poll(Duration.ofMillis(100)).isEmpty());
        consumer.commitSync();
        consumer.close();
        String deleted = context.unique("deleted");
        context.admin().alterConsumerGroupOffsets(deleted, Map.of(partitions.get(0), new OffsetAndMetadata(1))).all().get();
        context.admin().deleteConsumerGroups(List.of(deleted)).all().get();
        context.admin().deleteTopics(List.of(context.topic("deleted", 3).get(0).topic())).all().get();
        context.admin().deleteRecords(Map.of(partitions.get(0), RecordsToDelete.beforeOffset(10))).all().get();
        // One transaction stays open over the end of the broker.
        KafkaProducer<String, String> open = context.transactional(context.unique("dumper-" + when));
        open.beginTransaction();
        send(open, partitions.get(1), "open").get();
    }

    /** The files of each partition, by the name of its directory. */
    private static Map<String, List<Path>> files(Path dataDirectory) throws Exception {
        try (Stream<Path> paths = Files.walk(dataDirectory, 2)) {
            return paths.filter(path -> SUFFIXES.contains(path.getFileName().toString().replaceFirst(".*\\.", "")))
                .sorted().collect(Collectors.groupingBy(path -> path.getParent().getFileName().toString()));
        }
    }

    private static Tool.Outcome dump(Map<String, List<Path>> files, String directories, String... decoder) throws Exception {
        List<String> chosen = files.entrySet().stream().filter(entry -> entry.getKey().startsWith(directories))
            .flatMap(entry -> entry.getValue().stream()).map(Path::toString).toList();
        Check.that(!chosen.isEmpty(), "files of " + directories);
        List<String> arguments = new ArrayList<>(List.of("--files", String.join(",", chosen)));
        arguments.addAll(decoder.length == 0 ? List.of("--deep-iteration") : List.of(decoder));
        return Tool.run("org.apache.kafka.tools.DumpLogSegments", arguments.toArray(String[]::new)).good().hides(COMPLAINT);
    }
}

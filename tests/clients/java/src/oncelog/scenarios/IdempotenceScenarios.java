package oncelog.scenarios;

import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.BROKER;
import static oncelog.harness.Scenario.Needs.OWN_BROKER;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import oncelog.harness.Background;
import oncelog.harness.Broker;
import oncelog.harness.Check;
import oncelog.harness.Contents;
import oncelog.harness.Context;
import oncelog.harness.Proxy;
import oncelog.harness.Scenario;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.protocol.ApiKeys;

/** An idempotent producer's records are on the log once and in order, whatever happens to broker and connection. */
public final class IdempotenceScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("idempotence/broker-killed-midway", OWN_BROKER, IdempotenceScenarios::brokerKilledMidway),
        new Scenario("idempotence/answers-lost", BROKER, IdempotenceScenarios::answersLost),
        new Scenario("idempotence/requests-lost", BROKER, IdempotenceScenarios::requestsLost),
        new Scenario("idempotence/every-codec", BROKER, IdempotenceScenarios::everyCodec),
        new Scenario("produce/every-kind-of-acknowledgement", BROKER, IdempotenceScenarios::acknowledgements),
        new Scenario("produce/refused-records", BROKER, IdempotenceScenarios::refusedRecords));

    private static final int RECORDS = 1_000;

    private IdempotenceScenarios() {
    }

    private static void brokerKilledMidway(Context context) throws Exception {
        Broker broker = context.startBroker();
        List<TopicPartition> partitions = context.topic("killed", 1);
        KafkaProducer<String, String> producer = smallBatches(context, context.bootstrap());
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        Future<?> restart = null;
        for (int i = 0; i < RECORDS; i++) {
            sent.add(send(producer, partitions.get(0), "record-" + i));
            if (i == RECORDS / 2) {
                sent.get(i - 50).get();
                // Beside the sending: the client blocks when it loses its metadata.
                restart = Background.run(() -> {
                    broker.kill();
                    broker.start();
                });
            }
        }
        restart.get();
        checkOnceAndInOrder(context, partitions, sent);
    }

    private static void answersLost(Context context) throws Exception {
        throughLosses(context, Proxy.Loss.ofAnswers(ApiKeys.PRODUCE, 5, 5));
    }

    private static void requestsLost(Context context) throws Exception {
        throughLosses(context, Proxy.Loss.ofRequests(ApiKeys.PRODUCE, 5, 5));
    }

    private static void throughLosses(Context context, Proxy.Loss losses) throws Exception {
        List<TopicPartition> partitions = context.topic("cut", 1);
        Proxy proxy = context.proxy();
        proxy.add(losses);
        KafkaProducer<String, String> producer = smallBatches(context, proxy.bootstrap());
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = 0; i < RECORDS; i++) {
            sent.add(send(producer, partitions.get(0), "record-" + i));
            if (i % 10 == 9) {
                Thread.sleep(1);
            }
        }
        checkOnceAndInOrder(context, partitions, sent);
        Check.equal("connections cut", 5, losses.lost());
    }

    private static void everyCodec(Context context) throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            List<TopicPartition> partitions = context.topic(codec, 2);
            KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of("compression.type", codec));
            List<String> values = IntStream.range(0, 200).mapToObj(i -> "value " + i + " of many that are alike").toList();
            values.forEach(value -> partitions.forEach(partition ->
                send(producer, partition, value)));
            producer.flush();
            Contents contents = context.uncommitted(partitions);
            partitions.forEach(partition -> Check.equal(codec, values, contents.values(partition)));
        }
    }

    private static void acknowledgements(Context context) throws Exception {
        for (String acks : List.of("0", "1", "all")) {
            List<TopicPartition> partitions = context.topic("acks", 1);
            KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of("acks", acks, "enable.idempotence", false));
            Future<RecordMetadata> last = null;
            for (int i = 0; i < 100; i++) {
                last = send(producer, partitions.get(0), "record-" + i);
            }
            Check.equal("offset told with acks=" + acks, acks.equals("0") ? -1L : 99L, last.get().offset());
            Check.eventually("all records are there with acks=" + acks, Duration.ofSeconds(10),
                () -> context.uncommitted(partitions).values().size() == 100);
        }
    }

    private static void refusedRecords(Context context) throws Exception {
        TopicPartition compacted = context.topic("compacted", 1, Map.of("cleanup.policy", "compact")).get(0);
        TopicPartition plain = context.topic("plain", 1).get(0);
        KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of("max.block.ms", 2_000));
        Check.fails("no key on a compacted topic", () -> send(producer, compacted, "keyless").get(), InvalidRecordException.class);
        producer.send(new ProducerRecord<>(compacted.topic(), 0, "key", "value")).get();
        long tomorrow = System.currentTimeMillis() + 86_400_000;
        Check.fails("a timestamp of tomorrow", () -> producer.send(new ProducerRecord<>(plain.topic(), 0, tomorrow, null, "early")).get(),
            InvalidTimestampException.class);
        Check.fails("an internal topic", () -> send(producer, new TopicPartition("__consumer_offsets", 0), "x").get(), InvalidTopicException.class);
        Check.fails("a partition that is not there", () -> send(producer, new TopicPartition(plain.topic(), 5), "x").get(), TimeoutException.class);
        Check.fails("a topic with a bad name", () -> send(producer, new TopicPartition("no spaces", 0), "x").get(), InvalidTopicException.class);
        Check.equal("offset of the next good record", 0L, send(producer, plain, "good").get().offset());
        // A topic that is not there is created by the first record.
        TopicPartition created = new TopicPartition(context.unique("created"), 0);
        Check.equal("offset in a topic that was not there", 0L,
            send(context.producer(context.bootstrap(), Map.of()), created, "first").get().offset());
    }

    /** Batches of a few records, so that many requests are under way. */
    private static KafkaProducer<String, String> smallBatches(Context context, String address) {
        return context.producer(address, Map.of("batch.size", 400, "linger.ms", 1, "max.in.flight.requests.per.connection", 5));
    }

    private static void checkOnceAndInOrder(Context context, List<TopicPartition> partitions, List<Future<RecordMetadata>> sent)
        throws Exception {
        for (int i = 0; i < sent.size(); i++) {
            Check.equal("the offset that the producer was told", (long) i, sent.get(i).get().offset());
        }
        Contents contents = context.uncommitted(partitions);
        Check.equal("records on the log", IntStream.range(0, RECORDS).mapToObj(i -> "record-" + i).toList(), contents.values());
        Check.equal("the end of the log", (long) RECORDS, contents.end(partitions.get(0)));
    }
}

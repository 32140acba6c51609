package oncelog.scenarios;

import static oncelog.harness.Clients.abort;
import static oncelog.harness.Clients.commit;
import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.BROKER;
import static oncelog.harness.Scenario.Needs.OWN_BROKER;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import oncelog.harness.Broker;
import oncelog.harness.Check;
import oncelog.harness.Context;
import oncelog.harness.Scenario;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.internals.RecordHeader;

/** Readers get what is there, from wherever they start. */
public final class ReadScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("read/from-any-offset-among-aborted-transactions", OWN_BROKER, ReadScenarios::fromAnyOffset),
        new Scenario("read/many-partitions-in-one-session", BROKER, ReadScenarios::manyPartitions),
        new Scenario("read/records-larger-than-a-fetch", BROKER, ReadScenarios::largeRecords),
        new Scenario("read/keys-headers-and-timestamps", BROKER, ReadScenarios::wholeRecords),
        new Scenario("read/positions-by-time-and-out-of-range", BROKER, ReadScenarios::positions));

    private ReadScenarios() {
    }

    /**
     * Transactions of four producers interleave over several segments; read_committed from every sort of offset shows
     * what was committed from there on and nothing else, also when the indexes were rebuilt after a kill.
     */
    private static void fromAnyOffset(Context context) throws Exception {
        Broker broker = context.startBroker();
        List<TopicPartition> partitions = context.topic("interleaved", 1, Map.of("segment.bytes", "1048576"));
        TopicPartition partition = partitions.get(0);
        Random random = new Random(7);
        List<KafkaProducer<String, String>> producers = new ArrayList<>();
        List<List<String>> open = new ArrayList<>();
        Set<String> aborted = new HashSet<>();
        for (int i = 0; i < 4; i++) {
            producers.add(context.transactional(context.unique("interleaved")));
            open.add(new ArrayList<>());
        }
        String padding = "x".repeat(2_000);
        for (int step = 0; step < 2_000; step++) {
            int i = random.nextInt(producers.size());
            if (open.get(i).isEmpty()) {
                producers.get(i).beginTransaction();
            }
            if (open.get(i).isEmpty() || random.nextInt(10) > 0) {
                String value = step + padding;
                open.get(i).add(value);
                send(producers.get(i), partition, value);
            } else {
                if (random.nextInt(3) == 0) {
                    commit(producers.get(i));
                } else {
                    abort(producers.get(i));
                    aborted.addAll(open.get(i));
                }
                open.get(i).clear();
            }
        }
        for (int i = 0; i < producers.size(); i++) {
            if (!open.get(i).isEmpty()) {
                commit(producers.get(i));
            }
        }
        List<ConsumerRecord<String, String>> all = context.uncommitted(partitions).records(partition);
        List<ConsumerRecord<String, String>> expected = all.stream().filter(record -> !aborted.contains(record.value())).toList();
        Check.that(all.size() > 1_500 && expected.size() < all.size() * 3 / 4, "much is aborted: " + expected.size() + " of " + all.size() + " stay");
        for (boolean rebuilt : new boolean[] {false, true}) {
            if (rebuilt) {
                broker.kill();
                broker.start();
            }
            context.promised(() -> Check.equal("values from the beginning",
                expected.stream().map(ConsumerRecord::value).toList(), context.committed(partitions).values()));
            KafkaConsumer<String, String> consumer = context.consumer(IsolationLevel.READ_COMMITTED,
                Map.of("max.partition.fetch.bytes", 50_000, "max.poll.records", 30));
            consumer.assign(partitions);
            for (int i = 0; i < 100; i++) {
                long start = random.nextInt((int) (all.get(all.size() - 1).offset()));
                List<Long> offsets = expected.stream().map(ConsumerRecord::offset).filter(offset -> offset >= start).limit(30).toList();
                consumer.seek(partition, start);
                Check.equal("offsets from " + start + ", rebuilt " + rebuilt, offsets, poll(consumer, offsets.size()));
            }
        }
    }

    private static List<Long> poll(KafkaConsumer<String, String> consumer, int count) {
        List<Long> offsets = new ArrayList<>();
        long deadline = System.nanoTime() + Duration.ofSeconds(20).toNanos();
        while (offsets.size() < count && System.nanoTime() < deadline) {
            consumer.poll(Duration.ofMillis(200)).forEach(record -> offsets.add(record.offset()));
        }
        return offsets.subList(0, Math.min(count, offsets.size()));
    }

    private static void manyPartitions(Context context) throws Exception {
        List<TopicPartition> partitions = new ArrayList<>(context.topic("wide", 150));
        List<TopicPartition> deleted = context.topic("goes-away", 20);
        partitions.addAll(deleted);
        KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of());
        KafkaConsumer<String, String> consumer = context.consumer(IsolationLevel.READ_COMMITTED, Map.of("fetch.max.bytes", 20_000));
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Map<TopicPartition, List<String>> expected = new HashMap<>();
        Map<TopicPartition, List<String>> found = new HashMap<>();
        Random random = new Random(3);
        for (int round = 0; round < 10; round++) {
            if (round == 5) {
                context.admin().deleteTopics(List.of(deleted.get(0).topic())).all().get();
                partitions.removeAll(deleted);
                consumer.assign(partitions);
            }
            // In some rounds all partitions get something, in the others only a few.
            Collections.shuffle(partitions, random);
            for (TopicPartition partition : partitions.subList(0, round % 3 == 0 ? partitions.size() : 5)) {
                for (int i = 0; i < 3; i++) {
                    String value = round + "/" + i + "x".repeat(100);
                    expected.computeIfAbsent(partition, key -> new ArrayList<>()).add(value);
                    send(producer, partition, value);
                }
            }
            producer.flush();
            int count = expected.values().stream().mapToInt(List::size).sum();
            Check.eventually("round " + round + " is read", Duration.ofSeconds(20), () -> {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                    found.computeIfAbsent(new TopicPartition(record.topic(), record.partition()), key -> new ArrayList<>()).add(record.value());
                }
                return found.values().stream().mapToInt(List::size).sum() >= count;
            });
            Check.equal("records after round " + round, expected, found);
        }
    }

    private static void largeRecords(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("large", 2);
        KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of("compression.type", "none", "max.request.size", 2_000_000));
        List<String> sizes = new ArrayList<>();
        for (int size : new int[] {10, 900_000, 10, 1_000_000, 500_000}) {
            sizes.add(String.valueOf(size));
            for (TopicPartition partition : partitions) {
                send(producer, partition, "x".repeat(size)).get();
            }
        }
        Check.fails("a record above max.message.bytes", () -> send(producer, partitions.get(0), "x".repeat(1_100_000)).get(),
            RecordTooLargeException.class);
        KafkaConsumer<String, String> consumer = context.consumer(IsolationLevel.READ_UNCOMMITTED,
            Map.of("max.partition.fetch.bytes", 1_000, "fetch.max.bytes", 1_000));
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Map<Integer, List<String>> found = new HashMap<>();
        Check.eventually("all is read", Duration.ofSeconds(20), () -> {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                found.computeIfAbsent(record.partition(), key -> new ArrayList<>()).add(String.valueOf(record.value().length()));
            }
            return found.values().stream().mapToInt(List::size).sum() >= 10;
        });
        Check.equal("sizes of records", Map.of(0, sizes, 1, sizes), found);
    }

    private static void wholeRecords(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("whole", 1);
        List<TopicPartition> stamped = context.topic("stamped", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of("compression.type", "zstd"));
        long before = System.currentTimeMillis();
        for (TopicPartition partition : List.of(partitions.get(0), stamped.get(0))) {
            ProducerRecord<String, String> record = new ProducerRecord<>(partition.topic(), 0, before - 100_000, "a key", (String) null);
            record.headers().add(new RecordHeader("name", "value".getBytes())).add(new RecordHeader("none", null));
            var told = producer.send(record).get();
            ConsumerRecord<String, String> read = context.uncommitted(List.of(partition)).records(partition).get(0);
            Check.equal("key", "a key", read.key());
            Check.equal("value", null, read.value());
            Check.equal("header", "value", new String(read.headers().lastHeader("name").value()));
            Check.equal("header without a value", null, read.headers().lastHeader("none").value());
            Check.equal("leader epoch", 0, read.leaderEpoch().orElse(-1));
            Check.equal("timestamp that the producer was told", told.timestamp(), read.timestamp());
            if (partition == stamped.get(0)) {
                Check.that(read.timestamp() >= before, "the broker's time");
                Check.equal("timestamp type", "LogAppendTime", read.timestampType().toString());
            } else {
                Check.equal("timestamp", before - 100_000, read.timestamp());
                Check.equal("timestamp type", "CreateTime", read.timestampType().toString());
            }
        }
    }

    private static void positions(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("times", 2);
        TopicPartition partition = partitions.get(0);
        KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of());
        long now = System.currentTimeMillis();
        for (int i = 0; i < 20; i++) {
            producer.send(new ProducerRecord<>(partition.topic(), 0, now + 1_000 * i, null, "record-" + i));
        }
        producer.flush();
        context.admin().deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(4))).all().get();
        KafkaConsumer<String, String> consumer = context.consumer(IsolationLevel.READ_COMMITTED, Map.of());
        Check.equal("beginnings", Map.of(partition, 4L, partitions.get(1), 0L), consumer.beginningOffsets(partitions));
        Check.equal("ends", Map.of(partition, 20L, partitions.get(1), 0L), consumer.endOffsets(partitions));
        Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(Map.of(partition, now + 9_500, partitions.get(1), now));
        Check.equal("offset for a time", 10L, found.get(partition).offset());
        Check.equal("its timestamp", now + 10_000, found.get(partition).timestamp());
        Check.equal("offset in an empty partition", null, found.get(partitions.get(1)));
        Check.equal("offset for a time before the start", 4L, consumer.offsetsForTimes(Map.of(partition, now)).get(partition).offset());

        consumer.assign(List.of(partition));
        for (long outside : new long[] {2, 1_000}) {
            consumer.seek(partition, outside);
            Check.equal("read from " + outside + " starts at", 4L, poll(consumer, 1).get(0));
        }
        consumer.seekToEnd(List.of(partition));
        Check.equal("the end", 20L, consumer.position(partition));
        KafkaConsumer<String, String> strict = context.consumer(IsolationLevel.READ_COMMITTED,
            Map.of("auto.offset.reset", "none", "group.id", context.unique("strict")));
        strict.assign(List.of(partition));
        Check.fails("no offset and no reset", () -> strict.poll(Duration.ofSeconds(5)), NoOffsetForPartitionException.class);
        strict.seek(partition, 1_000);
        Check.fails("an offset past the end and no reset", () -> Check.eventually("it is out of range", Duration.ofSeconds(10),
            () -> !strict.poll(Duration.ofMillis(200)).isEmpty()), OffsetOutOfRangeException.class);
    }
}

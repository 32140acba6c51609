package oncelog.harness;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;

/** All that a reader without a group finds in some partitions, from their beginning to the end they had when it came. */
public final class Contents {
    private static final Duration LIMIT = Duration.ofSeconds(60);

    private final Map<TopicPartition, List<ConsumerRecord<String, String>>> records = new TreeMap<>(
        Comparator.comparing(TopicPartition::topic).thenComparing(TopicPartition::partition));
    private final Map<TopicPartition, Long> ends;

    private Contents(KafkaConsumer<String, String> consumer, Collection<TopicPartition> partitions) {
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        ends = consumer.endOffsets(partitions);
        partitions.forEach(partition -> records.put(partition, new ArrayList<>()));
        long deadline = System.nanoTime() + LIMIT.toNanos();
        while (!ends.entrySet().stream().allMatch(end -> consumer.position(end.getKey()) >= end.getValue())) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("a reader stands still before the end " + ends + " with " + this);
            }
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                if (record.offset() < ends.get(partition)) {
                    records.get(partition).add(record);
                }
            }
        }
    }

    /** Reads the partitions to their ends as a reader with this isolation sees them. */
    public static Contents read(String bootstrap, IsolationLevel isolation, Collection<TopicPartition> partitions) {
        try (KafkaConsumer<String, String> consumer = Clients.consumer(bootstrap, isolation, Map.of("fetch.max.wait.ms", 20))) {
            return new Contents(consumer, partitions);
        }
    }

    /** The end offset of a partition: its high watermark, or its last stable offset under read_committed. */
    public long end(TopicPartition partition) {
        return ends.get(partition);
    }

    /** The records of a partition in the order of the log. */
    public List<ConsumerRecord<String, String>> records(TopicPartition partition) {
        return records.get(partition);
    }

    /** The values of a partition in the order of the log. */
    public List<String> values(TopicPartition partition) {
        return records.get(partition).stream().map(ConsumerRecord::value).toList();
    }

    /** The values of all partitions, partition after partition. */
    public List<String> values() {
        return records.keySet().stream().flatMap(partition -> values(partition).stream()).toList();
    }

    @Override
    public String toString() {
        return values().toString();
    }
}

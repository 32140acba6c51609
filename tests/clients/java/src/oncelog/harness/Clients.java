package oncelog.harness;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Java clients with their defaults, except that they come back sooner after a lost connection. */
public final class Clients {
    private Clients() {
    }

    /** A producer with the client's defaults, which are idempotence and acks=all. */
    public static KafkaProducer<String, String> producer(String bootstrap, Map<String, ?> settings) {
        Map<String, Object> all = common(bootstrap);
        all.put(ProducerConfig.MAX_BLOCK_MS_CONFIG, 60_000);
        all.putAll(settings);
        return new KafkaProducer<>(all, new StringSerializer(), new StringSerializer());
    }

    /** Sends one record without a key to a given partition. */
    public static Future<RecordMetadata> send(Producer<String, String> producer, TopicPartition partition, String value) {
        return producer.send(new ProducerRecord<>(partition.topic(), partition.partition(), null, value));
    }

    /**
     * Commits when all records have been sent. The client does so itself, but when the caller is faster than the
     * client's sender thread it can happen (4.3.1) that the sender finds no records first and a commit right after.
     */
    public static void commit(Producer<String, String> producer) {
        producer.flush();
        producer.commitTransaction();
    }

    /** Aborts when all records have been sent; without the flush the client would throw away those that were not. */
    public static void abort(Producer<String, String> producer) {
        producer.flush();
        producer.abortTransaction();
    }

    /** A consumer with the client's defaults, except that it starts at the beginning and commits only when told to. */
    public static KafkaConsumer<String, String> consumer(String bootstrap, IsolationLevel isolation, Map<String, ?> settings) {
        Map<String, Object> all = common(bootstrap);
        all.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        all.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
        all.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, isolation.toString());
        all.putAll(settings);
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    /** An admin client. */
    public static Admin admin(String bootstrap) {
        return Admin.create(common(bootstrap));
    }

    private static Map<String, Object> common(String bootstrap) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("reconnect.backoff.ms", 20);
        settings.put("reconnect.backoff.max.ms", 200);
        settings.put("retry.backoff.ms", 20);
        return settings;
    }
}

package oncelog.scenarios;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import oncelog.harness.Clients;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;

/**
 * Copies a topic exactly once, a transaction for each poll, records keeping their partition. It runs on a thread, or
 * in a JVM of its own that halts without a word at a given step.
 */
final class Worker implements Runnable {
    /** The exit status of a JVM that halted at its step. */
    static final int HALTED = 42;

    /** Where a worker can halt. */
    enum Step { AFTER_POLL, AFTER_SEND, AFTER_SEND_OFFSETS, NEVER }

    /**
     * What a worker is told.
     *
     * @param instance    its name: transactional id, and group instance id if it is {@code isStatic}
     * @param step        where it halts
     * @param transaction in which of its transactions, from 1
     */
    record Settings(String bootstrap, String input, String output, String group, String instance, boolean isStatic, Step step, int transaction) {
    }

    private final Settings settings;
    private final AtomicBoolean stopped = new AtomicBoolean();
    private int transactions;

    Worker(Settings settings) {
        this.settings = settings;
    }

    /** Starts a worker in a JVM of its own. */
    static Process startProcess(Settings settings) throws Exception {
        List<String> command = new ArrayList<>(List.of(System.getProperty("java.home") + "/bin/java",
            "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-cp", System.getProperty("java.class.path"), Worker.class.getName()));
        command.addAll(List.of(settings.bootstrap(), settings.input(), settings.output(), settings.group(), settings.instance(),
            String.valueOf(settings.isStatic()), settings.step().name(), String.valueOf(settings.transaction())));
        return new ProcessBuilder(command).inheritIO().start();
    }

    public static void main(String[] arguments) {
        new Worker(new Settings(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
            Boolean.parseBoolean(arguments[5]), Step.valueOf(arguments[6]), Integer.parseInt(arguments[7]))).run();
    }

    /** Ends the worker after the transaction it is in; it then leaves the group unless it is static. */
    void stop() {
        stopped.set(true);
    }

    @Override
    public void run() {
        Map<String, Object> consumerSettings = new HashMap<>(Map.of("group.id", settings.group(), "max.poll.records", 10,
            "session.timeout.ms", 6_000, "heartbeat.interval.ms", 300));
        if (settings.isStatic()) {
            consumerSettings.put("group.instance.id", settings.instance());
        }
        try (KafkaProducer<String, String> producer = Clients.producer(settings.bootstrap(),
            Map.of("transactional.id", settings.instance(), "transaction.timeout.ms", 4_000))) {
            KafkaConsumer<String, String> consumer = Clients.consumer(settings.bootstrap(), IsolationLevel.READ_COMMITTED, consumerSettings);
            try {
                producer.initTransactions();
                consumer.subscribe(List.of(settings.input()));
                while (!stopped.get()) {
                    ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                    if (!records.isEmpty()) {
                        copy(producer, consumer, records);
                    }
                }
            } finally {
                consumer.close(CloseOptions.timeout(Duration.ofSeconds(5)));
            }
        }
    }

    private void copy(KafkaProducer<String, String> producer, KafkaConsumer<String, String> consumer, ConsumerRecords<String, String> records) {
        transactions++;
        haltIf(Step.AFTER_POLL);
        try {
            producer.beginTransaction();
            for (ConsumerRecord<String, String> record : records) {
                producer.send(new ProducerRecord<>(settings.output(), record.partition(), record.key(), record.value()));
            }
            if (settings.step() == Step.AFTER_SEND && transactions == settings.transaction()) {
                producer.flush();
            }
            haltIf(Step.AFTER_SEND);
            producer.sendOffsetsToTransaction(records.nextOffsets(), consumer.groupMetadata());
            haltIf(Step.AFTER_SEND_OFFSETS);
            producer.commitTransaction();
        } catch (ProducerFencedException fenced) {
            throw fenced;
        } catch (KafkaException lost) {
            // As a rule the group moved on: give the transaction up and read its input again.
            producer.abortTransaction();
            rewind(consumer);
        }
    }

    private void haltIf(Step step) {
        if (settings.step() == step && transactions == settings.transaction()) {
            Runtime.getRuntime().halt(HALTED);
        }
    }

    private static void rewind(KafkaConsumer<String, String> consumer) {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment());
        committed.forEach((partition, offset) -> consumer.seek(partition, offset == null ? 0 : offset.offset()));
    }
}

package oncelog.harness;

import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;

/** What a scenario works with. All that it opens here is closed when the scenario ends. */
public final class Context implements AutoCloseable {
    /** Where the broker under test comes from. */
    public record Target(String binary, Path directory, boolean apacheKafka) {
    }

    private static final AtomicInteger COUNTER = new AtomicInteger();
    private static final String RUN = Long.toString(System.currentTimeMillis(), 36);

    private final Target target;
    private final Deque<AutoCloseable> opened = new ArrayDeque<>();
    private String bootstrap;
    private Admin admin;
    private volatile String note = "";

    /** A context whose clients go to {@code bootstrap} unless told otherwise. */
    public Context(Target target, String bootstrap) {
        this.target = target;
        this.bootstrap = bootstrap;
    }

    /** The address that clients of this scenario use by default. */
    public String bootstrap() {
        return bootstrap;
    }

    /** Whether the broker under test is Apache Kafka, which promises less at some places. */
    public boolean apacheKafka() {
        return target.apacheKafka();
    }

    /** Whether a broker that was killed aborts the transactions that were open, and fences their producers. */
    public boolean abortsOpenAfterKill() {
        return "fsync".equals(System.getenv("DURABILITY"));
    }

    /** Starts a broker for this scenario alone and makes it the one its clients use. */
    public Broker startBroker() throws IOException, InterruptedException {
        Broker broker = open(Broker.start(target.binary(), target.directory().resolve(unique("broker"))));
        bootstrap = broker.bootstrap();
        return broker;
    }

    /** Puts a proxy before the broker; clients use it if they are given its address. */
    public Proxy proxy() throws IOException {
        return open(new Proxy(bootstrap));
    }

    /** A name that no other scenario and no earlier run uses. */
    public String unique(String name) {
        return name + "-" + RUN + "-" + COUNTER.incrementAndGet();
    }

    /** Creates a topic with a unique name and returns its partitions. */
    public List<TopicPartition> topic(String name, int partitions) throws Exception {
        return topic(name, partitions, Map.of());
    }

    /** Creates a topic with a unique name and configs, and returns its partitions. */
    public List<TopicPartition> topic(String name, int partitions, Map<String, String> configs) throws Exception {
        String topic = unique(name);
        admin().createTopics(List.of(new NewTopic(topic, Optional.of(partitions), Optional.empty()).configs(configs))).all().get();
        if (apacheKafka()) {
            Check.eventually("topic " + topic + " exists", Duration.ofSeconds(30), () -> admin().listTopics().names().get().contains(topic));
        }
        return IntStream.range(0, partitions).mapToObj(partition -> new TopicPartition(topic, partition)).toList();
    }

    /** The scenario's admin client. */
    public Admin admin() {
        if (admin == null) {
            admin = open(Clients.admin(bootstrap));
        }
        return admin;
    }

    /** An idempotent producer. */
    public KafkaProducer<String, String> producer(String address, Map<String, ?> settings) {
        KafkaProducer<String, String> producer = Clients.producer(address, settings);
        open(() -> producer.close(Duration.ZERO));
        return producer;
    }

    /** A transactional producer that has not called initTransactions yet. */
    public KafkaProducer<String, String> transactional(String address, String transactionalId, Map<String, ?> settings) {
        Map<String, Object> all = new HashMap<>(settings);
        all.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, transactionalId);
        return producer(address, all);
    }

    /** A transactional producer, ready to begin. */
    public KafkaProducer<String, String> transactional(String transactionalId) {
        KafkaProducer<String, String> producer = transactional(bootstrap, transactionalId, Map.of());
        producer.initTransactions();
        return producer;
    }

    /** A consumer; its group, if any, is among the settings. */
    public KafkaConsumer<String, String> consumer(IsolationLevel isolation, Map<String, ?> settings) {
        KafkaConsumer<String, String> consumer = Clients.consumer(bootstrap, isolation, settings);
        open(() -> consumer.close(CloseOptions.timeout(Duration.ZERO)));
        return consumer;
    }

    /** What a read_committed reader finds. */
    public Contents committed(List<TopicPartition> partitions) {
        return Contents.read(bootstrap, IsolationLevel.READ_COMMITTED, partitions);
    }

    /** What a read_uncommitted reader finds. */
    public Contents uncommitted(List<TopicPartition> partitions) {
        return Contents.read(bootstrap, IsolationLevel.READ_UNCOMMITTED, partitions);
    }

    /**
     * Checks what holds at once when a transaction has ended. Apache Kafka writes the markers after its answer,
     * so there the check may need some time.
     */
    public void promised(Check.Step check) throws Exception {
        long deadline = System.nanoTime() + Duration.ofSeconds(10).toNanos();
        while (true) {
            try {
                check.run();
                return;
            } catch (Exception | AssertionError error) {
                if (!apacheKafka() || System.nanoTime() > deadline) {
                    throw error;
                }
                Thread.sleep(50);
            }
        }
    }

    /** Adds words to the scenario's line in the output, such as the seed of random choices. */
    public void note(String words) {
        note = " " + words;
    }

    /** The words to add to the scenario's line. */
    public String note() {
        return note;
    }

    /** Has {@code resource} closed when the scenario ends. */
    public <T extends AutoCloseable> T open(T resource) {
        opened.push(resource);
        return resource;
    }

    @Override
    public void close() {
        for (AutoCloseable resource : opened) {
            try {
                resource.close();
            } catch (Exception | AssertionError ignored) {
                // The scenario has its verdict already.
            }
        }
    }
}

package oncelog.scenarios;

import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.OWN_BROKER_ALONE;

import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import oncelog.harness.Broker;
import oncelog.harness.Context;
import oncelog.harness.Scenario;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;

/** Measurements, which only run when they are named, on a machine that does nothing else. */
public final class MeasureScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("measure/one-record-transactions", OWN_BROKER_ALONE, MeasureScenarios::oneRecordTransactions));

    private static final Duration WARM_UP = Duration.ofSeconds(5);
    private static final Duration MEASURED = Duration.ofSeconds(10);

    private MeasureScenarios() {
    }

    /** One producer, one record a transaction, one after the other. */
    private static void oneRecordTransactions(Context context) throws Exception {
        Broker broker = context.startBroker();
        TopicPartition partition = context.topic("measured", 1).get(0);
        KafkaProducer<String, String> producer = context.transactional(context.bootstrap(), context.unique("measured"), Map.of("linger.ms", 0));
        producer.initTransactions();
        transactions(producer, partition, WARM_UP);
        Duration before = broker.cpuTime();
        long[] nanos = transactions(producer, partition, MEASURED);
        Duration used = broker.cpuTime().minus(before);
        context.note(String.format("%.0f transactions/s, median %d us, 99th percentile %d us, broker CPU %d us each",
            nanos.length / (MEASURED.toNanos() / 1e9), nanos[nanos.length / 2] / 1_000, nanos[nanos.length * 99 / 100] / 1_000,
            used.toNanos() / 1_000 / nanos.length));
    }

    /** Commits for some time; returns how long each transaction took, shortest first. */
    private static long[] transactions(KafkaProducer<String, String> producer, TopicPartition partition, Duration duration) throws Exception {
        long[] nanos = new long[1_000_000];
        int count = 0;
        long end = System.nanoTime() + duration.toNanos();
        for (long start = System.nanoTime(); start < end && count < nanos.length; count++) {
            producer.beginTransaction();
            send(producer, partition, "a record of about one hundred bytes, as they are often found in examples and in benchmarks, too").get();
            producer.commitTransaction();
            long now = System.nanoTime();
            nanos[count] = now - start;
            start = now;
        }
        long[] taken = Arrays.copyOf(nanos, count);
        Arrays.sort(taken);
        return taken;
    }
}

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.InterruptException;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.tools.ConsumerPerformance;
import org.apache.kafka.tools.ProducerPerformance;

/**
 * Puts load on a broker with Kafka's own Java clients; {@code run} starts it once for all shapes of a broker, so that
 * only the first of them meets a cold virtual machine.
 *
 * <p>{@code JavaClients BOOTSTRAP BROKER_PID SECONDS WARMUP_SECONDS FILE_PATTERN SHAPE...}: each shape is done unmeasured
 * first, then measured, and leaves a JSON file, named by the pattern with the shape in place of {@code %s}. Fields that
 * {@code oncelog bench --json} has too are called the same.
 */
public final class JavaClients {
    private static final byte[] VALUE = "x".repeat(100).getBytes();
    /** How often a tool that takes less than a second is run. */
    private static final int RUNS = 3;
    private static final String TOPIC = "records-100";

    private final String bootstrap;
    private final Cpu broker;
    private final double seconds;
    private final double warmup;

    private JavaClients(String bootstrap, long pid, double seconds, double warmup) {
        this.bootstrap = bootstrap;
        this.broker = new Cpu(pid);
        this.seconds = seconds;
        this.warmup = warmup;
    }

    public static void main(String[] arguments) throws Exception {
        List<String> given = List.of(arguments);
        JavaClients clients = new JavaClients(given.get(0), Long.parseLong(given.get(1)),
            Double.parseDouble(given.get(2)), Double.parseDouble(given.get(3)));
        boolean failed = false;
        for (String shape : given.subList(5, given.size())) {
            Path file = Path.of(given.get(4).formatted(shape));
            try {
                Files.writeString(file, clients.measure(shape).toJson());
            } catch (Exception e) {
                System.err.println(shape + ": " + e);
                failed = true;
            }
        }
        System.exit(failed ? 1 : 0);
    }

    private Result measure(String shape) throws Exception {
        return switch (shape) {
            case "java-tx-1" -> transactions(shape, 1, 1, 1);
            case "java-tx-16" -> transactions(shape, 16, 1, 1);
            case "java-tx-1x10x10" -> transactions(shape, 1, 10, 10);
            case "java-tx-4x100x4" -> transactions(shape, 4, 100, 4);
            case "java-produce-100" -> produce(TOPIC, 3_000_000, 100, 0, 1);
            case "java-produce-1024" -> produce("records-1024", 500_000, 1024, 0, 1);
            case "java-produce-plain" -> produce("plain", 1_000_000, 100, 0, RUNS);
            case "java-produce-tx" -> produce(TOPIC, 1_000_000, 100, 100, RUNS);
            // What java-produce-100 and java-produce-tx have written.
            case "java-consume" -> consume(4_000_000, "read_uncommitted");
            case "java-consume-stable" -> consume(4_000_000, "read_committed");
            default -> throw new IllegalArgumentException("there is no such shape");
        };
    }

    /** Producers that each write a transaction, commit it, and begin the next one. */
    private Result transactions(String topic, int producers, int records, int partitions) throws Exception {
        createTopic(topic, partitions);
        var ready = new CountDownLatch(producers);
        var start = new CompletableFuture<Long>();
        var threads = Executors.newFixedThreadPool(producers);
        try {
            List<Future<List<Long>>> workers = new ArrayList<>();
            for (int i = 0; i < producers; i++) {
                String id = topic + "-" + i;
                workers.add(threads.submit(() -> commitInLoop(topic, id, records, partitions, ready, start)));
            }
            if (!ready.await(60, TimeUnit.SECONDS)) {
                throw new IllegalStateException("not all producers got to their first commit");
            }
            long from = System.nanoTime() + (long) (warmup * 1e9);
            start.complete(from);
            sleepUntil(from);
            double before = broker.seconds();
            double ownBefore = ownCpuSeconds();
            sleepUntil(from + (long) (seconds * 1e9));
            double used = broker.seconds() - before;
            double own = ownCpuSeconds() - ownBefore;
            List<Long> latencies = new ArrayList<>();
            for (Future<List<Long>> worker : workers) {
                latencies.addAll(worker.get());
            }
            Collections.sort(latencies);
            return new Result("kafka-clients", seconds, latencies.size(), (long) latencies.size() * records, used, own,
                percentile(latencies, 0.5), percentile(latencies, 0.99));
        } finally {
            threads.shutdownNow();
        }
    }

    /**
     * The nanoseconds of each transaction that began and ended in the measured time. A producer that fails is replaced:
     * with transactions of version 2 the client may, on a busy machine, send EndTxn ahead of the only batch, since it looks
     * for batches before it takes the request from its queue; the broker answers INVALID_TXN_STATE then.
     */
    private List<Long> commitInLoop(String topic, String id, int records, int partitions, CountDownLatch ready,
                                    Future<Long> start) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "transactional.id", id, "linger.ms", 0);
        List<Long> latencies = new ArrayList<>();
        while (true) {
            try (var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
                producer.initTransactions();
                commitOne(producer, topic, records, partitions);
                ready.countDown();
                long from = start.get();
                long until = from + (long) (seconds * 1e9);
                for (long end = 0; end < until; ) {
                    long begin = System.nanoTime();
                    commitOne(producer, topic, records, partitions);
                    end = System.nanoTime();
                    if (begin >= from && end < until) {
                        latencies.add(end - begin);
                    }
                }
                return latencies;
            } catch (InterruptException e) {
                throw e;
            } catch (KafkaException e) {
                System.err.println(id + " starts over: " + e);
            }
        }
    }

    private static void commitOne(KafkaProducer<byte[], byte[]> producer, String topic, int records, int partitions) {
        producer.beginTransaction();
        for (int i = 0; i < records; i++) {
            producer.send(new ProducerRecord<>(topic, i % partitions, null, VALUE));
        }
        producer.commitTransaction();
    }

    /** kafka-producer-perf-test, in transactions of so many milliseconds, or in none; latencies are those of the last run. */
    private Result produce(String topic, int records, int size, int transactionMs, int runs) throws Exception {
        createTopic("warm-up", 1);
        createTopic(topic, 1);
        runProducer("warm-up", 500_000, size, transactionMs);
        double before = broker.seconds();
        double ownBefore = ownCpuSeconds();
        double producing = 0;
        String[] output = {};
        for (int i = 0; i < runs; i++) {
            output = runProducer(topic, records, size, transactionMs);
            // 1000 records sent, 900.0 records/sec (8.58 MB/sec), … 1 ms 50th, 2 ms 95th, 3 ms 99th, 4 ms 99.9th.
            producing += records / number(output[1]);
        }
        double used = broker.seconds() - before;
        return new Result("kafka-producer-perf-test", producing, 0, (long) records * runs, used,
            ownCpuSeconds() - ownBefore, number(output[4]), number(output[6]));
    }

    private static double number(String text) {
        return Double.parseDouble(text.trim().split(" ")[0]);
    }

    private String[] runProducer(String topic, int records, int size, int transactionMs) throws Exception {
        List<String> flags = new ArrayList<>(List.of("--topic", topic, "--num-records", "" + records,
            "--record-size", "" + size, "--throughput", "-1", "--bootstrap-server", bootstrap));
        if (transactionMs > 0) {
            flags.addAll(List.of("--transaction-duration-ms", "" + transactionMs));
        }
        flags.addAll(List.of("--command-property", "acks=all", "enable.idempotence=true", "linger.ms=5", "batch.size=65536"));
        return lastLine(() -> ProducerPerformance.main(flags.toArray(String[]::new)));
    }

    /** kafka-consumer-perf-test, from the start of the topic. */
    private Result consume(int records, String isolation) throws Exception {
        runConsumer(records, isolation);
        double before = broker.seconds();
        double ownBefore = ownCpuSeconds();
        double fetching = 0;
        for (int i = 0; i < RUNS; i++) {
            fetching += runConsumer(records, isolation);
        }
        double used = broker.seconds() - before;
        return new Result("kafka-consumer-perf-test", fetching, 0, (long) records * RUNS, used,
            ownCpuSeconds() - ownBefore, Double.NaN, Double.NaN);
    }

    /** Returns how many seconds it took to fetch, without joining the group. */
    private double runConsumer(int records, String isolation) throws Exception {
        String[] flags = {"--bootstrap-server", bootstrap, "--topic", TOPIC, "--num-records", "" + records,
            "--command-property", "isolation.level=" + isolation, "--hide-header"};
        String[] output = lastLine(() -> ConsumerPerformance.main(flags));
        // start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, …
        if (number(output[4]) < records) {
            throw new IllegalStateException("only" + output[4] + " records were read");
        }
        return number(output[7]) / 1e3;
    }

    private void createTopic(String name, int partitions) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            try {
                admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
            } catch (ExecutionException e) {
                // It was there before; or it is now, and this client cannot read the null for configs in kfake's answer.
                if (!admin.listTopics().names().get().contains(name)) {
                    throw e;
                }
            }
        }
    }

    private interface Tool {
        void run() throws Exception;
    }

    /** What a tool prints last, cut at its commas. */
    private static String[] lastLine(Tool tool) throws Exception {
        PrintStream stdout = System.out;
        var output = new ByteArrayOutputStream();
        System.setOut(new PrintStream(output, true));
        try {
            tool.run();
        } finally {
            System.setOut(stdout);
        }
        String[] lines = output.toString().trim().split("\n");
        return lines[lines.length - 1].split(",");
    }

    private static void sleepUntil(long nanos) throws InterruptedException {
        Thread.sleep(Math.max(0, (nanos - System.nanoTime()) / 1_000_000));
    }

    private static double percentile(List<Long> sorted, double part) {
        if (sorted.isEmpty()) {
            throw new IllegalStateException("no transaction was committed in time");
        }
        return sorted.get((int) (sorted.size() * part)) / 1e6;
    }

    private static double ownCpuSeconds() {
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return system.getProcessCpuTime() / 1e9;
    }

    /** What was measured; transactions are 0 where only records count, latencies NaN where a tool tells none. */
    private record Result(String client, double seconds, long transactions, long records, double brokerCpu,
                          double ownCpu, double p50, double p99) {
        String toJson() {
            String latency = Double.isNaN(p50) ? "null"
                : "{\"p50_ms\": %.3f, \"p99_ms\": %.3f}".formatted(p50, p99);
            return String.format(Locale.ROOT, """
                {
                  "client": "%s",
                  "seconds": %.3f,
                  "rates": {"transactions": %.3f, "records": %.3f},
                  "latency": %s,
                  "generator_cpu_seconds": %.3f,
                  "broker_process": {"cpu_seconds": %.6f, "cpu_us_each": %.6f}
                }
                """, client, seconds, transactions / seconds, records / seconds, latency, ownCpu, brokerCpu,
                brokerCpu * 1e6 / Math.max(1, transactions > 0 ? transactions : records));
        }
    }

    /** The CPU time of a process: to the nanosecond where no thread has ended, else to the tick of 10 ms. */
    private record Cpu(long pid) {
        double seconds() throws Exception {
            Path process = Path.of("/proc/" + pid);
            String stat = Files.readString(process.resolve("stat"));
            String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
            double ticks = (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) / 100.0;
            double threads = 0;
            try (var tasks = Files.newDirectoryStream(process.resolve("task"))) {
                for (Path task : tasks) {
                    threads += Long.parseLong(Files.readString(task.resolve("schedstat")).split(" ")[0]) / 1e9;
                }
            } catch (IOException e) {
                // A thread has ended since the directory was listed.
                return ticks;
            }
            return Math.max(ticks, threads);
        }
    }
}

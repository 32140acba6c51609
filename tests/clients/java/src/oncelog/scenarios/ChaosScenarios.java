package oncelog.scenarios;

import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.OWN_BROKER;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import oncelog.harness.Background;
import oncelog.harness.Broker;
import oncelog.harness.Check;
import oncelog.harness.Clients;
import oncelog.harness.Contents;
import oncelog.harness.Context;
import oncelog.harness.Proxy;
import oncelog.harness.Scenario;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TimeoutException;

/**
 * Transactions of several producers, and exactly-once copies of them, while connections are cut at random and the
 * broker is killed, or asked to end, every other second. {@code CHAOS_SECONDS} makes it longer, {@code CHAOS_SEED} repeats the choices.
 */
public final class ChaosScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("chaos/transactions-and-copies", OWN_BROKER, ChaosScenarios::chaos));

    private static final int PARTITIONS = 4;
    private static final double LOST = 0.02;

    private ChaosScenarios() {
    }

    /** What became of a transaction, as far as its producer knows. */
    private enum Outcome { COMMITTED, ABORTED, UNKNOWN }

    /** One transaction: its records by partition, in order, and what the client said if it failed. */
    private record Transaction(String name, Map<TopicPartition, List<String>> records, Outcome outcome, String failure) {
    }

    private static void chaos(Context context) throws Exception {
        long seed = setting("CHAOS_SEED", System.nanoTime() % 1_000_000);
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(setting("CHAOS_SECONDS", 12));
        Broker broker = context.startBroker();
        List<TopicPartition> ledger = context.topic("ledger", PARTITIONS);
        List<TopicPartition> copy = context.topic("copy", PARTITIONS);
        String group = context.unique("copiers");

        List<Proxy.RandomLoss> losses = new ArrayList<>();
        List<Future<List<Transaction>>> producing = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            Proxy proxy = context.proxy();
            losses.add(proxy.add(new Proxy.RandomLoss(seed + i, LOST)));
            Proxy address = i % 2 == 0 ? proxy : proxy.hideTransactionVersion();
            String id = "producer-" + i;
            Random random = new Random(seed + 100 + i);
            producing.add(Background.call(() -> produce(context, address.bootstrap(), id, random, ledger, end)));
        }
        List<Worker> workers = new ArrayList<>();
        List<Future<?>> copying = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            Proxy proxy = context.proxy();
            losses.add(proxy.add(new Proxy.RandomLoss(seed + 50 + i, LOST)));
            Worker worker = new Worker(new Worker.Settings(proxy.bootstrap(), ledger.get(0).topic(), copy.get(0).topic(), group,
                "copier-" + i, i == 0, Worker.Step.NEVER, 0));
            context.open(worker::stop);
            workers.add(worker);
            copying.add(Background.run(worker::run));
        }
        Watcher watcher = new Watcher(context.bootstrap(), ledger);
        context.open(watcher::stop);
        Future<?> watching = Background.run(watcher::run);

        int restarts = context.apacheKafka() ? 0 : restart(broker, new Random(seed + 1_000), end);
        List<Transaction> transactions = new ArrayList<>();
        for (Future<List<Transaction>> producer : producing) {
            transactions.addAll(producer.get(end - System.nanoTime() + TimeUnit.SECONDS.toNanos(90), TimeUnit.NANOSECONDS));
        }
        losses.forEach(Proxy.RandomLoss::end);
        List<String> failures = transactions.stream().map(Transaction::failure).filter(Objects::nonNull).toList();
        context.note("seed " + seed + ", " + restarts + " restarts, " + losses.stream().mapToInt(Proxy.RandomLoss::lost).sum()
            + " connections cut, " + transactions.size() + " transactions, " + failures.size() + " failures " + failures.stream().limit(3).toList());
        context.promised(() -> checkLedger(context, ledger, transactions));
        Contents truth = context.committed(ledger);
        awaitCopied(context, group, ledger);
        workers.forEach(Worker::stop);
        for (Future<?> copier : copying) {
            copier.get(60, TimeUnit.SECONDS);
        }
        watcher.stopAt(truth);
        watching.get(60, TimeUnit.SECONDS);
        Contents copied = context.committed(copy);
        for (int i = 0; i < PARTITIONS; i++) {
            Check.equal("copied to partition " + i, truth.values(ledger.get(i)), copied.values(copy.get(i)));
            Check.equal("seen live in partition " + i, truth.values(ledger.get(i)), watcher.values.get(ledger.get(i)));
        }
    }

    /** Ends and starts the broker until the time has come; returns how often. */
    private static int restart(Broker broker, Random random, long end) throws Exception {
        int restarts = 0;
        while (System.nanoTime() < end) {
            Thread.sleep(1_000 + random.nextInt(1_500));
            if (random.nextInt(3) == 0) {
                Check.equal("exit status after SIGTERM", 0, broker.stop());
            } else {
                broker.kill();
            }
            broker.start();
            restarts++;
        }
        return restarts;
    }

    private static long setting(String name, long otherwise) {
        String value = System.getenv(name);
        return value == null ? otherwise : Long.parseLong(value);
    }

    /** Produces transactions of one transactional id until the time has come. */
    private static List<Transaction> produce(Context context, String address, String id, Random random, List<TopicPartition> ledger, long end)
        throws Exception {
        List<Transaction> transactions = new ArrayList<>();
        KafkaProducer<String, String> producer = begin(context, address, id);
        for (int number = 0; System.nanoTime() < end; number++) {
            String name = id + "/" + number + "/";
            Map<TopicPartition, List<String>> records = new HashMap<>();
            boolean commits = random.nextInt(4) > 0;
            Outcome outcome = Outcome.UNKNOWN;
            String failure = null;
            try {
                producer.beginTransaction();
                int size = 1 + random.nextInt(8);
                for (int i = 0; i < size; i++) {
                    TopicPartition partition = ledger.get(random.nextInt(PARTITIONS));
                    records.computeIfAbsent(partition, key -> new ArrayList<>()).add(name + i);
                    send(producer, partition, name + i);
                }
                if (commits) {
                    producer.flush();
                    patiently(producer::commitTransaction);
                    outcome = Outcome.COMMITTED;
                } else {
                    producer.flush();
                    patiently(producer::abortTransaction);
                    outcome = Outcome.ABORTED;
                }
            } catch (KafkaException thrown) {
                failure = Check.chain(thrown);
                producer.close(Duration.ZERO);
                producer = begin(context, address, id);
            }
            transactions.add(new Transaction(name, records, outcome, failure));
            if (random.nextInt(20) == 0) {
                // A crash with a transaction open.
                producer.beginTransaction();
                send(producer, ledger.get(random.nextInt(PARTITIONS)), id + "/" + number + "/left");
                producer.close(Duration.ZERO);
                producer = begin(context, address, id);
            }
        }
        producer.close();
        return transactions;
    }

    private static KafkaProducer<String, String> begin(Context context, String address, String id) throws Exception {
        KafkaProducer<String, String> producer = context.transactional(address, id, Map.of());
        patiently(producer::initTransactions);
        return producer;
    }

    /** Calls again what timed out, as the client allows. */
    private static void patiently(Check.Step call) throws Exception {
        while (true) {
            try {
                call.run();
                return;
            } catch (TimeoutException late) {
                // The broker was away for longer than the client waits.
            }
        }
    }

    private static void checkLedger(Context context, List<TopicPartition> ledger, List<Transaction> transactions) {
        Contents committed = context.committed(ledger);
        Contents uncommitted = context.uncommitted(ledger);
        Map<String, Map<TopicPartition, List<String>>> found = new TreeMap<>();
        for (TopicPartition partition : ledger) {
            Check.equal("last stable offset of " + partition, uncommitted.end(partition), committed.end(partition));
            Set<String> once = new HashSet<>();
            uncommitted.values(partition).forEach(value -> Check.that(once.add(value), value + " is on the log once"));
            Map<String, Integer> last = new HashMap<>();
            for (String value : committed.values(partition)) {
                String[] parts = value.split("/");
                String name = parts[0] + "/" + parts[1] + "/";
                int number = Integer.parseInt(parts[1]);
                Check.that(last.merge(parts[0], number, Math::max) == number, value + " comes in order");
                found.computeIfAbsent(name, key -> new HashMap<>()).computeIfAbsent(partition, key -> new ArrayList<>()).add(value);
            }
        }
        for (Transaction transaction : transactions) {
            Map<TopicPartition, List<String>> records = found.remove(transaction.name());
            switch (transaction.outcome()) {
                case COMMITTED -> Check.equal("committed " + transaction.name(), transaction.records(), records);
                case ABORTED -> Check.equal("aborted " + transaction.name(), null, records);
                case UNKNOWN -> Check.that(records == null || records.equals(transaction.records()), "all or nothing of " + transaction.name());
            }
        }
        Check.equal("records of no transaction", Map.of(), found);
    }

    private static void awaitCopied(Context context, String group, List<TopicPartition> ledger) throws Exception {
        Contents truth = context.committed(ledger);
        Check.eventually("the copiers get to the end", Duration.ofSeconds(60), () -> {
            var offsets = context.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            return ledger.stream().allMatch(partition -> {
                List<ConsumerRecord<String, String>> records = truth.records(partition);
                long next = records.isEmpty() ? 0 : records.get(records.size() - 1).offset() + 1;
                return next == 0 || offsets.get(partition) != null && offsets.get(partition).offset() >= next;
            });
        });
    }

    /** A read_committed reader that follows the ledger all the time. */
    private static final class Watcher implements Check.Step {
        private final String bootstrap;
        private final List<TopicPartition> partitions;
        private final Map<TopicPartition, List<String>> values = new HashMap<>();
        private volatile Contents goal;
        private volatile boolean stopped;

        Watcher(String bootstrap, List<TopicPartition> partitions) {
            this.bootstrap = bootstrap;
            this.partitions = partitions;
            partitions.forEach(partition -> values.put(partition, new ArrayList<>()));
        }

        /** Ends the reader when it has come to the ends of these contents. */
        void stopAt(Contents contents) {
            goal = contents;
        }

        void stop() {
            stopped = true;
        }

        @Override
        public void run() {
            try (KafkaConsumer<String, String> consumer = Clients.consumer(bootstrap, IsolationLevel.READ_COMMITTED, Map.of())) {
                consumer.assign(partitions);
                consumer.seekToBeginning(partitions);
                while (!stopped && !isDone(consumer)) {
                    for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                        values.get(new TopicPartition(record.topic(), record.partition())).add(record.value());
                    }
                }
            }
        }

        private boolean isDone(KafkaConsumer<String, String> consumer) {
            Contents contents = goal;
            return contents != null && partitions.stream().allMatch(partition -> consumer.position(partition) >= contents.end(partition));
        }
    }
}

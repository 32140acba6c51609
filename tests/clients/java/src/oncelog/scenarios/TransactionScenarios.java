package oncelog.scenarios;

import static oncelog.harness.Clients.abort;
import static oncelog.harness.Clients.commit;
import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.BROKER;
import static oncelog.harness.Scenario.Needs.OWN_BROKER;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import oncelog.harness.Background;
import oncelog.harness.Broker;
import oncelog.harness.Check;
import oncelog.harness.Contents;
import oncelog.harness.Context;
import oncelog.harness.Proxy;
import oncelog.harness.Scenario;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.InvalidTxnStateException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.protocol.ApiKeys;

/** Transactions are all or nothing, in order, and visible at once when they have ended. */
public final class TransactionScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("transactions/commit-and-abort", BROKER, TransactionScenarios::commitAndAbort),
        new Scenario("transactions/back-to-back", BROKER, TransactionScenarios::backToBack),
        new Scenario("transactions/empty", BROKER, TransactionScenarios::empty),
        new Scenario("transactions/open-holds-back-later", BROKER, TransactionScenarios::openHoldsBackLater),
        new Scenario("transactions/dead-producer-times-out", BROKER, TransactionScenarios::deadProducerTimesOut),
        new Scenario("transactions/slow-producer-times-out", BROKER, TransactionScenarios::slowProducerTimesOut),
        new Scenario("transactions/late-commit-is-refused", BROKER, TransactionScenarios::lateCommit),
        new Scenario("transactions/topic-deleted-inside", BROKER, TransactionScenarios::topicDeletedInside),
        new Scenario("transactions/hundreds-of-partitions", BROKER, TransactionScenarios::hundredsOfPartitions),
        new Scenario("transactions/many-producers-at-once", BROKER, TransactionScenarios::manyProducers),
        new Scenario("transactions/open-over-broker-kill", OWN_BROKER, TransactionScenarios::openOverBrokerKill),
        new Scenario("transactions/committed-as-broker-dies", OWN_BROKER, TransactionScenarios::committedAsBrokerDies));

    private TransactionScenarios() {
    }

    private static void commitAndAbort(Context context) throws Exception {
        List<TopicPartition> partitions = new ArrayList<>(context.topic("orders", 3));
        partitions.addAll(context.topic("bills", 2));
        KafkaProducer<String, String> producer = context.transactional(context.unique("shop"));
        List<String> committed = new ArrayList<>();
        List<String> all = new ArrayList<>();
        for (int round = 0; round < 6; round++) {
            boolean commits = round % 2 == 0;
            List<String> values = List.of("round-" + round + "-a", "round-" + round + "-b");
            producer.beginTransaction();
            partitions.forEach(partition -> values.forEach(value -> send(producer, partition, value)));
            all.addAll(values);
            if (commits) {
                commit(producer);
                committed.addAll(values);
            } else {
                abort(producer);
            }
            long end = all.size() + round + 1;
            context.promised(() -> {
                Contents readCommitted = context.committed(partitions);
                Contents readUncommitted = context.uncommitted(partitions);
                for (TopicPartition partition : partitions) {
                    Check.equal("read_committed sees of " + partition, committed, readCommitted.values(partition));
                    Check.equal("read_uncommitted sees of " + partition, all, readUncommitted.values(partition));
                    Check.equal("last stable offset of " + partition, end, readCommitted.end(partition));
                    Check.equal("high watermark of " + partition, end, readUncommitted.end(partition));
                }
            });
        }
    }

    private static void backToBack(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("fast", 2);
        KafkaProducer<String, String> producer = context.transactional(context.unique("fast"));
        KafkaConsumer<String, String> reader = context.consumer(IsolationLevel.READ_COMMITTED, Map.of());
        for (int i = 0; i < 100; i++) {
            producer.beginTransaction();
            for (TopicPartition partition : partitions) {
                send(producer, partition, "record-" + i);
            }
            commit(producer);
            long end = 2 * (i + 1);
            context.promised(() -> Check.equal("read_committed ends after a commit",
                Map.of(partitions.get(0), end, partitions.get(1), end), reader.endOffsets(partitions)));
        }
        Check.equal("records", 200, context.committed(partitions).values().size());
    }

    private static void empty(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("empty", 1);
        KafkaProducer<String, String> producer = context.transactional(context.unique("empty"));
        for (int i = 0; i < 2; i++) {
            producer.beginTransaction();
            commit(producer);
            producer.beginTransaction();
            abort(producer);
        }
        Check.equal("the log after empty transactions", 0L, context.uncommitted(partitions).end(partitions.get(0)));
        producer.beginTransaction();
        send(producer, partitions.get(0), "x");
        commit(producer);
        context.promised(() -> Check.equal("the log after a transaction", List.of("x"), context.committed(partitions).values()));
    }

    private static void openHoldsBackLater(Context context) throws Exception {
        for (boolean commits : new boolean[] {true, false}) {
            List<TopicPartition> partitions = context.topic("held", 1);
            TopicPartition partition = partitions.get(0);
            KafkaProducer<String, String> first = context.transactional(context.unique("first"));
            KafkaProducer<String, String> second = context.transactional(context.unique("second"));
            KafkaProducer<String, String> plain = context.producer(context.bootstrap(), Map.of());
            send(plain, partition, "before").get();
            first.beginTransaction();
            send(first, partition, "first").get();
            second.beginTransaction();
            send(second, partition, "second");
            commit(second);
            send(plain, partition, "plain").get();

            context.promised(() -> Check.equal("all on the log", 5L, context.uncommitted(partitions).end(partition)));
            Contents held = context.committed(partitions);
            Check.equal("last stable offset", 1L, held.end(partition));
            Check.equal("readable before it ends", List.of("before"), held.values());
            Check.equal("readable uncommitted", List.of("before", "first", "second", "plain"), context.uncommitted(partitions).values());

            // A reader that waits at the last stable offset is woken by the end of the transaction.
            KafkaConsumer<String, String> waiting = context.consumer(IsolationLevel.READ_COMMITTED, Map.of("fetch.max.wait.ms", 30_000));
            waiting.assign(partitions);
            waiting.seek(partition, 1);
            List<String> expected = commits ? List.of("first", "second", "plain") : List.of("second", "plain");
            Future<List<String>> woken = Background.call(() -> pollUntil(waiting, expected.size()));
            Thread.sleep(500);
            Check.that(!woken.isDone(), "the reader waits while the first transaction is open");
            if (commits) {
                commit(first);
            } else {
                abort(first);
            }
            Check.equal("a waiting reader gets", expected, woken.get(20, TimeUnit.SECONDS));
            context.promised(() -> Check.equal("last stable offset at the end", 6L, context.committed(partitions).end(partition)));
        }
    }

    private static List<String> pollUntil(KafkaConsumer<String, String> consumer, int count) {
        List<String> values = new ArrayList<>();
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (values.size() < count && System.nanoTime() < deadline) {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                values.add(record.value());
            }
        }
        return values;
    }

    private static void deadProducerTimesOut(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("dead", 1);
        TopicPartition partition = partitions.get(0);
        String id = context.unique("dead");
        KafkaProducer<String, String> dead = context.transactional(context.bootstrap(), id, Map.of("transaction.timeout.ms", 2_000));
        dead.initTransactions();
        dead.beginTransaction();
        send(dead, partition, "dead").get();
        dead.close(Duration.ZERO);
        KafkaProducer<String, String> alive = context.transactional(context.unique("alive"));
        alive.beginTransaction();
        send(alive, partition, "alive");
        commit(alive);
        Check.equal("held back by the dead producer", List.of(), context.committed(partitions).values());
        Check.eventually("readers go on after the timeout", Duration.ofSeconds(20),
            () -> context.committed(partitions).values().equals(List.of("alive")));
        Check.eventually("the transaction is aborted", Duration.ofSeconds(5),
            () -> context.admin().describeTransactions(List.of(id)).description(id).get().state() == TransactionState.COMPLETE_ABORT);
        Check.equal("on the log", List.of("dead", "alive"), context.uncommitted(partitions).values());
    }

    private static void slowProducerTimesOut(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("slow", 1);
        TopicPartition partition = partitions.get(0);
        KafkaProducer<String, String> slow = context.transactional(context.bootstrap(), context.unique("slow"),
            Map.of("transaction.timeout.ms", 1_000));
        slow.initTransactions();
        slow.beginTransaction();
        send(slow, partition, "too slow").get();
        Check.eventually("the transaction is aborted", Duration.ofSeconds(20), () -> context.committed(partitions).end(partition) == 2);
        Check.fails("a record after the timeout", () -> send(slow, partition, "too late").get(), InvalidProducerEpochException.class);
        abort(slow);
        // Protocol generation 2: the producer learns its new epoch from the answer and goes on.
        slow.beginTransaction();
        send(slow, partition, "again");
        commit(slow);
        context.promised(() -> Check.equal("read_committed sees", List.of("again"), context.committed(partitions).values()));
        Check.equal("on the log", List.of("too slow", "again"), context.uncommitted(partitions).values());
    }

    /** Apache Kafka 4.3.1 answers INVALID_TXN_STATE here, which later versions changed to what a zombie is told. */
    private static void lateCommit(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("late", 1);
        KafkaProducer<String, String> late = context.transactional(context.bootstrap(), context.unique("late"), Map.of("transaction.timeout.ms", 1_000));
        late.initTransactions();
        late.beginTransaction();
        send(late, partitions.get(0), "late").get();
        Check.eventually("the transaction is aborted", Duration.ofSeconds(20), () -> context.committed(partitions).end(partitions.get(0)) == 2);
        Check.fails("a commit after the timeout", late::commitTransaction,
            context.apacheKafka() ? InvalidTxnStateException.class : ProducerFencedException.class);
        Check.equal("read_committed sees", List.of(), context.committed(partitions).values());
    }

    private static void topicDeletedInside(Context context) throws Exception {
        List<TopicPartition> kept = context.topic("kept", 1);
        List<TopicPartition> deleted = context.topic("deleted", 2);
        KafkaProducer<String, String> producer = context.transactional(context.unique("deletes"));
        producer.beginTransaction();
        for (TopicPartition partition : List.of(kept.get(0), deleted.get(0), deleted.get(1))) {
            send(producer, partition, "one").get();
        }
        context.admin().deleteTopics(List.of(deleted.get(0).topic())).all().get();
        commit(producer);
        producer.beginTransaction();
        send(producer, kept.get(0), "two");
        commit(producer);
        context.promised(() -> Check.equal("read_committed sees", List.of("one", "two"), context.committed(kept).values()));
        context.promised(() -> Check.equal("last stable offset", 4L, context.committed(kept).end(kept.get(0))));
    }

    private static void hundredsOfPartitions(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("wide", 300);
        KafkaProducer<String, String> producer = context.transactional(context.unique("wide"));
        for (String value : List.of("committed", "aborted", "again")) {
            producer.beginTransaction();
            partitions.forEach(partition -> send(producer, partition, value));
            if (value.equals("aborted")) {
                abort(producer);
            } else {
                commit(producer);
            }
        }
        context.promised(() -> {
            Contents contents = context.committed(partitions);
            for (TopicPartition partition : partitions) {
                Check.equal("read_committed sees of " + partition, List.of("committed", "again"), contents.values(partition));
                Check.equal("last stable offset of " + partition, 6L, contents.end(partition));
            }
        });
    }

    private static void manyProducers(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("crowded", 3);
        List<Future<?>> running = new ArrayList<>();
        for (int i = 0; i < 24; i++) {
            String name = "producer-" + i;
            KafkaProducer<String, String> producer = context.transactional(context.bootstrap(), context.unique(name), Map.of("buffer.memory", 1_000_000));
            running.add(Background.run(() -> {
                producer.initTransactions();
                for (int round = 0; round < 10; round++) {
                    producer.beginTransaction();
                    for (TopicPartition partition : partitions) {
                        send(producer, partition, name + (round % 2 == 0 ? " committed " : " aborted ") + round);
                    }
                    if (round % 2 == 0) {
                        commit(producer);
                    } else {
                        abort(producer);
                    }
                }
            }));
        }
        for (Future<?> producer : running) {
            producer.get(60, TimeUnit.SECONDS);
        }
        context.promised(() -> {
            Contents contents = context.committed(partitions);
            for (TopicPartition partition : partitions) {
                List<String> values = contents.values(partition);
                Check.equal("records of " + partition, 24 * 5, values.size());
                Check.that(values.stream().noneMatch(value -> value.contains("aborted")), "none of them is aborted");
                Check.equal("last stable offset of " + partition, 24L * 20, contents.end(partition));
            }
        });
    }

    private static void openOverBrokerKill(Context context) throws Exception {
        Broker broker = context.startBroker();
        List<TopicPartition> partitions = context.topic("orders", 3);
        KafkaProducer<String, String> done = context.transactional(context.unique("done"));
        String openId = context.unique("open");
        KafkaProducer<String, String> open = context.transactional(openId);
        open.beginTransaction();
        for (TopicPartition partition : partitions) {
            send(open, partition, "open-1").get();
        }
        done.beginTransaction();
        for (TopicPartition partition : partitions) {
            send(done, partition, "done-1");
        }
        commit(done);
        broker.kill();
        broker.start();
        if (context.abortsOpenAfterKill()) {
            openIsAborted(context, partitions, open, openId);
            return;
        }
        for (TopicPartition partition : partitions) {
            Check.equal("held back after the restart", List.of(), context.committed(List.of(partition)).values());
            send(open, partition, "open-2").get();
        }
        commit(open);
        done.beginTransaction();
        for (TopicPartition partition : partitions) {
            send(done, partition, "done-2").get();
        }
        abort(done);
        context.promised(() -> {
            Contents contents = context.committed(partitions);
            for (TopicPartition partition : partitions) {
                Check.equal("read_committed sees of " + partition, List.of("open-1", "done-1", "open-2"), contents.values(partition));
                // Four records and three markers.
                Check.equal("last stable offset of " + partition, 7L, contents.end(partition));
            }
        });
    }

    /** The transaction that was open is over, its producer finds itself fenced, and its successor goes on. */
    private static void openIsAborted(Context context, List<TopicPartition> partitions, KafkaProducer<String, String> open, String openId)
        throws Exception {
        Contents atOnce = context.committed(partitions);
        for (TopicPartition partition : partitions) {
            Check.equal("read_committed sees of " + partition, List.of("done-1"), atOnce.values(partition));
            Check.equal("last stable offset of " + partition, 4L, atOnce.end(partition));
        }
        Check.fails("going on", () -> {
            send(open, partitions.get(0), "open-2").get();
            open.commitTransaction();
        }, InvalidProducerEpochException.class, ProducerFencedException.class);
        KafkaProducer<String, String> successor = context.transactional(openId);
        successor.beginTransaction();
        send(successor, partitions.get(0), "open-3").get();
        commit(successor);
        context.promised(() -> Check.equal("read_committed sees", List.of("done-1", "open-3"),
            context.committed(partitions).values(partitions.get(0))));
    }

    /**
     * The broker dies when it has answered a commit, whose answer is lost on the way; and once when the commit never
     * reached it. A single node of Apache Kafka loses the markers in the first case: as it starts again it takes
     * partitions whose leader it does not know yet for deleted ones.
     */
    private static void committedAsBrokerDies(Context context) throws Exception {
        Broker broker = context.startBroker();
        List<TopicPartition> partitions = context.topic("orders", 2);
        List<Boolean> cases = context.apacheKafka() ? List.of(false) : List.of(true, false);
        for (boolean answered : cases) {
            Proxy proxy = context.proxy();
            KafkaProducer<String, String> producer = context.transactional(proxy.bootstrap(), context.unique("shop"), Map.of());
            producer.initTransactions();
            producer.beginTransaction();
            for (TopicPartition partition : partitions) {
                send(producer, partition, "answered-" + answered).get();
            }
            Proxy.Hold hold = proxy.add(new Proxy.Hold(ApiKeys.END_TXN, answered));
            Future<?> commit = Background.run(producer::commitTransaction);
            hold.await();
            broker.kill();
            hold.release();
            broker.start();
            if (answered || !context.abortsOpenAfterKill()) {
                commit.get(60, TimeUnit.SECONDS);
            } else {
                Check.fails("a commit of what was aborted", () -> commit.get(60, TimeUnit.SECONDS), ProducerFencedException.class);
            }
        }
        List<Boolean> kept = cases.stream().filter(answered -> answered || !context.abortsOpenAfterKill()).toList();
        context.promised(() -> {
            Contents contents = context.committed(partitions);
            for (TopicPartition partition : partitions) {
                Check.equal("read_committed sees", kept.stream().map(answered -> "answered-" + answered).toList(), contents.values(partition));
                Check.equal("last stable offset", 2L * cases.size(), contents.end(partition));
            }
        });
    }
}

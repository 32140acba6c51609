package oncelog.scenarios;

import static oncelog.harness.Clients.abort;
import static oncelog.harness.Clients.commit;
import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.BROKER;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import oncelog.harness.Check;
import oncelog.harness.Contents;
import oncelog.harness.Context;
import oncelog.harness.Proxy;
import oncelog.harness.Scenario;
import oncelog.harness.Wire;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.message.EndTxnResponseData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;

/** Only the newest instance of a transactional id has effect, and lost answers change no outcome. */
public final class FencingScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("fencing/zombie-send", BROKER, FencingScenarios::zombieSend),
        new Scenario("fencing/zombie-send-offsets", BROKER, FencingScenarios::zombieSendOffsets),
        new Scenario("fencing/zombie-commit", BROKER, FencingScenarios::zombieCommit),
        new Scenario("fencing/zombie-abort", BROKER, FencingScenarios::zombieAbort),
        new Scenario("fencing/init-aborts-what-was-left", BROKER, FencingScenarios::initAbortsWhatWasLeft),
        new Scenario("fencing/answers-lost", BROKER, FencingScenarios::answersLost),
        new Scenario("fencing/repeated-commit-spares-later-transaction", BROKER, FencingScenarios::repeatedCommitSparesLaterTransaction),
        new Scenario("fencing/timeout-above-maximum", BROKER, FencingScenarios::timeoutAboveMaximum));

    private FencingScenarios() {
    }

    /** What a zombie tries when its successor has come. */
    private interface Attempt {
        void run(KafkaProducer<String, String> zombie, TopicPartition partition) throws Exception;
    }

    private static void zombieSend(Context context) throws Exception {
        fenced(context, (zombie, partition) -> {
            Check.fails("a zombie's record", () -> send(zombie, partition, "zombie").get(), InvalidProducerEpochException.class);
            Check.fails("a zombie's commit after its record", zombie::commitTransaction, InvalidProducerEpochException.class);
            Check.fails("a zombie's abort after its record", zombie::abortTransaction, ProducerFencedException.class);
        });
    }

    private static void zombieSendOffsets(Context context) throws Exception {
        String group = context.unique("group");
        fenced(context, (zombie, partition) -> Check.fails("a zombie's offsets",
            () -> zombie.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(1)), new ConsumerGroupMetadata(group)),
            ProducerFencedException.class, InvalidProducerEpochException.class));
        Check.equal("offsets of the group", Map.of(),
            context.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get());
    }

    private static void zombieCommit(Context context) throws Exception {
        fenced(context, (zombie, partition) ->
            Check.fails("a zombie's commit", zombie::commitTransaction, ProducerFencedException.class));
    }

    private static void zombieAbort(Context context) throws Exception {
        fenced(context, (zombie, partition) ->
            Check.fails("a zombie's abort", zombie::abortTransaction, ProducerFencedException.class));
    }

    private static void fenced(Context context, Attempt attempt) throws Exception {
        List<TopicPartition> partitions = context.topic("zombie", 1);
        String id = context.unique("twice");
        KafkaProducer<String, String> zombie = context.transactional(id);
        zombie.beginTransaction();
        send(zombie, partitions.get(0), "left").get();
        KafkaProducer<String, String> successor = context.transactional(id);
        successor.beginTransaction();
        send(successor, partitions.get(0), "successor").get();
        attempt.run(zombie, partitions.get(0));
        commit(successor);
        context.promised(() -> Check.equal("read_committed sees", List.of("successor"), context.committed(partitions).values()));
        Check.equal("on the log", List.of("left", "successor"), context.uncommitted(partitions).values());
        successor.beginTransaction();
        send(successor, partitions.get(0), "more");
        commit(successor);
        context.promised(() -> Check.equal("read_committed sees", List.of("successor", "more"), context.committed(partitions).values()));
    }

    private static void initAbortsWhatWasLeft(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("left", 3);
        String id = context.unique("crashes");
        KafkaProducer<String, String> crashed = context.transactional(id);
        crashed.beginTransaction();
        for (TopicPartition partition : partitions) {
            send(crashed, partition, "left").get();
        }
        crashed.close(Duration.ZERO);
        Check.equal("last stable offset while it is open", 0L, context.committed(partitions).end(partitions.get(0)));
        KafkaProducer<String, String> next = context.transactional(id);
        Contents contents = context.committed(partitions);
        for (TopicPartition partition : partitions) {
            Check.equal("last stable offset once initTransactions has returned", 2L, contents.end(partition));
        }
        Check.equal("read_committed sees", List.of(), contents.values());
        next.beginTransaction();
        send(next, partitions.get(0), "next");
        commit(next);
        context.promised(() -> Check.equal("read_committed sees", List.of("next"), context.committed(partitions).values()));
    }

    private static void answersLost(Context context) throws Exception {
        for (ApiKeys api : List.of(ApiKeys.INIT_PRODUCER_ID, ApiKeys.PRODUCE, ApiKeys.TXN_OFFSET_COMMIT, ApiKeys.END_TXN)) {
            transactionsWithLosses(context, context.proxy(), api);
        }
    }

    /** Three transactions over a connection that is cut as answers of one API are due; shared with the older protocol's scenarios. */
    static void transactionsWithLosses(Context context, Proxy proxy, ApiKeys api) throws Exception {
        List<TopicPartition> partitions = context.topic("lost", 2);
        String group = context.unique("group");
        Proxy.Loss losses = proxy.add(Proxy.Loss.ofAnswers(api, 1, 1));
        KafkaProducer<String, String> producer = context.transactional(proxy.bootstrap(), context.unique("lost"), Map.of());
        producer.initTransactions();
        for (int i = 0; i < 3; i++) {
            producer.beginTransaction();
            for (TopicPartition partition : partitions) {
                send(producer, partition, "record-" + i);
            }
            producer.sendOffsetsToTransaction(Map.of(partitions.get(0), new OffsetAndMetadata(i)), new ConsumerGroupMetadata(group));
            if (i == 1) {
                abort(producer);
            } else {
                commit(producer);
            }
        }
        Check.equal("answers lost of " + api, 1, losses.lost());
        context.promised(() -> {
            Contents contents = context.committed(partitions);
            for (TopicPartition partition : partitions) {
                Check.equal("read_committed sees with lost " + api, List.of("record-0", "record-2"), contents.values(partition));
                Check.equal("last stable offset with lost " + api, 6L, contents.end(partition));
            }
            Check.equal("the group's offset", 2L, context.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
                .get(partitions.get(0)).offset());
        });
    }

    private static void repeatedCommitSparesLaterTransaction(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("repeated", 1);
        Proxy proxy = context.proxy();
        KafkaProducer<String, String> producer = context.transactional(proxy.bootstrap(), context.unique("repeated"), Map.of());
        producer.initTransactions();
        producer.beginTransaction();
        send(producer, partitions.get(0), "first");
        commit(producer);
        Proxy.Request commit = proxy.seen(ApiKeys.END_TXN).get(0);
        context.promised(() -> Check.equal("a commit that is repeated at once", Errors.NONE, outcome(context, commit)));

        producer.beginTransaction();
        send(producer, partitions.get(0), "second").get();
        Check.equal("a commit that is repeated in a later transaction", Errors.PRODUCER_FENCED, outcome(context, commit));
        Check.equal("the later transaction is still open", List.of("first"), context.committed(partitions).values());
        abort(producer);
        context.promised(() -> Check.equal("read_committed ends", 4L, context.committed(partitions).end(partitions.get(0))));
        Check.equal("read_committed sees", List.of("first"), context.committed(partitions).values());
    }

    /** What the broker answers when an EndTxn request reaches it once more, on another connection. */
    private static Errors outcome(Context context, Proxy.Request endTxn) throws Exception {
        try (Wire wire = new Wire(context.bootstrap())) {
            ByteBufferAccessor answer = wire.exchange(endTxn.api(), endTxn.version(), endTxn.frame());
            return Errors.forCode(new EndTxnResponseData(answer, endTxn.version()).errorCode());
        }
    }

    private static void timeoutAboveMaximum(Context context) throws Exception {
        KafkaProducer<String, String> patient = context.transactional(context.bootstrap(), context.unique("patient"),
            Map.of("transaction.timeout.ms", 900_001));
        Throwable refusal = Check.fails("a timeout above the maximum", patient::initTransactions, KafkaException.class);
        Check.that(refusal.getMessage().contains(Errors.INVALID_TRANSACTION_TIMEOUT.message()), "it is refused as too long: " + refusal);
        KafkaProducer<String, String> longest = context.transactional(context.bootstrap(), context.unique("longest"),
            Map.of("transaction.timeout.ms", 900_000));
        longest.initTransactions();
    }
}

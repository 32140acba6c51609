package oncelog.scenarios;

import static oncelog.harness.Clients.abort;
import static oncelog.harness.Clients.commit;
import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.BROKER;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import oncelog.harness.Check;
import oncelog.harness.Context;
import oncelog.harness.Proxy;
import oncelog.harness.Scenario;
import oncelog.harness.Wire;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.message.EndTxnRequestData;
import org.apache.kafka.common.message.EndTxnResponseData;
import org.apache.kafka.common.message.InitProducerIdRequestData;
import org.apache.kafka.common.message.InitProducerIdResponseData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.Errors;

/**
 * Both generations of the transaction protocol. The Java client speaks the older one when the broker does not
 * announce {@code transaction.version} 2, which the proxy then leaves out of the broker's answer.
 */
public final class ProtocolScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("protocol/newer-generation-on-the-wire", BROKER, ProtocolScenarios::newerOnTheWire),
        new Scenario("protocol/older-generation-with-lost-answers", BROKER, ProtocolScenarios::olderWithLostAnswers),
        new Scenario("protocol/older-generation-is-fenced", BROKER, ProtocolScenarios::olderIsFenced),
        new Scenario("protocol/generations-take-over-from-each-other", BROKER, ProtocolScenarios::takeOver),
        new Scenario("protocol/producer-epochs-run-out", BROKER, ProtocolScenarios::epochsRunOut));

    private ProtocolScenarios() {
    }

    private static void newerOnTheWire(Context context) throws Exception {
        Proxy proxy = context.proxy();
        FencingScenarios.transactionsWithLosses(context, proxy, ApiKeys.END_TXN);
        Check.equal("AddPartitionsToTxn requests", 0, proxy.seen(ApiKeys.ADD_PARTITIONS_TO_TXN).size());
        Check.equal("AddOffsetsToTxn requests", 0, proxy.seen(ApiKeys.ADD_OFFSETS_TO_TXN).size());
        Check.that(proxy.seen(ApiKeys.END_TXN).stream().allMatch(request -> request.version() >= 5), "EndTxn is at version 5 or newer");
        Check.that(proxy.seen(ApiKeys.PRODUCE).stream().allMatch(request -> request.version() >= 12), "Produce is at version 12 or newer");
    }

    private static void olderWithLostAnswers(Context context) throws Exception {
        for (ApiKeys api : List.of(ApiKeys.INIT_PRODUCER_ID, ApiKeys.ADD_PARTITIONS_TO_TXN, ApiKeys.PRODUCE,
            ApiKeys.ADD_OFFSETS_TO_TXN, ApiKeys.TXN_OFFSET_COMMIT, ApiKeys.END_TXN)) {
            Proxy proxy = context.proxy().hideTransactionVersion();
            FencingScenarios.transactionsWithLosses(context, proxy, api);
            Check.that(!proxy.seen(ApiKeys.ADD_PARTITIONS_TO_TXN).isEmpty(), "partitions are added by requests");
            Check.that(!proxy.seen(ApiKeys.ADD_OFFSETS_TO_TXN).isEmpty(), "offsets are added by requests");
            Check.that(proxy.seen(ApiKeys.END_TXN).stream().allMatch(request -> request.version() <= 4), "EndTxn is at version 4 or older");
            Check.that(proxy.seen(ApiKeys.PRODUCE).stream().allMatch(request -> request.version() <= 11), "Produce is at version 11 or older");
        }
    }

    private static void olderIsFenced(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("older", 1);
        Proxy proxy = context.proxy().hideTransactionVersion();
        String id = context.unique("older");
        for (boolean sends : new boolean[] {true, false}) {
            KafkaProducer<String, String> zombie = producer(context, proxy.bootstrap(), id);
            zombie.beginTransaction();
            send(zombie, partitions.get(0), "left").get();
            KafkaProducer<String, String> successor = producer(context, proxy.bootstrap(), id);
            if (sends) {
                Check.fails("a zombie's record", () -> send(zombie, partitions.get(0), "zombie").get(),
                    InvalidProducerEpochException.class, ProducerFencedException.class);
            } else {
                Check.fails("a zombie's commit", zombie::commitTransaction, ProducerFencedException.class);
            }
            successor.beginTransaction();
            send(successor, partitions.get(0), "successor");
            commit(successor);
        }
        context.promised(() -> Check.equal("read_committed sees", List.of("successor", "successor"), context.committed(partitions).values()));
    }

    /** Newer after older after newer with one transactional id, each leaving a transaction open for the next to abort. */
    private static void takeOver(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("upgrade", 1);
        Proxy older = context.proxy().hideTransactionVersion();
        String id = context.unique("upgrade");
        for (String address : List.of(context.bootstrap(), older.bootstrap(), context.bootstrap(), older.bootstrap())) {
            KafkaProducer<String, String> producer = producer(context, address, id);
            for (String value : List.of("one", "two")) {
                producer.beginTransaction();
                send(producer, partitions.get(0), value);
                commit(producer);
            }
            producer.beginTransaction();
            send(producer, partitions.get(0), "left").get();
            producer.close(Duration.ZERO);
        }
        producer(context, context.bootstrap(), id);
        context.promised(() -> Check.equal("read_committed sees", List.of("one", "two", "one", "two", "one", "two", "one", "two"),
            context.committed(partitions).values()));
    }

    /**
     * A transactional id uses up its epochs, which are 15 bits: the producer goes on with another producer id, without
     * noticing, and a lost answer to the very commit that changes the id does no harm.
     */
    private static void epochsRunOut(Context context) throws Exception {
        for (boolean loses : new boolean[] {false, true}) {
            List<TopicPartition> partitions = context.topic("epochs", 1);
            String id = context.unique("epochs");
            // A client finds the coordinator, and waits for it if need be.
            producer(context, context.bootstrap(), id);
            long firstId = useUpEpochs(context, id, Short.MAX_VALUE - 3);
            Proxy proxy = context.proxy();
            KafkaProducer<String, String> producer = producer(context, proxy.bootstrap(), id);
            if (loses) {
                // The first transaction has the last epoch but one, the second the last.
                proxy.add(Proxy.Loss.ofAnswers(ApiKeys.END_TXN, 2, 1));
            }
            for (int i = 0; i < 6; i++) {
                producer.beginTransaction();
                send(producer, partitions.get(0), "record-" + i).get();
                if (i % 2 == 1) {
                    abort(producer);
                } else {
                    commit(producer);
                }
            }
            context.promised(() -> {
                Check.equal("read_committed sees", List.of("record-0", "record-2", "record-4"), context.committed(partitions).values());
                Check.equal("last stable offset", 12L, context.committed(partitions).end(partitions.get(0)));
            });
            var description = context.admin().describeTransactions(List.of(id)).description(id).get();
            Check.that(description.producerId() != firstId, "another producer id than " + firstId);
            Check.that(description.producerEpoch() < 10, "a small epoch, not " + description.producerEpoch());
        }
    }

    /** Raises the epoch of a transactional id with empty aborts, which cost one each; returns its producer id. */
    private static long useUpEpochs(Context context, String id, int until) throws Exception {
        try (Wire wire = new Wire(context.bootstrap())) {
            InitProducerIdRequestData request = new InitProducerIdRequestData().setTransactionalId(id).setTransactionTimeoutMs(60_000);
            var producer = new InitProducerIdResponseData(wire.call(ApiKeys.INIT_PRODUCER_ID, 5, request), (short) 5);
            Check.equal("answer to InitProducerId", Errors.NONE, Errors.forCode(producer.errorCode()));
            short epoch = producer.producerEpoch();
            while (epoch < until) {
                EndTxnRequestData abort = new EndTxnRequestData().setTransactionalId(id).setProducerId(producer.producerId())
                    .setProducerEpoch(epoch).setCommitted(false);
                var answer = new EndTxnResponseData(wire.call(ApiKeys.END_TXN, 5, abort), (short) 5);
                if (answer.errorCode() == Errors.CONCURRENT_TRANSACTIONS.code()) {
                    continue;
                }
                Check.equal("answer to EndTxn", Errors.NONE, Errors.forCode(answer.errorCode()));
                Check.equal("the next epoch", (short) (epoch + 1), answer.producerEpoch());
                epoch = answer.producerEpoch();
            }
            return producer.producerId();
        }
    }

    private static KafkaProducer<String, String> producer(Context context, String address, String id) {
        KafkaProducer<String, String> producer = context.transactional(address, id, Map.of());
        producer.initTransactions();
        return producer;
    }
}

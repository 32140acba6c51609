package oncelog.scenarios;

import static oncelog.harness.Clients.commit;
import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.BROKER;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import oncelog.harness.Check;
import oncelog.harness.Context;
import oncelog.harness.Scenario;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionListing;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TransactionalIdNotFoundException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** What an admin client does with groups, their offsets, producers and transactions. */
public final class AdminGroupScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("admin/groups", BROKER, AdminGroupScenarios::groups),
        new Scenario("admin/group-offsets", BROKER, AdminGroupScenarios::groupOffsets),
        new Scenario("admin/transactions", BROKER, AdminGroupScenarios::transactions),
        new Scenario("admin/abort-transaction", BROKER, AdminGroupScenarios::abortTransaction),
        new Scenario("admin/fence-producers", BROKER, AdminGroupScenarios::fenceProducers));

    private AdminGroupScenarios() {
    }

    private static void groups(Context context) throws Exception {
        Admin admin = context.admin();
        List<TopicPartition> partitions = context.topic("grouped", 2);
        String group = context.unique("group");
        KafkaConsumer<String, String> consumer = member(context, group, partitions);
        var listing = admin.listGroups().all().get().stream().filter(found -> found.groupId().equals(group)).findFirst().orElseThrow();
        Check.equal("listed type", GroupType.CLASSIC, listing.type().orElseThrow());
        Check.equal("listed protocol", "consumer", listing.protocol());
        Check.equal("listed state", GroupState.STABLE, listing.groupState().orElseThrow());
        ConsumerGroupDescription description = describe(admin, group);
        Check.equal("state", GroupState.STABLE, description.groupState());
        Check.equal("assignor", "range", description.partitionAssignor());
        Check.equal("members", 1, description.members().size());
        var member = description.members().iterator().next();
        Check.equal("assignment", Set.copyOf(partitions), member.assignment().topicPartitions());
        Check.equal("client id", "a-client", member.clientId());
        Check.equal("group instance id", "an-instance", member.groupInstanceId().orElse(null));
        Check.fails("deleting a group in use", () -> admin.deleteConsumerGroups(List.of(group)).all().get(), GroupNotEmptyException.class);

        admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(
            List.of(new MemberToRemove("an-instance")))).all().get();
        consumer.close(CloseOptions.timeout(Duration.ZERO));
        Check.equal("state without members", GroupState.EMPTY, describe(admin, group).groupState());
        admin.deleteConsumerGroups(List.of(group)).all().get();
        Check.fails("describing a deleted group", () -> describe(admin, group), GroupIdNotFoundException.class);
        Check.fails("deleting it again", () -> admin.deleteConsumerGroups(List.of(group)).all().get(), GroupIdNotFoundException.class);
    }

    private static void groupOffsets(Context context) throws Exception {
        Admin admin = context.admin();
        List<TopicPartition> partitions = context.topic("positions", 2);
        String group = context.unique("group");
        Map<TopicPartition, OffsetAndMetadata> offsets = Map.of(
            partitions.get(0), new OffsetAndMetadata(5, Optional.of(0), "five"), partitions.get(1), new OffsetAndMetadata(6));
        admin.alterConsumerGroupOffsets(group, offsets).all().get();
        Check.equal("offsets", offsets, offsets(admin, group));
        admin.deleteConsumerGroupOffsets(group, Set.of(partitions.get(0))).all().get();
        Check.equal("offsets after one is deleted", Map.of(partitions.get(1), offsets.get(partitions.get(1))), offsets(admin, group));
        Check.equal("offsets of an unknown group", Map.of(), offsets(admin, context.unique("nobody")));

        member(context, group, partitions);
        Check.fails("altering offsets of a group in use", () -> admin.alterConsumerGroupOffsets(group, offsets).all().get(),
            UnknownMemberIdException.class);
        Check.fails("deleting offsets of a topic in use",
            () -> admin.deleteConsumerGroupOffsets(group, Set.of(partitions.get(1))).partitionResult(partitions.get(1)).get(),
            GroupSubscribedToTopicException.class);
    }

    /** A static member that has been assigned all partitions. */
    private static KafkaConsumer<String, String> member(Context context, String group, List<TopicPartition> partitions) throws Exception {
        KafkaConsumer<String, String> consumer = context.consumer(IsolationLevel.READ_COMMITTED,
            Map.of("group.id", group, "client.id", "a-client", "group.instance.id", "an-instance"));
        consumer.subscribe(List.of(partitions.get(0).topic()));
        Check.eventually("the member is assigned", Duration.ofSeconds(20), () -> {
            consumer.poll(Duration.ofMillis(50));
            return consumer.assignment().size() == partitions.size();
        });
        return consumer;
    }

    private static void transactions(Context context) throws Exception {
        Admin admin = context.admin();
        List<TopicPartition> partitions = context.topic("watched", 2);
        String id = context.unique("watched");
        KafkaProducer<String, String> producer = context.transactional(id);
        Check.equal("state before the first transaction", TransactionState.EMPTY, describeTransaction(admin, id).state());
        producer.beginTransaction();
        send(producer, partitions.get(0), "one").get();
        send(producer, partitions.get(1), "two").get();
        send(producer, partitions.get(1), "three").get();

        TransactionDescription open = describeTransaction(admin, id);
        Check.equal("state", TransactionState.ONGOING, open.state());
        Check.equal("partitions", Set.copyOf(partitions), open.topicPartitions());
        Check.equal("timeout", 60_000L, open.transactionTimeoutMs());
        Check.that(Math.abs(System.currentTimeMillis() - open.transactionStartTimeMs().orElse(0)) < 60_000, "it started just now");

        ProducerState state = producerState(admin, partitions.get(1));
        Check.equal("producer id", open.producerId(), state.producerId());
        Check.equal("producer epoch", open.producerEpoch(), state.producerEpoch());
        Check.equal("last sequence", 1, state.lastSequence());
        Check.equal("start of the transaction", OptionalLong.of(0), state.currentTransactionStartOffset());

        Check.equal("listed", TransactionState.ONGOING, listed(admin, new ListTransactionsOptions(), id));
        Check.equal("listed by state", TransactionState.ONGOING,
            listed(admin, new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING)), id));
        Check.equal("not listed by another state", null,
            listed(admin, new ListTransactionsOptions().filterStates(Set.of(TransactionState.COMPLETE_COMMIT)), id));
        Check.equal("listed by producer id", TransactionState.ONGOING,
            listed(admin, new ListTransactionsOptions().filterProducerIds(Set.of(open.producerId())), id));
        Check.equal("not listed as long-running", null, listed(admin, new ListTransactionsOptions().filterOnDuration(600_000), id));
        Check.equal("listed by pattern", TransactionState.ONGOING,
            listed(admin, new ListTransactionsOptions().filterOnTransactionalIdPattern("watched-.*"), id));
        Check.equal("not listed by another pattern", null,
            listed(admin, new ListTransactionsOptions().filterOnTransactionalIdPattern("unwatched-.*"), id));
        Check.fails("a bad pattern", () -> listed(admin, new ListTransactionsOptions().filterOnTransactionalIdPattern("("), id),
            InvalidRegularExpression.class);

        commit(producer);
        context.promised(() -> Check.equal("state at the end", TransactionState.COMPLETE_COMMIT, describeTransaction(admin, id).state()));
        context.promised(() -> Check.equal("start of no transaction", OptionalLong.empty(),
            producerState(admin, partitions.get(1)).currentTransactionStartOffset()));
        Check.fails("an unknown transactional id", () -> describeTransaction(admin, context.unique("nobody")), TransactionalIdNotFoundException.class);
    }

    private static TransactionState listed(Admin admin, ListTransactionsOptions options, String id) throws Exception {
        return admin.listTransactions(options).all().get().stream().filter(listing -> listing.transactionalId().equals(id))
            .map(TransactionListing::state).findFirst().orElse(null);
    }

    private static void abortTransaction(Context context) throws Exception {
        Admin admin = context.admin();
        List<TopicPartition> partitions = context.topic("hanging", 1);
        KafkaProducer<String, String> hanging = context.transactional(context.unique("hanging"));
        hanging.beginTransaction();
        send(hanging, partitions.get(0), "hanging").get();
        KafkaProducer<String, String> plain = context.producer(context.bootstrap(), Map.of());
        send(plain, partitions.get(0), "held back").get();
        Check.equal("readable while it hangs", List.of(), context.committed(partitions).values());
        ProducerState state = admin.describeProducers(partitions).partitionResult(partitions.get(0)).get().activeProducers().stream()
            .filter(producer -> producer.currentTransactionStartOffset().isPresent()).findFirst().orElseThrow();
        admin.abortTransaction(new AbortTransactionSpec(partitions.get(0), state.producerId(), (short) state.producerEpoch(),
            state.coordinatorEpoch().orElse(-1))).all().get();
        context.promised(() -> Check.equal("readable when it was aborted", List.of("held back"), context.committed(partitions).values()));
    }

    private static void fenceProducers(Context context) throws Exception {
        Admin admin = context.admin();
        List<TopicPartition> partitions = context.topic("fenced", 1);
        String id = context.unique("fenced");
        KafkaProducer<String, String> producer = context.transactional(id);
        producer.beginTransaction();
        send(producer, partitions.get(0), "left").get();
        int epoch = describeTransaction(admin, id).producerEpoch();
        var fenced = admin.fenceProducers(List.of(id));
        fenced.all().get();
        Check.that(fenced.epochId(id).get() > epoch, "the epoch has grown");
        Check.fails("a commit of the fenced producer", producer::commitTransaction, ProducerFencedException.class);
        context.promised(() -> Check.equal("last stable offset", 2L, context.committed(partitions).end(partitions.get(0))));
        Check.equal("read_committed sees", List.of(), context.committed(partitions).values());
        admin.fenceProducers(List.of(context.unique("new"))).all().get();
    }

    private static TransactionDescription describeTransaction(Admin admin, String id) throws Exception {
        return admin.describeTransactions(List.of(id)).description(id).get();
    }

    private static ProducerState producerState(Admin admin, TopicPartition partition) throws Exception {
        List<ProducerState> producers = admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers();
        Check.equal("producers of " + partition, 1, producers.size());
        return producers.get(0);
    }

    private static ConsumerGroupDescription describe(Admin admin, String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).all().get().get(group);
    }

    private static Map<TopicPartition, OffsetAndMetadata> offsets(Admin admin, String group) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
    }
}

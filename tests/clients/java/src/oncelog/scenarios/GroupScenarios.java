package oncelog.scenarios;

import static oncelog.harness.Clients.abort;
import static oncelog.harness.Clients.commit;
import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.BROKER;
import static oncelog.harness.Scenario.Needs.OWN_BROKER;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;
import oncelog.harness.Broker;
import oncelog.harness.Check;
import oncelog.harness.Context;
import oncelog.harness.Scenario;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;

/** Members share partitions, offsets are kept, and static members come back without a rebalance. */
public final class GroupScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("groups/members-share-partitions", BROKER, context -> share(context, "range,cooperative-sticky")),
        new Scenario("groups/members-share-partitions-cooperatively", BROKER, context -> share(context, "cooperative-sticky")),
        new Scenario("groups/many-members-come-and-go", BROKER, GroupScenarios::manyMembers),
        new Scenario("groups/pattern-finds-new-topics", BROKER, GroupScenarios::pattern),
        new Scenario("groups/static-members-return-without-rebalance", BROKER, GroupScenarios::staticMembersReturn),
        new Scenario("groups/second-of-a-static-name-fences-the-first", BROKER, GroupScenarios::staticNameTwice),
        new Scenario("groups/offsets-and-members-outlive-broker-kill", OWN_BROKER, GroupScenarios::outliveKill),
        new Scenario("groups/open-transaction-hides-its-offsets", BROKER, GroupScenarios::openTransactionHidesOffsets));

    private GroupScenarios() {
    }

    /** A member that counts what it is assigned. */
    private static final class Member {
        private final KafkaConsumer<String, String> consumer;
        private final List<String> values = new ArrayList<>();
        private int rebalances;

        Member(Context context, String topic, Map<String, Object> settings) {
            Map<String, Object> all = new HashMap<>(Map.of("session.timeout.ms", 6_000, "heartbeat.interval.ms", 300));
            all.putAll(settings);
            consumer = context.consumer(IsolationLevel.READ_COMMITTED, all);
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    rebalances++;
                }
            });
        }

        void poll() {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(20))) {
                values.add(record.value());
            }
        }

        Set<TopicPartition> assignment() {
            return consumer.assignment();
        }

        void close() {
            consumer.close(CloseOptions.timeout(Duration.ofSeconds(5)));
        }
    }

    private static void awaitBalance(List<Member> members, int partitions) throws Exception {
        Check.eventually("the members have " + partitions + " partitions between them", Duration.ofSeconds(30), () -> {
            members.forEach(Member::poll);
            Set<TopicPartition> all = new HashSet<>();
            members.forEach(member -> all.addAll(member.assignment()));
            int sum = members.stream().mapToInt(member -> member.assignment().size()).sum();
            return all.size() == partitions && sum == partitions
                && members.stream().allMatch(member -> member.assignment().size() >= partitions / members.size());
        });
    }

    private static void share(Context context, String strategies) throws Exception {
        List<TopicPartition> partitions = context.topic("shared", 6);
        Map<String, Object> settings = Map.of("group.id", context.unique("group"), "partition.assignment.strategy", assignors(strategies));
        Member first = new Member(context, partitions.get(0).topic(), settings);
        awaitBalance(List.of(first), 6);
        Member second = new Member(context, partitions.get(0).topic(), settings);
        awaitBalance(List.of(first, second), 6);
        feed(context, partitions, 0, 10);
        Check.eventually("all records are read", Duration.ofSeconds(20), () -> {
            first.poll();
            second.poll();
            return first.values.size() + second.values.size() >= 60;
        });
        first.consumer.commitSync();
        second.consumer.commitSync();
        second.close();
        feed(context, partitions, 10, 10);
        awaitBalance(List.of(first), 6);
        Check.eventually("the rest is read by the one that is left", Duration.ofSeconds(20), () -> {
            first.poll();
            return first.values.size() + second.values.size() >= 120;
        });
        List<String> all = new ArrayList<>(first.values);
        all.addAll(second.values);
        Check.equal("records read", 120, all.size());
        Check.equal("different ones", 120, new HashSet<>(all).size());
    }

    private static void manyMembers(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("crowd", 24);
        Map<String, Object> settings = Map.of("group.id", context.unique("group"));
        List<Member> members = new ArrayList<>();
        for (int i = 0; i < 12; i++) {
            members.add(new Member(context, partitions.get(0).topic(), settings));
        }
        awaitBalance(members, 24);
        while (members.size() > 6) {
            members.remove(0).close();
        }
        awaitBalance(members, 24);
    }

    private static void pattern(Context context) throws Exception {
        String prefix = context.unique("pattern");
        context.admin().createTopics(List.of(new NewTopic(prefix + "-one", 2, (short) 1))).all().get();
        KafkaConsumer<String, String> consumer = context.consumer(IsolationLevel.READ_COMMITTED,
            Map.of("group.id", context.unique("group"), "metadata.max.age.ms", 300));
        consumer.subscribe(Pattern.compile(prefix + "-.*"));
        Check.eventually("the first topic is found", Duration.ofSeconds(20), () -> {
            consumer.poll(Duration.ofMillis(50));
            return consumer.assignment().size() == 2;
        });
        context.admin().createTopics(List.of(new NewTopic(prefix + "-two", 3, (short) 1))).all().get();
        Check.eventually("the second topic is found", Duration.ofSeconds(20), () -> {
            consumer.poll(Duration.ofMillis(50));
            return consumer.assignment().size() == 5;
        });
        context.admin().deleteTopics(List.of(prefix + "-one")).all().get();
        Check.eventually("the first topic is given up", Duration.ofSeconds(20), () -> {
            consumer.poll(Duration.ofMillis(50));
            return consumer.assignment().size() == 3;
        });
    }

    private static List<String> assignors(String names) {
        return List.of(names.split(",")).stream().map(name -> name.equals("range")
            ? "org.apache.kafka.clients.consumer.RangeAssignor"
            : "org.apache.kafka.clients.consumer.CooperativeStickyAssignor").toList();
    }

    private static void staticMembersReturn(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("static", 4);
        String topic = partitions.get(0).topic();
        String group = context.unique("group");
        Member leader = new Member(context, topic, Map.of("group.id", group, "group.instance.id", "one"));
        awaitBalance(List.of(leader), 4);
        Member other = new Member(context, topic, Map.of("group.id", group, "group.instance.id", "two"));
        awaitBalance(List.of(leader, other), 4);
        for (boolean leaderReturns : new boolean[] {false, true}) {
            Member gone = leaderReturns ? leader : other;
            Member stays = leaderReturns ? other : leader;
            int generation = gone.consumer.groupMetadata().generationId();
            int rebalances = stays.rebalances;
            Set<TopicPartition> before = gone.assignment();
            gone.close();
            Member back = new Member(context, topic, Map.of("group.id", group, "group.instance.id", leaderReturns ? "one" : "two"));
            Check.eventually("the static member is back", Duration.ofSeconds(20), () -> {
                back.poll();
                stays.poll();
                return !back.assignment().isEmpty();
            });
            for (int i = 0; i < 10; i++) {
                stays.poll();
                back.poll();
            }
            Check.equal("partitions of the one that returned", before, back.assignment());
            Check.equal("its generation", generation, back.consumer.groupMetadata().generationId());
            Check.equal("rebalances of the one that stayed", rebalances, stays.rebalances);
            if (leaderReturns) {
                leader = back;
            } else {
                other = back;
            }
        }
    }

    private static void staticNameTwice(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("static", 2);
        Map<String, Object> settings = Map.of("group.id", context.unique("group"), "group.instance.id", "only");
        Member first = new Member(context, partitions.get(0).topic(), settings);
        awaitBalance(List.of(first), 2);
        Member second = new Member(context, partitions.get(0).topic(), settings);
        awaitBalance(List.of(second), 2);
        Check.fails("the first of the name", () -> Check.eventually("it is told", Duration.ofSeconds(10), () -> {
            first.poll();
            return false;
        }), FencedInstanceIdException.class);
        second.poll();
        Check.equal("partitions of the second", 2, second.assignment().size());
    }

    private static void outliveKill(Context context) throws Exception {
        Broker broker = context.startBroker();
        List<TopicPartition> partitions = context.topic("kept", 2);
        String group = context.unique("group");
        Member member = new Member(context, partitions.get(0).topic(), Map.of("group.id", group));
        awaitBalance(List.of(member), 2);
        feed(context, partitions, 0, 10);
        Check.eventually("all is read", Duration.ofSeconds(20), () -> {
            member.poll();
            return member.values.size() == 20;
        });
        Map<TopicPartition, OffsetAndMetadata> committed = Map.of(
            partitions.get(0), new OffsetAndMetadata(10, Optional.of(0), "a note"),
            partitions.get(1), new OffsetAndMetadata(10));
        member.consumer.commitSync(committed);
        broker.kill();
        broker.start();
        Check.equal("offsets after the restart", committed,
            context.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get());
        feed(context, partitions, 10, 10);
        Check.eventually("the member goes on", Duration.ofSeconds(30), () -> {
            member.poll();
            return member.values.size() >= 40;
        });
        Check.equal("each record once", 40, new HashSet<>(member.values).size());
        Check.equal("records", 40, member.values.size());
        member.consumer.commitSync();
        Check.equal("the offset after the restart", 20L, member.consumer.committed(Set.copyOf(partitions)).get(partitions.get(0)).offset());
    }

    private static void openTransactionHidesOffsets(Context context) throws Exception {
        List<TopicPartition> partitions = context.topic("pending", 1);
        feed(context, partitions, 0, 10);
        String group = context.unique("group");
        KafkaConsumer<String, String> consumer = context.consumer(IsolationLevel.READ_COMMITTED, Map.of("group.id", group));
        consumer.assign(partitions);
        consumer.commitSync(Map.of(partitions.get(0), new OffsetAndMetadata(3)));
        KafkaProducer<String, String> producer = context.transactional(context.unique("offsets"));
        for (boolean commits : new boolean[] {false, true}) {
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(partitions.get(0), new OffsetAndMetadata(8)), new ConsumerGroupMetadata(group));
            Check.equal("the offset an admin sees while the transaction is open", 3L,
                context.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partitions.get(0)).offset());
            Check.fails("a consumer that wants a stable offset", () -> consumer.committed(Set.copyOf(partitions), Duration.ofMillis(500)),
                org.apache.kafka.common.errors.TimeoutException.class);
            if (commits) {
                commit(producer);
            } else {
                abort(producer);
            }
            Check.equal("the offset when the transaction has ended", commits ? 8L : 3L,
                consumer.committed(Set.copyOf(partitions)).get(partitions.get(0)).offset());
        }
    }

    private static void feed(Context context, List<TopicPartition> partitions, int first, int count) {
        try (KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of())) {
            for (int i = first; i < first + count; i++) {
                for (TopicPartition partition : partitions) {
                    send(producer, partition, partition.partition() + "/" + i);
                }
            }
        }
    }
}

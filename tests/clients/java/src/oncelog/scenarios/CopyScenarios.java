package oncelog.scenarios;

import static oncelog.harness.Clients.send;
import static oncelog.harness.Scenario.Needs.BROKER;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import oncelog.harness.Background;
import oncelog.harness.Check;
import oncelog.harness.Contents;
import oncelog.harness.Context;
import oncelog.harness.Proxy;
import oncelog.harness.Scenario;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.protocol.ApiKeys;

/** Consume, transform, produce: each input has exactly one output, whoever dies at whatever step. */
public final class CopyScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("copy/process-killed-after-poll", BROKER, context -> haltedAt(context, Worker.Step.AFTER_POLL)),
        new Scenario("copy/process-killed-after-send", BROKER, context -> haltedAt(context, Worker.Step.AFTER_SEND)),
        new Scenario("copy/process-killed-after-send-offsets", BROKER, context -> haltedAt(context, Worker.Step.AFTER_SEND_OFFSETS)),
        new Scenario("copy/process-killed-before-commit-arrives", BROKER, context -> killedDuringCommit(context, false)),
        new Scenario("copy/process-killed-after-commit-is-done", BROKER, context -> killedDuringCommit(context, true)),
        new Scenario("copy/three-workers-one-joins-one-dies-one-leaves", BROKER, CopyScenarios::threeWorkers));

    private CopyScenarios() {
    }

    /** Topics and names of one copy. */
    private record Job(List<TopicPartition> input, List<TopicPartition> output, String group, String instance) {
        static Job create(Context context, int partitions) throws Exception {
            return new Job(context.topic("input", partitions), context.topic("output", partitions),
                context.unique("group"), context.unique("worker"));
        }

        Worker.Settings worker(String bootstrap, String instance, boolean isStatic, Worker.Step step, int transaction) {
            return new Worker.Settings(bootstrap, input.get(0).topic(), output.get(0).topic(), group, instance, isStatic, step, transaction);
        }
    }

    private static void haltedAt(Context context, Worker.Step step) throws Exception {
        Job job = Job.create(context, 3);
        feed(context, job, 0, 20);
        Process process = Worker.startProcess(job.worker(context.bootstrap(), job.instance(), true, step, 2));
        context.open(process::destroyForcibly);
        Check.that(process.waitFor(60, TimeUnit.SECONDS), "the process halts");
        Check.equal("its exit status", Worker.HALTED, process.exitValue());
        restartAndCheck(context, job);
    }

    private static void killedDuringCommit(Context context, boolean done) throws Exception {
        Job job = Job.create(context, 3);
        feed(context, job, 0, 20);
        Proxy proxy = context.proxy();
        Proxy.Hold hold = proxy.add(new Proxy.Hold(ApiKeys.END_TXN, done));
        Process process = Worker.startProcess(job.worker(proxy.bootstrap(), job.instance(), true, Worker.Step.NEVER, 0));
        context.open(process::destroyForcibly);
        hold.await();
        process.destroyForcibly().waitFor();
        // The first transaction of the process; its request goes down with the proxy.
        Check.equal("transactions that the process ended", 1, proxy.seen(ApiKeys.END_TXN).size());
        proxy.close();
        restartAndCheck(context, job);
    }

    /** Another instance of the same name takes over, in this JVM, and ends the copy. */
    private static void restartAndCheck(Context context, Job job) throws Exception {
        Worker worker = new Worker(job.worker(context.bootstrap(), job.instance(), true, Worker.Step.NEVER, 0));
        Future<?> running = Background.run(worker::run);
        awaitCopied(context, job, 20);
        worker.stop();
        running.get(30, TimeUnit.SECONDS);
        checkExact(context, job, 20);
    }

    private static void threeWorkers(Context context) throws Exception {
        Job job = Job.create(context, 6);
        Worker leaves = new Worker(job.worker(context.bootstrap(), job.instance() + "-leaves", false, Worker.Step.NEVER, 0));
        Worker stays = new Worker(job.worker(context.bootstrap(), job.instance() + "-stays", false, Worker.Step.NEVER, 0));
        Future<?> leaving = Background.run(leaves::run);
        Future<?> staying = Background.run(stays::run);
        context.open(stays::stop);
        context.open(leaves::stop);
        Process dies = null;
        for (int i = 0; i < 10; i++) {
            feed(context, job, 20 * i, 20);
            if (i == 0) {
                awaitCopied(context, job, 20);
                dies = Worker.startProcess(job.worker(context.bootstrap(), job.instance() + "-dies", false, Worker.Step.AFTER_SEND_OFFSETS, 3));
                context.open(dies::destroyForcibly);
            }
            Thread.sleep(300);
        }
        // It joins while records flow, has its share for a while, and dies with a transaction open.
        for (int fed = 200; !dies.waitFor(300, TimeUnit.MILLISECONDS); fed += 20) {
            Check.that(fed < 4_000, "the third worker gets a share of the work");
            feed(context, job, fed, 20);
        }
        Check.equal("exit status of the third worker", Worker.HALTED, dies.exitValue());
        leaves.stop();
        leaving.get(30, TimeUnit.SECONDS);
        int total = Math.toIntExact(context.uncommitted(job.input()).end(job.input().get(0)));
        awaitCopied(context, job, total);
        stays.stop();
        staying.get(30, TimeUnit.SECONDS);
        checkExact(context, job, total);
    }

    /** Appends {@code count} records to each input partition. */
    private static void feed(Context context, Job job, int first, int count) {
        try (KafkaProducer<String, String> producer = context.producer(context.bootstrap(), Map.of())) {
            IntStream.range(first, first + count).forEach(i -> job.input().forEach(partition -> send(producer, partition, value(partition, i))));
        }
    }

    private static String value(TopicPartition partition, int number) {
        return partition.partition() + "/" + number;
    }

    private static void awaitCopied(Context context, Job job, int count) throws Exception {
        Check.eventually("the group gets to the end of its input", Duration.ofSeconds(60), () -> {
            Map<TopicPartition, OffsetAndMetadata> offsets =
                context.admin().listConsumerGroupOffsets(job.group()).partitionsToOffsetAndMetadata().get();
            return job.input().stream().allMatch(partition -> offsets.get(partition) != null && offsets.get(partition).offset() >= count);
        });
    }

    private static void checkExact(Context context, Job job, int count) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> offsets =
            context.admin().listConsumerGroupOffsets(job.group()).partitionsToOffsetAndMetadata().get();
        Contents output = context.committed(job.output());
        for (TopicPartition partition : job.output()) {
            List<String> expected = new ArrayList<>();
            IntStream.range(0, count).forEach(i -> expected.add(value(partition, i)));
            Check.equal("copied to " + partition, expected, output.values(partition));
            Check.equal("the group's offset", (long) count, offsets.get(job.input().get(partition.partition())).offset());
        }
    }
}

package oncelog.scenarios;

import static oncelog.harness.Scenario.Needs.OWN_BROKER_ALONE;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import oncelog.harness.Broker;
import oncelog.harness.Check;
import oncelog.harness.Context;
import oncelog.harness.Scenario;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.common.config.ConfigResource;

/** Kafka's LogCompactionTester: of each key the newest record is left, and the older ones are gone. */
public final class CompactionScenarios {
    /** The scenarios of this file. */
    public static final List<Scenario> ALL = List.of(
        new Scenario("tools/log-compaction-tester", OWN_BROKER_ALONE, CompactionScenarios::compacts));

    private static final Map<String, String> EAGER = Map.of(
        "log.segment.bytes", "1048576",
        "log.cleaner.backoff.ms", "100",
        "log.cleaner.min.cleanable.ratio", "0.01",
        "log.cleaner.delete.retention.ms", "1000");

    private CompactionScenarios() {
    }

    private static void compacts(Context context) throws Exception {
        Broker broker = context.startBroker();
        List<AlterConfigOp> settings = EAGER.entrySet().stream()
            .map(entry -> new AlterConfigOp(new ConfigEntry(entry.getKey(), entry.getValue()), AlterConfigOp.OpType.SET))
            .collect(Collectors.toList());
        ConfigResource allBrokers = new ConfigResource(ConfigResource.Type.BROKER, "");
        context.admin().incrementalAlterConfigs(Map.of(allBrokers, settings)).all().get();
        // In processes of their own, since it is Scala that prints: it keeps the first standard output that it sees.
        Process plain = start(broker, "none");
        Process compressed = start(broker, "lz4");
        verify(plain);
        verify(compressed);
    }

    private static Process start(Broker broker, String codec) throws IOException {
        return new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-cp", System.getProperty("java.class.path"), "kafka.tools.LogCompactionTester",
            "--bootstrap-server", broker.bootstrap(), "--messages", "200000", "--compression-type", codec,
            "--percent-deletes", "20", "--sleep", "10").redirectErrorStream(true).start();
    }

    private static void verify(Process tester) throws Exception {
        String printed = new String(tester.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        Check.that(tester.waitFor() == 0 && printed.contains("Data verification is completed"), "the tester is content: " + printed);
        Matcher reduction = Pattern.compile("\\((\\d+)\\.\\d% reduction").matcher(printed);
        Check.that(reduction.find() && Integer.parseInt(reduction.group(1)) >= 20, "records have gone: " + printed);
    }
}

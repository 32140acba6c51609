package oncelog;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;
import oncelog.harness.Background;
import oncelog.harness.Broker;
import oncelog.harness.Check;
import oncelog.harness.Context;
import oncelog.harness.Scenario;
import oncelog.scenarios.AdminGroupScenarios;
import oncelog.scenarios.AdminScenarios;
import oncelog.scenarios.ChaosScenarios;
import oncelog.scenarios.CompactionScenarios;
import oncelog.scenarios.CopyScenarios;
import oncelog.scenarios.DumpScenarios;
import oncelog.scenarios.FencingScenarios;
import oncelog.scenarios.GroupScenarios;
import oncelog.scenarios.IdempotenceScenarios;
import oncelog.scenarios.MeasureScenarios;
import oncelog.scenarios.ProtocolScenarios;
import oncelog.scenarios.ReadScenarios;
import oncelog.scenarios.ToolScenarios;
import oncelog.scenarios.TransactionScenarios;

/**
 * Runs the scenarios whose names begin with one of the arguments. Those that can share a broker and the JVM run
 * a few at a time, since most of them wait; the others follow one by one.
 */
public final class Main {
    private static final Duration LIMIT = Duration.ofMinutes(3)
        .plusSeconds(Long.parseLong(System.getenv().getOrDefault("CHAOS_SECONDS", "0")));
    private static final PrintStream OUT = System.out;

    private final Context.Target target;
    private final String running;
    private final AtomicInteger passed = new AtomicInteger();
    private final AtomicInteger failed = new AtomicInteger();
    private volatile String bootstrap;

    private Main(Context.Target target, String running) {
        this.target = target;
        this.running = running;
    }

    public static void main(String[] arguments) throws Exception {
        List<Scenario> chosen = choose(arguments);
        if (chosen.isEmpty()) {
            System.err.println("no scenario begins with " + String.join(" or ", arguments));
            System.exit(2);
        }
        if (arguments.length == 1 && arguments[0].equals("--list")) {
            chosen.forEach(scenario -> OUT.println(scenario.name()));
            return;
        }
        String binary = System.getenv("ONCELOG_BIN");
        String running = System.getenv("BOOTSTRAP");
        if (binary == null && running == null) {
            System.err.println("ONCELOG_BIN (a broker's binary) or BOOTSTRAP (a running broker) must be set");
            System.exit(2);
        }
        Path directory = Files.createTempDirectory("oncelog-java-");
        boolean apacheKafka = "1".equals(System.getenv("APACHE_KAFKA"));
        Main main = new Main(new Context.Target(binary, directory, apacheKafka), running);
        boolean good = main.run(chosen);
        if (good) {
            delete(directory);
        } else if (binary != null) {
            OUT.println("brokers' directories are kept in " + directory);
        }
        System.exit(good ? 0 : 1);
    }

    private static List<Scenario> choose(String[] arguments) {
        List<Scenario> all = Stream.of(IdempotenceScenarios.ALL, TransactionScenarios.ALL, FencingScenarios.ALL, ProtocolScenarios.ALL,
            ReadScenarios.ALL, GroupScenarios.ALL, CopyScenarios.ALL, ChaosScenarios.ALL, AdminScenarios.ALL, AdminGroupScenarios.ALL,
            ToolScenarios.ALL, DumpScenarios.ALL, CompactionScenarios.ALL, MeasureScenarios.ALL).flatMap(List::stream).toList();
        if (arguments.length == 0) {
            return all.stream().filter(scenario -> !scenario.name().startsWith("tools/") && !scenario.name().startsWith("measure/")).toList();
        }
        return all.stream().filter(scenario -> arguments[0].equals("--list")
            || Arrays.stream(arguments).anyMatch(scenario.name()::startsWith)).toList();
    }

    private boolean run(List<Scenario> scenarios) throws Exception {
        List<Scenario> chosen = new ArrayList<>(scenarios);
        if (running != null) {
            chosen.stream().filter(scenario -> scenario.needs().ownBroker())
                .forEach(scenario -> OUT.println("skip " + scenario.name() + ": it needs a broker that it can kill"));
            chosen.removeIf(scenario -> scenario.needs().ownBroker());
        }
        try (Broker shared = running == null ? Broker.start(target.binary(), target.directory().resolve("shared")) : null) {
            bootstrap = shared == null ? running : shared.bootstrap();
            int jobs = Integer.parseInt(System.getenv().getOrDefault("JOBS", "4"));
            ExecutorService pool = Executors.newFixedThreadPool(jobs);
            List<Future<?>> together = new ArrayList<>();
            chosen.stream().filter(scenario -> !scenario.needs().alone())
                .forEach(scenario -> together.add(pool.submit(() -> run(scenario))));
            for (Future<?> future : together) {
                future.get();
            }
            chosen.stream().filter(scenario -> scenario.needs().alone()).forEach(this::run);
        }
        OUT.println(passed + " passed, " + failed + " failed");
        return failed.get() == 0;
    }

    private void run(Scenario scenario) {
        long start = System.nanoTime();
        Throwable fault = null;
        String note;
        AtomicReference<Thread> runner = new AtomicReference<>();
        try (Context context = new Context(target, bootstrap)) {
            Future<?> body = Background.run(() -> {
                runner.set(Thread.currentThread());
                scenario.body().run(context);
            });
            try {
                body.get(LIMIT.toSeconds(), TimeUnit.SECONDS);
            } catch (TimeoutException late) {
                fault = new AssertionError("not done within " + LIMIT.toSeconds() + " s");
                fault.setStackTrace(runner.get().getStackTrace());
                body.cancel(true);
            } catch (ExecutionException failure) {
                fault = failure.getCause();
            } catch (InterruptedException interrupted) {
                fault = interrupted;
            }
            note = context.note();
        }
        String line = scenario.name() + String.format(" (%.1f s)", (System.nanoTime() - start) / 1e9) + note;
        if (fault == null) {
            passed.incrementAndGet();
            OUT.println("pass " + line);
        } else {
            failed.incrementAndGet();
            OUT.println("FAIL " + line + "\n     " + Check.chain(fault) + place(fault));
        }
    }

    /** The line of the scenario at which it failed. */
    private static String place(Throwable fault) {
        return Arrays.stream(fault.getStackTrace()).filter(frame -> frame.getClassName().startsWith("oncelog.scenarios"))
            .findFirst().map(frame -> "\n     at " + frame).orElse("");
    }

    private static void delete(Path directory) throws IOException {
        try (Stream<Path> paths = Files.walk(directory)) {
            for (Path path : paths.sorted((a, b) -> b.compareTo(a)).toList()) {
                Files.delete(path);
            }
        }
    }
}

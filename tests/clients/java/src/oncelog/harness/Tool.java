package oncelog.harness;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Pattern;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs the main class of one of Kafka's command line tools in this JVM, since starting a JVM for each would take most
 * of the time. Takes over the standard streams meanwhile, so only one may run at a time.
 */
public final class Tool {
    /** What a tool printed and how it ended. */
    public record Outcome(int status, String out, String err) {
        /** The lines of standard output that are not blank. */
        public List<String> lines() {
            return out.lines().filter(line -> !line.isBlank()).toList();
        }

        /** Fails unless the tool ended well. */
        public Outcome good() {
            Check.that(status == 0, "exit status " + status + " is 0; it printed " + this);
            return this;
        }

        /** Fails unless standard output has a line with a match of each of these patterns. */
        public Outcome shows(String... patterns) {
            for (String pattern : patterns) {
                Check.that(out.lines().anyMatch(line -> Pattern.compile(pattern).matcher(line).find()),
                    "a line matches \"" + pattern + "\" in\n" + out + err);
            }
            return this;
        }

        /** Fails if standard output has a line with a match of the pattern. */
        public Outcome hides(String pattern) {
            Check.that(out.lines().noneMatch(line -> Pattern.compile(pattern).matcher(line).find()),
                "no line matches \"" + pattern + "\" in\n" + out + err);
            return this;
        }

        /** The cells of a printed table: of the first row with this cell, the one below the header {@code column}. */
        public String cell(String rowWith, String column) {
            List<String> header = null;
            for (String line : lines()) {
                List<String> cells = Arrays.asList(line.trim().split("\\s+"));
                if (cells.contains(column)) {
                    header = cells;
                } else if (header != null && cells.contains(rowWith)) {
                    return cells.get(header.indexOf(column));
                }
            }
            throw new AssertionError("no " + column + " of " + rowWith + " in\n" + out + err);
        }
    }

    private static final class Ended extends Error {
        Ended() {
            super(null, null, false, false);
        }
    }

    private Tool() {
    }

    /** Runs a tool with nothing on its standard input. */
    public static Outcome run(String mainClass, String... arguments) throws Exception {
        return run("", mainClass, arguments);
    }

    /** Runs a tool with this text on its standard input. */
    public static Outcome run(String input, String mainClass, String[] arguments) throws Exception {
        PrintStream realOut = System.out;
        PrintStream realErr = System.err;
        InputStream realIn = System.in;
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        // Some tools exit inside of a try block whose handler exits again: the first status is the one that counts.
        AtomicReference<Integer> exited = new AtomicReference<>();
        Exit.setExitProcedure((status, message) -> {
            exited.compareAndSet(null, status);
            throw new Ended();
        });
        List<Runnable> hooks = new ArrayList<>();
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        System.setOut(new PrintStream(out, true));
        System.setErr(new PrintStream(err, true));
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        try {
            Class.forName(mainClass).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException thrown) {
            if (!(thrown.getCause() instanceof Ended)) {
                exited.compareAndSet(null, 1);
                thrown.getCause().printStackTrace();
            }
        } finally {
            hooks.forEach(Runnable::run);
            System.setOut(realOut);
            System.setErr(realErr);
            System.setIn(realIn);
            Exit.resetExitProcedure();
            Exit.resetShutdownHookAdder();
        }
        int status = Optional.ofNullable(exited.get()).orElse(0);
        return new Outcome(status, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
    }
}

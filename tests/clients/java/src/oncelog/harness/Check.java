package oncelog.harness;

import java.time.Duration;
import java.util.Arrays;
import java.util.Objects;

/** Assertions that say what was expected and what was there. */
public final class Check {
    private Check() {
    }

    /** A step that may throw anything. */
    public interface Step {
        void run() throws Exception;
    }

    /** A condition that may throw anything. */
    public interface Condition {
        boolean holds() throws Exception;
    }

    /** Fails unless {@code condition} is true. */
    public static void that(boolean condition, String claim) {
        if (!condition) {
            throw new AssertionError("not so: " + claim);
        }
    }

    /** Fails unless both are equal. */
    public static <T> void equal(String what, T expected, T actual) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError(what + ": expected " + brief(expected) + " but got " + brief(actual));
        }
    }

    /** Runs a step that must fail with one of these exceptions, be it as the cause; returns it. */
    @SafeVarargs
    public static Throwable fails(String what, Step step, Class<? extends Throwable>... kinds) {
        try {
            step.run();
        } catch (Throwable thrown) {
            for (Throwable cause = thrown; cause != null; cause = cause.getCause()) {
                Class<?> found = cause.getClass();
                if (Arrays.asList(kinds).contains(found)) {
                    return cause;
                }
            }
            throw new AssertionError(what + ": expected " + names(kinds) + " but got " + chain(thrown), thrown);
        }
        throw new AssertionError(what + ": expected " + names(kinds) + " but nothing was thrown");
    }

    /** Waits until the condition holds. */
    public static void eventually(String claim, Duration limit, Condition condition) throws Exception {
        long deadline = System.nanoTime() + limit.toNanos();
        while (!condition.holds()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("not within " + limit.toMillis() + " ms: " + claim);
            }
            Thread.sleep(20);
        }
    }

    /** The exception and its causes in one line. */
    public static String chain(Throwable thrown) {
        StringBuilder line = new StringBuilder();
        for (Throwable cause = thrown; cause != null; cause = cause.getCause()) {
            line.append(line.isEmpty() ? "" : " <- ").append(cause.getClass().getSimpleName())
                .append(": ").append(cause.getMessage());
        }
        return line.toString();
    }

    private static String names(Class<?>[] kinds) {
        return String.join(" or ", Arrays.stream(kinds).map(Class::getSimpleName).toList());
    }

    private static String brief(Object value) {
        String text = String.valueOf(value);
        return text.length() <= 400 ? text : text.substring(0, 400) + "... (" + text.length() + " characters)";
    }
}

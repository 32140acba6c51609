package oncelog.harness;

import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Work beside the scenario's own thread, on threads that never keep the JVM alive. */
public final class Background {
    private static final ExecutorService THREADS = Executors.newCachedThreadPool(body -> {
        Thread thread = new Thread(body);
        thread.setDaemon(true);
        return thread;
    });

    private Background() {
    }

    /** Runs a step beside the caller. */
    public static Future<?> run(Check.Step step) {
        return THREADS.submit(() -> {
            step.run();
            return null;
        });
    }

    /** Computes a value beside the caller. */
    public static <T> Future<T> call(Callable<T> body) {
        return THREADS.submit(body);
    }
}

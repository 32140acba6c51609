package oncelog.harness;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/** A broker process that a scenario starts, kills and starts again on the same port and data directory. */
public final class Broker implements AutoCloseable {
    private static final Duration READY_WITHIN = Duration.ofSeconds(90);

    private final String binary;
    private final Path directory;
    private Process process;
    private int port;

    private Broker(String binary, Path directory) {
        this.binary = binary;
        this.directory = directory;
    }

    /** Starts a broker on a port of its own choice, with everything it writes below {@code directory}. */
    public static Broker start(String binary, Path directory) throws IOException, InterruptedException {
        Files.createDirectories(directory);
        Broker broker = new Broker(binary, directory);
        broker.start();
        return broker;
    }

    /** Starts the broker (again), on the port that it had before, and returns once it is ready. */
    public void start() throws IOException, InterruptedException {
        Path portFile = directory.resolve("port");
        Path output = directory.resolve("output");
        Files.deleteIfExists(portFile);
        Files.deleteIfExists(output);
        process = new ProcessBuilder(binary, "serve",
            "--listen", "127.0.0.1:" + port,
            "--data-dir", dataDirectory().toString(),
            "--port-file", portFile.toString())
            .redirectOutput(output.toFile())
            .redirectError(ProcessBuilder.Redirect.appendTo(directory.resolve("errors").toFile()))
            .start();
        Process started = process;
        Runtime.getRuntime().addShutdownHook(new Thread(started::destroyForcibly));
        long deadline = System.nanoTime() + READY_WITHIN.toNanos();
        while (!isReady(output, portFile)) {
            if (!process.isAlive()) {
                throw new IOException("the broker ended with " + process.exitValue() + " before it was ready: "
                    + Files.readString(directory.resolve("errors")));
            }
            if (System.nanoTime() > deadline) {
                throw new IOException("no line with `ready` within " + READY_WITHIN + ", see " + output);
            }
            Thread.sleep(10);
        }
        port = Integer.parseInt(Files.readString(portFile).trim());
    }

    private static boolean isReady(Path output, Path portFile) throws IOException {
        return Files.exists(portFile) && Files.size(portFile) > 0 && Files.readString(output).contains("ready");
    }

    /** Kills the process without a word (SIGKILL). */
    public void kill() throws InterruptedException {
        process.destroyForcibly().waitFor();
    }

    /** Asks the process to end (SIGTERM) and returns its exit status. */
    public int stop() throws InterruptedException {
        process.destroy();
        if (!process.waitFor(30, TimeUnit.SECONDS)) {
            kill();
            throw new AssertionError("the broker did not end within 30 s of SIGTERM");
        }
        return process.exitValue();
    }

    /** The processor time that the process has used. */
    public Duration cpuTime() {
        return process.info().totalCpuDuration().orElseThrow();
    }

    /** The address to give to clients. */
    public String bootstrap() {
        return "127.0.0.1:" + port;
    }

    /** Where the broker keeps its partitions. */
    public Path dataDirectory() {
        return directory.resolve("data");
    }

    @Override
    public void close() throws InterruptedException {
        if (process.isAlive()) {
            kill();
        }
    }
}

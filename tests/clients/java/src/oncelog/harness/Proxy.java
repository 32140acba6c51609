package oncelog.harness;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.common.message.ApiVersionsResponseData;
import org.apache.kafka.common.message.DescribeClusterResponseData;
import org.apache.kafka.common.message.FindCoordinatorResponseData;
import org.apache.kafka.common.message.MetadataResponseData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.requests.ResponseHeader;

/**
 * A proxy that knows requests from responses: it can lose or hold either of them for a given API, and cut the
 * connection. It puts its own address into the answers that name brokers, so that clients stay with it.
 */
public final class Proxy implements AutoCloseable {
    /** A request on its way. {@code frame} is the whole frame without its length. */
    public record Request(ApiKeys api, short version, int correlationId, byte[] frame) {
    }

    /** What a hook decides. */
    public enum Fate { PASS, CUT }

    /** Sees every request and response, may hold it by not returning, and decides whether the connection is cut instead. */
    public interface Hook {
        /** A request that has not reached the broker yet. */
        default Fate request(Request request) throws InterruptedException {
            return Fate.PASS;
        }

        /** The broker has answered this request; the client does not know yet. */
        default Fate response(Request request) throws InterruptedException {
            return Fate.PASS;
        }
    }

    private final String brokerHost;
    private final int brokerPort;
    private final ServerSocket listener;
    private final List<Socket> sockets = new CopyOnWriteArrayList<>();
    private final List<Hook> hooks = new CopyOnWriteArrayList<>();
    private final List<Request> seen = new CopyOnWriteArrayList<>();
    private volatile boolean hidesTransactionVersion;

    /** A proxy on a free port before the broker at {@code bootstrap}. */
    public Proxy(String bootstrap) throws IOException {
        int colon = bootstrap.lastIndexOf(':');
        brokerHost = bootstrap.substring(0, colon);
        brokerPort = Integer.parseInt(bootstrap.substring(colon + 1));
        listener = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
        daemon(this::accept);
    }

    /** The address for clients. */
    public String bootstrap() {
        return "127.0.0.1:" + listener.getLocalPort();
    }

    /** Adds a hook; hooks are asked in order until one cuts. */
    public <H extends Hook> H add(H hook) {
        hooks.add(hook);
        return hook;
    }

    /** Leaves {@code transaction.version} out of ApiVersions answers, so that clients fall back to the older protocol. */
    public Proxy hideTransactionVersion() {
        hidesTransactionVersion = true;
        return this;
    }

    /** The requests of one API that came by so far. */
    public List<Request> seen(ApiKeys api) {
        return seen.stream().filter(request -> request.api() == api).toList();
    }

    /** Cuts the connection instead of some requests or answers of an API: the {@code every}-th, {@code times} times. */
    public static final class Loss implements Hook {
        private final ApiKeys api;
        private final boolean answers;
        private final int every;
        private final int times;
        private final AtomicInteger count = new AtomicInteger();
        private final AtomicInteger lost = new AtomicInteger();

        private Loss(ApiKeys api, boolean answers, int every, int times) {
            this.api = api;
            this.answers = answers;
            this.every = every;
            this.times = times;
        }

        /** Loses answers: the broker has done what was asked. */
        public static Loss ofAnswers(ApiKeys api, int every, int times) {
            return new Loss(api, true, every, times);
        }

        /** Loses requests: the broker never hears of them. */
        public static Loss ofRequests(ApiKeys api, int every, int times) {
            return new Loss(api, false, every, times);
        }

        /** How many were lost so far. */
        public int lost() {
            return lost.get();
        }

        @Override
        public Fate request(Request request) {
            return answers ? Fate.PASS : decide(request);
        }

        @Override
        public Fate response(Request request) {
            return answers ? decide(request) : Fate.PASS;
        }

        private Fate decide(Request request) {
            if (request.api() != api || lost.get() >= times || count.incrementAndGet() % every != 0) {
                return Fate.PASS;
            }
            lost.incrementAndGet();
            return Fate.CUT;
        }
    }

    /** Cuts the connection now and then, instead of a request or of an answer, whatever the API. */
    public static final class RandomLoss implements Hook {
        private final Random random;
        private final double share;
        private volatile boolean ended;
        private int lost;

        /** Loses this share of all requests and of all answers. */
        public RandomLoss(long seed, double share) {
            random = new Random(seed);
            this.share = share;
        }

        /** How many were lost so far. */
        public synchronized int lost() {
            return lost;
        }

        /** Loses nothing from now on. */
        public void end() {
            ended = true;
        }

        @Override
        public synchronized Fate request(Request request) {
            if (ended || random.nextDouble() >= share) {
                return Fate.PASS;
            }
            lost++;
            return Fate.CUT;
        }

        @Override
        public synchronized Fate response(Request request) {
            return request(request);
        }
    }

    /** Holds the first request or answer of an API until it is let go. */
    public static final class Hold implements Hook {
        private final ApiKeys api;
        private final boolean answer;
        private final CountDownLatch reached = new CountDownLatch(1);
        private final CountDownLatch released = new CountDownLatch(1);

        /** Holds the answer, or else the request. */
        public Hold(ApiKeys api, boolean answer) {
            this.api = api;
            this.answer = answer;
        }

        /** Waits until there is something to hold. */
        public void await() throws InterruptedException {
            Check.that(reached.await(60, TimeUnit.SECONDS), "within a minute there is a request of " + api + " to hold");
        }

        /** Lets it go on. */
        public void release() {
            released.countDown();
        }

        @Override
        public Fate request(Request request) throws InterruptedException {
            return answer ? Fate.PASS : hold(request);
        }

        @Override
        public Fate response(Request request) throws InterruptedException {
            return answer ? hold(request) : Fate.PASS;
        }

        private Fate hold(Request request) throws InterruptedException {
            if (request.api() == api) {
                reached.countDown();
                released.await();
            }
            return Fate.PASS;
        }
    }

    private void accept() {
        try {
            while (true) {
                Socket client = listener.accept();
                sockets.add(client);
                daemon(() -> serve(client));
            }
        } catch (IOException closed) {
            // The proxy was closed.
        }
    }

    private void serve(Socket client) {
        try (client; Socket broker = new Socket(brokerHost, brokerPort)) {
            sockets.add(broker);
            client.setTcpNoDelay(true);
            broker.setTcpNoDelay(true);
            Map<Integer, Request> pending = new ConcurrentHashMap<>();
            Thread answers = daemon(() -> {
                forwardResponses(broker, client, pending);
                closeQuietly(client);
            });
            forwardRequests(client, broker, pending);
            closeQuietly(broker);
            answers.join();
        } catch (IOException | InterruptedException gone) {
            // Either side went away; both are closed now.
        }
    }

    private void forwardRequests(Socket client, Socket broker, Map<Integer, Request> pending) {
        try {
            DataInputStream in = new DataInputStream(client.getInputStream());
            DataOutputStream out = new DataOutputStream(broker.getOutputStream());
            while (true) {
                byte[] frame = Wire.read(in);
                ByteBuffer header = ByteBuffer.wrap(frame);
                Request request = new Request(ApiKeys.forId(header.getShort()), header.getShort(), header.getInt(), frame);
                seen.add(request);
                for (Hook hook : hooks) {
                    if (hook.request(request) == Fate.CUT) {
                        return;
                    }
                }
                pending.put(request.correlationId(), request);
                Wire.write(out, frame);
            }
        } catch (IOException | InterruptedException gone) {
            // The client has gone.
        }
    }

    private void forwardResponses(Socket broker, Socket client, Map<Integer, Request> pending) {
        try {
            DataInputStream in = new DataInputStream(broker.getInputStream());
            DataOutputStream out = new DataOutputStream(client.getOutputStream());
            while (true) {
                byte[] frame = Wire.read(in);
                Request request = pending.remove(ByteBuffer.wrap(frame).getInt());
                for (Hook hook : hooks) {
                    if (hook.response(request) == Fate.CUT) {
                        return;
                    }
                }
                Wire.write(out, rewrite(request, frame));
            }
        } catch (IOException | InterruptedException gone) {
            // The broker has gone.
        }
    }

    private byte[] rewrite(Request request, byte[] frame) {
        short version = request.version();
        ByteBuffer buffer = ByteBuffer.wrap(frame);
        short headerVersion = request.api().responseHeaderVersion(version);
        ResponseHeader header = ResponseHeader.parse(buffer, headerVersion);
        ByteBufferAccessor body = new ByteBufferAccessor(buffer);
        ApiMessage message;
        switch (request.api()) {
            case METADATA -> {
                MetadataResponseData data = new MetadataResponseData(body, version);
                data.brokers().forEach(broker -> broker.setHost("127.0.0.1").setPort(listener.getLocalPort()));
                message = data;
            }
            case FIND_COORDINATOR -> {
                FindCoordinatorResponseData data = new FindCoordinatorResponseData(body, version);
                data.setHost("127.0.0.1").setPort(listener.getLocalPort());
                data.coordinators().forEach(broker -> broker.setHost("127.0.0.1").setPort(listener.getLocalPort()));
                message = version >= 4 ? data.setHost("").setPort(0) : data;
            }
            case DESCRIBE_CLUSTER -> {
                DescribeClusterResponseData data = new DescribeClusterResponseData(body, version);
                data.brokers().forEach(broker -> broker.setHost("127.0.0.1").setPort(listener.getLocalPort()));
                message = data;
            }
            case API_VERSIONS -> {
                if (!hidesTransactionVersion) {
                    return frame;
                }
                ApiVersionsResponseData data = new ApiVersionsResponseData(body, version);
                data.supportedFeatures().removeIf(feature -> feature.name().equals("transaction.version"));
                data.finalizedFeatures().removeIf(feature -> feature.name().equals("transaction.version"));
                message = data;
            }
            default -> {
                return frame;
            }
        }
        ByteBuffer head = MessageUtil.toByteBufferAccessor(header.data(), headerVersion).buffer();
        ByteBuffer rest = MessageUtil.toByteBufferAccessor(message, version).buffer();
        return ByteBuffer.allocate(head.remaining() + rest.remaining()).put(head).put(rest).array();
    }

    private static Thread daemon(Runnable body) {
        Thread thread = new Thread(body, "proxy");
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private static void closeQuietly(Socket socket) {
        try {
            socket.close();
        } catch (IOException ignored) {
            // It is gone either way.
        }
    }

    @Override
    public void close() throws IOException {
        listener.close();
        sockets.forEach(Proxy::closeQuietly);
    }
}

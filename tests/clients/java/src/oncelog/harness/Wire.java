package oncelog.harness;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.nio.ByteBuffer;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.requests.ResponseHeader;

/** A connection without a client: one request, one answer, exactly as given. */
public final class Wire implements AutoCloseable {
    private final Socket socket;
    private final DataInputStream in;
    private final DataOutputStream out;
    private int correlationId;

    /** Connects to a broker. */
    public Wire(String bootstrap) throws IOException {
        int colon = bootstrap.lastIndexOf(':');
        socket = new Socket(bootstrap.substring(0, colon), Integer.parseInt(bootstrap.substring(colon + 1)));
        socket.setTcpNoDelay(true);
        socket.setSoTimeout(30_000);
        in = new DataInputStream(socket.getInputStream());
        out = new DataOutputStream(socket.getOutputStream());
    }

    /** Sends a request and returns the body of the answer, from which the caller builds the message. */
    public ByteBufferAccessor call(ApiKeys api, int version, ApiMessage request) throws IOException {
        RequestHeaderData header = new RequestHeaderData().setRequestApiKey(api.id).setRequestApiVersion((short) version)
            .setCorrelationId(++correlationId).setClientId("wire");
        ByteBuffer head = MessageUtil.toByteBufferAccessor(header, api.requestHeaderVersion((short) version)).buffer();
        ByteBuffer body = MessageUtil.toByteBufferAccessor(request, (short) version).buffer();
        return exchange(api, version, ByteBuffer.allocate(head.remaining() + body.remaining()).put(head).put(body).array());
    }

    /** Sends a whole frame, without its length, and returns the body of the answer. */
    public ByteBufferAccessor exchange(ApiKeys api, int version, byte[] frame) throws IOException {
        write(out, frame);
        ByteBuffer answer = ByteBuffer.wrap(read(in));
        ResponseHeader.parse(answer, api.responseHeaderVersion((short) version));
        return new ByteBufferAccessor(answer);
    }

    /** Reads a frame behind its length. */
    static byte[] read(DataInputStream in) throws IOException {
        byte[] frame = new byte[in.readInt()];
        in.readFully(frame);
        return frame;
    }

    /** Writes a frame behind its length. */
    static void write(DataOutputStream out, byte[] frame) throws IOException {
        out.write(ByteBuffer.allocate(4 + frame.length).putInt(frame.length).put(frame).array());
        out.flush();
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}

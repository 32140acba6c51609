// Short forms for kafkajs: producers, readers, the codecs it leaves to others.

import kafkajs from 'kafkajs';
import SnappyCodec from 'kafkajs-snappy';
import lz4 from 'lz4js';
import xxh32 from 'lz4js/xxh32.js';
import zstd from '@bokuweb/zstd-wasm';
import { settle, unique } from './broker.js';

const { Kafka, CompressionCodecs, CompressionTypes, Partitioners, logLevel } = kafkajs;
await zstd.init();
const codec = (pack, unpack) => () => ({
  compress: async (encoder) => Buffer.from(pack(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(unpack(buffer)),
});
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec;
CompressionCodecs[CompressionTypes.LZ4] = codec((data) => {
  const frame = lz4.compress(data);
  // Kafka takes only frames that say that their blocks are independent; these are, but do not say so.
  frame[4] |= 0x20;
  frame[6] = (xxh32.hash(0, frame, 4, 2) >> 8) & 0xff;
  return frame;
}, lz4.decompress);
CompressionCodecs[CompressionTypes.ZSTD] = codec(zstd.compress, zstd.decompress);
export { CompressionTypes };

export function kafka(address, config = {}) {
  const retry = { initialRetryTime: 100, maxRetryTime: 500, retries: 100 };
  return new Kafka({ clientId: 'suite', brokers: [address], logLevel: logLevel.NOTHING, retry, ...config });
}

/** Calls `use` with a connected admin client. */
export async function withAdmin(address, use) {
  const admin = kafka(address, { retry: { retries: 3 } }).admin();
  await admin.connect();
  try {
    return await use(admin);
  } finally {
    await admin.disconnect();
  }
}

export async function createTopic(address, name, numPartitions = 1) {
  const topic = unique(name);
  await withAdmin(address, (admin) => admin.createTopics({ topics: [{ topic, numPartitions }], waitForLeaders: false }));
  await settle();
  return topic;
}

export async function producer(address, config = {}) {
  const client = kafka(address).producer({
    idempotent: true, maxInFlightRequests: 1, createPartitioner: Partitioners.DefaultPartitioner, ...config,
  });
  await client.connect();
  return client;
}

/** A transactional producer; kafkajs initializes the transactional id with the first `transaction()`. */
export const transactional = (address, transactionalId, config = {}) => producer(address, { transactionalId, ...config });

export const messages = (values, partition = 0) => values.map((value) => ({ value, partition }));
export const numbered = (prefix, count, from = 0) => Array.from({ length: count }, (_, i) => `${prefix} ${from + i}`);

/** A consumer that hands each record to `each`; ended by `disconnect`. */
export async function follow(address, topics, each, { groupId = unique('reader'), onJoin, ...config } = {}) {
  const consumer = kafka(address).consumer({
    groupId, readUncommitted: false, maxWaitTimeInMs: 100, sessionTimeout: 10_000, heartbeatInterval: 300, ...config,
  });
  if (onJoin) consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => onJoin(payload.memberAssignment));
  await consumer.connect();
  await consumer.subscribe({ topics: [topics].flat(), fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ topic, partition, message }) => each({ topic, partition, ...message }),
  });
  return consumer;
}

/**
 * All records of a topic by partition. kafkajs does not tell the end of a partition, so a last record is written to each;
 * with `readUncommitted: false` it is seen only when no transaction is open before it.
 */
export async function read(address, topic, partitions = 1, config = {}) {
  const end = unique('end');
  const last = await producer(address);
  for (let p = 0; p < partitions; p++) await last.send({ topic, messages: messages([end], p) });
  await last.disconnect();
  const records = Array.from({ length: partitions }, () => []);
  let ended = 0;
  let finish;
  const done = new Promise((resolve) => { finish = resolve; });
  const consumer = await follow(address, topic, (record) => {
    if (record.value?.toString() !== end) records[record.partition].push(record);
    else if (++ended === partitions) finish();
  }, config);
  await done;
  await consumer.disconnect();
  return records.map((list) => list.filter((record) => !record.value?.toString().startsWith('end-')));
}

export async function readValues(address, topic, partitions = 1, config = {}) {
  const records = await read(address, topic, partitions, config);
  return records.map((list) => list.map((record) => record.value.toString()));
}

export async function highWatermark(address, topic, partition = 0) {
  const offsets = await withAdmin(address, (admin) => admin.fetchTopicOffsets(topic));
  return Number(offsets.find((one) => one.partition === partition).high);
}

/** The error that the call is refused with. */
export async function errorOf(call) {
  try {
    await call;
  } catch (error) {
    return error;
  }
  throw new Error('the call succeeded');
}

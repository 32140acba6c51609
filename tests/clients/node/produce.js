import assert from 'node:assert/strict';
import { eventually } from './broker.js';
import { CompressionTypes, createTopic, highWatermark, messages, numbered, producer, read, readValues } from './clients.js';

export async function everyCodecCarriesKeysHeadersAndNulls(address) {
  const codecs = Object.entries(CompressionTypes);
  const topic = await createTopic(address, 'codecs', codecs.length);
  const sent = Array.from({ length: 40 }, (_, i) => ({
    key: i % 3 === 0 ? null : `key ${i}`,
    value: i % 5 === 0 ? null : `value ${i} `.repeat(i),
    headers: { number: `${i}`, twice: ['a', 'b'], empty: '' },
    timestamp: `${1_700_000_000_000 + i}`,
  }));
  const client = await producer(address);
  for (const [partition, [, compression]] of codecs.entries()) {
    await client.send({ topic, compression, messages: sent.map((message) => ({ ...message, partition })) });
  }
  await client.disconnect();
  const text = (value) => (Array.isArray(value) ? value.map(String) : value === null ? null : String(value));
  const got = await read(address, topic, codecs.length);
  for (const [partition, [name]] of codecs.entries()) {
    const plain = got[partition].map(({ key, value, headers, timestamp }) => ({
      key: text(key), value: text(value), timestamp,
      headers: Object.fromEntries(Object.entries(headers).map(([k, v]) => [k, text(v)])),
    }));
    assert.deepEqual(plain, sent, name);
  }
}

export async function idempotentRecordsSurviveKill9OnceAndInOrder(broker) {
  await broker.start();
  const topic = await createTopic(broker.address, 'idempotent');
  const client = await producer(broker.address);
  const values = numbered('record', 1000);
  const offsets = [];
  const sending = (async () => {
    for (let i = 0; i < 1000; i += 10) {
      const [answer] = await client.send({ topic, messages: messages(values.slice(i, i + 10)) });
      offsets.push(Number(answer.baseOffset));
    }
  })();
  await eventually('half are written', () => offsets.length > 30);
  await broker.restart();
  await sending;
  assert.deepEqual(offsets, Array.from({ length: 100 }, (_, i) => i * 10));
  assert.equal(await highWatermark(broker.address, topic), 1000);
  assert.deepEqual(await readValues(broker.address, topic), [values]);
  await client.disconnect();
}
idempotentRecordsSurviveKill9OnceAndInOrder.ownBroker = true;

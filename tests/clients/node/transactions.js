import assert from 'node:assert/strict';
import { eventually, settle, sleep, unique } from './broker.js';
import { createTopic, errorOf, follow, highWatermark, messages, producer, readValues, transactional } from './clients.js';

export async function commitsAndAbortsAreAtomicOverTopicsAndPartitions(address) {
  const topics = [await createTopic(address, 'atomic', 2), await createTopic(address, 'atomic', 2)];
  const client = await transactional(address, unique('atomic'));
  for (const [name, end] of [['first', 'commit'], ['second', 'abort'], ['third', 'commit']]) {
    const transaction = await client.transaction();
    for (const topic of topics) {
      for (const partition of [0, 1]) await transaction.send({ topic, messages: messages([`${name} 1`, `${name} 2`], partition) });
    }
    await transaction[end]();
    await settle();
  }
  await client.disconnect();
  const [committed, all] = [['first 1', 'first 2', 'third 1', 'third 2'], ['first 1', 'first 2', 'second 1', 'second 2', 'third 1', 'third 2']];
  for (const topic of topics) assert.equal(await highWatermark(address, topic, 1), 9);
  assert.deepEqual(await readValues(address, topics[0], 2), [committed, committed]);
  assert.deepEqual(await readValues(address, topics[1], 2), [committed, committed]);
  assert.deepEqual(await readValues(address, topics[1], 2, { readUncommitted: true }), [all, all]);
}

export async function anOpenTransactionHoldsBackALaterCommittedOne(address) {
  const topic = await createTopic(address, 'held-back');
  const seen = [];
  const reader = await follow(address, topic, (record) => seen.push(record.value.toString()));
  const [slow, quick] = [await transactional(address, unique('slow')), await transactional(address, unique('quick'))];
  const plain = await producer(address);
  await plain.send({ topic, messages: messages(['plain']) });
  const open = await slow.transaction();
  await open.send({ topic, messages: messages(['slow']) });
  const short = await quick.transaction();
  await short.send({ topic, messages: messages(['quick']) });
  await short.commit();
  await eventually('what comes before is read', () => seen.length > 0);
  await sleep(700);
  assert.deepEqual(seen, ['plain']);
  await open.commit();
  await eventually('both are read', () => seen.length === 3);
  assert.deepEqual(seen, ['plain', 'slow', 'quick']);
  for (const client of [reader, slow, quick, plain]) await client.disconnect();
}

async function leaveOpen(address, topic, transactionalId, transactionTimeout) {
  const client = await transactional(address, transactionalId, { transactionTimeout });
  const transaction = await client.transaction();
  await transaction.send({ topic, messages: messages(['left behind']) });
  await client.disconnect();
}

export async function aProducerThatDiesIsAbortedByTimeoutAndReadersGoOn(address) {
  const topic = await createTopic(address, 'timeout');
  await leaveOpen(address, topic, unique('dies'), 2000);
  const living = await transactional(address, unique('lives'));
  const transaction = await living.transaction();
  await transaction.send({ topic, messages: messages(['kept']) });
  await transaction.commit();
  await living.disconnect();
  assert.deepEqual(await readValues(address, topic), [['kept']]);
}

export async function aNewInstanceAbortsWhatACrashedOneLeft(address) {
  const [topic, id] = [await createTopic(address, 'init'), unique('crashed')];
  await leaveOpen(address, topic, id, 60_000);
  const heir = await transactional(address, id);
  const transaction = await heir.transaction();
  await settle();
  assert.equal(await highWatermark(address, topic), 2, 'the record and the marker of its abort');
  await transaction.send({ topic, messages: messages(['new life']) });
  await transaction.commit();
  await heir.disconnect();
  assert.deepEqual(await readValues(address, topic), [['new life']]);
}

export async function aZombieIsFencedAtEachCall(address) {
  const topic = await createTopic(address, 'zombie');
  const calls = {
    send: (transaction) => transaction.send({ topic, messages: messages(['too late']) }),
    sendOffsets: (transaction) => transaction.sendOffsets({
      consumerGroupId: unique('group'), topics: [{ topic, partitions: [{ partition: 0, offset: '1' }] }],
    }),
    commit: (transaction) => transaction.commit(),
    abort: (transaction) => transaction.abort(),
  };
  for (const [name, call] of Object.entries(calls)) {
    const id = unique('zombie');
    const zombie = await transactional(address, id, { retry: { retries: 1 } });
    const transaction = await zombie.transaction();
    await transaction.send({ topic, messages: messages(['zombie']) });
    const heir = await transactional(address, id);
    await (await heir.transaction()).abort();
    const error = await errorOf(call(transaction));
    const type = error.type ?? error.cause?.type;
    assert.ok(['INVALID_PRODUCER_EPOCH', 'PRODUCER_FENCED'].includes(type), `${name}: ${error} ${type}`);
    await zombie.disconnect();
    await heir.disconnect();
  }
  assert.deepEqual(await readValues(address, topic), [[]]);
}

export async function aTransactionTimeoutAboveTheMaximumIsRefused(address) {
  const client = await transactional(address, unique('patient'), { transactionTimeout: 900_001 });
  const error = await errorOf(client.transaction());
  assert.equal(error.type ?? error.cause?.type, 'INVALID_TRANSACTION_TIMEOUT', `${error}`);
  await client.disconnect();
}

export async function transactionsSurviveKill9(broker) {
  await broker.start();
  const address = broker.address;
  const topic = await createTopic(address, 'survives', 2);
  const id = unique('goes-on');
  let client = await transactional(address, id);
  const first = await client.transaction();
  await first.send({ topic, messages: messages(['before']) });
  await first.commit();
  const abandoned = unique('abandoned');
  await leaveOpen(address, topic, abandoned, 60_000);
  let second = await client.transaction();
  await second.send({ topic, messages: messages(['one half'], 1) });
  await broker.restart();
  if (process.env.DURABILITY === 'fsync') {
    const error = await errorOf(second.send({ topic, messages: messages(['other half'], 1) }));
    assert.ok(['INVALID_PRODUCER_EPOCH', 'PRODUCER_FENCED'].includes(error.type ?? error.cause?.type), `${error}`);
    await client.disconnect();
    client = await transactional(address, id);
    second = await client.transaction();
    await second.send({ topic, messages: messages(['one half'], 1) });
  }
  await second.send({ topic, messages: messages(['other half'], 1) });
  await second.commit();
  const heir = await transactional(address, abandoned);
  await (await heir.transaction()).abort();
  await heir.disconnect();
  await client.disconnect();
  assert.deepEqual(await readValues(address, topic, 2), [['before'], ['one half', 'other half']]);
}
transactionsSurviveKill9.ownBroker = true;

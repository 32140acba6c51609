import assert from 'node:assert/strict';
import { eventually, settle, unique } from './broker.js';
import { createTopic, follow, kafka, messages, numbered, producer, readValues, transactional, withAdmin } from './clients.js';

async function committed(address, groupId, topic) {
  const [answer] = await withAdmin(address, (admin) => admin.fetchOffsets({ groupId, topics: [topic] }));
  return answer.partitions.sort((a, b) => a.partition - b.partition).map((p) => Number(p.offset));
}

/** Copies batch by batch, offsets within the transaction; `stop` may end the copy at a step by throwing. */
async function copy(address, { source, target, groupId, id, stop, until }) {
  const client = await transactional(address, id);
  const consumer = kafka(address, { retry: { retries: 0 } }).consumer({
    groupId, readUncommitted: false, maxWaitTimeInMs: 100, sessionTimeout: 6000, heartbeatInterval: 300, maxBytesPerPartition: 200,
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [source], fromBeginning: true });
  let finish;
  const finished = new Promise((resolve) => { finish = resolve; });
  let batches = 0;
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset }) => {
      batches += 1;
      const transaction = await client.transaction();
      const at = (step) => {
        if (batches !== 2 || stop !== step) return;
        finish();
        throw new Error('the process ends here');
      };
      await transaction.send({ topic: target, messages: messages(batch.messages.map((m) => `seen ${m.value}`), batch.partition) });
      at('send');
      const offset = `${Number(batch.lastOffset()) + 1}`;
      await transaction.sendOffsets({
        consumerGroupId: groupId, topics: [{ topic: source, partitions: [{ partition: batch.partition, offset }] }],
      });
      at('sendOffsets');
      await transaction.commit();
      resolveOffset(batch.lastOffset());
      if (until && Number(offset) === until) finish();
    },
  });
  await finished;
  await consumer.disconnect();
  await client.disconnect();
}

async function copyAcrossAnEnd(address, stop) {
  const [source, target] = [await createTopic(address, 'source'), await createTopic(address, 'target')];
  const job = { source, target, groupId: unique('copy'), id: unique('copy') };
  const feeder = await producer(address);
  for (let i = 0; i < 50; i += 5) await feeder.send({ topic: source, messages: messages(numbered('value', 5, i)) });
  await feeder.disconnect();
  await copy(address, { ...job, stop });
  await copy(address, { ...job, until: 50 });
  await settle();
  assert.deepEqual(await committed(address, job.groupId, source), [50]);
  assert.deepEqual(await readValues(address, target), [numbered('seen value', 50)]);
}

export async function theCopyIsExactWhenItEndsAfterSend(address) {
  await copyAcrossAnEnd(address, 'send');
}

export async function theCopyIsExactWhenItEndsAfterSendOffsets(address) {
  await copyAcrossAnEnd(address, 'sendOffsets');
}

export async function threeMembersShareThePartitionsThroughRebalances(address) {
  const topic = await createTopic(address, 'shared', 6);
  const groupId = unique('three');
  const assigned = new Map();
  const seen = [];
  const join = (name) => follow(address, topic, (record) => seen.push(record.value.toString()), {
    groupId, onJoin: (assignment) => assigned.set(name, assignment[topic] ?? []),
  });
  const shares = async (...wanted) => {
    await eventually(`shares are ${wanted}`, () => {
      const counts = [...assigned.values()].map((partitions) => partitions.length).sort();
      return JSON.stringify(counts) === JSON.stringify(wanted);
    });
    assert.deepEqual([...assigned.values()].flat().sort(), [0, 1, 2, 3, 4, 5]);
  };
  const first = await join('first');
  const second = await join('second');
  await shares(3, 3);
  const third = await join('third');
  await shares(2, 2, 2);
  await third.disconnect();
  assigned.delete('third');
  await shares(3, 3);
  const client = await producer(address);
  for (let p = 0; p < 6; p++) await client.send({ topic, messages: messages([`${p}`], p) });
  await eventually('all are read', () => seen.length >= 6);
  assert.deepEqual(seen.sort(), ['0', '1', '2', '3', '4', '5']);
  for (const one of [first, second, client]) await one.disconnect();
}

export async function committedOffsetsAreWhereTheNextMemberBegins(address) {
  const topic = await createTopic(address, 'resume');
  const groupId = unique('resume');
  const client = await producer(address);
  await client.send({ topic, messages: messages(numbered('value', 10)) });
  await client.disconnect();
  await withAdmin(address, (admin) => admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '4' }] }));
  const seen = [];
  const member = await follow(address, topic, (record) => seen.push(record.value.toString()), { groupId });
  await eventually('the rest is read', () => seen.length >= 6);
  assert.deepEqual(seen, numbered('value', 6, 4));
  await member.commitOffsets([{ topic, partition: 0, offset: '10', metadata: 'note' }]);
  assert.deepEqual(await committed(address, groupId, topic), [10]);
  await member.disconnect();
}

import assert from 'node:assert/strict';
import kafkajs from 'kafkajs';
import { eventually, settle, unique } from './broker.js';
import { createTopic, errorOf, follow, messages, producer, withAdmin } from './clients.js';

const { ConfigResourceTypes } = kafkajs;

export async function topicsAreCreatedGrownAndDeleted(address) {
  const topic = unique('topic');
  await withAdmin(address, async (admin) => {
    assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 2 }] }), true);
    await settle();
    assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 2 }] }), false, 'it is there already');
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
    await settle();
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    assert.equal(topics[0].partitions.length, 3);
    const error = await errorOf(admin.createTopics({ topics: [{ topic: 'not/allowed' }] }));
    assert.equal((error.errors?.[0] ?? error).type, 'INVALID_TOPIC_EXCEPTION');
    await admin.deleteTopics({ topics: [topic] });
    await settle();
    assert.ok(!(await admin.listTopics()).includes(topic));
  });
}

export async function configsAreDescribedAndAltered(address) {
  const topic = await createTopic(address, 'configs');
  await withAdmin(address, async (admin) => {
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic };
    const value = async (name) => {
      const { resources } = await admin.describeConfigs({ includeSynonyms: true, resources: [{ ...resource, configNames: [name] }] });
      return resources[0].configEntries.map((entry) => [entry.configName, entry.configValue]);
    };
    assert.deepEqual(await value('retention.ms'), [['retention.ms', '604800000']]);
    await admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '5000' }] }] });
    await settle();
    assert.deepEqual(await value('retention.ms'), [['retention.ms', '5000']]);
  });
}

export async function offsetsAreFoundByTimeAndRecordsDeleted(address) {
  const topic = await createTopic(address, 'offsets');
  const client = await producer(address);
  for (const time of [5000, 6000, 7000]) {
    await client.send({ topic, messages: [{ value: 'x', partition: 0, timestamp: `${1_600_000_000_000 + time}` }] });
  }
  await client.disconnect();
  await withAdmin(address, async (admin) => {
    const offsets = async () => (await admin.fetchTopicOffsets(topic)).map(({ low, high }) => [low, high]);
    assert.deepEqual(await offsets(), [['0', '3']]);
    assert.equal((await admin.fetchTopicOffsetsByTimestamp(topic, 1_600_000_005_500))[0].offset, '1');
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '2' }] });
    assert.deepEqual(await offsets(), [['2', '3']]);
  });
}

export async function groupsAreListedDescribedAndDeleted(address) {
  const [topic, groupId] = [await createTopic(address, 'grouped', 2), unique('group')];
  const client = await producer(address);
  await client.send({ topic, messages: messages(['x']) });
  await client.disconnect();
  let seen = 0;
  const member = await follow(address, topic, () => { seen += 1; }, { groupId });
  await eventually('it is read', () => seen === 1);
  await withAdmin(address, async (admin) => {
    const { groups: listed } = await admin.listGroups();
    assert.equal(listed.find((group) => group.groupId === groupId).protocolType, 'consumer');
    const { groups: [described] } = await admin.describeGroups([groupId]);
    assert.equal(described.state, 'Stable');
    assert.equal(described.members[0].clientId, 'suite');
    await member.disconnect();
    const { groups: [empty] } = await admin.describeGroups([groupId]);
    assert.equal(empty.state, 'Empty');
    await admin.deleteGroups([groupId]);
    const { groups: rest } = await admin.listGroups();
    assert.ok(!rest.some((group) => group.groupId === groupId));
  });
}

export async function theClusterHasOneBrokerAtTheAddressWeCame(address) {
  await withAdmin(address, async (admin) => {
    const { brokers, controller, clusterId } = await admin.describeCluster();
    assert.deepEqual(brokers.map(({ host, port }) => `${host}:${port}`), [address]);
    assert.equal(controller, brokers[0].nodeId);
    assert.equal(clusterId.length, 22);
  });
}

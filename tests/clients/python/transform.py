"""The consume-transform-produce loop, in exactly-once fashion.

Run as a program it is the process that crashes: `transform.py ADDRESS SOURCE TARGET PARTITIONS GROUP ID COUNT STEP`
copies COUNT records and dies by SIGKILL at STEP of its second transaction (`never` for none).
"""

import os
import signal
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from clients import committed, group_consumer, transactional


class Transformer:
    """One member of the group with a transactional producer; `step()` copies at most one small batch."""

    def __init__(self, address, source, target, group, transactional_id, at_step=lambda name, producer: None, **config):
        self.target = target
        self.at_step = at_step
        self.batch = []
        self.rebalances = 0
        self.producer = transactional(address, transactional_id)
        self.consumer = group_consumer(address, group, **config)
        self.consumer.subscribe([source], on_assign=self.rebalanced, on_revoke=self.rebalanced, on_lost=self.rebalanced)

    def rebalanced(self, _consumer, _partitions):
        self.rebalances += 1
        # What was polled before is read again from the committed offset by whoever has the partition now.
        self.batch.clear()

    def step(self):
        for _ in range(20):
            record = self.consumer.poll(0.1)
            if record is None:
                break
            if record.error():
                raise KafkaException(record.error())
            self.batch.append(record)
        if self.batch:
            self.at_step("after_poll", self.producer)
            try:
                self.copy()
            except KafkaException as failure:
                if not failure.args[0].txn_requires_abort():
                    raise
                self.producer.abort_transaction(30)
                self.rewind()
            self.batch.clear()

    def copy(self):
        self.producer.begin_transaction()
        next_offsets = {}
        for record in self.batch:
            self.producer.produce(self.target, b"seen " + record.value(), partition=record.partition())
            next_offsets[record.topic(), record.partition()] = record.offset() + 1
        self.producer.flush(30)
        self.at_step("after_send", self.producer)
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in next_offsets.items()]
        self.producer.send_offsets_to_transaction(offsets, self.consumer.consumer_group_metadata(), 30)
        self.at_step("after_send_offsets", self.producer)
        self.at_step("during_commit", self.producer)
        while True:
            try:
                return self.producer.commit_transaction(30)
            except KafkaException as failure:
                if not failure.args[0].retriable():
                    raise

    def rewind(self):
        for partition in self.consumer.committed(self.consumer.assignment(), 30):
            if partition.offset < 0:
                partition.offset = OFFSET_BEGINNING
            self.consumer.seek(partition)

    def close(self):
        self.consumer.close()


def main(address, source, target, partitions, group, transactional_id, count, crash_step):
    seen = []

    def at_step(name, producer):
        if name != crash_step:
            return
        seen.append(name)
        if len(seen) == 2:
            if name == "during_commit":
                threading.Thread(target=producer.commit_transaction, daemon=True).start()
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGKILL)

    transformer = Transformer(address, source, target, group, transactional_id, at_step, group_instance_id="the-only-one")
    while sum(offset or 0 for offset in committed(address, group, source, int(partitions))) < int(count):
        transformer.step()
    transformer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

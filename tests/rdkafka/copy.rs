//! The consume-transform-produce loop, exactly once: output and offsets go into one transaction.

use std::net::SocketAddr;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::Producer as _;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::clients::{self, Member, PATIENCE, Producer};

/// Where a copy can be stopped dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Records are read, no transaction has begun.
    AfterPoll,
    /// The output is acknowledged.
    AfterSend,
    /// The offsets are in the transaction.
    AfterSendOffsets,
    /// The commit is about to be sent.
    BeforeCommit,
}

/// A member of a group that writes `seen <value>` for each value, into the partition of the same number.
pub struct Copier {
    producer: Producer,
    member: Member,
    target: String,
}

impl Copier {
    /// Joins the group; aborts what an earlier copier with the same transactional id left open.
    pub fn start(
        address: SocketAddr,
        source: &str,
        target: &str,
        group: &str,
        transactional_id: &str,
        options: &[(&str, &str)],
    ) -> Copier {
        let producer = clients::transactional(address, transactional_id, &[]);
        let member = clients::member(address, group, source, options);
        Copier { producer, member, target: target.to_string() }
    }

    /// The member of the group.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// How many records of the source the group has committed.
    pub fn committed(&self, source: &str, partitions: i32) -> i64 {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(source, 0, partitions - 1);
        let found = self.member.committed_offsets(list, PATIENCE).expect("offsets can be fetched");
        found
            .elements()
            .iter()
            .map(|one| if let Offset::Offset(offset) = one.offset() { offset } else { 0 })
            .sum()
    }

    /// Copies at most ten records in one transaction and says how many were committed. `at` is called at each step.
    pub fn copy_some(&self, at: &mut dyn FnMut(Step)) -> usize {
        let batch = self.poll_batch();
        if batch.is_empty() {
            return 0;
        }
        at(Step::AfterPoll);
        match self.transact(&batch, at) {
            Ok(()) => batch.len(),
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                self.producer.abort_transaction(PATIENCE).expect("an abortable transaction can be aborted");
                self.rewind();
                0
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// What can be read at once. Records read before a rebalance are dropped: their next owner reads them again.
    fn poll_batch(&self) -> Vec<(String, i32, i64, String)> {
        let mut batch = Vec::new();
        let mut rebalances = self.member.context().count();
        while batch.len() < 10 {
            let polled = self.member.poll(Duration::from_millis(50));
            if rebalances != self.member.context().count() {
                rebalances = self.member.context().count();
                batch.clear();
            }
            match polled {
                None => break,
                Some(Ok(record)) => {
                    let value = record.payload_view::<str>().expect("a value").expect("text");
                    batch.push((
                        record.topic().to_string(),
                        record.partition(),
                        record.offset(),
                        value.to_string(),
                    ));
                }
                Some(Err(error)) if error.rdkafka_error_code().is_some() => {}
                Some(Err(error)) => panic!("{error}"),
            }
        }
        batch
    }

    fn transact(&self, batch: &[(String, i32, i64, String)], at: &mut dyn FnMut(Step)) -> KafkaResult<()> {
        self.producer.begin_transaction()?;
        let mut next = TopicPartitionList::new();
        for (topic, partition, offset, value) in batch {
            clients::enqueue(&self.producer, &self.target, *partition, &format!("seen {value}"));
            let offset = Offset::Offset(offset + 1);
            match next.find_partition(topic, *partition) {
                Some(_) => next.set_partition_offset(topic, *partition, offset)?,
                None => next.add_partition_offset(topic, *partition, offset)?,
            }
        }
        self.producer.flush(PATIENCE)?;
        at(Step::AfterSend);
        let group = self.member.group_metadata().expect("a consumer in a group");
        while let Err(error) = self.producer.send_offsets_to_transaction(&next, &group, PATIENCE) {
            match error {
                KafkaError::Transaction(error) if error.is_retriable() => {}
                error => return Err(error),
            }
        }
        at(Step::AfterSendOffsets);
        at(Step::BeforeCommit);
        clients::commit(&self.producer)
    }

    /// Goes back to the committed offsets.
    fn rewind(&self) {
        let committed = self.member.committed(PATIENCE).expect("offsets can be fetched");
        for partition in committed.elements() {
            let offset =
                if partition.offset() == Offset::Invalid { Offset::Beginning } else { partition.offset() };
            // A partition that went to another member in between needs no rewinding.
            let _ = self.member.seek(partition.topic(), partition.partition(), offset, PATIENCE);
        }
    }
}

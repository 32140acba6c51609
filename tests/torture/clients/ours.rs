//! Short forms for our own client: what meets a broken connection is done again over a new one, all other errors end the
//! process.

use oncelog_client::{Client, ClientError, Producer, ProducerOptions, Result};

use super::{PATIENCE, Role, Stage, TRANSACTION_TIMEOUT, fail};
use crate::history::{Place, Value};

/// A client, once there is a broker.
pub fn client(role: &Role) -> Client {
    Client::connect_within(role.address, &role.name, PATIENCE).unwrap_or_else(|error| fail(error))
}

/// Makes a client's call, over a new connection where the old one breaks.
pub fn insist<T>(client: &mut Client, role: &Role, mut call: impl FnMut(&mut Client) -> Result<T>) -> T {
    loop {
        match call(client) {
            Ok(answer) => return answer,
            Err(ClientError::Io(_) | ClientError::Closed) => *client = self::client(role),
            Err(error) => fail(error),
        }
    }
}

/// A transactional producer that is let in.
pub fn producer(role: &Role, stage: &Stage) -> Producer {
    let options = ProducerOptions { transaction_timeout: TRANSACTION_TIMEOUT, ..ProducerOptions::default() };
    stage.enters();
    loop {
        match Producer::transactional(client(role), &role.name, options.clone()) {
            Ok(producer) => {
                stage.is_in();
                return producer;
            }
            Err(ClientError::Io(_) | ClientError::Closed) => {}
            Err(error) => fail(error),
        }
    }
}

/// Makes a producer's call, over a new connection where the old one breaks.
pub fn persist<T>(
    producer: &mut Producer,
    role: &Role,
    mut call: impl FnMut(&mut Producer) -> Result<T>,
) -> T {
    loop {
        match call(producer) {
            Ok(answer) => return answer,
            Err(ClientError::Io(_) | ClientError::Closed) => *producer.client() = client(role),
            Err(error) => fail(error),
        }
    }
}

/// Writes a record.
pub fn send(producer: &mut Producer, role: &Role, stage: &Stage, (topic, partition): Place, value: &Value) {
    let values = [value.to_string()];
    let offset = persist(producer, role, |producer| producer.send_values(topic.name(), partition, &values));
    stage.acknowledged(value.id.1, offset.0);
}

/// Ends the transaction.
pub fn end(producer: &mut Producer, role: &Role, stage: &Stage, transaction: u32, is_commit: bool) {
    stage.asks(transaction, is_commit);
    if is_commit {
        persist(producer, role, Producer::commit);
        stage.committed(transaction);
    } else {
        persist(producer, role, Producer::abort);
    }
}

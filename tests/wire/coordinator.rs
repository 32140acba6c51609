//! What else the coordinator of transactions is asked, by producers and by administrators.

use oncelog_client::{Isolation, TransactionVersion};
use oncelog_tests::requests::{self, Transactor, watermarks};
use oncelog_tests::{client, eventually, is_ours, topic, unique};
use oncelog_wire::{ErrorCode, ProducerEpoch, ProducerId, init_producer_id};

use crate::transactions::{is_stable, previous, values};

use TransactionVersion::{V1, V2};

#[test]
fn partitions_are_added_all_or_none() {
    let topic = topic(2);
    let mut producer = Transactor::new(V1);
    let (client, id, identity) = (&mut producer.client, &producer.id, producer.identity);
    let mut add = |id: &str, identity, partitions: &[(&str, i32)]| {
        let mut codes = requests::add_partitions(client, id, identity, partitions).unwrap();
        codes.sort();
        codes
    };
    let missing = (unique("no-such-topic"), 0);
    assert_eq!(
        add(id, identity, &[(&topic, 0), (&missing.0, 0)]),
        [ErrorCode::UnknownTopicOrPartition, ErrorCode::OperationNotAttempted]
    );
    assert_eq!(
        add(id, identity, &[(&topic, 0), (&topic, 2)]),
        [ErrorCode::UnknownTopicOrPartition, ErrorCode::OperationNotAttempted]
    );
    assert_eq!(add("", identity, &[(&topic, 0)]), [ErrorCode::InvalidRequest]);
    let (producer_id, epoch) = identity;
    assert_eq!(add(id, (producer_id, epoch.next()), &[(&topic, 0)]), [ErrorCode::ProducerFenced]);
    assert_eq!(
        add(id, (ProducerId(producer_id.0 + 1), epoch), &[(&topic, 0)]),
        [ErrorCode::InvalidProducerIdMapping]
    );
    assert_eq!(producer.state(), "Empty");
    assert_eq!(producer.add(&[(&topic, 0), (&topic, 1)]), ErrorCode::None);
    assert_eq!(producer.add(&[(&topic, 0)]), ErrorCode::None);
    let described = requests::describe_transaction(&mut producer.client, &producer.id.clone());
    assert_eq!(described.transaction_state, "Ongoing");
    assert_eq!(described.transaction_timeout_ms, 60_000);
    assert_eq!((described.producer_id, described.producer_epoch), producer.identity);
    let mut partitions = described.topics[0].partitions.clone();
    partitions.sort();
    assert_eq!((described.topics.len(), partitions), (1, vec![0, 1]));
    // Nothing was written: the markers end the transaction all the same.
    assert_eq!(producer.end(true), ErrorCode::None);
    eventually("there is a marker", || watermarks(&mut producer.client, &topic, 0) == (1, 1));
}

#[test]
fn whoever_asks_is_told_of_transactions() {
    let topic = topic(1);
    let mut open = Transactor::new(V2);
    let mut done = Transactor::new(V2);
    let idle = Transactor::new(V2);
    assert_eq!(open.write(&topic, 0, 0, 1), ErrorCode::None);
    assert_eq!(done.write(&topic, 0, 0, 1), ErrorCode::None);
    assert_eq!(done.end(true), ErrorCode::None);
    eventually("the transaction is done", || done.state() == "CompleteCommit");
    let mut client = client();
    let mut list = |states: &[&str], producer_ids: &[ProducerId]| {
        let answer = client
            .call(&oncelog_wire::list_transactions::Request {
                state_filters: states.iter().map(|state| (*state).into()).collect(),
                producer_id_filters: producer_ids.to_vec(),
                ..Default::default()
            })
            .unwrap();
        assert_eq!(answer.error_code, ErrorCode::None);
        let mine = answer.transaction_states.into_iter().filter_map(|listed| {
            let ours = [&open.id, &done.id, &idle.id];
            let at = ours.iter().position(|id| listed.transactional_id == id.as_str())?;
            Some((at, listed.transaction_state.to_string()))
        });
        let mut mine: Vec<_> = mine.collect();
        mine.sort();
        (mine, answer.unknown_state_filters)
    };
    let entry = |at: usize, state: &str| (at, state.to_owned());
    let all = [entry(0, "Ongoing"), entry(1, "CompleteCommit"), entry(2, "Empty")];
    assert_eq!(list(&[], &[]).0, all);
    assert_eq!(list(&["Ongoing"], &[]).0, all[..1]);
    assert_eq!(list(&["Empty", "CompleteCommit"], &[]).0, all[1..]);
    assert_eq!(list(&[], &[done.identity.0]).0, all[1..2]);
    assert_eq!(list(&["Ongoing"], &[done.identity.0]).0, []);
    let (none, unknown) = list(&["Bogus"], &[]);
    assert_eq!((none.len(), unknown), (0, vec!["Bogus".into()]));

    let unknown = requests::describe_transaction(&mut open.client, &unique("nobody"));
    assert_eq!(unknown.error_code, ErrorCode::TransactionalIdNotFound);
    let producers = requests::producers(&mut open.client, &topic, 0);
    let state = producers.iter().find(|state| state.producer_id == open.identity.0).unwrap();
    assert_eq!((state.current_txn_start_offset.0, state.last_sequence), (0, 0));
    let state = producers.iter().find(|state| state.producer_id == done.identity.0).unwrap();
    assert_eq!(state.current_txn_start_offset.0, -1);
}

#[test]
fn an_administrator_ends_a_transaction_that_hangs() {
    let topic = topic(1);
    let mut hanging = Transactor::new(V1);
    hanging = Transactor::named(V1, &hanging.id, 60_000);
    assert_eq!(hanging.write(&topic, 0, 0, 1), ErrorCode::None);
    let mut client = client();
    let coordinator_epoch = requests::producers(&mut client, &topic, 0)[0].coordinator_epoch.max(0);
    let (id, epoch) = hanging.identity;
    let older = previous((id, epoch));
    let mut mark = |identity, coordinator_epoch, partition| {
        requests::write_marker(&mut client, identity, false, coordinator_epoch, (&topic, partition)).unwrap()
    };
    assert_eq!(mark(older, coordinator_epoch, 0), ErrorCode::InvalidProducerEpoch);
    assert_eq!(mark((id, epoch), coordinator_epoch, 7), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(mark((id, epoch), coordinator_epoch + 5, 0), ErrorCode::None);
    assert_eq!(mark((id, epoch), coordinator_epoch + 4, 0), ErrorCode::TransactionCoordinatorFenced);
    is_stable(&mut client, &topic, 0);
    assert_eq!(values(&mut client, &topic, Isolation::ReadCommitted).len(), 0);
    assert_eq!(values(&mut client, &topic, Isolation::ReadUncommitted).len(), 1);
}

#[test]
fn a_producer_whose_epochs_are_used_up_gets_another_id() {
    if !is_ours() {
        return;
    }
    let topic = topic(1);
    let mut producer = Transactor::new(V2);
    let (id, _) = producer.identity;
    let request = init_producer_id::Request {
        transactional_id: Some(producer.id.as_str().into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let mut last = ProducerEpoch(0);
    while last.0 < 32_765 {
        let count = (32_765 - last.0).min(1_000);
        let connection = producer.client.connection();
        let pending: Vec<_> = (0..count).map(|_| connection.send(&request, 5).unwrap()).collect();
        for pending in pending {
            let answer = connection.receive(pending).unwrap();
            assert_eq!((answer.producer_id, answer.producer_epoch), (id, last.next()));
            last = last.next();
        }
    }
    // The end of a transaction takes the last epoch there is for clients ...
    producer.identity = (id, last);
    assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
    assert_eq!(producer.end(true), ErrorCode::None);
    assert_eq!(producer.identity, (id, ProducerEpoch(32_766)));
    // ... and the end of the next one brings a new id; said again, the same one.
    let exhausted = producer.identity;
    assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
    assert_eq!(producer.end(true), ErrorCode::None);
    let fresh = producer.identity;
    assert_ne!(fresh.0, id);
    assert_eq!(fresh.1, ProducerEpoch(0));
    assert_eq!(producer.end_as(exhausted, true), (ErrorCode::None, fresh));
    is_stable(&mut producer.client, &topic, 0);
    assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
    assert_eq!(producer.end(true), ErrorCode::None);
    assert_eq!(values(&mut producer.client, &topic, Isolation::ReadCommitted), ["32765/0", "32766/0", "0/0"]);
    producer.identity = exhausted;
    assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::InvalidProducerIdMapping);
}

#[test]
fn a_transactional_id_may_be_anything_of_up_to_32767_bytes() {
    let topic = topic(1);
    let long = "é".repeat(16_383);
    for id in [long.as_str(), "../../etc/passwd", "a\0b", "\n", " ", "💥", "__transaction_state"] {
        let mut producer = Transactor::named(V2, id, 60_000);
        assert_eq!(producer.write(&topic, 0, 0, 1), ErrorCode::None);
        assert_eq!(producer.end(true), ErrorCode::None);
        assert_eq!(requests::describe_transaction(&mut producer.client, id).transactional_id, id);
    }
}

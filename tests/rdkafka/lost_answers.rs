//! Answers that never come: whichever is lost, the transaction is there once, or not at all.

use std::net::SocketAddr;
use std::time::Duration;

use oncelog_broker::{Broker, Config, ListenerConfig};
use oncelog_client::Isolation;
use oncelog_tests::proxy::{Fault, Proxy};
use oncelog_tests::unique;
use oncelog_wire::ApiKey;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use crate::clients::{
    PATIENCE, commit, committed, committed_offsets, ends, joined, member, offset_of, producer, read, send,
    topic, transactional,
};

/// A broker in this process whose clients all come through a proxy.
pub fn behind_proxy() -> (Broker, Proxy) {
    let proxy = Proxy::bind();
    let mut config = Config::ephemeral();
    let advertised = Some((proxy.address().ip().to_string(), proxy.address().port()));
    config.listeners = vec![ListenerConfig { advertised, ..ListenerConfig::plaintext("127.0.0.1", 0) }];
    let broker = Broker::start(config).unwrap();
    proxy.forward_to(broker.address());
    (broker, proxy)
}

const FAULTS: [Fault; 3] =
    [Fault::LoseAnswer, Fault::LoseRequest, Fault::HoldAnswer(Duration::from_millis(300))];

/// Goes through two transactions, the second of them aborted, with offsets in each; the faults are up to the proxy.
fn two_transactions(address: SocketAddr, options: &[(&str, &str)]) {
    let (topic, source, group) = (topic(address, 1), topic(address, 1), unique("group"));
    send(&producer(address, &[]), &source, 0, &["source"]);
    let member = member(address, &group, &source, &[]);
    joined(&member);
    let writer = transactional(address, &unique("writer"), options);
    let send_offset = |offset| {
        let group = member.group_metadata().unwrap();
        while let Err(error) =
            writer.send_offsets_to_transaction(&offset_of(&source, 0, offset), &group, PATIENCE)
        {
            assert!(matches!(&error, KafkaError::Transaction(error) if error.is_retriable()), "{error}");
        }
    };
    writer.begin_transaction().unwrap();
    send(&writer, &topic, 0, &["kept"]);
    send_offset(1);
    commit(&writer).unwrap();
    assert_eq!(committed(address, &topic), ["kept"]);
    assert_eq!(committed_offsets(address, &group, &source, 1), [1]);

    writer.begin_transaction().unwrap();
    send(&writer, &topic, 0, &["dropped"]);
    send_offset(7);
    while let Err(error) = writer.abort_transaction(PATIENCE) {
        assert!(matches!(&error, KafkaError::Transaction(error) if error.is_retriable()), "{error}");
    }
    assert_eq!(committed(address, &topic), ["kept"]);
    assert_eq!(committed_offsets(address, &group, &source, 1), [1]);
    assert_eq!(read(address, &topic, 1, Isolation::ReadUncommitted), [["kept", "dropped"]]);
    assert_eq!(ends(address, &topic, 0), (4, 4), "two records and two markers");
}

/// Strikes the first or the second request of the API, with each fault, each before a broker of its own.
fn survives_faults_at(api: ApiKey) {
    std::thread::scope(|scope| {
        for fault in FAULTS {
            for passing in 0..2 {
                scope.spawn(move || {
                    let (_broker, proxy) = behind_proxy();
                    proxy.arm(api, fault, passing);
                    two_transactions(proxy.address(), &[]);
                });
            }
        }
    });
}

#[test]
fn a_lost_answer_to_init_producer_id_does_no_harm() {
    survives_faults_at(ApiKey::InitProducerId);
}

#[test]
fn a_lost_answer_to_add_partitions_to_txn_does_no_harm() {
    survives_faults_at(ApiKey::AddPartitionsToTxn);
}

#[test]
fn a_lost_answer_to_produce_does_no_harm() {
    survives_faults_at(ApiKey::Produce);
}

#[test]
fn a_lost_answer_to_add_offsets_to_txn_does_no_harm() {
    survives_faults_at(ApiKey::AddOffsetsToTxn);
}

#[test]
fn a_lost_answer_to_txn_offset_commit_does_no_harm() {
    survives_faults_at(ApiKey::TxnOffsetCommit);
}

#[test]
fn a_commit_and_an_abort_whose_answers_are_lost_are_retried() {
    survives_faults_at(ApiKey::EndTxn);
}

#[test]
fn a_commit_whose_answer_is_lost_again_and_again_happens_once() {
    let (_broker, proxy) = behind_proxy();
    let topic = topic(proxy.address(), 1);
    let writer = transactional(proxy.address(), &unique("writer"), &[]);
    for value in ["1", "2", "3"] {
        for _ in 0..3 {
            proxy.arm(ApiKey::EndTxn, Fault::LoseAnswer, 0);
        }
        writer.begin_transaction().unwrap();
        send(&writer, &topic, 0, &[value]);
        commit(&writer).unwrap();
        assert_eq!(proxy.armed(), 0);
    }
    assert_eq!(committed(proxy.address(), &topic), ["1", "2", "3"]);
    assert_eq!(ends(proxy.address(), &topic, 0), (6, 6), "three records and three markers");
}

#[test]
fn an_answer_that_comes_after_the_client_gave_up_does_no_harm() {
    let apis = [
        ApiKey::AddPartitionsToTxn,
        ApiKey::Produce,
        ApiKey::AddOffsetsToTxn,
        ApiKey::TxnOffsetCommit,
        ApiKey::EndTxn,
    ];
    std::thread::scope(|scope| {
        for api in apis {
            scope.spawn(move || {
                let (_broker, proxy) = behind_proxy();
                proxy.arm(api, Fault::HoldAnswer(Duration::from_secs(3)), 1);
                two_transactions(proxy.address(), &[("socket.timeout.ms", "1000")]);
                assert_eq!(proxy.armed(), 0);
            });
        }
    });
}

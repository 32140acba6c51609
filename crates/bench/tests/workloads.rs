//! Every workload, for a moment, against a broker in this process; and a look at what it left there.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use oncelog_bench::{Isolation, Report, Settings, Workload, run};
use oncelog_broker::{Broker, Config};
use oncelog_client::{Client, EARLIEST};

/// A moment, so that all of this takes a few seconds.
fn moment(broker: &Broker, workload: Workload) -> Settings {
    Settings {
        name: "oncelog".to_owned(),
        bootstrap: broker.bootstrap_servers().to_owned(),
        workload,
        duration: Duration::from_millis(300),
        warmup: Duration::from_millis(100),
        verify: true,
        ..Settings::default()
    }
}

fn broker() -> Broker {
    Broker::start(Config::ephemeral()).unwrap()
}

/// Runs, and checks what is true of every run.
fn report(settings: &Settings) -> Report {
    let mut lines = 0;
    let report = run(settings, &mut |_| lines += 1).unwrap();
    assert!(lines > 0);
    assert_eq!(report.counts.error_count(), 0, "{report}");
    assert!(report.counts.records > 0 && report.latency.samples > 0, "{report}");
    assert!(report.latency.p50_ms <= report.latency.max_ms && report.latency.max_ms > 0.0, "{report}");
    assert!(report.seconds >= 0.29 && report.seconds < 10.0, "{report}");
    let read = Report::from_json("it", &report.to_json()).unwrap();
    assert_eq!((&read.counts, &read.settings), (&report.counts, &report.settings));
    if settings.workload != Workload::Consume {
        let verified = report.verified.unwrap();
        assert!(verified.is_right() && verified.unknown == 0, "{report}");
        assert!(verified.found > 0, "{report}");
    }
    report
}

#[test]
fn transactions_of_both_versions_are_there_afterwards() {
    let broker = broker();
    for version in [1, 2] {
        let settings = Settings {
            producers: 3,
            records_per_transaction: 5,
            partitions_per_transaction: 2,
            partitions: 4,
            abort_ratio: 0.25,
            transaction_version: Some(version),
            ..moment(&broker, Workload::Transactions)
        };
        let report = report(&settings);
        let counts = &report.counts;
        assert_eq!(counts.records, counts.transactions * 5);
        assert_eq!(counts.bytes, counts.records * 100);
        let share = counts.aborted as f64 / counts.transactions as f64;
        assert!((share - 0.25).abs() < 0.1, "{report}");
        assert_eq!(report.broker.used_transaction_version, version);
        assert_eq!(report.latency.samples, counts.transactions);
    }
}

#[test]
fn a_kept_topic_holds_the_records_and_the_markers() {
    let broker = broker();
    let settings = Settings {
        topic: Some("kept".to_owned()),
        keep_topics: true,
        records_per_transaction: 3,
        ..moment(&broker, Workload::Transactions)
    };
    let report = report(&settings);
    let mut client = Client::connect(broker.address(), "test").unwrap();
    let committed = oncelog_client::Isolation::ReadCommitted;
    let records = client.fetch_all("kept", 0, committed).unwrap();
    assert_eq!(records.len() as u64, report.verified.unwrap().committed);
    assert!(records.iter().all(|record| record.value.as_ref().unwrap().len() == 100));
    // Of three records each, and a marker.
    let end = client.end_offset("kept", 0, committed).unwrap();
    assert_eq!(end.0, records.len() as i64 / 3 * 4);

    // It is read as it is by the next run, which leaves it.
    let settings =
        Settings { topic: Some("kept".to_owned()), keep_topics: false, ..moment(&broker, Workload::Consume) };
    run(&settings, &mut |_| {}).unwrap();
    assert_eq!(client.list_offset("kept", 0, EARLIEST, committed).unwrap().0.0, 0);
    assert_eq!(client.end_offset("kept", 0, committed).unwrap(), end);
}

#[test]
fn an_open_loop_keeps_its_rate_and_leaves_no_topics() {
    let broker = broker();
    let settings = Settings {
        producers: 2,
        rate: Some(200.0),
        duration: Duration::from_millis(500),
        ..moment(&broker, Workload::Transactions)
    };
    let report = report(&settings);
    // 100 in half a second, and some of the warm-up that were answered late on a busy machine.
    assert!((60..=120).contains(&report.counts.transactions), "{report}");
    let mut client = Client::connect(broker.address(), "test").unwrap();
    let all = oncelog_wire::metadata::Request { topics: None, ..Default::default() };
    let topics = client.call(&all).unwrap().topics;
    assert!(topics.iter().all(|topic| topic.is_internal), "{topics:?}");
}

#[test]
fn a_rate_that_is_too_high_is_not_hidden() {
    let broker = broker();
    let settings = Settings {
        rate: Some(10_000_000.0),
        warmup: Duration::ZERO,
        ..moment(&broker, Workload::Transactions)
    };
    let report = report(&settings);
    assert!(report.not_started > 0, "{report}");
    assert!(report.latency.max_ms > 200.0, "what waited for most of the run took that long: {report}");
}

#[test]
fn copies_commit_their_offsets() {
    let broker = broker();
    for version in [1, 2] {
        let settings = Settings {
            producers: 2,
            records_per_transaction: 10,
            partitions_per_transaction: 3,
            transaction_version: Some(version),
            ..moment(&broker, Workload::Transform)
        };
        let report = report(&settings);
        assert_eq!(report.counts.records, report.counts.transactions * 10);
    }
    let mut client = Client::connect(broker.address(), "test").unwrap();
    let groups = client.call(&oncelog_wire::list_groups::Request::default()).unwrap().groups;
    assert!(groups.iter().any(|group| group.group_id.starts_with("oncelog-bench-")), "{groups:?}");
}

#[test]
fn consumers_receive_what_was_committed_and_only_that() {
    let broker = broker();
    let settings = Settings {
        producers: 2,
        partitions_per_transaction: 2,
        records_per_transaction: 4,
        abort_ratio: 0.5,
        rate: Some(200.0),
        ..moment(&broker, Workload::EndToEnd)
    };
    let report = report(&settings);
    assert_eq!(report.latency.samples, report.counts.records);
    assert!(report.latency.p50_ms < 1_000.0, "{report}");
}

#[test]
fn batches_are_written_once_with_and_without_transactions() {
    let broker = broker();
    let base = Settings { producers: 2, ..moment(&broker, Workload::Produce) };
    let closed = report(&base);
    assert_eq!(closed.latency.samples, closed.counts.records);
    let open = report(&Settings { rate: Some(2_000.0), ..base.clone() });
    // 600 in 300 ms, and what was late.
    assert!((300..=800).contains(&open.counts.records), "{open}");
    let duration = Some(Duration::from_millis(40));
    let transactional =
        report(&Settings { transaction_duration: duration, abort_ratio: 0.5, ..base.clone() });
    assert!(transactional.counts.transactions > 2 && transactional.counts.aborted > 0, "{transactional}");
}

#[test]
fn consumers_read_all_there_is_of_their_isolation() {
    let broker = broker();
    let base = Settings {
        records: 5_000,
        transaction_duration: Some(Duration::from_millis(5)),
        abort_ratio: 1.0,
        ..moment(&broker, Workload::Consume)
    };
    let uncommitted = report(&Settings { isolation: Isolation::Uncommitted, ..base.clone() });
    assert!(uncommitted.counts.records >= 5_000, "{uncommitted}");
    // Nothing is visible, and the fetches are counted all the same.
    let committed = run(&base, &mut |_| {}).unwrap();
    assert_eq!(committed.counts.records, 0, "{committed}");
    assert!(committed.latency.samples > 0, "{committed}");
}

#[test]
fn the_brokers_cost_is_that_of_its_process() {
    let broker = broker();
    let settings =
        Settings { broker_pid: Some(std::process::id()), ..moment(&broker, Workload::Transactions) };
    let process = report(&settings).broker_process.unwrap();
    assert!(process.cpu_seconds > 0.0 && process.cpu_us_each > 0.0 && process.peak_memory_mib > 1.0);
}

#[test]
fn a_broker_that_is_not_there_is_named() {
    let broker = broker();
    let settings = Settings { broker_pid: Some(u32::MAX), ..moment(&broker, Workload::Transactions) };
    let error = run(&settings, &mut |_| {}).unwrap_err().to_string();
    assert_eq!(error, format!("there is no process {}", u32::MAX));
    let settings = Settings { bootstrap: "nowhere".to_owned(), ..settings };
    assert!(run(&settings, &mut |_| {}).unwrap_err().to_string().starts_with("nowhere: "));
}

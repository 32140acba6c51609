use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use oncelog_client::Isolation;
use oncelog_tests::process::BrokerProcess;
use oncelog_tests::{address, eventually, unique};
use rdkafka::consumer::Consumer;

use crate::clients::{committed_offsets, numbered, producer, read, send, topic};
use crate::copy::Copier;

/// Two topics, a group, and what is to be copied: so many records into each partition of the source.
struct Job {
    address: SocketAddr,
    source: String,
    target: String,
    group: String,
    partitions: i32,
    each: usize,
}

impl Job {
    fn new(address: SocketAddr, partitions: i32, each: usize) -> Job {
        let (source, target) = (topic(address, partitions), topic(address, partitions));
        let feeder = producer(address, &[]);
        for partition in 0..partitions {
            let values = numbered(&partition.to_string(), each);
            send(&feeder, &source, partition, &values.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Job { address, source, target, group: unique("copy"), partitions, each }
    }

    fn start(&self, id: &str) -> Copier {
        Copier::start(self.address, &self.source, &self.target, &self.group, id, &[])
    }

    fn total(&self) -> usize {
        self.each * self.partitions as usize
    }

    fn is_exact(&self) {
        let expected: Vec<Vec<String>> =
            (0..self.partitions).map(|partition| numbered(&format!("seen {partition}"), self.each)).collect();
        assert_eq!(read(self.address, &self.target, self.partitions, Isolation::ReadCommitted), expected);
        let offsets = committed_offsets(self.address, &self.group, &self.source, self.partitions);
        assert_eq!(offsets, vec![self.each as i64; self.partitions as usize]);
    }
}

fn killed_at(step: &str) {
    let job = Job::new(address(), 2, 25);
    let id = unique("copier");
    let run = |step: &str| {
        Command::new(env!("CARGO_BIN_EXE_copier"))
            .args([
                &job.address.to_string(),
                &job.source,
                &job.target,
                &job.partitions.to_string(),
                &job.group,
                &id,
            ])
            .args([&job.total().to_string(), step])
            .status()
            .unwrap()
    };
    assert_eq!(run(step).code(), None, "the copier is ended by a signal");
    assert!(run("never").success());
    job.is_exact();
}

#[test]
fn a_copy_is_exact_when_the_process_is_killed_after_poll() {
    killed_at("poll");
}

#[test]
fn a_copy_is_exact_when_the_process_is_killed_after_send() {
    killed_at("send");
}

#[test]
fn a_copy_is_exact_when_the_process_is_killed_after_it_sent_offsets() {
    killed_at("offsets");
}

#[test]
fn a_copy_is_exact_when_the_process_is_killed_during_commit() {
    killed_at("commit");
}

#[test]
fn a_copy_by_three_members_is_exact_through_rebalances() {
    let job = Job::new(address(), 6, 60);
    let copied = AtomicUsize::new(0);
    let third_may_go = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let run = |index: usize| {
            let (job, copied, third_may_go) = (&job, &copied, &third_may_go);
            scope.spawn(move || {
                let copier = job.start(&unique("copier"));
                while copied.load(Ordering::SeqCst) < job.total()
                    && !(index == 2 && third_may_go.load(Ordering::SeqCst))
                {
                    copied.fetch_add(copier.copy_some(&mut |_| {}), Ordering::SeqCst);
                    if index == 2 && copier.member().context().count() > 0 {
                        third_may_go.store(true, Ordering::SeqCst);
                    }
                }
            })
        };
        run(0);
        run(1);
        eventually("the copy has begun", || copied.load(Ordering::SeqCst) > 0);
        run(2);
    });
    job.is_exact();
}

#[test]
fn a_copy_is_exact_when_the_broker_is_killed_again_and_again() {
    let mut broker = BrokerProcess::start(&[]);
    let job = Job::new(broker.address(), 2, 100);
    let copied = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            let copier = job.start(&unique("copier"));
            while copied.load(Ordering::SeqCst) < job.total() {
                copied.fetch_add(copier.copy_some(&mut |_| {}), Ordering::SeqCst);
            }
        });
        for kill in 1..=3 {
            eventually("the copy goes on", || {
                copied.load(Ordering::SeqCst) >= 50 * kill || copying.is_finished()
            });
            broker.kill();
            std::thread::sleep(Duration::from_millis(20));
            broker.start_again();
        }
    });
    job.is_exact();
}

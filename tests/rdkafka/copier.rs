//! The copier as a process that can die: `copier ADDRESS SOURCE TARGET PARTITIONS GROUP ID COUNT STEP` copies until the
//! group's offsets add up to COUNT, and is killed by itself at STEP of its second transaction.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with the tests")]
mod clients;
#[allow(dead_code, reason = "shared with the tests")]
mod copy;

use std::time::Duration;

use copy::{Copier, Step};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, source, target, partitions, group, id, count, step] = arguments.as_slice() else {
        panic!("eight arguments are expected, not {arguments:?}");
    };
    let address = address.parse().expect("an address");
    let count: i64 = count.parse().expect("a number");
    let partitions = partitions.parse().expect("a number");
    let copier = Copier::start(address, source, target, group, id, &[("group.instance.id", "the-only-one")]);
    let mut transactions = 0;
    let mut at = |reached: Step| {
        transactions += usize::from(reached == Step::AfterPoll);
        match (step.as_str(), reached) {
            _ if transactions < 2 => {}
            ("poll", Step::AfterPoll) | ("send", Step::AfterSend) | ("offsets", Step::AfterSendOffsets) => {
                die()
            }
            ("commit", Step::BeforeCommit) => {
                std::thread::spawn(|| {
                    std::thread::sleep(Duration::from_micros(500));
                    die();
                });
            }
            _ => {}
        }
    };
    while copier.committed(source, partitions) < count {
        copier.copy_some(&mut at);
    }
    if step == "commit" {
        std::thread::sleep(Duration::from_secs(5));
    }
}

/// Dies as by `kill -9`: nothing is flushed, closed or told.
fn die() -> ! {
    std::process::abort()
}

//! Compares a broker with Apache Kafka: the same requests are put to both, and the answers compared field by field.
//!
//! ```text
//! cargo run -p oncelog-tests --bin parity -- --reference HOST:PORT --broker HOST:PORT [--answers] [--agreed] [SCENARIO ...]
//! ```
//!
//! The reference is an Apache Kafka 4.3.1 of one node with `node.id=1`, PLAINTEXT and without an authorizer, whose internal topics have one
//! replica; it and the broker may be used by nobody else meanwhile. `SCENARIO` is a part of a scenario's name;
//! without any, all are run. `--answers` prints what the reference answers, `--agreed` the differences that are meant to be. The exit status is 1 where the
//! two differ in a way that `agreed.rs` does not list.

mod agreed;
mod compare;
mod pair;
mod report;
mod scenarios;
mod value;

use std::cell::RefCell;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use compare::Clock;
use pair::{Both, Pair};
use report::Report;

const USAGE: &str =
    "usage: parity --reference HOST:PORT --broker HOST:PORT [--answers] [--agreed] [SCENARIO ...]";

fn main() -> ExitCode {
    let Some(options) = Options::parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let now = UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_millis() as i64);
    // Three hours ago: recent enough to be kept, old enough not to be taken for the time of the run.
    let clock = Clock { records_from: now - 3 * 3_600_000 };
    let run = format!("{:x}", now / 100 % 0x1000_0000);
    let report = Rc::new(RefCell::new(Report::new(options.shows_answers, options.shows_agreed)));
    for (name, scenario) in scenarios::ALL {
        if options.scenarios.is_empty() || options.scenarios.iter().any(|part| name.contains(part.as_str())) {
            report.borrow_mut().begin(name);
            let mut pair = Pair::new(options.addresses, report.clone(), clock, &run);
            scenarios::coordinators(&mut pair);
            scenario(&mut pair);
            report.borrow_mut().end();
        }
    }
    let is_alike = report.borrow().finish();
    if is_alike { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Options {
    addresses: Both<SocketAddr>,
    shows_answers: bool,
    shows_agreed: bool,
    scenarios: Vec<String>,
}

impl Options {
    fn parse() -> Option<Options> {
        let (mut reference, mut broker, mut scenarios) = (None, None, Vec::new());
        let (mut shows_answers, mut shows_agreed) = (false, false);
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--reference" => reference = arguments.next().and_then(resolve),
                "--broker" => broker = arguments.next().and_then(resolve),
                "--answers" => shows_answers = true,
                "--agreed" => shows_agreed = true,
                other if other.starts_with('-') => return None,
                _ => scenarios.push(argument),
            }
        }
        Some(Options {
            addresses: Both { reference: reference?, broker: broker? },
            shows_answers,
            shows_agreed,
            scenarios,
        })
    }
}

fn resolve(address: String) -> Option<SocketAddr> {
    address.to_socket_addrs().ok()?.next()
}

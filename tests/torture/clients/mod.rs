//! The clients: processes of their own, that say on standard output what they do and on which standard input is closed when
//! they are to come to their end. Whatever they cannot go on after ends them, and a new one takes their place.

mod copier;
mod mirror;
mod ours;
mod rdkafka;
mod reader;
mod writer;

pub use copier::GROUP;

use std::fmt::Display;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::history::{Micros, Place, RecordId, Session, Source, Value};
use crate::random::Random;

/// How long a call may take on a busy machine with a broker that is being killed.
const PATIENCE: Duration = Duration::from_secs(30);
/// After this the broker aborts a transaction.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(3);
/// The exit status of a client that met an error it cannot go on after.
pub const FAILED: i32 = 3;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Writes orders with librdkafka, idempotently.
    Idempotent,
    /// Writes transactions with librdkafka, by the protocol from before KIP-890.
    Writer,
    /// Writes transactions with our own client, by the protocol of KIP-890.
    NewWriter,
    /// Copies orders as a member of a group, with librdkafka.
    Copier,
    /// The same, as a static member.
    StaticCopier,
    /// Copies orders with our own client, and is in no group.
    Mirror,
    /// Reads all that is committed, with librdkafka.
    Reader,
}

/// One client.
#[derive(Clone, Debug, clap::Args)]
pub struct Role {
    /// What it does.
    pub kind: Kind,
    /// Which session this is.
    pub session: Session,
    /// Its transactional id, and its name in the group.
    pub name: String,
    /// Where the broker is.
    pub address: SocketAddr,
}

impl Role {
    /// Plays the role to its end.
    pub fn play(self) {
        let stage = Arc::new(Stage::new(&self));
        match self.kind {
            Kind::Idempotent => writer::idempotent(&self, &stage),
            Kind::Writer => writer::transactional(&self, &stage),
            Kind::NewWriter => writer::transactional_of_ours(&self, &stage),
            Kind::Copier | Kind::StaticCopier => copier::copy(&self, &stage),
            Kind::Mirror => mirror::copy(&self, &stage),
            Kind::Reader => reader::read(&self, &stage),
        }
    }

    /// Chance of its own.
    fn random(&self) -> Random {
        Random::new(u64::from(self.session))
    }
}

/// Where a client says what happens.
#[derive(Debug)]
struct Stage {
    session: Session,
    next_record: AtomicU32,
    is_over: Arc<AtomicBool>,
}

impl Stage {
    fn new(role: &Role) -> Stage {
        let is_over = Arc::new(AtomicBool::new(false));
        let of_thread = is_over.clone();
        std::thread::spawn(move || {
            // It never has anything to say, but ends.
            let _ = std::io::stdin().read(&mut [0]);
            of_thread.store(true, Ordering::SeqCst);
            // Whoever started it may be gone, and the broker with it.
            std::thread::sleep(PATIENCE);
            exit(FAILED);
        });
        Stage { session: role.session, next_record: AtomicU32::new(0), is_over }
    }

    /// Whether it is time to come to an end.
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Says that this instance is about to ask to be let in.
    fn enters(&self) {
        say(format_args!("enters {}", now()));
    }

    /// Says that this instance was let in.
    fn is_in(&self) {
        say(format_args!("in {}", now()));
    }

    /// Says that a transaction begins.
    fn begins(&self, transaction: u32) {
        say(format_args!("begin {transaction} {}", now()));
    }

    /// Says that the next record is about to be sent, and gives it.
    fn sends(&self, (topic, partition): Place, transaction: Option<u32>, source: Option<Source>) -> Value {
        let number = self.next_record.fetch_add(1, Ordering::Relaxed);
        let (topic, transaction) = (topic.name(), transaction.map_or("-".to_owned(), |id| id.to_string()));
        let source_text = source.map_or(String::new(), |(id, offset)| format!(" {id} {offset}"));
        say(format_args!("send {number} {topic} {partition} {transaction}{source_text}"));
        Value { id: RecordId(self.session, number), source }
    }

    /// Says that a record was acknowledged.
    fn acknowledged(&self, number: u32, offset: i64) {
        say(format_args!("ack {number} {} {}", offset.max(-1), now()));
    }

    /// Says that the end of a transaction is about to be asked for.
    fn asks(&self, transaction: u32, is_commit: bool) {
        let end = if is_commit { "commit" } else { "abort" };
        say(format_args!("asks {transaction} {end} {}", now()));
    }

    /// Says that a commit was acknowledged.
    fn committed(&self, transaction: u32) {
        say(format_args!("committed {transaction}"));
    }

    /// Says that a reader was shown a record.
    fn saw(&self, (topic, partition): Place, offset: i64, value: &str) {
        say(format_args!("saw {} {partition} {offset} {value}", topic.name()));
    }
}

/// Prints a line in one write, so that a process that is killed says all of it or nothing.
fn say(line: impl Display) {
    let line = format!("{line}\n");
    if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
        exit(FAILED);
    }
}

/// Ends the process on an error after which another has to take over.
fn fail(error: impl Display) -> ! {
    say(format_args!("ends {error}"));
    exit(FAILED);
}

/// The time of the machine's monotonic clock.
pub fn now() -> Micros {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}

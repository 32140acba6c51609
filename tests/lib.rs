//! What the black-box tests share: a broker to talk to, names that nobody else uses, and a look at the clock.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use oncelog_broker::{Broker, Config};
use oncelog_client::{Client, Connection, Isolation};

pub mod forge;
pub mod process;
pub mod proxy;
pub mod requests;

/// Names the broker to test in place of one of our own, as `host:port`: so the same requests can be put to Kafka.
pub const BOOTSTRAP: &str = "ONCELOG_TESTS_BOOTSTRAP";

/// How long a test waits for what should be there in a moment.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where the broker is that the tests of a process share, as far as they need no configuration of their own.
pub fn address() -> SocketAddr {
    static SHARED: OnceLock<(SocketAddr, Option<Broker>)> = OnceLock::new();
    let (address, _) = SHARED.get_or_init(|| match std::env::var(BOOTSTRAP) {
        Ok(other) => {
            let mut addresses = other.to_socket_addrs().expect("ONCELOG_TESTS_BOOTSTRAP is host:port");
            (addresses.next().expect("the host has an address"), None)
        }
        Err(_) => {
            let broker = Broker::start(Config::ephemeral()).expect("an ephemeral broker starts anywhere");
            (broker.address(), Some(broker))
        }
    });
    *address
}

/// Whether the shared broker is ours, and not one that was named from outside.
pub fn is_ours() -> bool {
    std::env::var(BOOTSTRAP).is_err()
}

/// A client of the shared broker.
pub fn client() -> Client {
    Client::connect(address(), "tests").expect("the shared broker is up")
}

/// A bare connection to the shared broker.
pub fn connection() -> Connection {
    Connection::connect(address(), "tests").expect("the shared broker is up")
}

/// A name for a topic, a group or a transactional id that no other test has, in this run or another.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let micros = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_micros());
    format!("{prefix}-{micros}-{number}")
}

/// A new topic of the shared broker.
pub fn topic(partitions: i32) -> String {
    topic_with(partitions, &[])
}

/// A new topic of the shared broker, with configs of its own.
pub fn topic_with(partitions: i32, configs: &[(&str, &str)]) -> String {
    let name = unique("topic");
    let mut client = client();
    client.create_topic_with(&name, partitions, configs).expect("the name is new and the configs are sound");
    await_topic(&mut client, &name, partitions);
    name
}

/// Waits until each partition of a new topic is led, where that takes a moment.
pub fn await_topic(client: &mut Client, name: &str, partitions: i32) {
    let is_led = |client: &mut Client, partition| {
        client
            .describe_topic(name)
            .is_ok_and(|topic| topic.partitions.iter().all(|found| found.leader_id >= 0))
            && client.end_offset(name, partition, Isolation::ReadUncommitted).is_ok()
    };
    for partition in 0..partitions {
        eventually("a new topic is there", || is_led(client, partition));
    }
}

/// Waits until `condition` is true.
///
/// # Panics
/// Where it is not within [`PATIENCE`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "this never came true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A client that was there before an attack and has to be served as well after it.
pub struct Witness {
    client: Client,
    topic: String,
    written: Vec<String>,
}

impl Witness {
    /// A witness that has written and read its first record.
    pub fn of(address: SocketAddr) -> Witness {
        let mut client = Client::connect(address, "witness").expect("the broker is up");
        let topic = unique("witness");
        client.create_topic(&topic, 1).expect("the name is new");
        await_topic(&mut client, &topic, 1);
        let mut witness = Witness { client, topic, written: Vec::new() };
        witness.is_served();
        witness
    }

    /// Writes one more record and reads all of them.
    ///
    /// # Panics
    /// Where the broker fails it.
    pub fn is_served(&mut self) {
        let value = self.written.len().to_string();
        self.client.produce_values(&self.topic, 0, [&value]).expect("the witness can write");
        self.written.push(value);
        let seen = self.client.values(&self.topic, 0, Isolation::ReadCommitted);
        assert_eq!(seen.expect("the witness can read"), self.written);
    }
}

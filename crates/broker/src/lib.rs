//! The broker as a library: a node behind tokio's sockets and timers.
//!
//! ```
//! use oncelog_broker::{Broker, Config};
//!
//! let broker = Broker::start(Config::ephemeral())?;
//! println!("bootstrap.servers={}", broker.bootstrap_servers());
//! // ... point any Kafka client at it ...
//! drop(broker); // stops it
//! # Ok::<(), oncelog_broker::StartError>(())
//! ```
//!
//! This crate moves bytes and time; it knows no rule of the protocol beyond the size prefix of a frame.

mod clock;
mod complaints;
mod config;
mod connection;
mod error;
mod listener;
mod output;
mod shared;
mod syncs;

use std::cell::Cell;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oncelog_log::{Disk, FileDisk, MemoryDisk};
use oncelog_node::config::{BrokerConfig, SecurityProtocol};
use oncelog_node::{Node, NodeOptions, Progress};
use oncelog_wire::Str;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::listener::Listener;
use crate::shared::{Limits, Shared};
use crate::syncs::SyncThread;

pub use config::{Config, ListenerConfig, Storage};
pub use error::StartError;
pub use oncelog_log::Durability;
pub use oncelog_node::config::{ConfigError, Warning};

/// How long a stopping broker waits for the answers that are on their way.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether logs need care at the latest: retention, checkpoints, producers that expired.
const MAINTENANCE_PERIOD: Duration = Duration::from_secs(1);

/// Where `log.cleaner.backoff.ms` is 0.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// How often a start says how far it is.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// Where no more files may be open than this, it is worth a warning.
const FEW_FILES: usize = 4096;

/// A running broker. Dropping it stops it.
pub struct Broker {
    addresses: Vec<SocketAddr>,
    bootstrap_servers: String,
    stopping: Arc<watch::Sender<bool>>,
    runtime: Option<Runtime>,
    maintenance: Option<Maintenance>,
    syncs: Option<SyncThread>,
    failure: watch::Receiver<bool>,
    shared: Arc<Shared>,
}

impl Broker {
    /// Opens the data, recovers what has to be, and listens. When this returns, coordinators answer.
    ///
    /// # Errors
    /// Where the configuration is wrong, the data cannot be used, or a port cannot be bound.
    pub fn start(config: Config) -> Result<Broker, StartError> {
        let most_files = raise_file_limit();
        let broker_config = config.properties().broker()?;
        let listeners = listeners(&config, &broker_config)?;
        let (disk, directory) = storage(&config, &broker_config);
        let clock = Clock::start();
        let limits = limits(&broker_config, most_files);
        let maintenance_period = MAINTENANCE_PERIOD
            .min(broker_config.log_retention_check_interval)
            .min(broker_config.log_cleaner_backoff.max(SHORTEST_PERIOD));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("oncelog")
            .build()
            .map_err(StartError::Runtime)?;
        // The ports are taken first, so that a second broker finds out before it touches any data.
        let bound: Vec<Listener> = {
            let _in_runtime = runtime.enter();
            let backlog = broker_config.socket_listen_backlog_size.max(1) as u32;
            listeners.iter().map(|listener| bind(listener, backlog)).collect::<Result<_, _>>()?
        };
        let addresses: Vec<SocketAddr> =
            bound.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect();
        let mut properties = config.properties().clone();
        properties.set("listeners", &describe_listeners(&listeners))?;
        if !matches!(config.storage, Some(Storage::Ephemeral)) {
            properties.set("log.dirs", &directory.to_string_lossy())?;
        }
        let options = NodeOptions {
            properties,
            config: broker_config,
            disk,
            directory,
            random: Box::new(fill_random),
            durability: config.durability,
            progress: Box::new(tell_progress()),
        };
        let node = Arc::new(Node::open(options, clock.now())?);
        let shared = Arc::new(Shared::new(node, clock, limits));
        let (stopping, stop_seen) = watch::channel(false);
        let stopping = Arc::new(stopping);
        let bootstrap_servers = bootstrap_servers(&listeners, &addresses);
        for listener in bound {
            runtime.spawn(listener::accept_all(listener, shared.clone(), stop_seen.clone()));
        }
        runtime.spawn(keep_time(shared.clone(), stop_seen));
        let (failed, failure) = watch::channel(false);
        let maintenance =
            Maintenance::start(shared.clone(), maintenance_period, stopping.clone(), failed.clone())
                .map_err(StartError::Runtime)?;
        let syncs = SyncThread::start(shared.clone(), maintenance.hurry.clone(), stopping.clone(), failed)
            .map_err(StartError::Runtime)?;
        Ok(Broker {
            addresses,
            bootstrap_servers,
            stopping,
            runtime: Some(runtime),
            maintenance: Some(maintenance),
            syncs,
            failure,
            shared,
        })
    }

    /// The address of the first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The addresses of all listeners, in the order they were configured.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What clients on this machine take as `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Waits until the broker can go on no more, because the disk refused to keep something. It takes no requests then, and
    /// what it has acknowledged is there at the next start.
    pub async fn failed(&self) {
        if self.failure.clone().wait_for(|failed| *failed).await.is_err() {
            // Nobody is there who could say so.
            std::future::pending().await
        }
    }

    /// Stops taking requests, lets the answers under way go out, and closes the data so that the next start needs no recovery.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // Nobody listens any more only where every task has already ended.
        let _ = self.stopping.send(true);
        runtime.block_on(async {
            // Each listener and connection holds a receiver until it has ended.
            let _ = tokio::time::timeout(DRAIN_PATIENCE, self.stopping.closed()).await;
        });
        runtime.shutdown_timeout(DRAIN_PATIENCE);
        drop(self.syncs.take());
        self.shared.node.stop_cleaning();
        drop(self.maintenance.take());
        if self.shared.node.has_failed() {
            tracing::error!("the data is left as it is; the next start recovers it");
            return;
        }
        if let Err(error) = self.shared.node.close(self.shared.clock.now()) {
            tracing::error!("the data was not closed cleanly, the next start recovers it: {error}");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Lets the process have as many files open as it may, as the JVM does for Kafka: the usual soft limit of 1,024 is soon
/// reached by connections and segments. Says how many.
fn raise_file_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    let current = match rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!("the limit of open files stays at {:?}: {error}", limit.current);
            limit.current
        }
    };
    let most = current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    if most < FEW_FILES {
        let clients = most / 2;
        tracing::warn!(
            "at most {most} files may be open (ulimit -Hn), and so at most {clients} clients be connected"
        );
    }
    most
}

fn fill_random(bytes: &mut [u8]) {
    rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())
        .expect("the system's random source never fails once it is up, for so few bytes");
}

/// Says once a second how far a start has come that takes longer than that.
fn tell_progress() -> impl Fn(Progress) {
    let next = Cell::new(Instant::now() + PROGRESS_PERIOD);
    move |Progress { open, logs }| {
        let now = Instant::now();
        if now >= next.get() {
            tracing::info!("starting: {open} of {logs} logs are open");
            next.set(now + PROGRESS_PERIOD);
        }
    }
}

fn limits(config: &BrokerConfig, most_files: usize) -> Limits {
    Limits {
        request_bytes: config.socket_request_max_bytes.max(0) as usize,
        request_memory_bytes: config.queued_max_request_bytes.unwrap_or(0) as usize,
        idle_ms: config.connections_max_idle.map_or(u64::from(u32::MAX), |idle| idle.as_millis() as u64),
        // Connections must not keep segments from being opened.
        connections: (config.max_connections.max(0) as usize).min(most_files / 2),
        connections_per_ip: config.max_connections_per_ip.max(0) as usize,
        connections_of_ip: config
            .max_connections_per_ip_overrides
            .iter()
            .filter_map(|text| text.rsplit_once(':'))
            .flat_map(|(host, most)| {
                let addresses = (host.trim(), 0).to_socket_addrs().into_iter().flatten();
                let most = most.trim().parse().unwrap_or(usize::MAX);
                addresses.map(move |address| (address.ip(), most))
            })
            .collect(),
    }
}

fn storage(config: &Config, broker_config: &BrokerConfig) -> (Arc<dyn Disk>, PathBuf) {
    match &config.storage {
        Some(Storage::Ephemeral) => (Arc::new(MemoryDisk::new()), PathBuf::from("/")),
        Some(Storage::Directory(directory)) => (Arc::new(FileDisk::new()), directory.clone()),
        None => (Arc::new(FileDisk::new()), PathBuf::from(broker_config.data_dir())),
    }
}

/// The listeners of the configuration's own list, or else of Kafka's keys.
fn listeners(config: &Config, broker_config: &BrokerConfig) -> Result<Vec<ListenerConfig>, StartError> {
    let mut listeners = config.listeners.clone();
    if listeners.is_empty() {
        let told = broker_config.advertised_listeners();
        for listener in broker_config.listeners().iter().filter(|listener| !listener.is_controller) {
            if listener.protocol != SecurityProtocol::Plaintext {
                let reason =
                    format!("listener {}: only PLAINTEXT is available in this version", listener.name);
                return Err(StartError::Listener(reason));
            }
            let advertised = told.iter().find(|told| told.name == listener.name);
            listeners.push(ListenerConfig {
                name: listener.name.clone(),
                host: listener.host.clone(),
                port: listener.port,
                advertised: advertised.map(|told| (told.host.clone(), told.port)),
            });
        }
    }
    if listeners.is_empty() {
        return Err(StartError::Listener("no listener is configured".into()));
    }
    for listener in &listeners {
        if let Some((host, _)) = &listener.advertised
            && matches!(host.as_str(), "" | "0.0.0.0" | "::" | "[::]")
        {
            let name = &listener.name;
            let reason = format!("listener {name} cannot advertise {host:?}: no client can connect to that");
            return Err(StartError::Listener(reason));
        }
    }
    Ok(listeners)
}

fn bind(listener: &ListenerConfig, backlog: u32) -> Result<Listener, StartError> {
    let host = if listener.host.is_empty() { "0.0.0.0" } else { listener.host.trim_matches(['[', ']']) };
    let fail = |cause| StartError::Bind { address: format!("{host}:{}", listener.port), cause };
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address");
    for address in (host, listener.port).to_socket_addrs().map_err(fail)? {
        match listen(address, backlog) {
            Ok(socket) => {
                let advertised = listener
                    .advertised
                    .as_ref()
                    .map(|(host, port)| (Str::from(host.as_str()), i32::from(*port)));
                return Ok(Listener { name: Str::from(listener.name.as_str()), socket, advertised });
            }
            Err(error) => last = error,
        }
    }
    Err(fail(last))
}

fn listen(address: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A broker that was killed can come back to its port at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// The listeners as Kafka's key `listeners` has them.
fn describe_listeners(listeners: &[ListenerConfig]) -> String {
    let describe =
        |listener: &ListenerConfig| format!("{}://{}:{}", listener.name, listener.host, listener.port);
    listeners.iter().map(describe).collect::<Vec<_>>().join(",")
}

fn bootstrap_servers(listeners: &[ListenerConfig], addresses: &[SocketAddr]) -> String {
    let told = listeners.iter().zip(addresses).map(|(listener, address)| match &listener.advertised {
        Some((host, port)) => format!("{host}:{port}"),
        None if address.ip().is_unspecified() => format!("127.0.0.1:{}", address.port()),
        None => address.to_string(),
    });
    told.collect::<Vec<_>>().join(",")
}

/// Runs the node's timers, each at its time.
async fn keep_time(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let changed = shared.node.timer_signal().clone();
    loop {
        let deadline = shared.node.next_deadline();
        let at_deadline = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(shared.clock.instant(deadline)).await,
                None => std::future::pending().await,
            }
        };
        let fired = std::future::poll_fn(|context| match changed.is_set_or_wake(context.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        tokio::select! {
            _ = at_deadline => shared.node.tick(shared.clock.now()),
            _ = fired => { changed.take(); }
            _ = stopping.changed() => return,
        }
    }
}

/// Looks after the logs on a thread of its own, since that waits for the disk. Dropping it stops it.
struct Maintenance {
    /// Has it done now; false to stop it.
    hurry: mpsc::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Maintenance {
    fn start(
        shared: Arc<Shared>,
        period: Duration,
        stopping: Arc<watch::Sender<bool>>,
        failed: watch::Sender<bool>,
    ) -> std::io::Result<Maintenance> {
        let (hurry, hurried) = mpsc::channel();
        let thread = std::thread::Builder::new().name("oncelog-maintain".into()).spawn(move || {
            let mut wait = period;
            while let Ok(true) | Err(mpsc::RecvTimeoutError::Timeout) = hurried.recv_timeout(wait) {
                let has_more = shared.node.maintain(shared.clock.now());
                wait = if has_more { Duration::ZERO } else { period };
                // Where answers wait for syncs, the thread that syncs sees to it that they are given.
                if shared.node.has_failed() && shared.node.sync_signal().is_none() {
                    let _ = (stopping.send(true), failed.send(true));
                    return;
                }
            }
        })?;
        Ok(Maintenance { hurry, thread: Some(thread) })
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        // If nobody receives it, the thread has ended.
        let _ = self.hurry.send(false);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the maintenance thread had panicked");
        }
    }
}

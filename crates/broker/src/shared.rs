//! What all connections of a broker share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use oncelog_node::Node;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::complaints::Complaints;

/// The bounds a connection has to keep.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// `socket.request.max.bytes`.
    pub(crate) request_bytes: usize,
    /// `queued.max.request.bytes`, or 0 where there is no bound.
    pub(crate) request_memory_bytes: usize,
    /// `connections.max.idle.ms`.
    pub(crate) idle_ms: u64,
    /// `max.connections`.
    pub(crate) connections: usize,
    /// `max.connections.per.ip`.
    pub(crate) connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`, by address.
    pub(crate) connections_of_ip: HashMap<IpAddr, usize>,
}

pub(crate) struct Shared {
    pub(crate) node: Arc<Node>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) complaints: Complaints,
    /// Permits for the bytes of requests, where `queued.max.request.bytes` bounds them.
    pub(crate) request_memory: Option<Arc<Semaphore>>,
    census: Mutex<Census>,
}

/// Who is connected.
#[derive(Default)]
struct Census {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
}

impl Shared {
    pub(crate) fn new(node: Arc<Node>, clock: Clock, limits: Limits) -> Shared {
        let request_memory = match limits.request_memory_bytes {
            0 => None,
            bytes => Some(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)))),
        };
        let complaints = Complaints::new();
        Shared { node, clock, limits, complaints, request_memory, census: Mutex::default() }
    }

    /// Counts a client in; `None`, with the reason logged, where there is no room for it.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<Admission> {
        let mut census = self.census.lock();
        let here = census.by_ip.get(&ip).copied().unwrap_or(0);
        let most_here =
            self.limits.connections_of_ip.get(&ip).copied().unwrap_or(self.limits.connections_per_ip);
        let reason = if census.total >= self.limits.connections {
            let most = self.limits.connections;
            format!("max.connections and the limit of open files allow no more than {most}")
        } else if here >= most_here {
            format!("max.connections.per.ip is {most_here} for it")
        } else {
            census.total += 1;
            *census.by_ip.entry(ip).or_default() += 1;
            return Some(Admission { shared: self.clone(), ip });
        };
        drop(census);
        self.complaints.say(|| format!("closed a connection of {ip} at once: {reason}"));
        None
    }
}

/// One client's place in the census, given back when dropped.
pub(crate) struct Admission {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut census = self.shared.census.lock();
        census.total -= 1;
        if let Some(count) = census.by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                census.by_ip.remove(&self.ip);
            }
        }
    }
}

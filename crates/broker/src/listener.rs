//! Accepting connections, also when the process is out of file descriptors.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oncelog_node::Connection;
use oncelog_wire::Str;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::connection;
use crate::shared::Shared;

/// How long the accept loop rests after an error that will not pass by itself at once.
const REST: Duration = Duration::from_millis(50);

/// A bound listener, and what its clients are told.
pub(crate) struct Listener {
    pub(crate) name: Str,
    pub(crate) socket: TcpListener,
    /// The address clients are told; where there is none, the one they connected to.
    pub(crate) advertised: Option<(Str, i32)>,
}

static NEXT_CONNECTION_ID: AtomicU64 = AtomicU64::new(1);

/// Accepts until the broker stops.
pub(crate) async fn accept_all(listener: Listener, shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut reserve = File::open("/dev/null").ok();
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            _ = stopping.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => welcome(&listener, stream, peer, &shared, &stopping),
            Err(error) if is_out_of_files(&error) => {
                // Giving up the reserve lets the waiting client be accepted and turned away, so that it
                // learns of the trouble and the loop does not spin on it.
                drop(reserve.take());
                if let Ok((stream, peer)) = listener.socket.accept().await {
                    drop(stream);
                    shared.complaints.say(|| format!("turned {peer} away: no file descriptor is left"));
                }
                reserve = File::open("/dev/null").ok();
                tokio::time::sleep(REST).await;
            }
            Err(error) => {
                shared.complaints.say(|| format!("accepting a connection failed: {error}"));
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    let code = error.raw_os_error().unwrap_or(0);
    code == rustix::io::Errno::MFILE.raw_os_error() || code == rustix::io::Errno::NFILE.raw_os_error()
}

fn welcome(
    listener: &Listener,
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    stopping: &watch::Receiver<bool>,
) {
    let Some(admission) = shared.admit(plain(peer.ip())) else { return };
    let Ok(local) = stream.local_addr() else { return };
    // Without this, answers would wait for acknowledgements of the ones before (Nagle's algorithm).
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let (advertised_host, advertised_port) = match &listener.advertised {
        Some((host, port)) => (host.clone(), *port),
        None => (Str::from(plain(local.ip()).to_string()), i32::from(local.port())),
    };
    let connection = Connection {
        id: NEXT_CONNECTION_ID.fetch_add(1, Ordering::Relaxed),
        client_host: Str::from(format!("/{}", plain(peer.ip()))),
        listener: listener.name.clone(),
        advertised_host,
        advertised_port,
    };
    let (shared, stopping) = (shared.clone(), stopping.clone());
    tokio::spawn(async move {
        connection::serve(stream, connection, shared, stopping).await;
        drop(admission);
    });
}

/// An IPv4 address that came through an IPv6 socket, as itself.
fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

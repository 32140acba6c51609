//! A proxy between clients and a broker. It knows frames, so that it can lose or hold back the answer to a given API.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use oncelog_wire::ApiKey;

/// What happens to a request or to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut before the broker sees the request.
    LoseRequest,
    /// The broker answers, and the connection is cut before the client sees it.
    LoseAnswer,
    /// The answer comes late.
    HoldAnswer(Duration),
}

/// Forwards connections to a broker that advertises the proxy's address. It runs until the process ends.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    broker: OnceLock<SocketAddr>,
    armed: Mutex<Vec<Armed>>,
    /// The clients' ends of the connections there are, by number.
    open: Mutex<HashMap<u64, TcpStream>>,
    connections: AtomicU64,
}

struct Armed {
    api: ApiKey,
    fault: Fault,
    /// How many requests of the API pass before the fault strikes.
    passing: usize,
}

impl Shared {
    /// The fault that strikes a request of this API, and is used up by it.
    fn strike(&self, api: i16) -> Option<Fault> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let index = armed.iter().position(|armed| armed.api as i16 == api)?;
        if armed[index].passing > 0 {
            armed[index].passing -= 1;
            return None;
        }
        Some(armed.remove(index).fault)
    }
}

impl Proxy {
    /// Listens on a free port; connections wait until the broker is known.
    pub fn bind() -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let of_threads = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = of_threads.clone();
                std::thread::spawn(move || connect(client, &shared));
            }
        });
        Proxy { address, shared }
    }

    /// The address clients connect to, and the broker has to advertise.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says where the broker is.
    pub fn forward_to(&self, broker: SocketAddr) {
        self.shared.broker.set(broker).expect("a proxy has one broker");
    }

    /// Lets `passing` requests of the API go by, then strikes the next one. Faults of one API strike one after the other.
    pub fn arm(&self, api: ApiKey, fault: Fault, passing: usize) {
        let mut armed = self.shared.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.push(Armed { api, fault, passing });
    }

    /// Cuts all connections.
    pub fn cut_all(&self) {
        for client in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// How many faults have not struck yet.
    pub fn armed(&self) -> usize {
        self.shared.armed.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Serves a connection, which can be cut as long as that takes.
fn connect(client: TcpStream, shared: &Shared) {
    let number = shared.connections.fetch_add(1, Ordering::Relaxed);
    let Ok(end) = client.try_clone() else { return };
    shared.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, end);
    serve(client, shared);
    shared.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
}

/// Pumps requests one way here and answers the other way in a second thread, until either side ends.
fn serve(mut client: TcpStream, shared: &Shared) {
    let Ok(mut broker) = TcpStream::connect(shared.broker.wait()) else { return };
    let (Ok(client_end), Ok(broker_end)) = (client.try_clone(), broker.try_clone()) else { return };
    let struck: Arc<Mutex<HashMap<i32, Fault>>> = Arc::default();
    let of_answers = struck.clone();
    std::thread::spawn(move || answers(broker_end, client_end, &of_answers));
    while let Some(frame) = read_frame(&mut client) {
        // Size, API key, version, correlation id.
        let api = i16::from_be_bytes([frame[4], frame[5]]);
        let correlation = correlation_id(&frame[8..12]);
        match shared.strike(api) {
            Some(Fault::LoseRequest) => break,
            Some(fault) => {
                struck.lock().unwrap_or_else(PoisonError::into_inner).insert(correlation, fault);
            }
            None => {}
        }
        if broker.write_all(&frame).is_err() {
            break;
        }
    }
    cut(&client, &broker);
}

fn answers(mut broker: TcpStream, mut client: TcpStream, struck: &Mutex<HashMap<i32, Fault>>) {
    while let Some(frame) = read_frame(&mut broker) {
        let fault =
            struck.lock().unwrap_or_else(PoisonError::into_inner).remove(&correlation_id(&frame[4..8]));
        match fault {
            Some(Fault::HoldAnswer(pause)) => std::thread::sleep(pause),
            Some(_) => break,
            None => {}
        }
        if client.write_all(&frame).is_err() {
            break;
        }
    }
    cut(&client, &broker);
}

fn cut(client: &TcpStream, broker: &TcpStream) {
    let _ = client.shutdown(Shutdown::Both);
    let _ = broker.shutdown(Shutdown::Both);
}

fn correlation_id(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(bytes.try_into().expect("four bytes were cut out"))
}

/// One frame with its size; `None` at the end of the stream, or for a frame too short to have a header.
fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).ok()?;
    let length = usize::try_from(i32::from_be_bytes(size)).ok().filter(|&length| length >= 4)?;
    let mut frame = vec![0; 4 + length];
    frame[..4].copy_from_slice(&size);
    stream.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

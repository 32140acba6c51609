//! What a handler may know about the request beside its body.

use oncelog_wire::{Now, Str};

/// One client's connection, as the shell describes it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Tells connections apart in log lines.
    pub id: u64,
    /// The client's address as Kafka shows it to administrators, such as `/127.0.0.1`.
    pub client_host: Str,
    /// The name of the listener the client came through, such as `PLAINTEXT`.
    pub listener: Str,
    /// The host this client is told to find the broker at.
    pub advertised_host: Str,
    /// The port this client is told to find the broker at.
    pub advertised_port: i32,
}

/// The circumstances of one request.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The connection it came through.
    pub connection: &'a Connection,
    /// The version of the API it is written in.
    pub api_version: i16,
    /// The client's name for itself; empty where it gave none.
    pub client_id: Str,
    /// When it was taken up.
    pub now: Now,
}

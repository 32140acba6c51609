//! `listeners`, `advertised.listeners` and what goes with them.

use super::{BROKER_KEYS, ConfigError};

/// How the bytes of a connection are protected and who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl SecurityProtocol {
    fn parse(name: &str) -> Option<SecurityProtocol> {
        Some(match name.to_ascii_uppercase().as_str() {
            "PLAINTEXT" => SecurityProtocol::Plaintext,
            "SSL" => SecurityProtocol::Ssl,
            "SASL_PLAINTEXT" => SecurityProtocol::SaslPlaintext,
            "SASL_SSL" => SecurityProtocol::SaslSsl,
            _ => return None,
        })
    }
}

/// An address that is bound, or told to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, upper case, such as `PLAINTEXT` or `BROKER`.
    pub name: String,
    /// What it speaks.
    pub protocol: SecurityProtocol,
    /// A host name or address without brackets; empty stands for every interface.
    pub host: String,
    /// The port; 0 stands for one the system chooses.
    pub port: u16,
    /// Whether it is named in `controller.listener.names`.
    pub is_controller: bool,
}

/// The names that give listeners their meaning.
pub(super) struct ListenerNames<'a> {
    /// `listener.security.protocol.map`.
    pub protocols: &'a str,
    /// `controller.listener.names`.
    pub controllers: &'a [String],
}

impl ListenerNames<'_> {
    /// Parses the value of `key`.
    pub fn parse(&self, key: &'static str, value: &str) -> Result<Vec<Listener>, ConfigError> {
        let mut listeners: Vec<Listener> = Vec::new();
        for text in value.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let listener = self.listener(text).map_err(|why| ConfigError::new(key, value, why))?;
            if let Some(other) = listeners.iter().find(|other| other.name == listener.name) {
                return Err(ConfigError::new(
                    key,
                    value,
                    format!("has the listener name {} twice", other.name),
                ));
            }
            if let Some(other) = listeners.iter().find(|other| other.clashes_with(&listener)) {
                let why = format!("{} and {} have the same port", other.name, listener.name);
                return Err(ConfigError::new(key, value, why));
            }
            listeners.push(listener);
        }
        Ok(listeners)
    }

    fn listener(&self, text: &str) -> Result<Listener, String> {
        let malformed = || format!("{text} is not of the form NAME://host:port");
        let (name, address) = text.split_once("://").ok_or_else(malformed)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = name.to_ascii_uppercase();
        if name.is_empty() || host.contains(['[', ']', '/', ' ']) {
            return Err(malformed());
        }
        let is_controller = self.controllers.iter().any(|controller| controller.eq_ignore_ascii_case(&name));
        let protocol = self.protocol(&name, is_controller)?;
        Ok(Listener { name, protocol, host: host.to_owned(), port, is_controller })
    }

    fn protocol(&self, name: &str, is_controller: bool) -> Result<SecurityProtocol, String> {
        let pairs = self.protocols.split(',').filter_map(|pair| pair.trim().split_once(':'));
        for (mapped, protocol) in pairs {
            if mapped.trim().eq_ignore_ascii_case(name) {
                return SecurityProtocol::parse(protocol.trim()).ok_or_else(|| {
                    format!("listener.security.protocol.map has no such protocol as {protocol}")
                });
            }
        }
        // Kafka maps controller listeners to PLAINTEXT by itself as long as nobody has set the map.
        let is_default_map = BROKER_KEYS.get("listener.security.protocol.map").is_some_and(
            |key| matches!(key.default, super::DefaultValue::Text(text) if text == self.protocols),
        );
        if is_controller && is_default_map {
            return Ok(SecurityProtocol::Plaintext);
        }
        Err(format!("listener.security.protocol.map says nothing of {name}"))
    }
}

impl Listener {
    fn clashes_with(&self, other: &Listener) -> bool {
        let hosts_meet = self.host == other.host || self.is_wildcard() || other.is_wildcard();
        self.port == other.port && self.port != 0 && hosts_meet
    }

    /// Whether the host stands for every interface, which is nothing a client can connect to.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::")
    }
}

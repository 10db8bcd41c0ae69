//! What the operator says of a target and of the login there: plain input, no behaviour beyond reading an address.
//!
//! The configuration fills these; [`Target::new`](super::Target::new) turns a target's into something that can be
//! dialled. Nothing here holds a secret: a credential names where its password is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use pgturnstile_proto::startup::ProtocolVersion;

use crate::net::tls::CertificateFiles;

/// Where a target listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or an IP address (without brackets), and a port.
    Tcp {
        /// DNS name, IPv4 or IPv6 address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// The folder of a Unix socket, and the port in its name (`.s.PGSQL.5432`).
    Unix {
        /// `unix_socket_directories` of the server.
        directory: PathBuf,
        /// The number in the socket's name.
        port: u16,
    },
}

/// An address that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no address: {why}. Write host:port, [ipv6]:port, or /folder/of/the/socket:port, as in 10.20.0.3:5432"
)]
pub struct AddressError {
    text: String,
    why: &'static str,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |why| AddressError { text: text.to_owned(), why };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| error("the port is missing"))?;
        // `u16::from_str` takes a leading plus sign, which no port has.
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error("the port is no number"));
        }
        let port = match port.parse::<u16>() {
            Ok(0) | Err(_) => return Err(error("the port is not between 1 and 65535")),
            Ok(port) => port,
        };
        if host.starts_with('/') {
            return Ok(Self::Unix { directory: PathBuf::from(host), port });
        }
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(|| error("the bracket is not closed"))?,
            None if host.contains(':') => return Err(error("an IPv6 address needs brackets")),
            None => host,
        };
        if host.is_empty() {
            return Err(error("the host is empty"));
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "{host}:{port}"),
            Self::Unix { directory, port } => write!(formatter, "{}:{port}", directory.display()),
        }
    }
}

/// libpq's `sslmode`, without the ones that fall back (`allow`, `prefer`): what falls back protects nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS: SSLRequest is never sent.
    Disable,
    /// TLS, whoever answers. Protects against listening only.
    Require,
    /// TLS, and the certificate was signed by a configured CA; with `name`, it also carries that name.
    VerifyCa,
    /// TLS, and the certificate was signed by a configured CA for the host that is dialled.
    VerifyFull,
}

/// Whether SCRAM must be bound to the TLS channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelBinding {
    /// SCRAM-SHA-256-PLUS where the server offers it; a server that could and was kept from saying so is detected.
    #[default]
    Prefer,
    /// Any login without channel binding is refused.
    Require,
}

/// TLS toward one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// How much is verified.
    pub mode: TlsMode,
    /// CA files (PEM), several for a rotation; needed by `verify-ca` and `verify-full`.
    pub ca: Vec<PathBuf>,
    /// `verify-ca`: the common name or DNS name that the certificate must carry (Cloud SQL: `project:instance`).
    /// `verify-full`: the host name to verify instead of the address's.
    pub name: Option<String>,
    /// Whether SCRAM must be bound to the channel.
    pub channel_binding: ChannelBinding,
    /// TLS from the first byte, without SSLRequest (libpq's `sslnegotiation=direct`).
    pub direct: bool,
}

impl TlsSettings {
    /// No TLS.
    pub fn disabled() -> Self {
        Self {
            mode: TlsMode::Disable,
            ca: Vec::new(),
            name: None,
            channel_binding: ChannelBinding::Prefer,
            direct: false,
        }
    }
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSettings {
    /// The target's name in configuration, policy and evidence.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// The database to connect to.
    pub database: String,
    /// TLS toward it.
    pub tls: TlsSettings,
    /// The newest protocol version to ask it for. A server that has an older one says so and goes on.
    pub protocol: ProtocolVersion,
}

/// A login of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The credential's name in the configuration.
    pub name: String,
    /// The database role to log in as.
    pub user: String,
    /// Where its password is; `None` for a login that the server grants without one (trust, peer, certificate).
    pub password: Option<PasswordSource>,
    /// The certificate to show where the target asks for one, and its key. Read at each login.
    pub certificate: Option<CertificateFiles>,
}

/// Where a password is read, at each login that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// A file's content, without one trailing newline.
    File(PathBuf),
    /// An environment variable of the gateway's process.
    Environment(String),
    /// A program's standard output, without one trailing newline. Run directly, not by a shell.
    Command {
        /// Program and arguments; the program is looked up in PATH.
        argv: Vec<String>,
        /// How long it may run, milliseconds.
        timeout_ms: u64,
    },
}

/// What an access entry fixes for a session, once, in the startup packet: RESET and DISCARD ALL return to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guards {
    /// `mode = "read"`: default_transaction_read_only=on.
    pub read_only: bool,
    /// Milliseconds; `None` leaves the role's.
    pub statement_timeout_ms: Option<u32>,
    /// Milliseconds; `None` leaves the role's.
    pub lock_timeout_ms: Option<u32>,
    /// `idle_in_transaction_session_timeout`, milliseconds; `None` leaves the role's.
    pub idle_in_transaction_ms: Option<u32>,
    /// Schemas in order. Always sent, so that names resolve as the gateway resolved them; empty means pg_catalog only.
    pub search_path: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Result<Address, AddressError> {
        Ok(Address::Tcp { host: host.to_owned(), port })
    }

    #[test]
    fn addresses_read_and_print() {
        assert_eq!("10.20.0.3:5432".parse(), tcp("10.20.0.3", 5432));
        assert_eq!("db.example.com:6432".parse(), tcp("db.example.com", 6432));
        assert_eq!("[::1]:5432".parse(), tcp("::1", 5432));
        let unix = Address::Unix { directory: PathBuf::from("/run/postgresql"), port: 5432 };
        assert_eq!("/run/postgresql:5432".parse(), Ok(unix));
        for text in ["10.20.0.3:5432", "[::1]:5432", "/run/postgresql:5432"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        let why = |text: &str| text.parse::<Address>().unwrap_err().to_string();
        assert!(why("db").contains("the port is missing"));
        assert!(why("db:").contains("not between 1 and 65535"));
        assert!(why("db:0").contains("not between"));
        assert!(why("db:65536").contains("not between"));
        assert!(why("db:+5432").contains("no number"));
        assert!(why("::1:5432").contains("needs brackets"));
        assert!(why("[::1:5432").contains("not closed"));
        assert!(why(":5432").contains("host is empty"));
    }
}

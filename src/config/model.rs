//! What pgturnstile.toml says, as plain values: read, checked, with units in the names.
//!
//! Owns no behaviour beyond naming things. Paths are absolute or relative to the working directory, never to the file:
//! the reader has resolved them. Nothing here holds a secret; a password is a [`PasswordSource`], fetched when it is
//! needed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use pgturnstile_proto::startup::ProtocolVersion;
use pgturnstile_rules::document::{Diagnostic, Place};

use super::preset::Preset;

/// The whole file.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file, as the operator named it.
    pub file: PathBuf,
    /// BLAKE3 of the file's bytes: what the evidence says of the configuration in force.
    pub hash: [u8; 32],
    /// `[gateway]`.
    pub gateway: Gateway,
    /// `[[listener]]`: at least one, addresses differ.
    pub listeners: Vec<Listener>,
    /// `[control]`; `None`: no admin listener.
    pub control: Option<Control>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[holds]`.
    pub holds: Holds,
    /// `[[issuer]]`: at least one, names and issuer URLs differ.
    pub issuers: Vec<Issuer>,
    /// `[[person]]`.
    pub persons: Vec<Person>,
    /// `[credential.NAME]`, in the order of the file; names differ.
    pub credentials: Vec<Credential>,
    /// `[[target]]`: at least one, names differ.
    pub targets: Vec<Target>,
    /// `[evidence]`.
    pub evidence: Evidence,
    /// What the operator should know although the file can be used.
    pub warnings: Vec<Diagnostic>,
}

impl Config {
    /// The target of that name.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// The credential of that name.
    #[must_use]
    pub fn credential(&self, name: &str) -> Option<&Credential> {
        self.credentials.iter().find(|credential| credential.name == name)
    }

    /// The issuer of that name, or the first where none is named.
    #[must_use]
    pub fn issuer_or_first(&self, name: Option<&str>) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| name.is_none_or(|name| issuer.name == name))
    }

    /// The issuer of that name.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.name == name)
    }
}

/// `[gateway]`.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The policy file.
    pub policy: PathBuf,
    /// Where the policy file is named.
    pub policy_place: Place,
    /// Public keys of who may vouch for the policy; empty: nobody has to.
    pub policy_signers: Vec<String>,
    /// How many of them must.
    pub policy_signatures_min: u64,
    /// Folder of the gateway's own state (keys); created with mode 0700 when it is missing.
    pub state_directory: PathBuf,
    /// Where that folder is named.
    pub state_place: Place,
    /// It is named, and not the one beside the configuration by default.
    pub state_named: bool,
    /// Session threads; 0 means one per core, less one.
    pub shards: usize,
    /// How long sessions may go on after SIGTERM, in seconds.
    pub drain_deadline_s: u64,
}

impl Gateway {
    /// The number of session threads on a machine with `cores` cores; at least one.
    #[must_use]
    pub fn shard_count(&self, cores: usize) -> usize {
        if self.shards == 0 { cores.saturating_sub(1).max(1) } else { self.shards }
    }
}

/// What may name the target of a session: the words of `listener.routes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The database of the startup packet is the target's name.
    Database,
    /// The server name of the TLS handshake is one of the target's `server_names`.
    ServerName,
    /// The user of the startup packet ends with `@` and the target's name.
    UserSuffix,
}

impl Route {
    /// All.
    pub const ALL: [Route; 3] = [Route::Database, Route::ServerName, Route::UserSuffix];

    /// As the file and the records write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Route::Database => "database",
            Route::ServerName => "server-name",
            Route::UserSuffix => "user-suffix",
        }
    }
}

/// `[[listener]]`.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where it listens, and what protects the way to it.
    pub at: ListenerAt,
    /// How clients prove themselves.
    pub auth: Auth,
    /// What names a client's target; at least one.
    pub routes: Vec<Route>,
    /// Where it stands in the file.
    pub place: Place,
}

impl Listener {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> ListenAddress {
        match &self.at {
            ListenerAt::Tcp { address, .. } => ListenAddress::Tcp(*address),
            ListenerAt::Unix(socket) => ListenAddress::Unix(socket.path.clone()),
        }
    }

    /// Its certificate and key; `None` on a Unix socket.
    #[must_use]
    pub fn tls(&self) -> Option<&ListenerTls> {
        match &self.at {
            ListenerAt::Tcp { tls, .. } => Some(tls),
            ListenerAt::Unix(_) => None,
        }
    }

    /// The load balancers that it is reached through; `None`: clients reach it themselves.
    #[must_use]
    pub fn proxies(&self) -> Option<&Proxies> {
        match &self.at {
            ListenerAt::Tcp { proxies, .. } => proxies.as_ref(),
            ListenerAt::Unix(_) => None,
        }
    }

    /// Its Unix socket; `None` for TCP.
    #[must_use]
    pub fn socket(&self) -> Option<&SocketFile> {
        match &self.at {
            ListenerAt::Tcp { .. } => None,
            ListenerAt::Unix(socket) => Some(socket),
        }
    }
}

/// The two kinds of listener. Tokens are asked for inside TLS, or where no network carries them.
#[derive(Debug, Clone)]
pub enum ListenerAt {
    /// TCP, always with TLS.
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Its certificate and key.
        tls: ListenerTls,
        /// The load balancers that it is reached through; `None`: clients reach it themselves.
        proxies: Option<Proxies>,
    },
    /// A Unix socket, never with TLS: PostgreSQL's clients speak none there.
    Unix(SocketFile),
}

/// `listener.proxy_protocol`: connections begin with a header of the PROXY protocol, version 2, and come from these peers
/// only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxies {
    /// Whose header is believed: at least one, none of them the whole address space.
    pub trusted: Vec<IpNet>,
}

impl Proxies {
    /// Whether a header from this address is believed.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// A Unix socket that the gateway listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFile {
    /// The socket: `DIRECTORY/.s.PGSQL.PORT`.
    pub path: PathBuf,
    /// Permission bits of the socket's file. Linux asks for write permission to connect.
    pub mode: u32,
    /// The group that owns it; the system's choice when absent.
    pub group: Option<u32>,
}

/// The socket's file in a directory, as PostgreSQL names it (`UNIXSOCK_PATH` in src/include/libpq/pqcomm.h).
pub(super) fn socket_path(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

/// Where a listener listens: what tells it from the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// Address and port.
    Tcp(SocketAddr),
    /// The socket's file.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => path.display().fmt(f),
        }
    }
}

/// `listener.tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// Certificate chain in PEM, own certificate first.
    pub certificate: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
    /// TLS may begin without an SSLRequest.
    pub direct: bool,
}

/// `[control]`: the admin listener.
#[derive(Debug, Clone)]
pub struct Control {
    /// Where it listens: loopback, or any address with TLS.
    pub address: SocketAddr,
    /// The control socket, which tells of live sessions too; `None`: nothing does.
    pub socket: Option<PathBuf>,
    /// Whether metrics are offered there.
    pub metrics: bool,
    /// Its certificate and key.
    pub tls: Option<ListenerTls>,
    /// Where it stands in the file.
    pub place: Place,
}

/// How clients of a listener prove themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// An OIDC token in the password field, asked for inside TLS.
    TokenPassword,
    /// An OIDC token by SASL's OAUTHBEARER (RFC 7628), inside TLS; what a client without one is told.
    OauthBearer {
        /// The `[[issuer]]` that it is sent to; `None`: the only one.
        issuer: Option<String>,
        /// The scope that it is to ask for.
        scope: String,
    },
}

impl Auth {
    /// As the file and the records write it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Auth::TokenPassword => "token-password",
            Auth::OauthBearer { .. } => "oauthbearer",
        }
    }
}

/// `[limits]`. Every value is a bound that is enforced, never a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Client connections of the whole gateway.
    pub connections_max: u64,
    /// Client connections from one address.
    pub connections_per_address_max: u64,
    /// From accept to ReadyForQuery, in milliseconds.
    pub login_deadline_ms: u64,
    /// From connect to the target's first ReadyForQuery, in milliseconds.
    pub dial_deadline_ms: u64,
    /// Longest token.
    pub token_bytes_max: u64,
    /// Longest SQL text; a target may set its own.
    pub statement_bytes_max: u64,
    /// Longest row, error or notice.
    pub row_bytes_max: u64,
    /// Most bytes a session may hold back while a verdict or the evidence is awaited.
    pub held_bytes_max: u64,
    /// Time without any byte after which TCP keepalive probes a peer, in seconds.
    pub keepalive_s: u64,
}

/// `[holds]`.
#[derive(Debug, Clone)]
pub struct Holds {
    /// Statements that wait for people at a time.
    pub open_max: u64,
    /// The same of one requester.
    pub open_per_requester_max: u64,
    /// Bytes that are kept for approvers to see.
    pub bytes_max: u64,
    /// Between two notices to a waiting client, in seconds.
    pub notice_every_s: u64,
    /// Tickets of which something can still come.
    pub tickets_max: u64,
    /// The same of one requester.
    pub tickets_per_requester_max: u64,
    /// Bytes that they take in the journal.
    pub tickets_bytes_max: u64,
}

/// `[[issuer]]`.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The name that the policy uses.
    pub name: String,
    /// The `iss` claim, byte for byte.
    pub issuer: String,
    /// The known provider that it is, which filled in what its section leaves out; `None`: it is written out.
    pub preset: Option<&'static Preset>,
    /// Audiences of ours; a token names at least one.
    pub audiences: Vec<String>,
    /// Audiences that a token may name beside ours.
    pub trusted_audiences: Vec<String>,
    /// Parties (`azp`) that may have asked for the token; empty means any, where one audience stands alone.
    pub authorized_parties: Vec<String>,
    /// Where the keys come from.
    pub jwks: Jwks,
    /// Certificate authorities of the issuer's HTTPS server; empty means the public roots.
    pub ca: Vec<PathBuf>,
    /// Names of signature algorithms (RFC 7518, RFC 8037): a subset of [`ALGORITHMS`].
    pub algorithms: Vec<String>,
    /// Accepted `typ` headers beside an absent one (RFC 7515 section 4.1.9), lower case, without `application/`.
    pub types: Vec<String>,
    /// Tolerance for clocks that differ, in seconds.
    pub clock_skew_s: u64,
    /// Oldest token that opens a session, in seconds since `iat`.
    pub token_age_s_max: u64,
    /// Claim path of the group list.
    pub groups: Option<String>,
    /// Claim path of the person behind the token.
    pub person: Option<String>,
    /// Claim paths copied into the evidence.
    pub keep: Vec<String>,
    /// Where it stands in the file.
    pub place: Place,
}

/// The signature algorithms an issuer may use: asymmetric ones only.
pub const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// Where an issuer's keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// OpenID Connect Discovery 1.0: `ISSUER/.well-known/openid-configuration` names the key set.
    Discover,
    /// The key set's own URL: https, or http on loopback.
    Url(String),
    /// A file that holds the key set.
    File(PathBuf),
}

/// `[[person]]`: one human under several issuers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Issuer name (or `email`) and the value of that issuer's person claim.
    pub identities: Vec<(String, String)>,
}

/// `[credential.NAME]`: a login at a target.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The name that targets and access entries use.
    pub name: String,
    /// The role that logs in.
    pub user: String,
    /// Where its password comes from; `None` where the target asks for none (trust, peer, certificate).
    pub password: Option<PasswordSource>,
    /// The certificate it shows where the target asks for one.
    pub certificate: Option<CredentialCertificate>,
    /// Where it stands in the file.
    pub place: Place,
}

/// A login's certificate and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialCertificate {
    /// Certificate chain in PEM, own certificate first.
    pub certificate: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
}

/// Where a secret comes from. Never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PasswordSource {
    /// The file's content less one trailing line end.
    File(PathBuf),
    /// An environment variable of the gateway.
    Environment(String),
    /// The first line a program prints.
    Command {
        /// The program and its arguments; no shell stands between.
        argv: Vec<String>,
        /// How long it may run, in milliseconds.
        timeout_ms: u64,
    },
}

impl fmt::Display for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordSource::File(path) => write!(f, "file {}", path.display()),
            PasswordSource::Environment(name) => write!(f, "environment variable {name}"),
            // Arguments may name what an operator does not want in a log; the program is enough to find it.
            PasswordSource::Command { argv, .. } => {
                write!(f, "command {}", argv.first().map_or("", String::as_str))
            }
        }
    }
}

/// `[[target]]`: one database.
#[derive(Debug, Clone)]
pub struct Target {
    /// The name that clients ask for as their database, and that the policy uses.
    pub name: String,
    /// Where its server listens.
    pub address: TargetAddress,
    /// The database there.
    pub database: String,
    /// Server names that lead to it, lower case: exact, or `*.` before the rest.
    pub server_names: Vec<String>,
    /// How the connection to it is protected.
    pub tls: TargetTls,
    /// TLS from its first byte, without SSLRequest.
    pub direct_tls: bool,
    /// The newest protocol version to ask it for.
    pub protocol: ProtocolVersion,
    /// Name of the credential that reads the catalog snapshot.
    pub control: String,
    /// Where that credential is named.
    pub control_place: Place,
    /// Sessions the gateway opens there at a time, its control connection not counted.
    pub sessions_max: u64,
    /// Longest SQL text for this target; [`Limits::statement_bytes_max`] unless it says otherwise.
    pub statement_bytes_max: u64,
    /// Where it stands in the file.
    pub place: Place,
}

/// Where a target's server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetAddress {
    /// TCP.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket: `DIRECTORY/.s.PGSQL.PORT`.
    Unix {
        /// The directory of the socket.
        directory: PathBuf,
        /// The port in its name.
        port: u16,
    },
}

impl TargetAddress {
    /// The socket's path; `None` for TCP.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        match self {
            TargetAddress::Tcp { .. } => None,
            TargetAddress::Unix { directory, port } => Some(socket_path(directory, *port)),
        }
    }
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetAddress::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            TargetAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            TargetAddress::Unix { directory, port } => write!(f, "{}:{port}", directory.display()),
        }
    }
}

/// `target.tls`: libpq's sslmode, without the modes that fall back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetTls {
    /// No TLS.
    Disable,
    /// TLS with whatever certificate is shown: protects against listening only.
    Require,
    /// The certificate chains to one of the CAs; with a name, it also carries exactly that name (Cloud SQL's
    /// `project:instance`).
    VerifyCa {
        /// CA files in PEM.
        ca: Vec<PathBuf>,
        /// The name in the certificate.
        name: Option<String>,
    },
    /// The certificate chains to one of the CAs and carries the host's name, or `name` where it is set.
    VerifyFull {
        /// CA files in PEM.
        ca: Vec<PathBuf>,
        /// The host name in the certificate, where it differs from the address.
        name: Option<String>,
    },
}

/// `[evidence]`.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The folder of the segments. It exists: creating it is the operator's act.
    pub directory: PathBuf,
    /// Size at which a segment is closed.
    pub segment_bytes: u64,
    /// Free disk below which nothing new is accepted.
    pub reserve_bytes: u64,
    /// How long a session waits for the evidence before it is refused, in milliseconds.
    pub stall_limit_ms: u64,
    /// Records in memory that are not yet written, over all shards.
    pub queue_bytes_max: u64,
    /// The master key of keyed digests: 32 bytes as 64 hexadecimal digits. Outside [`Evidence::directory`].
    pub digest_key: PathBuf,
    /// Where the key of the checkpoints comes from: a file outside [`Evidence::directory`], or a command.
    pub signing_key: PasswordSource,
    /// The note by which the key before passed the signing on to it.
    pub signing_certificate: Option<PathBuf>,
    /// File of the auditor's public key that originals are sealed to; `None`: none is kept.
    pub sealing_key: Option<PathBuf>,
    /// Second place of the last checkpoint, outside [`Evidence::directory`]; `None`: there is none.
    pub head: Option<PathBuf>,
    /// Most time between two checkpoints, in seconds.
    pub checkpoint_every_s: u64,
    /// Most records between two checkpoints.
    pub checkpoint_every_records: u64,
    /// Where the section stands in the file.
    pub place: Place,
}

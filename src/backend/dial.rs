//! Connecting to a target: socket, TLS, login, under one deadline.
//!
//! TLS by SSLRequest (PostgreSQL protocol chapter, "SSL Session Encryption"): asked for exactly where the mode wants
//! it, never as a try, and nothing is said in clear to a server that declines. One byte is read, no more: whatever
//! stands behind it is read by TLS or refused, never as plaintext (CVE-2021-23222). Or TLS from the first byte, where the
//! configuration says so: then the server must choose `postgresql` by ALPN, which proves that it means this protocol.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use pgturnstile_proto::encode;
use pgturnstile_proto::startup::ProtocolVersion;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use crate::backend::error::{DialError, Failure, Step};
use crate::backend::login::{CancelKey, Channel, LoggedIn, Login, Method, Notice, Session};
use crate::backend::scram::ScramError;
use crate::backend::server::ServerVersion;
use crate::backend::settings::{Address, Credential};
use crate::backend::startup::StartupParameters;
use crate::backend::target::{Target, TargetTls};
use crate::net::stream::{KEEPALIVE_IDLE, Stream, set_tcp_options};
use crate::net::tls::{self, ClientIdentity, ClientTls, server_end_point};

/// A session on a target, ready and idle. No byte behind its first ReadyForQuery has been read.
#[derive(Debug)]
pub struct Connected {
    /// The stream.
    pub stream: Stream,
    /// What the server reported, in its order.
    pub parameters: Vec<(String, String)>,
    /// For cancel requests.
    pub key: CancelKey,
    /// The server's version.
    pub version: ServerVersion,
    /// How the server was satisfied.
    pub method: Method,
    /// What is spoken.
    pub protocol: ProtocolVersion,
    /// Notices of the login, for the client.
    pub notices: Vec<Notice>,
}

impl Connected {
    /// Ends the session in order: Terminate, then the socket.
    ///
    /// # Errors
    /// The socket's error; the session is gone either way.
    pub async fn close(mut self) -> io::Result<()> {
        let mut frame = Vec::new();
        encode::terminate(&mut frame);
        self.stream.write_all(&frame).await?;
        self.stream.shutdown().await
    }
}

/// Connects and logs in, not later than `deadline`.
///
/// A login that fails on kept keys is tried once more with fresh ones: the password may have been changed in both
/// places meanwhile. What answers protocol 3.2 with an error before anything else (PgBouncer 1.18 and others that do not
/// negotiate) is asked for 3.0, and from then on at once; all that is lost is the longer cancel key.
///
/// # Errors
/// [`DialError`]: unreachable, TLS, login refused, or a server that cannot be used.
pub async fn dial(
    target: &Target,
    login: &Login<'_>,
    parameters: &StartupParameters,
    deadline: Instant,
) -> Result<Connected, DialError> {
    let asked = target.protocol();
    let outcome = match attempt_twice(target, login, parameters, asked, deadline).await {
        Err(Attempt { failure, refused_version: true, .. }) => {
            let lower = attempt_twice(target, login, parameters, ProtocolVersion::V3_0, deadline).await;
            if lower.is_ok() && target.stay_at_3_0() {
                tracing::info!(
                    target_name = target.name(),
                    answer = %failure,
                    "the target does not negotiate protocol 3.2: 3.0 is spoken; max_protocol_version = \"3.0\" spares the \
                     first attempt"
                );
            }
            lower
        }
        other => other,
    };
    outcome.map_err(|Attempt { failure, .. }| DialError { target: target.name().to_owned(), failure })
}

/// protocol_violation, as poolers say it, and feature_not_supported, as servers do (src/backend/tcop/backend_startup.c).
fn is_unknown_version(failure: &Failure) -> bool {
    matches!(failure, Failure::Rejected { step: Step::Authenticate, rejection }
        if matches!(rejection.sqlstate.as_str(), "08P01" | "0A000"))
}

async fn attempt_twice(
    target: &Target,
    login: &Login<'_>,
    parameters: &StartupParameters,
    protocol: ProtocolVersion,
    deadline: Instant,
) -> Result<Connected, Attempt> {
    match attempt(target, login, parameters, protocol, deadline).await {
        Err(Attempt { failure, used_kept_keys: true, .. }) if is_login_failure(&failure) => {
            attempt(target, login, parameters, protocol, deadline).await
        }
        other => other,
    }
}

/// A failed attempt.
struct Attempt {
    failure: Failure,
    used_kept_keys: bool,
    /// The first answer was that the protocol version is not known.
    refused_version: bool,
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self { failure, used_kept_keys: false, refused_version: false }
    }
}

fn is_login_failure(failure: &Failure) -> bool {
    match failure {
        Failure::Rejected { rejection, .. } => rejection.is_authentication(),
        Failure::Scram(ScramError::Server(_) | ScramError::Signature) => true,
        Failure::Scram(
            ScramError::Malformed(_) | ScramError::Nonce | ScramError::Iterations(_) | ScramError::Randomness,
        )
        | Failure::Resolve { .. }
        | Failure::Connect { .. }
        | Failure::Deadline(_)
        | Failure::Io { .. }
        | Failure::Closed(_)
        | Failure::TlsNotOffered
        | Failure::TlsAnswer(_)
        | Failure::EarlyBytes
        | Failure::Handshake(_)
        | Failure::Malformed { .. }
        | Failure::Unexpected { .. }
        | Failure::Nonsense { .. }
        | Failure::TooMuch { .. }
        | Failure::Method(_)
        | Failure::Mechanism
        | Failure::CleartextUnencrypted
        | Failure::NoPassword(_)
        | Failure::NotAsked(_)
        | Failure::CertificateNotAsked(_)
        | Failure::CertificateUnencrypted(_)
        | Failure::Certificate { .. }
        | Failure::Md5Unencrypted
        | Failure::ChannelBinding(_)
        | Failure::Credential(_)
        | Failure::Unencodable(_)
        | Failure::Unfit(_)
        | Failure::Stopped => false,
    }
}

async fn attempt(
    target: &Target,
    login: &Login<'_>,
    parameters: &StartupParameters,
    protocol: ProtocolVersion,
    deadline: Instant,
) -> Result<Connected, Attempt> {
    let (mut stream, certificate_shown) = connect(target, login.credential, deadline).await?;
    let channel = Channel {
        certificate_shown,
        cleartext_password: stream.may_carry_cleartext_password(),
        end_point: stream.peer_certificate().and_then(server_end_point),
        binding: target.binding(),
        protocol,
    };
    let mut session = Session::new(&mut stream, *login, channel, deadline);
    let outcome = timeout_at(deadline, session.run(parameters)).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Failure::Deadline(session.step())));
    let used_kept_keys = session.used_kept_keys();
    let may_be_lower = session.may_be_lower();
    match outcome {
        Ok(LoggedIn { parameters, key, version, method, protocol, notices }) => {
            Ok(Connected { stream, parameters, key, version, method, protocol, notices })
        }
        Err(failure) => {
            if is_login_failure(&failure) {
                login.keys.forget(&login.credential.name);
            }
            let refused_version = may_be_lower && is_unknown_version(&failure);
            Err(Attempt { failure, used_kept_keys, refused_version })
        }
    }
}

pub(super) async fn in_time<T>(
    deadline: Instant,
    step: Step,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout_at(deadline, work).await.unwrap_or(Err(Failure::Deadline(step)))
}

/// The stream to a target, encrypted where its mode wants that; and whether the server asked for the credential's
/// certificate.
pub(super) async fn connect(
    target: &Target,
    credential: &Credential,
    deadline: Instant,
) -> Result<(Stream, bool), Failure> {
    let identity = in_time(deadline, Step::Tls, identity(target, credential)).await?;
    let socket = socket(target.address(), deadline).await?;
    match (socket, target.tls(), identity) {
        (Stream::Plain(tcp), Some(tls), None) => {
            let stream = in_time(deadline, Step::Tls, start_tls(tcp, &tls.client, tls)).await?;
            Ok((stream, false))
        }
        (Stream::Plain(tcp), Some(tls), Some(identity)) => {
            let (client, shown) = tls.client.showing(&identity);
            let stream = in_time(deadline, Step::Tls, start_tls(tcp, &client, tls)).await?;
            Ok((stream, shown.get()))
        }
        // `Target::new` lets no TLS mode through with a Unix socket, and `identity` no certificate without TLS.
        (socket @ (Stream::Plain(_) | Stream::Unix(_) | Stream::Tls(_)), _, _) => Ok((socket, false)),
    }
}

/// The credential's certificate, read anew: files that were replaced need no reload.
async fn identity(target: &Target, credential: &Credential) -> Result<Option<ClientIdentity>, Failure> {
    let Some(files) = &credential.certificate else { return Ok(None) };
    if target.tls().is_none() {
        return Err(Failure::CertificateUnencrypted(credential.name.clone()));
    }
    let files = files.clone();
    let read = tokio::task::spawn_blocking(move || ClientIdentity::load(&files)).await;
    let loaded = read.map_err(|_| Failure::Stopped)?;
    let named = |error| Failure::Certificate { credential: credential.name.clone(), error };
    loaded.map(Some).map_err(named)
}

async fn socket(address: &Address, deadline: Instant) -> Result<Stream, Failure> {
    match address {
        Address::Unix { directory, port } => {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            let connected = timeout_at(deadline, UnixStream::connect(&path)).await;
            let connected = connected.map_err(|_| Failure::Deadline(Step::Connect))?;
            connected
                .map(Stream::Unix)
                .map_err(|error| Failure::Connect { address: path.display().to_string(), error })
        }
        Address::Tcp { host, port } => {
            let addresses = in_time(deadline, Step::Connect, resolve(host, *port)).await?;
            tcp(&addresses, deadline).await
        }
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let failed = |error| Failure::Resolve { host: host.to_owned(), error };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(failed)?.collect();
    if addresses.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(addresses)
}

/// The first address that answers. Each gets an equal share of the time left, so that one which swallows packets
/// leaves some to the next.
async fn tcp(addresses: &[SocketAddr], deadline: Instant) -> Result<Stream, Failure> {
    let mut last = Failure::Deadline(Step::Connect);
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let waiting = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(now) / waiting;
        match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                let step = Step::Connect;
                set_tcp_options(&tcp, KEEPALIVE_IDLE).map_err(|error| Failure::Io { step, error })?;
                return Ok(Stream::Plain(tcp));
            }
            Ok(Err(error)) => last = Failure::Connect { address: address.to_string(), error },
            Err(_) => last = Failure::Deadline(Step::Connect),
        }
    }
    Err(last)
}

async fn start_tls(tcp: TcpStream, client: &ClientTls, tls: &TargetTls) -> Result<Stream, Failure> {
    if tls.direct {
        return direct_tls(tcp, client, &tls.name).await;
    }
    let tcp = ask_for_tls(tcp).await?;
    client.connect(tcp, tls.name.clone()).await.map_err(|error| Failure::Handshake(tls::reason(&error)))
}

/// TLS without SSLRequest ("Direct SSL connection", PostgreSQL 17).
async fn direct_tls(
    tcp: TcpStream,
    client: &ClientTls,
    name: &ServerName<'static>,
) -> Result<Stream, Failure> {
    let hint = "with tls.direct the server must be PostgreSQL 17 or later, and nothing between may ask for SSLRequest";
    let failed = |error| Failure::Handshake(format!("{}; {hint}", tls::reason(&error)));
    let stream = client.connect(tcp, name.clone()).await.map_err(failed)?;
    if !stream.agreed_on(tls::ALPN) {
        return Err(Failure::Handshake(format!("the server chose no protocol by ALPN; {hint}")));
    }
    Ok(stream)
}

/// The socket of a server that has agreed to TLS.
async fn ask_for_tls(mut tcp: TcpStream) -> Result<TcpStream, Failure> {
    let step = Step::Tls;
    let mut request = Vec::new();
    encode::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(|error| Failure::Io { step, error })?;
    let mut answer = [0_u8; 1];
    match tcp.read(&mut answer).await {
        Ok(0) => return Err(Failure::Closed(step)),
        Ok(_) => {}
        Err(error) => return Err(Failure::Io { step, error }),
    }
    match answer {
        [b'S'] => {}
        [b'N'] => return Err(Failure::TlsNotOffered),
        // An old server or an exhausted one sends ErrorResponse here. Its text comes from nobody in particular, so it
        // is not read (CVE-2024-10977).
        [other] => return Err(Failure::TlsAnswer(other)),
    }
    if early_bytes(&tcp).await {
        return Err(Failure::EarlyBytes);
    }
    Ok(tcp)
}

/// Whether bytes are there already, though in TLS the client speaks first.
async fn early_bytes(tcp: &TcpStream) -> bool {
    let mut byte = [0_u8; 1];
    let mut buffer = ReadBuf::new(&mut byte);
    poll_fn(|context| Poll::Ready(matches!(tcp.poll_peek(context, &mut buffer), Poll::Ready(Ok(1..))))).await
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;

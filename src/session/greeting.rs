//! The first bytes of a client: encryption, cancel, startup packet, password.
//!
//! Owns: everything before the client is known. May not: dial, or trust a byte. Reads exactly one packet at a time, so
//! that nothing sent in clear behind an SSLRequest can ever be taken for something said inside TLS. Fails closed: no TLS,
//! no question for a credential, but on a Unix socket, which no network carries.
//!
//! ```text
//!            ┌── GSSENCRequest ── N ──┐
//!            ▼                        │
//!  accept ─► first packet ── SSLRequest ── S ── TLS ──► packet inside TLS ── StartupMessage ──► password ──► token
//!            │                                             └── CancelRequest ──► cancel
//!            ├── a TLS record (direct TLS, first of all, ALPN postgresql) ── TLS ──► packet inside TLS, as above
//!            ├── CancelRequest ──► cancel
//!            └── StartupMessage, anything else ──► FATAL
//!
//!  accept on a Unix socket ─► packet ── SSLRequest, GSSENCRequest ── N ──┐
//!                               ▲ └──── StartupMessage, CancelRequest ──►│ as inside TLS
//!                               └────────────────────────────────────────┘
//! ```
//!
//! Source: PostgreSQL documentation, "Message Flow", start-up, SSL session encryption;
//! `src/backend/tcop/backend_startup.c` (`ProcessStartupPacket`).

use std::io;

use std::task::Poll;

use pgturnstile_proto::frontend::{self, Message, Password};
use pgturnstile_proto::startup::{self, Packet};
use pgturnstile_proto::{FrontendTag, Limits, Malformed, Reason, encode};
use secrecy::SecretSlice;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::denial;
use crate::identity::bearer;
use crate::net::close;
use crate::net::stream::Stream;
use crate::net::tls::{ALPN, ServerTls};

/// Encryption requests that one connection may make: GSS, then TLS.
const REQUESTS_MAX: usize = 2;

/// SQLSTATE sqlserver_rejected_establishment_of_sqlconnection: before anything of PostgreSQL is spoken.
const CONNECTION_REJECTED: &str = "08004";

/// What a connection asked for.
#[derive(Debug)]
pub enum Greeting {
    /// A session.
    Startup {
        /// Its stream, inside TLS.
        stream: Stream,
        /// The startup packet, whole and checked.
        packet: Vec<u8>,
    },
    /// A cancellation of another session.
    Cancel {
        /// Its stream, to be closed in order when all is done: libpq reports one that is torn.
        stream: Stream,
        /// Process id of the key.
        process_id: u32,
        /// Secret of the key.
        key: Vec<u8>,
    },
    /// Nothing: it closed before it said anything, as health checks do.
    Nothing,
}

/// Why a connection is turned away before it is known.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// A packet that cannot be read.
    #[error("malformed packet: {0}")]
    Malformed(#[from] Malformed),
    /// The socket failed.
    #[error("socket: {0}")]
    Socket(#[from] io::Error),
    /// A startup packet outside TLS.
    #[error("the client asked for a session without TLS")]
    NoTls,
    /// Bytes in clear behind an encryption request.
    #[error("the client sent bytes in clear behind its encryption request")]
    EarlyBytes,
    /// TLS from the first byte, where the listener does not take it.
    #[error("the client began with TLS, and this listener takes SSLRequest only")]
    DirectTls,
    /// TLS from the first byte, without the protocol's name: it may have been meant for another service (ALPACA).
    #[error("the client began with TLS and did not name the protocol \"postgresql\" by ALPN")]
    NoAlpn,
    /// The TLS handshake failed.
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    /// Too many encryption requests.
    #[error("the client repeats its encryption request")]
    Repeats,
    /// A frame that is no password message.
    #[error("the client sent {} instead of its password", .0.name())]
    NotAPassword(FrontendTag),
    /// SASL, by a mechanism that was not offered.
    #[error("the client chose another SASL mechanism than OAUTHBEARER, the only one offered")]
    Mechanism,
    /// A message of OAUTHBEARER that cannot be read.
    #[error("the client's OAUTHBEARER message cannot be read: {0}")]
    Bearer(#[from] bearer::Fault),
    /// A password message that is longer than a token may be.
    #[error("the token has {bytes} bytes and may have {limit} ([limits] token_bytes_max)")]
    TokenTooLong {
        /// As declared by its frame, without the terminator.
        bytes: usize,
        /// `token_bytes_max`.
        limit: usize,
    },
    /// The listener is reached through load balancers, and the peer is none of them.
    #[error("the peer is none of the listener's trusted load balancers (proxy_protocol.trusted)")]
    Untrusted,
    /// A trusted load balancer did not say whose connection it brings.
    #[error("the load balancer sent no PROXY header that can be read: {0}")]
    Unpresented(Malformed),
    /// The client that a load balancer speaks for has all the connections that it may have.
    #[error("connections_per_address_max is reached by the client behind the load balancer")]
    TooMany,
    /// It took longer than the login may take.
    #[error("no startup packet came before login_deadline_ms")]
    Late,
    /// It closed in the middle.
    #[error("the client closed the connection before it was known")]
    Closed,
}

impl Rejected {
    /// SQLSTATE and message for the client, where it is owed one.
    pub fn last_words(&self) -> Option<(&'static str, String)> {
        match self {
            Rejected::NoTls => Some((
                "28000",
                "pgturnstile refused the connection: it takes tokens inside TLS only. Next: connect with \
                 sslmode=verify-full (or require)"
                    .to_owned(),
            )),
            Rejected::DirectTls => Some((
                "0A000",
                "pgturnstile refused the connection: this listener takes TLS behind an SSLRequest only. Next: connect \
                 with sslnegotiation=postgres, or have the operator set tls.direct on the listener"
                    .to_owned(),
            )),
            Rejected::NoAlpn => Some((
                denial::PROTOCOL_VIOLATION,
                "pgturnstile refused the connection: TLS without an SSLRequest needs ALPN \"postgresql\", and the client \
                 named no protocol. Next: use a driver that sends it, or connect with sslnegotiation=postgres"
                    .to_owned(),
            )),
            Rejected::Malformed(_)
            | Rejected::EarlyBytes
            | Rejected::Repeats
            | Rejected::NotAPassword(_)
            | Rejected::Mechanism
            | Rejected::Bearer(_) => {
                Some((
                    denial::PROTOCOL_VIOLATION,
                    format!(
                        "pgturnstile refused the connection: {self}. Next: report this to the driver's authors"
                    ),
                ))
            }
            Rejected::TokenTooLong { .. } => Some((
                crate::identity::SQLSTATE,
                format!(
                    "pgturnstile refused the connection: {self}. Next: ask the identity provider for a token with fewer \
                     claims, or have the operator raise the limit"
                ),
            )),
            Rejected::Untrusted => Some((
                CONNECTION_REJECTED,
                "pgturnstile refused the connection: this address is reached through a load balancer only. Next: connect \
                 to the load balancer; whether yours should be trusted here, the operator decides (proxy_protocol)"
                    .to_owned(),
            )),
            Rejected::Unpresented(fault) => Some((
                CONNECTION_REJECTED,
                format!(
                    "pgturnstile refused the connection: the load balancer before it sent no PROXY header of version 2 \
                     ({fault}). Next: have its operator switch that on (HAProxy: send-proxy-v2), or take proxy_protocol \
                     out of the listener"
                ),
            )),
            // TLS was not set up: a message in clear could not be read.
            Rejected::TooMany
            | Rejected::Handshake(_) | Rejected::Socket(_) | Rejected::Late | Rejected::Closed => None,
        }
    }
}

/// Takes a connection up to its startup packet. What is to be said to a rejected one is said here.
///
/// `direct` says whether TLS may begin without an SSLRequest.
///
/// # Errors
/// Why the connection was turned away.
pub async fn greet(mut tcp: TcpStream, tls: &ServerTls, direct: bool) -> Result<Greeting, Rejected> {
    let begun_directly = match greet_in_clear(&mut tcp).await {
        Ok(Opening::Cancel(process_id, key)) => {
            return Ok(Greeting::Cancel { stream: Stream::Plain(tcp), process_id, key });
        }
        Ok(Opening::Nothing) => return Ok(Greeting::Nothing),
        Ok(Opening::Tls) => false,
        Ok(Opening::DirectTls) => true,
        Err(rejected) => {
            last_words(&mut tcp, &rejected).await;
            return Err(rejected);
        }
    };
    let mut stream = tls.accept(tcp).await.map_err(Rejected::Handshake)?;
    let outcome = if begun_directly && !direct {
        // The handshake was run all the same: inside TLS the client can be told why it is refused.
        Err(Rejected::DirectTls)
    } else if begun_directly && !stream.agreed_on(ALPN) {
        Err(Rejected::NoAlpn)
    } else {
        greet_in_tls(&mut stream).await
    };
    match outcome {
        Ok(Some(Inside::Startup(packet))) => Ok(Greeting::Startup { stream, packet }),
        Ok(Some(Inside::Cancel(process_id, key))) => Ok(Greeting::Cancel { stream, process_id, key }),
        Ok(None) => Ok(Greeting::Nothing),
        Err(rejected) => {
            last_words(&mut stream, &rejected).await;
            Err(rejected)
        }
    }
}

/// The same on a Unix socket. There is no encryption to agree on, so that requests for it are answered with a no, as a
/// server does (`ProcessStartupPacket`: only TCP sockets speak TLS).
///
/// # Errors
/// Why the connection was turned away.
pub async fn greet_local(mut unix: UnixStream) -> Result<Greeting, Rejected> {
    match greet_in_the_machine(&mut unix).await {
        Ok(Some(Inside::Startup(packet))) => Ok(Greeting::Startup { stream: Stream::Unix(unix), packet }),
        Ok(Some(Inside::Cancel(process_id, key))) => {
            Ok(Greeting::Cancel { stream: Stream::Unix(unix), process_id, key })
        }
        Ok(None) => Ok(Greeting::Nothing),
        Err(rejected) => {
            last_words(&mut unix, &rejected).await;
            Err(rejected)
        }
    }
}

async fn greet_in_the_machine(unix: &mut UnixStream) -> Result<Option<Inside>, Rejected> {
    for _ in 0..=REQUESTS_MAX {
        let Some(packet) = read_packet(unix).await? else { return Ok(None) };
        match classify(&packet)? {
            Asked::Tls | Asked::Gss => unix.write_all(b"N").await?,
            Asked::Cancel(process_id, key) => return Ok(Some(Inside::Cancel(process_id, key))),
            Asked::Startup => return Ok(Some(Inside::Startup(packet))),
        }
    }
    Err(Rejected::Repeats)
}

enum Inside {
    Startup(Vec<u8>),
    Cancel(u32, Vec<u8>),
}

/// The one packet inside TLS; `None` where the client closed before it.
async fn greet_in_tls(stream: &mut Stream) -> Result<Option<Inside>, Rejected> {
    let Some(packet) = read_packet(stream).await? else { return Ok(None) };
    match classify(&packet)? {
        Asked::Startup => Ok(Some(Inside::Startup(packet))),
        Asked::Cancel(process_id, key) => Ok(Some(Inside::Cancel(process_id, key))),
        Asked::Tls | Asked::Gss => Err(Rejected::Repeats),
    }
}

enum Opening {
    /// Agreed on behind an SSLRequest.
    Tls,
    /// Begun by the client.
    DirectTls,
    /// A cancel request in clear, as libpq before 17 sends it.
    Cancel(u32, Vec<u8>),
    /// Closed before its first byte.
    Nothing,
}

enum Asked {
    Tls,
    Gss,
    Cancel(u32, Vec<u8>),
    Startup,
}

fn classify(packet: &[u8]) -> Result<Asked, Malformed> {
    Ok(match startup::parse(packet)? {
        Packet::SslRequest => Asked::Tls,
        Packet::GssEncRequest => Asked::Gss,
        Packet::Cancel(cancel) => Asked::Cancel(cancel.process_id(), cancel.key().to_vec()),
        Packet::Startup(_) => Asked::Startup,
    })
}

async fn greet_in_clear(tcp: &mut TcpStream) -> Result<Opening, Rejected> {
    // First of all or never, as in a server (`ProcessSSLStartup`): behind a request in clear it is no startup packet.
    let mut first = [0; 1];
    if tcp.peek(&mut first).await? == 1 && startup::is_direct_tls(first[0]) {
        return Ok(Opening::DirectTls);
    }
    for _ in 0..=REQUESTS_MAX {
        let Some(packet) = read_packet(tcp).await? else {
            return Ok(Opening::Nothing);
        };
        match classify(&packet)? {
            Asked::Tls => {
                nothing_early(tcp).await?;
                tcp.write_all(b"S").await?;
                return Ok(Opening::Tls);
            }
            Asked::Gss => {
                nothing_early(tcp).await?;
                tcp.write_all(b"N").await?;
            }
            Asked::Cancel(process_id, key) => return Ok(Opening::Cancel(process_id, key)),
            Asked::Startup => return Err(Rejected::NoTls),
        }
    }
    Err(Rejected::Repeats)
}

/// Bytes that came in clear behind an encryption request kill the connection (CVE-2021-23214 and its kin).
async fn nothing_early(tcp: &TcpStream) -> Result<(), Rejected> {
    let mut byte = [0; 1];
    let early = std::future::poll_fn(|context| {
        let mut buffer = ReadBuf::new(&mut byte);
        Poll::Ready(matches!(tcp.poll_peek(context, &mut buffer), Poll::Ready(Ok(1..))))
    })
    .await;
    if early { Err(Rejected::EarlyBytes) } else { Ok(()) }
}

/// Reads exactly one packet of the start-up phase; `None` where the peer closed before its first byte.
async fn read_packet<S: AsyncReadExt + Unpin>(stream: &mut S) -> Result<Option<Vec<u8>>, Rejected> {
    let mut packet = vec![0; 4];
    let first = stream.read(&mut packet).await?;
    if first == 0 {
        return Ok(None);
    }
    let rest = packet.get_mut(first..).unwrap_or_default();
    read_exact(stream, rest).await?;
    let Some(length) = startup::peek(&packet)? else { return Err(Rejected::Closed) };
    packet.resize(length, 0);
    read_exact(stream, packet.get_mut(4..).unwrap_or_default()).await?;
    Ok(Some(packet))
}

async fn read_exact<S: AsyncReadExt + Unpin>(stream: &mut S, bytes: &mut [u8]) -> Result<(), Rejected> {
    match stream.read_exact(bytes).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Rejected::Closed),
        Err(error) => Err(error.into()),
    }
}

/// Tells a connection that is turned away why, where it is owed that.
pub async fn last_words<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, rejected: &Rejected) {
    if let Some((sqlstate, message)) = rejected.last_words() {
        say(stream, &denial::fatal(sqlstate, &message)).await;
    }
}

/// Says something to a connection that ends, and sees that it can arrive; that it may not listen any more is no fault of
/// ours.
pub async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) {
    if let Err(error) = stream.write_all(words).await {
        tracing::debug!(%error, "the client did not take the last words");
        return;
    }
    close::behind_last_words(stream, close::LINGER).await;
}

/// A password message over its limit is a token that is too long, whatever else may be wrong with it.
fn too_long(frame: &[u8], fault: Malformed) -> Rejected {
    if let Reason::OverLimit { declared, limit } = fault.what
        && frame.first() == Some(&FrontendTag::Password.byte())
    {
        // Both count the terminator.
        return Rejected::TokenTooLong { bytes: declared.saturating_sub(1), limit: limit.saturating_sub(1) };
    }
    fault.into()
}

/// Asks for the token in the password field, inside TLS or on a Unix socket, and reads it.
pub async fn ask_for_token(stream: &mut Stream, limits: &Limits) -> Result<SecretSlice<u8>, Rejected> {
    let mut question = Vec::with_capacity(9);
    encode::authentication_cleartext_password(&mut question);
    let frame = answer_to(stream, &question, limits).await?;
    Ok(SecretSlice::from(password_of(&frame)?.password()?.to_vec()))
}

/// What a client of OAUTHBEARER has come for.
pub enum Bearer {
    /// A session, by this token.
    Token(SecretSlice<u8>),
    /// Where tokens come from.
    Discovery,
}

/// Asks for the token by SASL's OAUTHBEARER, inside TLS or on a Unix socket, and reads it.
pub async fn ask_for_bearer(stream: &mut Stream, limits: &Limits) -> Result<Bearer, Rejected> {
    let mut question = Vec::with_capacity(32);
    encode::authentication_sasl(&mut question, [bearer::MECHANISM]).map_err(io::Error::other)?;
    let mut frame = answer_to(stream, &question, limits).await?;
    let first = password_of(&frame)?.sasl_initial_response()?;
    if first.mechanism() != bearer::MECHANISM.as_bytes() {
        return Err(Rejected::Mechanism);
    }
    let asked = match first.data() {
        Some(message) => bearer::read(message)?,
        None => {
            // A client that waits to be asked: with nothing, as a server does (`oauth_exchange`).
            let mut nothing = Vec::with_capacity(9);
            encode::authentication_sasl_continue(&mut nothing, b"").map_err(io::Error::other)?;
            frame = answer_to(stream, &nothing, limits).await?;
            bearer::read(password_of(&frame)?.body())?
        }
    };
    Ok(match asked {
        bearer::Asked::Session(token) => Bearer::Token(SecretSlice::from(token.to_vec())),
        bearer::Asked::Discovery => Bearer::Discovery,
    })
}

/// Tells a client of OAUTHBEARER where tokens come from, and takes the byte by which it says that it has heard: only then is
/// it owed an error (RFC 7628 section 3.2.3). Many hang up instead.
pub async fn tell_where_tokens_come_from(stream: &mut Stream, answer: &str, limits: &Limits) {
    let mut question = Vec::with_capacity(answer.len() + 16);
    let heard = match encode::authentication_sasl_continue(&mut question, answer.as_bytes()) {
        Ok(()) => answer_to(stream, &question, limits).await,
        Err(error) => Err(io::Error::other(error).into()),
    };
    if let Err(error) = heard {
        tracing::debug!(%error, "the client did not wait for the end of its login");
    }
}

fn password_of(frame: &[u8]) -> Result<Password<'_>, Rejected> {
    let message = Message::parse(frame)?;
    let Message::Password(password) = message else { return Err(Rejected::NotAPassword(message.tag())) };
    Ok(password)
}

/// Puts a question of the login, and reads the frame that answers it, which may hold a token: it is wiped however this ends.
async fn answer_to(
    stream: &mut Stream,
    question: &[u8],
    limits: &Limits,
) -> Result<zeroize::Zeroizing<Vec<u8>>, Rejected> {
    if !stream.may_carry_cleartext_password() {
        return Err(Rejected::NoTls);
    }
    stream.write_all(question).await?;
    stream.flush().await?;
    let mut frame = zeroize::Zeroizing::new(vec![0; pgturnstile_proto::HEADER_BYTES]);
    read_exact(stream, &mut frame).await?;
    let header = match frontend::Header::peek(&frame, limits) {
        Ok(Some(header)) => header,
        Ok(None) => return Err(Rejected::Closed),
        Err(fault) => return Err(too_long(&frame, fault)),
    };
    if header.tag != FrontendTag::Password {
        return Err(Rejected::NotAPassword(header.tag));
    }
    // Grown at once, so that no half-filled copy of the token is left behind.
    let mut whole = zeroize::Zeroizing::new(vec![0; header.len]);
    if let Some(head) = whole.get_mut(..frame.len()) {
        head.copy_from_slice(&frame);
    }
    read_exact(stream, whole.get_mut(pgturnstile_proto::HEADER_BYTES..).unwrap_or_default()).await?;
    Ok(whole)
}

//! One byte stream of either leg: plain TCP, TLS on TCP, or a Unix socket.
//!
//! Owns the socket and its options. It may not look at the bytes: framing is `proto`'s, meaning is the session's.
//! Every error is the socket's own `io::Error`; nothing is retried and nothing is buffered here beyond what rustls
//! itself holds.
//!
//! The enum is closed on purpose: a session is generic over no transport, so its future has one size, and a new
//! transport must break the build wherever what is allowed depends on it (a cleartext password, for one).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// Idle time before the kernel probes a silent peer. A held session is silent for long: the probe keeps address
/// translation and firewalls between us and the peer from forgetting it, and finds a peer that is gone.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Time between two unanswered probes. The number of probes is the kernel's (nine on Linux).
pub const KEEPALIVE_INTERVAL_S: u64 = 10;

/// One connection of either leg.
#[derive(Debug)]
pub enum Stream {
    /// TCP without TLS.
    Plain(TcpStream),
    /// TLS on TCP, in either role.
    Tls(Box<Tls>),
    /// A Unix socket: never TLS, as PostgreSQL has none there.
    Unix(UnixStream),
}

/// TLS on TCP, in either role, and whether its last read left nothing behind.
#[derive(Debug)]
pub struct Tls {
    stream: TlsStream<TcpStream>,
    /// The last read took all that rustls held and all that the socket had. A session looks at both of its sockets whichever of
    /// them woke it: until this one has something again, the look costs the socket's readiness and not a walk through rustls.
    drained: bool,
}

impl Tls {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.drained {
            // Registers the waker where it is not ready, as a read would.
            ready!(self.stream.get_ref().0.poll_read_ready(context))?;
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        // A connection that wants no bytes has something else to do first, and says so by waking us.
        self.drained = read.is_pending() && self.stream.get_ref().1.wants_read();
        read
    }
}

/// What TLS agreed on, for records and for rules that depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The suite by its IANA name.
    pub cipher_suite: String,
    /// The protocol chosen by ALPN, if any: `postgresql` (PostgreSQL protocol, "Direct SSL connection").
    pub alpn: Option<Vec<u8>>,
}

impl Stream {
    /// A stream whose handshake is done.
    pub fn encrypted(stream: TlsStream<TcpStream>) -> Stream {
        Stream::Tls(Box::new(Tls { stream, drained: false }))
    }

    /// Whether bytes on this stream are encrypted.
    pub fn is_encrypted(&self) -> bool {
        match self {
            Self::Tls(_) => true,
            Self::Plain(_) | Self::Unix(_) => false,
        }
    }

    /// Whether a cleartext password may be sent or asked for: inside TLS, or where no network carries it.
    pub fn may_carry_cleartext_password(&self) -> bool {
        match self {
            Self::Tls(_) | Self::Unix(_) => true,
            Self::Plain(_) => false,
        }
    }

    /// What TLS agreed on; `None` without TLS.
    pub fn tls(&self) -> Option<TlsFacts> {
        match self {
            Self::Tls(tls) => {
                let connection = tls.stream.get_ref().1;
                Some(TlsFacts {
                    version: version_name(connection.protocol_version()),
                    cipher_suite: connection
                        .negotiated_cipher_suite()
                        .map_or_else(|| "none".to_owned(), |suite| format!("{:?}", suite.suite())),
                    alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
                })
            }
            Self::Plain(_) | Self::Unix(_) => None,
        }
    }

    /// The server name that the client asked for in its handshake (RFC 6066, section 3); `None` without TLS, without one, or
    /// where we are the client.
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::Tls(tls) => match &tls.stream {
                TlsStream::Server(server) => server.get_ref().1.server_name(),
                TlsStream::Client(_) => None,
            },
            Self::Plain(_) | Self::Unix(_) => None,
        }
    }

    /// Whether ALPN has chosen this protocol.
    pub fn agreed_on(&self, protocol: &[u8]) -> bool {
        match self {
            Self::Tls(tls) => tls.stream.get_ref().1.alpn_protocol() == Some(protocol),
            Self::Plain(_) | Self::Unix(_) => false,
        }
    }

    /// The peer's own certificate (the first of its chain), DER; `None` without TLS or without a certificate.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Self::Tls(tls) => tls.stream.get_ref().1.peer_certificates().and_then(<[_]>::first),
            Self::Plain(_) | Self::Unix(_) => None,
        }
    }

    /// The TCP socket under this stream; `None` on a Unix socket.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Tls(tls) => Some(tls.stream.get_ref().0),
            Self::Unix(_) => None,
        }
    }
}

fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    if version == Some(ProtocolVersion::TLSv1_3) {
        "TLSv1.3"
    } else if version == Some(ProtocolVersion::TLSv1_2) {
        "TLSv1.2"
    } else {
        // Our configurations offer nothing else; the handshake would have failed.
        "none"
    }
}

/// Sets what every TCP socket of the gateway has: no delay (a protocol of small frames that wait for each other) and
/// keepalive, whose first probe comes after `keepalive_idle` of silence.
///
/// # Errors
/// The socket's own error, where the kernel refuses an option.
pub fn set_tcp_options(tcp: &TcpStream, keepalive_idle: Duration) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(keepalive_idle)
        .with_interval(Duration::from_secs(KEEPALIVE_INTERVAL_S));
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls(tls) => tls.poll_read(context, buffer),
            Self::Unix(unix) => Pin::new(unix).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write(context, bytes),
            Self::Unix(unix) => Pin::new(unix).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, slices),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write_vectored(context, slices),
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.stream.is_write_vectored(),
            Self::Unix(unix) => unix.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(context),
            Self::Unix(unix) => Pin::new(unix).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(context),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(context),
        }
    }
}

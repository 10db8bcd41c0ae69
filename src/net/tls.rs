//! TLS on both legs: the listener's acceptor and the connector toward targets.
//!
//! Owns every rustls configuration of the gateway. The provider is named explicitly (aws-lc-rs), so that a second
//! provider compiled in by a library can neither be chosen nor make rustls panic. Versions are TLS 1.2 and 1.3; ALPN
//! is `postgresql` on both sides; sessions are never resumed, so that a certificate is judged on every connection
//! (PostgreSQL's own server resumes none either).
//!
//! May not do: speak PostgreSQL (SSLRequest is the dialer's and the listener's), or decide whether TLS is wanted.
//! Fails by a [`TlsError`] that names the file while loading, and by rustls' own error during a handshake.

mod binding;
mod identity;
mod verify;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub use self::binding::server_end_point;
pub use self::identity::{ClientIdentity, Shown};
use self::verify::{Anchors, Check, TargetVerifier};
use crate::net::stream::Stream;

/// The protocol's name in ALPN (PostgreSQL protocol, "Direct SSL connection"; IANA registry).
pub const ALPN: &[u8] = b"postgresql";
/// HTTP/1.1 in ALPN (RFC 7301).
const ALPN_HTTP: &[u8] = b"http/1.1";

/// A certificate, a key or a combination of settings that cannot be used. Always the operator's to repair.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file that is missing, unreadable or holds no such item.
    #[error("{}: {what}", file.display())]
    File {
        /// The file as configured.
        file: PathBuf,
        /// What is wrong with it and what to do.
        what: String,
    },
    /// Settings that contradict each other.
    #[error("{0}")]
    Settings(String),
}

/// A certificate chain and its key, as two PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, own certificate first.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC1.
    pub key: PathBuf,
}

/// How a target's certificate is judged: libpq's `sslmode` beyond `disable`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerCheck {
    /// `require`: encrypts, and proves possession of the key of whatever certificate was shown. Protects against
    /// listening only.
    Nothing,
    /// `verify-ca`: the chain leads to one of the given CAs. With a name, the certificate must also carry exactly
    /// that name as its common name or as a DNS name: Cloud SQL's per-instance certificates are named
    /// `project:instance` there, which is no host name.
    Chain {
        /// PEM files, each with one or more CA certificates.
        ca: Vec<PathBuf>,
        /// The name that the certificate must carry.
        name: Option<String>,
    },
    /// `verify-full`: the chain, and the host's DNS name or address among the subject alternative names (RFC 9525;
    /// common names do not count).
    ChainAndName {
        /// PEM files, each with one or more CA certificates.
        ca: Vec<PathBuf>,
    },
}

/// The listener's side: accepts TLS from clients.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
    end_point: Option<Vec<u8>>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads certificate chain and key.
    ///
    /// # Errors
    /// A file that cannot be read or used, or a key that does not belong to the certificate.
    pub fn load(files: &CertificateFiles) -> Result<Self, TlsError> {
        Self::load_for(files, ALPN)
    }

    /// The same for HTTP/1.1: the admin listener's.
    ///
    /// # Errors
    /// As [`ServerTls::load`].
    pub fn load_http(files: &CertificateFiles) -> Result<Self, TlsError> {
        Self::load_for(files, ALPN_HTTP)
    }

    fn load_for(files: &CertificateFiles, alpn: &[u8]) -> Result<Self, TlsError> {
        let (chain, key) = read_identity(files)?;
        let end_point = chain.first().and_then(|own| server_end_point(own));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| TlsError::Settings(format!("TLS provider: {error}")))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| unusable_identity(files, &error))?;
        config.alpn_protocols = vec![alpn.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), end_point })
    }

    /// Runs the handshake on a socket from which nothing of the client's TLS has been read. The caller bounds its
    /// time, and has made sure that no plaintext byte stood behind an SSLRequest (CVE-2021-23214).
    ///
    /// # Errors
    /// The handshake's error; the socket is closed then.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<Stream> {
        let tls = self.acceptor.accept(tcp).await?;
        Ok(Stream::encrypted(TlsStream::Server(tls)))
    }

    /// The `tls-server-end-point` binding of our own certificate (RFC 5929); `None` where its signature algorithm
    /// names no hash.
    pub fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }
}

/// The target's side: connects with TLS.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Builds the connector: reads the CAs. It shows no certificate of its own; [`ClientTls::showing`] does.
    ///
    /// # Errors
    /// A file that cannot be read or used, or a check without any CA.
    pub fn load(check: &ServerCheck) -> Result<Self, TlsError> {
        let provider = provider();
        let check = match check {
            ServerCheck::Nothing => Check::Nothing,
            ServerCheck::Chain { ca, name } => {
                Check::Chain { anchors: read_anchors(ca)?, name: name.clone() }
            }
            ServerCheck::ChainAndName { ca } => Check::ChainAndName { anchors: read_anchors(ca)? },
        };
        let verifier = TargetVerifier::new(check, provider.signature_verification_algorithms);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| TlsError::Settings(format!("TLS provider: {error}")))?
            .dangerous() // the name of rustls' door to an own verifier; `verify` says what each mode proves
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config) })
    }

    /// The same connector, for one connection that shows `identity` where the server asks for a certificate; and what
    /// will tell whether it did.
    #[must_use]
    pub fn showing(&self, identity: &ClientIdentity) -> (Self, Shown) {
        let mut config = ClientConfig::clone(&self.config);
        let (resolver, shown) = identity.resolver();
        config.client_auth_cert_resolver = resolver;
        (Self { config: Arc::new(config) }, shown)
    }

    /// Runs the handshake on a connected socket whose server has agreed to TLS. `name` goes into the server name
    /// indication (DNS names only) and is what `verify-full` checks. The caller bounds its time.
    ///
    /// # Errors
    /// The handshake's error, which names what is wrong with the certificate; the socket is closed then.
    pub async fn connect(&self, tcp: TcpStream, name: ServerName<'static>) -> io::Result<Stream> {
        let tls = TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp).await?;
        Ok(Stream::encrypted(TlsStream::Client(tls)))
    }
}

/// Says why a handshake failed, without rustls' notation around it.
pub fn reason(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => verify::words(tls),
        None => error.to_string(),
    }
}

/// The one provider of the gateway.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let broken = |what: String| TlsError::File { file: file.to_owned(), what };
    let items = CertificateDer::pem_file_iter(file)
        .map_err(|error| broken(format!("cannot be read: {error}")))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| broken(format!("is not a PEM file of certificates: {error}")))?;
    if items.is_empty() {
        return Err(broken("holds no CERTIFICATE block; give a PEM file".to_owned()));
    }
    Ok(items)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read_identity(files: &CertificateFiles) -> Result<Identity, TlsError> {
    let chain = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| no_key(&files.key, &error))?;
    Ok((chain, key))
}

fn no_key(file: &Path, error: &pem::Error) -> TlsError {
    TlsError::File {
        file: file.to_owned(),
        what: format!("holds no usable private key (PKCS #8, PKCS #1 or SEC1, not encrypted): {error}"),
    }
}

fn unusable_identity(files: &CertificateFiles, error: &rustls::Error) -> TlsError {
    let key = files.key.display();
    let what = if matches!(error, rustls::Error::InconsistentKeys(_)) {
        format!("cannot be used with the key {key}: this key is not the certificate's")
    } else {
        format!("cannot be used with the key {key}: {error}")
    };
    TlsError::File { file: files.certificate.clone(), what }
}

fn read_anchors(ca: &[PathBuf]) -> Result<Anchors, TlsError> {
    if ca.is_empty() {
        return Err(TlsError::Settings(
            "verify-ca and verify-full need at least one `ca` file to verify against".to_owned(),
        ));
    }
    let mut anchors = Anchors::empty();
    for file in ca {
        for certificate in read_certificates(file)? {
            anchors.add(certificate).map_err(|error| TlsError::File {
                file: file.clone(),
                what: format!("holds a certificate that cannot be a CA: {error}"),
            })?;
        }
    }
    Ok(anchors)
}

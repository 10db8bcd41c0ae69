//! A small HTTP client for two documents: an issuer's discovery document and its key set.
//!
//! Owns: one GET over HTTPS (HTTP/1.1, the one rustls with aws-lc-rs), bounded in time and bytes. May not: follow a
//! redirect (the place of the keys is configuration, not the answer's choice), use a proxy, send a credential, speak
//! plain HTTP to anything that is not a loopback address. A new connection each time: there is one exchange in minutes.
//! Fails with a [`FetchError`] for the operator; the client of a session never sees it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use openidconnect::url::{Host, Url};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Why a document could not be fetched. Whom it blames: the identity provider or the way to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error(
        "{0} is not an https URL (plain http is for loopback addresses in development, and must be switched on)"
    )]
    Scheme(String),
    #[error("{0} is plain http and resolves to {1}, which is no loopback address")]
    NotLoopback(String, std::net::IpAddr),
    #[error("the name of {0} could not be resolved: {1}")]
    Resolve(String, String),
    #[error("no connection to {0}: {1}")]
    Connect(String, String),
    #[error("TLS with {0} failed: {1}")]
    Tls(String, String),
    #[error("the exchange with {0} failed: {1}")]
    Exchange(String, String),
    #[error("{0} answered {1}; 200 is expected and redirects are not followed")]
    Status(String, u16),
    #[error("the answer of {0} has more than {1} bytes")]
    TooLong(String, usize),
    #[error("{0} did not answer within {1} ms")]
    Timeout(String, u128),
}

/// Why a client could not be set up. At fault: the operator.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A file of root certificates cannot be read.
    #[error("the root certificates in {path} cannot be read: {why}; name a PEM file with CA certificates")]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        why: String,
    },
    /// The TLS library refused.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    tls: Arc<ClientConfig>,
    loopback_http: bool,
    timeout: Duration,
}

impl Client {
    /// A client that trusts the public roots, or, where files are named, only those.
    pub(super) fn new(ca: &[PathBuf], loopback_http: bool, timeout: Duration) -> Result<Client, RootsError> {
        let mut roots = RootCertStore::empty();
        if ca.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for path in ca {
            add_roots(&mut roots, path).map_err(|why| RootsError::File { path: path.clone(), why })?;
        }
        let mut tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Client { tls: Arc::new(tls), loopback_http, timeout })
    }

    /// Fetches one document.
    pub(super) async fn get(&self, url: &Url, bytes_max: usize) -> Result<Bytes, FetchError> {
        tokio::time::timeout(self.timeout, self.exchange(url, bytes_max))
            .await
            .unwrap_or_else(|_| Err(FetchError::Timeout(url.to_string(), self.timeout.as_millis())))
    }

    async fn exchange(&self, url: &Url, bytes_max: usize) -> Result<Bytes, FetchError> {
        let name = || url.to_string();
        let encrypted = match url.scheme() {
            "https" => true,
            "http" if self.loopback_http => false,
            _ => return Err(FetchError::Scheme(name())),
        };
        let tcp = self.connect(url, encrypted).await?;
        if !encrypted {
            return request(tcp, url, bytes_max).await;
        }
        let server = match url.host() {
            Some(Host::Domain(domain)) => ServerName::try_from(domain.to_owned())
                .map_err(|error| FetchError::Tls(name(), error.to_string()))?,
            Some(Host::Ipv4(address)) => ServerName::IpAddress(std::net::IpAddr::V4(address).into()),
            Some(Host::Ipv6(address)) => ServerName::IpAddress(std::net::IpAddr::V6(address).into()),
            None => return Err(FetchError::Scheme(name())),
        };
        let tls = TlsConnector::from(Arc::clone(&self.tls))
            .connect(server, tcp)
            .await
            .map_err(|error| FetchError::Tls(name(), error.to_string()))?;
        request(tls, url, bytes_max).await
    }

    /// Connects to the first address that answers. Plain HTTP only when every address of the name is loopback: a name
    /// that also leads elsewhere is somebody else's choice.
    async fn connect(&self, url: &Url, encrypted: bool) -> Result<TcpStream, FetchError> {
        let name = || url.to_string();
        let port = url.port_or_known_default().ok_or_else(|| FetchError::Scheme(name()))?;
        let addresses: Vec<SocketAddr> = match url.host() {
            Some(Host::Domain(domain)) => tokio::net::lookup_host((domain, port))
                .await
                .map_err(|error| FetchError::Resolve(name(), error.to_string()))?
                .collect(),
            Some(Host::Ipv4(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Ipv6(address)) => vec![SocketAddr::from((address, port))],
            None => return Err(FetchError::Scheme(name())),
        };
        if !encrypted && let Some(remote) = addresses.iter().find(|address| !address.ip().is_loopback()) {
            return Err(FetchError::NotLoopback(name(), remote.ip()));
        }
        let mut last = FetchError::Resolve(name(), "the name has no address".to_owned());
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = FetchError::Connect(name(), error.to_string()),
            }
        }
        Err(last)
    }
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let mut found = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        found += 1;
    }
    if found == 0 { Err("it holds no certificate".to_owned()) } else { Ok(()) }
}

/// One request and its answer. The connection's task ends with this future: the set aborts it when dropped.
async fn request<S>(stream: S, url: &Url, bytes_max: usize) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: &dyn std::fmt::Display| FetchError::Exchange(url.to_string(), error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err(FetchError::Scheme(url.to_string())),
    };
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let request = Request::builder()
        .method(Method::GET)
        .uri(target)
        .header(HOST, host)
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(USER_AGENT, concat!("pgturnstile/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| failed(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(url.to_string(), answer.status().as_u16()));
    }
    let body = Limited::new(answer.into_body(), bytes_max).collect().await.map_err(|error| {
        if error.downcast_ref::<LengthLimitError>().is_some() {
            FetchError::TooLong(url.to_string(), bytes_max)
        } else {
            failed(&error)
        }
    })?;
    Ok(body.to_bytes())
}

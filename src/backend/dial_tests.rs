//! A target played by hand on the loopback interface: what comes before the login.

use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::backend::cancel::cancel;
use crate::backend::keys::KeyCache;
use crate::backend::settings::{Credential, Guards, TargetSettings, TlsMode, TlsSettings};
use crate::backend::startup::ClientSettings;

fn target(port: u16, mode: TlsMode) -> Target {
    target_with(port, TlsSettings { mode, ..TlsSettings::disabled() })
}

fn target_with(port: u16, tls: TlsSettings) -> Target {
    let settings = TargetSettings {
        name: "crm".into(),
        address: Address::Tcp { host: "127.0.0.1".into(), port },
        database: "crm".into(),
        tls,
        protocol: ProtocolVersion::V3_2,
    };
    Target::new(&settings).unwrap()
}

/// How a dial fails.
async fn dialled(target: &Target, limit: Duration) -> DialError {
    let credential = Credential { name: "c".into(), user: "u".into(), password: None, certificate: None };
    let keys = KeyCache::default();
    let parameters =
        StartupParameters::build("u", "crm", &ClientSettings::default(), &Guards::default(), "s").unwrap();
    let login = Login { credential: &credential, keys: &keys };
    dial(target, &login, &parameters, Instant::now() + limit).await.unwrap_err()
}

/// The outcome of a dial to a server that reads `first` bytes, answers, and then waits for the end.
async fn told(mode: TlsMode, first: usize, answer: &'static [u8], wait: Duration) -> (DialError, Vec<u8>) {
    told_by(|port| target(port, mode), first, answer, wait).await
}

async fn told_by(
    target: impl FnOnce(u16) -> Target,
    first: usize,
    answer: &'static [u8],
    wait: Duration,
) -> (DialError, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut seen = vec![0; first];
        tcp.read_exact(&mut seen).await.unwrap();
        drop(tcp.write_all(answer).await);
        if answer.is_empty() && !wait.is_zero() {
            // Silence until the other side gives up.
            drop(tcp.read_to_end(&mut seen).await);
        }
        seen
    });
    let limit = if wait.is_zero() { Duration::from_secs(60) } else { wait };
    let error = dialled(&target(port), limit).await;
    (error, server.await.unwrap())
}

const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

#[tokio::test]
async fn a_server_without_tls_hears_nothing_more() {
    let (error, seen) = told(TlsMode::Require, 8, b"N", Duration::ZERO).await;
    assert!(matches!(error.failure, Failure::TlsNotOffered), "{error}");
    assert_eq!(seen, SSL_REQUEST);
    assert_eq!(error.sqlstate(), "08001");
}

#[tokio::test]
async fn other_answers_are_refused_unread() {
    let (error, _) = told(TlsMode::Require, 8, b"E\0\0\0\x20SFATAL\0", Duration::ZERO).await;
    assert!(matches!(error.failure, Failure::TlsAnswer(b'E')), "{error}");
    assert!(!error.to_string().contains("FATAL"));
    let (error, _) = told(TlsMode::Require, 8, b"", Duration::ZERO).await;
    assert!(matches!(error.failure, Failure::Closed(Step::Tls)), "{error}");
}

#[tokio::test]
async fn plaintext_behind_the_answer_never_passes() {
    // Arrived already: refused by name. Still on its way: TLS reads it, and it is no TLS.
    let (error, _) = told(TlsMode::Require, 8, b"SR\0\0\0\x08\0\0\0\0", Duration::ZERO).await;
    assert!(matches!(error.failure, Failure::EarlyBytes | Failure::Handshake(_)), "{error}");
}

#[tokio::test]
async fn mode_disable_never_asks_for_tls() {
    let (error, seen) = told(TlsMode::Disable, 8, b"N", Duration::ZERO).await;
    assert_ne!(seen, SSL_REQUEST);
    assert_eq!(seen.get(4..8), Some([0, 3, 0, 2].as_slice()));
    assert!(matches!(error.failure, Failure::Closed(Step::Authenticate) | Failure::Io { .. }), "{error}");
}

#[tokio::test]
async fn silence_ends_at_the_deadline_and_names_the_step() {
    for (mode, step) in [(TlsMode::Require, Step::Tls), (TlsMode::Disable, Step::Authenticate)] {
        let (error, _) = told(mode, 8, b"", Duration::from_millis(300)).await;
        assert!(matches!(error.failure, Failure::Deadline(at) if at == step), "{error}");
        assert_eq!(error.to_string(), format!("target \"crm\": the deadline passed while {step}"));
    }
}

#[tokio::test]
async fn nobody_there_is_the_backends_fault_and_shows_no_address() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let credential = Credential { name: "c".into(), user: "u".into(), password: None, certificate: None };
    let keys = KeyCache::default();
    let login = Login { credential: &credential, keys: &keys };
    let parameters =
        StartupParameters::build("u", "crm", &ClientSettings::default(), &Guards::default(), "s").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let target = target(free, TlsMode::Disable);
    let error = dial(&target, &login, &parameters, deadline).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Connect { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1"));
    assert!(!error.client_text().contains("127.0.0.1"), "{}", error.client_text());
    assert_eq!((error.fault(), error.sqlstate()), (crate::backend::Fault::Backend, "08001"));
}

#[tokio::test]
async fn a_cancel_request_is_whole_and_waits_for_the_close() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut seen = vec![0; 16];
        tcp.read_exact(&mut seen).await.unwrap();
        seen
    });
    let key = CancelKey::new(4711, vec![1, 2, 3, 4]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let credential = Credential { name: "c".into(), user: "u".into(), password: None, certificate: None };
    cancel(&target(port, TlsMode::Disable), &credential, &key, deadline).await.unwrap();
    assert_eq!(server.await.unwrap(), [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 18, 103, 1, 2, 3, 4]);
}

/// A certificate of its own, and a server's settings with it.
fn own_certificate(protocols: &[&[u8]]) -> tokio_rustls::TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config))
}

/// The outcome of a direct dial to a server with these protocols, and the first bytes that it read inside TLS.
async fn direct(protocols: &'static [&'static [u8]]) -> (DialError, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = own_certificate(protocols);
    let server = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut first = vec![0; 8];
        let Ok(mut inside) = acceptor.accept(tcp).await else { return Vec::new() };
        inside.read_exact(&mut first).await.map_or(Vec::new(), |_| first)
    });
    let error = dialled(&direct_target(port), Duration::from_secs(60)).await;
    (error, server.await.unwrap())
}

fn direct_target(port: u16) -> Target {
    target_with(port, TlsSettings { mode: TlsMode::Require, direct: true, ..TlsSettings::disabled() })
}

#[tokio::test]
async fn direct_tls_begins_with_the_first_byte_and_needs_the_protocol_s_name() {
    let (error, first) = direct(&[b"postgresql"]).await;
    assert!(matches!(error.failure, Failure::Closed(Step::Authenticate) | Failure::Io { .. }), "{error}");
    assert_eq!(first.get(4..), Some(&[0, 3, 0, 2][..]), "the startup packet, version 3.2");
    let others: [&[&[u8]]; 2] = [&[], &[b"http/1.1"]];
    for protocols in others {
        let (error, first) = direct(protocols).await;
        assert!(matches!(error.failure, Failure::Handshake(_)), "{error}");
        assert!(error.to_string().contains("PostgreSQL 17 or later"), "{error}");
        assert!(first.is_empty(), "nothing is said to it");
    }
}

#[tokio::test]
async fn direct_tls_is_never_given_up_for_a_request() {
    // What an older server does with the first bytes of TLS: an error in clear, and the end.
    let (error, seen) =
        told_by(direct_target, 8, b"E\0\0\0\x20SFATAL\0C08P01\0Minvalid length\0\0", Duration::ZERO).await;
    assert!(matches!(error.failure, Failure::Handshake(_)), "{error}");
    assert!(error.to_string().contains("tls.direct"), "{error}");
    assert_eq!(seen.first(), Some(&0x16), "a ClientHello");
}

//! The key cache against issuers well, slow, ill, rotating and hostile, over loopback HTTP and HTTPS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as CertificateIssuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::identity::Reason;
use crate::identity::limits::{DISCOVERY_BYTES_MAX, KEY_SET_BYTES_MAX};

/// A scripted web server: paths to raw answers, counted. An answer that waits stands until `release`.
struct Web {
    address: SocketAddr,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    answers: Mutex<HashMap<String, Vec<u8>>>,
    asked: Mutex<Vec<String>>,
    waiting: AtomicU64,
    hold: Mutex<Option<Arc<Notify>>>,
}

impl Web {
    async fn plain() -> Web {
        Web::start(None).await
    }

    async fn start(tls: Option<TlsAcceptor>) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let script = Arc::new(Script::default());
        let served = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, tls) = (Arc::clone(&served), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => script.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                script.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        Web { address, script }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn raw(&self, path: &str, answer: Vec<u8>) {
        self.script.answers.lock().expect("answers").insert(path.to_owned(), answer);
    }

    fn json(&self, path: &str, body: &Value) {
        self.raw(path, answer("200 OK", "", body.to_string().as_bytes()));
    }

    fn asked(&self) -> usize {
        self.script.asked.lock().expect("asked").len()
    }

    fn hold(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        *self.script.hold.lock().expect("hold") = Some(Arc::clone(&gate));
        gate
    }

    fn release(&self, gate: &Notify) {
        *self.script.hold.lock().expect("hold") = None;
        gate.notify_waiters();
    }
}

fn answer(status: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Script {
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte).await {
                Ok(1) => request.extend(byte),
                _ => return,
            }
        }
        let text = String::from_utf8_lossy(&request);
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        self.asked.lock().expect("asked").push(path.clone());
        let gate = self.hold.lock().expect("hold").clone();
        if let Some(gate) = gate {
            let released = gate.notified();
            self.waiting.fetch_add(1, Ordering::SeqCst);
            released.await;
        }
        let answer = self.answers.lock().expect("answers").get(&path).cloned();
        let answer = answer.unwrap_or_else(|| self::answer("404 Not Found", "", b"{}"));
        let _gone = stream.write_all(&answer).await;
        let _gone = stream.shutdown().await;
    }
}

fn identity_of(web: &Web) -> DevIdentity {
    DevIdentity::in_memory(&web.url(""), AUDIENCE).expect("an identity")
}

fn discovering(web: &Web) -> IssuerSettings {
    let mut settings = settings(KeySource::Discover);
    settings.issuer = web.url("");
    settings.loopback_http = true;
    settings
}

fn publish(web: &Web, identities: &[&DevIdentity]) {
    let keys: Vec<Value> =
        identities.iter().map(|it| it.key_set().expect("a key set")["keys"][0].clone()).collect();
    web.json("/.well-known/openid-configuration", &identities[0].discovery());
    web.json("/jwks.json", &json!({ "keys": keys }));
}

async fn login(verifier: &Verifier, identity: &DevIdentity) -> Result<Principal, Denied> {
    let token = identity.mint(&wish(), NOW_S).expect("a token");
    verifier.verify(token.expose_secret().as_bytes()).await
}

/// Until the server has `count` requests waiting; the test's own deadline is the runner's.
async fn until_waiting(web: &Web, count: u64) {
    while web.script.waiting.load(Ordering::SeqCst) < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn keys_are_discovered_once_and_used_from_then_on() {
    let web = Web::plain().await;
    let identity = identity_of(&web);
    publish(&web, &[&identity]);
    let hands = Hands::new();
    let verifier = verifier(discovering(&web), &hands, None);
    for _ in 0..20 {
        assert_eq!(kind(&login(&verifier, &identity).await), "ok");
    }
    assert_eq!(web.asked(), 2, "one discovery document, one key set");
    let health = verifier.health();
    assert_eq!((health[0].issuer.as_str(), health[0].age_s), ("corp", Some(0)));
    assert_eq!((health[0].fetches_total, health[0].failures_total), (1, 0));
}

#[tokio::test]
async fn a_rotated_key_is_found_by_its_unknown_kid_behind_the_floor() {
    let web = Web::plain().await;
    let (old, new) = (identity_of(&web), identity_of(&web));
    publish(&web, &[&old]);
    let hands = Hands::new();
    let verifier = verifier(discovering(&web), &hands, None);
    assert_eq!(kind(&login(&verifier, &old).await), "ok");
    publish(&web, &[&old, &new]);
    // Within the floor of the first fetch.
    let denied = login(&verifier, &new).await.expect_err("a refusal");
    assert_eq!(*denied.reason(), Reason::UnknownKey { retry_in_s: 10, keys: 1 });
    assert!(denied.client_text().contains("try again in 10 s"), "{}", denied.client_text());
    hands.advance_ms(10_000);
    assert_eq!(kind(&login(&verifier, &new).await), "ok");
    assert_eq!(kind(&login(&verifier, &old).await), "ok");
    // The old key goes: it counts until the next refresh, which any unknown kid or age brings.
    publish(&web, &[&new]);
    hands.advance_ms(TIMING.refresh_ms + 1);
    assert_eq!(kind(&login(&verifier, &old).await), "ok", "used while the refresh is under way");
    while verifier.health()[0].fetches_total < 3 || verifier.health()[0].age_s != Some(0) {
        tokio::task::yield_now().await;
    }
    assert_eq!(kind(&login(&verifier, &old).await), "unknown_key");
}

#[tokio::test]
async fn a_flood_of_unknown_kids_is_one_fetch_a_floor() {
    let web = Web::plain().await;
    let identity = identity_of(&web);
    publish(&web, &[&identity]);
    let hands = Hands::new();
    let verifier = Arc::new(verifier(discovering(&web), &hands, None));
    assert_eq!(kind(&login(&verifier, &identity).await), "ok");
    for round in 1..=3 {
        hands.advance_ms(10_000);
        let mut flood = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let stranger = identity_of(&web);
            let verifier = Arc::clone(&verifier);
            flood.spawn(async move { kind(&login(&verifier, &stranger).await) });
        }
        while let Some(outcome) = flood.join_next().await {
            assert_eq!(outcome.expect("an outcome"), "unknown_key");
        }
        assert_eq!(web.asked(), 2 + 2 * round);
    }
    assert_eq!(kind(&login(&verifier, &identity).await), "ok");
}

#[tokio::test]
async fn a_key_replaced_under_its_own_id_is_found_after_one_refusal() {
    let web = Web::plain().await;
    let (old, mut new) = (identity_of(&web), identity_of(&web));
    new.state.kid = old.state.kid.clone();
    publish(&web, &[&old]);
    let hands = Hands::new();
    let verifier = verifier(discovering(&web), &hands, None);
    assert_eq!(kind(&login(&verifier, &old).await), "ok");
    publish(&web, &[&new]);
    assert_eq!(kind(&login(&verifier, &new).await), "signature");
    assert_eq!(web.asked(), 2, "not within the floor");
    hands.advance_ms(10_000);
    assert_eq!(kind(&login(&verifier, &new).await), "signature");
    while verifier.health()[0].age_s != Some(0) {
        tokio::task::yield_now().await;
    }
    assert_eq!(kind(&login(&verifier, &new).await), "ok");
    assert_eq!(kind(&login(&verifier, &old).await), "signature");
}

#[tokio::test]
async fn waiters_share_one_flight_and_known_keys_do_not_wait_for_it() {
    let web = Web::plain().await;
    let (known, new) = (identity_of(&web), identity_of(&web));
    publish(&web, &[&known]);
    let hands = Hands::new();
    let verifier = Arc::new(verifier(discovering(&web), &hands, None));
    assert_eq!(kind(&login(&verifier, &known).await), "ok");
    publish(&web, &[&known, &new]);
    hands.advance_ms(10_000);
    let gate = web.hold();
    let mut waiters = tokio::task::JoinSet::new();
    let new = Arc::new(new);
    for _ in 0..50 {
        let (verifier, new) = (Arc::clone(&verifier), Arc::clone(&new));
        waiters.spawn(async move { kind(&login(&verifier, &new).await) });
    }
    until_waiting(&web, 1).await;
    assert_eq!(kind(&login(&verifier, &known).await), "ok", "while the issuer does not answer");
    // A waiter that gives up takes nothing from the others.
    waiters.spawn(std::future::pending());
    let impatient = tokio::spawn({
        let (verifier, new) = (Arc::clone(&verifier), Arc::clone(&new));
        async move { kind(&login(&verifier, &new).await) }
    });
    tokio::task::yield_now().await;
    impatient.abort();
    web.release(&gate);
    for _ in 0..50 {
        assert_eq!(waiters.join_next().await.expect("a waiter").expect("an outcome"), "ok");
    }
    assert_eq!(web.asked(), 4, "two documents, twice");
}

#[tokio::test]
async fn an_outage_is_survived_for_a_bounded_time() {
    let web = Web::plain().await;
    let identity = identity_of(&web);
    publish(&web, &[&identity]);
    let hands = Hands::new();
    let verifier = verifier(discovering(&web), &hands, None);
    assert_eq!(kind(&login(&verifier, &identity).await), "ok");
    web.raw("/jwks.json", answer("503 Service Unavailable", "", b""));
    hands.advance_ms(TIMING.stale_ms_max);
    assert_eq!(kind(&login(&verifier, &identity).await), "ok", "at the bound");
    while verifier.health()[0].failures_total < 1 {
        tokio::task::yield_now().await;
    }
    hands.advance_ms(10_000);
    let denied = login(&verifier, &identity).await.expect_err("a refusal");
    assert_eq!(denied.kind(), "no_keys");
    assert!(
        denied.exact().contains("older than may be believed") && denied.exact().contains("503"),
        "{denied}"
    );
    assert!(!denied.client_text().contains("503") && !denied.client_text().contains("127.0.0.1"));
    // And it ends.
    publish(&web, &[&identity]);
    assert_eq!(kind(&login(&verifier, &identity).await), "no_keys", "not before the floor");
    hands.advance_ms(10_000);
    assert_eq!(kind(&login(&verifier, &identity).await), "ok");
}

#[tokio::test]
async fn what_an_issuer_may_not_answer_is_no_key_set() {
    let web = Web::plain().await;
    let identity = identity_of(&web);
    publish(&web, &[&identity]);
    let good = identity.discovery();
    let keys = identity.key_set().expect("a key set");
    let discovery = "/.well-known/openid-configuration";
    let with_document = |document: Value| (discovery, answer("200 OK", "", document.to_string().as_bytes()));
    let elsewhere = format!("location: {}\r\n", web.url("/jwks.json"));
    let mut padded = keys.to_string().into_bytes();
    padded.resize(KEY_SET_BYTES_MAX + 1, b' ');
    let endless =
        b"HTTP/1.1 200 OK\r\n\r\n".iter().copied().chain(vec![b' '; KEY_SET_BYTES_MAX + 1]).collect();
    let mut long_document = good.to_string().into_bytes();
    long_document.resize(DISCOVERY_BYTES_MAX + 1, b' ');
    let table: Vec<(&str, (&str, Vec<u8>))> = vec![
        ("another issuer", with_document(with(good.clone(), "issuer", "http://127.0.0.1:1"))),
        ("another issuer", with_document(with(good.clone(), "issuer", format!("{}/", web.url(""))))),
        ("another issuer", with_document(without(good.clone(), "issuer"))),
        ("jwks_uri", with_document(without(good.clone(), "jwks_uri"))),
        ("jwks_uri", with_document(with(good.clone(), "jwks_uri", "not a url"))),
        ("https", with_document(with(good.clone(), "jwks_uri", "file:///etc/passwd"))),
        ("loopback", with_document(with(good.clone(), "jwks_uri", "http://192.0.2.1/jwks.json"))),
        ("names a member twice", (discovery, answer("200 OK", "", br#"{"issuer":"a","issuer":"b"}"#))),
        ("more than", (discovery, answer("200 OK", "", &long_document))),
        ("302", ("/jwks.json", answer("302 Found", &elsewhere, b""))),
        ("500", ("/jwks.json", answer("500 No", "", keys.to_string().as_bytes()))),
        ("not JSON", ("/jwks.json", answer("200 OK", "", b"<html>"))),
        ("no array", ("/jwks.json", answer("200 OK", "", b"{}"))),
        ("can verify", ("/jwks.json", answer("200 OK", "", br#"{"keys":[{"kty":"oct","k":"AA"}]}"#))),
        ("more than", ("/jwks.json", answer("200 OK", "", &padded))),
        ("more than", ("/jwks.json", endless)),
        ("failed", ("/jwks.json", b"SSH-2.0-OpenSSH\r\n".to_vec())),
        ("failed", ("/jwks.json", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec())),
        ("failed", ("/jwks.json", Vec::new())),
    ];
    for (expected, (path, bytes)) in table {
        publish(&web, &[&identity]);
        web.raw(path, bytes);
        let hands = Hands::new();
        let verifier = verifier(discovering(&web), &hands, None);
        let denied = login(&verifier, &identity).await.expect_err(expected);
        assert_eq!(denied.kind(), "no_keys", "{denied}");
        assert!(denied.exact().contains(expected), "{expected}: {denied}");
    }
}

#[tokio::test]
async fn an_issuer_that_never_answers_costs_its_own_tokens_a_bounded_wait() {
    let web = Web::plain().await;
    let identity = identity_of(&web);
    publish(&web, &[&identity]);
    let _gate = web.hold();
    let hands = Hands::new();
    let time = Time { fetch_timeout: Duration::from_millis(50), ..time(&hands) };
    let verifier = Verifier::with_time(vec![discovering(&web)], 65_536, &Handle::current(), None, time);
    // Real time passes here, until the client's own timeout; nothing else ends this.
    let denied = login(&verifier.expect("a verifier"), &identity).await.expect_err("a refusal");
    assert!(denied.exact().contains("did not answer within 50 ms"), "{denied}");
}

#[tokio::test]
async fn a_provider_that_comes_later_is_found_without_a_token() {
    let web = Web::plain().await;
    let identity = identity_of(&web);
    let mut settings = discovering(&web);
    settings.timing = Some(KeyTiming { refresh_ms: 3_600_000, floor_ms: 100, stale_ms_max: 3_600_000 });
    let hands = Hands::new();
    let gate = web.hold();
    let verifier = verifier(settings, &hands, None);
    // Whoever watches over the keys has looked while the first answer was still to come.
    until_waiting(&web, 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    web.release(&gate);
    while verifier.health()[0].failures_total < 1 {
        tokio::task::yield_now().await;
    }
    publish(&web, &[&identity]);
    hands.advance_ms(1_000);
    while !verifier.health()[0].usable {
        tokio::time::sleep(Duration::from_millis(10)).await;
        hands.advance_ms(100);
    }
    assert_eq!(kind(&login(&verifier, &identity).await), "ok");
}

#[tokio::test]
async fn nothing_listens_and_nothing_passes() {
    let web = Web::plain().await;
    let identity = identity_of(&web);
    let closed =
        TcpListener::bind("127.0.0.1:0").await.expect("a listener").local_addr().expect("an address");
    let mut settings = discovering(&web);
    settings.jwks = KeySource::Url(format!("http://{closed}/jwks.json"));
    let hands = Hands::new();
    let verifier = verifier(settings, &hands, None);
    let denied = login(&verifier, &identity).await.expect_err("a refusal");
    assert!(denied.exact().contains("no connection"), "{denied}");
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes_and_survives_a_bad_edit() {
    let bench = Bench::new();
    let new = DevIdentity::in_memory(ISSUER, AUDIENCE).expect("an identity");
    assert_eq!(kind(&login(&bench.verifier, &bench.identity).await), "ok");
    let keys = new.key_set().expect("a key set").to_string();
    std::fs::write(&bench.keys, &keys[..keys.len() / 2]).expect("half a file");
    bench.hands.advance_ms(10_000);
    assert_eq!(kind(&login(&bench.verifier, &new).await), "unknown_key");
    assert_eq!(kind(&login(&bench.verifier, &bench.identity).await), "ok", "the last good keys");
    std::fs::write(&bench.keys, &keys).expect("a key file");
    bench.hands.advance_ms(10_000);
    assert_eq!(kind(&login(&bench.verifier, &new).await), "ok");
    assert_eq!(kind(&login(&bench.verifier, &bench.identity).await), "unknown_key", "revoked");
    // Unchanged: confirmed, not read.
    bench.hands.advance_ms(TIMING.stale_ms_max + 1);
    assert_eq!(kind(&login(&bench.verifier, &new).await), "ok");
    std::fs::remove_file(&bench.keys).expect("a key file");
    bench.hands.advance_ms(TIMING.stale_ms_max + 1);
    let denied = login(&bench.verifier, &new).await.expect_err("a refusal");
    assert!(denied.kind() == "no_keys" && denied.exact().contains("jwks.json"), "{denied}");
}

#[tokio::test]
async fn a_folder_in_place_of_a_key_file_is_no_key_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let hands = Hands::new();
    let verifier = verifier(settings(KeySource::File(folder.path().to_owned())), &hands, None);
    let identity = DevIdentity::in_memory(ISSUER, AUDIENCE).expect("an identity");
    let denied = login(&verifier, &identity).await.expect_err("a refusal");
    assert!(denied.exact().contains("no regular file"), "{denied}");
}

#[tokio::test]
async fn a_reload_during_an_outage_keeps_the_keys() {
    let web = Web::plain().await;
    let identity = identity_of(&web);
    publish(&web, &[&identity]);
    let hands = Hands::new();
    let before = verifier(discovering(&web), &hands, None);
    assert_eq!(kind(&login(&before, &identity).await), "ok");
    web.raw("/jwks.json", answer("503 Service Unavailable", "", b""));
    let after = verifier(discovering(&web), &hands, Some(&before));
    drop(before);
    assert_eq!(kind(&login(&after, &identity).await), "ok");
    // Another place for the keys is another matter.
    let mut moved = discovering(&web);
    moved.jwks = KeySource::Url(web.url("/other.json"));
    let moved = verifier(moved, &hands, Some(&after));
    assert_eq!(kind(&login(&moved, &identity).await), "no_keys");
}

#[tokio::test]
async fn a_control_runtime_that_ends_wakes_who_waits() {
    let web = Web::plain().await;
    let identity = identity_of(&web);
    publish(&web, &[&identity]);
    let _gate = web.hold();
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let time = time(&Hands::new());
    let verifier = Verifier::with_time(vec![discovering(&web)], 65_536, control.handle(), None, time);
    let verifier = Arc::new(verifier.expect("a verifier"));
    let waiting = tokio::spawn({
        let verifier = Arc::clone(&verifier);
        async move { login(&verifier, &identity).await }
    });
    until_waiting(&web, 1).await;
    control.shutdown_background();
    let denied = waiting.await.expect("an outcome").expect_err("a refusal");
    assert!(denied.exact().contains("cut off"), "{denied}");
}

#[tokio::test]
async fn https_is_verified_against_the_configured_roots_only() {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("a certificate");
    let ca = CertificateIssuer::new(ca, ca_key);
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, ca_certificate.pem()).expect("a file");
    for (names, trusted, expected) in [
        (["127.0.0.1", "localhost"], true, "ok"),
        (["127.0.0.1", "localhost"], false, "no_keys"),
        (["id.example.com", "127.0.0.2"], true, "no_keys"),
    ] {
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(names.map(str::to_owned)).expect("parameters");
        let leaf = leaf.signed_by(&key, &ca).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .expect("a configuration");
        let web = Web::start(Some(TlsAcceptor::from(Arc::new(server)))).await;
        let issuer = format!("https://{}", web.address);
        let identity = DevIdentity::in_memory(&issuer, AUDIENCE).expect("an identity");
        publish(&web, &[&identity]);
        let mut settings = settings(KeySource::Discover);
        settings.issuer = issuer;
        if trusted {
            settings.ca = vec![ca_file.clone()];
        }
        let hands = Hands::new();
        let verifier = verifier(settings, &hands, None);
        let outcome = login(&verifier, &identity).await;
        assert_eq!(kind(&outcome), expected, "{names:?} {trusted}: {outcome:?}");
        if expected != "ok" {
            assert!(outcome.expect_err("a refusal").exact().contains("TLS"), "{names:?}");
        }
    }
}

//! The target's side against real servers: every authentication method and TLS mode, cancel, the startup packet, the
//! server's own reading of `options` and encodings, and poolers in between.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic here is a failed test, which is what must happen"
)]

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgturnstile::backend::query::query;
use pgturnstile::backend::settings::{
    Address, ChannelBinding, Credential, Guards, PasswordSource, TargetSettings, TlsMode, TlsSettings,
};
use pgturnstile::backend::{
    ClientSettings, Connected, DialError, Failure, Fault, KeyCache, Login, Method, Pooling,
    StartupParameters, Target, Unfit, cancel, dial, options, pooler,
};
use pgturnstile::net::tls::CertificateFiles;
use pgturnstile_proto::backend::{Header, Message};
use pgturnstile_proto::startup::ProtocolVersion;
use pgturnstile_proto::{Limits, encode};
use pgturnstile_tests::Postgres;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

/// Ports of this file's servers and poolers.
const PORTS: std::ops::Range<u16> = 21_700..21_780;
const POOLER_PORTS: std::ops::Range<u16> = 21_780..21_800;

const PASSWORD: &str = "Tr0ub4dor&3 \u{2168}";

/// `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey` (RFC 5803) of a password, with a salt that is always the same. Written
/// from the RFC on its own: SQL cannot make the server derive one for a salt of our choice.
fn secret(password: &str, iterations: u32) -> String {
    const SALT: &[u8] = b"0123456789abcdef";
    let mut salted = [0; 32];
    let rounds = NonZeroU32::new(iterations).unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, SALT, password.as_bytes(), &mut salted);
    let mac = |text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), text).as_ref().to_vec();
    let stored = digest::digest(&digest::SHA256, &mac(b"Client Key"));
    let (salt, stored) = (STANDARD.encode(SALT), STANDARD.encode(stored.as_ref()));
    format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{}", STANDARD.encode(mac(b"Server Key")))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// A server, a folder for passwords, and a cache of derived keys.
struct Bench {
    server: Postgres,
    folder: TempDir,
    keys: KeyCache,
}

impl Bench {
    fn new(server: Postgres) -> Self {
        Self { server, folder: TempDir::new().unwrap(), keys: KeyCache::default() }
    }

    fn credential(&self, user: &str, password: Option<&str>) -> Credential {
        let path: PathBuf = self.folder.path().join(user);
        let password = password.map(|password| {
            fs::write(&path, format!("{password}\n")).unwrap();
            PasswordSource::File(path)
        });
        Credential { name: user.to_owned(), user: user.to_owned(), password, certificate: None }
    }

    fn tcp(&self, tls: TlsSettings) -> Target {
        let address = Address::Tcp { host: "127.0.0.1".into(), port: self.server.port() };
        self.target(address, tls)
    }

    fn unix(&self) -> Target {
        let directory = self.server.socket_folder().to_owned();
        self.target(Address::Unix { directory, port: self.server.port() }, TlsSettings::disabled())
    }

    fn target(&self, address: Address, tls: TlsSettings) -> Target {
        self.target_of(address, tls, ProtocolVersion::V3_2)
    }

    fn target_of(&self, address: Address, tls: TlsSettings, protocol: ProtocolVersion) -> Target {
        let settings =
            TargetSettings { name: "crm".into(), address, database: "postgres".into(), tls, protocol };
        Target::new(&settings).unwrap()
    }

    fn verified(&self, mode: TlsMode) -> TlsSettings {
        let ca = vec![self.server.tls().unwrap().authority.clone()];
        TlsSettings { mode, ca, ..TlsSettings::disabled() }
    }

    async fn dial(&self, target: &Target, credential: &Credential) -> Result<Connected, DialError> {
        self.dial_with(target, credential, &ClientSettings::default(), &Guards::default()).await
    }

    async fn dial_with(
        &self,
        target: &Target,
        credential: &Credential,
        client: &ClientSettings,
        guards: &Guards,
    ) -> Result<Connected, DialError> {
        let parameters =
            StartupParameters::build(&credential.user, target.database(), client, guards, "01JD3Z").unwrap();
        dial(target, &Login { credential, keys: &self.keys }, &parameters, soon()).await
    }
}

fn mode(mode: TlsMode) -> TlsSettings {
    TlsSettings { mode, ..TlsSettings::disabled() }
}

async fn value(session: &mut Connected, text: &str) -> String {
    let answer = query(&mut session.stream, text, soon()).await.unwrap();
    answer.rows[0][0].clone().unwrap()
}

fn secure_server() -> Postgres {
    let server = Postgres::builder(PORTS)
        .tls()
        .hba("host all scram all scram-sha-256")
        .hba("host all weak all scram-sha-256")
        .hba("host all legacy all md5")
        .hba("local all legacy md5")
        .hba("host all clear all password")
        .hba("host all open all trust")
        .start();
    let quoted = PASSWORD.replace('\'', "''");
    server.execute(
        "postgres",
        &format!(
            "CREATE ROLE scram LOGIN PASSWORD '{quoted}'; CREATE ROLE clear LOGIN PASSWORD '{quoted}';
             CREATE ROLE open LOGIN; CREATE ROLE weak LOGIN PASSWORD '{}';
             SET password_encryption = md5; CREATE ROLE legacy LOGIN PASSWORD '{quoted}';",
            secret(PASSWORD, 4_095)
        ),
    );
    server
}

#[tokio::test]
async fn methods_and_tls_modes() {
    let bench = Bench::new(secure_server());
    scram_in_every_mode(&bench).await;
    certificates_are_verified(&bench).await;
    direct_tls(&bench).await;
    other_methods(&bench).await;
    kept_keys_follow_the_password(&bench).await;
    cancel_stops_a_query(&bench).await;
}

async fn scram_in_every_mode(bench: &Bench) {
    let scram = bench.credential("scram", Some(PASSWORD));
    let plain = bench.dial(&bench.tcp(mode(TlsMode::Disable)), &scram).await.unwrap();
    assert_eq!(plain.method, Method::Scram);
    assert!(!plain.stream.is_encrypted());
    for tls in
        [mode(TlsMode::Require), bench.verified(TlsMode::VerifyCa), bench.verified(TlsMode::VerifyFull)]
    {
        for channel_binding in [ChannelBinding::Prefer, ChannelBinding::Require] {
            let target = bench.tcp(TlsSettings { channel_binding, ..tls.clone() });
            let mut session = bench.dial(&target, &scram).await.unwrap();
            assert_eq!(session.method, Method::ScramPlus);
            let text = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            assert_eq!(value(&mut session, text).await, "TLSv1.3");
            assert_eq!(session.stream.tls().unwrap().version, "TLSv1.3");
            let pid = value(&mut session, "SELECT pg_backend_pid()").await;
            assert_eq!(pid, session.key.process_id().to_string());
            session.close().await.unwrap();
        }
    }
    let wrong = bench.credential("scram", Some("wrong"));
    bench.keys.clear();
    let error = bench.dial(&bench.tcp(mode(TlsMode::Require)), &wrong).await.unwrap_err();
    let Failure::Rejected { rejection, .. } = &error.failure else { panic!("{error}") };
    assert_eq!(rejection.sqlstate, "28P01");
    assert_eq!((error.fault(), error.sqlstate()), (Fault::Operator, "08004"));
    assert!(!error.client_text().contains("scram"), "{}", error.client_text());
    assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    assert_eq!(format!("{:?}", bench.keys), "KeyCache(0 kept)");
}

async fn certificates_are_verified(bench: &Bench) {
    let scram = bench.credential("scram", Some(PASSWORD));
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let path = bench.folder.path().join("other.pem");
    fs::write(&path, other.cert.pem()).unwrap();
    for tls_mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let tls = TlsSettings { ca: vec![path.clone()], ..mode(tls_mode) };
        let error = bench.dial(&bench.tcp(tls), &scram).await.unwrap_err();
        assert!(error.to_string().contains("no configured CA has signed"), "{error}");
    }
    let named = |tls_mode, name: &str| TlsSettings { name: Some(name.into()), ..bench.verified(tls_mode) };
    let error =
        bench.dial(&bench.tcp(named(TlsMode::VerifyFull, "db.example.com")), &scram).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
    let error =
        bench.dial(&bench.tcp(named(TlsMode::VerifyCa, "project:instance")), &scram).await.unwrap_err();
    assert!(error.to_string().contains("not \"project:instance\""), "{error}");
    assert!(bench.dial(&bench.tcp(named(TlsMode::VerifyFull, "localhost")), &scram).await.is_ok());
}

/// TLS from the first byte: PostgreSQL 17 and later take it; before, the server reads nonsense and closes.
async fn direct_tls(bench: &Bench) {
    let scram = bench.credential("scram", Some(PASSWORD));
    let number = bench.server.query("postgres", "SHOW server_version_num")[0][0].clone().unwrap();
    let major = number.parse::<u32>().unwrap() / 10_000;
    for tls in [mode(TlsMode::Require), bench.verified(TlsMode::VerifyFull)] {
        let target = bench.tcp(TlsSettings { direct: true, ..tls });
        match bench.dial(&target, &scram).await {
            Ok(mut session) => {
                assert!(major >= 17, "PostgreSQL {major} takes no direct TLS");
                assert_eq!(session.method, Method::ScramPlus);
                assert_eq!(session.stream.tls().unwrap().alpn.as_deref(), Some(&b"postgresql"[..]));
                assert_eq!(
                    value(&mut session, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                        .await,
                    "true"
                );
                // A cancel request goes the same way.
                cancel(&target, &scram, &session.key, soon()).await.unwrap();
                session.close().await.unwrap();
            }
            Err(error) => {
                assert!(major < 17, "{error}");
                assert!(error.to_string().contains("PostgreSQL 17 or later"), "{error}");
                assert_eq!(error.fault(), Fault::Operator);
            }
        }
    }
}

async fn other_methods(bench: &Bench) {
    let clear = bench.credential("clear", Some(PASSWORD));
    let error = bench.dial(&bench.tcp(mode(TlsMode::Disable)), &clear).await.unwrap_err();
    assert!(matches!(error.failure, Failure::CleartextUnencrypted), "{error}");
    let session = bench.dial(&bench.tcp(mode(TlsMode::Require)), &clear).await.unwrap();
    assert_eq!(session.method, Method::Cleartext);
    let bound = TlsSettings { channel_binding: ChannelBinding::Require, ..mode(TlsMode::Require) };
    let error = bench.dial(&bench.tcp(bound), &clear).await.unwrap_err();
    assert!(matches!(error.failure, Failure::ChannelBinding(_)), "{error}");

    let open = bench.credential("open", None);
    for target in [bench.tcp(mode(TlsMode::Disable)), bench.tcp(mode(TlsMode::Require)), bench.unix()] {
        assert_eq!(bench.dial(&target, &open).await.unwrap().method, Method::Trust);
    }
    let error = bench.dial(&bench.unix(), &bench.credential("open", Some("x"))).await.unwrap_err();
    assert!(matches!(error.failure, Failure::NotAsked(_)), "{error}");

    let legacy = bench.credential("legacy", Some(PASSWORD));
    for target in [bench.tcp(mode(TlsMode::Require)), bench.unix()] {
        assert_eq!(bench.dial(&target, &legacy).await.unwrap().method, Method::Md5);
    }
    let error = bench.dial(&bench.tcp(mode(TlsMode::Disable)), &legacy).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Md5Unencrypted), "{error}");
    let bound = TlsSettings { channel_binding: ChannelBinding::Require, ..mode(TlsMode::Require) };
    let error = bench.dial(&bench.tcp(bound), &legacy).await.unwrap_err();
    assert!(matches!(error.failure, Failure::ChannelBinding(_)), "{error}");
    let wrong = bench.credential("legacy", Some("wrong"));
    let error = bench.dial(&bench.tcp(mode(TlsMode::Require)), &wrong).await.unwrap_err();
    let Failure::Rejected { rejection, .. } = &error.failure else { panic!("{error}") };
    assert_eq!(rejection.sqlstate, "28P01");
    let weak = bench.credential("weak", Some(PASSWORD));
    let error = bench.dial(&bench.tcp(mode(TlsMode::Require)), &weak).await.unwrap_err();
    assert!(error.to_string().contains("asks for 4095 SCRAM iterations"), "{error}");
}

async fn kept_keys_follow_the_password(bench: &Bench) {
    let target = bench.tcp(mode(TlsMode::Require));
    let set = |password: &str| {
        bench.server.execute("postgres", &format!("ALTER ROLE scram PASSWORD '{}'", secret(password, 4_096)));
    };
    set("first");
    bench.keys.clear();
    let credential = bench.credential("scram", Some("first"));
    bench.dial(&target, &credential).await.unwrap();
    // Kept: the password file is not read again.
    fs::remove_file(bench.folder.path().join("scram")).unwrap();
    bench.dial(&target, &credential).await.unwrap();
    // Another password under the same salt: the kept keys fail, and fresh ones follow at once.
    set("second");
    let credential = bench.credential("scram", Some("second"));
    bench.dial(&target, &credential).await.unwrap();
    assert_eq!(format!("{:?}", bench.keys), "KeyCache(1 kept)");
    set(PASSWORD);
}

async fn cancel_stops_a_query(bench: &Bench) {
    let open = bench.credential("open", None);
    for target in
        [bench.tcp(mode(TlsMode::Disable)), bench.tcp(bench.verified(TlsMode::VerifyFull)), bench.unix()]
    {
        let mut session = bench.dial(&target, &open).await.unwrap();
        let key = session.key.clone();
        let asleep =
            tokio::spawn(async move { query(&mut session.stream, "SELECT pg_sleep(600)", soon()).await });
        // One that comes before the query has begun hits nothing: it is sent until it hits.
        while !asleep.is_finished() {
            cancel(&target, &open, &key, soon()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let Err(Failure::Rejected { rejection, .. }) = asleep.await.unwrap() else { panic!("it slept well") };
        assert_eq!(rejection.sqlstate, "57014");
    }
}

/// A CA, and a certificate of it for the role `crew`, as PEM files that the server's user can read.
fn client_certificate(folder: &Path) -> (PathBuf, CertificateFiles) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let write = |name: &str, pem: String| {
        fs::write(folder.join(name), pem).unwrap();
        folder.join(name)
    };
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = write("client-ca.pem", authority.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(Vec::new()).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, "crew");
    let certificate = write("crew.pem", leaf.signed_by(&key, &issuer).unwrap().pem());
    let key = write("crew.key", key.serialize_pem());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    (ca, CertificateFiles { certificate, key })
}

#[tokio::test]
async fn the_gateways_own_certificate_and_tls_1_2() {
    let folder = TempDir::new().unwrap();
    let (ca, files) = client_certificate(folder.path());
    let server = Postgres::builder(PORTS)
        .tls()
        .setting("ssl_ca_file", ca.to_str().unwrap())
        .setting("ssl_max_protocol_version", "TLSv1.2")
        .hba("hostssl all crew all cert")
        .hba("host all scram all scram-sha-256")
        .start();
    let set = format!("CREATE ROLE crew LOGIN; CREATE ROLE scram LOGIN PASSWORD '{PASSWORD}'");
    server.execute("postgres", &set);
    let bench = Bench::new(server);

    let target = bench.tcp(bench.verified(TlsMode::VerifyFull));
    let bare = bench.credential("crew", None);
    let crew = Credential { certificate: Some(files.clone()), ..bare.clone() };
    let session = bench.dial(&target, &crew).await.unwrap();
    assert_eq!((session.method, session.stream.tls().unwrap().version), (Method::Certificate, "TLSv1.2"));
    let error = bench.dial(&target, &bare).await.unwrap_err();
    assert!(error.to_string().contains("valid client certificate"), "{error}");
    let wrong = Credential { user: "scram".into(), ..crew.clone() };
    let error = bench.dial(&target, &wrong).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Operator, "{error}");

    // Shown, and a password beside it where one is asked for.
    let scram = Credential { certificate: Some(files.clone()), ..bench.credential("scram", Some(PASSWORD)) };
    let session = bench.dial(&target, &scram).await.unwrap();
    assert_eq!((session.method, session.stream.tls().unwrap().version), (Method::ScramPlus, "TLSv1.2"));

    // Files are read at each login, under libpq's rule on modes.
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = bench.dial(&target, &crew).await.unwrap_err();
    assert!(error.to_string().contains("others may read or change (mode 0644)"), "{error}");
    assert!(!error.client_text().contains("crew"), "{}", error.client_text());
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
    for clear in [bench.tcp(mode(TlsMode::Disable)), bench.unix()] {
        let error = bench.dial(&clear, &crew).await.unwrap_err();
        assert!(matches!(error.failure, Failure::CertificateUnencrypted(_)), "{error}");
    }

    // A server that lets the role in and asks for no certificate.
    let open = Postgres::builder(PORTS).tls().hba("host all crew all trust").start();
    open.execute("postgres", "CREATE ROLE crew LOGIN");
    let bench = Bench::new(open);
    let target = bench.tcp(bench.verified(TlsMode::VerifyFull));
    let error = bench.dial(&target, &crew).await.unwrap_err();
    assert!(matches!(error.failure, Failure::CertificateNotAsked(_)), "{error}");

    // A server without TLS, and a target that demands it.
    let bench = Bench::new(Postgres::builder(PORTS).start());
    let postgres = bench.credential("postgres", None);
    let error = bench.dial(&bench.tcp(mode(TlsMode::Require)), &postgres).await.unwrap_err();
    assert!(matches!(error.failure, Failure::TlsNotOffered), "{error}");
}

#[tokio::test]
async fn the_startup_packet_holds_through_resets() {
    let server = Postgres::builder(PORTS).start();
    server.execute(
        "postgres",
        "CREATE ROLE app LOGIN; CREATE SCHEMA crm; CREATE SCHEMA \"Odd, \"\"one\"\"\";
         GRANT USAGE ON SCHEMA crm, \"Odd, \"\"one\"\"\" TO app;
         ALTER ROLE app SET search_path = public; ALTER ROLE app SET statement_timeout = '7s';
         ALTER ROLE app SET default_transaction_read_only = off; ALTER ROLE app SET client_encoding = latin1;
         ALTER ROLE app SET standard_conforming_strings = off; ALTER ROLE app SET application_name = 'role';
         ALTER ROLE app SET lock_timeout = '9s'",
    );
    let bench = Bench::new(server);
    let app = bench.credential("app", None);
    let given = [
        ("application_name", "caf\u{e9} m\u{fc}ller"),
        ("options", "-c TimeZone=Asia/Tokyo --DateStyle=SQL,\\ DMY"),
    ];
    let client =
        ClientSettings::read(given.map(|(name, value)| (name.as_bytes(), value.as_bytes()))).unwrap();
    let guards = Guards {
        read_only: true,
        statement_timeout_ms: Some(30_000),
        lock_timeout_ms: None,
        idle_in_transaction_ms: Some(60_000),
        search_path: vec!["crm".into(), "Odd, \"one\"".into()],
    };
    let mut session = bench.dial_with(&bench.unix(), &app, &client, &guards).await.unwrap();
    let expected = [
        ("search_path", "crm, \"Odd, \"\"one\"\"\""),
        ("statement_timeout", "30s"),
        ("lock_timeout", "9s"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("default_transaction_read_only", "on"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("application_name", "caf?? m??ller pgt:01JD3Z"),
        ("TimeZone", "Asia/Tokyo"),
        ("DateStyle", "SQL, DMY"),
    ];
    let moved = "SET search_path = public; SET statement_timeout = 0; SET default_transaction_read_only = off;
                 SET application_name = 'x'; SET standard_conforming_strings = off; SET client_encoding = latin1";
    for reset in ["SELECT 1", "RESET ALL", "DISCARD ALL"] {
        query(&mut session.stream, reset, soon()).await.unwrap();
        for (name, wanted) in expected {
            let found = value(&mut session, &format!("SHOW {name}")).await;
            // The server shows a list as it was given.
            let same = found == wanted || (name == "search_path" && found == "\"crm\", \"Odd, \"\"one\"\"\"");
            assert!(same, "{name} is {found} after {reset}");
        }
        assert_eq!(
            value(&mut session, "SELECT current_schemas(false)::text").await,
            "{crm,\"Odd, \\\"one\\\"\"}"
        );
        query(&mut session.stream, moved, soon()).await.unwrap();
    }
    let empty = bench.dial_with(&bench.unix(), &app, &ClientSettings::default(), &Guards::default()).await;
    assert_eq!(value(&mut empty.unwrap(), "SELECT current_schemas(true)::text").await, "{pg_catalog}");

    // A value that the server does not take is the client's to change, and its words are the server's.
    let given = [(b"TimeZone".as_slice(), b"Mars/Olympus".as_slice())];
    let client = ClientSettings::read(given).unwrap();
    let error = bench.dial_with(&bench.unix(), &app, &client, &Guards::default()).await.unwrap_err();
    assert_eq!((error.fault(), error.sqlstate()), (Fault::Client, "22023"));
    assert!(error.client_text().contains("Mars/Olympus"), "{}", error.client_text());
}

/// A login by hand: what the server reports, or its error. The second opinion on what the gateway makes of a packet.
async fn by_hand(server: &Postgres, given: &[(&str, &str)]) -> Result<BTreeMap<String, String>, String> {
    let path = server.socket_folder().join(format!(".s.PGSQL.{}", server.port()));
    let mut stream = UnixStream::connect(path).await.unwrap();
    let mut packet = Vec::new();
    let login = [("user", "postgres"), ("database", "postgres")];
    encode::startup(&mut packet, ProtocolVersion::V3_0, login.iter().chain(given).copied()).unwrap();
    stream.write_all(&packet).await.unwrap();
    let mut settings = BTreeMap::new();
    loop {
        let mut frame = vec![0; 5];
        stream.read_exact(&mut frame).await.unwrap();
        let header = Header::peek(&frame, &Limits::default()).unwrap().unwrap();
        frame.resize(header.len, 0);
        stream.read_exact(&mut frame[5..]).await.unwrap();
        let message = Message::parse(&frame).unwrap();
        if let Message::ParameterStatus(status) = message {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            settings.insert(text(status.name()), text(status.value()));
        } else if let Message::ErrorResponse(fields) = message {
            return Err(fields.sqlstate().unwrap().to_owned());
        } else if let Message::ReadyForQuery { .. } = message {
            return Ok(settings);
        }
    }
}

/// What the gateway would send for the same packet, sent by hand.
async fn by_gateway(
    server: &Postgres,
    given: &[(&str, &str)],
) -> Option<Result<BTreeMap<String, String>, String>> {
    let pairs = given.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let client = ClientSettings::read(pairs).ok()?;
    let name = client.application_name();
    let mut sent = vec![("application_name", name.as_str())];
    sent.extend(client.settings().iter().map(|(name, value)| (*name, value.as_str())));
    Some(by_hand(server, &sent).await)
}

/// Pieces that the server's splitter and switches treat in different ways.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        " ",
        "  ",
        "\t",
        "\n",
        "\\",
        "\\\\",
        "-",
        "--",
        "-c",
        "-c ",
        "=",
        "TimeZone=UTC",
        "timezone=Asia/Tokyo",
        "DateStyle=ISO,\\ DMY",
        "date-style=SQL",
        "IntervalStyle=iso_8601",
        "interval-style=x",
        "extra-float-digits=2",
        "extra_float_digits",
        "application_name=a\\ b",
        "application-name=",
        "-O",
        "-e",
        "x",
        "\"",
        "'",
        ",",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

#[test]
fn options_and_encodings_mean_what_they_mean_to_the_server() {
    let server = Postgres::builder(PORTS).start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for encoding in [
        "UTF8",
        "utf8",
        "UTF-8",
        "utf_8",
        "'utf-8'",
        "\"UTF8\"",
        "unicode",
        "Unicode",
        " u t f 8 ",
        "utf-88",
        "auto",
        "",
        "LATIN1",
        "SQL_ASCII",
        "utf8 ",
        "UTF-16",
        "u.t.f.8",
        "utf8\u{e9}",
    ] {
        let given = [("client_encoding", encoding)];
        let theirs = runtime.block_on(by_hand(&server, &given));
        let ours = ClientSettings::read(given.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let utf8 = theirs.as_ref().is_ok_and(|settings| settings["client_encoding"] == "UTF8");
        // Ours may refuse more (a byte above 0x7F is no letter to the server either), never less.
        assert!(utf8 || ours.is_err(), "{encoding:?} is accepted by the gateway and not UTF8 to the server");
        if utf8 && encoding.is_ascii() {
            assert!(ours.is_ok(), "{encoding:?} is UTF8 to the server and refused by the gateway");
        }
    }
    let mut accepted = 0;
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let outcome = runner.run(&pieces(), |options| {
        let given = [("options", options.as_str()), ("application_name", "outside")];
        let theirs = runtime.block_on(by_hand(&server, &given));
        if let Some(ours) = runtime.block_on(by_gateway(&server, &given)) {
            prop_assert_eq!(&ours, &theirs, "options {:?}", options);
        }
        Ok(())
    });
    outcome.unwrap();
    // Spelled out: what passes, and that it does the same.
    for options in [
        "-c TimeZone=UTC",
        "-cTimeZone=Asia/Tokyo",
        "--timezone=UTC --Interval-Style=x",
        "-c DateStyle=SQL,\\ DMY\t-c  IntervalStyle=iso_8601",
        "--interval-style=iso_8601 \\\n",
        "-c application_name=a\\ b\\\\c",
        "-c extra-float-digits=2 --TimeZone=\\Europe/Berlin",
        "",
        " \\",
    ] {
        let given = [("options", options)];
        let theirs = runtime.block_on(by_hand(&server, &given));
        match runtime.block_on(by_gateway(&server, &given)) {
            Some(ours) => {
                assert_eq!(ours, theirs, "{options:?}");
                accepted += 1;
            }
            None => assert!(theirs.is_err(), "{options:?} is refused by the gateway alone"),
        }
    }
    assert!(accepted >= 5, "only {accepted} were accepted");
    assert!(options::settings("-c search_path=x").is_ok(), "the splitter itself knows no names");
}

/// A pgbouncer in front of a server; ended when dropped.
struct Pooler {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    fn start(server: &Postgres, pool_mode: &str) -> Self {
        let folder = TempDir::with_prefix("pgturnstile-pooler-").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = POOLER_PORTS
            .clone()
            .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .unwrap();
        let ini = format!(
            "[databases]\npostgres = host={} port={} pool_size=5\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {pool_mode}\n\
             ignore_startup_parameters = search_path\n",
            server.socket_folder().display(),
            server.port(),
            folder.path().join("users").display(),
        );
        fs::write(folder.path().join("pgbouncer.ini"), ini).unwrap();
        fs::write(folder.path().join("users"), "\"postgres\" \"\"\n").unwrap();
        let mut command = Command::new(program());
        command.arg(folder.path().join("pgbouncer.ini")).stdout(Stdio::null()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            let id = |flag: &str| {
                let output = Command::new("id").args([flag, "postgres"]).output().unwrap().stdout;
                String::from_utf8(output).unwrap().trim().parse::<u32>().unwrap()
            };
            command.uid(id("-u")).gid(id("-g"));
        }
        let child = command.spawn().expect("pgbouncer runs");
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, _folder: folder }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn program() -> &'static Path {
    let path = Path::new("/usr/sbin/pgbouncer");
    assert!(path.exists(), "no pgbouncer found: `apt-get install pgbouncer`");
    path
}

#[tokio::test]
async fn poolers_in_between_are_told_apart() {
    // The server's own default is what the gateway asks for, in the same spelling: else the pooler, which drops the
    // parameter, would be found out by that alone.
    let bench = Bench::new(Postgres::builder(PORTS).setting("search_path", "\"public\"").start());
    let credential = bench.credential("postgres", None);
    let login = Login { credential: &credential, keys: &bench.keys };
    let guarded = |guards: &Guards| {
        let client = ClientSettings::default();
        StartupParameters::build("postgres", "postgres", &client, guards, "01JD3Z").unwrap()
    };
    let plain = Guards { search_path: vec!["public".into()], ..Guards::default() };
    let full = Guards {
        read_only: true,
        statement_timeout_ms: Some(30_000),
        lock_timeout_ms: Some(1),
        idle_in_transaction_ms: Some(0),
        search_path: vec!["crm".into(), "Odd \"one\"".into()],
    };
    let detect = async |target: &Target, guards: &Guards| {
        pooler::detect(target, &login, &guarded(guards), soon()).await
    };
    for guards in [&plain, &full] {
        assert_eq!(detect(&bench.tcp(TlsSettings::disabled()), guards).await.unwrap(), Pooling::None);
        assert_eq!(detect(&bench.unix(), guards).await.unwrap(), Pooling::None);
    }
    let moved = Guards { search_path: vec!["crm".into()], ..Guards::default() };
    for (pool_mode, found) in [("session", Pooling::Session), ("transaction", Pooling::Transaction)] {
        let pooler = Pooler::start(&bench.server, pool_mode);
        let address = Address::Tcp { host: "127.0.0.1".into(), port: pooler.port };
        // PgBouncer 1.18 refuses a version that it does not know: the dial steps down by itself.
        let target = bench.target_of(address, TlsSettings::disabled(), ProtocolVersion::V3_2);
        assert_eq!(detect(&target, &plain).await.unwrap(), found, "{pool_mode}");
        // A guard that the pooler drops never counts as set.
        match detect(&target, &moved).await {
            Ok(Pooling::Transaction) => {}
            Ok(other) => panic!("{other:?} with a search_path that did not arrive"),
            Err(error) => {
                let dropped =
                    matches!(error.failure, Failure::Unfit(Unfit::Setting { name: "search_path", .. }));
                assert!(dropped, "{error}");
            }
        }
    }
}

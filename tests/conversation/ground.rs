//! What the pipelines run on: one throwaway server with two equal databases, and one gateway before the second.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgturnstile_tests::Postgres;
use pgturnstile_tests::postgres::Session;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;

use crate::model::data::{Data, ROWS};

/// Ports of this test's server, gateway and identity provider.
const PORTS: std::ops::Range<u16> = 23_000..23_100;
const PASSWORD: &str = "conversation-login-1";
/// Ends a hang; no test asserts on it.
pub const START_LIMIT: Duration = Duration::from_secs(60);

const SCHEMA: &str = "
CREATE SCHEMA shop AUTHORIZATION app_login;
SET ROLE app_login;
SET search_path TO shop;
CREATE TABLE kv (k int PRIMARY KEY, v text);
CREATE TABLE late (k int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE trap (k int);
CREATE FUNCTION spring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE NOTICE 'sprung by %', NEW.k; RETURN NEW; END $$;
CREATE TRIGGER spring BEFORE INSERT ON trap FOR EACH ROW EXECUTE FUNCTION spring();
";

/// A process of this test, ended with it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("a process of this test could not be ended: {error}");
        }
    }
}

/// See the module.
pub struct Ground {
    gateway: Process,
    _idp: Process,
    /// The server.
    pub server: Postgres,
    /// Port of the gateway.
    pub port: u16,
    /// The token of the client.
    pub token: String,
    /// Trusts the gateway's certificate.
    pub tls: Arc<rustls::ClientConfig>,
    folder: TempDir,
    superuser: Vec<(&'static str, Session)>,
}

fn binary() -> PathBuf {
    let named = std::env::var_os("PGTURNSTILE_BIN").map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        target.unwrap_or_else(|| root.join("target")).join("release/pgturnstile")
    });
    assert!(path.exists(), "{}: build it (cargo build --release) or set PGTURNSTILE_BIN", path.display());
    path
}

fn free_port(taken: &[u16]) -> u16 {
    let first = usize::try_from(std::process::id()).unwrap_or(0);
    (0..PORTS.len())
        .map(|offset| PORTS.start + u16::try_from((first + offset * 7) % PORTS.len()).unwrap_or(0))
        .find(|port| !taken.contains(port) && std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < START_LIMIT, "{what} did not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Ground {
    /// Starts all of it.
    pub fn start() -> Self {
        let server = start_server();
        let folder = TempDir::with_prefix("pgturnstile-conversation-").expect("a folder");
        let port = free_port(&[]);
        let idp_port = free_port(&[port]);
        let issuer = folder.path().join("issuer.toml");
        let idp = Command::new(binary())
            .args(["dev-idp", "--listen", &format!("127.0.0.1:{idp_port}"), "--state"])
            .arg(folder.path().join("idp"))
            .stdout(fs::File::create(&issuer).expect("a file"))
            .stderr(Stdio::null())
            .spawn()
            .expect("the identity provider starts");
        let idp = Process(idp);
        wait_for("the identity provider", || fs::metadata(&issuer).is_ok_and(|file| file.len() > 0));
        let token = Command::new(binary())
            .args(["token", "--sub", "app-7", "--groups", "app", "--ttl", "86400", "--idp-state"])
            .arg(folder.path().join("idp"))
            .output()
            .expect("the command runs");
        assert!(token.status.success(), "{}", String::from_utf8_lossy(&token.stderr));
        let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
        let tls = configure(folder.path(), port, idp_port, server.port());
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let gateway = Command::new(binary())
            .args(["serve", "--config"])
            .arg(folder.path().join("pgturnstile.toml"))
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("the gateway starts");
        let superuser = ["bare", "gate"].map(|name| (name, server.session(name))).into();
        let gateway = Process(gateway);
        let ground = Self { gateway, _idp: idp, server, port, token, tls, folder, superuser };
        wait_for("the gateway", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        ground
    }

    /// What the gateway has logged.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let read =
            fs::File::open(self.folder.path().join("log")).and_then(|mut f| f.read_to_string(&mut text));
        if read.is_err() { "no log".into() } else { text }
    }

    /// Whether the gateway runs.
    pub fn alive(&mut self) -> bool {
        self.gateway.0.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Runs a text as the superuser, beside the gateway.
    pub fn ask(&self, database: &str, text: &str) -> Vec<Vec<Option<String>>> {
        let (_, session) =
            self.superuser.iter().find(|(name, _)| *name == database).expect("one of the two databases");
        session.query(text)
    }

    /// Puts both databases back.
    pub fn reset(&self) {
        let rows: Vec<String> = ROWS.iter().map(|(k, v)| format!("({k}, '{v}')")).collect();
        for database in ["bare", "gate"] {
            let rows = rows.join(", ");
            drop(self.ask(
                database,
                &format!("TRUNCATE shop.kv, shop.late, shop.trap; INSERT INTO shop.kv VALUES {rows}"),
            ));
        }
    }

    /// What the tables of a database hold, in the model's form.
    pub fn tables(&self, database: &str) -> Data {
        let number = |cell: &Option<String>| cell.as_ref().and_then(|text| text.parse().ok()).unwrap_or(-1);
        let column = |table: &str| -> Vec<i32> {
            let rows = self.ask(database, &format!("SELECT k FROM shop.{table} ORDER BY k"));
            rows.iter().map(|row| number(&row[0])).collect()
        };
        let kv = self.ask(database, "SELECT k, v FROM shop.kv");
        let kv = kv.iter().map(|row| (number(&row[0]), row[1].clone())).collect();
        Data { kv, late: column("late"), trap: column("trap"), application_name: String::new() }
    }
}

fn start_server() -> Postgres {
    let server = Postgres::builder(PORTS)
        .setting("log_statement", "all")
        .setting("log_line_prefix", "%d ")
        .hba("host gate app_login,catalog_login 127.0.0.1/32 scram-sha-256")
        .start();
    server.create_database("bare");
    server.execute(
        "postgres",
        &format!(
            "CREATE ROLE app_login LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE catalog_login LOGIN PASSWORD '{PASSWORD}'; \
             ALTER ROLE app_login SET search_path = 'shop'"
        ),
    );
    server.execute("bare", SCHEMA);
    // The same oids in both.
    server.execute("postgres", "CREATE DATABASE gate TEMPLATE bare");
    server
}

fn configure(folder: &Path, port: u16, idp_port: u16, server: u16) -> Arc<rustls::ClientConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let private = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    };
    private("gateway.crt", &made.cert.pem());
    private("gateway.key", &made.signing_key.serialize_pem());
    private("login", PASSWORD);
    for name in ["state", "evidence"] {
        let path = folder.join(name);
        fs::create_dir(&path).expect("a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("its mode");
    }
    let config = include_str!("gateway.toml")
        .replace("@PORT@", &port.to_string())
        .replace("@IDP@", &idp_port.to_string())
        .replace("@SERVER@", &server.to_string());
    private("pgturnstile.toml", &config);
    private("policy.toml", include_str!("policy.toml"));
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).expect("a certificate");
    roots.add(certificate).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

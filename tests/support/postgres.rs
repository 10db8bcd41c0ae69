//! A throwaway PostgreSQL cluster for one test.
//!
//! Owns: `initdb`, configuration, start, readiness, stop. May not: touch a system cluster; everything is in its own
//! temporary folder, on a free port of the caller's range, under its own socket folder. The server refuses to run as
//! root, so a test that runs as root starts it as the user `postgres`. A small shell parent stops the server when its
//! standard input closes: also when the test process is killed. Missing binaries are a panic that says how to get them.
//!
//! ```no_run
//! # async fn example() {
//! let server = pgturnstile_tests::Postgres::builder(21200..21300).setting("wal_level", "logical").start();
//! server.execute("postgres", "CREATE TABLE t (id int)");
//! let client = server.client("postgres").await;
//! # }
//! ```

use std::fs;
use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Environment variable that names the folder of the server binaries (`postgres`, `initdb`).
pub const BIN_VARIABLE: &str = "PGTURNSTILE_PG_BIN";

/// The superuser of every throwaway cluster.
pub const SUPERUSER: &str = "postgres";

/// How long a server may take to accept connections before the test fails, seconds.
const START_LIMIT_S: u64 = 60;

/// How many ports are tried before giving up: tests run side by side and race for them.
const PORT_ATTEMPTS: usize = 20;

/// Runs the server as its child and stops it (fast shutdown) once standard input closes: `read` answers 1 at the end of
/// input and more than 128 when its time is up.
const KEEPER: &str = r#"
"$1" -D "$2" >"$3" 2>&1 &
server=$!
while kill -0 "$server" 2>/dev/null; do
    read -r -t 0.2
    [ $? -eq 1 ] && break
done
kill -INT "$server" 2>/dev/null
wait "$server"
"#;

/// What to start.
#[derive(Clone, Debug)]
pub struct Builder {
    ports: Range<u16>,
    bin: Option<PathBuf>,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    tls: bool,
    superuser_password: Option<String>,
}

/// A running cluster; stopped and deleted when dropped. Never put one in a `static`: those are not dropped.
#[derive(Debug)]
pub struct Postgres {
    keeper: Child,
    port: u16,
    bin: PathBuf,
    folder: TempDir,
    tls: Option<Tls>,
}

/// Certificates of a cluster started with [`Builder::tls`].
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM file of the authority that signed the server's certificate.
    pub authority: PathBuf,
    /// PEM file of the server's certificate: `localhost`, 127.0.0.1 and `::1`.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

impl Builder {
    /// A line of `postgresql.conf`; the value is quoted here. A later one wins.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// A line of `pg_hba.conf` (`host all all 127.0.0.1/32 scram-sha-256`). Without any, TCP from this host is trusted.
    /// The socket is always trusted for the superuser, so that the test itself gets in.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.into());
        self
    }

    /// Switches TLS on, with a certificate made for this cluster.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Gives the superuser a password, for `pg_hba.conf` lines that ask for one.
    #[must_use]
    pub fn superuser_password(mut self, password: &str) -> Self {
        self.superuser_password = Some(password.into());
        self
    }

    /// The folder of the server's binaries, when neither [`BIN_VARIABLE`] nor the distribution's is meant.
    #[must_use]
    pub fn bin(mut self, folder: &Path) -> Self {
        self.bin = Some(folder.into());
        self
    }

    /// Makes the cluster and waits until it accepts connections.
    ///
    /// # Panics
    /// When the binaries are missing or the server does not start: with its log.
    #[must_use]
    pub fn start(self) -> Postgres {
        let bin = self.bin.clone().unwrap_or_else(find_binaries);
        let owner = Owner::find();
        let folder = TempDir::with_prefix("pgturnstile-pg-").expect("a temporary folder");
        owner.own(folder.path(), 0o700);
        let data = folder.path().join("data");
        init(&bin, &data, &owner, self.superuser_password.as_deref(), folder.path());
        let tls = self.tls.then(|| make_certificates(&data, &owner));
        fs::write(data.join("pg_hba.conf"), self.hba_text()).expect("pg_hba.conf is writable");

        let first = usize::try_from(std::process::id()).unwrap_or(0);
        for attempt in 0..PORT_ATTEMPTS {
            let port = self.ports.start
                + u16::try_from((first + attempt * 7) % self.ports.len()).expect("the range holds ports");
            if TcpListener::bind(("127.0.0.1", port)).is_err() {
                continue;
            }
            let conf = self.conf_text(port, folder.path(), tls.as_ref());
            fs::write(data.join("pgturnstile.conf"), conf).expect("the configuration is writable");
            let log = folder.path().join("log");
            let mut keeper = keep(&bin, &data, &log, &owner);
            if wait_ready(&mut keeper, &data, &log) {
                return Postgres { keeper, port, bin, folder, tls };
            }
        }
        panic!("no free port in {:?} after {PORT_ATTEMPTS} attempts", self.ports);
    }

    fn hba_text(&self) -> String {
        // The first line that fits counts: what a test asks for stands before what is given anyway.
        let mut text = format!("local all {SUPERUSER} trust\n");
        for line in &self.hba {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("local all all trust\n");
        if self.hba.is_empty() {
            text.push_str("host all all 127.0.0.1/32 trust\nhost all all ::1/128 trust\n");
            text.push_str("host replication all 127.0.0.1/32 trust\n");
        }
        text
    }

    fn conf_text(&self, port: u16, sockets: &Path, tls: Option<&Tls>) -> String {
        let mut settings = vec![
            ("port".to_owned(), port.to_string()),
            ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
            ("unix_socket_directories".to_owned(), sockets.display().to_string()),
            ("fsync".to_owned(), "off".to_owned()),
            ("synchronous_commit".to_owned(), "off".to_owned()),
            ("full_page_writes".to_owned(), "off".to_owned()),
            ("shared_buffers".to_owned(), "16MB".to_owned()),
            ("max_connections".to_owned(), "50".to_owned()),
            ("log_statement".to_owned(), "none".to_owned()),
        ];
        if let Some(tls) = tls {
            settings.push(("ssl".to_owned(), "on".to_owned()));
            settings.push(("ssl_cert_file".to_owned(), tls.certificate.display().to_string()));
            settings.push(("ssl_key_file".to_owned(), tls.key.display().to_string()));
        }
        settings.extend(self.settings.iter().cloned());
        settings.iter().map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''"))).collect()
    }
}

impl Postgres {
    /// Describes a cluster that will listen on a free port of `ports`.
    #[must_use]
    pub fn builder(ports: Range<u16>) -> Builder {
        Builder {
            ports,
            bin: None,
            settings: Vec::new(),
            hba: Vec::new(),
            tls: false,
            superuser_password: None,
        }
    }

    /// Its TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its Unix socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data folder.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Path of a program beside the server's (`psql`, `pgbench`), where the package has it.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The certificates, when started with TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// What the server has logged until now.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A connection of the superuser over the socket.
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn client(&self, database: &str) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.folder.path()).port(self.port).user(SUPERUSER).dbname(database);
        let (client, connection) =
            config.connect(tokio_postgres::NoTls).await.expect("the server takes a login");
        tokio::spawn(connection);
        client
    }

    /// Runs a script of statements as the superuser; usable inside and outside of a runtime.
    ///
    /// # Panics
    /// When a statement fails: with the statement's error.
    pub fn execute(&self, database: &str, script: &str) {
        drop(self.query(database, script));
    }

    /// Runs a script by the simple protocol and returns the rows of all its statements, as text.
    ///
    /// # Panics
    /// When a statement fails.
    #[must_use]
    pub fn query(&self, database: &str, script: &str) -> Vec<Vec<Option<String>>> {
        let task = || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let client = self.client(database).await;
                let answer = client.simple_query(script).await;
                let messages = answer.unwrap_or_else(|error| panic!("{error:?} in: {script}"));
                messages.iter().filter_map(row_as_text).collect()
            })
        };
        // A thread of its own: a test may already stand on a runtime, and one cannot block inside another.
        std::thread::scope(|scope| {
            scope.spawn(task).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A connection of the superuser that runs one text after another, without a runtime in the caller.
    ///
    /// # Panics
    /// When the server does not take it.
    #[must_use]
    pub fn session(&self, database: &str) -> Session {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(self.client(database));
        Session { runtime, client }
    }

    /// Makes an empty database.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn create_database(&self, name: &str) {
        self.execute("postgres", &format!("CREATE DATABASE \"{name}\" TEMPLATE template0"));
    }

    /// Stops the server now (fast shutdown), keeping the folder until the value is dropped.
    pub fn stop(&mut self) {
        drop(self.keeper.stdin.take());
        if let Err(error) = self.keeper.wait() {
            eprintln!("the throwaway server's keeper could not be waited for: {error}");
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One connection, used from a thread without a runtime.
#[derive(Debug)]
pub struct Session {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Session {
    /// Runs a text by the simple protocol: the rows of all its statements, as text.
    ///
    /// # Panics
    /// When a statement fails.
    #[must_use = "use `run` for its effect by dropping the rows"]
    pub fn query(&self, text: &str) -> Vec<Vec<Option<String>>> {
        self.try_query(text).unwrap_or_else(|error| panic!("{error:?} in: {text}"))
    }

    /// The same, for its effect.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn run(&self, text: &str) {
        drop(self.query(text));
    }

    /// The same, where a failure is an answer.
    ///
    /// # Errors
    /// The server's.
    pub fn try_query(&self, text: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let messages = self.runtime.block_on(self.client.simple_query(text))?;
        Ok(messages.iter().filter_map(row_as_text).collect())
    }
}

fn row_as_text(message: &tokio_postgres::SimpleQueryMessage) -> Option<Vec<Option<String>>> {
    let tokio_postgres::SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
}

/// Who the server runs as.
struct Owner(Option<(u32, u32)>);

impl Owner {
    fn find() -> Self {
        if rustix::process::geteuid().as_raw() != 0 {
            return Self(None);
        }
        let id = |flag: &str| {
            let output = Command::new("id").args([flag, "postgres"]).output().expect("`id` runs");
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            text.parse::<u32>().unwrap_or_else(|_| {
                panic!("the tests run as root and there is no user `postgres` to run the server as: install PostgreSQL's package")
            })
        };
        Self(Some((id("-u"), id("-g"))))
    }

    fn own(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("own files take a mode");
        if let Some((user, group)) = self.0 {
            chown(path, Some(user), Some(group)).expect("root may give files away");
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // TZ, PGDATA and friends of the developer's shell must not reach the server.
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command
    }
}

fn find_binaries() -> PathBuf {
    if let Some(folder) = std::env::var_os(BIN_VARIABLE) {
        let folder = PathBuf::from(folder);
        assert!(folder.join("postgres").exists(), "{BIN_VARIABLE}={} holds no `postgres`", folder.display());
        return folder;
    }
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("postgres").exists() && bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin).unwrap_or_else(|| {
        panic!("no PostgreSQL server found: `apt-get install postgresql`, or set {BIN_VARIABLE} to a folder with `postgres` and `initdb`")
    })
}

fn init(bin: &Path, data: &Path, owner: &Owner, password: Option<&str>, folder: &Path) {
    let mut command = owner.command(&bin.join("initdb"));
    command
        .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", SUPERUSER, "-D"])
        .arg(data);
    if let Some(password) = password {
        let file = folder.join("superuser");
        fs::write(&file, password).expect("the password file is writable");
        owner.own(&file, 0o600);
        command.arg(format!("--pwfile={}", file.display()));
    }
    let output =
        command.output().unwrap_or_else(|error| panic!("initdb in {} does not run: {error}", bin.display()));
    assert!(
        output.status.success(),
        "initdb failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let path = data.join("postgresql.conf");
    let mut conf = fs::read_to_string(&path).expect("initdb wrote postgresql.conf");
    conf.push_str("\ninclude = 'pgturnstile.conf'\n");
    fs::write(&path, conf).expect("postgresql.conf is writable");
}

fn keep(bin: &Path, data: &Path, log: &Path, owner: &Owner) -> Child {
    owner
        .command(Path::new("/bin/bash"))
        .args(["-c", KEEPER, "keeper"])
        .arg(bin.join("postgres"))
        .args([data, log])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("bash runs")
}

/// Whether the server took its port. It fails the test for any other reason not to come up.
fn wait_ready(keeper: &mut Child, data: &Path, log: &Path) -> bool {
    let give_up = Instant::now() + Duration::from_secs(START_LIMIT_S);
    loop {
        // The last line of postmaster.pid is how pg_ctl knows, too (src/bin/pg_ctl/pg_ctl.c, wait_for_postmaster_start).
        let status = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        if status.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
            return true;
        }
        let text = || fs::read_to_string(log).unwrap_or_else(|error: io::Error| error.to_string());
        if keeper.try_wait().expect("the keeper is our child").is_some() {
            let text = text();
            assert!(text.contains("Address already in use"), "the throwaway server did not start:\n{text}");
            return false;
        }
        assert!(
            Instant::now() < give_up,
            "the throwaway server is not ready after {START_LIMIT_S} s:\n{}",
            text()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn make_certificates(data: &Path, owner: &Owner) -> Tls {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("no names are valid names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "pgturnstile throwaway authority");
    let authority_certificate = authority.self_signed(&authority_key).expect("a certificate");
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate().expect("a key");
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let leaf = CertificateParams::new(names).expect("valid names");
    let certificate = leaf.signed_by(&key, &issuer).expect("a certificate");

    let write = |name: &str, pem: String| {
        let path = data.join(name);
        fs::write(&path, pem).expect("the data folder is writable");
        owner.own(&path, 0o600);
        path
    };
    Tls {
        authority: write("authority.pem", authority_certificate.pem()),
        certificate: write("server.pem", certificate.pem()),
        key: write("server.key", key.serialize_pem()),
    }
}

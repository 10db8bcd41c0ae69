//! Where a command connects: a target of the configuration, or a connection URL.
//!
//! Owns: the reading of the URL. May not: take a password from the command line, where everybody on the machine sees it, or fall
//! back from TLS to none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgturnstile_proto::startup::ProtocolVersion;
use pgturnstile_rules::catalog::Snapshot;
use pgturnstile_rules::document::Diagnostic;
use tokio::time::Instant;
use url::Url;

use crate::backend::settings::{
    Address, Credential, Guards, PasswordSource, TargetSettings, TlsMode, TlsSettings,
};
use crate::backend::{ClientSettings, KeyCache, Login, StartupParameters, Target, catalog, dial};
use crate::config::{Config, Files};
use crate::serve::mapping;

/// How long connecting and reading the catalog may take together.
const CATALOG_DEADLINE: Duration = Duration::from_secs(120);

/// What is wrong before anything was asked.
#[derive(Debug)]
pub(super) enum Wrong {
    /// Findings in a file.
    Files(Vec<Diagnostic>),
    /// The arguments.
    Arguments(String),
}

/// Where, and as whom.
pub(super) struct Source {
    pub(super) target: Target,
    pub(super) credential: Credential,
}

/// A target of the configuration, and the configuration's policy.
pub(super) fn of_config(
    path: &Path,
    target: Option<&str>,
    credential: Option<&str>,
) -> Result<(Source, PathBuf), Wrong> {
    let config = Config::load_with(path, Files::Skip).map_err(Wrong::Files)?;
    let names = |all: Vec<&str>| all.join(", ");
    let found = match (target, config.targets.as_slice()) {
        (Some(name), _) => config.target(name),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let target = found.ok_or_else(|| {
        let asked = target
            .map_or_else(|| "name one by --target".to_owned(), |name| format!("there is no target {name}"));
        Wrong::Arguments(no_target(&config, &asked))
    })?;
    let mut findings = Vec::new();
    let mut credentials = mapping::credentials(&config, &mut findings);
    let name = credential.unwrap_or(&target.control);
    let credential = credentials.remove(name).ok_or_else(|| {
        let known = names(config.credentials.iter().map(|credential| credential.name.as_str()).collect());
        Wrong::Arguments(format!("there is no [credential.{name}]; {} has: {known}", path.display()))
    })?;
    let settings = mapping::settings(target);
    let target = Target::new(&settings).map_err(|error| Wrong::Arguments(error.to_string()))?;
    Ok((Source { target, credential }, config.gateway.policy))
}

/// What is said where `asked` names no target: which there are.
pub(super) fn no_target(config: &Config, asked: &str) -> String {
    let known: Vec<&str> = config.targets.iter().map(|target| target.name.as_str()).collect();
    format!("{asked}; {} has: {}", config.file.display(), known.join(", "))
}

/// A connection URL, as libpq writes them: `postgresql://user@host:port/database?sslmode=…&sslrootcert=…`.
pub(super) fn of_dsn(text: &str) -> Result<Source, String> {
    let (settings, user) = settings(text)?;
    let environment = "PGPASSWORD";
    let password = std::env::var_os(environment).map(|_| PasswordSource::Environment(environment.to_owned()));
    let credential = Credential { name: "--dsn".to_owned(), user, password, certificate: None };
    let target = Target::new(&settings).map_err(|error| error.to_string())?;
    Ok(Source { target, credential })
}

/// The catalog of the database that a connection URL leads to, read as the gateway reads a target's.
pub(super) fn snapshot(dsn: &str) -> Result<Snapshot, String> {
    let source = of_dsn(dsn)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let read = async {
        let deadline = Instant::now() + CATALOG_DEADLINE;
        let guards = Guards { read_only: true, ..Guards::default() };
        let (user, database) = (&source.credential.user, source.target.database());
        let parameters =
            StartupParameters::build(user, database, &ClientSettings::default(), &guards, "catalog")
                .map_err(|error| error.to_string())?;
        let keys = KeyCache::default();
        let login = Login { credential: &source.credential, keys: &keys };
        let connected = dial(&source.target, &login, &parameters, deadline).await;
        let mut connected = connected.map_err(|error| error.to_string())?;
        catalog::greet(&mut connected.stream, deadline).await.map_err(|error| error.to_string())?;
        let snapshot = catalog::load(&mut connected.stream, 1, deadline).await;
        // It was read, or not, however the session ends.
        drop(connected.close().await);
        snapshot.map_err(|error| error.to_string())
    };
    runtime.map_err(|error| error.to_string())?.block_on(read)
}

pub(super) fn settings(text: &str) -> Result<(TargetSettings, String), String> {
    let url = Url::parse(text).map_err(|error| {
        format!("--dsn: {error}; write postgresql://user@host:port/database?sslmode=verify-full&sslrootcert=ca.pem")
    })?;
    if !matches!(url.scheme(), "postgresql" | "postgres") {
        return Err("--dsn: must begin with postgresql://".to_owned());
    }
    if url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password") {
        return Err(
            "--dsn: holds a password, and everybody on this machine sees a command line: put it into PGPASSWORD".to_owned()
        );
    }
    let decoded = |part: &str| percent_decoded(part).ok_or_else(|| "--dsn: is not UTF-8".to_owned());
    let mut user = decoded(url.username())?;
    let database = decoded(url.path().trim_start_matches('/'))?;
    let mut host = decoded(url.host_str().unwrap_or_default())?.trim_matches(['[', ']']).to_owned();
    let mut port = url.port().unwrap_or(5_432);
    let (mut mode, mut ca, mut direct) = (None, Vec::new(), false);
    for (key, value) in url.query_pairs() {
        match &*key {
            "user" => user = value.into_owned(),
            "host" => host = value.into_owned(),
            "port" => port = value.parse().map_err(|_| format!("--dsn: port {value} is no port"))?,
            "sslmode" => mode = Some(tls_mode(&value)?),
            "sslrootcert" => ca.push(PathBuf::from(&*value)),
            "sslnegotiation" => {
                direct = match &*value {
                    "postgres" => false,
                    "direct" => true,
                    other => {
                        return Err(format!(
                            "--dsn: sslnegotiation={other} is not known; postgres and direct are"
                        ));
                    }
                }
            }
            other => {
                return Err(format!(
                    "--dsn: {other} is not known here; user, host, port, sslmode, sslrootcert and sslnegotiation are"
                ));
            }
        }
    }
    if user.is_empty() {
        return Err("--dsn: names no user: postgresql://user@…".to_owned());
    }
    let address = if host.starts_with('/') {
        Address::Unix { directory: PathBuf::from(host), port }
    } else if host.is_empty() {
        return Err(
            "--dsn: names no host: write user@host, or postgresql:///database?user=me&host=/run/postgresql for a Unix socket".to_owned()
        );
    } else {
        Address::Tcp { host, port }
    };
    let mode = mode.or_else(|| is_local(&address).then_some(TlsMode::Disable)).ok_or(
        "--dsn: must say sslmode where the server is on another machine: verify-full with sslrootcert=ca.pem, verify-ca, require or disable",
    )?;
    let database = if database.is_empty() { user.clone() } else { database };
    let tls = TlsSettings { mode, ca, direct, ..TlsSettings::disabled() };
    let name = address.to_string();
    Ok((TargetSettings { name, address, database, tls, protocol: ProtocolVersion::V3_2 }, user))
}

fn tls_mode(word: &str) -> Result<TlsMode, String> {
    match word {
        "disable" => Ok(TlsMode::Disable),
        "require" => Ok(TlsMode::Require),
        "verify-ca" => Ok(TlsMode::VerifyCa),
        "verify-full" => Ok(TlsMode::VerifyFull),
        "allow" | "prefer" => Err(format!(
            "--dsn: sslmode={word} falls back to no TLS and protects nobody: use verify-full, or disable"
        )),
        other => Err(format!(
            "--dsn: sslmode={other} is not known; verify-full, verify-ca, require and disable are"
        )),
    }
}

fn is_local(address: &Address) -> bool {
    match address {
        Address::Unix { .. } => true,
        Address::Tcp { host, .. } => {
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// `%41` as `A` (RFC 3986, section 2.1).
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escape =
            behind.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_libpq_writes_them() {
        let (read, user) = settings(
            "postgresql://me%40corp@db.example.com:6543/c%20rm?sslmode=verify-full&sslrootcert=/ca.pem",
        )
        .unwrap();
        assert_eq!(
            (user.as_str(), read.database.as_str(), read.name.as_str()),
            ("me@corp", "c rm", "db.example.com:6543")
        );
        assert_eq!((read.tls.mode, read.tls.ca), (TlsMode::VerifyFull, vec![PathBuf::from("/ca.pem")]));
        let (read, _) = settings("postgres://me@127.0.0.1/crm").unwrap();
        assert_eq!((read.tls.mode, read.name.as_str()), (TlsMode::Disable, "127.0.0.1:5432"));
        let (read, user) = settings("postgresql:///crm?user=me&host=/run/postgresql").unwrap();
        assert_eq!(user, "me");
        assert_eq!(read.name, "/run/postgresql:5432");
        let (read, _) = settings("postgresql://me@[::1]:5433").unwrap();
        assert_eq!((read.name.as_str(), read.database.as_str()), ("[::1]:5433", "me"));
    }

    #[test]
    fn what_is_not_safe_or_not_known_is_refused_with_the_next_step() {
        for (url, part) in [
            ("postgresql://me:secret@db/crm", "PGPASSWORD"),
            ("postgresql://me@db/crm?sslmode=disable&password=secret", "PGPASSWORD"),
            ("postgresql://me@db.example.com/crm", "must say sslmode"),
            ("postgresql://me@db/crm?sslmode=prefer", "falls back"),
            ("postgresql://me@db/crm?sslmode=whatever", "is not known"),
            ("postgresql://db/crm", "names no user"),
            ("postgresql://me@db/crm?options=-c", "options is not known"),
            ("mysql://me@db/crm", "postgresql://"),
            ("host=db user=me", "write postgresql://"),
        ] {
            let why = settings(url).unwrap_err();
            assert!(why.contains(part) && !why.contains("secret@"), "{url}: {why}");
        }
    }
}

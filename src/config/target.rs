//! Reads `[credential.NAME]` and `[[target]]`.
//!
//! Owns the forms of a target's address, the TLS modes and the password sources. It fetches no password.

use std::net::IpAddr;

use pgturnstile_proto::startup::ProtocolVersion;
use pgturnstile_rules::document::Unique;

use super::keys::Reader;
use super::model::{
    Credential, CredentialCertificate, Limits, PasswordSource, Target, TargetAddress, TargetTls,
};
use super::{reference, socket};

/// Longest role or database name: NAMEDATALEN - 1 of a stock server (src/include/pg_config_manual.h).
const IDENTIFIER_BYTES_MAX: usize = 63;

pub(super) fn credentials(root: &Reader<'_>) -> Vec<Credential> {
    let mut credentials = Vec::new();
    for (name, section) in root.named_sections("credential", &reference::CREDENTIAL) {
        let user = identifier(&section, "user");
        let password = section.table("password", &reference::PASSWORD).map(password);
        let certificate = certificate(&section);
        if let (Some(user), false) = (user, matches!(password, Some(None))) {
            let (password, place) = (password.flatten(), section.place());
            credentials.push(Credential { name, user, password, certificate, place });
        }
        section.done();
    }
    credentials
}

/// Both files, or neither.
fn certificate(section: &Reader<'_>) -> Option<CredentialCertificate> {
    match (section.path("certificate"), section.path("key")) {
        (Some(certificate), Some(key)) => Some(CredentialCertificate { certificate, key }),
        (Some(_), None) => {
            section.table.error("certificate", "needs its private key: set `key` beside it");
            None
        }
        (None, Some(_)) => {
            section.table.error("key", "belongs to a certificate: set `certificate` beside it");
            None
        }
        (None, None) => None,
    }
}

/// The one source that the table names; `None` after a report.
fn password(section: Reader<'_>) -> Option<PasswordSource> {
    const SOURCES: [&str; 6] = ["file", "env", "command", "gcp-secret", "vault", "cloud-sql-iam"];
    let named = SOURCES.iter().filter(|source| section.table.has(source)).count();
    if named != 1 {
        section.table.error_here("must name exactly one of file, env, command");
    }
    let file = section.path("file").map(PasswordSource::File);
    let environment = section.text("env").map(PasswordSource::Environment);
    let command = command(&section);
    section.done();
    file.or(environment).or(command).filter(|_| named == 1)
}

/// The program that prints a secret, and how long it may run; `None` where none is named, or after a report.
pub(super) fn command(section: &Reader<'_>) -> Option<PasswordSource> {
    let argv = section.strings("command");
    let timeout_ms = section.integer("timeout_ms");
    if section.table.has("timeout_ms") && !section.table.has("command") {
        section.table.error("timeout_ms", "belongs to `command`; the other sources are not waited for");
    }
    if section.table.has("command") && argv.is_empty() {
        section.table.error("command", "must name a program");
    }
    (!argv.is_empty()).then_some(PasswordSource::Command { argv, timeout_ms })
}

pub(super) fn targets(root: &Reader<'_>, limits: &Limits) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut names = Unique::new();
    let mut taken = Unique::new();
    for section in root.sections("target", &reference::TARGET) {
        let name = section.name("name");
        if let Some(name) = &name {
            names.claim(name, &section.table.place_of("name"), section.table.diagnostics());
        }
        let address = address(&section);
        let database = identifier(&section, "database");
        let server_names = server_names(&section, &mut taken);
        let tls = tls(&section, address.as_ref());
        let protocol = section.word("max_protocol_version", &[ProtocolVersion::V3_0, ProtocolVersion::V3_2]);
        let control = section.text("control");
        let sessions_max = section.integer("sessions_max");
        let statement_bytes_max = statement_bytes_max(&section, limits);
        if let (
            Some(name),
            Some(address),
            Some(database),
            Some((tls, direct_tls)),
            Some(protocol),
            Some(control),
        ) = (name, address, database, tls, protocol, control)
        {
            let place = section.place();
            let control_place = section.table.place_of("control");
            targets.push(Target {
                name,
                address,
                database,
                server_names,
                tls,
                direct_tls,
                protocol,
                control,
                control_place,
                sessions_max,
                statement_bytes_max,
                place,
            });
        }
        section.done();
    }
    targets
}

/// DNS names, lower case, each once in the file.
fn server_names(section: &Reader<'_>, taken: &mut Unique) -> Vec<String> {
    let names: Vec<String> =
        section.strings("server_names").iter().map(|name| name.to_ascii_lowercase()).collect();
    for name in &names {
        if is_server_name(name) {
            taken.claim(name, &section.table.place_of("server_names"), section.table.diagnostics());
        } else {
            let message = format!("`{name}` is no DNS name, nor `*.` before one of two labels or more");
            section.table.error("server_names", message);
        }
    }
    names
}

/// Letters, digits and hyphens between dots; a wildcard is the whole first label (RFC 9525, section 6.3).
fn is_server_name(name: &str) -> bool {
    let (rest, labels_min) = name.strip_prefix("*.").map_or((name, 1), |rest| (rest, 2));
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253
        && rest.split('.').all(label)
        && rest.split('.').count() >= labels_min
        && rest.parse::<IpAddr>().is_err()
}

fn statement_bytes_max(section: &Reader<'_>, limits: &Limits) -> u64 {
    let own = section.optional_integer("statement_bytes_max").unwrap_or(limits.statement_bytes_max);
    if own > limits.held_bytes_max {
        section.table.error(
            "statement_bytes_max",
            format!(
                "{own} bytes is more than limits.held_bytes_max ({} bytes); raise that too",
                limits.held_bytes_max
            ),
        );
    }
    own
}

/// `HOST:PORT`, `[ADDRESS]:PORT` or `/DIRECTORY:PORT`.
fn address(section: &Reader<'_>) -> Option<TargetAddress> {
    let text = section.text("address")?;
    let parsed = parse_address(&text);
    if let Err(fault) = &parsed {
        section.table.error("address", fault.clone());
    }
    parsed.ok()
}

fn parse_address(text: &str) -> Result<TargetAddress, String> {
    const FORMS: &str = "must be HOST:PORT, [IPV6]:PORT, or /DIRECTORY:PORT for a Unix socket";
    if let Some(parsed) = socket::parse(text) {
        return parsed.map(|(directory, port)| TargetAddress::Unix { directory, port });
    }
    let (host, port) = text.rsplit_once(':').ok_or(FORMS)?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or("the port must be 1 to 65535")?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
        Some(_) => return Err("between brackets must stand an IPv6 address".to_owned()),
        None => host,
    };
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.parse::<IpAddr>().is_err() && (host.is_empty() || host.len() > 253 || !host.chars().all(name)) {
        return Err(FORMS.to_owned());
    }
    Ok(TargetAddress::Tcp { host: host.to_owned(), port })
}

#[derive(Clone, Copy)]
enum Mode {
    Disable,
    Require,
    VerifyCa,
    VerifyFull,
}

/// The mode, and whether TLS begins with the first byte.
fn tls(section: &Reader<'_>, address: Option<&TargetAddress>) -> Option<(TargetTls, bool)> {
    let unix = matches!(address, Some(TargetAddress::Unix { .. }));
    if !section.table.has("tls") {
        if unix {
            let _counts_as_asked = section.table("tls", &reference::TARGET_TLS);
            return Some((TargetTls::Disable, false));
        }
        section.table.error(
            "tls",
            "is required for TCP: choose a mode, such as { mode = \"verify-full\", ca = [\"ca.pem\"] }",
        );
        return None;
    }
    let tls = section.table("tls", &reference::TARGET_TLS)?;
    let mode = tls.word("mode", &[Mode::Disable, Mode::Require, Mode::VerifyCa, Mode::VerifyFull]);
    let ca = tls.paths("ca");
    let name = tls.text("name");
    let direct = tls.boolean("direct");
    check_tls(&tls, mode, address, ca.is_empty());
    if direct && matches!(mode, Some(Mode::Disable)) {
        tls.table.error("direct", "has no use without TLS; use verify-full");
    }
    tls.done();
    let tls = match mode? {
        Mode::Disable => TargetTls::Disable,
        Mode::Require => TargetTls::Require,
        Mode::VerifyCa => TargetTls::VerifyCa { ca, name },
        Mode::VerifyFull => TargetTls::VerifyFull { ca, name },
    };
    Some((tls, direct))
}

/// Reports what does not fit the mode.
fn check_tls(tls: &Reader<'_>, mode: Option<Mode>, address: Option<&TargetAddress>, no_ca: bool) {
    let Some(mode) = mode else { return };
    let host = match address {
        Some(TargetAddress::Tcp { host, .. }) => Some(host.as_str()),
        Some(TargetAddress::Unix { .. }) => {
            if !matches!(mode, Mode::Disable) {
                tls.table.error("mode", "must be \"disable\": PostgreSQL speaks no TLS on a Unix socket");
            }
            None
        }
        None => None,
    };
    match mode {
        Mode::Disable | Mode::Require => {
            for key in ["ca", "name"].iter().filter(|key| tls.table.has(key)) {
                tls.table.error(key, "would not be used in this mode; use verify-ca or verify-full");
            }
        }
        Mode::VerifyCa | Mode::VerifyFull if no_ca => {
            tls.table.error("ca", "is required in this mode: name the CA's PEM file");
        }
        Mode::VerifyCa | Mode::VerifyFull => {}
    }
    let Some(host) = host else { return };
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match mode {
        Mode::Disable if !loopback => {
            tls.table.warn("mode", "passwords and rows cross the network readable; use verify-full");
        }
        Mode::Require if !loopback => {
            tls.table.warn(
                "mode",
                "any certificate is accepted: an active attacker is not noticed; use verify-full",
            );
        }
        Mode::Disable | Mode::Require | Mode::VerifyCa | Mode::VerifyFull => {}
    }
}

/// A role or database name as the server keeps it.
fn identifier(section: &Reader<'_>, key: &str) -> Option<String> {
    let name = section.text(key)?;
    if name.len() > IDENTIFIER_BYTES_MAX {
        section
            .table
            .error(key, format!("is {} bytes long; PostgreSQL keeps {IDENTIFIER_BYTES_MAX}", name.len()));
        return None;
    }
    Some(name)
}

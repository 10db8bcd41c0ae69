//! From what the files say to what the parts take.
//!
//! Owns: the translation between `config`, `policy` and the settings of `backend`, `identity`, `net`, and the checks that
//! need several of them at once. May not: open a socket. Fails by findings with file, line and key, all of them in one run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pgturnstile_rules::document::{Diagnostic, Place, Severity};
use pgturnstile_rules::policy::{self, Policy};
use tokio::runtime::Handle;

use super::gateway::Loaded;
use super::targets::TargetState;
use crate::approval::{self, People};
use crate::backend::settings::{
    Address, ChannelBinding, Credential, Guards, PasswordSource, TargetSettings, TlsMode, TlsSettings,
};
use crate::backend::{KeyCache, Target};
use crate::config::{self, Config, Listener, SocketFile, TargetAddress, TargetTls};
use crate::identity::{IssuerSettings, Verifier};
use crate::net::tls::{CertificateFiles, ClientIdentity, ServerTls};

/// What only both files together can be wrong in: the errors of [`config::against_policy`], as `check` prints them.
pub fn check(config: &Config, policy: &Policy) -> Vec<Diagnostic> {
    config::against_policy(config, policy.model()).into_iter().filter(Diagnostic::is_error).collect()
}

fn at(place: &Place, message: String) -> Diagnostic {
    place.diagnostic(Severity::Error, message)
}

/// TLS of each listener, in the order of the file; `None` on a Unix socket.
pub fn listener_tls(config: &Config, findings: &mut Vec<Diagnostic>) -> Vec<Option<Arc<ServerTls>>> {
    let mut all = Vec::with_capacity(config.listeners.len());
    for listener in &config.listeners {
        let Some(tls) = listener.tls() else {
            all.push(None);
            continue;
        };
        let files = CertificateFiles { certificate: tls.certificate.clone(), key: tls.key.clone() };
        match ServerTls::load(&files) {
            Ok(tls) => all.push(Some(Arc::new(tls))),
            Err(fault) => findings.push(at(&listener.place, fault.to_string())),
        }
    }
    all
}

/// TLS of the admin listener; `None` where it has none.
pub fn control_tls(config: &Config, findings: &mut Vec<Diagnostic>) -> Option<Arc<ServerTls>> {
    let control = config.control.as_ref()?;
    let tls = control.tls.as_ref()?;
    let files = CertificateFiles { certificate: tls.certificate.clone(), key: tls.key.clone() };
    match ServerTls::load_http(&files) {
        Ok(tls) => Some(Arc::new(tls)),
        Err(fault) => {
            findings.push(at(&control.place, fault.to_string()));
            None
        }
    }
}

/// Where a secret comes from.
pub fn source(source: &config::PasswordSource) -> PasswordSource {
    match source {
        config::PasswordSource::File(path) => PasswordSource::File(path.clone()),
        config::PasswordSource::Environment(name) => PasswordSource::Environment(name.clone()),
        config::PasswordSource::Command { argv, timeout_ms } => {
            PasswordSource::Command { argv: argv.clone(), timeout_ms: *timeout_ms }
        }
    }
}

/// Credentials by name.
pub fn credentials(config: &Config, findings: &mut Vec<Diagnostic>) -> HashMap<String, Credential> {
    config
        .credentials
        .iter()
        .map(|credential| {
            let password = credential.password.as_ref().map(source);
            let certificate = credential.certificate.as_ref().map(|files| CertificateFiles {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
            });
            if let Some(Err(fault)) = certificate.as_ref().map(ClientIdentity::load) {
                findings.push(at(&credential.place, fault.to_string()));
            }
            let (name, user) = (credential.name.clone(), credential.user.clone());
            let credential = Credential { name, user, password, certificate };
            (credential.name.clone(), credential)
        })
        .collect()
}

/// Targets by name. One whose settings are as before keeps its state: catalog, slots and derived keys.
pub fn targets(
    config: &Config,
    credentials: &HashMap<String, Credential>,
    before: Option<&Loaded>,
    findings: &mut Vec<Diagnostic>,
) -> HashMap<String, Arc<TargetState>> {
    let mut all = HashMap::with_capacity(config.targets.len());
    for target in &config.targets {
        let settings = settings(target);
        let built = match Target::new(&settings) {
            Ok(built) => built,
            Err(fault) => {
                findings.push(at(&target.place, fault.to_string()));
                continue;
            }
        };
        let Some(control) = credentials.get(&target.control) else {
            findings.push(at(&target.control_place, format!("there is no [credential.{}]", target.control)));
            continue;
        };
        let sessions_max = usize::try_from(target.sessions_max).unwrap_or(usize::MAX);
        let statement_bytes_max = usize::try_from(target.statement_bytes_max).unwrap_or(usize::MAX);
        let origin = Origin { settings, control: control.clone(), sessions_max, statement_bytes_max };
        let kept = before
            .and_then(|before| before.targets.get(&target.name))
            .filter(|state| state.origin == origin)
            .map(Arc::clone);
        let state =
            kept.unwrap_or_else(|| Arc::new(TargetState::new(built, origin, Arc::new(KeyCache::default()))));
        all.insert(target.name.clone(), state);
    }
    all
}

/// What a target's state was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// How to dial it.
    pub settings: TargetSettings,
    /// Who reads its catalog.
    pub control: Credential,
    /// Sessions there at a time.
    pub sessions_max: usize,
    /// Longest text.
    pub statement_bytes_max: usize,
}

/// How a target of the file is dialled.
#[must_use]
pub fn settings(target: &config::Target) -> TargetSettings {
    let (mode, ca, name) = match &target.tls {
        TargetTls::Disable => (TlsMode::Disable, Vec::new(), None),
        TargetTls::Require => (TlsMode::Require, Vec::new(), None),
        TargetTls::VerifyCa { ca, name } => (TlsMode::VerifyCa, ca.clone(), name.clone()),
        TargetTls::VerifyFull { ca, name } => (TlsMode::VerifyFull, ca.clone(), name.clone()),
    };
    TargetSettings {
        name: target.name.clone(),
        address: match &target.address {
            TargetAddress::Tcp { host, port } => Address::Tcp { host: host.clone(), port: *port },
            TargetAddress::Unix { directory, port } => {
                Address::Unix { directory: directory.clone(), port: *port }
            }
        },
        database: target.database.clone(),
        tls: TlsSettings {
            mode,
            ca,
            name,
            channel_binding: ChannelBinding::Prefer,
            direct: target.direct_tls,
        },
        protocol: target.protocol,
    }
}

/// The verifier of all issuers.
pub fn verifier(
    config: &Config,
    control: &Handle,
    before: Option<&Verifier>,
    findings: &mut Vec<Diagnostic>,
) -> Option<Verifier> {
    let mut issuers = Vec::with_capacity(config.issuers.len());
    for issuer in &config.issuers {
        match IssuerSettings::from_config(issuer) {
            Ok(settings) => {
                findings
                    .extend(settings.key_file_problem().map(|fault| at(&issuer.place, fault.to_string())));
                issuers.push(settings);
            }
            Err(faults) => {
                findings.extend(faults.iter().map(|fault| at(&issuer.place, fault.to_string())));
            }
        }
    }
    if issuers.len() < config.issuers.len() {
        return None;
    }
    let token_bytes_max = usize::try_from(config.limits.token_bytes_max).unwrap_or(usize::MAX);
    match Verifier::new(issuers, token_bytes_max, control, before) {
        Ok(verifier) => Some(verifier),
        Err(fault) => {
            findings.push(Diagnostic::of_file(config.file.display().to_string(), fault.to_string()));
            None
        }
    }
}

/// How statements wait for people.
pub fn holds(config: &Config) -> approval::Settings {
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let persons = config.persons.iter().map(|person| person.identities.as_slice());
    let with_person = config.issuers.iter().filter(|issuer| issuer.person.is_some());
    approval::Settings {
        open_max: size(config.holds.open_max),
        open_per_requester_max: size(config.holds.open_per_requester_max),
        bytes_max: size(config.holds.bytes_max),
        notice_every: Duration::from_secs(config.holds.notice_every_s),
        people: People::new(persons, with_person.map(|issuer| issuer.name.as_str())),
        tickets: approval::Bounds {
            live_max: size(config.holds.tickets_max),
            per_requester_max: size(config.holds.tickets_per_requester_max),
            bytes_max: size(config.holds.tickets_bytes_max),
        },
    }
}

/// The guards of an access entry, as the startup packet carries them.
pub fn guards(access: &policy::Access) -> Guards {
    let milliseconds = |value: Option<u64>| value.map(|value| u32::try_from(value).unwrap_or(u32::MAX));
    Guards {
        read_only: access.mode == policy::Mode::Read,
        statement_timeout_ms: milliseconds(access.guards.statement_timeout_ms),
        lock_timeout_ms: milliseconds(access.guards.lock_timeout_ms),
        idle_in_transaction_ms: milliseconds(access.guards.idle_in_transaction_ms),
        search_path: access.guards.search_path.clone(),
    }
}

/// What a reload cannot change.
pub fn needs_restart(before: &Config, next: &Config) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut refuse = |what: &str| {
        findings.push(Diagnostic::of_file(
            next.file.display().to_string(),
            format!("{what} cannot change while the gateway runs; restart it, or take the change back"),
        ));
    };
    let addresses = |config: &Config| config.listeners.iter().map(Listener::address).collect::<Vec<_>>();
    if addresses(before) != addresses(next) {
        refuse("listener addresses");
    } else if sockets(before) != sockets(next) {
        refuse("listener.socket");
    }
    let control = |config: &Config| {
        config.control.clone().map(|control| (control.address, control.tls.is_some(), control.socket))
    };
    if control(before) != control(next) {
        refuse("control.address, control.socket, and whether there is TLS,");
    }
    if before.gateway.shards != next.gateway.shards {
        refuse("gateway.shards");
    }
    if before.gateway.state_directory != next.gateway.state_directory {
        refuse("gateway.state_dir");
    }
    let signers =
        |config: &Config| (config.gateway.policy_signers.clone(), config.gateway.policy_signatures_min);
    if signers(before) != signers(next) {
        refuse("gateway.policy_signers and policy_signatures_min");
    }
    if before.evidence.directory != next.evidence.directory
        || before.evidence.segment_bytes != next.evidence.segment_bytes
        || before.evidence.digest_key != next.evidence.digest_key
        || before.evidence.sealing_key != next.evidence.sealing_key
    {
        refuse("evidence.directory, segment_bytes, digest_key and sealing_key");
    }
    findings
}

/// The files of Unix sockets.
fn sockets(config: &Config) -> Vec<&SocketFile> {
    config.listeners.iter().filter_map(Listener::socket).collect()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _written: std::fmt::Result = write!(text, "{byte:02x}");
        text
    })
}

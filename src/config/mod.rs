//! pgturnstile.toml: read strictly, checked whole, held as plain values.
//!
//! Owns the gateway's configuration file, its reference (README.md beside this file, generated from [`mod@reference`]), its
//! comparison with the policy, and the digest key that the file points to but must not hold. It may not open
//! sockets and knows nothing of policies. It fails whole: [`Config::load`] yields a configuration in which every
//! reference resolves and every file was readable, or every error at once with file, line and key. A reload is a load
//! anew; the caller keeps the old value on error.

mod against_policy;
mod deciders;
mod files;
mod gateway;
mod issuer;
mod key_file;
mod keys;
mod listener;
mod model;
pub mod preset;
pub mod reference;
mod socket;
mod target;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use pgturnstile_rules::document::{Diagnostic, Diagnostics, Document, nearest};

pub use against_policy::{against_broken_policy, against_policy, broken_against_policy};
pub use key_file::{
    DigestKey, KeyFileError, create_key, load_digest_key, load_key, load_or_create_digest_key,
    load_or_create_key, next_step,
};
pub use keys::{Absent, Key, Kind, Section, State};
pub use model::{
    ALGORITHMS, Auth, Config, Control, Credential, CredentialCertificate, Evidence, Gateway, Issuer, Jwks,
    Limits, ListenAddress, Listener, ListenerAt, ListenerTls, PasswordSource, Person, Proxies, Route,
    SocketFile, Target, TargetAddress, TargetTls,
};

use keys::Reader;

/// What the reference's page says before its tables.
#[cfg(test)]
const SECTIONS_README: &str = "\
# pgturnstile.toml

The gateway's configuration file: strict TOML. An unknown key, a wrong type or unit, a value out of range, a duplicate or
a dangling reference is an error with file, line and key; `pgturnstile check` prints all of them in one run, and the
gateway does not start with any. Relative paths start from the file's folder. Units are part of the key's name. `SIGHUP`
reads the file anew and keeps what is in force when the new one has errors.

The tables below are generated from the code (`reference.rs`) and a test keeps them so. What is not built yet is refused
where relying on it would be unsafe, and warned about elsewhere.

A whole small file: [docker/demo.toml](../../docker/demo.toml), with a development issuer; with certificates everywhere,
[docker/compose/pgturnstile.toml](../../docker/compose/pgturnstile.toml).

## Reference

";

/// The version of the file's format that this build reads.
const VERSION: i64 = 1;

/// Whether the files that the configuration names are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// They must be there, readable and sound. The gateway never starts without it.
    Check,
    /// They are not touched: for reviewing a configuration on another machine.
    Skip,
}

impl Config {
    /// Reads and checks the file at `path` and every file it names.
    ///
    /// # Errors
    /// Every finding of the run, warnings included, when at least one is an error. Nothing was changed.
    pub fn load(path: &Path) -> Result<Self, Vec<Diagnostic>> {
        Self::load_with(path, Files::Check)
    }

    /// As [`Config::load`], choosing whether the named files are looked at.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(path: &Path, files: Files) -> Result<Self, Vec<Diagnostic>> {
        let document = Document::read(path, &path.display().to_string()).map_err(|fault| vec![fault])?;
        Self::from_document(path, &document, files)
    }

    /// Checks a document. Relative paths start from the folder of `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_document(path: &Path, document: &Document, files: Files) -> Result<Self, Vec<Diagnostic>> {
        let diagnostics = Diagnostics::new();
        let config = read(path, &base_of(path), document, &diagnostics);
        if let (Some(config), Files::Check) = (&config, files) {
            let looked = Diagnostics::new();
            files::check(config, &looked);
            looked.into_vec().into_iter().for_each(|found| diagnostics.push(document.placed(found)));
        }
        let (mut config, warnings) = diagnostics.finish(config)?;
        config.warnings = warnings;
        Ok(config)
    }
}

/// What could be read of a configuration with errors, which its load has told; `None` where an entry is missing by them
/// whose name a policy may use.
fn despite_errors(path: &Path) -> Option<Config> {
    let document = Document::read(path, &path.display().to_string()).ok()?;
    let (diagnostics, base) = (Diagnostics::new(), base_of(path));
    let config = read(path, &base, &document, &diagnostics)?;
    let root = Reader::new(document.root(&diagnostics)?, &reference::ROOT, &base);
    let none = config.issuers.is_empty() || config.targets.is_empty() || config.credentials.is_empty();
    let whole = !none
        && config.issuers.iter().all(|issuer| !issuer.name.is_empty())
        && config.targets.len() == root.sections("target", &reference::TARGET).len()
        && config.credentials.len() == root.named_sections("credential", &reference::CREDENTIAL).len();
    whole.then_some(config)
}

/// Where the policy is that belongs to a configuration with errors, so that these do not hide its own: as the file names
/// it, or `policy.toml` beside a file that is no TOML. `None` where nothing is there.
pub fn policy_despite_errors(path: &Path) -> Option<PathBuf> {
    let named = Document::read(path, &path.display().to_string()).ok().and_then(|document| {
        // What is wrong was reported by the load that failed.
        let diagnostics = Diagnostics::new();
        let root = document.root(&diagnostics)?;
        let base = base_of(path);
        Some(gateway::gateway(&Reader::new(root, &reference::ROOT, &base)).policy)
    });
    let policy = named.unwrap_or_else(|| path.with_file_name("policy.toml"));
    policy.is_file().then_some(policy)
}

/// What relative paths in a configuration start from.
fn base_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Reads every section, going on after errors; `None` when a section has no usable value (which was reported).
fn read(path: &Path, base: &Path, document: &Document, diagnostics: &Diagnostics) -> Option<Config> {
    let root = document.root(diagnostics)?;
    root.version(VERSION);
    let root = Reader::new(root, &reference::ROOT, base);

    let gateway = gateway::gateway(&root);
    let control = gateway::control(&root);
    let limits = gateway::limits(&root);
    let holds = gateway::holds(&root);
    let listeners = listener::listeners(&root);
    let issuers = issuer::issuers(&root);
    let persons = issuer::persons(&root, &issuers);
    let credentials = target::credentials(&root);
    let targets = target::targets(&root, &limits);
    let evidence = gateway::evidence(&root, &gateway);
    for section in ["listener", "issuer", "target"] {
        if !root.table.has(section) {
            root.table.error(section, format!("is missing: at least one [[{section}]] is needed"));
        }
    }
    if !root.table.has("credential") {
        root.table.error(
            "credential",
            "is missing: each target needs a [credential.NAME] for its control connection",
        );
    }
    check_references(&targets, &credentials, diagnostics);
    check_server_names(&listeners, &targets, diagnostics);
    check_discovery(&listeners, &issuers, diagnostics);

    Some(Config {
        file: path.to_path_buf(),
        hash: *blake3::hash(document.text().as_bytes()).as_bytes(),
        gateway,
        listeners,
        control,
        limits,
        holds,
        issuers,
        persons,
        credentials,
        targets,
        evidence,
        warnings: Vec::new(),
    })
}

/// Server names and the listeners that go by them belong together.
fn check_server_names(listeners: &[Listener], targets: &[Target], diagnostics: &Diagnostics) {
    let used = |listener: &&Listener| listener.routes.contains(&Route::ServerName);
    let named = targets.iter().find(|target| !target.server_names.is_empty());
    match (listeners.iter().find(used), named) {
        (Some(listener), None) => diagnostics.error(
            &listener.place,
            "routes by server-name, and no [[target]] has server_names: nobody would be led anywhere by it",
        ),
        (None, Some(target)) => diagnostics.warn(
            &target.place,
            "has server_names, and no listener's routes hold \"server-name\": they lead nobody",
        ),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

/// Every control credential exists. (The names that the policy uses are checked where both files are known.)
/// Each listener that tells where tokens come from can name one issuer.
fn check_discovery(listeners: &[Listener], issuers: &[Issuer], diagnostics: &Diagnostics) {
    let names: Vec<&str> = issuers.iter().map(|issuer| issuer.name.as_str()).collect();
    for listener in listeners {
        let named = match &listener.auth {
            Auth::TokenPassword => continue,
            Auth::OauthBearer { issuer, scope: _ } => issuer,
        };
        let fault = match named {
            None if names.len() > 1 => {
                "has auth = \"oauthbearer\", and there are several [[issuer]]: say by oauth.issuer which one clients are \
                 sent to"
                    .to_owned()
            }
            Some(name) if !names.contains(&name.as_str()) => match nearest(name, &names) {
                Some(near) => format!("no [[issuer]] named {name} (oauth.issuer); did you mean `{near}`?"),
                None => format!("no [[issuer]] named {name} (oauth.issuer)"),
            },
            None | Some(_) => continue,
        };
        diagnostics.error(&listener.place, fault);
    }
}

fn check_references(targets: &[Target], credentials: &[Credential], diagnostics: &Diagnostics) {
    let names: Vec<&str> = credentials.iter().map(|credential| credential.name.as_str()).collect();
    for target in targets.iter().filter(|target| !names.contains(&target.control.as_str())) {
        let message = match nearest(&target.control, &names) {
            Some(near) => format!("no [credential.{}]; did you mean `{near}`?", target.control),
            None => {
                format!("no [credential.{}]; add it, with a role that may read the catalogs", target.control)
            }
        };
        diagnostics.error(&target.control_place, message);
    }
}

//! Looks at the files and folders that the configuration names: there, readable, holding what they should, not open to
//! others.
//!
//! Owns these checks only; what it reads of a key or a password file it drops at once. It changes nothing on disk.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use pgturnstile_rules::document::{Diagnostic, Diagnostics, Place, Severity};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::model::{Config, Evidence, Jwks, ListenerAt, PasswordSource, TargetTls};

/// Permission bits of group and others.
const OTHERS: u32 = 0o077;

/// Write permission of group and others.
const OTHERS_WRITE: u32 = 0o022;

/// Write permission of everybody.
const WORLD_WRITE: u32 = 0o002;

pub(super) fn check(config: &Config, diagnostics: &Diagnostics) {
    if let Ok(metadata) = fs::metadata(&config.file)
        && metadata.mode() & OTHERS_WRITE != 0
    {
        let message = format!("is writable by others (mode {:04o}); chmod go-w", metadata.mode() & 0o7777);
        let shown = config.gateway.policy_place.file.to_string();
        diagnostics.push(Diagnostic { severity: Severity::Warning, ..Diagnostic::of_file(shown, message) });
    }
    for listener in &config.listeners {
        match &listener.at {
            ListenerAt::Tcp { tls, .. } => {
                certificates(&tls.certificate, &listener.place, "tls.certificate", diagnostics);
                private_key(&tls.key, &listener.place, diagnostics);
            }
            ListenerAt::Unix(socket) => {
                socket_directory(&socket.path, &at(&listener.place, "address"), diagnostics);
            }
        }
    }
    if let Some(control) = &config.control
        && let Some(socket) = &control.socket
    {
        socket_directory(socket, &at(&control.place, "socket"), diagnostics);
    }
    if let Some(control) = &config.control
        && let Some(tls) = &control.tls
    {
        certificates(&tls.certificate, &control.place, "tls.certificate", diagnostics);
        private_key(&tls.key, &control.place, diagnostics);
    }
    for issuer in &config.issuers {
        if let Jwks::File(file) = &issuer.jwks {
            readable(file, &issuer.place, "jwks", diagnostics);
        }
        for ca in &issuer.ca {
            certificates(ca, &issuer.place, "ca", diagnostics);
        }
    }
    for credential in &config.credentials {
        if let Some(source) = &credential.password {
            password(source, &credential.place, diagnostics);
        }
        if let Some(files) = &credential.certificate {
            certificates(&files.certificate, &credential.place, "certificate", diagnostics);
            // Its mode and its fit are judged where it is read: `ClientIdentity`.
            readable(&files.key, &credential.place, "key", diagnostics);
        }
    }
    for target in &config.targets {
        match &target.tls {
            TargetTls::Disable | TargetTls::Require => {}
            TargetTls::VerifyCa { ca, .. } | TargetTls::VerifyFull { ca, .. } => {
                for file in ca {
                    certificates(file, &target.place, "tls.ca", diagnostics);
                }
            }
        }
    }
    evidence_directory(&config.evidence.directory, &config.evidence.place, diagnostics);
    checkpoints(&config.evidence, diagnostics);
    state_directory(&config.gateway.state_directory, &config.gateway.state_place, diagnostics);
}

/// Whether `path` lies inside `directory` or is it, symbolic links resolved as far as the path exists.
pub(super) fn lies_within(path: &Path, directory: &Path) -> bool {
    resolved(path).starts_with(resolved(directory))
}

/// An absolute path without `.`, `..` and links. What does not exist yet is taken by its words.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut whole = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                whole.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => whole.push(component),
        }
        if let Ok(real) = whole.canonicalize() {
            whole = real;
        }
    }
    whole
}

/// The section as a whole, where a place is that of one of its keys.
fn section(place: &Place, name: &str) -> Place {
    let mut place = place.clone();
    place.key = name.to_owned();
    place
}

fn at(place: &Place, key: &str) -> Place {
    let mut place = place.clone();
    if !key.is_empty() {
        place.key = format!("{}.{key}", place.key);
    }
    place
}

/// A regular file that can be opened; its metadata.
fn readable(path: &Path, place: &Place, key: &str, diagnostics: &Diagnostics) -> Option<Metadata> {
    // Opening a pipe waits for who writes into it.
    let open = |metadata: Metadata| match metadata.is_file() {
        true => File::open(path).map(|_opened| Some(metadata)),
        false => Ok(None),
    };
    match fs::metadata(path).and_then(open) {
        Ok(Some(metadata)) => Some(metadata),
        Ok(None) => {
            diagnostics.error(&at(place, key), format!("{} is not a regular file", path.display()));
            None
        }
        Err(error) => {
            diagnostics.error(&at(place, key), format!("{} cannot be read: {error}", path.display()));
            None
        }
    }
}

/// A PEM file with at least one certificate.
fn certificates(path: &Path, place: &Place, key: &str, diagnostics: &Diagnostics) {
    if readable(path, place, key, diagnostics).is_none() {
        return;
    }
    let parsed = CertificateDer::pem_file_iter(path).map(|items| items.collect::<Result<Vec<_>, _>>());
    let fault = match parsed {
        Ok(Ok(found)) if found.is_empty() && PrivateKeyDer::from_pem_file(path).is_ok() => {
            "holds no certificate but a private key: are certificate and key swapped?".to_owned()
        }
        Ok(Ok(found)) if found.is_empty() => "holds no certificate in PEM".to_owned(),
        Ok(Ok(_)) => return,
        Ok(Err(error)) | Err(error) => format!("is not a sound PEM file: {error}"),
    };
    diagnostics.error(&at(place, key), format!("{} {fault}", path.display()));
}

/// A PEM file with a private key, preferably nobody else's to read.
fn private_key(path: &Path, place: &Place, diagnostics: &Diagnostics) {
    let Some(metadata) = readable(path, place, "tls.key", diagnostics) else { return };
    if PrivateKeyDer::from_pem_file(path).is_err() && CertificateDer::from_pem_file(path).is_ok() {
        let message = "holds no private key but a certificate: are certificate and key swapped?";
        diagnostics.error(&at(place, "tls.key"), format!("{} {message}", path.display()));
    } else if let Err(error) = PrivateKeyDer::from_pem_file(path) {
        diagnostics.error(
            &at(place, "tls.key"),
            format!("{} holds no private key in PEM (PKCS #8, PKCS #1 or SEC1): {error}", path.display()),
        );
    }
    warn_open(path, &metadata, place, "tls.key", diagnostics);
}

fn warn_open(path: &Path, metadata: &Metadata, place: &Place, key: &str, diagnostics: &Diagnostics) {
    if metadata.mode() & OTHERS != 0 {
        let mode = metadata.mode() & 0o7777;
        let message = format!("{} is open to others (mode {mode:04o}); chmod 600", path.display());
        diagnostics.warn(&at(place, key), message);
    }
}

fn password(source: &PasswordSource, place: &Place, diagnostics: &Diagnostics) {
    match source {
        PasswordSource::File(path) => {
            if let Some(metadata) = readable(path, place, "password.file", diagnostics) {
                warn_open(path, &metadata, place, "password.file", diagnostics);
                if is_blank(path, &metadata) {
                    let message = format!("{} holds no password", path.display());
                    diagnostics.warn(&at(place, "password.file"), message);
                }
            }
        }
        PasswordSource::Environment(name) => {
            if std::env::var_os(name).is_none_or(|value| value.is_empty()) {
                diagnostics.warn(
                    &at(place, "password.env"),
                    format!("{name} is not set here; the gateway's own environment must set it"),
                );
            }
        }
        PasswordSource::Command { argv, .. } => program(argv, place, "password.command", diagnostics),
    }
}

/// Whether a short file holds nothing but white space. What it holds is dropped at once.
fn is_blank(path: &Path, metadata: &Metadata) -> bool {
    const LENGTH_MAX: u64 = 1 << 10;
    let blank = |bytes: Vec<u8>| Zeroizing::new(bytes).iter().all(u8::is_ascii_whitespace);
    metadata.len() <= LENGTH_MAX && fs::read(path).is_ok_and(blank)
}

/// Whoever may write to the socket's folder could stand in for the gateway while it is down, and be told tokens.
fn socket_directory(socket: &Path, place: &Place, diagnostics: &Diagnostics) {
    let Some(folder) = socket.parent() else { return };
    let shown = folder.display();
    match fs::metadata(folder) {
        Err(error) => diagnostics.error(
            place,
            format!("{shown} cannot be used: {error}; create it, writable for the gateway's user only"),
        ),
        Ok(metadata) if !metadata.is_dir() => {
            diagnostics.error(place, format!("{shown} is not a folder"));
        }
        Ok(metadata) if metadata.mode() & WORLD_WRITE != 0 => diagnostics.error(
            place,
            format!(
                "{shown} is writable by everybody (mode {:04o}): any user could put a socket there while the gateway is \
                 down, and clients would tell it their tokens; use a folder of the gateway's own",
                metadata.mode() & 0o7777
            ),
        ),
        Ok(metadata) if metadata.mode() & OTHERS_WRITE != 0 => diagnostics.warn(
            place,
            format!(
                "{shown} is writable by its group (mode {:04o}), whose members could stand in for the gateway while it is \
                 down; chmod g-w unless they are trusted with that",
                metadata.mode() & 0o7777
            ),
        ),
        Ok(_) => {}
    }
}

fn evidence_directory(path: &Path, place: &Place, diagnostics: &Diagnostics) {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            diagnostics.error(
                place,
                format!("{shown} cannot be used: {error}; create it once with: install -d -m 0700 {shown}"),
            );
            return;
        }
    };
    if !metadata.is_dir() {
        diagnostics.error(place, format!("{shown} is not a folder"));
        return;
    }
    let mode = metadata.mode() & 0o7777;
    if mode & WORLD_WRITE != 0 {
        diagnostics.error(place, format!("{shown} is writable by everybody (mode {mode:04o}); chmod 700"));
    } else if mode & OTHERS != 0 {
        diagnostics.warn(place, format!("{shown} is open to others (mode {mode:04o}); chmod 700"));
    }
    writable(path, place, diagnostics);
}

/// The key of the checkpoints, its certificate, and their second place. A key file that is missing is made at the start.
fn checkpoints(evidence: &Evidence, diagnostics: &Diagnostics) {
    let place = &section(&evidence.place, "evidence");
    match &evidence.signing_key {
        PasswordSource::File(path) => {
            // Missing is fine: the first start makes it.
            if path.exists()
                && let Some(metadata) = readable(path, place, "signing_key.file", diagnostics)
            {
                warn_open(path, &metadata, place, "signing_key.file", diagnostics);
            }
        }
        PasswordSource::Environment(_) => {}
        PasswordSource::Command { argv, .. } => program(argv, place, "signing_key.command", diagnostics),
    }
    if let Some(path) = &evidence.signing_certificate {
        readable(path, place, "signing_key.certificate", diagnostics);
    }
    if let Some(path) = &evidence.sealing_key {
        readable(path, place, "sealing_key.file", diagnostics);
    }
    let Some(head) = &evidence.head else { return };
    let folder = head.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let message = format!(
            "the folder {} does not exist; mount or create it: the gateway never does",
            folder.display()
        );
        diagnostics.error(&at(place, "head.file"), message);
    } else {
        writable(folder, &at(place, "head.file"), diagnostics);
    }
}

/// A program named by its path must be there and may be run.
fn program(argv: &[String], place: &Place, key: &str, diagnostics: &Diagnostics) {
    let Some(program) = argv.first().filter(|program| program.contains('/')) else { return };
    let found = readable(Path::new(program), place, key, diagnostics);
    if found.is_some_and(|metadata| metadata.mode() & 0o111 == 0) {
        diagnostics.error(&at(place, key), format!("{program} is not executable"));
    }
}

fn state_directory(path: &Path, place: &Place, diagnostics: &Diagnostics) {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => {
            diagnostics.error(place, format!("{} is not a folder", path.display()));
        }
        Ok(metadata) if metadata.mode() & OTHERS_WRITE != 0 => {
            let mode = metadata.mode() & 0o7777;
            let message = format!("{} is writable by others (mode {mode:04o}); chmod 700", path.display());
            diagnostics.error(place, message);
        }
        Ok(_) => writable(path, place, diagnostics),
        // The first start creates it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => diagnostics.error(place, format!("{} cannot be used: {error}", path.display())),
    }
}

/// A folder in which this user may make files.
fn writable(path: &Path, place: &Place, diagnostics: &Diagnostics) {
    use rustix::fs::Access;
    if let Err(error) = rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        let shown = path.display();
        let message = format!(
            "{shown} is not writable for this user: {error}; it must belong to the user that runs the gateway, and `check` must run \
             as that user"
        );
        diagnostics.error(place, message);
    }
}

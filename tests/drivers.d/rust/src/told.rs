//! The lines that a driver's program writes; what they mean stands in run.py.

use std::error::Error;
use std::fmt::{Debug, Display};
use std::io::Write as _;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Why a step failed.
pub type Failure = Box<dyn Error + Send + Sync>;
/// A step's end: its note.
pub type Told = Result<String, Failure>;

/// Writes one line.
pub fn tell(kind: &str, name: &str, note: &str) {
    let note: Vec<&str> = note.split_whitespace().collect();
    println!("{kind}\t{name}\t{}", note.join(" "));
    let _ = std::io::stdout().flush();
}

/// Tells how a step ended.
pub fn done(name: &str, told: Told) {
    match told {
        Ok(note) => tell("yes", name, &note),
        Err(failure) => {
            let cause = failure.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            tell("no", name, &format!("{failure}{cause}"));
        }
    }
}

/// Has the run do something to the gateway, and waits until it is done.
pub fn ask(what: &str) -> Result<(), Failure> {
    tell("ask", what, "");
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Whether a step was asked for: all are, unless some are named.
pub fn wanted(name: &str) -> bool {
    let mut only = std::env::args().skip(1).peekable();
    only.peek().is_none() || only.any(|one| one == name)
}

/// Fails unless both are equal.
pub fn check<T: PartialEq<U> + Debug, U: Debug>(what: &str, got: T, wanted: U) -> Result<(), Failure> {
    if got == wanted { Ok(()) } else { Err(format!("{what}: wanted {wanted:?}, got {got:?}").into()) }
}

/// A variable of the environment.
pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// A sentence as the failure of a step.
pub fn wrong(what: impl Display) -> Failure {
    what.to_string().into()
}

/// TLS that trusts the gateway's certificate alone.
#[allow(dead_code, reason = "sqlx makes its own")]
pub fn tls() -> Result<rustls::ClientConfig, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(Path::new(&env("PGSSLROOTCERT")))? {
        roots.add(certificate?)?;
    }
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

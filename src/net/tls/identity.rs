//! The certificate that the gateway shows to a target, and its key.
//!
//! Owns the reading of the key under libpq's rule on file modes (src/interfaces/libpq/fe-secure-openssl.c,
//! `initialize_SSL`): a key that others can read proves nothing, so it is refused, not warned about. May not decide
//! whether a certificate is wanted. Fails by a [`TlsError`] that names the file and what to do.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;

use super::{CertificateFiles, TlsError, no_key, provider, read_certificates, unusable_identity};

/// Permission bits that the key of an ordinary owner may not have: everything of group and others.
const FORBIDDEN: u32 = 0o077;

/// Permission bits that a key of root's may not have: root may lend it to a group for reading.
const FORBIDDEN_OF_ROOT: u32 = 0o037;

/// A certificate chain with its key, ready to sign.
#[derive(Debug, Clone)]
pub struct ClientIdentity(Arc<CertifiedKey>);

/// Whether a server has asked for the certificate and can take its kind of key.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<AtomicBool>);

impl Shown {
    /// Certain once the handshake is over.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl ClientIdentity {
    /// Reads both files.
    ///
    /// # Errors
    /// A file that cannot be read or used, a key that others may read, or one of another certificate.
    pub fn load(files: &CertificateFiles) -> Result<Self, TlsError> {
        let chain = read_certificates(&files.certificate)?;
        let key = read_guarded_key(&files.key)?;
        let certified = CertifiedKey::from_der(chain, key, &provider());
        certified.map(|certified| Self(Arc::new(certified))).map_err(|error| unusable_identity(files, &error))
    }

    /// For one connection.
    pub(super) fn resolver(&self) -> (Arc<dyn ResolvesClientCert>, Shown) {
        let shown = Shown::default();
        (Arc::new(Resolver { certified: Arc::clone(&self.0), shown: shown.clone() }), shown)
    }
}

/// The mode is that of the file which is read, whatever its name leads to a moment later.
fn read_guarded_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let broken = |what: String| TlsError::File { file: path.to_owned(), what };
    let unreadable = |error: std::io::Error| broken(format!("cannot be read: {error}"));
    // Before it is opened: opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(broken("is not a regular file".to_owned()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let forbidden = if metadata.uid() == 0 { FORBIDDEN_OF_ROOT } else { FORBIDDEN };
    if metadata.mode() & forbidden != 0 {
        return Err(broken(format!(
            "is a private key that others may read or change (mode {:04o}): chmod 600, or 640 where root owns it",
            metadata.mode() & 0o7777
        )));
    }
    PrivateKeyDer::from_pem_reader(BufReader::new(file)).map_err(|error| no_key(path, &error))
}

#[derive(Debug)]
struct Resolver {
    certified: Arc<CertifiedKey>,
    shown: Shown,
}

impl ResolvesClientCert for Resolver {
    /// The issuers that a server names are a hint only, as they are to libpq: it judges what it is shown.
    fn resolve(&self, _issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified.key.choose_scheme(schemes)?;
        self.shown.0.store(true, Ordering::Relaxed);
        Some(Arc::clone(&self.certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_read_under_libpq_s_rule_on_modes() {
        let folder = tempfile::TempDir::new().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["crm_reader".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["crm_reader".to_owned()]).unwrap();
        let files = CertificateFiles {
            certificate: folder.path().join("client.crt"),
            key: folder.path().join("client.key"),
        };
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let root = fs::metadata(&files.key).unwrap().uid() == 0;
        let load = || ClientIdentity::load(&files).map(drop).map_err(|error| error.to_string());
        for (mode, allowed) in [
            (0o600, true),
            (0o400, true),
            (0o640, root),
            (0o440, root),
            (0o660, false),
            (0o650, false),
            (0o604, false),
            (0o644, false),
            (0o601, false),
            (0o777, false),
        ] {
            fs::set_permissions(&files.key, Permissions::from_mode(mode)).unwrap();
            match load() {
                Ok(()) => assert!(allowed, "{mode:o} was taken"),
                Err(said) => {
                    assert!(!allowed, "{mode:o}: {said}");
                    assert!(said.contains(&format!("(mode {mode:04o}): chmod 600")), "{said}");
                }
            }
        }
        fs::set_permissions(&files.key, Permissions::from_mode(0o600)).unwrap();
        fs::write(&files.key, other.signing_key.serialize_pem()).unwrap();
        assert!(load().unwrap_err().contains("cannot be used with the key"));
        fs::write(&files.key, "no key").unwrap();
        assert!(load().unwrap_err().contains("holds no usable private key"));
        fs::remove_file(&files.key).unwrap();
        assert!(load().unwrap_err().contains("cannot be read"));
        fs::create_dir(&files.key).unwrap();
        assert!(load().unwrap_err().contains("is not a regular file"));
    }
}

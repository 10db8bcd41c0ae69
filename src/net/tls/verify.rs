//! How a target's certificate is judged, one variant per mode.
//!
//! Every mode checks the handshake's signature, so the server holds the key of the certificate it shows: with
//! `require` that certificate says nothing about who the server is, yet SCRAM's channel binding then still does.
//! Chains and names are judged by webpki; revocation lists are not read.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::asn1_rs::FromDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// The CAs of one target; several at once, so that a rotation needs no moment of change.
#[derive(Debug)]
pub(super) struct Anchors {
    store: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

impl Anchors {
    pub(super) fn empty() -> Self {
        Self { store: RootCertStore::empty(), certificates: Vec::new() }
    }

    pub(super) fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), Error> {
        self.store.add(certificate.clone())?;
        self.certificates.push(certificate);
        Ok(())
    }
}

/// What a mode wants of the certificate.
#[derive(Debug)]
pub(super) enum Check {
    Nothing,
    Chain { anchors: Anchors, name: Option<String> },
    ChainAndName { anchors: Anchors },
}

/// A reason of ours, carried through rustls' error.
#[derive(Debug, thiserror::Error)]
enum Unacceptable {
    #[error("the server's certificate cannot be read as X.509")]
    Unreadable,
    #[error("the server's certificate has expired")]
    Expired,
    #[error("the server's certificate is not valid yet")]
    NotValidYet,
    #[error(
        "the server's certificate is named {found}, not {wanted:?}: another server answers at this address, or the \
         target's tls.name is wrong"
    )]
    Name { wanted: String, found: String },
}

#[derive(Debug)]
pub(super) struct TargetVerifier {
    check: Check,
    algorithms: WebPkiSupportedAlgorithms,
}

impl TargetVerifier {
    pub(super) fn new(check: Check, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { check, algorithms }
    }

    fn chain(
        &self,
        anchors: &Anchors,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // The recipe of PostgreSQL's manual makes a self-signed certificate that is marked as a CA, and webpki
        // accepts no CA as a server. Where the operator has named this very certificate as trusted, no chain is
        // left to build: only its time remains to be checked.
        if anchors.certificates.iter().any(|anchor| anchor.as_ref() == leaf.as_ref()) {
            return within_validity(leaf, now);
        }
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &anchors.store,
            intermediates,
            now,
            self.algorithms.all,
        )
    }
}

impl ServerCertVerifier for TargetVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.check {
            Check::Nothing => {}
            Check::Chain { anchors, name } => {
                self.chain(anchors, end_entity, intermediates, now)?;
                if let Some(name) = name {
                    carries_name(end_entity, name)?;
                }
            }
            Check::ChainAndName { anchors } => {
                self.chain(anchors, end_entity, intermediates, now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn unacceptable(reason: Unacceptable) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

fn read<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(unacceptable(Unacceptable::Unreadable)),
    }
}

fn within_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = read(certificate)?;
    // A time beyond i64 is no time that a certificate can name: it counts as expired.
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < parsed.validity().not_before.timestamp() {
        return Err(unacceptable(Unacceptable::NotValidYet));
    }
    if seconds > parsed.validity().not_after.timestamp() {
        return Err(unacceptable(Unacceptable::Expired));
    }
    Ok(())
}

/// Whether the certificate carries exactly this name: as its only common name, or as a DNS name. A subject with
/// several common names is ambiguous and matches none of them.
fn carries_name(certificate: &CertificateDer<'_>, wanted: &str) -> Result<(), Error> {
    let parsed = read(certificate)?;
    let common: Vec<&str> =
        parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect();
    if common == [wanted] {
        return Ok(());
    }
    let mut found: Vec<String> = common.iter().map(|name| format!("CN {name:?}")).collect();
    if let Ok(Some(alternatives)) = parsed.subject_alternative_name() {
        for alternative in &alternatives.value.general_names {
            if let GeneralName::DNSName(name) = alternative {
                if name.eq_ignore_ascii_case(wanted) {
                    return Ok(());
                }
                found.push(format!("DNS {name:?}"));
            }
        }
    }
    let found = if found.is_empty() { "by nothing".to_owned() } else { found.join(", ") };
    Err(unacceptable(Unacceptable::Name { wanted: wanted.to_owned(), found }))
}

/// A handshake's failure in words: ours where the reason is ours, rustls' with a hint where it has one. Nothing is
/// decided here.
pub(super) fn words(error: &Error) -> String {
    if let Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error {
        let inner = inner.to_string();
        // webpki's name for it; what `openssl x509 -req` makes before 3.4 without an extensions file, the recipe of
        // PostgreSQL's manual included.
        if inner == "UnsupportedCertVersion" {
            return "the server's certificate is X.509 version 1, which has no extensions and is not accepted: issue \
                    it with a subjectAltName"
                .to_owned();
        }
        return inner;
    }
    if matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer)) {
        return "no configured CA has signed the server's certificate (UnknownIssuer)".to_owned();
    }
    error.to_string()
}

//! The channel binding `tls-server-end-point` (RFC 5929 section 4): a hash of the server's certificate.

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, FromDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::signature_algorithm::RsaSsaPssParams;

/// The binding data of a certificate: its hash by the hash function of its own signature, MD5 and SHA-1 replaced by
/// SHA-256. `None` where the signature algorithm names no single hash (Ed25519): RFC 5929 leaves the binding
/// undefined there, PostgreSQL's server cannot compute it, and a client must then not claim to support it.
///
/// The same rule as the server's `be_tls_get_certificate_hash` (src/backend/libpq/be-secure-openssl.c).
pub fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = &parsed.signature_algorithm;
    let hash = match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.4" // md5WithRSAEncryption
        | "1.2.840.113549.1.1.5" // sha1WithRSAEncryption
        | "1.2.840.10045.4.1" // ecdsa-with-SHA1
        | "1.2.840.113549.1.1.11" // sha256WithRSAEncryption
        | "1.2.840.10045.4.3.2" => &digest::SHA256, // ecdsa-with-SHA256
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => &digest::SHA224,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        "1.2.840.113549.1.1.10" => pss_hash(algorithm.parameters.as_ref()?)?,
        _ => return None,
    };
    Some(digest::digest(hash, certificate).as_ref().to_vec())
}

/// The hash of an RSASSA-PSS signature stands in its parameters (RFC 4055 section 3.1).
fn pss_hash(parameters: &Any<'_>) -> Option<&'static digest::Algorithm> {
    let parameters = RsaSsaPssParams::try_from(parameters).ok()?;
    match parameters.hash_algorithm_oid().to_id_string().as_str() {
        "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(&digest::SHA256), // SHA-1, SHA-256
        "2.16.840.1.101.3.4.2.2" => Some(&digest::SHA384),
        "2.16.840.1.101.3.4.2.3" => Some(&digest::SHA512),
        _ => None,
    }
}

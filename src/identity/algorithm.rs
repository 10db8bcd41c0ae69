//! Signature algorithms that an issuer may be configured with: asymmetric ones only (RFC 7518 section 3, RFC 8037).
//!
//! `none` and the HMAC family have no variant here, so no configuration can name them and no code path can reach them.

use std::fmt;
use std::str::FromStr;

use openidconnect::core::CoreJwsSigningAlgorithm;

use super::denied::Reason;

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// A configured name that is no algorithm of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "signature algorithm {name:?} is not supported: {why}; choose from RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
)]
pub struct UnknownAlgorithm {
    name: String,
    why: &'static str,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 9] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];

    /// The name in JOSE headers and in the configuration; case counts (RFC 7515 section 4.1.1).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    fn by_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Reads a token's `alg`.
    pub(super) fn of_header(name: &str) -> Result<Algorithm, Reason> {
        match Algorithm::by_name(name) {
            Some(algorithm) => Ok(algorithm),
            // In any case: a reader that folds case must not be tempted either.
            None if name.eq_ignore_ascii_case("none") => Err(Reason::Unsigned),
            None if is_hmac(name) => Err(Reason::Symmetric),
            None => Err(Reason::Algorithm),
        }
    }

    /// The same, in openidconnect's words.
    pub(super) fn core(self) -> CoreJwsSigningAlgorithm {
        match self {
            Algorithm::Rs256 => CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
            Algorithm::Rs384 => CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
            Algorithm::Rs512 => CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
            Algorithm::Ps256 => CoreJwsSigningAlgorithm::RsaSsaPssSha256,
            Algorithm::Ps384 => CoreJwsSigningAlgorithm::RsaSsaPssSha384,
            Algorithm::Ps512 => CoreJwsSigningAlgorithm::RsaSsaPssSha512,
            Algorithm::Es256 => CoreJwsSigningAlgorithm::EcdsaP256Sha256,
            Algorithm::Es384 => CoreJwsSigningAlgorithm::EcdsaP384Sha384,
            Algorithm::EdDsa => CoreJwsSigningAlgorithm::EdDsa,
        }
    }
}

fn is_hmac(name: &str) -> bool {
    name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("HS"))
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Algorithm, UnknownAlgorithm> {
        Algorithm::by_name(name).ok_or_else(|| UnknownAlgorithm {
            name: name.to_owned(),
            why: if name.eq_ignore_ascii_case("none") {
                "an unsigned token proves nothing"
            } else if is_hmac(name) {
                "a shared secret lets every verifier forge tokens"
            } else if name == "ES512" {
                "the verification library has no P-521"
            } else {
                "the name is not known, and case counts"
            },
        })
    }
}

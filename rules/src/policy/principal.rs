//! Who stands behind a session, as verified.
//!
//! Owns: the value that identity produces and policy consumes. May not: hold a secret; a token appears as thumbprint.

use serde_json::{Map, Value};

/// A verified identity.
#[derive(Clone, Debug)]
pub struct Principal {
    /// Name of the `[[issuer]]` entry that vouched for it.
    pub issuer: String,
    /// The token's `iss`.
    pub issuer_url: String,
    /// The token's `sub`.
    pub subject: String,
    /// Groups, where the issuer's claim path has them; `None` when missing or overflowing: a rule that needs them refuses.
    pub groups: Option<Vec<String>>,
    /// Value of the issuer's `person` claim: who stands behind, for every separation rule.
    pub person: Option<String>,
    /// Every claim of the verified token, for `[group.*]` matches.
    pub claims: Map<String, Value>,
    /// The claims to keep in the evidence (`keep`), path and value, in the configured order.
    pub kept: Vec<(String, Value)>,
    /// blake3 of the token's bytes, hex, first 32 digits: the only trace of the token.
    pub token_thumbprint: String,
    /// `jti`, where present.
    pub token_id: Option<String>,
    /// `iat`, seconds since 1970.
    pub issued_at_s: i64,
    /// `exp`, seconds since 1970.
    pub expires_at_s: i64,
}

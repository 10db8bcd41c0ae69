//! A token's bytes, read strictly before anything is believed.
//!
//! Owns: the compact form (RFC 7515 section 3.1), canonical base64url, the JOSE header. May not: verify; everything
//! here is unverified until `verify` has seen the signature. Size is checked before the first byte is decoded.
//! Fails with a [`Reason`] that holds nothing of the token.
//!
//! Why a reading of our own before openidconnect's: its base64 decoder accepts trailing bits (so two spellings of one
//! token), it takes the last of two equal JSON members, reads `"crit": null` as absent, and its error texts quote.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::denied::{Flaw, Part, Reason};
use super::json;
use super::limits::KID_BYTES_MAX;

/// A token whose form is right. Nothing in it is verified. No `Debug`: it is a secret.
pub(super) struct Token<'t> {
    /// The compact form, as sent.
    pub(super) text: &'t str,
    pub(super) header: Header,
    pub(super) claims: Map<String, Value>,
    /// blake3 of the token's bytes, hex, first 32 digits.
    pub(super) thumbprint: String,
}

/// The JOSE header's members that are understood.
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    /// `typ`, lower case, without `application/`.
    pub(super) typ: Option<String>,
    pub(super) kid: Option<String>,
}

/// The token's only trace in logs and evidence: blake3 of its bytes, hex, the first 32 digits (128 bits).
pub(super) fn thumbprint(token: &[u8]) -> String {
    let mut digits = blake3::hash(token).to_hex().to_string();
    digits.truncate(32);
    digits
}

impl<'t> Token<'t> {
    /// Reads the form of a token.
    pub(super) fn read(bytes: &'t [u8], bytes_max: usize) -> Result<Token<'t>, Reason> {
        if bytes.is_empty() {
            return Err(Reason::Empty);
        }
        if bytes.len() > bytes_max {
            return Err(Reason::TooLong { bytes: bytes.len(), bytes_max });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Reason::NotAToken)?;
        let (header, claims, signature) = split(text)?;
        let header = Header::read(&decode(header, Part::Header)?)?;
        let claims = json::object(&decode(claims, Part::Claims)?)
            .map_err(|flaw| Reason::Malformed(Part::Claims, flaw))?;
        if decode(signature, Part::Signature)?.is_empty() {
            return Err(Reason::Unsigned);
        }
        Ok(Token { text, header, claims, thumbprint: thumbprint(bytes) })
    }
}

/// Three parts of the base64url alphabet. Five are JWE's compact form.
fn split(text: &str) -> Result<(&str, &str, &str), Reason> {
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Err(Reason::NotAToken);
    }
    let mut parts = text.splitn(6, '.');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(claims), Some(signature), None, None, None) => Ok((header, claims, signature)),
        (Some(_), Some(_), Some(_), Some(_), Some(_), None) => Err(Reason::Encrypted),
        _ => Err(Reason::NotAToken),
    }
}

/// Canonical base64url without padding: one spelling for each sequence of bytes. The engine refuses padding and
/// trailing bits.
fn decode(part: &str, which: Part) -> Result<Zeroizing<Vec<u8>>, Reason> {
    URL_SAFE_NO_PAD.decode(part).map(Zeroizing::new).map_err(|_| Reason::Malformed(which, Flaw::Encoding))
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Header, Reason> {
        let members = json::object(bytes).map_err(|flaw| Reason::Malformed(Part::Header, flaw))?;
        // Present in any form, null included: what demands to be understood is not understood here.
        if ["crit", "b64", "zip"].iter().any(|name| members.contains_key(*name)) {
            return Err(Reason::Extension);
        }
        if members.contains_key("enc") {
            return Err(Reason::Encrypted);
        }
        if members.contains_key("cty") {
            return Err(Reason::Nested);
        }
        let typ = text_member(&members, "typ")?.map(|typ| {
            let typ = typ.to_ascii_lowercase();
            typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ)
        });
        let kid = text_member(&members, "kid")?.map(str::to_owned);
        if kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return Err(Reason::Malformed(Part::Header, Flaw::MemberType));
        }
        let algorithm = match text_member(&members, "alg")? {
            Some(name) => Algorithm::of_header(name)?,
            None => return Err(Reason::Malformed(Part::Header, Flaw::MemberType)),
        };
        Ok(Header { algorithm, typ, kid })
    }
}

/// A member that is text where it is present; null is not absent.
fn text_member<'m>(members: &'m Map<String, Value>, name: &str) -> Result<Option<&'m str>, Reason> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(Reason::Malformed(Part::Header, Flaw::MemberType))
        }
    }
}

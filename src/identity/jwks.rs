//! An issuer's key set (RFC 7517), read and sifted.
//!
//! Owns: which published keys may verify. Its invariant: every key in a [`KeySet`] is public, asymmetric, meant for
//! signatures, of sufficient size, and of a form openidconnect's verifier knows. Other keys are left out and counted:
//! an issuer may publish keys for other uses. A set without one usable key, too many keys or a member named twice is
//! no set.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::JsonWebKeySet;
use openidconnect::core::CoreJsonWebKey;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::denied::Flaw;
use super::json;
use super::limits::{KEY_SET_BYTES_MAX, KEYS_MAX, KID_BYTES_MAX, RSA_BITS_MAX, RSA_BITS_MIN};

/// Keys that may verify.
#[derive(Clone)]
pub(super) struct KeySet {
    keys: JsonWebKeySet<CoreJsonWebKey>,
    kids: Vec<Option<String>>,
    /// Keys left out, with the reason each.
    pub(super) left_out: Vec<LeftOut>,
}

/// Why a published key verifies nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// No JSON object.
    NoObject,
    /// `kty` is none of RSA, EC, OKP; `oct` is a secret that the whole world can read.
    KeyType,
    /// `use`, `key_ops` or `alg` say something else than signatures that are supported here.
    OtherUse,
    /// A private member stands in a public document: whoever reads it can sign.
    Private,
    /// An RSA modulus outside 2048 to 4096 bits.
    Size,
    /// The curve is none of P-256, P-384, Ed25519.
    Curve,
    /// A needed member is missing, or not canonical base64url, or `kid` is too long.
    Member,
}

/// Why a document is no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadKeySet {
    #[error("the key set has more than {KEY_SET_BYTES_MAX} bytes")]
    TooLong,
    #[error("the key set is {0}")]
    Flaw(Flaw),
    #[error("the key set has no array \"keys\"")]
    NoKeys,
    #[error("the key set has {0} keys; at most {KEYS_MAX} are read")]
    TooMany(usize),
    #[error("none of the {0} keys of the set can verify a signature ({1})")]
    NoneUsable(usize, String),
}

impl KeySet {
    /// Reads a key set document.
    pub(super) fn read(document: &[u8]) -> Result<KeySet, BadKeySet> {
        if document.len() > KEY_SET_BYTES_MAX {
            return Err(BadKeySet::TooLong);
        }
        let document = json::object(document).map_err(BadKeySet::Flaw)?;
        let Some(Value::Array(published)) = document.get("keys") else {
            return Err(BadKeySet::NoKeys);
        };
        if published.len() > KEYS_MAX {
            return Err(BadKeySet::TooMany(published.len()));
        }
        let (mut keys, mut kids, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for key in published {
            match usable(key) {
                Ok((key, kid)) => {
                    keys.push(key);
                    kids.push(kid);
                }
                Err(reason) => left_out.push(reason),
            }
        }
        if keys.is_empty() {
            let reasons = left_out.iter().map(LeftOut::to_string).collect::<Vec<_>>().join(", ");
            return Err(BadKeySet::NoneUsable(published.len(), reasons));
        }
        Ok(KeySet { keys: JsonWebKeySet::new(keys), kids, left_out })
    }

    /// The keys, as openidconnect's verifier takes them.
    pub(super) fn keys(&self) -> &JsonWebKeySet<CoreJsonWebKey> {
        &self.keys
    }

    /// Whether a token with this `kid` may find its key here. A token without one is tried against the whole set.
    pub(super) fn may_hold(&self, kid: Option<&str>) -> bool {
        kid.is_none() || self.kids.iter().any(|known| known.as_deref() == kid)
    }

    /// Usable keys.
    pub(super) fn len(&self) -> usize {
        self.kids.len()
    }

    /// Whether both hold the same keys in the same order.
    pub(super) fn same_as(&self, other: &KeySet) -> bool {
        self.keys == other.keys
    }
}

/// Sifts one published key.
fn usable(key: &Value) -> Result<(CoreJsonWebKey, Option<String>), LeftOut> {
    let Value::Object(members) = key else { return Err(LeftOut::NoObject) };
    match text(members, "kty") {
        Some("RSA") => check_rsa(members)?,
        Some("EC") => check_curve(members, &[("P-256", 32), ("P-384", 48)], &["x", "y"])?,
        Some("OKP") => check_curve(members, &[("Ed25519", 32)], &["x"])?,
        Some(_) | None => return Err(LeftOut::KeyType),
    }
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| members.contains_key(*name)) {
        return Err(LeftOut::Private);
    }
    check_use(members)?;
    let kid = match members.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
        Some(_) => return Err(LeftOut::Member),
    };
    let key = serde_json::from_value(key.clone()).map_err(|_| LeftOut::Member)?;
    Ok((key, kid))
}

fn text<'m>(members: &'m Map<String, Value>, name: &str) -> Option<&'m str> {
    members.get(name).and_then(Value::as_str)
}

fn bytes(members: &Map<String, Value>, name: &str) -> Result<Vec<u8>, LeftOut> {
    text(members, name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(LeftOut::Member)
}

fn check_rsa(members: &Map<String, Value>) -> Result<(), LeftOut> {
    let modulus = bytes(members, "n")?;
    let exponent = bytes(members, "e")?;
    // RFC 7518 section 6.3.1.1 forbids leading zeros; some issuers write one all the same.
    let significant = modulus.iter().skip_while(|byte| **byte == 0).count();
    let first = modulus.get(modulus.len() - significant).copied().unwrap_or(0);
    let bits = (significant * 8).saturating_sub(first.leading_zeros() as usize);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(LeftOut::Size);
    }
    // An even exponent or 1 is no RSA; one beyond 33 bits is refused by the library.
    let odd = exponent.last().is_some_and(|last| last & 1 == 1);
    let one = exponent.iter().rev().skip(1).all(|byte| *byte == 0) && exponent.last() == Some(&1);
    if odd && !one { Ok(()) } else { Err(LeftOut::Member) }
}

fn check_curve(
    members: &Map<String, Value>,
    curves: &[(&str, usize)],
    coordinates: &[&str],
) -> Result<(), LeftOut> {
    let curve = text(members, "crv").ok_or(LeftOut::Member)?;
    let (_, len) = curves.iter().find(|(name, _)| *name == curve).ok_or(LeftOut::Curve)?;
    for coordinate in coordinates {
        // Full length, RFC 7518 section 6.2.1.2: a short one would shift the point.
        if bytes(members, coordinate)?.len() != *len {
            return Err(LeftOut::Member);
        }
    }
    Ok(())
}

fn check_use(members: &Map<String, Value>) -> Result<(), LeftOut> {
    let meant = members.get("use").is_none_or(|it| it == "sig")
        && members
            .get("key_ops")
            .is_none_or(|it| it.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")))
        && members
            .get("alg")
            .is_none_or(|it| it.as_str().is_some_and(|name| name.parse::<Algorithm>().is_ok()));
    if meant { Ok(()) } else { Err(LeftOut::OtherUse) }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LeftOut::NoObject => "not an object",
            LeftOut::KeyType => "a key type that is not RSA, EC or OKP",
            LeftOut::OtherUse => "meant for another use or algorithm",
            LeftOut::Private => "a private or secret key in a public document",
            LeftOut::Size => "an RSA modulus outside 2048 to 4096 bits",
            LeftOut::Curve => "a curve that is not P-256, P-384 or Ed25519",
            LeftOut::Member => "a member that is missing or malformed",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn b64(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn rsa(bits: usize) -> Value {
        let mut modulus = vec![0xff; bits / 8];
        modulus[0] = 0x80;
        json!({ "kty": "RSA", "kid": "r", "n": b64(&modulus), "e": "AQAB" })
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    fn read(keys: &[Value]) -> Result<KeySet, BadKeySet> {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn usable_keys_are_kept_and_others_left_out_with_their_reason() {
        let ec = json!({ "kty": "EC", "crv": "P-256", "kid": "e", "x": b64(&[1; 32]), "y": b64(&[2; 32]) });
        let ed = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "d", "x": b64(&[1; 32]) });
        for good in [
            rsa(2048),
            rsa(4096),
            ec.clone(),
            ed.clone(),
            with(rsa(2048), "use", json!("sig")),
            with(rsa(2048), "alg", json!("RS256")),
            with(rsa(2048), "key_ops", json!(["verify"])),
            with(rsa(2048), "x5t", json!("anything")),
        ] {
            let set = read(std::slice::from_ref(&good)).unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!((set.len(), set.left_out.len()), (1, 0), "{good}");
        }
        for (bad, reason) in [
            (json!("key"), LeftOut::NoObject),
            (json!({ "kty": "oct", "kid": "s", "k": b64(&[1; 32]) }), LeftOut::KeyType),
            (json!({ "kid": "s" }), LeftOut::KeyType),
            (rsa(1024), LeftOut::Size),
            (rsa(8192), LeftOut::Size),
            (with(rsa(2048), "e", json!("AQ")), LeftOut::Member),
            (with(rsa(2048), "e", json!("Ag")), LeftOut::Member),
            (with(rsa(2048), "d", json!("AQAB")), LeftOut::Private),
            (with(rsa(2048), "use", json!("enc")), LeftOut::OtherUse),
            (with(rsa(2048), "use", Value::Null), LeftOut::OtherUse),
            (with(rsa(2048), "alg", json!("HS256")), LeftOut::OtherUse),
            (with(rsa(2048), "alg", json!("none")), LeftOut::OtherUse),
            (with(rsa(2048), "alg", json!("RSA-OAEP")), LeftOut::OtherUse),
            (with(rsa(2048), "key_ops", json!(["sign"])), LeftOut::OtherUse),
            (with(rsa(2048), "kid", json!(7)), LeftOut::Member),
            (with(rsa(2048), "kid", json!("k".repeat(KID_BYTES_MAX + 1))), LeftOut::Member),
            (with(rsa(2048), "n", json!("AAA=")), LeftOut::Member),
            (with(ec.clone(), "crv", json!("P-521")), LeftOut::Curve),
            (with(ec.clone(), "x", json!(b64(&[1; 31]))), LeftOut::Member),
            (with(ed.clone(), "crv", json!("X25519")), LeftOut::Curve),
        ] {
            let set = read(&[rsa(2048), bad.clone()]).unwrap_or_else(|error| panic!("{bad}: {error}"));
            assert_eq!((set.len(), set.left_out.as_slice()), (1, &[reason][..]), "{bad}");
            assert!(matches!(read(&[bad]), Err(BadKeySet::NoneUsable(1, _))));
        }
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        assert!(matches!(KeySet::read(b"<html>"), Err(BadKeySet::Flaw(Flaw::Json))));
        assert!(matches!(KeySet::read(b"{}"), Err(BadKeySet::NoKeys)));
        assert!(matches!(KeySet::read(br#"{"keys":{}}"#), Err(BadKeySet::NoKeys)));
        assert!(matches!(KeySet::read(br#"{"keys":[]}"#), Err(BadKeySet::NoneUsable(0, _))));
        assert!(matches!(
            KeySet::read(br#"{"keys":[],"keys":[]}"#),
            Err(BadKeySet::Flaw(Flaw::DuplicateMember))
        ));
        assert!(matches!(read(&vec![rsa(2048); KEYS_MAX + 1]), Err(BadKeySet::TooMany(_))));
        assert!(matches!(KeySet::read(&vec![b' '; KEY_SET_BYTES_MAX + 1]), Err(BadKeySet::TooLong)));
    }

    #[test]
    fn a_kid_is_looked_up_exactly() {
        let set = read(&[rsa(2048), with(rsa(2048), "kid", json!("other"))]).expect("a set");
        assert!(set.may_hold(Some("r")) && set.may_hold(Some("other")) && set.may_hold(None));
        assert!(!set.may_hold(Some("R")) && !set.may_hold(Some("")));
    }
}

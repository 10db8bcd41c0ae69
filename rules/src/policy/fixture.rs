//! Identities for judging without a server: `pgturnstile explain`, `pgturnstile test`.
//!
//! Owns: the reading of claims into a [`Principal`]. May not: be used for a session; what it makes has been verified by
//! nobody. Catalogs come from [`crate::catalog::Definitions`].

use serde_json::{Map, Value};

use crate::policy::group::claim;
use crate::policy::principal::Principal;

/// What of the gateway's configuration turns claims into an identity.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Name of the `[[issuer]]` entry.
    pub name: String,
    /// The `iss` it stands for.
    pub url: String,
    /// Claim path of the groups.
    pub groups: Option<String>,
    /// Claim path of the person.
    pub person: Option<String>,
}

/// An identity from claims, as a token with them would make it. Three forms are read: the claims of a token with `iss`,
/// looked up among `issuers`; `{ "issuer": NAME, "claims": {…} }`; and claims with `issuer = NAME` among them, for tests
/// that stand in a policy.
///
/// # Errors
/// What is missing, and what to write.
pub fn principal(claims: &Map<String, Value>, issuers: &[Issuer]) -> Result<Principal, String> {
    let (issuer, claims) = match (claims.get("issuer"), claims.get("claims"), claims.get("iss")) {
        (Some(Value::String(name)), Some(Value::Object(inner)), _) => (by_name(name, issuers), inner.clone()),
        (Some(Value::String(name)), _, _) => {
            let mut rest = claims.clone();
            rest.remove("issuer");
            (by_name(name, issuers), rest)
        }
        (None, _, Some(Value::String(url))) => {
            let issuer = issuers.iter().find(|issuer| issuer.url == *url).cloned().ok_or_else(|| {
                "no issuer of the configuration has this iss; name the configuration with --config, or wrap the claims: \
                 { \"issuer\": NAME, \"claims\": { … } }"
                    .to_owned()
            })?;
            (issuer, claims.clone())
        }
        _ => return Err("has neither iss nor issuer; write { \"issuer\": NAME, \"claims\": { … } }".into()),
    };
    let text = |path: &str| claim(&claims, path).and_then(Value::as_str).map(str::to_owned);
    let number = |path: &str| claim(&claims, path).and_then(Value::as_i64).unwrap_or(0);
    Ok(Principal {
        groups: issuer.groups.as_deref().and_then(|path| groups(&claims, path)),
        person: issuer.person.as_deref().and_then(text),
        subject: text("sub").unwrap_or_else(|| "nobody".into()),
        token_id: text("jti"),
        issued_at_s: number("iat"),
        expires_at_s: number("exp"),
        issuer: issuer.name,
        issuer_url: issuer.url,
        kept: Vec::new(),
        token_thumbprint: String::new(),
        claims,
    })
}

/// The configured issuer of that name, or one that keeps its groups where most do.
fn by_name(name: &str, issuers: &[Issuer]) -> Issuer {
    issuers.iter().find(|issuer| issuer.name == name).cloned().unwrap_or_else(|| Issuer {
        name: name.to_owned(),
        url: String::new(),
        groups: Some("groups".into()),
        person: None,
    })
}

fn groups(claims: &Map<String, Value>, path: &str) -> Option<Vec<String>> {
    match claim(claims, path)? {
        Value::Array(groups) => groups.iter().map(|group| group.as_str().map(str::to_owned)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
    }
}

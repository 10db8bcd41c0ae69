//! Where configured claims are found, and what counts as a list of groups or as a person.
//!
//! Owns: [`ClaimPath`] and the reading of `groups` and `person`. May not: guess. A path that can be read in two ways, a
//! list that its issuer cut short, an e-mail that nobody verified: each is "not there", and a rule that needs it
//! refuses.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::limits::GROUPS_MAX;

/// Where a claim stands: `email`, `act.sub`, `https://example.com/groups`, or a JSON Pointer (RFC 6901) such as
/// `/kubernetes.io/namespace` where a member's name has dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath {
    text: String,
    steps: Vec<String>,
}

/// A claim path that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "claim path {path:?} is not valid: {why}; write a name, a dotted path as act.sub, or a JSON Pointer as /kubernetes.io/pod/name"
)]
pub struct BadClaimPath {
    path: String,
    why: &'static str,
}

impl FromStr for ClaimPath {
    type Err = BadClaimPath;

    fn from_str(path: &str) -> Result<ClaimPath, BadClaimPath> {
        let bad = |why| BadClaimPath { path: path.to_owned(), why };
        let steps: Vec<String> = match path.strip_prefix('/') {
            Some(pointer) => pointer
                .split('/')
                .map(|step| unescape(step).ok_or_else(|| bad("~ stands before neither 0 nor 1")))
                .collect::<Result<_, _>>()?,
            None => path.split('.').map(str::to_owned).collect(),
        };
        // A name that is a URL has empty or odd steps when split at dots; it is then only looked up whole.
        if path.is_empty() || (path.starts_with('/') && steps.iter().any(String::is_empty)) {
            return Err(bad("a step is empty"));
        }
        Ok(ClaimPath { text: path.to_owned(), steps })
    }
}

/// RFC 6901 section 4.
fn unescape(step: &str) -> Option<String> {
    let mut text = String::with_capacity(step.len());
    let mut chars = step.chars();
    while let Some(char) = chars.next() {
        match char {
            '~' => text.push(match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            }),
            other => text.push(other),
        }
    }
    Some(text)
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ClaimPath {
    /// The path as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The claim; `None` when it is absent, null, or when the path can be read as two different claims.
    #[must_use]
    pub fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        let mut stepped = Some(claims);
        let mut found = None;
        for (index, step) in self.steps.iter().enumerate() {
            found = stepped.and_then(|object| object.get(step));
            if index + 1 < self.steps.len() {
                stepped = found.and_then(Value::as_object);
                found = None;
            }
        }
        let whole =
            if self.text.starts_with('/') || self.steps.len() == 1 { None } else { claims.get(&self.text) };
        match (whole, found) {
            (Some(_), Some(_)) => None,
            (value, None) | (None, value) => value.filter(|value| !value.is_null()),
        }
    }

    /// The member of the claims object that the path begins at, for overflow markers.
    fn first(&self) -> [&str; 2] {
        [self.steps.first().map_or("", String::as_str), &self.text]
    }

    /// A list of groups; `None` when missing, cut short by the issuer, or no list of texts.
    ///
    /// Entra replaces a list that is too long by `_claim_names` (a distributed claim, OpenID Connect Core 1.0 section
    /// 5.6.2) or by `hasgroups`: either means that the token does not say, even when a list stands beside it.
    #[must_use]
    pub fn groups(&self, claims: &Map<String, Value>) -> Option<Vec<String>> {
        let elsewhere = match claims.get("_claim_names") {
            None => false,
            Some(Value::Object(names)) => self.first().iter().any(|name| names.contains_key(*name)),
            // A marker that cannot be read is not taken as absence.
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                true
            }
        };
        let cut = claims.get("hasgroups").is_some_and(|value| *value != Value::Bool(false));
        if elsewhere || cut {
            return None;
        }
        match self.find(claims)? {
            // Some issuers write a single group without brackets.
            Value::String(group) => Some(vec![group.clone()]),
            Value::Array(list) if list.len() <= GROUPS_MAX => {
                list.iter().map(|group| group.as_str().map(str::to_owned)).collect()
            }
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    }

    /// Who stands behind, as text. `None` when missing, empty, or neither text nor a whole number. An e-mail counts only
    /// where `email_verified` is true (OpenID Connect Core 1.0 section 5.1).
    #[must_use]
    pub fn person(&self, claims: &Map<String, Value>) -> Option<String> {
        if self.text == "email" || self.text == "/email" {
            match claims.get("email_verified") {
                Some(Value::Bool(true)) => {}
                // Cognito writes the boolean as text.
                Some(Value::String(text)) if text == "true" => {}
                Some(_) | None => return None,
            }
        }
        match self.find(claims)? {
            Value::String(person) if !person.is_empty() => Some(person.clone()),
            Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
            Value::String(_)
            | Value::Number(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Array(_)
            | Value::Object(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> ClaimPath {
        text.parse().expect("a claim path")
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn paths_find_nested_dotted_and_pointed_claims() {
        let claims = map(json!({
            "email": "kim@example.com",
            "act": { "sub": "agent" },
            "https://example.com/groups": ["a"],
            "kubernetes.io": { "namespace": "prod", "a/b": 1, "~": 2 },
            "nothing": null,
        }));
        assert_eq!(path("email").find(&claims), Some(&json!("kim@example.com")));
        assert_eq!(path("act.sub").find(&claims), Some(&json!("agent")));
        assert_eq!(path("https://example.com/groups").find(&claims), Some(&json!(["a"])));
        assert_eq!(path("/kubernetes.io/namespace").find(&claims), Some(&json!("prod")));
        assert_eq!(path("/kubernetes.io/a~1b").find(&claims), Some(&json!(1)));
        assert_eq!(path("/kubernetes.io/~0").find(&claims), Some(&json!(2)));
        for absent in ["act", "nothing", "act.sub.x", "email.x", "kubernetes.io.namespace", "/act/x"] {
            let found = path(absent).find(&claims);
            assert!(found.is_none() || absent == "act", "{absent}: {found:?}");
        }
    }

    #[test]
    fn a_path_with_two_readings_finds_nothing() {
        let claims = map(json!({ "act.sub": "one", "act": { "sub": "two" } }));
        assert_eq!(path("act.sub").find(&claims), None);
        assert_eq!(path("/act/sub").find(&claims), Some(&json!("two")));
        assert_eq!(path("/act.sub").find(&claims), Some(&json!("one")));
    }

    #[test]
    fn bad_paths_are_refused() {
        for text in ["", "/", "/a//b", "/a~2", "/a~"] {
            assert!(text.parse::<ClaimPath>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn groups_that_are_missing_or_overflow_are_none_not_empty() {
        let groups = path("groups");
        assert_eq!(groups.groups(&map(json!({ "groups": ["a", "b"] }))), Some(vec!["a".into(), "b".into()]));
        assert_eq!(groups.groups(&map(json!({ "groups": [] }))), Some(vec![]));
        assert_eq!(groups.groups(&map(json!({ "groups": "a b" }))), Some(vec!["a b".into()]));
        for none in [
            json!({}),
            json!({ "groups": null }),
            json!({ "groups": 7 }),
            json!({ "groups": ["a", 7] }),
            json!({ "groups": { "a": true } }),
            json!({ "hasgroups": true }),
            json!({ "hasgroups": "true", "groups": ["a"] }),
            json!({ "groups": ["a"], "_claim_names": { "groups": "src1" } }),
            json!({ "_claim_names": { "groups": "src1" }, "_claim_sources": { "src1": {} } }),
            json!({ "groups": ["a"], "_claim_names": "groups" }),
            json!({ "groups": vec!["g"; GROUPS_MAX + 1] }),
        ] {
            assert_eq!(groups.groups(&map(none.clone())), None, "{none}");
        }
        let nested = path("realm_access.roles");
        assert_eq!(
            nested.groups(&map(json!({ "realm_access": { "roles": ["r"] } }))),
            Some(vec!["r".into()])
        );
        let cut = json!({ "realm_access": { "roles": ["r"] }, "_claim_names": { "realm_access": "s" } });
        assert_eq!(nested.groups(&map(cut)), None);
        let other = json!({ "groups": ["a"], "_claim_names": { "address": "s" } });
        assert_eq!(groups.groups(&map(other)), Some(vec!["a".into()]));
    }

    #[test]
    fn an_email_counts_only_when_verified() {
        let email = path("email");
        let person = |claims: Value| email.person(&map(claims));
        assert_eq!(person(json!({ "email": "k@e.x", "email_verified": true })), Some("k@e.x".into()));
        assert_eq!(person(json!({ "email": "k@e.x", "email_verified": "true" })), Some("k@e.x".into()));
        for none in [
            json!({ "email": "k@e.x" }),
            json!({ "email": "k@e.x", "email_verified": false }),
            json!({ "email": "k@e.x", "email_verified": 1 }),
            json!({ "email": "", "email_verified": true }),
        ] {
            assert_eq!(person(none.clone()), None, "{none}");
        }
        assert_eq!(path("actor_id").person(&map(json!({ "actor_id": 583231 }))), Some("583231".into()));
        assert_eq!(path("actor_id").person(&map(json!({ "actor_id": 1.5 }))), None);
    }
}

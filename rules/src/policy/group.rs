//! Groups: which verified identities a rule speaks of.
//!
//! Owns: matching of claims, and what a missing claim means. May not: verify a token. Fails closed: a group whose claims
//! are missing, ambiguous or of another type is [`Member::Unknown`], which no permit and no access entry counts as in,
//! and every restrict counts as in.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::policy::place::Place;
use crate::policy::principal::Principal;

/// `[group.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// Where it stands.
    pub place: Place,
    /// It has every identity that matches one of these.
    pub any: Vec<Match>,
}

impl Eq for Group {}

/// One entry of `any`: all of it must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// Name of the `[[issuer]]` entry.
    pub issuer: String,
    /// One of these groups must be among the identity's.
    pub groups: Option<Vec<String>>,
    /// Claim path and the values it may have.
    pub claims: Vec<(String, Vec<Value>)>,
}

/// Whether an identity is in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// The token does not say; the claim that is missing or unclear.
    Unknown(String),
}

impl Group {
    /// Whether `principal` is in.
    pub fn member(&self, principal: &Principal) -> Member {
        let mut unknown = None;
        for entry in &self.any {
            match entry.member(principal) {
                Member::Yes => return Member::Yes,
                Member::Unknown(claim) => unknown = unknown.or(Some(claim)),
                Member::No => {}
            }
        }
        unknown.map_or(Member::No, Member::Unknown)
    }
}

impl Match {
    fn member(&self, principal: &Principal) -> Member {
        if self.issuer != principal.issuer {
            return Member::No;
        }
        let mut unknown = None;
        // A definite no wins over an unknown: what does not match by one claim cannot match by another.
        if let Some(wanted) = &self.groups {
            match &principal.groups {
                None => unknown = Some("groups".to_owned()),
                Some(groups) if wanted.iter().any(|group| groups.contains(group)) => {}
                Some(_) => return Member::No,
            }
        }
        for (path, wanted) in &self.claims {
            match claim_is_one_of(&principal.claims, path, wanted) {
                Some(true) => {}
                Some(false) => return Member::No,
                None => unknown = unknown.or_else(|| Some(path.clone())),
            }
        }
        unknown.map_or(Member::Yes, Member::Unknown)
    }
}

/// Whether the claim at `path` is, or holds, one of `wanted`; `None` when it is missing, ambiguous or of another type.
fn claim_is_one_of(claims: &Map<String, Value>, path: &str, wanted: &[Value]) -> Option<bool> {
    match claim(claims, path)? {
        Value::Array(values) => {
            if values.iter().any(|value| wanted.contains(value)) {
                return Some(true);
            }
            values.iter().all(|value| comparable(value, wanted)).then_some(false)
        }
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            if wanted.contains(value) {
                Some(true)
            } else {
                comparable(value, wanted).then_some(false)
            }
        }
    }
}

fn comparable(value: &Value, wanted: &[Value]) -> bool {
    wanted.iter().all(|one| match one {
        Value::String(_) => value.is_string(),
        Value::Number(_) => value.is_number(),
        Value::Bool(_) => value.is_boolean(),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    })
}

/// The claim at a dotted path: a claim of that whole name, or a descent through objects. `None` when it is missing, or
/// when both readings exist and differ. A path that begins with `/` is a JSON Pointer (RFC 6901), for names with dots:
/// `/kubernetes.io/namespace`.
pub fn claim<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(pointer) = path.strip_prefix('/') {
        let (first, rest) = pointer.split_at(pointer.find('/').unwrap_or(pointer.len()));
        return claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest);
    }
    let whole = claims.get(path);
    if !path.contains('.') {
        return whole;
    }
    let mut steps = path.split('.');
    let first = steps.next().and_then(|step| claims.get(step));
    let descended =
        steps.fold(first, |value, step| value.and_then(Value::as_object).and_then(|map| map.get(step)));
    match (whole, descended) {
        (Some(one), Some(other)) if one != other => None,
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn principal(claims: Value, groups: Option<&[&str]>) -> Principal {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        Principal {
            issuer: "corp".into(),
            issuer_url: "https://id.example.com".into(),
            subject: "s".into(),
            groups: groups.map(|groups| groups.iter().map(ToString::to_string).collect()),
            person: None,
            claims,
            kept: Vec::new(),
            token_thumbprint: String::new(),
            token_id: None,
            issued_at_s: 0,
            expires_at_s: 0,
        }
    }

    fn group(any: Vec<Match>) -> Group {
        Group { name: "g".into(), place: Place::built_in(), any }
    }

    fn entry(groups: Option<&[&str]>, claims: &[(&str, Value)]) -> Match {
        Match {
            issuer: "corp".into(),
            groups: groups.map(|groups| groups.iter().map(ToString::to_string).collect()),
            claims: claims.iter().map(|(path, value)| ((*path).to_owned(), vec![value.clone()])).collect(),
        }
    }

    #[test]
    fn one_of_the_groups_suffices() {
        let group = group(vec![entry(Some(&["bi", "data-science"]), &[])]);
        assert_eq!(group.member(&principal(json!({}), Some(&["x", "bi"]))), Member::Yes);
        assert_eq!(group.member(&principal(json!({}), Some(&["x"]))), Member::No);
    }

    #[test]
    fn another_issuer_is_never_in() {
        let mut one = entry(None, &[]);
        one.issuer = "other".into();
        assert_eq!(group(vec![one]).member(&principal(json!({}), Some(&["bi"]))), Member::No);
    }

    #[test]
    fn missing_groups_are_unknown_unless_another_claim_says_no() {
        let group = group(vec![entry(Some(&["bi"]), &[("env", json!("prod"))])]);
        assert_eq!(group.member(&principal(json!({"env": "prod"}), None)), Member::Unknown("groups".into()));
        assert_eq!(group.member(&principal(json!({"env": "dev"}), None)), Member::No);
        assert_eq!(group.member(&principal(json!({}), Some(&["bi"]))), Member::Unknown("env".into()));
    }

    #[test]
    fn claim_paths_descend_and_refuse_two_readings() {
        let claims = json!({"act": {"sub": "agent-1"}, "https://x.y/z": 1, "a.b": 1, "a": {"b": 2}});
        let Value::Object(claims) = claims else { panic!("an object") };
        assert_eq!(claim(&claims, "act.sub"), Some(&json!("agent-1")));
        assert_eq!(claim(&claims, "https://x.y/z"), Some(&json!(1)));
        assert_eq!(claim(&claims, "a.b"), None);
        assert_eq!(claim(&claims, "act.nothing"), None);
    }

    #[test]
    fn a_path_that_begins_with_a_slash_is_a_json_pointer() {
        let claims = json!({"kubernetes.io": {"pod": {"name": "p"}}, "a/b": 1, "plain": 2});
        let Value::Object(claims) = claims else { panic!("an object") };
        assert_eq!(claim(&claims, "/kubernetes.io/pod/name"), Some(&json!("p")));
        assert_eq!(claim(&claims, "/a~1b"), Some(&json!(1)));
        assert_eq!(claim(&claims, "/plain"), Some(&json!(2)));
        for missing in ["/", "/plain/x", "/kubernetes.io/pod/x", "/nothing"] {
            assert_eq!(claim(&claims, missing), None, "{missing}");
        }
    }

    #[test]
    fn types_do_not_mix() {
        let wants_text = group(vec![entry(None, &[("id", json!("4711"))])]);
        assert_eq!(wants_text.member(&principal(json!({"id": 4711}), None)), Member::Unknown("id".into()));
        assert_eq!(wants_text.member(&principal(json!({"id": ["1", "4711"]}), None)), Member::Yes);
        assert_eq!(wants_text.member(&principal(json!({"id": ["1"]}), None)), Member::No);
    }
}

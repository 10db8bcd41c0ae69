//! Whether two verified identities are the same human.
//!
//! Owns: the comparison, with what `[[person]]` says. May not: guess. Fails closed: where nothing tells, the answer is
//! [`Same::Unknown`], and nobody counts it as different.

use std::collections::HashSet;

use pgturnstile_rules::policy::Principal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The key of `[[person]]` that means a verified e-mail address, whichever issuer verified it.
const EMAIL: &str = "email";

/// What the configuration says of people.
#[derive(Clone, Debug, Default)]
pub struct People {
    /// `[[person]]`: each a list of issuer (or `email`) and value.
    persons: Vec<Vec<(String, String)>>,
    /// Issuers whose tokens name a person.
    with_person: HashSet<String>,
}

/// Who stands behind a verified token, as far as it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Human {
    issuer: String,
    subject: String,
    person: Option<String>,
    email: Option<String>,
}

/// Whether two are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// They are.
    Same,
    /// They are not.
    Different,
    /// Nothing tells.
    Unknown,
}

impl Human {
    /// Of a verified token. An e-mail counts only where the issuer has verified it.
    #[must_use]
    pub fn of(principal: &Principal) -> Self {
        let verified = match principal.claims.get("email_verified") {
            Some(Value::Bool(verified)) => *verified,
            // Cognito writes the boolean as text.
            Some(Value::String(text)) => text == "true",
            Some(Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => false,
        };
        let email = principal.claims.get(EMAIL).and_then(Value::as_str).filter(|email| !email.is_empty());
        Self {
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            person: principal.person.clone(),
            email: email.filter(|_| verified).map(str::to_owned),
        }
    }

    /// As people call it: the person where one is named, else the subject.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.issuer, self.person.as_ref().unwrap_or(&self.subject))
    }

    fn is(&self, issuer: &str, value: &str) -> bool {
        let by_issuer = self.issuer == issuer && self.person.as_deref() == Some(value);
        by_issuer || issuer == EMAIL && self.email.as_deref() == Some(value)
    }
}

impl People {
    /// By `[[person]]`, and the issuers that have a `person` claim.
    pub fn new<'p>(
        persons: impl Iterator<Item = &'p [(String, String)]>,
        with_person: impl Iterator<Item = &'p str>,
    ) -> Self {
        Self {
            persons: persons.map(<[_]>::to_vec).collect(),
            with_person: with_person.map(str::to_owned).collect(),
        }
    }

    /// Whether they are the same human.
    #[must_use]
    pub fn same(&self, one: &Human, other: &Human) -> Same {
        if one.issuer == other.issuer && one.subject == other.subject {
            return Same::Same;
        }
        if one.email.is_some() && one.email == other.email {
            return Same::Same;
        }
        if let (Some(one), Some(other)) = (self.entry(one), self.entry(other)) {
            return if one == other { Same::Same } else { Same::Different };
        }
        if one.issuer != other.issuer {
            return Same::Unknown;
        }
        match (&one.person, &other.person) {
            (Some(one), Some(other)) if one == other => Same::Same,
            (Some(_), Some(_)) => Same::Different,
            // The issuer knows subjects only.
            (None, None) if !self.with_person.contains(&one.issuer) => Same::Different,
            (Some(_) | None, None) | (None, Some(_)) => Same::Unknown,
        }
    }

    fn entry(&self, human: &Human) -> Option<usize> {
        let names =
            |person: &Vec<(String, String)>| person.iter().any(|(issuer, value)| human.is(issuer, value));
        self.persons.iter().position(names)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::approval) fn human(issuer: &str, subject: &str, person: Option<&str>) -> Human {
        Human {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            person: person.map(str::to_owned),
            email: None,
        }
    }

    /// Issuers `corp` and `github` name people, `machines` does not.
    pub(in crate::approval) fn people(persons: &[&[(&str, &str)]]) -> People {
        let owned: Vec<Vec<(String, String)>> = persons
            .iter()
            .map(|person| {
                person.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
            })
            .collect();
        People::new(owned.iter().map(Vec::as_slice), ["corp", "github"].into_iter())
    }

    #[test]
    fn a_person_behind_several_subjects_is_one() {
        let people = people(&[]);
        let kim = human("corp", "kim", Some("kim@e.x"));
        let agent = human("corp", "agent-7", Some("kim@e.x"));
        let lee = human("corp", "lee", Some("lee@e.x"));
        let nameless = human("corp", "agent-8", None);
        assert_eq!(people.same(&kim, &agent), Same::Same);
        assert_eq!(people.same(&kim, &lee), Same::Different);
        assert_eq!(people.same(&kim, &nameless), Same::Unknown);
        assert_eq!(people.same(&nameless, &human("corp", "agent-9", None)), Same::Unknown);
        assert_eq!(people.same(&nameless, &nameless), Same::Same);
        let (one, other) = (human("machines", "a", None), human("machines", "b", None));
        assert_eq!(people.same(&one, &other), Same::Different, "that issuer knows subjects only");
    }

    #[test]
    fn across_issuers_only_what_is_written_tells() {
        let kim = human("corp", "kim", Some("kim@e.x"));
        let runner = human("github", "repo:acme/crm", Some("583231"));
        let other = human("github", "repo:acme/crm2", Some("99"));
        assert_eq!(people(&[]).same(&kim, &runner), Same::Unknown);
        let people = people(&[
            &[("corp", "kim@e.x"), ("github", "583231")],
            &[("email", "lee@e.x"), ("github", "99")],
        ]);
        assert_eq!(people.same(&kim, &runner), Same::Same);
        assert_eq!(people.same(&kim, &other), Same::Different);
        let lee = Human { email: Some("lee@e.x".to_owned()), ..human("machines", "lee", None) };
        assert_eq!(people.same(&lee, &other), Same::Same);
        assert_eq!(people.same(&lee, &human("github", "x", Some("1"))), Same::Unknown);
        let same_mail = Human { email: Some("lee@e.x".to_owned()), ..human("corp", "lee", None) };
        assert_eq!(people.same(&lee, &same_mail), Same::Same);
    }

    #[test]
    fn an_email_counts_where_it_is_verified() {
        let of = |claims: Value| {
            let Value::Object(claims) = claims else { panic!("an object") };
            let principal = Principal {
                issuer: "corp".into(),
                issuer_url: String::new(),
                subject: "s".into(),
                groups: None,
                person: None,
                claims,
                kept: Vec::new(),
                token_thumbprint: String::new(),
                token_id: None,
                issued_at_s: 0,
                expires_at_s: 0,
            };
            Human::of(&principal).email
        };
        use serde_json::json;
        assert_eq!(of(json!({"email": "k@e.x", "email_verified": true})), Some("k@e.x".to_owned()));
        assert_eq!(of(json!({"email": "k@e.x", "email_verified": "true"})), Some("k@e.x".to_owned()));
        for none in [json!({"email": "k@e.x"}), json!({"email": "k@e.x", "email_verified": 1}), json!({})] {
            assert_eq!(of(none.clone()), None, "{none}");
        }
    }
}

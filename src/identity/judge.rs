//! Our own checks of claims whose signature holds, and the principal made of them.
//!
//! Owns: what openidconnect leaves out: `azp`, `nbf`, the age since `iat`, one clock skew for both directions, the form
//! of `sub`, groups and person. May not: be called before the signature is verified, but for [`audiences`],
//! [`subject`] and [`Times`], which only look at form.

use pgturnstile_rules::policy::principal::Principal;
use serde_json::{Map, Value};

use super::denied::{Denied, Reason};
use super::limits::{AUDIENCES_MAX, SUBJECT_BYTES_MAX};
use super::settings::IssuerSettings;
use super::token::Token;

/// `aud`: one text or a list of texts (RFC 7519 section 4.1.3), never empty.
pub(super) fn audiences(claims: &Map<String, Value>) -> Result<Vec<&str>, Reason> {
    let list = match claims.get("aud") {
        None => return Err(Reason::Missing("aud")),
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(list)) if list.len() <= AUDIENCES_MAX => {
            list.iter().map(Value::as_str).collect::<Option<Vec<_>>>().ok_or(Reason::BadClaim("aud"))?
        }
        Some(Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            return Err(Reason::BadClaim("aud"));
        }
    };
    if list.is_empty() || list.iter().any(|audience| audience.is_empty()) {
        return Err(Reason::BadClaim("aud"));
    }
    Ok(list)
}

/// The three times of a token, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) issued_at_s: i64,
    pub(super) expires_at_s: i64,
    not_before_s: Option<i64>,
}

impl Times {
    /// Reads `iat`, `exp` and `nbf`; the first two must be there.
    pub(super) fn read(claims: &Map<String, Value>) -> Result<Times, Reason> {
        let time =
            |name| claims.get(name).map(|value| seconds(value).ok_or(Reason::BadClaim(name))).transpose();
        let times = Times {
            issued_at_s: time("iat")?.ok_or(Reason::Missing("iat"))?,
            expires_at_s: time("exp")?.ok_or(Reason::Missing("exp"))?,
            not_before_s: time("nbf")?,
        };
        if times.expires_at_s <= times.issued_at_s {
            return Err(Reason::BadClaim("exp"));
        }
        Ok(times)
    }

    /// Judges them against the clock. The skew works for the token in every comparison.
    pub(super) fn check(&self, settings: &IssuerSettings, now_s: i64) -> Result<(), Reason> {
        let skew_s = i64::from(settings.clock_skew_s);
        let age_s_max = i64::from(settings.token_age_s_max);
        if now_s >= self.expires_at_s.saturating_add(skew_s) {
            return Err(Reason::Expired { since_s: now_s.saturating_sub(self.expires_at_s) });
        }
        if let Some(not_before_s) = self.not_before_s
            && now_s.saturating_add(skew_s) < not_before_s
        {
            return Err(Reason::NotYetValid { in_s: not_before_s.saturating_sub(now_s) });
        }
        if now_s.saturating_add(skew_s) < self.issued_at_s {
            return Err(Reason::IssuedInFuture { in_s: self.issued_at_s.saturating_sub(now_s) });
        }
        let age_s = now_s.saturating_sub(self.issued_at_s);
        if age_s > age_s_max.saturating_add(skew_s) {
            return Err(Reason::TooOld { age_s, age_s_max: settings.token_age_s_max });
        }
        Ok(())
    }
}

/// RFC 7519's NumericDate: a number, perhaps with a fraction, which is cut off downwards as openidconnect does. A bound
/// of ±2^53 keeps every one exact.
fn seconds(value: &Value) -> Option<i64> {
    const EXACT: i64 = 1 << 53;
    let whole = match value.as_i64() {
        Some(whole) => whole,
        None => {
            let floor = value.as_f64()?.floor();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "within the exact range"
            )]
            if floor.is_finite() && floor.abs() <= EXACT as f64 { floor as i64 } else { return None }
        }
    };
    (0..=EXACT).contains(&whole).then_some(whole)
}

/// A verified token's principal. The signature, the issuer and the times have been checked.
pub(super) fn principal(
    settings: &IssuerSettings,
    token: &Token<'_>,
    times: &Times,
) -> Result<Principal, Denied> {
    check_parties(settings, &token.claims)?;
    let claims = &token.claims;
    let subject = subject(claims).map_err(Denied::new)?;
    let token_id = optional_text(claims, "jti").map_err(Denied::new)?;
    Ok(Principal {
        issuer: settings.name.clone(),
        issuer_url: settings.issuer.clone(),
        subject: subject.to_owned(),
        groups: settings.groups.as_ref().and_then(|path| path.groups(claims)),
        person: settings.person.as_ref().and_then(|path| path.person(claims)),
        claims: claims.clone(),
        kept: settings
            .keep
            .iter()
            .filter_map(|path| path.find(claims).map(|value| (path.as_str().to_owned(), value.clone())))
            .collect(),
        token_thumbprint: token.thumbprint.clone(),
        token_id: token_id.map(str::to_owned),
        issued_at_s: times.issued_at_s,
        expires_at_s: times.expires_at_s,
    })
}

/// `aud` and `azp` (OpenID Connect Core 1.0, section 3.1.3.7, steps 3 to 5), and no `nonce`.
fn check_parties(settings: &IssuerSettings, claims: &Map<String, Value>) -> Result<(), Denied> {
    let list = audiences(claims).map_err(Denied::new)?;
    let ours = |audience: &str| settings.audiences.iter().any(|configured| configured == audience);
    if !list.iter().any(|audience| ours(audience)) {
        return Err(Denied::new(Reason::Audience).expecting(settings.audiences.join(", ")));
    }
    let trusted = |audience: &str| settings.trusted_audiences.iter().any(|configured| configured == audience);
    if !list.iter().all(|audience| ours(audience) || trusted(audience)) {
        let expected =
            [settings.audiences.join(", "), settings.trusted_audiences.join(", ")].join("; trusted: ");
        return Err(Denied::new(Reason::ForeignAudience).expecting(expected));
    }
    let party = optional_text(claims, "azp").map_err(Denied::new)?;
    let several = list.len() > 1;
    let accepted = if settings.authorized_parties.is_empty() {
        &settings.audiences
    } else {
        &settings.authorized_parties
    };
    // Where nothing is configured and there is one audience, azp names some client of the issuer's (Google writes a
    // service account's number) and says nothing about us.
    if several || !settings.authorized_parties.is_empty() {
        let known = party.is_some_and(|party| accepted.iter().any(|configured| configured == party));
        if !known {
            return Err(Denied::new(Reason::AuthorizedParty).expecting(accepted.join(", ")));
        }
    }
    if claims.contains_key("nonce") {
        return Err(Denied::new(Reason::Nonce));
    }
    Ok(())
}

/// `sub`: not empty, bounded, without control characters, which would travel into logs and `application_name`.
pub(super) fn subject(claims: &Map<String, Value>) -> Result<&str, Reason> {
    let subject = optional_text(claims, "sub")?.ok_or(Reason::Missing("sub"))?;
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.chars().any(char::is_control) {
        return Err(Reason::BadClaim("sub"));
    }
    Ok(subject)
}

/// A claim that is text where it is present; null is not absent.
fn optional_text<'c>(claims: &'c Map<String, Value>, name: &'static str) -> Result<Option<&'c str>, Reason> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(Reason::BadClaim(name))
        }
    }
}

//! A token to a principal, or a refusal.
//!
//! Owns: the order of the checks. Its invariant: a [`Principal`] is made only of claims under a signature that a key of
//! the configured issuer made with an algorithm configured for it, for an audience that is ours, within its time; and
//! two readings of the token, openidconnect's and our own, agreed on every claim that decides. May not: believe a
//! claim before the signature but `iss` (to choose whose keys) and `kid` (to choose the key); remember tokens.
//!
//! ```text
//!   form, size ─▶ issuer by iss ─▶ alg, typ allowed ─▶ keys by kid ─▶ openidconnect: signature, iss, aud, exp
//!       ─▶ ours: aud, azp, nonce, exp, nbf, iat, sub ─▶ groups, person, kept claims ─▶ Principal
//! ```
//!
//! What cannot be wiped: openidconnect keeps the signing input in a plain `String` while it verifies; it is freed, not
//! zeroed. Our own decoded copies are zeroed.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openidconnect::core::{
    CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    ClaimsVerificationError, ClientId, EmptyAdditionalClaims, IdToken, IdTokenClaims, IdTokenVerifier,
    IssuerUrl, JsonWebTokenType, Nonce, NormalizedJsonWebTokenType, SignatureVerificationError,
};
use pgturnstile_rules::policy::principal::Principal;
use tokio::runtime::Handle;

use super::cache::{Counters, KeyCache, NoKey, Snapshot};
use super::clock::Clock;
use super::denied::{Denied, Reason};
use super::http::Client;
use super::judge::{self, Times};
use super::limits::FETCH_TIMEOUT;
use super::settings::{IssuerSettings, SettingsError, SetupError};
use super::token::Token;

type VerifiedToken = IdToken<
    EmptyAdditionalClaims,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type VerifiedClaims = IdTokenClaims<EmptyAdditionalClaims, CoreGenderClaim>;

/// Verifies tokens of the configured issuers. Shared by all shards; replaced as a whole on reload.
pub struct Verifier {
    issuers: HashMap<String, Issuer>,
    clock: Clock,
    token_bytes_max: usize,
}

struct Issuer {
    settings: IssuerSettings,
    url: IssuerUrl,
    types: Vec<NormalizedJsonWebTokenType>,
    keys: KeyCache,
}

/// What tests set to their own.
pub(super) struct Time {
    pub(super) clock: Clock,
    /// For one HTTP exchange.
    pub(super) fetch_timeout: Duration,
}

/// How an issuer's keys stand, for health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHealth {
    /// The issuer's configured name.
    pub issuer: String,
    /// Seconds since its keys were last confirmed; `None` when they never were.
    pub age_s: Option<u64>,
    /// Whether they may be believed: confirmed once, and not too long ago.
    pub usable: bool,
    /// Readings of its key source that began.
    pub fetches_total: u64,
    /// Readings that brought no keys.
    pub failures_total: u64,
}

impl Verifier {
    /// Sets issuers up and begins to fetch their keys on `runtime`, which must outlive the shards. Waits for nothing:
    /// an identity provider that is down keeps its own tokens out, not the gateway from starting. `previous` hands its
    /// keys over where an issuer's key source is the same.
    ///
    /// # Errors
    /// Every setting that cannot stand, or root certificates that cannot be read.
    pub fn new(
        issuers: Vec<IssuerSettings>,
        token_bytes_max: usize,
        runtime: &Handle,
        previous: Option<&Verifier>,
    ) -> Result<Verifier, SetupError> {
        let time = Time { clock: Clock::system(), fetch_timeout: FETCH_TIMEOUT };
        Verifier::with_time(issuers, token_bytes_max, runtime, previous, time)
    }

    pub(super) fn with_time(
        issuers: Vec<IssuerSettings>,
        token_bytes_max: usize,
        runtime: &Handle,
        previous: Option<&Verifier>,
        time: Time,
    ) -> Result<Verifier, SetupError> {
        check(&issuers)?;
        let mut by_url = HashMap::with_capacity(issuers.len());
        for settings in issuers {
            let issuer = Issuer::new(settings, runtime, &time)?;
            if let Some(old) = previous.and_then(|old| old.issuers.get(&issuer.settings.issuer)) {
                issuer.keys.inherit(&old.keys);
            }
            by_url.insert(issuer.settings.issuer.clone(), issuer);
        }
        Ok(Verifier { issuers: by_url, clock: time.clock, token_bytes_max })
    }

    /// Verifies a token as it arrived. May wait for a fetch of keys, which is bounded; the fetch itself runs on the
    /// runtime given at set-up. A verification costs below a millisecond of the calling thread.
    ///
    /// # Errors
    /// [`Denied`], with one text for the client and one for the evidence; neither holds anything of the token.
    pub async fn verify(&self, token: &[u8]) -> Result<Principal, Denied> {
        let token = Token::read(token, self.token_bytes_max).map_err(Denied::new)?;
        self.verify_form(&token).await.map_err(|denied| denied.with_thumbprint(&token.thumbprint))
    }

    async fn verify_form(&self, token: &Token<'_>) -> Result<Principal, Denied> {
        let issuer = token
            .claims
            .get("iss")
            .ok_or(Reason::Missing("iss"))
            .and_then(|iss| iss.as_str().ok_or(Reason::BadClaim("iss")))
            .and_then(|iss| self.issuers.get(iss).ok_or(Reason::Issuer))
            .map_err(|reason| Denied::new(reason).expecting(self.issuer_urls()))?;
        issuer.verify(token, &self.clock).await.map_err(|denied| denied.of_issuer(&issuer.settings.name))
    }

    fn issuer_urls(&self) -> String {
        let mut urls: Vec<&str> = self.issuers.keys().map(String::as_str).collect();
        urls.sort_unstable();
        urls.join(", ")
    }

    /// How each issuer's keys stand, by name.
    #[must_use]
    pub fn health(&self) -> Vec<KeyHealth> {
        let mut health: Vec<KeyHealth> = self
            .issuers
            .values()
            .map(|issuer| {
                let counters: &Counters = issuer.keys.counters();
                KeyHealth {
                    issuer: issuer.settings.name.clone(),
                    age_s: issuer.keys.age_s(),
                    usable: issuer.keys.is_usable(),
                    fetches_total: counters.fetches_total(),
                    failures_total: counters.failures_total(),
                }
            })
            .collect();
        health.sort_by(|a, b| a.issuer.cmp(&b.issuer));
        health
    }
}

/// All problems of all issuers, and URLs or names that two of them share: a token's `iss` must lead to one entry.
fn check(issuers: &[IssuerSettings]) -> Result<(), SetupError> {
    let mut problems: Vec<SettingsError> = issuers.iter().flat_map(IssuerSettings::problems).collect();
    for (index, settings) in issuers.iter().enumerate() {
        for earlier in issuers.iter().take(index) {
            for (key, same) in
                [("name", earlier.name == settings.name), ("issuer", earlier.issuer == settings.issuer)]
            {
                if same {
                    let what = "stands in two [[issuer]] entries; join them into one".to_owned();
                    problems.push(SettingsError { issuer: settings.name.clone(), key, what });
                }
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(SetupError::Settings(problems)) }
}

impl Issuer {
    fn new(settings: IssuerSettings, runtime: &Handle, time: &Time) -> Result<Issuer, SetupError> {
        let wrong = |key, what: String| {
            SetupError::Settings(vec![SettingsError { issuer: settings.name.clone(), key, what }])
        };
        let place = settings.place().map_err(|error| SetupError::Settings(vec![error]))?;
        let url = IssuerUrl::new(settings.issuer.clone()).map_err(|why| wrong("issuer", why.to_string()))?;
        let types = settings
            .types
            .iter()
            .map(|typ| {
                JsonWebTokenType::new(typ.clone()).normalize().map_err(|why| wrong("types", why.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let client = Client::new(&settings.ca, settings.loopback_http, time.fetch_timeout)
            .map_err(|source| SetupError::Roots { issuer: settings.name.clone(), source })?;
        let keys =
            KeyCache::new(&settings.name, place, client, settings.timing(), time.clock.clone(), runtime);
        Ok(Issuer { settings, url, types, keys })
    }

    async fn verify(&self, token: &Token<'_>, clock: &Clock) -> Result<Principal, Denied> {
        if !self.settings.algorithms.contains(&token.header.algorithm) {
            let names: Vec<&str> =
                self.settings.algorithms.iter().map(|algorithm| algorithm.name()).collect();
            return Err(Denied::new(Reason::Algorithm).expecting(names.join(", ")));
        }
        if token.header.typ.as_ref().is_some_and(|typ| !self.settings.types.contains(typ)) {
            return Err(Denied::new(Reason::Type).expecting(self.settings.types.join(", ")));
        }
        let snapshot =
            self.keys.for_kid(token.header.kid.as_deref()).await.map_err(|no_key| match no_key {
                NoKey::Unavailable { retry_in_s, cause } => Denied::new(Reason::NoKeys { retry_in_s, cause }),
                NoKey::Unknown { retry_in_s, keys } => Denied::new(Reason::UnknownKey { retry_in_s, keys }),
            })?;
        let now_s = clock.wall_s();
        // Form only, so that a flaw gets its own reason; the library would refuse it without saying why.
        judge::subject(&token.claims).map_err(Denied::new)?;
        let times = Times::read(&token.claims).map_err(Denied::new)?;
        // The library has panics of its own for states that cannot be; one of them costs this login, not the shard.
        let theirs = catch_unwind(AssertUnwindSafe(|| self.second_reading(token, &snapshot, now_s)))
            .unwrap_or(Err(Reason::Internal("openidconnect panicked")))
            .inspect_err(|reason| {
                // The issuer may have put another key under the same id, or use none: the floor bounds the asking.
                if matches!(reason, Reason::Signature) {
                    self.keys.refresh_soon();
                }
            })
            .map_err(Denied::new)?;
        agree(&theirs, token, &times).map_err(Denied::new)?;
        times.check(&self.settings, now_s).map_err(Denied::new)?;
        judge::principal(&self.settings, token, &times)
    }

    /// openidconnect's reading and verification: signature, issuer, audience, expiry, header.
    fn second_reading(
        &self,
        token: &Token<'_>,
        snapshot: &Snapshot,
        now_s: i64,
    ) -> Result<VerifiedClaims, Reason> {
        let audiences = judge::audiences(&token.claims)?;
        // One that the token names, so that the library's single client id can stand for our list; where there is
        // none, ours still decides, behind the signature.
        let ours =
            audiences.iter().find(|audience| self.settings.audiences.iter().any(|ours| ours == *audience));
        let leeway_s = i64::from(self.settings.clock_skew_s);
        let now = moment(now_s.saturating_sub(leeway_s)).ok_or(Reason::Internal("the clock is off"))?;
        let trusted = |audience: &openidconnect::Audience| {
            let audience: &String = audience;
            self.settings.audiences.contains(audience) || self.settings.trusted_audiences.contains(audience)
        };
        let verifier: IdTokenVerifier<'_, CoreJsonWebKey> = IdTokenVerifier::new_public_client(
            ClientId::new(ours.map_or_else(String::new, |audience| (*audience).to_owned())),
            self.url.clone(),
            snapshot.keys.keys().clone(),
        )
        .set_allowed_algs(self.settings.algorithms.iter().map(|algorithm| algorithm.core()))
        .set_allowed_jose_types(self.types.iter().cloned())
        .require_audience_match(ours.is_some())
        .set_other_audience_verifier_fn(trusted)
        .set_time_fn(move || now.into());
        let no_nonce = |nonce: Option<&Nonce>| match nonce {
            None => Ok(()),
            Some(_) => Err("a nonce".to_owned()),
        };
        VerifiedToken::from_str(token.text)
            .map_err(|_| Reason::SecondReading("a standard claim has the wrong type"))?
            .into_claims(&verifier, no_nonce)
            .map_err(|error| reason(&error, token, &self.settings, snapshot, now_s))
    }
}

/// The library's refusal in our words. Its own texts quote the token and are dropped.
fn reason(
    error: &ClaimsVerificationError,
    token: &Token<'_>,
    settings: &IssuerSettings,
    snapshot: &Snapshot,
    now_s: i64,
) -> Reason {
    match error {
        ClaimsVerificationError::Expired(_) => match Times::read(&token.claims) {
            Ok(times) => times.check(settings, now_s).err().unwrap_or(Reason::SecondReading("expired")),
            Err(reason) => reason,
        },
        ClaimsVerificationError::InvalidAudience(_) => Reason::ForeignAudience,
        ClaimsVerificationError::InvalidNonce(_) => Reason::Nonce,
        ClaimsVerificationError::SignatureVerification(error) => match error {
            SignatureVerificationError::AmbiguousKeyId(_) => Reason::AmbiguousKey,
            SignatureVerificationError::CryptoError(_) => Reason::Signature,
            // The named key is there, but of another kind or curve than the algorithm's.
            SignatureVerificationError::NoMatchingKey | SignatureVerificationError::InvalidKey(_) => {
                Reason::UnknownKey { retry_in_s: 0, keys: snapshot.keys.len() }
            }
            SignatureVerificationError::NoSignature => Reason::Unsigned,
            SignatureVerificationError::DisallowedAlg(_) => Reason::Algorithm,
            SignatureVerificationError::UnsupportedAlg(_) => {
                Reason::SecondReading("the algorithm is not supported")
            }
            // The library's enums are open to later variants; what they may be, it is a refusal.
            SignatureVerificationError::Other(_) | _ => {
                Reason::SecondReading("the signature was not verified")
            }
        },
        ClaimsVerificationError::InvalidIssuer(_) => Reason::SecondReading("issuer"),
        ClaimsVerificationError::InvalidSubject(_) => Reason::SecondReading("subject"),
        ClaimsVerificationError::InvalidAuthContext(_) => Reason::SecondReading("acr"),
        ClaimsVerificationError::InvalidAuthTime(_) => Reason::SecondReading("auth_time"),
        ClaimsVerificationError::Unsupported(_) => Reason::SecondReading("a header is not supported"),
        ClaimsVerificationError::Other(_) | _ => Reason::SecondReading("the claims were not verified"),
    }
}

/// Both readings must name the same issuer, subject, audiences and times.
fn agree(theirs: &VerifiedClaims, token: &Token<'_>, times: &Times) -> Result<(), Reason> {
    let text = |name: &str| token.claims.get(name).and_then(serde_json::Value::as_str);
    let audiences = judge::audiences(&token.claims)?;
    let same = text("iss") == Some(theirs.issuer().as_str())
        && text("sub") == Some(theirs.subject().as_str())
        && audiences.iter().copied().eq(theirs.audiences().iter().map(|audience| audience.as_str()))
        && times.expires_at_s == theirs.expiration().timestamp()
        && times.issued_at_s == theirs.issue_time().timestamp();
    if same { Ok(()) } else { Err(Reason::SecondReading("two readings differ")) }
}

/// A moment, for the library: its `DateTime` is made from it without naming chrono here.
fn moment(seconds: i64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

//! Conversations of the verifier with tokens good and bad, and of the key cache with issuers well and ill.

mod algorithms;
mod dev;
mod keys;
mod properties;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use pgturnstile_rules::policy::principal::Principal;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::clock::{Clock, Source};
use super::dev::{DevIdentity, Wish};
use super::verify::Time;
use super::{Denied, IssuerSettings, KeySource, KeyTiming, Verifier};

pub(super) const ISSUER: &str = "https://id.example.com";
pub(super) const AUDIENCE: &str = "pgturnstile";
/// The wall clock of every test.
pub(super) const NOW_S: i64 = 1_800_000_000;

/// Clocks that stand still until a test moves them.
pub(super) struct Hands {
    wall_s: AtomicI64,
    monotonic_ms: AtomicU64,
}

impl Hands {
    pub(super) fn new() -> Arc<Hands> {
        Arc::new(Hands { wall_s: AtomicI64::new(NOW_S), monotonic_ms: AtomicU64::new(1_000_000) })
    }

    pub(super) fn advance_ms(&self, ms: u64) {
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Source for Hands {
    fn wall_s(&self) -> i64 {
        self.wall_s.load(Ordering::SeqCst)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::SeqCst)
    }
}

/// Background refreshes that never come while a test runs: its own calls decide.
pub(super) const TIMING: KeyTiming =
    KeyTiming { refresh_ms: 3_600_000, floor_ms: 10_000, stale_ms_max: 7_200_000 };

/// A verifier of one issuer whose keys lie in a file.
pub(super) struct Bench {
    pub(super) identity: DevIdentity,
    pub(super) verifier: Verifier,
    pub(super) hands: Arc<Hands>,
    pub(super) keys: PathBuf,
    /// Removed with the bench.
    #[expect(dead_code, reason = "held for its drop")]
    folder: TempDir,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut IssuerSettings)) -> Bench {
        let identity = DevIdentity::in_memory(ISSUER, AUDIENCE).expect("an identity");
        let keys = identity.key_set().expect("a key set");
        Bench::of(identity, &keys, change)
    }

    pub(super) fn of(
        identity: DevIdentity,
        key_set: &Value,
        change: impl FnOnce(&mut IssuerSettings),
    ) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("jwks.json");
        std::fs::write(&keys, key_set.to_string()).expect("a key file");
        let mut settings = settings(KeySource::File(keys.clone()));
        change(&mut settings);
        let hands = Hands::new();
        let verifier = verifier(settings, &hands, None);
        Bench { identity, verifier, hands, keys, folder }
    }

    pub(super) async fn verify(&self, token: &SecretString) -> Result<Principal, Denied> {
        self.verifier.verify(token.expose_secret().as_bytes()).await
    }

    /// The refusal's kind of a token with these claims, or `ok`.
    pub(super) async fn kind(&self, claims: &Value) -> &'static str {
        let header = header(&self.identity);
        kind(&self.verify(&self.identity.sign(&header, claims).expect("a token")).await)
    }
}

pub(super) fn kind(outcome: &Result<Principal, Denied>) -> &'static str {
    outcome.as_ref().map_or_else(Denied::kind, |_| "ok")
}

pub(super) fn settings(jwks: KeySource) -> IssuerSettings {
    let mut settings = IssuerSettings::new("corp", ISSUER, &[AUDIENCE]);
    settings.jwks = jwks;
    settings.timing = Some(TIMING);
    settings
}

pub(super) fn verifier(
    settings: IssuerSettings,
    hands: &Arc<Hands>,
    previous: Option<&Verifier>,
) -> Verifier {
    Verifier::with_time(vec![settings], 65_536, &Handle::current(), previous, time(hands))
        .expect("a verifier")
}

/// The test's clocks, and a patience that a busy machine does not exhaust.
pub(super) fn time(hands: &Arc<Hands>) -> Time {
    let clock = Clock::of(Arc::clone(hands) as Arc<dyn Source>);
    Time { clock, fetch_timeout: Duration::from_secs(300) }
}

pub(super) fn header(identity: &DevIdentity) -> Value {
    json!({ "alg": "ES256", "typ": "JWT", "kid": identity.state.kid })
}

/// Claims that nothing is wrong with.
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "agent-7", "aud": AUDIENCE, "iat": NOW_S - 10, "exp": NOW_S + 300, "jti": "j1",
        "groups": ["bi", "eu"], "email": "kim@example.com", "email_verified": true,
        "act": { "sub": "planner" }, "agent": { "model": "m", "version": 3 },
    })
}

pub(super) fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().expect("claims").remove(name);
    claims
}

pub(super) fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

pub(super) fn wish() -> Wish {
    Wish { subject: "agent-7".to_owned(), groups: vec!["bi".to_owned()], ttl_s: 300, ..Wish::default() }
}

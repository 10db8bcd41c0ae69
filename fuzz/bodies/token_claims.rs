//! Body of `token_claims`: any bytes where a token is expected, and any header and claims under a valid signature.
//!
//! Bytes that begin with `{` are a header, a line feed and claims, which the body signs with the issuer's key: what a
//! broken or hostile issuer could send past the signature. All others are the password field itself.
//!
//! Promises held: nothing panics, not even inside the fence around openidconnect; bytes without the key's signature are
//! refused; a principal has a subject, an audience of ours, times in order and a bounded list of groups; a refusal says
//! why to the client and to the evidence, and holds nothing of the token.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is a finding")]

use std::sync::{Mutex, OnceLock};

use pgturnstile::identity::dev::DevIdentity;
use pgturnstile::identity::{Denied, IssuerSettings, KeySource, Verifier, bearer, limits::GROUPS_MAX};
use pgturnstile_rules::policy::principal::Principal;
use secrecy::ExposeSecret as _;
use tokio::runtime::Runtime;

const ISSUER: &str = "https://id.example.com";
const AUDIENCE: &str = "pgturnstile";

/// Made once: a key costs more than an input.
struct Rig {
    runtime: Runtime,
    identity: DevIdentity,
    verifier: Verifier,
}

fn rig() -> &'static Mutex<Rig> {
    static RIG: OnceLock<Mutex<Rig>> = OnceLock::new();
    RIG.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let identity = DevIdentity::in_memory(ISSUER, AUDIENCE).expect("an identity");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, identity.key_set().expect("a key set").to_string()).expect("a key file");
        let mut settings = IssuerSettings::new("corp", ISSUER, &[AUDIENCE]);
        settings.jwks = KeySource::File(file);
        // The seeds are of 2020 and live until 2100.
        settings.token_age_s_max = u32::MAX;
        settings.person = Some("email".parse().expect("a path"));
        settings.keep = vec!["act.sub".parse().expect("a path")];
        let verifier = Verifier::new(vec![settings], 65_536, runtime.handle(), None).expect("a verifier");
        // Reads the key file while the folder still exists.
        let denied = runtime.block_on(verifier.verify(good(&identity).as_bytes()));
        assert!(denied.is_ok(), "{denied:?}");
        Mutex::new(Rig { runtime, identity, verifier })
    })
}

fn good(identity: &DevIdentity) -> String {
    let header = serde_json::json!({ "alg": "ES256", "kid": identity.state.kid });
    let claims = serde_json::json!({
        "iss": ISSUER, "sub": "a", "aud": AUDIENCE, "iat": 1_600_000_000, "exp": 4_102_444_800_i64,
    });
    identity.sign(&header, &claims).expect("a token").expose_secret().to_owned()
}

/// Runs every promise against `data`.
pub fn run(data: &[u8]) {
    let rig = rig().lock().expect("no earlier input panicked");
    if data.first() == Some(&b'{') {
        let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
        let (header, claims) = (&data[..end], data.get(end + 1..).unwrap_or_default());
        let token = rig.identity.sign_bytes(header, claims).expect("a token");
        match rig.runtime.block_on(rig.verifier.verify(token.expose_secret().as_bytes())) {
            Ok(principal) => sound(&principal),
            Err(denied) => silent(&denied, token.expose_secret().as_bytes()),
        }
    } else {
        // OAUTHBEARER's message is read before its token is: what it takes for a credential is a part of it.
        if let Ok(bearer::Asked::Session(token)) = bearer::read(data) {
            assert!(!token.contains(&bearer::SEPARATOR) && token.len() < data.len());
        }
        match rig.runtime.block_on(rig.verifier.verify(data)) {
            Ok(principal) => panic!("nobody signed this: {principal:?}"),
            Err(denied) => silent(&denied, data),
        }
    }
}

fn sound(principal: &Principal) {
    assert_eq!((principal.issuer.as_str(), principal.issuer_url.as_str()), ("corp", ISSUER));
    assert!(!principal.subject.is_empty() && !principal.subject.chars().any(char::is_control));
    assert!(principal.issued_at_s < principal.expires_at_s);
    let audience = principal.claims.get("aud").expect("an audience");
    let ours = |it: &serde_json::Value| it == AUDIENCE;
    assert!(ours(audience) || audience.as_array().is_some_and(|list| list.iter().any(ours)));
    assert!(principal.groups.as_ref().is_none_or(|groups| groups.len() <= GROUPS_MAX));
    assert!(principal.person.as_ref().is_none_or(|person| !person.is_empty()));
    assert_eq!(principal.token_thumbprint.len(), 32);
    assert!(!principal.claims.contains_key("nonce"));
}

fn silent(denied: &Denied, token: &[u8]) {
    assert_ne!(denied.kind(), "internal", "{denied:?}");
    let all = format!("{} {} {denied} {denied:?}", denied.client_text(), denied.exact());
    assert!(denied.client_text().starts_with("pgturnstile: login refused: "));
    assert!(all.is_ascii());
    // No word of our own texts is this long, but for the thumbprint and the issuer's URL.
    let own = [denied.token_thumbprint().unwrap_or_default(), ISSUER].concat();
    for piece in token.split(|byte| !byte.is_ascii_alphanumeric() && !b"-_".contains(byte)) {
        let piece = std::str::from_utf8(piece).expect("ASCII");
        assert!(piece.len() < 24 || own.contains(piece) || !all.contains(piece), "{piece}: {all}");
    }
}

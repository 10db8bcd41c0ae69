//! One good token, and every way to be a bad one.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::identity::{Flaw, Part, Reason};

#[tokio::test]
async fn a_good_token_becomes_its_principal() {
    let bench = Bench::with(|it| {
        it.person = Some("email".parse().expect("a path"));
        it.keep = ["email", "act.sub", "agent.model", "agent.none", "/agent/version"]
            .map(|path| path.parse().expect("a path"))
            .into();
    });
    let token = bench.identity.sign(&header(&bench.identity), &claims()).expect("a token");
    let principal = bench.verify(&token).await.expect("a principal");
    assert_eq!(principal.issuer, "corp");
    assert_eq!(principal.issuer_url, ISSUER);
    assert_eq!(principal.subject, "agent-7");
    assert_eq!(principal.groups.as_deref(), Some(&["bi".to_owned(), "eu".to_owned()][..]));
    assert_eq!(principal.person.as_deref(), Some("kim@example.com"));
    assert_eq!(Value::Object(principal.claims.clone()), claims());
    let kept: Vec<(&str, &Value)> =
        principal.kept.iter().map(|(path, value)| (path.as_str(), value)).collect();
    assert_eq!(
        kept,
        [
            ("email", &json!("kim@example.com")),
            ("act.sub", &json!("planner")),
            ("agent.model", &json!("m")),
            ("/agent/version", &json!(3)),
        ]
    );
    let hash = blake3::hash(token.expose_secret().as_bytes()).to_hex();
    assert_eq!(principal.token_thumbprint, hash[..32]);
    assert_eq!(principal.token_id.as_deref(), Some("j1"));
    assert_eq!((principal.issued_at_s, principal.expires_at_s), (NOW_S - 10, NOW_S + 300));
}

#[tokio::test]
async fn claims_are_judged() {
    let bench = Bench::new();
    let skew = 30;
    let table: Vec<(&str, Value)> = vec![
        ("ok", claims()),
        ("missing_claim", without(claims(), "iss")),
        ("bad_claim", with(claims(), "iss", 7)),
        ("bad_claim", with(claims(), "iss", Value::Null)),
        ("issuer", with(claims(), "iss", "https://evil.example.com")),
        ("issuer", with(claims(), "iss", "https://id.example.com/")),
        ("issuer", with(claims(), "iss", "HTTPS://id.example.com")),
        ("issuer", with(claims(), "iss", "")),
        ("missing_claim", without(claims(), "aud")),
        ("bad_claim", with(claims(), "aud", json!([]))),
        ("bad_claim", with(claims(), "aud", json!([7]))),
        ("bad_claim", with(claims(), "aud", "")),
        ("bad_claim", with(claims(), "aud", vec!["x"; 33])),
        ("audience", with(claims(), "aud", "other")),
        ("audience", with(claims(), "aud", "PGTURNSTILE")),
        ("audience", with(claims(), "aud", json!(["other", "third"]))),
        ("ok", with(claims(), "aud", json!([AUDIENCE]))),
        ("foreign_audience", with(claims(), "aud", json!([AUDIENCE, "other"]))),
        ("nonce", with(claims(), "nonce", "n")),
        ("missing_claim", without(claims(), "exp")),
        ("missing_claim", without(claims(), "iat")),
        ("bad_claim", with(claims(), "exp", "1800000300")),
        ("bad_claim", with(claims(), "exp", "2027-01-15T08:05:00Z")),
        ("bad_claim", with(claims(), "exp", Value::Null)),
        ("bad_claim", with(claims(), "exp", u64::MAX)),
        ("bad_claim", with(claims(), "exp", 1e300)),
        ("bad_claim", with(claims(), "exp", -1)),
        ("ok", with(claims(), "exp", NOW_S as f64 + 300.5)),
        ("ok", with(with(claims(), "iat", NOW_S - 100), "exp", NOW_S - skew + 1)),
        ("expired", with(with(claims(), "iat", NOW_S - 100), "exp", NOW_S - skew)),
        ("expired", with(with(claims(), "iat", NOW_S - 100), "exp", NOW_S - 90)),
        ("bad_claim", with(claims(), "exp", NOW_S - 10)),
        ("ok", with(claims(), "nbf", NOW_S + skew)),
        ("not_yet_valid", with(claims(), "nbf", NOW_S + skew + 1)),
        ("bad_claim", with(claims(), "nbf", "soon")),
        ("ok", with(claims(), "iat", NOW_S + skew)),
        ("issued_in_future", with(claims(), "iat", NOW_S + skew + 1)),
        ("ok", with(claims(), "iat", NOW_S - 86_400 - skew)),
        ("too_old", with(claims(), "iat", NOW_S - 86_400 - skew - 1)),
        ("missing_claim", without(claims(), "sub")),
        ("bad_claim", with(claims(), "sub", "")),
        ("bad_claim", with(claims(), "sub", "a\nb")),
        ("bad_claim", with(claims(), "sub", "a\u{0}b")),
        ("bad_claim", with(claims(), "sub", "s".repeat(1_025))),
        ("bad_claim", with(claims(), "sub", 7)),
        ("bad_claim", with(claims(), "jti", 7)),
        ("bad_claim", with(claims(), "jti", Value::Null)),
        ("second_reading", with(claims(), "azp", 7)),
        // The library's typed claims are wide enough for what issuers really write.
        ("ok", with(claims(), "email_verified", "true")),
        ("ok", with(claims(), "updated_at", "2026-11-20T22:00:00Z")),
        ("ok", with(claims(), "azp", "some-client")),
    ];
    for (expected, claims) in table {
        assert_eq!(bench.kind(&claims).await, expected, "{claims}");
    }
}

#[tokio::test]
async fn times_say_by_how_much() {
    let bench = Bench::new();
    let outcome = async |claims: Value| {
        let token = bench.identity.sign(&header(&bench.identity), &claims).expect("a token");
        bench.verify(&token).await.expect_err("a refusal").reason().clone()
    };
    let expired = with(with(claims(), "iat", NOW_S - 100), "exp", NOW_S - 90);
    assert_eq!(outcome(expired).await, Reason::Expired { since_s: 90 });
    assert_eq!(outcome(with(claims(), "nbf", NOW_S + 70)).await, Reason::NotYetValid { in_s: 70 });
    assert_eq!(outcome(with(claims(), "iat", NOW_S + 70)).await, Reason::IssuedInFuture { in_s: 70 });
    let old = outcome(with(claims(), "iat", NOW_S - 90_000)).await;
    assert_eq!(old, Reason::TooOld { age_s: 90_000, age_s_max: 86_400 });
}

#[tokio::test]
async fn azp_decides_where_there_are_several_audiences_or_parties_are_configured() {
    let several = || with(claims(), "aud", json!([AUDIENCE, "api"]));
    let bench = Bench::with(|it| it.trusted_audiences = vec!["api".to_owned()]);
    assert_eq!(bench.kind(&several()).await, "authorized_party");
    assert_eq!(bench.kind(&with(several(), "azp", "other")).await, "authorized_party");
    assert_eq!(bench.kind(&with(several(), "azp", "api")).await, "authorized_party");
    assert_eq!(bench.kind(&with(several(), "azp", AUDIENCE)).await, "ok");
    // The other audience alone is not ours.
    assert_eq!(bench.kind(&with(claims(), "aud", "api")).await, "audience");

    let bench = Bench::with(|it| it.authorized_parties = vec!["ci".to_owned()]);
    assert_eq!(bench.kind(&claims()).await, "authorized_party");
    assert_eq!(bench.kind(&with(claims(), "azp", AUDIENCE)).await, "authorized_party");
    assert_eq!(bench.kind(&with(claims(), "azp", "ci")).await, "ok");
}

#[tokio::test]
async fn headers_are_judged() {
    let bench = Bench::new();
    let good = header(&bench.identity);
    let table: Vec<(&str, Value)> = vec![
        ("ok", good.clone()),
        ("ok", without(good.clone(), "typ")),
        ("ok", with(good.clone(), "typ", "application/jwt")),
        ("type", with(good.clone(), "typ", "at+jwt")),
        ("type", with(good.clone(), "typ", "logout+jwt")),
        ("malformed", with(good.clone(), "typ", 7)),
        ("malformed", with(good.clone(), "typ", Value::Null)),
        // One key in the set: a token without kid may be its own.
        ("ok", without(good.clone(), "kid")),
        ("unknown_key", with(good.clone(), "kid", "unknown")),
        ("unknown_key", with(good.clone(), "kid", "")),
        ("malformed", with(good.clone(), "kid", Value::Null)),
        ("malformed", with(good.clone(), "kid", "k".repeat(513))),
        ("extension", with(good.clone(), "crit", json!(["exp"]))),
        ("extension", with(good.clone(), "crit", Value::Null)),
        ("extension", with(good.clone(), "b64", false)),
        ("extension", with(good.clone(), "zip", "DEF")),
        ("nested", with(good.clone(), "cty", "JWT")),
        ("encrypted", with(good.clone(), "enc", "A256GCM")),
        ("malformed", without(good.clone(), "alg")),
        ("malformed", with(good.clone(), "alg", json!(["ES256"]))),
        ("unsigned", with(good.clone(), "alg", "none")),
        ("unsigned", with(good.clone(), "alg", "nOnE")),
        ("symmetric", with(good.clone(), "alg", "HS256")),
        ("symmetric", with(good.clone(), "alg", "hs384")),
        ("algorithm", with(good.clone(), "alg", "es256")),
        ("algorithm", with(good.clone(), "alg", "ES512")),
        ("algorithm", with(good.clone(), "alg", "EdDSA")),
        ("algorithm", with(good.clone(), "alg", "")),
        ("algorithm", with(good.clone(), "alg", "\u{00e9}\u{00e9}")),
        // Allowed for the issuer, but the key is an EC key.
        ("unknown_key", with(good.clone(), "alg", "RS256")),
        // A key that comes along with the token is not looked at.
        ("ok", with(good.clone(), "jwk", json!({ "kty": "oct", "k": "AA" }))),
        ("ok", with(good.clone(), "jku", "https://evil.example.com/jwks.json")),
    ];
    for (expected, header) in table {
        let token = bench.identity.sign(&header, &claims()).expect("a token");
        assert_eq!(kind(&bench.verify(&token).await), expected, "{header}");
    }
    let bench = Bench::with(|it| *it = it.clone().with_access_tokens());
    let token =
        bench.identity.sign(&with(header(&bench.identity), "typ", "AT+JWT"), &claims()).expect("a token");
    assert_eq!(kind(&bench.verify(&token).await), "ok");
}

#[tokio::test]
async fn bytes_that_are_no_token_are_refused_without_a_trace() {
    let bench = Bench::new();
    let token = bench.identity.sign(&header(&bench.identity), &claims()).expect("a token");
    let token = token.expose_secret();
    let (body, signature) = token.rsplit_once('.').expect("three parts");
    let (head, payload) = body.split_once('.').expect("three parts");
    let b64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let malformed = |part, flaw| Reason::Malformed(part, flaw);
    let table: Vec<(Reason, String)> = vec![
        (Reason::Empty, String::new()),
        (Reason::NotAToken, "hunter2".to_owned()),
        (Reason::NotAToken, format!("{token}\n")),
        (Reason::NotAToken, format!(" {token}")),
        (Reason::NotAToken, format!("Bearer {token}")),
        (Reason::NotAToken, format!("{token}=")),
        (Reason::NotAToken, body.to_owned()),
        (Reason::NotAToken, format!("{token}.x")),
        (Reason::NotAToken, format!("{token}.x.y.z")),
        (Reason::NotAToken, "\u{0}".to_owned()),
        (Reason::Encrypted, "a.b.c.d.e".to_owned()),
        (malformed(Part::Header, Flaw::Json), "..".to_owned()),
        (malformed(Part::Header, Flaw::Encoding), format!("a.{payload}.{signature}")),
        (malformed(Part::Header, Flaw::Json), format!("{}.{payload}.{signature}", b64("{"))),
        (malformed(Part::Header, Flaw::NoObject), format!("{}.{payload}.{signature}", b64("[]"))),
        (
            malformed(Part::Header, Flaw::DuplicateMember),
            format!("{}.{payload}.{signature}", b64(r#"{"alg":"ES256","alg":"none"}"#)),
        ),
        (malformed(Part::Claims, Flaw::Json), format!("{head}..{signature}")),
        (malformed(Part::Claims, Flaw::NoObject), format!("{head}.{}.{signature}", b64("7"))),
        (
            malformed(Part::Claims, Flaw::DuplicateMember),
            format!("{head}.{}.{signature}", b64(r#"{"sub":"a","sub":"b"}"#)),
        ),
        (Reason::Unsigned, format!("{body}.")),
        (Reason::Unsigned, format!("{}.{payload}.", b64(r#"{"alg":"none"}"#))),
        (Reason::Signature, format!("{body}.{}", b64("short"))),
        (Reason::Signature, format!("{body}.{}", URL_SAFE_NO_PAD.encode([0_u8; 64]))),
        (Reason::Signature, format!("{body}.{}", URL_SAFE_NO_PAD.encode([0xff_u8; 64]))),
        (Reason::TooLong { bytes: 65_537, bytes_max: 65_536 }, "e".repeat(65_537)),
    ];
    for (reason, text) in table {
        let denied = bench.verifier.verify(text.as_bytes()).await.expect_err("a refusal");
        assert_eq!(*denied.reason(), reason, "{text:.80}");
        let readable = matches!(reason, Reason::Signature);
        assert_eq!(denied.token_thumbprint().is_some(), readable, "{text:.80}");
    }
    let not_text = bench.verifier.verify(b"\xff\xfe").await.expect_err("a refusal");
    assert_eq!(*not_text.reason(), Reason::NotAToken);
}

#[tokio::test]
async fn a_huge_token_within_the_bound_is_verified() {
    let bench = Bench::new();
    let groups: Vec<String> = (0..1_380).map(|n| format!("8a1f0c{n:026}")).collect();
    let claims = with(claims(), "groups", groups);
    let token = bench.identity.sign(&header(&bench.identity), &claims).expect("a token");
    let len = token.expose_secret().len();
    assert!((60_000..=65_536).contains(&len), "{len}");
    assert_eq!(
        bench.verify(&token).await.expect("a principal").groups.map(|groups| groups.len()),
        Some(1_380)
    );
    let deep = format!(r#"{{"iss":"{ISSUER}","x":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    let text = format!("e30.{}.AA", URL_SAFE_NO_PAD.encode(deep));
    assert_eq!(kind(&bench.verifier.verify(text.as_bytes()).await), "malformed");
}

#[tokio::test]
async fn the_public_key_is_no_shared_secret() {
    let bench = Bench::new();
    let key_set = bench.identity.key_set().expect("a key set");
    let secrets = [
        key_set.to_string().into_bytes(),
        key_set["keys"][0].to_string().into_bytes(),
        URL_SAFE_NO_PAD.decode(key_set["keys"][0]["x"].as_str().expect("x")).expect("base64url"),
    ];
    for secret in secrets {
        for alg in ["HS256", "ES256", "none"] {
            let head = json!({ "alg": alg, "typ": "JWT", "kid": bench.identity.state.kid });
            let body = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(head.to_string()),
                URL_SAFE_NO_PAD.encode(claims().to_string())
            );
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, body.as_bytes()));
            let outcome = bench.verifier.verify(format!("{body}.{signature}").as_bytes()).await;
            assert!(matches!(kind(&outcome), "symmetric" | "signature" | "unsigned"), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn keys_that_cannot_be_told_apart_are_refused() {
    let identity = DevIdentity::in_memory(ISSUER, AUDIENCE).expect("an identity");
    let other = DevIdentity::in_memory(ISSUER, AUDIENCE).expect("an identity");
    let mut key_set = identity.key_set().expect("a key set");
    let mut second = other.key_set().expect("a key set")["keys"][0].clone();
    second["kid"] = identity.state.kid.clone().into();
    key_set["keys"].as_array_mut().expect("keys").push(second);
    let bench = Bench::of(identity, &key_set, |_| {});
    assert_eq!(bench.kind(&claims()).await, "ambiguous_key");
    let no_kid = bench.identity.sign(&without(header(&bench.identity), "kid"), &claims()).expect("a token");
    assert_eq!(kind(&bench.verify(&no_kid).await), "ambiguous_key");
}

#[tokio::test]
async fn a_foreign_key_with_a_known_kid_is_refused() {
    let bench = Bench::new();
    let thief = DevIdentity::in_memory(ISSUER, AUDIENCE).expect("an identity");
    let token = thief.sign(&header(&bench.identity), &claims()).expect("a token");
    assert_eq!(kind(&bench.verify(&token).await), "signature");
}

#[tokio::test]
async fn refusals_hold_nothing_of_the_token() {
    // Words that occur nowhere in our own texts, in every place a token has.
    let bench = Bench::new();
    let secret = "zqxjkvbp";
    let good = header(&bench.identity);
    let mut tokens = Vec::new();
    for (header, claims) in [
        (with(good.clone(), "kid", secret), claims()),
        (with(good.clone(), "typ", secret), claims()),
        (with(good.clone(), "alg", secret), claims()),
        (with(good.clone(), "crit", secret), claims()),
        (good.clone(), with(claims(), "iss", format!("https://{secret}.example.com"))),
        (good.clone(), with(claims(), "aud", secret)),
        (good.clone(), with(claims(), "aud", json!([AUDIENCE, secret]))),
        (good.clone(), with(claims(), "sub", json!({ secret: secret }))),
        (good.clone(), with(claims(), "exp", secret)),
        (good.clone(), with(claims(), "jti", json!([secret]))),
        (good.clone(), with(claims(), "nonce", secret)),
        (good.clone(), with(claims(), "email_verified", secret)),
        (good.clone(), with(claims(), "locale", json!([secret]))),
        (good.clone(), with(claims(), "acr", json!([secret]))),
    ] {
        let token = bench.identity.sign(&header, &claims).expect("a token");
        tokens.push(token.expose_secret().to_owned());
    }
    tokens.push(secret.to_owned());
    tokens.push(format!("{}.{}.{}", secret, secret, secret));
    for token in tokens {
        let denied = bench.verifier.verify(token.as_bytes()).await.expect_err("a refusal");
        let all =
            format!("{} {} {denied} {denied:?} {:?}", denied.client_text(), denied.exact(), denied.issuer());
        assert!(!all.contains(secret), "{all}");
        for piece in token.split('.').filter(|piece| piece.len() >= 8) {
            assert!(!all.contains(piece), "{all}");
            let decoded = URL_SAFE_NO_PAD.decode(piece).unwrap_or_default();
            assert!(!all.contains(&*String::from_utf8_lossy(&decoded)) || decoded.is_empty(), "{all}");
        }
        assert!(denied.client_text().starts_with("pgturnstile: login refused: "), "{}", denied.client_text());
        assert!(!denied.client_text().contains(ISSUER), "a stranger learns nothing of the configuration");
        let own = denied.client_text().replace("pgturnstile: login refused: ", "");
        assert!(!own.contains(AUDIENCE), "a stranger learns nothing of the configuration");
    }
}

#[tokio::test]
async fn the_exact_reason_says_what_was_configured() {
    let bench = Bench::new();
    let exact = async |claims: Value| {
        let token = bench.identity.sign(&header(&bench.identity), &claims).expect("a token");
        bench.verify(&token).await.expect_err("a refusal").exact()
    };
    let text = exact(with(claims(), "iss", "https://evil.example.com")).await;
    assert!(text.starts_with("issuer: ") && text.contains(ISSUER), "{text}");
    let text = exact(with(claims(), "aud", "other")).await;
    assert!(
        text.starts_with("audience: ") && text.contains("configured: pgturnstile; issuer corp"),
        "{text}"
    );
}

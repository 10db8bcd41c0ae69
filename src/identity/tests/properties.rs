//! No byte of a token may be anything else, and no bytes make the verifier panic.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::runtime::Runtime;

use super::*;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn every_change_of_every_byte_is_refused() {
    let runtime = runtime();
    runtime.block_on(async {
        let bench = Bench::new();
        let token = bench.identity.sign(&header(&bench.identity), &claims()).expect("a token");
        let token = token.expose_secret().as_bytes();
        assert_eq!(kind(&bench.verifier.verify(token).await), "ok");
        for position in 0..token.len() {
            // Neighbours in the base64url alphabet differ in the low bits, which a lax decoder drops at the end.
            for change in [1, 2, 4, 8, 16, 32, 64, 128] {
                let mut bytes = token.to_vec();
                bytes[position] ^= change;
                let outcome = bench.verifier.verify(&bytes).await;
                assert!(outcome.is_err(), "byte {position} xor {change}");
            }
            let mut shorter = token.to_vec();
            shorter.remove(position);
            assert!(bench.verifier.verify(&shorter).await.is_err(), "without byte {position}");
            let mut longer = token.to_vec();
            longer.insert(position, token[position]);
            assert!(bench.verifier.verify(&longer).await.is_err(), "byte {position} twice");
            assert!(bench.verifier.verify(&token[..position]).await.is_err(), "cut at {position}");
        }
    });
}

#[test]
fn the_last_character_of_each_part_has_one_spelling() {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let runtime = runtime();
    runtime.block_on(async {
        let bench = Bench::new();
        let token = bench.identity.sign(&header(&bench.identity), &claims()).expect("a token");
        let token = token.expose_secret();
        let ends: Vec<usize> = token
            .char_indices()
            .filter(|(at, _)| token[at + 1..].starts_with('.') || at + 1 == token.len())
            .map(|(at, _)| at)
            .collect();
        assert_eq!(ends.len(), 3);
        for end in ends {
            for other in alphabet.chars() {
                let mut text = token.to_owned();
                text.replace_range(end..=end, &other.to_string());
                let outcome = bench.verifier.verify(text.as_bytes()).await;
                assert_eq!(outcome.is_ok(), text == token, "{other} at {end}");
            }
        }
    });
}

/// Runs a property with one bench for all its cases.
fn hold<S: Strategy>(strategy: S, property: impl AsyncFn(&Bench, S::Value) -> Result<(), TestCaseError>) {
    let runtime = runtime();
    let bench = runtime.block_on(async { Bench::new() });
    let mut runner = TestRunner::new(ProptestConfig { cases: 2_000, ..ProptestConfig::default() });
    let outcome = runner.run(&strategy, |value| runtime.block_on(property(&bench, value)));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn any_bytes_are_refused_without_a_panic() {
    hold(proptest::collection::vec(any::<u8>(), 0..300), async |bench, bytes| {
        prop_assert!(bench.verifier.verify(&bytes).await.is_err());
        Ok(())
    });
}

/// Signed garbage: what a broken issuer could send past the signature.
#[test]
fn any_signed_claims_are_judged_without_a_panic() {
    let name = "(iss|sub|aud|exp|iat|nbf|azp|jti|nonce|acr|amr|groups|email|email_verified|address|locale|name#|\
                zoneinfo|updated_at|birthdate|_claim_names|hasgroups)(#[a-z-]{0,5})?";
    hold((name, json_value()), async |bench, (name, value)| {
        let claims = with(claims(), &name, value);
        let token = bench.identity.sign(&header(&bench.identity), &claims).expect("a token");
        let outcome = bench.verify(&token).await;
        // The library's panics are fenced; that one of them happened would still be worth knowing.
        prop_assert!(kind(&outcome) != "internal", "{claims}");
        Ok(())
    });
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from(ISSUER)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-z]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

//! Every algorithm that can be configured verifies, and verifies only its own.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::identity::Algorithm;

type Signer<'k> = Box<dyn Fn(&[u8]) -> Vec<u8> + 'k>;

fn rsa<'k>(key: &'k RsaKeyPair, padding: &'static dyn RsaEncoding) -> Signer<'k> {
    Box::new(move |message| {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(padding, &SystemRandom::new(), message, &mut signature).expect("a signature");
        signature
    })
}

fn ec(algorithm: &'static EcdsaSigningAlgorithm, crv: &str, kid: &str) -> (Value, Signer<'static>) {
    let key = EcdsaKeyPair::generate(algorithm).expect("a key");
    let (x, y) = {
        let point = &key.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
    };
    let public = json!({ "kty": "EC", "crv": crv, "kid": kid, "x": x, "y": y });
    let signer =
        move |message: &[u8]| key.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec();
    (public, Box::new(signer))
}

fn token(alg: &str, kid: &str, signer: &Signer<'_>) -> String {
    let header = json!({ "alg": alg, "kid": kid });
    let body = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims().to_string())
    );
    let signature = signer(body.as_bytes());
    format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn each_algorithm_verifies_its_own_signatures_and_no_others() {
    let rsa_key = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let modulus = rsa_key.public_key().modulus().big_endian_without_leading_zero().to_vec();
    let exponent = rsa_key.public_key().exponent().big_endian_without_leading_zero().to_vec();
    let rsa_public = json!({
        "kty": "RSA", "kid": "rsa", "n": URL_SAFE_NO_PAD.encode(modulus), "e": URL_SAFE_NO_PAD.encode(exponent),
    });
    let ed_key = Ed25519KeyPair::generate().expect("a key");
    let ed_public = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": URL_SAFE_NO_PAD.encode(ed_key.public_key().as_ref()),
    });
    let (p256_public, p256) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", "p256");
    let (p384_public, p384) = ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", "p384");
    let signers: Vec<(Algorithm, &str, Signer<'_>)> = vec![
        (Algorithm::Rs256, "rsa", rsa(&rsa_key, &RSA_PKCS1_SHA256)),
        (Algorithm::Rs384, "rsa", rsa(&rsa_key, &RSA_PKCS1_SHA384)),
        (Algorithm::Rs512, "rsa", rsa(&rsa_key, &RSA_PKCS1_SHA512)),
        (Algorithm::Ps256, "rsa", rsa(&rsa_key, &RSA_PSS_SHA256)),
        (Algorithm::Ps384, "rsa", rsa(&rsa_key, &RSA_PSS_SHA384)),
        (Algorithm::Ps512, "rsa", rsa(&rsa_key, &RSA_PSS_SHA512)),
        (Algorithm::Es256, "p256", p256),
        (Algorithm::Es384, "p384", p384),
        (Algorithm::EdDsa, "ed", Box::new(|message| ed_key.sign(message).as_ref().to_vec())),
    ];
    let key_set = json!({ "keys": [rsa_public, p256_public, p384_public, ed_public] });
    let identity = DevIdentity::in_memory(ISSUER, AUDIENCE).expect("an identity");
    let bench = Bench::of(identity, &key_set, |it| it.algorithms = Algorithm::ALL.to_vec());
    for (algorithm, kid, signer) in &signers {
        for claimed in Algorithm::ALL {
            let token = token(claimed.name(), kid, signer);
            let outcome = bench.verifier.verify(token.as_bytes()).await;
            if claimed == *algorithm {
                assert_eq!(kind(&outcome), "ok", "{claimed}");
            } else {
                assert!(
                    matches!(kind(&outcome), "signature" | "unknown_key"),
                    "{algorithm} as {claimed}: {outcome:?}"
                );
            }
        }
    }
    // The same key, the same signature, but the issuer is only configured for the other family.
    for (algorithm, kid, signer) in &signers {
        let identity = DevIdentity::in_memory(ISSUER, AUDIENCE).expect("an identity");
        let others: Vec<Algorithm> = Algorithm::ALL.into_iter().filter(|other| other != algorithm).collect();
        let bench = Bench::of(identity, &key_set, |it| it.algorithms = others);
        let token = token(algorithm.name(), kid, signer);
        assert_eq!(kind(&bench.verifier.verify(token.as_bytes()).await), "algorithm");
    }
}

#[tokio::test]
async fn a_key_bound_to_one_algorithm_verifies_no_other() {
    let rsa_key = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let modulus = rsa_key.public_key().modulus().big_endian_without_leading_zero().to_vec();
    let key_set = json!({ "keys": [
        { "kty": "RSA", "kid": "rsa", "alg": "PS256", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB" },
    ] });
    let identity = DevIdentity::in_memory(ISSUER, AUDIENCE).expect("an identity");
    let bench = Bench::of(identity, &key_set, |it| it.algorithms = Algorithm::ALL.to_vec());
    let pss = token("PS256", "rsa", &rsa(&rsa_key, &RSA_PSS_SHA256));
    assert_eq!(kind(&bench.verifier.verify(pss.as_bytes()).await), "ok");
    let pkcs1 = token("RS256", "rsa", &rsa(&rsa_key, &RSA_PKCS1_SHA256));
    assert_eq!(kind(&bench.verifier.verify(pkcs1.as_bytes()).await), "unknown_key");
}

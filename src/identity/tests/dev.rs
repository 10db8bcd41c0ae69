//! The development identity provider's folder and tokens.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::identity::dev::{DevError, RESERVED_CLAIMS, TTL_S_MAX};

#[tokio::test]
async fn a_minted_token_is_verified_by_the_key_set_in_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("idp");
    let made = DevIdentity::set_up(&state, ISSUER, AUDIENCE).expect("an identity");
    let loaded = DevIdentity::load(&state).expect("the same identity");
    assert_eq!(made.state, loaded.state);
    for name in ["dev-idp.key", "jwks.json", "dev-idp.json"] {
        let mode = std::fs::metadata(state.join(name)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(&state).expect("a folder").permissions().mode() & 0o777, 0o700);
    let hands = Hands::new();
    let verifier = verifier(settings(KeySource::File(state.join("jwks.json"))), &hands, None);
    let mut wish = wish();
    wish.claims.insert("agent".to_owned(), json!({ "model": "m" }));
    let token = loaded.mint(&wish, NOW_S).expect("a token");
    let principal = verifier.verify(token.expose_secret().as_bytes()).await.expect("a principal");
    assert_eq!(principal.subject, "agent-7");
    assert_eq!(principal.groups.as_deref(), Some(&["bi".to_owned()][..]));
    assert_eq!(principal.claims.get("agent"), Some(&json!({ "model": "m" })));
    assert!(principal.token_id.is_some());
    assert_eq!(principal.expires_at_s - principal.issued_at_s, 300);
    // Set up again: the key stays, so tokens of before do too.
    let again = DevIdentity::set_up(&state, ISSUER, AUDIENCE).expect("an identity");
    assert_eq!(again.state.kid, made.state.kid);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    DevIdentity::set_up(folder.path(), ISSUER, AUDIENCE).expect("an identity");
    let key = folder.path().join("dev-idp.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("a mode");
    let Err(DevError::File { what, .. }) = DevIdentity::load(folder.path()) else { panic!("accepted") };
    assert!(what.contains("640") && what.contains("chmod 600"), "{what}");
}

#[test]
fn a_folder_that_is_empty_or_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let Err(error) = DevIdentity::load(folder.path()) else { panic!("accepted") };
    assert!(error.to_string().contains("dev-idp --state"), "{error}");
    DevIdentity::set_up(folder.path(), ISSUER, AUDIENCE).expect("an identity");
    std::fs::remove_file(folder.path().join("dev-idp.key")).expect("a key");
    assert!(DevIdentity::load(folder.path()).is_err());
    let other = tempfile::tempdir().expect("a folder");
    DevIdentity::set_up(other.path(), ISSUER, AUDIENCE).expect("an identity");
    std::fs::rename(other.path().join("dev-idp.key"), folder.path().join("dev-idp.key")).expect("a key");
    let Err(error) = DevIdentity::load(folder.path()) else { panic!("accepted") };
    assert!(error.to_string().contains("another key"), "{error}");
}

#[test]
fn reserved_claims_and_endless_lives_are_refused() {
    let identity = DevIdentity::in_memory(ISSUER, AUDIENCE).expect("an identity");
    for name in RESERVED_CLAIMS {
        let mut wish = wish();
        wish.claims.insert(name.to_owned(), json!("x"));
        assert!(matches!(identity.mint(&wish, NOW_S), Err(DevError::Reserved(_))), "{name}");
    }
    for ttl_s in [0, TTL_S_MAX + 1, u32::MAX] {
        let wish = Wish { ttl_s, ..wish() };
        assert!(matches!(identity.mint(&wish, NOW_S), Err(DevError::Ttl(_))), "{ttl_s}");
    }
}

//! The development identity provider's folder and tokens.

use std::os::unix::fs::PermissionsExt as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::identity::dev::server::DevServer;
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

/// One request to the provider, as text; the answer's status and body.
async fn ask(server: std::net::SocketAddr, request: String) -> (u16, Value) {
    let mut stream = tokio::net::TcpStream::connect(server).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    (status, serde_json::from_str(body).expect("JSON"))
}

fn post(more: &str, form: &str) -> String {
    let length = form.len();
    format!("POST /token HTTP/1.1\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n{form}")
}

#[tokio::test]
async fn the_server_hands_out_tokens_that_its_own_discovery_verifies_and_answers_no_browser() {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = "127.0.0.1:0".parse().expect("an address");
    let server = DevServer::bind(listen, folder.path(), AUDIENCE).await.expect("a server");
    let (address, issuer) = (server.address(), server.identity().state.issuer.clone());
    tokio::spawn(server.serve(std::future::pending()));
    let mut settings = IssuerSettings::new("dev", &issuer, &[AUDIENCE]);
    settings.loopback_http = true;
    let verifier = Verifier::new(vec![settings], 65_536, &Handle::current(), None).expect("a verifier");

    let host = format!("host: {address}\r\n");
    let form = "grant_type=client_credentials&sub=agent-7&groups=bi,eu&claims=%7B%22agent%22%3A%7B%22model%22%3A%22m%22%7D%7D";
    let (status, answer) = ask(address, post(&host, form)).await;
    assert_eq!((status, &answer["expires_in"]), (200, &json!(900)));
    let token = answer["access_token"].as_str().expect("a token");
    let principal = verifier.verify(token.as_bytes()).await.expect("a principal");
    assert_eq!(principal.subject, "agent-7");
    assert_eq!(principal.groups, Some(vec!["bi".to_owned(), "eu".to_owned()]));
    assert_eq!(principal.claims.get("agent"), Some(&json!({ "model": "m" })));

    for refused in [
        post(&format!("{host}origin: https://evil.example\r\n"), form),
        post("host: evil.example\r\n", form),
        post("host: 192.0.2.1\r\n", form),
        post("host: localhost.evil.example\r\n", form),
    ] {
        assert_eq!(ask(address, refused.clone()).await.0, 403, "{refused}");
    }
    for bad in [
        "",
        "sub=a",
        "grant_type=password&sub=a",
        "grant_type=client_credentials",
        "grant_type=client_credentials&sub=a&ttl_s=0",
        "grant_type=client_credentials&sub=a&ttl_s=x",
        "grant_type=client_credentials&sub=a&claims=%5B%5D",
        "grant_type=client_credentials&sub=a&claims=%7B%22iss%22%3A%22x%22%7D",
        "grant_type=client_credentials&sub=a&other=x",
    ] {
        assert_eq!(ask(address, post(&host, bad)).await.0, 400, "{bad}");
    }
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{host}\r\n");
    assert_eq!(ask(address, get("/token")).await.0, 405);
    assert_eq!(ask(address, get("/")).await.0, 404);
}

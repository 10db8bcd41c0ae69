//! OAUTHBEARER, the server's side: a token as RFC 7628 carries it, and the answer to a client that has none.
//!
//! ```text
//!  client                                              gateway
//!    n,, ^A auth=Bearer TOKEN ^A ^A  ─────────────────▶  verify ─ good ─▶ AuthenticationOk
//!                                                          │
//!    n,, ^A auth= ^A ^A (a probe)    ─────────────────▶    │ bad, none
//!                                    ◀── JSON: where tokens come from
//!    ^A                              ──▶  FATAL
//! ```
//!
//! Owns: the form of the client's message and the document of the answer. May not: verify, or copy a byte of the token: it is
//! borrowed from the caller's buffer, which is wiped. Fails by [`Fault`], which holds nothing of the message.
//!
//! Source: RFC 7628 sections 3.1 and 3.2, RFC 5801 section 4, RFC 6750 section 2.1; `src/backend/libpq/auth-oauth.c`. pgwire's
//! exchange of the same name is not used: it keeps the token in strings that nobody wipes, and reads what is no UTF-8 as if
//! it were.

use serde_json::json;

/// Name of the SASL mechanism.
pub const MECHANISM: &str = "OAUTHBEARER";

/// Separates the parts of the client's message, and is the whole of its last one.
pub const SEPARATOR: u8 = 0x01;

/// Bytes that the message may take around a token.
pub const ENVELOPE_BYTES: usize = 64;

/// What a client's first message asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked<'m> {
    /// A session, by this token. What is no Bearer credential stands here whole: the verifier knows it for no token.
    Session(&'m [u8]),
    /// Where tokens come from: no credential is in it. libpq 18 opens so, on a connection of its own.
    Discovery,
}

impl std::fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Asked::Session(token) => write!(f, "Session({} bytes)", token.len()),
            Asked::Discovery => f.write_str("Discovery"),
        }
    }
}

/// What is wrong with the client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Neither `n,` nor `y,` at its beginning.
    #[error("its GS2 header is malformed")]
    Header,
    /// `p=`: the mechanism has no binding to a channel.
    #[error("it asks for channel binding, which OAUTHBEARER does not have")]
    ChannelBinding,
    /// `a=`: whom to be is the startup packet's to say.
    #[error("it names an authorization identity, which is not supported")]
    AuthorizationIdentity,
    /// The last pair, or the list, has no end.
    #[error("a key/value pair is not terminated")]
    Unterminated,
    /// A key of other characters than letters, no `=`, or a value of other characters than RFC 7628 has.
    #[error("a key/value pair is malformed")]
    Pair,
    /// `auth` twice.
    #[error("it holds two auth values")]
    Twice,
    /// No `auth`.
    #[error("it holds no auth value")]
    NoAuth,
    /// Bytes behind the end of the list.
    #[error("bytes stand behind its end")]
    Trailing,
}

/// Reads a client's first message.
///
/// # Errors
/// What of RFC 7628's form does not hold.
pub fn read(message: &[u8]) -> Result<Asked<'_>, Fault> {
    let rest = match message {
        // `y`: the client could bind a channel and believes that we cannot, which is so.
        [b'n' | b'y', b',', rest @ ..] => rest,
        [b'p', ..] => return Err(Fault::ChannelBinding),
        _ => return Err(Fault::Header),
    };
    let mut rest = match rest {
        [b',', SEPARATOR, rest @ ..] => rest,
        [b'a', b'=', ..] => return Err(Fault::AuthorizationIdentity),
        _ => return Err(Fault::Header),
    };
    let mut auth = None;
    loop {
        let end = rest.iter().position(|byte| *byte == SEPARATOR).ok_or(Fault::Unterminated)?;
        let (pair, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        if pair.is_empty() {
            break;
        }
        let (key, value) = split(pair).ok_or(Fault::Pair)?;
        // Keys that are not known are ignored, as section 3.1 asks.
        if key == b"auth" && auth.replace(value).is_some() {
            return Err(Fault::Twice);
        }
    }
    if !rest.is_empty() {
        return Err(Fault::Trailing);
    }
    match auth {
        None => Err(Fault::NoAuth),
        Some([]) => Ok(Asked::Discovery),
        Some(value) => Ok(Asked::Session(credential(value))),
    }
}

fn split(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (pair.get(..at)?, pair.get(at + 1..)?);
    let of_value = |byte: &u8| matches!(byte, b'!'..=b'~' | b' ' | b'\t' | b'\r' | b'\n');
    let sound = !key.is_empty() && key.iter().all(u8::is_ascii_alphabetic) && value.iter().all(of_value);
    sound.then_some((key, value))
}

/// What stands behind `Bearer`, which is written in any case (RFC 7628 section 4).
fn credential(value: &[u8]) -> &[u8] {
    const SCHEME: &[u8] = b"bearer ";
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => {
            let spaces = token.iter().take_while(|byte| **byte == b' ').count();
            token.get(spaces..).unwrap_or_default()
        }
        Some(_) | None => value,
    }
}

/// Where an issuer describes itself (OpenID Connect Discovery 1.0 section 4: a slash at its end goes before the path comes).
#[must_use]
pub fn discovery_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
}

/// The answer to a token that is not believed, and to none: RFC 7628 section 3.2.2.
#[must_use]
pub fn answer(issuer: &str, scope: &str) -> String {
    json!({ "status": "invalid_token", "openid-configuration": discovery_url(issuer), "scope": scope })
        .to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_clients_send() {
        for (message, asked) in [
            (&b"n,,\x01auth=Bearer a.b.c\x01\x01"[..], Asked::Session(b"a.b.c")),
            (b"y,,\x01auth=bEARER   a.b.c\x01\x01", Asked::Session(b"a.b.c")),
            (b"n,,\x01host=db\x01port=5432\x01auth=Bearer t\x01\x01", Asked::Session(b"t")),
            (b"n,,\x01auth=\x01\x01", Asked::Discovery),
            (b"n,,\x01auth=Basic dXNlcg==\x01\x01", Asked::Session(b"Basic dXNlcg==")),
            (b"n,,\x01auth=Bearer \x01\x01", Asked::Session(b"")),
        ] {
            assert_eq!(read(message), Ok(asked), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_message() {
        for (message, fault) in [
            (&b""[..], Fault::Header),
            (b"n", Fault::Header),
            (b"n,\x01auth=\x01\x01", Fault::Header),
            (b"x,,\x01auth=\x01\x01", Fault::Header),
            (b"n,,auth=\x01\x01", Fault::Header),
            (b"p=tls-exporter,,\x01auth=\x01\x01", Fault::ChannelBinding),
            (b"n,a=other,\x01auth=\x01\x01", Fault::AuthorizationIdentity),
            (b"n,,\x01", Fault::Unterminated),
            (b"n,,\x01auth=Bearer t", Fault::Unterminated),
            (b"n,,\x01auth=Bearer t\x01", Fault::Unterminated),
            (b"n,,\x01auth\x01\x01", Fault::Pair),
            (b"n,,\x01=x\x01\x01", Fault::Pair),
            (b"n,,\x01au th=x\x01\x01", Fault::Pair),
            (b"n,,\x01auth=\x00\x01\x01", Fault::Pair),
            (b"n,,\x01auth=\xC3\xA4\x01\x01", Fault::Pair),
            (b"n,,\x01auth=Bearer t\x01auth=\x01\x01", Fault::Twice),
            (b"n,,\x01auth=\x01auth=Bearer t\x01\x01", Fault::Twice),
            (b"n,,\x01\x01", Fault::NoAuth),
            (b"n,,\x01auth=Bearer t\x01\x01\x01", Fault::Trailing),
        ] {
            assert_eq!(read(message), Err(fault), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn the_answer_is_json_whatever_is_in_it() {
        let text = answer("https://id.example/\"a\\b/", "openid \"x\"");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value["openid-configuration"],
            "https://id.example/\"a\\b/.well-known/openid-configuration"
        );
        assert_eq!((&value["status"], &value["scope"]), (&json!("invalid_token"), &json!("openid \"x\"")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(message in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _asked = read(&message);
        }

        #[test]
        fn a_token_comes_out_as_it_went_in(token in "[A-Za-z0-9._~+/-]{1,200}", key in "[b-z]{1,8}") {
            let message = format!("n,,\u{1}{key}=v\u{1}auth=Bearer {token}\u{1}\u{1}");
            prop_assert_eq!(read(message.as_bytes()), Ok(Asked::Session(token.as_bytes())));
        }
    }
}

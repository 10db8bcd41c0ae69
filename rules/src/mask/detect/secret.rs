//! Detectors of secrets: private keys, connection strings, JSON Web Tokens, vendors' tokens.
//!
//! Owns: their forms. May not: ask a vendor whether a token lives. Every form holds one of the anchors of [`super::ANCHORS`]:
//! a test holds the two against each other. Sources: the vendors' documentation of their token formats; RFC 7468, 7519, 3986.

use super::text::{open_left, open_right, stretch};

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

/// A vendor's token: what it begins with, what follows, and how much of that at least.
struct Token {
    prefix: &'static [u8],
    body: fn(u8) -> bool,
    least: usize,
    most: usize,
}

const fn token(prefix: &'static [u8], body: fn(u8) -> bool, least: usize, most: usize) -> Token {
    Token { prefix, body, least, most }
}

const TOKENS: &[Token] = &[
    // Amazon: access key ids
    token(b"AKIA", is_upper, 16, 16),
    token(b"ASIA", is_upper, 16, 16),
    // GitHub: personal, OAuth, server
    token(b"ghp_", is_alphanumeric, 36, 251),
    token(b"gho_", is_alphanumeric, 36, 251),
    token(b"ghs_", is_alphanumeric, 36, 251),
    token(b"github_pat_", is_word, 40, 251),
    // GitLab, Docker, Shopify
    token(b"glpat-", is_base64url, 20, 300),
    token(b"dckr_pat_", is_base64url, 20, 64),
    token(b"shpat_", is_alphanumeric, 32, 32),
    // Stripe: secret and restricted keys
    token(b"sk_live_", is_alphanumeric, 16, 247),
    token(b"rk_live_", is_alphanumeric, 16, 247),
    // Slack
    token(b"xoxb-", is_base64url, 20, 300),
    token(b"xoxp-", is_base64url, 20, 300),
    token(b"xoxa-", is_base64url, 20, 300),
    token(b"xoxe-", is_base64url, 20, 300),
    token(b"xoxs-", is_base64url, 20, 300),
    // Google
    token(b"AIza", is_base64url, 35, 35),
    // OpenAI, Anthropic
    token(b"sk-", is_base64url, 32, 300),
];

/// A vendor's token.
pub(super) fn api_key(value: &[u8], start: usize) -> Option<usize> {
    if !open_left(value, start) {
        return None;
    }
    let rest = value.get(start..)?;
    if rest.starts_with(b"SG.") {
        return sendgrid(value, start);
    }
    let token = TOKENS.iter().find(|token| rest.starts_with(token.prefix))?;
    let body = start + token.prefix.len();
    let length = stretch(value, body, token.most + 1, token.body);
    ((token.least..=token.most).contains(&length) && open_right(value, body + length))
        .then_some(body + length)
}

/// `SG.` and two parts.
fn sendgrid(value: &[u8], start: usize) -> Option<usize> {
    let id = start + 3;
    let dot = id + stretch(value, id, 64, is_base64url);
    let end = dot + 1 + stretch(value, dot + 1, 128, is_base64url);
    (dot - id >= 16 && value.get(dot) == Some(&b'.') && end - dot > 16 && open_right(value, end))
        .then_some(end)
}

/// Three parts in base64url; the first two begin with `{"` in it.
pub(super) fn jwt(value: &[u8], start: usize) -> Option<usize> {
    if !value.get(start..)?.starts_with(b"eyJ") || !open_left(value, start) {
        return None;
    }
    let first = start + stretch(value, start, usize::MAX, is_base64url);
    if value.get(first) != Some(&b'.') || !value.get(first + 1..)?.starts_with(b"eyJ") {
        return None;
    }
    let second = first + 1 + stretch(value, first + 1, usize::MAX, is_base64url);
    if value.get(second) != Some(&b'.') || first - start < 10 || second - first < 8 {
        return None;
    }
    Some(second + 1 + stretch(value, second + 1, usize::MAX, is_base64url))
}

/// Behind a place where no token begins: where one could begin again. All that begin in one stretch of base64url are
/// followed by the same bytes, so that none of them is one where the first is none.
pub(super) fn no_jwt_before(value: &[u8], start: usize) -> usize {
    if value.get(start..).is_some_and(|rest| rest.starts_with(b"eyJ")) {
        start + stretch(value, start, usize::MAX, is_base64url)
    } else {
        start
    }
}

const BEGIN: &[u8] = b"-----BEGIN ";

/// From `-----BEGIN … PRIVATE KEY-----` to the end of its `-----END …-----`, or, where that is missing, to the end of the
/// quoted string or value.
pub(super) fn private_key(value: &[u8], start: usize) -> Option<usize> {
    let rest = value.get(start..)?;
    let label = rest.strip_prefix(BEGIN)?;
    let named = memchr::memmem::find(label.get(..64).unwrap_or(label), b"-----")?;
    if !label.get(..named)?.ends_with(b"PRIVATE KEY") && !label.get(..named)?.ends_with(b"PRIVATE KEY BLOCK")
    {
        return None;
    }
    let body = start + BEGIN.len() + named + 5;
    let behind = value.get(body..)?;
    let cut = behind.iter().position(|byte| matches!(byte, b'"' | b'{' | b'}')).unwrap_or(behind.len());
    let Some(end) = memchr::memmem::find(behind.get(..cut)?, b"-----END ") else { return Some(body + cut) };
    let tail = body + end + 9;
    let close = memchr::memmem::find(value.get(tail..body + cut)?, b"-----");
    Some(close.map_or(body + cut, |close| tail + close + 5))
}

fn is_uri(byte: u8) -> bool {
    byte > b' '
        && !matches!(
            byte,
            b'"' | b'\'' | b'`' | b'<' | b'>' | b'{' | b'}' | b')' | b',' | b';' | b'\\' | 0x7F
        )
}

/// What no user and password holds. Of what RFC 3986 allows in a password, only what parts the elements of arrays and composites
/// ends the search.
fn ends_user_info(byte: u8) -> bool {
    !is_uri(byte) && !matches!(byte, b';' | b'\'') || matches!(byte, b'@' | b'/' | b'?' | b'#')
}

/// Whether what stands behind `://` may begin with a user and a password; behind a backslash anything may be spelled.
pub(super) fn may_name_a_user(authority: &[u8]) -> bool {
    let end = authority.iter().find(|byte| ends_user_info(**byte));
    end.is_some_and(|byte| matches!(byte, b'@' | b'\\'))
}

/// `scheme://user:password@…` to its end, or `password=…`.
pub(super) fn connection_string(value: &[u8], start: usize) -> Option<usize> {
    if !open_left(value, start) || !value.get(start)?.is_ascii_alphabetic() {
        return None;
    }
    let rest = value.get(start..)?;
    if rest.get(..9).is_some_and(|head| head.eq_ignore_ascii_case(b"password="))
        && rest.get(4..9) == Some(b"word=")
    {
        // libpq's own quoting, as far as what is replaced may reach.
        let quoted = usize::from(value.get(start + 9) == Some(&b'\''));
        let of_password = |byte: u8| {
            if quoted == 1 {
                byte == b' ' || is_uri(byte)
            } else {
                is_uri(byte) && byte != b'&' && byte != b')'
            }
        };
        let end = start + 9 + quoted + stretch(value, start + 9 + quoted, usize::MAX, of_password);
        let close = usize::from(quoted == 1 && value.get(end) == Some(&b'\''));
        return (end - start >= 9 + 4).then_some(end + close);
    }
    let scheme =
        stretch(value, start, 32, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'-'));
    let authority = rest.get(scheme..)?.strip_prefix(b"://")?;
    let user_info = authority.iter().position(|byte| ends_user_info(*byte))?;
    if authority.get(user_info) != Some(&b'@') || !authority.get(..user_info)?.contains(&b':') {
        return None;
    }
    let end = start + scheme + 3 + user_info;
    Some(end + stretch(value, end, usize::MAX, is_uri))
}

#[cfg(test)]
mod tests {
    use super::super::{ANCHORS, Anchors, plausible_anchor};
    use super::*;

    #[test]
    fn addresses_without_a_password_are_not_looked_at() {
        for address in [
            "https://www.example.org/a?b=c@d",
            "see http://example.org",
            "ftp://example.org, x@y.org",
            "a://\"@",
        ] {
            let at = memchr::memmem::find(address.as_bytes(), b"://").expect("an anchor");
            assert!(!plausible_anchor(address.as_bytes(), at), "{address}");
        }
        for secret in [
            "postgres://u:p;w@h/d",
            "postgres://u:p;'w@h",
            "x://u:p@",
            r"postgres://u:p\u0040h/d",
            "AKIA",
            "word=",
        ] {
            let at = Anchors::get().next(secret.as_bytes(), 0).expect("an anchor");
            assert!(plausible_anchor(secret.as_bytes(), at), "{secret}");
        }
    }

    #[test]
    fn every_prefix_holds_an_anchor() {
        for token in TOKENS {
            let held = ANCHORS.iter().any(|anchor| memchr::memmem::find(token.prefix, anchor).is_some());
            assert!(held, "{}", token.prefix.escape_ascii());
        }
    }
}

//! Why a token was refused: one text for the client, one for the evidence.
//!
//! Owns: [`Denied`] and its closed list of reasons. May not: hold or print anything that was read from the token, not
//! a claim, not a header value, not a piece of either: every reason is made of numbers, of our own words and of what
//! the operator configured. A thing that does not have the shape of a token may be a real password; of such a thing
//! not even a thumbprint is kept, because the thumbprint of a weak password can be searched for.

use std::fmt;

/// SQLSTATE `invalid_authorization_specification`: what every refused token is answered with.
pub const SQLSTATE: &str = "28000";

/// What is wrong with a token, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was sent.
    Empty,
    /// More bytes than are looked at.
    TooLong {
        /// Bytes sent.
        bytes: usize,
        /// `limits.token_bytes_max`.
        bytes_max: usize,
    },
    /// No JWS in compact form (RFC 7515 section 3.1): something else was sent, perhaps a password.
    NotAToken,
    /// Five parts or an `enc` header: an encrypted token (JWE, RFC 7516).
    Encrypted,
    /// A part is not canonical base64url without padding, or not the JSON object it must be.
    Malformed(Part, Flaw),
    /// `crit`, `b64` or `zip`: header extensions (RFC 7515 section 4.1.11) none of which is understood here.
    Extension,
    /// `cty`: the token contains another token.
    Nested,
    /// `typ` is not one the issuer may use.
    Type,
    /// `alg` is `none`.
    Unsigned,
    /// `alg` is a shared-secret algorithm; such a token could be made by anybody who holds the public key as bytes.
    Symmetric,
    /// `alg` is not one of those configured for the issuer.
    Algorithm,
    /// `iss` names no configured issuer.
    Issuer,
    /// The issuer's keys were never fetched, or are too old to be believed.
    NoKeys {
        /// Seconds until the next fetch may begin; 0 when it may begin at once.
        retry_in_s: u64,
        /// What the last fetch failed with, for the operator.
        cause: String,
    },
    /// No key of the issuer's set has the token's `kid` and fits its algorithm.
    UnknownKey {
        /// Seconds until the set may be fetched again.
        retry_in_s: u64,
        /// Usable keys in the set.
        keys: usize,
    },
    /// Several keys fit.
    AmbiguousKey,
    /// The signature is not that of the key.
    Signature,
    /// `aud` holds none of the configured audiences.
    Audience,
    /// `aud` holds others beside them, which are not configured as trusted.
    ForeignAudience,
    /// `azp` is missing where it must be, or is not a configured party.
    AuthorizedParty,
    /// `nonce` is present: the token belongs to a browser's login, not to this connection.
    Nonce,
    /// A claim that must be there is missing.
    Missing(&'static str),
    /// A claim has a type or value that its definition does not allow.
    BadClaim(&'static str),
    /// `exp` has passed.
    Expired {
        /// Seconds since.
        since_s: i64,
    },
    /// `nbf` lies ahead.
    NotYetValid {
        /// Seconds until.
        in_s: i64,
    },
    /// `iat` lies ahead of the gateway's clock by more than the skew.
    IssuedInFuture {
        /// Seconds ahead.
        in_s: i64,
    },
    /// `iat` is further back than the issuer's tokens may be.
    TooOld {
        /// Seconds since `iat`.
        age_s: i64,
        /// The bound.
        age_s_max: u32,
    },
    /// openidconnect's verification refused what our own reading had let pass; named by its kind.
    SecondReading(&'static str),
    /// The verification itself failed; nothing can be said of the token.
    Internal(&'static str),
}

/// A part of a compact token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The JOSE header.
    Header,
    /// The claims.
    Claims,
    /// The signature.
    Signature,
}

/// How a part is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Not base64url without padding, or with bits that say nothing.
    Encoding,
    /// Not JSON.
    Json,
    /// JSON, but no object.
    NoObject,
    /// An object names the same member twice: two readers could see two tokens.
    DuplicateMember,
    /// A member has the wrong type.
    MemberType,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Header => "header",
            Part::Claims => "claims",
            Part::Signature => "signature",
        })
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::Encoding => "not canonical base64url",
            Flaw::Json => "not JSON",
            Flaw::NoObject => "not a JSON object",
            Flaw::DuplicateMember => "a JSON object that names a member twice",
            Flaw::MemberType => "a JSON object with a member of the wrong type",
        })
    }
}

impl Reason {
    /// A short name for metrics and for the evidence's index, of a closed set.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Reason::Empty => "empty",
            Reason::TooLong { .. } => "too_long",
            Reason::NotAToken => "not_a_token",
            Reason::Encrypted => "encrypted",
            Reason::Malformed(..) => "malformed",
            Reason::Extension => "extension",
            Reason::Nested => "nested",
            Reason::Type => "type",
            Reason::Unsigned => "unsigned",
            Reason::Symmetric => "symmetric",
            Reason::Algorithm => "algorithm",
            Reason::Issuer => "issuer",
            Reason::NoKeys { .. } => "no_keys",
            Reason::UnknownKey { .. } => "unknown_key",
            Reason::AmbiguousKey => "ambiguous_key",
            Reason::Signature => "signature",
            Reason::Audience => "audience",
            Reason::ForeignAudience => "foreign_audience",
            Reason::AuthorizedParty => "authorized_party",
            Reason::Nonce => "nonce",
            Reason::Missing(_) => "missing_claim",
            Reason::BadClaim(_) => "bad_claim",
            Reason::Expired { .. } => "expired",
            Reason::NotYetValid { .. } => "not_yet_valid",
            Reason::IssuedInFuture { .. } => "issued_in_future",
            Reason::TooOld { .. } => "too_old",
            Reason::SecondReading(_) => "second_reading",
            Reason::Internal(_) => "internal",
        }
    }

    /// What the client may read: it helps the honest and tells a stranger nothing of the configuration.
    fn client(&self) -> String {
        const FETCH: &str = "fetch a fresh token and send it as the password";
        const UNFIT: &str = "send a token signed by an identity provider that this gateway is configured for";
        match self {
            Reason::Empty => format!("the password is empty; {FETCH}"),
            Reason::TooLong { bytes, bytes_max } => {
                format!("the password has {bytes} bytes and at most {bytes_max} are accepted; ask for a token with fewer claims")
            }
            Reason::NotAToken => format!("the password is not a token (JWT); {FETCH}"),
            Reason::Encrypted => "the token is encrypted (JWE); send a signed one (JWS)".to_owned(),
            Reason::Malformed(part, flaw) => format!("the token's {part} part is {flaw}; {FETCH}"),
            Reason::Extension => format!("the token demands a header extension that is not supported; {UNFIT}"),
            Reason::Nested => format!("the token contains another token; {UNFIT}"),
            Reason::Type => format!("the token is of a type that is not accepted here; {UNFIT}"),
            Reason::Unsigned => format!("the token is not signed; {UNFIT}"),
            Reason::Symmetric => format!("the token is signed with a shared secret; {UNFIT}"),
            Reason::Algorithm => format!("the token's signature algorithm is not accepted; {UNFIT}"),
            Reason::Issuer => format!("the token's issuer is not accepted; {UNFIT}"),
            Reason::NoKeys { retry_in_s, .. } => format!(
                "the identity provider's keys are not available; try again in {} s, and if it stays so tell the gateway's operator",
                retry_in_s.max(&1)
            ),
            Reason::UnknownKey { retry_in_s, .. } => format!(
                "the token is signed with a key the identity provider does not publish; {FETCH}, or try again in {} s if keys were just rotated",
                retry_in_s.max(&1)
            ),
            Reason::AmbiguousKey => {
                "several of the identity provider's keys fit the token; its operator must give each key its own id".to_owned()
            }
            Reason::Signature => format!("the token's signature is wrong; {FETCH}"),
            Reason::Audience | Reason::ForeignAudience => {
                "the token is meant for another audience; ask the identity provider for one meant for this gateway".to_owned()
            }
            Reason::AuthorizedParty => {
                "the token was issued to a party that is not accepted (azp); use the client registered for this gateway".to_owned()
            }
            Reason::Nonce => "the token belongs to a browser login (nonce); ask for one without".to_owned(),
            Reason::Missing(claim) => format!("the token has no claim {claim}; {UNFIT}"),
            Reason::BadClaim(claim) => format!("the token's claim {claim} is not valid; {UNFIT}"),
            Reason::Expired { since_s } => format!("the token expired {since_s} s ago; {FETCH}"),
            Reason::NotYetValid { in_s } => {
                format!("the token is not valid for another {in_s} s; wait, or correct the clocks")
            }
            Reason::IssuedInFuture { in_s } => {
                format!("the token was issued {in_s} s in the future; correct the clocks")
            }
            Reason::TooOld { age_s, age_s_max } => {
                format!("the token was issued {age_s} s ago and {age_s_max} s are accepted; {FETCH}")
            }
            Reason::SecondReading(_) => format!("the token is not valid; {FETCH}"),
            Reason::Internal(_) => {
                "the token could not be verified; try again, and if it stays so tell the gateway's operator".to_owned()
            }
        }
    }
}

/// A refused token.
///
/// At fault is the client, but for [`Reason::NoKeys`] (the identity provider) and [`Reason::Internal`] (the gateway).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    reason: Reason,
    issuer: Option<String>,
    expected: Option<String>,
    token_thumbprint: Option<String>,
}

impl Denied {
    pub(super) fn new(reason: Reason) -> Denied {
        Denied { reason, issuer: None, expected: None, token_thumbprint: None }
    }

    /// Adds the configured name of the issuer whose rules refused.
    pub(super) fn of_issuer(mut self, name: &str) -> Denied {
        self.issuer = Some(name.to_owned());
        self
    }

    /// Adds what the configuration would have accepted, for the evidence only.
    pub(super) fn expecting(mut self, what: String) -> Denied {
        self.expected = Some(what);
        self
    }

    pub(super) fn with_thumbprint(mut self, thumbprint: &str) -> Denied {
        self.token_thumbprint = Some(thumbprint.to_owned());
        self
    }

    /// The primary message for the client, with SQLSTATE [`SQLSTATE`]: what, why, what next.
    #[must_use]
    pub fn client_text(&self) -> String {
        format!("pgturnstile: login refused: {}", self.reason.client())
    }

    /// The exact reason, for evidence and the operator's log. Holds nothing of the token.
    #[must_use]
    pub fn exact(&self) -> String {
        let mut text = format!("{}: {}", self.reason.kind(), self.reason.client());
        match &self.reason {
            Reason::NoKeys { cause, .. } => {
                text.push_str("; last fetch: ");
                text.push_str(cause);
            }
            Reason::UnknownKey { keys, .. } => {
                text.push_str(&format!("; the set holds {keys} usable keys"));
            }
            Reason::SecondReading(kind) | Reason::Internal(kind) => {
                text.push_str("; ");
                text.push_str(kind);
            }
            Reason::Audience => text.push_str("; none of its audiences is configured"),
            Reason::ForeignAudience => {
                text.push_str("; one of its audiences is neither configured nor trusted")
            }
            Reason::Empty
            | Reason::TooLong { .. }
            | Reason::NotAToken
            | Reason::Encrypted
            | Reason::Malformed(..)
            | Reason::Extension
            | Reason::Nested
            | Reason::Type
            | Reason::Unsigned
            | Reason::Symmetric
            | Reason::Algorithm
            | Reason::Issuer
            | Reason::AmbiguousKey
            | Reason::Signature
            | Reason::AuthorizedParty
            | Reason::Nonce
            | Reason::Missing(_)
            | Reason::BadClaim(_)
            | Reason::Expired { .. }
            | Reason::NotYetValid { .. }
            | Reason::IssuedInFuture { .. }
            | Reason::TooOld { .. } => {}
        }
        if let Some(expected) = &self.expected {
            text.push_str("; configured: ");
            text.push_str(expected);
        }
        if let Some(issuer) = &self.issuer {
            text.push_str("; issuer ");
            text.push_str(issuer);
        }
        text
    }

    /// What is wrong, as a value.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// A short name of the reason, of a closed set: a metric's label.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.reason.kind()
    }

    /// The `[[issuer]]` entry whose rules refused, where the token's `iss` named one. Not verified.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The token's thumbprint as in `Principal::token_thumbprint`; `None` where what was sent is no token.
    #[must_use]
    pub fn token_thumbprint(&self) -> Option<&str> {
        self.token_thumbprint.as_deref()
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.exact())
    }
}

impl std::error::Error for Denied {}

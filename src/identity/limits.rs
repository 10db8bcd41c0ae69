//! Every bound of identity, with its unit in the name.
//!
//! What a token, an identity provider or a file may make the gateway hold, wait for or repeat stands here and nowhere
//! else. A bound that is met is a refusal with a reason, never a cut.

use std::time::Duration;

/// Longest token that is looked at when the configuration does not say otherwise (`limits.token_bytes_max`).
pub const TOKEN_BYTES_MAX: usize = 65_536;
/// Longest key identifier (`kid`) of a token or key.
pub const KID_BYTES_MAX: usize = 512;
/// Longest subject. OpenID Connect Core 1.0, section 2, says 255 characters; Kubernetes names are longer.
pub const SUBJECT_BYTES_MAX: usize = 1_024;
/// Most groups one token may bring; more is an overflow, and an overflow is no list.
pub const GROUPS_MAX: usize = 2_000;
/// Most audiences one token may name.
pub const AUDIENCES_MAX: usize = 32;
/// Longest key set document.
pub const KEY_SET_BYTES_MAX: usize = 1_048_576;
/// Most keys of one set; AWS and Google serve fewer than ten.
pub const KEYS_MAX: usize = 128;
/// Longest discovery document.
pub const DISCOVERY_BYTES_MAX: usize = 262_144;
/// Longest token request to the development identity provider.
pub const DEV_REQUEST_BYTES_MAX: usize = 65_536;
/// Connections the development identity provider serves at a time.
pub const DEV_CONNECTIONS_MAX: usize = 64;
/// Smallest RSA modulus that is trusted, NIST SP 800-131A.
pub const RSA_BITS_MIN: usize = 2_048;
/// Largest RSA modulus that is verified; beyond it a verification costs milliseconds of a shard.
pub const RSA_BITS_MAX: usize = 4_096;
/// Largest clock skew an issuer may be configured with, in seconds.
pub const CLOCK_SKEW_S_MAX: u32 = 300;
/// Clock skew where none is configured, in seconds.
pub const CLOCK_SKEW_S: u32 = 30;
/// Oldest token that opens a session where nothing is configured, in seconds since `iat`.
pub const TOKEN_AGE_S_MAX: u32 = 86_400;
/// One HTTP exchange, from the name look-up to the last byte.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// When keys are fetched, and how long they are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTiming {
    /// Keys younger than this are used without a thought of refreshing, in milliseconds.
    pub refresh_ms: u64,
    /// Shortest distance between the beginnings of two fetches, in milliseconds, whatever tokens say.
    pub floor_ms: u64,
    /// Keys that could not be confirmed for longer than this are refused, in milliseconds.
    pub stale_ms_max: u64,
}

impl KeyTiming {
    /// For keys fetched over HTTP: refreshed every five minutes, at most one fetch in ten seconds, one hour of outage.
    pub const HTTP: KeyTiming = KeyTiming { refresh_ms: 300_000, floor_ms: 10_000, stale_ms_max: 3_600_000 };
    /// For keys in a file: looked at every two seconds, one hour without a readable file.
    pub const FILE: KeyTiming = KeyTiming { refresh_ms: 2_000, floor_ms: 1_000, stale_ms_max: 3_600_000 };
}

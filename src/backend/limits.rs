//! Every bound of the target side, with its unit in the name.

use std::time::Duration;

/// Most bytes of a password, whatever its source: what fits the server's PasswordMessage
/// (`PG_MAX_AUTH_TOKEN_LENGTH`, src/include/libpq/auth.h).
pub const PASSWORD_BYTES_MAX: usize = 65_534;

/// Time a password command may take, where the configuration names none, milliseconds.
pub const PASSWORD_COMMAND_MS: u64 = 10_000;

/// Fewest SCRAM iterations accepted (RFC 7677 section 4): below it a listener breaks weak passwords too fast.
pub const SCRAM_ITERATIONS_MIN: u32 = 4_096;

/// Most SCRAM iterations accepted: the count is the server's to choose and costs the gateway CPU.
pub const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;

/// Most bytes of a SCRAM salt. PostgreSQL's are 16.
pub const SCRAM_SALT_BYTES_MAX: usize = 1_024;

/// Most bytes of a server's SCRAM message.
pub const SCRAM_MESSAGE_BYTES_MAX: usize = 8_192;

/// Random bytes of a SCRAM nonce, before base64 (`SCRAM_RAW_NONCE_LEN` of the server is 18).
pub const SCRAM_NONCE_BYTES: usize = 18;

/// How long derived SCRAM keys are kept, seconds.
pub const DERIVED_KEYS_S: u64 = 300;

/// How many derived keys are kept; one per credential and target in practice.
pub const DERIVED_KEYS_MAX: usize = 1_024;

/// Most frames that a target may send before its first ReadyForQuery.
pub const LOGIN_FRAMES_MAX: usize = 512;

/// Most bytes that a target may send before its first ReadyForQuery.
pub const LOGIN_BYTES_MAX: usize = 262_144;

/// Most notices of the login that are kept for the client; later ones are counted against the byte limit only.
pub const LOGIN_NOTICES_MAX: usize = 16;

/// Most rows that the gateway's own short queries may return.
pub const QUERY_ROWS_MAX: usize = 1_048_576;

/// Most bytes that the gateway's own short queries may return.
pub const QUERY_BYTES_MAX: usize = 268_435_456;

/// Bytes of a name in the server, without its terminator (`NAMEDATALEN` less one): longer ones are truncated there.
pub const NAME_BYTES_MAX: usize = 63;

/// Most bytes of a setting that a client gives at startup.
pub const SETTING_BYTES_MAX: usize = 128;

/// Most bytes of a session id inside `application_name`.
pub const SESSION_ID_BYTES_MAX: usize = 40;

/// How long a target is given to close its end after a cancel request, at most; the request has been sent by then.
pub const CANCEL_LINGER: Duration = Duration::from_secs(5);

//! The startup packet that the gateway sends: the client's allowed settings, and ours over them.
//!
//! Owns two steps. [`ClientSettings::read`] takes the parameters of a client's startup packet by an allow-list, with
//! `options` taken apart; [`StartupParameters::build`] adds what the access entry fixes. What the gateway sends
//! stands in the startup packet, not in SET statements, so that RESET and DISCARD ALL return to it, and it outranks
//! what ALTER ROLE and ALTER DATABASE set (`PGC_S_CLIENT` over `PGC_S_USER`, src/include/utils/guc.h).
//!
//! May not do: choose target or login (the client's `user` and `database` are only handed over). Fails by naming the
//! parameter: nothing a client asks for is dropped in silence, except where it asks for what is so anyway.

use crate::backend::limits::{NAME_BYTES_MAX, SESSION_ID_BYTES_MAX, SETTING_BYTES_MAX};
use crate::backend::options::{self, OptionRefused};
use crate::backend::settings::Guards;

/// Settings that a client may choose at startup, as the server spells them. None of them moves what a statement means
/// or reaches: they shape dates, intervals and floats, and name the application.
const ALLOWED: [&str; 5] =
    ["application_name", "TimeZone", "DateStyle", "IntervalStyle", "extra_float_digits"];

/// A startup parameter that is not taken. The client is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterRefused {
    /// Not on the allow-list.
    #[error(
        "startup parameter {name:?} is not allowed through this gateway: only application_name, TimeZone, DateStyle, \
         IntervalStyle, extra_float_digits and client_encoding=UTF8 are; leave it out, or SET it in the session where \
         the policy permits"
    )]
    NotAllowed {
        /// As the client wrote it.
        name: String,
    },
    /// A replication connection.
    #[error(
        "replication connections are refused by this gateway: they carry whole pages and logs that no rule can judge; \
         leave out the startup parameter \"replication\""
    )]
    Replication,
    /// Another encoding than UTF-8.
    #[error(
        "client_encoding {value:?} is refused: this gateway reads statements in UTF8 only; set client_encoding to UTF8"
    )]
    Encoding {
        /// As the client wrote it.
        value: String,
    },
    /// A setting that must stay as it is.
    #[error("startup parameter {name:?} must be {only:?} on this gateway; leave it out")]
    Fixed {
        /// As the client wrote it.
        name: String,
        /// The only value.
        only: &'static str,
    },
    /// A value with control characters, or too long.
    #[error("the value of startup parameter {name:?} is refused: {why}")]
    Value {
        /// As the client wrote it.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The same parameter twice: two readers could take different ones.
    #[error("startup parameter {name:?} is given twice; give it once")]
    Twice {
        /// As the client wrote it.
        name: String,
    },
    /// `options` that are not single settings.
    #[error(
        "startup parameter \"options\" is refused: {0}; give allowed settings only, as in -c TimeZone=UTC"
    )]
    Options(OptionRefused),
}

impl ParameterRefused {
    /// The SQLSTATE for the client: feature_not_supported or invalid_parameter_value.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::NotAllowed { .. } | Self::Replication | Self::Options(_) => "0A000",
            Self::Encoding { .. } | Self::Fixed { .. } | Self::Value { .. } | Self::Twice { .. } => "22023",
        }
    }
}

/// What the gateway itself was given to build a packet from, and cannot. The operator is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the startup packet for the target cannot be built: {what}")]
pub struct StartupError {
    what: String,
}

/// A client's startup parameters after the allow-list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientSettings {
    /// `user` as given; empty where the client gave none.
    pub user: String,
    /// `database` as given; `None` means the user's name (src/backend/tcop/backend_startup.c).
    pub database: Option<String>,
    application_name: Vec<u8>,
    settings: Vec<(&'static str, String)>,
}

impl ClientSettings {
    /// Reads the parameters of a startup packet, in their order. As in the server (`process_startup_options`), the
    /// settings in `options` apply first and those given as parameters after them, so the latter win.
    ///
    /// # Errors
    /// The first parameter that is not allowed, by name.
    pub fn read<'p>(
        parameters: impl IntoIterator<Item = (&'p [u8], &'p [u8])>,
    ) -> Result<Self, ParameterRefused> {
        let mut own = Self::default();
        let mut named: Vec<(String, &[u8])> = Vec::new();
        let mut options: &[u8] = b"";
        for (name, value) in parameters {
            let name = shown(name);
            if named.iter().any(|(other, _)| *other == name) {
                return Err(ParameterRefused::Twice { name });
            }
            named.push((name, value));
        }
        let mut assignments: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, value) in named {
            match name.as_str() {
                "user" => own.user = utf8_name(name, value)?,
                "database" => own.database = Some(utf8_name(name, value)?),
                "options" => options = value,
                "replication" => not_replication(value)?,
                // Protocol extensions: the gateway knows none, and NegotiateProtocolVersion has named them.
                protocol if protocol.starts_with("_pq_.") => {}
                _ => assignments.push((name, value.to_vec())),
            }
        }
        let options = std::str::from_utf8(options)
            .map_err(|_| OptionRefused::NotAscii)
            .and_then(options::settings)
            .map_err(ParameterRefused::Options)?;
        for (name, value) in options {
            own.set(name, value.as_bytes())?;
        }
        for (name, value) in assignments {
            own.set(name, &value)?;
        }
        Ok(own)
    }

    /// The settings to send on, besides `application_name`.
    pub fn settings(&self) -> &[(&'static str, String)] {
        &self.settings
    }

    /// The client's own application name, printable ASCII.
    pub fn application_name(&self) -> String {
        clean_ascii(&self.application_name)
    }

    fn set(&mut self, name: String, value: &[u8]) -> Result<(), ParameterRefused> {
        if name.eq_ignore_ascii_case("client_encoding") {
            let value = shown(value);
            return if is_utf8(&value) { Ok(()) } else { Err(ParameterRefused::Encoding { value }) };
        }
        if name.eq_ignore_ascii_case("standard_conforming_strings") {
            // What a server takes for true (`parse_bool`) and drivers send; it is so anyway.
            let on = [b"on".as_slice(), b"true", b"yes", b"1"];
            let fits = on.iter().any(|word| value.eq_ignore_ascii_case(word));
            return if fits { Ok(()) } else { Err(ParameterRefused::Fixed { name, only: "on" }) };
        }
        let Some(known) = ALLOWED.into_iter().find(|known| name.eq_ignore_ascii_case(known)) else {
            return Err(ParameterRefused::NotAllowed { name });
        };
        if known == "application_name" {
            self.application_name = value.to_vec();
            return Ok(());
        }
        if value.len() > SETTING_BYTES_MAX {
            return Err(ParameterRefused::Value { name, why: "it is longer than 128 bytes" });
        }
        if !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(ParameterRefused::Value { name, why: "it holds other than printable ASCII" });
        }
        let value = shown(value);
        match self.settings.iter_mut().find(|(other, _)| *other == known) {
            Some((_, earlier)) => *earlier = value,
            None => self.settings.push((known, value)),
        }
        Ok(())
    }
}

/// The parameters of the gateway's own startup packet, and what the server must report of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupParameters {
    pairs: Vec<(&'static str, String)>,
    read_only: bool,
    search_path: String,
}

impl StartupParameters {
    /// Puts the packet of a session together. `session` is the session's id; `application_name` becomes the client's
    /// own name and `pgt:` with the id behind it, shortened in the name and never in the id.
    ///
    /// # Errors
    /// A name that the server would truncate, a schema that cannot stand in `search_path`, or a session id that
    /// cannot stand in `application_name`.
    pub fn build(
        user: &str,
        database: &str,
        client: &ClientSettings,
        guards: &Guards,
        session: &str,
    ) -> Result<Self, StartupError> {
        let search_path = search_path(&guards.search_path)?;
        let mut pairs = vec![
            ("user", server_name("user", user)?),
            ("database", server_name("database", database)?),
            ("client_encoding", "UTF8".to_owned()),
            ("standard_conforming_strings", "on".to_owned()),
            ("search_path", search_path.clone()),
            ("application_name", application_name(&client.application_name(), session)?),
        ];
        if guards.read_only {
            pairs.push(("default_transaction_read_only", "on".to_owned()));
        }
        let timeouts = [
            ("statement_timeout", guards.statement_timeout_ms),
            ("lock_timeout", guards.lock_timeout_ms),
            ("idle_in_transaction_session_timeout", guards.idle_in_transaction_ms),
        ];
        for (name, milliseconds) in timeouts {
            if let Some(milliseconds) = milliseconds {
                pairs.push((name, timeout(name, milliseconds)?));
            }
        }
        pairs.extend(client.settings.iter().cloned());
        Ok(Self { pairs, read_only: guards.read_only, search_path })
    }

    /// Name and value of each parameter, `user` and `database` first, no name twice.
    pub fn pairs(&self) -> &[(&'static str, String)] {
        &self.pairs
    }

    /// The role that logs in.
    pub fn user(&self) -> &str {
        self.value("user")
    }

    /// The value of one parameter; empty where it is not sent.
    pub fn value(&self, name: &str) -> &str {
        self.pairs.iter().find(|(other, _)| *other == name).map_or("", |(_, value)| value)
    }

    /// Whether the server must report `default_transaction_read_only=on`.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// What a server that reports `search_path` (18 and later) must report.
    pub fn search_path(&self) -> &str {
        &self.search_path
    }
}

/// Bytes of a peer as text for a message; proto has ended them at their NUL.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn utf8_name(name: String, value: &[u8]) -> Result<String, ParameterRefused> {
    match std::str::from_utf8(value) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(ParameterRefused::Value { name, why: "it is not UTF-8" }),
    }
}

/// `replication` is a boolean or `database` (src/backend/tcop/backend_startup.c); only a false one asks for nothing.
fn not_replication(value: &[u8]) -> Result<(), ParameterRefused> {
    let off = [b"off".as_slice(), b"false", b"no", b"0"];
    if off.iter().any(|word| value.eq_ignore_ascii_case(word)) {
        Ok(())
    } else {
        Err(ParameterRefused::Replication)
    }
}

/// Whether the server would take this for UTF-8: `clean_encoding_name` (src/common/encnames.c) keeps letters and
/// digits only, and knows UTF-8 as `utf8` and `unicode`. Drivers write UTF8, utf-8, UTF_8, 'utf-8', Unicode.
fn is_utf8(value: &str) -> bool {
    if value.len() > NAME_BYTES_MAX {
        return false;
    }
    let clean: String =
        value.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    value.is_ascii() && (clean == "utf8" || clean == "unicode")
}

/// Printable ASCII, everything else as a question mark: what servers before 16 make of it themselves
/// (`pg_clean_ascii`, src/common/string.c).
fn clean_ascii(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' }).collect()
}

fn application_name(client: &str, session: &str) -> Result<String, StartupError> {
    let fits = !session.is_empty()
        && session.len() <= SESSION_ID_BYTES_MAX
        && session.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        let what = format!(
            "the session id {session:?} is not 1 to {SESSION_ID_BYTES_MAX} printable ASCII characters"
        );
        return Err(StartupError { what });
    }
    let own = format!("pgt:{session}");
    let room = NAME_BYTES_MAX.saturating_sub(own.len() + 1);
    // ASCII by construction: a cut falls between characters.
    let client = client.get(..client.len().min(room)).unwrap_or("").trim();
    Ok(if client.is_empty() { own } else { format!("{client} {own}") })
}

fn server_name(what: &str, name: &str) -> Result<String, StartupError> {
    let why = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "is longer than 63 bytes, where the server truncates"
    } else if name.contains('\0') {
        "holds a NUL"
    } else {
        return Ok(name.to_owned());
    };
    Err(StartupError { what: format!("{what} {name:?} {why}") })
}

/// Every schema quoted, so that the server reads what the gateway read.
fn search_path(schemas: &[String]) -> Result<String, StartupError> {
    let quoted: Result<Vec<String>, StartupError> = schemas
        .iter()
        .map(|schema| {
            let schema = server_name("the schema of search_path", schema)?;
            if schema == "$user" {
                // Quoted or not, the server replaces it by the role's name (`recomputeNamespacePath`).
                let what = "search_path may not hold \"$user\": name the schema".to_owned();
                return Err(StartupError { what });
            }
            Ok(format!("\"{}\"", schema.replace('"', "\"\"")))
        })
        .collect();
    Ok(quoted?.join(", "))
}

fn timeout(name: &str, milliseconds: u32) -> Result<String, StartupError> {
    if i32::try_from(milliseconds).is_err() {
        return Err(StartupError {
            what: format!("{name} of {milliseconds} ms is over the server's maximum"),
        });
    }
    Ok(milliseconds.to_string())
}

#[cfg(test)]
#[path = "startup_tests.rs"]
mod tests;

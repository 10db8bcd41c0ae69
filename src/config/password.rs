//! Fetches a target's password from where the configuration says.
//!
//! Owns the three sources: file, environment, command. A password lives in a [`SecretString`] from the first byte on and
//! is in no error and no log line; errors name the source. It fails closed: no password, no login.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::model::PasswordSource;

/// Longest password. The server reads password messages up to 65535 bytes (PG_MAX_AUTH_TOKEN_LENGTH,
/// src/backend/libpq/auth.c).
pub const PASSWORD_BYTES_MAX: u64 = 65_535;

/// How often a command that has closed its output is asked whether it has ended, in milliseconds.
const EXIT_POLL_MS: u64 = 5;

/// Why there is no password. Always the operator's to repair; never holds a byte of it.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file or the program's output could not be read, or the program not started.
    #[error("the password of {place} cannot be read: {error}")]
    Io {
        /// The source.
        place: String,
        /// The system's error.
        error: io::Error,
    },
    /// The environment variable is not set.
    #[error("the password of {place} is not set; set it in the gateway's environment and restart")]
    Unset {
        /// The source.
        place: String,
    },
    /// The source yielded what cannot be a password.
    #[error("the password of {place} {fault}")]
    Unfit {
        /// The source.
        place: String,
        /// Empty, too long, not UTF-8, holding a NUL.
        fault: &'static str,
    },
    /// The program failed.
    #[error("the password of {place}: the program ended with {status}; run it by hand as the gateway's user")]
    Failed {
        /// The source.
        place: String,
        /// Its exit status.
        status: ExitStatus,
    },
    /// The program ran out of time and was killed with its children.
    #[error(
        "the password of {place}: the program ran longer than {timeout_ms} ms and was ended; see timeout_ms"
    )]
    TimedOut {
        /// The source.
        place: String,
        /// The limit, in milliseconds.
        timeout_ms: u64,
    },
}

impl PasswordSource {
    /// Fetches the password. Blocks for as long as the file system takes, or up to the command's time limit: call it
    /// where blocking is allowed (`spawn_blocking`), never on a shard.
    ///
    /// # Errors
    /// The source is missing, fails, is too slow, or yields what cannot be a password.
    pub fn fetch(&self) -> Result<SecretString, PasswordError> {
        let place = self.to_string();
        let bytes = match self {
            PasswordSource::File(path) => read_file(path, &place)?,
            PasswordSource::Environment(name) => match std::env::var_os(name) {
                Some(value) => Zeroizing::new(value.into_encoded_bytes()),
                None => return Err(PasswordError::Unset { place }),
            },
            PasswordSource::Command { argv, timeout_ms } => run(argv, *timeout_ms, &place)?,
        };
        let first_line_only = matches!(self, PasswordSource::Command { .. });
        secret(&bytes, first_line_only).map_err(|fault| PasswordError::Unfit { place, fault })
    }
}

/// The bytes less the line end, as a password.
fn secret(bytes: &[u8], first_line_only: bool) -> Result<SecretString, &'static str> {
    if bytes.len() as u64 > PASSWORD_BYTES_MAX {
        return Err("is longer than 65535 bytes; the server would not read it");
    }
    let mut text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    if first_line_only {
        text = text.split('\n').next().unwrap_or_default();
    }
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("is empty");
    }
    if text.contains('\0') {
        return Err("holds a NUL byte, which no password message can carry");
    }
    Ok(SecretString::from(text))
}

fn read_file(path: &Path, place: &str) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    let io = |error| PasswordError::Io { place: place.to_owned(), error };
    let file = std::fs::File::open(path).map_err(io)?;
    bounded(file).map_err(io)
}

/// Reads one byte more than a password may have, so that a longer one is seen. The buffer never grows, so no copy of
/// the secret stays behind in freed memory.
fn bounded(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX as usize + 64));
    source.take(PASSWORD_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs the program in its own process group, so that a time-out ends what it started too.
fn run(argv: &[String], timeout_ms: u64, place: &str) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    let io = |error| PasswordError::Io { place: place.to_owned(), error };
    let (program, arguments) = argv.split_first().ok_or_else(|| io(io::ErrorKind::InvalidInput.into()))?;
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(io)?;
    let Some(output) = child.stdout.take() else {
        end(&mut child);
        return Err(io(io::ErrorKind::BrokenPipe.into()));
    };
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::Builder::new().name("password".to_owned()).spawn(move || {
        // The receiver may have given up; the bytes are wiped on drop then.
        let _given_up = sender.send(bounded(output));
    });
    if let Err(error) = reader {
        end(&mut child);
        return Err(io(error));
    }
    let remaining = || deadline.saturating_duration_since(Instant::now());
    let bytes = receiver.recv_timeout(remaining());
    let status = bytes.is_ok().then(|| wait(&mut child, deadline)).flatten();
    if status.is_none() {
        end(&mut child);
    }
    match (bytes, status) {
        (Ok(bytes), Some(status)) if status.success() => bytes.map_err(io),
        (Ok(_), Some(status)) => Err(PasswordError::Failed { place: place.to_owned(), status }),
        (_, None) | (Err(_), Some(_)) => Err(PasswordError::TimedOut { place: place.to_owned(), timeout_ms }),
    }
}

/// The exit status, or `None` at the deadline.
fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(EXIT_POLL_MS));
    }
}

/// Ends the program's process group and collects the program.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // It may have ended by itself meanwhile; either way it is collected below.
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _collected = child.wait();
}

//! Where a login's password comes from: a file, an environment variable, or a program's output.
//!
//! Owns the reading, its bounds, and the wiping. A password is read when a login needs it and dropped behind it; it is
//! never printed, logged or part of an error, and no type here shows it by `Debug`. Fails by naming the source and
//! what is wrong with it; a program's own output, on either channel, is never quoted.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret, SecretSlice};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::backend::limits::PASSWORD_BYTES_MAX;
use crate::backend::settings::PasswordSource;

/// A password. Its bytes are wiped when it is dropped.
#[derive(Clone)]
pub struct Password(SecretSlice<u8>);

impl std::fmt::Debug for Password {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Password(..)")
    }
}

impl Password {
    /// Takes what a source gave: one trailing newline is no part of it.
    ///
    /// # Errors
    /// Empty, too long, or holding a NUL, which no PasswordMessage can carry.
    pub fn new(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = match bytes {
            [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n'] => rest,
            whole => whole,
        };
        if bytes.is_empty() {
            return Err("it is empty");
        }
        if bytes.len() > PASSWORD_BYTES_MAX {
            return Err("it is longer than 65534 bytes");
        }
        if bytes.contains(&0) {
            return Err("it holds a NUL byte");
        }
        Ok(Self(SecretSlice::from(bytes.to_vec())))
    }

    /// The bytes, for the one place that sends or derives.
    pub(super) fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

/// A password that cannot be had. The operator is at fault.
#[derive(Debug, thiserror::Error)]
#[error("the password of credential {credential:?} cannot be read from {origin}: {what}")]
pub struct CredentialError {
    credential: String,
    origin: String,
    what: String,
}

/// Reads the password of `credential` from its source, not later than `deadline`.
///
/// # Errors
/// A source that is missing, fails, is too slow, or gives something that can be no password.
pub async fn read(
    credential: &str,
    source: &PasswordSource,
    deadline: Instant,
) -> Result<Password, CredentialError> {
    let (origin, bytes) = source_bytes(source, deadline).await;
    bytes.and_then(|bytes| Password::new(&bytes).map_err(str::to_owned)).map_err(|what| CredentialError {
        credential: credential.to_owned(),
        origin,
        what,
    })
}

/// Reads a secret that is a line of text and no login's, not later than `deadline`.
///
/// # Errors
/// A source that is missing, fails, is too slow, or gives no text; it is named, and what it gave is never quoted.
pub async fn read_text(source: &PasswordSource, deadline: Instant) -> Result<Zeroizing<String>, String> {
    let (origin, bytes) = source_bytes(source, deadline).await;
    let text = bytes.and_then(|bytes| match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err("it is no text".to_owned()),
    });
    text.map_err(|what| format!("it cannot be read from {origin}: {what}"))
}

/// What a source is called in messages, and what it gave.
async fn source_bytes(
    source: &PasswordSource,
    deadline: Instant,
) -> (String, Result<Zeroizing<Vec<u8>>, String>) {
    match source {
        PasswordSource::File(path) => (format!("file {}", path.display()), from_file(path, deadline).await),
        PasswordSource::Environment(name) => (format!("environment variable {name}"), from_environment(name)),
        PasswordSource::Command { argv, timeout_ms } => {
            let program = argv.first().map_or("", String::as_str);
            let deadline = deadline.min(Instant::now() + Duration::from_millis(*timeout_ms));
            (format!("command {program:?}"), from_command(argv, deadline).await)
        }
    }
}

/// Room for a password of the greatest length, its newline, and one byte that shows there was more. Allocated at once:
/// a buffer that grows leaves copies behind that nothing wipes.
fn buffer() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 3))
}

async fn from_file(path: &Path, deadline: Instant) -> Result<Zeroizing<Vec<u8>>, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let metadata = std::fs::metadata(&path).map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            // Opening a pipe would wait for a writer, for ever.
            return Err("it is no regular file".to_owned());
        }
        let file = std::fs::File::open(&path).map_err(|error| error.to_string())?;
        let mut bytes = buffer();
        let most = u64::try_from(bytes.capacity()).unwrap_or(u64::MAX);
        file.take(most).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    });
    match tokio::time::timeout_at(deadline, read).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the reading thread was stopped".to_owned()),
        Err(_) => Err("it was not read before the login's deadline".to_owned()),
    }
}

fn from_environment(name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    match std::env::var_os(name) {
        Some(value) => Ok(Zeroizing::new(value.into_vec())),
        None => Err("it is not set in the gateway's environment".to_owned()),
    }
}

async fn from_command(argv: &[String], deadline: Instant) -> Result<Zeroizing<Vec<u8>>, String> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err("it names no program".to_owned());
    };
    // A group of its own: whatever the program starts is ended with it.
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let mut running = Running(child);
    let bytes = match running.0.stdout.take() {
        Some(stdout) => output(stdout.into(), deadline).await?,
        None => return Err("it has no standard output".to_owned()),
    };
    let status = running.ended(deadline).await?;
    if status.success() { Ok(bytes) } else { Err(format!("it ended with {status}")) }
}

async fn output(stdout: OwnedFd, deadline: Instant) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut pipe = pipe::Receiver::from_owned_fd(stdout).map_err(|error| error.to_string())?;
    let mut bytes = buffer();
    let most = bytes.capacity();
    let read = async {
        while bytes.len() < most {
            let left = u64::try_from(most - bytes.len()).unwrap_or(u64::MAX);
            let count = (&mut pipe).take(left).read_buf(&mut *bytes).await?;
            if count == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    match tokio::time::timeout_at(deadline, read).await {
        Ok(Ok(())) if bytes.len() == most => Err("it is longer than 65534 bytes".to_owned()),
        Ok(Ok(())) => Ok(bytes),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it did not finish in its time".to_owned()),
    }
}

/// A command that was started. Ended with all it started, and reaped, when it is dropped: also where the login that
/// wanted its output is dropped half-way.
struct Running(Child);

impl Running {
    /// Waits for the end that the closed output announces. Looking again after a moment, a little longer each time,
    /// needs neither a thread nor a signal handler of the whole process.
    async fn ended(&mut self, deadline: Instant) -> Result<ExitStatus, String> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.0.try_wait().map_err(|error| error.to_string())? {
                return Ok(status);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err("it did not finish in its time".to_owned());
            }
            tokio::time::sleep_until(deadline.min(now + pause)).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A status means that it was reaped and its id may be another's: then nobody is ended.
        if matches!(self.0.try_wait(), Ok(None)) {
            if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
                // It may end by itself right now: then there is nobody to end.
                kill_process_group(group, Signal::KILL).ok();
            }
            self.0.wait().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    async fn command(script: &str, timeout_ms: u64) -> Result<Vec<u8>, String> {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let source = PasswordSource::Command { argv, timeout_ms };
        match read("crm", &source, soon()).await {
            Ok(password) => Ok(password.expose().to_vec()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn one_trailing_newline_is_trimmed() {
        let bytes = |text: &[u8]| Password::new(text).map(|password| password.expose().to_vec());
        assert_eq!(bytes(b"secret\n").unwrap(), b"secret");
        assert_eq!(bytes(b"secret\r\n").unwrap(), b"secret");
        assert_eq!(bytes(b"secret\n\n").unwrap(), b"secret\n");
        assert_eq!(bytes(b" secret ").unwrap(), b" secret ");
        assert_eq!(bytes(b"\n").unwrap_err(), "it is empty");
        assert_eq!(bytes(b"a\0b").unwrap_err(), "it holds a NUL byte");
        assert!(bytes(&vec![b'x'; PASSWORD_BYTES_MAX]).is_ok());
        assert!(bytes(&vec![b'x'; PASSWORD_BYTES_MAX + 1]).is_err());
    }

    #[tokio::test]
    async fn files_are_read_and_missing_ones_named() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "from a file\n").unwrap();
        let password = read("crm", &PasswordSource::File(path), soon()).await.unwrap();
        assert_eq!(password.expose(), b"from a file");
        assert_eq!(format!("{password:?}"), "Password(..)");

        let missing = PasswordSource::File(folder.path().join("missing"));
        let text = read("crm", &missing, soon()).await.unwrap_err().to_string();
        assert!(text.starts_with("the password of credential \"crm\" cannot be read from file "), "{text}");
        let directory = PasswordSource::File(folder.path().to_owned());
        let text = read("crm", &directory, soon()).await.unwrap_err().to_string();
        assert!(text.ends_with("it is no regular file"), "{text}");
        let long = folder.path().join("long");
        std::fs::write(&long, vec![b'x'; 1_000_000]).unwrap();
        let text = read("crm", &PasswordSource::File(long), soon()).await.unwrap_err().to_string();
        assert!(text.ends_with("it is longer than 65534 bytes"), "{text}");
    }

    #[tokio::test]
    async fn environment_variables_are_read_and_missing_ones_named() {
        // PATH is what every test process has; setting one would be unsafe beside other threads.
        let path = std::env::var("PATH").unwrap();
        let password = read("crm", &PasswordSource::Environment("PATH".into()), soon()).await.unwrap();
        assert_eq!(password.expose(), path.as_bytes());
        let missing = PasswordSource::Environment("PGTURNSTILE_NO_SUCH_VARIABLE".into());
        let text = read("crm", &missing, soon()).await.unwrap_err().to_string();
        assert!(text.contains("PGTURNSTILE_NO_SUCH_VARIABLE: it is not set"), "{text}");
    }

    #[tokio::test]
    async fn commands_are_run_and_bounded() {
        assert_eq!(command("printf 'it works\\n'", 30_000).await.unwrap(), b"it works");
        let failed = command("echo leaked; echo leaked >&2; exit 3", 30_000).await.unwrap_err();
        assert!(failed.contains("exit status: 3") && !failed.contains("leaked"), "{failed}");
        let endless = command("yes | tr -d '\\n'", 30_000).await.unwrap_err();
        assert!(endless.ends_with("it is longer than 65534 bytes"), "{endless}");
        let none = PasswordSource::Command { argv: Vec::new(), timeout_ms: 1 };
        assert!(read("crm", &none, soon()).await.unwrap_err().to_string().ends_with("it names no program"));
        let absent = PasswordSource::Command { argv: vec!["/no/such/program".into()], timeout_ms: 30_000 };
        let text = read("crm", &absent, soon()).await.unwrap_err().to_string();
        assert!(text.contains("it cannot be started"), "{text}");
    }

    #[tokio::test]
    async fn a_slow_command_is_ended_with_all_it_started() {
        let folder = tempfile::TempDir::new().unwrap();
        let mark = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", mark.display());
        let late = command(&script, 500).await.unwrap_err();
        assert!(late.ends_with("it did not finish in its time"), "{late}");
        let pid: i32 = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
        // Gone, or a zombie that nobody has reaped yet: either way it runs no more.
        let running = || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        while running() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let closed = command("exec >&-; sleep 600", 500).await.unwrap_err();
        assert!(closed.ends_with("it did not finish in its time"), "{closed}");
    }
}

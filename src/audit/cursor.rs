//! How far an export has come: a small file that lets the next run go on where this one ended.
//!
//! Owns: the file's form, and replacing it durably. It names the log, how many of its records were taken, their fingerprint, and
//! how long the exported file was then. A cursor whose records are not the log's first ones is refused: the log was cut, set back or
//! is another. Written behind what it vouches for: a crash between the two repeats events, and never loses one. Also the lock that
//! keeps two exports apart: flock(2) on a file beside the cursor, which is replaced itself; no crash leaves it held.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::stand::Stand;
use crate::evidence::checkpoint::unhex;
use crate::evidence::describe::hex;

/// Longest cursor that is read, bytes.
const CURSOR_BYTES_MAX: u64 = 64 << 10;
const VERSION: u64 = 1;

/// Where an export stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The log.
    pub log: String,
    /// What of it was exported.
    pub stand: Stand,
    /// The form and filter: another one would leave gaps.
    pub what: String,
    /// Bytes of the exported file; `None` where it went elsewhere.
    pub bytes: Option<u64>,
}

impl Cursor {
    /// Reads one; `None` where the file is not there.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn read(path: &Path) -> io::Result<Option<Cursor>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(CURSOR_BYTES_MAX).read_to_string(&mut text)?;
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it is no cursor of `evidence export`");
        let json: Json = serde_json::from_str(&text).map_err(|_| wrong())?;
        Cursor::parse(&json).map(Some).ok_or_else(wrong)
    }

    fn parse(json: &Json) -> Option<Cursor> {
        if json.get("version")?.as_u64()? != VERSION {
            return None;
        }
        let text = |name: &str| json.get(name)?.as_str();
        Some(Cursor {
            log: text("log")?.to_owned(),
            stand: Stand {
                records: json.get("records")?.as_u64()?,
                fingerprint: unhex(text("fingerprint")?)?,
            },
            what: text("what")?.to_owned(),
            bytes: match json.get("bytes")? {
                Json::Null => None,
                bytes @ (Json::Bool(_)
                | Json::Number(_)
                | Json::String(_)
                | Json::Array(_)
                | Json::Object(_)) => Some(bytes.as_u64()?),
            },
        })
    }

    /// Takes the cursor for this run; it is let go with what comes back, however the process ends. The lock's file stays: without it
    /// two runs could hold locks of two files.
    ///
    /// # Errors
    /// Another export has it ([`io::ErrorKind::WouldBlock`]), or the file cannot be made or locked.
    pub fn hold(path: &Path) -> io::Result<File> {
        let lock = beside(path, ".lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(lock)?;
        lock_now(&file)?;
        Ok(file)
    }

    /// Replaces the file: a reader sees the old one or the new one, whole.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let draft = beside(path, ".new");
        let json = json!({
            "version": VERSION,
            "log": self.log,
            "records": self.stand.records,
            "fingerprint": hex(&self.stand.fingerprint),
            "what": self.what,
            "bytes": self.bytes,
        });
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&draft)?;
        file.write_all(format!("{json}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

/// The same path with more behind it.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut longer = path.as_os_str().to_owned();
    longer.push(more);
    PathBuf::from(longer)
}

/// Locks a file for this process alone, or says that it is not to be had.
///
/// # Errors
/// Another one holds it ([`io::ErrorKind::WouldBlock`]), or it cannot be locked.
pub fn lock_now(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, "another export writes here"),
        TryLockError::Error(error) => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_one_runs_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let held = Cursor::hold(&path).unwrap();
        assert_eq!(Cursor::hold(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        // The file that a killed run left is no lock.
        assert!(Cursor::hold(&path).is_ok());
        assert!(!path.exists(), "the lock is beside it");
    }

    #[test]
    fn a_cursor_is_read_back_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        assert_eq!(Cursor::read(&path).unwrap(), None);
        let stand = Stand { records: 7, fingerprint: [3; 32] };
        for bytes in [None, Some(12)] {
            let cursor = Cursor { log: "ab".into(), stand, what: "csv".into(), bytes };
            cursor.write(&path).unwrap();
            assert_eq!(Cursor::read(&path).unwrap(), Some(cursor));
        }
        let text = fs::read_to_string(&path).unwrap();
        for wrong in
            ["", "{}", "null", &text.replace("\"version\":1", "\"version\":2"), &text.replace("03", "zz")]
        {
            fs::write(&path, wrong).unwrap();
            assert!(Cursor::read(&path).is_err(), "{wrong}");
        }
    }
}

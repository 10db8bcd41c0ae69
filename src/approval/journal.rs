//! The journal: a file to which lines are added, each on disk before what it says has an effect.
//!
//! Owns: the file, its lock, its checksums, and what a start makes of it. May not: know what a line means. Fails closed: what is
//! damaged in its middle is not guessed at ([`Fault::Damaged`]); behind a write or sync that failed nothing is added any more,
//! because nobody knows what of it is on disk.
//!
//! ```text
//!   tickets.journal      CHECKSUM JSON ⏎      first line: the format, and the key of what is digested in the others
//!                        CHECKSUM JSON ⏎      checksum: blake3 of the line's number and its JSON, 16 bytes in hexadecimal
//!                        CHECKS…              torn: the end of a file that a crash left, without ⏎ or with NULs; cut off
//! ```
//!
//! A line is written and synced before the next one begins, so that a crash tears the last one at most, and nobody was told of
//! that. It is written anew, smaller, into `tickets.journal.new`, which is synced and renamed over it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Name of the file.
pub const FILE: &str = "tickets.journal";
/// Name of one that is being written in its place.
const DRAFT: &str = "tickets.journal.new";
/// What the first line says.
const FORMAT: &str = "pgturnstile tickets 1";
/// How often the lock is asked for, and how long between two times.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Digits of a checksum.
const SUM_DIGITS: usize = 32;
/// Bytes of a line beside its JSON: the checksum, a space, the end.
pub const LINE_MORE: usize = SUM_DIGITS + 2;

/// Why there is no journal to write to.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Another process writes there.
    #[error(
        "the state folder {0} is locked: another gateway keeps its tickets there, and one folder belongs to one gateway; who it is: \
         fuser -v {0}"
    )]
    Locked(PathBuf),
    /// A line that is not the last is not what was written.
    #[error(
        "{file} is damaged in line {line}, at byte {offset}: {what}. Nothing of it is guessed at: it says which approvals have been used. \
         Next: `pgturnstile tickets --check {file}` tells what can be read; restore the file from where it was last whole, or move it \
         away: every ticket in it is then gone, and its statements are asked for anew"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// Where that line begins.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// It cannot be read or written.
    #[error("{0} cannot be used: {1}")]
    Io(PathBuf, io::Error),
    /// A write or sync has failed before.
    #[error(
        "the journal of tickets could not be written, and nothing is added to it until the gateway is started anew: {0}"
    )]
    Broken(String),
    /// There is none: no rule of the policy that was loaded at the start asked for tickets.
    #[error("the gateway keeps no tickets")]
    Closed,
}

#[derive(Serialize, Deserialize)]
struct Head {
    journal: String,
    key: [u8; 32],
}

/// What was read of one.
#[derive(Debug)]
pub struct Read {
    /// The key of what is digested in it.
    pub key: [u8; 32],
    /// How long its first line is.
    pub begins: usize,
    /// Its lines behind the first, in order.
    pub lines: Vec<String>,
    /// How long they are together; the rest is torn.
    whole: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// The folder, locked as long as this lives.
    _lock: File,
    file: File,
    key: [u8; 32],
    /// Lines that it has.
    count: u64,
    bytes: u64,
    /// How long it was when it was last written anew.
    least: u64,
    broken: Option<String>,
}

fn checksum(number: u64, json: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes()).update(json.as_bytes());
    hasher.finalize().to_hex().chars().take(SUM_DIGITS).collect()
}

fn spell(number: u64, json: &str) -> String {
    format!("{} {json}\n", checksum(number, json))
}

/// The JSON of a line that is what was written as the one of that number.
fn line(number: u64, bytes: &[u8]) -> Option<&str> {
    let (sum, json) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    (sum == checksum(number, json)).then_some(json)
}

/// Reads what stands in a file.
///
/// # Errors
/// [`Fault::Damaged`].
pub fn read(file: &Path, bytes: &[u8]) -> Result<Read, Fault> {
    let damaged = |line, offset, what| Fault::Damaged { file: file.to_owned(), line, offset, what };
    let (mut lines, mut offset) = (Vec::new(), 0);
    while let Some(length) = bytes.get(offset..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
    {
        let end = offset + length;
        let raw = bytes.get(offset..end).unwrap_or_default();
        match line(lines.len() as u64, raw) {
            Some(json) => lines.push(json.to_owned()),
            // A page of the last write that never reached the disk.
            None if end + 1 == bytes.len() && raw.contains(&0) => break,
            None => {
                return Err(damaged(
                    lines.len() + 1,
                    offset,
                    "its checksum is not that of what stands there",
                ));
            }
        }
        offset = end + 1;
    }
    if lines.is_empty() {
        return Err(damaged(1, 0, "it does not begin as a journal does"));
    }
    let first = lines.remove(0);
    let head: Head =
        serde_json::from_str(&first).map_err(|_| damaged(1, 0, "its first line does not say what it is"))?;
    if head.journal != FORMAT {
        return Err(damaged(1, 0, "it is of another format, perhaps of a newer gateway"));
    }
    Ok(Read { key: head.key, begins: first.len() + LINE_MORE, lines, whole: offset })
}

/// Writes a whole journal beside the one that stands there.
fn draft(folder: &Path, key: [u8; 32], lines: &[String]) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(folder.join(DRAFT))?;
    let head = serde_json::to_string(&Head { journal: FORMAT.to_owned(), key })?;
    let mut text = String::new();
    for (number, json) in (0..).zip(std::iter::once(&head).chain(lines)) {
        text.push_str(&spell(number, json));
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok((file, text.len() as u64))
}

/// Puts the draft in the place of what stood there.
fn put(folder: &Path) -> io::Result<()> {
    fs::rename(folder.join(DRAFT), folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

/// The folder, locked. A gateway that ends as this one starts is waited for.
fn locked(folder: &Path) -> Result<File, Fault> {
    let fault = |error| Fault::Io(folder.to_owned(), error);
    let handle = File::open(folder).map_err(fault)?;
    for _ in 0..LOCK_TRIES {
        match handle.try_lock() {
            Ok(()) => return Ok(handle),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
    }
    Err(Fault::Locked(folder.to_owned()))
}

impl Journal {
    /// Opens that of a folder, which is made where it is not there; with what stood in it.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn open(folder: &Path) -> Result<(Self, Read), Fault> {
        let path = folder.join(FILE);
        let fault = |error| Fault::Io(path.clone(), error);
        if !folder.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
        }
        let lock = locked(folder)?;
        // Of one that was not finished nothing is told.
        drop(fs::remove_file(folder.join(DRAFT)));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                getrandom::fill(&mut key).map_err(|error| fault(io::Error::other(error.to_string())))?;
                draft(folder, key, &[]).and_then(|_| put(folder)).map_err(fault)?;
                fs::read(&path).map_err(fault)?
            }
            Err(error) => return Err(fault(error)),
        };
        let read = read(&path, &bytes)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(fault)?;
        if read.whole < bytes.len() {
            file.set_len(read.whole as u64).and_then(|()| file.sync_all()).map_err(fault)?;
        }
        let journal = Self {
            folder: folder.to_owned(),
            _lock: lock,
            file,
            key: read.key,
            count: read.lines.len() as u64 + 1,
            bytes: read.whole as u64,
            least: 0,
            broken: None,
        };
        Ok((journal, read))
    }

    /// Adds a line: it is on disk when this returns.
    ///
    /// # Errors
    /// [`Fault::Broken`], from here on.
    pub fn append(&mut self, json: &str) -> Result<(), Fault> {
        if let Some(why) = &self.broken {
            return Err(Fault::Broken(why.clone()));
        }
        let line = spell(self.count, json);
        if let Err(error) = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()) {
            self.broken = Some(error.to_string());
            return Err(Fault::Broken(error.to_string()));
        }
        self.count += 1;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// How long it is, and was when it was last written anew.
    #[must_use]
    pub fn lengths(&self) -> (u64, u64) {
        (self.bytes, self.least)
    }

    /// Whether nothing is added any more.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Writes it anew with these lines alone. Where they cannot be written, the old one goes on.
    ///
    /// # Errors
    /// [`Fault::Io`].
    pub fn rewrite(&mut self, lines: &[String]) -> Result<(), Fault> {
        let io = |error| Fault::Io(self.folder.join(FILE), error);
        let (file, bytes) = match draft(&self.folder, self.key, lines) {
            Ok(drafted) => drafted,
            Err(error) => {
                // Not before it has grown again.
                self.least = self.bytes;
                return Err(io(error));
            }
        };
        if let Err(error) = put(&self.folder) {
            // Which of the two would be found behind a crash is not known.
            self.broken = Some(error.to_string());
            return Err(io(error));
        }
        self.file = file;
        self.count = lines.len() as u64 + 1;
        self.bytes = bytes;
        self.least = bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path, lines: &[&str]) -> Vec<u8> {
        let (mut journal, before) = Journal::open(folder).unwrap();
        assert!(before.lines.is_empty());
        lines.iter().for_each(|json| journal.append(json).unwrap());
        fs::read(folder.join(FILE)).unwrap()
    }

    #[test]
    fn what_was_added_is_there_at_the_next_start_under_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/state");
        written(&path, &["{\"a\":1}", "{\"b\":\"⏎ \\n\"}"]);
        let (mut journal, read) = Journal::open(&path).unwrap();
        assert_eq!(read.lines, ["{\"a\":1}", "{\"b\":\"⏎ \\n\"}"]);
        assert!(matches!(Journal::open(&path), Err(Fault::Locked(_))), "and nobody else writes meanwhile");
        let key = read.key;
        journal.rewrite(&["{\"b\":2}".to_owned()]).unwrap();
        journal.append("{\"c\":3}").unwrap();
        drop(journal);
        let (_, read) = Journal::open(&path).unwrap();
        assert_eq!((read.lines, read.key), (vec!["{\"b\":2}".to_owned(), "{\"c\":3}".to_owned()], key));
    }

    #[test]
    fn torn_at_every_byte_it_is_what_it_was_before_the_last_line() {
        let folder = tempfile::tempdir().unwrap();
        let whole = written(folder.path(), &["{\"a\":1}", "{\"b\":2}"]);
        let ends: Vec<usize> =
            whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
        for cut in ends[0]..=whole.len() {
            for filled in [0, 7] {
                let torn = tempfile::tempdir().unwrap();
                let bytes = [whole.get(..cut).unwrap(), &vec![0; filled]].concat();
                fs::write(torn.path().join(FILE), &bytes).unwrap();
                let (mut journal, read) = Journal::open(torn.path()).unwrap();
                let lines = ends.iter().filter(|end| **end <= cut).count() - 1;
                assert_eq!(read.lines.len(), lines, "cut at {cut}, {filled} NULs");
                journal.append("{\"c\":3}").unwrap();
                drop(journal);
                let (_, read) = Journal::open(torn.path()).unwrap();
                assert_eq!(read.lines.len(), lines + 1);
                assert_eq!(read.lines.last().unwrap(), "{\"c\":3}");
            }
        }
        // A page of the last line that never came.
        let mut torn = whole.clone();
        torn[ends[1] + 5..ends[2] - 1].fill(0);
        assert_eq!(read(Path::new("j"), &torn).unwrap().lines.len(), 1);
    }

    #[test]
    fn any_byte_that_is_another_is_found_and_nothing_is_guessed() {
        let folder = tempfile::tempdir().unwrap();
        let whole = written(folder.path(), &["{\"a\":1}", "{\"b\":2}"]);
        for at in 0..whole.len() - 1 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let found = read(Path::new("j"), &bytes);
            assert!(matches!(found, Err(Fault::Damaged { .. })), "byte {at}: {found:?}");
        }
        let swapped: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let swapped = [swapped[0], swapped[2], swapped[1]].concat();
        assert!(matches!(read(Path::new("j"), &swapped), Err(Fault::Damaged { line: 2, .. })));
        fs::write(folder.path().join(FILE), swapped).unwrap();
        let told = Journal::open(folder.path()).unwrap_err().to_string();
        assert!(told.contains("line 2") && told.contains("pgturnstile tickets --check"), "{told}");
    }

    #[test]
    fn a_rewrite_that_was_killed_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let whole = written(folder.path(), &["{\"a\":1}", "{\"b\":2}"]);
        for cut in 0..whole.len() {
            fs::write(folder.path().join(DRAFT), &whole[..cut]).unwrap();
            let (_, read) = Journal::open(folder.path()).unwrap();
            assert_eq!(read.lines.len(), 2);
            assert!(!folder.path().join(DRAFT).exists());
        }
    }

    #[test]
    fn a_rewrite_that_cannot_be_written_leaves_the_old_one_in_use() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), &["{\"a\":1}"]);
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        // A folder bears the draft's name.
        fs::create_dir(folder.path().join(DRAFT)).unwrap();
        assert!(journal.rewrite(&[]).is_err() && !journal.is_broken());
        journal.append("{\"b\":2}").unwrap();
        drop(journal);
        fs::remove_dir(folder.path().join(DRAFT)).unwrap();
        assert_eq!(Journal::open(folder.path()).unwrap().1.lines.len(), 2);
    }
}

//! The master key of the keyed digests: read, or created at the first start.
//!
//! Owns the key file: 64 hexadecimal digits, mode 0600, in a folder of mode 0700. It never replaces a key: digests of
//! older evidence could not be compared any more. It fails closed: a key that others may read, or that cannot be read
//! exactly, is an error and the gateway does not start.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::SecretBox;
use zeroize::Zeroizing;

/// Length of the key.
const KEY_BYTES: usize = 32;

/// Length of the file without its line end.
const HEX_CHARS: usize = 2 * KEY_BYTES;

/// The master key; `secrecy::ExposeSecret` hands it out, nothing prints it.
pub type DigestKey = SecretBox<[u8; KEY_BYTES]>;

/// Why there is no digest key. Always the operator's to repair.
#[derive(Debug, thiserror::Error)]
pub enum DigestKeyError {
    /// The file or its folder could not be read or written.
    #[error("digest key {}: {what}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// Group or others may read or write the file.
    #[error("digest key {} is open to others (mode {mode:04o}); chmod 600, and replace it if it was read", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold 64 hexadecimal digits.
    #[error(
        "digest key {} does not hold 64 hexadecimal digits; restore it from its backup. Without it older digests \
         cannot be compared; only if no evidence was ever written, delete it and start again",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no randomness.
    #[error("digest key {}: no randomness from the system", path.display())]
    Randomness {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the key, creating it (and its folder) when it is missing. Two gateways that start at once get the same key:
/// the file appears whole or not at all.
///
/// # Errors
/// See [`DigestKeyError`]; an existing file is never changed.
pub fn load_or_create_digest_key(path: &Path) -> Result<DigestKey, DigestKeyError> {
    match fs::symlink_metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(fault(path, "looking at it")(error)),
    }
    load(path)
}

fn fault(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> DigestKeyError {
    let path = path.to_path_buf();
    move |error| DigestKeyError::Io { path, what, error }
}

fn load(path: &Path) -> Result<DigestKey, DigestKeyError> {
    let file = File::open(path).map_err(fault(path, "opening it"))?;
    let metadata = file.metadata().map_err(fault(path, "looking at it"))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(DigestKeyError::Open { path: path.to_path_buf(), mode: metadata.mode() & 0o7777 });
    }
    let mut text = Zeroizing::new(String::with_capacity(2 * HEX_CHARS));
    file.take(HEX_CHARS as u64 + 2).read_to_string(&mut text).map_err(fault(path, "reading it"))?;
    decode(&text).ok_or_else(|| DigestKeyError::Content { path: path.to_path_buf() })
}

fn decode(text: &str) -> Option<DigestKey> {
    let digits = text.strip_suffix('\n').unwrap_or(text).as_bytes();
    if digits.len() != HEX_CHARS {
        return None;
    }
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(SecretBox::new(Box::new(*key)))
}

/// Writes a new key beside its final name, syncs it, and links it there: the name never holds half a key, and a file
/// that appeared meanwhile stays.
fn create(path: &Path) -> Result<(), DigestKeyError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(fault(path, "creating its folder"))?;

    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    getrandom::fill(key.as_mut_slice())
        .map_err(|_| DigestKeyError::Randomness { path: path.to_path_buf() })?;
    let text = Zeroizing::new(
        key.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).chain(['\n']).collect::<String>(),
    );

    // A draft of its own for every attempt: two starts at once must not write into one.
    let mut nonce = [0_u8; 8];
    getrandom::fill(&mut nonce).map_err(|_| DigestKeyError::Randomness { path: path.to_path_buf() })?;
    let mut draft_name = path.file_name().unwrap_or_default().to_owned();
    draft_name.push(format!(".{:016x}.new", u64::from_le_bytes(nonce)));
    let draft = folder.join(draft_name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    });
    // Whatever happened, the draft must not stay: it holds a key.
    let removed = fs::remove_file(&draft);
    linked.map_err(fault(path, "writing it"))?;
    removed.map_err(fault(path, "removing the draft beside it"))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fault(path, "syncing its folder"))
}

fn digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('0')
}

//! Keys that are read from a file, or created there at the first start.
//!
//! Owns the files: a line of text, mode 0600, in a folder of mode 0700; and the digest key in one of them, 64 hexadecimal
//! digits. It never replaces a key: digests of older evidence could not be compared any more, its checkpoints not be
//! continued. It fails closed: a key that others may read, or that cannot be read exactly, is an error and the gateway does
//! not start.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::SecretBox;
use zeroize::Zeroizing;

/// What errors call the digest key.
const DIGEST_KEY: &str = "digest key";

/// Length of the digest key.
const KEY_BYTES: usize = 32;

/// Length of its file without the line end.
const HEX_CHARS: usize = 2 * KEY_BYTES;

/// Longest key file that is read, bytes.
const FILE_BYTES_MAX: usize = 4 << 10;

/// The master key; `secrecy::ExposeSecret` hands it out, nothing prints it.
pub type DigestKey = SecretBox<[u8; KEY_BYTES]>;

/// Why there is no key. Always the operator's to repair.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file or its folder could not be read or written.
    #[error("{name} {}: {what}: {error}{}", path.display(), next_step(error))]
    Io {
        /// Which key.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// Group or others may read or write the file.
    #[error("{name} {} is open to others (mode {mode:04o}); chmod 600, and replace it if it was read", path.display())]
    Open {
        /// Which key.
        name: &'static str,
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
    #[error("{name} {}: no randomness from the system", path.display())]
    Randomness {
        /// Which key.
        name: &'static str,
        /// The file.
        path: PathBuf,
    },
}

/// What to do about the system's error on a file, where that is known: words that follow the error's own.
#[must_use]
pub fn next_step(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "; file and folder must belong to the user that runs this"
    } else if error.kind() == io::ErrorKind::AlreadyExists {
        "; choose another name, or remove it"
    } else {
        ""
    }
}

/// One key's file.
struct KeyFile<'p> {
    name: &'static str,
    path: &'p Path,
}

/// Reads the digest key, creating it (and its folder) when it is missing. Two gateways that start at once get the same key:
/// the file appears whole or not at all.
///
/// # Errors
/// See [`KeyFileError`]; an existing file is never changed.
pub fn load_or_create_digest_key(path: &Path) -> Result<DigestKey, KeyFileError> {
    let made = |seed: &[u8; KEY_BYTES]| {
        Zeroizing::new(seed.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect::<String>())
    };
    let text = load_or_create_key(DIGEST_KEY, path, made)?;
    decode(&text).ok_or_else(|| KeyFileError::Content { path: path.to_path_buf() })
}

/// Reads the digest key, which must be there.
///
/// # Errors
/// See [`KeyFileError`].
pub fn load_digest_key(path: &Path) -> Result<DigestKey, KeyFileError> {
    let text = load_key(DIGEST_KEY, path)?;
    decode(&text).ok_or_else(|| KeyFileError::Content { path: path.to_path_buf() })
}

/// The same for any key: `made` spells a new one from 32 random bytes. What is read is returned as it stands in the file.
///
/// # Errors
/// See [`KeyFileError`]; an existing file is never changed.
pub fn load_or_create_key(
    name: &'static str,
    path: &Path,
    made: impl FnOnce(&[u8; KEY_BYTES]) -> Zeroizing<String>,
) -> Result<Zeroizing<String>, KeyFileError> {
    let key = KeyFile { name, path };
    match fs::symlink_metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => key.create(made)?,
        Err(error) => return Err(key.fault("looking at it")(error)),
    }
    key.load()
}

/// Writes a key into a file that must not exist yet.
///
/// # Errors
/// See [`KeyFileError`]; where the file exists, it stays as it is and says so.
pub fn create_key(
    name: &'static str,
    path: &Path,
    made: impl FnOnce(&[u8; KEY_BYTES]) -> Zeroizing<String>,
) -> Result<(), KeyFileError> {
    let key = KeyFile { name, path };
    if fs::symlink_metadata(path).is_ok() {
        return Err(key.fault("creating it")(io::ErrorKind::AlreadyExists.into()));
    }
    key.create(made)
}

/// Reads a key that must be there.
///
/// # Errors
/// See [`KeyFileError`].
pub fn load_key(name: &'static str, path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    KeyFile { name, path }.load()
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

impl KeyFile<'_> {
    fn fault(&self, what: &'static str) -> impl FnOnce(io::Error) -> KeyFileError + use<> {
        let (name, path) = (self.name, self.path.to_path_buf());
        move |error| KeyFileError::Io { name, path, what, error }
    }

    fn load(&self) -> Result<Zeroizing<String>, KeyFileError> {
        let file = File::open(self.path).map_err(self.fault("opening it"))?;
        let metadata = file.metadata().map_err(self.fault("looking at it"))?;
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o7777;
            return Err(KeyFileError::Open { name: self.name, path: self.path.to_path_buf(), mode });
        }
        // As long as it may become: a string that grows leaves copies behind that nothing wipes.
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX + 1));
        file.take(FILE_BYTES_MAX as u64).read_to_string(&mut text).map_err(self.fault("reading it"))?;
        Ok(text)
    }

    fn random<const N: usize>(&self) -> Result<Zeroizing<[u8; N]>, KeyFileError> {
        let mut bytes = Zeroizing::new([0; N]);
        getrandom::fill(bytes.as_mut_slice())
            .map_err(|_| KeyFileError::Randomness { name: self.name, path: self.path.to_path_buf() })?;
        Ok(bytes)
    }

    /// Writes a new key beside its final name, syncs it, and links it there: the name never holds half a key, and a file
    /// that appeared meanwhile stays.
    fn create(&self, made: impl FnOnce(&[u8; KEY_BYTES]) -> Zeroizing<String>) -> Result<(), KeyFileError> {
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(self.fault("creating its folder"))?;
        let text = made(&*self.random::<KEY_BYTES>()?);

        // A draft of its own for every attempt: two starts at once must not write into one.
        let nonce = self.random::<8>()?;
        let mut draft_name = self.path.file_name().unwrap_or_default().to_owned();
        draft_name.push(format!(".{:016x}.new", u64::from_le_bytes(*nonce)));
        let draft = folder.join(draft_name);
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.write_all(b"\n")?;
                file.sync_all()
            });
        let linked = written.and_then(|()| match fs::hard_link(&draft, self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        });
        // Whatever happened, the draft must not stay: it holds a key.
        let removed = fs::remove_file(&draft);
        linked.map_err(self.fault("writing it"))?;
        removed.map_err(self.fault("removing the draft beside it"))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(self.fault("syncing its folder"))
    }
}

fn digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('0')
}

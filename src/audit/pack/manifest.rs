//! What a pack holds, file by file, and whether it still does.
//!
//! Owns: `pack.files` (blake3 and path of every other file) and `pack.note` (what the pack is, the hash of `pack.files`; a C2SP
//! signed note where a key was given). May not: judge the evidence inside; its verifier does. A path that leaves the pack is
//! refused before it is opened.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path};

use crate::evidence::chain::Hash;
use crate::evidence::checkpoint::unhex;
use crate::evidence::describe::{escaped, hex};
use crate::evidence::note::{NOTE_BYTES_MAX, Note, SigningKey, VerifierKey};

/// The note's file.
pub const NOTE_NAME: &str = "pack.note";
/// The list's file.
pub const FILES_NAME: &str = "pack.files";
/// The folder of the evidence.
pub const EVIDENCE_NAME: &str = "evidence";
const FIRST_LINE: &str = "pgturnstile.audit-pack.v1";
/// Longest list of files that is read, bytes.
const FILES_BYTES_MAX: u64 = 256 << 20;

/// What a pack says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The log.
    pub log: [u8; 16],
    /// Records that it was made from.
    pub records: u64,
    /// Chain value behind them.
    pub head: Hash,
    /// The period: nanoseconds since 1970, from and before.
    pub period: (u64, u64),
    /// Hash of the list of files.
    pub files: Hash,
    /// The key that signs it.
    pub key: Option<VerifierKey>,
}

impl Manifest {
    fn text(&self) -> String {
        let key = self.key.as_ref().map(|key| format!("key {key}\n")).unwrap_or_default();
        format!(
            "{FIRST_LINE}\nlog {}\nrecords {}\nhead {}\nperiod {} {}\nfiles {}\n{key}",
            hex(&self.log),
            self.records,
            hex(&self.head),
            self.period.0,
            self.period.1,
            hex(&self.files)
        )
    }

    fn parse(text: &str) -> Option<Manifest> {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return None;
        }
        let mut next = |prefix: &str| lines.next().and_then(|line| line.strip_prefix(prefix));
        let manifest = Manifest {
            log: unhex(next("log ")?)?,
            records: next("records ")?.parse().ok()?,
            head: unhex(next("head ")?)?,
            period: {
                let (from, to) = next("period ")?.split_once(' ')?;
                (from.parse().ok()?, to.parse().ok()?)
            },
            files: unhex(next("files ")?)?,
            key: next("key ").and_then(|key| VerifierKey::parse(key).ok()),
        };
        // One spelling only: what reads the same is the same, byte for byte.
        (manifest.text() == text).then_some(manifest)
    }

    /// The note: signed where there is a key.
    pub fn note(&self, key: Option<&SigningKey>) -> String {
        match key {
            Some(key) => key.sign(&Manifest { key: Some(key.verifier().clone()), ..self.clone() }.text()),
            None => self.text(),
        }
    }

    /// Reads a note. `Err`: it is none, or the key that it names did not sign it.
    ///
    /// # Errors
    /// In words.
    pub fn open(note: &str) -> Result<Manifest, String> {
        if let Some(manifest) = Manifest::parse(note) {
            return if manifest.key.is_none() {
                Ok(manifest)
            } else {
                Err("it names a key and bears no signature".to_owned())
            };
        }
        let note = Note::parse(note).map_err(|error| error.to_string())?;
        let manifest = Manifest::parse(note.text()).ok_or("it is no note of an audit pack, version 1")?;
        match &manifest.key {
            Some(key) if note.is_signed_by(key) => Ok(manifest),
            Some(_) | None => Err("its signature is not that of the key it names".to_owned()),
        }
    }
}

fn hash_of(path: &Path) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(*hasher.finalize().as_bytes())
}

/// Every file below a folder, by its path in it, with its hash; without the pack's own two.
fn files_below(root: &Path, folder: &Path, found: &mut BTreeMap<String, Hash>) -> io::Result<()> {
    let mut empty = true;
    for entry in fs::read_dir(folder)? {
        empty = false;
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            files_below(root, &path, found)?;
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is no file", escaped(&name))));
        }
        if name == NOTE_NAME || name == FILES_NAME {
            continue;
        }
        found.insert(name, hash_of(&path)?);
    }
    if empty {
        let name = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy();
        let what = format!("{} is an empty folder, which no pack has", escaped(&name));
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(())
}

/// The list of all files of a pack.
///
/// # Errors
/// One cannot be read.
pub fn list(root: &Path) -> io::Result<String> {
    let mut found = BTreeMap::new();
    files_below(root, root, &mut found)?;
    Ok(found.iter().map(|(name, hash)| format!("{}  {name}\n", hex(hash))).collect())
}

/// What a look at a pack found.
#[derive(Debug)]
pub struct Looked {
    /// What it says of itself; `None` where that cannot be read.
    pub manifest: Option<Manifest>,
    /// Files that it lists.
    pub files: usize,
    /// Every file that is there, by its path in the pack, with its blake3.
    pub there: BTreeMap<String, Hash>,
    /// What is wrong, in words.
    pub wrong: Vec<String>,
}

/// Whether a folder says that it is a pack.
pub fn is_pack(root: &Path) -> bool {
    root.join(NOTE_NAME).is_file() && root.join(FILES_NAME).is_file()
}

/// Holds a pack's files against its list, and the list against its note.
///
/// # Errors
/// Something of it cannot be read.
pub fn look(root: &Path) -> io::Result<Looked> {
    let read = |name: &str, most: u64| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(root.join(name))?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let note = read(NOTE_NAME, NOTE_BYTES_MAX as u64 + 1)?;
    let files = read(FILES_NAME, FILES_BYTES_MAX)?;
    let mut looked = Looked { manifest: None, files: 0, there: BTreeMap::new(), wrong: Vec::new() };
    match Manifest::open(&String::from_utf8_lossy(&note)) {
        Ok(manifest) => {
            if manifest.files != *blake3::hash(&files).as_bytes() {
                looked.wrong.push(format!("{FILES_NAME} is not the list that {NOTE_NAME} names"));
            }
            looked.manifest = Some(manifest);
        }
        Err(why) => looked.wrong.push(format!("{NOTE_NAME}: {why}")),
    }
    let mut there = BTreeMap::new();
    files_below(root, root, &mut there)?;
    looked.there.clone_from(&there);
    for line in String::from_utf8_lossy(&files).lines() {
        looked.files += 1;
        let Some((hash, name)) =
            line.split_once("  ").and_then(|(hash, name)| Some((unhex::<32>(hash)?, name)))
        else {
            looked.wrong.push(format!("{FILES_NAME}: a line that is none"));
            continue;
        };
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        match there.remove(name) {
            Some(found) if found == hash && inside => {}
            Some(_) => looked.wrong.push(format!("{name} was changed")),
            None => looked.wrong.push(format!("{name} is missing")),
        }
    }
    looked.wrong.extend(there.keys().map(|name| format!("{name} is not on the list: it was added")));
    Ok(looked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_a_missing_and_an_added_file_are_found_and_a_signature_holds() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("a/one"), "1").unwrap();
        fs::write(root.join("two"), "2").unwrap();
        let files = list(root).unwrap();
        fs::write(root.join(FILES_NAME), &files).unwrap();
        let manifest = Manifest {
            log: [1; 16],
            records: 7,
            head: [2; 32],
            period: (3, 4),
            files: *blake3::hash(files.as_bytes()).as_bytes(),
            key: None,
        };
        let key = SigningKey::new("auditee", &[5; 32]).unwrap();
        for key in [None, Some(&key)] {
            fs::write(root.join(NOTE_NAME), manifest.note(key)).unwrap();
            let looked = look(root).unwrap();
            assert!(looked.wrong.is_empty() && looked.files == 2, "{:?}", looked.wrong);
            assert_eq!(looked.manifest.unwrap().key, key.map(|key| key.verifier().clone()));
        }
        let signed = manifest.note(Some(&key));
        fs::write(root.join(NOTE_NAME), signed.replace("records 7", "records 8")).unwrap();
        assert!(look(root).unwrap().wrong[0].contains("signature"));
        fs::write(root.join(NOTE_NAME), &signed).unwrap();
        fs::write(root.join("a/one"), "x").unwrap();
        fs::remove_file(root.join("two")).unwrap();
        fs::write(root.join("three"), "3").unwrap();
        let wrong = look(root).unwrap().wrong.join("; ");
        assert_eq!(wrong, "a/one was changed; two is missing; three is not on the list: it was added");
    }
}

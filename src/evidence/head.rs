//! The second place of the last checkpoint: a file on another disk, another machine's share, another user's folder.
//!
//! Owns: reading it at the start, replacing it afterwards. May not: create its folder (a share that is not mounted must not
//! look like an empty one), nor replace what it did not write or find itself: a note that somebody else put there is
//! trouble, not an old version. Fails by words for the operator; who calls decides what stops.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::note::NOTE_BYTES_MAX;

/// The file, and what stands there as far as this gateway knows.
#[derive(Debug)]
pub(crate) struct Head {
    path: PathBuf,
    known: Option<String>,
}

/// Reads a note of at most [`NOTE_BYTES_MAX`]; `None` where there is no such file.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(NOTE_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(Some(text))
}

impl Head {
    /// What stands there now.
    pub(crate) fn open(path: &Path) -> io::Result<Head> {
        let folder = folder(path);
        if !folder.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("its folder {} is not there", folder.display()),
            ));
        }
        Ok(Head { path: path.to_owned(), known: read(path)? })
    }

    /// The note that was found at the start, or written last.
    pub(crate) fn known(&self) -> Option<&str> {
        self.known.as_deref()
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the note, durably, unless somebody else did since.
    pub(crate) fn keep(&mut self, note: &str) -> Result<(), String> {
        let shown = self.path.display();
        let there = read(&self.path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        if there != self.known {
            return Err(format!(
                "{shown} holds another checkpoint than this gateway put there: somebody else writes to it"
            ));
        }
        replace(&self.path, note).map_err(|error| format!("{shown} cannot be written: {error}"))?;
        self.known = Some(note.to_owned());
        Ok(())
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Create beside it, write, sync, rename over it, sync the folder: a reader sees the old or the new one, whole.
fn replace(path: &Path, note: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&draft)?;
    file.write_all(note.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(folder(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_replaced_whole_and_only_by_who_knows_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last");
        let mut head = Head::open(&path).unwrap();
        assert_eq!(head.known(), None);
        head.keep("one").unwrap();
        head.keep("two").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), head.known()), ("two", Some("two")));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft stays");
        let mut other = Head::open(&path).unwrap();
        other.keep("three").unwrap();
        assert!(head.keep("four").unwrap_err().contains("somebody else"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        fs::remove_file(&path).unwrap();
        assert!(
            other.keep("five").unwrap_err().contains("somebody else"),
            "a note that is gone is somebody's doing"
        );
    }

    #[test]
    fn a_folder_that_is_missing_is_never_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("share/last");
        assert!(Head::open(&path).unwrap_err().to_string().contains("is not there"));
        fs::create_dir(folder.path().join("share")).unwrap();
        let mut head = Head::open(&path).unwrap();
        fs::remove_dir(folder.path().join("share")).unwrap();
        assert!(head.keep("one").unwrap_err().contains("cannot be written"));
        assert!(!path.exists());
    }
}

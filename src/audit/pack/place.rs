//! Where the files of a pack go: into its folder, or into their hashes alone.
//!
//! Owns: the one way in which a listing, page or packet is written. Who makes a pack and who holds a pack against its evidence run the
//! same code over different places, so that they cannot differ in anything but the folder. May not: know what a file is about.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::evidence::chain::Hash;

/// A place for files, named by their paths in the pack, with `/`.
pub enum Place {
    /// A folder on the disk; its folders are made, a file that exists is an error.
    Folder(PathBuf),
    /// Nowhere: what was written is known by its blake3 afterwards.
    Hashes(BTreeMap<String, Hash>),
}

/// A file on its way; [`Place::end`] takes it back.
pub enum Sheet {
    /// On the disk.
    File(BufWriter<File>),
    /// Nowhere.
    Hash(Box<blake3::Hasher>),
}

impl Write for Sheet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sheet::File(file) => file.write(bytes),
            Sheet::Hash(hasher) => hasher.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sheet::File(file) => file.flush(),
            Sheet::Hash(hasher) => hasher.flush(),
        }
    }
}

impl Place {
    /// Begins a file.
    ///
    /// # Errors
    /// It cannot be made, or is there.
    pub fn begin(&self, name: &str) -> io::Result<Sheet> {
        match self {
            Place::Folder(root) => {
                let path = root.join(name);
                fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
                Ok(Sheet::File(BufWriter::new(File::create_new(path)?)))
            }
            Place::Hashes(_) => Ok(Sheet::Hash(Box::default())),
        }
    }

    /// Ends a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn end(&mut self, name: &str, sheet: Sheet) -> io::Result<()> {
        match (self, sheet) {
            (Place::Hashes(made), Sheet::Hash(hasher)) => {
                made.insert(name.to_owned(), *hasher.finalize().as_bytes());
                Ok(())
            }
            (Place::Folder(_) | Place::Hashes(_), mut sheet) => sheet.flush(),
        }
    }

    /// A whole file.
    ///
    /// # Errors
    /// As [`Place::begin`] and [`Place::end`].
    pub fn put(&mut self, name: &str, text: &str) -> io::Result<()> {
        let mut sheet = self.begin(name)?;
        sheet.write_all(text.as_bytes())?;
        self.end(name, sheet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_places_take_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Place::Folder(folder.path().to_owned());
        let mut nowhere = Place::Hashes(BTreeMap::new());
        for place in [&mut disk, &mut nowhere] {
            place.put("a/one.csv", "1\n").unwrap();
            let mut sheet = place.begin("two").unwrap();
            sheet.write_all(b"2").unwrap();
            sheet.write_all(b"2").unwrap();
            place.end("two", sheet).unwrap();
        }
        let Place::Hashes(made) = nowhere else { unreachable!() };
        for (name, hash) in &made {
            assert_eq!(hash, blake3::hash(&fs::read(folder.path().join(name)).unwrap()).as_bytes(), "{name}");
        }
        assert_eq!(made.len(), 2);
        assert!(disk.put("two", "3").is_err(), "a file that is there is not written over");
    }
}

//! The file layer under the evidence: the few calls it makes, named, behind a trait, so that tests can fail each of them.
//!
//! Owns: system calls. May not: know frames. The happy path of an append is `pwrite` at the end of what was written, then
//! `fdatasync`; of a new segment: create, `fallocate`, `pwrite` of the header, `fdatasync`, `rename`, `fsync` of the
//! directory. A failed sync is never retried: the kernel may have dropped the pages and say so only once.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::limits::ZERO_FILL_BYTES;

/// How space was claimed for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// `fallocate`: the file system reserved it.
    Reserved,
    /// The file system cannot reserve: zeros were written instead.
    ZeroFilled,
}

/// A directory of evidence.
pub trait Disk: Send + Sync {
    /// Names of the files in it.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates an empty file; one of that name must not exist.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Bytes that an unprivileged process may still write.
    fn free_bytes(&self) -> io::Result<u64>;
    /// What a name in it leads to now, by the path that the operator gave; `None` where the disk has no such thing.
    fn found(&self, name: &str) -> io::Result<Option<Inode>>;
}

/// A file of evidence.
pub trait DiskFile: Send {
    /// Reads up to `bytes.len()` bytes; fewer only at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of the bytes; says how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Cuts or extends (with zeros) to a length.
    fn set_length(&self, bytes: u64) -> io::Result<()>;
    /// Extends to a length with zeros, with the space for it claimed.
    fn claim(&self, bytes: u64) -> io::Result<Claim>;
    /// Makes the content durable, and the length where it changed.
    fn sync_data(&self) -> io::Result<()>;
    /// Length, bytes.
    fn length(&self) -> io::Result<u64>;
    /// What identifies the file on its disk, and how many names it has: `None` where the disk has no such thing.
    fn inode(&self) -> io::Result<Option<Inode>>;
}

/// A file as its disk knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Device and number.
    pub number: (u64, u64),
    /// Names that lead to it; 0: whoever opens a name finds another file, or none.
    pub links: u64,
    /// Length, bytes.
    pub bytes: u64,
}

impl Inode {
    fn of(metadata: &Metadata) -> Inode {
        Inode { number: (metadata.dev(), metadata.ino()), links: metadata.nlink(), bytes: metadata.len() }
    }
}

/// Writes all bytes, continuing after short writes.
pub fn write_all_at(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a file front to back, from an offset on.
pub struct Sequential<'f> {
    file: &'f dyn DiskFile,
    offset: u64,
}

impl<'f> Sequential<'f> {
    /// A reader that begins at `offset`.
    pub fn new(file: &'f dyn DiskFile, offset: u64) -> Sequential<'f> {
        Sequential { file, offset }
    }
}

impl io::Read for Sequential<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(bytes, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl super::read::Source for Sequential<'_> {}

/// The real thing. Holds the directory's lock as long as it lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
}

impl Directory {
    /// Opens an existing directory and locks it: `Ok(None)` where another process holds it.
    pub fn lock(path: &Path) -> io::Result<Option<Directory>> {
        let handle = File::open(path)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        match handle.try_lock() {
            Ok(()) => Ok(Some(Directory { path: path.to_owned(), handle })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Box::new(RealFile(options.open(self.path.join(name))?)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().read(true).write(true).open(self.path.join(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = rustix::fs::fstatvfs(&self.handle)?;
        Ok(state.f_bavail.saturating_mul(state.f_frsize))
    }

    fn found(&self, name: &str) -> io::Result<Option<Inode>> {
        Ok(Some(Inode::of(&std::fs::symlink_metadata(self.path.join(name))?)))
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn claim(&self, bytes: u64) -> io::Result<Claim> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(&self.0, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(Claim::Reserved),
            // The file system does not know fallocate: claim by writing.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                zero_fill(self, bytes)?;
                Ok(Claim::ZeroFilled)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn inode(&self) -> io::Result<Option<Inode>> {
        Ok(Some(Inode::of(&self.0.metadata()?)))
    }
}

fn zero_fill(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_FILL_BYTES];
    let mut offset = file.length()?;
    while offset < bytes {
        let piece = usize::try_from(bytes - offset).unwrap_or(ZERO_FILL_BYTES).min(ZERO_FILL_BYTES);
        write_all_at(file, &zeros[..piece], offset)?;
        offset += piece as u64;
    }
    Ok(())
}

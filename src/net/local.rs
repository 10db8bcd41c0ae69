//! Unix sockets that the gateway listens on: their files.
//!
//! Owns: the order in which such a file comes to be and goes. May not: accept, or read a byte. Fails closed: what is not
//! certainly a left-over of ours is not touched, nobody can connect before owner and permissions are what the
//! configuration says, and a socket that was handed over more open than that is refused.
//!
//! ```text
//!   lock ─► is there a file? ─no──────────────────────► bind ─► group ─► permissions ─► listen ─► … ─► remove ─► unlock
//!    │          │                                        ▲
//!    │          ├─ no socket, or one that is listened on ─► refused
//!    │          └─ a socket that nobody listens on ─► remove
//!    └─ held ─► refused
//! ```
//!
//! The lock is the file that a PostgreSQL server would make for the same socket, with the process id in its first line, so
//! that neither takes the other's place (`src/backend/utils/init/miscinit.c`, `CreateSocketLockFile`); that it is ours is
//! said by flock(2), which no crash leaves behind.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::SocketFile;

/// Connections that wait in the kernel: what std's own listeners ask for.
const BACKLOG: i32 = 128;

/// Permission bits of a file.
const MODE_BITS: u32 = 0o777;

/// Permissions of the lock's file: a server that looks who holds it reads it.
const LOCK_MODE: u32 = 0o644;

/// Holds a socket's file; removed when this is dropped, if it is still ours.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    lock: Lock,
}

impl Drop for Held {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            remove(&self.path);
        }
        // While it is still locked: whoever waits for it sees that its file is gone, and makes another.
        remove(&self.lock.path);
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "a file of a socket was gone already");
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Makes the socket and listens on it.
///
/// # Errors
/// What stands in the way, with what to do about it. What was there before is untouched, but for a socket that nobody
/// listened on.
pub fn listen(file: &SocketFile) -> io::Result<(UnixListener, Held)> {
    let mut lock = Lock::take(&file.path)?;
    clear(&file.path)?;
    lock.sign()?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(&file.path)?)?;
    let held = Held { path: file.path.clone(), identity: identity(&file.path)?, lock };
    // Nobody can connect before the socket listens.
    if let Some(group) = file.group {
        std::os::unix::fs::chown(&file.path, None, Some(group)).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("its group cannot become {group}: {error}; is the gateway in it?"),
            )
        })?;
    }
    fs::set_permissions(&file.path, Permissions::from_mode(file.mode))?;
    socket.listen(BACKLOG)?;
    Ok((UnixListener::from(std::os::fd::OwnedFd::from(socket)), held))
}

/// A socket that was handed over is as closed as the configuration says: its file is the service manager's.
///
/// # Errors
/// It is open to more, or its file cannot be looked at.
pub fn check_handed_over(file: &SocketFile) -> io::Result<()> {
    let mode = fs::symlink_metadata(&file.path)?.mode() & MODE_BITS;
    if mode & !file.mode == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "it was handed over with mode {mode:04o}, more open than socket.mode, {:04o}; make them agree (SocketMode= of the \
         socket's unit)",
        file.mode
    )))
}

/// Removes a socket that nobody listens on.
fn clear(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is no socket stands there; see what it is, and remove it",
        ));
    }
    match UnixStream::connect(path) {
        // A process that ended without removing it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) => Err(in_use("another program listens there")),
        Err(error) => Err(in_use(&format!("whether another program listens there cannot be told: {error}"))),
    }
}

fn in_use(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, format!("{what}; stop it, or use another port"))
}

/// The lock beside a socket.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    fn take(socket: &Path) -> io::Result<Lock> {
        let mut name = socket.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(LOCK_MODE);
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use("another gateway holds its lock")),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Whoever held it before may have removed the file between our opening and our locking of it.
            let ours = file.metadata()?;
            if identity(&path).is_ok_and(|found| found == (ours.dev(), ours.ino())) {
                return Ok(Lock { path, file });
            }
        }
    }

    /// Says who we are, where a server would look.
    fn sign(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        writeln!(self.file, "{}", std::process::id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path) -> SocketFile {
        SocketFile { path: folder.join(".s.PGSQL.6432"), mode: 0o620, group: None }
    }

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_socket_has_its_permissions_and_goes_with_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = file(folder.path());
        let (listener, held) = listen(&wanted).unwrap();
        assert_eq!(fs::metadata(&wanted.path).unwrap().mode() & MODE_BITS, 0o620);
        let lock = fs::read_to_string(folder.path().join(".s.PGSQL.6432.lock")).unwrap();
        assert_eq!(lock, format!("{}\n", std::process::id()));
        UnixStream::connect(&wanted.path).unwrap();
        drop((listener, held));
        assert_eq!(names(folder.path()), 0);
    }

    #[test]
    fn a_left_over_is_taken_and_what_lives_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = file(folder.path());
        // As a crash leaves it: the socket and the lock's file, held by nobody.
        drop(UnixListener::bind(&wanted.path).unwrap());
        fs::write(folder.path().join(".s.PGSQL.6432.lock"), "4711\n").unwrap();
        let (listener, held) = listen(&wanted).unwrap();
        let second = listen(&wanted).unwrap_err();
        assert!(second.to_string().contains("holds its lock"), "{second}");
        drop((listener, held));
        // A server that has no lock of ours.
        let server = UnixListener::bind(&wanted.path).unwrap();
        let fault = listen(&wanted).unwrap_err();
        assert!(fault.to_string().contains("another program listens"), "{fault}");
        UnixStream::connect(&wanted.path).unwrap();
        drop(server);
    }

    #[test]
    fn what_is_no_socket_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = file(folder.path());
        fs::write(&wanted.path, "precious").unwrap();
        assert!(listen(&wanted).unwrap_err().to_string().contains("no socket"));
        assert_eq!(fs::read_to_string(&wanted.path).unwrap(), "precious");
        fs::remove_file(&wanted.path).unwrap();
        std::os::unix::fs::symlink("/nowhere", &wanted.path).unwrap();
        assert!(listen(&wanted).unwrap_err().to_string().contains("no socket"));
    }

    #[test]
    fn anothers_socket_in_its_place_stays() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = file(folder.path());
        let (_listener, held) = listen(&wanted).unwrap();
        // Bound before the other is gone: an inode that is free could be given again.
        let moved = folder.path().join("moved");
        fs::rename(&wanted.path, &moved).unwrap();
        let _other = UnixListener::bind(&wanted.path).unwrap();
        drop(held);
        UnixStream::connect(&wanted.path).unwrap();
    }

    #[test]
    fn a_socket_that_is_handed_over_is_no_more_open_than_configured() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = file(folder.path());
        let _listener = UnixListener::bind(&wanted.path).unwrap();
        for (mode, fits) in [(0o620, true), (0o600, true), (0o666, false), (0o621, false), (0o660, false)] {
            fs::set_permissions(&wanted.path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(check_handed_over(&wanted).is_ok(), fits, "{mode:o}");
        }
    }
}

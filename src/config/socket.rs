//! Unix sockets in the file: where they are, and who may connect.
//!
//! Owns: the form `/DIRECTORY:PORT`, which targets and listeners share, and the keys of `listener.socket`. It touches no
//! socket. Fails by a message for the key.

use std::fs;
use std::path::{Path, PathBuf};

use super::keys::Reader;
use super::model::{SocketFile, socket_path};
use super::reference;

/// Longest path of a Unix socket (`sun_path` of Linux less its NUL).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Permission bits of a file.
const MODE_MAX: u32 = 0o777;

/// The file that gives groups their names, `group(5)`.
const GROUPS: &str = "/etc/group";

/// The directory and the port of `/DIRECTORY:PORT`; `None` where the text is no path at all.
pub(super) fn parse(text: &str) -> Option<Result<(PathBuf, u16), String>> {
    if text.starts_with('@') || text.starts_with('\0') {
        return Some(Err(
            "names an abstract socket, which has no owner and no permissions: whoever is on the machine may \
                         connect, or stand in for it; use /DIRECTORY:PORT"
                .to_owned(),
        ));
    }
    if !text.starts_with('/') {
        return None;
    }
    Some(directory_and_port(text))
}

fn directory_and_port(text: &str) -> Result<(PathBuf, u16), String> {
    let (directory, port) = text.rsplit_once(':').ok_or(
        "must be /DIRECTORY:PORT for a Unix socket: the socket is /DIRECTORY/.s.PGSQL.PORT, where clients look for it",
    )?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or("the port must be 1 to 65535")?;
    let directory = PathBuf::from(directory);
    fits(&socket_path(&directory, port))?;
    Ok((directory, port))
}

/// Whether a socket can have this path.
pub(super) fn fits(path: &Path) -> Result<(), String> {
    match path.as_os_str().len() {
        ..=SOCKET_PATH_BYTES_MAX => Ok(()),
        bytes => {
            Err(format!("the socket's path is {bytes} bytes long; the system allows {SOCKET_PATH_BYTES_MAX}"))
        }
    }
}

/// The socket of a listener in `directory`, with the permissions that `listener.socket` gives it.
pub(super) fn file(section: &Reader<'_>, directory: &Path, port: u16) -> Option<SocketFile> {
    let socket = section.section("socket", &reference::LISTENER_SOCKET);
    let mode = mode(&socket);
    let group = group(&socket);
    socket.done();
    Some(SocketFile { path: socket_path(directory, port), mode: mode?, group: group? })
}

fn mode(socket: &Reader<'_>) -> Option<u32> {
    let text = socket.text("mode")?;
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= MODE_MAX && text.len() >= 3);
    if mode.is_none() {
        socket
            .table
            .error("mode", format!("`{text}` is no mode: write permission bits in octal, such as \"0660\""));
    }
    mode
}

/// `Some(None)` where no group is named; `None` after a report.
fn group(socket: &Reader<'_>) -> Option<Option<u32>> {
    let Some(name) = socket.text("group") else { return Some(None) };
    let groups = fs::read_to_string(GROUPS).unwrap_or_default();
    let id = name.parse().ok().or_else(|| id_of(&groups, &name));
    if id.is_none() {
        let message = format!("there is no group `{name}` in {GROUPS}; name one, or give its number");
        socket.table.error("group", message);
    }
    id.map(Some)
}

/// The number of a group: the third field of its line.
fn id_of(groups: &str, name: &str) -> Option<u32> {
    let mut lines = groups.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_and_a_port_or_a_reason() {
        assert_eq!(parse("/run/pgturnstile:6432"), Some(Ok(("/run/pgturnstile".into(), 6432))));
        assert_eq!(parse("127.0.0.1:6432"), None);
        let reason = |text: &str| parse(text).unwrap().unwrap_err();
        assert!(reason("@pgturnstile:6432").contains("abstract"));
        assert!(reason("\0x:6432").contains("abstract"));
        assert!(reason("/run/pgturnstile").contains("/DIRECTORY:PORT"));
        for port in ["0", "65536", "-1", "x", ""] {
            assert!(reason(&format!("/run:{port}")).contains("1 to 65535"), "{port}");
        }
        let longest =
            format!("/{}:6432", "d".repeat(SOCKET_PATH_BYTES_MAX - "/".len() - "/.s.PGSQL.6432".len()));
        assert!(parse(&longest).unwrap().is_ok());
        assert!(reason(&longest.replacen('d', "dd", 1)).contains("108 bytes"));
    }

    #[test]
    fn groups_are_found_by_name() {
        let groups = "root:x:0:\nclients:x:4711:kim,lee\nbroken:x\n";
        assert_eq!(id_of(groups, "clients"), Some(4711));
        assert_eq!((id_of(groups, "client"), id_of(groups, "broken")), (None, None));
    }
}

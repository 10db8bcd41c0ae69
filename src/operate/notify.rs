//! Messages to the service manager (`sd_notify(3)`).
//!
//! Owns: the socket that `NOTIFY_SOCKET` names, and the words that are said there. May not: wait, or fail the gateway:
//! where nobody listens, nothing is said. Not run under a service manager, it does nothing.
//!
//! Source: systemd, `sd_notify(3)`, `sd_watchdog_enabled(3)`, `systemd.service(5)` (`Type=notify-reload`).

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What the service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It serves; also the end of a reload.
    Ready,
    /// It loads its files anew.
    Reloading,
    /// It drains.
    Stopping,
    /// It is alive.
    Watchdog,
}

/// See the module.
#[derive(Debug)]
pub struct Manager {
    /// The socket and where it sends; `None` without a service manager.
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that the process is alive.
    watchdog: Option<Duration>,
}

impl Manager {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub fn from_environment() -> Self {
        let to = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| {
            open(name.as_bytes())
                .inspect_err(|error| {
                    tracing::warn!(%error, "the service manager's socket (NOTIFY_SOCKET) cannot be used");
                })
                .ok()
        });
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|limit| ours && *limit > 0).map(Duration::from_micros);
        Self { to, watchdog }
    }

    /// How often [`Notice::Watchdog`] is due: half of what the manager allows. `None` where it does not ask.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.to.as_ref().and(self.watchdog).map(|limit| limit / 2)
    }

    /// Says it.
    pub fn tell(&self, notice: Notice) {
        let Some((socket, address)) = &self.to else { return };
        let sent = socket.send_to_addr(words(notice).as_bytes(), address);
        if let Err(error) = sent {
            tracing::warn!(%error, ?notice, "the service manager could not be told");
        }
    }
}

fn words(notice: Notice) -> String {
    match notice {
        Notice::Ready => "READY=1\nSTATUS=accepting".to_owned(),
        Notice::Reloading => {
            let now = clock_gettime(ClockId::Monotonic);
            let monotonic_us = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
            format!("RELOADING=1\nMONOTONIC_USEC={monotonic_us}")
        }
        Notice::Stopping => "STOPPING=1\nSTATUS=draining".to_owned(),
        Notice::Watchdog => "WATCHDOG=1".to_owned(),
    }
}

/// An absolute path, or `@` for a name in Linux' abstract space.
fn open(name: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        _ => return Err(io::Error::other("it is neither an absolute path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not stop the gateway.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_names_are_opened_and_others_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let manager = Manager { to: Some(open(path.as_os_str().as_bytes()).unwrap()), watchdog: None };
        manager.tell(Notice::Ready);
        let mut buffer = [0; 128];
        let length = listener.recv(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"READY=1\n"));
        assert!(open(b"@pgturnstile-test").is_ok());
        assert!(open(b"vsock:2:1234").is_err());
    }

    #[test]
    fn a_reload_says_when_it_began() {
        let text = words(Notice::Reloading);
        let (_, when) = text.split_once("MONOTONIC_USEC=").unwrap();
        assert!(when.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn nobody_there_is_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        let manager =
            Manager { to: open(folder.path().join("gone").as_os_str().as_bytes()).ok(), watchdog: None };
        manager.tell(Notice::Ready);
        assert_eq!(Manager { to: None, watchdog: Some(Duration::from_secs(1)) }.watchdog_interval(), None);
    }
}

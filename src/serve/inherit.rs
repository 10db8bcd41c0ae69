//! Listening sockets: bound here, or handed over by the service manager.
//!
//! Owns: which socket serves which address. A socket that was handed over outlives this process, so a restart refuses no
//! connection: what arrives while no gateway accepts waits in the kernel. May not: accept. Fails whole: an address that
//! cannot be bound, a socket that belongs to no address of the configuration, or a Unix socket that is more open than the
//! configuration says.
//!
//! Source: systemd, `sd_listen_fds(3)`: `LISTEN_FDS`, `LISTEN_PID`, descriptors from 3 on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

use super::ServeError;
use super::accept::Listening;
use crate::config::{ListenAddress, Listener, ListenerAt, SocketFile};
use crate::net::local;

/// Sockets that were handed over.
#[derive(Default)]
pub(super) struct Inherited {
    sockets: Vec<(ListenAddress, Socket)>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Inherited {
    /// Takes what the environment names. To be called before any thread starts: the variables are removed, so that no
    /// child takes them for its own.
    ///
    /// # Errors
    /// A descriptor that is no listening TCP or Unix socket.
    pub(super) fn take() -> Result<Self, ServeError> {
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed.len() {
            let taken = take_one(&mut handed, index).map_err(|error| {
                ServeError::Machine(format!(
                    "socket {index} that was handed over (LISTEN_FDS) cannot be used: {error}; hand over listening TCP \
                     sockets, and Unix sockets with a file, only"
                ))
            })?;
            sockets.extend(taken);
        }
        Ok(Self { sockets })
    }

    /// The listener of an entry: the one that was handed over, or a new one.
    ///
    /// # Errors
    /// The address cannot be bound, or what was handed over for it is open to more than the entry says.
    pub(super) fn listen(&mut self, listener: &Listener) -> Result<Listening, ServeError> {
        match &listener.at {
            ListenerAt::Tcp { address, .. } => self.tcp(*address).map(Listening::Tcp),
            ListenerAt::Unix(file) => {
                let address = listener.address();
                self.unix(&address, file).map_err(|error| ServeError::Listen { address, error })
            }
        }
    }

    /// The TCP listener for an address.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(super) fn tcp(&mut self, address: SocketAddr) -> Result<tokio::net::TcpListener, ServeError> {
        let wanted = ListenAddress::Tcp(address);
        let socket = match self.handed(&wanted) {
            Some(Socket::Tcp(socket)) => Ok(socket),
            Some(Socket::Unix(_)) | None => TcpListener::bind(address),
        };
        let listening = socket.and_then(|socket| {
            socket.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(socket)
        });
        listening.map_err(|error| ServeError::Listen { address: wanted, error })
    }

    fn unix(&mut self, wanted: &ListenAddress, file: &SocketFile) -> io::Result<Listening> {
        let (socket, held) = match self.handed(wanted) {
            Some(Socket::Unix(socket)) => {
                local::check_handed_over(file)?;
                (socket, None)
            }
            Some(Socket::Tcp(_)) | None => {
                let (socket, held) = local::listen(file)?;
                (socket, Some(held))
            }
        };
        socket.set_nonblocking(true)?;
        Ok(Listening::Unix(tokio::net::UnixListener::from_std(socket)?, held))
    }

    fn handed(&mut self, wanted: &ListenAddress) -> Option<Socket> {
        let index = self.sockets.iter().position(|(bound, _)| bound == wanted)?;
        tracing::info!(address = %wanted, "the socket was handed over");
        Some(self.sockets.swap_remove(index).1)
    }

    /// Every socket that was handed over has its place.
    ///
    /// # Errors
    /// One has none: whoever connects there would wait for ever.
    pub(super) fn finish(self) -> Result<(), ServeError> {
        match self.sockets.first() {
            None => Ok(()),
            Some((address, _)) => Err(ServeError::Machine(format!(
                "a socket for {address} was handed over (LISTEN_FDS), and neither a [[listener]] nor [control] has this \
                 address; make them agree"
            ))),
        }
    }
}

/// The socket of one descriptor; `None` where it was taken already.
fn take_one(handed: &mut ListenFd, index: usize) -> io::Result<Option<(ListenAddress, Socket)>> {
    // What is no TCP socket is left in its place.
    let (address, socket) = match handed.take_tcp_listener(index) {
        Ok(None) => return Ok(None),
        Ok(Some(socket)) => (ListenAddress::Tcp(socket.local_addr()?), Socket::Tcp(socket)),
        Err(no_tcp) => {
            let Ok(Some(socket)) = handed.take_unix_listener(index) else { return Err(no_tcp) };
            let bound = socket.local_addr()?;
            let path =
                bound.as_pathname().ok_or_else(|| io::Error::other("it is an abstract Unix socket"))?;
            (ListenAddress::Unix(path.to_path_buf()), Socket::Unix(socket))
        }
    };
    let listens = match &socket {
        Socket::Tcp(socket) => socket2::SockRef::from(socket).is_listener()?,
        Socket::Unix(socket) => socket2::SockRef::from(socket).is_listener()?,
    };
    if listens { Ok(Some((address, socket))) } else { Err(io::Error::other("it does not listen")) }
}

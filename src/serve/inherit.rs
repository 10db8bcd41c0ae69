//! Listening sockets: bound here, or handed over by the service manager.
//!
//! Owns: which socket serves which address. A socket that was handed over outlives this process, so a restart refuses no
//! connection: what arrives while no gateway accepts waits in the kernel. May not: accept. Fails whole: an address that
//! cannot be bound, or a socket that belongs to no address of the configuration.
//!
//! Source: systemd, `sd_listen_fds(3)`: `LISTEN_FDS`, `LISTEN_PID`, descriptors from 3 on.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use super::ServeError;

/// Sockets that were handed over.
#[derive(Default)]
pub(super) struct Inherited {
    sockets: Vec<(SocketAddr, TcpListener)>,
}

impl Inherited {
    /// Takes what the environment names. To be called before any thread starts: the variables are removed, so that no
    /// child takes them for its own.
    ///
    /// # Errors
    /// A descriptor that is no listening TCP socket.
    pub(super) fn take() -> Result<Self, ServeError> {
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed.len() {
            let wrong = |error: io::Error| {
                ServeError::Machine(format!(
                    "socket {index} that was handed over (LISTEN_FDS) cannot be used: {error}; hand over listening TCP \
                     sockets only"
                ))
            };
            let Some(socket) = handed.take_tcp_listener(index).map_err(wrong)? else { continue };
            let listens = socket2::SockRef::from(&socket).is_listener().map_err(wrong)?;
            if !listens {
                return Err(wrong(io::Error::other("it does not listen")));
            }
            sockets.push((socket.local_addr().map_err(wrong)?, socket));
        }
        Ok(Self { sockets })
    }

    /// The listener for an address: the one that was handed over, or a new one.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(super) fn listen(&mut self, address: SocketAddr) -> Result<tokio::net::TcpListener, ServeError> {
        let of = |error: io::Error| ServeError::Listen { address, error };
        let handed = self.sockets.iter().position(|(bound, _)| *bound == address);
        let socket = match handed {
            Some(index) => {
                tracing::info!(%address, "the socket was handed over");
                self.sockets.swap_remove(index).1
            }
            None => TcpListener::bind(address).map_err(of)?,
        };
        socket.set_nonblocking(true).map_err(of)?;
        tokio::net::TcpListener::from_std(socket).map_err(of)
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

//! Who is at the other end of a client's connection, before anything is proven.
//!
//! Owns: how a peer is told apart for limits, and how it is told to people. May not: trust what it says of itself: a
//! network address is as true as the network, a process as the kernel.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use tokio::net::unix::UCred;

/// The other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Of a TCP connection.
    Address(SocketAddr),
    /// Of a Unix socket: the process that connected, as the kernel saw it then (`SO_PEERCRED`, unix(7)).
    Process {
        /// Its effective user.
        user: u32,
        /// Its effective group.
        group: u32,
        /// Its number, in our own name space; `None` where it has none there.
        process: Option<i32>,
    },
}

/// What the limit of connections counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A network address.
    Address(IpAddr),
    /// A user of this machine.
    User(u32),
}

impl Peer {
    /// The process at the other end of a Unix socket.
    pub fn of_process(credentials: &UCred) -> Self {
        Peer::Process {
            user: credentials.uid(),
            group: credentials.gid(),
            process: credentials.pid().filter(|process| *process != 0),
        }
    }

    /// What its connections are counted by.
    pub fn origin(&self) -> Origin {
        match self {
            Peer::Address(address) => Origin::Address(address.ip().to_canonical()),
            Peer::Process { user, .. } => Origin::User(*user),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Address(address) => address.fmt(f),
            // Without a space: log lines are split at them.
            Peer::Process { user, group, process } => {
                write!(f, "unix(uid={user},gid={group}")?;
                process.iter().try_for_each(|process| write!(f, ",pid={process}"))?;
                f.write_str(")")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_however_it_is_written_and_a_user_has_all_its_processes() {
        let mapped = Peer::Address("[::ffff:192.0.2.7]:4711".parse().unwrap());
        let plain = Peer::Address("192.0.2.7:4712".parse().unwrap());
        assert_eq!(mapped.origin(), plain.origin());
        let process = |process| Peer::Process { user: 33, group: 34, process };
        assert_eq!(process(Some(1)).origin(), process(None).origin());
        assert_ne!(process(None).origin(), plain.origin());
        assert_eq!(process(Some(7)).to_string(), "unix(uid=33,gid=34,pid=7)");
        assert_eq!(process(None).to_string(), "unix(uid=33,gid=34)");
    }
}

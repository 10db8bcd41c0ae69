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
    /// Of a TCP connection through a load balancer that is believed.
    Proxied {
        /// The client, by the balancer's word.
        client: SocketAddr,
        /// Where the client connected to, by the same word.
        destination: SocketAddr,
        /// The balancer: the peer of the socket.
        proxy: SocketAddr,
    },
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
    /// A load balancer that has not said yet whose connection it brings. All clients come from its address, so that the
    /// connections of one address are not counted here.
    Proxy(IpAddr),
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

    /// The client alone, without who spoke for it.
    pub fn client(&self) -> String {
        match self {
            Peer::Proxied { client, .. } => client.to_string(),
            Peer::Address(_) | Peer::Process { .. } => self.to_string(),
        }
    }

    /// The address of a TCP connection's other end; `None` on a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Peer::Address(address) | Peer::Proxied { proxy: address, .. } => Some(*address),
            Peer::Process { .. } => None,
        }
    }

    /// What its connections are counted by.
    pub fn origin(&self) -> Origin {
        match self {
            Peer::Address(address) | Peer::Proxied { client: address, .. } => {
                Origin::Address(address.ip().to_canonical())
            }
            Peer::Process { user, .. } => Origin::User(*user),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Address(address) => address.fmt(f),
            Peer::Proxied { client, proxy, .. } => write!(f, "{client}(by={proxy})"),
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
        let (client, destination) = ("192.0.2.7:9".parse().unwrap(), "203.0.113.9:5432".parse().unwrap());
        let proxied = Peer::Proxied { client, destination, proxy: "10.0.0.5:3331".parse().unwrap() };
        assert_eq!(proxied.origin(), plain.origin());
        assert_eq!(
            (proxied.to_string().as_str(), proxied.client().as_str()),
            ("192.0.2.7:9(by=10.0.0.5:3331)", "192.0.2.7:9")
        );
        assert_eq!(process(Some(7)).to_string(), "unix(uid=33,gid=34,pid=7)");
        assert_eq!(process(None).to_string(), "unix(uid=33,gid=34)");
    }
}

//! Sockets: the byte streams of both legs and the TLS on them.

pub mod stream;
pub mod tls;
pub mod conduit;

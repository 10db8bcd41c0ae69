//! Sockets: the byte streams of both legs and the TLS on them.

pub mod close;
pub mod conduit;
pub mod local;
pub mod proxy_protocol;
pub mod stream;
pub mod tls;

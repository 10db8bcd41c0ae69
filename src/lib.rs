//! The gateway: configuration, evidence, identity, sessions, and the command line over them.
//!
//! One-way order: `net::{stream, tls, conduit}` (sockets and buffers), [`config`] → `evidence` → `identity`, `backend`,
//! [`approval`] → `session` → `net`, `operate`, [`scan`], [`audit`] → `serve` → [`cli`]. A module uses only what stands to its left; a test that parses the sources proves it.
//! Everything fails closed.

pub mod approval;
pub mod audit;
pub mod backend;
pub mod cli;
pub mod config;
pub mod evidence;
pub mod identity;
pub mod net;
pub mod operate;
pub mod scan;
pub mod serve;
pub mod session;

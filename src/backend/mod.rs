//! The target's side: connecting, TLS, logging in, cancelling.
//!
//! Owns everything between the configuration of a target and a stream that stands idle behind its first ReadyForQuery.
//! May not do: judge a statement, relay a byte, or know of clients beyond the startup settings they are allowed.
//! Fails closed, by [`DialError`], which names who is at fault and what to do; no password, key or token is in it.
//!
//! | module | owns |
//! |---|---|
//! | [`settings`] | what the operator says: address, TLS, credential, guards |
//! | [`target`] | a target checked and ready |
//! | [`startup`], [`options`] | the client's allow-listed settings and our startup packet |
//! | [`dial`](mod@dial), [`login`], [`scram`], [`keys`], [`credentials`] | a session |
//! | [`server`] | what the server must report |
//! | [`cancel`](mod@cancel), [`query`](mod@query), [`pooler`] | what is done on connections of the gateway's own |
//! | [`catalog`] | the snapshot of the target's catalog, kept on one of them |

pub mod cancel;
pub mod catalog;
pub mod credentials;
pub mod dial;
pub mod error;
mod frames;
pub mod keys;
pub mod limits;
pub mod login;
mod md5;
pub mod options;
pub mod pooler;
pub mod query;
pub mod scram;
pub mod server;
pub mod settings;
pub mod startup;
pub mod target;

pub use cancel::cancel;
pub use catalog::Catalog;
pub use dial::{Connected, dial};
pub use error::{DialError, Failure, Fault, Unfit};
pub use keys::KeyCache;
pub use login::{CancelKey, Login, Method};
pub use pooler::Pooling;
pub use startup::{ClientSettings, StartupParameters};
pub use target::{Target, TargetError};

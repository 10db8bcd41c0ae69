//! The target's side: connecting, TLS, logging in, cancelling.
pub mod credentials;
pub mod keys;
pub mod limits;
pub mod options;
pub mod scram;
pub mod settings;
pub mod startup;

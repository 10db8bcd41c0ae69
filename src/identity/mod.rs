//! Who is speaking: a token becomes a verified principal, or a refusal.
//!
//! ```text
//!   password field ─▶ token (strict form) ─▶ verify ─▶ Principal            for rules::policy and evidence
//!                                             │   └──▶ Denied               28000 for the client, exact for evidence
//!                                             ▼
//!                     cache ◀── source ◀── http, file                       keys, on the control runtime
//! ```
//!
//! Owns: everything between the bytes in the password field and a `Principal`. May not: let one byte of a token into a
//! log, an error, a `Debug` or a record (a token appears as its thumbprint); hold a session up for longer than one
//! bounded fetch; believe keys beyond their bound. Fails closed: whatever is missing, ambiguous or unreachable is a
//! [`Denied`].
//!
//! [`dev`] makes tokens for development and tests and is reached by nothing on the data path.

mod algorithm;
mod cache;
mod claims;
mod clock;
mod denied;
pub mod dev;
mod http;
mod json;
mod judge;
mod jwks;
pub mod limits;
mod settings;
mod source;
mod token;
mod verify;

pub mod bearer;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use claims::{BadClaimPath, ClaimPath};
pub use denied::{Denied, Flaw, Part, Reason, SQLSTATE};
pub use http::RootsError;
pub use limits::KeyTiming;
pub use settings::{IssuerSettings, SettingsError, SetupError};
pub use source::KeySource;
pub use verify::{KeyHealth, Verifier};

#[cfg(test)]
mod tests;

//! What people do with the evidence: questions, exports, replays, packages for an auditor.
//!
//! Owns: records told as events (a statement with its text, result, refusal, masks and who asked), filters over them, and the
//! forms in which they leave: JSON lines, CSV, HTML, OCSF, SQLite. May not: judge evidence ([`crate::evidence`] does, and only what
//! is sound is told), write into its directory, or know the gateway: it compiles without runtime, TLS and parser (README decision 17).
//! Every string of an event came from somebody else: nothing leaves here towards a terminal or a page that was not escaped.
//!
//! ```text
//!  evidence::verify / follow ── sound records ──> tell ── events ──> filter ──> csv, json, html, ocsf
//!                                                                         └──> index (SQLite)
//! ```

pub mod columns;
pub mod coverage;
pub mod csv;
pub mod cursor;
pub mod event;
pub mod filter;
pub mod html;
pub mod index;
pub mod json;
pub mod ocsf;
pub mod pack;
pub mod stand;
pub mod tell;
pub mod time;

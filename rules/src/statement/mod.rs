//! Statements: from exact bytes to [`facts`], by PostgreSQL's own grammar.
//!
//! Owns: the one door to the parser ([`door`]), the walker over its tree, the text that evidence may hold, the cache of
//! facts by exact text. May not: resolve names, know a policy. Fails closed: what cannot be parsed is [`Unparsable`],
//! what the walker does not know is [`crate::class::Class::Unknown`].

pub mod cache;
pub mod closed;
pub mod door;
mod effort;
pub mod facts;
mod generated;
mod lifted;
pub mod outline;
pub mod pool;
mod walk;

pub use cache::Cache;
pub use door::{Limits, Unparsable, facts_here, on_parser_stack, spawn_parser_thread};
pub use pool::{Done, Parser, PoolSettings};

/// Whether a text is *plain*: no backslash, no byte above 0x7F (and no NUL). A plain text reads the same under every
/// client_encoding and under either setting of standard_conforming_strings (README decision 6).
#[inline]
pub fn is_plain(text: &[u8]) -> bool {
    pgturnstile_sweep::is_plain(text)
}

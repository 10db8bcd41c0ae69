//! Statements: from exact bytes to [`facts`], by PostgreSQL's own grammar.
//!
//! Owns: the one door to the parser ([`door`]), the walker over its tree, the text that evidence may hold, the cache of
//! facts by exact text. May not: resolve names, know a policy. Fails closed: what cannot be parsed is [`Unparsable`],
//! what the walker does not know is [`crate::class::Class::Unknown`].

pub mod door;
pub mod facts;
mod generated;
mod lifted;
mod walk;

pub use door::{Limits, Unparsable, facts_here, on_parser_stack, spawn_parser_thread};

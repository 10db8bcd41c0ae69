//! Statements: from exact bytes to [`facts`], by PostgreSQL's own grammar.

pub mod facts;

//! What a statement is, what it reaches, and what the policy says of it.
//!
//! One-way order: [`class`] → [`statement`] → [`catalog`] → [`resolve`] → [`mask`] →
//! [`policy`]. Nothing here does IO on the data
//! path; files are read only by [`policy`]'s loader. Everything fails closed: what cannot be placed is
//! [`class::Class::Unknown`], what cannot be resolved is refused by the judgement.

pub mod catalog;
pub mod class;
pub mod document;
pub mod mask;
pub mod policy;
pub mod resolve;
pub mod statement;

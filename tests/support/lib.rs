//! What the tests of this workspace share: throwaway servers and the like.
//!
//! Owns: starting and stopping what a test needs. May not: judge anything. It fails by panicking with a sentence that
//! says what is missing and how to install it: a test whose ground is missing has failed, it is never skipped.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a panic here is a failed test, which is what must happen"
)]

pub mod catalog;
pub mod postgres;

pub use postgres::Postgres;

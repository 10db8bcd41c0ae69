//! Skeleton.

pub mod config;
pub mod identity;
pub mod net;

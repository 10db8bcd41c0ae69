//! Skeleton.

pub mod config;
pub mod net;

//! Skeleton.

pub mod net;

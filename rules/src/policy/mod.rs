//! Policy: who may do what.

pub mod principal;

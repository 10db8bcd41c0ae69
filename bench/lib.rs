//! Benches of the gateway's parts, one file each beside this one.
//!
//! Owns: nothing but the package's library target, so that `cargo check` reaches the package without building a bench.

//! libFuzzer's door to `bodies/token_claims.rs`.
#![no_main]

#[path = "../bodies/token_claims.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));

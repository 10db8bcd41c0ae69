//! libFuzzer's door to `bodies/mask_differential.rs`.
#![no_main]

#[path = "../bodies/mask_differential.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));

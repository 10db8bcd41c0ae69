//! libFuzzer's door to `bodies/frontend_frames.rs`.
#![no_main]

#[path = "../bodies/frontend_frames.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));

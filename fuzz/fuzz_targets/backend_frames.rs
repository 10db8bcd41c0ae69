//! libFuzzer's door to `bodies/backend_frames.rs`.
#![no_main]

#[path = "../bodies/backend_frames.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));

//! libFuzzer's door to `bodies/conversation.rs`.
#![no_main]

#[path = "../bodies/conversation.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));

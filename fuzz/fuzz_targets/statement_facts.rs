//! libFuzzer's door to `bodies/statement_facts.rs`.
#![no_main]

#[path = "../bodies/statement_facts.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));

//! The bodies of all fuzz targets, as plain functions, and the list of them.
//!
//! A body takes any bytes and panics if a promise is broken: that is its whole interface, so that libFuzzer
//! (`fuzz/fuzz_targets`) and the replay in the tests' own profile (`tests/fuzz_smoke.rs`) run the same code. A target
//! includes only its own body; the replay includes this list. How to add one: fuzz/README.md.

pub mod backend_frames;
pub mod conversation;
pub mod evidence_reader;
pub mod frontend_frames;
pub mod mask_differential;
pub mod mutations;
pub mod proxy_header;
pub mod seeds;
pub mod startup;
pub mod statement_facts;
pub mod token_claims;

/// One fuzz target as the replay sees it.
pub struct Body {
    /// Name of the target, of its file under `fuzz_targets` and of its folder under `corpus`.
    pub name: &'static str,
    /// The body.
    pub run: fn(&[u8]),
    /// Deterministic mutations of each corpus file that the replay tries.
    pub mutations_per_file: usize,
}

/// Every target, sorted by name.
pub const BODIES: &[Body] = &[
    Body { name: "backend_frames", run: backend_frames::run, mutations_per_file: 2_000 },
    Body { name: "conversation", run: conversation::run, mutations_per_file: 150 },
    Body { name: "evidence_reader", run: evidence_reader::run, mutations_per_file: 2_000 },
    Body { name: "frontend_frames", run: frontend_frames::run, mutations_per_file: 2_000 },
    Body { name: "mask_differential", run: mask_differential::run, mutations_per_file: 2_000 },
    Body { name: "proxy_header", run: proxy_header::run, mutations_per_file: 2_000 },
    Body { name: "startup", run: startup::run, mutations_per_file: 4_000 },
    Body { name: "statement_facts", run: statement_facts::run, mutations_per_file: 60 },
    Body { name: "token_claims", run: token_claims::run, mutations_per_file: 500 },
];

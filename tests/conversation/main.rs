//! Random pipelines against the model, a bare server and the gateway: every reply, every status, every effect.
//!
//! Owns: the comparison, the shrinking of what disagrees, and the cases that once did (`cases`).
//! A run says its seed; `PGTURNSTILE_SEED` takes one, `PGTURNSTILE_CONVERSATIONS` the number of pipelines,
//! `PGTURNSTILE_CONVERSATION_SECONDS` a time instead. `PGTURNSTILE_CONVERSATION_STATE` names a file that keeps the next
//! seed, so that a long run goes on where the last one ended. `PGTURNSTILE_FINDINGS` lets a run go on behind the first
//! finding, and `PGTURNSTILE_MODEL_ONLY` leaves the gateway out, to teach the model.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a test: a panic is a failed test, and the model is no security path"
)]

mod drive;
mod ground;
mod model;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use drive::Side;
use ground::Ground;
use model::frames::Pipeline;
use model::server::Reply;
use tokio::runtime::Runtime;
use wire::{Raw, compared};

/// Pipelines of an ordinary run.
const PIPELINES: u64 = 300;
/// Shrinking ends after this, whatever it has come to.
const SHRINK_LIMIT: Duration = Duration::from_secs(90);
/// Bytes of the longest pipeline that is generated.
const BYTES_MAX: u64 = 2 + 4 * 32;

/// A small generator (SplitMix64): the same everywhere for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn pipeline(&mut self) -> Vec<u8> {
        let length = 6 + self.next() % (BYTES_MAX - 6);
        (0..length).map(|_| (self.next() >> 24) as u8).collect()
    }
}

/// Runs one pipeline on both sides: where something disagrees, what.
fn disagreement(ground: &Ground, runtime: &Runtime, bytes: &[u8], gated: bool) -> Option<String> {
    let pipeline = Pipeline::decode(bytes);
    let (bare_plan, gate_plan, expected, end) = drive::rehearse(&pipeline);
    ground.reset();
    let (bare, wrong) = runtime.block_on(drive::run(ground, Side::Bare, &bare_plan));
    let mut found = wrong.map(|why| format!("the server: {why}"));
    found = both(found, compared("the server", &bare, &expected, false));
    if found.is_none() {
        found = effects(ground, Side::Bare, &end.server.data);
    }
    if gated && found.is_none() {
        let (gate, wrong) = runtime.block_on(drive::run(ground, Side::Gate, &gate_plan));
        found = wrong.map(|why| format!("the gateway: {why}"));
        found = both(found, compared("the gateway", &gate, &expected, true));
        found = found
            .or_else(|| same_bytes(&bare, &gate))
            .or_else(|| effects(ground, Side::Gate, &end.server.data));
    }
    found.map(|what| format!("{what}\n{}", pipeline.described()))
}

fn both(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("{one}; {other}")),
        (one, other) => one.or(other),
    }
}

/// What the gateway did not say itself is the server's, to the byte.
fn same_bytes(bare: &[Raw], gate: &[Raw]) -> Option<String> {
    bare.iter().zip(gate).enumerate().find_map(|(index, (bare, gate))| {
        let own = match gate.reply() {
            // The setting carries the session's id; a server that lost the stream names the type of the frame, which is
            // the stand-in's where it was refused, and the gateway says the last words.
            Reply::Refused(_) | Reply::Status(_) | Reply::Error("08P01") | Reply::Fatal("08P01") => true,
            _ => false,
        };
        (!own && bare != gate).then(|| {
            format!(
                "reply {index}: {} from the server, {} from the gateway",
                bare.bytes.escape_ascii(),
                gate.bytes.escape_ascii()
            )
        })
    })
}

fn effects(ground: &Ground, side: Side, expected: &model::data::Data) -> Option<String> {
    let is = ground.tables(side.database());
    let sorted = |numbers: &[i32]| {
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        sorted
    };
    let same = is.kv == expected.kv && is.late == sorted(&expected.late) && is.trap == sorted(&expected.trap);
    (!same).then(|| format!("{}: the tables hold {is:?}, expected {expected:?}", side.database()))
}

/// Drops steps while the pipeline still disagrees.
fn shrunk(ground: &Ground, runtime: &Runtime, mut bytes: Vec<u8>, gated: bool) -> Vec<u8> {
    let begun = Instant::now();
    let mut width = (bytes.len() / 8).max(1) * 4;
    while width >= 4 && begun.elapsed() < SHRINK_LIMIT {
        let mut at = 2;
        while at + 4 <= bytes.len() {
            let mut shorter = bytes.clone();
            drop(shorter.drain(at..(at + width).min(bytes.len())));
            if disagreement(ground, runtime, &shorter, gated).is_some() {
                bytes = shorter;
            } else {
                at += width;
            }
        }
        width = if width == 4 { 0 } else { (width / 8).max(1) * 4 };
    }
    bytes
}

/// The smallest form of a finding, kept and told.
fn told(ground: &Ground, runtime: &Runtime, bytes: Vec<u8>, gated: bool, what: String) -> String {
    eprintln!("found, now shrinking: {what}");
    let small = shrunk(ground, runtime, bytes, gated);
    let what = disagreement(ground, runtime, &small, gated).unwrap_or(what);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("conversation");
    let path = folder.join(format!("found-{}", &blake3::hash(&small).to_hex()[..16]));
    let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, &small));
    let log = ground.log();
    let log = &log[log.len().saturating_sub(2_000)..];
    format!(
        "{what}\nbytes: {small:?}\nkept as {} ({kept:?}); once mended, commit it to tests/conversation/cases\nthe \
         gateway's log ends:\n{log}",
        path.display()
    )
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conversation/cases");
    let entries =
        fs::read_dir(&folder).map(|entries| entries.filter_map(Result::ok).map(|e| e.path()).collect());
    let mut files: Vec<PathBuf> = entries.unwrap_or_default();
    files.sort();
    files
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn a_client_sees_what_the_model_says() {
    let mut ground = Ground::start();
    let seconds = number("PGTURNSTILE_CONVERSATION_SECONDS");
    let gated = std::env::var_os("PGTURNSTILE_MODEL_ONLY").is_none();
    let runtime = runtime();
    // The first session may come before the catalog is read.
    let begun = Instant::now();
    while let Some(what) = disagreement(&ground, &runtime, &[], gated) {
        assert!(begun.elapsed() < ground::START_LIMIT, "no session comes about: {what}");
    }
    for path in cases() {
        let bytes = fs::read(&path).expect("a case");
        if let Some(what) = disagreement(&ground, &runtime, &bytes, gated) {
            panic!("{}: {what}", path.display());
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let state = std::env::var_os("PGTURNSTILE_CONVERSATION_STATE").map(PathBuf::from);
    let left = state.as_ref().and_then(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    let first = number("PGTURNSTILE_SEED").or(left).unwrap_or(now);
    let count = number("PGTURNSTILE_CONVERSATIONS").unwrap_or(PIPELINES);
    let begun = Instant::now();
    let mut done = 0;
    let findings_max = number("PGTURNSTILE_FINDINGS").unwrap_or(1);
    let mut findings = Vec::new();
    eprintln!("seed {first}");
    while seconds.map_or(done < count, |seconds| begun.elapsed().as_secs() < seconds) {
        // Each pipeline has a seed of its own, so that one can be run again by itself.
        let seed = first.wrapping_add(done);
        let bytes = Random(seed).pipeline();
        if let Some(what) = disagreement(&ground, &runtime, &bytes, gated) {
            eprintln!("PGTURNSTILE_SEED={seed}");
            findings.push(told(&ground, &runtime, bytes, gated, what));
            if findings.len() as u64 >= findings_max {
                break;
            }
        }
        done += 1;
        if let Some(path) = &state {
            fs::write(path, first.wrapping_add(done).to_string()).expect("the state is writable");
        }
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n\n"));
    eprintln!("{done} pipelines agree, seeds {first} to {}", first.wrapping_add(done));
    assert!(ground.alive(), "the gateway ended: {}", ground.log());
    let log = ground.server.log();
    for refused in ["DROP TABLE kv", "TRUNCATE kv", "DELETE FROM kv\n", "DELETE FROM kv;"] {
        let reached =
            log.lines().any(|line| line.starts_with("gate ") && format!("{line}\n").contains(refused));
        assert!(!reached, "{refused:?} reached the server");
    }
}

//! Replays every committed fuzz corpus, and deterministic mutations of it, through the bodies of the fuzz targets in
//! the tests' own profile. libFuzzer with sanitizers runs the same bodies (fuzz/README.md).
#![allow(clippy::expect_used, clippy::panic, reason = "a panic here is a failed test")]

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

#[path = "../fuzz/bodies/mod.rs"]
#[expect(unreachable_pub, reason = "fuzz targets include the same files as modules of their own")]
mod bodies;

use bodies::{
    BODIES, Body,
    mutations::{Random, mutated},
    seeds,
};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("a readable corpus").path())
        .map(|path| {
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a readable seed"))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

#[test]
fn every_corpus_and_its_mutations_keep_the_promises() {
    for body in BODIES {
        let files = corpus(body.name);
        for (index, (name, seed)) in files.iter().enumerate() {
            hold(body, name, 0, seed);
            let mut random = Random::new(index as u64);
            for round in 1..=body.mutations_per_file {
                let other = &files[random.below(files.len())].1;
                hold(body, name, round, &mutated(&mut random, seed, other));
            }
        }
    }
}

/// Runs one input; what fails is printed in a form that can be made a seed.
fn hold(body: &Body, name: &str, round: usize, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (body.run)(input))).is_err() {
        panic!("{}: mutation {round} of {name} fails: b\"{}\"", body.name, input.escape_ascii());
    }
}

#[test]
fn the_named_seeds_are_what_their_names_say() {
    for seeds::Seed { target, name, bytes } in seeds::all() {
        let path = fuzz().join("corpus").join(target).join(&name);
        if std::env::var_os("PGTURNSTILE_WRITE_SEEDS").is_some() {
            fs::create_dir_all(path.parent().expect("a corpus has a folder")).expect("a folder can be made");
            fs::write(&path, &bytes).expect("a seed can be written");
        }
        let found = fs::read(&path).unwrap_or_default();
        let hint = "run with PGTURNSTILE_WRITE_SEEDS=1 to write the seeds";
        assert_eq!(
            found.escape_ascii().to_string(),
            bytes.escape_ascii().to_string(),
            "{target}/{name}: {hint}"
        );
    }
}

#[test]
fn every_target_has_a_body_a_corpus_and_an_entry() {
    let stems = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz().join(folder)).expect("a folder of the fuzz crate");
        let stem = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
        entries.map(|entry| stem(entry.expect("a readable folder").path())).collect()
    };
    let listed: BTreeSet<String> = BODIES.iter().map(|body| body.name.to_owned()).collect();
    assert_eq!(listed.len(), BODIES.len(), "a name is listed twice");
    assert_eq!(stems("fuzz_targets"), listed);
    assert_eq!(stems("corpus"), listed);
    let helpers = ["mod", "mutations", "seeds"].map(str::to_owned);
    assert_eq!(stems("bodies"), listed.iter().cloned().chain(helpers).collect());
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("the fuzz crate's manifest");
    for name in listed {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name} has no [[bin]] entry"
        );
    }
}

//! A gateway that is killed, again and again, in one directory: whatever it said was durable is there afterwards.
//!
//! The child is this test binary, started with an environment variable and the name of one test.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::directory::{block_on, check, start};
use super::samples;
use super::simulated::Dice;
use crate::evidence::describe::hex;
use crate::evidence::record::How;
use crate::evidence::verify::verify;

const DIRECTORY: &str = "PGTURNSTILE_TEST_KILL_DIRECTORY";
/// How often, unless [`ROUNDS_WANTED`] says otherwise.
const ROUNDS: u64 = 50;
const ROUNDS_WANTED: &str = "PGTURNSTILE_KILL_ROUNDS";

/// Not a test of its own: what the killed process does. It prints a line for every record that is durable.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    block_on(async {
        let (evidence, lanes) = start(Path::new(&directory), 2);
        let facts = samples::facts();
        let seed = std::process::id();
        for number in 0_u32.. {
            let lane = &lanes[number as usize % 2];
            let mut id = [0; 16];
            id[..4].copy_from_slice(&seed.to_le_bytes());
            id[4..8].copy_from_slice(&number.to_le_bytes());
            let mut session = evidence.session(lane, id);
            let mut marks = vec![session.append(samples::opened(), How::GATED).await.unwrap()];
            for _ in 0..3 {
                let asked = session.append(samples::statement(&facts), How::GATED).await.unwrap();
                marks.push(asked);
                marks.push(
                    session
                        .append(samples::result(), How::QUEUED.answering(asked.stream_sequence))
                        .await
                        .unwrap(),
                );
            }
            for mark in marks {
                lane.until_durable(mark).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "\ndurable {} {}", hex(&id), mark.stream_sequence).unwrap();
                out.flush().unwrap();
            }
        }
    });
}

#[test]
fn kills_lose_nothing_that_was_acknowledged() {
    let rounds = std::env::var(ROUNDS_WANTED).map_or(ROUNDS, |wanted| wanted.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = HashSet::new();
    let mut dice = Dice(7);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "evidence::tests::kill::child", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = 1 + dice.below(120) as usize;
        let durable =
            lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("durable ").map(str::to_owned));
        let mut seen = 0;
        for line in durable {
            acknowledged.insert(line);
            seen += 1;
            if seen == wanted {
                // SIGKILL; what it still printed is read, too.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= wanted, "round {round}: the child ended by itself behind {seen} lines");
        let report = check(directory.path());
        assert!(report.sound() || report.torn, "round {round}: {:?}", report.bad);
    }
    // One more start recovers; then every acknowledged record is there.
    let (evidence, _lanes) = start(directory.path(), 1);
    block_on(evidence.stop("test")).unwrap();
    let mut there = HashSet::new();
    let report = verify(directory.path(), &mut |_, _| {}, &mut |_, record| {
        let header = record.header();
        there.insert(format!("{} {}", hex(&header.stream), header.stream_sequence));
    })
    .unwrap();
    assert_eq!(report.bad, None);
    assert_eq!(report.runs, rounds + 1);
    assert!(report.open.iter().all(|session| session.cut_off));
    let lost: Vec<&String> = acknowledged.difference(&there).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged records are gone: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
}

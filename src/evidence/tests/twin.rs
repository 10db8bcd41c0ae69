//! A second verifier, written from README.md alone and sharing no line with the first: both must say the same of every
//! file.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use super::directory::{KEY, block_on, check, run as run_of_test, settings};
use super::samples;
use super::simulated::Dice;
use crate::evidence::record::How;
use crate::evidence::{Settings, open};

/// `None` as soon as anything is not as README.md says.
fn holds(condition: bool) -> Option<()> {
    condition.then_some(())
}

fn hash(domain: &str, bytes: &[u8]) -> [u8; 32] {
    let key = blake3::derive_key(&format!("pgturnstile evidence v1 {domain}"), b"");
    *blake3::keyed_hash(&key, bytes).as_bytes()
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[derive(Default)]
struct Session {
    next: u64,
    expected: BTreeSet<u64>,
    texts: BTreeSet<u64>,
}

#[derive(Default)]
struct Twin {
    log: Vec<u8>,
    previous: Vec<u8>,
    sequence: u64,
    sessions: HashMap<Vec<u8>, Session>,
    runs: u64,
}

impl Twin {
    fn segment(&mut self, index: u64, last: bool, bytes: &[u8]) -> Option<()> {
        let header = bytes.get(..256)?;
        holds(&header[..8] == b"PGTEVID1" && number(header, 8, 4) == 1 && number(header, 12, 4) == 256)?;
        holds(number(header, 32, 8) == index && number(header, 40, 8) == self.sequence)?;
        if index == 0 {
            self.log = header[16..32].to_vec();
            self.previous = vec![0; 32];
        }
        holds(header[16..32] == self.log && header[48..80] == self.previous && header[176..224] == [0; 48])?;
        holds(header[224..] == hash("segment", &header[..224]))?;
        let segment_first = self.sequence;
        let (mut value, mut first, mut hashes) = (header[224..].to_vec(), self.sequence, Vec::new());
        let (mut at, mut closed) = (256, false);
        while bytes.len() - at >= 8 && bytes[at..at + 8] != [0; 8] {
            let frame = bytes.get(at..at + number(bytes, at + 4, 4) as usize)?;
            holds(!closed && frame.len() % 16 == 0 && frame.len() >= 96)?;
            match &frame[..4] {
                b"PGTR" => {
                    self.record(frame)?;
                    hashes.extend_from_slice(&frame[16..48]);
                }
                b"PGTB" => {
                    holds(frame.len() == 112 && number(frame, 8, 8) == first)?;
                    holds(number(frame, 16, 4) == hashes.len() as u64 / 32 && frame[20..24] == [0; 4])?;
                    holds(frame[32..64] == value)?;
                    holds(frame[64..96] == hash("block", &[&frame[8..64], &hashes].concat()))?;
                    holds(frame[96..] == hash("seal", &frame[..96])[..16])?;
                    (value, first, hashes) = (frame[64..96].to_vec(), self.sequence, Vec::new());
                }
                b"PGTT" => {
                    holds(frame.len() == 96 && hashes.is_empty() && frame[32..64] == value)?;
                    holds(number(frame, 8, 8) == segment_first)?;
                    holds(number(frame, 16, 8) == self.sequence - segment_first)?;
                    holds(frame[64..] == hash("trailer", &frame[..64]))?;
                    self.previous = frame[64..].to_vec();
                    closed = true;
                }
                _ => return None,
            }
            at += frame.len();
        }
        holds(bytes[at..].iter().all(|byte| *byte == 0) && hashes.is_empty() && (closed || last))
    }

    fn record(&mut self, frame: &[u8]) -> Option<()> {
        holds(frame.len() >= 112)?;
        let end = 112 + number(frame, 56, 4) as usize;
        holds(end.next_multiple_of(16) == frame.len() && frame[end..].iter().all(|byte| *byte == 0))?;
        holds(number(frame, 8, 8) == self.sequence && frame[16..48] == hash("record", &frame[48..end]))?;
        holds(number(frame, 48, 2) == 1 && number(frame, 52, 2) == 1)?;
        self.sequence += 1;
        let (kind, flags) = (number(frame, 50, 2), number(frame, 54, 2));
        holds(matches!(kind, 1..=4 | 16..=27) && flags < 32)?;
        let fixed = match kind {
            1 | 16 => 2,
            2 | 26 => 4,
            _ => 0,
        };
        holds(flags & 6 == fixed)?;
        self.runs += u64::from(kind == 1);
        holds(self.runs > 0)?;
        let id = frame[64..80].to_vec();
        let (own, refers) = (number(frame, 80, 8), number(frame, 88, 8));
        if flags & 2 != 0 {
            holds(self.sessions.insert(id.clone(), Session::default()).is_none())?;
        }
        let session = self.sessions.get_mut(&id)?;
        holds(own == session.next && (refers == u64::MAX || refers < own))?;
        session.next += 1;
        if kind == 27 {
            session.texts.insert(own);
        }
        if flags & 16 != 0 {
            holds(session.expected.remove(&refers))?;
        }
        if flags & 8 != 0 {
            session.expected.insert(own);
        }
        if flags & 4 != 0 {
            holds(self.sessions.remove(&id)?.expected.is_empty())?;
        }
        Some(())
    }
}

/// Whether everything that README.md asks of a verifier holds (but for the payloads, which it need not read).
fn sound(directory: &Path) -> bool {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("segment-"))
        .collect();
    names.sort();
    let mut twin = Twin::default();
    (0..).zip(&names).all(|(index, name)| {
        let last = index + 1 == names.len() as u64;
        *name == format!("segment-{index:010}.evidence")
            && twin.segment(index, last, &fs::read(directory.join(name)).unwrap()).is_some()
    })
}

/// A log of several segments, some sessions whole and some cut off.
fn sample() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 64 << 10, ..settings(directory.path()) };
    block_on(async {
        for run in 0..3 {
            let (evidence, lanes) = open(&settings, &run_of_test(), &KEY, 2).unwrap();
            for number in 0..6 {
                let lane = &lanes[usize::from(number % 2)];
                let mark =
                    samples::session(evidence.session(lane, [run * 16 + number + 1; 16]), 60, How::QUEUED)
                        .await;
                lane.until_durable(mark).await.unwrap();
            }
            if run < 2 {
                evidence.stop("test").await.unwrap();
            }
        }
    });
    directory
}

#[test]
fn both_verifiers_say_the_same_of_every_damaged_file() {
    let directory = sample();
    let report = check(directory.path());
    assert!(report.sound() && report.segments > 2 && sound(directory.path()), "{:?}", report.bad);
    let mut dice = Dice(11);
    let mut broken = 0;
    for round in 0..300 {
        let segment = dice.below(report.segments);
        let path = directory.path().join(crate::evidence::read::segment_name(segment));
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let at = dice.below(bytes.len() as u64) as usize;
        match dice.below(5) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes.truncate(at),
            2 => bytes.truncate(at / 16 * 16),
            3 => drop(bytes.drain(at / 16 * 16..(at / 16 * 16 + 112).min(whole.len()))),
            _ => bytes.extend_from_slice(&whole[at..(at + 64).min(whole.len())]),
        }
        fs::write(&path, &bytes).unwrap();
        let first = check(directory.path()).sound();
        assert_eq!(first, sound(directory.path()), "round {round}: segment {segment} at {at}");
        broken += u32::from(!first);
        fs::write(&path, &whole).unwrap();
    }
    assert!(broken > 200, "only {broken} were found broken");
    assert!(sound(directory.path()));
}

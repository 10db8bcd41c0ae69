//! What a session's evidence keeps beyond digests, and how far it has come with the running result.
//!
//! Owns: which of `digest`, `text`, `rows` holds, the bounds of capture, the descriptions that rows point to. May not: see a
//! value, or record: that is [`super::kept`] and [`super::capture`]. Never fails.

use std::collections::VecDeque;

use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::policy::{Record, Recording};

use super::judge::Decision;

/// Descriptions of columns that later results are compared with.
const DESCRIPTIONS_MAX: usize = 8;
/// Longest of them that is kept for this comparison, bytes.
const DESCRIPTION_BYTES_MAX: usize = 16 << 10;

/// How far the capture of one direction of the running result has come.
///
/// ```text
///   Idle ──its first bytes──► Running ──the bound, or a reason against──► Ended
///    ▲                           └───────────┬───────────────────────────────┘
///    └──────────── the result ends ──────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of the result came yet.
    #[default]
    Idle,
    /// What comes is recorded.
    Running,
    /// The rest is held by digest alone.
    Ended,
}

/// See [`Phase`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) phase: Phase,
    /// Rows, or CopyData frames, captured.
    pub(super) rows: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// Originals of the running result that were sealed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SealedSoFar {
    /// Their bytes, with what stands before each.
    pub(super) bytes: u64,
    /// The bound is reached: no more of the result.
    pub(super) ended: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Recorder {
    recording: Recording,
    /// The ground by which it was chosen.
    ground: u128,
    /// Something on the target is labelled.
    pub(super) labels: bool,
    /// Of what goes to the client.
    pub(super) out: Progress,
    /// Of what comes from it.
    pub(super) copied_in: Progress,
    /// Originals.
    pub(super) sealed: SealedSoFar,
    /// All of that, however much was captured; `None` before its first byte.
    pub(super) copied_digest: Option<blake3::Hasher>,
    /// Frames of it.
    pub(super) copied_frames: u64,
    /// What the client said of itself last, in a comment.
    pub(super) stated: Vec<(String, String)>,
    descriptions: VecDeque<(Box<[u8]>, u64)>,
}

impl Recorder {
    /// Digests alone, until it is told otherwise.
    pub(super) fn new() -> Self {
        let recording = Recording {
            record: Record::Digest,
            rows_bytes_max: 0,
            why: String::new(),
            detectors: Detectors::NONE,
            by_default: true,
        };
        Self {
            recording,
            ground: 0,
            labels: false,
            out: Progress::default(),
            copied_in: Progress::default(),
            sealed: SealedSoFar::default(),
            copied_digest: None,
            copied_frames: 0,
            stated: Vec::new(),
            descriptions: VecDeque::new(),
        }
    }

    /// Whether it was chosen by this ground.
    pub(super) fn stands_on(&self, ground: u128) -> bool {
        self.ground == ground
    }

    /// What holds on another ground; whether the session's record must say so.
    pub(super) fn stand_on(&mut self, ground: u128, labels: bool, recording: Recording) -> bool {
        let first = self.ground == 0;
        let same = (self.recording.record, self.recording.rows_bytes_max, &self.recording.why)
            == (recording.record, recording.rows_bytes_max, &recording.why);
        // Without a record it is digests: by default they need none.
        let silent = first && recording.record == Record::Digest && recording.by_default;
        self.ground = ground;
        self.labels = labels;
        self.recording = recording;
        !same && !silent
    }

    /// What holds.
    pub(super) fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Whether texts and parameters are kept.
    pub(super) fn keeps_texts(&self) -> bool {
        match self.recording.record {
            Record::Digest => false,
            Record::Text | Record::Rows => true,
        }
    }

    /// Whether rows are kept.
    pub(super) fn keeps_rows(&self) -> bool {
        self.recording.record == Record::Rows
    }

    /// Why nothing of a statement's rows is kept.
    pub(super) fn against_rows(&self, decision: &Decision) -> Option<&'static str> {
        decision.shows_in_clear.then_some(
            "the statement may read a labelled column in clear: its values are held by digest alone",
        )
    }

    /// Why nothing of the values that come with a statement is kept: they may be those of a labelled column.
    pub(super) fn against_values(&self, decision: Option<&Decision>) -> Option<&'static str> {
        match decision {
            Some(decision) if decision.reaches_labels => Some(
                "the statement reaches a relation with labels: its values may be those of a labelled column",
            ),
            None if self.labels => {
                Some("what the statement reaches is not known, and columns of the target are labelled")
            }
            Some(_) | None => None,
        }
    }

    /// The record that holds a description equal to this one.
    pub(super) fn described(&self, frame: &[u8]) -> Option<u64> {
        self.descriptions.iter().find(|(known, _)| **known == *frame).map(|(_, number)| *number)
    }

    /// A description was recorded.
    pub(super) fn remember_description(&mut self, frame: &[u8], number: u64) {
        if frame.len() > DESCRIPTION_BYTES_MAX {
            return;
        }
        if self.descriptions.len() == DESCRIPTIONS_MAX {
            self.descriptions.pop_front();
        }
        self.descriptions.push_back((frame.into(), number));
    }

    /// The running result has ended.
    pub(super) fn result_ended(&mut self) {
        self.out = Progress::default();
        self.copied_in = Progress::default();
        self.sealed = SealedSoFar::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_by_default_need_no_record_and_every_change_has_one() {
        let recording = |record, by_default| Recording {
            record,
            rows_bytes_max: 1,
            why: String::new(),
            detectors: Detectors::NONE,
            by_default,
        };
        let mut recorder = Recorder::new();
        assert!(!recorder.stand_on(1, false, recording(Record::Digest, true)));
        assert!(recorder.stand_on(2, true, recording(Record::Rows, true)));
        assert!(!recorder.stand_on(3, true, recording(Record::Rows, true)), "nothing moved but the catalog");
        assert!(recorder.stand_on(4, false, recording(Record::Digest, true)), "rows are kept no longer");
        assert!(recorder.stands_on(4) && !recorder.keeps_texts());
        assert!(Recorder::new().stand_on(1, true, recording(Record::Digest, false)), "less than asked for");
    }

    #[test]
    fn descriptions_are_known_again_and_few_are_kept() {
        let mut recorder = Recorder::new();
        for number in 0..20 {
            recorder.remember_description(&[u8::try_from(number).unwrap_or(0)], number);
        }
        assert_eq!(recorder.described(&[19]), Some(19));
        assert_eq!(recorder.described(&[1]), None);
        recorder.remember_description(&vec![9; DESCRIPTION_BYTES_MAX + 1], 99);
        assert_eq!(recorder.descriptions.len(), DESCRIPTIONS_MAX);
    }
}

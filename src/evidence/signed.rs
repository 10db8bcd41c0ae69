//! What checkpoints prove of a log: those in it, the one that a stop left beside it, and the end that somebody brings from
//! outside.
//!
//! Owns: which key signs, which chain values were passed, and what is said of the end. May not: read files. A log that
//! holds fewer records than a checkpoint was signed over was cut off or set back; one that holds others is a fork. Memory
//! is bounded: [`BLOCK_ENDS_KEPT`] ends of blocks are remembered to judge the next checkpoint by. Compiles without runtime,
//! TLS and parser.

use std::collections::VecDeque;

use super::chain::Hash;
use super::checkpoint::{Checkpoint, open_rotation};
use super::describe::hex;
use super::diagnose::Tampering;
use super::format::Flaw;
use super::limits::BLOCK_ENDS_KEPT;
use super::note::VerifierKey;
use super::read::ChainEnd;
use super::record::{Kind, Payload};

/// What the one who verifies knows from outside.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Where the log must have come to, at least.
    pub end: Option<ExpectedEnd>,
    /// A key that signs its checkpoints, or did.
    pub key: Option<VerifierKey>,
    /// The note that an ordered stop left beside the segments, where it did; judged as the log's own word.
    pub left: Option<String>,
}

/// An end of the log that was kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedEnd {
    /// A checkpoint, read and found signed by the key it names.
    Checkpoint(Box<Checkpoint>),
    /// A chain value, as `verify` prints it behind `head`.
    Head(Hash),
}

/// What is proven of the log's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing was brought from outside: no evidence of completeness.
    Unproven,
    /// Something else is wrong before it: it was not judged.
    NotReached,
    /// The log holds what was expected, and this many records behind it.
    Reached {
        /// Records up to the expected end.
        records: u64,
        /// Records behind it, which only the log itself vouches for.
        behind: u64,
    },
    /// The log holds fewer records than the checkpoint was signed over.
    Behind {
        /// Records that it was signed over.
        expected: u64,
        /// Records that are there.
        there: u64,
        /// The log's own last checkpoint ends there too: the whole is an older copy, put back.
        set_back: bool,
    },
    /// The log's records up to there are others.
    Forked {
        /// Records that it was signed over, where that is known.
        records: Option<u64>,
    },
    /// The checkpoint is of another log.
    OtherLog {
        /// That log's id.
        log_id: [u8; 16],
    },
    /// The checkpoint is signed by a key that does not sign this log.
    WrongKey {
        /// The key.
        key: String,
    },
}

impl core::fmt::Display for End {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            End::Unproven => f.write_str(End::UNPROVEN),
            End::NotReached => f.write_str("The expected end was not judged: something is wrong before it."),
            End::Reached { records, behind: 0 } => write!(
                f,
                "COMPLETE: the log ends with what was expected, {records} records; nothing stands behind it."
            ),
            End::Reached { records, behind } => write!(
                f,
                "COMPLETE up to record {records}, which is what was expected; of the {behind} behind it, nothing from \
                 outside proves that they are all."
            ),
            End::Behind { expected, there, set_back: true } => write!(
                f,
                "{expected} records were expected, the log ends with {there} and is whole up to there: an older copy was put \
                 back, its end cut off, or less of it written anew"
            ),
            End::Behind { expected, there, set_back: false } => {
                write!(f, "{expected} records were expected, {there} are there: the end was cut off")
            }
            End::Forked { records: Some(records) } => write!(
                f,
                "the first {records} records are others than those that were expected: this is another history"
            ),
            End::Forked { records: None } => f.write_str(
                "the log never passes the expected chain value: it is another history, or was cut before it",
            ),
            End::OtherLog { log_id } => write!(f, "another log was expected, {}", hex(log_id)),
            End::WrongKey { key } => {
                write!(f, "what was expected is signed by {key}, which does not sign this log")
            }
        }
    }
}

impl End {
    /// What a verification without an expected end cannot know.
    pub const UNPROVEN: &'static str = "NO EVIDENCE OF COMPLETENESS: no checkpoint from outside was given, so nothing proves that the end of the log was not cut off, or the whole log written anew, by somebody who owns the disk. Give one that was kept elsewhere: --checkpoint FILE.";

    /// Whether it contradicts what was expected.
    pub fn is_broken(&self) -> bool {
        match self {
            End::Unproven | End::NotReached | End::Reached { .. } => false,
            End::Behind { .. } | End::Forked { .. } | End::OtherLog { .. } | End::WrongKey { .. } => true,
        }
    }
}

/// What the log's own checkpoints say.
#[derive(Clone, Debug, Default)]
pub struct Signatures {
    /// Checkpoints among its records.
    pub checkpoints: u64,
    /// Keys that signed, one after the other, each certified by the one before.
    pub keys: Vec<VerifierKey>,
    /// The last one, in the log or beside it.
    pub last: Option<Checkpoint>,
    /// The longest time between two of one run of the gateway, or behind the last one, nanoseconds.
    pub longest_silence_ns: u64,
    /// Whether the key that was brought from outside has signed a checkpoint here; `None` where none was.
    pub key_is_known: Option<bool>,
    /// What is wrong with the checkpoint that a stop left beside the segments.
    pub left_is_wrong: Option<(Tampering, String)>,
}

/// A chain value that must be passed.
#[derive(Clone, Debug)]
struct Wanted {
    records: Option<u64>,
    value: Hash,
    passed: Option<u64>,
}

impl Wanted {
    fn of(checkpoint: &Checkpoint) -> Wanted {
        let point = checkpoint.point;
        Wanted { records: Some(point.records), value: point.value, passed: None }
    }

    fn pass(&mut self, sequence: u64, value: &Hash) {
        if *value == self.value && self.records.is_none_or(|records| records == sequence) {
            self.passed = Some(sequence);
        }
    }
}

/// Follows the log.
#[derive(Debug)]
pub(super) struct Signed {
    trust: Trust,
    end: Option<Wanted>,
    left: Option<(Checkpoint, Wanted)>,
    /// Ends of blocks since the last checkpoint's.
    ends: VecDeque<(u64, Hash)>,
    log_id: Option<[u8; 16]>,
    found: Signatures,
    /// Keys that signed a checkpoint here. A note that passes the signing on names no log: it may have been taken from another.
    signers: Vec<VerifierKey>,
    /// When the last checkpoint of this run was made.
    last_ns: Option<u64>,
}

fn wrong(what: String) -> Flaw {
    Flaw::Checkpoint(what)
}

impl Signed {
    pub(super) fn new(trust: Trust) -> Signed {
        let end = trust.end.as_ref().map(|end| match end {
            ExpectedEnd::Checkpoint(checkpoint) => Wanted::of(checkpoint),
            ExpectedEnd::Head(value) => Wanted { records: None, value: *value, passed: None },
        });
        let mut found = Signatures::default();
        let left = match trust.left.as_deref().map(Checkpoint::open) {
            None => None,
            Some(Ok(checkpoint)) => Some((checkpoint.clone(), Wanted::of(&checkpoint))),
            Some(Err(error)) => {
                found.left_is_wrong = Some((Tampering::FlippedByte, format!("is no checkpoint: {error}")));
                None
            }
        };
        Signed {
            trust,
            end,
            left,
            ends: VecDeque::new(),
            log_id: None,
            found,
            signers: Vec::new(),
            last_ns: None,
        }
    }

    /// The chain stands at a segment's start or behind a block.
    pub(super) fn passed(&mut self, at: &ChainEnd) {
        let (position, value) = (at.position, &at.value);
        self.log_id = Some(at.log_id);
        if let Some(end) = &mut self.end {
            end.pass(position.sequence, value);
        }
        if let Some((_, wanted)) = &mut self.left {
            wanted.pass(position.sequence, value);
        }
        if self.ends.len() == BLOCK_ENDS_KEPT {
            self.ends.pop_front();
        }
        self.ends.push_back((position.sequence, *value));
    }

    /// Whether [`Signed::take`] wants to see records of this kind.
    pub(super) fn reads(kind: Kind) -> bool {
        matches!(kind, Kind::GatewayStarted | Kind::Checkpoint | Kind::KeyRotated)
    }

    /// Up to which record, and when, the log's own last checkpoint vouches for it; `None` before the first.
    pub(super) fn vouched(&self) -> Option<(u64, u64)> {
        self.found.last.as_ref().map(|last| (last.point.records, last.time_ns))
    }

    /// A sound record; only those of [`Signed::reads`] say anything here.
    pub(super) fn take(&mut self, payload: &Payload<'_>) -> Result<(), Flaw> {
        match payload {
            Payload::GatewayStarted(_) => {
                self.last_ns = None;
                Ok(())
            }
            Payload::Checkpoint(checkpoint) => self.checkpoint(checkpoint.note.get()),
            Payload::KeyRotated(rotation) => self.rotated(rotation.note.get()),
            Payload::GatewayStopped(_)
            | Payload::DocumentLoaded(_)
            | Payload::Recovered(_)
            | Payload::Clock(_)
            | Payload::SessionOpened(_)
            | Payload::Authenticated(_)
            | Payload::AuthenticationDenied(_)
            | Payload::TargetChosen(_)
            | Payload::Statement(_)
            | Payload::JudgedText(_)
            | Payload::StatementResult(_)
            | Payload::Masked(_)
            | Payload::Proxied(_)
            | Payload::Routed(_)
            | Payload::Recording(_)
            | Payload::Stated(_)
            | Payload::StatementText(_)
            | Payload::Parameters(_)
            | Payload::RowDescription(_)
            | Payload::Rows(_)
            | Payload::CopyData(_)
            | Payload::CaptureEnded(_)
            | Payload::Report(_)
            | Payload::Notification(_)
            | Payload::CopiedIn(_)
            | Payload::Sealed(_)
            | Payload::Unsealed(_)
            | Payload::HoldOpened(_)
            | Payload::HoldDecided(_)
            | Payload::HoldEnded(_)
            | Payload::TicketOpened(_)
            | Payload::TicketDecided(_)
            | Payload::TicketUsed(_)
            | Payload::TicketEnded(_)
            | Payload::Refusal(_)
            | Payload::CancelRequested(_)
            | Payload::SettingMoved(_)
            | Payload::ProtocolViolation(_)
            | Payload::SessionClosed(_) => Ok(()),
        }
    }

    fn checkpoint(&mut self, note: &str) -> Result<(), Flaw> {
        let checkpoint = Checkpoint::open(note)
            .map_err(|error| wrong(format!("the checkpoint is none that the gateway made: {error}")))?;
        if self.log_id.is_some_and(|log_id| log_id != checkpoint.log_id) {
            return Err(wrong(format!("the checkpoint is of another log, {}", hex(&checkpoint.log_id))));
        }
        match self.found.keys.last() {
            Some(key) if *key != checkpoint.key => {
                return Err(wrong(format!(
                    "wrong key: the checkpoint is signed by {}, which {key} did not certify",
                    checkpoint.key
                )));
            }
            Some(_) => {}
            None => self.found.keys.push(checkpoint.key.clone()),
        }
        let point = checkpoint.point;
        if !self.ends.iter().rev().any(|end| *end == (point.records, point.value)) {
            return Err(wrong(format!(
                "fork: the checkpoint was signed over {} records, and those that stand before it are others",
                point.records
            )));
        }
        // Later checkpoints reach at least as far.
        let before = self.ends.iter().position(|(records, _)| *records >= point.records).unwrap_or(0);
        self.ends.drain(..before);
        if let Some(last_ns) = self.last_ns {
            let silence = checkpoint.time_ns.saturating_sub(last_ns);
            self.found.longest_silence_ns = self.found.longest_silence_ns.max(silence);
        }
        self.last_ns = Some(checkpoint.time_ns);
        self.signs(&checkpoint.key);
        self.found.checkpoints += 1;
        self.found.last = Some(checkpoint);
        Ok(())
    }

    fn rotated(&mut self, note: &str) -> Result<(), Flaw> {
        let (old, new) =
            open_rotation(note).map_err(|error| wrong(format!("the key's rotation is none: {error}")))?;
        match self.found.keys.last() {
            Some(key) if *key != old => {
                return Err(wrong(format!("wrong key: {old} passes the signing on, {key} signs here")));
            }
            Some(_) => self.found.keys.push(new),
            None => self.found.keys.extend([old, new]),
        }
        Ok(())
    }

    fn signs(&mut self, key: &VerifierKey) {
        if !self.signers.contains(key) {
            self.signers.push(key.clone());
        }
    }

    /// What is known at the end: of `records` records, all sound or not.
    pub(super) fn finish(mut self, records: u64, last_ns: u64, sound: bool) -> (Signatures, End) {
        // From the last one to the log's end; the one that a stop left beside it is of that end.
        if let (Some(signed_ns), None) = (self.last_ns, &self.left) {
            let silence = last_ns.saturating_sub(signed_ns);
            self.found.longest_silence_ns = self.found.longest_silence_ns.max(silence);
        }
        let mut set_back = true;
        if let Some((checkpoint, wanted)) = self.left.take() {
            if sound {
                set_back = wanted.passed.is_some();
                self.judge_left(&checkpoint, &wanted, records);
            }
            if wanted.passed.is_some()
                && self.found.last.as_ref().is_none_or(|last| last.point.records <= checkpoint.point.records)
            {
                self.found.last = Some(checkpoint);
            }
        }
        let end = self.end(records, sound, set_back);
        self.found.key_is_known = self.trust.key.as_ref().map(|key| self.signers.contains(key));
        (self.found, end)
    }

    fn judge_left(&mut self, checkpoint: &Checkpoint, wanted: &Wanted, records: u64) {
        let expected = checkpoint.point.records;
        let key_is_other = self.found.keys.last().is_some_and(|_| !self.found.keys.contains(&checkpoint.key));
        let what = if self.log_id.is_some_and(|log_id| log_id != checkpoint.log_id) {
            (Tampering::Fork, format!("is of another log, {}", hex(&checkpoint.log_id)))
        } else if key_is_other {
            (Tampering::WrongKey, format!("is signed by {}, which does not sign this log", checkpoint.key))
        } else if wanted.passed.is_some() {
            if self.found.keys.is_empty() {
                self.found.keys.push(checkpoint.key.clone());
            }
            self.signs(&checkpoint.key);
            return;
        } else if expected > records {
            (Tampering::CutTail, format!("was signed over {expected} records, {records} are there"))
        } else {
            (
                Tampering::Fork,
                format!("was signed over {expected} records, and the log's first {expected} are others"),
            )
        };
        self.found.left_is_wrong = Some(what);
    }

    fn end(&self, records: u64, sound: bool, set_back: bool) -> End {
        let (Some(wanted), Some(expected)) = (&self.end, &self.trust.end) else { return End::Unproven };
        if let ExpectedEnd::Checkpoint(checkpoint) = expected {
            if self.log_id.is_some_and(|log_id| log_id != checkpoint.log_id) {
                return End::OtherLog { log_id: checkpoint.log_id };
            }
            let known = &self.found.keys;
            // A log that ends before it may not have come to its key yet.
            let behind = wanted.records.is_some_and(|expected| expected > records);
            let other = sound && !behind && !known.is_empty() && !known.contains(&checkpoint.key);
            if other || self.trust.key.as_ref().is_some_and(|key| known.is_empty() && *key != checkpoint.key)
            {
                return End::WrongKey { key: checkpoint.key.to_string() };
            }
        }
        match (wanted.passed, wanted.records) {
            (Some(passed), _) => End::Reached { records: passed, behind: records.saturating_sub(passed) },
            (None, _) if !sound => End::NotReached,
            (None, Some(expected)) if expected > records => {
                End::Behind { expected, there: records, set_back }
            }
            (None, expected) => End::Forked { records: expected },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::checkpoint::rotation_text;
    use crate::evidence::note::SigningKey;

    #[test]
    fn a_rotation_is_no_signature_over_the_log() {
        let (forger, known) =
            (SigningKey::new("x", &[9; 32]).unwrap(), SigningKey::new("k", &[1; 32]).unwrap());
        for (by, to) in [(&forger, &known), (&known, &forger)] {
            let trust = Trust { key: Some(known.verifier().clone()), ..Trust::default() };
            let mut follows = Signed::new(trust);
            follows.rotated(&by.sign(&rotation_text(by.verifier(), to.verifier()))).unwrap();
            assert_eq!(follows.finish(1, 0, true).0.key_is_known, Some(false));
        }
    }
}

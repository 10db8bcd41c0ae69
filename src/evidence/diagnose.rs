//! What was done to a log that does not verify, as far as what is left tells.
//!
//! Owns: the names of tamperings, and the second look at the segment in which something is wrong. May not: decide whether
//! something is wrong ([`super::verify`] has), nor keep more than the few places it looks for. What it names is the
//! simplest act that leaves these bytes; who recomputed every hash has left fewer of them. Compiles with std, blake3 and
//! rkyv alone.

use std::fs::File;
use std::io;
use std::path::Path;

use super::chain::Hash;
use super::format::{Flaw, Frame, RecordView};
use super::read::{Bad, Scan, segment_name};
use super::signed::{End, Signatures};
use super::verify::OpenSession;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// Bytes were changed, and no hash recomputed.
    FlippedByte,
    /// Records were taken out.
    Removed,
    /// A record was put in.
    Inserted,
    /// Records stand in another order.
    Reordered,
    /// A record stands there twice.
    Duplicated,
    /// A record was put in another's place.
    Replaced,
    /// The end of the log, or of a segment, is gone.
    CutTail,
    /// A segment's file is gone.
    MissingSegment,
    /// The records are another history than the one that was signed or expected.
    Fork,
    /// Records of a session are missing, or stand in an order that no gateway makes.
    SessionGap,
    /// A session has no close although its run of the gateway ended in order.
    MissingClose,
    /// A key signed that may not, or the expected one did not.
    WrongKey,
    /// The whole is an older state of the log.
    Rollback,
    /// A write that a crash cut off; the gateway's next start cuts and records it.
    Torn,
    /// A version, kind or flag that this program does not know.
    Unknown,
}

impl Tampering {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Tampering::FlippedByte => "flipped byte",
            Tampering::Removed => "removed record",
            Tampering::Inserted => "inserted record",
            Tampering::Reordered => "reordered record",
            Tampering::Duplicated => "duplicated record",
            Tampering::Replaced => "replaced record",
            Tampering::CutTail => "cut tail",
            Tampering::MissingSegment => "missing segment",
            Tampering::Fork => "fork",
            Tampering::SessionGap => "gap in a session",
            Tampering::MissingClose => "missing close",
            Tampering::WrongKey => "wrong key",
            Tampering::Rollback => "rollback",
            Tampering::Torn => "torn write",
            Tampering::Unknown => "unknown version",
        }
    }
}

/// Where records of a sequence stand in a segment, with their hashes.
type Places = Vec<(u64, Hash)>;

/// Names what is wrong first. Reads its segment again where that tells more.
///
/// # Errors
/// The segment cannot be read any more.
pub(super) fn flaw(directory: &Path, bad: &Bad, torn: bool) -> io::Result<Tampering> {
    if torn {
        return Ok(Tampering::Torn);
    }
    Ok(match &bad.flaw {
        Flaw::RecordHash
        | Flaw::NotZero(_)
        | Flaw::SealCheck
        | Flaw::Check(_)
        | Flaw::UnknownFrame(_)
        | Flaw::Length { .. } => Tampering::FlippedByte,
        Flaw::Short { .. } | Flaw::NoTrailer | Flaw::Unsealed(_) => Tampering::CutTail,
        Flaw::Sequence { frame: "a record", claimed, expected } => {
            sequence(directory, bad, *claimed, *expected)?
        }
        // Where they are the same, a block's end was taken out: two blocks ran together.
        Flaw::Sequence { claimed, expected, .. } if claimed >= expected => Tampering::Removed,
        Flaw::Sequence { .. } | Flaw::BehindEnd => Tampering::Inserted,
        Flaw::Previous | Flaw::BlockValue | Flaw::Trailer(_) => Tampering::Replaced,
        Flaw::Segment("its file is missing") => Tampering::MissingSegment,
        Flaw::Segment(_) => Tampering::Fork,
        Flaw::SessionOrder(_) => Tampering::SessionGap,
        Flaw::Checkpoint(what) if what.starts_with("wrong key") => Tampering::WrongKey,
        Flaw::Checkpoint(_) => Tampering::Fork,
        Flaw::Version(_) | Flaw::Flags(_) | Flaw::Payload(_) => Tampering::Unknown,
    })
}

/// A record stands where another belongs: is the other one gone, further behind, or is this one a copy?
fn sequence(directory: &Path, bad: &Bad, claimed: u64, expected: u64) -> io::Result<Tampering> {
    let path = directory.join(segment_name(bad.position.segment));
    let (mut of_claimed, mut of_expected): (Places, Places) = (Vec::new(), Vec::new());
    Scan::new(&mut File::open(path)?).frames(&mut |offset, frame, bytes| {
        if frame == Frame::Record
            && let Ok(record) = RecordView::parse(bytes)
        {
            if record.sequence() == claimed {
                of_claimed.push((offset, record.hash()));
            } else if record.sequence() == expected {
                of_expected.push((offset, record.hash()));
            }
        }
    })?;
    let here = bad.position.offset;
    let hash = of_claimed.iter().find(|(offset, _)| *offset == here).map(|(_, hash)| *hash);
    Ok(if claimed > expected {
        let behind = of_expected.iter().any(|(offset, _)| *offset > here);
        if behind { Tampering::Reordered } else { Tampering::Removed }
    } else if of_claimed.iter().any(|(offset, other)| *offset < here && Some(*other) == hash) {
        Tampering::Duplicated
    } else {
        Tampering::Inserted
    })
}

/// Names what contradicts the checkpoints and the sessions although every record is sound.
pub(super) fn outside(end: &End, signatures: &Signatures, open: &[OpenSession]) -> Vec<(Tampering, String)> {
    let mut found = Vec::new();
    match end {
        End::Unproven | End::NotReached | End::Reached { .. } => {}
        End::Behind { set_back: true, .. } => found.push((Tampering::Rollback, end.to_string())),
        End::Behind { .. } => found.push((Tampering::CutTail, end.to_string())),
        End::Forked { .. } | End::OtherLog { .. } => found.push((Tampering::Fork, end.to_string())),
        End::WrongKey { .. } => found.push((Tampering::WrongKey, end.to_string())),
    }
    if let Some((what, text)) = &signatures.left_is_wrong {
        found.push((*what, format!("last.checkpoint, which the last ordered stop left, {text}")));
    }
    if signatures.key_is_known == Some(false) {
        let keys: Vec<String> = signatures.keys.iter().map(ToString::to_string).collect();
        let signers = if keys.is_empty() {
            "nothing in it is signed".to_owned()
        } else {
            format!("signers: {}", keys.join(", "))
        };
        found.push((
            Tampering::WrongKey,
            format!("no checkpoint is signed by the key that was given ({signers})"),
        ));
    }
    for session in open.iter().filter(|session| session.missing_close) {
        let id = super::describe::hex(&session.id);
        let text = format!(
            "session {id} has none, although its run of the gateway ended in order, which closes all"
        );
        found.push((Tampering::MissingClose, text));
    }
    found
}

//! The rules of streams: a session's records, or those of a run of the gateway, are whole and in order.
//!
//! Owns: what a stream's record may be, and what is missing when the log ends. May not: read files. Memory grows with the
//! streams that are open at once. Compiles with std, blake3 and rkyv alone.

use std::collections::{HashMap, HashSet};

use super::describe::hex;
use super::format::{
    FLAG_CLOSES, FLAG_EXPECTS, FLAG_OPENS, FLAG_SETTLES, Flaw, REFERS_TO_NONE, RecordHeader, RecordView,
};
use super::read::Position;
use super::record::Kind;
use super::verify::OpenSession;

/// One stream on the way.
#[derive(Debug)]
struct Stream {
    opened_at: u64,
    next: u64,
    unanswered: HashSet<u64>,
    /// Numbers of its judged texts.
    texts: HashSet<u64>,
    run: u64,
    gateway: bool,
}

/// Records of each kind.
#[derive(Debug)]
pub(super) struct Counts(pub(super) [u64; Kind::ALL.len()]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([0; Kind::ALL.len()])
    }
}

/// The rules of streams: gapless, opened first, closed last, every expected answer given.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: HashMap<[u8; 16], Stream>,
    pub(super) runs: u64,
    /// Runs that ended in order: each of their sessions must have been closed.
    ended: HashSet<u64>,
    pub(super) sessions: u64,
    pub(super) sessions_closed: u64,
    pub(super) kinds: Counts,
    pub(super) records: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
}

fn order(text: String) -> Flaw {
    Flaw::SessionOrder(text)
}

impl Streams {
    /// Takes the next sound record of the log; `judged` is, for a statement, the number of its judged text.
    pub(super) fn take(
        &mut self,
        position: Position,
        record: &RecordView<'_>,
        kind: Kind,
        judged: Option<u64>,
    ) -> Result<(), Flaw> {
        let header = record.header();
        if header.flags & (FLAG_OPENS | FLAG_CLOSES) != kind.flags() {
            return Err(Flaw::Flags(header.flags));
        }
        if header.flags & FLAG_OPENS != 0 {
            self.opened(position, &header, kind)?;
        }
        let Some(stream) = self.open.get_mut(&header.stream) else {
            let id = hex(&header.stream);
            return Err(order(format!("the record belongs to session {id}, which is not open here")));
        };
        if header.stream_sequence != stream.next {
            return Err(order(format!(
                "record {} of session {} stands where its record {} belongs: removed, added or moved",
                header.stream_sequence,
                hex(&header.stream),
                stream.next
            )));
        }
        stream.next += 1;
        stream.answer(&header)?;
        stream.text(&header, kind, judged)?;
        if header.flags & FLAG_CLOSES != 0 {
            self.closed(&header)?;
        }
        if self.records == 0 {
            self.first_ns = header.wall_ns;
        }
        self.last_ns = header.wall_ns;
        self.records += 1;
        self.kinds.0[kind.index()] += 1;
        Ok(())
    }

    fn opened(&mut self, position: Position, header: &RecordHeader, kind: Kind) -> Result<(), Flaw> {
        let gateway = kind == Kind::GatewayStarted;
        if gateway {
            self.runs += 1;
        } else if self.runs == 0 {
            return Err(order("a session opens before any run of the gateway".to_owned()));
        } else {
            self.sessions += 1;
        }
        let stream = Stream {
            opened_at: position.sequence,
            next: 0,
            unanswered: HashSet::new(),
            texts: HashSet::new(),
            run: self.runs,
            gateway,
        };
        match self.open.insert(header.stream, stream) {
            None => Ok(()),
            Some(_) => Err(order(format!("session {} is opened twice", hex(&header.stream)))),
        }
    }

    fn closed(&mut self, header: &RecordHeader) -> Result<(), Flaw> {
        let id = hex(&header.stream);
        let Some(stream) = self.open.remove(&header.stream) else {
            return Err(order(format!("session {id} is closed twice")));
        };
        if let Some(statement) = stream.unanswered.iter().min() {
            return Err(order(format!(
                "session {id} is closed although its record {statement} has no result"
            )));
        }
        if stream.gateway {
            self.ended.insert(stream.run);
        } else {
            self.sessions_closed += 1;
        }
        Ok(())
    }

    /// Whether a run of the gateway stands there that has not ended in order.
    pub(super) fn has_unstopped_run(&self) -> bool {
        self.runs > 0 && !self.ended.contains(&self.runs)
    }

    /// Sessions without a closing record, in the order of their opening.
    pub(super) fn open_sessions(&self) -> Vec<OpenSession> {
        let mut open: Vec<OpenSession> = self
            .open
            .iter()
            .filter(|(_, stream)| !stream.gateway)
            .map(|(id, stream)| OpenSession {
                id: *id,
                opened_at: stream.opened_at,
                records: stream.next,
                unanswered: stream.unanswered.len() as u64,
                cut_off: stream.run < self.runs,
                missing_close: self.ended.contains(&stream.run),
            })
            .collect();
        open.sort_unstable_by_key(|session| session.opened_at);
        open
    }
}

impl Stream {
    /// Notes a judged text, and holds a statement to one that stands before it.
    fn text(&mut self, header: &RecordHeader, kind: Kind, judged: Option<u64>) -> Result<(), Flaw> {
        if kind == Kind::JudgedText {
            self.texts.insert(header.stream_sequence);
        }
        match judged {
            Some(judged) if !self.texts.contains(&judged) => Err(order(format!(
                "statement {} of session {} points to record {judged}, which holds no judged text",
                header.stream_sequence,
                hex(&header.stream)
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Notes what a record expects and what it answers.
    fn answer(&mut self, header: &RecordHeader) -> Result<(), Flaw> {
        if header.refers != REFERS_TO_NONE && header.refers >= header.stream_sequence {
            return Err(order(format!(
                "a record of session {} refers to record {}, which is not before it",
                hex(&header.stream),
                header.refers
            )));
        }
        if header.flags & FLAG_SETTLES != 0 && !self.unanswered.remove(&header.refers) {
            return Err(order(format!(
                "a result of session {} answers record {}, which expects none",
                hex(&header.stream),
                header.refers
            )));
        }
        if header.flags & FLAG_EXPECTS != 0 {
            self.unanswered.insert(header.stream_sequence);
        }
        Ok(())
    }
}

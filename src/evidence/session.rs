//! One stream of records: a session's, or the gateway's own run.
//!
//! Owns: the stream's sequence, what is still unanswered, the session's commitment keys. May not: decide what is recorded.
//! Invariant: sequence numbers have no gaps, because a number is spent only when its record is queued. Fails by
//! [`AppendError`]; a session that sees one ends what it is doing, and releases nothing that the record should have covered.

use std::sync::Arc;

use std::collections::VecDeque;

use super::format::REFERS_TO_NONE;
use super::keys::SessionKeys;
use super::limits::UNANSWERED_MAX;
use super::log::wall_ns;
use super::originals::{AuditorKey, Chunk, Place, SealError};
use super::recent::{Recent, RecentTexts};
use super::record::v1::{Outcome, SealedOf, SessionClosed, StatementResult};
use super::record::{EncodeError, Entry, How, Stamp};
use super::ring::{Lane, Mark};
use super::state::{Constraint, State, Stopped, Unplaced, Wanting};

/// Why a record was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Evidence stopped for good.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The writer did not keep up within the stall limit.
    #[error("the evidence writer did not keep up for {waited_ms} ms")]
    Stalled {
        /// How long was waited.
        waited_ms: u64,
    },
    /// Something is wanting: nothing new is begun.
    #[error("evidence is constrained: {0}")]
    Constrained(Constraint),
    /// The entry does not fit a record.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Too many statements of this session are without a result.
    #[error("{UNANSWERED_MAX} statements of the session are without a result")]
    Unanswered,
    /// Originals could not be sealed to the auditor's key.
    #[error("originals could not be sealed: {0}")]
    Unsealed(#[from] SealError),
    /// The stream was closed.
    #[error("internal: a record behind the session's end")]
    Closed,
}

impl AppendError {
    /// SQLSTATE for the client.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            AppendError::Stopped(_) => "58030",                          // io_error
            AppendError::Stalled { .. } => "53000",                      // insufficient_resources
            AppendError::Constrained { .. } => "53100",                  // disk_full
            AppendError::Encode(_) | AppendError::Unanswered => "54000", // program_limit_exceeded
            AppendError::Unsealed(_) | AppendError::Closed => "XX000",   // internal_error
        }
    }

    /// What a client may be told: what, why, what next; nothing of the host.
    pub fn client_text(&self) -> &'static str {
        match self {
            AppendError::Stopped(_) => {
                "pgturnstile: refused, because its evidence cannot be written any more; the gateway must be restarted by its operator"
            }
            AppendError::Stalled { .. } => {
                "pgturnstile: refused, because its evidence could not be written in time; try again later"
            }
            AppendError::Constrained(Constraint { wanting: Wanting::Space, .. }) => {
                "pgturnstile: refused, because the disk of its evidence is nearly full; try again when its operator has made room"
            }
            AppendError::Constrained(Constraint { wanting: Wanting::SecondPlace, .. }) => {
                "pgturnstile: refused, because the second place of its evidence's checkpoints cannot be written; try again when its operator has repaired it"
            }
            AppendError::Encode(_) => {
                "pgturnstile: refused, because the statement is too large to be recorded; split it"
            }
            AppendError::Unanswered => {
                "pgturnstile: refused, because too many statements are in flight; send Sync and read their results first"
            }
            AppendError::Unsealed(_) => {
                "pgturnstile: refused, because the originals of masked values could not be sealed to the auditor's key; tell its operator"
            }
            AppendError::Closed => "pgturnstile: internal error; the session ends",
        }
    }
}

impl From<Unplaced> for AppendError {
    fn from(unplaced: Unplaced) -> AppendError {
        match unplaced {
            Unplaced::Stopped(stopped) => AppendError::Stopped(stopped),
            Unplaced::Stalled { waited_ms } => AppendError::Stalled { waited_ms },
        }
    }
}

/// The record keeper of one stream. Dropped without [`SessionLog::close`], a session's stream is closed as well as it can
/// be (with reason `dropped`), so that only a gateway that was killed leaves sessions open.
#[derive(Debug)]
pub struct SessionLog {
    lane: Lane,
    id: [u8; 16],
    keys: SessionKeys,
    next: u64,
    unanswered: VecDeque<u64>,
    recent: RecentTexts,
    closed: bool,
    /// The gateway's own stream stays open when it is dropped: only an ordered stop closes it.
    gateway: bool,
    /// What originals are sealed by, where they are kept.
    pub(super) sealing: Option<Sealing>,
}

/// What binds sealed originals: to whom, and to which log.
#[derive(Clone, Debug)]
pub(super) struct Sealing {
    pub(super) key: Arc<AuditorKey>,
    pub(super) log_id: [u8; 16],
}

impl SessionLog {
    pub(crate) fn new(lane: Lane, id: [u8; 16], keys: SessionKeys, next: u64, gateway: bool) -> SessionLog {
        SessionLog {
            lane,
            id,
            keys,
            next,
            unanswered: VecDeque::new(),
            recent: RecentTexts::default(),
            closed: false,
            gateway,
            sealing: None,
        }
    }

    /// The session's id.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Keys for the digests that records carry instead of values.
    pub fn keys(&self) -> &SessionKeys {
        &self.keys
    }

    /// The lane: for [`Lane::durable`] and [`Lane::until_durable`].
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Whether originals of masked values are kept, sealed.
    pub fn seals(&self) -> bool {
        self.sealing.is_some()
    }

    /// Seals originals and records them; `rest`: why further ones of the result are left out. `None` where none are kept.
    ///
    /// # Errors
    /// As [`SessionLog::append`]; or they could not be sealed.
    pub async fn seal(
        &mut self,
        what: SealedOf,
        chunk: &Chunk,
        rest: Option<&str>,
        how: How,
    ) -> Result<Option<Mark>, AppendError> {
        let Some(Sealing { key, log_id }) = &self.sealing else { return Ok(None) };
        let place = Place {
            log_id,
            session: &self.id,
            number: self.next,
            refers: how.refers.unwrap_or(REFERS_TO_NONE),
            what,
        };
        let sealed = chunk.seal(key, &place)?;
        self.append(Entry::Sealed(sealed.entry(rest)), how).await.map(Some)
    }

    /// Statements without a result.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Records an entry, in order. It is serialized and hashed before this returns; the future is ready at once unless
    /// byte credits are short, and holds nothing of `entry`. A statement whose text, facts or verdict the session has not
    /// recorded lately brings a record of these before its own. Cancelling the future leaves at most that one.
    ///
    /// # Errors
    /// See [`AppendError`]. New work ([`Entry::begins_work`]) is refused while space is short; what ends work is not.
    pub fn append<'s>(
        &'s mut self,
        entry: Entry<'_>,
        how: How,
    ) -> impl Future<Output = Result<Mark, AppendError>> + Send + use<'s> {
        let expects = entry.expects_answer();
        let how = self.once(how);
        let encoded = self.encode(&entry, how);
        async move {
            let Encoded { shared, record } = encoded?;
            if let Some(shared) = shared {
                self.lane.submit(shared.record, false).await?;
                self.took_shared(shared.recent);
            }
            let ticket = self.lane.submit(record, how.wakes()).await?;
            Ok(self.took(ticket, how, expects))
        }
    }

    /// The same without waiting: `Ok(None)` where credits are short, and the entry was not recorded.
    ///
    /// # Errors
    /// As [`SessionLog::append`].
    pub fn try_append(&mut self, entry: &Entry<'_>, how: How) -> Result<Option<Mark>, AppendError> {
        let how = self.once(how);
        let Encoded { shared, record } = self.encode(entry, how)?;
        if let Some(shared) = shared {
            if self.lane.try_submit(shared.record, false)?.is_err() {
                return Ok(None);
            }
            self.took_shared(shared.recent);
        }
        match self.lane.try_submit(record, how.wakes())? {
            Ok(ticket) => Ok(Some(self.took(ticket, how, entry.expects_answer()))),
            Err(_record) => Ok(None),
        }
    }

    /// A record is settled once. What comes for it later (a portal that is executed again, or behind the end of its
    /// transaction) belongs to it.
    fn once(&self, how: How) -> How {
        let settled = how.refers.is_some_and(|answered| !self.unanswered.contains(&answered));
        How { settles: how.settles && !settled, ..how }
    }

    fn encode(&self, entry: &Entry<'_>, how: How) -> Result<Encoded, AppendError> {
        if self.closed {
            return Err(AppendError::Closed);
        }
        if !self.lane.is_running() && entry.begins_work() {
            match self.lane.state() {
                State::Running => {}
                State::Constrained(constraint) => return Err(AppendError::Constrained(constraint)),
                State::Stopped(stopped) => return Err(AppendError::Stopped(stopped)),
            }
        }
        if self.unanswered.len() >= UNANSWERED_MAX && entry.expects_answer() {
            return Err(AppendError::Unanswered);
        }
        let mut stamp = Stamp {
            lane: self.lane.index(),
            stream: self.id,
            stream_sequence: self.next,
            wall_ns: wall_ns(),
            monotonic_ns: self.lane.monotonic_ns(),
        };
        let Entry::Statement(statement) = entry else {
            return Ok(Encoded { shared: None, record: self.bounded(entry.encode(&stamp, how, 0)?)? });
        };
        let text = statement.shared();
        let (shared, judged) = match self.recent.find(&text) {
            Some(judged) => (None, judged),
            None => {
                let record = self.bounded(Entry::JudgedText(text).encode(&stamp, How::QUEUED, 0)?)?;
                stamp.stream_sequence += 1;
                (Some(Shared { record, recent: Recent::of(&text) }), self.next)
            }
        };
        Ok(Encoded { shared, record: self.bounded(entry.encode(&stamp, how, judged)?)? })
    }

    fn bounded(&self, record: Vec<u8>) -> Result<Vec<u8>, AppendError> {
        if record.len() as u64 > self.lane.record_bytes_max() {
            return Err(AppendError::Encode(EncodeError::TooLong(record.len())));
        }
        Ok(record)
    }

    fn took_shared(&mut self, recent: Option<Recent>) {
        if let Some(recent) = recent {
            self.recent.remember(recent, self.next);
        }
        self.next += 1;
    }

    fn took(&mut self, ticket: u64, how: How, expects: bool) -> Mark {
        let mark = Mark::new(ticket, self.next);
        self.next += 1;
        if expects {
            self.unanswered.push_back(mark.stream_sequence);
        }
        if let (true, Some(answered)) = (how.settles, how.refers)
            && let Some(at) = self.unanswered.iter().position(|waiting| *waiting == answered)
        {
            self.unanswered.remove(at);
        }
        mark
    }

    /// Ends the stream: statements without a result get one with [`Outcome::Unknown`], then the closing record. The mark
    /// is the closing record's.
    pub async fn close(mut self, closed: SessionClosed<'_>) -> Result<Mark, AppendError> {
        while let Some(&statement) = self.unanswered.front() {
            let now = wall_ns();
            self.append(Entry::StatementResult(unknown_result(now)), How::QUEUED.answering(statement))
                .await?;
        }
        let mark = self.append(Entry::SessionClosed(closed), How::QUEUED).await?;
        self.closed = true;
        Ok(mark)
    }

    pub(crate) async fn append_last(&mut self, entry: Entry<'_>, how: How) -> Result<Mark, AppendError> {
        let mark = self.append(entry, how).await?;
        self.closed = true;
        Ok(mark)
    }

    /// Whether the closing record found room.
    fn close_dropped(&mut self) -> Result<bool, AppendError> {
        while let Some(&statement) = self.unanswered.front() {
            let entry = Entry::StatementResult(unknown_result(wall_ns()));
            if self.try_append(&entry, How::QUEUED.answering(statement))?.is_none() {
                return Ok(false);
            }
        }
        let totals = Default::default();
        let closed = SessionClosed {
            reason: "dropped: the gateway ended the session without a closing record",
            by: "gateway",
            totals: &totals,
        };
        self.try_append(&Entry::SessionClosed(closed), How::QUEUED).map(|mark| mark.is_some())
    }
}

/// An entry as records, not yet numbered for good.
struct Encoded {
    /// The judged text that the entry's record points to, where it must be recorded first.
    shared: Option<Shared>,
    record: Vec<u8>,
}

struct Shared {
    record: Vec<u8>,
    recent: Option<Recent>,
}

fn unknown_result(now: u64) -> StatementResult<'static> {
    StatementResult {
        outcome: Outcome::Unknown,
        tag: "",
        sqlstate: None,
        rows: 0,
        bytes: 0,
        bytes_in: 0,
        digest: None,
        started_ns: 0,
        first_row_ns: 0,
        ended_ns: now,
    }
}

impl Drop for SessionLog {
    fn drop(&mut self) {
        if self.closed || self.gateway || self.next == 0 {
            return;
        }
        match self.close_dropped() {
            Ok(true) => return,
            Ok(false) => {
                tracing::warn!("no room to close a dropped session in the evidence: it is reported as open")
            }
            Err(error) => {
                tracing::warn!(%error, "a dropped session could not be closed in the evidence: it is reported as open");
            }
        }
        self.lane.left_unclosed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_what_is_wanting_and_nothing_of_the_host() {
        let told = |wanting| {
            let reason = Arc::from("/mnt/witness/last: it is gone");
            let error = AppendError::Constrained(Constraint { wanting, reason });
            assert_eq!(error.sqlstate(), "53100");
            error.client_text()
        };
        let (space, second) = (told(Wanting::Space), told(Wanting::SecondPlace));
        assert!(space.contains("disk") && !second.contains("disk") && second.contains("second place"));
        assert!(!space.contains("/mnt") && !second.contains("/mnt"));
    }
}

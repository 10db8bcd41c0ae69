//! COPY from the client, at the frontend gate.
//!
//! Owns: when CopyData, CopyDone and CopyFail may pass, and what may stand between them. May not: read the data beyond its
//! frames' headers; it streams, however large a frame is. Fails by ending the session: copy data outside a copy. A frame that
//! has no place among the data waits until it is known whether the copy still runs ([`super::copy_probe`]).

use pgturnstile_proto::backend::{Fields, TransactionStatus, field};
use pgturnstile_proto::{BackendTag, FrontendTag, encode};

use super::denial::PROTOCOL_VIOLATION;
use super::end::End;
use super::expect::Expectation;
use super::gate::Step;
use super::refuse::Skip;
use super::relay::Relay;

/// COPY from the client, as far as the gate cares.
///
/// ```text
///   None ──COPY … FROM STDIN forwarded──► Awaited ──CopyInResponse──► Active ──CopyDone, CopyFail──► None
///     ▲ └──a refusal of the gateway──┐       │ its error                 │ its error
///     │                              ▼       ▼                           │
///     └── first frame but Sync and Flush ─── Over ◄──────────────────────┘ (stray copy frames are dropped)
/// ```
///
/// Drivers send the data of a COPY without waiting (pgx): behind a refusal they are as stray as behind the server's own error.
///
/// A frame that has no place in an active copy waits: a server that copies ends the session, any other has failed the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyPhase {
    None,
    Awaited,
    Active,
    Over,
}

/// Syncs among the data of a copy. A server that copies takes no notice of them; one that has failed the copy answers
/// each. Which it was is not on the wire: only its answers tell, and they come before any other answer.
///
/// ```text
///   Sync in a running copy ──► within ──the copy's error──► owed ──a ReadyForQuery that nothing else waits for──► one less
///                                 │                           │
///                                 └── any other answer ──► 0 ◄┘ (the rest was not noticed)
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CopySyncs {
    /// Sent since the server asked for data.
    within: usize,
    /// Of a copy that has failed: may still be answered.
    owed: usize,
    /// A Flush of our own went behind the copy's end.
    flushed: bool,
    /// The copy runs in a batch of the extended protocol, which a server skips from its failure to its Sync; that Sync has
    /// not been sent yet, as far as is known here.
    in_batch: bool,
}

impl CopySyncs {
    /// Whether answers may come that no entry of the queue waits for.
    pub(super) fn may_be_answered(self) -> bool {
        self.owed > 0
    }

    /// Whether one of them may have ended the batch in which the copy has failed.
    pub(super) fn may_have_ended_batch(self) -> bool {
        self.in_batch && self.owed > 0
    }

    /// One more in a running copy.
    pub(super) fn sent(&mut self, in_batch: bool) {
        self.within += 1;
        self.in_batch = in_batch;
    }

    /// A Sync that ends a batch: what is skipped behind it is a later one's.
    pub(super) fn batch_ended(&mut self) {
        self.in_batch = false;
    }

    /// The server has answered with this.
    pub(super) fn answered(&mut self, tag: BackendTag) {
        match tag {
            BackendTag::ReadyForQuery
            | BackendTag::NoticeResponse
            | BackendTag::NotificationResponse
            | BackendTag::ParameterStatus => {}
            // The first answer behind the request for data is the copy's own.
            BackendTag::ErrorResponse => {
                *self = Self { within: 0, owed: self.within, in_batch: self.in_batch, flushed: false };
            }
            BackendTag::Authentication
            | BackendTag::BackendKeyData
            | BackendTag::BindComplete
            | BackendTag::CloseComplete
            | BackendTag::CommandComplete
            | BackendTag::CopyBothResponse
            | BackendTag::CopyData
            | BackendTag::CopyDone
            | BackendTag::CopyInResponse
            | BackendTag::CopyOutResponse
            | BackendTag::DataRow
            | BackendTag::EmptyQueryResponse
            | BackendTag::FunctionCallResponse
            | BackendTag::NegotiateProtocolVersion
            | BackendTag::NoData
            | BackendTag::ParameterDescription
            | BackendTag::ParseComplete
            | BackendTag::PortalSuspended
            | BackendTag::RowDescription => *self = Self::default(),
        }
    }
}

impl Relay {
    /// Whether a frame has to wait: until it is known whether a copy runs that it has no place in, and whether a Sync among
    /// its data has ended the batch. Asks, where no answer would come by itself.
    pub(super) fn waits_for_copy(&mut self, tag: FrontendTag) -> bool {
        if let Some(Expectation::CopyProbe(_)) = self.queue.back() {
            return true;
        }
        if belongs_in_copy(tag) {
            return false;
        }
        let skipped = self.gate.skip == Skip::ServerSkips;
        if self.gate.copy == CopyPhase::Active || skipped && self.gate.copy_syncs.may_have_ended_batch() {
            self.ask_whether_it_copies(tag);
            return true;
        }
        // Its end was sent, and is answered.
        let waits =
            self.gate.copy_syncs.within > 0 && matches!(self.queue.front(), Some(Expectation::Execute(_)));
        if waits && !self.gate.copy_syncs.flushed {
            // The server keeps the answer to itself until a Sync or Flush, and the client's stands behind what waits here.
            self.gate.copy_syncs.flushed = true;
            let mut flush = Vec::new();
            encode::flush(&mut flush);
            self.up.insert(flush);
        }
        waits
    }

    /// ReadyForQuery for a Sync among the data of a copy that had failed when the server read it. Whether it is one.
    pub(super) async fn on_copy_sync_answered(
        &mut self,
        len: usize,
        status: TransactionStatus,
    ) -> Result<bool, End> {
        let waited_for = matches!(self.queue.front(), Some(Expectation::Sync { .. }))
            || matches!(self.queue.front(), Some(Expectation::Query(run)) if run.failed);
        if waited_for || !self.gate.copy_syncs.may_be_answered() {
            return Ok(false);
        }
        let ends = self.gate.skip == Skip::ServerSkips && self.gate.copy_syncs.may_have_ended_batch();
        self.gate.copy_syncs.owed -= 1;
        if ends {
            self.copy_batch_ended();
        }
        self.ready_behind(self.batch.saturating_sub(1), status, len).await?;
        Ok(true)
    }

    /// A Sync among the data of a copy has ended the batch in which the copy failed.
    pub(super) fn copy_batch_ended(&mut self) {
        // What the server skips from here on is a later batch's.
        self.gate.copy_syncs.batch_ended();
        self.gate.skip = Skip::No;
        self.gate.batch_open = false;
        if let Some(fence) = &mut self.gate.fence {
            fence.closed = true;
        }
        self.batch += 1;
    }

    /// A frame that is no copy data ends what is left of a copy that is over. A client that has not read the error yet goes
    /// on behind its Sync, too: what is skipped ends nothing.
    pub(super) fn leave_copy(&mut self, tag: FrontendTag) {
        if self.gate.copy == CopyPhase::Over && self.gate.skip == Skip::No && !belongs_in_copy(tag) {
            self.gate.copy = CopyPhase::None;
        }
    }

    /// Whose the server's last words are: the client's, where it broke a copy and the server has lost the stream by that.
    pub(super) fn broken_copy(&self, sqlstate: &[u8]) -> Option<End> {
        let tag = self.gate.copy_broken_by?;
        (sqlstate == PROTOCOL_VIOLATION.as_bytes()).then(|| misplaced(tag))
    }

    /// The server's error for a frame that has no place in a copy names the first one that it met, which is the gateway's own
    /// question: the client reads of its own.
    pub(super) fn says_what_broke_the_copy(&self, fields: &Fields<'_>, sqlstate: &[u8]) -> Option<Vec<u8>> {
        let tag = self.gate.copy_broken_by.filter(|_| sqlstate == PROTOCOL_VIOLATION.as_bytes())?;
        let (met, own) = (format!("0x{:02X}", FrontendTag::Close.byte()), format!("0x{:02X}", tag.byte()));
        let fields: Vec<(u8, Vec<u8>)> = fields
            .iter()
            .map(|(code, text)| match std::str::from_utf8(text) {
                Ok(text) if code == field::MESSAGE => (code, text.replace(&met, &own).into_bytes()),
                Ok(_) | Err(_) => (code, text.to_vec()),
            })
            .collect();
        let mut out = Vec::new();
        encode::error_response(&mut out, &fields).is_ok().then_some(out)
    }

    /// Behind an error: the copy that is awaited or runs is over when the error was its own, or when the server skips
    /// it. An error of an earlier batch leaves it as it is.
    pub(super) fn end_failed_copy(&mut self) {
        let alive = |entry: &Expectation| {
            matches!(
                entry,
                Expectation::Query(run) | Expectation::Execute(run) if run.decision.copies_in > 0 && !run.failed
            )
        };
        let held = self.gate.held.as_ref().map(|(_, entry)| entry);
        if matches!(self.gate.copy, CopyPhase::Awaited | CopyPhase::Active)
            && !self.queue.iter().chain(held).any(alive)
        {
            self.gate.copy = CopyPhase::Over;
            self.gate.copies_left = 0;
        }
    }

    pub(super) async fn on_copy_data(&mut self, len: usize) -> Result<Step, End> {
        let here = self.up.unscanned().len().min(len);
        match self.gate.copy {
            // In a batch that failed, the server would skip it (`ignore_till_sync`).
            CopyPhase::None if self.gate.skip != Skip::No => {
                self.up.swallow(here);
                self.gate.stream_left = len - here;
                self.gate.stream_passes = false;
                Ok(Step::Done)
            }
            CopyPhase::Active => {
                self.account.copied_in(len);
                self.capture_copied_in(here, 1, len - here).await?;
                self.up.pass(here);
                self.gate.stream_left = len - here;
                self.gate.stream_passes = true;
                Ok(Step::Done)
            }
            CopyPhase::Over => {
                self.up.swallow(here);
                self.gate.stream_left = len - here;
                self.gate.stream_passes = false;
                Ok(Step::Done)
            }
            CopyPhase::Awaited => Ok(Step::Blocked),
            CopyPhase::None => Err(End::client(
                PROTOCOL_VIOLATION,
                "pgturnstile ended the session: CopyData outside COPY FROM STDIN. Next: report this to the driver's authors",
            )),
        }
    }

    /// The rest of a frame whose beginning went on, or was dropped.
    pub(super) async fn stream_rest(&mut self) -> Result<Step, End> {
        let bytes = self.up.unscanned();
        let here = bytes.len().min(self.gate.stream_left);
        if here == 0 {
            return Ok(Step::NeedBytes);
        }
        if self.gate.stream_passes {
            let rest = self.gate.stream_left - here;
            self.capture_copied_in(here, 0, rest).await?;
            self.up.pass(here);
        } else {
            self.up.swallow(here);
        }
        self.gate.stream_left -= here;
        if self.gate.stream_left == 0 && self.gate.stream_passes {
            // The copy may have been answered within this frame: what waits for its end comes now.
            self.read_guards_if_due()?;
        }
        Ok(Step::Done)
    }

    pub(super) fn on_copy_end(&mut self, len: usize) -> Result<Step, End> {
        if self.gate.copy == CopyPhase::Active && self.copy_end_waits()? {
            return Ok(Step::Blocked);
        }
        match self.gate.copy {
            CopyPhase::Active => {
                self.on_plain(len)?;
                self.gate.copies_left = self.gate.copies_left.saturating_sub(1);
                // A text may hold several: the next asks for its data in its turn.
                self.gate.copy = if self.gate.copies_left > 0 { CopyPhase::Awaited } else { CopyPhase::None };
                Ok(Step::Done)
            }
            CopyPhase::Over => {
                self.up.swallow(len);
                Ok(Step::Done)
            }
            CopyPhase::Awaited => Ok(Step::Blocked),
            CopyPhase::None => Err(End::client(
                PROTOCOL_VIOLATION,
                "pgturnstile ended the session: the end of a copy outside COPY FROM STDIN. Next: report this to the \
                 driver's authors",
            )),
        }
    }
}

/// Whether a running copy takes it.
fn belongs_in_copy(tag: FrontendTag) -> bool {
    match tag {
        FrontendTag::CopyData | FrontendTag::CopyDone | FrontendTag::CopyFail => true,
        // The server takes no notice of it, also among the data of a copy that is over.
        FrontendTag::Flush => true,
        // During a copy the server takes no notice of them.
        FrontendTag::Sync | FrontendTag::Terminate => true,
        // Either the copy has failed and its error is on the way here, then this is a frame like any other; or the
        // server still copies, then it ends the session itself (`CopyGetData`).
        FrontendTag::Query
        | FrontendTag::Parse
        | FrontendTag::Bind
        | FrontendTag::Execute
        | FrontendTag::Describe
        | FrontendTag::Close
        | FrontendTag::FunctionCall
        | FrontendTag::Password => false,
    }
}

fn misplaced(tag: FrontendTag) -> End {
    End::client(
        PROTOCOL_VIOLATION,
        format!(
            "pgturnstile ended the session: a {} message during COPY FROM STDIN. Next: end the copy with CopyDone or \
             CopyFail first",
            tag.name()
        ),
    )
}

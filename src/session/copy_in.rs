//! COPY from the client, at the frontend gate.
//!
//! Owns: when CopyData, CopyDone and CopyFail may pass, and what may stand between them. May not: read the data beyond its
//! frames' headers; it streams, however large a frame is. Fails by ending the session: copy data outside a copy, or a frame
//! that has no place in a copy behind a barrier.

use pgturnstile_proto::backend::TransactionStatus;
use pgturnstile_proto::{BackendTag, FrontendTag};

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
///     ▲                                      │ its error                 │ its error
///     ├── first frame but Sync and Flush ─── Over ◄──────────────────────┤ (stray copy frames are dropped)
///     └──────────────── a frame that has no place in a copy ─────────────┘ (the server ends the session, or had failed it)
/// ```
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
    /// The copy runs in a batch of the extended protocol, which a server skips from its failure to its Sync; that Sync has
    /// not been sent yet, as far as is known here.
    in_batch: bool,
    /// Behind that failure, frames went the way of a batch that the server skips.
    skipped: bool,
}

impl CopySyncs {
    /// Whether answers may come that no entry of the queue waits for.
    pub(super) fn may_be_answered(self) -> bool {
        self.owed > 0
    }

    /// One more in a running copy.
    pub(super) fn sent(&mut self, in_batch: bool) {
        self.within += 1;
        self.in_batch = in_batch;
    }

    /// A frame was dropped as skipped. One of a batch behind a COPY of the simple protocol is none of its, and data of a
    /// copy that is over goes nowhere at the server either.
    pub(super) fn skipped(&mut self, tag: FrontendTag) {
        self.skipped |= self.in_batch && !belongs_in_copy(tag) && (self.within > 0 || self.owed > 0);
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
                let skipped = self.within > 0 && self.skipped;
                *self = Self { within: 0, owed: self.within, in_batch: self.in_batch, skipped };
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
    /// Whether a frame that does not belong in a copy has to wait, because Syncs were sent in a copy of the extended
    /// protocol: whether one of them has ended the batch is known when the copy is answered.
    pub(super) fn waits_for_copy(&self, tag: FrontendTag) -> Result<bool, End> {
        let undecided = self.gate.copy_syncs.within > 0
            && matches!(self.queue.front(), Some(Expectation::Execute(_)))
            && !belongs_in_copy(tag);
        if undecided && self.gate.copy == CopyPhase::Active {
            // A server that copies ends the session over it.
            return Err(misplaced(tag));
        }
        Ok(undecided)
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
        self.gate.copy_syncs.owed -= 1;
        if self.gate.copy_syncs.skipped {
            return Err(End::client(
                PROTOCOL_VIOLATION,
                "pgturnstile ended the session: a batch was sent behind a Sync among the data of COPY FROM STDIN, and the \
                 copy failed before that Sync. Next: end a copy with CopyDone or CopyFail before the next batch",
            ));
        }
        if self.gate.skip == Skip::ServerSkips {
            // It has ended the batch in which the copy failed.
            self.gate.skip = Skip::No;
            self.gate.batch_open = false;
            if let Some(fence) = &mut self.gate.fence {
                fence.closed = true;
            }
            self.batch += 1;
        }
        self.ready_behind(self.batch.saturating_sub(1), status, len).await?;
        Ok(true)
    }

    /// A frame that is no copy data: it has no place in a copy, which is over because of it.
    pub(super) fn leave_copy(&mut self, tag: FrontendTag) -> Result<(), End> {
        let in_any_copy = !matches!(tag, FrontendTag::Sync | FrontendTag::Terminate);
        if belongs_in_copy(tag) && (in_any_copy || self.gate.copy == CopyPhase::Active) {
            return Ok(());
        }
        match self.gate.copy {
            // Its own data may pass a closed fence, and nothing else.
            CopyPhase::Active if self.gate.fence_closed() => return Err(misplaced(tag)),
            CopyPhase::Active => {
                self.gate.copy = CopyPhase::None;
                self.gate.copies_left = 0;
                self.gate.copy_broken_by = Some(tag);
            }
            // A client that has not read the error yet goes on behind its Sync, too.
            CopyPhase::Over if tag == FrontendTag::Sync => {}
            CopyPhase::Over => self.gate.copy = CopyPhase::None,
            CopyPhase::Awaited | CopyPhase::None => {}
        }
        Ok(())
    }

    /// Whose the server's last words are: the client's, where it broke a copy and the server has lost the stream by that.
    pub(super) fn broken_copy(&self, sqlstate: &[u8]) -> Option<End> {
        let tag = self.gate.copy_broken_by?;
        (sqlstate == PROTOCOL_VIOLATION.as_bytes()).then(|| misplaced(tag))
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

    pub(super) fn on_copy_data(&mut self, len: usize) -> Result<Step, End> {
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
    pub(super) fn stream_rest(&mut self) -> Result<Step, End> {
        let bytes = self.up.unscanned();
        let here = bytes.len().min(self.gate.stream_left);
        if here == 0 {
            return Ok(Step::NeedBytes);
        }
        if self.gate.stream_passes {
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
        // server still copies, then it ends the session itself (`CopyGetData`). It is judged in both cases.
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

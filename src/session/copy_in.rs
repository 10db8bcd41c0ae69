//! COPY from the client, at the frontend gate.
//!
//! Owns: when CopyData, CopyDone and CopyFail may pass, and what may stand between them. May not: read the data beyond its
//! frames' headers; it streams, however large a frame is. Fails by ending the session: copy data outside a copy, or a frame
//! that has no place in a copy behind a barrier.

use pgturnstile_proto::FrontendTag;

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
///     ├─────── first other frame ─────────── Over ◄──────────────────────┤ (stray copy frames are dropped)
///     └──────────────── a frame that has no place in a copy ─────────────┘ (the server ends the session, or had failed it)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyPhase {
    None,
    Awaited,
    Active,
    Over,
}

impl Relay {
    /// A frame that is no copy data: it has no place in a copy, which is over because of it.
    pub(super) fn leave_copy(&mut self, tag: FrontendTag) -> Result<(), End> {
        let belongs = match tag {
            FrontendTag::CopyData | FrontendTag::CopyDone | FrontendTag::CopyFail => true,
            // The server takes no notice of it, also among the data of a copy that is over.
            FrontendTag::Flush => true,
            // During a copy the server takes no notice of them.
            FrontendTag::Sync | FrontendTag::Terminate => self.gate.copy == CopyPhase::Active,
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
        };
        if belongs {
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
        let alive = |entry: &Expectation| match entry {
            Expectation::Query(run) | Expectation::Execute(run) => run.decision.copies_in > 0 && !run.failed,
            Expectation::Parse { .. }
            | Expectation::Bind { .. }
            | Expectation::DescribeStatement { .. }
            | Expectation::DescribePortal { .. }
            | Expectation::Close { .. }
            | Expectation::Sync { .. }
            | Expectation::RefusedParse { .. }
            | Expectation::RefusedQuery { .. }
            | Expectation::GuardRead { .. } => false,
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

//! COPY from the client, at the frontend gate.
//!
//! Owns: when CopyData, CopyDone and CopyFail may pass, and what may stand between them. May not: read the data beyond its
//! frames' headers; it streams, however large a frame is. Fails by ending the session: a frame that has no place in a copy,
//! or copy data outside one.

use pgturnstile_proto::FrontendTag;

use super::denial::PROTOCOL_VIOLATION;
use super::end::End;
use super::gate::Step;
use super::relay::Relay;

/// COPY from the client, as far as the gate cares.
///
/// ```text
///   None ──COPY … FROM STDIN forwarded──► Awaited ──CopyInResponse──► Active ──CopyDone, CopyFail──► None
///     ▲                                      │ error                     │ error
///     └──────────────────────────────────────┴──────── first other frame ◄ Over (stray copy frames are dropped)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyPhase {
    None,
    Awaited,
    Active,
    Over,
}

impl Relay {
    /// Frames that may not stand where they stand.
    pub(super) fn check_place(&mut self, tag: FrontendTag) -> Result<(), End> {
        match self.gate.copy {
            CopyPhase::Active => match tag {
                FrontendTag::CopyData
                | FrontendTag::CopyDone
                | FrontendTag::CopyFail
                | FrontendTag::Flush
                | FrontendTag::Sync
                | FrontendTag::Terminate => Ok(()),
                FrontendTag::Query
                | FrontendTag::Parse
                | FrontendTag::Bind
                | FrontendTag::Execute
                | FrontendTag::Describe
                | FrontendTag::Close
                | FrontendTag::FunctionCall
                | FrontendTag::Password => Err(End::client(
                    PROTOCOL_VIOLATION,
                    format!(
                        "pgturnstile ended the session: a {} message during COPY FROM STDIN. Next: end the copy \
                         with CopyDone or CopyFail first",
                        tag.name()
                    ),
                )),
            },
            CopyPhase::Over => {
                if !matches!(tag, FrontendTag::CopyData | FrontendTag::CopyDone | FrontendTag::CopyFail) {
                    self.gate.copy = CopyPhase::None;
                }
                Ok(())
            }
            CopyPhase::None | CopyPhase::Awaited => Ok(()),
        }
    }

    pub(super) fn on_copy_data(&mut self, len: usize) -> Result<Step, End> {
        let here = self.up.unscanned().len().min(len);
        match self.gate.copy {
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

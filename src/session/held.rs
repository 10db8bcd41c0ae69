//! A frame of the client that is recorded, and waits for its record to be on disk (README decision 12).
//!
//! Owns: when it is sent, and what becomes of one that is not. May not: judge, or record a statement. Fails closed: a frame
//! leaves only when its record is durable; what is withdrawn or dropped never does.
//!
//! ```text
//!   recorded ──proven, or its record is durable already───────────────────────────► sent
//!       └──► held ──its record is durable─────────────────────────────────────────► sent
//!              ├──a cancel request, and no earlier batch is unanswered────────────► withdrawn: a stand-in is sent,
//!              │                                                                    and its error told as 57014
//!              └──its batch has failed────────────────────────────────────────────► dropped: the server would skip it
//! ```
//!
//! A withdrawn statement is for the server one that does not parse, so that order, transaction status and the skipping to
//! Sync are the server's own, as for a refusal. Its answer waits for no record: nothing ran, and no row is told.

use super::control::Held;
use super::denial::{self, Refusal, SYNTAX_ERROR};
use super::end::End;
use super::expect::Expectation;
use super::gate::Step;
use super::refuse::Skip;
use super::relay::Relay;
use crate::evidence::Mark;

impl Relay {
    /// Releases a frame that carries a statement: at once, or when its record is durable.
    pub(super) fn release(
        &mut self,
        len: usize,
        mark: Option<Mark>,
        proven: bool,
        expectation: Expectation,
    ) -> Result<Step, End> {
        self.up.scan(len);
        match mark {
            Some(mark) if !proven && !self.account.durable(mark)? => {
                self.gate.held = Some((mark, expectation));
            }
            Some(_) | None => {
                self.queue.push_back(expectation);
                self.up.clear();
            }
        }
        Ok(Step::Done)
    }

    /// Looks at the held frame again.
    pub(super) fn held_frame(&mut self) -> Result<Step, End> {
        let Some(mark) = self.gate.waits_for() else { return Ok(Step::Done) };
        if !self.account.durable(mark)? {
            return Ok(Step::Blocked);
        }
        match self.control.release_held() {
            Held::Stays => return Ok(Step::Blocked),
            Held::Withdrawn if self.held_runs() => self.stand_in_for_held(),
            Held::Withdrawn | Held::Released => {
                if let Some((_, expectation)) = self.gate.held.take() {
                    self.queue.push_back(expectation);
                    self.up.clear();
                }
            }
        }
        Ok(Step::Done)
    }

    /// A Parse waits where its analysis may run code, and yet it is no statement that runs: a cancel request passes it by, as
    /// it does on the server between two statements.
    fn held_runs(&self) -> bool {
        self.gate.held.as_ref().is_some_and(|(_, expectation)| expectation.run().is_some())
    }

    /// A cancel request has come for it.
    pub(super) fn withdraw_held(&mut self) {
        self.control.forget_held();
        if self.held_runs() {
            self.stand_in_for_held();
        }
    }

    /// The server skips to the next Sync: the held frame goes nowhere.
    pub(super) fn drop_held(&mut self) -> Option<Expectation> {
        let (_, expectation) = self.gate.held.take()?;
        // A cancel request that came for it is answered by the error that the batch has failed with.
        self.control.forget_held();
        self.up.drop_scanned();
        Some(expectation)
    }

    fn stand_in_for_held(&mut self) {
        let Some((_, mut expectation)) = self.gate.held.take() else { return };
        self.up.drop_scanned();
        let simple = matches!(expectation, Expectation::Query(_));
        if let Some(run) = expectation.run_mut() {
            run.withdrawn = true;
            run.mark = None;
            let reference = self.account.reference(run.record);
            self.up.insert(if simple {
                denial::substitute_query(&reference)
            } else {
                denial::substitute_parse(&reference)
            });
        }
        if !simple {
            self.gate.skip = Skip::ServerSkips;
        }
        self.queue.push_back(expectation);
    }

    /// What the client is told where an error with this SQLSTATE is that of a withdrawn frame's stand-in.
    pub(super) fn withdrawn_frame_failed(&self, sqlstate: &[u8]) -> Option<Vec<u8>> {
        let run = self.queue.front().and_then(Expectation::run).filter(|run| run.withdrawn)?;
        (sqlstate == SYNTAX_ERROR.as_bytes()).then(|| {
            let refusal = Refusal::built_in(
                denial::CANCELLED,
                "built-in: cancel",
                "canceling statement due to user request: it waited for its record in the evidence, and was not sent to the \
                 target",
            );
            denial::error(&refusal, &self.account.reference(run.record))
        })
    }
}

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
        let waits = match mark {
            Some(mark) => !proven && !self.account.durable(mark)?,
            None => false,
        };
        let held = if waits { Held::Stays } else { self.control.release_if_held() };
        if held == Held::Released {
            self.queue.push_back(expectation);
            self.up.clear();
        } else {
            self.gate.held = Some((mark, expectation));
            self.on_held(held);
        }
        Ok(Step::Done)
    }

    /// Looks at the held frame again.
    pub(super) fn held_frame(&mut self) -> Result<Step, End> {
        if let Some(mark) = self.gate.waits_for()
            && !self.account.durable(mark)?
        {
            return Ok(Step::Blocked);
        }
        Ok(self.on_held(self.control.release_held()))
    }

    /// What becomes of the held frame.
    fn on_held(&mut self, held: Held) -> Step {
        match held {
            Held::Stays => return Step::Blocked,
            Held::Withdrawn if self.held_runs() => self.stand_in_for_held(),
            Held::Withdrawn | Held::Released => {
                if let Some((_, expectation)) = self.gate.held.take() {
                    self.queue.push_back(expectation);
                    self.up.clear();
                }
                self.gate.withdrawn |= held == Held::Withdrawn && self.statement_waits();
            }
        }
        Step::Done
    }

    /// A Parse waits where its analysis may run code, and yet it is no statement that runs: a cancel request is for what
    /// stands behind it in its batch, or passes it by.
    fn held_runs(&self) -> bool {
        self.gate.held.as_ref().is_some_and(|(_, expectation)| expectation.run().is_some())
    }

    /// A cancel request has come for the statement that waits.
    pub(super) fn withdraw(&mut self) {
        self.control.forget_held();
        if self.held_runs() {
            self.stand_in_for_held();
        } else {
            self.gate.withdrawn = self.statement_waits();
        }
    }

    /// The server skips to the next Sync: the held frame goes nowhere.
    pub(super) fn drop_held(&mut self) -> Option<Expectation> {
        // A cancel request that came for it, or for what waits behind it, is answered by the error that the batch has failed
        // with.
        self.control.forget_held();
        self.gate.withdrawn = false;
        let (_, expectation) = self.gate.held.take()?;
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

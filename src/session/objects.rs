//! Frames that name a statement or a portal and run neither: Describe and Close.
//!
//! Owns: what they do to the names that the gateway keeps. May not: judge. Fails closed: a name whose meaning is on its way
//! blocks; a Describe of a statement whose analysis runs code raises the fence that its Parse raised.

use std::sync::Arc;

use pgturnstile_proto::frontend::{Message, ObjectKind};

use super::end::End;
use super::expect::Expectation;
use super::fence::{Fence, behind_the_fence};
use super::gate::Step;
use super::judge::{Decision, Fence as FenceKind, Verdict};
use super::names::{Lookup, Prepared};
use super::portals::given_away;
use super::refuse::{Stand, absent, bad_name};
use super::relay::Relay;

/// What comes of the analysis that a Describe may cause.
enum Analysed {
    /// It is not known yet.
    Blocked,
    /// It stands behind a barrier.
    Behind(Arc<Decision>),
    /// It may.
    Passes,
}

impl Relay {
    pub(super) async fn on_describe(&mut self, len: usize) -> Result<Step, End> {
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        let Message::Describe(describe) = Message::parse(frame).map_err(|fault| End::client_fault(&fault))?
        else {
            return Err(End::gateway("a Describe frame that is none"));
        };
        let statement = describe.kind() == ObjectKind::Statement;
        if let Some(refusal) = bad_name(describe.name(), "object") {
            return self.refuse(len, Stand::Extended, refusal, None).await;
        }
        let name: Box<[u8]> = describe.name().into();
        let mut described = None;
        if statement {
            match self.names.statement(&name, self.batch) {
                Lookup::Pending => return Ok(Step::Blocked),
                Lookup::Known(known) => match self.analysed_anew(&known).await? {
                    Analysed::Blocked => return Ok(Step::Blocked),
                    Analysed::Behind(decision) => {
                        return self
                            .refuse(
                                len,
                                Stand::Extended,
                                behind_the_fence(self.gate.fence.as_ref()),
                                Some(decision),
                            )
                            .await;
                    }
                    Analysed::Passes => described = Some(known),
                },
                Lookup::Absent => {
                    let refusal = absent("26000", "prepared statement", &name);
                    return self.refuse(len, Stand::Extended, refusal, None).await;
                }
            }
        }
        let portal = match self.names.portal(&name, self.batch) {
            Lookup::Known(portal) if !statement => Some(portal),
            Lookup::Known(_) | Lookup::Absent | Lookup::Pending => None,
        };
        if portal.as_ref().is_some_and(|portal| !self.names.is_certain(portal)) {
            return self.refuse(len, Stand::Extended, given_away(&name), None).await;
        }
        self.gate.batch_open = true;
        self.up.pass(len);
        self.queue.push_back(if statement {
            Expectation::DescribeStatement { parameters_seen: false, statement: described }
        } else {
            Expectation::DescribePortal { portal, ours: false }
        });
        Ok(Step::Done)
    }

    pub(super) async fn on_close(&mut self, len: usize) -> Result<Step, End> {
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        let Message::Close(close) = Message::parse(frame).map_err(|fault| End::client_fault(&fault))? else {
            return Err(End::gateway("a Close frame that is none"));
        };
        let statement = close.kind() == ObjectKind::Statement;
        let name: Box<[u8]> = close.name().into();
        if let Some(refusal) = bad_name(&name, "object") {
            return self.refuse(len, Stand::Extended, refusal, None).await;
        }
        let pending = if statement {
            matches!(self.names.statement(&name, self.batch), Lookup::Pending)
        } else {
            matches!(self.names.portal(&name, self.batch), Lookup::Pending)
        };
        if pending {
            return Ok(Step::Blocked);
        }
        let undo = if statement {
            self.names.set_statement(&name, None, self.batch)
        } else {
            self.names.set_portal(&name, None, self.batch)
        };
        self.gate.batch_open = true;
        self.up.pass(len);
        self.queue.push_back(Expectation::Close { undo: Some(undo) });
        Ok(Step::Done)
    }

    /// A server analyses a statement anew where something of what it names was touched since its Parse (plancache.c,
    /// RevalidateCachedQuery): it runs then what its Parse would run now, and means what it would mean.
    async fn analysed_anew(&mut self, known: &Prepared) -> Result<Analysed, End> {
        let transaction = self.transaction();
        let (fence, decision) =
            match self.judge.again(&known.decision, &self.names, self.batch, transaction).await? {
                Verdict::Wait => return Ok(Analysed::Blocked),
                // Its Bind will be refused; what its analysis runs is not known.
                Verdict::Refuse(..) => {
                    let fence =
                        Fence { kind: FenceKind::Full, ..Fence::of_analysis(&known.decision, known.record) };
                    (Some(fence), Arc::clone(&known.decision))
                }
                Verdict::Allow(now) | Verdict::Hold(now) => {
                    let runs = now.runs_at_analysis && now.fence != FenceKind::None;
                    (runs.then(|| Fence::of_analysis(&now, known.record)), now)
                }
            };
        if !self.fence_admits_describe(known, &decision) {
            return Ok(Analysed::Behind(decision));
        }
        if let Some(fence) = fence {
            self.names.analysed(&decision);
            self.judge.runs(&decision);
            self.gate.fence.get_or_insert(fence);
        }
        Ok(Analysed::Passes)
    }
}

//! Drift of the catalog while a statement runs, where the policy says `catalog_drift = "stamped"`.
//!
//! Owns: the wait of an answer for a look at the target's catalog that began when the server had planned the statement. May not:
//! read the catalog itself. Fails closed: nothing of an answer leaves before that look has found what the statement was judged by;
//! where it finds anything else, or does not come, the session ends. What a write did by then stands, and is recorded.
//!
//! ```text
//!  Due ─ the answer's first frame is here ─► Asked ─ the look came ─┬► the same catalog ─────────────────────► Told: it leaves
//!                                              │                    ├► other objects changed alone ──────────► Told
//!                                              │                    └► what it reaches is another, or judged otherwise ─► end
//!                                              └ the catalog is no longer confirmed ─────────────────────────► end
//! ```
//!
//! The look is the control session's: inside the client's own transaction a query sees the catalog of the transaction's snapshot,
//! where planning sees the newest (REPEATABLE READ). What is made and dropped again before the look leaves no trace in the catalog,
//! and none here. The server holds a plan's relations locked to the end of its transaction.

use std::sync::Arc;
use std::time::Duration;

use pgturnstile_rules::class::Class;
use pgturnstile_rules::statement::facts::{NamedUse, StatementFacts};
use pgturnstile_rules::statement::outline::Outline;

use super::end::{End, Fault};
use super::expect::Expectation;
use super::judge::{Decision, Judge, Verdict};
use super::masking::give_the_same;
use super::relay::Relay;
use super::world::NoGround;

/// How long a Parse waits for the reading of the catalog that holds its session's own DDL; then it stands as a barrier.
const OWN_DDL_WAIT_MAX: Duration = Duration::from_secs(2);
/// Between two looks whether it came.
const OWN_DDL_WAIT_STEP: Duration = Duration::from_millis(2);

/// How far the answer to a statement has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Nobody has asked.
    Due,
    /// It waits for this look.
    Asked(u64),
    /// It may leave.
    Told,
}

/// Whether an answer to it can hold what is stored: rows, COPY data, their counts, errors that quote them.
fn tells(statement: &StatementFacts) -> bool {
    let carries = !matches!(statement.named, Some(NamedUse::Prepare(_)));
    match statement.outline {
        Outline::Rows(_)
        | Outline::CopyQuery(_)
        | Outline::CopyTable { .. }
        | Outline::CopyIn(_)
        | Outline::Stores(_)
        | Outline::Explains => true,
        Outline::Carries => carries,
        Outline::NoValues | Outline::Opaque => false,
    }
}

impl Relay {
    /// Whether the answer at the front may be looked at; asks for the look that it waits for.
    pub(super) async fn is_stamped(&mut self) -> Result<bool, End> {
        let Some(Expectation::Query(run) | Expectation::Execute(run)) = self.queue.front_mut() else {
            return Ok(true);
        };
        if run.decision.stamps.is_none() {
            return Ok(true);
        }
        match run.stamp {
            Stamp::Told => return Ok(true),
            Stamp::Due => {
                let tells = run.decision.facts.statements.get(run.statement).is_some_and(tells);
                run.stamp = if tells { Stamp::Asked(self.judge.world().look()) } else { Stamp::Told };
                return Ok(!tells);
            }
            Stamp::Asked(look) => {
                let newest =
                    self.judge.world().catalog().map_err(|none| End::from(NoGround::Catalog(none)))?;
                if !self.judge.world().covers(look) {
                    return Ok(false);
                }
                let decision = Arc::clone(&run.decision);
                let same = newest.epoch == decision.epoch;
                if !same && decision.stamps.as_deref().is_some_and(|stamps| !newest.holds(stamps)) {
                    return Err(drifted());
                }
                if !same {
                    self.is_judged_alike(&decision).await?;
                }
            }
        }
        if let Some(Expectation::Query(run) | Expectation::Execute(run)) = self.queue.front_mut() {
            run.stamp = Stamp::Told;
        }
        Ok(true)
    }

    /// The look that the answer at the front waits for, and whether it came.
    pub(super) fn awaited_look(&self) -> Option<(u64, bool)> {
        match self.queue.front().and_then(Expectation::run)?.stamp {
            Stamp::Asked(look) => Some((look, self.judge.world().covers(look))),
            Stamp::Due | Stamp::Told => None,
        }
    }

    /// By the catalog of now it passes as well, gives the same labels in the same fields, and runs no code that no barrier stood
    /// behind: a trigger that came meanwhile may have moved what the statements behind it mean.
    async fn is_judged_alike(&mut self, then: &Arc<Decision>) -> Result<(), End> {
        let transaction = self.transaction();
        let verdict = self.judge.again(then, &self.names, self.batch, transaction).await?;
        let now = match verdict {
            Verdict::Allow(now) => now,
            // It was approved as what it still is.
            Verdict::Hold(now) if then.required.is_some() => now,
            Verdict::Hold(_) | Verdict::Refuse(..) | Verdict::Wait => return Err(drifted()),
        };
        if now.runs_code && !then.runs_code {
            return Err(drifted());
        }
        let statements = 0..then.facts.statements.len();
        let mut fields = statements.map(|at| give_the_same(then.fields(at), now.fields(at)));
        if fields.all(|same| same) { Ok(()) } else { Err(drifted()) }
    }
}

impl Judge {
    /// What passed the gateway, in whatever session, is followed: the catalog behind it is read first. Where that takes longer
    /// than the bound of what is changed behind the gateway, this is no better than that. Where answers wait for the catalog that
    /// their statement was judged by, all of the session's own finished DDL is read.
    pub(super) async fn definitions_first(&mut self) {
        let defined = self.world().defined();
        if defined > self.followed {
            let mut covered = self.world().covered();
            let seen =
                tokio::time::timeout(OWN_DDL_WAIT_MAX, covered.wait_for(|look| *look >= defined)).await;
            if let Ok(Ok(_)) = seen {
                self.followed = defined;
            }
        }
        if self.ground.stamped && self.private_ddl.is_some_and(|look| look != u64::MAX) {
            self.own_ddl_was_read().await;
        }
    }

    /// Waits for that reading, within its limit: drivers go on behind a Parse without Sync (asyncpg looks up types
    /// there), and behind a full barrier that is refused. Whether it came.
    pub(super) async fn own_ddl_was_read(&self) -> bool {
        let began = tokio::time::Instant::now();
        loop {
            if self.private_ddl.is_some_and(|look| self.world().covers(look)) {
                return true;
            }
            if began.elapsed() > OWN_DDL_WAIT_MAX {
                return false;
            }
            tokio::time::sleep(OWN_DDL_WAIT_STEP).await;
        }
    }
}

/// Whether other sessions' statements are to wait until it was read: it defines, alters or drops what is no temporary object,
/// and there are labels, or may be by it.
pub(super) fn is_to_be_followed(decision: &Decision, labelled: bool) -> bool {
    let marks = |class: Class| matches!(class, Class::DdlComment | Class::DclLabel);
    let defines =
        |class: Class| marks(class) || labelled && class != Class::DdlTemp && class.covered_by("ddl");
    let classes = |statement: &StatementFacts| {
        let acts = statement.acts.iter().map(|act| act.class);
        let relations = statement.relations.iter().map(|relation| relation.class);
        std::iter::once(statement.class).chain(acts).chain(relations).any(defines)
    };
    labelled && decision.made_by_code || decision.facts.statements.iter().any(classes)
}

fn drifted() -> End {
    End::Fatal {
        fault: Fault::Operator,
        sqlstate: "57P01",
        message: "pgturnstile ended the session: the target's schema was changed behind the gateway while a statement ran, in what it \
                  reaches; nothing of its result was released, and what it wrote outside a transaction stands. Next: reconnect, \
                  look what was written, and run it again"
            .into(),
    }
}

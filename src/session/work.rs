//! One text under judgement: its statements in their order.
//!
//! Owns: what follows from each statement for the wire (proven, fence, copies, catalog, names), and what one statement does
//! to the meaning of the next. May not: keep anything beyond the text. Fails closed: a name that is not known is refused.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pgturnstile_proto::backend::TransactionStatus;
use pgturnstile_rules::catalog::Stamps;
use pgturnstile_rules::class::Class;
use pgturnstile_rules::mask::value::redacted;
use pgturnstile_rules::policy::course::{self, Changed, Course, TextRefusal};
use pgturnstile_rules::policy::{self, Fields};
use pgturnstile_rules::resolve::{
    Code, Resolution, SessionView, makes_plain_table, may_come_again, resolve, resolve_carrying,
};
use pgturnstile_rules::resolve::{Reach, ResolvedRelation};
use pgturnstile_rules::statement::facts::{
    CopyUse, NameUse, NamedUse, StatementFacts, TextFacts, TransactionControl,
};

use super::decision::{Required, changes_names};
use super::denial::{self, Refusal};
use super::judge::{Decision, Fence, Judge};
use super::masking;
use super::names::{Batch, Lookup, Names, Prepared};
use super::portals::given_away;
use super::reached::Reached;
use super::refuse::too_many_names;
use super::summary;
use crate::evidence::record::v1;

/// Why the work on a text ends early.
pub(super) enum Stop {
    Wait,
    Refuse(Refusal),
}

impl From<TextRefusal> for Stop {
    fn from(refusal: TextRefusal) -> Self {
        Stop::Refuse(refusal.into())
    }
}

/// One text under judgement.
pub(super) struct Work<'w> {
    judge: &'w Judge,
    digest: &'w [u8; 32],
    types: &'w [u32],
    names: &'w Names,
    batch: Batch,
    /// `None`: frames are in flight, so it is not known.
    in_transaction: Option<bool>,
    /// What the statements before this one do to it.
    course: Course,
    /// The table that a statement makes, where no code can stand behind it.
    makes_table: Option<NameUse>,
    /// Something of it may bring code to a table that this transaction has made, or take it away.
    unsettles_tables: bool,
    repeatable: bool,
    runs_at_analysis: bool,
    runs_code: bool,
    summary: Vec<v1::Facts>,
    proven: bool,
    fence: Fence,
    copies_in: usize,
    copies_out: bool,
    changes_catalog: bool,
    may_make_temporary: bool,
    uses_names: bool,
    fields: Vec<Option<Arc<Fields>>>,
    stamps: Stamps,
    reached: Reached,
    reaches_labels: bool,
    runs_code_near_labels: bool,
}

impl<'w> Work<'w> {
    pub(super) fn new(
        judge: &'w Judge,
        digest: &'w [u8; 32],
        types: &'w [u32],
        names: &'w Names,
        batch: Batch,
        status: Option<TransactionStatus>,
    ) -> Self {
        Self {
            judge,
            digest,
            types,
            names,
            batch,
            in_transaction: status.map(|status| status != TransactionStatus::Idle),
            course: Course::behind(&judge.made),
            makes_table: None,
            unsettles_tables: false,
            repeatable: true,
            runs_at_analysis: false,
            runs_code: false,
            summary: Vec::new(),
            proven: true,
            fence: Fence::None,
            copies_in: 0,
            copies_out: false,
            changes_catalog: false,
            may_make_temporary: false,
            uses_names: false,
            fields: Vec::new(),
            stamps: Stamps::new(),
            reached: Reached::default(),
            reaches_labels: false,
            runs_code_near_labels: false,
        }
    }

    pub(super) fn statement(&mut self, statement: &StatementFacts) -> Result<policy::Judgement, Stop> {
        self.check_new_name(statement)?;
        self.course.names(statement)?;
        let carried = self.carried(statement)?;
        self.course.order(statement)?;
        let ground = &self.judge.ground;
        let before = self.course.changed().clone();
        let view = self.view(&before);
        let mut judgement: Option<policy::Judgement> = None;
        let mut fields = None;
        match &carried {
            None => {
                let resolution = resolve(statement, &ground.snapshot, &ground.path, &view);
                course::analysis(statement, &resolution, &ground.snapshot)?;
                let mut judged = self.judged(statement, &resolution);
                if matches!(statement.named, Some(NamedUse::Prepare(_))) && !resolution.runs_at_analysis {
                    judged = judged.as_prepared();
                }
                fields.clone_from(&judged.fields);
                judgement = Some(judged);
            }
            Some(prepared) => {
                for inner in &prepared.decision.facts.statements {
                    let resolution =
                        resolve_carrying(statement, inner, &ground.snapshot, &ground.path, &view);
                    let carrying = self.judged(statement, &resolution);
                    let judged = self.judged(inner, &resolution);
                    fields.clone_from(&judged.fields);
                    let both = carrying.and(judged);
                    judgement = Some(match judgement {
                        None => both,
                        Some(earlier) => earlier.and(both),
                    });
                }
                self.proven = false;
            }
        }
        if let (Some(NamedUse::Fetch(_)), Some(declared)) = (&statement.named, &carried)
            && !masking::give_the_same(declared.decision.fields(0), fields.as_ref())
        {
            return Err(Stop::Refuse(masking::gives_other_labels("cursor")));
        }
        self.course.end(statement)?;
        let looked_at =
            !self.judge.detectors().is_empty() || fields.as_ref().is_some_and(|fields| fields.near);
        course::spelling(statement, looked_at)?;
        self.fields.push(fields);
        self.uses_names |= statement.named.is_some();
        self.copies_in += usize::from(statement.copy == Some(CopyUse::In));
        self.copies_out |= statement.copy == Some(CopyUse::Out);
        // A prepared text that holds no statement runs nothing.
        judgement.ok_or_else(|| Stop::Refuse(empty_prepared()))
    }

    /// What the session may see that the snapshot does not show, as it is behind what this text has `changed`.
    fn view<'v>(&self, changed: &'v Changed) -> SessionView<'v>
    where
        'w: 'v,
    {
        let judge = self.judge;
        changed.view(&SessionView {
            temp_possible: judge.temp_possible,
            temp_names: judge.temp_names.as_deref(),
            temp_code: judge.temp_code,
            temp_types: judge.temp_types,
            private_catalog: judge.private_ddl.is_some(),
            private_code: judge.private_code,
            own_tables: if self.unsettles_tables { &[] } else { &judge.own_tables },
            held_cursor: judge.held_cursor,
            parameter_types: self.types,
            ..SessionView::default()
        })
    }

    /// Its temporary relations, where all of them are known.
    fn temp_names(&self) -> Option<&'w [Arc<str>]> {
        self.judge.temp_names.as_deref().filter(|_| !self.course.changed().makes_temporary)
    }

    /// SQL shares its names with the protocol's: what the gateway keeps for itself there, it keeps for itself here, and
    /// both count.
    fn check_new_name(&self, statement: &StatementFacts) -> Result<(), Stop> {
        course::new_name(statement)?;
        let makes = matches!(statement.named, Some(NamedUse::Prepare(_) | NamedUse::Declare(_)));
        if makes && self.names.full() { Err(Stop::Refuse(too_many_names())) } else { Ok(()) }
    }

    /// What EXECUTE and FETCH bring in.
    fn carried(&self, statement: &StatementFacts) -> Result<Option<Arc<Prepared>>, Stop> {
        match &statement.named {
            Some(NamedUse::Execute(name)) => match self.names.statement(name.as_bytes(), self.batch) {
                Lookup::Known(prepared) if !is_query(&prepared) => {
                    Err(Stop::Refuse(no_query("EXECUTE", name)))
                }
                Lookup::Known(prepared) => Ok(Some(prepared)),
                Lookup::Pending => Err(Stop::Wait),
                Lookup::Absent => Err(course::unknown_statement(name).into()),
            },
            Some(NamedUse::Fetch(name)) => match self.names.portal(name.as_bytes(), self.batch) {
                // What a portal runs by name is judged where the protocol runs it.
                Lookup::Known(portal) if portal.batch.is_some() && !is_query(&portal.statement) => {
                    Err(Stop::Refuse(no_query("FETCH", name)))
                }
                Lookup::Known(portal) if !self.names.is_certain(&portal) => {
                    Err(Stop::Refuse(given_away(name.as_bytes())))
                }
                Lookup::Known(portal) => Ok(Some(Arc::clone(&portal.statement))),
                Lookup::Pending => Err(Stop::Wait),
                Lookup::Absent => Err(course::unknown_cursor(name).into()),
            },
            None
            | Some(
                NamedUse::Prepare(_)
                | NamedUse::Deallocate(_)
                | NamedUse::Declare(_)
                | NamedUse::Close(_)
                | NamedUse::DiscardAll,
            ) => Ok(None),
        }
    }

    fn judged(&mut self, statement: &StatementFacts, resolution: &Resolution) -> policy::Judgement {
        let ground = &self.judge.ground;
        if ground.stamped || ground.holds {
            for relation in &resolution.relations {
                ground.snapshot.stamp(&relation.schema, &relation.name, &mut self.stamps);
            }
        }
        if ground.holds {
            self.reached.note(resolution);
        }
        let sight = policy::Sight {
            labelled: &ground.labelled,
            snapshot: &ground.snapshot,
            path: &ground.path,
            temp_possible: self.judge.temp_possible || self.course.changed().makes_temporary,
            temp_names: self.temp_names(),
            private_catalog: self.judge.private_ddl.is_some() || self.course.changed().catalog,
        };
        let judge = |in_transaction| {
            let context = policy::Context {
                in_transaction,
                text_digest: self.digest,
                now_s: now_s(),
                sight: Some(&sight),
            };
            ground.policy.judge(&ground.subject, statement, resolution, &context)
        };
        let judgement = match self.in_transaction {
            Some(known) => judge(known),
            None if ground.moves_by_itself => judge(true).and(judge(false)),
            None => judge(true),
        };
        self.consequences(statement, resolution);
        self.summary.push(summary::facts(statement, resolution));
        judgement
    }

    /// Whether the values of a statement, and its rows, may be those of labelled columns, whoever may see them.
    fn near_labels(&mut self, statement: &StatementFacts, resolution: &Resolution) {
        let ground = &self.judge.ground;
        if ground.labelled.is_empty() {
            return;
        }
        let labelled = |relation: &ResolvedRelation| match relation.reach {
            // Nothing labelled is copied to what the session makes itself.
            Reach::Catalog | Reach::Sequence | Reach::Temporary | Reach::New => false,
            Reach::DataBearingCatalog | Reach::Unresolved => true,
            Reach::Table | Reach::View | Reach::MaterializedView | Reach::Foreign => {
                let found = ground.snapshot.relation(&relation.schema, &relation.name);
                found.is_none_or(|found| {
                    ground.labelled.columns(found.oid).is_some_and(|columns| !columns.is_empty())
                        || ground.labelled.closed(found.oid).is_some()
                })
            }
        };
        let code = resolution.runs_code || statement.flags.dynamic;
        self.runs_code_near_labels |= code;
        self.reaches_labels |= code || resolution.relations.iter().any(labelled);
    }

    fn consequences(&mut self, statement: &StatementFacts, resolution: &Resolution) {
        self.near_labels(statement, resolution);
        self.proven &= resolution.proven();
        let mut fence = match &resolution.code {
            Code::Free => Fence::None,
            Code::ThroughRelations(_) => Fence::Relaxed,
            Code::Named(_) => Fence::Full,
        };
        if statement.flags.sets_setting || statement.named.as_ref().is_some_and(changes_names) {
            fence = Fence::Full;
        }
        self.fence = self.fence.max(fence);
        let snapshot = &self.judge.ground.snapshot;
        let done = self.course.note(statement, resolution, snapshot);
        self.changes_catalog |= done.changes_catalog;
        self.runs_at_analysis |= resolution.runs_at_analysis;
        self.runs_code |= resolution.runs_code;
        self.repeatable &= fence == Fence::Relaxed
            && may_come_again(statement, resolution, snapshot, &self.view(self.course.changed()));
        // What an event trigger, a trigger, a function or a block does is not in the text: the server is asked behind it.
        // Settings run none, and a transaction may begin with them: asking takes a snapshot.
        self.may_make_temporary |= (resolution.code != Code::Free && statement.class != Class::SessionSet)
            || !resolution.functions.is_empty()
            || statement.flags.dynamic
            || done.ddl && snapshot.event_trigger().is_some();
        let begins = matches!(statement.transaction, Some(TransactionControl::Begin { .. }));
        self.makes_table = makes_plain_table(statement, resolution, snapshot).cloned();
        self.unsettles_tables |= done.changes_catalog && self.makes_table.is_none()
            || resolution.runs_code
            || statement.transaction.is_some() && !begins;
        match statement.transaction {
            Some(TransactionControl::Begin { .. }) => self.in_transaction = Some(true),
            Some(
                TransactionControl::Commit | TransactionControl::Rollback | TransactionControl::TwoPhase,
            ) => self.in_transaction = Some(statement.flags.chains),
            Some(TransactionControl::Savepoint | TransactionControl::Mode { .. }) | None => {}
        }
    }

    pub(super) fn conclude(
        self,
        facts: Arc<TextFacts>,
        rule: String,
        held: Option<policy::Judgement>,
        exact: Option<&Arc<str>>,
    ) -> Decision {
        let ground = &self.judge.ground;
        let changed = self.course.changed();
        let near = self.fields.iter().any(Option::is_some);
        let masked = |fields: &Fields| fields.near && fields.cleared.is_empty();
        let all_masked = self.fields.iter().all(|fields| fields.as_ref().is_none_or(|fields| masked(fields)));
        // What reaches labels and has nothing to mask is clear for the subject.
        let shows_in_clear = self.reaches_labels && (self.runs_code_near_labels || !all_masked || !near);
        let detectors = *ground.subject.detectors();
        let required = held.map(|judgement| {
            Arc::new(Required {
                message: judgement.message,
                approvals: judgement.approvals,
                stamps: self.stamps.clone(),
                reaches_anything: self.runs_code,
                reached: self.reached,
            })
        });
        let exact = exact.filter(|_| required.is_some() || ground.holds && self.uses_names).cloned();
        let makes_table = self.makes_table.filter(|_| facts.statements.len() == 1);
        let mut summary = self.summary;
        summary.iter_mut().for_each(|facts| summary::redact(facts, &detectors));
        Decision {
            held: redacted(&detectors, &facts.lifted).map_or_else(|| Arc::clone(&facts.lifted), Arc::from),
            detectors,
            facts,
            summary,
            rule,
            policy_hash: ground.policy.hash(),
            epoch: ground.snapshot.epoch,
            ground: ground.number,
            types: self.types.to_vec(),
            proven: self.proven,
            fence: self.fence,
            repeatable: self.repeatable,
            runs_at_analysis: self.runs_at_analysis,
            runs_code: self.runs_code,
            brings_code: changed.brings_code,
            made_by_code: changed.made_by_code,
            makes_table,
            unsettles_tables: self.unsettles_tables,
            copies_in: self.copies_in,
            copies_out: self.copies_out,
            changes_catalog: self.changes_catalog,
            makes_temporary: changed.makes_temporary,
            may_make_temporary: self.may_make_temporary,
            uses_names: self.uses_names,
            fields: if near { self.fields.into() } else { Box::default() },
            labelled: Arc::clone(&ground.labelled),
            stamps: ground.stamped.then(|| Arc::new(self.stamps)),
            reaches_labels: self.reaches_labels,
            shows_in_clear,
            required,
            exact,
        }
    }
}

fn now_s() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// What PREPARE would take (`PreparableStmt`, src/backend/parser/gram.y). The protocol prepares any statement, and SQL's EXECUTE
/// runs what it has prepared.
fn is_query(prepared: &Prepared) -> bool {
    let tags = prepared.decision.facts.statements.iter().map(|statement| statement.tag);
    tags.into_iter().all(|tag| matches!(tag, "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "MERGE"))
}

fn no_query(what: &str, name: &str) -> Refusal {
    Refusal::built_in(
        denial::REFUSED,
        "built-in: execute",
        format!(
            "pgturnstile refused {what} of \"{}\": the protocol has prepared it, and it is no SELECT, INSERT, UPDATE, DELETE or MERGE; \
             what else a statement does to names, transactions and copies is followed where the protocol runs it. Next: run \
             it by Bind and Execute, or send its text",
            name.escape_debug()
        ),
    )
}

fn empty_prepared() -> Refusal {
    Refusal::built_in(
        denial::REFUSED,
        "built-in: empty-prepared",
        "pgturnstile refused to execute a prepared statement that holds no statement. Next: prepare one",
    )
}

//! One text under judgement: its statements in their order.
//!
//! Owns: what follows from each statement for the wire (proven, fence, copies, catalog, names), and what one statement does
//! to the meaning of the next. May not: keep anything beyond the text. Fails closed: a name that is not known is refused.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pgturnstile_proto::backend::TransactionStatus;
use pgturnstile_rules::catalog::{Snapshot, Stamps};
use pgturnstile_rules::class::Class;
use pgturnstile_rules::mask::value::redacted;
use pgturnstile_rules::policy::{self, Fields};
use pgturnstile_rules::resolve::{
    Code, NAMES_MAX, Resolution, SessionView, is_unmistakable, makes_plain_table, may_come_again,
    names_too_many, plainly_defines, resolve, resolve_carrying,
};
use pgturnstile_rules::resolve::{Reach, ResolvedRelation};
use pgturnstile_rules::statement::facts::{
    CopyUse, NameUse, NamedUse, StatementFacts, TextFacts, TransactionControl,
};

use super::decision::{Required, changes_names};
use super::denial::{self, Refusal};
use super::judge::{Decision, Fence, Judge};
use super::made::Made;
use super::masking;
use super::moved_here::MovedHere;
use super::names::{Batch, Lookup, Names, Prepared};
use super::portals::given_away;
use super::reached::Reached;
use super::refuse::{bad_name, too_many_names};
use super::summary;
use crate::evidence::record::v1;

/// Why the work on a text ends early.
pub(super) enum Stop {
    Wait,
    Refuse(Refusal),
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
    /// A statement before this one may have moved what names mean.
    code_before: bool,
    /// Code runs with this statement.
    code_now: bool,
    /// A statement before this one makes a name that such code could give away before anybody has seen it.
    names_before: bool,
    /// Names that statements before this one make or drop.
    moved_here: MovedHere,
    /// Names of relations that the session has made or altered, and this text so far.
    made: Made,
    /// A statement before this one may have changed the catalog.
    ddl_before: bool,
    /// That may have brought code to a relation.
    brings_code: bool,
    made_by_code: bool,
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
    makes_temporary: bool,
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
            code_before: false,
            code_now: false,
            names_before: false,
            moved_here: MovedHere::default(),
            made: judge.made.clone(),
            ddl_before: false,
            brings_code: false,
            made_by_code: false,
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
            makes_temporary: false,
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
        if let Some(named) = &statement.named {
            self.moved_here.refuses(named).map_or(Ok(()), |refusal| Err(Stop::Refuse(refusal)))?;
            self.moved_here.note(named);
        }
        if names_too_many(statement) {
            return Err(Stop::Refuse(too_many_different_names()));
        }
        let carried = self.carried(statement)?;
        self.check_order(statement)?;
        self.code_now = false;
        let ground = &self.judge.ground;
        let made = self.made.clone();
        let view = self.view(&made);
        let mut judgement: Option<policy::Judgement> = None;
        let mut fields = None;
        match &carried {
            None => {
                let resolution = resolve(statement, &ground.snapshot, &ground.path, &view);
                check_analysis(statement, &resolution, &ground.snapshot)?;
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
        if self.code_now && self.names_before {
            return Err(Stop::Refuse(name_before_code()));
        }
        self.names_before |= matches!(statement.named, Some(NamedUse::Prepare(_) | NamedUse::Declare(_)));
        let looked_at =
            !self.judge.detectors().is_empty() || fields.as_ref().is_some_and(|fields| fields.near);
        check_spelling(statement, looked_at)?;
        self.fields.push(fields);
        self.uses_names |= statement.named.is_some();
        self.copies_in += usize::from(statement.copy == Some(CopyUse::In));
        self.copies_out |= statement.copy == Some(CopyUse::Out);
        // A prepared text that holds no statement runs nothing.
        judgement.ok_or_else(|| Stop::Refuse(empty_prepared()))
    }

    /// What the session may see that the snapshot does not show, as it is by this statement.
    fn view<'v>(&self, made: &'v Made) -> SessionView<'v>
    where
        'w: 'v,
    {
        let judge = self.judge;
        SessionView {
            temp_possible: judge.temp_possible || self.makes_temporary,
            temp_names: self.temp_names(),
            temp_code: judge.temp_code || self.brings_code,
            temp_types: judge.temp_types || self.makes_temporary || self.ddl_before,
            private_catalog: judge.private_ddl.is_some() || self.ddl_before,
            private_code: judge.private_code || self.brings_code,
            made: &made.names,
            made_more: made.more,
            made_calls: made.calls,
            own_tables: if self.unsettles_tables { &[] } else { &judge.own_tables },
            held_cursor: judge.held_cursor,
            parameter_types: self.types,
        }
    }

    /// Its temporary relations, where all of them are known.
    fn temp_names(&self) -> Option<&'w [Arc<str>]> {
        self.judge.temp_names.as_deref().filter(|_| !self.makes_temporary)
    }

    /// SQL shares its names with the protocol's: what the gateway keeps for itself there, it keeps for itself here, and
    /// both count.
    fn check_new_name(&self, statement: &StatementFacts) -> Result<(), Stop> {
        let (what, name) = match &statement.named {
            Some(NamedUse::Prepare(name)) => ("statement", name),
            Some(NamedUse::Declare(name)) => ("cursor", name),
            None
            | Some(
                NamedUse::Execute(_)
                | NamedUse::Fetch(_)
                | NamedUse::Deallocate(_)
                | NamedUse::Close(_)
                | NamedUse::DiscardAll,
            ) => return Ok(()),
        };
        let refusal = bad_name(name.as_bytes(), what).or_else(|| self.names.full().then(too_many_names));
        refusal.map_or(Ok(()), |refusal| Err(Stop::Refuse(refusal)))
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
                Lookup::Absent => Err(Stop::Refuse(unknown("26000", "prepared statement", name))),
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
                Lookup::Absent => Err(Stop::Refuse(unknown("34000", "cursor", name))),
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

    /// Behind a statement that runs code, in the same text, a name may mean another object, and what runs may run as
    /// another role or under another guarded setting: only what controls the transaction may follow.
    fn check_order(&self, statement: &StatementFacts) -> Result<(), Stop> {
        if !self.code_before || statement.transaction.is_some() {
            return Ok(());
        }
        Err(Stop::Refuse(Refusal::built_in(
            denial::REFUSED,
            "built-in: order",
            "pgturnstile refused a text in which a statement stands behind one that runs code of the database's users \
             (a function, or a trigger, rule, view or default of a relation): that code may change what names mean and \
             as whom the rest runs. Next: send them as separate queries",
        )))
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
            temp_possible: self.judge.temp_possible || self.makes_temporary,
            temp_names: self.temp_names(),
            private_catalog: self.judge.private_ddl.is_some() || self.ddl_before,
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
        let ddl = statement.class.covered_by("ddl")
            || statement.acts.iter().any(|act| act.class.covered_by("ddl"))
            || statement.relations.iter().any(|relation| relation.class.covered_by("ddl"));
        // What was prepared is in no catalog, whoever prepared it: committed, it may hold any definition.
        let two_phase = statement.transaction == Some(TransactionControl::TwoPhase);
        let snapshot = &self.judge.ground.snapshot;
        // Without code, what reads and writes rows changes no catalog, though it be a barrier for what this session has changed.
        let plain = statement.class.covered_by("read") || statement.class.covered_by("write");
        // What sets a setting by the server's own function moves that setting and nothing else.
        let only_sets = statement.flags.sets_setting
            && resolution.functions.is_empty()
            && resolution.relations.iter().all(|found| {
                snapshot.relation(&found.schema, &found.name).is_some_and(|relation| relation.system)
            });
        let runs_code = resolution.runs_code && !only_sets;
        let opaque = two_phase
            || statement.flags.dynamic
            || matches!(resolution.code, Code::Named(_))
                && (runs_code || !plain && !statement.flags.sets_setting)
            || runs_code && snapshot.defines().is_some();
        self.made.note(statement);
        self.made_by_code |=
            opaque && runs_code && snapshot.defines().is_some() || two_phase || statement.flags.dynamic;
        self.made.more |= self.made_by_code;
        self.changes_catalog |= ddl || opaque;
        self.ddl_before |= ddl || opaque;
        self.brings_code |=
            two_phase || opaque && runs_code || ddl && !plainly_defines(statement, resolution, snapshot);
        self.runs_at_analysis |= resolution.runs_at_analysis;
        self.runs_code |= resolution.runs_code;
        self.repeatable &= fence == Fence::Relaxed
            && may_come_again(statement, resolution, snapshot, &self.view(&self.made));
        let temporary = statement.class == Class::DdlTemp
            || statement.acts.iter().any(|act| act.class == Class::DdlTemp)
            || statement.relations.iter().any(|relation| relation.class == Class::DdlTemp);
        self.makes_temporary |= temporary;
        // What an event trigger, a trigger, a function or a block does is not in the text: the server is asked behind it.
        // Settings run none, and a transaction may begin with them: asking takes a snapshot.
        self.may_make_temporary |= (resolution.code != Code::Free && statement.class != Class::SessionSet)
            || !resolution.functions.is_empty()
            || statement.flags.dynamic
            || ddl && snapshot.event_trigger().is_some();
        let begins = matches!(statement.transaction, Some(TransactionControl::Begin { .. }));
        self.makes_table = makes_plain_table(statement, resolution, snapshot).cloned();
        self.unsettles_tables |= (ddl || opaque) && self.makes_table.is_none()
            || resolution.runs_code
            || statement.transaction.is_some() && !begins;
        // DDL alone moves no names but its own, which need permits in every schema of the path either way.
        self.code_now |= resolution.runs_code || statement.flags.dynamic;
        self.code_before |= self.code_now;
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
            brings_code: self.brings_code,
            made_by_code: self.made_by_code,
            makes_table,
            unsettles_tables: self.unsettles_tables,
            copies_in: self.copies_in,
            copies_out: self.copies_out,
            changes_catalog: self.changes_catalog,
            makes_temporary: self.makes_temporary,
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

/// Code that runs while a statement is analysed stands between its own names.
fn check_analysis(
    statement: &StatementFacts,
    resolution: &Resolution,
    snapshot: &Snapshot,
) -> Result<(), Stop> {
    if !resolution.types_run_code || is_unmistakable(statement, resolution, snapshot) {
        return Ok(());
    }
    Err(Stop::Refuse(Refusal::built_in(
        denial::REFUSED,
        "built-in: analysis",
        "pgturnstile refused a statement: a type in it runs code of the database's users while the statement is analysed, which may \
         change what the statement's other names mean, and as whom its tables' row security sees it. Next: name the schema of \
         everything whose name is not the only one of its kind, or give the constant as a parameter",
    )))
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

fn unknown(sqlstate: &'static str, what: &str, name: &str) -> Refusal {
    Refusal::built_in(
        sqlstate,
        "built-in: unknown-name",
        format!(
            "pgturnstile refused to use the {what} \"{}\": this session did not make it through the gateway, so what \
             it runs is not known. Next: make it in this session first",
            name.escape_default()
        ),
    )
}

fn name_before_code() -> Refusal {
    Refusal::built_in(
        denial::REFUSED,
        "built-in: order",
        "pgturnstile refused a text in which a statement that runs code of the database's users stands behind PREPARE or DECLARE: \
         that code may give the new name to another statement before anybody has seen it. Next: send them as separate queries",
    )
}

fn too_many_different_names() -> Refusal {
    let message = format!(
        "pgturnstile refused a statement that names more than {NAMES_MAX} different relations, functions, operators and types: each is \
         looked up and judged. Next: send it in parts"
    );
    Refusal::built_in("54000", "built-in: names", message)
}

/// Where detectors or labels look at what leaves, COPY must say how its rows are spelled.
fn check_spelling(statement: &StatementFacts, looked_at: bool) -> Result<(), Stop> {
    if looked_at && statement.copy == Some(CopyUse::Out) && statement.copy_spelling.is_none() {
        return Err(Stop::Refuse(Refusal::built_in(
            denial::REFUSED,
            "built-in: copy-spelling",
            "pgturnstile refused a COPY to the client: an option of it, or an encoding other than UTF8, leaves it open how its \
             rows are spelled, and the policy has them searched or masked. Next: use FORMAT text, csv or binary in UTF8",
        )));
    }
    Ok(())
}

fn empty_prepared() -> Refusal {
    Refusal::built_in(
        denial::REFUSED,
        "built-in: empty-prepared",
        "pgturnstile refused to execute a prepared statement that holds no statement. Next: prepare one",
    )
}

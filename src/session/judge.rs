//! The judgement of a text in its session: facts, resolution, verdict, and what follows for the wire.
//!
//! Owns: the way from exact bytes to a [`Decision`], the caches on that way, and the name space that SQL shares with the
//! protocol while a text is judged. May not: touch a frame or a record. Fails closed: a text that cannot be read, parsed,
//! resolved or looked up is refused with a message that says so; a missing catalog or policy refuses everything.
//!
//! ```text
//!   bytes ─ UTF-8? ─ decided before under this policy, catalog and profile? ──────────────► Decision
//!                       │ no
//!                       ▼
//!                  facts (cached by exact text; parsed here up to 4 KiB, in the pool above)
//!                       ▼
//!                  each statement: names of the session ─ resolve ─ judge ─ strictest wins
//! ```

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pgturnstile_proto::backend::TransactionStatus;
use pgturnstile_rules::class::Class;
use pgturnstile_rules::policy::{self, Action};
use pgturnstile_rules::resolve::{Code, Resolution, SessionView, resolve, resolve_carrying};
use pgturnstile_rules::statement::Unparsable;
use pgturnstile_rules::statement::facts::{CopyUse, NamedUse, StatementFacts, TextFacts, TransactionControl};

use super::decisions::ShardMemory;
use super::denial::{self, Refusal};
use super::end::End;
use super::names::{Batch, Lookup, Names, Portal, Prepared};
use super::summary;
use super::world::{Ground, NoGround, World};
use crate::evidence::record::v1;

/// Texts up to this long are parsed on the shard; longer ones in the pool, where they stall nobody else.
pub const PARSED_HERE_BYTES_MAX: usize = 4_096;

/// How a statement closes the way behind it (README decision 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fence {
    /// Not at all.
    None,
    /// It may run code through relations only: earlier Parses and plain texts may follow in its batch.
    Relaxed,
    /// It runs code that its text names, or sets a setting.
    Full,
}

/// What was decided of a text that passes, and what follows.
#[derive(Debug)]
pub struct Decision {
    /// What the text says.
    pub facts: Arc<TextFacts>,
    /// The same for the evidence, with what the names resolved to.
    pub summary: Vec<v1::Facts>,
    /// Rules that opened it, or the one that refused it.
    pub rule: String,
    /// The policy's hash.
    pub policy_hash: [u8; 32],
    /// The catalog's epoch.
    pub epoch: u64,
    /// Under which policy and catalog it holds.
    pub ground: u128,
    /// Types of users that its Parse declares for parameters.
    pub types: Vec<u32>,
    /// Every statement is a code-free select without effects.
    pub proven: bool,
    /// The barrier behind it.
    pub fence: Fence,
    /// How many statements ask the client for COPY data.
    pub copies_in: usize,
    /// Some statement sends COPY data.
    pub copies_out: bool,
    /// It may change the schema: the catalog is read anew behind it.
    pub changes_catalog: bool,
    /// It may leave temporary objects, which names then mean first.
    pub makes_temporary: bool,
    /// It makes, uses or drops names: it cannot be decided once for all.
    pub uses_names: bool,
}

impl Decision {
    /// Whether the text does nothing but end a transaction.
    pub fn only_ends_transaction(&self) -> bool {
        matches!(
            self.facts.statements.as_slice(),
            [StatementFacts {
                transaction: Some(TransactionControl::Commit | TransactionControl::Rollback),
                ..
            }]
        )
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self {
            facts: Arc::new(TextFacts {
                digest: [0; 32],
                text_bytes: 0,
                statements: Vec::new(),
                lifted: Arc::from(""),
            }),
            summary: Vec::new(),
            rule: String::new(),
            policy_hash: [0; 32],
            epoch: 0,
            ground: 0,
            types: Vec::new(),
            proven: true,
            fence: Fence::None,
            copies_in: 0,
            copies_out: false,
            changes_catalog: false,
            makes_temporary: false,
            uses_names: false,
        }
    }
}

/// What became of a text.
#[derive(Debug)]
pub enum Verdict {
    /// It passes.
    Allow(Arc<Decision>),
    /// It does not; with what is known of it.
    Refuse(Refusal, Option<Arc<Decision>>),
    /// A name that it uses is not settled: ask again when the server has answered.
    Wait,
}

/// See the module.
pub struct Judge {
    world: Arc<World>,
    memory: Arc<ShardMemory>,
    ground: Arc<Ground>,
    /// Names the principal for the fairness of the parser's queue.
    queue_key: u64,
    statement_bytes_max: usize,
    /// DDL of this session that the snapshot does not know yet: the reading of the catalog that will. The largest
    /// number while its transaction is open.
    private_ddl: Option<u64>,
    temp_possible: bool,
    /// A cursor was declared in this transaction: COMMIT may run the rest of it.
    held_cursor: bool,
}

impl Judge {
    /// A judge for one session, standing on `ground`.
    pub fn new(
        world: Arc<World>,
        memory: Arc<ShardMemory>,
        ground: Arc<Ground>,
        statement_bytes_max: usize,
    ) -> Self {
        let queue_key = world.principal_number();
        Self {
            world,
            memory,
            ground,
            queue_key,
            statement_bytes_max,
            private_ddl: None,
            temp_possible: false,
            held_cursor: false,
        }
    }

    /// Judges a text as it stands in a Query or Parse.
    ///
    /// # Errors
    /// [`End`], where the session itself has lost its ground.
    pub async fn text(
        &mut self,
        text: &[u8],
        types: &[u32],
        names: &Names,
        batch: Batch,
        status: Option<TransactionStatus>,
    ) -> Result<Verdict, End> {
        if let Some(refusal) = self.renew()? {
            return Ok(Verdict::Refuse(refusal, None));
        }
        let cacheable = self.private_ddl.is_none()
            && !self.ground.depends_on_transaction
            && !self.temp_possible
            && !self.held_cursor
            && types.is_empty();
        if cacheable && let Some(decision) = self.memory.decision(&self.ground, text) {
            return Ok(Verdict::Allow(decision));
        }
        if text.len() > self.statement_bytes_max {
            return Ok(Verdict::Refuse(too_long(text.len(), self.statement_bytes_max), None));
        }
        let Ok(text) = std::str::from_utf8(text) else {
            return Ok(Verdict::Refuse(not_utf8(), None));
        };
        let facts = match self.facts(text).await {
            Ok(facts) => facts,
            Err(reason) => return Ok(Verdict::Refuse(unparsable(&reason), None)),
        };
        let verdict = self.decide(facts, types, names, batch, status);
        if let Verdict::Allow(decision) = &verdict
            && cacheable
            && !decision.uses_names
        {
            self.memory.remember(&self.ground, text.as_bytes(), decision);
        }
        Ok(verdict)
    }

    /// Judges again what was judged at Parse, where policy or catalog have changed since.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub async fn again(
        &mut self,
        decision: &Arc<Decision>,
        names: &Names,
        batch: Batch,
        status: Option<TransactionStatus>,
    ) -> Result<Verdict, End> {
        if let Some(refusal) = self.renew()? {
            return Ok(Verdict::Refuse(refusal, None));
        }
        let stands = decision.ground == self.ground.number
            && self.private_ddl.is_none()
            && !decision.uses_names
            && !self.ground.depends_on_transaction
            && !self.temp_possible
            && !self.held_cursor;
        if stands {
            return Ok(Verdict::Allow(Arc::clone(decision)));
        }
        Ok(self.decide(Arc::clone(&decision.facts), &decision.types, names, batch, status))
    }

    /// A statement that may have changed the schema was completed.
    pub fn catalog_changed(&mut self, decision: &Decision) {
        self.private_ddl = Some(u64::MAX);
        self.temp_possible |= decision.makes_temporary;
    }

    /// No transaction is open any more: what this session changed is visible to the next snapshot.
    pub fn transaction_ended(&mut self) {
        self.held_cursor = false;
        if self.private_ddl == Some(u64::MAX) {
            self.private_ddl = Some(self.world.look());
        }
    }

    /// What statement `index` of a completed text did to names takes effect.
    pub fn named_done(&mut self, decision: &Decision, index: usize, record: u64, names: &mut Names) {
        let Some(statement) = decision.facts.statements.get(index) else { return };
        match &statement.named {
            None | Some(NamedUse::Execute(_) | NamedUse::Fetch(_)) => {}
            Some(NamedUse::Prepare(name)) => {
                let inner = statement.prepared.as_deref().cloned();
                let facts = TextFacts {
                    statements: inner.into_iter().collect(),
                    ..TextFacts::clone(&decision.facts)
                };
                names.put_statement(name.as_bytes(), Arc::new(self.carried(facts, record)));
            }
            Some(NamedUse::Deallocate(Some(name))) => names.drop_statement(name.as_bytes()),
            Some(NamedUse::Deallocate(None)) => names.forget_statements(),
            Some(NamedUse::Declare(name)) => {
                self.held_cursor |= !decision.proven;
                let facts = TextFacts {
                    statements: vec![StatementFacts { named: None, ..statement.clone() }],
                    ..TextFacts::clone(&decision.facts)
                };
                let portal = Portal { statement: Arc::new(self.carried(facts, record)), record, batch: None };
                names.put_portal(name.as_bytes(), Arc::new(portal));
            }
            Some(NamedUse::Close(Some(name))) => names.drop_portal(name.as_bytes()),
            Some(NamedUse::Close(None)) => names.forget_portals(),
            Some(NamedUse::DiscardAll) => {
                names.forget_statements();
                names.forget_portals();
            }
        }
    }

    /// A decision that EXECUTE or FETCH carries in: judged anew at each use, never by itself.
    fn carried(&self, facts: TextFacts, record: u64) -> Prepared {
        let decision = Decision {
            summary: Vec::new(),
            rule: String::new(),
            policy_hash: self.ground.policy.hash(),
            epoch: self.ground.snapshot.epoch,
            // No ground has this number: `again` decides it at every Bind.
            ground: 0,
            types: Vec::new(),
            proven: false,
            fence: Fence::Full,
            copies_in: 0,
            copies_out: false,
            changes_catalog: false,
            makes_temporary: false,
            uses_names: true,
            facts: Arc::new(facts),
        };
        Prepared { decision: Arc::new(decision), record }
    }

    /// Takes the newest policy and catalog. A refusal where there is no catalog to resolve by.
    fn renew(&mut self) -> Result<Option<Refusal>, End> {
        // Asked before the ground is taken: a ground taken later holds what the look saw.
        let seen = self.private_ddl.is_some_and(|look| look != u64::MAX && self.world.covers(look));
        let renewed = match self.world.current(&self.ground) {
            Ok(true) => None,
            Ok(false) => Some(self.world.renew(&self.ground)),
            Err(unavailable) => Some(Err(unavailable.into())),
        };
        match renewed {
            None => {}
            Some(Ok(ground)) => self.ground = ground,
            Some(Err(NoGround::Catalog(unavailable))) => {
                let message = format!("pgturnstile refused a statement: {unavailable}");
                return Ok(Some(Refusal::built_in("57P03", "built-in: catalog", message)));
            }
            Some(Err(access @ NoGround::Access(_))) => return Err(access.into()),
        }
        if seen {
            self.private_ddl = None;
        }
        Ok(None)
    }

    async fn facts(&self, text: &str) -> Result<Arc<TextFacts>, Unparsable> {
        if let Some(facts) = self.memory.facts(text) {
            return Ok(facts);
        }
        let facts = if text.len() <= PARSED_HERE_BYTES_MAX {
            Arc::new(self.memory.parse_here(text)?)
        } else {
            Arc::new(self.world.parse_elsewhere(text, self.queue_key).await?)
        };
        self.memory.remember_facts(text, &facts);
        Ok(facts)
    }

    fn decide(
        &self,
        facts: Arc<TextFacts>,
        types: &[u32],
        names: &Names,
        batch: Batch,
        status: Option<TransactionStatus>,
    ) -> Verdict {
        let digest = facts.digest;
        let mut work = Work::new(self, &digest, types, names, batch, status);
        let mut verdict: Option<policy::Judgement> = None;
        for statement in &facts.statements {
            match work.statement(statement) {
                Ok(judgement) => {
                    verdict = Some(match verdict {
                        None => judgement,
                        Some(earlier) => earlier.and(judgement),
                    });
                }
                Err(Stop::Wait) => return Verdict::Wait,
                Err(Stop::Refuse(refusal)) => return Verdict::Refuse(refusal, None),
            }
        }
        let refusal = verdict.as_ref().and_then(refusal_of);
        let rule = match &refusal {
            Some(refusal) => refusal.rule.clone(),
            None => verdict.as_ref().map_or_else(|| "no statement".to_owned(), summary::rules),
        };
        let decision = Arc::new(work.conclude(facts, rule));
        match refusal {
            Some(refusal) => Verdict::Refuse(refusal, Some(decision)),
            None => Verdict::Allow(decision),
        }
    }
}

/// Why the work on a text ends early.
enum Stop {
    Wait,
    Refuse(Refusal),
}

/// One text under judgement.
struct Work<'w> {
    judge: &'w Judge,
    digest: &'w [u8; 32],
    types: &'w [u32],
    names: &'w Names,
    batch: Batch,
    in_transaction: bool,
    /// A statement before this one may have moved what names mean.
    code_before: bool,
    /// A statement before this one may have changed the catalog.
    ddl_before: bool,
    summary: Vec<v1::Facts>,
    proven: bool,
    fence: Fence,
    copies_in: usize,
    copies_out: bool,
    changes_catalog: bool,
    makes_temporary: bool,
    uses_names: bool,
}

impl<'w> Work<'w> {
    fn new(
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
            // Where frames are in flight it is not known: a condition that asks counts it as open.
            in_transaction: status != Some(TransactionStatus::Idle),
            code_before: false,
            ddl_before: false,
            summary: Vec::new(),
            proven: true,
            fence: Fence::None,
            copies_in: 0,
            copies_out: false,
            changes_catalog: false,
            makes_temporary: false,
            uses_names: false,
        }
    }

    fn statement(&mut self, statement: &StatementFacts) -> Result<policy::Judgement, Stop> {
        let carried = self.carried(statement)?;
        self.check_order(statement)?;
        let ground = &self.judge.ground;
        let view = SessionView {
            temp_possible: self.judge.temp_possible,
            private_catalog: self.judge.private_ddl.is_some() || self.ddl_before,
            held_cursor: self.judge.held_cursor,
            parameter_types: self.types,
        };
        let mut judgement: Option<policy::Judgement> = None;
        match &carried {
            None => {
                let resolution = resolve(statement, &ground.snapshot, &ground.path, &view);
                judgement = Some(self.judged(statement, &resolution));
            }
            Some(prepared) => {
                for inner in &prepared.decision.facts.statements {
                    let resolution =
                        resolve_carrying(statement, inner, &ground.snapshot, &ground.path, &view);
                    let both = self.judged(statement, &resolution).and(self.judged(inner, &resolution));
                    judgement = Some(match judgement {
                        None => both,
                        Some(earlier) => earlier.and(both),
                    });
                }
                self.proven = false;
            }
        }
        self.uses_names |= statement.named.is_some();
        self.copies_in += usize::from(statement.copy == Some(CopyUse::In));
        self.copies_out |= statement.copy == Some(CopyUse::Out);
        // A prepared text that holds no statement runs nothing.
        judgement.ok_or_else(|| Stop::Refuse(empty_prepared()))
    }

    /// What EXECUTE and FETCH bring in.
    fn carried(&self, statement: &StatementFacts) -> Result<Option<Arc<Prepared>>, Stop> {
        match &statement.named {
            Some(NamedUse::Execute(name)) => match self.names.statement(name.as_bytes(), self.batch) {
                Lookup::Known(prepared) => Ok(Some(prepared)),
                Lookup::Pending => Err(Stop::Wait),
                Lookup::Absent => Err(Stop::Refuse(unknown("26000", "prepared statement", name))),
            },
            Some(NamedUse::Fetch(name)) => match self.names.portal(name.as_bytes(), self.batch) {
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

    /// Behind a statement that runs code, in the same text, a bare name may mean another object.
    fn check_order(&self, statement: &StatementFacts) -> Result<(), Stop> {
        let bare = statement.relations.iter().any(|relation| relation.name.schema.is_none())
            || matches!(&statement.named, Some(NamedUse::Execute(_)));
        if self.code_before && bare {
            return Err(Stop::Refuse(Refusal::built_in(
                denial::REFUSED,
                "built-in: order",
                "pgturnstile refused a text in which a statement with unqualified names stands behind one that runs \
                 code of the database's users: that code may change what the names mean. Next: send them as separate \
                 queries, or qualify the names with their schemas",
            )));
        }
        Ok(())
    }

    fn judged(&mut self, statement: &StatementFacts, resolution: &Resolution) -> policy::Judgement {
        let ground = &self.judge.ground;
        let context =
            policy::Context { in_transaction: self.in_transaction, text_digest: self.digest, now_s: now_s() };
        let judgement = ground.policy.judge(&ground.subject, statement, resolution, &context);
        self.consequences(statement, resolution);
        self.summary.push(summary::facts(statement, resolution));
        judgement
    }

    fn consequences(&mut self, statement: &StatementFacts, resolution: &Resolution) {
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
        let opaque = statement.flags.dynamic
            || matches!(resolution.code, Code::Named(_)) && !statement.flags.sets_setting;
        self.changes_catalog |= ddl || opaque;
        self.ddl_before |= ddl || opaque;
        let temporary = statement.class == Class::DdlTemp
            || statement.acts.iter().any(|act| act.class == Class::DdlTemp)
            || statement.relations.iter().any(|relation| relation.class == Class::DdlTemp);
        // What an event trigger, a function or a block does is not in the text.
        let hidden = !resolution.functions.is_empty()
            || statement.flags.dynamic
            || ddl && self.judge.ground.snapshot.event_trigger().is_some();
        self.makes_temporary |= temporary || hidden;
        // DDL alone moves no names but its own, which need permits in every schema of the path either way.
        let moves_names = statement.flags.dynamic
            || !resolution.functions.is_empty()
            || matches!(resolution.code, Code::ThroughRelations(_))
            || statement.class == Class::CallProcedure;
        self.code_before |= moves_names;
        if let Some(control) = statement.transaction {
            self.in_transaction = matches!(control, TransactionControl::Begin { .. });
        }
    }

    fn conclude(self, facts: Arc<TextFacts>, rule: String) -> Decision {
        let ground = &self.judge.ground;
        Decision {
            facts,
            summary: self.summary,
            rule,
            policy_hash: ground.policy.hash(),
            epoch: ground.snapshot.epoch,
            ground: ground.number,
            types: self.types.to_vec(),
            proven: self.proven,
            fence: self.fence,
            copies_in: self.copies_in,
            copies_out: self.copies_out,
            changes_catalog: self.changes_catalog,
            makes_temporary: self.makes_temporary,
            uses_names: self.uses_names,
        }
    }
}

fn changes_names(named: &NamedUse) -> bool {
    match named {
        NamedUse::Prepare(_)
        | NamedUse::Deallocate(_)
        | NamedUse::Declare(_)
        | NamedUse::Close(_)
        | NamedUse::DiscardAll => true,
        NamedUse::Execute(_) | NamedUse::Fetch(_) => false,
    }
}

fn refusal_of(judgement: &policy::Judgement) -> Option<Refusal> {
    match judgement.action {
        Action::Allow => None,
        Action::Hold | Action::Refuse => Some(Refusal {
            sqlstate: denial::REFUSED,
            message: judgement.message.clone(),
            safe: judgement.message.clone(),
            rule: judgement.rule.as_ref().map_or_else(|| "no permit".to_owned(), summary::named),
        }),
    }
}

fn now_s() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
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

fn empty_prepared() -> Refusal {
    Refusal::built_in(
        denial::REFUSED,
        "built-in: empty-prepared",
        "pgturnstile refused to execute a prepared statement that holds no statement. Next: prepare one",
    )
}

fn too_long(bytes: usize, limit: usize) -> Refusal {
    Refusal::built_in(
        "54000",
        "built-in: statement-length",
        format!(
            "pgturnstile refused a text of {bytes} bytes: at most {limit} are parsed (statement_bytes_max). Next: send it \
             in parts, use COPY for data, or have the limit raised for this target"
        ),
    )
}

fn not_utf8() -> Refusal {
    Refusal::built_in(
        "22021",
        "built-in: encoding",
        "pgturnstile refused a text that is not UTF-8: the session's client_encoding is UTF8 and stays so. Next: encode \
         statements as UTF-8",
    )
}

fn unparsable(reason: &Unparsable) -> Refusal {
    Refusal {
        sqlstate: reason.sqlstate(),
        message: format!("pgturnstile refused a text that it cannot read: {reason}"),
        safe: format!("pgturnstile refused a text that it cannot read: {}", reason.reason()),
        rule: format!("built-in: unparsable ({})", reason.reason()),
    }
}

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

use pgturnstile_proto::backend::TransactionStatus;
use pgturnstile_rules::mask::detect::Detectors;
use pgturnstile_rules::policy::made::Made;
use pgturnstile_rules::policy::{self, Action};
use pgturnstile_rules::statement::Unparsable;
use pgturnstile_rules::statement::facts::{NameUse, NamedUse, StatementFacts, TextFacts};

use super::by_sql::Told;
pub use super::decision::{Decision, Fence};
use super::decisions::ShardMemory;
use super::denial::{self, Refusal};
use super::drift::is_to_be_followed;
use super::encoding::{may_read_otherwise, reads_otherwise};
use super::end::End;
use super::masking::Described;
use super::names::{Batch, Names, Portal, Prepared};
use super::refuse::{not_utf8, too_long, unparsable};
use super::summary;
use super::work::{Stop, Work};
use super::world::{Ground, NoGround, World};

/// Texts up to this long are parsed on the shard; longer ones in the pool, where they stall nobody else.
pub const PARSED_HERE_BYTES_MAX: usize = 4_096;

/// Tables of one transaction's own that are remembered; behind further ones the barrier is full.
const OWN_TABLES_MAX: usize = 1_000;

/// What became of a text.
#[derive(Debug)]
pub enum Verdict {
    /// It passes.
    Allow(Arc<Decision>),
    /// It passes when people have approved it: what they have to is [`Decision::required`].
    Hold(Arc<Decision>),
    /// It does not; with what is known of it.
    Refuse(Refusal, Option<Arc<Decision>>),
    /// A name that it uses is not settled: ask again when the server has answered.
    Wait,
}

impl Verdict {
    fn of(decision: Arc<Decision>) -> Self {
        if decision.required.is_some() { Verdict::Hold(decision) } else { Verdict::Allow(decision) }
    }
}

/// See the module.
pub struct Judge {
    world: Arc<World>,
    memory: Arc<ShardMemory>,
    pub(super) ground: Arc<Ground>,
    /// Names the principal for the fairness of the parser's queue.
    queue_key: u64,
    statement_bytes_max: usize,
    /// DDL of this session that the snapshot does not know yet: the reading of the catalog that will. The largest
    /// number while its transaction is open.
    pub(super) private_ddl: Option<u64>,
    /// Some of that DDL may have brought code to a relation.
    pub(super) private_code: bool,
    /// Some of it is what other sessions are to follow before their next statement.
    pub(super) defines: bool,
    /// The definitions of all sessions that the ground has seen, by their look.
    pub(super) followed: u64,
    /// What it made or altered.
    pub(super) made: Made,
    /// Tables that the open transaction has made, behind which no code stands.
    pub(super) own_tables: Vec<NameUse>,
    pub(super) temp_possible: bool,
    /// Names of its temporary relations, by the server's word; `None` where some are not told.
    pub(super) temp_names: Option<Vec<Arc<str>>>,
    /// Code may stand behind its temporary objects: they were not all made by plain definitions of its own.
    pub(super) temp_code: bool,
    /// A type of its temporary schema may bear the name of one of the server's own: one does by the server's word, or did when
    /// this transaction began and may come back with its end; or it has not been asked since something was made there.
    pub(super) temp_types: bool,
    /// By the server's word.
    temp_types_told: bool,
    /// Code ran since the server was asked for them.
    pub(super) ran_code: bool,
    /// Code ran that may have made a temporary schema, and the server has not been asked yet.
    pub(super) temp_unread: bool,
    /// A cursor was declared in this transaction: COMMIT may run the rest of it.
    pub(super) held_cursor: bool,
    /// The server's encoding, where it is not UTF-8.
    other_encoding: Option<Box<str>>,
    /// Epoch of the catalog when the guarded settings were read last.
    read_under: u64,
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
        let read_under = ground.snapshot.epoch;
        Self {
            world,
            memory,
            ground,
            queue_key,
            statement_bytes_max,
            private_ddl: None,
            private_code: false,
            defines: false,
            followed: 0,
            made: Made::default(),
            own_tables: Vec::new(),
            temp_possible: false,
            temp_names: None,
            temp_code: false,
            temp_types: false,
            temp_types_told: false,
            ran_code: false,
            temp_unread: false,
            held_cursor: false,
            other_encoding: None,
            read_under,
        }
    }

    /// The server says its encoding, at login.
    #[must_use]
    pub fn at_encoding(mut self, encoding: Option<&str>) -> Self {
        let other = encoding.unwrap_or("unknown");
        self.other_encoding = (other != "UTF8").then(|| other.into());
        self
    }

    /// Judges a text as it stands in a Query or Parse; `in_batch` for Parse, behind which more may follow before Sync.
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
        in_batch: bool,
    ) -> Result<Verdict, End> {
        self.definitions_first().await;
        if let Some(refusal) = self.renew()? {
            return Ok(Verdict::Refuse(refusal, None));
        }
        let cacheable = self.private_ddl.is_none()
            && !self.ground.moves_by_itself
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
        if let Some(encoding) = self.other_encoding.as_deref().filter(|_| may_read_otherwise(&facts.lifted)) {
            return Ok(Verdict::Refuse(reads_otherwise(encoding), None));
        }
        let exact = self.ground.holds.then(|| Arc::from(text));
        let mut verdict = self.decide(Arc::clone(&facts), exact.as_ref(), types, names, batch, status);
        if in_batch && self.own_ddl_fences(&verdict) && self.own_ddl_was_read().await {
            if let Some(refusal) = self.renew()? {
                return Ok(Verdict::Refuse(refusal, None));
            }
            verdict = self.decide(facts, exact.as_ref(), types, names, batch, status);
        }
        if let Verdict::Allow(decision) = &verdict
            && cacheable
            && !decision.uses_names
        {
            self.memory.remember(&self.ground, text.as_bytes(), decision);
        }
        Ok(verdict)
    }

    /// Whether the statement is a full barrier perhaps only because the catalog of this session's own, finished DDL is
    /// being read at this moment.
    fn own_ddl_fences(&self, verdict: &Verdict) -> bool {
        let Verdict::Allow(decision) = verdict else { return false };
        decision.fence == Fence::Full && self.private_ddl.is_some_and(|look| look != u64::MAX)
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
        self.definitions_first().await;
        if let Some(refusal) = self.renew()? {
            return Ok(Verdict::Refuse(refusal, None));
        }
        let stands = decision.ground == self.ground.number
            && self.private_ddl.is_none()
            && !decision.uses_names
            && !self.ground.moves_by_itself
            && !self.temp_possible
            && !self.held_cursor;
        if stands {
            return Ok(Verdict::of(Arc::clone(decision)));
        }
        let exact = decision.exact.as_ref();
        Ok(self.decide(Arc::clone(&decision.facts), exact, &decision.types, names, batch, status))
    }

    /// What it stands on.
    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// What looks at everything that leaves for the client.
    pub(super) fn detectors(&self) -> Detectors {
        *self.ground.subject.detectors()
    }

    /// A statement that may have changed the schema goes to the server, or was completed there.
    fn may_have_changed_the_catalog(&mut self, decision: &Decision) {
        self.private_ddl = Some(u64::MAX);
        decision.facts.statements.iter().for_each(|statement| self.made.note(statement));
        self.made.more |= decision.made_by_code;
        self.private_code |= decision.brings_code;
        self.defines |= is_to_be_followed(decision, !self.ground.labelled.is_empty());
        self.temp_possible |= decision.makes_temporary;
        if decision.makes_temporary {
            self.temp_names = None;
        }
        self.temp_types |= decision.makes_temporary;
        self.temp_code |= self.temp_possible && decision.brings_code;
    }

    /// It was completed: a table that it made is there, and is this transaction's own.
    pub fn catalog_changed(&mut self, decision: &Decision) {
        self.may_have_changed_the_catalog(decision);
        if let Some(table) = &decision.makes_table
            && !decision.unsettles_tables
            && !self.private_code
            && self.own_tables.len() < OWN_TABLES_MAX
        {
            self.own_tables.push(table.clone());
        }
    }

    /// A text goes to the server, and runs there, or is analysed with code that runs. What it changes counts from here on, also
    /// where it never comes to its end: a portal that is suspended, a procedure that commits and then fails.
    pub(super) fn runs(&mut self, decision: &Decision) {
        if decision.changes_catalog {
            self.may_have_changed_the_catalog(decision);
        }
        // Names of SQL are seen when they are made, so that it is known when another stands there.
        self.temp_unread |= decision.may_make_temporary || decision.runs_code || decision.makes_names();
        self.ran_code |= decision.runs_code;
        if decision.unsettles_tables {
            self.own_tables.clear();
        }
    }

    /// The catalog has changed since the guarded settings were read: a statement that was judged by the old one may have met
    /// code that another session brought, and waited for it.
    pub(super) fn catalog_moved(&self) -> bool {
        self.world.epoch().is_some_and(|epoch| epoch != self.read_under)
    }

    /// The guarded settings are being read.
    pub(super) fn reads_guards(&mut self) {
        self.read_under = self.world.epoch().unwrap_or(self.read_under);
    }

    /// The server said which temporary schema the session has, `0` for none, and whether a type there bears the name of one of its
    /// own; `idle`: no transaction is open, whose end could bring one back that was dropped.
    pub(super) fn temporary_schema(&mut self, told: &Told, idle: bool) {
        self.temp_unread = false;
        let before = self.temp_names.take().filter(|_| self.temp_possible);
        self.temp_names = match (&told.relations, before) {
            (Some(names), _) if idle || !self.temp_possible => Some(names.clone()),
            (Some(names), Some(before)) => Some(before.into_iter().chain(names.iter().cloned()).collect()),
            (Some(_) | None, _) => None,
        };
        self.temp_possible = told.temporary != 0;
        self.temp_types_told = told.types || self.temp_types_told && !idle;
        self.temp_types = self.temp_types_told;
        self.temp_code = self.temp_possible && (self.temp_code || self.ran_code);
        self.ran_code = false;
    }

    /// No transaction is open any more: what this session changed is visible to the next snapshot; but not what is still on
    /// its way (`quiet`: nothing is).
    pub fn transaction_ended(&mut self, quiet: bool) {
        self.held_cursor = false;
        self.own_tables.clear();
        if self.private_ddl == Some(u64::MAX) && quiet {
            let look = self.world.look();
            if std::mem::take(&mut self.defines) {
                self.world.define(look);
            }
            self.private_ddl = Some(look);
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
                let prepared = self.carried(facts, record, decision, index, names);
                names.put_statement(name.as_bytes(), Arc::new(prepared));
            }
            Some(NamedUse::Deallocate(Some(name))) => names.drop_statement(name.as_bytes()),
            Some(NamedUse::Deallocate(None)) => names.forget_statements(),
            Some(NamedUse::Declare(name)) => {
                self.held_cursor |= !decision.proven;
                let facts = TextFacts {
                    statements: vec![StatementFacts { named: None, ..statement.clone() }],
                    ..TextFacts::clone(&decision.facts)
                };
                let statement = Arc::new(self.carried(facts, record, decision, index, names));
                let described = Described::default();
                let held =
                    decision.facts.statements.get(index).is_some_and(|declare| declare.flags.holds_cursor);
                let portal = Portal {
                    name: Box::default(),
                    statement,
                    record,
                    described,
                    cursor: None,
                    batch: None,
                    held,
                    by_name: None,
                };
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

    /// A decision that EXECUTE or FETCH carries in, out of statement `index` of `of`: judged anew at each use, never by itself.
    fn carried(&self, facts: TextFacts, record: u64, of: &Decision, index: usize, names: &Names) -> Prepared {
        let decision = Decision {
            summary: Vec::new(),
            held: Arc::clone(&of.held),
            detectors: of.detectors,
            rule: String::new(),
            policy_hash: self.ground.policy.hash(),
            epoch: self.ground.snapshot.epoch,
            // No ground has this number: `again` decides it at every Bind.
            ground: 0,
            types: Vec::new(),
            proven: false,
            fence: Fence::Full,
            repeatable: false,
            runs_at_analysis: true,
            runs_code: true,
            copies_in: 0,
            copies_out: false,
            changes_catalog: false,
            makes_temporary: false,
            may_make_temporary: false,
            brings_code: false,
            made_by_code: false,
            makes_table: None,
            unsettles_tables: true,
            uses_names: true,
            facts: Arc::new(facts),
            fields: Box::new([of.fields(index).cloned()]),
            labelled: Arc::clone(&of.labelled),
            stamps: None,
            reaches_labels: of.reaches_labels,
            shows_in_clear: of.shows_in_clear,
            // What it needs is said where it is used.
            required: None,
            exact: of.exact.clone(),
        };
        names.prepared(Arc::new(decision), record)
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
            self.private_code = false;
            self.made.clear();
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
        exact: Option<&Arc<str>>,
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
        let held = verdict.filter(|judgement| judgement.action == Action::Hold);
        let decision = Arc::new(work.conclude(facts, rule, held, exact));
        match refusal {
            Some(refusal) => Verdict::Refuse(refusal, Some(decision)),
            None => Verdict::of(decision),
        }
    }
}

fn refusal_of(judgement: &policy::Judgement) -> Option<Refusal> {
    match judgement.action {
        Action::Allow | Action::Hold => None,
        Action::Refuse => Some(Refusal {
            sqlstate: denial::REFUSED,
            message: judgement.message.clone(),
            safe: judgement.message.clone(),
            rule: judgement.rule.as_ref().map_or_else(|| "no permit".to_owned(), summary::named),
        }),
    }
}

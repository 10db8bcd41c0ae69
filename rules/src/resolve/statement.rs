//! One statement: what its class alone says, then everything it names.

use std::sync::Arc;

use super::calls::Reached;
use super::listed::Listed;
use super::own::fills_own_table;
use super::{Code, Reach, Resolution, ResolvedFunction, ResolvedRelation, SearchPath, SessionView};
use crate::catalog::{Snapshot, builtins};
use crate::class::Class;
use crate::statement::facts::{
    FunctionUse, NameUse, NamedUse, SettingAction, StatementFacts, TransactionControl,
};

/// What is being found out about one statement.
pub(super) struct Resolver<'r> {
    pub(super) facts: &'r StatementFacts,
    pub(super) snapshot: &'r Snapshot,
    pub(super) path: &'r SearchPath,
    pub(super) session: &'r SessionView<'r>,
    /// It only fills a table that this transaction has made.
    pub(super) fills_own: bool,
    pub(super) reached: Reached,
    pub(super) relations: Listed<ResolvedRelation>,
    pub(super) functions: Listed<ResolvedFunction>,
    code: Code,
    runs_code: bool,
    unproven: Option<Arc<str>>,
}

pub(super) fn resolve(
    facts: &StatementFacts,
    carried: Option<&StatementFacts>,
    snapshot: &Snapshot,
    path: &SearchPath,
    session: &SessionView<'_>,
) -> Resolution {
    let mut resolver = Resolver {
        facts,
        snapshot,
        path,
        session,
        fills_own: fills_own_table(facts, snapshot, session),
        reached: Reached::default(),
        relations: Listed::default(),
        functions: Listed::default(),
        code: Code::Free,
        runs_code: false,
        unproven: None,
    };
    resolver.by_class(carried.is_some());
    resolver.by_transaction();
    resolver.by_flags();
    for relation in &facts.relations {
        resolver.relation(relation);
    }
    resolver.row_types();
    resolver.by_names();
    resolver.by_effects(carried.is_some());
    let types_of_session = facts.types.iter().any(|name| resolver.may_be_of_session(name));
    let own = Resolution {
        relations: resolver.relations.into_list(),
        functions: resolver.functions.into_list(),
        code: resolver.code,
        runs_code: resolver.runs_code,
        runs_at_analysis: resolver.reached.runs_code(snapshot),
        types_run_code: resolver.reached.known_to_run_code(snapshot)
            || resolver.reached.is_unknown()
                && (session.private_code || session.temp_code)
                && types_of_session,
        unproven: resolver.unproven,
        epoch: snapshot.epoch,
    };
    // What PREPARE holds is analysed at once, and what a name stands for runs now.
    let inner = facts.prepared.as_deref().into_iter().chain(carried);
    inner.fold(own, |merged, inner| merged.merge(resolve(inner, None, snapshot, path, session)))
}

impl Resolver<'_> {
    pub(super) fn unproven(&mut self, reason: impl Into<Arc<str>>) {
        self.unproven.get_or_insert_with(|| reason.into());
    }

    fn raise(&mut self, code: Code) {
        if let Some(reason) = code.reason() {
            self.unproven(reason.clone());
        }
        let before = std::mem::replace(&mut self.code, Code::Free);
        self.code = before.or_stricter(code);
    }

    /// User code can run, through a relation.
    pub(super) fn through(&mut self, reason: impl Into<Arc<str>>) {
        self.raise(Code::ThroughRelations(reason.into()));
        self.runs_code |= !only_names(self.facts);
    }

    /// As [`Self::through`], where what is reached is not known yet and, by how it was made, runs no code.
    pub(super) fn reaches(&mut self, reason: impl Into<Arc<str>>) {
        self.raise(Code::ThroughRelations(reason.into()));
    }

    /// User code can run, as the text says.
    pub(super) fn named(&mut self, reason: impl Into<Arc<str>>) {
        self.raise(Code::Named(reason.into()));
        self.runs_code |= !only_names(self.facts);
    }

    /// User code can run even where the statement only names what it defines or drops.
    pub(super) fn runs(&mut self, reason: impl Into<Arc<str>>) {
        self.named(reason);
        self.runs_code = true;
    }

    /// A barrier, though no code runs with the statement itself: it defines some, sets a setting, or the session's own
    /// definitions, which it was permitted to make, are in no snapshot yet.
    pub(super) fn bars(&mut self, reason: impl Into<Arc<str>>) {
        self.raise(Code::Named(reason.into()));
    }

    /// The classes of the statement and of everything it does beside.
    fn by_class(&mut self, carried: bool) {
        let facts = self.facts;
        let acts = facts.acts.iter().map(|act| act.class);
        let relations = facts.relations.iter().map(|relation| relation.class);
        if facts.tag == "ALTER DOMAIN" {
            self.runs("it may check the values of a domain");
        }
        for class in std::iter::once(facts.class).chain(acts).chain(relations) {
            let Some(reason) = code_of_class(class) else { continue };
            match self.snapshot.event_trigger() {
                Some(trigger) => self.runs(format!("{reason}, and there is {trigger}")),
                None if only_defines(class) => self.bars(reason),
                None => self.named(reason),
            }
        }
        if carried {
            return;
        }
        match &self.facts.named {
            Some(NamedUse::Execute(name)) => {
                self.named(format!("it runs the prepared statement {name}, which was not brought in"));
            }
            Some(NamedUse::Fetch(name)) => {
                self.named(format!("it reads the cursor {name}, whose statement was not brought in"));
            }
            Some(
                NamedUse::Prepare(_)
                | NamedUse::Deallocate(_)
                | NamedUse::Declare(_)
                | NamedUse::Close(_)
                | NamedUse::DiscardAll,
            )
            | None => {}
        }
    }

    /// Whether it is a SELECT of constants and of the server's own functions without arguments (`SELECT pg_advisory_unlock_all(); CLOSE
    /// ALL; UNLISTEN *; RESET ALL`, as pools send it), or one of the session's own: no catalog shows anything else behind it, since such a function hides any other of its name where `pg_catalog`
    /// is searched first.
    fn names_built_ins_alone(&self) -> bool {
        let facts = self.facts;
        let own = |used: &FunctionUse| {
            let NameUse { catalog, schema, name } = &used.name;
            let schema_is_own = schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
            catalog.is_none()
                && schema_is_own
                && used.arguments == Some(0)
                && builtins::functions("pg_catalog", name).iter().any(|of| of.takes(Some(0)))
        };
        // What pools send beside it names nothing that a catalog could show.
        let of_session = matches!(
            facts.tag,
            "CLOSE CURSOR"
                | "CLOSE CURSOR ALL"
                | "DEALLOCATE"
                | "DEALLOCATE ALL"
                | "RESET"
                | "SHOW"
                | "UNLISTEN"
        );
        (of_session || facts.class == Class::ReadSelect && facts.named.is_none())
            && facts.relations.is_empty()
            && facts.operators.is_empty()
            && facts.types.is_empty()
            && facts.attributes.is_empty()
            && facts.newer.is_empty()
            // A parameter may be of a type of users, whose input runs code.
            && facts.parameters == 0
            && facts.functions.iter().all(own)
            && self.path.schemas().skip(1).all(|schema| &**schema != "pg_catalog")
    }

    fn by_transaction(&mut self) {
        let ends = match self.facts.transaction {
            Some(TransactionControl::Commit | TransactionControl::TwoPhase) => true,
            // A savepoint's end and a change of mode run nothing.
            Some(
                TransactionControl::Begin { .. }
                | TransactionControl::Rollback
                | TransactionControl::Savepoint
                | TransactionControl::Mode { .. },
            ) => false,
            // SET CONSTRAINTS … IMMEDIATE fires what was deferred.
            None => self.facts.class == Class::SessionTransaction,
        };
        if !ends {
            let private = self.session.private_catalog && self.facts.transaction.is_none();
            if private && !self.names_built_ins_alone() {
                let reason = "the session may see a catalog that the snapshot does not show yet";
                if self.session.private_code && touches_rows(self.facts) {
                    self.runs(reason);
                } else if self.fills_own {
                    self.reaches(reason);
                } else {
                    self.bars(reason);
                }
            }
            return;
        }
        if let Some(reason) = self.snapshot.at_commit() {
            self.through(format!("what was deferred runs now: {reason}"));
        }
        if self.session.private_catalog || self.session.temp_possible {
            let reason =
                "the session may have made deferred triggers that the catalog snapshot does not show";
            if self.session.private_code || self.session.temp_code {
                self.through(reason);
            } else {
                self.reaches(reason);
            }
        }
        if self.session.held_cursor {
            self.through(
                "a WITH HOLD cursor is open, and the end of the transaction runs the rest of its statement",
            );
        }
    }

    fn by_flags(&mut self) {
        let flags = self.facts.flags;
        let sets = self.facts.settings.iter().any(|setting| match setting.action {
            SettingAction::Set | SettingAction::Reset | SettingAction::Persist => true,
            SettingAction::Show => false,
        });
        if flags.sets_setting || sets {
            self.bars("it sets a setting");
        }
        if flags.dynamic {
            self.runs("it runs SQL that no text names");
        }
        if self.facts.transaction.is_none()
            && let Some(reason) = self.snapshot.everywhere()
        {
            self.through(reason.clone());
        }
    }

    /// Types first, since they decide which functions and operators compete; then rounds until no call reaches further.
    fn by_names(&mut self) {
        let facts = self.facts;
        self.parameters();
        for name in &facts.types {
            self.type_named(name);
        }
        loop {
            let before = self.reached.size();
            for function in &facts.functions {
                self.call(function);
            }
            for (name, since) in &facts.newer {
                if self.snapshot.server_version_num() < *since {
                    self.called_there(name);
                }
            }
            for operator in &facts.operators {
                self.operator(operator);
            }
            for attribute in &facts.attributes {
                self.attribute(attribute);
            }
            if self.reached.size() == before {
                return;
            }
        }
    }

    /// Syntax that the server's own grammar does not have: a call of that name there, or a column, which no list knows.
    fn called_there(&mut self, name: &'static str) {
        if name == "system_user" {
            return self.unknown_function("pg_catalog", name);
        }
        let name = NameUse { catalog: None, schema: None, name: name.to_owned() };
        let nothing_known =
            FunctionUse { name, arguments: None, constants: Vec::new(), implied: false, offset: None };
        self.call(&nothing_known);
    }

    /// What keeps a code-free statement from being proven.
    fn by_effects(&mut self, carried: bool) {
        let facts = self.facts;
        let select = |class: Class| {
            class == Class::ReadSelect || carried && matches!(class, Class::ReadFetch | Class::SessionPrepare)
        };
        if !select(facts.class) {
            return self.unproven(format!("it is {}, no plain SELECT", facts.tag));
        }
        if let Some(act) = facts.acts.iter().find(|act| !select(act.class)) {
            return self.unproven(format!("{}: {}", act.class, act.why));
        }
        if let Some(used) = facts.relations.iter().find(|used| !select(used.class)) {
            return self.unproven(format!("{} on {}", used.class, used.name.name));
        }
        let flags = facts.flags;
        if flags.effects
            || flags.locks
            || flags.server_files
            || flags.outside_transaction
            || facts.copy.is_some()
        {
            return self.unproven("it has effects beyond its result");
        }
        let reason = self.relations.iter().find_map(|relation| match relation.reach {
            Reach::Table | Reach::Sequence | Reach::Catalog | Reach::DataBearingCatalog => None,
            Reach::View
            | Reach::MaterializedView
            | Reach::Foreign
            | Reach::Temporary
            | Reach::New
            | Reach::Unresolved => Some(format!("{}.{} is no plain table", relation.schema, relation.name)),
        });
        if let Some(reason) = reason {
            self.unproven(reason);
        }
    }
}

/// Whether what a statement names is defined, dropped or described by it, and not called: it is analysed at most, which runs
/// nothing but the input functions of types on constants.
fn only_names(facts: &StatementFacts) -> bool {
    matches!(facts.class, Class::DdlDrop | Class::DdlComment | Class::DclGrant | Class::DclRole)
        || matches!(
            facts.tag,
            "CREATE TRIGGER"
                | "CREATE FUNCTION"
                | "CREATE PROCEDURE"
                | "CREATE VIEW"
                | "CREATE RULE"
                | "CREATE POLICY"
        )
}

/// Whether a statement does more than define: CREATE TABLE … AS does.
fn touches_rows(facts: &StatementFacts) -> bool {
    let uses = facts.relations.iter().map(|used| used.class);
    !only_names(facts) && std::iter::once(facts.class).chain(uses).any(|class| !only_defines(class))
}

/// Whether a class of [`code_of_class`] defines what others run, and runs nothing itself that could move a setting or a
/// name: maintenance does, yet in an operation that the server puts back what was set in (`AtEOXact_GUC` behind
/// `SetUserIdAndSecContext`).
fn only_defines(class: Class) -> bool {
    class == Class::AdminDatabase
        || ["ddl", "dcl", "maintenance"].into_iter().any(|family| class.covered_by(family))
}

/// Why a statement of that class runs, or may run, code of users as its text says; `None` where its names decide.
fn code_of_class(class: Class) -> Option<&'static str> {
    match class {
        Class::DdlCreate | Class::DdlAlter | Class::DdlDrop | Class::DdlTemp | Class::DdlComment => {
            Some("it changes definitions")
        }
        Class::DdlIndex | Class::DdlCode => Some("it changes definitions that hold code"),
        Class::DclGrant | Class::DclRole | Class::DclPolicy | Class::DclLabel => Some("it changes rights"),
        Class::SessionSet => None, // SHOW is of this class too; what sets is told by the flags
        Class::CallProcedure => Some("it calls a procedure"),
        Class::CallDo => Some("it runs a block of code"),
        Class::MaintenanceVacuum
        | Class::MaintenanceAnalyze
        | Class::MaintenanceReindex
        | Class::MaintenanceCluster
        | Class::MaintenanceRefresh => Some("maintenance runs the expressions of indexes and views"),
        Class::AdminSystem
        | Class::AdminDatabase
        | Class::AdminExtension
        | Class::AdminSubscription
        | Class::AdminServer => Some("it administers the server"),
        Class::ExportReplication => Some("it belongs to replication"),
        Class::Unknown => Some("its kind is unknown"),
        Class::ReadSelect
        | Class::ReadFetch
        | Class::ReadExplain
        | Class::ReadExplainAnalyze
        | Class::WriteInsert
        | Class::WriteUpdate
        | Class::WriteDelete
        | Class::WriteMerge
        | Class::WriteTruncate
        | Class::SessionTransaction
        | Class::SessionTwoPhase
        | Class::SessionPrepare
        | Class::SessionCursor
        | Class::SessionListen
        | Class::SessionNotify
        | Class::SessionLock
        | Class::ExportCopyOut
        | Class::ExportBulk
        | Class::ExportLargeObject
        | Class::ImportCopyIn
        | Class::CallFunction
        | Class::MaintenanceCheckpoint => None,
    }
}

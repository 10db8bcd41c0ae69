//! A statement as atoms: one (class, object) for every single thing it does, each of which needs a permit.
//!
//! Owns: the way from facts and resolution to atoms (lineage.md 6.1). May not: judge. Fails closed: what the facts name
//! and the resolution lacks becomes an atom on [`Object::Unfixed`], and a statement always has at least one atom, that
//! of its own class.

use std::sync::Arc;

use crate::catalog::Kin;
use crate::class::Class;
use crate::policy::object::{Home, Object, home};
use crate::policy::settings;
use crate::resolve::{Reach, Resolution};
use crate::statement::facts::{Act, Predicate, SettingAction, StatementFacts};

/// One thing that a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atom<'s> {
    /// What it does.
    pub class: Class,
    /// To what.
    pub object: Object<'s>,
    /// Of a relation: those that share its rows, which a restrict on one of them touches, too.
    pub kin: Option<&'s Kin>,
    /// For updates and deletes.
    pub predicate: Predicate,
    /// What in the statement led here, for the reason tree.
    pub why: &'static str,
}

impl<'s> Atom<'s> {
    /// The object, and what shares its rows: a statement on either may read or write rows of the other.
    pub(crate) fn reaches(&self) -> impl Iterator<Item = Object<'s>> {
        let kin = self.kin.into_iter().flat_map(|kin| kin.iter());
        let relation =
            |(schema, name): &'s (Arc<str>, Arc<str>)| Object::Relation { schema, name, reach: Reach::Table };
        std::iter::once(self.object).chain(kin.map(relation))
    }

    fn new(class: Class, object: Object<'s>, why: &'static str) -> Self {
        Self { class, object, kin: None, predicate: Predicate::NotApplicable, why }
    }
}

/// Every atom of a statement, in the order in which reasons are given. `path` is the session's search_path: a type or
/// function in DDL without a schema counts once for every schema of it (README decision 9).
pub fn atoms<'s>(
    statement: &'s StatementFacts,
    resolution: &'s Resolution,
    path: &'s [String],
) -> Vec<Atom<'s>> {
    let mut atoms = Vec::with_capacity(resolution.relations.len() + statement.acts.len() + 2);
    push_relations(&mut atoms, statement, resolution);
    for function in &resolution.functions {
        let object = Object::Function {
            schema: &function.schema,
            name: &function.name,
            arguments: &function.arguments,
        };
        atoms.push(Atom::new(function.class, object, "call"));
    }
    for act in &statement.acts {
        push_act(&mut atoms, act, path);
    }
    push_settings(&mut atoms, statement);
    if statement.flags.cascade {
        atoms.push(Atom::new(statement.class, Object::Unfixed, "CASCADE"));
    }
    if statement.flags.server_files {
        ensure(&mut atoms, Class::AdminSystem, "files or programs of the server");
    }
    if statement.flags.locks {
        ensure(&mut atoms, Class::SessionLock, "locks");
    }
    ensure(&mut atoms, statement.class, statement.tag);
    atoms
}

fn push_relations<'s>(atoms: &mut Vec<Atom<'s>>, statement: &'s StatementFacts, resolution: &'s Resolution) {
    // The facts spread most such classes themselves; doing it again would say everything twice.
    let spread = spreads(statement.class)
        && !resolution.relations.iter().any(|relation| relation.class == statement.class);
    for relation in &resolution.relations {
        let object =
            Object::Relation { schema: &relation.schema, name: &relation.name, reach: relation.reach };
        // An update or delete always says; where it does not, the worse is assumed. `nextval` updates a sequence, which
        // has no rows to choose from.
        let must_say = matches!(relation.class, Class::WriteUpdate | Class::WriteDelete)
            && relation.reach != Reach::Sequence;
        let predicate = if must_say && relation.predicate == Predicate::NotApplicable {
            Predicate::Absent
        } else {
            relation.predicate
        };
        let kin = relation.kin.as_ref();
        atoms.push(Atom { class: relation.class, object, kin, predicate, why: "named" });
        if spread {
            atoms.push(Atom { kin, ..Atom::new(statement.class, object, statement.tag) });
        }
    }
    if resolution.relations.is_empty() {
        for relation in &statement.relations {
            atoms.push(Atom::new(relation.class, Object::Unfixed, "named, but not resolved"));
        }
    }
}

/// Classes of a statement that do something with whatever the statement inside reaches: `COPY (SELECT … FROM crm.x) TO
/// STDOUT` exports crm.x, so that a permit to export from elsewhere must not open it.
fn spreads(class: Class) -> bool {
    matches!(class, Class::ReadExplain | Class::ReadExplainAnalyze | Class::ExportCopyOut)
}

fn push_act<'s>(atoms: &mut Vec<Atom<'s>>, act: &'s Act, path: &'s [String]) {
    let Some(object) = &act.object else {
        atoms.push(Atom::new(act.class, whole_or_unfixed(act.class), act.why));
        return;
    };
    let mut push = |schema| {
        let object = Object::Named { kind: act.kind, schema, name: &object.name };
        atoms.push(Atom::new(act.class, object, act.why));
    };
    match (&object.schema, home(act.kind)) {
        (Some(schema), _) => push(Some(schema.as_str())),
        (None, Home::InSchema) if !path.is_empty() => path.iter().for_each(|schema| push(Some(schema))),
        (None, Home::InSchema | Home::IsSchema | Home::Outside) => push(None),
    }
}

fn push_settings<'s>(atoms: &mut Vec<Atom<'s>>, statement: &'s StatementFacts) {
    for setting in &statement.settings {
        let shown = match setting.action {
            SettingAction::Show => true,
            SettingAction::Set | SettingAction::Reset => false,
            // Judged by its own class (ALTER SYSTEM, ALTER ROLE) and by the rules on settings.
            SettingAction::Persist => continue,
        };
        let object = Object::Setting {
            name: setting.name.as_deref(),
            category: settings::category_of_use(setting),
            shown,
        };
        atoms.push(Atom::new(Class::SessionSet, object, statement.tag));
    }
}

/// One atom of `class` at least.
fn ensure<'s>(atoms: &mut Vec<Atom<'s>>, class: Class, why: &'static str) {
    if !atoms.iter().any(|atom| atom.class == class) {
        atoms.push(Atom::new(class, whole_or_unfixed(class), why));
    }
}

/// What a class acts on where the facts name no object: nothing for reads and session matters (`SELECT 1`, `DISCARD
/// TEMP`); for everything else there is an object, and it is not known.
fn whole_or_unfixed(class: Class) -> Object<'static> {
    match class {
        Class::ReadSelect
        | Class::ReadFetch
        | Class::ReadExplain
        | Class::ReadExplainAnalyze
        | Class::SessionTransaction
        | Class::SessionTwoPhase
        | Class::SessionSet
        | Class::SessionPrepare
        | Class::SessionCursor
        | Class::SessionListen
        | Class::SessionNotify
        // FOR UPDATE and its kin: the relations locked have atoms of their own.
        | Class::SessionLock
        // Without an object: DISCARD TEMP, which reaches this session alone.
        | Class::DdlTemp
        | Class::ExportCopyOut
        | Class::ExportReplication
        | Class::CallDo
        | Class::MaintenanceCheckpoint
        | Class::AdminSystem
        | Class::Unknown => Object::Whole,
        Class::WriteInsert
        | Class::WriteUpdate
        | Class::WriteDelete
        | Class::WriteMerge
        | Class::WriteTruncate
        | Class::DdlCreate
        | Class::DdlAlter
        | Class::DdlDrop
        | Class::DdlComment
        | Class::DdlIndex
        | Class::DdlCode
        | Class::DclGrant
        | Class::DclRole
        | Class::DclPolicy
        | Class::DclLabel
        | Class::ExportBulk
        | Class::ExportLargeObject
        | Class::ImportCopyIn
        | Class::CallFunction
        | Class::CallProcedure
        | Class::MaintenanceVacuum
        | Class::MaintenanceAnalyze
        | Class::MaintenanceReindex
        | Class::MaintenanceCluster
        | Class::MaintenanceRefresh
        | Class::AdminDatabase
        | Class::AdminExtension
        | Class::AdminSubscription
        | Class::AdminServer => Object::Unfixed,
    }
}

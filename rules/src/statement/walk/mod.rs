//! The walker: from the grammar's tree to [`StatementFacts`].
//!
//! Owns: the meaning of every node that carries some (dispositions.txt says which). May not: resolve names, know a
//! policy, parse. Invariant: every field of every node is visited, by hand-written code whose patterns have no `..` or by
//! the generated visitor. Fails closed: what has no meaning here makes the statement [`Class::Unknown`].

mod admin;
mod code;
mod ddl;
mod expression;
mod functions;
mod name;
mod object;
mod predicate;
mod query;
mod session;
mod visit;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use super::closed;
use super::facts::{
    Act, Flags, FunctionUse, NameUse, ObjectKind, OperatorUse, Predicate, RelationUse, SettingAction,
    SettingUse, StatementFacts,
};
use super::generated::{self, Visitor};
use super::outline::{self, Outline};
use crate::class::Class;

/// Facts of every statement of a parsed text, in order; `text_bytes` bounds the last one's range.
pub(super) fn statements(tree: &pb::ParseResult, text_bytes: usize) -> Vec<StatementFacts> {
    let pb::ParseResult { version: _, stmts } = tree;
    stmts.iter().map(|raw| statement(raw, text_bytes)).collect()
}

fn statement(raw: &pb::RawStmt, text_bytes: usize) -> StatementFacts {
    let pb::RawStmt { stmt, stmt_location, stmt_len } = raw;
    let start = usize::try_from(*stmt_location).unwrap_or(0).min(text_bytes);
    // The server writes length 0 for "up to the end of the text".
    let end = match usize::try_from(*stmt_len).unwrap_or(0) {
        0 => text_bytes,
        len => start.saturating_add(len).min(text_bytes),
    };
    let mut facts = Walker::whole(stmt.as_deref());
    facts.range = start..end;
    facts
}

/// Why relations are named where the walker stands: decides which class a read or write gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The statement runs.
    Run,
    /// EXPLAIN: it is planned only.
    Explain,
    /// EXPLAIN ANALYZE: it runs and only its plan is shown.
    ExplainAnalyze,
    /// COPY (query) TO: what it reads leaves by COPY.
    CopyOut,
}

/// Which relations of a FROM clause a FOR UPDATE (or its kin) locks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Locking<'t> {
    None,
    All,
    /// FOR UPDATE OF: the aliases.
    Named(Rc<HashSet<&'t str>>),
}

/// How much was in scope before a WITH clause.
#[derive(Clone, Copy)]
struct Outer {
    names: usize,
    withs: usize,
}

/// A list without repeats that stays quick when a text is made to name thousands of things.
struct Once<T> {
    items: Vec<T>,
    index: HashSet<T>,
}

impl<T: Clone + Eq + Hash> Once<T> {
    /// Up to here a look along the list beats hashing.
    const SCANNED_MAX: usize = 16;

    fn new() -> Self {
        Once { items: Vec::new(), index: HashSet::new() }
    }

    fn contains(&self, item: &T) -> bool {
        if self.items.len() <= Self::SCANNED_MAX {
            self.items.contains(item)
        } else {
            self.index.contains(item)
        }
    }

    fn push(&mut self, item: T) {
        if self.contains(&item) {
            return;
        }
        if self.items.len() >= Self::SCANNED_MAX {
            if self.index.is_empty() {
                self.index.extend(self.items.iter().cloned());
            }
            self.index.insert(item.clone());
        }
        self.items.push(item);
    }
}

pub(super) struct Walker<'t> {
    facts: StatementFacts,
    /// Class of the relations that are met without a context of their own.
    access: Class,
    purpose: Purpose,
    /// Names of the WITH queries in scope, innermost last.
    ctes: Vec<&'t str>,
    /// The WITH clauses in scope, whole.
    withs: Vec<&'t pb::WithClause>,
    /// The names again, counted.
    hidden: HashMap<&'t str, usize>,
    acts: Once<Act>,
    relations: Once<RelationUse>,
    operators: Once<OperatorUse>,
    types: Once<NameUse>,
    attributes: Once<String>,
    /// How many statements stand around the one at hand: only the outermost says what the whole is.
    nested: usize,
    locking: Locking<'t>,
    /// Whether SET inside is stored with an object instead of set for the session.
    persist: bool,
    /// The schema that CREATE SCHEMA's elements come to be in.
    creation_schema: Option<String>,
    highest_parameter: i32,
    /// The setting of whose row of pg_settings the SELECT at hand speaks, and of no other.
    row_setting: Option<&'t str>,
}

impl<'t> Walker<'t> {
    /// Facts of a whole statement: a member of the text, or what PREPARE holds.
    fn whole(node: Option<&'t pb::Node>) -> StatementFacts {
        let kind = node.and_then(|n| n.node.as_ref());
        let (class, tag) = kind.and_then(generated::statement).unwrap_or((Class::Unknown, "UNKNOWN"));
        let mut walker = Walker {
            facts: blank(class, tag),
            access: class,
            purpose: Purpose::Run,
            ctes: Vec::new(),
            withs: Vec::new(),
            hidden: HashMap::new(),
            acts: Once::new(),
            relations: Once::new(),
            operators: Once::new(),
            types: Once::new(),
            attributes: Once::new(),
            nested: 0,
            locking: Locking::None,
            persist: false,
            creation_schema: None,
            highest_parameter: 0,
            row_setting: None,
        };
        match node {
            Some(node) if class != Class::Unknown => walker.node(node),
            Some(_) | None => walker.unknown("a statement of unknown kind"),
        }
        let mut facts = walker.finish();
        let closed = |used: &RelationUse| closed::of_relation(&used.name.name).is_some();
        facts.flags.closed_columns = facts.relations.iter().any(closed) && closed::may_be_read(node);
        facts.outline = outline::build::of(node);
        facts
    }

    fn finish(mut self) -> StatementFacts {
        let facts = &mut self.facts;
        facts.acts = self.acts.items;
        facts.relations = self.relations.items;
        facts.operators = self.operators.items;
        facts.types = self.types.items;
        facts.attributes = self.attributes.items;
        facts.parameters = u16::try_from(self.highest_parameter.max(0)).unwrap_or(u16::MAX);
        let class = facts.class;
        let stands = facts.acts.iter().any(|a| a.class == class)
            || facts.relations.iter().any(|r| r.class == class)
            || (class == Class::SessionSet && !facts.settings.is_empty());
        if !stands {
            facts.acts.push(Act { class, object: None, kind: ObjectKind::None, why: facts.tag });
        }
        let classes = || facts.acts.iter().map(|a| a.class).chain(facts.relations.iter().map(|r| r.class));
        let locks = classes().any(|c| c == Class::SessionLock);
        let effects = has_effects(class) || classes().any(has_effects);
        let sets = facts.settings.iter().any(|s| s.action != SettingAction::Show);
        let flags = &mut facts.flags;
        flags.sets_setting |= sets;
        flags.locks |= locks;
        flags.effects |= effects;
        self.facts
    }

    /// The statement holds something that has no meaning here: only a permit that spells `unknown` reaches it.
    fn unknown(&mut self, why: &'static str) {
        self.facts.class = Class::Unknown;
        self.act(Class::Unknown, None, ObjectKind::None, why);
    }

    fn act(&mut self, class: Class, object: Option<NameUse>, kind: ObjectKind, why: &'static str) {
        self.acts.push(Act { class, object, kind, why });
    }

    /// Says what the whole statement is, unless another stands around it.
    fn is(&mut self, class: Class) {
        if self.nested == 0 {
            self.facts.class = class;
        }
    }

    /// Says the whole statement's command tag, unless another stands around it.
    fn tagged(&mut self, tag: &'static str) {
        if self.nested == 0 {
            self.facts.tag = tag;
        }
    }

    /// Visits a statement that stands inside another.
    fn inside(&mut self, node: &'t pb::Node) {
        self.nested += 1;
        self.node(node);
        self.nested -= 1;
    }

    /// Puts a WITH query's name in scope.
    fn enter_cte(&mut self, name: &'t str) {
        self.ctes.push(name);
        *self.hidden.entry(name).or_default() += 1;
    }

    fn withs(&self) -> impl Iterator<Item = &'t pb::WithClause> + use<'t, '_> {
        self.withs.iter().copied()
    }

    /// Leaves the scopes entered since.
    fn leave_ctes(&mut self, outer: Outer) {
        self.withs.truncate(outer.withs);
        for name in self.ctes.drain(outer.names..) {
            if let Some(count) = self.hidden.get_mut(name) {
                *count -= 1;
            }
        }
    }

    /// Lists a relation that no WITH query hides, under the class that the purpose makes of `class`.
    fn relation(&mut self, range: &pb::RangeVar, class: Class, predicate: Predicate) {
        let pb::RangeVar { catalogname, schemaname, relname, inh, relpersistence: _, alias: _, location } =
            range;
        let inside = if class == Class::ReadSelect { None } else { self.creation_schema.clone() };
        let name = NameUse {
            catalog: some(catalogname),
            schema: some(schemaname).or(inside),
            name: relname.clone(),
        };
        let offset = usize::try_from(*location).ok();
        self.named_relation(name, class, predicate, !inh, offset);
    }

    fn named_relation(
        &mut self,
        name: NameUse,
        class: Class,
        predicate: Predicate,
        only: bool,
        offset: Option<usize>,
    ) {
        let read = class == Class::ReadSelect;
        let write =
            matches!(class, Class::WriteInsert | Class::WriteUpdate | Class::WriteDelete | Class::WriteMerge);
        let (class, predicate) = match self.purpose {
            Purpose::Explain if read || write => (Class::ReadExplain, Predicate::NotApplicable),
            Purpose::ExplainAnalyze if read => (Class::ReadExplainAnalyze, predicate),
            Purpose::CopyOut if read => {
                let out =
                    RelationUse { name: name.clone(), class: Class::ExportCopyOut, predicate, only, offset };
                self.relations.push(out);
                (class, predicate)
            }
            Purpose::Run | Purpose::Explain | Purpose::ExplainAnalyze | Purpose::CopyOut => {
                (class, predicate)
            }
        };
        self.settings_view(&name, write);
        self.relations.push(RelationUse { name, class, predicate, only, offset });
    }

    /// `UPDATE pg_settings` calls set_config through the view's rule.
    fn settings_view(&mut self, name: &NameUse, write: bool) {
        let catalog = name.schema.as_deref().is_none_or(|s| s == "pg_catalog");
        if write && catalog && name.name == "pg_settings" {
            let setting = SettingUse { name: None, action: SettingAction::Set, value: None, local: false };
            self.facts.settings.push(setting);
        }
    }

    fn function(&mut self, function: FunctionUse) {
        self.facts.functions.push(function);
    }

    fn operator(&mut self, schema: Option<String>, name: &str) {
        self.operators.push(OperatorUse { schema, name: name.to_owned() });
    }
}

/// Whether a class alone says that something outside the session changes.
fn has_effects(class: Class) -> bool {
    match class {
        Class::ReadSelect | Class::ReadFetch | Class::ReadExplain | Class::ReadExplainAnalyze => false,
        Class::SessionTwoPhase => true,
        Class::SessionTransaction
        | Class::SessionSet
        | Class::SessionPrepare
        | Class::SessionCursor
        | Class::SessionListen
        | Class::SessionLock => false,
        Class::ExportCopyOut | Class::ExportBulk | Class::ExportLargeObject | Class::ExportReplication => {
            false
        }
        Class::CallFunction => false,
        Class::WriteInsert
        | Class::WriteUpdate
        | Class::WriteDelete
        | Class::WriteMerge
        | Class::WriteTruncate
        | Class::DdlCreate
        | Class::DdlAlter
        | Class::DdlDrop
        | Class::DdlTemp
        | Class::DdlComment
        | Class::DdlIndex
        | Class::DdlCode
        | Class::DclGrant
        | Class::DclRole
        | Class::DclPolicy
        | Class::DclLabel
        | Class::SessionNotify
        | Class::ImportCopyIn
        | Class::CallProcedure
        | Class::CallDo
        | Class::MaintenanceVacuum
        | Class::MaintenanceAnalyze
        | Class::MaintenanceReindex
        | Class::MaintenanceCluster
        | Class::MaintenanceRefresh
        | Class::MaintenanceCheckpoint
        | Class::AdminSystem
        | Class::AdminDatabase
        | Class::AdminExtension
        | Class::AdminSubscription
        | Class::AdminServer
        | Class::Unknown => true,
    }
}

fn blank(class: Class, tag: &'static str) -> StatementFacts {
    StatementFacts {
        range: 0..0,
        class,
        tag,
        acts: Vec::new(),
        relations: Vec::new(),
        functions: Vec::new(),
        newer: Vec::new(),
        operators: Vec::new(),
        types: Vec::new(),
        attributes: Vec::new(),
        settings: Vec::new(),
        transaction: None,
        named: None,
        copy: None,
        copy_spelling: None,
        flags: Flags::default(),
        parameters: 0,
        prepared: None,
        outline: Outline::Opaque,
    }
}

/// The grammar writes an absent name as an empty one.
fn some(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

/// The node's content, if there is one.
fn kind(node: Option<&pb::Node>) -> Option<&N> {
    node.and_then(|n| n.node.as_ref())
}

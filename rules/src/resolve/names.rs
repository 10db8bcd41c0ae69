//! Relations and types by name.

use std::sync::Arc;

use super::statement::Resolver;
use super::{Reach, ResolvedRelation};
use crate::catalog::system::{self, Carries};
use crate::catalog::{Event, Kind, Relation};
use crate::class::Class;
use crate::statement::closed;
use crate::statement::facts::{NameUse, ObjectKind, Predicate, RelationUse};

/// Whether a schema is a temporary one by its name.
pub(super) fn is_temporary(schema: &str) -> bool {
    schema == "pg_temp" || schema.starts_with("pg_temp_") || schema.starts_with("pg_toast_temp_")
}

/// What an access does to a relation, as far as code in its way is concerned.
pub(crate) fn event(class: Class) -> Event {
    match class {
        Class::WriteInsert | Class::ImportCopyIn => Event::Insert,
        Class::WriteUpdate => Event::Update,
        Class::WriteDelete => Event::Delete,
        Class::WriteTruncate => Event::Truncate,
        // What a MERGE does to its target stands beside it as inserts, updates and deletes.
        Class::WriteMerge
        | Class::ReadSelect
        | Class::ReadFetch
        | Class::ReadExplain
        | Class::ReadExplainAnalyze
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
        | Class::SessionTransaction
        | Class::SessionTwoPhase
        | Class::SessionSet
        | Class::SessionPrepare
        | Class::SessionCursor
        | Class::SessionListen
        | Class::SessionNotify
        | Class::SessionLock
        | Class::ExportCopyOut
        | Class::ExportBulk
        | Class::ExportLargeObject
        | Class::ExportReplication
        | Class::CallFunction
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
        | Class::Unknown => Event::Read,
    }
}

fn reach(relation: &Relation) -> Reach {
    if relation.system {
        return match system::carries(&relation.schema, &relation.name) {
            Some(Carries::Descriptions) => Reach::Catalog,
            Some(Carries::Data(_)) | None => Reach::DataBearingCatalog,
        };
    }
    if system::extension_data(&relation.name).is_some() {
        return Reach::DataBearingCatalog;
    }
    match relation.kind {
        Kind::Table | Kind::Partitioned | Kind::Index => Reach::Table,
        Kind::View => Reach::View,
        Kind::MaterializedView => Reach::MaterializedView,
        Kind::Foreign => Reach::Foreign,
        Kind::Sequence => Reach::Sequence,
    }
}

impl Resolver<'_> {
    pub(super) fn relation(&mut self, used: &RelationUse) {
        if matches!(used.class, Class::DdlCreate | Class::DdlTemp) {
            return self.new_relation(used);
        }
        let mut found = false;
        match &used.name.schema {
            Some(schema) if is_temporary(schema) => {
                found = true;
                self.temporary(used);
            }
            Some(schema) if self.in_database(&used.name) => found = self.relation_in(schema, used),
            Some(_) => {}
            None => {
                if self.may_be_temporary(&used.name.name) {
                    self.temporary(used);
                }
                let made = self.session.made_more || self.is_made(&used.name.name);
                for schema in self.lookup_path() {
                    let here = self.relation_in(&schema, used);
                    // One that the session has made in a schema before that of the known one stands before it.
                    if made && !here && !found && self.may_hold_made(&schema) {
                        self.push(&schema, &Arc::from(used.name.name.as_str()), Reach::New, used);
                    }
                    found |= here;
                }
            }
        }
        if !found {
            self.unresolved_relation(used);
        }
    }

    /// ALTER TYPE renames the columns of a table, too, by the type of its rows (tablecmds.c, renameatt_check).
    pub(super) fn row_types(&mut self) {
        let facts = self.facts;
        let altered =
            facts.acts.iter().filter(|act| act.kind == ObjectKind::Type && act.class == Class::DdlAlter);
        for name in altered.filter_map(|act| act.object.as_ref()) {
            let used = RelationUse {
                name: name.clone(),
                class: Class::DdlAlter,
                predicate: Predicate::NotApplicable,
                only: false,
                offset: None,
            };
            let schemas = match &name.schema {
                Some(schema) => vec![Arc::from(schema.as_str())],
                None => self.lookup_path(),
            };
            for schema in schemas {
                self.relation_in(&schema, &used);
            }
        }
    }

    fn may_be_temporary(&self, name: &str) -> bool {
        super::may_be_temporary(self.session.temp_possible, self.session.temp_names, name)
    }

    /// Whether the session made or altered something of that name that no snapshot shows yet.
    pub(super) fn is_made(&self, name: &str) -> bool {
        self.session.made.iter().any(|made| **made == *name)
    }

    /// Whether what the session has made may stand in that schema of the path: it is there, or may have been made, too.
    pub(super) fn may_hold_made(&self, schema: &str) -> bool {
        schema != "pg_catalog"
            && (self.snapshot.has_schema(schema) || self.session.made_more || self.is_made(schema))
    }

    /// Whether a three-part name means this database; the server refuses any other.
    fn in_database(&self, name: &NameUse) -> bool {
        name.catalog.as_deref().is_none_or(|catalog| catalog == self.snapshot.database())
    }

    /// `pg_catalog` and every schema of the path.
    pub(super) fn lookup_path(&self) -> Vec<Arc<str>> {
        let implied = Arc::from("pg_catalog");
        let listed = self.path.schemas().filter(|schema| !is_temporary(schema)).cloned();
        let mut path: Vec<Arc<str>> = Vec::with_capacity(4);
        for schema in std::iter::once(implied).chain(listed) {
            if !path.contains(&schema) {
                path.push(schema);
            }
        }
        path
    }

    fn push(&mut self, schema: &Arc<str>, name: &Arc<str>, reach: Reach, used: &RelationUse) {
        let relation = ResolvedRelation {
            schema: schema.clone(),
            name: name.clone(),
            reach,
            kin: self.snapshot.relation(schema, name).and_then(|found| found.kin.clone()),
            class: used.class,
            predicate: used.predicate,
        };
        self.relations.add(relation);
    }

    fn relation_in(&mut self, schema: &str, used: &RelationUse) -> bool {
        let Some(relation) = self.snapshot.relation(schema, &used.name.name) else {
            if schema.starts_with("pg_toast") {
                self.push(
                    &Arc::from(schema),
                    &Arc::from(used.name.name.as_str()),
                    Reach::DataBearingCatalog,
                    used,
                );
                return true;
            }
            return false;
        };
        let closed = relation.system
            && relation.schema.as_ref() == "pg_catalog"
            && self.facts.flags.closed_columns
            && closed::of_relation(&relation.name).is_some();
        let reach = if closed { Reach::DataBearingCatalog } else { reach(relation) };
        self.push(&relation.schema, &relation.name, reach, used);
        if relation.system {
            if self.writes(used.class) {
                self.named(format!(
                    "it writes {}.{}, which is the catalog itself",
                    relation.schema, relation.name
                ));
            }
            return true;
        }
        self.reached.extend(relation.types.iter().copied());
        if let Some(reason) = relation.code(event(used.class)) {
            if used.class.covered_by("maintenance") {
                self.bars(reason.clone());
            } else {
                self.through(reason.clone());
            }
        }
        true
    }

    fn writes(&self, class: Class) -> bool {
        event(class) != Event::Read || class == Class::WriteMerge
    }

    fn temporary(&mut self, used: &RelationUse) {
        self.push(&Arc::from("pg_temp"), &Arc::from(used.name.name.as_str()), Reach::Temporary, used);
        let reason = format!("{} may be a temporary relation of the session", used.name.name);
        if self.session.temp_code {
            self.through(reason)
        } else {
            self.reaches(reason)
        }
        self.reached.everything();
    }

    fn new_relation(&mut self, used: &RelationUse) {
        let name = Arc::from(used.name.name.as_str());
        if used.class == Class::DdlTemp || used.name.schema.as_deref().is_some_and(is_temporary) {
            return self.push(&Arc::from("pg_temp"), &name, Reach::New, used);
        }
        if let Some(schema) = &used.name.schema {
            return self.push(&Arc::from(schema.as_str()), &name, Reach::New, used);
        }
        // It comes to be in the first schema that exists and that the login may use; which of them the login may use is
        // the server's to say, so every one must be permitted.
        let mut any = false;
        for schema in self.path.schemas().filter(|schema| self.snapshot.has_schema(schema)) {
            any = true;
            self.push(schema, &name, Reach::New, used);
        }
        if !any {
            self.unresolved_relation(used);
        }
    }

    fn unresolved_relation(&mut self, used: &RelationUse) {
        let name = Arc::from(used.name.name.as_str());
        match &used.name.schema {
            Some(schema) => self.push(&Arc::from(schema.as_str()), &name, Reach::Unresolved, used),
            None => {
                let path: Vec<Arc<str>> = self.path.schemas().cloned().collect();
                for schema in &path {
                    self.push(schema, &name, Reach::Unresolved, used);
                }
                if path.is_empty() {
                    self.push(&Arc::from("pg_catalog"), &name, Reach::Unresolved, used);
                }
            }
        }
        let reason = format!("the catalog snapshot knows no relation {}", used.name.name);
        if self.fills_own {
            return self.reaches(reason);
        }
        if self.session.private_catalog || used.class.covered_by("ddl") {
            // One that the session has made itself, or that takes its name now; whether that brought code there is for
            // `SessionView::private_code` to say.
            self.bars(reason);
        } else if self.may_be_temporary(&used.name.name)
            && !self.session.temp_code
            && used.name.schema.is_none()
        {
            // A temporary one, then; else the server knows none either.
            self.reaches(reason);
        } else {
            self.through(reason);
        }
        self.reached.everything();
    }

    /// A type that a text names: by a cast, a definition, or in the place of a function.
    pub(super) fn type_named(&mut self, name: &NameUse) {
        // JSON is a word of the grammar since version 16, which puts the schema there; before, it is a name like any other.
        if of_newer_grammar(name) && self.snapshot.server_version_num() < VERSION_OF_JSON {
            return self.type_named(&NameUse { schema: None, ..name.clone() });
        }
        if name.schema.as_deref().is_some_and(is_temporary) {
            self.reached.everything();
            return self.named(format!("type {} is a temporary one", name.name));
        }
        let schemas = match &name.schema {
            Some(schema) => vec![Arc::from(schema.as_str())],
            None => self.lookup_path(),
        };
        let mut found = false;
        for schema in &schemas {
            found |= self.type_in(schema, &name.name);
        }
        if name.schema.is_none() && self.session.temp_possible {
            // The temporary schema comes first for types, too; code behind one of its domains is this session's own.
            self.bars(format!("type {} may be a temporary one", name.name));
            if self.may_be_of_session(name) {
                self.reached.everything();
            }
        }
        if !found {
            self.reached.everything();
            let reason = format!("the catalog snapshot knows no type {}", name.name);
            if self.session.private_catalog { self.bars(reason) } else { self.named(reason) }
        }
    }

    /// Whether a type that a text names may be one that the session has made, which no snapshot shows: not where the name is that
    /// of one of the server's own, and nothing can stand before it. `pg_catalog.int8`, as the grammar spells `bigint`, is the
    /// server's wherever the path leads; a bare `regclass` is where `pg_catalog` is searched before the path's other schemas (it
    /// is, unless the path lists it behind one), and no type of the session's temporary schema, which is searched before
    /// that, bears such a name. Input functions of the server's own types run no code of users.
    pub(super) fn may_be_of_session(&self, name: &NameUse) -> bool {
        let of_users = self.snapshot.types(&name.name).any(|of_user| &*of_user.schema == "pg_catalog");
        if name.catalog.is_some() || of_users || !system::is_type(&name.name) {
            return true;
        }
        let bare = name.schema.is_none()
            || of_newer_grammar(name) && self.snapshot.server_version_num() < VERSION_OF_JSON;
        if bare {
            let first = self.path.schemas().skip(1).all(|schema| &**schema != "pg_catalog");
            return self.session.temp_types || !first;
        }
        name.schema.as_deref() != Some("pg_catalog")
    }

    /// Whether that schema has a type of that name; reached if so.
    pub(super) fn type_in(&mut self, schema: &str, name: &str) -> bool {
        let mut found = false;
        for of_user in self.snapshot.types(name).filter(|of_user| &*of_user.schema == schema) {
            found = true;
            self.reached.extend(of_user.closure.iter().copied());
            if let Some(code) = &of_user.code {
                self.type_code(&code.clone(), of_user);
            }
        }
        let built_in = schema == "pg_catalog" && (system::is_type(name) || SERIAL_TYPES.contains(&name))
            || self.snapshot.relation(schema, name).is_some_and(|relation| relation.system)
            || schema == "information_schema" && INFORMATION_TYPES.contains(&name);
        found || built_in
    }
}

/// Names that stand for a type and a sequence in a column's definition, and nowhere else (parse_utilcmd.c).
pub(super) const SERIAL_TYPES: [&str; 6] =
    ["bigserial", "serial", "serial2", "serial4", "serial8", "smallserial"];

/// The domains of `information_schema`; their checks are built-in.
const INFORMATION_TYPES: [&str; 5] =
    ["cardinal_number", "character_data", "sql_identifier", "time_stamp", "yes_or_no"];

/// From which version of the server on JSON is a word of its grammar.
const VERSION_OF_JSON: u32 = 160_000;

fn of_newer_grammar(name: &NameUse) -> bool {
    name.schema.as_deref() == Some("pg_catalog") && name.name == "json"
}

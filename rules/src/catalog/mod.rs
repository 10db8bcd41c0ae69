//! The catalog of a target: one immutable snapshot, and what the gateway knows of built-ins.
//!
//! Owns: [`Snapshot`], the queries that fill it ([`queries`]), the reviewed built-ins ([`builtins`]), the system relations
//! ([`system`]), catalogs of files ([`Definitions`]), and what of a relation's surroundings can run user code. May not: do IO on the data path, or judge. It fails closed: rows
//! that do not read are an error and no snapshot; an object that is not in the snapshot is unknown, never harmless.
//!
//! User objects are those with an oid from 16384 on (`FirstNormalObjectId`, server file src/include/access/transam.h),
//! also where they stand in `pg_catalog`. The snapshot keeps, for every relation and every way to use it, the first
//! reason why user code runs; inheritance, partitions, foreign keys, row security's sub-selects and the types of columns
//! are followed while it is built, so that a look-up is one hash of a schema and one of a name.

mod build;
pub mod builtins;
mod computed;
mod fixture;
mod functions;
mod keys;
mod kin;
mod load;
mod marks;
mod nodes;
mod parts;
pub mod queries;
mod reviewed;
mod stamps;
pub mod system;
mod tree;
mod uses;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use fixture::{Definitions, FIXTURE_BYTES_MAX, FixtureError};
pub use keys::{Action, Key, KeyRule};
pub use load::{LoadError, Rows};
pub use marks::Marks;
use parts::Relations;
pub use parts::{Column, Event, FunctionName, Kin, Kind, Operator, Relation, Remark, Routine, Type, TypeId};
pub use stamps::Stamps;
pub use tree::View;
pub use uses::{Comparison, RowPolicy};

/// The first oid of an object that no `initdb` made (src/include/access/transam.h).
pub const FIRST_USER_OID: u32 = 16_384;

/// Oldest server major version that is a target.
pub const SERVER_MAJOR_MIN: u32 = 14;

/// Newest server major version that is a target: the built-ins of later ones were not reviewed.
pub const SERVER_MAJOR_MAX: u32 = 18;

/// The catalog of one target at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the snapshots of a target; a binding made under another epoch is stale.
    pub epoch: u64,
    server_version_num: u32,
    database: Arc<str>,
    schemas: HashSet<Arc<str>>,
    relations: Relations,
    names: HashMap<u32, (Arc<str>, Arc<str>)>,
    views: HashMap<u32, View>,
    row_policies: HashMap<u32, Vec<RowPolicy>>,
    remarks: Vec<Remark>,
    marks: Arc<Marks>,
    keys: HashMap<u32, Vec<Key>>,
    stamps: HashMap<u32, u64>,
    routines: HashMap<Arc<str>, Vec<Routine>>,
    operators: HashMap<Arc<str>, Vec<Operator>>,
    types: Vec<Type>,
    type_names: HashMap<Arc<str>, Vec<TypeId>>,
    type_oids: HashMap<u32, TypeId>,
    unreviewed_functions: HashMap<Arc<str>, Vec<Routine>>,
    unreviewed_operators: HashSet<Arc<str>>,
    everywhere: Option<Arc<str>>,
    defines: Option<Arc<str>>,
    text_search: Option<Arc<str>>,
    at_commit: Option<Arc<str>>,
    event_trigger: Option<Arc<str>>,
    print: [u8; 32],
}

impl Snapshot {
    /// What tells this catalog from any other that its target had or will have, whoever reads it; zeros of one that no server gave.
    #[must_use]
    pub fn print(&self) -> &[u8; 32] {
        &self.print
    }

    /// The same, with the digest of what the server said of its catalog before it was read ([`queries::FINGERPRINT`]): where it
    /// changed between the two, the next look finds another one.
    #[must_use]
    pub fn printed(self, print: [u8; 32]) -> Self {
        Self { print, ..self }
    }

    /// The server's `server_version_num` (150020 is 15.20).
    #[must_use]
    pub fn server_version_num(&self) -> u32 {
        self.server_version_num
    }

    /// The database it was read in.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Whether a schema exists.
    #[must_use]
    pub fn has_schema(&self, name: &str) -> bool {
        self.schemas.contains(name)
    }

    /// The relation of that name in that schema.
    #[must_use]
    pub fn relation(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.relations.0.get(schema)?.get(name)
    }

    /// Whether more schemas than one have a relation of that name, so that it means what the search path makes of it.
    #[must_use]
    pub fn shares_its_name(&self, name: &str) -> bool {
        self.relations.0.values().filter(|names| names.contains_key(name)).nth(1).is_some()
    }

    /// Whether any schema has a relation of that name.
    #[must_use]
    pub fn has_relation_named(&self, name: &str) -> bool {
        self.relations.0.values().any(|names| names.contains_key(name))
    }

    /// The relation of that oid.
    #[must_use]
    pub fn relation_by_oid(&self, oid: u32) -> Option<&Relation> {
        let (schema, name) = self.names.get(&oid)?;
        self.relation(schema, name)
    }

    /// The definition of a view or materialized view; `None` where it did not read.
    #[must_use]
    pub fn view(&self, oid: u32) -> Option<&View> {
        self.views.get(&oid)
    }

    /// The row security policies of a relation, whether they are in force or not.
    #[must_use]
    pub fn row_policies(&self, oid: u32) -> &[RowPolicy] {
        self.row_policies.get(&oid).map_or(&[], Vec::as_slice)
    }

    /// What the target itself says of columns: SECURITY LABEL in PostgreSQL Anonymizer's form, and comments.
    #[must_use]
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }

    /// Which columns bore a label in the snapshots before this one.
    #[must_use]
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Keys and checks of a relation, and foreign keys that reference it.
    #[must_use]
    pub fn keys(&self, oid: u32) -> &[Key] {
        self.keys.get(&oid).map_or(&[], Vec::as_slice)
    }

    /// The same snapshot, as the next one of a target: what was marked on `earlier` stays marked.
    #[must_use]
    pub fn behind(mut self, earlier: Option<&Snapshot>) -> Self {
        if let Some(earlier) = earlier {
            self.marks = Arc::clone(&earlier.marks);
        }
        self
    }

    /// Every relation, with its schema, in no order.
    pub fn relations(&self) -> impl Iterator<Item = (&str, &Relation)> {
        self.relations
            .0
            .iter()
            .flat_map(|(schema, names)| names.values().map(|relation| (&**schema, relation)))
    }

    /// The user functions of that name, in all schemas.
    #[must_use]
    pub fn routines(&self, name: &str) -> &[Routine] {
        self.routines.get(name).map_or(&[], Vec::as_slice)
    }

    /// Overloads of that name that stand in `pg_catalog` by the server's making, yet in no reviewed table.
    #[must_use]
    pub fn unreviewed_functions(&self, name: &str) -> &[Routine] {
        self.unreviewed_functions.get(name).map_or(&[], Vec::as_slice)
    }

    /// The user operators of that name, in all schemas.
    #[must_use]
    pub fn operators(&self, name: &str) -> &[Operator] {
        self.operators.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether the server has a built-in operator of that name that is in no reviewed table.
    #[must_use]
    pub fn has_unreviewed_operator(&self, name: &str) -> bool {
        self.unreviewed_operators.contains(name)
    }

    /// The user types of that name, in all schemas.
    pub fn types(&self, name: &str) -> impl Iterator<Item = &Type> {
        self.type_names.get(name).into_iter().flatten().map(|id| self.type_of(*id))
    }

    /// The user type of that oid.
    #[must_use]
    pub fn type_by_oid(&self, oid: u32) -> Option<&Type> {
        self.type_oids.get(&oid).map(|id| self.type_of(*id))
    }

    /// The type behind an id of this snapshot.
    #[must_use]
    pub fn type_of(&self, id: TypeId) -> &Type {
        &self.types[id.index()]
    }

    /// Every user type.
    #[must_use]
    pub fn all_types(&self) -> &[Type] {
        &self.types
    }

    /// Why no statement at all is free of user code, when that is so: a cast between built-in types by a function of a
    /// user, a default operator class on a built-in type, a default conversion.
    #[must_use]
    pub fn everywhere(&self) -> Option<&Arc<str>> {
        self.everywhere.as_ref()
    }

    /// Why code of users, once it runs, may have made objects or prepared statements: a function whose body holds a word for
    /// that, or EXECUTE, or is written in a language that is not read. Functions in C are a superuser's, and taken at their word.
    #[must_use]
    pub fn defines(&self) -> Option<&Arc<str>> {
        self.defines.as_ref()
    }

    /// Why text search is not free of user code.
    #[must_use]
    pub fn text_search(&self) -> Option<&Arc<str>> {
        self.text_search.as_ref()
    }

    /// Why COMMIT can run user code: a deferrable constraint trigger or the like.
    #[must_use]
    pub fn at_commit(&self) -> Option<&Arc<str>> {
        self.at_commit.as_ref()
    }

    /// An event trigger, where there is one.
    #[must_use]
    pub fn event_trigger(&self) -> Option<&Arc<str>> {
        self.event_trigger.as_ref()
    }
}

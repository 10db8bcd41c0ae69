//! A catalog from a file of definitions, for `explain` and `test` without a server.
//!
//! Owns: reading `CREATE …` statements, such as `pg_dump --schema-only` writes, into a snapshot. May not: be used on the
//! data path. It knows less than a server and takes that to the strict side: every function of a user in a definition
//! stands in the way of every use of the relation, every foreign key cascades, a type that no statement makes is code.
//! Two things it cannot know: what an extension brings (its objects are unknown names, which need permits), and whether
//! the file is the target's schema. A statement without a meaning here is told in [`Definitions::notes`] with its line.

mod code;
mod columns;
mod keys;
mod names;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::protobuf::node::Node as N;

use self::names::{has_sequence, is_serial, of_nodes, of_range, of_use, pseudo_oid, type_use};
use super::load::{LoadError, Named, Raw, RawExpression, RawHazard, RawLink, RawRelation, RawType};
use super::parts::Kind;
use super::{FIRST_USER_OID, Snapshot, build, builtins, system};
use crate::statement::door::with_tree_here;
use crate::statement::facts::{NameUse, StatementFacts};
use crate::statement::{Limits, on_parser_stack};

/// Longest file, bytes.
pub const FIXTURE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The server version that a fixture stands for: the newest whose built-ins were reviewed.
const FIXTURE_VERSION_NUM: u32 = 180_000;

/// A read of every kind, for what stands in the way of every use.
const ANY_USE: u8 = 1;

/// Why a file is no catalog. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no SQL.
    #[error("{}: {message}", path.display())]
    Unparsable {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        message: String,
    },
    /// A statement that has no meaning in a fixture, or names what no earlier one made.
    #[error("{}:{line}: {what}", path.display())]
    Statement {
        /// The file.
        path: PathBuf,
        /// Line of the statement, from 1.
        line: usize,
        /// What is wrong and what next.
        what: String,
    },
    /// The definitions contradict each other.
    #[error("{}: {error}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// How.
        error: LoadError,
    },
}

/// A catalog from definitions.
#[derive(Debug)]
pub struct Definitions {
    /// What names are resolved by.
    pub snapshot: Snapshot,
    /// Statements that were not used, with their lines.
    pub notes: Vec<String>,
}

impl Definitions {
    /// Reads a file of definitions.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, and any statement that makes something twice or names what was not made.
    pub fn from_file(path: &Path) -> Result<Self, FixtureError> {
        let error = |error| FixtureError::Unreadable { path: path.into(), error };
        let text = fs::read_to_string(path).map_err(error)?;
        Self::from_text(&text, path)
    }

    /// Reads definitions; `path` is where they come from, for errors.
    ///
    /// # Errors
    /// As [`Definitions::from_file`].
    pub fn from_text(text: &str, path: &Path) -> Result<Self, FixtureError> {
        let limits = Limits { text_bytes_max: FIXTURE_BYTES_MAX };
        let text = &without_meta_commands(text);
        let read = on_parser_stack(|| {
            with_tree_here(text.as_bytes(), &limits, |tree, facts| Reader::read(tree, &facts.statements))
        });
        let read =
            read.map_err(|error| FixtureError::Unparsable { path: path.into(), message: error.to_string() })?;
        let Reader { raw, notes, .. } = read.map_err(|(offset, what)| {
            let line = line_of(text, offset);
            FixtureError::Statement { path: path.into(), line, what }
        })?;
        let snapshot =
            build::build(raw, 1).map_err(|error| FixtureError::Load { path: path.into(), error })?;
        let notes = notes.into_iter().map(|(offset, what)| format!("line {}: {what}", line_of(text, offset)));
        Ok(Self { snapshot, notes: notes.collect() })
    }
}

/// A text without the two commands to psql that `pg_dump` frames its output with; offsets and lines stay as they are.
fn without_meta_commands(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        if line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ") {
            let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
            line.chars().map(blank).collect::<String>()
        } else {
            line.to_owned()
        }
    });
    lines.collect()
}

/// The line of a statement's first word; its range begins behind the statement before it.
fn line_of(text: &str, offset: usize) -> usize {
    let (before, rest) = text.split_at_checked(offset).unwrap_or((text, ""));
    let blank = rest.len() - rest.trim_start().len();
    text[..before.len() + blank].matches('\n').count() + 1
}

/// The definitions as they come.
struct Reader {
    raw: Raw,
    next_oid: u32,
    relations: HashMap<(String, String), u32>,
    types: HashMap<(String, String), u32>,
    notes: Vec<(usize, String)>,
}

impl Reader {
    fn read(tree: &pb::ParseResult, facts: &[StatementFacts]) -> Result<Self, (usize, String)> {
        let mut reader = Self {
            raw: Raw {
                server_version_num: FIXTURE_VERSION_NUM,
                database: "fixture".into(),
                schemas: ["pg_catalog", "information_schema", "public"].map(Arc::from).to_vec(),
                relations: Vec::new(),
                column_types: Vec::new(),
                types: Vec::new(),
                routines: Vec::new(),
                builtins: Vec::new(),
                operators: Vec::new(),
                builtin_operators: Vec::new(),
                casts: Vec::new(),
                hazards: Vec::new(),
                expressions: Vec::new(),
                links: Vec::new(),
                everywhere: Vec::new(),
                event_triggers: Vec::new(),
                columns: HashMap::new(),
                views: HashMap::new(),
                remarks: Vec::new(),
                stamps: HashMap::new(),
                keys: Vec::new(),
                computed: Vec::new(),
                row_policies: Vec::new(),
                in_c: Vec::new(),
                aggregates: Vec::new(),
            },
            next_oid: FIRST_USER_OID,
            relations: HashMap::new(),
            types: HashMap::new(),
            notes: Vec::new(),
        };
        reader.system_relations();
        for (raw, facts) in tree.stmts.iter().zip(facts) {
            let node = raw.stmt.as_ref().and_then(|node| node.node.as_ref());
            let node = node.ok_or((facts.range.start, "an empty statement".to_owned()))?;
            reader.statement(node, facts).map_err(|what| (facts.range.start, what))?;
        }
        Ok(reader)
    }

    fn system_relations(&mut self) {
        for (place, (schema, name)) in system::all().enumerate() {
            let oid = u32::try_from(place).unwrap_or(0) + 1;
            let (schema, name) = (Arc::from(schema), Arc::from(name));
            self.raw.relations.push(RawRelation { oid, schema, name, kind: Kind::View });
        }
    }

    fn oid(&mut self) -> u32 {
        self.next_oid += 1;
        self.next_oid
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a statement without a meaning here is noted")]
    fn statement(&mut self, node: &N, facts: &StatementFacts) -> Result<(), String> {
        match node {
            N::CreateSchemaStmt(n) if n.schema_elts.is_empty() => {
                self.raw.schemas.push(n.schemaname.as_str().into())
            }
            N::CreateStmt(n) => self.create_table(n, Kind::Table, facts)?,
            N::CreateForeignTableStmt(n) => match &n.base_stmt {
                Some(base) => self.create_table(base, Kind::Foreign, facts)?,
                None => return Err("CREATE FOREIGN TABLE without a table".into()),
            },
            N::ViewStmt(n) => self.relation(n.view.as_ref(), Kind::View).map(drop)?,
            N::CreateTableAsStmt(n) => {
                let materialized = pb::ObjectType::try_from(n.objtype) == Ok(pb::ObjectType::ObjectMatview);
                let kind = if materialized { Kind::MaterializedView } else { Kind::Table };
                self.relation(n.into.as_ref().and_then(|into| into.rel.as_ref()), kind).map(drop)?;
            }
            N::CreateSeqStmt(n) => self.relation(n.sequence.as_ref(), Kind::Sequence).map(drop)?,
            N::IndexStmt(n) => self.index(n, facts)?,
            N::CreateFunctionStmt(n) => self.function(n)?,
            N::DefineStmt(n) => self.define(n, facts)?,
            N::CreateEnumStmt(n) => self.user_type(of_nodes(&n.type_name), 'e').map(drop)?,
            N::CreateRangeStmt(n) => self.user_type(of_nodes(&n.type_name), 'r').map(drop)?,
            N::CompositeTypeStmt(n) => {
                let relation = self.oid();
                let made = self.user_type(n.typevar.as_ref().map(of_range), 'c')?;
                self.raw.types[made].relation = relation;
                self.columns(relation, facts);
            }
            N::CreateDomainStmt(n) => self.domain(n, facts)?,
            N::CreateCastStmt(n) => self.cast(n)?,
            N::CreateTrigStmt(n) => self.trigger(n)?,
            N::RuleStmt(n) => {
                let relation = self.known(n.relation.as_ref())?;
                self.hazard(relation, 31, format!("has rule {}", n.rulename));
            }
            N::CreatePolicyStmt(n) => {
                let relation = self.known(n.table.as_ref())?;
                self.row_policy(relation, n, facts);
            }
            N::AlterTableStmt(n) => {
                let relation = self.known(n.relation.as_ref())?;
                self.altered_columns(relation, n);
                self.altered_keys(relation, n);
                self.expressions(relation, "a constraint, default or the like", facts);
                self.columns(relation, facts);
                self.keys(relation, facts);
            }
            N::CreateStatsStmt(n) => {
                let of = n.relations.first().and_then(|node| match node.node.as_ref() {
                    Some(N::RangeVar(range)) => Some(range),
                    _ => None,
                });
                let relation = self.known(of)?;
                self.expressions(relation, "extended statistics", facts);
            }
            N::CreateEventTrigStmt(n) => {
                let function = of_nodes(&n.funcname).ok_or("an event trigger without a function")?;
                self.raw
                    .event_triggers
                    .push((n.trigname.clone(), format!("{}.{}()", function.0, function.1)));
            }
            other if defines_nothing(other) => {}
            N::CreateExtensionStmt(n) => {
                self.note(facts, format!("what extension {} brings is not known", n.extname))
            }
            _ => self.note(facts, format!("{} is not used", facts.tag)),
        }
        Ok(())
    }

    fn note(&mut self, facts: &StatementFacts, what: String) {
        let what = format!("{what}; what depends on it may be judged otherwise than on the server");
        self.notes.push((facts.range.start, what));
    }

    fn relation(&mut self, range: Option<&pb::RangeVar>, kind: Kind) -> Result<u32, String> {
        let (schema, name) = of_range(range.ok_or("a relation without a name")?);
        self.named_relation(&schema, &name, kind)
    }

    fn named_relation(&mut self, schema: &str, name: &str, kind: Kind) -> Result<u32, String> {
        if !self.raw.schemas.iter().any(|known| &**known == schema) {
            self.raw.schemas.push(schema.into());
        }
        let oid = self.oid();
        if self.relations.insert((schema.to_owned(), name.to_owned()), oid).is_some() {
            return Err(format!("{schema}.{name} is made twice"));
        }
        self.raw.relations.push(RawRelation { oid, schema: schema.into(), name: name.into(), kind });
        if matches!(
            kind,
            Kind::Table | Kind::Partitioned | Kind::View | Kind::MaterializedView | Kind::Foreign
        ) {
            let row = self.user_type(Some((schema.to_owned(), name.to_owned())), 'c')?;
            self.raw.types[row].relation = oid;
        }
        Ok(oid)
    }

    /// A relation that an earlier statement made.
    fn known(&self, range: Option<&pb::RangeVar>) -> Result<u32, String> {
        let name = of_range(range.ok_or("a relation without a name")?);
        self.relations
            .get(&name)
            .copied()
            .ok_or_else(|| format!("no relation {}.{} was made before", name.0, name.1))
    }

    fn create_table(&mut self, n: &pb::CreateStmt, kind: Kind, facts: &StatementFacts) -> Result<(), String> {
        let kind = if n.partspec.is_some() { Kind::Partitioned } else { kind };
        let oid = self.relation(n.relation.as_ref(), kind)?;
        self.table_columns(oid, n);
        self.table_keys(oid, n);
        self.expressions(oid, "a default, constraint or the like", facts);
        self.columns(oid, facts);
        let mut parents = Vec::new();
        for parent in &n.inh_relations {
            let Some(N::RangeVar(range)) = parent.node.as_ref() else {
                return Err("INHERITS without a name".into());
            };
            let parent = self.known(Some(range))?;
            parents.push(parent);
            self.raw.links.push(RawLink::Child { parent, child: oid, partitioned: n.partbound.is_some() });
        }
        self.keys(oid, facts);
        let Some(table) = &n.relation else { return Ok(()) };
        let (schema, name) = of_range(table);
        for element in &n.table_elts {
            if let Some(N::ColumnDef(column)) = element.node.as_ref()
                && has_sequence(column)
            {
                self.named_relation(&schema, &format!("{name}_{}_seq", column.colname), Kind::Sequence)?;
            }
        }
        Ok(())
    }

    /// Every other relation that a definition names is taken as referenced by a key that cascades.
    fn keys(&mut self, referencing: u32, facts: &StatementFacts) {
        for used in &facts.relations {
            if let Some(referenced) = self.relations.get(&of_use(&used.name)).copied()
                && referenced != referencing
            {
                self.raw.links.push(RawLink::Key {
                    referenced,
                    referencing,
                    on_delete: 'c',
                    on_update: 'c',
                    deferrable: false,
                });
            }
        }
    }

    fn reads(&mut self, owner: u32, facts: &StatementFacts) {
        for used in &facts.relations {
            if let Some(oid) = self.relations.get(&of_use(&used.name)).copied()
                && oid != owner
            {
                let holder = "an expression".to_owned();
                let what = Named::Relation;
                self.raw.expressions.push(RawExpression {
                    of_type: false,
                    owner,
                    mask: ANY_USE,
                    holder,
                    what,
                    oid,
                });
            }
        }
    }

    fn hazard(&mut self, relation: u32, mask: u8, reason: String) {
        self.raw.hazards.push(RawHazard { relation, mask, reason, functions: None });
    }

    /// Functions and operators of a definition that are no harmless built-ins.
    fn user_code(&self, facts: &StatementFacts) -> Option<String> {
        let function = facts.functions.iter().find(|used| {
            let known = builtins::functions("pg_catalog", &used.name.name);
            let foreign = used.name.schema.as_deref().is_some_and(|schema| schema != "pg_catalog");
            let users = self.raw.routines.iter().any(|routine| *routine.name == *used.name.name);
            let named_by_act = facts.acts.iter().any(|act| act.object.as_ref() == Some(&used.name));
            let reviewed = !known.is_empty() && known.iter().all(|builtin| !builtin.category.barrier());
            !named_by_act && (foreign || users || !reviewed)
        });
        let operator = || {
            let users = |name: &str| self.raw.operators.iter().any(|(known, ..)| &**known == name);
            facts.operators.iter().find(|used| {
                users(&used.name)
                    || used.schema.as_deref().is_some_and(|schema| schema != "pg_catalog")
                    || builtins::operators(&used.name).is_empty()
            })
        };
        match function {
            Some(used) => Some(format!("calls {}", used.name.name)),
            None => operator().map(|used| format!("uses operator {}", used.name)),
        }
    }

    fn expressions(&mut self, relation: u32, holder: &str, facts: &StatementFacts) {
        if let Some(what) = self.user_code(facts) {
            self.hazard(relation, ANY_USE, format!("has {holder}, which {what}"));
        }
    }

    fn columns(&mut self, relation: u32, facts: &StatementFacts) {
        for used in &facts.types {
            if let Some(oid) = self.type_oid(used).filter(|oid| *oid >= FIRST_USER_OID) {
                self.raw.column_types.push((relation, oid));
            }
        }
    }

    /// The oid of a type; one that nothing made becomes a type with code of its own. `None` for pseudo-names such as serial.
    fn type_oid(&mut self, used: &NameUse) -> Option<u32> {
        let in_catalog = used.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
        if in_catalog && system::is_type(&used.name) {
            return Some(pseudo_oid(&used.name));
        }
        if is_serial(&used.name) {
            return None;
        }
        let key = match &used.schema {
            Some(_) => of_use(used),
            None => {
                let made = self.types.keys().find(|(_, name)| *name == used.name).cloned();
                made.unwrap_or_else(|| of_use(used))
            }
        };
        if let Some(oid) = self.types.get(&key) {
            return Some(*oid);
        }
        let place = self.user_type(Some(key), 'b').ok()?;
        self.raw.types[place].own_functions = [0].into();
        Some(self.raw.types[place].oid)
    }

    fn user_type(&mut self, name: Option<(String, String)>, letter: char) -> Result<usize, String> {
        let (schema, name) = name.ok_or("a type without a name")?;
        let oid = self.oid();
        if self.types.insert((schema.clone(), name.clone()), oid).is_some() {
            return Err(format!("type {schema}.{name} is made twice"));
        }
        self.raw.types.push(RawType {
            oid,
            schema: schema.as_str().into(),
            name: name.as_str().into(),
            letter,
            category: 'U',
            preferred: false,
            element: 0,
            base: 0,
            relation: 0,
            subtype: 0,
            own_functions: Box::default(),
        });
        Ok(self.raw.types.len() - 1)
    }

    fn domain(&mut self, n: &pb::CreateDomainStmt, facts: &StatementFacts) -> Result<(), String> {
        let base = n.type_name.as_ref().and_then(type_use);
        let base = base.and_then(|used| self.type_oid(&used)).unwrap_or(0);
        let place = self.user_type(of_nodes(&n.domainname), 'd')?;
        self.raw.types[place].base = base;
        if let Some(what) = self.user_code(facts) {
            let owner = self.raw.types[place].oid;
            // An oid that no function has: a reason by itself.
            let holder = format!("a constraint or default, which {what}, and");
            let what = Named::Function;
            self.raw.expressions.push(RawExpression {
                of_type: true,
                owner,
                mask: ANY_USE,
                holder,
                what,
                oid: u32::MAX,
            });
        }
        Ok(())
    }

    fn index(&mut self, n: &pb::IndexStmt, facts: &StatementFacts) -> Result<(), String> {
        let relation = self.known(n.relation.as_ref())?;
        self.expressions(relation, &format!("index {}", n.idxname), facts);
        self.index_key(relation, n);
        if let (false, Some(table)) = (n.idxname.is_empty(), &n.relation) {
            self.named_relation(&of_range(table).0, &n.idxname, Kind::Index)?;
        }
        Ok(())
    }
}

/// What a dump says beside, and what defines nothing that names are resolved by.
fn defines_nothing(node: &N) -> bool {
    matches!(
        node,
        N::VariableSetStmt(_)
            | N::SelectStmt(_)
            | N::InsertStmt(_)
            | N::CommentStmt(_)
            | N::GrantStmt(_)
            | N::GrantRoleStmt(_)
            | N::CreateRoleStmt(_)
            | N::AlterOwnerStmt(_)
            | N::AlterDefaultPrivilegesStmt(_)
            | N::AlterSeqStmt(_)
            | N::AlterEnumStmt(_)
            | N::CreatePlangStmt(_)
            | N::CreateFdwStmt(_)
            | N::CreateForeignServerStmt(_)
            | N::TransactionStmt(_)
    )
}

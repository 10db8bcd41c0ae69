//! Rows to typed rows: strict, and every error says which query, row and column.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::build;
use super::builtins;
use super::computed::RawComputed;
use super::keys::{Key, KeyRule, RawKey};
use super::parts::{Column, Kind, Operator, Remark, Routine};
use super::queries::{QUERIES, at};
use super::reviewed::{self, RawAggregate, RawInC};
use super::tree::{self, View};
use super::uses::{self, Calls, Comparison, RowPolicy};
use super::{FIRST_USER_OID, SERVER_MAJOR_MAX, SERVER_MAJOR_MIN, Snapshot};

/// The answers to [`QUERIES`], in their order: rows of cells as text.
#[derive(Clone, Debug, Default)]
pub struct Rows(pub Vec<Vec<Vec<Option<String>>>>);

/// Why rows are no snapshot. The target is at fault, or whoever ran the queries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Not one answer a query.
    #[error("the catalog load has {found} answers, not {expected}: run every query in order")]
    Answers {
        /// How many queries there are.
        expected: usize,
        /// How many answers came.
        found: usize,
    },
    /// A row of another width.
    #[error("catalog query \"{query}\", row {row}: {found} columns, not {expected}")]
    Columns {
        /// Which query.
        query: &'static str,
        /// Which row, from 1.
        row: usize,
        /// The width of the query.
        expected: usize,
        /// The width of the row.
        found: usize,
    },
    /// A cell that does not read.
    #[error("catalog query \"{query}\", row {row}, column {column}: {what}")]
    Cell {
        /// Which query.
        query: &'static str,
        /// Which row, from 1.
        row: usize,
        /// Which column, from 1.
        column: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A server that is no target.
    #[error(
        "the server's version is {0}: targets are PostgreSQL {SERVER_MAJOR_MIN} to {SERVER_MAJOR_MAX}, whose built-ins were reviewed"
    )]
    Version(u32),
    /// Two objects of one identity.
    #[error("the catalog names {0} twice")]
    Twice(String),
}

/// A type as read.
pub(super) struct RawType {
    pub(super) oid: u32,
    pub(super) schema: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) letter: char,
    pub(super) category: char,
    pub(super) preferred: bool,
    pub(super) element: u32,
    pub(super) base: u32,
    pub(super) relation: u32,
    pub(super) subtype: u32,
    pub(super) own_functions: Box<[u32]>,
}

/// A relation as read.
pub(super) struct RawRelation {
    pub(super) oid: u32,
    pub(super) schema: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
}

/// A cast as read.
pub(super) struct RawCast {
    pub(super) source: u32,
    pub(super) target: u32,
    pub(super) implicit: bool,
    pub(super) function: Option<(u32, Arc<str>, Arc<str>)>,
}

/// Something that stands in a relation's way.
pub(super) struct RawHazard {
    pub(super) relation: u32,
    pub(super) mask: u8,
    pub(super) reason: String,
    /// The users' functions that it comes to, where it comes to functions.
    pub(super) functions: Option<Box<[u32]>>,
}

/// Something that an expression names.
pub(super) struct RawExpression {
    pub(super) of_type: bool,
    pub(super) owner: u32,
    pub(super) mask: u8,
    pub(super) holder: String,
    pub(super) what: Named,
    pub(super) oid: u32,
}

/// What an oid in an expression is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Function,
    Operator,
    Type,
    Relation,
    Other,
}

/// Inheritance or a foreign key.
pub(super) enum RawLink {
    Child { parent: u32, child: u32, partitioned: bool },
    Key { referenced: u32, referencing: u32, on_delete: char, on_update: char, deferrable: bool },
}

/// Code that no relation leads to.
pub(super) enum RawEverywhere {
    Class { of_type: u32, reason: String, functions: Box<[u32]> },
    Any(String),
    Search(String),
    Defines(String),
}

/// All rows, typed.
pub(super) struct Raw {
    pub(super) server_version_num: u32,
    pub(super) database: Arc<str>,
    pub(super) schemas: Vec<Arc<str>>,
    pub(super) relations: Vec<RawRelation>,
    pub(super) column_types: Vec<(u32, u32)>,
    pub(super) types: Vec<RawType>,
    pub(super) routines: Vec<Routine>,
    pub(super) builtins: Vec<Routine>,
    /// By name, with the functions behind one of a superuser: its own, then those of its selectivity.
    pub(super) operators: Vec<(Arc<str>, Operator, Box<[u32]>)>,
    pub(super) builtin_operators: Vec<(String, u32, u32)>,
    pub(super) casts: Vec<RawCast>,
    pub(super) hazards: Vec<RawHazard>,
    pub(super) expressions: Vec<RawExpression>,
    pub(super) links: Vec<RawLink>,
    pub(super) everywhere: Vec<RawEverywhere>,
    pub(super) event_triggers: Vec<(String, String)>,
    pub(super) columns: HashMap<u32, Vec<Column>>,
    pub(super) views: HashMap<u32, View>,
    pub(super) remarks: Vec<Remark>,
    pub(super) stamps: HashMap<u32, u64>,
    pub(super) keys: Vec<RawKey>,
    pub(super) computed: Vec<RawComputed>,
    pub(super) row_policies: Vec<(u32, RowPolicy)>,
    pub(super) in_c: Vec<RawInC>,
    pub(super) aggregates: Vec<RawAggregate>,
}

impl Snapshot {
    /// Reads the answers to [`QUERIES`] into a snapshot of that epoch.
    ///
    /// # Errors
    /// Any cell that does not read, any object named twice, a server of another version than 14 to 18. There is no
    /// partial snapshot.
    pub fn from_rows(rows: &Rows, epoch: u64) -> Result<Self, LoadError> {
        build::build(read(rows)?, epoch)
    }
}

impl Raw {
    /// Built-in operators of this server that nobody reviewed.
    pub(super) fn unreviewed_operators(&self) -> HashSet<Arc<str>> {
        let known = |name: &str, left: u32, right: u32| {
            builtins::operators(name).iter().any(|operator| operator.left == left && operator.right == right)
        };
        let unknown = self.builtin_operators.iter().filter(|(name, left, right)| !known(name, *left, *right));
        unknown.map(|(name, ..)| Arc::from(name.as_str())).collect()
    }

    fn first(&self, told: fn(&RawEverywhere) -> Option<&String>) -> Option<Arc<str>> {
        self.everywhere.iter().find_map(told).map(|reason| Arc::from(reason.as_str()))
    }

    /// Code that any statement reaches, beside casts.
    pub(super) fn everywhere(&self) -> Option<Arc<str>> {
        self.first(|entry| match entry {
            RawEverywhere::Any(reason) => Some(reason),
            RawEverywhere::Class { of_type, reason, .. } => (*of_type < FIRST_USER_OID).then_some(reason),
            RawEverywhere::Search(_) | RawEverywhere::Defines(_) => None,
        })
    }

    /// Code that text search reaches.
    pub(super) fn text_search(&self) -> Option<Arc<str>> {
        self.first(|entry| match entry {
            RawEverywhere::Search(reason) => Some(reason),
            RawEverywhere::Class { .. } | RawEverywhere::Any(_) | RawEverywhere::Defines(_) => None,
        })
    }

    /// Code that may define objects.
    pub(super) fn defines(&self) -> Option<Arc<str>> {
        self.first(|entry| match entry {
            RawEverywhere::Defines(reason) => Some(reason),
            RawEverywhere::Class { .. } | RawEverywhere::Any(_) | RawEverywhere::Search(_) => None,
        })
    }

    /// A cast of users between types of the server's own.
    pub(super) fn cast_between_builtins(&self) -> Option<Arc<str>> {
        let between = |cast: &&RawCast| cast.source < FIRST_USER_OID && cast.target < FIRST_USER_OID;
        self.casts.iter().find(between).map(|cast| match &cast.function {
            Some((_, schema, name)) => format!("a cast between built-in types runs {schema}.{name}").into(),
            None => "there is a cast between built-in types that the server was not made with".into(),
        })
    }
}

/// Names met before, so that each is held once.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.0.insert(name.clone());
        name
    }
}

/// One row and where it stands.
pub(super) struct Row<'r> {
    query: &'static str,
    row: usize,
    cells: &'r [Option<String>],
}

impl<'r> Row<'r> {
    fn bad(&self, column: usize, what: impl fmt::Display) -> LoadError {
        LoadError::Cell { query: self.query, row: self.row, column: column + 1, what: what.to_string() }
    }

    pub(super) fn maybe(&self, column: usize) -> Option<&'r str> {
        self.cells.get(column)?.as_deref()
    }

    pub(super) fn text(&self, column: usize) -> Result<&'r str, LoadError> {
        self.maybe(column).ok_or_else(|| self.bad(column, "NULL where a value must stand"))
    }

    pub(super) fn number<N: std::str::FromStr>(&self, column: usize) -> Result<N, LoadError> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.bad(column, format_args!("{text:?} is no number of that range")))
    }

    fn flag(&self, column: usize) -> Result<bool, LoadError> {
        match self.text(column)? {
            "t" => Ok(true),
            "f" => Ok(false),
            other => Err(self.bad(column, format_args!("{other:?} is neither t nor f"))),
        }
    }

    fn letter(&self, column: usize, of: &str) -> Result<char, LoadError> {
        let text = self.text(column)?;
        let mut letters = text.chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) if of.contains(letter) => Ok(letter),
            _ => Err(self.bad(column, format_args!("{text:?} is none of the letters {of:?}"))),
        }
    }

    pub(super) fn oids(&self, column: usize) -> Result<Box<[u32]>, LoadError> {
        let text = self.text(column)?;
        let read = |oid: &str| {
            oid.parse().map_err(|_| self.bad(column, format_args!("{text:?} is no list of oids")))
        };
        text.split_whitespace().map(read).collect()
    }
}

fn each<T>(
    rows: &Rows,
    query: usize,
    mut read: impl FnMut(&Row<'_>) -> Result<T, LoadError>,
) -> Result<Vec<T>, LoadError> {
    let Some(answer) = rows.0.get(query) else {
        return Err(LoadError::Answers { expected: QUERIES.len(), found: rows.0.len() });
    };
    let of = &QUERIES[query];
    let mut all = Vec::with_capacity(answer.len());
    for (index, cells) in answer.iter().enumerate() {
        if cells.len() != of.columns {
            let (expected, found) = (of.columns, cells.len());
            return Err(LoadError::Columns { query: of.name, row: index + 1, expected, found });
        }
        all.push(read(&Row { query: of.name, row: index + 1, cells })?);
    }
    Ok(all)
}

fn read(rows: &Rows) -> Result<Raw, LoadError> {
    if rows.0.len() != QUERIES.len() {
        return Err(LoadError::Answers { expected: QUERIES.len(), found: rows.0.len() });
    }
    let names = &mut Names::default();
    let mut server = each(rows, at::SERVER, |row| Ok((row.number::<u32>(0)?, names.intern(row.text(1)?))))?;
    let Some((server_version_num, database)) = server.pop() else {
        return Err(LoadError::Cell {
            query: QUERIES[at::SERVER].name,
            row: 1,
            column: 1,
            what: "no row came".into(),
        });
    };
    if !(SERVER_MAJOR_MIN..=SERVER_MAJOR_MAX).contains(&(server_version_num / 10_000)) {
        return Err(LoadError::Version(server_version_num));
    }
    let builtins = each(rows, at::BUILTIN_FUNCTIONS, |row| routine(row, names, false))?;
    let calls = &Calls::new(&builtins);
    Ok(Raw {
        server_version_num,
        database,
        schemas: each(rows, at::SCHEMAS, |row| Ok(names.intern(row.text(0)?)))?,
        relations: each(rows, at::RELATIONS, |row| relation(row, names))?,
        column_types: each(rows, at::COLUMN_TYPES, |row| Ok((row.number(0)?, row.number(1)?)))?,
        types: each(rows, at::TYPES, |row| raw_type(row, names))?,
        routines: each(rows, at::ROUTINES, |row| routine(row, names, true))?,
        builtins,
        operators: each(rows, at::OPERATORS, |row| operator(row, names))?,
        builtin_operators: each(rows, at::BUILTIN_OPERATORS, |row| {
            Ok((row.text(0)?.to_owned(), row.number(1)?, row.number(2)?))
        })?,
        casts: each(rows, at::CASTS, |row| cast(row, names))?,
        hazards: each(rows, at::HAZARDS, |row| {
            let functions = row.maybe(3).map(|_| row.oids(3)).transpose()?;
            let (relation, mask) = (row.number(0)?, row.number(1)?);
            Ok(RawHazard { relation, mask, reason: row.text(2)?.to_owned(), functions })
        })?,
        expressions: each(rows, at::EXPRESSIONS, expression)?,
        links: each(rows, at::LINKS, link)?,
        everywhere: each(rows, at::EVERYWHERE, everywhere)?,
        event_triggers: each(rows, at::EVENT_TRIGGERS, |row| {
            Ok((row.text(0)?.to_owned(), format!("{}.{}()", row.text(1)?, row.text(2)?)))
        })?,
        columns: columns(rows, names)?,
        views: views(rows, calls)?,
        row_policies: each(rows, at::POLICIES, |row| row_policy(row, calls))?,
        stamps: each(rows, at::STAMPS, |row| Ok((row.number(0)?, row.number::<i64>(1)?.cast_unsigned())))?
            .into_iter()
            .collect(),
        keys: each(rows, at::KEYS, key)?,
        in_c: each(rows, at::IN_C, reviewed::in_c)?,
        aggregates: each(rows, at::AGGREGATES, reviewed::aggregate)?,
        computed: each(rows, at::COMPUTED, computed)?,
        remarks: each(rows, at::REMARKS, |row| {
            Ok(Remark {
                relation: row.number(0)?,
                column: row.number(1)?,
                comment: row.text(2)? == "comment",
                words: row.text(3)?.into(),
            })
        })?,
    })
}

/// Columns by relation, with what generated ones are computed from.
fn columns(rows: &Rows, names: &mut Names) -> Result<HashMap<u32, Vec<Column>>, LoadError> {
    let mut inputs: HashMap<(u32, i16), Vec<i16>> = HashMap::new();
    let read = |row: &Row<'_>| Ok((row.number(0)?, row.number(1)?, row.number(2)?));
    for (relation, column, input) in each(rows, at::GENERATED, read)? {
        inputs.entry((relation, column)).or_default().push(input);
    }
    let mut all: HashMap<u32, Vec<Column>> = HashMap::new();
    let read = |row: &Row<'_>| {
        let (relation, number) = (row.number(0)?, row.number(1)?);
        let generated = row.flag(5)?;
        let inputs = inputs.remove(&(relation, number)).unwrap_or_default();
        let column = Column {
            number,
            name: names.intern(row.text(2)?),
            type_oid: row.number(3)?,
            text: row.text(4)? == "S",
            generated: generated.then(|| inputs.into()),
            default_varies: row.flag(6)?,
        };
        Ok((relation, column))
    };
    for (relation, column) in each(rows, at::COLUMNS, read)? {
        all.entry(relation).or_default().push(column);
    }
    Ok(all)
}

/// Definitions of views. A column that the server's dependencies name narrows a relation in the tree to it; a relation that
/// they do not name stays read whole.
fn views(rows: &Rows, calls: &Calls) -> Result<HashMap<u32, View>, LoadError> {
    let mut reads: HashMap<u32, Vec<(u32, i16)>> = HashMap::new();
    let read = |row: &Row<'_>| Ok((row.number(0)?, row.number(1)?, row.number(2)?));
    for (view, relation, column) in each(rows, at::VIEW_READS, read)? {
        reads.entry(view).or_default().push((relation, column));
    }
    let mut all = HashMap::new();
    let read = |row: &Row<'_>| {
        let text = row.maybe(1);
        let comparisons = text.and_then(|text| uses::comparisons(text, None, calls));
        Ok((row.number(0)?, text.and_then(tree::read).map(|view| View { comparisons, ..view })))
    };
    for (oid, view) in each(rows, at::VIEWS, read)? {
        let Some(mut view) = view else { continue };
        let mut depends = reads.remove(&oid).unwrap_or_default();
        if view.whole {
            depends.iter_mut().for_each(|(_, column)| *column = 0);
        }
        view.reads.retain(|(relation, _)| !depends.iter().any(|(other, _)| other == relation));
        view.reads.extend(depends);
        view.reads.sort_unstable();
        view.reads.dedup();
        all.insert(oid, view);
    }
    Ok(all)
}

fn relation(row: &Row<'_>, names: &mut Names) -> Result<RawRelation, LoadError> {
    let letter = row.text(3)?;
    let kind = Kind::from_relkind(letter)
        .ok_or_else(|| row.bad(3, format_args!("{letter:?} is no known relkind")))?;
    Ok(RawRelation {
        oid: row.number(0)?,
        schema: names.intern(row.text(1)?),
        name: names.intern(row.text(2)?),
        kind,
    })
}

fn raw_type(row: &Row<'_>, names: &mut Names) -> Result<RawType, LoadError> {
    Ok(RawType {
        oid: row.number(0)?,
        schema: names.intern(row.text(1)?),
        name: names.intern(row.text(2)?),
        letter: row.letter(3, "bcdeprm")?,
        category: row.text(4)?.chars().next().unwrap_or('X'),
        preferred: row.flag(5)?,
        element: row.number(6)?,
        base: row.number(7)?,
        relation: row.number(8)?,
        subtype: row.number(9)?,
        own_functions: row.oids(10)?,
    })
}

fn routine(row: &Row<'_>, names: &mut Names, whole: bool) -> Result<Routine, LoadError> {
    Ok(Routine {
        oid: row.number(0)?,
        schema: names.intern(row.text(1)?),
        name: names.intern(row.text(2)?),
        kind: row.letter(3, "fpaw")?,
        defaults: row.number(4)?,
        variadic: row.flag(5)?,
        arguments: row.oids(6)?,
        signature: names.intern(if whole { row.text(7)? } else { "" }),
        result: if whole { row.number(8)? } else { 0 },
        computes: false,
    })
}

/// An operator by its name, and the functions behind it.
type NamedOperator = (Arc<str>, Operator, Box<[u32]>);

fn operator(row: &Row<'_>, names: &mut Names) -> Result<NamedOperator, LoadError> {
    let operator = Operator {
        oid: row.number(0)?,
        schema: names.intern(row.text(1)?),
        left: row.number(3)?,
        right: row.number(4)?,
        result: row.number(5)?,
        function_schema: names.intern(row.text(6)?),
        function: names.intern(row.text(7)?),
        computes: false,
    };
    Ok((names.intern(row.text(2)?), operator, row.oids(8)?))
}

fn cast(row: &Row<'_>, names: &mut Names) -> Result<RawCast, LoadError> {
    let function = match (row.maybe(3), row.maybe(4)) {
        (Some(schema), Some(name)) => Some((row.number(5)?, names.intern(schema), names.intern(name))),
        _ => None,
    };
    Ok(RawCast {
        source: row.number(0)?,
        target: row.number(1)?,
        implicit: row.letter(2, "eai")? == 'i',
        function,
    })
}

fn expression(row: &Row<'_>) -> Result<RawExpression, LoadError> {
    let what = match row.text(4)? {
        "funcid" | "opfuncid" | "hashfuncid" | "negfuncid" | "aggfnoid" | "winfnoid" | "tsmhandler"
        | "startInRangeFunc" | "endInRangeFunc" => Named::Function,
        "opno" | "eqop" | "sortop" => Named::Operator,
        "resulttype" => Named::Type,
        "relid" => Named::Relation,
        "list" => Named::Other,
        other => return Err(row.bad(4, format_args!("{other:?} is no known key"))),
    };
    Ok(RawExpression {
        of_type: row.letter(0, "rt")? == 't',
        owner: row.number(1)?,
        mask: row.number(2)?,
        holder: row.text(3)?.to_owned(),
        what,
        oid: row.number(5)?,
    })
}

fn link(row: &Row<'_>) -> Result<RawLink, LoadError> {
    match row.text(0)? {
        "child" => Ok(RawLink::Child {
            parent: row.number(1)?,
            child: row.number(2)?,
            partitioned: row.letter(3, "rpf")? == 'p',
        }),
        "key" => Ok(RawLink::Key {
            referenced: row.number(1)?,
            referencing: row.number(2)?,
            on_delete: row.letter(3, "arcnd")?,
            on_update: row.letter(4, "arcnd")?,
            deferrable: row.flag(5)?,
        }),
        other => Err(row.bad(0, format_args!("{other:?} is neither child nor key"))),
    }
}

fn key(row: &Row<'_>) -> Result<RawKey, LoadError> {
    let numbers = |column: usize| -> Result<Box<[i16]>, LoadError> {
        let text = row.text(column)?;
        let read = |number: &str| {
            number.parse().map_err(|_| row.bad(column, format_args!("{text:?} is no list of columns")))
        };
        text.split_whitespace().map(read).collect()
    };
    let rule = match row.text(2)? {
        "u" => KeyRule::Unique,
        "x" => KeyRule::Exclusion,
        "c" => KeyRule::Check,
        "p" => KeyRule::Partition,
        "o" | "q" => KeyRule::Ordered { included: numbers(5)?, partial: row.text(2)? == "q" },
        "f" => KeyRule::References { relation: row.number(4)?, columns: numbers(5)? },
        other => return Err(row.bad(2, format_args!("{other:?} is no known kind of key"))),
    };
    Ok((row.number(0)?, Key { name: row.text(1)?.into(), columns: numbers(3)?, rule }, row.text(6)?.into()))
}

/// USING and WITH CHECK, by the relation.
fn row_policy(row: &Row<'_>, calls: &Calls) -> Result<(u32, RowPolicy), LoadError> {
    let relation = row.number(0)?;
    let read = |column: usize| -> Result<Option<Vec<Comparison>>, LoadError> {
        let text = row.text(column)?;
        Ok(if text.is_empty() { Some(Vec::new()) } else { uses::comparisons(text, Some(relation), calls) })
    };
    let both = read(2)?.zip(read(3)?).map(|(using, check)| [using, check].concat());
    Ok((relation, RowPolicy { name: row.text(1)?.into(), comparisons: both }))
}

fn computed(row: &Row<'_>) -> Result<RawComputed, LoadError> {
    Ok(RawComputed {
        relation: row.number(0)?,
        name: row.text(1)?.into(),
        decides: matches!(row.letter(2, "giup")?, 'u' | 'p'),
        expressions: row.text(3)?.into(),
        predicate: row.text(4)?.into(),
    })
}

fn everywhere(row: &Row<'_>) -> Result<RawEverywhere, LoadError> {
    let reason = row.text(2)?.to_owned();
    match row.text(0)? {
        "class" => Ok(RawEverywhere::Class { of_type: row.number(1)?, reason, functions: row.oids(3)? }),
        "any" => Ok(RawEverywhere::Any(reason)),
        "search" => Ok(RawEverywhere::Search(reason)),
        "defines" => Ok(RawEverywhere::Defines(reason)),
        other => Err(row.bad(0, format_args!("{other:?} is no known kind"))),
    }
}

//! Outlines: how a statement's columns flow, as far as its text says.
//!
//! Owns: the shape that [`crate::policy::labelled`] follows where a label is near: levels of queries, what each reads, its bare
//! outputs, and every other use of a name. May not: resolve a name. Whatever an outline does not follow is
//! [`Level::opaque`], with its reason: near a label that is a refusal, never a guess.

pub(super) mod build;
mod names;
mod writes;

use super::facts::NameUse;
pub(crate) use names::columns_in;
pub use writes::{Act, Conflict, Write};

/// What a statement does with the rows that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outline {
    /// Its outputs go to the client: SELECT, VALUES, DECLARE with FETCH, and RETURNING of a write.
    Rows(Box<Query>),
    /// COPY (query) TO STDOUT.
    CopyQuery(Box<Query>),
    /// COPY relation TO STDOUT: the columns listed, all where none is.
    CopyTable {
        /// The relation.
        relation: NameUse,
        /// The columns.
        columns: Vec<String>,
    },
    /// COPY relation FROM: the client's own values; names in its WHERE.
    CopyIn(Box<Query>),
    /// CREATE TABLE AS and SELECT INTO: its outputs become a relation's columns.
    Stores(Box<Query>),
    /// TRUNCATE and LOCK: no value is read.
    NoValues,
    /// PREPARE, EXECUTE, FETCH: what it carries has an outline of its own.
    Carries,
    /// EXPLAIN: plans tell of values by estimates, widths and times.
    Explains,
    /// Anything else.
    Opaque,
}

/// A query or a write, with its WITH list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The WITH list.
    pub with: Vec<With>,
    /// WITH RECURSIVE.
    pub recursive: bool,
    /// The two arms of a set operation; empty where it is none.
    pub arms: Vec<Query>,
    /// The level itself; of a set operation its ORDER BY and LIMIT.
    pub level: Level,
}

/// One query of a WITH list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct With {
    /// Its name.
    pub name: String,
    /// Names that it gives its columns.
    pub columns: Vec<String>,
    /// The query.
    pub query: Query,
}

/// One level of names: a SELECT, a VALUES list, or a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// What it reads, in the order of FROM.
    pub items: Vec<Item>,
    /// What RETURNING can name beside them, and no star holds: `old`, `new`.
    pub hidden: Vec<Item>,
    /// What it gives, in order.
    pub outputs: Vec<Output>,
    /// Every other use of a name.
    pub uses: Vec<Use>,
    /// Queries in expressions.
    pub queries: Vec<Inner>,
    /// What an INSERT stores.
    pub stores: Option<Box<Query>>,
    /// What it writes.
    pub writes: Vec<Write>,
    /// DISTINCT: outputs are compared.
    pub distinct: bool,
    /// Outputs used by their number, from 1.
    pub positions: Vec<(usize, Place)>,
    /// What is not followed here.
    pub opaque: Option<&'static str>,
}

/// A query in an expression of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    /// The query.
    pub query: Query,
    /// The level's names may be hidden from it (see [`Use::weak`]).
    pub weak: bool,
    /// EXISTS: what it gives is not looked at.
    pub exists: bool,
}

/// Something in FROM, or the target of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub source: Source,
    /// Its alias.
    pub alias: Option<String>,
    /// The alias's names for the first columns.
    pub columns: Vec<String>,
}

/// What an [`Item`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A relation, or a query of a WITH list.
    Relation(NameUse),
    /// The target of a write: never a query of a WITH list.
    Target(NameUse),
    /// A sub-select.
    Query {
        /// It.
        query: Box<Query>,
        /// It sees what stands left of it.
        lateral: bool,
    },
    /// A join.
    Join {
        /// Both sides.
        sides: Box<[Item; 2]>,
        /// NATURAL.
        natural: bool,
        /// USING.
        using: Vec<String>,
        /// The alias of USING.
        using_alias: Option<String>,
    },
    /// A function, XMLTABLE, JSON_TABLE: its arguments are uses of the level.
    Function,
    /// `excluded` of ON CONFLICT: the row that was to be inserted, whose values are the statement's own.
    Excluded,
}

/// One output, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its alias.
    pub alias: Option<String>,
    /// What it gives.
    pub gives: Gives,
}

/// What an [`Output`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gives {
    /// A bare name.
    Column(Use),
    /// A bare name under `::text`: the same as the name alone, where that is a `text` already.
    Text(Use),
    /// `*`, or `t.*`: the qualifier's parts.
    Star(Vec<String>),
    /// `(row).*`: as many columns as the row has, which no text tells. Its names are uses.
    Fields,
    /// Anything else: its names are uses.
    Expression,
}

/// A name used otherwise than as a bare output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Its parts.
    pub path: Vec<String>,
    /// `t.*`.
    pub star: bool,
    /// Where.
    pub place: Place,
    /// The server may see less of the level here than all of it (JOIN … ON, arguments in FROM): a name that is found in
    /// the level may mean an outer one all the same.
    pub weak: bool,
}

/// Where a name is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As a bare output.
    Output,
    /// In an expression of the outputs.
    Expression,
    /// WHERE.
    Where,
    /// A join's condition, USING, NATURAL.
    Join,
    /// GROUP BY.
    Group,
    /// HAVING.
    Having,
    /// ORDER BY.
    Order,
    /// DISTINCT.
    Distinct,
    /// LIMIT, OFFSET.
    Limit,
    /// WINDOW.
    Window,
    /// An argument in FROM.
    Argument,
    /// A value that is written.
    Assigned,
    /// ON CONFLICT.
    Conflict,
    /// MERGE.
    Merge,
    /// A set operation.
    SetOperation,
    /// The outputs of a query in an expression.
    SubSelect,
}

impl Place {
    /// Whether what stands there chooses, joins or orders rows, and is no part of what they hold.
    #[must_use]
    pub const fn chooses_alone(self) -> bool {
        match self {
            Place::Where
            | Place::Join
            | Place::Group
            | Place::Having
            | Place::Order
            | Place::Distinct
            | Place::Limit
            | Place::Window
            | Place::Conflict => true,
            Place::Output
            | Place::Expression
            | Place::Argument
            | Place::Assigned
            | Place::Merge
            | Place::SetOperation
            | Place::SubSelect => false,
        }
    }

    /// In words, behind "stands".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Place::Output => "as an output",
            Place::Expression => "in an expression",
            Place::Where => "in WHERE",
            Place::Join => "in a join's condition",
            Place::Group => "in GROUP BY",
            Place::Having => "in HAVING",
            Place::Order => "in ORDER BY",
            Place::Distinct => "under DISTINCT",
            Place::Limit => "in LIMIT or OFFSET",
            Place::Window => "in a window",
            Place::Argument => "in an argument",
            Place::Assigned => "in a value that is written",
            Place::Conflict => "in ON CONFLICT",
            Place::Merge => "in MERGE",
            Place::SetOperation => "in a set operation",
            Place::SubSelect => "in a sub-select of an expression",
        }
    }
}

impl Outline {
    /// Heap bytes it takes, near enough for a budget.
    #[must_use]
    pub fn footprint(&self) -> usize {
        match self {
            Outline::Rows(query)
            | Outline::CopyQuery(query)
            | Outline::CopyIn(query)
            | Outline::Stores(query) => query.footprint(),
            Outline::CopyTable { relation: _, columns } => {
                128 + columns.iter().map(|name| 24 + name.capacity()).sum::<usize>()
            }
            Outline::NoValues | Outline::Carries | Outline::Explains | Outline::Opaque => 0,
        }
    }
}

impl Query {
    fn footprint(&self) -> usize {
        let Self { with, recursive: _, arms, level } = self;
        let with: usize = with.iter().map(|with| 96 + with.query.footprint()).sum();
        size_of::<Self>() + with + arms.iter().map(Query::footprint).sum::<usize>() + level.footprint()
    }
}

impl Level {
    fn footprint(&self) -> usize {
        let path = |path: &[String]| path.iter().map(|part| 24 + part.capacity()).sum::<usize>();
        let used = |used: &Use| size_of::<Use>() + path(&used.path);
        let outputs = self.outputs.iter().map(|output| {
            size_of::<Output>()
                + match &output.gives {
                    Gives::Column(column) | Gives::Text(column) => used(column),
                    Gives::Star(parts) => path(parts),
                    Gives::Fields | Gives::Expression => 0,
                }
        });
        self.items.iter().chain(&self.hidden).map(Item::footprint).sum::<usize>()
            + outputs.sum::<usize>()
            + self.uses.iter().map(used).sum::<usize>()
            + self.queries.iter().map(|inner| inner.query.footprint()).sum::<usize>()
            + self.stores.as_ref().map_or(0, |query| query.footprint())
            + self.writes.iter().map(Write::footprint).sum::<usize>()
            + self.positions.len() * 16
    }
}

impl Item {
    fn footprint(&self) -> usize {
        let inside = match &self.source {
            Source::Relation(_) | Source::Target(_) => 96,
            Source::Query { query, lateral: _ } => query.footprint(),
            Source::Join { sides, natural: _, using, using_alias: _ } => {
                sides.iter().map(Item::footprint).sum::<usize>() + using.len() * 32
            }
            Source::Function | Source::Excluded => 0,
        };
        size_of::<Self>() + inside + self.columns.len() * 32
    }
}

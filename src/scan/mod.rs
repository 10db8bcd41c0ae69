//! `scan`: what a database holds, sampled; which labels it lacks; what has changed since.
//!
//! Owns: the sampling of a target, what is made of it, and the report. May not: write, hold a lock beyond ACCESS SHARE of one
//! relation, run code of users (unless views are asked for), or let a value into anything that leaves this module: the
//! report has names, types, counts and shapes. Fails by [`ScanError`]; a relation that cannot be read is told in the report,
//! and a scan that could read nothing is no good answer ([`report::Report::read_something`]).
//!
//! ```text
//! dial ─► BEGIN REPEATABLE READ READ ONLY ─► catalog snapshot ─► labels on it
//!             │                                     relations and columns, with privileges
//!             └─► SAVEPOINT ─► sample of one relation ─► tally by column ─► ROLLBACK TO ─┐
//!                                   ▲                                                    │
//!                                   └────────────── next, until the time limit ──────────┘
//!         ─► ROLLBACK ─► findings ─► report ─► (baseline) drift ─► (--toml) labels
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`class`], [`names`], [`shape`](mod@shape), [`tally`], [`judge`] | from values and names to findings |
//! | `read` | the SQL, and one relation's sample |
//! | [`report`], [`drift`], [`fragment`](mod@fragment) | what is told |

pub mod class;
pub mod drift;
pub mod fragment;
pub mod judge;
pub mod names;
mod read;
pub mod report;
pub mod shape;
pub mod tally;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use pgturnstile_rules::catalog::{Event, LoadError, Snapshot};
use pgturnstile_rules::policy::Labelled;
use pgturnstile_rules::policy::model::Label;
use pgturnstile_rules::policy::pattern::Pattern;
use tokio::time::Instant;

use crate::backend::catalog::{self, CatalogError, ask};
use crate::backend::error::Failure;
use crate::backend::settings::Guards;
use crate::backend::{ClientSettings, DialError, Login, StartupParameters, Target, dial};
use read::{Column, Kind, Listed, Part, Session, Taken};
use report::{Relation, Report, Sample, Settings};
use tally::Tally;

/// How long the connection and the catalog may take together.
const READY_DEADLINE: Duration = Duration::from_secs(120);
/// The server ends a scan that stands still.
const IDLE_MS: u32 = 120_000;
/// Most leaf partitions that are sampled of one table.
const PARTITIONS_MAX: usize = 16;
/// Fewest rows that are asked of a partition.
const PARTITION_ROWS_MIN: u64 = 100;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// No session.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The startup packet cannot be built.
    #[error("{0}")]
    Startup(String),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The catalog's answers are none.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The session broke.
    #[error("the scan broke off: {0}")]
    Broken(Failure),
    /// An answer that makes no sense.
    #[error("the server's answer to a query of the catalog does not read")]
    Strange,
}

/// What is scanned, and within which limits.
#[derive(Debug)]
pub struct Options {
    /// Limits, for the report.
    pub settings: Settings,
    /// Relations to look at; empty: all.
    pub only: Vec<Pattern>,
    /// Relations to leave out.
    pub skip: Vec<Pattern>,
    /// Also what runs code of users or other servers when it is read: views, foreign tables, row security by functions.
    pub with_code: bool,
    /// Read no row.
    pub names_only: bool,
}

impl Options {
    fn wants(&self, relation: &Listed) -> bool {
        let names = |pattern: &Pattern| match pattern {
            Pattern::Relation { schema, name } => {
                schema.matches(&relation.schema) && name.matches(&relation.name)
            }
            Pattern::Star => true,
            Pattern::Function { .. } | Pattern::Kind(_) | Pattern::Setting(_) | Pattern::Label(_) => false,
        };
        (self.only.is_empty() || self.only.iter().any(names)) && !self.skip.iter().any(names)
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'p> {
    /// Relations done.
    pub done: usize,
    /// Of so many.
    pub of: usize,
    /// Schema of the one that is next.
    pub schema: &'p str,
    /// Its name.
    pub name: &'p str,
}

/// Scans a target. `labels` are the policy's.
///
/// # Errors
/// [`ScanError`]; a relation that cannot be read is none.
pub async fn scan(
    target: &Target,
    login: &Login<'_>,
    labels: &[Label],
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, ScanError> {
    let began = Instant::now();
    let deadline = began + READY_DEADLINE;
    let guards = Guards {
        read_only: true,
        statement_timeout_ms: Some(60_000),
        lock_timeout_ms: Some(options.settings.lock_timeout_ms),
        idle_in_transaction_ms: Some(IDLE_MS),
        search_path: Vec::new(),
    };
    let user = &login.credential.user;
    let parameters =
        StartupParameters::build(user, target.database(), &ClientSettings::default(), &guards, "scan")
            .map_err(|error| ScanError::Startup(error.to_string()))?;
    let mut connected = dial(target, login, &parameters, deadline).await?;
    let server = connected.version.text.clone();
    let stream = &mut connected.stream;
    catalog::greet(stream, deadline).await?;
    ask(stream, "begin", read::OPEN, deadline).await?;
    let snapshot = Snapshot::from_rows(&catalog::read(stream, deadline).await?, 1)?;
    let labelled = Labelled::new(labels, &snapshot);
    let mut session = Session {
        stream,
        statement_timeout: Duration::from_millis(options.settings.statement_timeout_ms.into()),
        seed: options.settings.seed,
        block_bytes: 0,
        raw: false,
    };
    let listed = session.list().await?;
    let limit = format!("SET LOCAL statement_timeout TO {}", options.settings.statement_timeout_ms);
    ask(session.stream, "statement timeout", &limit, deadline).await?;
    ask(session.stream, "savepoint", "SAVEPOINT scan", deadline).await?;
    let mut report = Report {
        version: report::VERSION,
        at: jiff::Timestamp::now().to_string(),
        target: target.name().to_owned(),
        database: target.database().to_owned(),
        server,
        login: user.clone(),
        settings: options.settings.clone(),
        relations: Vec::new(),
        columns: Vec::new(),
        unlabelled: 0,
        drift: None,
    };
    let end = began + Duration::from_secs(options.settings.time_limit_s);
    let run = Run { options, snapshot: &snapshot, labelled: &labelled, listed: &listed, end };
    run.all(&mut session, &mut report, progress).await?;
    ask(session.stream, "rollback", "ROLLBACK", Instant::now() + READY_DEADLINE).await?;
    // The report is whole, however the session ends.
    drop(connected.close().await);
    report.unlabelled = report.uncovered().count() as u64;
    Ok(report)
}

/// What one scan stands on.
struct Run<'r> {
    options: &'r Options,
    snapshot: &'r Snapshot,
    labelled: &'r Labelled,
    listed: &'r [Listed],
    end: Instant,
}

impl Run<'_> {
    async fn all(
        &self,
        session: &mut Session<'_>,
        report: &mut Report,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), ScanError> {
        let mut leaves: HashMap<u32, Vec<&Listed>> = HashMap::new();
        for relation in self.listed {
            if let (Some(root), Kind::Table) = (relation.root, relation.kind) {
                leaves.entry(root).or_default().push(relation);
            }
        }
        let wanted: Vec<&Listed> = self
            .listed
            .iter()
            .filter(|relation| relation.root.is_none() && self.options.wants(relation))
            .collect();
        for (done, relation) in wanted.iter().enumerate() {
            progress(Progress { done, of: wanted.len(), schema: &relation.schema, name: &relation.name });
            let parts = leaves.get(&relation.oid).map_or(&[][..], Vec::as_slice);
            self.relation(session, relation, parts, report).await?;
        }
        Ok(())
    }

    /// One relation with its partitions, into the report.
    async fn relation(
        &self,
        session: &mut Session<'_>,
        relation: &Listed,
        leaves: &[&Listed],
        report: &mut Report,
    ) -> Result<(), ScanError> {
        let mut told = Relation {
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            kind: relation.kind.words().to_owned(),
            partitions: (relation.kind == Kind::Partitioned).then_some(leaves.len() as u64),
            partitions_sampled: None,
            sample: None,
            skipped: self.skipped(relation, leaves),
            notes: Vec::new(),
        };
        if relation.row_security {
            told.notes.push("row security may hide rows from this login".to_owned());
        }
        let columns: Vec<&Column> =
            relation.columns.iter().filter(|column| column.readable && column.has_values()).collect();
        let mut tallies = Vec::new();
        if told.skipped.is_none() && !columns.is_empty() {
            let taken = self.take(session, relation, leaves, &columns, &mut told).await?;
            if taken.rows == 0 && taken.cut.is_some() {
                told.skipped = taken.cut;
            } else {
                tallies = taken.tallies;
                told.sample = Some(Sample { rows: taken.rows, how: taken.how.to_owned(), cut: taken.cut });
            }
        } else if told.skipped.is_none() {
            told.sample =
                Some(Sample { rows: 0, how: "no column that can hold anything".to_owned(), cut: None });
        }
        let by_number: BTreeMap<i16, &Tally> =
            columns.iter().map(|column| column.number).zip(&tallies).collect();
        let none = Tally::default();
        for column in &relation.columns {
            let tally = by_number.get(&column.number).copied().unwrap_or(&none);
            report.columns.push(self.column(relation, column, tally, told.skipped.as_deref()));
        }
        report.relations.push(told);
        Ok(())
    }

    /// Why a relation is not read.
    fn skipped(&self, relation: &Listed, leaves: &[&Listed]) -> Option<String> {
        if self.options.names_only {
            return Some("names only were asked for".to_owned());
        }
        if Instant::now() >= self.end {
            return Some("the time limit of the scan had passed (--time-limit)".to_owned());
        }
        if !relation.readable && !leaves.iter().any(|leaf| leaf.readable) {
            return Some("permission denied: the login may select from no column of it".to_owned());
        }
        if !relation.populated {
            return Some("it has not been populated".to_owned());
        }
        match relation.kind {
            Kind::View | Kind::Foreign if self.options.with_code => None,
            Kind::View => {
                Some("a view: labels reach it from what it reads (--with-code reads it)".to_owned())
            }
            Kind::Foreign => {
                Some("a foreign table: reading it asks another server (--with-code reads it)".to_owned())
            }
            Kind::Table | Kind::Partitioned | Kind::MaterializedView => {
                let code = self.code(relation)?;
                Some(format!("reading it may run code of users: {code} (--with-code reads it)"))
            }
        }
    }

    /// Code of users that runs when a table is read: row security's, where it stands in this login's way. What types need is
    /// a superuser's.
    fn code(&self, relation: &Listed) -> Option<&Arc<str>> {
        if !relation.row_security || self.options.with_code {
            return None;
        }
        self.snapshot.relation_by_oid(relation.oid)?.code(Event::Read)
    }

    /// A sample of the relation, or of its partitions together.
    async fn take(
        &self,
        session: &mut Session<'_>,
        relation: &Listed,
        leaves: &[&Listed],
        columns: &[&Column],
        told: &mut Relation,
    ) -> Result<Taken, ScanError> {
        let rows = self.options.settings.rows;
        let readable: Vec<&&Listed> =
            leaves.iter().filter(|leaf| leaf.readable && self.code(leaf).is_none()).collect();
        if readable.is_empty() {
            let with_children = relation.kind == Kind::Partitioned;
            return session.take(&Part { relation, with_children, columns, rows }).await;
        }
        let chosen: Vec<&&Listed> = spread(&readable, PARTITIONS_MAX);
        let each = (rows / chosen.len().max(1) as u64).max(PARTITION_ROWS_MIN);
        let mut parts: Vec<Vec<Tally>> = columns.iter().map(|_| Vec::new()).collect();
        let mut all = Taken { tallies: Vec::new(), rows: 0, how: "partitions", cut: None };
        for leaf in chosen.iter().take_while(|_| Instant::now() < self.end) {
            let taken =
                session.take(&Part { relation: leaf, with_children: false, columns, rows: each }).await?;
            parts.iter_mut().zip(taken.tallies).for_each(|(parts, tally)| parts.push(tally));
            all.rows += taken.rows;
            all.cut = all.cut.or(taken.cut);
        }
        told.partitions_sampled = Some(chosen.len() as u64);
        all.tallies = parts.into_iter().map(Tally::of_parts).collect();
        Ok(all)
    }

    fn column(
        &self,
        relation: &Listed,
        column: &Column,
        tally: &Tally,
        skipped: Option<&str>,
    ) -> report::Column {
        let facts = judge::Facts { name: &column.name, family: column.family, text: column.text };
        let skipped = skipped
            .map(str::to_owned)
            .or_else(|| (!column.readable).then(|| "permission denied on the column".to_owned()));
        report::Column {
            schema: relation.schema.clone(),
            relation: relation.name.clone(),
            column: column.name.clone(),
            type_name: column.type_name.clone(),
            looked: tally.looked,
            absent: tally.absent,
            finding: judge::finding(facts, tally),
            label: self.label(relation.oid, column.number),
            skipped,
        }
    }

    /// The label that covers a column: its own, one that spreads to it, or a closed relation's.
    fn label(&self, relation: u32, column: i16) -> Option<report::Label> {
        let own = self.labelled.hit(relation, column).and_then(|hit| self.labelled.fact(hit)).map(|fact| {
            report::Label {
                rule: fact.rule.id.to_string(),
                place: fact.rule.place.to_string(),
                tier: Some(fact.tier.name().to_owned()),
            }
        });
        own.or_else(|| {
            self.labelled.closed(relation).map(|closed| report::Label {
                rule: closed.rule.id.to_string(),
                place: closed.rule.place.to_string(),
                tier: None,
            })
        })
    }
}

/// At most so many of them, spread over all.
fn spread<'a, T>(all: &[&'a T], most: usize) -> Vec<&'a T> {
    let step = all.len().div_ceil(most.max(1)).max(1);
    all.iter().step_by(step).copied().collect()
}

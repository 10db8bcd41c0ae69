//! What is asked of the target: which relations there are, and samples of them.
//!
//! Owns: the SQL. It names everything whole, calls built-ins alone, and casts nothing: a cast may be code of users. May not:
//! keep a value. Each relation is read behind a savepoint that is rolled back to: its lock goes with it, and an error ends
//! one relation, not the scan. What the server says in an error is not repeated: it may quote a value.

use std::time::Duration;

use pgturnstile_proto::backend::DataRow;
use pgturnstile_rules::mask::shape::Shape;
use pgturnstile_rules::mask::value::unhex;
use tokio::time::Instant;

use super::ScanError;
use super::names::Family;
use super::tally::{Spelling, Tally};
use crate::backend::catalog::ask;
use crate::backend::error::Failure;
use crate::backend::query::each_row;
use crate::net::stream::Stream;

/// Opens the one transaction of a scan. Names are whole, so nothing of a schema can be caught; no worker is started.
pub(super) const OPEN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL application_name TO 'pgturnstile scan'; SET LOCAL statement_timeout TO '60s'";

/// Most bytes of one relation's sample.
const SAMPLE_BYTES_MAX: usize = 4 << 30;
/// What the row limit is made of: the most characters that a sample's rows may have together.
const SAMPLE_CHARACTERS: u64 = 1 << 30;
/// Most characters of a text, and bytes of a `bytea`, that are asked for.
const TEXT_MAX: u64 = 4_096;
/// Most characters of a container.
const CONTAINER_MAX: u64 = 16_384;
/// Stored bytes from which a container is not read.
const STORED_BYTES_MAX: u64 = 65_536;
/// What an ordinary value of another type takes.
const VALUE_BYTES: u64 = 64;
/// Pages that a sample has at least: rows that came together look alike.
const PAGES_MIN: u64 = 64;
/// Rows of a page where nobody has counted them.
const ROWS_PER_PAGE: f64 = 40.0;
/// How much longer than its own limit a statement is waited for.
const SLACK: Duration = Duration::from_secs(15);

/// Relations that may hold values of users, with what decides how they are read.
const RELATIONS: &str = r"SELECT c.oid, n.nspname, c.relname, c.relkind, c.reltuples, c.relpages,
  CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid)::pg_catalog.oid END,
  pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT'),
  c.relispopulated, pg_catalog.row_security_active(c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND c.oid >= 16384
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY n.nspname, c.relname";

/// Their columns, with the type below a domain.
const COLUMNS: &str = r"WITH RECURSIVE domains (oid, base) AS (
  SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
  UNION ALL
  SELECT d.oid, t.typbasetype FROM domains d JOIN pg_catalog.pg_type t ON t.oid = d.base WHERE t.typtype = 'd')
SELECT a.attrelid, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), b.oid, b.typcategory, b.typtype,
  pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'), a.attnum
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN domains d ON d.oid = t.oid AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_type i WHERE i.oid = d.base AND i.typtype = 'd')
JOIN pg_catalog.pg_type b ON b.oid = coalesce(d.base, t.oid)
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
  AND c.oid >= 16384 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY a.attrelid, a.attnum";

/// How the server keeps values.
const STORAGE: &str = "SELECT pg_catalog.current_setting('block_size'), pg_catalog.getdatabaseencoding()";

/// A relation as the catalog has it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    rows: f64,
    pages: u64,
    /// The partitioned table that it belongs to.
    pub(super) root: Option<u32>,
    pub(super) readable: bool,
    pub(super) populated: bool,
    pub(super) row_security: bool,
    pub(super) columns: Vec<Column>,
}

/// `pg_class.relkind`, as far as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
}

impl Kind {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::Partitioned => "partitioned table",
            Kind::View => "view",
            Kind::MaterializedView => "materialized view",
            Kind::Foreign => "foreign table",
        }
    }

    fn of(letter: &str) -> Option<Self> {
        Some(match letter {
            "r" => Kind::Table,
            "p" => Kind::Partitioned,
            "v" => Kind::View,
            "m" => Kind::MaterializedView,
            "f" => Kind::Foreign,
            _ => return None,
        })
    }
}

/// A column as the catalog has it.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) number: i16,
    pub(super) name: String,
    pub(super) type_name: String,
    pub(super) family: Family,
    /// In the category of strings: a mask can be a text.
    pub(super) text: bool,
    pub(super) readable: bool,
    /// How its values are read; `None` for a type that can hold nothing.
    how: Option<(Source, Spelling)>,
}

impl Column {
    /// Whether its type can hold anything that values show.
    pub(super) fn has_values(&self) -> bool {
        self.how.is_some()
    }
}

/// How the server is asked for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The first characters of a built-in text.
    Text,
    /// The first bytes of a `bytea`.
    Bytes,
    /// The first characters of what this built-in output function makes of it.
    Output(&'static str),
    /// As it is: built-in types of fixed width, and types of users, whose casts may be code.
    Plain,
    /// As it is, where it is not too wide.
    Wide,
}

impl Source {
    fn of(type_oid: u32, category: &str) -> Self {
        match (type_oid, category) {
            (19 | 25 | 1042 | 1043, _) => Source::Text,
            (17, _) => Source::Bytes,
            (114, _) => Source::Output("json_out"),
            (3802, _) => Source::Output("jsonb_out"),
            (142, _) => Source::Output("xml_out"),
            (0..16_384, "A") => Source::Output("array_out"),
            (20 | 21 | 23 | 700 | 701 | 790 | 1700, _) => Source::Plain,
            (_, _) => Source::Wide,
        }
    }

    fn characters(self) -> u64 {
        match self {
            Source::Text | Source::Bytes => TEXT_MAX,
            Source::Output(_) | Source::Wide => CONTAINER_MAX,
            Source::Plain => VALUE_BYTES,
        }
    }

    /// What is selected; with `raw` the bytes of a text as `bytea`.
    fn expression(self, column: &str, raw: bool) -> String {
        let text =
            |what: String| if raw { format!("pg_catalog.convert_to({what}, 'SQL_ASCII')") } else { what };
        let narrow = |what: String| {
            format!("CASE WHEN pg_catalog.pg_column_size({column}) <= {STORED_BYTES_MAX} THEN {what} END")
        };
        match self {
            Source::Text => text(format!("pg_catalog.left({column}, {TEXT_MAX})")),
            Source::Bytes => format!("pg_catalog.substring({column}, 1, {TEXT_MAX})"),
            Source::Output(function) => narrow(text(format!(
                "pg_catalog.left(pg_catalog.textin(pg_catalog.{function}({column})), {CONTAINER_MAX})"
            ))),
            Source::Plain => column.to_owned(),
            Source::Wide => narrow(column.to_owned()),
        }
    }
}

fn spelling(type_oid: u32, category: &str, kind: &str) -> Option<Spelling> {
    let shape = Shape::of(type_oid, false);
    match (type_oid, category, kind) {
        // The labels of an enum are no values of users.
        (_, _, "e") => None,
        (20 | 21 | 23 | 1700, _, _) => Some(Spelling::Number),
        (_, "S", _) => Some(Spelling::Text),
        (_, _, _) => shape.may_hold().then_some(Spelling::Container(shape)),
    }
}

/// A session of the scan.
pub(super) struct Session<'s> {
    pub(super) stream: &'s mut Stream,
    pub(super) statement_timeout: Duration,
    pub(super) seed: u32,
    pub(super) block_bytes: u64,
    /// The database has no encoding (SQL_ASCII): as text, the server sends only what is UTF-8.
    pub(super) raw: bool,
}

/// How one relation is read.
pub(super) struct Part<'p> {
    pub(super) relation: &'p Listed,
    /// Also what inherits from it: where no partition may be read by itself.
    pub(super) with_children: bool,
    /// Names of the columns, in order.
    pub(super) columns: &'p [&'p Column],
    pub(super) rows: u64,
}

/// What came of reading one.
pub(super) struct Taken {
    pub(super) tallies: Vec<Tally>,
    pub(super) rows: u64,
    pub(super) how: &'static str,
    /// Why it ended early, or gave nothing.
    pub(super) cut: Option<String>,
}

impl Session<'_> {
    fn deadline(&self) -> Instant {
        Instant::now() + self.statement_timeout + SLACK
    }

    /// Everything that there is to read.
    pub(super) async fn list(&mut self) -> Result<Vec<Listed>, ScanError> {
        let deadline = self.deadline() + Duration::from_secs(60);
        let rows = ask(self.stream, "relations to scan", RELATIONS, deadline).await?;
        let mut listed =
            rows.into_iter().map(relation).collect::<Option<Vec<_>>>().ok_or(ScanError::Strange)?;
        let columns = ask(self.stream, "columns to scan", COLUMNS, deadline).await?;
        let place: std::collections::HashMap<u32, usize> =
            listed.iter().enumerate().map(|(at, relation)| (relation.oid, at)).collect();
        for row in columns {
            let (of, column) = column(row).ok_or(ScanError::Strange)?;
            if let Some(relation) = place.get(&of).and_then(|at| listed.get_mut(*at)) {
                relation.columns.push(column);
            }
        }
        let rows = ask(self.stream, "block size and encoding", STORAGE, deadline).await?;
        let cell = |at: usize| rows.first()?.get(at)?.as_deref();
        self.block_bytes = cell(0).and_then(|bytes| bytes.parse().ok()).ok_or(ScanError::Strange)?;
        self.raw = cell(1).ok_or(ScanError::Strange)? == "SQL_ASCII";
        Ok(listed)
    }

    /// Reads one relation, and rolls back to the savepoint before it.
    pub(super) async fn take(&mut self, part: &Part<'_>) -> Result<Taken, ScanError> {
        let mut taken = Taken {
            tallies: part.columns.iter().map(|_| Tally::default()).collect(),
            rows: 0,
            how: "all rows",
            cut: None,
        };
        let outcome = self.sample(part, &mut taken).await;
        if let Err(failure) = outcome {
            taken.cut = Some(reason(failure)?);
        }
        let deadline = self.deadline();
        ask(self.stream, "rollback to", "ROLLBACK TO SAVEPOINT scan", deadline).await?;
        Ok(taken)
    }

    async fn sample(&mut self, part: &Part<'_>, taken: &mut Taken) -> Result<(), Failure> {
        let sources: Vec<(Source, Spelling)> = part.columns.iter().filter_map(|column| column.how).collect();
        let width: u64 = sources.iter().map(|(source, _)| source.characters()).sum();
        let rows = part.rows.min(SAMPLE_CHARACTERS / width.max(1)).max(1);
        let percent = self.percent(part, rows).await?;
        let raw = self.raw;
        let expressions: Vec<String> = part
            .columns
            .iter()
            .zip(&sources)
            .map(|(column, (source, _))| source.expression(&identifier(&column.name), raw))
            .collect();
        let only = if part.with_children || part.relation.kind == Kind::View { "" } else { "ONLY " };
        let pages = percent.as_ref().map_or_else(String::new, |percent| {
            format!(" TABLESAMPLE SYSTEM ({percent}) REPEATABLE ({})", self.seed)
        });
        let text = format!(
            "SELECT {} FROM {only}{}.{}{pages} LIMIT {rows}",
            expressions.join(", "),
            identifier(&part.relation.schema),
            identifier(&part.relation.name),
        );
        let (mut count, tallies) = (0, &mut taken.tallies);
        let mut take = |row: &DataRow<'_>| {
            count += 1;
            for ((tally, (source, spelling)), value) in tallies.iter_mut().zip(&sources).zip(row.columns()) {
                let spelled = raw && matches!(source, Source::Text | Source::Output(_));
                match value.and_then(|value| value.strip_prefix(b"\\x")).filter(|_| spelled) {
                    Some(digits) => tally.add(*spelling, Some(&unhex(digits))),
                    None => tally.add(*spelling, value),
                }
            }
        };
        let deadline = self.deadline();
        let outcome = each_row(self.stream, &text, SAMPLE_BYTES_MAX, deadline, &mut take).await;
        taken.rows = count;
        taken.how = match (percent, count < rows) {
            (Some(_), _) => "random pages",
            (None, true) => "all rows",
            (None, false) => "the first rows",
        };
        outcome.map(drop)
    }

    /// The share of its pages to read, where it has far more rows than are wanted.
    async fn percent(&mut self, part: &Part<'_>, rows: u64) -> Result<Option<String>, Failure> {
        let relation = part.relation;
        let samples = match relation.kind {
            Kind::Table | Kind::MaterializedView => !part.with_children,
            Kind::Partitioned | Kind::View | Kind::Foreign => false,
        };
        if !samples {
            return Ok(None);
        }
        let text = format!("SELECT pg_catalog.pg_relation_size({}::pg_catalog.oid)", relation.oid);
        let mut bytes = 0_u64;
        let mut take = |row: &DataRow<'_>| {
            let value = row.columns().iter().next().flatten();
            bytes = value.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or_default();
        };
        let deadline = self.deadline();
        each_row(self.stream, &text, SAMPLE_BYTES_MAX, deadline, &mut take).await?;
        let pages = bytes / self.block_bytes.max(1);
        Ok(share(pages, density(relation), rows))
    }
}

/// Rows of a page, as ANALYZE or VACUUM counted them.
#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn density(relation: &Listed) -> f64 {
    if relation.rows > 0.0 && relation.pages > 0 {
        relation.rows / relation.pages as f64
    } else {
        ROWS_PER_PAGE
    }
}

/// Percent of the pages that hold about so many rows; `None` where that is about all of them.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate"
)]
fn share(pages: u64, density: f64, rows: u64) -> Option<String> {
    let wanted = ((rows as f64 * 1.2 / density.max(0.01)).ceil() as u64).max(PAGES_MIN);
    (pages > wanted.saturating_mul(2)).then(|| format!("{:.9}", 100.0 * wanted as f64 / pages as f64))
}

/// What ended one relation, in our words; what ends the scan is an error.
fn reason(failure: Failure) -> Result<String, ScanError> {
    let Failure::Rejected { rejection, .. } = &failure else { return Err(ScanError::Broken(failure)) };
    Ok(match rejection.sqlstate.as_str() {
        "42501" => "permission denied".to_owned(),
        "57014" => "the limit of one statement passed".to_owned(),
        "55P03" => "another session holds a lock on it that excludes readers".to_owned(),
        "42P01" | "3F000" => "it was dropped meanwhile".to_owned(),
        "25006" => "reading it would write".to_owned(),
        "55000" | "0A000" => "the server cannot read it now".to_owned(),
        "22021" | "22P05" => "it holds text that is not valid in the database's encoding".to_owned(),
        // The session is gone: shut down, terminated, out of connections.
        code if code.starts_with("57P") || code.starts_with("08") => return Err(ScanError::Broken(failure)),
        code => format!("the server refused (SQLSTATE {code})"),
    })
}

/// A name between double quotes.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn relation(row: Vec<Option<String>>) -> Option<Listed> {
    let [oid, schema, name, kind, rows, pages, root, readable, populated, row_security] =
        <[Option<String>; 10]>::try_from(row).ok()?;
    let yes = |cell: Option<String>| cell.as_deref() == Some("t");
    Some(Listed {
        oid: oid?.parse().ok()?,
        schema: schema?,
        name: name?,
        kind: Kind::of(&kind?)?,
        rows: rows?.parse().ok()?,
        pages: pages?.parse().unwrap_or_default(),
        root: root.and_then(|root| root.parse().ok()),
        readable: yes(readable),
        populated: yes(populated),
        row_security: yes(row_security),
        columns: Vec::new(),
    })
}

fn column(row: Vec<Option<String>>) -> Option<(u32, Column)> {
    let [of, name, type_name, type_oid, category, kind, readable, number] =
        <[Option<String>; 8]>::try_from(row).ok()?;
    let (type_oid, category): (u32, String) = (type_oid?.parse().ok()?, category?);
    let how =
        spelling(type_oid, &category, &kind?).map(|spelling| (Source::of(type_oid, &category), spelling));
    let column = Column {
        number: number?.parse().ok()?,
        name: name?,
        type_name: type_name?,
        family: Family::of(type_oid),
        text: category == "S",
        readable: readable.as_deref() == Some("t"),
        how,
    };
    Some((of?.parse().ok()?, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_of_pages_only_where_there_are_many() {
        assert_eq!(share(100, 100.0, 10_000), None);
        assert_eq!(share(240, 100.0, 10_000), None);
        assert_eq!(share(12_000, 100.0, 10_000).as_deref(), Some("1.000000000"));
        assert_eq!(share(1_000_000, 1_000.0, 10), Some("0.006400000".to_owned()));
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(identifier("a\"b; drop table c"), "\"a\"\"b; drop table c\"");
    }

    #[test]
    fn a_type_of_users_is_never_cast() {
        assert_eq!(
            Source::of(16_400, "S").expression("\"c\"", false),
            "CASE WHEN pg_catalog.pg_column_size(\"c\") <= 65536 THEN \"c\" END"
        );
        assert_eq!(Source::of(25, "S").expression("\"c\"", false), "pg_catalog.left(\"c\", 4096)");
        assert_eq!(
            Source::Text.expression("c", true),
            "pg_catalog.convert_to(pg_catalog.left(c, 4096), 'SQL_ASCII')"
        );
        assert_eq!(Source::of(16_400, "A"), Source::Wide);
        assert_eq!(Source::of(1009, "A"), Source::Output("array_out"));
    }
}

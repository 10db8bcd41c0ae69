//! The evidence as tables: a SQLite database that is built from the records and can be thrown away.
//!
//! Owns: the schema (`schema.sql`, told in README.md of the folder above), what of the log an index holds, and the connection that
//! a question runs on. May not: be a source of anything: every run verifies the log, and an index whose records are not
//! the log's is built anew. Whoever may write its file may make it lie: without a file it is private to the process, and gone with it.
//!
//! ```text
//!            log's first N records are those of the index?
//!  open ──┬── yes ──> only what was told behind N is added ──┐
//!         └── no, or none ──> emptied, all of it is added ───┴──> committed with N and their fingerprint ──> questions
//! ```

mod fill;
mod parts;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, ErrorCode, OpenFlags};

pub use rusqlite::types::ValueRef;

use super::event::Event;
use super::stand::Stand;
use crate::evidence::checkpoint::unhex;
use crate::evidence::describe::hex;
use fill::Fill;

/// What tells our files from others' (`PRAGMA application_id`): "PGTI".
const APPLICATION_ID: i64 = 0x5047_5449;
/// The schema's version (`PRAGMA user_version`); another one is built anew.
const SCHEMA_VERSION: i64 = 4;
/// First bytes of SQLite's files.
const MAGIC: &[u8] = b"SQLite format 3\0";
const SCHEMA: &str = include_str!("schema.sql");

/// Why there is no index, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file holds something else.
    #[error("it is no index of pgturnstile's evidence: name another file, or none")]
    NotOurs,
    /// SQLite's own words.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The question changes something, or asks for another file.
    #[error(
        "only questions are answered: one SELECT (or WITH … SELECT, VALUES) over the tables of the index"
    )]
    NoQuestion,
    /// Its titles are of no use to who hears the answer.
    #[error("{0}")]
    Titles(String),
}

/// The database.
pub struct Index {
    connection: Connection,
    stand: Option<Stand>,
}

impl Index {
    /// Opens the index in a file, or a private one that is gone with the process.
    ///
    /// # Errors
    /// The file holds something else, or cannot be used.
    pub fn open(path: Option<&Path>) -> Result<Index, IndexError> {
        if path.is_some_and(is_foreign) {
            return Err(IndexError::NotOurs);
        }
        // SQLite's own name for a private database that may outgrow the memory.
        let connection = match path {
            Some(path) => Connection::open(path)?,
            None => Connection::open("")?,
        };
        let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let (application, version) = match (number("application_id"), number("user_version")) {
            (Ok(application), Ok(version)) => (application, version),
            (Err(_), _) | (_, Err(_)) => return Err(IndexError::NotOurs),
        };
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if application != APPLICATION_ID && tables > 0 {
            return Err(IndexError::NotOurs);
        }
        // It can be built anew: a crash of the machine may cost it, and no sync is worth its time.
        connection.pragma_update(None, "synchronous", "OFF")?;
        let mut index = Index { connection, stand: None };
        if application == APPLICATION_ID && version == SCHEMA_VERSION {
            index.stand = index.read_stand();
        }
        Ok(index)
    }

    /// What it holds; `None` where that is nothing.
    pub fn stand(&self) -> Option<Stand> {
        self.stand
    }

    fn read_stand(&self) -> Option<Stand> {
        let value = |name: &str| -> Option<String> {
            let sql = "SELECT value FROM meta WHERE name = ?1";
            self.connection.query_row(sql, [name], |row| row.get(0)).ok()
        };
        Some(Stand { records: value("records")?.parse().ok()?, fingerprint: unhex(&value("fingerprint")?)? })
    }

    /// Begins to add events; `keep` the stand that it has, or begin from nothing.
    ///
    /// # Errors
    /// SQLite's.
    pub fn filling(&mut self, keep: bool) -> Result<Filling<'_>, IndexError> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        if !keep || self.stand.is_none() {
            self.stand = None;
            empty(&self.connection)?;
            self.connection.execute_batch(SCHEMA)?;
            self.connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            self.connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        let from = self.stand.map_or(0, |stand| stand.records);
        Ok(Filling { fill: Fill::new(&self.connection)?, connection: &self.connection, from, failed: None })
    }

    /// A connection on which nothing can be changed and no other file be reached.
    ///
    /// # Errors
    /// SQLite's.
    pub fn questions(self, path: Option<&Path>) -> Result<Questions, IndexError> {
        let mut connection = match path {
            Some(path) => {
                drop(self);
                Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?
            }
            None => self.connection,
        };
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.authorizer(Some(only_reads))?;
        Ok(Questions { connection })
    }
}

/// Drops all that is there.
fn empty(connection: &Connection) -> Result<(), IndexError> {
    let sql =
        "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'";
    let mut statement = connection.prepare(sql)?;
    let there = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let there: Vec<(String, String)> = there.collect::<Result<_, _>>()?;
    for (kind, name) in there {
        connection.execute_batch(&format!("DROP {kind} \"{}\"", name.replace('"', "\"\"")))?;
    }
    Ok(())
}

/// Whether a question may do this.
fn only_reads(context: AuthContext<'_>) -> Authorization {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "SQLite's list grows: what is not named here is denied"
    )]
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if !function_name.eq_ignore_ascii_case("load_extension") => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

/// Events on their way into the index, in one transaction.
pub struct Filling<'i> {
    connection: &'i Connection,
    fill: Fill<'i>,
    from: u64,
    failed: Option<rusqlite::Error>,
}

impl Filling<'_> {
    /// Takes an event; one that the index holds already is stepped over.
    pub fn take(&mut self, event: &Event) {
        if event.told_at < self.from || self.failed.is_some() {
            return;
        }
        self.failed = self.fill.event(event).err();
    }

    /// Ends it: the index holds the log up to `stand`.
    ///
    /// # Errors
    /// What went wrong on the way: nothing of it is kept.
    pub fn commit(self, stand: Stand) -> Result<(), IndexError> {
        let Filling { connection, fill, from: _, failed } = self;
        drop(fill);
        if let Some(error) = failed {
            connection.execute_batch("ROLLBACK")?;
            return Err(error.into());
        }
        for (name, value) in [
            ("records", stand.records.to_string()),
            ("fingerprint", hex(&stand.fingerprint)),
            ("program", env!("CARGO_PKG_VERSION").to_owned()),
        ] {
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [name, &value])?;
        }
        connection.execute_batch("COMMIT")?;
        Ok(())
    }

    /// Gives it up: the index stays as it was.
    ///
    /// # Errors
    /// SQLite's.
    pub fn give_up(self) -> Result<(), IndexError> {
        drop(self.fill);
        Ok(self.connection.execute_batch("ROLLBACK")?)
    }
}

/// Who hears an answer.
pub trait Rows {
    /// Its titles, once, before any row.
    ///
    /// # Errors
    /// Why an answer with these titles is not wanted: it has no rows then.
    fn titles(&mut self, titles: &[String]) -> Result<(), String>;
    /// A row; whether another one is wanted.
    fn row(&mut self, values: &[ValueRef<'_>]) -> bool;
}

/// Where questions are asked.
pub struct Questions {
    connection: Connection,
}

impl Questions {
    /// Answers one question.
    ///
    /// # Errors
    /// It is no question, or SQLite does not take it.
    pub fn ask(&self, sql: &str, hear: &mut dyn Rows) -> Result<(), IndexError> {
        let mut texts = rusqlite::Batch::new(&self.connection, sql);
        let first = texts.next().map_err(unanswered)?;
        let (Some(mut statement), None) = (first, texts.next().map_err(unanswered)?) else {
            return Err(IndexError::NoQuestion);
        };
        if !statement.readonly() || statement.column_count() == 0 {
            return Err(IndexError::NoQuestion);
        }
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        hear.titles(&names).map_err(IndexError::Titles)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(unanswered)? {
            let values: Vec<ValueRef<'_>> =
                (0..names.len()).map(|at| row.get_ref(at)).collect::<Result<_, _>>()?;
            if !hear.row(&values) {
                break;
            }
        }
        Ok(())
    }
}

/// What the authorizer denied is no question; the rest is SQLite's to say.
fn unanswered(error: rusqlite::Error) -> IndexError {
    let denied = error.sqlite_error_code() == Some(ErrorCode::AuthorizationForStatementDenied);
    // Of a function that is denied SQLite says so in words alone.
    if denied || error.to_string().contains("not authorized") { IndexError::NoQuestion } else { error.into() }
}

/// Whether a file holds something that no SQLite wrote: SQLite itself would take a very short one for an empty database.
fn is_foreign(path: &Path) -> bool {
    let mut first = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut first));
    read.is_ok() && !first.is_empty() && first != MAGIC
}

//! Facts about a text: what its statements are and what they name, read from PostgreSQL's own grammar and nothing else.
//!
//! Owns: the value that the walker produces and every judgement consumes. May not: resolve a name (that is
//! [`crate::resolve`]) or know a policy. Names are as the grammar yields them: folded to lower case unless quoted, cut
//! at 63 bytes where the server cuts them. Anything the walker cannot place becomes [`Class::Unknown`]: never left out.

use std::ops::Range;
use std::sync::Arc;

use super::outline::Outline;
use crate::class::Class;

/// Facts of one Query or Parse text.
#[derive(Clone, Debug)]
pub struct TextFacts {
    /// blake3 of the exact bytes.
    pub digest: [u8; 32],
    /// Length of the text, bytes.
    pub text_bytes: usize,
    /// One entry for each statement, in order; none for an empty text or one of comments only.
    pub statements: Vec<StatementFacts>,
    /// The text with literals lifted (`$1`…) and comments dropped: what evidence may hold of it.
    pub lifted: Arc<str>,
}

/// Facts of one statement.
#[derive(Clone, Debug)]
pub struct StatementFacts {
    /// Where it stands in the text, bytes.
    pub range: Range<usize>,
    /// What the statement is as a whole: the class a reader would name it by.
    pub class: Class,
    /// The server's command tag without counts (`SELECT`, `CREATE TABLE`…), for people and for differential tests.
    pub tag: &'static str,
    /// Every further thing it does, beyond relations, functions and settings below (transaction control, locks,
    /// code, files…), each with the object where the class has one. The statement's own class always stands in at
    /// least one of the lists (here without an object if nowhere else), so that the lists alone hold every atom.
    pub acts: Vec<Act>,
    /// Every relation named anywhere in it, with the access; CTE names are resolved away.
    pub relations: Vec<RelationUse>,
    /// Every function, procedure or aggregate called or named.
    pub functions: Vec<FunctionUse>,
    /// Syntax that looks like a call, with the `server_version_num` from which on it is no call: an older server looks the name
    /// up among its functions.
    pub newer: Vec<(&'static str, u32)>,
    /// Every operator spelled or implied (IN, BETWEEN, LIKE, ORDER BY USING…).
    pub operators: Vec<OperatorUse>,
    /// Every type named by a cast, a column definition, a function signature.
    pub types: Vec<NameUse>,
    /// Every name behind a dot on something that may be a row (`t.c`, `(x).c`), each once: where a function of one
    /// composite argument bears that name, this calls it.
    pub attributes: Vec<String>,
    /// Every setting read, set or reset.
    pub settings: Vec<SettingUse>,
    /// Transaction control, when it is that.
    pub transaction: Option<TransactionControl>,
    /// PREPARE, EXECUTE, DEALLOCATE, DECLARE, FETCH, CLOSE: the name shared with the protocol's statements and portals.
    pub named: Option<NamedUse>,
    /// COPY with the client.
    pub copy: Option<CopyUse>,
    /// How a COPY to the client spells its rows; `None` where an option is not known here, or the encoding is another one.
    pub copy_spelling: Option<CopySpelling>,
    /// Flags that no list carries.
    pub flags: Flags,
    /// How many `$n` the text uses.
    pub parameters: u16,
    /// The facts of a statement carried inside (PREPARE's, DECLARE's, EXPLAIN's, COPY (query)'s, CTAS's) are merged into
    /// this one; PREPARE's are kept apart here, since EXECUTE brings them in later.
    pub prepared: Option<Box<StatementFacts>>,
    /// How columns flow in it: followed where a label is near.
    pub outline: Outline,
}

/// Something a statement does that is not the read or write of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Act {
    /// Its class.
    pub class: Class,
    /// The object's name where the class has one, as written (`schema.name`, or a bare name).
    pub object: Option<NameUse>,
    /// What kind of object that is; [`ObjectKind::None`] where `object` is `None`.
    pub kind: ObjectKind,
    /// What in the text led here, for the reason tree (`CREATE INDEX`, `FOR UPDATE`…).
    pub why: &'static str,
}

/// What kind of object an [`Act`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// The act names none.
    None,
    /// A table, view, index, sequence… (mostly found in `relations` instead).
    Relation,
    /// A schema itself (`CREATE SCHEMA s`): the name stands in `name`.
    Schema,
    /// Every relation or routine of a schema (`GRANT … ON ALL TABLES IN SCHEMA s`): the name stands in `name`.
    AllInSchema,
    /// A function, procedure or aggregate.
    Function,
    /// An operator.
    Operator,
    /// A type or domain.
    Type,
    /// A role.
    Role,
    /// A database.
    Database,
    /// A tablespace.
    Tablespace,
    /// An extension.
    Extension,
    /// A foreign server, wrapper or user mapping.
    Server,
    /// A publication or subscription.
    Publication,
    /// A language, cast, collation, operator class, text search object, statistics object, large object….
    Other,
}

/// A name as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameUse {
    /// Catalog (database) part of a three-part name.
    pub catalog: Option<String>,
    /// Schema part.
    pub schema: Option<String>,
    /// The name itself.
    pub name: String,
}

/// A relation in a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelationUse {
    /// Its name as written.
    pub name: NameUse,
    /// Class of this access (`read.select`, `write.update`, `ddl.drop`…).
    pub class: Class,
    /// For `write.update` and `write.delete`: whether a real predicate restricts it (config.md, last section).
    pub predicate: Predicate,
    /// `ONLY` was written.
    pub only: bool,
    /// Byte offset of the name in the whole text, where the grammar gives it.
    pub offset: Option<usize>,
}

/// Whether a write is restricted by a predicate that looks at the target's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Predicate {
    /// The access is no update or delete.
    NotApplicable,
    /// A WHERE or join condition that looks at a target column and is not true by its form.
    Present,
    /// No WHERE, or one true by its form.
    Absent,
}

/// A function in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionUse {
    /// Its name as written.
    pub name: NameUse,
    /// How many arguments stand there; `None` for VARIADIC, `*`, or a mere mention (DROP FUNCTION).
    pub arguments: Option<u16>,
    /// Constant text arguments, by position, where all of the literal is known (`set_config('role', …)`).
    pub constants: Vec<Option<String>>,
    /// Written by the grammar itself (COALESCE-like syntax, `CURRENT_USER`, `x AT TIME ZONE y`), not by the author.
    pub implied: bool,
    /// Byte offset.
    pub offset: Option<usize>,
}

/// An operator in a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OperatorUse {
    /// Schema of `OPERATOR(schema.+)`.
    pub schema: Option<String>,
    /// The operator's name (`=`, `~~`, …).
    pub name: String,
}

/// A setting in a text: SET, RESET, SHOW, DISCARD ALL, `set_config` with a constant name, ALTER ROLE … SET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingUse {
    /// Lower-cased name; `None` when the text does not fix it (RESET ALL, DISCARD ALL, `set_config($1, …)`).
    pub name: Option<String>,
    /// What happens to it.
    pub action: SettingAction,
    /// The value where it is one constant.
    pub value: Option<String>,
    /// SET LOCAL, or `set_config(…, true)`.
    pub local: bool,
}

/// What happens to a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingAction {
    /// SHOW: read only.
    Show,
    /// SET, `set_config`.
    Set,
    /// RESET, RESET ALL, DISCARD ALL, SET … TO DEFAULT.
    Reset,
    /// ALTER SYSTEM, ALTER ROLE, DATABASE or FUNCTION … SET: not of this session alone.
    Persist,
}

/// Transaction control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionControl {
    /// BEGIN, START TRANSACTION. `read_write` when READ WRITE is written.
    Begin {
        /// READ WRITE is written.
        read_write: bool,
    },
    /// COMMIT, END (with or without AND CHAIN).
    Commit,
    /// ROLLBACK, ABORT.
    Rollback,
    /// SAVEPOINT, RELEASE, ROLLBACK TO.
    Savepoint,
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TwoPhase,
    /// SET TRANSACTION, SET SESSION CHARACTERISTICS. `read_write` when READ WRITE is written.
    Mode {
        /// READ WRITE is written.
        read_write: bool,
    },
}

/// Use of a name that SQL shares with the protocol's prepared statements and portals (63-byte key).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedUse {
    /// PREPARE name AS ….
    Prepare(String),
    /// EXECUTE name, also inside CREATE TABLE AS EXECUTE and EXPLAIN EXECUTE.
    Execute(String),
    /// DEALLOCATE name; `None` is ALL.
    Deallocate(Option<String>),
    /// DECLARE name CURSOR.
    Declare(String),
    /// FETCH or MOVE from name.
    Fetch(String),
    /// CLOSE name; `None` is ALL.
    Close(Option<String>),
    /// DISCARD ALL: every prepared statement and cursor is gone.
    DiscardAll,
}

/// COPY between server and client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyUse {
    /// COPY … FROM STDIN.
    In,
    /// COPY … TO STDOUT.
    Out,
}

/// How COPY spells rows (`ProcessCopyOptions`, src/backend/commands/copy.c).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySpelling {
    /// `FORMAT text`.
    Text {
        /// Between fields.
        delimiter: u8,
        /// What NULL is written as.
        null: Box<[u8]>,
        /// The first line holds the columns' names.
        header: bool,
    },
    /// `FORMAT csv`.
    Csv {
        /// Between fields.
        delimiter: u8,
        /// Around fields that need it.
        quote: u8,
        /// Before a quote inside a field.
        escape: u8,
        /// What NULL is written as, without quotes.
        null: Box<[u8]>,
        /// The first line holds the columns' names.
        header: bool,
    },
    /// `FORMAT binary`.
    Binary,
}

/// What no list carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// It runs SQL that no text names: DO, CALL, functions that take SQL in a string.
    pub dynamic: bool,
    /// It changes data, schema or state outside this session (any `write`, `ddl`, `dcl`, `admin`, `maintenance`…).
    pub effects: bool,
    /// It locks rows or relations.
    pub locks: bool,
    /// It sets, resets or may set a setting of the session.
    pub sets_setting: bool,
    /// It touches the server's files or programs.
    pub server_files: bool,
    /// It cannot run in a transaction block, or ends one by itself (VACUUM, CREATE DATABASE, CONCURRENTLY).
    pub outside_transaction: bool,
    /// CASCADE is written: objects go that no text names.
    pub cascade: bool,
    /// A CREATE TABLE or ALTER TABLE that says columns, constraints and storage alone: the table, which is the first relation,
    /// keeps its name and is tied to no other relation by it, but by foreign keys.
    pub in_place: bool,
    /// It names an operator class that is not known as the server's own: an index or a partition key may compare by code of users.
    pub operator_class: bool,
    /// An ALTER DOMAIN that fails where a stored value of that type does not fit, in whatever relation, or that gives one.
    pub asks_stored: bool,
    /// COMMIT or ROLLBACK with AND CHAIN: the next transaction is open at once.
    pub chains: bool,
    /// It may read a closed column of the server's own relations ([`super::closed`]).
    pub closed_columns: bool,
    /// DECLARE … WITH HOLD.
    pub holds_cursor: bool,
    /// A CREATE TABLE that fails where the name is taken, and takes nothing from another relation or type: columns, their
    /// defaults and checks, and keys of its own alone.
    pub plain_table: bool,
}

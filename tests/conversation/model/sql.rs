//! The statements of the model: their text, and what is known of each without running it.
//!
//! Owns: the closed list. Nothing here parses: a text is only ever made from a statement.

/// A prepared statement's, portal's, cursor's or savepoint's name.
pub type Name = &'static str;

/// `int4` in `pg_type`.
pub const INT4: u32 = 23;
/// `text` in `pg_type`.
pub const TEXT: u32 = 25;

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sql {
    /// Nothing at all.
    Empty,
    /// A comment.
    Comment,
    /// One row.
    Number(u8),
    /// Rows 1 to n.
    Rows(u8),
    /// The whole table.
    Read,
    /// One row, which may be there already.
    Add(i32),
    /// The same, and gives it back.
    AddReturning(i32),
    /// The same, by parameters.
    AddParameters,
    /// One row by parameter.
    Get,
    /// An update by key.
    Change(i32),
    /// A delete by key.
    Remove(i32),
    /// A row of the table whose unique constraint is deferred: fails at the transaction's end.
    Late(i32),
    /// Three rows, of which row n fails (n of 1 to 3), or none.
    Divide(u8),
    /// Does not parse.
    Syntax,
    /// BEGIN.
    Begin,
    /// COMMIT.
    Commit,
    /// ROLLBACK.
    Rollback,
    /// SAVEPOINT.
    Savepoint(Name),
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo(Name),
    /// RELEASE SAVEPOINT.
    Release(Name),
    /// PREPARE.
    Prepare(Name, Box<Sql>),
    /// EXECUTE, with one argument for each parameter.
    Execute(Name, Vec<i32>),
    /// DEALLOCATE, or DEALLOCATE ALL.
    Deallocate(Option<Name>),
    /// DECLARE CURSOR.
    Declare(Name, Box<Sql>),
    /// FETCH n.
    Fetch(Name, u8),
    /// CLOSE.
    CloseCursor(Name),
    /// COPY FROM STDIN.
    CopyIn,
    /// COPY TO STDOUT, in the order of the key.
    CopyOut,
    /// SET of a setting that the server reports.
    SetName(u8),
    /// A row of the table with a user's trigger, which raises a notice.
    Trap(i32),
    /// A text that is not plain ASCII.
    Umlaut,
    /// Refused by the policy: DROP TABLE.
    Drop,
    /// Refused by the policy: TRUNCATE.
    Truncate,
    /// Refused by the policy: DELETE of every row.
    Wipe,
    /// Sleeps until it is cancelled.
    Sleep,
}

impl Sql {
    /// As it is sent.
    pub fn text(&self) -> String {
        match self {
            Sql::Empty => String::new(),
            Sql::Comment => "/* nothing */ -- at all\n".into(),
            Sql::Number(n) => format!("SELECT {n} AS n"),
            Sql::Rows(n) => format!("SELECT x FROM generate_series(1, {n}) AS x"),
            Sql::Read => "SELECT k, v FROM kv ORDER BY k".into(),
            Sql::Add(k) => format!("INSERT INTO kv VALUES ({k}, 'added')"),
            Sql::AddReturning(k) => format!("INSERT INTO kv VALUES ({k}, 'returned') RETURNING k, v"),
            Sql::AddParameters => "INSERT INTO kv VALUES ($1, $2)".into(),
            Sql::Get => "SELECT v FROM kv WHERE k = $1".into(),
            Sql::Change(k) => format!("UPDATE kv SET v = 'changed' WHERE k = {k}"),
            Sql::Remove(k) => format!("DELETE FROM kv WHERE k = {k}"),
            Sql::Late(k) => format!("INSERT INTO late VALUES ({k})"),
            Sql::Divide(n) => format!("SELECT 10 / (x - {n}) AS q FROM generate_series(1, 3) AS x"),
            Sql::Syntax => "SELEC 1".into(),
            Sql::Begin => "BEGIN".into(),
            Sql::Commit => "COMMIT".into(),
            Sql::Rollback => "ROLLBACK".into(),
            Sql::Savepoint(name) => format!("SAVEPOINT {name}"),
            Sql::RollbackTo(name) => format!("ROLLBACK TO SAVEPOINT {name}"),
            Sql::Release(name) => format!("RELEASE SAVEPOINT {name}"),
            Sql::Prepare(name, inner) => format!("PREPARE {name} AS {}", inner.text()),
            Sql::Execute(name, arguments) if arguments.is_empty() => format!("EXECUTE {name}"),
            Sql::Execute(name, arguments) => {
                let list: Vec<String> = arguments.iter().map(i32::to_string).collect();
                format!("EXECUTE {name}({})", list.join(", "))
            }
            Sql::Deallocate(None) => "DEALLOCATE ALL".into(),
            Sql::Deallocate(Some(name)) => format!("DEALLOCATE {name}"),
            Sql::Declare(name, inner) => format!("DECLARE {name} CURSOR FOR {}", inner.text()),
            Sql::Fetch(name, count) => format!("FETCH {count} FROM {name}"),
            Sql::CloseCursor(name) => format!("CLOSE {name}"),
            Sql::CopyIn => "COPY kv FROM STDIN".into(),
            Sql::CopyOut => "COPY (SELECT k, v FROM kv ORDER BY k) TO STDOUT".into(),
            Sql::SetName(n) => format!("SET application_name = 'name {n}'"),
            Sql::Trap(k) => format!("INSERT INTO trap VALUES ({k})"),
            Sql::Umlaut => "SELECT 'ä' AS a".into(),
            Sql::Drop => "DROP TABLE kv".into(),
            Sql::Truncate => "TRUNCATE kv".into(),
            Sql::Wipe => "DELETE FROM kv".into(),
            Sql::Sleep => "SELECT pg_sleep(60)".into(),
        }
    }

    /// Types of its parameters.
    pub fn parameters(&self) -> &'static [u32] {
        match self {
            Sql::AddParameters => &[INT4, TEXT],
            Sql::Get => &[INT4],
            _ => &[],
        }
    }

    /// Columns of what it gives by itself; `None`: no rows, or rows of another statement.
    pub fn columns(&self) -> Option<Vec<(&'static str, u32)>> {
        match self {
            Sql::Number(_) => Some(vec![("n", INT4)]),
            Sql::Rows(_) => Some(vec![("x", INT4)]),
            Sql::Read | Sql::AddReturning(_) => Some(vec![("k", INT4), ("v", TEXT)]),
            Sql::Get => Some(vec![("v", TEXT)]),
            Sql::Divide(_) => Some(vec![("q", INT4)]),
            Sql::Umlaut => Some(vec![("a", TEXT)]),
            Sql::Sleep => Some(vec![("pg_sleep", 2278)]),
            _ => None,
        }
    }

    /// Holds no statement.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Sql::Empty | Sql::Comment)
    }

    /// `TransactionStmt` in the grammar.
    pub fn is_transaction_control(&self) -> bool {
        self.may_end_failure() || matches!(self, Sql::Begin | Sql::Savepoint(_) | Sql::Release(_))
    }

    /// Runs in a failed transaction (`IsTransactionExitStmt`).
    pub fn may_end_failure(&self) -> bool {
        matches!(self, Sql::Commit | Sql::Rollback | Sql::RollbackTo(_))
    }

    /// A SELECT, whose rows are fetched as they are asked for.
    pub fn is_select(&self) -> bool {
        matches!(
            self,
            Sql::Number(_) | Sql::Rows(_) | Sql::Read | Sql::Get | Sql::Divide(_) | Sql::Umlaut | Sql::Sleep
        )
    }

    /// PREPARE takes it, and EXECUTE of it is modelled.
    pub fn can_be_prepared(&self) -> bool {
        (self.is_select() && *self != Sql::Sleep)
            || matches!(
                self,
                Sql::Add(_)
                    | Sql::AddReturning(_)
                    | Sql::AddParameters
                    | Sql::Change(_)
                    | Sql::Remove(_)
                    | Sql::Late(_)
                    | Sql::Trap(_)
            )
    }
}

/// A text of several statements.
pub fn text(statements: &[Sql]) -> String {
    statements.iter().map(Sql::text).collect::<Vec<_>>().join("; ")
}

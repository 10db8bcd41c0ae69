//! The server of the model: the extended protocol, and what all protocols share.
//!
//! Owns: prepared statements, portals, the skipping to Sync, and the replies. Simple queries and COPY are in
//! [`super::simple`], transactions in [`super::transaction`].

use std::collections::{BTreeMap, VecDeque};

use super::data::{APPLICATION_NAME, Code, Data, Item, Row};
use super::frames::{Frame, Value};
use super::simple::Copy;
use super::sql::{INT4, Sql};
use super::transaction::{Block, Transaction};

/// What a client sees, without what differs between two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// ParseComplete.
    ParseComplete,
    /// BindComplete.
    BindComplete,
    /// CloseComplete.
    CloseComplete,
    /// ParameterDescription.
    Parameters(Vec<u32>),
    /// RowDescription: names, types, formats.
    Columns(Vec<(String, u32, u16)>),
    /// NoData.
    NoData,
    /// DataRow.
    Row(Vec<Option<Vec<u8>>>),
    /// CommandComplete.
    Complete(String),
    /// EmptyQueryResponse.
    Empty,
    /// PortalSuspended.
    Suspended,
    /// ErrorResponse of the server.
    Error(Code),
    /// ErrorResponse of the gateway.
    Refused(Code),
    /// The last words of a connection.
    Fatal(Code),
    /// NoticeResponse.
    Notice(Code),
    /// ParameterStatus of application_name.
    Status(String),
    /// CopyInResponse.
    CopyIn,
    /// CopyOutResponse.
    CopyOut,
    /// CopyData.
    CopyData(Vec<u8>),
    /// CopyDone.
    CopyDone,
    /// ReadyForQuery.
    Ready(u8),
}

/// A prepared statement.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What it runs.
    pub sql: Sql,
    /// Columns as they were known when it was made.
    pub columns: Option<Vec<(&'static str, u32)>>,
    /// Which Parse or PREPARE made it; counts up.
    pub made: u64,
    /// PREPARE did.
    #[allow(dead_code, reason = "read where the model plays the server, which is in the fuzz body alone")]
    pub by_sql: bool,
}

/// Whether a portal can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortalState {
    /// It can.
    Ready,
    /// It has.
    Done,
    /// Its transaction failed.
    Failed,
}

/// A portal or cursor.
#[derive(Clone, Debug)]
pub struct Portal {
    /// What it runs.
    pub sql: Sql,
    /// The values of its parameters.
    pub values: Vec<Option<String>>,
    /// Columns, when it gives rows.
    pub columns: Option<Vec<(&'static str, u32)>>,
    /// What is left of its result; `None` before the first Execute of what is run at once.
    pub items: Option<VecDeque<Item>>,
    /// See [`PortalState`].
    pub state: PortalState,
    /// Savepoints that were open when it was made.
    pub depth: usize,
    /// Its rows leave in the binary format.
    pub binary: bool,
    /// Of which Parse or PREPARE.
    pub made: u64,
    /// The batch of its Bind.
    pub batch: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Server {
    /// As it stands now.
    pub data: Data,
    /// The open transaction.
    pub transaction: Option<Transaction>,
    /// Prepared statements by name.
    pub statements: BTreeMap<String, Prepared>,
    /// Portals and cursors by name.
    pub portals: BTreeMap<String, Portal>,
    /// Skips to Sync.
    pub skipping: bool,
    /// A COPY waits for data.
    pub copy: Option<Copy>,
    /// The connection is closed.
    pub dead: bool,
    /// Counts prepared statements.
    pub made: u64,
    /// Cursors that were declared in the open transaction and not closed, though a savepoint may have taken them along.
    pub declared: BTreeMap<String, Sql>,
    /// Counts ReadyForQuery.
    pub batch: u64,
    /// The last frame was answered to its end.
    pub quiet: bool,
    pub(super) reported: String,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// Behind login.
    pub fn new() -> Self {
        Self {
            data: Data::initial(),
            transaction: None,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            skipping: false,
            copy: None,
            dead: false,
            made: 0,
            declared: BTreeMap::new(),
            batch: 1,
            quiet: true,
            reported: APPLICATION_NAME.into(),
        }
    }

    /// Whether the model knows what a real server does.
    pub fn supports(&self, frame: &Frame) -> bool {
        if self.dead {
            return false;
        }
        // The stream is lost with whatever does not belong there.
        if self.copy.is_some() {
            return !matches!(frame, Frame::Cancelled | Frame::CancelIdle);
        }
        if self.skipping && !matches!(frame, Frame::Sync) {
            return *frame != Frame::Cancelled && *frame != Frame::CancelIdle;
        }
        match frame {
            Frame::Query(statements) => statements.iter().all(|sql| self.supports_sql(sql)),
            Frame::Parse { sql, .. } => sql.iter().all(|sql| *sql != Sql::Sleep && self.supports_sql(sql)),
            Frame::Describe { statement: true, name } => {
                // A server with assertions off reads what is gone.
                self.statements.get(*name).is_none_or(|found| match &found.sql {
                    Sql::Fetch(cursor, _) => found.columns.is_none() || self.portals.contains_key(*cursor),
                    Sql::Execute(name, _) => found.columns.is_none() || self.statements.contains_key(*name),
                    _ => true,
                })
            }
            // The unnamed portal of a simple query that failed in a transaction stands there as a ruin.
            Frame::Execute { portal: "", .. } | Frame::Describe { statement: false, name: "" }
                if self.failed() && !self.portals.contains_key("") =>
            {
                false
            }
            Frame::Execute { portal, .. } => {
                self.portals.get(*portal).is_none_or(|found| self.supports_sql(&found.sql))
            }
            Frame::Cancelled | Frame::CancelIdle => self.quiet && !self.failed(),
            _ => true,
        }
    }

    fn supports_sql(&self, sql: &Sql) -> bool {
        match sql {
            Sql::Execute(name, _) => {
                self.statements.get(*name).is_none_or(|found| found.sql.can_be_prepared())
            }
            Sql::Fetch(name, _) => self
                .portals
                .get(*name)
                .is_none_or(|found| found.sql.is_select() && found.state == PortalState::Ready),
            _ => true,
        }
    }

    /// A frame arrives: what is said because of it.
    pub fn frame(&mut self, frame: &Frame) -> Vec<Reply> {
        let mut replies = Vec::new();
        self.answer(frame, &mut replies);
        self.quiet =
            matches!(replies.last(), Some(Reply::Ready(_))) || (self.quiet && *frame == Frame::CancelIdle);
        replies
    }

    fn answer(&mut self, frame: &Frame, replies: &mut Vec<Reply>) {
        if self.dead {
            return;
        }
        if self.copy.is_some() {
            self.copying(frame, replies);
            return;
        }
        match frame {
            Frame::Sync => self.sync(replies),
            _ if self.skipping => {}
            Frame::Query(statements) => self.query(statements, replies),
            Frame::FunctionCall | Frame::Flush | Frame::CancelIdle => {}
            Frame::CopyData(_) | Frame::CopyDone | Frame::CopyFail => {}
            Frame::Cancelled => self.query(&[Sql::Sleep], replies),
            extended => {
                self.start();
                if let Err(code) = self.extended(extended, replies) {
                    self.abort();
                    self.skipping = true;
                    replies.push(Reply::Error(code));
                }
            }
        }
    }

    fn extended(&mut self, frame: &Frame, replies: &mut Vec<Reply>) -> Result<(), Code> {
        match frame {
            Frame::Parse { name, sql } => {
                self.parse(name, sql)?;
                replies.push(Reply::ParseComplete);
            }
            Frame::StandIn => return Err("42601"),
            Frame::Bind { portal, name, values, binary, odd: _ } => {
                self.bind(portal, name, values, *binary)?;
                replies.push(Reply::BindComplete);
            }
            Frame::Describe { statement: true, name } => self.describe_statement(name, replies)?,
            Frame::Describe { statement: false, name } => {
                let portal = self.portals.get(*name).ok_or("34000")?;
                if self.failed() && portal.columns.is_some() {
                    return Err("25P02");
                }
                replies.push(columns(portal.columns.as_ref(), portal.binary));
            }
            Frame::Execute { portal, limit } => self.execute(portal, *limit, replies)?,
            Frame::Close { statement, name } => {
                if *statement {
                    self.statements.remove(*name);
                } else {
                    self.portals.remove(*name);
                    self.declared.remove(*name);
                }
                replies.push(Reply::CloseComplete);
            }
            _ => {}
        }
        Ok(())
    }

    fn sync(&mut self, replies: &mut Vec<Reply>) {
        self.skipping = false;
        if let Err(code) = self.finish() {
            replies.push(Reply::Error(code));
        }
        self.ready(replies);
    }

    pub(super) fn ready(&mut self, replies: &mut Vec<Reply>) {
        self.batch += 1;
        if self.transaction.is_none() {
            self.declared.clear();
        }
        if self.reported != self.data.application_name {
            self.reported.clone_from(&self.data.application_name);
            replies.push(Reply::Status(self.reported.clone()));
        }
        replies.push(Reply::Ready(match &self.transaction {
            None => b'I',
            Some(open) if open.failed => b'E',
            Some(_) => b'T',
        }));
    }

    fn parse(&mut self, name: &str, sql: &[Sql]) -> Result<(), Code> {
        if name.is_empty() {
            self.statements.remove("");
        }
        if sql.contains(&Sql::Syntax) {
            return Err("42601");
        }
        let mut statements = sql.iter().filter(|sql| !sql.is_nothing());
        let first = statements.next();
        if statements.next().is_some() {
            return Err("42601");
        }
        if let Some(first) = first
            && self.failed()
            && !first.may_end_failure()
        {
            return Err("25P02");
        }
        self.prepare(name, first.cloned().unwrap_or(Sql::Empty), false)
    }

    /// PREPARE and Parse.
    pub(super) fn prepare(&mut self, name: &str, sql: Sql, by_sql: bool) -> Result<(), Code> {
        if self.statements.contains_key(name) {
            return Err("42P05");
        }
        self.made += 1;
        let columns = self.columns_of(&sql);
        self.statements.insert(name.into(), Prepared { sql, columns, made: self.made, by_sql });
        Ok(())
    }

    /// Columns of a statement as the names stand now.
    fn columns_of(&self, sql: &Sql) -> Option<Vec<(&'static str, u32)>> {
        match sql {
            Sql::Execute(name, _) => self.statements.get(*name).and_then(|found| found.columns.clone()),
            Sql::Fetch(name, _) => self.portals.get(*name).and_then(|found| found.columns.clone()),
            _ => sql.columns(),
        }
    }

    fn bind(&mut self, portal: &str, name: &str, values: &[Value], binary: bool) -> Result<(), Code> {
        let prepared = self.statements.get(name).ok_or("26000")?.clone();
        let types = prepared.sql.parameters();
        if types.len() != values.len() {
            return Err("08P01");
        }
        if self.failed() && !prepared.sql.may_end_failure() {
            return Err("25P02");
        }
        if !portal.is_empty() && self.portals.contains_key(portal) {
            return Err("42P03");
        }
        self.portals.remove(portal);
        self.declared.remove(portal);
        let mut texts = Vec::new();
        for (value, oid) in values.iter().zip(types) {
            if *oid == INT4 && *value == Value::Word {
                return Err("22P02");
            }
            texts.push(value.text());
        }
        let columns = self.columns_of(&prepared.sql);
        let items = prepared.sql.is_select().then(|| self.data.select(&prepared.sql, &texts).into());
        let made = Portal {
            columns,
            items,
            values: texts,
            state: PortalState::Ready,
            depth: self.depth(),
            binary,
            made: prepared.made,
            batch: self.batch,
            sql: prepared.sql,
        };
        self.portals.insert(portal.into(), made);
        Ok(())
    }

    fn describe_statement(&mut self, name: &str, replies: &mut Vec<Reply>) -> Result<(), Code> {
        let found = self.statements.get(name).ok_or("26000")?;
        if self.failed() && found.columns.is_some() {
            return Err("25P02");
        }
        replies.push(Reply::Parameters(found.sql.parameters().into()));
        replies.push(columns(found.columns.as_ref(), false));
        Ok(())
    }

    fn execute(&mut self, name: &str, limit: u8, replies: &mut Vec<Reply>) -> Result<(), Code> {
        let portal = self.portals.get(name).ok_or("34000")?.clone();
        if portal.sql.is_nothing() {
            replies.push(Reply::Empty);
            return Ok(());
        }
        // A portal of what was rolled back has lost its plan (`AtAbort_Portals`): it ends no failure any more.
        let ends_failure = portal.sql.may_end_failure() && portal.state != PortalState::Failed;
        if self.failed() && !ends_failure {
            return Err("25P02");
        }
        if portal.state != PortalState::Ready {
            return Err("55000");
        }
        if portal.sql.is_transaction_control() {
            if let Some(portal) = self.portals.get_mut(name) {
                portal.state = PortalState::Done;
            }
            let tag = self.control(&portal.sql, replies)?;
            replies.push(Reply::Complete(tag.into()));
            return Ok(());
        }
        if portal.sql == Sql::CopyIn {
            replies.push(Reply::CopyIn);
            self.copy = Some(Copy::extended(name));
            return Ok(());
        }
        let done = if portal.columns.is_some() {
            self.execute_rows(name, portal, limit, replies)
        } else {
            if let Some(portal) = self.portals.get_mut(name) {
                portal.state = PortalState::Done;
            }
            let outcome = self.utility(&portal.sql, &portal.values, replies)?;
            replies.push(Reply::Complete(outcome.tag()));
            Ok(())
        };
        done?;
        self.pipelined();
        Ok(())
    }

    /// What stands behind an Execute belongs to the same implicit block.
    pub(super) fn pipelined(&mut self) {
        if let Some(open) = &mut self.transaction
            && open.block == Block::Single
        {
            open.block = Block::Implicit;
        }
    }

    fn execute_rows(
        &mut self,
        name: &str,
        mut portal: Portal,
        limit: u8,
        replies: &mut Vec<Reply>,
    ) -> Result<(), Code> {
        let mut items = match portal.items.take() {
            Some(items) => items,
            None => {
                let outcome = self.utility(&portal.sql, &portal.values, replies)?;
                outcome.rows.into_iter().map(Item::Row).collect()
            }
        };
        let limit = usize::from(limit);
        let mut count = 0;
        let mut failed = None;
        while limit == 0 || count < limit {
            match items.pop_front() {
                None => break,
                Some(Item::Row(row)) => {
                    replies.push(encoded(&row, portal.columns.as_ref(), portal.binary));
                    count += 1;
                }
                Some(Item::Error(code)) => {
                    failed = Some(code);
                    break;
                }
            }
        }
        portal.items = Some(items);
        let tag = self.tag_of(&portal.sql, count);
        if let Some(place) = self.portals.get_mut(name) {
            *place = portal;
        }
        if let Some(code) = failed {
            return Err(code);
        }
        let suspended = limit > 0 && count == limit;
        replies.push(if suspended { Reply::Suspended } else { Reply::Complete(tag) });
        Ok(())
    }

    /// The command tag of a statement that gives rows.
    pub(super) fn tag_of(&self, sql: &Sql, count: usize) -> String {
        match sql {
            Sql::AddReturning(_) => format!("INSERT 0 {count}"),
            Sql::Fetch(..) => format!("FETCH {count}"),
            Sql::Execute(name, _) => match self.statements.get(*name).map(|found| found.sql.clone()) {
                Some(inner) => self.tag_of(&inner, count),
                None => format!("SELECT {count}"),
            },
            _ => format!("SELECT {count}"),
        }
    }
}

/// RowDescription or NoData.
pub(super) fn columns(columns: Option<&Vec<(&'static str, u32)>>, binary: bool) -> Reply {
    match columns {
        None => Reply::NoData,
        Some(columns) => {
            Reply::Columns(columns.iter().map(|(n, t)| ((*n).to_owned(), *t, u16::from(binary))).collect())
        }
    }
}

/// A row in its format.
pub(super) fn encoded(row: &Row, columns: Option<&Vec<(&'static str, u32)>>, binary: bool) -> Reply {
    let cell = |(index, value): (usize, &Option<String>)| {
        let number = columns.and_then(|columns| columns.get(index)).is_some_and(|(_, oid)| *oid == INT4);
        value.as_ref().map(|value| match value.parse::<i32>() {
            Ok(parsed) if binary && number => parsed.to_be_bytes().to_vec(),
            _ => value.clone().into_bytes(),
        })
    };
    Reply::Row(row.iter().enumerate().map(cell).collect())
}

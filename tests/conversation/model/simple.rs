//! The server of the model: simple queries, what a statement does, and COPY.

use std::collections::VecDeque;

use super::data::{Code, Item, Row};
use super::frames::Frame;
use super::server::{Portal, PortalState, Reply, Server, columns, encoded};
use super::sql::Sql;
use super::transaction::Block;

/// A COPY that waits for data.
#[derive(Clone, Debug)]
pub struct Copy {
    /// What has come.
    pub received: Vec<u8>,
    /// Lines that are read.
    staged: Vec<(i32, Option<String>)>,
    /// The rest of a simple query, and whether it is a list.
    rest: Option<(VecDeque<Sql>, bool)>,
    /// The portal of an Execute.
    portal: Option<String>,
}

impl Copy {
    /// Begun by an Execute.
    pub(super) fn extended(portal: &str) -> Self {
        let portal = Some(portal.into());
        Self { received: Vec::new(), staged: Vec::new(), rest: None, portal }
    }
}

/// What a statement came to.
#[derive(Debug)]
pub struct Outcome {
    /// Rows that it gives.
    pub rows: Vec<Row>,
    command: String,
}

impl Outcome {
    fn of(command: impl Into<String>) -> Self {
        Self { rows: Vec::new(), command: command.into() }
    }

    /// Its command tag.
    pub(super) fn tag(&self) -> String {
        self.command.clone()
    }
}

impl Server {
    /// A simple query (`exec_simple_query`).
    pub(super) fn query(&mut self, statements: &[Sql], replies: &mut Vec<Reply>) {
        self.start();
        self.statements.remove("");
        if statements.contains(&Sql::Syntax) {
            return self.query_failed("42601", replies);
        }
        let list: VecDeque<Sql> = statements.iter().filter(|sql| !sql.is_nothing()).cloned().collect();
        if list.is_empty() {
            if let Err(code) = self.finish() {
                return self.query_failed(code, replies);
            }
            replies.push(Reply::Empty);
            return self.ready(replies);
        }
        let implicit = list.len() > 1;
        self.run(list, implicit, replies);
    }

    fn query_failed(&mut self, code: Code, replies: &mut Vec<Reply>) {
        self.abort();
        replies.push(Reply::Error(code));
        self.ready(replies);
    }

    fn run(&mut self, mut rest: VecDeque<Sql>, implicit: bool, replies: &mut Vec<Reply>) {
        while let Some(sql) = rest.pop_front() {
            if self.failed() && !sql.may_end_failure() {
                return self.query_failed("25P02", replies);
            }
            self.start();
            if implicit {
                self.pipelined();
            }
            // Each statement runs in the unnamed portal.
            self.portals.remove("");
            if sql == Sql::CopyIn {
                replies.push(Reply::CopyIn);
                self.copy = Some(Copy { rest: Some((rest, implicit)), ..Copy::extended("") });
                return;
            }
            let done = self.statement(&sql, replies).and_then(|tag| {
                if rest.is_empty() {
                    self.finish()?;
                }
                Ok(tag)
            });
            match done {
                Ok(tag) => replies.push(Reply::Complete(tag)),
                Err(code) => return self.query_failed(code, replies),
            }
        }
        self.ready(replies);
    }

    /// One statement of a simple query, up to its command tag.
    fn statement(&mut self, sql: &Sql, replies: &mut Vec<Reply>) -> Result<String, Code> {
        if sql.is_transaction_control() {
            return self.control(sql, replies).map(str::to_owned);
        }
        if *sql == Sql::CopyOut {
            return Ok(self.copy_out(replies).tag());
        }
        if !sql.parameters().is_empty() {
            return Err("42P02");
        }
        let (inner, values) = self.carried(sql)?;
        let shown = match sql {
            Sql::Fetch(name, _) => self.portals.get(*name).and_then(|found| found.columns.clone()),
            _ => inner.columns(),
        };
        if inner.is_select() {
            let items = self.data.select(&inner, &values);
            // EXECUTE is run to its end before its rows are described (`FillPortalStore`, src/backend/tcop/pquery.c).
            let fails = items.iter().find_map(|item| match item {
                Item::Error(code) => Some(*code),
                Item::Row(_) => None,
            });
            if let (Sql::Execute(..), Some(code)) = (sql, fails) {
                return Err(code);
            }
            replies.push(columns(shown.as_ref(), false));
            let mut count = 0;
            for item in items {
                match item {
                    Item::Row(row) => {
                        replies.push(encoded(&row, shown.as_ref(), false));
                        count += 1;
                    }
                    Item::Error(code) => return Err(code),
                }
            }
            return Ok(format!("SELECT {count}"));
        }
        // RETURNING and FETCH are run to their end before their rows are described.
        let outcome = self.utility(&inner, &values, replies)?;
        if let Some(shown) = &shown {
            replies.push(columns(Some(shown), false));
            replies.extend(outcome.rows.iter().map(|row| encoded(row, Some(shown), false)));
        }
        Ok(outcome.tag())
    }

    /// What EXECUTE runs, with its values; any other statement is itself.
    fn carried(&self, sql: &Sql) -> Result<(Sql, Vec<Option<String>>), Code> {
        let Sql::Execute(name, arguments) = sql else { return Ok((sql.clone(), Vec::new())) };
        let found = self.statements.get(*name).ok_or("26000")?;
        let wanted = found.sql.parameters().len();
        // Arguments of a statement that takes none are not looked at (`ExecuteQuery`, src/backend/commands/prepare.c).
        if wanted > 0 && wanted != arguments.len() {
            return Err("42601");
        }
        Ok((found.sql.clone(), arguments.iter().map(|n| Some(n.to_string())).collect()))
    }

    /// Runs what is not a transaction's and no lazily read select.
    pub(super) fn utility(
        &mut self,
        sql: &Sql,
        values: &[Option<String>],
        replies: &mut Vec<Reply>,
    ) -> Result<Outcome, Code> {
        match sql {
            Sql::Execute(..) => {
                let (inner, values) = self.carried(sql)?;
                self.utility(&inner, &values, replies)
            }
            Sql::Add(k) => self.added(*k, "added"),
            Sql::AddReturning(k) => {
                let outcome = self.added(*k, "returned")?;
                Ok(Outcome { rows: vec![vec![Some(k.to_string()), Some("returned".into())]], ..outcome })
            }
            Sql::AddParameters => self.added_by_parameters(values),
            Sql::Change(k) => {
                let found = self.data.kv.get_mut(k).map(|v| *v = Some("changed".into()));
                Ok(Outcome::of(format!("UPDATE {}", usize::from(found.is_some()))))
            }
            Sql::Remove(k) => {
                let found = self.data.kv.remove(k);
                Ok(Outcome::of(format!("DELETE {}", usize::from(found.is_some()))))
            }
            Sql::Late(k) => {
                self.data.late.push(*k);
                Ok(Outcome::of("INSERT 0 1"))
            }
            Sql::Trap(k) => {
                self.data.trap.push(*k);
                replies.push(Reply::Notice("00000"));
                Ok(Outcome::of("INSERT 0 1"))
            }
            Sql::Prepare(name, inner) => {
                self.prepare(name, Sql::clone(inner), true)?;
                Ok(Outcome::of("PREPARE"))
            }
            Sql::Deallocate(None) => {
                // The unnamed statement is not among them.
                self.statements.retain(|name, _| name.is_empty());
                Ok(Outcome::of("DEALLOCATE ALL"))
            }
            Sql::Deallocate(Some(name)) => {
                self.statements.remove(*name).ok_or("26000")?;
                Ok(Outcome::of("DEALLOCATE"))
            }
            Sql::Declare(name, inner) => self.declare(name, inner),
            Sql::Fetch(name, count) => self.fetch(name, *count),
            Sql::CloseCursor(name) => {
                self.portals.remove(*name).ok_or("34000")?;
                self.declared.remove(*name);
                Ok(Outcome::of("CLOSE CURSOR"))
            }
            Sql::CopyOut => Ok(self.copy_out(replies)),
            Sql::SetName(n) => {
                self.data.application_name = format!("name {n}");
                Ok(Outcome::of("SET"))
            }
            select => {
                let mut rows = Vec::new();
                for item in self.data.select(select, values) {
                    match item {
                        Item::Row(row) => rows.push(row),
                        Item::Error(code) => return Err(code),
                    }
                }
                Ok(Outcome { command: format!("SELECT {}", rows.len()), rows })
            }
        }
    }

    fn added_by_parameters(&mut self, values: &[Option<String>]) -> Result<Outcome, Code> {
        let key = values.first().cloned().flatten().and_then(|key| key.parse().ok());
        // NULL in a primary key.
        let key = key.ok_or("23502")?;
        self.data.add(key, values.get(1).cloned().flatten())?;
        Ok(Outcome::of("INSERT 0 1"))
    }

    fn added(&mut self, key: i32, value: &str) -> Result<Outcome, Code> {
        self.data.add(key, Some(value.into()))?;
        Ok(Outcome::of("INSERT 0 1"))
    }

    fn declare(&mut self, name: &str, inner: &Sql) -> Result<Outcome, Code> {
        if self.transaction.as_ref().is_none_or(|open| open.block == Block::Single) {
            return Err("25P01");
        }
        if self.portals.contains_key(name) {
            return Err("42P03");
        }
        let portal = Portal {
            sql: inner.clone(),
            values: Vec::new(),
            columns: inner.columns(),
            items: Some(self.data.select(inner, &[]).into()),
            state: PortalState::Ready,
            depth: self.depth(),
            binary: false,
            made: 0,
            batch: 0,
        };
        self.portals.insert(name.into(), portal);
        self.declared.insert(name.into(), inner.clone());
        Ok(Outcome::of("DECLARE CURSOR"))
    }

    fn fetch(&mut self, name: &str, count: u8) -> Result<Outcome, Code> {
        let portal = self.portals.get_mut(name).ok_or("34000")?;
        let items = portal.items.get_or_insert_default();
        let mut rows = Vec::new();
        while rows.len() < usize::from(count) {
            match items.pop_front() {
                None => break,
                Some(Item::Row(row)) => rows.push(row),
                Some(Item::Error(code)) => {
                    portal.state = PortalState::Failed;
                    return Err(code);
                }
            }
        }
        Ok(Outcome { command: format!("FETCH {}", rows.len()), rows })
    }

    fn copy_out(&mut self, replies: &mut Vec<Reply>) -> Outcome {
        replies.push(Reply::CopyOut);
        for (k, v) in &self.data.kv {
            let v = v.as_deref().unwrap_or("\\N");
            replies.push(Reply::CopyData(format!("{k}\t{v}\n").into_bytes()));
        }
        replies.push(Reply::CopyDone);
        Outcome::of(format!("COPY {}", self.data.kv.len()))
    }

    /// A frame during COPY FROM STDIN (`CopyGetData`, src/backend/commands/copyfromparse.c).
    pub(super) fn copying(&mut self, frame: &Frame, replies: &mut Vec<Reply>) {
        let Some(mut copy) = self.copy.take() else { return };
        let done = match frame {
            Frame::CopyData(data) => {
                copy.received.extend_from_slice(data);
                match copy.lines() {
                    Ok(()) => {
                        self.copy = Some(copy);
                        return;
                    }
                    Err(code) => Err(code),
                }
            }
            Frame::CopyDone => copy.ended().and_then(|rows| {
                let count = rows.len();
                for (k, v) in rows {
                    self.data.add(k, v)?;
                }
                Ok(count)
            }),
            Frame::CopyFail => Err("57014"),
            Frame::Flush | Frame::Sync | Frame::CancelIdle => {
                self.copy = Some(copy);
                return;
            }
            _ => {
                // The type is read, the message is not: the stream is lost.
                replies.extend([Reply::Error("08P01"), Reply::Fatal("08P01")]);
                self.dead = true;
                self.abort();
                self.abandon();
                return;
            }
        };
        self.copied(copy, done, replies);
    }

    fn copied(&mut self, copy: Copy, done: Result<usize, Code>, replies: &mut Vec<Reply>) {
        let Some((rest, implicit)) = copy.rest else {
            if let Some(portal) = copy.portal.and_then(|name| self.portals.get_mut(&name)) {
                portal.state = PortalState::Done;
            }
            match done {
                Ok(count) => {
                    replies.push(Reply::Complete(format!("COPY {count}")));
                    self.pipelined();
                }
                Err(code) => {
                    self.abort();
                    self.skipping = true;
                    replies.push(Reply::Error(code));
                }
            }
            return;
        };
        let done = done.and_then(|count| {
            if rest.is_empty() {
                self.finish()?;
            }
            Ok(count)
        });
        match done {
            Ok(count) => {
                replies.push(Reply::Complete(format!("COPY {count}")));
                self.run(rest, implicit, replies);
            }
            Err(code) => self.query_failed(code, replies),
        }
    }

    /// The connection is gone: an open transaction with it.
    pub fn abandon(&mut self) {
        if let Some(open) = self.transaction.take() {
            self.data = open.start;
        }
    }
}

impl Copy {
    fn lines(&mut self) -> Result<(), Code> {
        while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            self.line(&line[..end])?;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Code> {
        let line = String::from_utf8_lossy(line);
        let mut fields = line.split('\t');
        let key = fields.next().unwrap_or_default().parse().map_err(|_| "22P02")?;
        let value = fields.next().ok_or("22P04")?.to_owned();
        if fields.next().is_some() {
            return Err("22P04");
        }
        self.staged.push((key, Some(value)));
        Ok(())
    }

    fn ended(&mut self) -> Result<Vec<(i32, Option<String>)>, Code> {
        self.lines()?;
        if !self.received.is_empty() {
            let last = std::mem::take(&mut self.received);
            self.line(&last)?;
        }
        Ok(std::mem::take(&mut self.staged))
    }
}

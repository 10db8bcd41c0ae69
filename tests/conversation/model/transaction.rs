//! Transactions of the model (`src/backend/access/transam/xact.c`).
//!
//! ```text
//!   none ──any statement──► Single ──a second statement, or an Execute behind it──► Implicit
//!    ▲                        │  Query's end, Sync, COMMIT, error                      │
//!    ├────────────────────────┴─────────────────────────────────────────────────────────┤
//!    │                        └──BEGIN──► Explicit ──error──► failed ──ROLLBACK TO──► Explicit
//!    └────────── COMMIT, ROLLBACK ───────────┴───────────────────┘
//! ```

use super::data::{Code, Data};
use super::server::{PortalState, Reply, Server};
use super::sql::{Name, Sql};

/// Which of the server's block states it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// `TBLOCK_STARTED`.
    Single,
    /// `TBLOCK_IMPLICIT_INPROGRESS`.
    Implicit,
    /// `TBLOCK_INPROGRESS` and below.
    Explicit,
}

/// An open transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// What a rollback gives back.
    pub start: Data,
    /// See [`Block`].
    pub block: Block,
    /// It only waits for its end.
    pub failed: bool,
    /// Innermost last, each with what it gives back.
    pub savepoints: Vec<(Name, Data)>,
}

impl Server {
    /// `start_xact_command`.
    pub(super) fn start(&mut self) -> &mut Transaction {
        let start = self.data.clone();
        self.transaction.get_or_insert_with(|| Transaction {
            start,
            block: Block::Single,
            failed: false,
            savepoints: Vec::new(),
        })
    }

    /// Whether an error stands in its way.
    pub fn failed(&self) -> bool {
        self.transaction.as_ref().is_some_and(|open| open.failed)
    }

    /// Whether BEGIN opened it.
    pub fn in_block(&self) -> bool {
        self.transaction.as_ref().is_some_and(|open| open.block == Block::Explicit)
    }

    /// How deep a portal made now lies.
    pub(super) fn depth(&self) -> usize {
        self.transaction.as_ref().map_or(0, |open| open.savepoints.len())
    }

    /// A transaction that no BEGIN opened ends with its Query or Sync.
    pub(super) fn finish(&mut self) -> Result<(), Code> {
        if self.transaction.is_some() && !self.in_block() { self.commit() } else { Ok(()) }
    }

    pub(super) fn commit(&mut self) -> Result<(), Code> {
        if self.failed() || !self.data.late_holds() {
            let broken = !self.failed();
            self.rollback();
            return if broken { Err("23505") } else { Ok(()) };
        }
        self.transaction = None;
        self.portals.clear();
        Ok(())
    }

    fn rollback(&mut self) {
        if let Some(open) = self.transaction.take() {
            self.data = open.start;
        }
        self.portals.clear();
    }

    /// An error.
    pub(super) fn abort(&mut self) {
        let depth = self.depth();
        match &mut self.transaction {
            // What fails in a failed transaction changes nothing more.
            Some(open) if open.failed => {}
            Some(open) if open.block == Block::Explicit => {
                open.failed = true;
                let back = open.savepoints.last().map_or(&open.start, |(_, data)| data);
                self.data = back.clone();
                for portal in self.portals.values_mut().filter(|portal| portal.depth >= depth) {
                    portal.state = PortalState::Failed;
                }
            }
            Some(_) => self.rollback(),
            None => {}
        }
    }

    /// BEGIN to RELEASE: its command tag.
    pub(super) fn control(&mut self, sql: &Sql, replies: &mut Vec<Reply>) -> Result<&'static str, Code> {
        let block = self.start().block;
        match sql {
            Sql::Begin => {
                if block == Block::Explicit {
                    replies.push(Reply::Notice("25001"));
                }
                self.start().block = Block::Explicit;
                Ok("BEGIN")
            }
            Sql::Commit => {
                if block != Block::Explicit {
                    replies.push(Reply::Notice("25P01"));
                }
                let tag = if self.failed() { "ROLLBACK" } else { "COMMIT" };
                self.commit()?;
                Ok(tag)
            }
            Sql::Rollback => {
                if block != Block::Explicit {
                    replies.push(Reply::Notice("25P01"));
                }
                self.rollback();
                Ok("ROLLBACK")
            }
            Sql::Savepoint(_) | Sql::RollbackTo(_) | Sql::Release(_) if block != Block::Explicit => {
                Err("25P01")
            }
            Sql::Savepoint(name) => {
                let data = self.data.clone();
                self.start().savepoints.push((name, data));
                Ok("SAVEPOINT")
            }
            Sql::RollbackTo(name) => self.rollback_to(name),
            Sql::Release(name) => self.release(name),
            _ => Err("XX000"),
        }
    }

    fn rollback_to(&mut self, name: &str) -> Result<&'static str, Code> {
        let open = self.start();
        let at = open.savepoints.iter().rposition(|(saved, _)| *saved == name).ok_or("3B001")?;
        open.savepoints.truncate(at + 1);
        open.failed = false;
        let back = open.savepoints[at].1.clone();
        self.data = back;
        self.portals.retain(|_, portal| portal.depth <= at);
        Ok("ROLLBACK")
    }

    fn release(&mut self, name: &str) -> Result<&'static str, Code> {
        let open = self.start();
        let at = open.savepoints.iter().rposition(|(saved, _)| *saved == name).ok_or("3B001")?;
        open.savepoints.truncate(at);
        for portal in self.portals.values_mut() {
            portal.depth = portal.depth.min(at);
        }
        Ok("RELEASE")
    }
}

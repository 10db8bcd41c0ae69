//! Prepared statements and portals: one name space for SQL and the protocol.
//!
//! Owns: which judged statement the server will run under a name. May not: judge, or talk to a peer.
//!
//! A change is made when its frame is forwarded, remembered as *pending* with an [`Undo`], and either confirmed by the
//! server's answer or undone when the server fails or skips it (a failed re-Parse must not overwrite what the name
//! stood for). A name whose change is pending from an earlier batch cannot be used: the frontend gate waits until the
//! server has answered. Fails: a full table refuses new names; nothing is evicted.
//!
//! A portal that runs what another name stands for (FETCH, EXECUTE) is only good as long as that name stands for the same:
//! PostgreSQL fixes its columns at Bind, and reads whatever rows come later by them, raw bytes of one type as another's
//! (`PortalStart`, src/backend/tcop/pquery.c). [`Names::moved`] counts what may have moved a name, and [`Names::stands`] is
//! asked before each Execute.
//!
//! Keys are at most 63 bytes: SQL cuts longer names there, so the gateway refuses longer ones on the protocol's side.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub use pgturnstile_rules::policy::course::NAME_BYTES_MAX;

use super::by_sql::{Made, Told};
use super::judge::Decision;
use super::masking::Described;
use super::standing::{Bound, Standing};

/// Prepared statements, and portals, that one session may hold.
pub const NAMES_MAX: usize = 10_000;
/// Bytes of SQL text behind them that one session may hold, those of a batch that is not answered yet included. What is
/// kept of a text takes about two and a half times its bytes.
pub const TEXT_BYTES_MAX: usize = 32 << 20;

/// Counts Syncs and simple queries: frames between two of them fail together.
pub type Batch = u64;

/// A statement that the server knows by name.
#[derive(Debug)]
pub struct Prepared {
    /// What was decided of its text.
    pub decision: Arc<Decision>,
    /// Sequence of the record that holds its text, within the session.
    pub record: u64,
    /// How much code had run, when it was made, that may give its name away (`standing`).
    made_behind: u64,
    /// Its text's share of what the session may hold.
    share: Arc<Share>,
}

/// Oids of the types of a statement's parameters: those that its Parse declared, then those that the server described.
/// Kept where parameters are recorded.
#[derive(Debug, Default)]
pub struct Types(Mutex<Box<[u32]>>);

impl Types {
    /// They are these.
    pub fn set(&self, types: impl Iterator<Item = u32>) {
        // A panic under the lock leaves a list that is whole: it is put in by one assignment.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = types.collect();
    }

    /// What is known; 0 for a type that is not.
    pub fn list(&self) -> Box<[u32]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Prepared {
    /// Types of its parameters, as far as they are known.
    pub fn types(&self) -> &Types {
        &self.share.types
    }

    /// The same statement, as it was decided anew at its Bind.
    pub fn judged_again(&self, decision: Arc<Decision>) -> Self {
        Self { decision, record: self.record, made_behind: self.made_behind, share: Arc::clone(&self.share) }
    }
}

/// Bytes of text that are held: given back when the last that holds them goes, wherever that is.
#[derive(Debug)]
struct Share {
    held: Arc<AtomicUsize>,
    bytes: usize,
    /// Shared as well by all that are decided anew.
    types: Types,
}

impl Drop for Share {
    fn drop(&mut self) {
        // Relaxed, here and below: one task counts, and reads what it counted itself.
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A portal or cursor.
#[derive(Debug)]
pub struct Portal {
    /// Its name; of a cursor, empty.
    pub name: Box<[u8]>,
    /// What it runs.
    pub statement: Arc<Prepared>,
    /// Sequence of the record of its Bind or DECLARE, within the session.
    pub record: u64,
    /// What is known of its rows.
    pub described: Described,
    /// Of a FETCH: the cursor that its name meant at the Bind.
    pub cursor: Option<Weak<Portal>>,
    /// Batch of its Bind: protocol portals end with their transaction. `None`: a SQL cursor.
    pub batch: Option<Batch>,
    /// A SQL cursor WITH HOLD: it outlives its transaction.
    pub held: bool,
    /// Where it runs what another name stands for: up to which count of [`Names::moved`] that is what it was at its Bind.
    pub by_name: Option<AtomicU64>,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<Arc<T>>,
    /// Batch of the unanswered changes, and how many: all of one batch, since another batch waits.
    pending: Option<(Batch, u32)>,
}

/// How to take a change back.
#[derive(Debug)]
pub struct Undo(Change);

#[derive(Debug)]
enum Change {
    Statement { name: Box<[u8]>, before: Option<Arc<Prepared>> },
    Portal { name: Box<[u8]>, before: Option<Arc<Portal>>, stood: Option<Bound> },
}

/// What a name stands for at this moment.
#[derive(Debug)]
pub enum Lookup<T> {
    /// This.
    Known(Arc<T>),
    /// Nothing that the gateway has seen.
    Absent,
    /// A change from an earlier batch is not answered yet: wait for the server.
    Pending,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Names {
    statements: HashMap<Box<[u8]>, Slot<Prepared>>,
    portals: HashMap<Box<[u8]>, Slot<Portal>>,
    text_bytes: Arc<AtomicUsize>,
    moves: u64,
    /// Which of the statements PREPARE made, and which of the portals DECLARE.
    sql_statements: Made,
    sql_cursors: Made,
    standing: Standing,
}

fn look<T>(table: &HashMap<Box<[u8]>, Slot<T>>, name: &[u8], batch: Batch) -> Lookup<T> {
    match table.get(name) {
        None => Lookup::Absent,
        Some(slot) if slot.pending.is_some_and(|(pending, _)| pending != batch) => Lookup::Pending,
        Some(slot) => slot.value.as_ref().map_or(Lookup::Absent, |value| Lookup::Known(Arc::clone(value))),
    }
}

fn change<T>(
    table: &mut HashMap<Box<[u8]>, Slot<T>>,
    name: &[u8],
    value: Option<Arc<T>>,
    batch: Batch,
) -> Option<Arc<T>> {
    if let Some(slot) = table.get_mut(name) {
        let earlier = slot.pending.map_or(0, |(_, count)| count);
        slot.pending = Some((batch, earlier + 1));
        return std::mem::replace(&mut slot.value, value);
    }
    table.insert(name.into(), Slot { value, pending: Some((batch, 1)) });
    None
}

/// One change of the name was answered.
fn settle<T>(table: &mut HashMap<Box<[u8]>, Slot<T>>, name: &[u8]) {
    let Some(slot) = table.get_mut(name) else { return };
    slot.pending = match slot.pending {
        Some((batch, count)) if count > 1 => Some((batch, count - 1)),
        Some(_) | None => None,
    };
    if slot.pending.is_none() && slot.value.is_none() {
        table.remove(name);
    }
}

impl Names {
    /// The statement `name`, as seen from `batch`.
    pub fn statement(&self, name: &[u8], batch: Batch) -> Lookup<Prepared> {
        look(&self.statements, name, batch)
    }

    /// The portal or cursor `name`, as seen from `batch`.
    pub fn portal(&self, name: &[u8], batch: Batch) -> Lookup<Portal> {
        look(&self.portals, name, batch)
    }

    /// Whether one more name would be too many.
    pub fn full(&self) -> bool {
        self.statements.len() >= NAMES_MAX
            || self.portals.len() >= NAMES_MAX
            || self.text_bytes.load(Ordering::Relaxed) >= TEXT_BYTES_MAX
    }

    /// A statement to be held under a name; its text counts from now on.
    pub fn prepared(&self, decision: Arc<Decision>, record: u64) -> Prepared {
        let bytes = decision.facts.text_bytes;
        self.text_bytes.fetch_add(bytes, Ordering::Relaxed);
        let share = Share { held: Arc::clone(&self.text_bytes), bytes, types: Types::default() };
        Prepared { decision, record, made_behind: self.standing.prepares(), share: Arc::new(share) }
    }

    /// A Parse or PREPARE of `name` is on its way.
    pub fn set_statement(&mut self, name: &[u8], value: Option<Arc<Prepared>>, batch: Batch) -> Undo {
        self.named(name);
        let before = change(&mut self.statements, name, value, batch);
        Undo(Change::Statement { name: name.into(), before })
    }

    /// A Bind or DECLARE of `name` is on its way.
    pub fn set_portal(&mut self, name: &[u8], value: Option<Arc<Portal>>, batch: Batch) -> Undo {
        self.named(name);
        let stood = self.standing.dropped(name);
        if let Some(portal) = &value {
            if !name.is_empty() {
                self.standing.bound(name, portal.record, portal.statement.decision.may_be_suspended());
            }
            self.runs(portal);
        }
        let before = change(&mut self.portals, name, value, batch);
        Undo(Change::Portal { name: name.into(), before, stood })
    }

    /// Something is on its way to the server that may give a name of a statement or cursor another meaning: code, a name that
    /// is made or dropped, the end of a transaction or of a part of one.
    pub fn moved(&mut self) {
        self.moves += 1;
    }

    /// A statement is on its way.
    pub fn forwarded(&mut self, decision: &Decision) {
        if decision.may_move_names() {
            self.moved();
        }
        self.standing.goes(decision);
    }

    /// A text is on its way whose analysis may run code: input functions of types and domains on its constants.
    pub fn analysed(&mut self, decision: &Decision) {
        self.moved();
        self.standing.goes(decision);
    }

    /// Nothing reads what has no name.
    fn named(&mut self, name: &[u8]) {
        if !name.is_empty() {
            self.moved();
        }
    }

    /// Whether a portal's own name still stands for it, for certain (`standing`).
    pub fn is_certain(&self, portal: &Portal) -> bool {
        portal.batch.is_none() || self.standing.stands(&portal.name, portal.record)
    }

    /// Whether code ran that may have given a statement's name away since it was certain.
    pub fn is_doubtful(&self, name: &[u8], statement: &Prepared) -> bool {
        !name.is_empty() && self.standing.may_have_prepared_since(statement.made_behind)
    }

    /// Whether the server is to be asked, at the end of their batch, which portals it has.
    pub fn has_unseen_portals(&self) -> bool {
        self.standing.has_unseen()
    }

    /// A portal has given its last row.
    pub fn done(&mut self, portal: &Portal) {
        self.standing.done(&portal.name);
    }

    /// Whether what a portal runs by name is what it was at its Bind, for certain.
    pub fn stands(&self, portal: &Portal) -> bool {
        // Relaxed, here and below: one task writes and reads it.
        portal.by_name.as_ref().is_none_or(|mark| mark.load(Ordering::Relaxed) == self.moves)
    }

    /// A portal is bound, or runs: what it does to other names by that does not move its own, whose columns, or rows, the
    /// server has taken by then.
    pub fn runs(&mut self, portal: &Portal) {
        self.standing.runs(&portal.name);
        if let Some(mark) = &portal.by_name {
            mark.store(self.moves, Ordering::Relaxed);
        }
    }

    /// The server carried the change out.
    pub fn confirm(&mut self, undo: &Undo) {
        match &undo.0 {
            Change::Statement { name, .. } => {
                // It is the protocol's now, or gone.
                self.sql_statements.drop(name);
                settle(&mut self.statements, name);
            }
            Change::Portal { name, .. } => settle(&mut self.portals, name),
        }
    }

    /// The server failed or skipped the change. Later changes are undone before earlier ones.
    pub fn undo(&mut self, undo: Undo) {
        match undo.0 {
            Change::Statement { name, before } => {
                if let Some(slot) = self.statements.get_mut(&name) {
                    slot.value = before;
                }
                settle(&mut self.statements, &name);
            }
            Change::Portal { name, before, stood } => {
                self.standing.put_back(&name, stood);
                if let Some(slot) = self.portals.get_mut(&name) {
                    slot.value = before;
                }
                settle(&mut self.portals, &name);
            }
        }
    }

    /// PREPARE was completed.
    pub fn put_statement(&mut self, name: &[u8], value: Arc<Prepared>) {
        self.sql_statements.put(name);
        self.statements.insert(name.into(), Slot { value: Some(value), pending: None });
    }

    /// DEALLOCATE was completed.
    pub fn drop_statement(&mut self, name: &[u8]) {
        self.sql_statements.drop(name);
        self.statements.remove(name);
    }

    /// DECLARE was completed.
    pub fn put_portal(&mut self, name: &[u8], value: Arc<Portal>) {
        self.standing.dropped(name);
        self.sql_cursors.put(name);
        self.portals.insert(name.into(), Slot { value: Some(value), pending: None });
    }

    /// CLOSE was completed.
    pub fn drop_portal(&mut self, name: &[u8]) {
        self.standing.dropped(name);
        self.sql_cursors.drop(name);
        self.portals.remove(name);
    }

    /// The transaction of `batch` ended: portals bound in it or earlier are gone, and so are cursors WITHOUT HOLD: code may
    /// give their names to others. A cursor that is held stays until CLOSE or until the server denies it.
    pub fn transaction_ended(&mut self, batch: Batch) {
        let stays = |portal: &Arc<Portal>| portal.batch.map_or(portal.held, |bound| bound > batch);
        self.portals.retain(|_, slot| slot.pending.is_some() || slot.value.as_ref().is_some_and(stays));
        let portals = &self.portals;
        self.sql_cursors.retain(|name| portals.contains_key(name));
        self.standing.retain(|name| portals.contains_key(name));
    }

    /// The server says which names it has in its session: what is not what the client made through here is forgotten.
    pub fn told(&mut self, told: &Told) {
        for name in self.standing.told(&told.cursors) {
            self.portals.remove(&name);
        }
        for name in self.sql_statements.compare(&told.statements) {
            self.statements.retain(|known, slot| *known != name || slot.pending.is_some());
        }
        for name in self.sql_cursors.compare(&told.cursors) {
            // Portals of the protocol are on that list, too.
            let of_sql =
                |slot: &Slot<Portal>| slot.value.as_ref().is_some_and(|portal| portal.batch.is_none());
            self.portals.retain(|known, slot| *known != name || !of_sql(slot));
        }
    }

    /// DEALLOCATE ALL: every named one (`DropAllPreparedStatements`, src/backend/commands/prepare.c).
    pub fn forget_statements(&mut self) {
        self.sql_statements.retain(|_| false);
        self.statements.retain(|name, _| name.is_empty());
    }

    /// CLOSE ALL.
    pub fn forget_portals(&mut self) {
        self.sql_cursors.retain(|_| false);
        self.standing.retain(|_| false);
        self.portals.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(record: u64) -> Arc<Prepared> {
        Arc::new(Names::default().prepared(Arc::new(Decision::for_tests()), record))
    }

    #[test]
    fn texts_count_as_long_as_anything_holds_them() {
        let mut names = Names::default();
        let mut decision = Decision::for_tests();
        Arc::get_mut(&mut decision.facts).unwrap().text_bytes = TEXT_BYTES_MAX;
        let first = Arc::new(names.prepared(Arc::new(decision), 1));
        assert!(names.full());
        let again = Arc::new(first.judged_again(Arc::clone(&first.decision)));
        let portal = Portal {
            name: Box::from(*b"p"),
            statement: again,
            record: 2,
            described: Described::default(),
            cursor: None,
            batch: Some(1),
            held: false,
            by_name: None,
        };
        let parse = names.set_statement(b"", Some(first), 1);
        let bind = names.set_portal(b"p", Some(Arc::new(portal)), 1);
        let next = names.set_statement(b"", Some(prepared(3)), 1);
        for undo in [&parse, &bind, &next] {
            names.confirm(undo);
        }
        drop((parse, bind, next));
        assert!(names.full(), "the portal runs it still");
        names.transaction_ended(1);
        assert!(!names.full());
    }

    fn record(names: &Names, name: &[u8], batch: Batch) -> Option<u64> {
        match names.statement(name, batch) {
            Lookup::Known(statement) => Some(statement.record),
            Lookup::Absent => None,
            Lookup::Pending => Some(u64::MAX),
        }
    }

    #[test]
    fn a_failed_parse_gives_the_name_back() {
        let mut names = Names::default();
        let first = names.set_statement(b"a", Some(prepared(1)), 1);
        names.confirm(&first);
        let second = names.set_statement(b"a", Some(prepared(2)), 2);
        assert_eq!(record(&names, b"a", 2), Some(2));
        assert_eq!(record(&names, b"a", 3), Some(u64::MAX), "another batch has to wait");
        names.undo(second);
        assert_eq!(record(&names, b"a", 3), Some(1));
    }

    #[test]
    fn a_skipped_close_and_parse_are_undone_in_reverse() {
        let mut names = Names::default();
        let first = names.set_statement(b"a", Some(prepared(1)), 1);
        names.confirm(&first);
        let close = names.set_statement(b"a", None, 2);
        let parse = names.set_statement(b"a", Some(prepared(2)), 2);
        names.undo(parse);
        names.undo(close);
        assert_eq!(record(&names, b"a", 3), Some(1));
    }

    #[test]
    fn deallocate_all_leaves_the_unnamed_statement() {
        let mut names = Names::default();
        for name in [b"".as_slice(), b"a"] {
            let made = names.set_statement(name, Some(prepared(1)), 1);
            names.confirm(&made);
        }
        names.forget_statements();
        assert_eq!((record(&names, b"", 2), record(&names, b"a", 2)), (Some(1), None));
    }

    #[test]
    fn a_portal_by_name_stands_until_a_name_moves() {
        let mut names = Names::default();
        let portal = |by_name| Portal {
            name: Box::default(),
            statement: prepared(1),
            record: 2,
            described: Described::default(),
            cursor: None,
            batch: Some(1),
            held: false,
            by_name,
        };
        let by_name = || Arc::new(portal(Some(AtomicU64::default())));
        let (fetch, select) = (by_name(), portal(None));
        drop(names.set_portal(b"p", Some(Arc::clone(&fetch)), 1));
        assert!(names.stands(&fetch) && names.stands(&select));
        names.moved();
        assert!(!names.stands(&fetch) && names.stands(&select));
        let next = by_name();
        drop(names.set_portal(b"q", Some(Arc::clone(&next)), 1));
        assert!(names.stands(&next) && !names.stands(&fetch));
        names.moved();
        names.runs(&next);
        assert!(names.stands(&next), "its own run does not move it");
        drop(names.set_portal(b"", None, 1));
        assert!(names.stands(&next), "nothing reads the unnamed portal");
        drop(names.set_portal(b"cursor", None, 1));
        assert!(!names.stands(&next), "a cursor that is closed by the protocol");
    }

    #[test]
    fn a_closed_name_is_absent() {
        let mut names = Names::default();
        let first = names.set_statement(b"a", Some(prepared(1)), 1);
        names.confirm(&first);
        let close = names.set_statement(b"a", None, 2);
        names.confirm(&close);
        assert_eq!(record(&names, b"a", 3), None);
        assert!(names.statements.is_empty());
    }
}

//! What the gateway changes: which frames it refuses, and with which SQLSTATE.
//!
//! Owns: the policy of the test (DROP, TRUNCATE and a DELETE of every row are refused), the barrier (README decision 6), the
//! names that it keeps for itself, and that a text is judged whole before any of it runs (decision 7). A refused frame is
//! for the server one that does not parse: what follows from it is the server's own.
//!
//! Not here: a user's function called by name. Behind it the catalog counts as moved until it was read again, at a moment
//! that is not on the wire, and what is refused meanwhile depends on it.

use std::collections::BTreeSet;

use super::frames::{Frame, LONG_NAME, RESERVED_NAME};
use super::server::{Reply, Server};
use super::sql::Sql;
use super::standing::Standing;

/// SQLSTATE of a refusal.
type Code = &'static str;

/// How a statement closes the way behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Barrier {
    None,
    Relaxed,
    Full,
}

/// A barrier that stands.
#[derive(Clone, Debug)]
struct Fence {
    kind: Barrier,
    /// The Parse whose Bind and Execute may follow.
    own: u64,
    /// Its text, which may come again with its bare names.
    text: Vec<Sql>,
    bound: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    fence: Option<Fence>,
    /// The settings could not be read behind a barrier, because the transaction failed.
    owed: bool,
    /// A cursor was declared in the open transaction: its end may run the rest of the cursor's statement.
    held: bool,
    /// A COPY has failed: its data, still on the way, is dropped.
    pub copy_over: bool,
    /// Data may still be on its way for the COPY that was last begun: neither its end was sent nor a frame that is none of it.
    data_follows: bool,
    /// Syncs went among its data.
    syncs_in_copy: bool,
    /// The transaction ended within the batch: its portals are known to the gateway until ReadyForQuery.
    ended: bool,
    /// Names that the protocol has ever bound portals by.
    bound: BTreeSet<String>,
    standing: Standing,
}

impl Gate {
    /// Whether Syncs went among the data of the last COPY.
    pub fn syncs_in_copy(&self) -> bool {
        self.syncs_in_copy
    }

    /// Whether the model knows what the gateway does.
    pub fn supports(&self, server: &Server, frame: &Frame) -> bool {
        if server.copy.is_some() {
            return true;
        }
        // Whether the gateway has read the end of a portal's transaction before it judges the FETCH is a race.
        if fetches_lost_portal(server, |name| self.ended || self.bound.contains(name), frame) {
            return false;
        }
        // Outside of a copy the gateway ends the session; a server takes no notice.
        if matches!(frame, Frame::CopyData(_) | Frame::CopyDone | Frame::CopyFail) {
            return self.copy_over;
        }
        // Whether the gateway has seen the error before it judges this frame is a race, and in a failed transaction the
        // barrier that it may have raised for nothing would be seen.
        if server.skipping && server.failed() {
            let counted = matches!(frame, Frame::Execute { .. }) && self.standing.asks();
            return !matches!(frame, Frame::Query(_) | Frame::Parse { .. } | Frame::Bind { .. }) && !counted;
        }
        if *frame == Frame::Cancelled {
            return self.fence.is_none() && !self.owed;
        }
        if let Frame::Bind { name: "", .. } | Frame::Describe { statement: true, name: "" } = frame {
            // The gateway may still know one that a simple query has destroyed at the server: a barrier raised for nothing is
            // seen in a transaction that fails by it.
            return server.statements.contains_key("") || !(server.in_block() || self.fence.is_some());
        }
        true
    }

    /// Looks at a frame: the SQLSTATE of its refusal, if it is refused.
    pub fn refuses(&mut self, server: &Server, frame: &Frame) -> Option<Code> {
        if server.dead || server.copy.is_some() || server.skipping {
            return None;
        }
        match frame {
            Frame::Query(statements) => {
                if self.fence.is_some() {
                    return Some("42501");
                }
                match self.verdict(server, statements) {
                    Err(code) => Some(code),
                    Ok(_) if self.owed && !only_controls(statements) => Some("25P02"),
                    Ok((Barrier::None, _)) => None,
                    Ok((kind, code)) => {
                        self.counts(code);
                        self.fence =
                            Some(Fence { kind, own: u64::MAX, text: statements.clone(), bound: true });
                        None
                    }
                }
            }
            Frame::Parse { name, sql } => self.refuses_parse(server, name, sql),
            // A server says so behind other errors: that of the gateway stands before them.
            Frame::Bind { odd: true, .. } => Some("22023"),
            Frame::Bind { portal, name, .. } => self.refuses_bind(server, portal, name),
            Frame::Execute { portal, .. } => {
                let Some(found) = server.portals.get(*portal) else {
                    return self.refuses_lost_cursor(server, portal);
                };
                let shut =
                    self.fence.as_ref().is_some_and(|f| f.kind == Barrier::Full && f.own != found.made);
                if shut {
                    return Some("42501");
                }
                // What was bound in an earlier batch is judged again.
                let (kind, code) = match self.verdict(server, std::slice::from_ref(&found.sql)) {
                    Ok(verdict) => verdict,
                    Err(code) if found.batch != server.batch => return Some(code),
                    Err(_) => (Barrier::None, false),
                };
                let own = self.fence.as_ref().is_some_and(|fence| fence.own == found.made);
                if !own && self.stands_behind_code(std::slice::from_ref(&found.sql)) {
                    return Some("42501");
                }
                if self.standing.is_doubtful(portal) {
                    return Some("34000");
                }
                if self.owed && !only_controls(std::slice::from_ref(&found.sql)) {
                    return Some("25P02");
                }
                self.raise(kind, found.made, &found.sql);
                self.counts(code);
                self.standing.runs(portal);
                None
            }
            Frame::Describe { statement: true, name } => {
                bad_name(name).or_else(|| self.refuses_describe(server, name))
            }
            Frame::Describe { name, .. } => bad_name(name).or_else(|| self.refuses_portal(server, name)),
            Frame::Close { name, .. } => bad_name(name),
            Frame::FunctionCall => Some("42501"),
            Frame::StandIn
            | Frame::Flush
            | Frame::Sync
            | Frame::CopyData(_)
            | Frame::CopyDone
            | Frame::CopyFail
            | Frame::Cancelled
            | Frame::CancelIdle => None,
        }
    }

    /// A portal whose name code may have given away.
    fn refuses_portal(&self, server: &Server, name: &str) -> Option<Code> {
        (server.portals.contains_key(name) && self.standing.is_doubtful(name)).then_some("34000")
    }

    /// A cursor that went with its savepoint: the gateway knows it until the transaction ends, and the server says that it is none.
    fn refuses_lost_cursor(&self, server: &Server, portal: &str) -> Option<Code> {
        server.declared.get(portal)?;
        if self.fence.as_ref().is_some_and(|fence| fence.kind == Barrier::Full) {
            return Some("42501");
        }
        self.owed.then_some("25P02")
    }

    fn refuses_parse(&mut self, server: &Server, name: &str, sql: &[Sql]) -> Option<Code> {
        if let Some(code) = bad_name(name) {
            return Some(code);
        }
        let admitted = match self.fence.as_ref().map(|fence| fence.kind) {
            None | Some(Barrier::None) => true,
            Some(Barrier::Relaxed) => !sql.contains(&Sql::Umlaut),
            Some(Barrier::Full) => false,
        };
        if !admitted {
            return Some("42501");
        }
        match self.verdict(server, sql) {
            Err(code) => return Some(code),
            Ok((Barrier::Full, code)) if self.fence.is_none() => {
                self.counts(code);
                let text = sql.to_vec();
                self.fence = Some(Fence { kind: Barrier::Full, own: server.made + 1, text, bound: false });
            }
            Ok(_) => {}
        }
        self.stands_behind_code(sql).then_some("42501")
    }

    /// Code may have moved what names mean, and the role; the barrier's own statement may come again, and the transaction
    /// may end.
    fn stands_behind_code(&self, sql: &[Sql]) -> bool {
        let again = |own: &[Sql]| own == sql || matches!((own, sql), ([Sql::Trap(_)], [Sql::Trap(_)]));
        let relaxed = self.fence.as_ref().filter(|fence| fence.kind == Barrier::Relaxed);
        relaxed.is_some_and(|fence| !only_controls(sql) && !again(&fence.text))
    }

    fn refuses_bind(&mut self, server: &Server, portal: &str, name: &str) -> Option<Code> {
        if let Some(code) = bad_name(portal).or_else(|| bad_name(name)) {
            return Some(code);
        }
        let found = server.statements.get(name)?;
        if let Some(fence) = &self.fence
            && fence.kind == Barrier::Full
            && (fence.own != found.made || fence.bound)
        {
            return Some("42501");
        }
        let (kind, code) = match self.verdict(server, std::slice::from_ref(&found.sql)) {
            Err(code) => return Some(code),
            Ok(verdict) => verdict,
        };
        if self.stands_behind_code(std::slice::from_ref(&found.sql)) {
            return Some("42501");
        }
        if self.owed && !only_controls(std::slice::from_ref(&found.sql)) {
            return Some("25P02");
        }
        self.raise(kind, found.made, &found.sql);
        self.counts(code);
        None
    }

    /// It is analysed, perhaps anew, under whatever the code before has left.
    fn refuses_describe(&self, server: &Server, name: &str) -> Option<Code> {
        let found = server.statements.get(name)?;
        let fence = self.fence.as_ref().filter(|fence| fence.own != found.made)?;
        let shut = fence.kind == Barrier::Full || self.stands_behind_code(std::slice::from_ref(&found.sql));
        shut.then_some("42501")
    }

    fn counts(&mut self, code: bool) {
        if code {
            self.standing.ran();
        }
    }

    fn raise(&mut self, kind: Barrier, own: u64, sql: &Sql) {
        match &mut self.fence {
            Some(fence) => {
                if kind == Barrier::Full {
                    fence.kind = Barrier::Full;
                    fence.own = own;
                }
                fence.bound = true;
            }
            None if kind != Barrier::None => {
                self.fence = Some(Fence { kind, own, text: vec![sql.clone()], bound: true });
            }
            None => {}
        }
    }

    /// The server has answered.
    pub fn settled(&mut self, server: &Server, frame: &Frame, replies: &[Reply]) {
        let failed = replies.iter().any(|reply| matches!(reply, Reply::Error(_)));
        match frame {
            Frame::CopyData(_) => self.copy_over |= failed,
            Frame::Query(statements) => {
                self.copy_over = (failed || server.skipping) && statements.contains(&Sql::CopyIn);
            }
            Frame::Execute { portal, .. } => {
                let found = server.portals.get(*portal);
                self.copy_over = failed && found.is_some_and(|found| found.sql == Sql::CopyIn);
            }
            Frame::Flush => {}
            // Where the COPY was not begun, whether the gateway took it for one that failed is a race.
            Frame::Sync => self.copy_over &= self.data_follows,
            _ => self.copy_over = false,
        }
        match frame {
            _ if replies.contains(&Reply::CopyIn) => (self.data_follows, self.syncs_in_copy) = (true, false),
            Frame::Sync => self.syncs_in_copy |= self.data_follows,
            Frame::CopyData(_) | Frame::Flush | Frame::CancelIdle => {}
            _ => self.data_follows = false,
        }
        self.held |=
            replies.iter().any(|reply| matches!(reply, Reply::Complete(tag) if tag == "DECLARE CURSOR"));
        self.held &= !replies.contains(&Reply::Ready(b'I'));
        let ends =
            |reply: &Reply| matches!(reply, Reply::Complete(tag) if tag == "COMMIT" || tag == "ROLLBACK");
        let ready = replies.iter().any(|reply| matches!(reply, Reply::Ready(_)));
        self.ended = !ready && (self.ended || replies.iter().any(ends));
        self.names_settled(server, frame, replies);
        if ready && (self.fence.is_some() || self.owed) {
            self.owed = server.failed();
            self.fence = None;
        }
    }
}

impl Gate {
    /// What becomes of the names of portals.
    fn names_settled(&mut self, server: &Server, frame: &Frame, replies: &[Reply]) {
        match frame {
            Frame::Bind { portal, .. } if replies.contains(&Reply::BindComplete) => {
                self.bound.insert((*portal).to_owned());
                if let Some(found) = server.portals.get(*portal) {
                    self.standing.bound(portal, &found.sql);
                }
            }
            Frame::Execute { portal, .. }
                if replies.iter().any(|reply| matches!(reply, Reply::Complete(_))) =>
            {
                self.standing.done(portal);
            }
            _ => {}
        }
        // A cursor is the server's to keep apart.
        self.standing.retain(|name| server.portals.contains_key(name) && !server.declared.contains_key(name));
        let asked = match frame {
            Frame::Sync => true,
            Frame::Query(statements) => !statements.contains(&Sql::CopyIn),
            _ => false,
        };
        if replies.contains(&Reply::Ready(b'T'))
            && (self.fence.is_some() || self.owed || asked && self.standing.asks())
        {
            self.standing.told();
        }
    }

    /// The strictest of a text's statements, and whether code runs with it.
    fn verdict(&self, server: &Server, statements: &[Sql]) -> Result<(Barrier, bool), Code> {
        verdict(server, &self.standing, statements, self.held)
    }
}

/// Whether the frame's FETCH is of a portal that the gateway `may_know`, and that no longer is.
fn fetches_lost_portal(server: &Server, may_know: impl Fn(&str) -> bool, frame: &Frame) -> bool {
    let lost = |sql: &Sql| matches!(sql, Sql::Fetch(name, _) if may_know(name) && known_cursor(server, name).is_err());
    match frame {
        Frame::Query(statements) | Frame::Parse { sql: statements, .. } => statements.iter().any(lost),
        Frame::Bind { name, .. } => server.statements.get(*name).is_some_and(|found| lost(&found.sql)),
        Frame::Execute { portal, .. } => server.portals.get(*portal).is_some_and(|found| lost(&found.sql)),
        _ => false,
    }
}

fn bad_name(name: &str) -> Option<Code> {
    match name {
        LONG_NAME => Some("42622"),
        RESERVED_NAME => Some("42939"),
        _ => None,
    }
}

fn only_controls(statements: &[Sql]) -> bool {
    let mut real = statements.iter().filter(|sql| !sql.is_nothing());
    match (real.next(), real.next()) {
        (Some(only), None) => only.is_transaction_control() && *only != Sql::Begin,
        _ => false,
    }
}

/// The strictest of a text's statements.
///
/// `held`: a cursor was declared, whose statement the transaction's end may run to its end.
fn verdict(
    server: &Server,
    standing: &Standing,
    statements: &[Sql],
    held: bool,
) -> Result<(Barrier, bool), Code> {
    if statements.contains(&Sql::Syntax) {
        return Err("42601");
    }
    let mut refused = false;
    let mut barrier = Barrier::None;
    let mut code_before = false;
    let mut names_before = false;
    for (at, sql) in statements.iter().enumerate().filter(|(_, sql)| !sql.is_nothing()) {
        if statements.iter().take(at).any(|before| touches_name(before, sql)) {
            return Err("42501");
        }
        let inner = match sql {
            Sql::Execute(name, _) => Some(&server.statements.get(*name).ok_or("26000")?.sql),
            Sql::Fetch(name, _) if standing.is_doubtful(name) && server.portals.contains_key(*name) => {
                return Err("34000");
            }
            Sql::Fetch(name, _) => Some(known_cursor(server, name)?),
            _ => None,
        };
        if code_before && !sql.is_transaction_control() {
            return Err("42501");
        }
        refused |= matches!(sql, Sql::Drop | Sql::Truncate | Sql::Wipe);
        barrier = barrier.max(barrier_of(sql)).max(inner.map_or(Barrier::None, barrier_of));
        let mut code = moves_names(sql) || inner.is_some_and(moves_names);
        if held && *sql == Sql::Commit {
            barrier = barrier.max(Barrier::Relaxed);
            code = true;
        }
        if code && names_before {
            return Err("42501");
        }
        code_before |= code;
        names_before |= matches!(sql, Sql::Prepare(..) | Sql::Declare(..));
    }
    if refused { Err("42501") } else { Ok((barrier, code_before)) }
}

/// Whether a statement makes or drops the name that one behind it in its text uses.
fn touches_name(before: &Sql, sql: &Sql) -> bool {
    match (before, sql) {
        (Sql::Prepare(touched, _), Sql::Execute(used, _))
        | (Sql::Declare(touched, _) | Sql::CloseCursor(touched), Sql::Fetch(used, _)) => touched == used,
        (Sql::Deallocate(touched), Sql::Execute(used, _)) => touched.is_none_or(|touched| touched == *used),
        _ => false,
    }
}

/// A cursor stays known when its savepoint is rolled back, until it is closed or the transaction ends.
fn known_cursor<'s>(server: &'s Server, name: &str) -> Result<&'s Sql, Code> {
    let bound = server.portals.get(name).map(|portal| &portal.sql);
    bound.or_else(|| server.declared.get(name)).ok_or("34000")
}

fn barrier_of(sql: &Sql) -> Barrier {
    match sql {
        Sql::Prepare(..) | Sql::Deallocate(_) | Sql::Declare(..) | Sql::CloseCursor(_) | Sql::SetName(_) => {
            Barrier::Full
        }
        Sql::Trap(_) => Barrier::Relaxed,
        _ => Barrier::None,
    }
}

/// Code of the database's users runs, which may change what names mean, and the role.
fn moves_names(sql: &Sql) -> bool {
    match sql {
        Sql::Prepare(_, inner) => moves_names(inner),
        _ => matches!(sql, Sql::Trap(_)),
    }
}

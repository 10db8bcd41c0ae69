//! Frames of a pipeline, and the decoding of any bytes into one.
//!
//! Two bytes say how the pipeline is sent; every four bytes behind them are one step: which frame, and three bytes that
//! choose its parts. Every input is a pipeline, and dropping four bytes drops a step: the generator, libFuzzer, the
//! shrinker and the committed cases share the one format.

use pgturnstile_proto::frontend::ObjectKind;
use pgturnstile_proto::{Format, encode};

use super::Conversation;
use super::server::Reply;
use super::sql::{Name, Sql, text};

/// 64 bytes: one more than SQL keeps of a name.
pub const LONG_NAME: Name = "a234567890123456789012345678901234567890123456789012345678901234";
/// A name that the gateway keeps for itself.
pub const RESERVED_NAME: Name = "pgturnstile.mine";
/// 63 bytes.
const FULL_NAME: Name = "b23456789012345678901234567890123456789012345678901234567890123";
/// A format that does not exist.
const ODD_FORMAT: u8 = 7;
/// Steps beyond this are not looked at.
pub const STEPS_MAX: usize = 48;

/// The value of a parameter, in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(i32),
    /// No number.
    Word,
    /// NULL.
    Null,
}

impl Value {
    /// As it is sent.
    pub fn text(self) -> Option<String> {
        match self {
            Value::Number(n) => Some(n.to_string()),
            Value::Word => Some("word".into()),
            Value::Null => None,
        }
    }
}

/// What a client can send behind its login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A simple query.
    Query(Vec<Sql>),
    /// Parse; several statements fail at the server.
    Parse {
        /// Its name.
        name: Name,
        /// Its text.
        sql: Vec<Sql>,
    },
    /// What a bare server is sent for a refused frame of the extended protocol.
    StandIn,
    /// Bind.
    Bind {
        /// The portal.
        portal: Name,
        /// The prepared statement.
        name: Name,
        /// Values in text.
        values: Vec<Value>,
        /// Results in binary.
        binary: bool,
        /// The format of its values is one that does not exist.
        odd: bool,
    },
    /// Describe.
    Describe {
        /// Of a statement, else of a portal.
        statement: bool,
        /// Its name.
        name: Name,
    },
    /// Execute.
    Execute {
        /// The portal.
        portal: Name,
        /// Rows at most; 0 for all.
        limit: u8,
    },
    /// Close.
    Close {
        /// Of a statement, else of a portal.
        statement: bool,
        /// Its name.
        name: Name,
    },
    /// Flush.
    Flush,
    /// Sync.
    Sync,
    /// CopyData.
    CopyData(Vec<u8>),
    /// CopyDone.
    CopyDone,
    /// CopyFail.
    CopyFail,
    /// FunctionCall.
    FunctionCall,
    /// A query that sleeps, and its cancel.
    Cancelled,
    /// A cancel while nothing runs.
    CancelIdle,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is sent.
    pub frame: Frame,
    /// The client rests behind it, and reads all that is owed.
    pub pause: bool,
}

/// A pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its steps, those that the model knows.
    pub steps: Vec<Step>,
    /// The client waits for each ReadyForQuery.
    pub lockstep: bool,
    /// Largest piece in which its bytes leave; 0: as they are.
    pub piece: usize,
    /// Chooses the pieces.
    pub seed: u64,
}

const STATEMENTS: [Name; 3] = ["", "s1", "s2"];
const PORTALS: [Name; 3] = ["", "c1", "c2"];
const SAVEPOINTS: [Name; 2] = ["a", "b"];

fn pick<T: Copy>(from: &[T], by: u8) -> T {
    from[usize::from(by) % from.len()]
}

/// Mostly the ordinary names.
fn name(from: &[Name; 3], by: u8) -> Name {
    match by {
        250 => LONG_NAME,
        251 => RESERVED_NAME,
        252 => FULL_NAME,
        _ => pick(from, by),
    }
}

fn sql(kind: u8, a: u8, b: u8) -> Sql {
    let key = i32::from(b % 6) + 1;
    match kind % 48 {
        0 => Sql::Empty,
        1 => Sql::Comment,
        2 | 3 => Sql::Number(b),
        4..=6 => Sql::Rows(b % 8),
        7 | 8 => Sql::Read,
        9 | 10 => Sql::Add(key),
        11 => Sql::AddReturning(key),
        12 => Sql::AddParameters,
        13 => Sql::Get,
        14 => Sql::Change(key),
        15 => Sql::Remove(key),
        16 | 17 => Sql::Late(key % 2),
        18 => Sql::Divide(b % 5),
        19 => Sql::Syntax,
        20..=23 => Sql::Begin,
        24 | 25 => Sql::Commit,
        26 | 27 => Sql::Rollback,
        28 => Sql::Savepoint(pick(&SAVEPOINTS, a)),
        29 => Sql::RollbackTo(pick(&SAVEPOINTS, a)),
        30 => Sql::Release(pick(&SAVEPOINTS, a)),
        31 | 32 => {
            let inner = [
                Sql::Number(b),
                Sql::Rows(b % 5),
                Sql::Read,
                Sql::Add(key),
                Sql::AddParameters,
                Sql::Get,
                Sql::Trap(key),
                Sql::AddReturning(key),
            ];
            Sql::Prepare(pick(&STATEMENTS[1..], a), Box::new(inner[usize::from(b) % inner.len()].clone()))
        }
        33 | 34 => Sql::Execute(pick(&STATEMENTS[1..], a), vec![key; usize::from(b) % 3]),
        35 => Sql::Deallocate((!a.is_multiple_of(4)).then(|| pick(&STATEMENTS[1..], a))),
        36 | 37 => {
            let inner = if b.is_multiple_of(2) { Sql::Rows(b % 9) } else { Sql::Read };
            Sql::Declare(pick(&PORTALS[1..], a), Box::new(inner))
        }
        38 => Sql::Fetch(pick(&PORTALS[1..], a), b % 4 + 1),
        39 => Sql::CloseCursor(pick(&PORTALS[1..], a)),
        40 => Sql::CopyIn,
        41 => Sql::CopyOut,
        42 => Sql::SetName(b % 3),
        43 => Sql::Trap(key),
        44 => Sql::Late(key % 3),
        45 => Sql::Umlaut,
        46 => [Sql::Drop, Sql::Truncate, Sql::Wipe][usize::from(b) % 3].clone(),
        _ => Sql::Change(key),
    }
}

fn values(by: u8, wanted: usize) -> Vec<Value> {
    let one = |shift: u32| match (by >> shift) & 7 {
        0 => Value::Null,
        1 => Value::Word,
        n => Value::Number(i32::from(n) * 2),
    };
    let count = if by == 255 { wanted + 1 } else { wanted };
    [one(0), one(3), one(5)].into_iter().take(count).collect()
}

fn copy_data(by: u8) -> Vec<u8> {
    let data: &[u8] = match by % 12 {
        0 => b"",
        1 => b"11\tpart",
        2 => b"ial\n",
        3 => b"word\tx\n",
        4 => b"5\n",
        5 => b"1\ttwice\n",
        6 => b"21\ta\n22\tb\n",
        _ => b"",
    };
    if by % 12 > 6 { format!("{}\tcopied\n", 30 + by % 5).into_bytes() } else { data.to_vec() }
}

fn frame(op: u8, x: u8, y: u8, z: u8, conversation: &Conversation) -> Frame {
    match op % 64 {
        0..=16 => Frame::Query(vec![sql(x, y, z)]),
        17..=27 => Frame::Parse { name: name(&STATEMENTS, y), sql: vec![sql(x, y >> 2, z)] },
        28 => Frame::Parse { name: name(&STATEMENTS, y), sql: vec![sql(x, y, z), sql(z, y, x)] },
        29..=38 => {
            let name = name(&STATEMENTS, y);
            let found = conversation.server.statements.get(name);
            let wanted = found.map_or(0, |found| found.sql.parameters().len());
            Frame::Bind {
                portal: self::name(&PORTALS, x),
                name,
                values: values(z, wanted),
                binary: x & 64 > 0,
                odd: z == 253,
            }
        }
        39..=42 => match x % 2 {
            0 => Frame::Describe { statement: true, name: name(&STATEMENTS, y) },
            _ => Frame::Describe { statement: false, name: name(&PORTALS, y) },
        },
        43..=50 => Frame::Execute {
            portal: pick(&PORTALS, x),
            limit: if z.is_multiple_of(2) { 0 } else { y % 4 + 1 },
        },
        51 | 52 => match x % 2 {
            0 => Frame::Close { statement: true, name: name(&STATEMENTS, y) },
            _ => Frame::Close { statement: false, name: name(&PORTALS, y) },
        },
        53 => Frame::Flush,
        54..=58 => Frame::Sync,
        59 | 60 => Frame::CopyData(copy_data(x)),
        61 => Frame::CopyDone,
        62 if x.is_multiple_of(2) => Frame::CopyFail,
        62 => Frame::FunctionCall,
        _ if x.is_multiple_of(8) => Frame::Cancelled,
        _ => Frame::CancelIdle,
    }
}

/// In a COPY most clients send what belongs there.
fn in_copy(op: u8, x: u8) -> Option<Frame> {
    match op % 16 {
        0..=8 => Some(Frame::CopyData(copy_data(x))),
        11 if x % 4 == 1 => Some(Frame::Sync),
        9..=12 => Some(Frame::CopyDone),
        13 => Some(Frame::CopyFail),
        _ => None,
    }
}

impl Pipeline {
    /// Any bytes as a pipeline; steps for which the model knows no answer are left out.
    pub fn decode(bytes: &[u8]) -> Self {
        let (head, body) = bytes.split_at(bytes.len().min(2));
        let (mode, seed) = (head.first().copied().unwrap_or(0), head.get(1).copied().unwrap_or(0));
        let mut conversation = Conversation::new();
        let mut steps: Vec<Step> = Vec::new();
        let mut before = conversation.clone();
        for chunk in body.chunks_exact(4).take(STEPS_MAX) {
            let &[op, x, y, z] = chunk else { continue };
            let joined = op & 128 > 0;
            let pause = op & 64 > 0;
            if joined && let Some(Step { frame: Frame::Query(statements), .. }) = steps.last_mut() {
                // One statement more in the text before.
                let mut longer = statements.clone();
                longer.push(sql(x, y, z));
                let longer = Frame::Query(longer);
                if before.supports(&longer) {
                    let mut again = before.clone();
                    drop(again.send(&longer));
                    if let Some(last) = steps.last_mut() {
                        last.frame = longer;
                    }
                    conversation = again;
                }
                continue;
            }
            let copying = conversation.server.copy.is_some().then(|| in_copy(op, x)).flatten();
            let frame = copying.unwrap_or_else(|| frame(op, x, y, z, &conversation));
            if conversation.supports(&frame) {
                before = conversation.clone();
                drop(conversation.send(&frame));
                steps.push(Step { frame, pause });
            }
        }
        if conversation.server.copy.is_some() {
            steps.push(Step { frame: Frame::CopyFail, pause: false });
            drop(conversation.send(&Frame::CopyFail));
        }
        if conversation.gate.copy_over && !conversation.server.dead {
            steps.push(Step { frame: Frame::CopyDone, pause: false });
        }
        // Which of the answers to Syncs in a COPY is the last is not on the wire: a Terminate could come before it.
        steps.push(Step { frame: Frame::Sync, pause: conversation.gate.syncs_in_copy() });
        let piece = [0, 0, 1, 3, 7, 16, 64, 0][usize::from(mode >> 1 & 7)];
        Self { steps, lockstep: mode & 1 == 1, piece, seed: u64::from(seed) }
    }

    /// For people: one line a step, with what the model expects.
    pub fn described(&self) -> String {
        let mut conversation = Conversation::new();
        let mut out =
            format!("lockstep {}, pieces of {} bytes, seed {}\n", self.lockstep, self.piece, self.seed);
        for (number, step) in self.steps.iter().enumerate() {
            let said = match &step.frame {
                Frame::Query(statements) => format!("Query {:?}", text(statements)),
                Frame::Parse { name, sql } => format!("Parse {name:?} {:?}", text(sql)),
                other => format!("{other:?}"),
            };
            let turn = conversation.send(&step.frame);
            let pause = if step.pause { " (pause)" } else { "" };
            out.push_str(&format!("{number:3} {said}{pause}\n        {:?}\n", turn.replies));
        }
        out
    }
}

/// How many of the replies a client has been sent for certain: up to the last that the server flushes.
pub fn flushed(replies: &[Reply]) -> usize {
    let flushes = |reply: &Reply| {
        matches!(
            reply,
            Reply::Ready(_) | Reply::Error(_) | Reply::Refused(_) | Reply::CopyIn | Reply::Fatal(_)
        )
    };
    replies.iter().rposition(flushes).map_or(0, |last| last + 1)
}

impl Frame {
    /// Answered with ReadyForQuery of its own.
    pub fn is_simple(&self) -> bool {
        matches!(self, Frame::Query(_) | Frame::FunctionCall | Frame::Cancelled)
    }

    /// Its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let encoded = match self {
            Frame::Query(statements) => encode::query(out, text(statements)),
            Frame::Cancelled => encode::query(out, Sql::Sleep.text()),
            Frame::Parse { name, sql } => encode::parse(out, name, text(sql), &[]),
            Frame::StandIn => encode::parse(out, "pgturnstile.refused", Sql::Syntax.text(), &[]),
            Frame::Bind { portal, name, values, binary, odd } => {
                let values: Vec<Option<Vec<u8>>> =
                    values.iter().map(|value| value.text().map(String::into_bytes)).collect();
                let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
                let results: &[Format] = if *binary { &[Format::Binary] } else { &[] };
                let formats: &[Format] = if *odd { &[Format::Binary] } else { &[] };
                // Behind the header, two names and the number of formats stands the low byte of the first.
                let code = out.len() + 5 + portal.len() + 1 + name.len() + 1 + 3;
                let encoded = encode::bind(out, portal, name, formats, &values, results);
                if *odd && let Some(code) = out.get_mut(code) {
                    *code = ODD_FORMAT;
                }
                encoded
            }
            Frame::Describe { statement, name } => encode::describe(out, kind(*statement), name),
            Frame::Execute { portal, limit } => encode::execute(out, portal, i32::from(*limit)),
            Frame::Close { statement, name } => encode::close(out, kind(*statement), name),
            Frame::CopyData(data) => encode::copy_data(out, data),
            Frame::CopyFail => encode::copy_fail(out, "the client gave up"),
            // pg_backend_pid
            Frame::FunctionCall => encode::function_call(out, 2026, &[], &[], Format::Text),
            Frame::Flush => {
                encode::flush(out);
                Ok(())
            }
            Frame::Sync => {
                encode::sync(out);
                Ok(())
            }
            Frame::CopyDone => {
                encode::copy_done(out);
                Ok(())
            }
            Frame::CancelIdle => Ok(()),
        };
        debug_assert!(encoded.is_ok(), "a frame of the model fits");
    }
}

fn kind(statement: bool) -> ObjectKind {
    if statement { ObjectKind::Statement } else { ObjectKind::Portal }
}

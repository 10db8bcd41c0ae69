//! The one door to the parser (README decision 8).
//!
//! Owns: who may parse, on which thread, with how much stack, and what happens when the parser refuses or panics. May not:
//! be gone around: nothing else in the workspace calls the grammar. Fails closed: every way of not getting facts is an
//! [`Unparsable`] that says what and what next.
//!
//! Why threads of its own: the decoder, the walker and the drop of the tree recurse as deep as the statement nests. The C
//! side bounds that depth (its `max_stack_depth` is measured on the calling thread's stack and capped at 2 MiB, as
//! PostgreSQL's default; the encoder stops at 10,000 message levels), and 64 MiB hold that bound. An overflow would abort
//! the process, so the remaining stack is checked before each parse and threads that are not known are refused.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use pg_query::protobuf as pb;

use super::facts::TextFacts;
use super::{lifted, walk};

/// Stack of every thread that parses, bytes.
pub const PARSER_STACK_BYTES: usize = 64 * 1024 * 1024;
/// What must remain of it when a parse begins, bytes.
pub const PARSER_STACK_LEFT_BYTES: usize = 56 * 1024 * 1024;

/// What a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest text, bytes.
    pub text_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { text_bytes_max: 256 * 1024 }
    }
}

/// Why a text has no facts. `Display` is safe to show the client that sent the text, and only that one: a syntax error
/// quotes it. [`Unparsable::reason`] is safe anywhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unparsable {
    /// Longer than the cap.
    #[error(
        "the statement text has {bytes} bytes, more than the {bytes_max} that are judged; split it, or ask the operator to raise statement_bytes_max"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The cap.
        bytes_max: usize,
    },
    /// A NUL byte inside.
    #[error("the statement text holds a NUL byte, which no PostgreSQL text may")]
    Nul,
    /// Not UTF-8.
    #[error("the statement text is not UTF-8 at byte {offset}; the session's client_encoding is UTF8")]
    NotUtf8 {
        /// First byte that does not fit.
        offset: usize,
    },
    /// The grammar refuses it.
    #[error("{message}")]
    Syntax {
        /// The grammar's own message; quotes the text.
        message: String,
    },
    /// It nests deeper than the parser follows.
    #[error(
        "the statement nests too deeply to be judged; split long chains of operators, or use IN or ANY over an array"
    )]
    TooDeep,
    /// A run of operator characters on which PostgreSQL's scanner works in the square of its length.
    #[error(
        "the statement holds runs of operator characters or comments, at byte {offset} and before, that the parser would take too long over; put spaces between them"
    )]
    OperatorRun {
        /// Where the run that is too much ends.
        offset: usize,
    },
    /// The parser or the walker panicked: a bug of the gateway, fenced.
    #[error(
        "the statement could not be classified: the gateway's parser failed on it; the operator finds the cause in the gateway's log"
    )]
    Panicked,
    /// The calling thread is not one of the door's, or too little of its stack is left: a bug of the gateway.
    #[error(
        "the statement was not classified: the gateway called its parser from a thread that may not parse"
    )]
    NotOnParserThread,
    /// Too many texts wait for a parser.
    #[error("the statement was not classified: too many statements wait for the parser; retry later")]
    Busy,
    /// The parser is shutting down.
    #[error("the statement was not classified: the gateway is shutting down; reconnect")]
    Closed,
}

impl Unparsable {
    /// SQLSTATE of the refusal.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Unparsable::TooLong { .. } => "54000",
            Unparsable::Nul | Unparsable::NotUtf8 { .. } => "22021",
            Unparsable::Syntax { .. } => "42601",
            Unparsable::TooDeep | Unparsable::OperatorRun { .. } => "54001",
            Unparsable::Panicked | Unparsable::NotOnParserThread => "XX000",
            Unparsable::Busy => "53400",
            Unparsable::Closed => "57P01",
        }
    }

    /// A fixed word for logs, metrics and evidence: holds nothing of the text.
    pub fn reason(&self) -> &'static str {
        match self {
            Unparsable::TooLong { .. } => "text too long",
            Unparsable::Nul => "NUL byte",
            Unparsable::NotUtf8 { .. } => "not UTF-8",
            Unparsable::Syntax { .. } => "syntax error",
            Unparsable::TooDeep => "nested too deeply",
            Unparsable::OperatorRun { .. } => "run of operator characters",
            Unparsable::Panicked => "parser panicked",
            Unparsable::NotOnParserThread => "not on a parser thread",
            Unparsable::Busy => "parser queue full",
            Unparsable::Closed => "parser closed",
        }
    }
}

thread_local! {
    /// Address near the base of this thread's stack, where the door started the thread.
    static STACK_BASE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// An address in the caller's frame, near enough to measure a stack in MiB.
#[inline(never)]
fn stack_here() -> usize {
    let here = 0u8;
    std::ptr::from_ref(&std::hint::black_box(here)).addr()
}

/// Bytes of stack left on a thread of the door; `None` on every other.
fn stack_left() -> Option<usize> {
    let base = STACK_BASE.get()?;
    PARSER_STACK_BYTES.checked_sub(base.abs_diff(stack_here()))
}

fn builder(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned()).stack_size(PARSER_STACK_BYTES)
}

/// Starts a thread on which [`facts_here`] works: the pool's own and the gateway's shards.
///
/// # Errors
/// The system's refusal to start a thread.
pub fn spawn_parser_thread<F, R>(name: &str, run: F) -> std::io::Result<JoinHandle<R>>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    builder(name).spawn(move || {
        STACK_BASE.set(Some(stack_here()));
        run()
    })
}

/// Runs `run` on a thread of the door and waits for it: the command line, tests, benches.
///
/// A panic of `run` goes on in the caller, as does the system's refusal to start a thread.
pub fn on_parser_stack<F, R>(run: F) -> R
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    thread::scope(|scope| {
        let started = builder("parser").spawn_scoped(scope, move || {
            STACK_BASE.set(Some(stack_here()));
            run()
        });
        match started.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(error) => resume_unwind(Box::new(format!("no thread to parse on: {error}"))),
        }
    })
}

/// Facts of a text, here and now. The calling thread must be one of the door's.
///
/// # Errors
/// [`Unparsable`], always with the reason; [`Unparsable::NotOnParserThread`] on any other thread.
pub fn facts_here(text: &[u8], limits: &Limits) -> Result<TextFacts, Unparsable> {
    with_tree_here(text, limits, |_, facts| facts)
}

/// Facts of a text together with its tree, for the reader of catalog fixtures. Nothing on the data path uses it.
///
/// # Errors
/// As [`facts_here`].
pub(crate) fn with_tree_here<R>(
    text: &[u8],
    limits: &Limits,
    read: impl FnOnce(&pb::ParseResult, TextFacts) -> R,
) -> Result<R, Unparsable> {
    let left = stack_left().ok_or(Unparsable::NotOnParserThread)?;
    if left < PARSER_STACK_LEFT_BYTES {
        return Err(Unparsable::NotOnParserThread);
    }
    if text.len() > limits.text_bytes_max {
        return Err(Unparsable::TooLong { bytes: text.len(), bytes_max: limits.text_bytes_max });
    }
    if memchr::memchr(0, text).is_some() {
        return Err(Unparsable::Nul);
    }
    if let Some(offset) = super::effort::exceeded(text) {
        return Err(Unparsable::OperatorRun { offset });
    }
    let text = std::str::from_utf8(text).map_err(|e| Unparsable::NotUtf8 { offset: e.valid_up_to() })?;
    // The tree is built, walked and dropped inside the fence.
    catch_unwind(AssertUnwindSafe(|| parse(text, read))).unwrap_or_else(|panic: Box<dyn Any + Send>| {
        drop(panic);
        Err(Unparsable::Panicked)
    })
}

fn parse<R>(text: &str, read: impl FnOnce(&pb::ParseResult, TextFacts) -> R) -> Result<R, Unparsable> {
    let parsed = pg_query::parse(text, 0).map_err(refusal)?;
    let facts = TextFacts {
        digest: *blake3::hash(text.as_bytes()).as_bytes(),
        text_bytes: text.len(),
        statements: walk::statements(&parsed.protobuf, text.len()),
        lifted: Arc::from(lifted::lift(text)),
    };
    Ok(read(&parsed.protobuf, facts))
}

fn refusal(error: pg_query::Error) -> Unparsable {
    match error {
        pg_query::Error::Parse(message) => {
            // miscinit.c/stack_depth.c, libpg_query's encoder, bison's yyerror on its own stack.
            let deep = ["stack depth limit exceeded", "nested too deeply", "memory exhausted"];
            if deep.iter().any(|d| message.contains(d)) {
                Unparsable::TooDeep
            } else {
                Unparsable::Syntax { message }
            }
        }
        pg_query::Error::Conversion(_) => Unparsable::Nul,
        pg_query::Error::Decode(_)
        | pg_query::Error::InvalidJson(_)
        | pg_query::Error::InvalidPointer
        | pg_query::Error::Scan(_)
        | pg_query::Error::IsUtility(_)
        | pg_query::Error::Split(_) => Unparsable::Panicked,
    }
}

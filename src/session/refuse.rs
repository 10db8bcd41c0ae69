//! Refusing a frame of the client.
//!
//! Owns: whether a refusal is answered here or substituted (README decision 7), and the refusals that the gate makes by
//! itself. May not: send a frame on. Fails closed: a refusal that cannot be recorded refuses all the same.

use std::sync::Arc;

use pgturnstile_proto::backend::TransactionStatus;
use pgturnstile_proto::frontend::{Message, Parse};
use pgturnstile_proto::{Malformed, Reason, encode};
use pgturnstile_rules::policy::course;
use pgturnstile_rules::statement::Unparsable;

use super::copy_in::CopyPhase;
use super::denial::{self, PROTOCOL_VIOLATION, Refusal};
use super::end::End;
use super::expect::Expectation;
use super::gate::Step;
use super::judge::Decision;
use super::relay::Relay;

/// `character_not_in_repertoire`.
const BAD_ENCODING: &str = "22021";

/// Why frames up to the next Sync go nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    /// They do not.
    No,
    /// The refusal was answered here; the Sync is answered here too.
    AnsweredHere,
    /// The server skips to the Sync, which is forwarded.
    ServerSkips,
}

/// Which stand-in a refused frame needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    Query,
    Extended,
}

impl Relay {
    /// A frame that cannot be read: refused where a server would go on behind it, else the end.
    pub(super) async fn unreadable(
        &mut self,
        len: usize,
        stand: Stand,
        fault: &Malformed,
    ) -> Result<Step, End> {
        match bad_formats(fault) {
            Some(refusal) => self.refuse(len, stand, refusal, None).await,
            None => Err(End::client_fault(fault)),
        }
    }

    /// Answers here where the server stands idle and owes nothing; substitutes everywhere else.
    pub(super) async fn refuse(
        &mut self,
        len: usize,
        stand: Stand,
        refusal: Refusal,
        decision: Option<Arc<Decision>>,
    ) -> Result<Step, End> {
        // A cancel request that came for it is answered by the refusal.
        self.control.forget_held();
        self.gate.withdrawn = false;
        let held = self.held_no_longer(&refusal).await?;
        self.account.follow(&self.judge.ground).await?;
        let idle = self.queue.is_empty()
            && !self.gate.batch_open
            && !self.gate.copy_syncs.may_be_answered()
            && self.status == TransactionStatus::Idle;
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        let text = match Message::parse(frame) {
            Ok(Message::Query(query)) => Some(query.text()),
            Ok(Message::Parse(parse)) => Some(parse.text()),
            Ok(_) | Err(_) => None,
        };
        // A Parse drops the unnamed statement before it reads its text, whatever comes of it (`exec_parse_message`,
        // src/backend/tcop/postgres.c); only a text in another encoding fails before.
        let drops_unnamed = refusal.sqlstate != BAD_ENCODING
            && matches!(Message::parse(frame), Ok(Message::Parse(parse)) if parse.name().is_empty());
        let how = if idle { "local" } else { "substituted" };
        let detectors = self.judge.detectors();
        let reference =
            self.account.refusal(&refusal, &detectors, decision.as_deref(), text, held, how).await?;
        let refusal = Arc::new(refusal);
        if self.gate.copy == CopyPhase::None {
            // Should it have been a COPY, its data may be on their way already.
            self.gate.copy = CopyPhase::Over;
        }
        if idle {
            let mut answer = denial::error(&refusal, &reference);
            match stand {
                Stand::Query => {
                    // A Query destroys the unnamed statement (`exec_simple_query`), and the stand-in would have.
                    self.names.drop_statement(b"");
                    encode::ready_for_query(&mut answer, TransactionStatus::Idle);
                }
                Stand::Extended => {
                    if drops_unnamed {
                        self.names.drop_statement(b"");
                    }
                    self.gate.skip = Skip::AnsweredHere;
                }
            }
            self.up.swallow(len);
            self.down.insert(answer);
            return Ok(Step::Done);
        }
        match stand {
            Stand::Query => {
                self.up.replace(len, denial::substitute_query(&reference));
                self.batch += 1;
                self.gate.batch_open = false;
                self.queue.push_back(Expectation::RefusedQuery { refusal, reference, rewritten: false });
                if let Some(fence) = &mut self.gate.fence {
                    fence.closed = true;
                }
            }
            Stand::Extended => {
                self.up.replace(len, denial::substitute_parse(&reference));
                self.gate.batch_open = true;
                self.gate.skip = Skip::ServerSkips;
                let undo = drops_unnamed.then(|| self.names.set_statement(b"", None, self.batch));
                self.queue.push_back(Expectation::RefusedParse { refusal, reference, undo });
            }
        }
        Ok(Step::Done)
    }
}

/// Format codes that a server answers with an ERROR, and the session goes on (`exec_bind_message`,
/// src/backend/tcop/postgres.c). It finds those of results later, when rows are sent.
pub(super) fn bad_formats(fault: &Malformed) -> Option<Refusal> {
    let sqlstate = if let Reason::UnknownFormat { .. } = fault.what {
        "22023"
    } else if let Reason::FormatCountMismatch { .. } = fault.what {
        PROTOCOL_VIOLATION
    } else {
        return None;
    };
    Some(Refusal::built_in(
        sqlstate,
        "built-in: formats",
        format!(
            "pgturnstile refused a {fault}. Next: ask for text (0) or binary (1), once for all or once for each"
        ),
    ))
}

pub(super) fn function_call() -> Refusal {
    Refusal::built_in(
        denial::REFUSED,
        "built-in: function-call",
        "pgturnstile refused a FunctionCall message: it runs a function by number, with no SQL to judge. Next: call the \
         function in a SELECT; large objects by lo_from_bytea, lo_get, lo_put and lo_unlink",
    )
}

pub(super) fn bad_name(name: &[u8], what: &str) -> Option<Refusal> {
    course::bad_name(name, what).map(Refusal::from)
}

pub(super) fn absent(sqlstate: &'static str, what: &str, name: &[u8]) -> Refusal {
    Refusal::built_in(
        sqlstate,
        "built-in: unknown-name",
        format!("{what} \"{}\" does not exist in this session", name.escape_ascii()),
    )
}

pub(super) fn too_many_names() -> Refusal {
    Refusal::built_in(
        "53400",
        "built-in: names",
        "pgturnstile refused one more prepared statement or portal: this session holds as many as it may (10,000 of each, \
         32 MiB of text). Next: close some, or DEALLOCATE ALL",
    )
}

/// The text of a Query.
pub(super) fn text_of(frame: &[u8]) -> &[u8] {
    match Message::parse(frame) {
        Ok(Message::Query(query)) => query.text(),
        Ok(_) | Err(_) => b"",
    }
}

pub(super) fn too_long(bytes: usize, limit: usize) -> Refusal {
    Refusal::built_in(
        "54000",
        "built-in: statement-length",
        format!(
            "pgturnstile refused a text of {bytes} bytes: at most {limit} are parsed (statement_bytes_max). Next: send it \
             in parts, use COPY for data, or have the limit raised for this target"
        ),
    )
}

pub(super) fn not_utf8() -> Refusal {
    Refusal::built_in(
        BAD_ENCODING,
        "built-in: encoding",
        "pgturnstile refused a text that is not UTF-8: the session's client_encoding is UTF8 and stays so. Next: encode \
         statements as UTF-8",
    )
}

pub(super) fn unparsable(reason: &Unparsable) -> Refusal {
    Refusal {
        sqlstate: reason.sqlstate(),
        message: format!("pgturnstile refused a text that it cannot read: {reason}"),
        safe: format!("pgturnstile refused a text that it cannot read: {}", reason.reason()),
        rule: format!("built-in: unparsable ({})", reason.reason()),
    }
}

/// A frame that must be a Parse.
pub(super) fn parse_of(frame: &[u8]) -> Result<Parse<'_>, End> {
    match Message::parse(frame) {
        Ok(Message::Parse(parse)) => Ok(parse),
        Ok(_) => Err(End::gateway("a Parse frame that is none")),
        Err(fault) => Err(End::client_fault(&fault)),
    }
}

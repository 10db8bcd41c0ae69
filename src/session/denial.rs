//! Refusing without breaking the protocol, and everything else that the gateway itself says on the wire.
//!
//! Owns: refusal texts and ids, the frames that stand in for a refused one (README decision 7), the injected reading of
//! guarded settings, and the rewriting of the error that the server gives to a substituted frame. May not: decide who
//! is refused. Fails: never; texts are cut to what a frame may hold.
//!
//! A refused frame is answered locally only where the server owes nothing and stands idle. Everywhere else it is
//! *substituted*: the server gets, under a reserved statement name, a text that fails in its raw parser, so that the
//! transaction, the order of replies and the skipping up to Sync are the server's own. A Query is substituted by a Query.

use pgturnstile_proto::encode;
use pgturnstile_proto::frontend::ObjectKind;
use pgturnstile_rules::policy::course::TextRefusal;

/// Statement name of a substituted frame; never defined, since its text never parses.
const REFUSED_STATEMENT: &[u8] = b"pgturnstile.refused";
/// Statement and portal name of the reading of the guarded settings.
const GUARD_STATEMENT: &[u8] = b"pgturnstile.guard";
/// Statement name of the question whether a COPY runs; never defined.
pub const COPY_PROBE_STATEMENT: &str = "pgturnstile.copy";
/// The settings that a server does not report, each read by SHOW: it takes no snapshot, so that it may stand first in
/// a transaction.
pub const GUARD_READ: &str = "SHOW role; SHOW search_path; SHOW row_security; SHOW session_replication_role";
/// The same, and what the session has of its own: its temporary schema, whether a type there hides one of `pg_catalog` (oid 11,
/// src/include/catalog/pg_namespace.dat), the names that SQL has made ([`super::by_sql`]), and a thousand names of temporary relations. It
/// takes a snapshot: asked only where code ran that may have made one, or a name was made, which took a snapshot itself. The
/// numbers of seconds are numeric: no setting of the client's changes how they are written.
pub const GUARD_READ_TEMPORARY: &str = "SHOW role; SHOW search_path; SHOW row_security; SHOW session_replication_role; \
     SELECT pg_catalog.json_build_array(pg_catalog.pg_my_temp_schema()::pg_catalog.int8, \
     CASE WHEN pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN false ELSE EXISTS (SELECT FROM \
     pg_catalog.pg_type AS own JOIN pg_catalog.pg_type AS hidden ON hidden.typname OPERATOR(pg_catalog.=) own.typname WHERE \
     own.typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AND hidden.typnamespace OPERATOR(pg_catalog.=) 11::pg_catalog.oid) END, \
     (SELECT pg_catalog.json_object_agg(name, pg_catalog.extract('epoch', prepare_time)) FROM pg_catalog.pg_prepared_statements WHERE from_sql), \
     (SELECT pg_catalog.json_object_agg(name, pg_catalog.extract('epoch', creation_time)) FROM pg_catalog.pg_cursors), \
     (SELECT pg_catalog.json_agg(named.relname) FROM (SELECT own.relname FROM pg_catalog.pg_class AS own WHERE own.relnamespace \
     OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AND own.relnamespace OPERATOR(pg_catalog.<>) 0::pg_catalog.oid LIMIT 1000) AS named))";
/// The names behind [`GUARD_READ`], in its order.
pub const GUARDED: [&str; 4] = ["role", "search_path", "row_security", "session_replication_role"];

/// SQLSTATE of a statement that the policy refuses: insufficient_privilege.
pub const REFUSED: &str = "42501";
/// SQLSTATE of any statement but the end of a failed transaction: in_failed_sql_transaction.
pub const IN_FAILED_TRANSACTION: &str = "25P02";
/// SQLSTATE of a frame that breaks the protocol: protocol_violation.
pub const PROTOCOL_VIOLATION: &str = "08P01";
/// SQLSTATE of a statement that a cancel request has ended: query_canceled.
pub const CANCELLED: &str = "57014";
/// SQLSTATE of a text that does not parse: syntax_error.
pub const SYNTAX_ERROR: &str = "42601";

/// One refusal as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Five characters.
    pub sqlstate: &'static str,
    /// The whole primary message for the client: what, why, which rule, what next. May quote the client's own text.
    pub message: String,
    /// The same for the evidence: quotes nothing.
    pub safe: String,
    /// The rule that refused, `id (file:line)`, or the built-in reason; for the evidence.
    pub rule: String,
}

impl Refusal {
    /// A refusal by a rule that is built in.
    pub fn built_in(sqlstate: &'static str, rule: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { sqlstate, safe: message.clone(), message, rule: rule.into() }
    }
}

impl From<TextRefusal> for Refusal {
    fn from(refusal: TextRefusal) -> Self {
        let TextRefusal { sqlstate, rule, message } = refusal;
        Self { sqlstate, safe: message.clone(), message, rule: format!("built-in: {rule}") }
    }
}

/// The text that no PostgreSQL parses; its server's log then names the refusal.
fn unparsable_text(reference: &str) -> String {
    format!("pgturnstile refused {reference}")
}

/// What stands in for a refused Query.
pub fn substitute_query(reference: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let encoded = encode::query(&mut out, unparsable_text(reference));
    debug_assert!(encoded.is_ok());
    out
}

/// What stands in for a refused frame of the extended protocol.
pub fn substitute_parse(reference: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    let encoded = encode::parse(&mut out, REFUSED_STATEMENT, unparsable_text(reference), &[]);
    debug_assert!(encoded.is_ok());
    out
}

/// The reading of the guarded settings; `temporary`: and of the temporary schema behind them.
pub fn guard_read(temporary: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    let encoded = encode::query(&mut out, if temporary { GUARD_READ_TEMPORARY } else { GUARD_READ });
    debug_assert!(encoded.is_ok());
    out
}

/// The same beside a client's unnamed statement or portal, which a Query would drop (`exec_simple_query` in
/// src/backend/tcop/postgres.c): in the extended protocol, under a reserved name that is closed again. `again`: one before it
/// was cancelled, and may have left the name.
pub fn guard_read_beside_unnamed(temporary: bool, again: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(1_024);
    if again {
        let encoded = encode::close(&mut out, ObjectKind::Portal, GUARD_STATEMENT)
            .and_then(|()| encode::close(&mut out, ObjectKind::Statement, GUARD_STATEMENT));
        debug_assert!(encoded.is_ok());
    }
    let texts = if temporary { GUARD_READ_TEMPORARY } else { GUARD_READ };
    for text in texts.split("; ") {
        let encoded = encode::parse(&mut out, GUARD_STATEMENT, text, &[])
            .and_then(|()| encode::bind(&mut out, GUARD_STATEMENT, GUARD_STATEMENT, &[], &[], &[]))
            .and_then(|()| encode::execute(&mut out, GUARD_STATEMENT, 0))
            .and_then(|()| encode::close(&mut out, ObjectKind::Portal, GUARD_STATEMENT))
            .and_then(|()| encode::close(&mut out, ObjectKind::Statement, GUARD_STATEMENT));
        debug_assert!(encoded.is_ok());
    }
    encode::sync(&mut out);
    out
}

/// The question whether a COPY runs; the module `copy_probe` asks it.
pub fn copy_probe() -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    for closes in 1..=2 {
        for _ in 0..closes {
            let encoded = encode::close(&mut out, ObjectKind::Statement, COPY_PROBE_STATEMENT);
            debug_assert!(encoded.is_ok());
        }
        encode::sync(&mut out);
    }
    out
}

/// The client's view of a refusal.
pub fn error(refusal: &Refusal, reference: &str) -> Vec<u8> {
    response(b"ERROR", refusal.sqlstate, &format!("{} [ref {reference}]", refusal.message))
}

/// The last words of a session.
pub fn fatal(sqlstate: &str, message: &str) -> Vec<u8> {
    response(b"FATAL", sqlstate, message)
}

/// Longest message that is sent, bytes.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// A notice of the gateway's own.
pub fn notice(message: &str) -> Vec<u8> {
    coded(|out, fields| encode::notice_response(out, fields), b"NOTICE", "00000", message)
}

fn response(severity: &[u8], sqlstate: &str, message: &str) -> Vec<u8> {
    coded(|out, fields| encode::error_response(out, fields), severity, sqlstate, message)
}

type Encode = fn(&mut Vec<u8>, &[(u8, &[u8])]) -> Result<(), encode::Unencodable>;

fn coded(encode: Encode, severity: &[u8], sqlstate: &str, message: &str) -> Vec<u8> {
    // A field of a frame ends at its first NUL, and a client shows what stands before it.
    let mut message: Vec<u8> = message.bytes().map(|byte| if byte == 0 { b' ' } else { byte }).collect();
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(MESSAGE_BYTES_MAX);
        while std::str::from_utf8(&message).is_err() && message.pop().is_some() {}
    }
    let fields: [(u8, &[u8]); 4] =
        [(b'S', severity), (b'V', severity), (b'C', sqlstate.as_bytes()), (b'M', &message)];
    let mut out = Vec::with_capacity(64 + message.len());
    let encoded = encode(&mut out, &fields);
    debug_assert!(encoded.is_ok());
    out
}

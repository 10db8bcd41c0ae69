//! Events into tables.
//!
//! Owns: the inserting statements. A row that is there already (a statement whose end was missing when the index was built) is replaced.

use std::collections::HashSet;

use rusqlite::{CachedStatement, Connection, Result, params};

use super::parts;
use crate::audit::columns::{Cell, column};
use crate::audit::csv;
use crate::audit::event::{Body, Event, Judged, Session, Statement};
use crate::audit::json;
use crate::evidence::describe::Value;
use crate::evidence::record::Kind;

/// Texts that are remembered as written: more are only asked for again.
const TEXTS_REMEMBERED: usize = 1 << 16;

/// The prepared statements.
pub(super) struct Fill<'c> {
    connection: &'c Connection,
    asked: CachedStatement<'c>,
    event: CachedStatement<'c>,
    mask: CachedStatement<'c>,
    texts: HashSet<u64>,
}

/// SQLite's integers have a sign: a count beyond them does not come up in a log of this world.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What a column says, as text.
fn cell(event: &Event, name: &str) -> Option<String> {
    let cell = (column(name)?.cell)(event);
    (cell != Cell::Empty).then(|| csv::plain(&cell))
}

fn field<'f>(fields: &'f [(&'static str, Value)], name: &str) -> &'f str {
    fields
        .iter()
        .find_map(|(field, value)| match value {
            Value::Text(text) if *field == name => Some(text.as_str()),
            Value::Text(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Unsigned(_)
            | Value::Signed(_)
            | Value::Bytes(_)
            | Value::List(_)
            | Value::Map(_) => None,
        })
        .unwrap_or_default()
}

impl<'c> Fill<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Fill<'c>> {
        let marks = |count: usize| vec!["?"; count].join(",");
        Ok(Fill {
            connection,
            asked: connection
                .prepare_cached(&format!("INSERT OR REPLACE INTO asked VALUES ({})", marks(26)))?,
            event: connection
                .prepare_cached(&format!("INSERT OR REPLACE INTO events VALUES ({})", marks(7)))?,
            mask: connection.prepare_cached(&format!("INSERT INTO masks VALUES ({})", marks(4)))?,
            texts: HashSet::new(),
        })
    }

    pub(super) fn event(&mut self, event: &Event) -> Result<()> {
        match &event.body {
            Body::Statement(statement) => self.statement(event, statement),
            Body::Record(kind, fields) => self.record(event, *kind, fields),
        }
    }

    fn statement(&mut self, event: &Event, statement: &Statement) -> Result<()> {
        self.text(&statement.judged, statement)?;
        let sum = |of: fn(&crate::audit::event::Returned) -> u64| {
            signed(statement.results.iter().fold(0, |sum: u64, result| sum.saturating_add(of(result))))
        };
        let refusal = statement.refusal.as_ref().map(|refusal| refusal.message.as_str());
        let took = cell(event, "took_us").and_then(|took| took.parse::<i64>().ok());
        self.asked.execute(params![
            signed(event.sequence),
            signed(event.time_ns),
            event.session.as_deref().map_or(0, |session| signed(session.opened_at)),
            signed(event.number),
            signed(statement.judged.sequence),
            statement.protocol(),
            statement.verdict(),
            statement.outcome(),
            cell(event, "tag"),
            cell(event, "sqlstate"),
            sum(|result| result.rows),
            sum(|result| result.bytes),
            sum(|result| result.bytes_in),
            took,
            signed(statement.masked_values()),
            refusal,
            cell(event, "ref"),
            signed(statement.parameters),
            cell(event, "exact_text"),
            signed(statement.text_bytes),
            statement.text_commitment,
            statement.parameter_digest,
            statement.results.iter().rev().find_map(|result| result.digest),
            event.hash,
            statement.name,
            statement.portal,
        ])?;
        parts::statement(self.connection, event, statement)?;
        if !statement.masked.is_empty() {
            // It may be here from a time when its end was missing.
            self.connection.execute("DELETE FROM masks WHERE sequence = ?1", [signed(event.sequence)])?;
        }
        for mask in &statement.masked {
            self.mask.execute(params![signed(event.sequence), mask.place, mask.by, signed(mask.count)])?;
        }
        Ok(())
    }

    /// A text is written once, with what it reaches.
    fn text(&mut self, judged: &Judged, statement: &Statement) -> Result<()> {
        if self.texts.len() >= TEXTS_REMEMBERED {
            self.texts.clear();
        }
        if !self.texts.insert(judged.sequence) {
            return Ok(());
        }
        let key = signed(judged.sequence);
        let classes = serde_json::Value::from(statement.classes());
        let written = self
            .connection
            .prepare_cached("INSERT OR IGNORE INTO texts VALUES (?,?,?,?,?,?,?)")?
            .execute(params![
            key,
            judged.text.as_deref().ok(),
            judged.text.as_ref().err(),
            judged.rule,
            classes.to_string(),
            judged.policy_hash,
            signed(judged.catalog_epoch),
        ])?;
        if written == 0 {
            return Ok(());
        }
        let mut relation =
            self.connection.prepare_cached("INSERT INTO text_relations VALUES (?,?,?,?,?,?)")?;
        let mut uses = self.connection.prepare_cached("INSERT INTO text_uses VALUES (?,?,?,?)")?;
        for (at, facts) in (0_i64..).zip(&judged.facts) {
            for reached in &facts.relations {
                relation.execute(params![
                    key,
                    at,
                    reached.name,
                    reached.access,
                    reached.what,
                    reached.blind
                ])?;
            }
            for (kind, names) in [
                ("class", std::slice::from_ref(&facts.class)),
                ("function", &facts.functions),
                ("act", &facts.acts),
                ("setting", &facts.settings),
            ] {
                for name in names {
                    uses.execute(params![key, at, kind, name])?;
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, event: &Event, kind: Kind, fields: &[(&'static str, Value)]) -> Result<()> {
        if let Some(session) = event.session.as_deref() {
            match kind {
                Kind::SessionOpened | Kind::Authenticated | Kind::TargetChosen => {
                    self.session(event, session)?
                }
                Kind::SessionClosed => {
                    self.session(event, session)?;
                    self.closed(event, session, fields)?;
                }
                Kind::GatewayStarted
                | Kind::GatewayStopped
                | Kind::DocumentLoaded
                | Kind::Recovered
                | Kind::Checkpoint
                | Kind::KeyRotated
                | Kind::Clock
                | Kind::AuthenticationDenied
                | Kind::Statement
                | Kind::StatementResult
                | Kind::Refusal
                | Kind::CancelRequested
                | Kind::SettingMoved
                | Kind::ProtocolViolation
                | Kind::JudgedText
                | Kind::Masked
                | Kind::Proxied
                | Kind::Recording
                | Kind::Stated
                | Kind::StatementText
                | Kind::Parameters
                | Kind::RowDescription
                | Kind::Rows
                | Kind::CopyData
                | Kind::CaptureEnded
                | Kind::Report
                | Kind::Notification
                | Kind::CopiedIn
                | Kind::Sealed
                | Kind::Unsealed
                | Kind::HoldOpened
                | Kind::HoldDecided
                | Kind::HoldEnded
                | Kind::TicketOpened
                | Kind::TicketDecided
                | Kind::TicketUsed
                | Kind::TicketEnded
                | Kind::Routed => {}
            }
        }
        parts::record(self.connection, event, kind, fields)?;
        let detail: serde_json::Map<String, serde_json::Value> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), json::of(value.clone()))).collect();
        self.event.execute(params![
            signed(event.sequence),
            signed(event.time_ns),
            event.session.as_deref().map(|session| signed(session.opened_at)),
            signed(event.number),
            kind.name(),
            serde_json::Value::Object(detail).to_string(),
            event.hash,
        ])?;
        Ok(())
    }

    fn closed(&mut self, event: &Event, session: &Session, fields: &[(&'static str, Value)]) -> Result<()> {
        let sql = "UPDATE sessions SET closed_ns = ?, closed_by = ?, closed_why = ? WHERE key = ?";
        self.connection.prepare_cached(sql)?.execute(params![
            signed(event.time_ns),
            field(fields, "by"),
            field(fields, "reason"),
            signed(session.opened_at)
        ])?;
        Ok(())
    }

    fn session(&mut self, event: &Event, session: &Session) -> Result<()> {
        let key = signed(session.opened_at);
        let who = session.identity.as_ref();
        let target = session.target.as_ref();
        let marks = vec!["?"; 25].join(",");
        self.connection
            .prepare_cached(&format!("INSERT OR REPLACE INTO sessions VALUES ({marks})"))?
            .execute(params![
                key,
                crate::evidence::describe::hex(&event.stream),
                signed(session.opened_ns),
                session.peer,
                session.listener,
                session.tls,
                who.map(|who| &who.method),
                who.map(|who| &who.issuer),
                who.map(|who| &who.issuer_url),
                who.map(|who| &who.subject),
                who.and_then(|who| who.person.as_ref()),
                who.map(|who| &who.token_thumbprint),
                who.and_then(|who| who.token_id.as_ref()),
                target.map(|target| &target.target),
                target.map(|target| &target.endpoint),
                target.map(|target| &target.database),
                target.map(|target| &target.access),
                target.map(|target| &target.login),
                target.map(|target| &target.user),
                target.map(|target| &target.mode),
                target.map(|target| &target.durability),
                target.map(|target| &target.server_version),
                None::<i64>,
                None::<String>,
                None::<String>,
            ])?;
        let Some(who) = who else { return Ok(()) };
        let mut group =
            self.connection.prepare_cached("INSERT OR REPLACE INTO session_groups VALUES (?,?)")?;
        for name in &who.groups {
            group.execute(params![key, name])?;
        }
        let mut claim =
            self.connection.prepare_cached("INSERT OR REPLACE INTO session_claims VALUES (?,?,?)")?;
        for (path, json) in &who.claims {
            claim.execute(params![key, path, json])?;
        }
        Ok(())
    }
}

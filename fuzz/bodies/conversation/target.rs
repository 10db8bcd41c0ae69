//! The target: the model's server behind a socket.
//!
//! Owns: what each frame that arrives means. Every frame is one that the client sent, to the byte, or the gateway's own: a
//! stand-in that does not parse, the reading of the guarded settings, or the question whether a COPY runs. Anything else is a
//! finding.

use std::collections::HashMap;

use pgturnstile::session::denial::{COPY_PROBE_STATEMENT, GUARD_READ, GUARD_READ_TEMPORARY};
use pgturnstile_proto::backend::{FieldDescription, TransactionStatus};
use pgturnstile_proto::frontend::{self, Message};
use pgturnstile_proto::{Format, FrontendTag, Limits, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::model::data::Data;
use super::model::frames::Frame;
use super::model::server::{Reply, Server};
use super::model::sql::{INT4, Sql};

/// Values of the guarded settings, in the order in which they are read.
pub const GUARDED: [&str; 4] = ["none", "shop", "on", "origin"];
/// How a stand-in's text begins.
const STAND_IN: &[u8] = b"pgturnstile refused ";
/// The name under which the gateway reads beside a client's unnamed statement.
const GUARD_NAME: &[u8] = b"pgturnstile.guard";
/// Bytes of a piece, where answers come in pieces.
const PIECE_BYTES: usize = 5;

/// See the module.
pub struct Target<'p> {
    server: Server,
    sent: &'p HashMap<Vec<u8>, Frame>,
    /// Keeps its answers until a server must send them.
    keeps: bool,
    in_pieces: bool,
    out: Vec<u8>,
    /// Which setting is read next under the gateway's own name.
    reads: usize,
}

/// What a frame is.
enum Meaning {
    Frame(Frame),
    /// The reading of the guards in one Query; with the temporary schema.
    Guards(bool),
    /// One frame of the same in the extended protocol.
    Guard(FrontendTag),
}

impl<'p> Target<'p> {
    /// Behind login; `sent` are the client's frames by their bytes.
    pub fn new(sent: &'p HashMap<Vec<u8>, Frame>, keeps: bool, in_pieces: bool) -> Self {
        Self { server: Server::new(), sent, keeps, in_pieces, out: Vec::new(), reads: 0 }
    }

    /// Answers until the stream ends: what the tables hold then.
    pub async fn serve(mut self, mut stream: UnixStream) -> Result<Data, String> {
        let mut bytes = Vec::new();
        let limits = Limits { statement_bytes_max: usize::MAX, ..Limits::default() };
        'stream: loop {
            while let Some(header) =
                frontend::Header::peek(&bytes, &limits).map_err(|fault| fault.to_string())?
            {
                if bytes.len() < header.len {
                    break;
                }
                let rest = bytes.split_off(header.len);
                let frame = std::mem::replace(&mut bytes, rest);
                if header.tag == FrontendTag::Terminate {
                    break 'stream;
                }
                let flushes = self.answer(&frame)? || header.tag == FrontendTag::Flush;
                if (flushes || !self.keeps) && !self.send(&mut stream).await {
                    break 'stream;
                }
                if self.server.dead {
                    break 'stream;
                }
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                break;
            }
        }
        self.server.abandon();
        Ok(self.server.data)
    }

    /// Whether the other side is still there.
    async fn send(&mut self, stream: &mut UnixStream) -> bool {
        let piece = if self.in_pieces { PIECE_BYTES } else { self.out.len().max(1) };
        for part in self.out.chunks(piece) {
            if stream.write_all(part).await.is_err() {
                return false;
            }
            tokio::task::yield_now().await;
        }
        self.out.clear();
        true
    }

    /// Whether a server sends what it has said so far.
    fn answer(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let replies = match self.meaning(bytes)? {
            Meaning::Frame(frame) => {
                if frame == Frame::Sync {
                    self.reads = 0;
                }
                if reaches_for_what_is_refused(&frame) {
                    return Err(format!("what the policy refuses came: {frame:?}"));
                }
                self.server.frame(&frame)
            }
            Meaning::Guards(temporary) => {
                self.may_be_read()?;
                // A Query drops them (`exec_simple_query`).
                self.server.statements.remove("");
                self.server.portals.remove("");
                for value in GUARDED {
                    described(&mut self.out);
                    read(&mut self.out, value);
                }
                if temporary {
                    let session = self.session();
                    described(&mut self.out);
                    read(&mut self.out, &session);
                }
                self.server.frame(&Frame::Sync)
            }
            Meaning::Guard(tag) => {
                self.may_be_read()?;
                self.guard(tag);
                Vec::new()
            }
        };
        for reply in &replies {
            encoded(reply, &mut self.out)?;
        }
        let flushes = |reply: &Reply| {
            matches!(reply, Reply::Ready(_) | Reply::Error(_) | Reply::Fatal(_) | Reply::CopyIn)
        };
        Ok(replies.iter().any(flushes))
    }

    fn meaning(&self, bytes: &[u8]) -> Result<Meaning, String> {
        let message = Message::parse(bytes).map_err(|fault| fault.to_string())?;
        let own = match &message {
            Message::Query(query) if query.text().starts_with(STAND_IN) => {
                Some(Meaning::Frame(Frame::Query(vec![Sql::Syntax])))
            }
            Message::Query(query) if query.text() == GUARD_READ.as_bytes() => Some(Meaning::Guards(false)),
            Message::Query(query) if query.text() == GUARD_READ_TEMPORARY.as_bytes() => {
                Some(Meaning::Guards(true))
            }
            Message::Parse(parse) if parse.text().starts_with(STAND_IN) => {
                Some(Meaning::Frame(Frame::StandIn))
            }
            Message::Parse(parse) if parse.name() == GUARD_NAME => Some(Meaning::Guard(FrontendTag::Parse)),
            Message::Bind(bind) if bind.portal() == GUARD_NAME => Some(Meaning::Guard(FrontendTag::Bind)),
            Message::Execute(execute) if execute.portal() == GUARD_NAME => {
                Some(Meaning::Guard(FrontendTag::Execute))
            }
            Message::Close(close) if close.name() == COPY_PROBE_STATEMENT.as_bytes() => {
                Some(Meaning::Frame(Frame::Close { statement: true, name: COPY_PROBE_STATEMENT }))
            }
            Message::Close(close) if close.name() == GUARD_NAME => Some(Meaning::Guard(FrontendTag::Close)),
            Message::Sync => Some(Meaning::Frame(Frame::Sync)),
            // The gateway's own, too: behind the end of a COPY that no Sync follows.
            Message::Flush => Some(Meaning::Frame(Frame::Flush)),
            _ => None,
        };
        match (own, self.sent.get(bytes)) {
            (Some(own), _) => Ok(own),
            (None, Some(frame)) => Ok(Meaning::Frame(frame.clone())),
            (None, None) => Err(format!("the client never sent {}", bytes.escape_ascii())),
        }
    }

    /// The guards are read between two batches, and never where no statement runs.
    fn may_be_read(&self) -> Result<(), String> {
        let server = &self.server;
        if server.failed() || server.skipping || server.copy.is_some() {
            return Err("the guards are read where they cannot be".into());
        }
        Ok(())
    }

    /// What stands behind the settings: no temporary schema, no type in it, the statements of PREPARE, the cursors, and no temporary
    /// relation.
    fn session(&self) -> String {
        let listed = |names: Vec<&String>| {
            let since: Vec<String> = names.into_iter().map(|name| format!("{name:?}: 1")).collect();
            if since.is_empty() { "null".to_owned() } else { format!("{{{}}}", since.join(", ")) }
        };
        let by_sql = self.server.statements.iter().filter(|(_, prepared)| prepared.by_sql);
        let statements = listed(by_sql.map(|(name, _)| name).collect());
        format!("[0, false, {statements}, {}, null]", listed(self.server.portals.keys().collect()))
    }

    fn guard(&mut self, tag: FrontendTag) {
        match tag {
            FrontendTag::Parse => encode::parse_complete(&mut self.out),
            FrontendTag::Bind => encode::bind_complete(&mut self.out),
            FrontendTag::Execute => {
                let session = self.session();
                read(&mut self.out, GUARDED.get(self.reads).copied().unwrap_or(&session));
                self.reads += 1;
            }
            _ => encode::close_complete(&mut self.out),
        }
    }
}

fn reaches_for_what_is_refused(frame: &Frame) -> bool {
    match frame {
        Frame::Query(statements) | Frame::Parse { sql: statements, .. } => {
            statements.iter().any(|sql| matches!(sql, Sql::Drop | Sql::Truncate | Sql::Wipe))
        }
        Frame::FunctionCall => true,
        _ => false,
    }
}

fn column(name: &[u8], type_oid: u32, format: Format) -> FieldDescription<'_> {
    let type_length = if type_oid == INT4 { 4 } else { -1 };
    FieldDescription { name, table_oid: 0, attribute: 0, type_oid, type_length, type_modifier: -1, format }
}

fn described(out: &mut Vec<u8>) {
    encode::row_description(out, &[column(b"setting", 25, Format::Text)]).expect("it fits");
}

fn read(out: &mut Vec<u8>, value: &str) {
    encode::data_row(out, &[Some(value.as_bytes())]).expect("it fits");
    encode::command_complete(out, "SHOW").expect("it fits");
}

fn problem(severity: &'static str, code: &'static str) -> [(u8, &'static str); 4] {
    [(b'S', severity), (b'V', severity), (b'C', code), (b'M', "the model says so")]
}

/// A reply as a server says it.
fn encoded(reply: &Reply, out: &mut Vec<u8>) -> Result<(), String> {
    let done = match reply {
        Reply::ParseComplete => {
            encode::parse_complete(out);
            Ok(())
        }
        Reply::BindComplete => {
            encode::bind_complete(out);
            Ok(())
        }
        Reply::CloseComplete => {
            encode::close_complete(out);
            Ok(())
        }
        Reply::NoData => {
            encode::no_data(out);
            Ok(())
        }
        Reply::Empty => {
            encode::empty_query_response(out);
            Ok(())
        }
        Reply::Suspended => {
            encode::portal_suspended(out);
            Ok(())
        }
        Reply::CopyDone => {
            encode::copy_done(out);
            Ok(())
        }
        Reply::Ready(status) => {
            let status = match status {
                b'I' => TransactionStatus::Idle,
                b'T' => TransactionStatus::InTransaction,
                _ => TransactionStatus::Failed,
            };
            encode::ready_for_query(out, status);
            Ok(())
        }
        Reply::Parameters(types) => encode::parameter_description(out, types),
        Reply::Columns(columns) => {
            let format = |code: u16| if code == 0 { Format::Text } else { Format::Binary };
            let fields: Vec<FieldDescription<'_>> = columns
                .iter()
                .map(|(name, oid, code)| column(name.as_bytes(), *oid, format(*code)))
                .collect();
            encode::row_description(out, &fields)
        }
        Reply::Row(cells) => {
            let cells: Vec<Option<&[u8]>> = cells.iter().map(Option::as_deref).collect();
            encode::data_row(out, &cells)
        }
        Reply::Complete(tag) => encode::command_complete(out, tag),
        Reply::Error(code) => encode::error_response(out, &problem("ERROR", code)),
        Reply::Fatal(code) => encode::error_response(out, &problem("FATAL", code)),
        Reply::Notice(code) => encode::notice_response(out, &problem("NOTICE", code)),
        Reply::Status(value) => encode::parameter_status(out, "application_name", value),
        Reply::CopyIn => encode::copy_in_response(out, Format::Text, &[Format::Text; 2]),
        Reply::CopyOut => encode::copy_out_response(out, Format::Text, &[Format::Text; 2]),
        Reply::CopyData(data) => encode::copy_data(out, data),
        Reply::Refused(_) => return Err("the model's server refused something".into()),
    };
    done.map_err(|error| error.to_string())
}

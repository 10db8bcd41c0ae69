//! Runs one pipeline over one connection.
//!
//! Owns: login, how the bytes are cut and when the client rests, cancels, and the transcript up to the connection's end.
//! May not: judge what comes.

use std::sync::Arc;
use std::time::Duration;

use pgturnstile_proto::backend::Message;
use pgturnstile_proto::{encode, startup::ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use crate::ground::Ground;
use crate::model::data::APPLICATION_NAME;
use crate::model::frames::{Frame, Pipeline, flushed};
use crate::model::{Conversation, server::Reply};
use crate::wire::{Raw, frames};

/// Ends a hang, which is a finding.
const HANG: Duration = Duration::from_secs(20);

/// What is sent, and when the client waits.
pub struct Plan {
    acts: Vec<Act>,
    piece: usize,
    seed: u64,
}

enum Act {
    Send(Vec<u8>),
    /// Until that many replies are here.
    Await(usize),
    /// Once the server sleeps.
    CancelSleep,
    CancelIdle,
}

/// Which side of the comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The server itself; refused frames have their stand-ins.
    Bare,
    /// Through the gateway.
    Gate,
}

impl Side {
    /// Its database.
    pub fn database(self) -> &'static str {
        match self {
            Side::Bare => "bare",
            Side::Gate => "gate",
        }
    }
}

/// What the model says of a whole pipeline: each side's plan, every reply, the model at the end.
pub fn rehearse(pipeline: &Pipeline) -> (Plan, Plan, Vec<Reply>, Conversation) {
    let mut conversation = Conversation::new();
    let mut replies = Vec::new();
    let plan = || Plan { acts: Vec::new(), piece: pipeline.piece, seed: pipeline.seed };
    let (mut bare, mut gate) = (plan(), plan());
    for step in &pipeline.steps {
        let cancels = matches!(step.frame, Frame::Cancelled | Frame::CancelIdle);
        if cancels {
            bare.acts.push(Act::Await(flushed(&replies)));
            gate.acts.push(Act::Await(flushed(&replies)));
        }
        let turn = conversation.send(&step.frame);
        for (plan, frame) in [(&mut bare, &turn.bare), (&mut gate, &step.frame)] {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            plan.acts.push(Act::Send(bytes));
            match step.frame {
                Frame::Cancelled => plan.acts.push(Act::CancelSleep),
                Frame::CancelIdle => plan.acts.push(Act::CancelIdle),
                _ => {}
            }
        }
        let ready = turn.replies.iter().any(|reply| matches!(reply, Reply::Ready(_)));
        replies.extend(turn.replies);
        if step.pause || cancels || (pipeline.lockstep && ready) {
            bare.acts.push(Act::Await(flushed(&replies)));
            gate.acts.push(Act::Await(flushed(&replies)));
        }
    }
    if conversation.server.copy.is_none() {
        for plan in [&mut bare, &mut gate] {
            let mut bytes = Vec::new();
            encode::terminate(&mut bytes);
            plan.acts.push(Act::Send(bytes));
        }
    }
    conversation.server.abandon();
    (bare, gate, replies, conversation)
}

/// Runs a plan; all that came behind the login, and what went wrong.
pub async fn run(ground: &Ground, side: Side, plan: &Plan) -> (Vec<Raw>, Option<String>) {
    match side {
        Side::Bare => {
            let path = ground.server.socket_folder().join(format!(".s.PGSQL.{}", ground.server.port()));
            let stream = UnixStream::connect(path).await.expect("the server's socket");
            converse(ground, side, stream, plan).await
        }
        Side::Gate => converse(ground, side, dial(ground).await, plan).await,
    }
}

async fn dial(ground: &Ground) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut tcp = TcpStream::connect(("127.0.0.1", ground.port)).await.expect("the gateway's socket");
    tcp.set_nodelay(true).expect("an option");
    let mut request = Vec::new();
    encode::ssl_request(&mut request);
    tcp.write_all(&request).await.expect("a request for TLS");
    assert_eq!(tcp.read_u8().await.expect("an answer"), b'S');
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&ground.tls));
    connector.connect("localhost".try_into().expect("a name"), tcp).await.expect("TLS")
}

async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    ground: &Ground,
    side: Side,
    stream: &mut S,
) -> Result<(u32, Vec<u8>), String> {
    let user = if side == Side::Bare { "app_login" } else { "app" };
    let mut packet = Vec::new();
    let parameters = [
        ("user", user),
        ("database", side.database()),
        ("application_name", APPLICATION_NAME),
        ("client_encoding", "UTF8"),
    ];
    encode::startup(&mut packet, ProtocolVersion::V3_0, parameters).expect("a startup packet");
    stream.write_all(&packet).await.map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let mut key = (0, Vec::new());
    loop {
        for raw in frames(&mut bytes) {
            match Message::parse(&raw.bytes).expect("a frame") {
                Message::Authentication(pgturnstile_proto::backend::Authentication::CleartextPassword) => {
                    let mut password = Vec::new();
                    encode::password(&mut password, ground.token.as_bytes()).expect("a token");
                    stream.write_all(&password).await.map_err(|error| error.to_string())?;
                }
                Message::BackendKeyData(data) => key = (data.process_id(), data.key().to_vec()),
                Message::ReadyForQuery { .. } => return Ok(key),
                Message::ErrorResponse(fields) => {
                    return Err(format!(
                        "login: {}",
                        String::from_utf8_lossy(fields.message().unwrap_or_default())
                    ));
                }
                _ => {}
            }
        }
        if stream.read_buf(&mut bytes).await.map_err(|error| error.to_string())? == 0 {
            return Err("login: the connection was closed".into());
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    ground: &Ground,
    side: Side,
    mut stream: S,
    plan: &Plan,
) -> (Vec<Raw>, Option<String>) {
    let key = match tokio::time::timeout(HANG, login(ground, side, &mut stream)).await {
        Ok(Ok(key)) => key,
        Ok(Err(why)) => return (Vec::new(), Some(why)),
        Err(_) => return (Vec::new(), Some("login hangs".into())),
    };
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (tell, told) = watch::channel(0);
    let mut all = Vec::new();
    let reading = async {
        let mut bytes = Vec::new();
        loop {
            let read = reader.read_buf(&mut bytes).await;
            all.extend(frames(&mut bytes));
            tell.send_replace(all.len());
            if read.unwrap_or(0) == 0 {
                tell.send_replace(usize::MAX);
                return;
            }
        }
    };
    let writing = write(ground, side, plan, &key, &mut writer, told);
    let both = async { tokio::join!(reading, writing).1 };
    let wrong = tokio::time::timeout(HANG * 2, both).await.unwrap_or_else(|_| Some("it hangs".into()));
    (all, wrong)
}

async fn write<W: AsyncWrite + Unpin>(
    ground: &Ground,
    side: Side,
    plan: &Plan,
    key: &(u32, Vec<u8>),
    writer: &mut W,
    mut told: watch::Receiver<usize>,
) -> Option<String> {
    let mut pending = Vec::new();
    let mut random = plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for act in &plan.acts {
        match act {
            Act::Send(bytes) => pending.extend_from_slice(bytes),
            Act::Await(count) => {
                send(plan.piece, &mut random, &mut pending, writer).await;
                let here = told.wait_for(|here| here >= count);
                if tokio::time::timeout(HANG, here).await.is_err() {
                    let here = *told.borrow();
                    return Some(format!("hangs: {here} replies are here where {count} are owed"));
                }
            }
            Act::CancelSleep => {
                send(plan.piece, &mut random, &mut pending, writer).await;
                until_asleep(ground, side).await;
                cancel(ground, side, key).await;
            }
            Act::CancelIdle => cancel(ground, side, key).await,
        }
    }
    send(plan.piece, &mut random, &mut pending, writer).await;
    None
}

/// Writes what waits, in pieces. A peer that is gone is seen by the reader.
async fn send<W: AsyncWrite + Unpin>(piece: usize, random: &mut u64, pending: &mut Vec<u8>, writer: &mut W) {
    let mut rest = pending.as_slice();
    while !rest.is_empty() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let most = if piece == 0 { rest.len() } else { piece };
        let count = (usize::try_from(*random >> 33).unwrap_or(0) % most + 1).min(rest.len());
        let (now, later) = rest.split_at(if piece == 0 { rest.len() } else { count });
        if writer.write_all(now).await.is_err() || writer.flush().await.is_err() {
            break;
        }
        rest = later;
        tokio::task::yield_now().await;
    }
    pending.clear();
}

async fn until_asleep(ground: &Ground, side: Side) {
    let asleep = format!(
        "SELECT 1 FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'",
        side.database()
    );
    let client = ground.server.client("postgres").await;
    for _ in 0..2_000 {
        let rows = client.simple_query(&asleep).await.expect("the view is readable");
        if rows.iter().any(|row| matches!(row, tokio_postgres::SimpleQueryMessage::Row(_))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The connection that carries a cancel is closed once the signal is sent.
async fn cancel(ground: &Ground, side: Side, (process, key): &(u32, Vec<u8>)) {
    let mut packet = Vec::new();
    encode::cancel_request(&mut packet, *process, key).expect("a cancel request");
    let mut rest = Vec::new();
    let done = match side {
        Side::Bare => {
            let path = ground.server.socket_folder().join(format!(".s.PGSQL.{}", ground.server.port()));
            let mut stream = UnixStream::connect(path).await.expect("the server's socket");
            stream.write_all(&packet).await.expect("a cancel is sent");
            stream.read_to_end(&mut rest).await
        }
        Side::Gate => {
            let mut stream = dial(ground).await;
            stream.write_all(&packet).await.expect("a cancel is sent");
            stream.read_to_end(&mut rest).await
        }
    };
    drop(done);
}

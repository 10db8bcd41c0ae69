//! Body of `conversation`: bytes choose a pipeline, which a client sends through a session to a target that is the model.
//!
//! ```text
//!   client ◄──socket──► Relay: policy, catalog, evidence on disk ◄──socket──► the model's server (`target`)
//! ```
//!
//! The model and its pipelines are those of tests/conversation, where a real server and the whole gateway stand in their
//! place. Of the second byte, bit 0 chooses whether the session waits for its records, bit 1 whether the target keeps its
//! answers until a server must send them, bit 2 whether they come in pieces.
//!
//! Promises held: nothing panics and nothing hangs; every reply and every status is what the model says; what the target
//! gets is byte for byte what the client sent, a stand-in, the reading of the guards, or the question whether a COPY runs; what
//! the policy refuses never reaches it; its tables end as the model's.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a panic is a finding, and the model is no security path"
)]

#[path = "../../tests/conversation/model/mod.rs"]
mod model;
#[path = "conversation/rig.rs"]
mod rig;
#[path = "conversation/target.rs"]
mod target;
#[path = "../../tests/conversation/wire.rs"]
mod wire;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use model::Conversation;
use model::frames::{Frame, Pipeline, flushed};
use model::server::Reply;
use pgturnstile::session::Durability;
use pgturnstile_proto::encode;
use pgturnstile_rules::statement::spawn_parser_thread;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use wire::{Raw, compared, frames};

/// Ends a hang, which is a finding.
const HANG: Duration = Duration::from_secs(15);
/// Sessions that one log of evidence holds before it is begun anew.
const SESSIONS_PER_LOG: usize = 4_000;

/// What is sent, when the client rests, and what comes of it.
struct Plan {
    acts: Vec<Act>,
    piece: usize,
    replies: Vec<Reply>,
    /// Every frame of the client by its bytes.
    sent: HashMap<Vec<u8>, Frame>,
    end: Conversation,
}

enum Act {
    Send(Vec<u8>),
    /// Until that many replies are here.
    Await(usize),
}

fn rehearse(pipeline: &Pipeline) -> Plan {
    let mut end = Conversation::new();
    let (mut acts, mut replies, mut sent) = (Vec::new(), Vec::new(), HashMap::new());
    for step in &pipeline.steps {
        let cancelled = matches!(step.frame, Frame::Cancelled | Frame::CancelIdle);
        if cancelled {
            acts.push(Act::Await(flushed(&replies)));
        }
        let turn = end.send(&step.frame);
        let mut bytes = Vec::new();
        step.frame.encode(&mut bytes);
        sent.insert(bytes.clone(), step.frame.clone());
        acts.push(Act::Send(bytes));
        let ready = turn.replies.iter().any(|reply| matches!(reply, Reply::Ready(_)));
        replies.extend(turn.replies);
        if step.pause || cancelled || (pipeline.lockstep && ready) {
            acts.push(Act::Await(flushed(&replies)));
        }
    }
    if end.server.copy.is_none() {
        let mut bytes = Vec::new();
        encode::terminate(&mut bytes);
        acts.push(Act::Send(bytes));
    }
    end.server.abandon();
    Plan { acts, piece: pipeline.piece, replies, sent, end }
}

/// Runs every promise against `data`.
pub fn run(data: &[u8]) {
    type Thread = (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Option<String>>);
    static THREAD: OnceLock<Mutex<Thread>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (inputs, take) = mpsc::channel();
        let (give, answers) = mpsc::channel();
        spawn_parser_thread("conversation", move || work(&take, &give)).expect("a thread");
        Mutex::new((inputs, answers))
    });
    let (inputs, answers) = &*thread.lock().unwrap_or_else(PoisonError::into_inner);
    inputs.send(data.to_vec()).expect("the session's thread listens");
    if let Some(what) = answers.recv().expect("the session's thread answers") {
        panic!("{what}\n{}", Pipeline::decode(data).described());
    }
}

/// Statements are parsed on the session's own thread, which has the parser's stack.
fn work(inputs: &mpsc::Receiver<Vec<u8>>, answers: &mpsc::Sender<Option<String>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut rig: Option<rig::Rig> = None;
    for (number, data) in inputs.iter().enumerate() {
        if number % SESSIONS_PER_LOG == 0 {
            if let Some(old) = rig.take() {
                runtime.block_on(old.stop());
            }
            rig = Some(rig::Rig::new());
        }
        let rig = rig.as_ref().expect("it was just made");
        let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(disagreement(rig, &data))));
        let what = ran.unwrap_or_else(|_| Some("something panicked".into()));
        answers.send(what).expect("the caller waits");
    }
}

/// Runs one pipeline: where something disagrees, what.
async fn disagreement(rig: &rig::Rig, data: &[u8]) -> Option<String> {
    let plan = rehearse(&Pipeline::decode(data));
    let choices = data.get(1).copied().unwrap_or(0);
    let durability = if choices & 1 == 0 { Durability::Gated } else { Durability::Queued };
    let (client, near) = UnixStream::pair().expect("two sockets");
    let (far, server) = UnixStream::pair().expect("two sockets");
    let relay = rig.relay(near, far, durability).await;
    let target = target::Target::new(&plan.sent, choices & 2 != 0, choices & 4 != 0);
    let all = async { tokio::join!(relay.run(), target.serve(server), converse(client, &plan)) };
    let Ok(((), served, (came, stuck))) = tokio::time::timeout(HANG, Box::pin(all)).await else {
        return Some("the session does not end".into());
    };
    let differs = compared("the session", &came, &plan.replies, true);
    match (stuck.or(differs), served) {
        (Some(what), Err(why)) => Some(format!("{what}; the target: {why}")),
        (Some(what), Ok(_)) | (None, Err(what)) => Some(what),
        (None, Ok(data)) => {
            let wanted = &plan.end.server.data;
            let same = data.kv == wanted.kv && data.late == wanted.late && data.trap == wanted.trap;
            (!same).then(|| format!("the tables hold {data:?}, expected {wanted:?}"))
        }
    }
}

/// The client's side, up to the end of the stream: all that came, and what it waited for in vain.
async fn converse(stream: UnixStream, plan: &Plan) -> (Vec<Raw>, Option<String>) {
    let (reader, writer) = stream.into_split();
    let (tell, told) = watch::channel(0);
    // Whichever is over first is dropped with the other: the socket closes behind both.
    let (came, stuck) = tokio::join!(read(reader, &tell), write(writer, plan, told));
    (came, stuck)
}

async fn read(mut reader: OwnedReadHalf, tell: &watch::Sender<usize>) -> Vec<Raw> {
    let (mut all, mut bytes) = (Vec::new(), Vec::new());
    loop {
        let count = reader.read_buf(&mut bytes).await.unwrap_or(0);
        all.extend(frames(&mut bytes));
        tell.send_replace(if count == 0 { usize::MAX } else { all.len() });
        if count == 0 {
            return all;
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, plan: &Plan, mut told: watch::Receiver<usize>) -> Option<String> {
    for act in &plan.acts {
        match act {
            Act::Send(bytes) => {
                let piece = if plan.piece == 0 { bytes.len().max(1) } else { plan.piece };
                for part in bytes.chunks(piece) {
                    // A peer that is gone is seen by the reader.
                    if writer.write_all(part).await.is_err() {
                        return None;
                    }
                    tokio::task::yield_now().await;
                }
            }
            Act::Await(count) => {
                let here = told.wait_for(|here| here >= count);
                if tokio::time::timeout(HANG / 3, here).await.is_err() {
                    let here = *told.borrow();
                    return Some(format!("hangs: {here} replies are here where {count} are owed"));
                }
            }
        }
    }
    None
}

//! The relay: one task that owns both sockets of a session.
//!
//! Owns: the loop of reading, working and writing; back-pressure; the session's end on the wire. May not: judge or
//! interpret frames (that is [`super::gate`] and [`super::flow`]). Memory is bounded: a peer is not read while the
//! conduit towards the other is full, and a conduit grows beyond its bulk capacity only for one frame under its limit.
//!
//! ```text
//!            read                    write
//!   client ───────► up: gate judges ───────► target
//!   client ◄─────── down: flow ◄──────────── target
//!            write                   read
//! ```

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pgturnstile_proto::backend::TransactionStatus;
use pgturnstile_proto::{Limits, encode};
use pgturnstile_rules::mask::style::TokenKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use super::account::Account;
use super::capture::Staying;
use super::closing::told_nothing_until;
use super::control::{Control, Order, Phase};
use super::denial;
use super::end::{End, Fault};
use super::expect::Expectation;
use super::gate::Gate;
use super::judge::Judge;
use super::live::{Turn, Waits};
use super::masking::Masking;
use super::names::{Batch, Names};
use super::pinned::Pinned;
use crate::approval::Holds;
use crate::evidence::Mark;
use crate::net::close;
use crate::net::conduit::{Conduit, SLICES_MAX};
use crate::net::stream::Stream;

/// How long the last words may take to reach the client, milliseconds.
const LAST_WORDS_MS: u64 = 2_000;
/// An answer that waits for the catalog looks this often whether it can still come.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The tag of Terminate.
const TERMINATE: u8 = b'X';
/// How long a session that is to be drained waits, idle, for its client's next frame, milliseconds. A FATAL that stands
/// directly behind ReadyForQuery is taken for a notice by libpq, and the client then meets a closed socket without a reason;
/// one that answers its next frame (which is not forwarded) is told to whoever asked.
const DRAIN_GRACE_MS: u64 = 500;

/// A session after login; see the module.
pub struct Relay {
    client: Stream,
    backend: Stream,
    /// Client to backend.
    pub(super) up: Conduit,
    /// Backend to client.
    pub(super) down: Conduit,
    pub(super) limits: Limits,
    /// What the backend owes.
    pub(super) queue: VecDeque<Expectation>,
    pub(super) names: Names,
    /// The batch that the next frame belongs to.
    pub(super) batch: Batch,
    pub(super) gate: Gate,
    /// What the last ReadyForQuery said.
    pub(super) status: TransactionStatus,
    /// The server is sending COPY data.
    pub(super) copy_out: bool,
    /// Rest of a row that is larger than the buffer.
    pub(super) rows_left: usize,
    pub(super) pinned: Pinned,
    pub(super) judge: Judge,
    pub(super) account: Account,
    pub(super) masking: Masking,
    pub(super) control: Arc<Control>,
    /// The gateway's open holds.
    pub(super) holds: Arc<Holds>,
    /// The client's next frame waits for the backend or for the evidence.
    pub(super) blocked: bool,
    /// The backend's next frame waits for the evidence.
    pub(super) answers_wait: bool,
    /// A drain found the session idle: it ends at this moment, or with its client's next frame.
    drained_at: Option<Instant>,
    /// Bytes for the client that stay until the records of them are durable, in order.
    pub(super) staying: VecDeque<Staying>,
    application_name: String,
    /// The client's stream has ended: what it sent before is answered, unless nothing more of that leaves until then.
    pub(super) client_closed: Option<Instant>,
    /// A Flush of the gateway's own stands behind that end.
    pub(super) end_flushed: bool,
    pub(super) backend_closed: bool,
}

/// What a session waits for.
enum Wait {
    /// Its sockets alone.
    Sockets,
    /// A record that is not durable yet, beside them.
    Durable(Mark),
    /// A look at the catalog, beside them.
    Catalog(u64),
    /// People, beside them; until this moment at most, when the client is told or the time is up.
    Approval(Instant),
    /// Nothing: there is work.
    Over,
}

/// What a relay starts from.
pub struct Parts {
    /// The client's stream, after ReadyForQuery was queued for it in `greeting`.
    pub client: Stream,
    /// Bytes of the client that stood behind its password message.
    pub client_rest: Vec<u8>,
    /// The target's stream, behind its first ReadyForQuery.
    pub backend: Stream,
    /// What the client is told first: AuthenticationOk to ReadyForQuery.
    pub greeting: Vec<u8>,
    /// Bounds of frames.
    pub limits: Limits,
    /// What may not move.
    pub pinned: Pinned,
    /// The judgement.
    pub judge: Judge,
    /// The evidence.
    pub account: Account,
    /// Key of the tokens that stand in for values.
    pub token_key: TokenKey,
    /// Orders from outside.
    pub control: Arc<Control>,
    /// The gateway's open holds.
    pub holds: Arc<Holds>,
    /// What the client calls itself.
    pub application_name: String,
}

impl Relay {
    /// A relay over two streams that are both past login.
    pub fn new(parts: Parts) -> Self {
        let mut up = Conduit::new();
        up.preload(&parts.client_rest);
        let mut down = Conduit::new();
        down.insert(parts.greeting);
        Self {
            client: parts.client,
            backend: parts.backend,
            up,
            down,
            limits: parts.limits,
            queue: VecDeque::new(),
            names: Names::default(),
            batch: 1,
            gate: Gate::new(),
            status: TransactionStatus::Idle,
            copy_out: false,
            rows_left: 0,
            pinned: parts.pinned,
            judge: parts.judge,
            account: parts.account,
            masking: Masking::new(parts.token_key),
            control: parts.control,
            holds: parts.holds,
            blocked: false,
            answers_wait: false,
            drained_at: None,
            staying: VecDeque::new(),
            application_name: parts.application_name,
            client_closed: None,
            end_flushed: false,
            backend_closed: false,
        }
    }

    /// Runs the session to its end, and records the end.
    pub async fn run(mut self) {
        let mut ended = self.says_first().await.err();
        let end = loop {
            match ended {
                None => ended = self.turn().await.err(),
                Some(end) => break end,
            }
        };
        // The end is no part of what a session holds while it lives.
        Box::pin(self.finish(end)).await;
    }

    /// What the session's record says before its first statement.
    async fn says_first(&mut self) -> Result<(), End> {
        self.account.follow(&self.judge.ground).await?;
        let name = std::mem::take(&mut self.application_name);
        self.account.says(&name).await
    }

    async fn turn(&mut self) -> Result<(), End> {
        self.obey()?;
        // Each side can unblock the other: an answer opens the gate, a statement is what the next answer belongs to.
        while self.frontend_frames().await? | self.backend_frames().await? {}
        // The last answer may be what a drain has waited for.
        self.obey()?;
        self.closed()?;
        if !self.show_to_cancels() {
            self.withdraw();
            return Ok(());
        }
        let wait = self.waits_for()?;
        self.show(&wait);
        match self.client_closed {
            // When the time is up, it is the session's end.
            Some(at) => timeout_at(at, self.wait(wait)).await.unwrap_or(Ok(())),
            None => self.wait(wait).await,
        }
    }

    async fn wait(&mut self, wait: Wait) -> Result<(), End> {
        match wait {
            Wait::Over => Ok(()),
            Wait::Approval(at) => {
                timeout_at(at, poll_fn(|context| self.poll(context))).await.unwrap_or(Ok(()))
            }
            Wait::Sockets => match self.drained_at {
                None => poll_fn(|context| self.poll(context)).await,
                // When the time is up, the order is looked at again.
                Some(at) => timeout_at(at, poll_fn(|context| self.poll(context))).await.unwrap_or(Ok(())),
            },
            Wait::Durable(mark) => {
                let lane = self.account.lane().clone();
                let mut durable = lane.until_durable(mark);
                poll_fn(|context| match Pin::new(&mut durable).poll(context) {
                    // Whether it succeeded is seen where the mark is asked for.
                    Poll::Ready(_) => Poll::Ready(Ok(())),
                    Poll::Pending => self.poll(context),
                })
                .await
            }
            Wait::Catalog(look) => {
                let mut covered = self.judge.world().covered();
                let came = timeout(LOOK_AGAIN, covered.wait_for(|covered| *covered >= look));
                let mut came = std::pin::pin!(came);
                poll_fn(|context| match came.as_mut().poll(context) {
                    // Whether it came is seen where it is asked for.
                    Poll::Ready(_) => Poll::Ready(Ok(())),
                    Poll::Pending => self.poll(context),
                })
                .await
            }
        }
    }

    /// Shows those who may look what the session does.
    fn show(&self, wait: &Wait) {
        let running = self.queue.iter().find_map(Expectation::run);
        let waits = match wait {
            Wait::Durable(_) => Waits::Evidence,
            Wait::Sockets | Wait::Catalog(_) | Wait::Approval(_) | Wait::Over if self.gate.hold.is_some() => {
                Waits::Approval
            }
            Wait::Sockets | Wait::Over if self.queue.is_empty() => Waits::Client,
            Wait::Sockets | Wait::Over if self.blocked && !self.up.unscanned().is_empty() => Waits::Barrier,
            Wait::Sockets | Wait::Catalog(_) | Wait::Approval(_) | Wait::Over => Waits::Target,
        };
        let turn = Turn {
            phase: self.phase(wait),
            waits,
            running: running.map(|run| (run.class(), run.started_ns, run.rows)),
            totals: self.account.totals(),
        };
        self.control.live().show(&turn, || self.account.now_ns() / 1_000_000);
    }

    fn phase(&self, wait: &Wait) -> Phase {
        match (wait, self.status) {
            (Wait::Durable(_), _) => Phase::AwaitingEvidence,
            (Wait::Approval(_), _) => Phase::AwaitingApproval,
            (Wait::Sockets | Wait::Over | Wait::Catalog(_), _) if self.gate.hold.is_some() => {
                Phase::AwaitingApproval
            }
            (Wait::Over | Wait::Catalog(_), _) => Phase::Active,
            (Wait::Sockets, _) if !self.queue.is_empty() => Phase::Active,
            (Wait::Sockets, TransactionStatus::Idle) => Phase::Idle,
            (Wait::Sockets, TransactionStatus::InTransaction) => Phase::IdleInTransaction,
            (Wait::Sockets, TransactionStatus::Failed) => Phase::IdleInFailedTransaction,
        }
    }

    /// The transaction as far as it is known: what the last ReadyForQuery said, if nothing has been sent since.
    pub(super) fn transaction(&self) -> Option<TransactionStatus> {
        self.queue.is_empty().then_some(self.status)
    }

    /// Orders from outside: drain, revoke, reload.
    fn obey(&mut self) -> Result<(), End> {
        match self.control.order() {
            Order::None => Ok(()),
            Order::Drain if self.drained() => Err(End::operator(
                "57P01",
                "pgturnstile ended the session: the gateway is being stopped. Next: reconnect",
            )),
            Order::Drain => Ok(()),
            Order::End => Err(End::operator(
                "57P01",
                "pgturnstile ended the session: the gateway's drain deadline passed. Next: reconnect",
            )),
            Order::Unrecorded => Err(self.account.unrecorded()),
        }
    }

    /// Whether a session that is to be drained has come to its end: idle, outside a transaction, and its client has sent
    /// something, which goes nowhere, or sends nothing.
    fn drained(&mut self) -> bool {
        // A frame that is recorded and waits for its sync will still be sent.
        let held = self.gate.held.is_some() || self.gate.hold.is_some();
        let owes = !self.queue.is_empty() || self.gate.batch_open || held;
        if owes || self.status != TransactionStatus::Idle {
            self.drained_at = None;
            return false;
        }
        let now = Instant::now();
        let at = *self.drained_at.get_or_insert(now + Duration::from_millis(DRAIN_GRACE_MS));
        match self.up.unscanned().first() {
            // With Terminate it leaves by itself.
            None | Some(&TERMINATE) => now >= at,
            Some(_) => true,
        }
    }

    /// Writes and reads until nothing moves; ready when there is something new to work on.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut news = self.control.poll(context);
        if let Poll::Ready(Err(error)) = poll_write(&mut self.backend, &mut self.up, context) {
            return Poll::Ready(Err(End::backend(format!(
                "pgturnstile ended the session: writing to the target failed: {error}. Next: reconnect"
            ))));
        }
        let waiting = self.down.outgoing_bytes();
        let written = poll_write(&mut self.client, &mut self.down, context);
        if self.down.outgoing_bytes() < waiting {
            // Room for answers may be what the gate waits for.
            news |= self.blocked || self.client_closed.is_some();
            self.client_closed = self.client_closed.map(|_| told_nothing_until());
        }
        if let Poll::Ready(Err(error)) = written {
            return Poll::Ready(Err(End::ClientGone(
                format!("writing to the client failed: {error}").into(),
            )));
        }
        let answer = if self.backend_closed {
            // A closed socket reads as closed for ever: looking at it again would spin.
            Poll::Pending
        } else {
            poll_read(&mut self.backend, &mut self.down, context)
        };
        match answer {
            Poll::Ready(Ok(0)) => {
                self.backend_closed = true;
                news = true;
            }
            Poll::Ready(Ok(count)) => {
                self.account.read(0, count as u64);
                news = true;
            }
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(End::backend(format!(
                    "pgturnstile ended the session: reading from the target failed: {error}. Next: reconnect"
                ))));
            }
            Poll::Pending => {}
        }
        if self.client_closed.is_some() {
            return if news { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        match poll_read(&mut self.client, &mut self.up, context) {
            Poll::Ready(Ok(0)) => {
                self.client_closed = Some(told_nothing_until());
                news = true;
            }
            Poll::Ready(Ok(count)) => {
                self.account.read(count as u64, 0);
                news = true;
            }
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(End::ClientGone(
                    format!("reading from the client failed: {error}").into(),
                )));
            }
            Poll::Pending => {}
        }
        if news { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// What the session waits for beside its sockets. A record that became durable since the frames were looked at is no
    /// wait: they are looked at again.
    fn waits_for(&mut self) -> Result<Wait, End> {
        let staying = self.let_go()?;
        let wait = self.frames_wait_for()?;
        // Records become durable in their order.
        let first =
            |mark: Mark, other: Mark| if mark.stream_sequence < other.stream_sequence { mark } else { other };
        Ok(match (staying, wait) {
            (Some(mark), Wait::Durable(other)) => Wait::Durable(first(mark, other)),
            (Some(mark), Wait::Sockets | Wait::Approval(_)) => Wait::Durable(mark),
            (Some(_) | None, wait) => wait,
        })
    }

    /// What its frames wait for.
    fn frames_wait_for(&mut self) -> Result<Wait, End> {
        if let Some(mark) = self.gate.copy_recorded.filter(|_| self.blocked) {
            if !self.account.durable(mark)? {
                return Ok(Wait::Durable(mark));
            }
            self.gate.copy_recorded = None;
            return Ok(Wait::Over);
        }
        if let Some(mark) = self.gate.waits_for() {
            if self.control.cancelling() {
                return Ok(Wait::Sockets);
            }
            return Ok(if self.account.durable(mark)? { Wait::Over } else { Wait::Durable(mark) });
        }
        let Some(mark) = self.queue.front().and_then(Expectation::mark) else {
            if let Some(at) = self.hold_is_looked_at() {
                return Ok(Wait::Approval(at));
            }
            return Ok(match self.awaited_look() {
                None => Wait::Sockets,
                Some((look, false)) => Wait::Catalog(look),
                Some((_, true)) => Wait::Over,
            });
        };
        if !self.account.durable(mark)? {
            return Ok(Wait::Durable(mark));
        }
        if let Some(front) = self.queue.front_mut() {
            front.release();
        }
        Ok(if self.down.unscanned().is_empty() { Wait::Sockets } else { Wait::Over })
    }

    /// The last words, in the order that leaves nothing unsaid: what is released, ours, the record, the sockets.
    async fn finish(mut self, end: End) {
        let limit = Duration::from_millis(LAST_WORDS_MS);
        self.hold_ends_with_the_session(&end).await;
        let inside_frame = self.let_go_at_the_end(limit).await;
        self.say_goodbye(&end, inside_frame);
        let farewell = poll_fn(|context| self.poll_farewell(context));
        if tokio::time::timeout(limit, farewell).await.is_err() {
            tracing::debug!("a peer did not take the last words in time");
        }
        // What was masked of a result that did not come to its end.
        let running = self.queue.front().and_then(Expectation::run).map(|run| run.record);
        let counts = self.masking.counted();
        if let Err(unrecorded) = self.account.masked(running, counts).await {
            tracing::debug!(reason = %unrecorded.reason(), "what was masked last is not recorded");
        }
        if let Some(run) = self.queue.front().and_then(Expectation::run)
            && let Err(unrecorded) = self.account.cut_off(run).await
        {
            tracing::warn!(reason = %unrecorded.reason(), "what left of the last result could not be recorded");
        }
        let Self { mut client, mut backend, account, queue, client_closed, .. } = self;
        account.close(&end, queue.iter()).await;
        close::end_our_half(&mut backend, limit).await;
        drop(backend);
        if end.fault() == Fault::Client && client_closed.is_none() {
            // What it sent behind its fault is unread: dropped with the socket it would take the last words along.
            close::behind_last_words(client, limit).await;
        } else {
            close::end_our_half(&mut client, limit).await;
        }
    }

    /// `inside_frame`: the client stands inside a frame whose rest does not leave.
    fn say_goodbye(&mut self, end: &End, inside_frame: bool) {
        let released = self.up.drained() && self.gate.at_frame_boundary();
        match end {
            // The Terminate itself is released already.
            End::ClientTerminated => {}
            End::BackendSaidFatal { .. } => self.up.clear_all(),
            End::ClientGone(_) | End::Fatal { .. } => {
                self.up.cut();
                if released {
                    let mut terminate = Vec::with_capacity(5);
                    encode::terminate(&mut terminate);
                    self.up.insert(terminate);
                } else {
                    // A frame is half sent, or more wait: nothing behind a verdict to end goes out.
                    self.up.clear_all();
                }
            }
        }
        self.down.cut();
        if let End::Fatal { sqlstate, message, .. } = end
            && self.rows_left == 0
            && !inside_frame
        {
            self.down.insert(denial::fatal(sqlstate, message));
        }
    }

    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let client = poll_write(&mut self.client, &mut self.down, context);
        let backend = poll_write(&mut self.backend, &mut self.up, context);
        match (client, backend) {
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
            (Poll::Ready(_), Poll::Ready(_)) => Poll::Ready(()),
        }
    }
}

/// Writes what may leave; ready when all of it is written or the socket failed.
fn poll_write(stream: &mut Stream, conduit: &mut Conduit, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut wrote = false;
    while conduit.leaves() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let used = conduit.slices(&mut slices);
        let count = match slices.get(..used).unwrap_or_default() {
            [] => 0,
            [one] => ready!(Pin::new(&mut *stream).poll_write(context, one))?,
            many => ready!(Pin::new(&mut *stream).poll_write_vectored(context, many))?,
        };
        if count == 0 && used > 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        wrote = true;
        conduit.advance(count);
    }
    if wrote || stream.is_encrypted() {
        // TLS keeps records in its own buffer until it is flushed; a plain socket has nothing to flush.
        ready!(Pin::new(stream).poll_flush(context))?;
    }
    Poll::Ready(Ok(()))
}

/// Reads once into the free space; pending when there is none: back-pressure.
fn poll_read(
    stream: &mut Stream,
    conduit: &mut Conduit,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let space = conduit.space();
    if space.is_empty() {
        return Poll::Pending;
    }
    let mut buffer = ReadBuf::new(space);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    let count = buffer.filled().len();
    conduit.fill(count);
    Poll::Ready(Ok(count))
}

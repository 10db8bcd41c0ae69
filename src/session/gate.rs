//! The frontend gate: what a client's frame does, and when it may go on to the backend.
//!
//! Owns: the order client frame → verdict → record → release (decisions 6, 7 and 12). May not: write to a socket, or
//! interpret a backend's frame. Fails closed: a frame that is malformed, unknown or out of place ends the session with
//! its reason; a statement that is refused is answered by [`super::denial`].
//!
//! ```text
//!            ┌────────────────────────── frame is whole? no ──► wait for bytes; over its limit ──► oversized
//!            ▼
//!   fence closed, COPY not answered, name pending, record not durable ──► blocked: nothing behind it moves
//!            ▼
//!   refused earlier in this batch, or the server skips to Sync ──► swallowed
//!            ▼
//!   judge ──► refuse: answered or substituted ──► record of the refusal
//!      └────► allow ──► record ──► proven, or durable already, or queued mode ──► released
//!                             └──► scanned, released when durable
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use pgturnstile_proto::frontend::{self, Message};
use pgturnstile_proto::{FrontendTag, backend::TransactionStatus, encode};

use super::account::Unrecorded;
use super::control::Held;
use super::copy_in::{CopyPhase, CopySyncs};
use super::denial::PROTOCOL_VIOLATION;
use super::drift::Stamp;
use super::end::End;
use super::expect::{EXPECTATIONS_MAX, Expectation, Run};
use super::fence::{Fence, behind_code, behind_the_fence, fence_admits_text, owed};
use super::hold::{BatchRuns, Hold, Recorded, Rest, analysed_before_approval};
use super::judge::{Decision, Fence as FenceKind, Verdict};
use super::masking::Described;
use super::names::{Lookup, Portal, Prepared};
use super::refuse::{Skip, Stand, absent, bad_formats, bad_name, function_call, parse_of, too_many_names};
use super::relay::Relay;
use super::waiting::{Waiting, stand};
use crate::evidence::Mark;

/// Bytes that may wait for the client before no further frame of its is looked at.
pub(super) const ANSWERS_BYTES_MAX: usize = 256 * 1024;
/// Objects of users have oids from here on (`FirstNormalObjectId`, src/include/access/transam.h).
const FIRST_USER_OID: u32 = 16_384;

/// What one look at the client's bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A frame was dealt with.
    Done,
    /// Its frame is not whole yet.
    NeedBytes,
    /// It waits for the backend or for the evidence.
    Blocked,
}

/// State of the frontend gate.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) skip: Skip,
    pub(super) copy: CopyPhase,
    /// COPY statements of the running text that are still to ask for data.
    pub(super) copies_left: usize,
    pub(super) copy_syncs: CopySyncs,
    /// The frame that had no place in a copy for which the server was asked, until it says that it is ready.
    pub(super) copy_broken_by: Option<FrontendTag>,
    pub(super) fence: Option<Fence>,
    /// A frame that is scanned, recorded, and waits for its record to be durable, or for a cancel request on its way.
    pub(super) held: Option<(Option<Mark>, Expectation)>,
    /// A cancel request came for a statement before it was recorded: its batch is refused from the next frame on.
    pub(super) withdrawn: bool,
    /// Rest of a CopyData frame that is larger than the buffer, or of a frame that was refused by its header.
    pub(super) stream_left: usize,
    /// Whether that frame's beginning went on: its rest then goes too, whatever the server has said meanwhile.
    pub(super) stream_passes: bool,
    /// Frames were forwarded since the last Sync or Query.
    pub(super) batch_open: bool,
    /// A fence fell in a failed transaction: the guards are read as soon as a statement can run again.
    pub(super) guard_read_owed: bool,
    /// Readings of the guards that were cancelled since the last that succeeded.
    pub(super) guard_reads_cancelled: usize,
    /// The last record of what a client copies in: the copy's end waits for it.
    pub(super) copy_recorded: Option<Mark>,
    /// The client's next frame waits for people.
    pub(super) hold: Option<Box<Hold>>,
    /// Record of a statement that was held, and is being refused.
    pub(super) was_held: Option<u64>,
    /// How the target was brought to rest before a frame that is to be held.
    pub(super) rest: Rest,
    /// What the open batch has bound so far.
    pub(super) batch_runs: BatchRuns,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            skip: Skip::No,
            copy: CopyPhase::None,
            copies_left: 0,
            copy_syncs: CopySyncs::default(),
            copy_broken_by: None,
            fence: None,
            held: None,
            withdrawn: false,
            stream_left: 0,
            stream_passes: false,
            batch_open: false,
            guard_read_owed: false,
            guard_reads_cancelled: 0,
            copy_recorded: None,
            hold: None,
            was_held: None,
            rest: Rest::None,
            batch_runs: BatchRuns::Nothing,
        }
    }

    /// Whether the fence waits for the server.
    pub(super) fn fence_closed(&self) -> bool {
        self.fence.as_ref().is_some_and(|fence| fence.closed)
    }

    /// Whether what the target is sent stands between two frames: a rest that is dropped never reaches it.
    pub(super) fn at_frame_boundary(&self) -> bool {
        self.stream_left == 0 || !self.stream_passes
    }

    /// The mark that a held frame waits for.
    pub(super) fn waits_for(&self) -> Option<Mark> {
        self.held.as_ref().and_then(|(mark, _)| *mark)
    }
}

impl Relay {
    /// Deals with as many of the client's frames as are here and may move; whether any did.
    pub(super) async fn frontend_frames(&mut self) -> Result<bool, End> {
        let mut moved = false;
        loop {
            match self.frontend_frame().await? {
                Step::Done => {
                    moved = true;
                    self.gate.rest = Rest::None;
                }
                Step::NeedBytes => {
                    self.blocked = false;
                    return Ok(moved);
                }
                Step::Blocked => {
                    self.blocked = true;
                    return Ok(moved);
                }
            }
        }
    }

    async fn frontend_frame(&mut self) -> Result<Step, End> {
        if self.gate.held.is_some() {
            return self.held_frame();
        }
        if self.gate.stream_left > 0 {
            return self.stream_rest().await;
        }
        // Answers that are made here wait for the client to read them, and no longer list of them is kept.
        if self.down.outgoing_bytes() > ANSWERS_BYTES_MAX {
            return Ok(Step::Blocked);
        }
        // The data of a fenced COPY belongs to the statement itself: nothing else may stand among it.
        let own_copy = self.gate.copy == CopyPhase::Active;
        if (self.gate.fence_closed() && !own_copy) || self.queue.len() >= EXPECTATIONS_MAX {
            return Ok(Step::Blocked);
        }
        let header = match frontend::Header::peek(self.up.unscanned(), &self.limits) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(Step::NeedBytes),
            Err(fault) => return self.over_limit(&fault).await,
        };
        if self.gate.copy == CopyPhase::Awaited
            && !matches!(header.tag, FrontendTag::Flush | FrontendTag::Terminate)
        {
            return Ok(Step::Blocked);
        }
        // Whether the guards can be read is known when what is in flight is answered; a batch waits for it from its start,
        // so that a transaction's end and what follows may be sent at once.
        if self.gate.guard_read_owed
            && !self.gate.batch_open
            && self.queue.iter().any(Expectation::ends_with_ready)
        {
            return Ok(Step::Blocked);
        }
        if self.waits_for_copy(header.tag) {
            return Ok(Step::Blocked);
        }
        if header.tag == FrontendTag::CopyData {
            return self.on_copy_data(header.len).await;
        }
        if self.up.unscanned().len() < header.len {
            self.up.make_room(header.len);
            return Ok(Step::NeedBytes);
        }
        self.leave_copy(header.tag);
        if self.gate.skip != Skip::No && !matches!(header.tag, FrontendTag::Sync | FrontendTag::Terminate) {
            // Still read: what cannot be read is a fault even where nobody would act on it.
            let frame = self.up.unscanned().get(..header.len).unwrap_or_default();
            if let Err(fault) = Message::parse(frame)
                && bad_formats(&fault).is_none()
            {
                return Err(End::client_fault(&fault));
            }
            self.up.swallow(header.len);
            return Ok(Step::Done);
        }
        if matches!(header.tag, FrontendTag::Query | FrontendTag::Parse | FrontendTag::Bind)
            && let Some(step) = self.read_guards_under_new_catalog()?
        {
            return Ok(step);
        }
        self.dispatch(header.tag, header.len).await
    }

    async fn dispatch(&mut self, tag: FrontendTag, len: usize) -> Result<Step, End> {
        if let Some(stand) = stand(tag) {
            let met = self.met_a_cancel();
            if met != Held::Released {
                return self.behind_a_cancel(met, len, stand).await;
            }
        }
        match tag {
            FrontendTag::Query => self.on_query(len).await,
            FrontendTag::Parse => self.on_parse(len).await,
            FrontendTag::Bind => self.on_bind(len).await,
            FrontendTag::Execute => self.on_execute(len).await,
            FrontendTag::Describe => self.on_describe(len).await,
            FrontendTag::Close => self.on_close(len).await,
            FrontendTag::Sync => self.on_sync(len),
            FrontendTag::Flush => self.on_plain(len),
            FrontendTag::CopyDone | FrontendTag::CopyFail => self.on_copy_end(len),
            FrontendTag::FunctionCall => {
                let frame = self.up.unscanned().get(..len).unwrap_or_default();
                if let Err(fault) = Message::parse(frame) {
                    return self.unreadable(len, Stand::Query, &fault).await;
                }
                self.refuse(len, Stand::Query, function_call(), None).await
            }
            FrontendTag::Terminate => {
                // What stands before it is answered first: the server itself reads Terminate only then.
                if self.answers_come() {
                    return Ok(Step::Blocked);
                }
                self.on_plain(len)?;
                Err(End::ClientTerminated)
            }
            FrontendTag::Password => Err(End::client(
                PROTOCOL_VIOLATION,
                "pgturnstile ended the session: a password message after login. Next: report this to the driver's authors",
            )),
            FrontendTag::CopyData => Ok(Step::Blocked),
        }
    }

    /// Whether the server ends what it was sent with an answer, whatever the client sends next.
    pub(super) fn answers_come(&self) -> bool {
        let copying = matches!(self.gate.copy, CopyPhase::Awaited | CopyPhase::Active);
        !copying && self.queue.iter().any(Expectation::ends_with_ready)
    }

    async fn on_query(&mut self, len: usize) -> Result<Step, End> {
        if self.gate.fence.is_some() {
            return self.refuse(len, Stand::Query, behind_the_fence(self.gate.fence.as_ref()), None).await;
        }
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        let Message::Query(query) = Message::parse(frame).map_err(|fault| End::client_fault(&fault))? else {
            return Err(End::gateway("a Query frame that is none"));
        };
        let text = query.text();
        let transaction = self.transaction();
        let waiting =
            Waiting { control: &self.control, up: &self.up, limits: &self.limits, queue: &self.queue };
        let judged = self.judge.text(text, &[], &self.names, self.batch, transaction, false);
        let verdict = waiting.judged(judged).await?;
        let met = self.met_a_cancel();
        if met != Held::Released {
            return self.behind_a_cancel(met, len, Stand::Query).await;
        }
        let decision = match verdict {
            Verdict::Wait => return Ok(Step::Blocked),
            Verdict::Refuse(refusal, decision) => {
                return self.refuse(len, Stand::Query, refusal, decision).await;
            }
            Verdict::Allow(decision) | Verdict::Hold(decision) => decision,
        };
        if self.gate.guard_read_owed && !decision.only_controls_transaction() {
            return self.refuse(len, Stand::Query, owed(), Some(decision)).await;
        }
        let (record, mark) = match self.recorded(len, Stand::Query, &decision, None).await? {
            Recorded::As(record, mark) => (record, mark),
            Recorded::Not(step) => return Ok(step),
        };
        self.batch += 1;
        self.gate.batch_runs = BatchRuns::Nothing;
        self.gate.batch_open = false;
        self.gate.copies_left = decision.copies_in;
        if decision.copies_in > 0 {
            self.gate.copy = CopyPhase::Awaited;
        }
        self.fence_query(&decision, record);
        self.judge.runs(&decision);
        self.names.forwarded(&decision);
        let proven = decision.proven && decision.required.is_none();
        let run = self.run_of(decision, record, mark);
        self.release(len, mark, proven, Expectation::Query(run))
    }

    async fn on_parse(&mut self, len: usize) -> Result<Step, End> {
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        let parse = parse_of(frame)?;
        if let Some(refusal) = bad_name(parse.name(), "statement") {
            return self.refuse(len, Stand::Extended, refusal, None).await;
        }
        if !fence_admits_text(self.gate.fence.as_ref(), parse.text()) {
            return self.refuse(len, Stand::Extended, behind_the_fence(self.gate.fence.as_ref()), None).await;
        }
        // A declared type of the server's own changes no name's meaning; one of a user's may bring code.
        let types: Vec<u32> = parse.types().filter(|oid| *oid >= FIRST_USER_OID).collect();
        let transaction = self.transaction();
        if matches!(self.names.statement(parse.name(), self.batch), Lookup::Pending) {
            return Ok(Step::Blocked);
        }
        let waiting =
            Waiting { control: &self.control, up: &self.up, limits: &self.limits, queue: &self.queue };
        let judged = self.judge.text(parse.text(), &types, &self.names, self.batch, transaction, true);
        let verdict = waiting.judged(judged).await?;
        let met = self.met_a_cancel();
        if met != Held::Released {
            return self.behind_a_cancel(met, len, Stand::Extended).await;
        }
        let decision = match verdict {
            Verdict::Wait => return Ok(Step::Blocked),
            Verdict::Refuse(refusal, decision) => {
                return self.refuse(len, Stand::Extended, refusal, decision).await;
            }
            Verdict::Hold(decision) if decision.runs_at_analysis => {
                return self.refuse(len, Stand::Extended, analysed_before_approval(), Some(decision)).await;
            }
            // Preparing runs nothing: it is held where it would be planned.
            Verdict::Allow(decision) | Verdict::Hold(decision) => decision,
        };
        if !self.relaxed_fence_admits(&decision) {
            return self.refuse(len, Stand::Extended, behind_code(), Some(decision)).await;
        }
        if self.names.full() && !decision.only_drops_names() {
            return self.refuse(len, Stand::Extended, too_many_names(), Some(decision)).await;
        }
        let name: Box<[u8]> = parse.name().into();
        self.account.follow(&self.judge.ground).await?;
        let keeps = self.account.recorder.keeps_texts() || decision.required.is_some();
        let declared: Vec<u32> = if keeps { parse.types().collect() } else { Vec::new() };
        let waiting =
            Waiting { control: &self.control, up: &self.up, limits: &self.limits, queue: &self.queue };
        let (record, mark) = match waiting.recorded(self.account.parse(&decision, &name, parse.text())).await
        {
            Ok(taken) => taken,
            Err(Unrecorded::Refused(refusal)) => {
                return self.refuse(len, Stand::Extended, refusal, Some(decision)).await;
            }
            Err(Unrecorded::Ended(end)) => return Err(end),
        };
        let runs = decision.fence == FenceKind::Full || decision.runs_at_analysis;
        let fence =
            (runs && decision.fence != FenceKind::None).then(|| Fence::of_analysis(&decision, record));
        if fence.is_some() {
            self.names.analysed(&decision);
        }
        let prepared = Arc::new(self.names.prepared(decision, record));
        if !declared.is_empty() {
            prepared.types().set(declared.into_iter());
        }
        // A server that still has the name denies the Parse, and the change is undone; code of the database's users may
        // have dropped it meanwhile, and then the server runs this text under it.
        let undo = Some(self.names.set_statement(&name, Some(Arc::clone(&prepared)), self.batch));
        if let Some(fence) = fence {
            self.judge.runs(&prepared.decision);
            self.gate.fence.get_or_insert(fence);
        }
        self.gate.batch_open = true;
        self.release(len, mark, false, Expectation::Parse { undo })
    }

    async fn on_bind(&mut self, len: usize) -> Result<Step, End> {
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        let bind = match Message::parse(frame) {
            Ok(Message::Bind(bind)) => bind,
            Ok(_) => return Err(End::gateway("a Bind frame that is none")),
            Err(fault) => return self.unreadable(len, Stand::Extended, &fault).await,
        };
        if let Some(refusal) =
            bad_name(bind.portal(), "portal").or_else(|| bad_name(bind.statement(), "statement"))
        {
            return self.refuse(len, Stand::Extended, refusal, None).await;
        }
        let portal: Box<[u8]> = bind.portal().into();
        let statement = match self.names.statement(bind.statement(), self.batch) {
            Lookup::Pending => return Ok(Step::Blocked),
            Lookup::Known(statement) => statement,
            Lookup::Absent => {
                let refusal = absent("26000", "prepared statement", bind.statement());
                return self.refuse(len, Stand::Extended, refusal, None).await;
            }
        };
        if matches!(self.names.portal(&portal, self.batch), Lookup::Pending) {
            return Ok(Step::Blocked);
        }
        if !portal.is_empty() && self.names.full() {
            return self.refuse(len, Stand::Extended, too_many_names(), None).await;
        }
        if !self.fence_admits_bind(&statement) {
            return self.refuse(len, Stand::Extended, behind_the_fence(self.gate.fence.as_ref()), None).await;
        }
        let transaction = self.transaction();
        let decision =
            match self.judge.again(&statement.decision, &self.names, self.batch, transaction).await? {
                Verdict::Wait => return Ok(Step::Blocked),
                Verdict::Refuse(refusal, decision) => {
                    return self.refuse(len, Stand::Extended, refusal, decision).await;
                }
                Verdict::Allow(decision) | Verdict::Hold(decision) => decision,
            };
        if let Some(refusal) = self.refuses_bind(bind.statement(), &statement, &decision) {
            return self.refuse(len, Stand::Extended, refusal, Some(decision)).await;
        }
        let (record, mark) = match self.recorded(len, Stand::Extended, &decision, Some(&statement)).await? {
            Recorded::As(record, mark) => (record, mark),
            Recorded::Not(step) => return Ok(step),
        };
        let proven = decision.proven && decision.required.is_none();
        self.gate.batch_runs = self.gate.batch_runs.and(&decision, self.status);
        self.raise_fence(&decision, statement.record);
        let run = self.run_of(Arc::clone(&decision), record, mark);
        self.names.forwarded(&decision);
        let bound = self.bound(&portal, &statement, decision, record);
        // A cursor of this name may have gone with its transaction: the server then takes the portal, else it is undone.
        let undo = Some(self.names.set_portal(&portal, Some(Arc::new(bound)), self.batch));
        self.gate.batch_open = true;
        self.release(len, mark, proven, Expectation::Bind { undo, run })
    }

    fn bound(&self, name: &[u8], statement: &Prepared, decision: Arc<Decision>, record: u64) -> Portal {
        Portal {
            name: name.into(),
            by_name: decision.runs_by_name().then(AtomicU64::default),
            cursor: self.cursor_of(&decision),
            statement: Arc::new(statement.judged_again(decision)),
            record,
            described: Described::default(),
            batch: Some(self.batch),
            held: false,
        }
    }

    async fn on_execute(&mut self, len: usize) -> Result<Step, End> {
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        let Message::Execute(execute) = Message::parse(frame).map_err(|fault| End::client_fault(&fault))?
        else {
            return Err(End::gateway("an Execute frame that is none"));
        };
        let portal = match self.names.portal(execute.portal(), self.batch) {
            Lookup::Pending => return Ok(Step::Blocked),
            Lookup::Known(portal) => portal,
            Lookup::Absent => {
                let refusal = absent("34000", "portal", execute.portal());
                return self.refuse(len, Stand::Extended, refusal, None).await;
            }
        };
        let name: Box<[u8]> = execute.portal().into();
        let limited = execute.row_limit().is_some();
        if !self.fence_admits_execute(&portal) {
            return self.refuse(len, Stand::Extended, behind_the_fence(self.gate.fence.as_ref()), None).await;
        }
        let decision = match self.judge_execution(&portal).await? {
            Verdict::Wait => return Ok(Step::Blocked),
            Verdict::Refuse(refusal, decision) => {
                return self.refuse(len, Stand::Extended, refusal, decision).await;
            }
            Verdict::Allow(decision) => decision,
            Verdict::Hold(_) => return Err(End::gateway("a portal held where it was to be executed")),
        };
        if self.gate.guard_read_owed && !decision.only_controls_transaction() {
            return self.refuse(len, Stand::Extended, owed(), Some(decision)).await;
        }
        // It runs now, whichever batch its Bind stood in and whatever fence has fallen since.
        self.raise_fence(&decision, portal.statement.record);
        if decision.copies_in > 0 {
            self.gate.copy = CopyPhase::Awaited;
            self.gate.copies_left = decision.copies_in;
        }
        self.names.forwarded(&decision);
        self.names.runs(&portal);
        // Its Bind's record is durable before BindComplete leaves, and every row comes behind that.
        self.describe_for_masking(&decision, &portal, &name);
        let mut run = self.run_of(decision, portal.record, None);
        run.limited = limited;
        run.portal = Some(portal);
        self.gate.batch_open = true;
        self.up.pass(len);
        self.queue.push_back(Expectation::Execute(run));
        Ok(Step::Done)
    }

    fn on_sync(&mut self, len: usize) -> Result<Step, End> {
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        Message::parse(frame).map_err(|fault| End::client_fault(&fault))?;
        if self.gate.skip == Skip::AnsweredHere {
            self.gate.skip = Skip::No;
            self.up.swallow(len);
            let mut ready = Vec::with_capacity(6);
            encode::ready_for_query(&mut ready, TransactionStatus::Idle);
            self.down.insert(ready);
            return Ok(Step::Done);
        }
        self.up.pass(len);
        if self.gate.copy == CopyPhase::Active {
            // The server ignores it (`CopyGetData`, src/backend/commands/copyfromparse.c), unless it has failed the copy.
            let in_batch = matches!(self.queue.front(), Some(Expectation::Execute(_)));
            self.gate.copy_syncs.sent(in_batch);
            return Ok(Step::Done);
        }
        self.gate.copy_syncs.batch_ended();
        self.gate.skip = Skip::No;
        self.gate.batch_open = false;
        self.gate.batch_runs = BatchRuns::Nothing;
        self.queue.push_back(Expectation::Sync { batch: self.batch });
        self.batch += 1;
        self.close_fence();
        Ok(Step::Done)
    }

    pub(super) fn on_plain(&mut self, len: usize) -> Result<Step, End> {
        let frame = self.up.unscanned().get(..len).unwrap_or_default();
        Message::parse(frame).map_err(|fault| End::client_fault(&fault))?;
        self.up.pass(len);
        Ok(Step::Done)
    }

    fn run_of(&mut self, decision: Arc<Decision>, record: u64, mark: Option<Mark>) -> Box<Run> {
        self.masking.forwarded(&decision);
        Box::new(Run {
            decision,
            record,
            mark,
            statement: 0,
            described: false,
            started_ns: self.account.now_ns(),
            first_row_ns: 0,
            rows: 0,
            bytes: 0,
            columns: None,
            failed: false,
            emptied: false,
            limited: false,
            withdrawn: false,
            detectors: self.judge.detectors(),
            plan: None,
            portal: None,
            stamp: Stamp::Due,
            row_description: None,
        })
    }
}

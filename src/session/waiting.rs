//! A statement of the client that waits before it is recorded, and a cancel request that comes meanwhile.
//!
//! Owns: what a cancel request meets while a statement waits for the reading of the guards, for the parser, for the catalog, or
//! for room in the evidence. May not: judge, record, or send. Fails closed: what is withdrawn is refused, and never sent.
//!
//! ```text
//!   the client's frames ──► wait ──────────────► judged ──► recorded ──► sent, or held (see `held`)
//!                             │   a cancel request   │          │
//!                             └──────────────────────┤          └─► a stand-in is sent
//!                                                    ▼
//!                                        refused as cancelled (57014)
//! ```
//!
//! A server would have the frames by then, and cancel the first statement that runs. So the request is for the client's next
//! statement, and the batch fails from its next frame on, where no batch before it is unanswered: then the request is for that
//! one, and goes to the target.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use pgturnstile_proto::frontend::Header;
use pgturnstile_proto::{FrontendTag, Limits};

use super::control::{Control, Held};
use super::denial::{self, Refusal};
use super::end::End;
use super::expect::Expectation;
use super::gate::Step;
use super::judge::Verdict;
use super::refuse::{Skip, Stand};
use super::relay::Relay;
use crate::net::conduit::Conduit;

/// What of a session says what a cancel request meets while another part of it works on the client's next frame.
pub(super) struct Waiting<'r> {
    pub(super) control: &'r Control,
    pub(super) up: &'r Conduit,
    pub(super) limits: &'r Limits,
    pub(super) queue: &'r VecDeque<Expectation>,
}

impl Waiting<'_> {
    /// Waits for a verdict; given up where the statement is withdrawn meanwhile, which [`Relay::met_a_cancel`] then says.
    pub(super) async fn judged(
        &self,
        verdict: impl Future<Output = Result<Verdict, End>>,
    ) -> Result<Verdict, End> {
        let mut verdict = pin!(verdict);
        poll_fn(|context| {
            self.control.listen(context);
            let polled = verdict.as_mut().poll(context);
            let given_up = polled.is_pending() && !self.show();
            if given_up { Poll::Ready(Ok(Verdict::Wait)) } else { polled }
        })
        .await
    }

    /// Waits for a record, which is never given up: whether the statement is withdrawn is asked where it would be sent.
    pub(super) async fn recorded<T>(&self, record: impl Future<Output = T>) -> T {
        let mut record = pin!(record);
        poll_fn(|context| {
            let polled = record.as_mut().poll(context);
            if polled.is_pending() {
                self.show();
            }
            polled
        })
        .await
    }

    /// Shows cancel requests what they meet; false where one has withdrawn the statement.
    fn show(&self) -> bool {
        let held = !self.queue.iter().any(Expectation::ends_with_ready) && statement_in(self.up, self.limits);
        self.control.set_work(!self.queue.is_empty(), held)
    }
}

/// Whether the client's next batch, as far as it is here, runs a statement.
fn statement_in(up: &Conduit, limits: &Limits) -> bool {
    let mut rest = up.unscanned();
    while let Ok(Some(header)) = Header::peek(rest, limits) {
        match header.tag {
            FrontendTag::Query | FrontendTag::Bind | FrontendTag::Execute => return header.len <= rest.len(),
            FrontendTag::Parse | FrontendTag::Describe | FrontendTag::Close | FrontendTag::Flush => {
                rest = rest.get(header.len..).unwrap_or_default();
            }
            FrontendTag::Sync
            | FrontendTag::Terminate
            | FrontendTag::CopyData
            | FrontendTag::CopyDone
            | FrontendTag::CopyFail
            | FrontendTag::FunctionCall
            | FrontendTag::Password => return false,
        }
    }
    false
}

/// What stands in for a frame of a batch that is withdrawn; `None` for what ends no statement.
pub(super) fn stand(tag: FrontendTag) -> Option<Stand> {
    match tag {
        FrontendTag::Query => Some(Stand::Query),
        FrontendTag::Parse
        | FrontendTag::Bind
        | FrontendTag::Describe
        | FrontendTag::Execute
        | FrontendTag::Close => Some(Stand::Extended),
        FrontendTag::Sync
        | FrontendTag::Flush
        | FrontendTag::Terminate
        | FrontendTag::CopyData
        | FrontendTag::CopyDone
        | FrontendTag::CopyFail
        | FrontendTag::FunctionCall
        | FrontendTag::Password => None,
    }
}

impl Relay {
    /// See [`statement_in`].
    pub(super) fn statement_waits(&self) -> bool {
        self.gate.skip == Skip::No && statement_in(&self.up, &self.limits)
    }

    /// Shows cancel requests what they meet until the next turn; false where one has come for what waits.
    pub(super) fn show_to_cancels(&self) -> bool {
        // Our own reading of the guards is none of the client's business: a cancel would end the session.
        let running = !self.queue.iter().all(Expectation::is_ours);
        let held = if running {
            self.gate.held.is_some() && !self.queue.iter().any(Expectation::ends_with_ready)
        } else {
            // An empty queue blocks no frame but by answers that the client does not read: those of what ran before.
            self.gate.held.is_some()
                || self.gate.hold.is_some()
                || !self.queue.is_empty() && self.blocked && self.statement_waits()
        };
        self.control.set_work(running, held)
    }

    /// Whether a cancel request has come while the client's next frame waited.
    pub(super) fn met_a_cancel(&self) -> Held {
        if self.gate.withdrawn {
            Held::Withdrawn
        } else if self.gate.hold.is_some() {
            self.control.met_while_held()
        } else {
            self.control.release_if_held()
        }
    }

    /// What becomes of that frame then.
    pub(super) async fn behind_a_cancel(&mut self, met: Held, len: usize, stand: Stand) -> Result<Step, End> {
        match met {
            Held::Withdrawn => self.refuse(len, stand, cancelled(), None).await,
            // It is asked again when the request has reached the target.
            Held::Stays | Held::Released => Ok(Step::Blocked),
        }
    }
}

fn cancelled() -> Refusal {
    Refusal::built_in(
        denial::CANCELLED,
        "built-in: cancel",
        "canceling statement due to user request: it waited to be judged or approved, and was not sent to the target",
    )
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use pgturnstile_proto::encode;

    use super::super::control::Met;
    use super::*;

    fn sent(frames: &[fn(&mut Vec<u8>)]) -> Conduit {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame(&mut bytes));
        let mut up = Conduit::new();
        up.preload(&bytes);
        up
    }

    fn query(out: &mut Vec<u8>) {
        encode::query(out, "SELECT 1").unwrap();
    }

    fn parse(out: &mut Vec<u8>) {
        encode::parse(out, "", "SELECT 1", &[]).unwrap();
    }

    fn bind(out: &mut Vec<u8>) {
        encode::bind(out, "", "", &[], &[], &[]).unwrap();
    }

    fn sync(out: &mut Vec<u8>) {
        encode::sync(out);
    }

    /// What a cancel request meets that comes while the next frame is being judged; and what the wait comes to then.
    fn met(frames: &[fn(&mut Vec<u8>)], queue: Vec<Expectation>) -> (&'static str, bool) {
        let (control, up, limits) = (Control::default(), sent(frames), Limits::default());
        let queue = VecDeque::from(queue);
        let waiting = Waiting { control: &control, up: &up, limits: &limits, queue: &queue };
        let mut judged = pin!(waiting.judged(std::future::pending()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(judged.as_mut().poll(&mut context).is_pending());
        let met = match control.cancel() {
            Met::Idle => "nothing",
            Met::Running => "what runs",
            Met::Held => "it",
            Met::HeldBehind(withdrawal) => {
                assert!(judged.as_mut().poll(&mut context).is_pending(), "the request is on its way");
                drop(withdrawal);
                "it, behind what runs"
            }
        };
        (met, matches!(judged.as_mut().poll(&mut context), Poll::Ready(Ok(Verdict::Wait))))
    }

    #[test]
    fn a_cancel_request_meets_the_statement_that_is_being_judged() {
        assert_eq!(met(&[query], vec![]), ("it", true));
        assert_eq!(met(&[parse, bind, sync], vec![]), ("it", true));
        let before = Expectation::Parse { undo: None };
        assert_eq!(met(&[parse, bind, sync], vec![before]), ("it, behind what runs", true));
    }

    #[test]
    fn it_passes_by_what_runs_nothing_and_what_stands_behind_another_batch() {
        assert_eq!(
            met(&[parse, sync, query], vec![]),
            ("nothing", false),
            "a statement that is only prepared"
        );
        let unanswered = Expectation::Sync { batch: 1 };
        assert_eq!(met(&[query], vec![unanswered]), ("what runs", false));
        assert_eq!(met(&[parse], vec![]), ("nothing", false), "what is to be run is not here yet");
    }

    #[test]
    fn a_record_is_waited_for_whatever_comes() {
        let (control, up, limits, queue) =
            (Control::default(), sent(&[query]), Limits::default(), VecDeque::new());
        let waiting = Waiting { control: &control, up: &up, limits: &limits, queue: &queue };
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut recorded = pin!(waiting.recorded(told));
        let mut context = Context::from_waker(Waker::noop());
        assert!(recorded.as_mut().poll(&mut context).is_pending());
        assert!(matches!(control.cancel(), Met::Held));
        assert!(recorded.as_mut().poll(&mut context).is_pending());
        tell.send(()).unwrap();
        assert!(recorded.as_mut().poll(&mut context).is_ready());
        assert_eq!(control.release_if_held(), Held::Withdrawn, "and it is not sent");
    }
}

//! Whether a COPY of the client still runs at the server, and whether a Sync among its data has ended its batch.
//!
//! A client may go on without CopyDone or CopyFail, because the copy has failed or because it errs; the gateway cannot tell
//! the two apart where the copy's error may be on its way. A server that copies takes no notice of Sync, one that has failed
//! a copy of the extended protocol skips up to it: whether what follows runs or is skipped hangs on what the server had read
//! before it failed. So the gateway asks, by frames of its own whose answers tell, and the client's frame waits for them.
//!
//! ```text
//!   sent:  Close, Sync, Close, Close, Sync      (of a reserved name that nothing bears: a Close of it changes nothing)
//!
//!   the server copies:                 it ends the session at the first Close, as it would at the client's own frame
//!   it skips up to a Sync:             [E]             Z 3 3 Z       our first Sync ends the batch; the client's, none
//!   it does not (any more):            [E] Z Z …   3 Z 3 3 Z         each Z before the first 3 answers a Sync of the client's
//! ```
//!
//! The first Z is the client's or ours as the frames behind it tell: it is kept back until they are here, and they come for
//! certain. Close needs no transaction and never fails, so neither a failed transaction nor a late cancel is in its way.
//!
//! Owns: the question, its answers, and the Z that are kept back meanwhile. May not: judge. Fails by ending the session: an
//! answer that none of the lines above has.
//!
//! Source: `src/backend/tcop/postgres.c` (`ignore_till_sync`), `src/backend/commands/copyfromparse.c` (`CopyGetData`).

use pgturnstile_proto::backend::TransactionStatus;
use pgturnstile_proto::{BackendTag, FrontendTag, encode};

use super::copy_in::CopyPhase;
use super::denial;
use super::end::End;
use super::expect::{Expectation, unasked};
use super::refuse::Skip;
use super::relay::Relay;

/// How far the answers are.
///
/// ```text
///   Asked ──3──► Marked ──Z──► Ended(0) ──3──► Ended(1) ──3──► Ended(2) ──Z──► over
///                   └──3──► Skipped ──Z──► over
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Asked,
    Marked,
    /// The server did not skip; so many of the second group's answers are here.
    Ended(u8),
    /// It skipped up to our first Sync.
    Skipped,
}

/// What came of a ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// It may be the client's, and is kept back; the one before it was.
    Kept(Option<TransactionStatus>),
    /// It is ours; the one that was kept back was the client's.
    NotSkipped(Option<TransactionStatus>),
    /// It is our last: whether the server skipped.
    Over(bool),
}

/// Our question in the queue of what the server owes.
#[derive(Debug)]
pub struct Probe {
    seen: Seen,
    kept: Option<TransactionStatus>,
    /// The copy belongs to a batch of the extended protocol, and its end has not been told yet.
    in_batch: bool,
}

impl Probe {
    /// CloseComplete came; whether it has a place.
    pub(super) fn closed(&mut self) -> bool {
        self.seen = match self.seen {
            Seen::Asked => Seen::Marked,
            // Our own Sync was answered before, and nothing else was.
            Seen::Marked if self.in_batch && self.kept.take().is_some() => Seen::Skipped,
            Seen::Ended(count @ 0..=1) => Seen::Ended(count + 1),
            Seen::Marked | Seen::Ended(_) | Seen::Skipped => return false,
        };
        true
    }

    fn ready(&mut self, status: TransactionStatus) -> Option<Heard> {
        match self.seen {
            Seen::Asked => Some(Heard::Kept(self.kept.replace(status))),
            Seen::Marked => {
                self.seen = Seen::Ended(0);
                Some(Heard::NotSkipped(self.kept.take()))
            }
            Seen::Ended(2) => Some(Heard::Over(false)),
            Seen::Skipped => Some(Heard::Over(true)),
            Seen::Ended(_) => None,
        }
    }
}

impl Relay {
    /// Asks, because of a frame with this tag, which waits.
    pub(super) fn ask_whether_it_copies(&mut self, tag: FrontendTag) {
        if self.gate.copy == CopyPhase::Active {
            self.gate.copy_broken_by = Some(tag);
        }
        let in_batch = match self.queue.front() {
            Some(Expectation::Execute(_)) => true,
            Some(_) => false,
            None => self.gate.skip == Skip::ServerSkips,
        };
        self.up.insert(denial::copy_probe());
        self.queue.push_back(Expectation::CopyProbe(Probe { seen: Seen::Asked, kept: None, in_batch }));
    }

    /// ReadyForQuery while the question stands.
    pub(super) async fn on_probe_ready(&mut self, len: usize, status: TransactionStatus) -> Result<(), End> {
        let heard = match self.queue.front_mut() {
            Some(Expectation::CopyProbe(probe)) => probe.ready(status),
            Some(_) | None => None,
        };
        let Some(heard) = heard else { return Err(unasked(BackendTag::ReadyForQuery, self.queue.front())) };
        self.down.swallow(len);
        match heard {
            Heard::Kept(earlier) => self.tell_of_client_sync(earlier).await,
            Heard::NotSkipped(kept) => self.tell_of_client_sync(kept).await,
            Heard::Over(skipped) => {
                self.queue.pop_front();
                self.status = status;
                self.gate.copy_broken_by = None;
                if skipped {
                    self.gate.skip = Skip::ServerSkips;
                }
                self.read_guards_if_due()
            }
        }
    }

    /// A Sync among the data was answered: the client gets what was kept back.
    async fn tell_of_client_sync(&mut self, kept: Option<TransactionStatus>) -> Result<(), End> {
        let Some(status) = kept else { return Ok(()) };
        if let Some(Expectation::CopyProbe(probe)) = self.queue.front_mut()
            && std::mem::take(&mut probe.in_batch)
        {
            self.copy_batch_ended();
        }
        let mut ready = Vec::with_capacity(6);
        encode::ready_for_query(&mut ready, status);
        self.down.insert(ready);
        self.ready_behind(self.batch.saturating_sub(1), status, 0).await
    }
}

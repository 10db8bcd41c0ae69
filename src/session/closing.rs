//! A peer that has closed its side.
//!
//! Owns: what is still done and said then, and for how long. May not: read or write a socket. Fails by ending the session, which
//! says who has gone.
//!
//! ```text
//!   client's end of stream ──nothing is owed, or a statement of it waits for people──► the session ends
//!            └──► what stands before it is judged, run and answered ──► the session ends
//!                        └── nothing of that leaves for 30 s ─────────► the session ends
//! ```
//!
//! A client that only has nothing more to say (`shutdown(SHUT_WR)`) looks like one that is gone until something is written to
//! it, and the server itself reads the end of a stream behind all that stands before it. Inside TLS its end is said (close_notify):
//! a stream that breaks off without it has failed, and ends the session at once.

use std::time::Duration;

use pgturnstile_proto::encode;
use tokio::time::Instant;

use super::copy_in::CopyPhase;
use super::end::End;
use super::relay::Relay;

/// How long a client whose stream has ended may be told nothing, seconds, while what it sent before is done.
const CLIENT_CLOSED_S: u64 = 30;

/// The last moment of a client whose stream has ended, unless it is told something.
pub(super) fn told_nothing_until() -> Instant {
    Instant::now() + Duration::from_secs(CLIENT_CLOSED_S)
}

impl Relay {
    /// A peer that has closed, once all of its frames are dealt with.
    pub(super) fn closed(&mut self) -> Result<(), End> {
        // What the target said before it went is still told.
        if self.backend_closed && !self.answers_wait {
            return Err(End::backend(
                "pgturnstile ended the session: the target closed the connection. Next: reconnect; if it stays so, \
                 look into the target's log",
            ));
        }
        let Some(until) = self.client_closed else { return Ok(()) };
        if self.gate.hold.is_some() {
            return Err(End::ClientGone(
                "the client closed its connection while its statement was held".into(),
            ));
        }
        if Instant::now() >= until {
            return Err(End::ClientGone(
                format!(
                    "the client closed its connection without Terminate, and for {CLIENT_CLOSED_S} s nothing of what it had \
                     sent was answered"
                )
                .into(),
            ));
        }
        if self.answers_a_closed_client() {
            return Ok(());
        }
        Err(End::ClientGone("the client closed its connection without Terminate".into()))
    }

    /// Whether something is still done or said for a client whose stream has ended: the server itself reads that end behind all
    /// that stands before it.
    fn answers_a_closed_client(&mut self) -> bool {
        if self.blocked || self.answers_come() || self.down.leaves() || !self.staying.is_empty() {
            return true;
        }
        let owes = !self.queue.is_empty() && self.gate.copy == CopyPhase::None;
        if owes && !self.end_flushed && self.gate.at_frame_boundary() {
            // A batch without a Sync: what of it the client has flushed is answered, and the rest does no harm.
            self.end_flushed = true;
            let mut flush = Vec::with_capacity(5);
            encode::flush(&mut flush);
            self.up.insert(flush);
        }
        owes && self.end_flushed
    }
}

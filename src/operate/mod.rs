//! What the operator's machinery sees of a running gateway: health, metrics, readiness told to the service manager.
//!
//! Owns: the admin listener, the control socket and their pages, the text of metrics, the judgement whether the gateway is ready and alive,
//! the messages to systemd. May not: know how a gateway is built (it is told by [`Source`]), change anything but by a decision on a
//! hold, or show what is secret: pages hold numbers, states and names of the configuration; a held statement is shown to its
//! approvers. Fails alone: nothing that happens here
//! touches a session.
//!
//! | page | says |
//! |---|---|
//! | `/live` | 200 while every shard's thread moves; a supervisor restarts what is not alive |
//! | `/ready` | 200 while new sessions can be served; 503 names the part that is missing, and why |
//! | `/metrics` | the numbers, in Prometheus' text format 0.0.4 |
//! | `/sessions` | the live sessions; on the control socket only, since it names people |
//! | `/holds` | statements that wait for people, and their decisions; there only: see [`approvals`] |

pub mod approvals;
pub mod figures;
pub mod health;
pub mod http;
pub mod notify;
pub mod process;
pub mod pulse;
pub mod sessions;
mod text;

use std::sync::Arc;

use crate::approval::Holds;
use crate::net::tls::ServerTls;

/// The gateway as this module sees it.
pub trait Source: Send + Sync + 'static {
    /// Whether it moves and can serve.
    fn health(&self) -> health::Health;
    /// Its numbers; `None` where the configuration offers no metrics.
    fn figures(&self) -> Option<figures::Figures>;
    /// The live sessions.
    fn sessions(&self) -> Vec<sessions::Session>;
    /// The open holds; `None` once it has ended.
    fn holds(&self) -> Option<Arc<Holds>>;
    /// Does what somebody wishes of a hold, if he may.
    ///
    /// # Errors
    /// He may not, or it is too late.
    fn decide(
        &self,
        wish: approvals::Wish,
    ) -> impl Future<Output = Result<approvals::Done, approvals::Undone>> + Send;
    /// TLS of the admin listener in force; `None` for plain HTTP on loopback.
    fn tls(&self) -> Option<Arc<ServerTls>>;
}

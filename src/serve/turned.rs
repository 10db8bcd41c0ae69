//! Why an admission ends without a session.
//!
//! Owns: what the client is told, and what the record and the log may say beyond it. May not: decide. Before the client is
//! known, what it is told names neither targets nor policy.

use crate::backend::DialError;
use crate::evidence::AppendError;
use crate::session::{End, Fault};

/// What ends an admission: SQLSTATE, message, and who caused it.
pub(super) struct Turned {
    pub(super) fault: Fault,
    pub(super) sqlstate: String,
    pub(super) message: String,
    /// For the record and the log, where it says more than the client may know.
    pub(super) exact: Option<String>,
}

impl Turned {
    pub(super) fn new(fault: Fault, sqlstate: impl Into<String>, message: impl Into<String>) -> Self {
        Self { fault, sqlstate: sqlstate.into(), message: message.into(), exact: None }
    }
}

impl From<AppendError> for Turned {
    fn from(error: AppendError) -> Self {
        Self {
            fault: Fault::Gateway,
            sqlstate: error.sqlstate().to_owned(),
            message: error.client_text().to_owned(),
            exact: Some(error.to_string()),
        }
    }
}

impl From<End> for Turned {
    fn from(end: End) -> Self {
        let (fault, reason) = (end.fault(), end.reason().into_owned());
        match end {
            End::Fatal { fault, sqlstate, message } => Self::new(fault, sqlstate, message.into_owned()),
            End::ClientTerminated | End::ClientGone(_) | End::BackendSaidFatal { .. } => {
                Self::new(fault, "08006", reason)
            }
        }
    }
}

/// The client's socket failed.
pub(super) fn gone(error: &std::io::Error) -> Turned {
    Turned::new(Fault::Client, "08006", format!("pgturnstile: the connection broke during login: {error}"))
}

/// A target that cannot be reached, or does not give the session what its access entry says.
pub(super) fn undialled(error: &DialError, session: &str) -> Turned {
    tracing::warn!(session, target_name = error.target, %error, "a target could not be dialled");
    Turned {
        exact: Some(error.to_string()),
        ..Turned::new(Fault::Backend, error.sqlstate(), error.client_text())
    }
}

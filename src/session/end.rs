//! How a session ends.
//!
//! Owns: the closed list of ends, who is at fault, and the last words to the client. May not: hold secrets or values.

use std::borrow::Cow;

use pgturnstile_proto::{BackendTag, Malformed, Reason};

use super::denial::PROTOCOL_VIOLATION;

/// Who caused an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client.
    Client,
    /// The target.
    Backend,
    /// Whoever runs the gateway: a drain, a reload, a policy.
    Operator,
    /// The gateway itself, or what it needs.
    Gateway,
}

impl Fault {
    /// For records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Client => "client",
            Fault::Backend => "backend",
            Fault::Operator => "operator",
            Fault::Gateway => "gateway",
        }
    }
}

/// Why a session ends.
#[derive(Debug)]
pub enum End {
    /// The client said Terminate.
    ClientTerminated,
    /// The client's socket closed or failed.
    ClientGone(Cow<'static, str>),
    /// The server said its last words itself (FATAL), then closed; they were passed on.
    BackendSaidFatal {
        /// Its SQLSTATE.
        sqlstate: String,
    },
    /// The gateway ends it: the client is told.
    Fatal {
        /// Who caused it.
        fault: Fault,
        /// Five characters.
        sqlstate: &'static str,
        /// The whole message: what, why, what next.
        message: Cow<'static, str>,
    },
}

impl End {
    /// The client broke the protocol or a limit.
    pub fn client(sqlstate: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        End::Fatal { fault: Fault::Client, sqlstate, message: message.into() }
    }

    /// A frame of the client that cannot be read.
    pub fn client_fault(fault: &Malformed) -> Self {
        if let Reason::OverLimit { .. } = fault.what {
            return End::client(
                "54000",
                format!("pgturnstile ended the session: {fault}. Next: send less in one message"),
            );
        }
        End::client(
            PROTOCOL_VIOLATION,
            format!(
                "pgturnstile ended the session: malformed frame from the client: {fault}. Next: report this to the \
                 driver's authors"
            ),
        )
    }

    /// The target broke the protocol, or went away.
    pub fn backend(message: impl Into<Cow<'static, str>>) -> Self {
        End::Fatal { fault: Fault::Backend, sqlstate: "08006", message: message.into() }
    }

    /// A frame of the target that cannot be read.
    pub fn backend_fault(fault: &Malformed) -> Self {
        let is_one_of = |tags: [BackendTag; 2]| tags.map(BackendTag::name).contains(&fault.frame);
        if let Reason::OverLimit { .. } = fault.what {
            if is_one_of([BackendTag::DataRow, BackendTag::CopyData]) {
                return End::backend(format!(
                    "pgturnstile ended the session: the target's row is too long: {fault}. Next: ask for less in one row, or \
                     have the limit raised ([limits] row_bytes_max)"
                ));
            }
            if is_one_of([BackendTag::ErrorResponse, BackendTag::NoticeResponse]) {
                return End::backend(format!(
                    "pgturnstile ended the session: the target's error or notice is too long: {fault}. Next: have it say less (RAISE, \
                     the statement that an error quotes), or have the limit raised ([limits] row_bytes_max)"
                ));
            }
        }
        End::backend(format!(
            "pgturnstile ended the session: malformed frame from the target: {fault}. Next: check what stands between \
             the gateway and PostgreSQL"
        ))
    }

    /// The operator's doing.
    pub fn operator(sqlstate: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        End::Fatal { fault: Fault::Operator, sqlstate, message: message.into() }
    }

    /// Something that the gateway needs is missing, or it found itself in the wrong.
    pub fn gateway(message: impl Into<Cow<'static, str>>) -> Self {
        End::Fatal { fault: Fault::Gateway, sqlstate: "XX000", message: message.into() }
    }

    /// Who caused it.
    pub fn fault(&self) -> Fault {
        match self {
            End::ClientTerminated | End::ClientGone(_) => Fault::Client,
            End::BackendSaidFatal { .. } => Fault::Backend,
            End::Fatal { fault, .. } => *fault,
        }
    }

    /// For the record: one line.
    pub fn reason(&self) -> Cow<'_, str> {
        match self {
            End::ClientTerminated => Cow::Borrowed("the client said Terminate"),
            End::ClientGone(why) => Cow::Borrowed(why),
            End::BackendSaidFatal { sqlstate } => {
                Cow::Owned(format!("the target ended the session with {sqlstate}"))
            }
            End::Fatal { message, .. } => Cow::Borrowed(message),
        }
    }
}

//! What a server sends: the closed set of messages, the one place that dispatches on their type, and the fast hop over
//! runs of rows. Each message or small family has a file of its own with its view and its fixtures.

mod auth;
mod command_complete;
mod copy;
mod data_row;
mod description;
mod fields;
mod notification;
mod rows;
mod status;

pub use auth::{Authentication, BackendKeyData, Mechanisms, NegotiateProtocolVersion};
pub use command_complete::CommandComplete;
pub use copy::{CopyData, CopyResponse};
pub use data_row::{DataRow, FunctionCallResponse};
pub use description::{FieldDescription, ParameterDescription, RowDescription};
pub use fields::{Fields, field};
pub use notification::Notification;
pub use rows::{Rows, check_rows, skip_rows};
pub use status::{ParameterStatus, TransactionStatus};

use crate::{BackendTag, Malformed, reader::Reader};

/// Type and size of a server's next frame. (The direction fixes the parameter; two directions never mix.)
pub type Header = crate::Header<BackendTag>;

/// A whole, checked frame of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'b> {
    /// Any authentication request, and its success.
    Authentication(Authentication<'b>),
    /// Process id and cancel key.
    BackendKeyData(BackendKeyData<'b>),
    /// Bind succeeded.
    BindComplete,
    /// Close succeeded.
    CloseComplete,
    /// A command ended.
    CommandComplete(CommandComplete<'b>),
    /// A piece of a COPY stream.
    CopyData(CopyData<'b>),
    /// The end of a COPY stream.
    CopyDone,
    /// The server waits for a COPY stream.
    CopyInResponse(CopyResponse<'b>),
    /// A COPY stream follows.
    CopyOutResponse(CopyResponse<'b>),
    /// Streams both ways (replication).
    CopyBothResponse(CopyResponse<'b>),
    /// One row.
    DataRow(DataRow<'b>),
    /// The query string was empty.
    EmptyQueryResponse,
    /// An error.
    ErrorResponse(Fields<'b>),
    /// The value of a fast-path call.
    FunctionCallResponse(FunctionCallResponse<'b>),
    /// The server speaks an older minor version or knows not all options.
    NegotiateProtocolVersion(NegotiateProtocolVersion<'b>),
    /// A statement or portal returns no rows.
    NoData,
    /// A warning or notice.
    NoticeResponse(Fields<'b>),
    /// A NOTIFY of any session.
    NotificationResponse(Notification<'b>),
    /// Types of a statement's parameters.
    ParameterDescription(ParameterDescription<'b>),
    /// Value of a reported setting.
    ParameterStatus(ParameterStatus<'b>),
    /// Parse succeeded.
    ParseComplete,
    /// Execute reached its row limit.
    PortalSuspended,
    /// The server waits for the next command.
    ReadyForQuery {
        /// Whether a transaction is open or failed.
        status: TransactionStatus,
    },
    /// The columns of the rows to come.
    RowDescription(RowDescription<'b>),
}

impl<'b> Message<'b> {
    /// Reads exactly one whole frame, header included, as [`Header::peek`] measured it.
    ///
    /// # Errors
    /// [`Malformed`] names what breaks the protocol.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let Some(tag) = frame.first().copied().and_then(BackendTag::from_byte) else {
            return Err(unknown(frame));
        };
        match tag {
            BackendTag::Authentication => Authentication::parse(frame).map(Self::Authentication),
            BackendTag::BackendKeyData => BackendKeyData::parse(frame).map(Self::BackendKeyData),
            BackendTag::BindComplete => empty(frame, tag, Self::BindComplete),
            BackendTag::CloseComplete => empty(frame, tag, Self::CloseComplete),
            BackendTag::CommandComplete => CommandComplete::parse(frame).map(Self::CommandComplete),
            BackendTag::CopyData => CopyData::parse(frame).map(Self::CopyData),
            BackendTag::CopyDone => empty(frame, tag, Self::CopyDone),
            BackendTag::CopyInResponse => CopyResponse::parse(frame, tag).map(Self::CopyInResponse),
            BackendTag::CopyOutResponse => CopyResponse::parse(frame, tag).map(Self::CopyOutResponse),
            BackendTag::CopyBothResponse => CopyResponse::parse(frame, tag).map(Self::CopyBothResponse),
            BackendTag::DataRow => DataRow::parse(frame).map(Self::DataRow),
            BackendTag::EmptyQueryResponse => empty(frame, tag, Self::EmptyQueryResponse),
            BackendTag::ErrorResponse => Fields::parse_error(frame).map(Self::ErrorResponse),
            BackendTag::FunctionCallResponse => {
                FunctionCallResponse::parse(frame).map(Self::FunctionCallResponse)
            }
            BackendTag::NegotiateProtocolVersion => {
                NegotiateProtocolVersion::parse(frame).map(Self::NegotiateProtocolVersion)
            }
            BackendTag::NoData => empty(frame, tag, Self::NoData),
            BackendTag::NoticeResponse => Fields::parse_notice(frame).map(Self::NoticeResponse),
            BackendTag::NotificationResponse => Notification::parse(frame).map(Self::NotificationResponse),
            BackendTag::ParameterDescription => {
                ParameterDescription::parse(frame).map(Self::ParameterDescription)
            }
            BackendTag::ParameterStatus => ParameterStatus::parse(frame).map(Self::ParameterStatus),
            BackendTag::ParseComplete => empty(frame, tag, Self::ParseComplete),
            BackendTag::PortalSuspended => empty(frame, tag, Self::PortalSuspended),
            BackendTag::ReadyForQuery => {
                TransactionStatus::parse(frame).map(|status| Self::ReadyForQuery { status })
            }
            BackendTag::RowDescription => RowDescription::parse(frame).map(Self::RowDescription),
        }
    }

    /// The type of this message.
    pub fn tag(&self) -> BackendTag {
        match self {
            Self::Authentication(_) => BackendTag::Authentication,
            Self::BackendKeyData(_) => BackendTag::BackendKeyData,
            Self::BindComplete => BackendTag::BindComplete,
            Self::CloseComplete => BackendTag::CloseComplete,
            Self::CommandComplete(_) => BackendTag::CommandComplete,
            Self::CopyData(_) => BackendTag::CopyData,
            Self::CopyDone => BackendTag::CopyDone,
            Self::CopyInResponse(_) => BackendTag::CopyInResponse,
            Self::CopyOutResponse(_) => BackendTag::CopyOutResponse,
            Self::CopyBothResponse(_) => BackendTag::CopyBothResponse,
            Self::DataRow(_) => BackendTag::DataRow,
            Self::EmptyQueryResponse => BackendTag::EmptyQueryResponse,
            Self::ErrorResponse(_) => BackendTag::ErrorResponse,
            Self::FunctionCallResponse(_) => BackendTag::FunctionCallResponse,
            Self::NegotiateProtocolVersion(_) => BackendTag::NegotiateProtocolVersion,
            Self::NoData => BackendTag::NoData,
            Self::NoticeResponse(_) => BackendTag::NoticeResponse,
            Self::NotificationResponse(_) => BackendTag::NotificationResponse,
            Self::ParameterDescription(_) => BackendTag::ParameterDescription,
            Self::ParameterStatus(_) => BackendTag::ParameterStatus,
            Self::ParseComplete => BackendTag::ParseComplete,
            Self::PortalSuspended => BackendTag::PortalSuspended,
            Self::ReadyForQuery { .. } => BackendTag::ReadyForQuery,
            Self::RowDescription(_) => BackendTag::RowDescription,
        }
    }
}

fn open(frame: &[u8], tag: BackendTag) -> Result<Reader<'_>, Malformed> {
    Reader::open(frame, tag.byte(), tag.name())
}

fn empty<'b>(frame: &'b [u8], tag: BackendTag, message: Message<'b>) -> Result<Message<'b>, Malformed> {
    open(frame, tag)?.finish(message)
}

fn unknown(frame: &[u8]) -> Malformed {
    let what = match frame.first() {
        Some(&byte) => crate::Reason::UnknownTag { byte },
        None => crate::Reason::NotOneFrame { given: 0, declared: crate::HEADER_BYTES },
    };
    Malformed { frame: "backend frame", what, offset: 0 }
}

//! What a client sends behind its startup packet: the closed set of messages and the one place that dispatches on
//! their type. Each message has a file of its own with its view and its fixtures.

mod auth;
mod bind;
mod copy;
mod execute;
mod function_call;
mod object;
mod parse;
mod query;

pub use auth::{Password, SaslInitialResponse};
pub use bind::Bind;
pub use copy::{CopyData, CopyFail};
pub use execute::Execute;
pub use function_call::FunctionCall;
pub use object::{Object, ObjectKind};
pub use parse::Parse;
pub use query::Query;

use crate::{FrontendTag, Malformed, reader::Reader};

/// Type and size of a client's next frame. (The direction fixes the parameter; two directions never mix.)
pub type Header = crate::Header<FrontendTag>;

/// A whole, checked frame of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'b> {
    /// Portal, statement, parameters.
    Bind(Bind<'b>),
    /// Forget a statement or portal.
    Close(Object<'b>),
    /// A piece of a COPY stream.
    CopyData(CopyData<'b>),
    /// The end of a COPY stream.
    CopyDone,
    /// A COPY stream that failed on the client's side.
    CopyFail(CopyFail<'b>),
    /// Asks what a statement or portal returns.
    Describe(Object<'b>),
    /// Runs a portal.
    Execute(Execute<'b>),
    /// Asks for pending replies.
    Flush,
    /// A function by oid, no SQL.
    FunctionCall(FunctionCall<'b>),
    /// Prepares a statement.
    Parse(Parse<'b>),
    /// A password or SASL response, unread: only the state of the login tells which.
    Password(Password<'b>),
    /// A simple query.
    Query(Query<'b>),
    /// Ends a pipeline.
    Sync,
    /// Ends the session.
    Terminate,
}

impl<'b> Message<'b> {
    /// Reads exactly one whole frame, header included, as [`Header::peek`] measured it.
    ///
    /// # Errors
    /// [`Malformed`] names what breaks the protocol.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let Some(tag) = frame.first().copied().and_then(FrontendTag::from_byte) else {
            return Err(unknown(frame));
        };
        match tag {
            FrontendTag::Bind => Bind::parse(frame).map(Self::Bind),
            FrontendTag::Close => Object::parse_close(frame).map(Self::Close),
            FrontendTag::CopyData => CopyData::parse(frame).map(Self::CopyData),
            FrontendTag::CopyDone => empty(frame, tag, Self::CopyDone),
            FrontendTag::CopyFail => CopyFail::parse(frame).map(Self::CopyFail),
            FrontendTag::Describe => Object::parse_describe(frame).map(Self::Describe),
            FrontendTag::Execute => Execute::parse(frame).map(Self::Execute),
            FrontendTag::Flush => empty(frame, tag, Self::Flush),
            FrontendTag::FunctionCall => FunctionCall::parse(frame).map(Self::FunctionCall),
            FrontendTag::Parse => Parse::parse(frame).map(Self::Parse),
            FrontendTag::Password => Password::parse(frame).map(Self::Password),
            FrontendTag::Query => Query::parse(frame).map(Self::Query),
            FrontendTag::Sync => empty(frame, tag, Self::Sync),
            FrontendTag::Terminate => empty(frame, tag, Self::Terminate),
        }
    }

    /// The type of this message.
    pub fn tag(&self) -> FrontendTag {
        match self {
            Self::Bind(_) => FrontendTag::Bind,
            Self::Close(_) => FrontendTag::Close,
            Self::CopyData(_) => FrontendTag::CopyData,
            Self::CopyDone => FrontendTag::CopyDone,
            Self::CopyFail(_) => FrontendTag::CopyFail,
            Self::Describe(_) => FrontendTag::Describe,
            Self::Execute(_) => FrontendTag::Execute,
            Self::Flush => FrontendTag::Flush,
            Self::FunctionCall(_) => FrontendTag::FunctionCall,
            Self::Parse(_) => FrontendTag::Parse,
            Self::Password(_) => FrontendTag::Password,
            Self::Query(_) => FrontendTag::Query,
            Self::Sync => FrontendTag::Sync,
            Self::Terminate => FrontendTag::Terminate,
        }
    }
}

fn open(frame: &[u8], tag: FrontendTag) -> Result<Reader<'_>, Malformed> {
    Reader::open(frame, tag.byte(), tag.name())
}

fn empty<'b>(frame: &'b [u8], tag: FrontendTag, message: Message<'b>) -> Result<Message<'b>, Malformed> {
    open(frame, tag)?.finish(message)
}

fn unknown(frame: &[u8]) -> Malformed {
    let what = match frame.first() {
        Some(&byte) => crate::Reason::UnknownTag { byte },
        None => crate::Reason::NotOneFrame { given: 0, declared: crate::HEADER_BYTES },
    };
    Malformed { frame: "frontend frame", what, offset: 0 }
}

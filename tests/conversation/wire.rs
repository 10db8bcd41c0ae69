//! What comes from a server or a gateway, read back into the model's replies, and held against them.

use pgturnstile_proto::Limits;
use pgturnstile_proto::backend::{Header, Message};

use super::model::server::Reply;

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// All its bytes.
    pub bytes: Vec<u8>,
}

/// SQLSTATEs that the model can expect.
const CODES: [&str; 26] = [
    "00000", "08P01", "22012", "22023", "22P02", "22P04", "23502", "23505", "25001", "25P01", "25P02",
    "26000", "34000", "3B001", "42501", "42601", "42622", "42939", "42P03", "42P05", "42703", "42P01",
    "42P02", "55000", "57014", "XX000",
];

fn code(found: Option<&str>) -> &'static str {
    CODES.into_iter().find(|code| Some(*code) == found).unwrap_or("another")
}

/// Whole frames off the front of `bytes`.
pub fn frames(bytes: &mut Vec<u8>) -> Vec<Raw> {
    let mut out = Vec::new();
    let limits = Limits::default();
    while let Some(header) = Header::peek(bytes, &limits).expect("a frame that the gateway's reader takes") {
        if bytes.len() < header.len {
            break;
        }
        let rest = bytes.split_off(header.len);
        out.push(Raw { bytes: std::mem::replace(bytes, rest) });
    }
    out
}

impl Raw {
    /// As the model says it.
    pub fn reply(&self) -> Reply {
        match Message::parse(&self.bytes).expect("a whole frame") {
            Message::ReadyForQuery { status } => Reply::Ready(status.byte()),
            Message::RowDescription(description) => Reply::Columns(
                description
                    .iter()
                    .map(|f| {
                        (String::from_utf8_lossy(f.name).into_owned(), f.type_oid, f.format.code() as u16)
                    })
                    .collect(),
            ),
            Message::ParameterDescription(types) => Reply::Parameters(types.types().collect()),
            Message::DataRow(row) => {
                Reply::Row(row.columns().iter().map(|cell| cell.map(<[u8]>::to_vec)).collect())
            }
            Message::CommandComplete(complete) => {
                Reply::Complete(String::from_utf8_lossy(complete.tag()).into_owned())
            }
            Message::ErrorResponse(fields) => {
                let code = code(fields.sqlstate());
                let message = fields.message().unwrap_or_default();
                if fields.severity() == Some(b"FATAL") {
                    Reply::Fatal(code)
                } else if message.ends_with(b"]") && message.windows(6).any(|part| part == b" [ref ") {
                    Reply::Refused(code)
                } else {
                    Reply::Error(code)
                }
            }
            Message::NoticeResponse(fields) => Reply::Notice(code(fields.sqlstate())),
            Message::ParameterStatus(status) if status.name() == b"application_name" => {
                // The gateway puts the session's id behind it at login.
                let value = String::from_utf8_lossy(status.value());
                Reply::Status(value.split(" pgt:").next().unwrap_or_default().to_owned())
            }
            Message::CopyData(data) => Reply::CopyData(data.data().to_vec()),
            Message::ParseComplete => Reply::ParseComplete,
            Message::BindComplete => Reply::BindComplete,
            Message::CloseComplete => Reply::CloseComplete,
            Message::NoData => Reply::NoData,
            Message::EmptyQueryResponse => Reply::Empty,
            Message::PortalSuspended => Reply::Suspended,
            Message::CopyInResponse(_) => Reply::CopyIn,
            Message::CopyOutResponse(_) => Reply::CopyOut,
            Message::CopyDone => Reply::CopyDone,
            other => Reply::Status(format!("{other:?}")),
        }
    }
}

/// Where what came is not what was expected; `gated`: by way of the gateway, which refuses in its own words.
pub fn compared(who: &str, came: &[Raw], expected: &[Reply], gated: bool) -> Option<String> {
    let came: Vec<Reply> = came.iter().map(Raw::reply).collect();
    for (index, wanted) in expected.iter().enumerate() {
        let agrees = match (came.get(index), wanted) {
            (Some(Reply::Refused(is)), Reply::Refused(wanted)) => is == wanted,
            (Some(Reply::Error("42601")), Reply::Refused(_)) => !gated,
            // The gateway knows itself that a name is none, and says it in the server's stead.
            (Some(Reply::Refused(is)), Reply::Error(wanted @ ("26000" | "34000"))) => gated && is == wanted,
            (Some(is), wanted) => is == wanted,
            (None, _) => false,
        };
        if !agrees {
            return Some(format!(
                "{who}: reply {index} is {:?}, expected {wanted:?}; all: {came:?}",
                came.get(index)
            ));
        }
    }
    (came.len() > expected.len()).then(|| format!("{who}: {:?} was not expected", &came[expected.len()..]))
}

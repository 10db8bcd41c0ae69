//! How large each frame may be. Owns the numbers; the readers of headers enforce them before anything is buffered.
//!
//! All counts are bytes of the frame *behind its length word* (the declared length less four), as the server counts
//! them in `pq_getmessage` (pqcomm.c).

use crate::{BackendTag, FrontendTag};

/// Bytes behind the length word of a startup packet, `MAX_STARTUP_PACKET_LENGTH` of the server (pqcomm.h).
pub const STARTUP_BYTES_MAX: usize = 10_000;

/// Bytes behind the length word of the largest message that a server takes (`PQ_LARGE_MESSAGE_LIMIT`, pqcomm.h: what fits
/// `palloc`, less the length word itself).
pub const SERVER_BYTES_MAX: usize = 0x3FFF_FFFE - 4;

/// Parameters read from one startup packet. The server has no such limit; no driver sends more than a dozen.
pub const STARTUP_PARAMETERS_MAX: usize = 128;

/// Bytes of a whole PROXY header. Its length field allows 65,551; balancers send fewer than 600, and one that adds a client
/// certificate's names stays below this too.
pub const PROXY_HEADER_BYTES_MAX: usize = 4_096;

/// Least bytes of a cancel key: what protocol 3.0 always has.
pub const CANCEL_KEY_BYTES_MIN: usize = 4;

/// Most bytes of a cancel key in protocol 3.2.
pub const CANCEL_KEY_BYTES_MAX: usize = 256;

/// Room that Parse needs beside its text: a statement name of up to 9,998 bytes (no Describe or Close can say a longer
/// one), the NULs of both, the count, and 65,535 parameter types of four bytes.
const PARSE_OVERHEAD_BYTES: usize = 9_998 + 2 + 2 + 4 * 65_535;

/// Upper bounds per kind of frame, in bytes behind the length word. `Default` is what an unconfigured gateway uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// SQL text of Query and Parse, without its NUL. A Parse frame may be larger by its name and parameter types; a
    /// Parse with few of them can therefore carry a text over this limit, which the door of the parser refuses.
    pub statement_bytes_max: usize,
    /// Bind, with all parameter values.
    pub bind_bytes_max: usize,
    /// The password of PasswordMessage, without its NUL, and the data of the SASL and GSS responses that share its type.
    pub password_bytes_max: usize,
    /// FunctionCall. It is always refused, so it needs no more room than to be refused in order.
    pub function_call_bytes_max: usize,
    /// CopyData of a client. It streams and nothing judges it: by default what a server takes.
    pub copy_in_bytes_max: usize,
    /// Describe, Execute, Close, Flush, Sync, Terminate, CopyDone, CopyFail and the short replies
    /// (`PQ_SMALL_MESSAGE_LIMIT` of the server).
    pub control_bytes_max: usize,
    /// DataRow, CopyData of a server, and FunctionCallResponse; where it is more than `report_bytes_max`, ErrorResponse and
    /// NoticeResponse too, which may quote values and whole statements (`RAISE`, the internal query of an error).
    pub row_bytes_max: usize,
    /// RowDescription, ParameterDescription and the three Copy responses.
    pub description_bytes_max: usize,
    /// ErrorResponse, NoticeResponse, NotificationResponse, ParameterStatus, CommandComplete, Authentication and
    /// NegotiateProtocolVersion.
    pub report_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            statement_bytes_max: 262_144,
            bind_bytes_max: 16_777_216,
            password_bytes_max: 65_536,
            function_call_bytes_max: 65_536,
            copy_in_bytes_max: SERVER_BYTES_MAX,
            control_bytes_max: 10_000,
            row_bytes_max: 67_108_864,
            description_bytes_max: 1_048_576,
            report_bytes_max: 1_048_576,
        }
    }
}

impl Limits {
    /// The bound for a frontend frame of this type.
    #[inline]
    pub fn frontend(&self, tag: FrontendTag) -> usize {
        match tag {
            FrontendTag::Query => self.statement_bytes_max.saturating_add(1),
            FrontendTag::Parse => self.statement_bytes_max.saturating_add(PARSE_OVERHEAD_BYTES),
            FrontendTag::Bind => self.bind_bytes_max,
            FrontendTag::CopyData => self.copy_in_bytes_max,
            FrontendTag::FunctionCall => self.function_call_bytes_max,
            FrontendTag::Password => self.password_bytes_max.saturating_add(1),
            FrontendTag::Describe
            | FrontendTag::Execute
            | FrontendTag::Close
            | FrontendTag::Sync
            | FrontendTag::Flush
            | FrontendTag::CopyDone
            | FrontendTag::CopyFail
            | FrontendTag::Terminate => self.control_bytes_max,
        }
    }

    /// The bound for a backend frame of this type.
    #[inline]
    pub fn backend(&self, tag: BackendTag) -> usize {
        match tag {
            BackendTag::DataRow | BackendTag::CopyData | BackendTag::FunctionCallResponse => {
                self.row_bytes_max
            }
            BackendTag::ErrorResponse | BackendTag::NoticeResponse => {
                self.row_bytes_max.max(self.report_bytes_max)
            }
            BackendTag::RowDescription
            | BackendTag::ParameterDescription
            | BackendTag::CopyInResponse
            | BackendTag::CopyOutResponse
            | BackendTag::CopyBothResponse => self.description_bytes_max,
            BackendTag::NotificationResponse
            | BackendTag::ParameterStatus
            | BackendTag::CommandComplete
            | BackendTag::Authentication
            | BackendTag::NegotiateProtocolVersion => self.report_bytes_max,
            BackendTag::BackendKeyData
            | BackendTag::BindComplete
            | BackendTag::CloseComplete
            | BackendTag::CopyDone
            | BackendTag::EmptyQueryResponse
            | BackendTag::NoData
            | BackendTag::ParseComplete
            | BackendTag::PortalSuspended
            | BackendTag::ReadyForQuery => self.control_bytes_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encode, frontend::Header};

    #[test]
    fn the_limit_of_statements_is_about_their_text() {
        let limits = Limits::default();
        let text = "x".repeat(limits.statement_bytes_max);
        let mut query = Vec::new();
        encode::query(&mut query, &text).unwrap();
        assert_eq!(Header::peek(&query, &limits).unwrap().unwrap().len, query.len());
        let mut parse = Vec::new();
        encode::parse(&mut parse, "n".repeat(9_998), &text, &[0; 65_535]).unwrap();
        assert_eq!(Header::peek(&parse, &limits).unwrap().unwrap().len, parse.len());
        let longer = text + "x";
        query.clear();
        encode::query(&mut query, &longer).unwrap();
        assert!(Header::peek(&query, &limits).is_err());
        parse.clear();
        encode::parse(&mut parse, "n".repeat(9_998), &longer, &[0; 65_535]).unwrap();
        assert!(Header::peek(&parse, &limits).is_err());
    }

    #[test]
    fn the_limit_of_passwords_is_about_the_password() {
        let limits = Limits { password_bytes_max: 8, ..Limits::default() };
        let mut out = Vec::new();
        encode::password(&mut out, b"12345678").unwrap();
        assert!(Header::peek(&out, &limits).is_ok());
        out.clear();
        encode::password(&mut out, b"123456789").unwrap();
        assert!(Header::peek(&out, &limits).is_err());
    }
}

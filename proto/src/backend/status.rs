//! What a server reports of itself: ReadyForQuery (`Z`) and ParameterStatus (`S`). Server: `ReadyForQuery` (dest.c),
//! `ReportGUCOption` (guc.c).

use std::str::Utf8Error;

use super::open;
use crate::{BackendTag, Malformed, Reason};

/// Where the session stands when the server waits for the next command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// `I`: no transaction block is open.
    Idle,
    /// `T`: inside a transaction block.
    InTransaction,
    /// `E`: inside a failed one, where everything but its end is refused.
    Failed,
}

impl TransactionStatus {
    /// Reads one whole ReadyForQuery.
    ///
    /// # Errors
    /// No status, an unknown one, or bytes behind it.
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, BackendTag::ReadyForQuery)?;
        let byte = reader.u8("transaction status")?;
        let status =
            Self::from_byte(byte).ok_or_else(|| reader.fault(Reason::UnknownTransactionStatus { byte }))?;
        reader.finish(status)
    }

    /// The status that this byte names, if it names one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }

    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// Value of a reported setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterStatus<'b> {
    name: &'b [u8],
    value: &'b [u8],
}

impl<'b> ParameterStatus<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// An unterminated text, or bytes behind the value.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, BackendTag::ParameterStatus)?;
        let name = reader.text("setting")?;
        let value = reader.last_text("value")?;
        reader.finish(Self { name, value })
    }

    /// The setting.
    pub fn name(&self) -> &'b [u8] {
        self.name
    }

    /// The setting as UTF-8.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn name_str(&self) -> Result<&'b str, Utf8Error> {
        str::from_utf8(self.name)
    }

    /// Its value now.
    pub fn value(&self) -> &'b [u8] {
        self.value
    }

    /// Its value as UTF-8.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn value_str(&self) -> Result<&'b str, Utf8Error> {
        str::from_utf8(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    static READY: &[u8] = b"Z\0\0\0\x05I";
    static STATUS: &[u8] = b"S\0\0\0\x19client_encoding\0UTF8\0";

    #[test]
    fn deconstruct() {
        assert_eq!(TransactionStatus::parse(READY), Ok(TransactionStatus::Idle));
        assert_eq!(TransactionStatus::parse(b"Z\0\0\0\x05T"), Ok(TransactionStatus::InTransaction));
        assert_eq!(TransactionStatus::parse(b"Z\0\0\0\x05E"), Ok(TransactionStatus::Failed));
        let status = ParameterStatus::parse(STATUS).unwrap();
        assert_eq!((status.name(), status.value()), (&b"client_encoding"[..], &b"UTF8"[..]));
        assert_eq!((status.name_str(), status.value_str()), (Ok("client_encoding"), Ok("UTF8")));
    }

    #[test]
    fn construct() {
        let mut frames = Vec::new();
        encode::ready_for_query(&mut frames, TransactionStatus::Idle);
        encode::parameter_status(&mut frames, "client_encoding", "UTF8").unwrap();
        assert_eq!(frames, [READY, STATUS].concat());
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| super::super::Message::parse(frame).unwrap_err().what;
        assert_eq!(what(b"Z\0\0\0\x04"), Reason::Truncated { field: "transaction status" });
        assert_eq!(what(b"Z\0\0\0\x05i"), Reason::UnknownTransactionStatus { byte: b'i' });
        assert_eq!(what(b"Z\0\0\0\x06II"), Reason::TrailingBytes { count: 1 });
        assert_eq!(what(b"S\0\0\0\x05a"), Reason::MissingNul { field: "setting" });
        assert_eq!(what(b"S\0\0\0\x07a\0b"), Reason::MissingNul { field: "value" });
        assert_eq!(what(b"S\0\0\0\x08a\0\0\0"), Reason::NulInside { field: "value" });
    }
}

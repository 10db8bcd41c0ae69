//! ErrorResponse (`E`) and NoticeResponse (`N`): a list of coded texts. Server: `send_message_to_frontend` (elog.c);
//! codes in `postgres_ext.h` and the chapter "Error and Notice Message Fields".

use super::open;
use crate::{BackendTag, Malformed, Reason};

/// The codes of fields.
pub mod field {
    /// ERROR, FATAL, PANIC, WARNING, NOTICE, DEBUG, INFO, LOG, in the server's language.
    pub const SEVERITY: u8 = b'S';
    /// The same, never translated.
    pub const SEVERITY_NONLOCALIZED: u8 = b'V';
    /// SQLSTATE.
    pub const SQLSTATE: u8 = b'C';
    /// The primary message.
    pub const MESSAGE: u8 = b'M';
    /// More about the problem; quotes stored values in places.
    pub const DETAIL: u8 = b'D';
    /// What to do.
    pub const HINT: u8 = b'H';
    /// Character position in the query, from 1.
    pub const POSITION: u8 = b'P';
    /// Character position in [`INTERNAL_QUERY`].
    pub const INTERNAL_POSITION: u8 = b'p';
    /// Text of a failed query that the server itself made.
    pub const INTERNAL_QUERY: u8 = b'q';
    /// The call stack.
    pub const WHERE: u8 = b'W';
    /// Schema concerned.
    pub const SCHEMA: u8 = b's';
    /// Table concerned.
    pub const TABLE: u8 = b't';
    /// Column concerned.
    pub const COLUMN: u8 = b'c';
    /// Data type concerned.
    pub const DATA_TYPE: u8 = b'd';
    /// Constraint concerned.
    pub const CONSTRAINT: u8 = b'n';
    /// Source file of the server.
    pub const FILE: u8 = b'F';
    /// Line in it.
    pub const LINE: u8 = b'L';
    /// Function in it.
    pub const ROUTINE: u8 = b'R';
}

/// The fields of an error or notice. Unknown codes are kept: the chapter asks frontends to ignore them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fields<'b> {
    fields: &'b [u8],
}

impl<'b> Fields<'b> {
    /// Reads one whole ErrorResponse.
    ///
    /// # Errors
    /// An unterminated text or list, or bytes behind the list.
    pub fn parse_error(frame: &'b [u8]) -> Result<Self, Malformed> {
        Self::read(frame, BackendTag::ErrorResponse)
    }

    /// Reads one whole NoticeResponse.
    ///
    /// # Errors
    /// An unterminated text or list, or bytes behind the list.
    pub fn parse_notice(frame: &'b [u8]) -> Result<Self, Malformed> {
        Self::read(frame, BackendTag::NoticeResponse)
    }

    fn read(frame: &'b [u8], tag: BackendTag) -> Result<Self, Malformed> {
        let mut reader = open(frame, tag)?;
        let start = reader.rest();
        loop {
            let fields = reader.walked(start);
            if reader.left() == 0 {
                return Err(reader.fault(Reason::MissingTerminator { field: "field list" }));
            }
            if reader.u8("field code")? == 0 {
                return reader.finish(Self { fields });
            }
            reader.text("field")?;
        }
    }

    /// Codes and texts in order, texts without their NUL.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'b [u8])> + Clone + use<'b> {
        self.fields
            .split(|&byte| byte == 0)
            .filter_map(|field| field.split_first().map(|(code, text)| (*code, text)))
    }

    /// The first text with this code.
    pub fn get(&self, code: u8) -> Option<&'b [u8]> {
        self.iter().find_map(|(found, text)| (found == code).then_some(text))
    }

    /// The severity, untranslated where the server says it so (9.6 and later do).
    pub fn severity(&self) -> Option<&'b [u8]> {
        self.get(field::SEVERITY_NONLOCALIZED).or_else(|| self.get(field::SEVERITY))
    }

    /// The SQLSTATE, where it is five characters of `0-9A-Z` as SQL demands.
    pub fn sqlstate(&self) -> Option<&'b str> {
        let code = self.get(field::SQLSTATE)?;
        let legal =
            code.len() == 5 && code.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        legal.then(|| str::from_utf8(code).ok()).flatten()
    }

    /// The primary message.
    pub fn message(&self) -> Option<&'b [u8]> {
        self.get(field::MESSAGE)
    }
}

impl std::fmt::Debug for Fields<'_> {
    /// Severity and SQLSTATE only: the texts quote stored values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fields")
            .field("severity", &self.severity().map(|text| text.escape_ascii().to_string()))
            .field("sqlstate", &self.sqlstate())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    static ERROR: &[u8] = b"E\0\0\0\x23SFEHLER\0VERROR\0C42501\0Mdenied\0\0";

    #[test]
    fn deconstruct() {
        let fields = Fields::parse_error(ERROR).unwrap();
        assert_eq!(fields.iter().count(), 4);
        assert_eq!(fields.severity(), Some(&b"ERROR"[..]));
        assert_eq!(fields.get(field::SEVERITY), Some(&b"FEHLER"[..]));
        assert_eq!(fields.sqlstate(), Some("42501"));
        assert_eq!(fields.message(), Some(&b"denied"[..]));
        assert_eq!(fields.get(field::DETAIL), None);
        assert_eq!(format!("{fields:?}"), "Fields { severity: Some(\"ERROR\"), sqlstate: Some(\"42501\") }");
        let notice = Fields::parse_notice(b"N\0\0\0\x09SX\0\0M").unwrap_err();
        assert_eq!(notice.what, Reason::TrailingBytes { count: 1 });
        let empty_text = Fields::parse_notice(b"N\0\0\0\x0bH\0Mx\0D\0\0").unwrap_err();
        assert_eq!(empty_text.what, Reason::NotOneFrame { given: 13, declared: 12 });
        let empty_text = Fields::parse_notice(b"N\0\0\0\x0cH\0Mx\0D\0\0").unwrap();
        assert_eq!(empty_text.iter().collect::<Vec<_>>(), [(b'H', &b""[..]), (b'M', b"x"), (b'D', b"")]);
    }

    #[test]
    fn construct() {
        let mut frame = Vec::new();
        let fields = [
            (field::SEVERITY, "FEHLER"),
            (field::SEVERITY_NONLOCALIZED, "ERROR"),
            (field::SQLSTATE, "42501"),
            (field::MESSAGE, "denied"),
        ];
        encode::error_response(&mut frame, &fields).unwrap();
        assert_eq!(frame, ERROR);
    }

    #[test]
    fn an_sqlstate_is_five_characters_or_none() {
        for bad in ["", "4250", "425011", "4250x", "4250 "] {
            let mut frame = Vec::new();
            encode::error_response(&mut frame, &[(field::SQLSTATE, bad)]).unwrap();
            assert_eq!(Fields::parse_error(&frame).unwrap().sqlstate(), None, "{bad}");
        }
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| Fields::parse_error(frame).unwrap_err().what;
        assert_eq!(what(b"E\0\0\0\x04"), Reason::MissingTerminator { field: "field list" });
        assert_eq!(what(b"E\0\0\0\x07Mx\0"), Reason::MissingTerminator { field: "field list" });
        assert_eq!(what(b"E\0\0\0\x06Mx"), Reason::MissingNul { field: "field" });
        assert_eq!(what(b"E\0\0\0\x05M"), Reason::MissingNul { field: "field" });
        assert_eq!(what(b"E\0\0\0\x06\0\0"), Reason::TrailingBytes { count: 1 });
    }
}

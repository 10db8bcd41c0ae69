//! Query (`Q`): one string of SQL. Server: `SocketBackend` and `PostgresMain`, case `PqMsg_Query` (postgres.c).

use std::str::Utf8Error;

use super::open;
use crate::{FrontendTag, Malformed};

/// A simple query. Its text has exactly one NUL, at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'b> {
    text: &'b [u8],
}

impl<'b> Query<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// A missing NUL, one inside the text, or anything behind it.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, FrontendTag::Query)?;
        let text = reader.last_text("query text")?;
        reader.finish(Self { text })
    }

    /// The SQL, without its NUL.
    pub fn text(&self) -> &'b [u8] {
        self.text
    }

    /// The SQL as UTF-8.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn text_str(&self) -> Result<&'b str, Utf8Error> {
        str::from_utf8(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, encode};

    static FIXTURE: &[u8] = b"Q\0\0\0\x0dSELECT 1\0";

    #[test]
    fn deconstruct() {
        let query = Query::parse(FIXTURE).unwrap();
        assert_eq!(query.text(), b"SELECT 1");
        assert_eq!(query.text_str(), Ok("SELECT 1"));
    }

    #[test]
    fn construct() {
        let mut frame = Vec::new();
        encode::query(&mut frame, "SELECT 1").unwrap();
        assert_eq!(frame, FIXTURE);
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| Query::parse(frame).unwrap_err().what;
        assert_eq!(what(b"Q\0\0\0\x04"), Reason::MissingNul { field: "query text" });
        assert_eq!(what(b"Q\0\0\0\x0cSELECT 1"), Reason::MissingNul { field: "query text" });
        assert_eq!(what(b"Q\0\0\0\x0dSELECT\x001\0"), Reason::NulInside { field: "query text" });
        assert_eq!(what(b"Q\0\0\0\x0dSELECT\0 1"), Reason::TrailingBytes { count: 2 });
        assert_eq!(what(b"Q\0\0\0\x0cSELECT 1\0"), Reason::NotOneFrame { given: 14, declared: 13 });
        assert_eq!(what(b"Q\0\0\0\x0eSELECT 1\0"), Reason::NotOneFrame { given: 14, declared: 15 });
        assert_eq!(what(b"Q\0\0\0"), Reason::NotOneFrame { given: 4, declared: 5 });
        assert_eq!(what(b"P\0\0\0\x04"), Reason::WrongTag { expected: b'Q', found: b'P' });
        assert_eq!(what(b"Q\xff\xff\xff\xfe"), Reason::LengthTooSmall { declared: -2, least: 4 });
    }

    #[test]
    fn text_that_is_not_utf8_is_a_view_but_no_str() {
        let query = Query::parse(b"Q\0\0\0\x06\xff\0").unwrap();
        assert_eq!(query.text(), b"\xff");
        assert!(query.text_str().is_err());
    }
}

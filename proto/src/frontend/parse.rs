//! Parse (`P`): names a statement, its SQL, the types of its parameters. Server: postgres.c, case `PqMsg_Parse`.

use std::str::Utf8Error;

use super::open;
use crate::{FrontendTag, Malformed};

/// A statement to prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'b> {
    name: &'b [u8],
    text: &'b [u8],
    types: &'b [u8],
}

impl<'b> Parse<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// An unterminated string, a count of types that the frame cannot hold, or bytes behind the last type.
    #[expect(
        clippy::self_named_constructors,
        reason = "the message is called Parse; every view's reader is called parse"
    )]
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, FrontendTag::Parse)?;
        let name = reader.text("statement name")?;
        let text = reader.text("statement text")?;
        let count = usize::from(reader.u16("number of parameter types")?);
        reader.room("parameter types", count, 4)?;
        let types = reader.bytes("parameter types", count * 4)?;
        reader.finish(Self { name, text, types })
    }

    /// The statement's name; empty is the unnamed statement.
    pub fn name(&self) -> &'b [u8] {
        self.name
    }

    /// The name as UTF-8.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn name_str(&self) -> Result<&'b str, Utf8Error> {
        str::from_utf8(self.name)
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

    /// Type oids that the client fixes; 0 leaves one to the server. There may be fewer than parameters.
    pub fn types(&self) -> impl ExactSizeIterator<Item = u32> + Clone + use<'b> {
        self.types.chunks_exact(4).map(crate::values::word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, encode};

    static FIXTURE: &[u8] = b"P\0\0\0\x1fs1\0SELECT $1, $2\0\0\x02\0\0\0\x17\0\0\0\0";

    #[test]
    fn deconstruct() {
        let parse = Parse::parse(FIXTURE).unwrap();
        assert_eq!((parse.name(), parse.text()), (&b"s1"[..], &b"SELECT $1, $2"[..]));
        assert_eq!((parse.name_str(), parse.text_str()), (Ok("s1"), Ok("SELECT $1, $2")));
        assert_eq!(parse.types().collect::<Vec<_>>(), [23, 0]);
    }

    #[test]
    fn construct() {
        let mut frame = Vec::new();
        encode::parse(&mut frame, "s1", "SELECT $1, $2", &[23, 0]).unwrap();
        assert_eq!(frame, FIXTURE);
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| Parse::parse(frame).unwrap_err().what;
        assert_eq!(what(b"P\0\0\0\x04"), Reason::MissingNul { field: "statement name" });
        assert_eq!(what(b"P\0\0\0\x06\0a"), Reason::MissingNul { field: "statement text" });
        assert_eq!(what(b"P\0\0\0\x07\0\0\0"), Reason::Truncated { field: "number of parameter types" });
        assert_eq!(
            what(b"P\0\0\0\x0b\0\0\0\x02\0\0\0"),
            Reason::CountBeyondFrame { field: "parameter types", count: 2, left: 3 }
        );
        assert_eq!(
            what(b"P\0\0\0\x0a\0\0\xff\xff\0\0"),
            Reason::CountBeyondFrame { field: "parameter types", count: 65_535, left: 2 }
        );
        assert_eq!(what(b"P\0\0\0\x09\0\0\0\0\0"), Reason::TrailingBytes { count: 1 });
    }
}

//! Describe (`D`) and Close (`C`): a kind and a name. Server: postgres.c, cases `PqMsg_Describe`, `PqMsg_Close`.

use std::str::Utf8Error;

use super::open;
use crate::{FrontendTag, Malformed, Reason};

/// Which of the two name spaces of the extended protocol a name is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// `P`.
    Portal,
    /// `S`, a prepared statement.
    Statement,
}

impl ObjectKind {
    /// The kind that this byte names, if it names one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'P' => Some(Self::Portal),
            b'S' => Some(Self::Statement),
            _ => None,
        }
    }

    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            Self::Portal => b'P',
            Self::Statement => b'S',
        }
    }
}

/// What Describe or Close is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<'b> {
    kind: ObjectKind,
    name: &'b [u8],
}

impl<'b> Object<'b> {
    /// Reads one whole Describe.
    ///
    /// # Errors
    /// Another kind than `S` and `P`, an unterminated name, or bytes behind it.
    pub fn parse_describe(frame: &'b [u8]) -> Result<Self, Malformed> {
        Self::read(frame, FrontendTag::Describe)
    }

    /// Reads one whole Close.
    ///
    /// # Errors
    /// Another kind than `S` and `P`, an unterminated name, or bytes behind it.
    pub fn parse_close(frame: &'b [u8]) -> Result<Self, Malformed> {
        Self::read(frame, FrontendTag::Close)
    }

    fn read(frame: &'b [u8], tag: FrontendTag) -> Result<Self, Malformed> {
        let mut reader = open(frame, tag)?;
        let byte = reader.u8("kind")?;
        let kind =
            ObjectKind::from_byte(byte).ok_or_else(|| reader.fault(Reason::UnknownObjectKind { byte }))?;
        let name = reader.last_text("name")?;
        reader.finish(Self { kind, name })
    }

    /// Statement or portal.
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// Its name; empty is the unnamed one.
    pub fn name(&self) -> &'b [u8] {
        self.name
    }

    /// Its name as UTF-8.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn name_str(&self) -> Result<&'b str, Utf8Error> {
        str::from_utf8(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    static DESCRIBE: &[u8] = b"D\0\0\0\x08Ss1\0";
    static CLOSE: &[u8] = b"C\0\0\0\x06P\0";

    #[test]
    fn deconstruct() {
        let describe = Object::parse_describe(DESCRIBE).unwrap();
        assert_eq!((describe.kind(), describe.name_str()), (ObjectKind::Statement, Ok("s1")));
        let close = Object::parse_close(CLOSE).unwrap();
        assert_eq!((close.kind(), close.name()), (ObjectKind::Portal, &b""[..]));
    }

    #[test]
    fn construct() {
        let mut frames = Vec::new();
        encode::describe(&mut frames, ObjectKind::Statement, "s1").unwrap();
        encode::close(&mut frames, ObjectKind::Portal, "").unwrap();
        assert_eq!(frames, [DESCRIBE, CLOSE].concat());
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| Object::parse_close(frame).unwrap_err().what;
        assert_eq!(what(b"C\0\0\0\x04"), Reason::Truncated { field: "kind" });
        assert_eq!(what(b"C\0\0\0\x05S"), Reason::MissingNul { field: "name" });
        assert_eq!(what(b"C\0\0\0\x06s\0"), Reason::UnknownObjectKind { byte: b's' });
        assert_eq!(what(b"C\0\0\0\x07S\0\0"), Reason::NulInside { field: "name" });
        assert_eq!(what(b"C\0\0\0\x07S\0x"), Reason::TrailingBytes { count: 1 });
        assert_eq!(what(DESCRIBE), Reason::WrongTag { expected: b'C', found: b'D' });
    }
}

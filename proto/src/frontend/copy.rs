//! CopyData (`d`) and CopyFail (`f`) of a client; CopyDone (`c`) has no content. Server: `CopyGetData`
//! (copyfromparse.c).

use std::str::Utf8Error;

use super::open;
use crate::{FrontendTag, Malformed};

/// A piece of a COPY stream. Its borders mean nothing: a client may cut the stream anywhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CopyData<'b> {
    data: &'b [u8],
}

impl<'b> CopyData<'b> {
    /// Reads one whole frame; any content is legal.
    ///
    /// # Errors
    /// Only where `frame` is not one whole CopyData.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, FrontendTag::CopyData)?;
        let data = reader.take_rest();
        reader.finish(Self { data })
    }

    /// The bytes of the stream.
    pub fn data(&self) -> &'b [u8] {
        self.data
    }
}

impl std::fmt::Debug for CopyData<'_> {
    /// The length only: the content is data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyData").field("bytes", &self.data.len()).finish()
    }
}

/// The client gives a COPY up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFail<'b> {
    reason: &'b [u8],
}

impl<'b> CopyFail<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// A missing NUL, one inside the text, or anything behind it.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, FrontendTag::CopyFail)?;
        let reason = reader.last_text("reason")?;
        reader.finish(Self { reason })
    }

    /// Why, in the client's words.
    pub fn reason(&self) -> &'b [u8] {
        self.reason
    }

    /// Why, as UTF-8.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn reason_str(&self) -> Result<&'b str, Utf8Error> {
        str::from_utf8(self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, encode, frontend::Message};

    #[test]
    fn deconstruct() {
        assert_eq!(CopyData::parse(b"d\0\0\0\x081\t\0\n").unwrap().data(), b"1\t\0\n");
        assert_eq!(CopyData::parse(b"d\0\0\0\x04").unwrap().data(), b"");
        assert_eq!(CopyFail::parse(b"f\0\0\0\x08why\0").unwrap().reason_str(), Ok("why"));
        assert_eq!(Message::parse(b"c\0\0\0\x04"), Ok(Message::CopyDone));
    }

    #[test]
    fn construct() {
        let mut frames = Vec::new();
        encode::copy_data(&mut frames, b"1\n").unwrap();
        encode::copy_done(&mut frames);
        encode::copy_fail(&mut frames, "why").unwrap();
        assert_eq!(frames, b"d\0\0\0\x061\nc\0\0\0\x04f\0\0\0\x08why\0");
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| Message::parse(frame).unwrap_err().what;
        assert_eq!(what(b"f\0\0\0\x07why"), Reason::MissingNul { field: "reason" });
        assert_eq!(what(b"f\0\0\0\x08a\0b\0"), Reason::NulInside { field: "reason" });
        assert_eq!(what(b"c\0\0\0\x05\0"), Reason::TrailingBytes { count: 1 });
        assert_eq!(what(b"d\0\0\0\x03"), Reason::LengthTooSmall { declared: 3, least: 4 });
    }
}

//! CopyData (`d`) of a server and the three responses that open a COPY: CopyInResponse (`G`), CopyOutResponse (`H`),
//! CopyBothResponse (`W`). CopyDone (`c`) has no content.

use super::open;
use crate::{BackendTag, Format, Formats, Malformed};

/// A piece of a COPY stream. A server sends one row in each (text and csv); the binary header shares one with its
/// first row.
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
        let mut reader = open(frame, BackendTag::CopyData)?;
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

/// How a COPY is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyResponse<'b> {
    overall: Format,
    columns: Formats<'b>,
}

impl<'b> CopyResponse<'b> {
    /// Reads one whole frame of the response type `tag`.
    pub(super) fn parse(frame: &'b [u8], tag: BackendTag) -> Result<Self, Malformed> {
        let mut reader = open(frame, tag)?;
        let code = i16::from(reader.u8("overall format")?);
        let overall = Format::from_code(code)
            .ok_or_else(|| reader.fault(crate::Reason::UnknownFormat { field: "overall format", code }))?;
        let columns = reader.formats("columns", "column format")?;
        reader.finish(Self { overall, columns })
    }

    /// Text covers csv as well.
    pub fn overall(&self) -> Format {
        self.overall
    }

    /// One format for each column.
    pub fn columns(&self) -> Formats<'b> {
        self.columns
    }
}

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::*;
    use crate::{Reason, encode};

    static OUT: &[u8] = b"H\0\0\0\x0b\x01\0\x02\0\x01\0\x01";

    #[test]
    fn deconstruct() {
        let Ok(Message::CopyOutResponse(copy)) = Message::parse(OUT) else { panic!("no copy-out") };
        assert_eq!(copy.overall(), Format::Binary);
        assert_eq!(copy.columns().iter().collect::<Vec<_>>(), [Format::Binary, Format::Binary]);
        assert_eq!(CopyData::parse(b"d\0\0\0\x061\n").unwrap().data(), b"1\n");
        assert_eq!(Message::parse(b"c\0\0\0\x04"), Ok(Message::CopyDone));
    }

    #[test]
    fn construct() {
        let mut frame = Vec::new();
        encode::copy_out_response(&mut frame, Format::Binary, &[Format::Binary; 2]).unwrap();
        assert_eq!(frame, OUT);
        frame.clear();
        encode::copy_in_response(&mut frame, Format::Text, &[Format::Text]).unwrap();
        assert_eq!(frame, b"G\0\0\0\x09\0\0\x01\0\0");
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| Message::parse(frame).unwrap_err().what;
        assert_eq!(what(b"G\0\0\0\x04"), Reason::Truncated { field: "overall format" });
        assert_eq!(what(b"G\0\0\0\x07\x02\0\0"), Reason::UnknownFormat { field: "overall format", code: 2 });
        assert_eq!(
            what(b"W\0\0\0\x07\0\0\x01"),
            Reason::CountBeyondFrame { field: "columns", count: 1, left: 0 }
        );
        assert_eq!(what(b"H\0\0\0\x08\0\0\0\0"), Reason::TrailingBytes { count: 1 });
        assert_eq!(what(b"c\0\0\0\x05\0"), Reason::TrailingBytes { count: 1 });
    }
}

//! DataRow (`D`), one row, and FunctionCallResponse (`V`), one value. Server: `printtup` (printtup.c), `SendFunctionResult`
//! (fastpath.c).

use super::open;
use crate::{BackendTag, HEADER_BYTES, Malformed, Reason, Values};

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRow<'b> {
    columns: Values<'b>,
}

impl<'b> DataRow<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// A count or length that the frame cannot hold, or bytes behind the last column.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, BackendTag::DataRow)?;
        let columns = reader.values("columns", "column")?;
        reader.finish(Self { columns })
    }

    /// The columns' values.
    pub fn columns(&self) -> Values<'b> {
        self.columns
    }

    /// Holds the row against the row description in force, where there is one.
    ///
    /// # Errors
    /// [`Reason::ColumnCount`] where the numbers differ.
    pub fn expect_columns(&self, described: Option<u16>) -> Result<(), Malformed> {
        match described.map(usize::from) {
            Some(described) if described != self.columns.len() => Err(Malformed {
                frame: BackendTag::DataRow.name(),
                what: Reason::ColumnCount { found: self.columns.len(), described },
                offset: HEADER_BYTES,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

/// The value of a fast-path call. The gateway refuses those calls, so a server has no reason to send one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FunctionCallResponse<'b> {
    value: Option<&'b [u8]>,
}

impl<'b> FunctionCallResponse<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// A length that the frame cannot hold, or bytes behind the value.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, BackendTag::FunctionCallResponse)?;
        let value = reader.value("result")?;
        reader.finish(Self { value })
    }

    /// The value; `None` is NULL.
    pub fn value(&self) -> Option<&'b [u8]> {
        self.value
    }
}

impl std::fmt::Debug for FunctionCallResponse<'_> {
    /// The length only: the content is data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionCallResponse").field("bytes", &self.value.map(<[u8]>::len)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    static FIXTURE: &[u8] = b"D\0\0\0\x14\0\x03\0\0\0\x0242\xff\xff\xff\xff\0\0\0\0";

    #[test]
    fn deconstruct() {
        let row = DataRow::parse(FIXTURE).unwrap();
        assert_eq!(row.columns().iter().collect::<Vec<_>>(), [Some(&b"42"[..]), None, Some(b"")]);
        assert_eq!((row.columns().len(), row.columns().iter().len()), (3, 3));
        assert_eq!(format!("{row:?}"), "DataRow { columns: [Some(2), None, Some(0)] }");
        assert_eq!(FunctionCallResponse::parse(b"V\0\0\0\x09\0\0\0\x01x").unwrap().value(), Some(&b"x"[..]));
        assert_eq!(FunctionCallResponse::parse(b"V\0\0\0\x08\xff\xff\xff\xff").unwrap().value(), None);
    }

    #[test]
    fn construct() {
        let mut frame = Vec::new();
        encode::data_row(&mut frame, &[Some(b"42"), None, Some(b"")]).unwrap();
        assert_eq!(frame, FIXTURE);
        frame.clear();
        encode::function_call_response(&mut frame, Some(b"x")).unwrap();
        assert_eq!(frame, b"V\0\0\0\x09\0\0\0\x01x");
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| DataRow::parse(frame).unwrap_err().what;
        assert_eq!(what(b"D\0\0\0\x05\0"), Reason::Truncated { field: "columns" });
        assert_eq!(
            what(b"D\0\0\0\x09\0\x01\0\0\0"),
            Reason::CountBeyondFrame { field: "columns", count: 1, left: 3 }
        );
        assert_eq!(
            what(b"D\0\0\0\x0b\0\x01\0\0\0\x02x"),
            Reason::LengthBeyondFrame { field: "column", length: 2, left: 1 }
        );
        assert_eq!(
            what(b"D\0\0\0\x0a\0\x01\x80\0\0\0"),
            Reason::NegativeLength { field: "column", length: i32::MIN }
        );
        assert_eq!(what(b"D\0\0\0\x07\0\0\0"), Reason::TrailingBytes { count: 1 });
        let value = |frame: &[u8]| FunctionCallResponse::parse(frame).unwrap_err().what;
        assert_eq!(value(b"V\0\0\0\x04"), Reason::Truncated { field: "result" });
        assert_eq!(value(b"V\0\0\0\x09\xff\xff\xff\xffx"), Reason::TrailingBytes { count: 1 });
    }
}

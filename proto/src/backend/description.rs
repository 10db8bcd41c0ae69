//! What a statement takes and returns: RowDescription (`T`) and ParameterDescription (`t`). Server:
//! `SendRowDescriptionMessage` (printtup.c), `exec_describe_statement_message` (postgres.c).

use super::open;
use crate::{BackendTag, Format, Malformed, reader::Reader, values::word};

/// Bytes of a described column behind its name.
const FIELD_BYTES: usize = 18;

/// The columns of the rows to come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RowDescription<'b> {
    count: u16,
    fields: &'b [u8],
}

impl<'b> RowDescription<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// A count that the frame cannot hold, an unterminated name, an unknown format, or bytes behind the last column.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, BackendTag::RowDescription)?;
        let count = reader.u16("columns")?;
        reader.room("columns", usize::from(count), FIELD_BYTES + 1)?;
        let start = reader.rest();
        for _ in 0..count {
            FieldDescription::read(&mut reader)?;
        }
        let fields = reader.walked(start);
        reader.finish(Self { count, fields })
    }

    /// How many columns there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// A select without columns, which is legal.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The columns in order.
    pub fn iter(&self) -> impl Iterator<Item = FieldDescription<'b>> + Clone + use<'b> {
        let mut reader = Reader::over(BackendTag::RowDescription.name(), self.fields, self.fields);
        // the constructor read the same bytes to their end with the same function, so the only end is the true one
        (0..self.count).map_while(move |_| FieldDescription::read(&mut reader).ok())
    }
}

impl std::fmt::Debug for RowDescription<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// One column of a RowDescription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldDescription<'b> {
    /// The column's label.
    pub name: &'b [u8],
    /// Oid of the table or view that the column is a plain column of; 0 where it is an expression.
    pub table_oid: u32,
    /// Number of the column in that table; 0 where it is none, or where it is the whole row; negative for system
    /// columns.
    pub attribute: i16,
    /// Oid of the column's type.
    pub type_oid: u32,
    /// Bytes of a value (`pg_type.typlen`); negative where they vary.
    pub type_length: i16,
    /// The type's modifier (`pg_attribute.atttypmod`), −1 where it has none.
    pub type_modifier: i32,
    /// How values are spelled. Always text in the answer to Describe of a statement, where it is not known yet.
    pub format: Format,
}

impl<'b> FieldDescription<'b> {
    fn read(reader: &mut Reader<'b>) -> Result<Self, Malformed> {
        Ok(Self {
            name: reader.text("column name")?,
            table_oid: reader.u32("table oid")?,
            attribute: reader.i16("attribute number")?,
            type_oid: reader.u32("type oid")?,
            type_length: reader.i16("type length")?,
            type_modifier: reader.i32("type modifier")?,
            format: reader.format("column format")?,
        })
    }
}

/// The types of a statement's parameters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ParameterDescription<'b> {
    types: &'b [u8],
}

impl<'b> ParameterDescription<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// A count that the frame cannot hold, or bytes behind the last type.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, BackendTag::ParameterDescription)?;
        let count = usize::from(reader.u16("parameter types")?);
        reader.room("parameter types", count, 4)?;
        let types = reader.bytes("parameter types", count * 4)?;
        reader.finish(Self { types })
    }

    /// The types' oids, one for each parameter.
    pub fn types(&self) -> impl ExactSizeIterator<Item = u32> + Clone + use<'b> {
        self.types.chunks_exact(4).map(word)
    }
}

impl std::fmt::Debug for ParameterDescription<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.types()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, encode};

    static ROW: &[u8] =
        b"T\0\0\0\x2f\0\x02id\0\0\0\x40\0\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0?\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\0\0\0\x08\0\x01";

    fn fields() -> [FieldDescription<'static>; 2] {
        let id = FieldDescription {
            name: b"id",
            table_oid: 16_384,
            attribute: 1,
            type_oid: 23,
            type_length: 4,
            type_modifier: -1,
            format: Format::Text,
        };
        let expression = FieldDescription {
            name: b"?",
            table_oid: 0,
            attribute: 0,
            type_oid: 25,
            type_length: -1,
            type_modifier: 8,
            format: Format::Binary,
        };
        [id, expression]
    }

    #[test]
    fn deconstruct() {
        let row = RowDescription::parse(ROW).unwrap();
        assert_eq!(row.len(), 2);
        assert_eq!(row.iter().collect::<Vec<_>>(), fields());
        let parameters = ParameterDescription::parse(b"t\0\0\0\x0e\0\x02\0\0\0\x17\0\0\0\x19").unwrap();
        assert_eq!(parameters.types().collect::<Vec<_>>(), [23, 25]);
        assert!(RowDescription::parse(b"T\0\0\0\x06\0\0").unwrap().is_empty());
    }

    #[test]
    fn construct() {
        let mut frame = Vec::new();
        encode::row_description(&mut frame, &fields()).unwrap();
        assert_eq!(frame, ROW);
        frame.clear();
        encode::parameter_description(&mut frame, &[23, 25]).unwrap();
        assert_eq!(frame, b"t\0\0\0\x0e\0\x02\0\0\0\x17\0\0\0\x19");
    }

    #[test]
    fn impossible_lengths() {
        let what = |frame: &[u8]| super::super::Message::parse(frame).unwrap_err().what;
        assert_eq!(what(b"T\0\0\0\x05\0"), Reason::Truncated { field: "columns" });
        assert_eq!(
            what(b"T\0\0\0\x08\0\x01a\0"),
            Reason::CountBeyondFrame { field: "columns", count: 1, left: 2 }
        );
        let mut frame = b"T\0\0\0\x19\0\x01".to_vec();
        frame.extend_from_slice(&[b'a'; 19]);
        assert_eq!(what(&frame), Reason::MissingNul { field: "column name" });
        frame[8] = 0;
        assert_eq!(what(&frame), Reason::Truncated { field: "column format" });
        frame[7] = 0;
        assert_eq!(what(&frame), Reason::UnknownFormat { field: "column format", code: 0x6161 });
        frame[24..].copy_from_slice(&[0, 0]);
        assert_eq!(super::super::Message::parse(&frame).map(|_| ()), Ok(()));
        frame.push(0);
        frame[4] += 1;
        assert_eq!(what(&frame), Reason::TrailingBytes { count: 1 });
        assert_eq!(
            what(b"t\0\0\0\x06\xff\xff"),
            Reason::CountBeyondFrame { field: "parameter types", count: 65_535, left: 0 }
        );
        assert_eq!(what(b"t\0\0\0\x07\0\0\0"), Reason::TrailingBytes { count: 1 });
    }
}

//! How values of a type are spelled in a format, as far as masking needs it.
//!
//! Owns: the table from type oid and format to [`Shape`]. May not: read values. Fails closed: a type that is not in the table
//! (enums, composites, extensions' types) is [`Shape::OpaqueText`]
//! or [`Shape::OpaqueBinary`]: it is searched, and becomes NULL as a whole where anything is
//! found. Source: `src/include/catalog/pg_type.dat`; the oids of built-in types never change.

/// What the catalog says of a column whose values come without a type: it chooses between readings that the value allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nothing.
    None,
    /// A type of numbers; as text.
    Number,
    /// `int8`; in binary.
    Int8,
    /// `numeric`; in binary.
    Numeric,
    /// `float8`; in binary.
    Float8,
    /// A type that holds nothing that a detector looks for.
    Nothing,
    /// A type that takes no part of a value for another (an enum, a range, a composite, an extension's); as text.
    Opaque,
}

/// How a column's values are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Bytes of text, the same in both formats: a match inside is replaced where it stands.
    Text,
    /// JSON text: a match inside a string is replaced, a number becomes `null`.
    Json,
    /// `jsonb` in binary: a version byte, then JSON text.
    JsonbBinary,
    /// A number spelled in digits, whole or with a fraction.
    NumberText,
    /// `float8` spelled as the shortest text, possibly with an exponent.
    FloatText,
    /// `int8`, eight bytes.
    Int8Binary,
    /// `numeric`: a header of four words, then digits to the base 10,000.
    NumericBinary,
    /// `float8`, eight bytes.
    Float8Binary,
    /// `uuid` as text: it can hold no match, but it can be tokenised.
    UuidText,
    /// `uuid`, sixteen bytes.
    UuidBinary,
    /// `bytea` as text: hexadecimal digits behind `\x`, or the escape form.
    ByteaText,
    /// `bytea` in binary; searched as text, NULL where something is found.
    Opaque,
    /// A type that the table does not hold, a composite or a range, as text: NULL where something is found.
    OpaqueText,
    /// An array of text-like elements, as text.
    TextArray,
    /// An array of numbers, as text.
    NumberArray,
    /// An array in binary; its header names the element's type.
    ArrayBinary,
    /// A type that the table does not hold, a composite or a range, in binary: searched as bytes and as a record.
    OpaqueBinary,
    /// Of COPY, where no type is told, as text: judged by how the value looks, and by what the catalog says.
    Unknown(Hint),
    /// The same in binary.
    UnknownBinary(Hint),
    /// It can hold nothing that a detector looks for.
    Never,
}

impl Shape {
    /// Each of them once, for what draws shapes: tests and fuzz targets.
    pub const ALL: &[Shape] = &[
        Shape::Text,
        Shape::Json,
        Shape::JsonbBinary,
        Shape::NumberText,
        Shape::FloatText,
        Shape::Int8Binary,
        Shape::NumericBinary,
        Shape::Float8Binary,
        Shape::UuidText,
        Shape::UuidBinary,
        Shape::ByteaText,
        Shape::Opaque,
        Shape::OpaqueText,
        Shape::TextArray,
        Shape::NumberArray,
        Shape::ArrayBinary,
        Shape::OpaqueBinary,
        Shape::Unknown(Hint::None),
        Shape::Unknown(Hint::Number),
        Shape::Unknown(Hint::Nothing),
        Shape::Unknown(Hint::Opaque),
        Shape::UnknownBinary(Hint::None),
        Shape::UnknownBinary(Hint::Int8),
        Shape::UnknownBinary(Hint::Numeric),
        Shape::UnknownBinary(Hint::Float8),
        Shape::UnknownBinary(Hint::Nothing),
        Shape::Never,
    ];

    /// The shape of a column of COPY, whose type the server does not tell: `known` is what the catalog says of it, which may be
    /// a moment old. A hint never keeps a value from being looked at: it only says which of its readings is meant.
    pub fn of_copied(known: Option<u32>, binary: bool) -> Shape {
        let hint = match known.map(|oid| Shape::of(oid, binary)) {
            Some(Shape::NumberText | Shape::FloatText | Shape::NumberArray) => Hint::Number,
            Some(Shape::Int8Binary) => Hint::Int8,
            Some(Shape::NumericBinary) => Hint::Numeric,
            Some(Shape::Float8Binary) => Hint::Float8,
            Some(Shape::Never) => Hint::Nothing,
            Some(Shape::OpaqueText) => Hint::Opaque,
            Some(
                Shape::Text
                | Shape::Json
                | Shape::JsonbBinary
                | Shape::UuidText
                | Shape::UuidBinary
                | Shape::ByteaText
                | Shape::Opaque
                | Shape::TextArray
                | Shape::ArrayBinary
                | Shape::OpaqueBinary
                | Shape::Unknown(_)
                | Shape::UnknownBinary(_),
            )
            | None => Hint::None,
        };
        if binary { Shape::UnknownBinary(hint) } else { Shape::Unknown(hint) }
    }

    /// The shape of a type in a format.
    pub fn of(type_oid: u32, binary: bool) -> Shape {
        match (type_oid, binary) {
            // name, text, unknown, bpchar, varchar, xml, refcursor, cstring
            (19 | 25 | 705 | 1042 | 1043 | 142 | 1790 | 2275, _) => Shape::Text,
            // json, and jsonb as text
            (114, _) | (3802, false) => Shape::Json,
            (3802, true) => Shape::JsonbBinary,
            (20 | 1700, false) => Shape::NumberText,
            (20, true) => Shape::Int8Binary,
            (1700, true) => Shape::NumericBinary,
            (701, false) => Shape::FloatText,
            (701, true) => Shape::Float8Binary,
            (2950, false) => Shape::UuidText,
            (2950, true) => Shape::UuidBinary,
            (17, false) => Shape::ByteaText,
            // Arrays of: text, varchar, bpchar, name, xml, cstring.
            (1009 | 1015 | 1014 | 1003 | 143 | 1263, false) => Shape::TextArray,
            // Arrays of: int8, numeric, float8.
            (1016 | 1231 | 1022, false) => Shape::NumberArray,
            (1009 | 1015 | 1014 | 1003 | 143 | 1263 | 1016 | 1231 | 1022 | 199 | 3807 | 1001, true) => {
                Shape::ArrayBinary
            }
            _ if Self::holds_nothing(type_oid) || binary && Self::is_number_of_object(type_oid) => {
                Shape::Never
            }
            (_, false) => Shape::OpaqueText,
            (17, true) => Shape::Opaque,
            (_, true) => Shape::OpaqueBinary,
        }
    }

    /// bool, "char", int2, int4, float4, oid and its kin, money, vectors of numbers, dates and times, bits, geometry, addresses,
    /// void, and arrays and ranges of such: too short, or without the bytes that any detector needs. Geometry holds numbers of
    /// any length; they are measures.
    fn holds_nothing(type_oid: u32) -> bool {
        matches!(
            type_oid,
            16 | 18 | 21 | 22 | 23 | 26 | 27 | 28 | 29 | 30 | 700 | 790 | 1021
                | 600..=604 | 628 | 629 | 718 | 719 | 1017..=1020 | 1027
                | 1082 | 1083 | 1114 | 1184 | 1186 | 1266
                | 650 | 774 | 829 | 869 | 2278 | 2279 | 3220 | 5069
                | 791 | 1000 | 1002 | 1005 | 1006 | 1007 | 1010..=1013 | 1028 | 1115 | 1182 | 1183 | 1185 | 1187 | 1270
                | 651 | 775 | 1040 | 1041 | 1560..=1563 | 2951
                | 3904 | 3905 | 3908..=3913 | 4451 | 4533..=4535
        )
    }

    /// The types that name an object by its number, and arrays of such. As text they print its name, and a role may be named
    /// by an e-mail address.
    fn is_number_of_object(type_oid: u32) -> bool {
        matches!(
            type_oid,
            24 | 2202..=2206 | 3734 | 3769 | 4089 | 4096 | 4191
                | 1008 | 2207..=2211 | 3735 | 3770 | 4090 | 4097 | 4192
        )
    }

    /// Whether a detector can find anything in it.
    pub fn may_hold(self) -> bool {
        !matches!(self, Shape::Never | Shape::UuidText | Shape::UuidBinary)
    }

    /// Whether its values are spelled so that a sweep over the bytes of a row does not see what they hold.
    pub fn hides_from_sweep(self) -> bool {
        match self {
            Shape::Int8Binary
            | Shape::NumericBinary
            | Shape::Float8Binary
            | Shape::FloatText
            | Shape::ByteaText
            | Shape::NumberArray
            | Shape::OpaqueText
            | Shape::ArrayBinary
            | Shape::OpaqueBinary
            | Shape::UnknownBinary(_) => true,
            Shape::Text
            | Shape::Json
            | Shape::JsonbBinary
            | Shape::NumberText
            | Shape::UuidText
            | Shape::UuidBinary
            | Shape::Opaque
            | Shape::TextArray
            | Shape::Unknown(_)
            | Shape::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_table_is_searched() {
        for oid in [0, 2249, 3614, 16_384, u32::MAX] {
            assert_eq!(
                (Shape::of(oid, false), Shape::of(oid, true)),
                (Shape::OpaqueText, Shape::OpaqueBinary),
                "{oid}"
            );
        }
        assert_eq!((Shape::of(17, false), Shape::of(17, true)), (Shape::ByteaText, Shape::Opaque));
        assert_eq!((Shape::of(23, false), Shape::of(1184, true)), (Shape::Never, Shape::Never));
        assert_eq!((Shape::of(4096, false), Shape::of(4096, true)), (Shape::OpaqueText, Shape::Never));
        assert_eq!((Shape::of(114, true), Shape::of(3802, true)), (Shape::Json, Shape::JsonbBinary));
    }
}

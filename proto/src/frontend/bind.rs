//! Bind (`B`): makes a portal of a statement and parameters. Server: `exec_bind_message` (postgres.c). Planning, and
//! with it the folding of immutable functions, starts here.

use std::str::Utf8Error;

use super::open;
use crate::{Format, Formats, FrontendTag, Malformed, Reason, Values};

/// A portal to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'b> {
    portal: &'b [u8],
    statement: &'b [u8],
    formats: Formats<'b>,
    parameters: Values<'b>,
    results: Formats<'b>,
}

impl<'b> Bind<'b> {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// An unterminated name, a count or length that the frame cannot hold, an unknown format code, several formats
    /// that are not one for each parameter, or bytes behind the last format.
    pub fn parse(frame: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = open(frame, FrontendTag::Bind)?;
        let portal = reader.text("portal name")?;
        let statement = reader.text("statement name")?;
        let formats = reader.formats("parameter formats", "parameter format")?;
        let parameters = reader.values("parameters", "parameter")?;
        if formats.len() > 1 && formats.len() != parameters.len() {
            let what = Reason::FormatCountMismatch { formats: formats.len(), values: parameters.len() };
            return Err(reader.fault(what));
        }
        let results = reader.formats("result formats", "result format")?;
        reader.finish(Self { portal, statement, formats, parameters, results })
    }

    /// The portal's name; empty is the unnamed portal.
    pub fn portal(&self) -> &'b [u8] {
        self.portal
    }

    /// The portal's name as UTF-8.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn portal_str(&self) -> Result<&'b str, Utf8Error> {
        str::from_utf8(self.portal)
    }

    /// The statement's name; empty is the unnamed statement.
    pub fn statement(&self) -> &'b [u8] {
        self.statement
    }

    /// The statement's name as UTF-8.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8.
    pub fn statement_str(&self) -> Result<&'b str, Utf8Error> {
        str::from_utf8(self.statement)
    }

    /// The format codes of the parameters as sent: none, one or one for each.
    pub fn formats(&self) -> Formats<'b> {
        self.formats
    }

    /// The parameters' values.
    pub fn parameters(&self) -> Values<'b> {
        self.parameters
    }

    /// The parameters with the format each is in.
    pub fn typed_parameters(&self) -> impl Iterator<Item = (Format, Option<&'b [u8]>)> + Clone + use<'b> {
        let formats = self.formats;
        let shared = if formats.len() > 1 { None } else { formats.of(0) };
        let mut each = formats.iter();
        self.parameters
            .iter()
            .map(move |value| (shared.or_else(|| each.next()).unwrap_or(Format::Text), value))
    }

    /// The formats asked for the result's columns: none, one or one for each.
    pub fn results(&self) -> Formats<'b> {
        self.results
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    static FIXTURE: &[u8] =
        b"B\0\0\0\x23p\0s1\0\0\x02\0\0\0\x01\0\x03\0\0\0\x0242\xff\xff\xff\xff\0\0\0\0\0\x01\0\x01";

    /// A Bind of the unnamed statement with the given bytes behind the names.
    fn bind(tail: &[u8]) -> Vec<u8> {
        let mut frame = b"B\0\0\0\0\0\0".to_vec();
        frame.extend_from_slice(tail);
        let length = u32::try_from(frame.len() - 1).unwrap();
        frame[1..5].copy_from_slice(&length.to_be_bytes());
        frame
    }

    #[test]
    fn deconstruct() {
        let frame = bind(b"\0\x03\0\0\0\x01\0\0\0\x03\0\0\0\x0242\xff\xff\xff\xff\0\0\0\0\0\x01\0\x01");
        let view = Bind::parse(&frame).unwrap();
        assert_eq!((view.portal_str(), view.statement_str()), (Ok(""), Ok("")));
        assert_eq!(view.parameters().len(), 3);
        assert_eq!(view.parameters().iter().collect::<Vec<_>>(), [Some(&b"42"[..]), None, Some(b"")]);
        assert_eq!(
            view.typed_parameters().collect::<Vec<_>>(),
            [(Format::Text, Some(&b"42"[..])), (Format::Binary, None), (Format::Text, Some(b""))]
        );
        assert_eq!(view.results().of(5), Some(Format::Binary));
        assert_eq!(format!("{:?}", view.parameters()), "[Some(2), None, Some(0)]");
    }

    #[test]
    fn construct() {
        let mut frame = Vec::new();
        encode::bind(&mut frame, "", "s1", &[Format::Binary], &[Some(b"\x01"), None], &[]).unwrap();
        assert_eq!(frame, b"B\0\0\0\x19\0s1\0\0\x01\0\x01\0\x02\0\0\0\x01\x01\xff\xff\xff\xff\0\0");
        let view = Bind::parse(&frame).unwrap();
        assert_eq!(view.statement(), b"s1");
        assert_eq!(
            view.typed_parameters().collect::<Vec<_>>(),
            [(Format::Binary, Some(&b"\x01"[..])), (Format::Binary, None)]
        );
        assert!(view.results().is_empty());
    }

    #[test]
    fn several_formats_must_be_one_for_each_parameter() {
        let what = Bind::parse(FIXTURE).unwrap_err().what;
        assert_eq!(what, Reason::FormatCountMismatch { formats: 2, values: 3 });
    }

    #[test]
    fn impossible_lengths() {
        let what = |tail: &[u8]| Bind::parse(&bind(tail)).unwrap_err().what;
        assert_eq!(what(b""), Reason::Truncated { field: "parameter formats" });
        assert_eq!(
            what(b"\0\x02\0\0"),
            Reason::CountBeyondFrame { field: "parameter formats", count: 2, left: 2 }
        );
        assert_eq!(what(b"\0\x01\0\x02"), Reason::UnknownFormat { field: "parameter format", code: 2 });
        assert_eq!(
            what(b"\0\0\xff\xff\0\0"),
            Reason::CountBeyondFrame { field: "parameters", count: 65_535, left: 2 }
        );
        assert_eq!(
            what(b"\0\0\0\x01\0\0\0\x05\0\0"),
            Reason::LengthBeyondFrame { field: "parameter", length: 5, left: 2 }
        );
        assert_eq!(
            what(b"\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            Reason::NegativeLength { field: "parameter", length: -2 }
        );
        assert_eq!(what(b"\0\0\0\0\0"), Reason::Truncated { field: "result formats" });
        assert_eq!(
            what(b"\0\0\0\0\0\x01\xff\xff"),
            Reason::UnknownFormat { field: "result format", code: -1 }
        );
        assert_eq!(what(b"\0\0\0\0\0\0\0"), Reason::TrailingBytes { count: 1 });
    }

    #[test]
    fn as_many_parameters_as_the_count_can_say() {
        let values = vec![None; 65_535];
        let mut frame = Vec::new();
        encode::bind(&mut frame, "", "", &[], &values, &[]).unwrap();
        assert_eq!(Bind::parse(&frame).unwrap().parameters().iter().filter(Option::is_none).count(), 65_535);
    }
}
